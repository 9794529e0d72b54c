"""What each user had, in the user's own order: `Histories`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain
from operator import index
from typing import TYPE_CHECKING, Any, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .csr import INT32_MAX, canonical, check_offsets, check_range, offsets_of

if TYPE_CHECKING:
    import scipy.sparse as sp

__all__ = ["Histories"]


class Histories:
    """Item numbers of each user, in the user's own order.

    Parameters
    ----------
    offsets : (n + 1,) integers
        User ``u`` has ``items[offsets[u]:offsets[u + 1]]``. Starts at 0, never falls.
    items : (offsets[-1],) integers
        Item numbers; repeats are allowed.
    n_items : int
        Size of the catalogue; every item number is below it.

    Attributes
    ----------
    offsets : (n + 1,) int64
    items : (offsets[-1],) int32
    n_items : int
    shape : (int, int)
        (n, n_items), as of the matrix that `to_csr` gives.
    """

    __slots__ = ("items", "n_items", "offsets")

    def __init__(self, offsets: ArrayLike, items: ArrayLike, n_items: int) -> None:
        if not 0 <= n_items <= INT32_MAX:
            raise ValueError(f"n_items must lie in 0..{INT32_MAX}, got {n_items}")
        offsets, items = _integers(offsets, "offsets"), _integers(items, "items")
        if check_offsets(offsets, len(offsets) - 1, len(items), "offsets") != len(items):
            raise ValueError(f"offsets end at {offsets[-1]}, but there are {len(items)} items")
        check_range(items, n_items, "items")
        self.offsets = np.ascontiguousarray(offsets, np.int64)
        self.items = np.ascontiguousarray(items, np.int32)
        self.n_items = int(n_items)

    @classmethod
    def from_lists(cls, lists: Iterable[Sequence[int]], n_items: int) -> Histories:
        """Make histories from one sequence of item numbers a user.

        Raises
        ------
        TypeError
            If ``lists`` holds something else.
        ValueError
            If a number is not in ``0..n_items - 1``.
        """
        lists = list(lists)
        try:
            lengths = np.fromiter(map(len, lists), np.int64, len(lists))
            items = list(chain.from_iterable(lists))
        except TypeError as error:
            raise TypeError(f"lists must hold a list of item numbers a user: {error}") from error
        kinds = set(map(type, items))
        wrong = {k for k in kinds if k in (bool, np.bool_) or not hasattr(k, "__index__")}
        if wrong:
            got = next(item for item in items if type(item) in wrong)
            raise TypeError(f"lists must hold item numbers, whole numbers from 0 on, got {got!r}")
        numbers = np.fromiter(map(index, items), np.int64, len(items))
        return cls(offsets_of(lengths), numbers, n_items)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def shape(self) -> tuple[int, int]:
        """(n, n_items)."""
        return len(self), self.n_items

    @overload
    def __getitem__(self, rows: int) -> NDArray[np.int32]: ...
    @overload
    def __getitem__(self, rows: slice) -> Histories: ...
    def __getitem__(self, rows: int | slice) -> NDArray[np.int32] | Histories:
        """Return one user's items, or the histories of consecutive users; views of the items."""
        if not isinstance(rows, slice):
            first = range(len(self))[rows]
            return self.items[self.offsets[first] : self.offsets[first + 1]]
        first, stop, step = rows.indices(len(self))
        if step != 1:
            raise ValueError(f"histories are sliced in steps of 1, got {step}")
        offsets = self.offsets[first : max(first, stop) + 1]
        items = self.items[offsets[0] : offsets[-1]]
        return Histories(offsets - offsets[0], items, self.n_items)

    def to_csr(self) -> sp.csr_array:
        """Return the (n, n_items) matrix of ones where a user has an item (see `as_csr`)."""
        ones = np.ones(len(self.items), np.float32)
        matrix = canonical(ones, self.items, self.offsets, (len(self), self.n_items))
        matrix.data[:] = 1
        return matrix

    def __repr__(self) -> str:
        return f"Histories({len(self):,} users, {len(self.items):,} of {self.n_items:,} items)"


def _integers(values: ArrayLike, name: str) -> NDArray[Any]:
    array = np.asarray(values)
    if array.ndim != 1:
        raise ValueError(f"{name} must have 1 dimension, got shape {array.shape}")
    if array.dtype.kind not in "iu" and array.size:
        raise TypeError(f"{name} must hold integers, got dtype {array.dtype}")
    return array.astype(np.int64) if array.dtype.kind not in "iu" else array
