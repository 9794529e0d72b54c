"""B in closed form, and the inverse that it needs: P = (G + λI)⁻¹ with G = XᵀX, centred or not.

With b the items' means over all users, (X - 1bᵀ)ᵀ(X - 1bᵀ) = XᵀX - n bbᵀ: a centred X is never written.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pyrec import kernels
from pyrec.kernels.arrays import INVERSE_BLOCK
from pyrec.machine import require_memory

if TYPE_CHECKING:
    import scipy.sparse as sp

__all__ = ["gram", "inverse", "item_means", "weights", "weights_path"]

# Items whose rows are made at a time in float64.
_ROWS = 256
# What (G + λI) P may differ from the identity: beyond it float32 has lost the weights.
_LARGEST_RESIDUAL = 1e-2
# A multiply-add of a sparse product costs about as much as this many operations of a dense one.
_SPARSE_COST = 100


def weights(
    x: sp.csr_array,
    lam: float,
    means: NDArray[np.float64] | None = None,
    *,
    dtype: type[np.float32 | np.float64] = np.float32,
    owner: str = "EASE",
    penalty: str = "lam",
) -> NDArray[np.float32]:
    """Return the B that minimises ‖X - XB‖² + λ‖B‖² with diag(B) = 0 (Steck 2019, equation 8).

    Parameters
    ----------
    x : (n_users, n_items) CSR
    lam : float
    means : (n_items,) array, optional
        Of `item_means`: X is centred by them.
    dtype : float32 or float64
        In which G is inverted; B is float32.
    owner, penalty : str
        What errors call the model, and its λ.

    Raises
    ------
    MemoryError
        When B does not fit; raised before anything large is allocated.
    numpy.linalg.LinAlgError
        When λ is too small against G for float32.
    """
    dual = _dual_is_cheaper(x, means)
    n_users, n_items = x.shape
    needs = f"{owner} needs a {n_items:,} x {n_items:,}"
    if dual:
        needs += f" float32 matrix and a {n_users:,} x {n_users:,} float64 one"
        require_memory(_dual_bytes(x), needs)
    else:
        require_memory(
            _primal_bytes(x, dtype), f"{needs} {np.dtype(dtype)} matrix inverted in place"
        )
    return _solved(_any_gram(x, means, dual, dtype), x, lam, means, dual, penalty)


def weights_path(
    x: sp.csr_array,
    lams: Iterable[float],
    means: NDArray[np.float64] | None = None,
    *,
    dtype: type[np.float32 | np.float64] = np.float32,
    owner: str = "EASE",
    penalty: str = "lam",
) -> Iterator[NDArray[np.float32]]:
    """Yield what `weights` returns for each of `lams`, from one Gram matrix.

    Memory: half of a Gram matrix is kept beside the weights; those of two λ, so that the caller may
    keep the best, are counted before anything is allocated.
    """
    dual = _dual_is_cheaper(x, means)
    n_users, n_items = map(int, x.shape)
    half_a_gram = 4 * n_users**2 if dual else np.dtype(dtype).itemsize * n_items**2 // 2
    require_memory(
        (_dual_bytes(x) if dual else _primal_bytes(x, dtype)) + half_a_gram + 4 * n_items**2,
        f"{owner} needs the {n_items:,} x {n_items:,} float32 weights of two {penalty} and half a "
        "Gram matrix",
    )
    kept = _Triangle(_any_gram(x, means, dual, dtype))
    for lam in lams:
        yield _solved(kept.matrix(), x, lam, means, dual, penalty)


def item_means(x: sp.csr_array) -> NDArray[np.float64]:
    """Return b, the mean of each column over all users."""
    sums = np.bincount(x.indices, weights=x.data, minlength=x.shape[1])
    return sums / max(1, x.shape[0])


def gram(
    x: sp.csr_array,
    means: NDArray[np.float64] | None = None,
    *,
    dtype: type[np.float32 | np.float64] = np.float32,
    mirror: bool = True,
    out: NDArray[Any] | None = None,
) -> NDArray[Any]:
    """Return G = XᵀX, less n bbᵀ where `means` are given; without `mirror` only its upper triangle."""
    g = kernels.gram(x, dtype=dtype, mirror=mirror, out=out)
    if means is not None:
        # a_i a_j is the same number as a_j a_i: G stays symmetric to the bit.
        a = math.sqrt(x.shape[0]) * means
        for begin in range(0, len(g), _ROWS):
            rows = slice(begin, begin + _ROWS)
            g[rows] -= np.outer(a[rows], a)  # in float64, rounded once
    return g


def inverse(
    g: NDArray[Any],
    x: sp.csr_array,
    lam: float,
    means: NDArray[np.float64] | None = None,
    *,
    mirror: bool = False,
    penalty: str = "lam",
) -> NDArray[Any]:
    """Turn G of `gram` into P = (G + λI)⁻¹, in place; without `mirror` only its upper triangle.

    Raises
    ------
    numpy.linalg.LinAlgError
        When G + λI cannot be inverted in its type, or the inverse is off by more than 1e-2.
    """
    name = "XᵀX" if means is None else "(XᵀX - n bbᵀ)"
    g.flat[:: len(g) + 1] += g.dtype.type(lam)
    try:
        kernels.spd_inverse(g, mirror=mirror)
    except np.linalg.LinAlgError as error:
        raise np.linalg.LinAlgError(
            f"{name} + {lam:g} I cannot be inverted in {g.dtype} ({error}): use a larger {penalty}"
        ) from error
    residual = _residual(g, x, lam, means)
    if not residual < _LARGEST_RESIDUAL:
        raise np.linalg.LinAlgError(
            f"{name} + {lam:g} I is too near to singular for {g.dtype} (the inverse is off by "
            f"{residual:.1g}): use a larger {penalty}"
        )
    return g


def _residual(
    p: NDArray[Any], x: sp.csr_array, lam: float, means: NDArray[np.float64] | None
) -> float:
    """The largest entry of (G + λI) p_j - e_j over some columns j, spread over the catalogue."""
    columns = np.unique(np.linspace(0, len(p) - 1, min(len(p), 4)).astype(np.int64))
    some = np.empty((len(columns), len(p)))
    for row, j in zip(some, columns, strict=True):
        row[:j], row[j:] = p[:j, j], p[j, j:]
    off = (x.T @ (x @ some.T)).T + lam * some
    if means is not None:
        off -= x.shape[0] * np.outer(some @ means, means)
    off[np.arange(len(columns)), columns] -= 1.0
    return float(np.abs(off).max(initial=0.0))


def _solved(
    g: NDArray[Any],
    x: sp.csr_array,
    lam: float,
    means: NDArray[np.float64] | None,
    dual: bool,
    penalty: str,
) -> NDArray[np.float32]:
    """B from the matrix of `_any_gram`, which is lost."""
    p = _dual_inverse(g, x, lam, penalty) if dual else inverse(g, x, lam, means, penalty=penalty)
    return kernels.ease_weights(p.astype(np.float32, copy=False))


def _any_gram(
    x: sp.csr_array, means: NDArray[np.float64] | None, dual: bool, dtype: Any
) -> NDArray[Any]:
    """The upper triangle of XXᵀ in float64, or of G."""
    if dual:
        return kernels.gram(x.T, dtype=np.float64, mirror=False)
    return gram(x, means, dtype=dtype, mirror=False)


def _dual_is_cheaper(x: sp.csr_array, means: NDArray[np.float64] | None = None) -> bool:
    """Whether the n_users x n_users inverse in float64 and its sparse products are less work than n_items³."""
    n_users, n_items = x.shape
    work = 2 * n_users**3 + _SPARSE_COST * x.nnz * (n_users + n_items)
    return means is None and work < n_items**3 and _dual_bytes(x) < 1.5 * _primal_bytes(x)


def _primal_bytes(x: sp.csr_array, dtype: Any = np.float32) -> int:
    """P, and what `gram` and the blocked inverse take beside it; B, where it is of another type."""
    n_items, size = int(x.shape[1]), int(np.dtype(dtype).itemsize)
    weights = 4 * n_items**2 if size != 4 else 0
    return size * n_items**2 + max(8 * x.nnz, size * INVERSE_BLOCK * n_items) + weights


def _dual_bytes(x: sp.csr_array) -> int:
    """P, the float64 inverse, blocks of rows in float64, and copies of x."""
    n_users, n_items = map(int, x.shape)
    return 4 * n_items**2 + 8 * n_users**2 + 8 * _ROWS * (n_users + 4 * n_items) + 40 * x.nnz


def _dual_inverse(
    k: NDArray[np.float64], x: sp.csr_array, lam: float, penalty: str
) -> NDArray[np.float32]:
    """P = (I - Xᵀ (XXᵀ + λI)⁻¹ X) / λ, the same P by the Woodbury identity; `k` = XXᵀ is lost.

    In float64, because the difference cancels for items with many users.
    """
    n_items = x.shape[1]
    k.flat[:: len(k) + 1] += lam
    kernels.spd_inverse(k)
    x64, columns = x.astype(np.float64), x.T.tocsr().astype(np.float64)
    p = np.empty((n_items, n_items), np.float32)
    for begin in range(0, n_items, _ROWS):
        block = -((columns[begin : begin + _ROWS] @ k) @ x64)
        places = np.arange(len(block))
        block[places, begin + places] += 1.0
        p[begin : begin + len(block)] = block / lam
    if not np.isfinite(p.diagonal()).all():
        raise np.linalg.LinAlgError(
            f"(XᵀX + {lam:g} I)⁻¹ is beyond float32: use a larger {penalty}"
        )
    return p


class _Triangle:
    """The upper triangle of a square matrix, row after row, in half of its memory."""

    def __init__(self, matrix: NDArray[Any]) -> None:
        self._n = len(matrix)
        self._values = np.empty(self._n * (self._n + 1) // 2, matrix.dtype)
        for row, part in self._rows():
            part[:] = matrix[row, row:]

    def matrix(self) -> NDArray[Any]:
        """Return the matrix anew; what is below the diagonal is undefined."""
        result = np.empty((self._n, self._n), self._values.dtype)
        for row, part in self._rows():
            result[row, row:] = part
        return result

    def _rows(self) -> Iterator[tuple[int, NDArray[Any]]]:
        begin = 0
        for row in range(self._n):
            end = begin + self._n - row
            yield row, self._values[begin:end]
            begin = end
