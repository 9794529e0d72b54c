"""Small models, users and expected lists for the tests of scoring."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import scipy.sparse as sp

from pyrec.data import Interactions
from pyrec.models import EASE

IDS = np.array(["apple", "bread", "cheese", "dill", "eggs"], dtype=object)
NUMBERS = np.array([10, 20, 30, 40, 50])
TRAIN = np.array(
    [[1, 1, 0, 0, 0], [1, 1, 1, 0, 0], [0, 1, 1, 0, 1], [1, 0, 0, 1, 0], [1, 1, 0, 0, 1]]
)


def trained(ids, model=None):
    model = EASE(lam=1.0) if model is None else model
    users = np.arange(len(TRAIN))
    model.train(TRAIN if ids is None else Interactions(sp.csr_array(TRAIN), users, ids))
    return model


def write(path, lists, users=None, kind=None, more=None, **options):
    users = pa.array(np.arange(100, 100 + len(lists)) if users is None else users)
    lists = lists if isinstance(lists, pa.Array) else pa.array(lists, kind)
    pq.write_table(pa.table({"user_id": users, "items": lists, **(more or {})}), path, **options)
    return path


def many_users(folder, rows=(20_000, 9_000, 17_000), n_items=60, seed=0):
    """An EASE of string ids, and a folder of files of users in several row groups."""
    rng = np.random.default_rng(seed)
    ids = np.array([f"item {j}" for j in rng.permutation(n_items)], dtype=object)
    model = EASE(lam=5.0)
    train = sp.csr_array((rng.random((400, n_items)) < 0.1).astype(np.float32))
    model.train(Interactions(train, np.arange(400), ids))
    folder.mkdir()
    for i, n in enumerate(rows):
        lengths = rng.integers(0, 9, n)
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
        values = pa.array(ids[rng.integers(0, n_items, lengths.sum())])
        lists = pa.ListArray.from_arrays(pa.array(offsets), values)
        write(folder / f"users-{i}.parquet", lists, np.arange(n) + 10**6 * i, row_group_size=5000)
    return model


def content(folder):
    """What a folder of recommendations holds, by the files' names."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def expected_rows(model, ids, histories, k, remove_seen=True, allowed=None):
    """Each user's (ids, scores), from the scores of all items."""
    position = {item: j for j, item in enumerate(ids)}
    rows = []
    for history in histories:
        known = {position[item] for item in history or [] if item in position}
        x = np.zeros((1, len(ids)), np.float32)
        x[0, list(known)] = 1
        scores = np.asarray(model.scores(sp.csr_array(x)))[0]
        if not known:
            scores = model.item_counts.astype(np.float32)
        ranked = sorted(range(len(ids)), key=lambda j: (-scores[j], j))
        kept = [
            j
            for j in ranked
            if not (remove_seen and j in known) and (allowed is None or ids[j] in allowed)
        ]
        rows.append(([ids[j] for j in kept[:k]], [scores[j] for j in kept[:k]]))
    return rows


def assert_rows(table, expected):
    assert table["items"].to_pylist() == [items for items, _ in expected]
    for found, (_, scores) in zip(table["scores"].to_pylist(), expected, strict=True):
        np.testing.assert_allclose(found, scores, rtol=1e-5, atol=1e-6)


HISTORIES = [
    ["apple"],
    ["dill", "apple", "dill"],
    [],
    None,
    ["eggs", None, "fish", "bread"],
    ["fish", "fish"],
    ["apple", "bread", "cheese", "dill", "eggs"],
]
