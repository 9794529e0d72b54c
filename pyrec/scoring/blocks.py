"""Some users in a row: what is read of them, and what is found for them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pyrec.data import Histories, Interactions
from pyrec.data.csr import offsets_of

if TYPE_CHECKING:
    import scipy.sparse as sp

__all__ = ["BATCH_ROWS", "Best", "Block", "lengths_of", "take"]

BATCH_ROWS = 8192
"""Rows are scored and written on this grid whatever the machine, so that the same input gives the
same file; only where a list does not depend on the others are some blocks scored as one."""


class Block(NamedTuple):
    """Some users in a row.

    Attributes
    ----------
    users : (n,) pyarrow.Array or ChunkedArray
        User ids, of any type.
    histories : Histories or Interactions
        Of the same n users; Interactions aligned to the model.
    n_unknown : int, default 0
        Items of theirs that the model does not know.
    allow, deny : Histories, optional
        For each user the only items to recommend, and items never to recommend.
    unrestricted : (n,) bool array, optional
        The users for whom `allow` does not count.
    is_last : bool
        Whether the fragment ends here.
    """

    users: pa.Array | pa.ChunkedArray
    histories: Histories | Interactions
    n_unknown: int = 0
    allow: Histories | None = None
    deny: Histories | None = None
    unrestricted: NDArray[np.bool_] | None = None
    is_last: bool = True

    @property
    def n_bytes(self) -> int:
        """The memory that the block takes."""
        lists = (self.histories, self.allow, self.deny)
        return int(self.users.nbytes) + sum(_size(x) for x in lists if x is not None)


class Best(NamedTuple):
    """The best items of a block's users.

    Attributes
    ----------
    items : (n, k) int32 array
        Best first; -1 where fewer than k are left.
    scores : (n, k) float32 array
    n_without_history : int
        Users with an empty history; they have the items with the highest counts.
    """

    items: NDArray[np.int32]
    scores: NDArray[np.float32]
    n_without_history: int


def lengths_of(histories: Histories | Interactions) -> NDArray[Any]:
    """Return how many items each user has."""
    if isinstance(histories, Interactions):
        return np.diff(histories.matrix.indptr)
    return np.diff(histories.offsets)


def _size(histories: Histories | Interactions) -> int:
    if isinstance(histories, Interactions):
        matrix: sp.csr_array = histories.matrix
        return int(matrix.data.nbytes + matrix.indices.nbytes + matrix.indptr.nbytes)
    return int(histories.items.nbytes + histories.offsets.nbytes)


def take(histories: Histories, rows: NDArray[Any]) -> Histories:
    """Return the histories of some users."""
    lengths = np.diff(histories.offsets)[rows]
    offsets = offsets_of(lengths)
    places = np.arange(offsets[-1]) + np.repeat(histories.offsets[rows] - offsets[:-1], lengths)
    return Histories(offsets, histories.items[places], histories.n_items)
