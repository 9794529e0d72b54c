"""Batches: rows of a CSR matrix in the order of an epoch, and dense rows made sparse."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pyrec import _core
from pyrec.data.csr import as_csr
from pyrec.kernels.arrays import parts
from pyrec.kernels.threads import n_threads as resolve_threads

if TYPE_CHECKING:
    import scipy.sparse as sp

__all__ = ["RowSampler", "nonzeros", "permuted"]


class RowSampler:
    """Rows of a CSR matrix in any order, as batches; the matrix is checked once, here.

    Parameters
    ----------
    x : (n, m) CSR
        Its arrays are borrowed and must not change afterwards.
    """

    def __init__(self, x: sp.sparray | sp.spmatrix) -> None:
        c = as_csr(x)
        self.shape = c.shape
        self._rows = _core.Rows(*parts(c), c.shape[1])

    def rows(
        self, numbers: ArrayLike, *, n_threads: int | None = None
    ) -> tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.float32]]:
        """Return offsets, items and values of the rows `numbers`, in that order."""
        wanted = np.ascontiguousarray(numbers, dtype=np.int64)
        size = self._rows.size_of(wanted)
        batch = np.empty(len(wanted) + 1, np.int64), np.empty(size, np.int32)
        values = np.empty(size, np.float32)
        self._rows.take(wanted, *batch, values, resolve_threads(n_threads))
        return *batch, values

    def dense(
        self, numbers: ArrayLike, out: NDArray[np.float32], *, n_threads: int | None = None
    ) -> None:
        """Write the rows `numbers` to `out`, a C-contiguous float32 (len(numbers), m) array."""
        wanted = np.ascontiguousarray(numbers, dtype=np.int64)
        self._rows.take_dense(wanted, out, resolve_threads(n_threads))


def permuted(
    first: int, last: int, n: int, seed: int, epoch: int, *, n_threads: int | None = None
) -> NDArray[np.int64]:
    """Return the places ``first..last - 1`` of a permutation of ``0..n - 1``.

    It depends on n, seed and epoch only, on any machine, and nothing is kept of it: each place is
    computed by itself.
    """
    out = np.empty(last - first, np.int64)
    _core.permuted(n, seed, epoch, first, out, resolve_threads(n_threads))
    return out


def nonzeros(
    x: NDArray[Any], *, n_threads: int | None = None
) -> tuple[NDArray[np.int64], NDArray[np.int32], NDArray[Any]]:
    """Return offsets, items and values of the non-zeros of a C-contiguous float32 or float64 matrix."""
    threads = resolve_threads(n_threads)
    indptr = np.zeros(len(x) + 1, np.int64)
    _core.count_nonzeros(x, indptr[1:], threads)
    np.cumsum(indptr, out=indptr)
    indices, values = np.empty(indptr[-1], np.int32), np.empty(indptr[-1], x.dtype)
    _core.take_nonzeros(x, indptr, indices, values, threads)
    return indptr, indices, values
