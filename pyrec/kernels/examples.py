"""Training examples: rows under a condition, negative items, windows of sequences."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pyrec import _core
from pyrec.data.csr import as_csr, offsets_of
from pyrec.kernels.arrays import parts
from pyrec.kernels.threads import n_threads as resolve_threads

if TYPE_CHECKING:
    import scipy.sparse as sp

__all__ = ["ConditionedRows", "negatives", "windows"]

Rows = tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.float32]]


class ConditionedRows:
    """Training examples of a conditioned model: a history alone, or under a condition it knows.

    A row has the example without a condition when it holds an item and has a target, and the
    example with the condition c when one of its items has c and one of its targets too. Examples
    are numbered, first those without a condition by row, then the others by row and condition; none
    is ever made before it is asked for.

    Parameters
    ----------
    x : (n, n_items) CSR
    item_conditions : (n_items, n_conditions) CSR
        Which item has which conditions; its values do not matter.
    targets : (n, n_items) CSR, optional
        By default `x` itself.

    Attributes
    ----------
    n_examples, n_unconditioned : int
        All of them; those without a condition.
    counts : (n_conditions,) int64 array
        Examples with each condition.

    Notes
    -----
    The matrices are checked once, here; their arrays are borrowed and must not change afterwards.
    Memory: 24 bytes a row, and 8 an item.
    """

    def __init__(
        self,
        x: sp.sparray | sp.spmatrix,
        item_conditions: sp.sparray | sp.spmatrix,
        targets: sp.sparray | sp.spmatrix | None = None,
        *,
        n_threads: int | None = None,
    ) -> None:
        c, items = as_csr(x), as_csr(item_conditions, name="item_conditions")
        te = None if targets is None else parts(as_csr(targets, c.shape[1], "targets"))
        self._lengths = np.diff(c.indptr)
        self._rows = _core.ConditionedRows(parts(c), te, parts(items), c.shape[1], items.shape[1])
        self._rows.count(resolve_threads(n_threads))
        self.n_examples = self._rows.n_examples()
        self.n_unconditioned = self._rows.n_alone()
        self.counts = self._rows.counts()

    def before(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return how many examples come before each row: without a condition, and with one, (n + 1,) each."""
        return self._rows.before()

    def examples(
        self, numbers: NDArray[np.int64], *, n_threads: int | None = None
    ) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
        """Return rows and conditions of the examples `numbers`; condition -1 is none."""
        rows, conditions = np.empty(len(numbers), np.int64), np.empty(len(numbers), np.int32)
        self._rows.examples(numbers, rows, conditions, resolve_threads(n_threads))
        return rows, conditions

    def inputs(
        self,
        rows: NDArray[np.int64],
        conditions: NDArray[np.int32],
        *,
        n_threads: int | None = None,
    ) -> Rows:
        """Return offsets, columns and values of the inputs, (len(rows), n_items + n_conditions).

        Each is a row of `x`, and a 1 in the column of its condition, behind the items.
        """
        indptr = offsets_of(self._lengths[rows] + (conditions >= 0))
        indices, values = np.empty(indptr[-1], np.int32), np.empty(indptr[-1], np.float32)
        threads = resolve_threads(n_threads)
        self._rows.inputs(rows, conditions, indptr, indices, values, threads)
        return indptr, indices, values

    def targets(
        self,
        rows: NDArray[np.int64],
        conditions: NDArray[np.int32],
        *,
        n_threads: int | None = None,
    ) -> Rows:
        """Return offsets, items and values of the targets: those items that have the condition."""
        threads = resolve_threads(n_threads)
        indptr = np.empty(len(rows) + 1, np.int64)
        size = self._rows.target_offsets(rows, conditions, indptr, threads)
        indices, values = np.empty(size, np.int32), np.empty(size, np.float32)
        self._rows.targets(rows, conditions, indptr, indices, values, threads)
        return indptr, indices, values

    def balanced(self, n_each: int, seed: int, epoch: int) -> NDArray[np.int64]:
        """Return example numbers, ascending: all without a condition, and `n_each` of each condition.

        Drawn without replacement (Knuth, The Art of Computer Programming 2, 3.4.2, algorithm S); of
        a condition with fewer examples, all. Draws depend on seed, epoch and example only.
        """
        drawn = np.empty(int(np.minimum(self.counts, n_each).sum()), np.int64)
        self._rows.balanced(n_each, seed, epoch, drawn)
        return np.concatenate([np.arange(self.n_unconditioned), drawn])


def negatives(
    indptr: NDArray[np.int64],
    indices: NDArray[np.int32],
    n_items: int,
    share: float,
    seed: int,
    step: int,
    out: NDArray[np.bool_],
    *,
    with_observed: bool = False,
    n_threads: int | None = None,
) -> None:
    """Mark, for each row, ``round(share * m)`` of the m items that it does not hold.

    Drawn without replacement: each set of so many items is as likely as any other.

    Parameters
    ----------
    indptr, indices : int64, int32 arrays
        The items of each row, ascending.
    n_items : int
    share : float
        From 0 to 1.
    seed, step : int
        Decide the draws, together with the number of the row.
    out : (n, n_items) bool array
        All of it is written.
    with_observed : bool
        Mark the items of the row too.
    """
    if out.shape != (len(indptr) - 1, n_items):
        raise ValueError(f"out must have shape {(len(indptr) - 1, n_items)}, got {out.shape}")
    threads = resolve_threads(n_threads)
    _core.negatives(indptr, indices, share, seed, step, with_observed, out, threads)


def windows(
    offsets: NDArray[np.int64],
    items: NDArray[np.int32],
    n_items: int,
    users: NDArray[np.int64],
    k: int | None,
    weighted: bool,
    *,
    n_threads: int | None = None,
) -> tuple[
    NDArray[np.int64],
    NDArray[np.int32],
    NDArray[np.int64],
    NDArray[np.int32],
    NDArray[np.float32],
]:
    """Return what follows each item of some users' sequences but the last: a row an item.

    Parameters
    ----------
    offsets, items : int64 (n + 1,), int32 arrays
        As in `pyrec.Histories`.
    n_items : int
    users : (m,) int64 array
        Each with two items or more.
    k : int, optional
        How many items ahead count; None: all the rest.
    weighted : bool
        Whether the values of a row are 1 / its length, and not 1.

    Returns
    -------
    first : (m + 1,) int64 array
        User ``users[u]`` has the inputs and rows ``first[u]:first[u + 1]``.
    inputs : (first[m],) int32 array
        The items that are followed.
    indptr, indices, values : int64, int32, float32 arrays
        The distinct items that follow within the window, ascending, a row an input.
    """
    outside = users[(users < 0) | (users >= len(offsets) - 1)]
    if len(outside):
        raise ValueError(f"users must be in 0..{len(offsets) - 2}, got {outside[0]}")
    threads = resolve_threads(n_threads)
    reach = 0 if k is None else k
    first = offsets_of(np.maximum(offsets[users + 1] - offsets[users] - 1, 0))
    indptr = np.zeros(first[-1] + 1, np.int64)
    _core.count_windows(offsets, items, n_items, users, first, reach, indptr[1:], threads)
    np.cumsum(indptr, out=indptr)
    inputs = np.empty(first[-1], np.int32)
    indices, values = np.empty(indptr[-1], np.int32), np.empty(indptr[-1], np.float32)
    out = indptr, inputs, indices, values
    _core.take_windows(offsets, items, n_items, users, first, reach, weighted, *out, threads)
    return first, inputs, indptr, indices, values
