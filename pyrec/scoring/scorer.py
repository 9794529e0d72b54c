"""Scoring a block of users: item ids in, a table of recommended item ids out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import ArrayLike, NDArray

from pyrec.data import Histories, Interactions
from pyrec.data.csr import offsets_of
from pyrec.data.parquet import id_array
from pyrec.models import Popularity

if TYPE_CHECKING:
    from pyrec.models.base import RecSysModel

__all__ = ["BATCH_ROWS", "Block", "Scorer"]

# Rows are scored on this grid whatever the machine, so that the same input gives the same file.
BATCH_ROWS = 8192
LAYOUTS = ("list", "long")


class Block(NamedTuple):
    """Some users in a row.

    Attributes
    ----------
    users : (n,) pyarrow.Array
        User ids, of any type.
    histories : Histories or Interactions
        Of the same n users; Interactions aligned to the model.
    n_unknown : int
        Items of theirs that the model does not know.
    """

    users: pa.Array
    histories: Histories | Interactions
    n_unknown: int


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
    layout : {"list", "long"}, default "list"
        ``list``: a row a user with ``user_id, items, scores``; ``long``: a row an item with
        ``user_id, item_id, score, rank``, ranks from 1.
    """

    def __init__(
        self,
        model: RecSysModel,
        k: int,
        *,
        remove_seen: bool = True,
        allow: ArrayLike | None = None,
        deny: ArrayLike | None = None,
        layout: str = "list",
    ) -> None:
        if model.n_items is None:
            raise ValueError(f"{type(model).__name__} cannot recommend before it is trained")
        if k < 1:
            raise ValueError(f"k must be at least 1, got {k}")
        if layout not in LAYOUTS:
            raise ValueError(f"layout must be one of {', '.join(LAYOUTS)}, got {layout!r}")
        self.model = model
        self.n_items = model.n_items
        self.k = min(k, self.n_items)
        self.remove_seen = remove_seen
        self.layout = layout
        ids = np.arange(self.n_items) if model.item_ids is None else model.item_ids
        self.vocabulary = id_array(ids)
        self.allow = self._numbers_of(allow, "allow")
        self.deny = self._numbers_of(deny, "deny")
        self.popular = self._popular()

    def schema(self, user_type: pa.DataType) -> pa.Schema:
        """Return the columns of the tables that `table` makes."""
        item_type = self.vocabulary.type
        if self.layout == "list":
            columns = {"items": pa.list_(item_type), "scores": pa.list_(pa.float32())}
        else:
            columns = {"item_id": item_type, "score": pa.float32(), "rank": pa.int32()}
        return pa.schema({"user_id": user_type, **columns})

    def histories(self, lists: pa.Array) -> tuple[Histories, int]:
        """Turn a column of lists of item ids into item numbers.

        Parameters
        ----------
        lists : (n,) list, large list or fixed-size list array
            Null lists and null ids inside are taken as absent.

        Returns
        -------
        histories : Histories
            Of n users, in the lists' order.
        n_unknown : int
            Ids that the model does not know, left out.
        """
        lengths = pc.fill_null(pc.list_value_length(lists), 0).to_numpy(zero_copy_only=False)
        ids = pc.list_flatten(lists)
        numbers = pc.index_in(self._as_ids(ids, "items"), value_set=self.vocabulary)
        known = numbers.is_valid().to_numpy(zero_copy_only=False)
        known_before = offsets_of(known)
        offsets = known_before[offsets_of(lengths)]
        items = numbers.drop_null().to_numpy()
        n_unknown = len(ids) - ids.null_count - len(items)
        return Histories(offsets, items, self.n_items), n_unknown

    def table(self, block: Block) -> tuple[pa.Table, int]:
        """Score a block of users.

        Returns
        -------
        table : pyarrow.Table
            Of the columns that `schema` names.
        n_without_history : int
            Users with an empty history; they have the items with the highest counts.
        """
        users, histories, _ = block
        best = self.model.recommend(
            histories, self.k, remove_seen=self.remove_seen, allow=self.allow, deny=self.deny
        )
        items, scores = np.asarray(best.items), np.asarray(best.scores)
        empty = np.flatnonzero(_lengths(histories) == 0)
        if self.popular is not None and len(empty):
            items, scores = items.copy(), scores.copy()
            items[empty], scores[empty] = self.popular
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
        return pa.Table.from_arrays(columns, schema=self.schema(users.type)), len(empty)

    def _as_ids(self, ids: pa.Array, name: str) -> pa.Array:
        """Bring ids to the vocabulary's type, dictionaries included."""
        plain = ids.type.value_type if pa.types.is_dictionary(ids.type) else ids.type
        if pa.types.is_null(plain) or (_is_string(plain) and _is_string(self.vocabulary.type)):
            return ids.cast(self.vocabulary.type)
        if _is_string(plain) or _is_string(self.vocabulary.type):
            raise ValueError(
                f"{name} must hold ids of the model's type, {self.vocabulary.type}, got {plain}"
            )
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
        return np.unique(numbers.to_numpy())

    def _popular(self) -> tuple[NDArray[np.int32], NDArray[np.float32]] | None:
        if self.model.item_counts is None:
            return None
        popularity = Popularity()
        popularity.n_items, popularity.item_counts = self.n_items, self.model.item_counts
        nobody = Histories.from_lists([[]], self.n_items)
        best = popularity.recommend(nobody, self.k, allow=self.allow, deny=self.deny)
        return best.items[0], best.scores[0]


def _lengths(histories: Histories | Interactions) -> NDArray[Any]:
    if isinstance(histories, Interactions):
        return np.diff(histories.matrix.indptr)
    return np.diff(histories.offsets)


def _is_string(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))
