"""Scoring a block of users: item ids in, a table of recommended item ids out."""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import ArrayLike, NDArray

from pyrec.arguments import whole
from pyrec.data import Histories, Interactions
from pyrec.data.csr import kind_of, offsets_of
from pyrec.data.parquet import id_array
from pyrec.files import StrPath
from pyrec.models import Popularity, RecSysModel, storage
from pyrec.scoring.blocks import BATCH_ROWS, Best, Block, lengths_of, take

__all__ = ["Scorer", "open_model", "packed_file"]

LAYOUTS = ("list", "long")
# Row groups of about 64 MiB before they are compressed, and of 131,072 users at most.
_GROUP_BYTES = 64 << 20
_MOST_GROUP_BLOCKS = 16
# Part of the name of a file of packed weights: another layout, another number.
_PACKED_LAYOUT = 1
# Users from which on to pack weights costs less than it saves.
_PACK_FROM = 16_384


def open_model(path: StrPath) -> RecSysModel:
    """Load a model for scoring; processes of a machine share one copy of its arrays in memory."""
    return storage.load_model(path, memory_map=True)


def packed_file(digest: str, precision: str) -> Path:
    """Return where processes of this machine share the packed weights of a model.

    A file that a killed run has left is as good as new: its name says what it holds.
    """
    name = f"pyrec-{os.getuid()}-{digest[:32]}-{precision}-{_PACKED_LAYOUT}.packed"
    return Path(tempfile.gettempdir(), name)


class Scorer:
    """A model together with the options of a run, ready to score blocks of histories.

    Parameters
    ----------
    model : RecSysModel
        Trained. Without item ids, its item numbers serve as ids.
    k : int
        Length of each user's list, shorter where fewer items are left.
    remove_seen : bool, default True
        Whether to leave out the items of the user's history.
    allow, deny : item ids, optional
        The only items to recommend; items never to recommend. Ids that the model does not know
        are ignored.
    condition : optional
        Passed on to the model's `recommend`.
    layout : {"list", "long"}, default "list"
        ``list``: a row a user with ``user_id, items, scores``; ``long``: a row an item with
        ``user_id, item_id, score, rank``, ranks from 1.
    precision : {"fp32", "bf16"}, default "fp32"
        bf16 takes effect when the model is packed.
    device : str or torch.device, optional
        Where the model recommends once it is packed; by default where it does now.
    """

    def __init__(
        self,
        model: RecSysModel,
        k: int,
        *,
        remove_seen: bool = True,
        allow: ArrayLike | None = None,
        deny: ArrayLike | None = None,
        condition: Any = None,
        layout: str = "list",
        precision: str = "fp32",
        device: Any = None,
    ) -> None:
        if not isinstance(model, RecSysModel):
            raise TypeError(f"model must be a trained model, or its file, got {kind_of(model)}")
        if model.n_items is None:
            raise ValueError(f"{type(model).__name__} cannot recommend before it is trained")
        whole(k, "k", 1)
        if layout not in LAYOUTS:
            raise ValueError(f"layout must be one of {', '.join(LAYOUTS)}, got {layout!r}")
        model.check_precision(precision)
        self.device = None if device is None else str(device)
        self.device_type = (self.device or model.device_type).partition(":")[0]
        if self.device_type != "cpu" and precision != "fp32":
            raise ValueError(f"precision must be fp32 on a GPU, got {precision!r}")
        self.model = model.unpacked()  # what this run packs is its own
        self.n_items = model.n_items
        self.k = min(k, self.n_items)
        self.remove_seen = remove_seen
        self.layout = layout
        self.precision = precision
        # A model that takes none has no such argument where it overrides `recommend`.
        self._extra = {} if condition is None else {"condition": condition}
        ids = np.arange(self.n_items) if model.item_ids is None else model.item_ids
        self.vocabulary = id_array(ids)
        self.allow = self._numbers_of(allow, "allow")
        self.deny = self._numbers_of(deny, "deny")
        if condition is not None:
            # The popular items, of users without a history, must satisfy it too.
            satisfying = model.items_with(condition)
            both = satisfying if self.allow is None else np.intersect1d(self.allow, satisfying)
            self.allow = both.astype(np.int32)
        nobody = Histories.from_lists([[]], self.n_items)
        if model.item_counts is None:
            self._popularity = None
        else:
            self._popularity = Popularity()
            self._popularity.n_items = self.n_items
            self._popularity.item_counts = model.item_counts
            best = self._popularity.recommend(nobody, self.k, allow=self.allow, deny=self.deny)
            self._popular = best.items[0], best.scores[0]

    def settings(self) -> dict[str, Any]:
        """Return what decides the lists besides the model and the users, as JSON values."""
        condition = self._extra.get("condition")
        # Runs on the CPU keep the settings that they had before GPUs could recommend.
        place = {} if self.device_type == "cpu" else {"device": self.device_type}
        return {
            **place,
            "k": self.k,
            "remove_seen": self.remove_seen,
            "layout": self.layout,
            "precision": self.precision,
            "allow": _digest(self.allow),
            "deny": _digest(self.deny),
            "condition": None if condition is None else np.asarray(condition).tolist(),
        }

    def pack(self, n_users: int, *, mapped: bool, shared: str | None = None) -> None:
        """Move the model to its device, or make it ready for so many users, if they are worth it.

        Parameters
        ----------
        n_users : int
        mapped : bool
            Whether the model comes from `open_model`: then the pages of its file go as they are used.
        shared : str, optional
            The model's digest: processes of a machine share packed weights in a file.
        """
        if self.device is not None:
            self.model = self.model.on(self.device)
        if self.device_type != "cpu" or (n_users < _PACK_FROM and self.precision == "fp32"):
            return
        file = None if shared is None else packed_file(shared, self.precision)
        try:
            self.model.pack(self.precision, file=file, release=mapped)
        except MemoryError:
            if self.precision != "fp32":
                raise
            # The plain weights give the same lists, in more time.

    @property
    def blocks_at_once(self) -> int:
        """How many blocks the model is best given at a time; the lists do not depend on it."""
        return max(1, self.model.rows_at_once // BATCH_ROWS)

    @property
    def id_bytes(self) -> int:
        """The memory that an item id takes in a table, in the mean."""
        return max(1, -(-int(self.vocabulary.nbytes) // max(1, self.n_items)))

    @property
    def table_bytes(self) -> int:
        """The memory that the table of a whole block takes, about."""
        user = 16  # an id may be text
        entry = self.id_bytes + 4
        row = user + self.k * entry if self.layout == "list" else self.k * (user + entry + 4)
        return BATCH_ROWS * row

    @property
    def group_blocks(self) -> int:
        """How many blocks make a row group of the files."""
        return min(_MOST_GROUP_BLOCKS, max(1, _GROUP_BYTES // self.table_bytes))

    def schema(self, user_type: pa.DataType) -> pa.Schema:
        """Return the columns of the tables that `table` makes."""
        item_type = self.vocabulary.type
        if self.layout == "list":
            columns = {"items": pa.list_(item_type), "scores": pa.list_(pa.float32())}
        else:
            columns = {"item_id": item_type, "score": pa.float32(), "rank": pa.int32()}
        return pa.schema({"user_id": user_type, **columns})

    def histories(
        self, lists: pa.Array | pa.ChunkedArray, name: str = "items"
    ) -> tuple[Histories, int]:
        """Turn a column of lists of item ids into item numbers.

        Each call builds a table of all the model's ids: many rows at a time are cheaper.

        Parameters
        ----------
        lists : (n,) list, large list or fixed-size list array
            Null lists and null ids inside are taken as absent.
        name : str
            What an error calls them.

        Returns
        -------
        histories : Histories
            Of n users, in the lists' order.
        n_unknown : int
            Ids that the model does not know, left out.
        """
        lengths = np.asarray(pc.fill_null(pc.list_value_length(lists), 0))
        ids = pc.list_flatten(lists)
        numbers = pc.index_in(self._as_ids(ids, name), value_set=self.vocabulary)
        known = np.asarray(numbers.is_valid())
        offsets = offsets_of(known)[offsets_of(lengths)]
        items = np.asarray(numbers.drop_null(), dtype=np.int32)
        n_unknown = len(ids) - ids.null_count - len(items)
        return Histories(offsets, items, self.n_items), n_unknown

    def best(self, block: Block) -> Best:
        """Score a block of users."""
        n = len(block.users)
        items, scores = np.empty((n, self.k), np.int32), np.empty((n, self.k), np.float32)
        if n == 0:
            return Best(items, scores, 0)
        if block.allow is None or block.unrestricted is None:
            return self._best(block.histories, block.allow, block.deny)
        # A row of an allow matrix means a list: who has none is scored apart.
        assert isinstance(block.histories, Histories)
        n_empty = 0
        for free in (False, True):
            rows = np.flatnonzero(block.unrestricted == free)
            if len(rows):
                deny = None if block.deny is None else take(block.deny, rows)
                allow = None if free else take(block.allow, rows)
                part = self._best(take(block.histories, rows), allow, deny)
                items[rows], scores[rows] = part.items, part.scores
                n_empty += part.n_without_history
        return Best(items, scores, n_empty)

    def table(
        self,
        users: pa.Array | pa.ChunkedArray,
        items: NDArray[np.int32],
        scores: NDArray[np.float32],
    ) -> pa.Table:
        """Return users and their items, numbers of `best`, as a table of ids; see `schema`."""
        listed = items >= 0
        lengths = np.count_nonzero(listed, axis=1)
        ids = self.vocabulary.take(pa.array(items[listed]))
        flat_scores = pa.array(scores[listed], pa.float32())
        if self.layout == "list":
            offsets = pa.array(offsets_of(lengths), pa.int32())
            columns = [
                users,
                pa.ListArray.from_arrays(offsets, ids),
                pa.ListArray.from_arrays(offsets, flat_scores),
            ]
        else:
            ranks = np.broadcast_to(np.arange(1, items.shape[1] + 1, dtype=np.int32), items.shape)
            repeated = users.take(pa.array(np.repeat(np.arange(len(users)), lengths)))
            columns = [repeated, ids, flat_scores, pa.array(ranks[listed])]
        return pa.Table.from_arrays(columns, schema=self.schema(users.type))

    def check_type(self, kind: pa.DataType, name: str) -> None:
        """Raise a ValueError unless ids of this type can be ids of the model's items."""
        plain = kind.value_type if pa.types.is_dictionary(kind) else kind
        if not pa.types.is_null(plain) and _is_string(plain) != _is_string(self.vocabulary.type):
            raise ValueError(
                f"{name} must hold ids of the model's type, {self.vocabulary.type}, got {plain}"
            )

    def _best(
        self, histories: Histories | Interactions, allow: Histories | None, deny: Histories | None
    ) -> Best:
        masks = self._masks(allow, deny)
        items, scores = map(np.asarray, self._recommend(histories, *masks))
        empty = np.flatnonzero(lengths_of(histories) == 0)
        if len(empty) and self._popularity is not None:
            items, scores = items.copy(), scores.copy()
            if allow is None and deny is None:
                items[empty], scores[empty] = self._popular
            else:
                nobody = Histories(np.zeros(len(empty) + 1, np.int64), [], self.n_items)
                own_allow, own_deny = (x[empty] if np.ndim(x) == 2 else x for x in masks)
                items[empty], scores[empty] = self._popularity.recommend(
                    nobody, self.k, allow=own_allow, deny=own_deny
                )
        return Best(items, scores, len(empty))

    def _recommend(self, histories: Histories | Interactions, allow: Any, deny: Any) -> Any:
        return self.model.recommend(
            histories,
            self.k,
            remove_seen=self.remove_seen,
            allow=allow,
            deny=deny,
            **self._extra,
        )

    def _masks(self, allow: Histories | None, deny: Histories | None) -> tuple[Any, Any]:
        """The lists for all users and those of each, as the one pair that `recommend` takes."""
        if allow is None and deny is None:
            return self.allow, self.deny
        candidates = np.ones(self.n_items, bool)
        if self.allow is not None:
            candidates[:] = False
            candidates[self.allow] = True
        if self.deny is not None:
            candidates[self.deny] = False
        own_deny = None if deny is None else deny.to_csr()
        if allow is None:
            return (None if candidates.all() else np.flatnonzero(candidates)), own_deny
        kept = candidates[allow.items]
        offsets = offsets_of(kept)[allow.offsets]
        return Histories(offsets, allow.items[kept], self.n_items).to_csr(), own_deny

    def _as_ids(self, ids: Any, name: str) -> Any:
        """Bring ids to the vocabulary's type, dictionaries included."""
        self.check_type(ids.type, name)
        plain = ids.type.value_type if pa.types.is_dictionary(ids.type) else ids.type
        try:
            return ids.cast(plain).cast(self.vocabulary.type)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            raise ValueError(
                f"{name} must hold ids of the model's type, {self.vocabulary.type}: {error}"
            ) from error

    def _numbers_of(self, ids: ArrayLike | None, name: str) -> NDArray[np.int32] | None:
        if ids is None:
            return None
        # An empty list has no type of its own.
        array = id_array(ids) if np.size(ids) else pa.nulls(0)
        numbers = pc.index_in(self._as_ids(array, name), value_set=self.vocabulary).drop_null()
        if len(array) and not len(numbers):
            raise ValueError(
                f"{name} holds {len(array):,} ids, none of which the model knows: its items are such "
                f"as {self.vocabulary[:3].to_pylist()}"
            )
        return np.unique(numbers.to_numpy())


def _digest(numbers: NDArray[np.int32] | None) -> str | None:
    if numbers is None:
        return None
    digest = hashlib.sha256(numbers.astype(np.int32).tobytes()).hexdigest()
    return f"{len(numbers)} items, sha256 {digest}"


def _is_string(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))
