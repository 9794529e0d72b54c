"""Columns of SLIM's weights: coordinate descent on the Gram matrix, and ADMM on an inverse.

min over B of ½‖X - XB‖² + ½λ₂‖B‖² + λ₁‖B‖₁ with diag(B) = 0 and, if asked for, B ≥ 0. Given G = XᵀX
the columns of B are problems of their own: both solvers take any of them, in groups, and a column's
bits depend neither on the others nor on the number of threads.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pyrec import _core
from pyrec.arguments import at_least_zero, positive
from pyrec.data.csr import is_sparse
from pyrec.kernels.arrays import describe, spd_inverse
from pyrec.kernels.columns import AdmmOptions, Solved, column_numbers, iterate
from pyrec.kernels.threads import n_threads as resolve_threads

if TYPE_CHECKING:
    import scipy.sparse as sp

__all__ = [
    "PackedInverse",
    "Solved",
    "admm",
    "coordinate_descent",
    "pilot_items",
    "pilot_rho",
]

# Columns solved by one native call: seconds at 20,000 items, then the caller may be interrupted.
_GROUP = 128
# Columns iterated together by ADMM: enough that P, read from memory in each iteration, costs little.
PANEL = 512
_MOST_SWEEPS = 10_000
_PILOT_ITEMS, _PILOT_COLUMNS, _PILOT_ITERATIONS = 1000, 32, 100


def coordinate_descent(
    g: NDArray[Any],
    *,
    lambda1: float,
    lambda2: float,
    nonnegative: bool = True,
    tol: float = 1e-6,
    columns: ArrayLike | None = None,
    start: sp.csr_array | None = None,
    n_threads: int | None = None,
) -> Iterator[Solved]:
    """Solve columns of SLIM by coordinate descent with an active set, 128 at a time.

    Parameters
    ----------
    g : (n, n) C-contiguous float32 or float64 array
        XᵀX, symmetric.
    lambda1, lambda2 : float
        At least 0, not both 0.
    nonnegative : bool
    tol : float
        A column is done when its objective is within ``tol * g[j, j] / 2`` of the minimum, by a
        duality gap. With float32 it also ends when rounding is all that is left, at about 1e-7.
    columns : (c,) item numbers, optional
        By default all.
    start : (c, n) CSR, optional
        Where to begin, a row a column as in `Solved`; by default at zero.

    Notes
    -----
    The gradient is kept in float64; the square of the active items in the type of `g`. Memory: a
    thread's 13 bytes an item and a square of active items of up to 64 MiB, beside the result.

    References
    ----------
    J. Friedman, T. Hastie, R. Tibshirani. 2010. Regularization Paths for Generalized Linear Models
    via Coordinate Descent. Journal of Statistical Software 33 (1), "covariance updates".
    """
    matrix = _square(g, "g")
    at_least_zero(lambda1, "lambda1")
    at_least_zero(lambda2, "lambda2")
    if lambda1 == lambda2 == 0:
        raise ValueError("lambda1 and lambda2 must not both be 0")
    positive(tol, "tol")
    numbers = column_numbers(columns, len(matrix))
    begin = _start(start, len(numbers), matrix)
    settings = (float(lambda1), float(lambda2), bool(nonnegative), float(tol))
    return _descend(matrix, numbers, begin, settings, n_threads)


def _descend(
    g: NDArray[Any],
    columns: NDArray[np.int32],
    start: sp.csr_array,
    settings: tuple[float, float, bool, float],
    n_threads: int | None,
) -> Iterator[Solved]:
    import scipy.sparse as sp

    threads = resolve_threads(n_threads)
    lambda1, lambda2, nonnegative, tol = settings
    for first in range(0, len(columns), _GROUP):
        group = columns[first : first + _GROUP]
        begin = start[first : first + _GROUP] if start.shape[0] else start
        parts = (begin.indptr.astype(np.int64), begin.indices.astype(np.int32), begin.data)
        (indptr, indices, values), gaps, sweeps = _core.slim_columns(
            g, group, *parts, lambda1, lambda2, nonnegative, tol, _MOST_SWEEPS, threads
        )
        weights = sp.csr_array((values, indices, indptr), shape=(len(group), len(g)))
        yield Solved(group.astype(np.int64), weights, gaps, sweeps)


class PackedInverse:
    """P = (XᵀX + (λ₂ + rho)I)⁻¹, laid out for the products of `admm`.

    Parameters
    ----------
    p : (n, n) C-contiguous float32 or float64 array
        Symmetric, both triangles filled.
    overwrite : bool
        Whether to lay it out where it is, which needs no second matrix: `p` must be an array from
        `memory`, and is lost.
    """

    def __init__(
        self, p: NDArray[Any], *, overwrite: bool = False, n_threads: int | None = None
    ) -> None:
        self.n = len(_square(p, "p"))
        if not overwrite:
            source, p = p, self.memory(self.n, p.dtype)
            p[:] = source
        memory = p.base
        if memory is None or memory.shape != (self._rows(0, p.dtype, self.n)[0], self.n):
            raise ValueError("p must be an array from PackedInverse.memory to be overwritten")
        self.panels: NDArray[Any] = memory
        _core.pack_inverse(memory, resolve_threads(n_threads))

    @classmethod
    def memory(cls, n: int, dtype: Any = np.float32) -> NDArray[Any]:
        """Return an (n, n) array for P, with room after it that the layout needs."""
        return np.empty((cls._rows(0, dtype, n)[0], n), dtype)[:n]

    def scratch(self, columns: int) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return working memory for iterations of so many columns."""
        rows, group_rows = self._rows(columns, self.panels.dtype, self.n)
        kind = self.panels.dtype
        return np.empty((group_rows, self.n), kind), np.empty((group_rows, rows), kind)

    @staticmethod
    def _rows(columns: int, dtype: Any, n: int) -> tuple[int, int]:
        return _core.admm_rows(np.empty((n, 0), dtype), columns)


def admm(
    p: PackedInverse,
    *,
    lambda1: float,
    rho: float,
    nonnegative: bool = True,
    num_iter: int = 50,
    tol: float = 1e-4,
    relaxation: float = 1.6,
    columns: ArrayLike | None = None,
    n_threads: int | None = None,
) -> Iterator[Solved]:
    """Solve columns of SLIM by ADMM, 512 at a time; columns that have converged make room for others.

    Parameters
    ----------
    p : PackedInverse
        It holds λ₂ + rho.
    lambda1 : float
        At least 0.
    rho : float
        The one in `p`.
    nonnegative : bool
    num_iter : int
        Iterations a column gets at most.
    tol : float
        A column is done when ‖B - C‖ ≤ tol max(‖B‖, ‖C‖) and ‖C - C before‖ ≤ tol ‖Γ / rho‖ (norms of
        the column; weights of a norm below 0.01 count as 0.01). 0 means all `num_iter`.
    relaxation : float
        Above 0 and below 2; 1 is ADMM as published, 1.6 usually needs fewer iterations.
    columns : (c,) item numbers, optional
        By default all.

    Notes
    -----
    2 n² operations an iteration of a column. Memory: `p`, and 3 x 512 x n numbers.

    References
    ----------
    H. Steck, M. Dimakopoulou, N. Riabov, T. Jebara. 2020. ADMM SLIM: Sparse Recommendations for Many
    Users. WSDM '20, 555-563. Stopping and relaxation: S. Boyd, N. Parikh, E. Chu, B. Peleato,
    J. Eckstein. 2011. Distributed Optimization and Statistical Learning via ADMM, sections 3.3, 3.4.3.
    """
    options = AdmmOptions.checked(lambda1, rho, nonnegative, num_iter, tol, relaxation)
    numbers = column_numbers(columns, p.n)
    panel = _PackedPanel(p, min(PANEL, len(numbers)), options, resolve_threads(n_threads))
    return iterate(panel, numbers, options)


class _PackedPanel:
    """Columns on the processor."""

    def __init__(self, p: PackedInverse, width: int, options: AdmmOptions, threads: int) -> None:
        self.width, self._p, self._options, self._threads = width, p, options, threads
        self._w = np.zeros((width, p.n), p.panels.dtype)
        self._d, self._b = p.scratch(width)
        self._residual = np.zeros(width)

    def step(self, columns: NDArray[np.int32]) -> NDArray[np.float64]:
        n, p = len(columns), self._p
        rows = len(self._d) if n == self.width else p._rows(n, self._w.dtype, p.n)[1]
        residual = self._residual[:n]
        w, d, b = self._w[:n], self._d[:rows], self._b[:rows]
        _core.admm_step(
            p.panels, columns, *self._options.settings, w, d, b, residual, self._threads
        )
        return residual

    def solved(self, places: NDArray[np.int64]) -> sp.csr_array:
        """C = soft(W, λ₁ / rho)."""
        import scipy.sparse as sp

        w, nonnegative = self._w, self._options.nonnegative
        threshold = w.dtype.type(self._options.lambda1 / self._options.rho)
        rows = []
        for place in places:
            size = np.maximum((w[place] if nonnegative else np.abs(w[place])) - threshold, 0)
            items = np.flatnonzero(size)
            values = size[items] if nonnegative else np.copysign(size[items], w[place, items])
            rows.append((items, values))
        lengths = [len(items) for items, _ in rows]
        return sp.csr_array(
            (
                np.concatenate([values for _, values in rows]),
                np.concatenate([items for items, _ in rows]).astype(np.int32),
                np.concatenate([[0], np.cumsum(lengths)]),
            ),
            shape=(len(rows), w.shape[1]),
        )

    def restart(self, places: NDArray[np.int64]) -> None:
        self._w[places] = 0

    def move(self, sources: NDArray[np.int64], targets: NDArray[np.int64]) -> None:
        for source, target in zip(sources, targets, strict=True):
            self._w[target] = self._w[source]


def pilot_items(diagonal: NDArray[Any]) -> NDArray[np.int64]:
    """Return the items, by the diagonal of XᵀX, whose problem `pilot_rho` tries."""
    return np.sort(np.argsort(-diagonal, kind="stable")[:_PILOT_ITEMS])


def pilot_rho(
    g: NDArray[Any],
    *,
    lambda1: float,
    lambda2: float,
    nonnegative: bool = True,
    n_threads: int | None = None,
) -> float:
    """Return a rho with which `admm` needs few iterations.

    Half-decades of rho are tried on 32 columns of the problem of the 1,000 items with the largest
    diagonal, where an inverse costs next to nothing; the best one serves the whole problem well.

    Parameters
    ----------
    g : (n, n) C-contiguous float32 or float64 array
        XᵀX.
    lambda1, lambda2 : float
    nonnegative : bool
    """
    diagonal = np.diagonal(_square(g, "g"))
    if not len(diagonal):
        return 1.0
    items = pilot_items(diagonal)
    some = np.ascontiguousarray(g[np.ix_(items, items)])
    columns = np.unique(np.linspace(0, len(items) - 1, _PILOT_COLUMNS).astype(np.int64))
    scales = [s for s in (lambda2, float(diagonal[items].mean())) if s > 0] or [1.0]
    first, last = (round(2 * math.log10(s)) for s in (min(scales) / 10, max(scales) * 100))
    candidates = 10.0 ** (np.arange(first, last + 1) / 2)
    tried = []
    for rho in map(float, candidates):
        p = PackedInverse.memory(len(some), some.dtype)
        p[:] = some
        p.flat[:: len(some) + 1] += lambda2 + rho
        try:
            spd_inverse(p, n_threads=n_threads)
        except np.linalg.LinAlgError:
            continue
        solved = admm(
            PackedInverse(p, overwrite=True, n_threads=n_threads),
            lambda1=lambda1,
            rho=rho,
            nonnegative=nonnegative,
            num_iter=_PILOT_ITERATIONS,
            columns=columns,
            n_threads=n_threads,
        )
        work, residual = np.sum([(s.work.sum(), s.residual.sum()) for s in solved], axis=0)
        tried.append((float(work), float(residual), rho))
    if not tried:
        raise np.linalg.LinAlgError(
            f"XᵀX + (lambda2 + rho) I is not positive definite for any rho up to {candidates[-1]:.0f}"
        )
    return min(tried)[2]


def _square(a: Any, name: str) -> NDArray[Any]:
    if not isinstance(a, np.ndarray) or a.ndim != 2 or a.dtype not in (np.float32, np.float64):
        raise TypeError(f"{name} must be a float32 or float64 matrix, got {describe(a)}")
    if a.shape[0] != a.shape[1]:
        raise ValueError(f"{name} must be square, got shape {a.shape}")
    if not np.isfinite(a.sum()):
        raise ValueError(f"{name} must be finite")
    return np.ascontiguousarray(a)


def _start(start: Any, n_columns: int, g: NDArray[Any]) -> sp.csr_array:
    import scipy.sparse as sp

    if start is None:
        return sp.csr_array((0, len(g)), dtype=g.dtype)
    if not is_sparse(start) or start.shape != (n_columns, len(g)):
        raise ValueError(
            f"start must be a sparse matrix of shape ({n_columns}, {len(g)}), got {describe(start)}"
        )
    result = sp.csr_array(start, dtype=g.dtype)
    if not result.has_canonical_format:
        result = result.copy()
        result.sum_duplicates()
    return result
