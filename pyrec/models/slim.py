"""SLIM for data X: from G = XᵀX, centred or not, to the columns of B, and from these to B."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pyrec.arguments import positive, whole
from pyrec.data.csr import csr, offsets_of
from pyrec.kernels import slim
from pyrec.kernels.slim import Solved
from pyrec.machine import require_memory
from pyrec.models import closed_form

if TYPE_CHECKING:
    import scipy.sparse as sp
    import torch

__all__ = [
    "Penalties",
    "SolvedColumns",
    "centred_offset",
    "check_options",
    "closed",
    "iterations",
    "path",
    "sweeps",
]

_SOLVERS = ("auto", "admm", "cd")
# What errors of the closed form call the model and its λ.
_NAMES: dict[str, Any] = {"owner": "ADMM_Slim", "penalty": "lambda2"}
# Rows of B multiplied at a time in float64.
_ROWS = 256
# Of a weight that is not 0: float32, and an item number.
_WEIGHT_BYTES = 8


class Penalties(NamedTuple):
    """½‖X - XB‖² + ½λ₂‖B‖² + λ₁‖B‖₁, B ≥ 0 or not."""

    lambda1: float
    lambda2: float
    nonnegative: bool

    @property
    def is_closed(self) -> bool:
        """Whether this is EASE."""
        return self.lambda1 == 0 and not self.nonnegative


def check_options(num_iter: Any, solver: Any, tol: Any, relaxation: Any, dtype: Any) -> None:
    """Raise a ValueError or TypeError that names an option of `ADMM_Slim.train` that is none."""
    whole(num_iter, "num_iter", 1)
    if solver not in _SOLVERS:
        raise ValueError(f"solver must be one of {', '.join(_SOLVERS)}, got {solver!r}")
    if tol is not None:
        positive(tol, "tol")
    if not positive(relaxation, "relaxation") < 2:
        raise ValueError(f"relaxation must be below 2, got {relaxation!r}")
    if dtype not in (np.float32, np.float64):
        raise TypeError(f"dtype must be float32 or float64, got {dtype!r}")


def closed(
    x: sp.csr_array,
    means: NDArray[np.float64] | None,
    problem: Penalties,
    dtype: Any,
    device: torch.device | None = None,
) -> NDArray[np.float32]:
    """Solve a problem that has a closed form."""
    return closed_form.weights(x, problem.lambda2, means, dtype=dtype, device=device, **_NAMES)


def sweeps(
    x: sp.csr_array,
    means: NDArray[np.float64] | None,
    problem: Penalties,
    tol: float | None,
    dtype: Any,
) -> Iterator[Solved]:
    """Solve all columns by coordinate descent."""
    yield from _descent(_gram(x, means, dtype), problem, tol)


def path(
    x: sp.csr_array,
    means: NDArray[np.float64] | None,
    problems: Sequence[Penalties],
    tol: float | None,
    dtype: Any,
) -> Iterator[SolvedColumns | NDArray[np.float32]]:
    """Solve some problems from one G: in closed form, or by coordinate descent from each to the next.

    Where λ₁ returns to what it was at first, the nearest solution is the last one of that λ₁.
    """
    if problems[0].is_closed:
        lams = [problem.lambda2 for problem in problems]
        yield from closed_form.weights_path(x, lams, means, dtype=dtype, **_NAMES)
        return
    g = _gram(x, means, dtype)
    last: sp.csr_array | None = None
    first: sp.csr_array | None = None
    for problem in problems:
        returns = problem.lambda1 == problems[0].lambda1
        columns = SolvedColumns(len(g))
        for group in _descent(g, problem, tol, first if returns else last):
            columns.add(group)
        last = columns.rows()
        first = last if returns else first
        yield columns


def iterations(
    x: sp.csr_array,
    means: NDArray[np.float64] | None,
    problem: Penalties,
    rho: float | str,
    tol: float | None,
    dtype: Any,
    device: torch.device | None = None,
    **options: Any,
) -> Iterator[Solved]:
    """Solve all columns by ADMM; `options` are more of `pyrec.kernels.slim.admm`."""
    g = _gram(x, means, dtype, device)
    own = _pilot_rho(g, problem) if isinstance(rho, str) else rho
    lam, penalty = problem.lambda2 + own, "lambda2 or rho"
    p = closed_form.inverse(g, x, lam, means, mirror=True, penalty=penalty)
    options |= {"lambda1": problem.lambda1, "nonnegative": problem.nonnegative, "rho": own}
    options |= _given(tol)
    if device is None:
        yield from slim.admm(slim.PackedInverse(p, overwrite=True), **options)
        return
    from pyrec.kernels.gpu import solvers

    yield from solvers.admm(p, **options)


class SolvedColumns:
    """Columns of B as they come, in any order; those that do not come are zeros.

    Attributes
    ----------
    n_items : int
    residual : float
        The largest of a column.
    n_iter : int
        The most work of a column.
    n_solved : int
    """

    def __init__(self, n_items: int) -> None:
        self.n_items = n_items
        self._groups: list[tuple[NDArray[np.int64], sp.csr_array]] = []
        self._rows: sp.csr_array | None = None
        self.residual, self.n_iter, self.n_solved = 0.0, 0, 0

    def add(self, solved: Solved) -> None:
        """Take a group of columns that have been solved."""
        weights = solved.weights.astype(np.float32, copy=False)
        self._require(2 * weights.nnz)  # these, and as much again for the next group
        self.residual = float(np.maximum(self.residual, solved.residual.max(initial=0.0)))
        self.n_iter = max(self.n_iter, int(solved.work.max(initial=0)))
        self._groups.append((solved.columns, weights))
        self.n_solved += len(solved.columns)

    def rows(self) -> sp.csr_array:
        """Return Bᵀ, a column of B a row; the groups are freed on the way."""
        if self._rows is not None:
            return self._rows
        lengths = np.zeros(self.n_items, np.int64)
        for columns, weights in self._groups:
            lengths[columns] = np.diff(weights.indptr)
        ends = offsets_of(lengths)
        data, items = np.empty(ends[-1], np.float32), np.empty(ends[-1], np.int32)
        while self._groups:
            columns, weights = self._groups.pop()
            for row, column in enumerate(columns):
                there = slice(ends[column], ends[column + 1])
                here = slice(weights.indptr[row], weights.indptr[row + 1])
                data[there], items[there] = weights.data[here], weights.indices[here]
        self._rows = csr(data, items, ends, (self.n_items, self.n_items))
        return self._rows

    def weights(self) -> sp.csr_array:
        """Return B."""
        rows = self.rows()
        self._require(rows.nnz)
        return rows.T.tocsr()

    def _require(self, n_weights: int) -> None:
        require_memory(
            _WEIGHT_BYTES * n_weights,
            f"ADMM_Slim's B is not sparse enough (a larger lambda1 makes it so): it needs {n_weights:,} "
            "more weights",
        )


def centred_offset(
    means: NDArray[np.float64], weights: sp.csr_array | NDArray[np.float32]
) -> NDArray[np.float32]:
    """Return b - Bᵀb, so that xB + offset = (x - b)B + b; summed in float64."""
    offset = means.copy()
    for begin in range(0, len(means), _ROWS):
        rows = slice(begin, begin + _ROWS)
        offset -= weights[rows].T @ means[rows]
    return offset.astype(np.float32)


def _gram(
    x: sp.csr_array,
    means: NDArray[np.float64] | None,
    dtype: Any,
    device: torch.device | None = None,
) -> Any:
    """G, in memory that `PackedInverse` can use again, or on a GPU."""
    n_items, size = int(x.shape[1]), np.dtype(dtype).itemsize
    needs = f"ADMM_Slim needs a {n_items:,} x {n_items:,} {np.dtype(dtype)} matrix"
    if device is not None:
        from pyrec.kernels.gpu import solvers

        panels = 3 * size * min(solvers.PANEL, n_items) * n_items
        require_memory(closed_form.device_bytes(x, dtype, panels), needs, device)
        return closed_form.gram(x, means, dtype=dtype, device=device)
    require_memory(
        size * n_items**2 + max(_WEIGHT_BYTES * x.nnz, 3 * size * slim.PANEL * n_items), needs
    )
    memory = slim.PackedInverse.memory(n_items, dtype)
    return closed_form.gram(x, means, dtype=dtype, out=memory)


def _pilot_rho(g: Any, problem: Penalties) -> float:
    if not isinstance(g, np.ndarray):
        # The trial is of some items alone, and small.
        items = slim.pilot_items(g.diagonal().cpu().numpy())
        g = g[items][:, items].cpu().numpy()
    return slim.pilot_rho(g, **problem._asdict())


def _descent(
    g: NDArray[Any], problem: Penalties, tol: float | None, start: sp.csr_array | None = None
) -> Iterator[Solved]:
    return slim.coordinate_descent(g, **problem._asdict(), start=start, **_given(tol))


def _given(tol: float | None) -> dict[str, Any]:
    return {} if tol is None else {"tol": tol}
