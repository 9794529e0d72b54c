"""Users whose interactions are in memory: their recommendations as a table, or as a run's input."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import ArrayLike

from pyrec.data import Interactions, read_interactions
from pyrec.data.parquet import id_array
from pyrec.files import StrPath
from pyrec.scoring.blocks import BATCH_ROWS, Block
from pyrec.scoring.budget import Budget
from pyrec.scoring.fragments import FRAGMENT_ROWS, has_lists, parquet_files
from pyrec.scoring.scorer import Scorer

if TYPE_CHECKING:
    import torch

    from pyrec.models.base import RecSysModel

__all__ = ["MemoryFragment", "find_users", "recommend"]


class MemoryFragment(NamedTuple):
    """Some users of interactions in memory.

    Attributes
    ----------
    data : Interactions
        Aligned to the model.
    ids : (n_users,) pyarrow.Array
        Of all the users.
    n_unknown : (n_users,) integers
        Interactions of each with items that the model does not know.
    rows : (int, int)
        The first of the users of this fragment, and the one after the last.
    digest : str
        Of all the interactions, where a run's input is described by it.
    """

    data: Interactions
    ids: Any
    n_unknown: Any
    rows: tuple[int, int]
    digest: str

    @classmethod
    def divide(
        cls, model: RecSysModel, data: Interactions, digest: str = ""
    ) -> list[MemoryFragment]:
        """Return fragments of `FRAGMENT_ROWS` users, their items by the model's numbers."""
        aligned, _ = model.aligned(data)
        n_unknown = np.diff(data.matrix.indptr) - np.diff(aligned.matrix.indptr)
        ids = id_array(aligned.users)
        return [
            cls(aligned, ids, n_unknown, (begin, min(begin + FRAGMENT_ROWS, len(ids))), digest)
            for begin in range(0, max(1, len(ids)), FRAGMENT_ROWS)
        ]

    @property
    def n_rows(self) -> int:
        return self.rows[1] - self.rows[0]

    @property
    def user_type(self) -> Any:
        return self.ids.type

    @property
    def values_per_row(self) -> float:
        return self.data.n_interactions / max(1, self.data.n_users)

    def describe(self) -> dict[str, Any]:
        return {"interactions": self.digest, "rows": list(self.rows)}

    def blocks(self, scorer: Scorer | None = None, budget: Budget | None = None) -> Iterator[Block]:
        first, stop = self.rows
        step = BATCH_ROWS * (1 if budget is None else budget.together)
        for begin in range(first, max(stop, first + 1), step):
            rows = slice(begin, min(begin + step, stop))
            yield Block(
                self.ids[rows],
                self.data.select_users(rows),
                int(self.n_unknown[rows].sum()),
                is_last=begin + step >= stop,
            )


def recommend(
    model: RecSysModel,
    source: Any,
    k: int = 10,
    *,
    remove_seen: bool = True,
    allow: ArrayLike | None = None,
    deny: ArrayLike | None = None,
    condition: Any = None,
    device: torch.device | str | None = None,
) -> pa.Table:
    """Recommend to every user of a set of interactions, by the user's own ids.

    Parameters
    ----------
    model : RecSysModel
        Trained. Without item ids, its item numbers serve as ids.
    source : Interactions, path or frame
        The users' histories: Interactions, or anything that `pyrec.read_interactions` takes (one
        row an interaction). Users need not have been seen in training; items that the model does
        not know are ignored, and users with nothing known get the popular items.
    k : int, default 10
        Items a user; fewer where fewer are left.
    remove_seen : bool, default True
        Whether to leave out the items of the user's history.
    allow, deny : item ids, optional
        The only items to recommend; items never to recommend.
    condition : str, int, or list of them, optional
        Of a conditioned model, such as `CMultiVAE`: a condition by name or number, or several. Only
        items that satisfy any of them are recommended, popular ones included.
    device : torch.device or str, optional
        Where to recommend, ``"cuda"`` for example; the model itself stays where it is. By default
        there.

    Returns
    -------
    pyarrow.Table
        ``user_id``, ``item_id``, ``score`` (float32) and ``rank`` (int32, from 1): users in the
        order of ``Interactions.users``, each user's items best first.

    Raises
    ------
    ValueError
        The source cannot be read, or its item ids are of another type than the model's, or others
        than the numbers of a model without item ids. An unknown condition, or a model that takes
        none. A device that is not there.
    MemoryError
        The GPU has too little memory for the model.
    """
    scorer = Scorer(
        model,
        k,
        remove_seen=remove_seen,
        allow=allow,
        deny=deny,
        condition=condition,
        layout="long",
        device=device,
    )
    scorer.pack(0, mapped=False)
    data = source if isinstance(source, Interactions) else read_interactions(source)
    tables = []
    for fragment in MemoryFragment.divide(model, data):
        for block in fragment.blocks():
            items, scores, _ = scorer.best(block)
            tables.append(scorer.table(block.users, items, scores))
    return pa.concat_tables(tables)


def find_users(source: StrPath) -> StrPath | Interactions:
    """Find the users that a path means, in the form that `score` takes.

    Parameters
    ----------
    source : path or URI
        A folder made by ``pyrec prepare`` (its ``users.parquet``); Parquet with one row a user, as
        `score` takes it; or one row an interaction, a folder of Parquet or any form that
        `pyrec.read_interactions` takes, which is read whole.
    """
    files = parquet_files(source)
    if files[0].base_name.endswith((".parquet", ".pq")) and has_lists(files[0]):
        return source
    if not files[0].is_local:
        raise ValueError(f"{files[0]} has no column of lists: one row a user is needed there")
    return read_interactions([file.path for file in files])
