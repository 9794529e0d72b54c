"""Training examples of MovieLens-20M's shape: conditioned batches, CFGAN's negatives, windows of sequences."""

import numpy as np
import pytest
import scipy.sparse as sp
from conftest import simulated

from pyrec import kernels
from pyrec.data import ItemConditions
from pyrec.samplers import ConditionedDataSampler

# As many genres as MovieLens has, two a film in the mean.
USERS, GENRES, ROWS, BATCHES = 5_000, 18, 500, 20


@pytest.fixture(scope="module")
def x():
    return simulated("20M")[:USERS]


@pytest.fixture(scope="module")
def item_conditions(x):
    rng = np.random.default_rng(0)
    return sp.csr_array((rng.random((x.shape[1], GENRES)) < 2 / GENRES).astype(np.float32))


def scipy_batches(x, item_conditions, examples):
    """A batch at a time by sparse products, as conditioned samplers are written today."""
    every = np.ones((1, x.shape[1]), np.float32)  # what an example without a condition asks for
    by_condition = sp.vstack([item_conditions.T, sp.csr_array(every)], format="csr")
    for begin in range(0, len(examples), ROWS):
        rows, conditions = examples[begin : begin + ROWS].T
        places = np.arange(len(rows)), np.where(conditions < 0, GENRES, conditions)
        ones = np.ones(len(rows), np.float32)
        chosen = sp.csr_array((ones, places), shape=(len(rows), GENRES + 1))
        inputs = sp.hstack([x[rows], chosen[:, :GENRES]], format="csr")
        targets = x[rows].multiply(chosen @ by_condition > 0).tocsr()
        targets.sort_indices()
    return inputs, targets


@pytest.mark.benchmark(group="conditioned sampling, 10,000 examples, CSR")
@pytest.mark.parametrize("way", ["pyrec", "scipy"])
def test_conditioned(measured, x, item_conditions, way):
    sampler = ConditionedDataSampler(
        ItemConditions(item_conditions), GENRES, x, None, ROWS, layout="csr"
    )
    examples = kernels.ConditionedRows(x, item_conditions)
    numbers = kernels.permuted(0, ROWS * BATCHES, examples.n_examples, 0, 0)
    chosen = np.stack(examples.examples(numbers), axis=1)

    def pyrec():
        sampler.epoch = 0
        for _, batch in zip(range(BATCHES), sampler, strict=False):
            result = batch
        return [sp.csr_array((b.values, b.indices, b.indptr), shape=b.shape) for b in result]

    if way == "pyrec":
        inputs, targets = measured(pyrec)
    else:
        inputs, targets = measured(scipy_batches, x, item_conditions, chosen)
    rows, conditions = chosen[-ROWS:].T
    np.testing.assert_array_equal(inputs.toarray()[:, : x.shape[1]], x[rows].toarray())
    has = np.vstack([item_conditions.toarray().T, np.ones(x.shape[1])])[conditions]  # -1: all
    np.testing.assert_array_equal(targets.toarray(), x[rows].toarray() * has)


def argpartition_masks(x, share, step):
    """Random keys, a user at a time; the share of smallest keys among the unobserved items."""
    rng = np.random.default_rng(step)
    out = np.zeros(x.shape, bool)
    for user, row in enumerate(out):
        keys = rng.random(len(row), dtype=np.float32)
        seen = x.indices[x.indptr[user] : x.indptr[user + 1]]
        keys[seen] = 2
        size = round(share * (len(row) - len(seen)))
        row[np.argpartition(keys, size)[:size]] = True
    return out


def choice_masks(x, share, step):
    """What CFGAN's implementations do: `choice` from a list of items, a user at a time."""
    rng = np.random.default_rng(step)
    out = np.zeros(x.shape, bool)
    for user, row in enumerate(out):
        seen = x.indices[x.indptr[user] : x.indptr[user + 1]]
        unobserved = np.setdiff1d(np.arange(len(row)), seen, assume_unique=True)
        size = round(share * len(unobserved))
        row[rng.choice(unobserved, size, replace=False)] = True
    return out


@pytest.mark.benchmark(group="CFGAN masks, 256 users, half of 20,108 items")
@pytest.mark.parametrize("way", ["pyrec", "argpartition", "choice"])
def test_masks(measured, x, way):
    batch = x[:256]
    indptr, indices = batch.indptr.astype(np.int64), batch.indices.astype(np.int32)
    memory = np.empty(batch.shape, bool)

    def pyrec(batch, share, step):
        kernels.negatives(indptr, indices, batch.shape[1], share, 0, step, memory)
        return memory

    ways = {"pyrec": pyrec, "argpartition": argpartition_masks, "choice": choice_masks}
    out = measured(ways[way], batch, 0.5, 1)
    assert not out[batch.nonzero()].any()
    unobserved = batch.shape[1] - np.diff(batch.indptr)
    np.testing.assert_array_equal(out.sum(1), np.rint(0.5 * unobserved))


def python_windows(sequences, k):
    rows, inputs = [], []
    for s in sequences:
        for t in range(len(s) - 1):
            inputs.append(s[t])
            rows.append(sorted(set(s[t + 1 : t + 1 + k])))
    return np.array(inputs), np.concatenate(rows)


@pytest.mark.benchmark(group="windows of 4 items, 64 sequences")
@pytest.mark.parametrize("way", ["pyrec", "python"])
def test_windows(measured, x, way):
    offsets, items = x.indptr.astype(np.int64), x.indices.astype(np.int32)
    users = np.flatnonzero(np.diff(offsets) > 1)[:64]
    if way == "pyrec":
        _, inputs, _, indices, _ = measured(
            kernels.windows, offsets, items, x.shape[1], users, 4, True
        )
    else:
        lists = [items[offsets[u] : offsets[u + 1]].tolist() for u in users]
        inputs, indices = measured(python_windows, lists, 4)
    expected = python_windows([items[offsets[u] : offsets[u + 1]].tolist() for u in users], 4)
    np.testing.assert_array_equal(inputs, expected[0])
    np.testing.assert_array_equal(indices, expected[1])
