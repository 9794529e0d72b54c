"""The users that a model was trained on, found by what they have."""

from __future__ import annotations

import hashlib
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pyrec.data.csr import as_csr, check_offsets, check_range, csr, rows_of
from pyrec.data.randomness import streams

if TYPE_CHECKING:
    import scipy.sparse as sp

__all__ = ["TrainingUsers"]

_ARRAYS = {"train.indptr": np.int64, "train.indices": np.int32, "train.data": np.float32}


class TrainingUsers:
    """The training matrix, in which a history is looked up by its items; values do not count.

    Parameters
    ----------
    x : (n_users, n_items) canonical CSR

    Attributes
    ----------
    x : csr_array
    profiles : (n_items, n_users) csr_array
        Who has each item.
    digest : str
        The same for the same matrix only.
    """

    def __init__(self, x: sp.csr_array) -> None:
        self.x = x

    @cached_property
    def profiles(self) -> sp.csr_array:
        return as_csr(self.x.T)

    @cached_property
    def digest(self) -> str:
        hashed = hashlib.sha256()
        for array in self.arrays().values():
            hashed.update(array.tobytes())
        return hashed.hexdigest()

    def find(self, x: sp.csr_array) -> NDArray[np.int64]:
        """Return for each row of `x` the first user with the same items; -1 where nobody has them."""
        hashes, order = self._hashes
        wanted, users = _hashes(x), np.full(x.shape[0], -1)
        rows, places = np.arange(len(users)), np.searchsorted(hashes, wanted)
        while len(rows):  # once, unless different histories have one hash
            there = places < len(hashes)
            there[there] = hashes[places[there]] == wanted[rows[there]]
            rows, places = rows[there], places[there]
            same = _same_rows(x[rows], self.x[order[places]])
            users[rows[same]] = order[places[same]]
            rows, places = rows[~same], places[~same] + 1
        return users

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return what `from_arrays` takes."""
        parts = self.x.indptr, self.x.indices, self.x.data
        return {
            name: np.ascontiguousarray(part, dtype)
            for (name, dtype), part in zip(_ARRAYS.items(), parts, strict=True)
        }

    @classmethod
    def from_arrays(cls, arrays: dict[str, NDArray[Any]], n_items: int) -> TrainingUsers:
        """Take what `arrays` returned out of `arrays`; a ValueError names what does not fit."""
        parts = []
        for name, dtype in _ARRAYS.items():
            if name not in arrays:
                raise ValueError(f"{name} is missing")
            part = arrays.pop(name)
            if part.dtype != dtype or part.ndim != 1:
                raise ValueError(
                    f"{name} must be {np.dtype(dtype)} with 1 dimension, got {part.dtype} of shape "
                    f"{part.shape}"
                )
            parts.append(part)
        indptr, indices, data = parts
        n_users = len(indptr) - 1
        nnz = check_offsets(indptr, n_users, min(len(indices), len(data)), "train")
        if nnz != len(indices) or nnz != len(data):
            raise ValueError(f"train must have {nnz} entries, got {len(indices)} and {len(data)}")
        check_range(indices, n_items, "train: column numbers")
        return cls(as_csr(csr(data, indices, indptr, (n_users, n_items)), n_items, "train"))

    @cached_property
    def _hashes(self) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
        """The users' hashes in rising order, and whose each is; the lower number first."""
        hashes = _hashes(self.x)
        order = np.argsort(hashes, kind="stable")
        return hashes[order], order


def _hashes(x: sp.csr_array) -> NDArray[np.uint64]:
    """A hash a row: the sum of its items' hashes, modulo 2^64."""
    # Not from 0 on: the hash of 0 is 0, and an item must tell itself from none.
    of_items = streams(0, np.arange(1, x.shape[1] + 1))
    sums = np.zeros(x.nnz + 1, np.uint64)
    np.cumsum(of_items[x.indices], out=sums[1:])
    return sums[x.indptr[1:]] - sums[x.indptr[:-1]]


def _same_rows(a: sp.csr_array, b: sp.csr_array) -> NDArray[np.bool_]:
    """Whether the rows of two matrices hold the same items."""
    same: NDArray[np.bool_] = np.diff(a.indptr) == np.diff(b.indptr)
    a, b = a[same], b[same]
    equal = np.ones(a.shape[0], bool)
    equal[rows_of(a.indptr)[a.indices != b.indices]] = False
    same[same] = equal
    return same
