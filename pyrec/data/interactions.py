"""Who interacted with what: `Interactions`."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pyrec.files import StrPath
from pyrec.serialization import decode_ids, encode_ids, read_tensors, write_tensors

from .csr import as_csr, csr, offsets_of, rows_of
from .histories import Histories
from .report import ReadReport

if TYPE_CHECKING:
    import scipy.sparse as sp

__all__ = ["Interactions"]

_FILE = "interactions.safetensors"
_FORMAT = "pyrec-interactions"


class Interactions:
    """Which user interacted with which item, with the users' and items' own ids.

    Parameters
    ----------
    matrix : (n_users, n_items) anything that `as_csr` takes
        What each user interacted with.
    users, items : (n_users,), (n_items,) integers or strings
        The id of each row and column; no repeats.
    timestamps : (n_interactions,) numbers, optional
        When, aligned with ``matrix.data``, which then must be canonical CSR already.
    report : ReadReport, optional
        What reading found. `filter` carries it on; selections and splits leave it behind.

    Attributes
    ----------
    matrix : (n_users, n_items) csr_array
        float32, sorted, no duplicates, no zeros (see `as_csr`).
    users, items : int64 arrays, or object arrays of str
    timestamps : int64 or float64 array, or None where unknown
    report : ReadReport or None

    Raises
    ------
    ValueError, TypeError
        Arrays that do not fit together; the message names which.
    """

    __slots__ = ("items", "matrix", "report", "timestamps", "users")

    def __init__(
        self,
        matrix: Any,
        users: ArrayLike,
        items: ArrayLike,
        timestamps: ArrayLike | None = None,
        report: ReadReport | None = None,
    ) -> None:
        self.matrix = as_csr(matrix, name="matrix")
        self.users = _ids(users, self.matrix.shape[0], "users")
        self.items = _ids(items, self.matrix.shape[1], "items")
        self.timestamps = None if timestamps is None else _times(timestamps, matrix, self.matrix)
        self.report = report

    @property
    def n_users(self) -> int:
        """Number of rows."""
        return int(self.matrix.shape[0])

    @property
    def n_items(self) -> int:
        """Number of columns."""
        return int(self.matrix.shape[1])

    @property
    def n_interactions(self) -> int:
        """Number of (user, item) pairs."""
        return int(self.matrix.nnz)

    def __repr__(self) -> str:
        return (
            f"Interactions({self.n_users:,} users, {self.n_items:,} items, "
            f"{self.n_interactions:,} interactions)"
        )

    def filter(self, min_user: int = 0, min_item: int = 0) -> Interactions:
        """Drop users and items with too few interactions, until none is left (the k-core).

        Parameters
        ----------
        min_user, min_item : int, default 0
            Least number of interactions of a user, of an item, that stays. 0 drops none.

        Raises
        ------
        ValueError
            If a number is negative or not whole, or if nothing is left.
        """
        for name, least in (("min_user", min_user), ("min_item", min_item)):
            if not isinstance(least, (int, np.integer)) or least < 0:
                raise ValueError(f"{name} must be a whole number, at least 0, got {least!r}")
        users, items = rows_of(self.matrix.indptr), self.matrix.indices
        entries = np.arange(self.n_interactions)
        while True:
            user_stays = np.bincount(users[entries], minlength=self.n_users) >= min_user
            item_stays = np.bincount(items[entries], minlength=self.n_items) >= min_item
            kept = entries[user_stays[users[entries]] & item_stays[items[entries]]]
            if len(kept) == len(entries):
                break
            entries = kept
        if not len(entries):
            raise ValueError(
                f"filter(min_user={min_user}, min_item={min_item}) leaves none of the "
                f"{self.n_interactions:,} interactions of {self.n_users:,} users and "
                f"{self.n_items:,} items"
            )
        keep = np.zeros(self.n_interactions, bool)
        keep[entries] = True
        result = self.select(keep).select_users(user_stays).align(self.items[item_stays])[0]
        if self.report is not None:
            dropped, reason = dict(self.report.dropped), f"filter({min_user=}, {min_item=})"
            if lost := self.n_interactions - result.n_interactions:
                dropped[reason] = dropped.get(reason, 0) + lost
            result.report = dataclasses.replace(
                self.report,
                dropped=dropped,
                users=result.n_users,
                items=result.n_items,
                interactions=result.n_interactions,
            )
        return result

    def sequences(self) -> Histories:
        """Return each user's items in order of time; by item number at ties and without times."""
        items = self.matrix.indices
        if self.timestamps is not None:
            items = items[np.lexsort((self.timestamps, rows_of(self.matrix.indptr)))]
        return Histories(self.matrix.indptr, items, self.n_items)

    def align(self, items: ArrayLike) -> tuple[Interactions, int]:
        """Give the columns another vocabulary, as a model or a training set has it.

        Parameters
        ----------
        items : (m,) integers or strings
            Item ids; column ``j`` of the result is ``items[j]``.

        Returns
        -------
        interactions : Interactions
            The same users, also those with nothing left.
        dropped : int
            Number of interactions with items that are not among ``items``.
        """
        items = np.asarray(items)
        items = _ids(items, len(items), "items")
        if items.dtype != self.items.dtype and len(items) and self.n_items:
            raise ValueError(
                f"item ids differ in type: {_kind(self.items)} in these interactions, "
                f"{_kind(items)} in the model or data they are matched with"
            )
        if np.array_equal(items, self.items):
            return self, 0
        place = {item: column for column, item in enumerate(items.tolist())}
        columns = np.array([place.get(item, -1) for item in self.items.tolist()], np.int32)
        known = columns[self.matrix.indices] >= 0
        kept = self.select(known)
        indptr: Any = kept.matrix.indptr
        rows, indices = rows_of(indptr), columns[kept.matrix.indices]
        order: Any = slice(None)
        if np.any(np.diff(columns[columns >= 0]) < 0):
            order = np.lexsort((indices, rows))
        matrix = csr(
            kept.matrix.data[order],
            indices[order],
            indptr,
            (self.n_users, len(items)),
        )
        times = None if kept.timestamps is None else kept.timestamps[order]
        aligned = Interactions(matrix, self.users, items, times)
        return aligned, int(np.count_nonzero(~known))

    def select(self, keep: ArrayLike) -> Interactions:
        """Return the interactions where ``keep`` is true; users and items stay as they are.

        Parameters
        ----------
        keep : (n_interactions,) bool
            Aligned with ``matrix.data``.
        """
        keep = np.asarray(keep)
        if keep.dtype != bool or keep.shape != (self.n_interactions,):
            raise ValueError(
                f"keep must be a bool array of shape ({self.n_interactions},), got {keep.dtype} "
                f"of shape {keep.shape}"
            )
        indptr = offsets_of(keep)[self.matrix.indptr]
        return self._with_entries(keep, indptr, self.users)

    def select_users(self, rows: Any) -> Interactions:
        """Return some users' rows; the items stay as they are.

        Parameters
        ----------
        rows : (m,) integers, (n_users,) bool, or slice
            Rows in the order wanted, no repeats.
        """
        try:
            rows = np.arange(self.n_users)[rows]
        except IndexError as error:
            raise ValueError(f"rows do not fit {self.n_users} users: {error}") from error
        lengths = np.diff(self.matrix.indptr)[rows]
        indptr = offsets_of(lengths)
        entries = np.arange(indptr[-1]) + np.repeat(self.matrix.indptr[rows] - indptr[:-1], lengths)
        return self._with_entries(entries, indptr, self.users[rows])

    def save(self, folder: StrPath) -> None:
        """Write everything into ``folder`` (made when absent) as one safetensors file."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        tensors = {
            "indptr": self.matrix.indptr,
            "indices": self.matrix.indices,
            "values": self.matrix.data,
            **encode_ids("users", self.users),
            **encode_ids("items", self.items),
        }
        if self.timestamps is not None:
            tensors["timestamps"] = self.timestamps
        report = None if self.report is None else self.report.to_dict()
        header = {"format": _FORMAT, "shape": self.matrix.shape, "report": report}
        write_tensors(folder / _FILE, tensors, header)

    @classmethod
    def load(cls, folder: StrPath) -> Interactions:
        """Read what `save` wrote.

        Raises
        ------
        FileNotFoundError
            If ``folder`` holds no saved interactions.
        ValueError
            If the file is truncated, foreign or corrupt.
        """
        path = Path(folder) / _FILE
        tensors, header = read_tensors(path, _FORMAT)
        try:
            import scipy.sparse as sp

            matrix = sp.csr_array(tuple(header["shape"]), dtype=np.float32)
            matrix.data, matrix.indices = tensors["values"], tensors["indices"]
            matrix.indptr = tensors["indptr"]
            users, items = decode_ids("users", tensors), decode_ids("items", tensors)
            report = header["report"] and ReadReport(**header["report"])
            return cls(matrix, users, items, tensors.get("timestamps"), report)  # type: ignore[arg-type]
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path} is corrupt: {error}") from error

    def _with_entries(
        self, entries: NDArray[Any], indptr: NDArray[np.int64], users: NDArray[Any]
    ) -> Interactions:
        matrix = csr(
            self.matrix.data[entries],
            self.matrix.indices[entries],
            indptr,
            (len(users), self.n_items),
        )
        times = None if self.timestamps is None else self.timestamps[entries]
        return Interactions(matrix, users, self.items, times)


def _ids(ids: ArrayLike, n: int, name: str) -> NDArray[Any]:
    array = np.asarray(ids)
    if array.shape != (n,):
        raise ValueError(f"{name} must have shape ({n},), got {array.shape}")
    if array.dtype.kind in "iu":
        if n and array.max() > np.iinfo(np.int64).max:
            raise ValueError(f"{name} must fit in int64, got {array.max()}")
        array = array.astype(np.int64, copy=False)
    elif n == 0:
        array = array.astype(np.int64)
    else:
        array = array.astype(object, copy=False)
        if not all(isinstance(i, str) for i in array):
            raise TypeError(f"{name} must hold integers or strings, got dtype {array.dtype}")
    if len(set(array.tolist())) < n:
        raise ValueError(f"{name} must not repeat an id")
    return array


def _kind(ids: NDArray[Any]) -> str:
    return "strings" if ids.dtype == object else "integers"


def _times(timestamps: ArrayLike, given: Any, matrix: sp.csr_array) -> NDArray[Any]:
    times = np.asarray(timestamps)
    if times.dtype.kind not in "iuf":
        raise TypeError(f"timestamps must be numbers, got dtype {times.dtype}")
    if times.shape != (matrix.nnz,):
        raise ValueError(f"timestamps must have shape ({matrix.nnz},), got {times.shape}")
    indices: Any = given.indices if getattr(given, "format", "") == "csr" else None
    if indices is not matrix.indices and not np.array_equal(indices, matrix.indices):
        raise ValueError("with timestamps, matrix must be CSR, sorted and without duplicates")
    if not np.isfinite(times).all():
        raise ValueError("timestamps must not be NaN or infinite")
    return times.astype(np.float64 if times.dtype.kind == "f" else np.int64, copy=False)
