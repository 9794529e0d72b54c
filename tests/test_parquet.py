"""Interactions written as Parquet read back the same."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import scipy.sparse as sp

from pyrec.data import Interactions, parquet, read_interactions
from pyrec.data.parquet import id_array, write_item_lists, write_ratings, write_users

MATRIX = sp.csr_array(np.array([[1, 0, 1, 1], [0, 0, 0, 0], [0, 1, 0, 1]], np.float32))
USERS = np.array(["c", "a", "b"], dtype=object)
ITEMS = np.array([40, 30, 20, 10])
TIMES = np.array([5, 3, 4, 9, 8])


@pytest.fixture
def data() -> Interactions:
    return Interactions(MATRIX, USERS, ITEMS, TIMES)


def test_ratings_read_back(data, tmp_path):
    write_ratings(data, tmp_path / "r.parquet")
    table = pq.read_table(tmp_path / "r.parquet")
    assert table.to_pydict() == {
        "user_id": ["c", "c", "c", "b", "b"],
        "item_id": [40, 20, 10, 30, 10],
        "timestamp": [5, 3, 4, 9, 8],
    }
    back = read_interactions(tmp_path / "r.parquet")
    assert back.users.tolist() == ["b", "c"]
    assert back.items.tolist() == [10, 20, 30, 40]
    np.testing.assert_array_equal(back.matrix.toarray(), [[1, 0, 1, 0], [1, 1, 0, 1]])


def test_without_times_there_is_no_such_column(tmp_path):
    write_ratings(Interactions(MATRIX, USERS, ITEMS), tmp_path / "r.parquet")
    assert pq.read_schema(tmp_path / "r.parquet").names == ["user_id", "item_id"]


@pytest.mark.parametrize("batch", [1, 2, 3, 100])
def test_users_have_their_items_in_order_of_time(data, tmp_path, monkeypatch, batch):
    monkeypatch.setattr(parquet, "_BATCH_ROWS", batch)
    write_users(data, tmp_path / "u.parquet")
    table = pq.read_table(tmp_path / "u.parquet")
    assert table["user_id"].to_pylist() == ["c", "a", "b"]
    assert table["items"].to_pylist() == [[20, 10, 40], [], [10, 30]]


def test_item_lists(tmp_path):
    genres = np.array([[1, 0, 1], [0, 0, 0]])
    write_item_lists(["x", "y"], genres, ["drama", "war", "noir"], "genres", tmp_path / "i")
    assert pq.read_table(tmp_path / "i").to_pydict() == {
        "item_id": ["x", "y"],
        "genres": [["drama", "noir"], []],
    }


def test_id_array():
    assert id_array(["a", "b"]).type == pa.string()
    assert id_array(np.array([], dtype=object)).type == pa.string()
    assert id_array(np.array([1, 2])).type == pa.int64()
