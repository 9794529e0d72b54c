"""Interactions as Parquet, in the forms that reading and scoring take."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import ArrayLike, NDArray

from pyrec.files import StrPath, atomic_write

from .csr import as_csr, rows_of
from .interactions import Interactions

__all__ = ["id_array", "write_item_lists", "write_ratings", "write_users"]

_BATCH_ROWS = 65_536


def id_array(ids: ArrayLike) -> pa.Array:
    """Return ids as an Arrow array: strings, or integers of their width."""
    array = np.asarray(ids)
    if array.dtype.kind in "OUT":
        return pa.array(array.astype(object), pa.string())
    return pa.array(array)


def write_ratings(data: Interactions, path: StrPath) -> None:
    """Write one row an interaction: ``user_id``, ``item_id`` and, where known, ``timestamp``."""
    columns = {
        "user_id": id_array(data.users).take(pa.array(rows_of(data.matrix.indptr))),
        "item_id": id_array(data.items).take(pa.array(data.matrix.indices)),
    }
    if data.timestamps is not None:
        columns["timestamp"] = pa.array(data.timestamps)
    with atomic_write(path) as temporary:
        pq.write_table(pa.table(columns), temporary, compression="zstd")


def write_users(data: Interactions, path: StrPath) -> None:
    """Write one row a user: ``user_id`` and ``items``, the user's item ids in order of time."""
    histories = data.sequences()
    users, items = id_array(data.users), id_array(data.items)
    schema = pa.schema({"user_id": users.type, "items": pa.list_(items.type)})
    with (
        atomic_write(path) as temporary,
        pq.ParquetWriter(temporary, schema, compression="zstd") as writer,
    ):
        for begin in range(0, data.n_users, _BATCH_ROWS):
            block = histories[begin : begin + _BATCH_ROWS]
            lists = _lists(block.offsets, items.take(pa.array(block.items)))
            columns = [users[begin : begin + _BATCH_ROWS], lists]
            writer.write_table(pa.Table.from_arrays(columns, schema=schema))


def write_item_lists(
    items: ArrayLike, matrix: Any, names: Sequence[str], name: str, path: StrPath
) -> None:
    """Write one row an item: ``item_id`` and a list of names, for example its genres.

    Parameters
    ----------
    items : (n_items,) integers or strings
        Item ids.
    matrix : (n_items, m) anything that `pyrec.data.as_csr` takes
        Item ``i`` has the names ``j`` where the matrix is not 0.
    names : (m,) list of str
    name : str
        What the column of lists is called.
    path : path
    """
    has = as_csr(matrix, len(names), name)
    lists = _lists(has.indptr, pa.array(names).take(pa.array(has.indices)))
    with atomic_write(path) as temporary:
        pq.write_table(pa.table({"item_id": id_array(items), name: lists}), temporary)


def _lists(offsets: NDArray[Any], values: pa.Array) -> pa.Array:
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), values)
