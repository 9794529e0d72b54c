"""Items that satisfy the users' conditions, as lists for the top-k kernels and masks for the likelihood."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pyrec.data import ItemConditions, as_csr
from pyrec.data.csr import canonical, is_sparse, rows_of
from pyrec.kernels.selection import item_lists

if TYPE_CHECKING:
    import scipy.sparse as sp

__all__ = ["both", "left_out", "pieces", "rows_of_lists", "wanted"]

# Entries of a piece's lists: 200 MB while they are made.
_LISTED = 1 << 24


def wanted(known: ItemConditions, condition: Any, n: int) -> sp.csr_array:
    """Return conditions as an (n, n_cond) matrix, a row a user.

    Parameters
    ----------
    known : ItemConditions
    condition : str, int, list of them, or (n, n_cond) sparse matrix, dense array or tensor
    n : int

    Raises
    ------
    ValueError
        An unknown condition, one that no item has, or a matrix of another shape.
    """
    import scipy.sparse as sp

    if is_sparse(condition) or getattr(condition, "ndim", 1) == 2:
        rows = as_csr(condition, name="condition")
        if rows.shape != (n, known.n_cond):
            raise ValueError(
                f"condition must have the shape ({n}, {known.n_cond}), a row a history, "
                f"got {rows.shape}"
            )
    else:
        numbers = known.numbers(condition)
        places = np.tile(numbers, n), np.arange(n + 1) * len(numbers)
        ones = np.ones(len(places[0]), np.float32)
        rows = sp.csr_array((ones, *places), shape=(n, known.n_cond))
    asked = np.unique(rows.indices)
    for number in asked[np.diff(known.by_condition.indptr)[asked] == 0]:
        raise ValueError(f"no item has the {known.name(number)}")
    return rows


def pieces(known: ItemConditions, conditions: sp.csr_array) -> Iterator[tuple[slice, Any]]:
    """Yield consecutive rows, and the items that they may get: one list for all, or a row each.

    Parameters
    ----------
    known : ItemConditions
    conditions : (n, n_cond) CSR
        Items that have any of a row's conditions satisfy it; a row without any may get all.
    """
    n = conditions.shape[0]
    first, counts = conditions[:1], np.diff(conditions.indptr)
    if (counts == counts[0]).all() and (conditions.indices == np.tile(first.indices, n)).all():
        yield slice(0, n), known.satisfying(first).indices
        return
    sizes = conditions.astype(bool) @ np.diff(known.by_condition.indptr)
    sizes[counts == 0] = known.n_items
    ends = np.cumsum(sizes)
    begin = 0
    while begin < n:
        room = _LISTED + (ends[begin - 1] if begin else 0)
        stop = max(begin + 1, int(np.searchsorted(ends, room, side="right")))
        yield slice(begin, stop), _lists(known, conditions[begin:stop])
        begin = stop


def _lists(known: ItemConditions, conditions: sp.csr_array) -> sp.csr_array:
    import scipy.sparse as sp

    satisfying, asks_nothing = known.satisfying(conditions), np.diff(conditions.indptr) == 0
    if not asks_nothing.any():
        return satisfying
    rows = sp.csr_array(asks_nothing.astype(np.float32)[:, None])
    every = sp.csr_array(np.ones((1, known.n_items), np.float32))
    return as_csr(satisfying + rows @ every)


def left_out(known: ItemConditions, conditions: sp.csr_array) -> NDArray[np.bool_]:
    """Return an (n, n_items) mask, True for items that do not satisfy their row's conditions."""
    satisfying = known.satisfying(conditions)
    mask = np.zeros(satisfying.shape, bool)
    mask[np.diff(conditions.indptr) > 0] = True
    mask[rows_of(satisfying.indptr), satisfying.indices] = False
    return mask


def both(allow: Any, satisfying: Any, n_items: int) -> Any:
    """Return the items that are in two lists, each of them for all rows or a row each.

    Raises
    ------
    TypeError, ValueError
        `allow` is not what the top-k kernels take: they see only what is left of it.
    """
    if allow is None:
        return satisfying
    item_lists(allow, n_items, "allow")
    if not is_sparse(allow) and not is_sparse(satisfying):
        return np.intersect1d(allow, satisfying)
    if is_sparse(allow) and is_sparse(satisfying):
        return as_csr(as_csr(allow).astype(bool).multiply(satisfying))
    rows, items = (as_csr(allow), satisfying) if is_sparse(allow) else (satisfying, allow)
    kept = np.where(np.isin(rows.indices, items), rows.data, 0).astype(np.float32)
    return canonical(kept, rows.indices, rows.indptr, rows.shape)


def rows_of_lists(items: Any, rows: slice) -> Any:
    """Return the part of lists with a row each that belongs to `rows`; one list stays as it is."""
    return items[rows] if is_sparse(items) else items
