"""Which item satisfies which condition, as a film its genres: `ItemConditions`."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from difflib import get_close_matches
from functools import cached_property
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pyrec.serialization import decode_ids, encode_ids

from .csr import as_csr, check_range, csr, kind_of
from .interactions import Interactions

if TYPE_CHECKING:
    import scipy.sparse as sp

__all__ = ["ItemConditions"]

# How many names an error lists.
_SHOWN = 20


class ItemConditions:
    """Which item satisfies which condition.

    Parameters
    ----------
    matrix : (n_items, n_cond) anything that `as_csr` takes
        Non-zero: the item satisfies the condition. Items without a condition are fine.
    names : (n_cond,) strings, optional
        What the conditions are called; no repeats.
    items : (n_items,) integers or strings, optional
        The item ids of the rows; no repeats.

    Attributes
    ----------
    matrix : (n_items, n_cond) csr_array of ones
    names : (n_cond,) object array of str, or None
    items : (n_items,) int64 array or object array of str, or None

    Raises
    ------
    ValueError, TypeError
        No conditions, no item that has one, or names or ids that do not fit.
    """

    def __init__(
        self, matrix: Any, names: ArrayLike | None = None, items: ArrayLike | None = None
    ) -> None:
        given = as_csr(matrix, name="matrix")
        if given.nnz == 0:
            raise ValueError(
                f"matrix must hold conditions of items, but of {given.shape[0]:,} items none has one "
                f"of {given.shape[1]:,}"
            )
        ones = np.ones(given.nnz, np.float32)
        self.matrix: sp.csr_array = csr(ones, given.indices, given.indptr, given.shape)
        self.names = None if names is None else _names(names, self.n_cond)
        self.items: NDArray[Any] | None = None
        if items is not None:
            self.items = self._as_interactions(items).items

    @classmethod
    def from_lists(
        cls, iid2cids: Mapping[int, Any], n_cond: int, n_items: int | None = None
    ) -> ItemConditions:
        """Take a dict from item number to the list of the numbers of its conditions.

        Parameters
        ----------
        iid2cids : dict
            Items that it lacks have no conditions.
        n_cond : int
            Every condition's number is below it.
        n_items : int, optional
            Every item's number is below it; by default the items end with the largest.
        """
        if not isinstance(iid2cids, Mapping):
            raise TypeError(
                f"iid2cids must be a dict from item to condition numbers, got {kind_of(iid2cids)}"
            )
        try:
            lengths = np.fromiter(map(len, iid2cids.values()), np.int64, len(iid2cids))
            conditions = _numbers(list(chain.from_iterable(iid2cids.values())), "conditions")
        except TypeError as error:
            raise TypeError(f"iid2cids must hold a list of numbers for an item: {error}") from error
        keys = _numbers(list(iid2cids), "items")
        height = int(keys.max(initial=-1)) + 1 if n_items is None else n_items
        check_range(keys, height, "iid2cids: items")
        check_range(conditions, n_cond, "iid2cids: conditions")
        return cls(pattern(np.repeat(keys, lengths), conditions, (height, n_cond)))

    @property
    def n_items(self) -> int:
        """Number of rows."""
        return int(self.matrix.shape[0])

    @property
    def n_cond(self) -> int:
        """Number of conditions."""
        return int(self.matrix.shape[1])

    @cached_property
    def by_condition(self) -> sp.csr_array:
        """The (n_cond, n_items) transpose: which items a condition has."""
        return as_csr(self.matrix.T)

    @cached_property
    def digest(self) -> str:
        """The same for the same matrix and names only; ids are left out."""
        hashed = hashlib.sha256()
        for key, array in self.to_arrays("").items():
            hashed.update(f"\n{key} {array.shape}\n".encode())
            hashed.update(array.tobytes())
        return hashed.hexdigest()

    def __repr__(self) -> str:
        return f"ItemConditions({self.n_items:,} items, {self.n_cond:,} conditions)"

    def align(self, items: ArrayLike) -> ItemConditions:
        """Return the conditions of other items, by id; those unknown here have none.

        Parameters
        ----------
        items : (n,) integers or strings

        Raises
        ------
        ValueError
            These conditions have no item ids, ids of another type, or none of `items` has a
            condition here.
        """
        if self.items is None:
            raise ValueError("these item conditions have no item ids to be aligned by")
        known = self._as_interactions(self.items).align(np.asarray(items))[0]
        if known.n_interactions == 0:
            raise ValueError(
                f"none of the {known.n_items:,} items has a condition: the conditions are of items "
                f"such as {self.items[:3].tolist()}, the data is of {known.items[:3].tolist()}"
            )
        return ItemConditions(known.matrix.T, self.names, known.items)

    def numbers(self, condition: Any) -> NDArray[np.int64]:
        """Return the numbers of a condition or of several, ascending.

        Parameters
        ----------
        condition : str, int, or list of them
            Names, where there are names, or numbers.

        Raises
        ------
        ValueError
            An unknown condition, or none at all.
        """
        single = isinstance(condition, (str, int, np.integer))
        given = np.asarray([condition] if single else condition, object)
        if given.ndim > 1:
            raise ValueError(
                "condition must be a name, a number or a list of them, got an array of shape "
                f"{given.shape}"
            )
        wanted = list(np.ravel(given))
        if not wanted:
            raise ValueError("condition must name at least one condition, got an empty list")
        return np.unique(np.array([self._number(one) for one in wanted], np.int64))

    def name(self, number: int) -> str:
        """Return what an error calls a condition."""
        return f"condition {number}" if self.names is None else f"condition {self.names[number]!r}"

    def satisfying(self, wanted: sp.csr_array) -> sp.csr_array:
        """Return the (n, n_items) pattern of the items that have any of a row's conditions.

        Parameters
        ----------
        wanted : (n, n_cond) CSR
        """
        return as_csr(wanted @ self.by_condition)

    def to_arrays(self, name: str) -> dict[str, NDArray[Any]]:
        """Return arrays for a file, all of whose names begin with `name`; ids are left out."""
        parts = {"indptr": self.matrix.indptr, "indices": self.matrix.indices}
        arrays = {f"{name}.{key}": a.astype(np.int64) for key, a in parts.items()}
        arrays[f"{name}.shape"] = np.array(self.matrix.shape, np.int64)
        return {**arrays, **encode_ids(f"{name}.names", self.names)}

    @classmethod
    def from_arrays(cls, name: str, arrays: Mapping[str, NDArray[Any]]) -> ItemConditions:
        """Return what `to_arrays` took apart; a KeyError or ValueError says what is wrong."""
        indptr, indices, shape = (arrays[f"{name}.{key}"] for key in ("indptr", "indices", "shape"))
        for key, array in (("indptr", indptr), ("indices", indices), ("shape", shape)):
            if array.ndim != 1 or array.dtype != np.int64:
                raise ValueError(f"{name}.{key} must be (n,) int64, got {array.dtype}")
        if len(shape) != 2 or shape.min() < 0 or len(indptr) != shape[0] + 1:
            raise ValueError(f"{name}.indptr must have an entry more than the {shape[:1]} items")
        # as_csr, and not SciPy, checks what comes from a file.
        size = int(shape[0]), int(shape[1])
        matrix = csr(np.ones(len(indices), np.float32), indices, indptr, size)
        return cls(as_csr(matrix, name=name), decode_ids(f"{name}.names", arrays))

    def _as_interactions(self, items: ArrayLike) -> Interactions:
        """Conditions as if they were users: the checks of ids and what aligns them are the same."""
        return Interactions(self.by_condition, np.arange(self.n_cond), items)

    def _number(self, one: Any) -> int:
        if isinstance(one, str):
            if self.names is None:
                raise ValueError(f"these conditions have no names, only numbers, got {one!r}")
            found = np.flatnonzero(self.names == one)
            if len(found):
                return int(found[0])
            raise ValueError(f"condition {one!r} is unknown{self._advice(one)}")
        if isinstance(one, bool) or not isinstance(one, (int, np.integer)):
            raise ValueError(f"condition must be a name, a number or a list of them, got {one!r}")
        if not 0 <= one < self.n_cond:
            raise ValueError(f"condition must be in 0..{self.n_cond - 1}, got {one}")
        return int(one)

    def _advice(self, unknown: str) -> str:
        """Which names there are, the nearest first."""
        names = [] if self.names is None else self.names.tolist()
        near = get_close_matches(unknown, names, _SHOWN)
        shown = [*near, *(name for name in names if name not in near)][:_SHOWN]
        more = f", and {len(names) - len(shown):,} more" if len(shown) < len(names) else ""
        return f"; known: {', '.join(shown)}{more}"


def _names(names: ArrayLike, n_cond: int) -> NDArray[Any]:
    array = np.asarray(names, object)
    if array.shape != (n_cond,):
        raise ValueError(f"names must have shape ({n_cond},), one a condition, got {array.shape}")
    if not all(isinstance(name, str) for name in array):
        raise TypeError("names must be strings")
    if len(set(array)) < n_cond:
        raise ValueError("names must not repeat a condition")
    return array


def _numbers(values: list[Any], name: str) -> NDArray[np.int64]:
    array = np.array(values) if values else np.empty(0, np.int64)
    if array.dtype.kind not in "iu" or array.ndim != 1:
        raise TypeError(f"{name} must be whole numbers, got such as {values[0]!r}")
    return array.astype(np.int64)


def pattern(rows: Any, columns: Any, shape: tuple[int, int]) -> sp.csr_array:
    import scipy.sparse as sp

    ones = np.ones(len(columns), np.float32)
    return sp.csr_array((ones, (np.asarray(rows), np.asarray(columns))), shape=shape)
