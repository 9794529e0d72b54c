"""Columns of SLIM's weights that are solved in groups: what they become, and whose turn it is in ADMM."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pyrec.arguments import at_least_zero, positive, whole
from pyrec.kernels.arrays import describe

if TYPE_CHECKING:
    import scipy.sparse as sp

__all__ = ["AdmmOptions", "Panel", "Solved", "column_numbers", "iterate"]


class Solved(NamedTuple):
    """Some columns of B.

    Attributes
    ----------
    columns : (c,) int64
        Their item numbers.
    weights : (c, n) CSR
        Row r is the column ``columns[r]`` of B, in the type of the problem.
    residual : (c,) float64
        How far from the optimum, in the measure that `tol` bounds.
    work : (c,) int64
        Sweeps over the active items (coordinate descent), iterations (ADMM).
    """

    columns: NDArray[np.int64]
    weights: sp.csr_array
    residual: NDArray[np.float64]
    work: NDArray[np.int64]


class AdmmOptions(NamedTuple):
    """What `admm` was asked for."""

    lambda1: float
    rho: float
    relaxation: float
    nonnegative: bool
    num_iter: int
    tol: float

    @classmethod
    def checked(
        cls, lambda1: Any, rho: Any, nonnegative: Any, num_iter: Any, tol: Any, relaxation: Any
    ) -> AdmmOptions:
        """Raise a ValueError or TypeError that names an option that is none."""
        at_least_zero(lambda1, "lambda1")
        positive(rho, "rho")
        at_least_zero(tol, "tol")
        whole(num_iter, "num_iter", 1)
        if not positive(relaxation, "relaxation") < 2:
            raise ValueError(f"relaxation must be below 2, got {relaxation!r}")
        return cls(
            *(float(lambda1), float(rho), float(relaxation)),
            *(bool(nonnegative), int(num_iter), float(tol)),
        )

    @property
    def settings(self) -> tuple[float, float, float, bool]:
        """λ₁, rho, relaxation and nonnegative, as the kernels take them."""
        return self[:4]


class Panel(Protocol):
    """The states of columns that are iterated together, wherever they lie: a place each."""

    width: int

    def step(self, columns: NDArray[np.int32]) -> NDArray[np.float64]:
        """Iterate the columns in the first places once; return their residuals."""

    def solved(self, places: NDArray[np.int64]) -> sp.csr_array:
        """Return C of some places, a row each."""

    def restart(self, places: NDArray[np.int64]) -> None:
        """Begin anew in some places."""

    def move(self, sources: NDArray[np.int64], targets: NDArray[np.int64]) -> None:
        """Let the states in some places go to others."""


def iterate(panel: Panel, columns: NDArray[np.int32], options: AdmmOptions) -> Iterator[Solved]:
    """Solve columns by ADMM, as many at a time as the panel has places, and yield them as they are done."""
    here, waiting = columns[: panel.width].copy(), columns[panel.width :]
    iterations = np.zeros(len(here), np.int64)
    while len(here):
        residual = panel.step(here)
        iterations += 1
        done = (residual <= options.tol) | (iterations >= options.num_iter) | np.isnan(residual)
        free = np.flatnonzero(done)
        if not len(free):
            continue
        numbers = here[free].astype(np.int64)
        yield Solved(numbers, panel.solved(free), residual[free], iterations[free])
        # The next columns take the places of those that are done, then the last ones move up.
        n_new = min(len(free), len(waiting))
        here[free[:n_new]], waiting = waiting[:n_new], waiting[n_new:]
        iterations[free[:n_new]] = 0
        panel.restart(free[:n_new])
        n_left = len(here) - len(free[n_new:])
        targets = free[n_new:][free[n_new:] < n_left]
        sources = np.setdiff1d(np.arange(n_left, len(here)), free[n_new:])
        if len(targets):
            panel.move(sources, targets)
            here[targets], iterations[targets] = here[sources], iterations[sources]
        here, iterations = here[:n_left], iterations[:n_left]


def column_numbers(columns: ArrayLike | None, n: int) -> NDArray[np.int32]:
    """Return item numbers as the solvers take them; None is all."""
    if columns is None:
        return np.arange(n, dtype=np.int32)
    numbers = np.asarray(columns)
    if numbers.ndim != 1 or (numbers.size and numbers.dtype.kind not in "iu"):
        raise TypeError(f"columns must be a 1-D array of item numbers, got {describe(numbers)}")
    if numbers.size and not 0 <= numbers.min() <= numbers.max() < n:
        raise ValueError(f"columns must be in 0..{n - 1}, got {numbers.min()}..{numbers.max()}")
    return numbers.astype(np.int32)
