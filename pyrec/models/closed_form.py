"""B in closed form, and the inverse that it needs: P = (G + λI)⁻¹ with G = XᵀX, centred or not.

With b the items' means over all users, (X - 1bᵀ)ᵀ(X - 1bᵀ) = XᵀX - n bbᵀ: a centred X is never written.

G and P are arrays, or tensors of a GPU.
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
    import torch

__all__ = ["device_bytes", "gram", "inverse", "item_means", "weights", "weights_path"]

# Items whose rows are made at a time in float64.
_ROWS = 256
# What (G + λI) P may differ from the identity: beyond it float32 has lost the weights.
_LARGEST_RESIDUAL = 1e-2
# A multiply-add of a sparse product costs about as much as this many operations of a dense one.
_SPARSE_COST = 100
# What an interaction takes on a GPU while the lists of the items are sorted.
_DEVICE_BYTES = 48


def weights(
    x: sp.csr_array,
    lam: float,
    means: NDArray[np.float64] | None = None,
    *,
    dtype: type[np.float32 | np.float64] = np.float32,
    owner: str = "EASE",
    penalty: str = "lam",
    device: torch.device | None = None,
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
    device : torch.device, optional
        Where G is made and inverted; by default, and where users are few against items, on the CPU.

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
        in_place = f"{needs} {np.dtype(dtype)} matrix inverted in place"
        if device is None:
            require_memory(_primal_bytes(x, dtype), in_place)
        else:
            require_memory(device_bytes(x, dtype, _converted_bytes(x, dtype)), in_place, device)
            require_memory(4 * n_items**2, f"{needs} float32 matrix")
    g = _any_gram(x, means, dual, dtype, device)
    return _solved(g, x, lam, means, dual, penalty)


def weights_path(
    x: sp.csr_array,
    lams: Iterable[float],
    means: NDArray[np.float64] | None = None,
    *,
    dtype: type[np.float32 | np.float64] = np.float32,
    owner: str = "EASE",
    penalty: str = "lam",
    device: torch.device | None = None,
) -> Iterator[NDArray[np.float32]]:
    """Yield what `weights` returns for each of `lams`, from one Gram matrix.

    Memory: half of a Gram matrix is kept beside the weights (a whole one on a `device`); those of two
    λ, so that the caller may keep the best, are counted before anything is allocated.
    """
    dual = _dual_is_cheaper(x, means)
    n_users, n_items = map(int, x.shape)
    gram_bytes = 8 * n_users**2 if dual else np.dtype(dtype).itemsize * n_items**2
    two = f"{owner} needs the {n_items:,} x {n_items:,} float32 weights of two {penalty}"
    if dual or device is None:
        needed = _dual_bytes(x) if dual else _primal_bytes(x, dtype)
        require_memory(needed + gram_bytes // 2 + 4 * n_items**2, f"{two} and half a Gram matrix")
    else:
        needed = device_bytes(x, dtype, _converted_bytes(x, dtype)) + gram_bytes
        twice = f"{owner} needs two {n_items:,} x {n_items:,} {np.dtype(dtype)} matrices"
        require_memory(needed, twice, device)
        require_memory(8 * n_items**2, two)
    g = _any_gram(x, means, dual, dtype, device)
    renewed = _Triangle(g).matrix if isinstance(g, np.ndarray) else g.clone
    del g
    for lam in lams:
        yield _solved(renewed(), x, lam, means, dual, penalty)


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
    device: torch.device | None = None,
) -> Any:
    """Return G = XᵀX, less n bbᵀ where `means` are given; without `mirror` only its upper triangle.

    An array (`out` where that is given), or a tensor of the `device`.
    """
    if device is None:
        g = kernels.gram(x, dtype=dtype, mirror=mirror, out=out)
    else:
        g = _gram_on(device, x, dtype, mirror)
    if means is not None:
        # a_i a_j is the same number as a_j a_i: G stays symmetric to the bit.
        a = math.sqrt(x.shape[0]) * means
        if device is not None:
            a = _tensor(a, device)
        for begin in range(0, len(g), _ROWS):
            rows = slice(begin, begin + _ROWS)
            g[rows] -= a[rows, None] * a  # in float64, rounded once
    return g


def inverse(
    g: Any,
    x: sp.csr_array,
    lam: float,
    means: NDArray[np.float64] | None = None,
    *,
    mirror: bool = False,
    penalty: str = "lam",
) -> Any:
    """Turn G of `gram` into P = (G + λI)⁻¹, in place; without `mirror` only its upper triangle.

    Raises
    ------
    numpy.linalg.LinAlgError
        When G + λI cannot be inverted in its type, or the inverse is off by more than 1e-2.
    """
    name = "XᵀX" if means is None else "(XᵀX - n bbᵀ)"
    dtype = str(g.dtype).removeprefix("torch.")
    diagonal = g.reshape(-1)[:: len(g) + 1]
    diagonal += lam
    try:
        _kernels_for(g).spd_inverse(g, mirror=mirror)
    except np.linalg.LinAlgError as error:
        raise np.linalg.LinAlgError(
            f"{name} + {lam:g} I cannot be inverted in {dtype} ({error}): use a larger {penalty}"
        ) from error
    residual = _residual(g, x, lam, means)
    if not residual < _LARGEST_RESIDUAL:
        raise np.linalg.LinAlgError(
            f"{name} + {lam:g} I is too near to singular for {dtype} (the inverse is off by "
            f"{residual:.1g}): use a larger {penalty}"
        )
    return g


def _residual(p: Any, x: sp.csr_array, lam: float, means: NDArray[np.float64] | None) -> float:
    """The largest entry of (G + λI) p_j - e_j over some columns j, spread over the catalogue."""
    columns = np.unique(np.linspace(0, len(p) - 1, min(len(p), 4)).astype(np.int64))
    some = np.empty((len(columns), len(p)))
    for row, j in zip(some, columns, strict=True):
        row[:j], row[j:] = _array(p[:j, j]), _array(p[j, j:])
    off = (x.T @ (x @ some.T)).T + lam * some
    if means is not None:
        off -= x.shape[0] * np.outer(some @ means, means)
    off[np.arange(len(columns)), columns] -= 1.0
    return float(np.abs(off).max(initial=0.0))


def _solved(
    g: Any,
    x: sp.csr_array,
    lam: float,
    means: NDArray[np.float64] | None,
    dual: bool,
    penalty: str,
) -> NDArray[np.float32]:
    """B from the matrix of `_any_gram`, which is lost."""
    p = _dual_inverse(g, x, lam, penalty) if dual else inverse(g, x, lam, means, penalty=penalty)
    if isinstance(p, np.ndarray):
        return kernels.ease_weights(p.astype(np.float32, copy=False))
    solvers = _kernels_for(p)
    b: NDArray[np.float32] = solvers.to_host(solvers.ease_weights(p.float()))
    return b


def _any_gram(
    x: sp.csr_array,
    means: NDArray[np.float64] | None,
    dual: bool,
    dtype: Any,
    device: torch.device | None,
) -> Any:
    """The upper triangle of XXᵀ in float64, or of G."""
    if dual:
        return kernels.gram(x.T, dtype=np.float64, mirror=False)
    return gram(x, means, dtype=dtype, mirror=False, device=device)


def _gram_on(device: torch.device, x: sp.csr_array, dtype: Any, mirror: bool) -> Any:
    import torch

    from pyrec.kernels.gpu import solvers
    from pyrec.kernels.matrices import Csr

    kind = getattr(torch, np.dtype(dtype).name)
    return solvers.gram(Csr.from_scipy(x).to(device), dtype=kind, mirror=mirror)


def _kernels_for(matrix: Any) -> Any:
    """The module whose functions take such a matrix."""
    if isinstance(matrix, np.ndarray):
        return kernels
    from pyrec.kernels.gpu import solvers

    return solvers


def _array(values: Any) -> NDArray[Any]:
    result: NDArray[Any] = values if isinstance(values, np.ndarray) else values.cpu().numpy()
    return result


def _tensor(values: NDArray[Any], device: torch.device) -> Any:
    import torch

    return torch.from_numpy(values).to(device)


def _dual_is_cheaper(x: sp.csr_array, means: NDArray[np.float64] | None = None) -> bool:
    """Whether the n_users x n_users inverse in float64 and its sparse products are less work than n_items³."""
    n_users, n_items = x.shape
    work = 2 * n_users**3 + _SPARSE_COST * x.nnz * (n_users + n_items)
    return means is None and work < n_items**3 and _dual_bytes(x) < 1.5 * _primal_bytes(x)


def _primal_bytes(x: sp.csr_array, dtype: Any = np.float32) -> int:
    """P, and what `gram` and the blocked inverse take beside it; B, where it is of another type."""
    n_items, size = int(x.shape[1]), int(np.dtype(dtype).itemsize)
    beside = max(8 * x.nnz, size * INVERSE_BLOCK * n_items)
    return size * n_items**2 + beside + _converted_bytes(x, dtype)


def _converted_bytes(x: sp.csr_array, dtype: Any) -> int:
    """B in float32, beside a P of another type."""
    return 0 if np.dtype(dtype) == np.float32 else 4 * int(x.shape[1]) ** 2


def device_bytes(x: sp.csr_array, dtype: Any, beside: int = 0) -> int:
    """Return what P takes on a GPU, with what is there at any time beside it: `beside`, when P is done."""
    from pyrec.kernels.gpu import solvers

    n_items, size = int(x.shape[1]), int(np.dtype(dtype).itemsize)
    panels = 2 * size * solvers.BLOCK * n_items
    return size * n_items**2 + max(_DEVICE_BYTES * x.nnz, panels, beside)


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
