"""Scoring all users of a Parquet data set, and of interactions in memory."""

from __future__ import annotations

import glob
import resource
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import ArrayLike

from pyrec.data import Interactions, read_interactions
from pyrec.data.parquet import id_array
from pyrec.files import StrPath
from pyrec.scoring.fragments import (
    Fragment,
    FragmentReport,
    has_lists,
    score_blocks,
    score_fragment,
)
from pyrec.scoring.scorer import BATCH_ROWS, Block, Scorer

if TYPE_CHECKING:
    from pyrec.models.base import RecSysModel

__all__ = ["ScoreReport", "find_users", "recommend", "score"]


@dataclass(frozen=True)
class ScoreReport:
    """What a run of `score` did.

    Attributes
    ----------
    users : int
        Rows read and written.
    unknown_items : int
        Items in the histories that the model does not know; they were ignored.
    users_without_history : int
        Users of whose items the model knows none; they got the popular items.
    files : tuple of str
        What was written.
    seconds : float
        Wall time.
    peak_memory : int
        Bytes: the most that this process has held since it began.
    """

    users: int
    unknown_items: int
    users_without_history: int
    files: tuple[str, ...]
    seconds: float
    peak_memory: int

    def __str__(self) -> str:
        return (
            f"{self.users:,} users in {self.seconds:.1f} s, "
            f"peak memory {self.peak_memory / 2**30:.2f} GiB; "
            f"{self.unknown_items:,} unknown items ignored; "
            f"{self.users_without_history:,} users with nothing known got the popular items"
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        return {**asdict(self), "files": list(self.files)}


def score(
    model: RecSysModel,
    users: StrPath | Interactions,
    out: StrPath,
    *,
    k: int = 100,
    remove_seen: bool = True,
    allow: ArrayLike | None = None,
    deny: ArrayLike | None = None,
    layout: str = "list",
    user: str | None = None,
    items: str | None = None,
    verbose: int = 1,
) -> ScoreReport:
    """Recommend to many users, and write Parquet.

    Files are streamed in blocks of 8,192 users: memory is the model and one block, whatever the
    number of users. The same input gives the same files, byte for byte.

    Parameters
    ----------
    model : RecSysModel
        Trained.
    users : path or Interactions
        A Parquet file, a folder of them, or a glob: one row a user, with a user id column and a
        column of lists of item ids (lists, large lists or fixed-size lists of integers, strings or
        dictionary-encoded ids; nulls allowed). Or interactions in memory. Repeated items count
        once; unknown items are ignored; users with nothing known get the popular items.
    out : path
        A folder, made when absent, that holds no Parquet files yet; each input file gives one
        file ``part-00000.parquet``, ..., in the order of the names.
    k : int, default 100
        Items a user; fewer where fewer are left.
    remove_seen : bool, default True
        Whether to leave out the items of the user's history.
    allow, deny : item ids, optional
        The only items to recommend; items never to recommend.
    layout : {"list", "long"}, default "list"
        ``list``: a row a user with ``user_id, items, scores``; ``long``: a row an item with
        ``user_id, item_id, score, rank``, ranks from 1. User ids keep their type.
    user, items : str, optional
        Names of the two columns of the files; by default found by name and by type.
    verbose : int, default 1
        1 shows a progress bar where the standard error is a terminal, 0 none.

    Returns
    -------
    ScoreReport

    Raises
    ------
    FileNotFoundError
        There is no such file, or no Parquet file in the folder.
    FileExistsError
        ``out`` already holds Parquet files.
    ValueError
        Unreadable input, columns that cannot be found, or ids of another type than the model's.
        After any error ``out`` is as it was.
    """
    start = time.perf_counter()
    scorer = Scorer(model, k, remove_seen=remove_seen, allow=allow, deny=deny, layout=layout)
    sources: list[Fragment | Interactions]
    if isinstance(users, Interactions):
        sources = [users]
    else:
        sources = [Fragment.open(path, user, items) for path in _parquet_files(users)]
    folder = Path(out)
    is_new = _make_folder(folder)
    written = [folder / f"part-{i:05d}.parquet" for i in range(len(sources))]
    try:
        reports = _score_all(scorer, sources, written, verbose)
    except BaseException:
        for path in written:
            path.unlink(missing_ok=True)
        if is_new:
            folder.rmdir()
        raise
    return ScoreReport(
        users=sum(r.users for r in reports),
        unknown_items=sum(r.unknown_items for r in reports),
        users_without_history=sum(r.users_without_history for r in reports),
        files=tuple(map(str, written)),
        seconds=time.perf_counter() - start,
        peak_memory=_peak_memory(),
    )


def recommend(
    model: RecSysModel,
    source: Any,
    k: int = 10,
    *,
    remove_seen: bool = True,
    allow: ArrayLike | None = None,
    deny: ArrayLike | None = None,
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

    Returns
    -------
    pyarrow.Table
        ``user_id``, ``item_id``, ``score`` (float32) and ``rank`` (int32, from 1): users in the
        order of ``Interactions.users``, each user's items best first.

    Raises
    ------
    ValueError
        The source cannot be read, or its item ids are of another type than the model's, or others
        than the numbers of a model without item ids.
    """
    scorer = Scorer(model, k, remove_seen=remove_seen, allow=allow, deny=deny, layout="long")
    data = source if isinstance(source, Interactions) else read_interactions(source)
    blocks = _blocks(scorer, data)
    schema = scorer.schema(id_array(data.users[:0]).type)
    return pa.concat_tables([schema.empty_table(), *(scorer.table(block)[0] for block in blocks)])


def find_users(source: StrPath) -> StrPath | Interactions:
    """Find the users that a path means, in the form that `score` takes.

    Parameters
    ----------
    source : path
        A folder made by ``pyrec prepare`` (its ``users.parquet``); Parquet with one row a user, as
        `score` takes it; or one row an interaction, a folder of Parquet or any form that
        `pyrec.read_interactions` takes, which is read whole.
    """
    files = _parquet_files(source)
    if files[0].suffix in (".parquet", ".pq") and has_lists(files[0]):
        return source
    return read_interactions(files)


def _parquet_files(users: StrPath) -> list[Path]:
    path = Path(users)
    if path.is_dir():
        # Names that begin with _ or . are other programs' metadata.
        found = [p for p in path.glob("*.parquet") if p.name[0] not in "._"]
    elif path.exists():
        found = [path]
    else:
        found = [Path(name) for name in glob.glob(str(users))]
    if not found:
        problem = "holds no *.parquet files" if path.is_dir() else "does not exist"
        raise FileNotFoundError(f"{users} {problem}")
    return sorted(found)


def _make_folder(folder: Path) -> bool:
    """Make ``folder`` unless it exists, and return whether it is new."""
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(f"{folder} must be a folder, it is a file")
    if not folder.parent.is_dir():
        raise FileNotFoundError(f"cannot make the folder {folder}: {folder.parent} does not exist")
    present = sorted(folder.glob("*.parquet")) if folder.exists() else []
    if present:
        raise FileExistsError(
            f"{folder} already holds {present[0].name}: give a new or an empty folder"
        )
    is_new = not folder.exists()
    folder.mkdir(exist_ok=True)
    return is_new


def _score_all(
    scorer: Scorer, sources: list[Fragment | Interactions], written: list[Path], verbose: int
) -> list[FragmentReport]:
    from tqdm import tqdm

    total = sum(s.n_users if isinstance(s, Interactions) else s.n_rows for s in sources)
    # disable=None: no bar where the standard error is not a terminal
    hidden = None if verbose else True
    reports = []
    with tqdm(total=total, unit=" users", unit_scale=True, disable=hidden) as bar:
        for source, path in zip(sources, written, strict=True):
            if isinstance(source, Fragment):
                reports.append(score_fragment(scorer, source, path, bar.update))
            else:
                blocks = _blocks(scorer, source)
                kind = id_array(source.users[:0]).type
                reports.append(score_blocks(scorer, blocks, kind, path, bar.update))
    return reports


def _blocks(scorer: Scorer, data: Interactions) -> Iterator[Block]:
    """Yield the users of ``data`` block by block, their items by the model's numbers."""
    aligned, _ = scorer.model.aligned(data)
    ids = id_array(aligned.users)
    n_unknown = np.diff(data.matrix.indptr) - np.diff(aligned.matrix.indptr)
    for begin in range(0, len(ids), BATCH_ROWS):
        rows = slice(begin, begin + BATCH_ROWS)
        yield Block(ids[rows], aligned.select_users(rows), int(n_unknown[rows].sum()))


def _peak_memory() -> int:
    with suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    # Second choice: its peak includes what the parent process held before this program began.
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
