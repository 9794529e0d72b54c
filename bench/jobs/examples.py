"""Training examples: conditioned batches, CFGAN's negatives, windows of sequences."""

from __future__ import annotations

from functools import cache

import numpy as np
import scipy.sparse as sp
from contest import Job, direct
from data import simulated

from pyrec import kernels
from pyrec.data import ItemConditions
from pyrec.samplers import ConditionedDataSampler

# As many genres as MovieLens has, two a film in the mean.
USERS, GENRES, ROWS, BATCHES = 5_000, 18, 500, 20


@cache
def conditioned_users():
    x = simulated("batches")[:USERS]
    rng = np.random.default_rng(0)
    genres = sp.csr_array((rng.random((x.shape[1], GENRES)) < 2 / GENRES).astype(np.float32))
    return x, genres


@cache
def chosen_examples():
    """The users and conditions of an epoch's first batches."""
    rows = kernels.ConditionedRows(*conditioned_users())
    numbers = kernels.permuted(0, ROWS * BATCHES, rows.n_examples, 0, 0)
    return np.stack(rows.examples(numbers), axis=1)


def pyrec(x, genres):
    sampler = ConditionedDataSampler(ItemConditions(genres), GENRES, x, None, ROWS, layout="csr")

    def run():
        sampler.epoch = 0
        for _, batch in zip(range(BATCHES), sampler, strict=False):
            result = batch
        return [sp.csr_array((b.values, b.indices, b.indptr), shape=b.shape) for b in result]

    return run


def scipy(x, genres):
    """A batch at a time by sparse products, as conditioned samplers are written today."""
    examples = chosen_examples()
    every = np.ones((1, x.shape[1]), np.float32)  # what an example without a condition asks for
    by_condition = sp.vstack([genres.T, sp.csr_array(every)], format="csr")

    def run():
        for begin in range(0, len(examples), ROWS):
            rows, conditions = examples[begin : begin + ROWS].T
            places = np.arange(len(rows)), np.where(conditions < 0, GENRES, conditions)
            ones = np.ones(len(rows), np.float32)
            chosen = sp.csr_array((ones, places), shape=(len(rows), GENRES + 1))
            some = x[rows]
            inputs = sp.hstack([some, chosen[:, :GENRES]], format="csr")
            targets = some.multiply(chosen @ by_condition > 0).tocsr()
            targets.sort_indices()
        return inputs, targets

    return run


def check_conditioned(inputs, answer, way):
    x, genres = inputs
    batch, targets = answer
    rows, conditions = chosen_examples()[-ROWS:].T
    np.testing.assert_array_equal(batch.toarray()[:, : x.shape[1]], x[rows].toarray())
    has = np.vstack([genres.toarray().T, np.ones(x.shape[1])])[conditions]  # -1: all
    np.testing.assert_array_equal(targets.toarray(), x[rows].toarray() * has)


def of_rows(kernel):
    """A kernel of conditioned batches on its own: the first 10,000 examples of an epoch at once."""

    def make(x, genres):
        chosen = tuple(np.ascontiguousarray(part) for part in chosen_examples().T)
        rows = kernels.ConditionedRows(x, genres)
        return lambda: getattr(rows, kernel)(chosen[0], chosen[1].astype(np.int32))

    return make


def scipy_inputs(x, genres):
    rows, conditions = chosen_examples().T
    places = np.flatnonzero(conditions >= 0), conditions[conditions >= 0]
    ones = np.ones(len(places[0]), np.float32)

    def run():
        chosen = sp.csr_array((ones, places), shape=(len(rows), GENRES))
        both = sp.hstack([x[rows], chosen], format="csr")
        return both.indptr, both.indices, both.data

    return run


def scipy_targets(x, genres):
    rows, conditions = chosen_examples().T
    every = sp.csr_array(np.ones((1, x.shape[1]), np.float32))
    by_condition = sp.vstack([genres.T, every], format="csr")

    def run():
        targets = x[rows].multiply(by_condition[conditions]).tocsr()
        targets.sort_indices()
        return targets.indptr, targets.indices, targets.data

    return run


def same_parts(make):
    def check(inputs, answer, way):
        for part, expected in zip(answer, make(*inputs)(), strict=True):
            np.testing.assert_array_equal(part, expected)

    return check


def scipy_examples(x, genres):
    """The list of all users' conditions: how many items of each a user knows."""
    known = (x @ genres).tocsr()
    users = np.repeat(np.arange(x.shape[0]), np.diff(known.indptr))
    return len(users) + x.shape[0], known.data.sum()


def count_examples(x, genres):
    return kernels.ConditionedRows(x, genres).n_examples, None


def check_count(inputs, answer, way):
    assert answer[0] == scipy_examples(*inputs)[0]


def look_up(x, genres):
    rows = kernels.ConditionedRows(x, genres)
    numbers = kernels.permuted(0, rows.n_examples, rows.n_examples, 0, 0)
    return lambda: rows.examples(numbers)


def numpy_look_up(x, genres):
    """From the list of all examples, which pyrec does not keep."""
    rows = kernels.ConditionedRows(x, genres)
    numbers = kernels.permuted(0, rows.n_examples, rows.n_examples, 0, 0)
    users, conditions = rows.examples(np.arange(rows.n_examples))
    return lambda: (users[numbers], conditions[numbers])


def check_examples(inputs, answer, way):
    np.testing.assert_array_equal(answer, numpy_look_up(*inputs)())


def balanced(x, genres):
    rows = kernels.ConditionedRows(x, genres)
    return lambda: rows.balanced(1_000, 0, 0)


def numpy_balanced(x, genres):
    rows = kernels.ConditionedRows(x, genres)
    _, conditions = rows.examples(np.arange(rows.n_examples))

    def run():
        rng = np.random.default_rng(0)
        of_each = (np.flatnonzero(conditions == c) for c in range(-1, GENRES))
        return np.concatenate([rng.choice(some, min(1_000, len(some)), False) for some in of_each])

    return run


def check_balanced(inputs, numbers, way):
    rows = kernels.ConditionedRows(*inputs)
    _, conditions = rows.examples(np.ascontiguousarray(numbers))
    found, counts = np.unique(conditions[conditions >= 0], return_counts=True)
    assert len(found) == GENRES
    assert (counts == 1_000).all()


def observed():
    return (simulated("batches")[:256],)


def native_masks(batch):
    indptr, indices = batch.indptr.astype(np.int64), batch.indices.astype(np.int32)
    memory = np.empty(batch.shape, bool)

    def run():
        kernels.negatives(indptr, indices, batch.shape[1], 0.5, 0, 1, memory)
        return memory

    return run


def argpartition_masks(batch):
    """Random keys, a user at a time; the share of smallest keys among the unobserved items."""
    rng = np.random.default_rng(1)
    out = np.zeros(batch.shape, bool)
    for user, row in enumerate(out):
        keys = rng.random(len(row), dtype=np.float32)
        seen = batch.indices[batch.indptr[user] : batch.indptr[user + 1]]
        keys[seen] = 2
        size = round(0.5 * (len(row) - len(seen)))
        row[np.argpartition(keys, size)[:size]] = True
    return out


def choice_masks(batch):
    """What CFGAN's implementations do: `choice` from a list of items, a user at a time."""
    rng = np.random.default_rng(1)
    out = np.zeros(batch.shape, bool)
    for user, row in enumerate(out):
        seen = batch.indices[batch.indptr[user] : batch.indptr[user + 1]]
        unobserved = np.setdiff1d(np.arange(len(row)), seen, assume_unique=True)
        size = round(0.5 * len(unobserved))
        row[rng.choice(unobserved, size, replace=False)] = True
    return out


def check_masks(inputs, out, way):
    (batch,) = inputs
    assert not out[batch.nonzero()].any()
    unobserved = batch.shape[1] - np.diff(batch.indptr)
    np.testing.assert_array_equal(out.sum(1), np.rint(0.5 * unobserved))


def sequences():
    x = simulated("batches")[:USERS]
    offsets, items = x.indptr.astype(np.int64), x.indices.astype(np.int32)
    return offsets, items, x.shape[1], np.flatnonzero(np.diff(offsets) > 1)[:64]


def native_windows(offsets, items, n_items, users):
    return kernels.windows(offsets, items, n_items, users, 4, True)


def python_windows(offsets, items, n_items, users):
    rows, inputs = [], []
    for s in (items[offsets[u] : offsets[u + 1]].tolist() for u in users):
        for t in range(len(s) - 1):
            inputs.append(s[t])
            rows.append(sorted(set(s[t + 1 : t + 5])))
    return None, np.array(inputs), None, np.concatenate(rows), None


def check_windows(inputs, answer, way):
    expected = python_windows(*inputs)
    np.testing.assert_array_equal(answer[1], expected[1])
    np.testing.assert_array_equal(answer[3], expected[3])


JOBS = [
    Job(
        f"conditioned sampling, {ROWS * BATCHES:,} examples, CSR",
        conditioned_users,
        {"pyrec": pyrec, "scipy": scipy},
        check_conditioned,
    ),
    Job(
        f"inputs of {ROWS * BATCHES:,} conditioned examples",
        conditioned_users,
        {"pyrec": of_rows("inputs"), "scipy": scipy_inputs},
        same_parts(scipy_inputs),
        kernel=True,
    ),
    Job(
        f"targets of {ROWS * BATCHES:,} conditioned examples",
        conditioned_users,
        {"pyrec": of_rows("targets"), "scipy": scipy_targets},
        same_parts(scipy_targets),
        kernel=True,
    ),
    Job(
        f"conditions of {USERS:,} users",
        conditioned_users,
        {"pyrec": direct(count_examples), "scipy": direct(scipy_examples)},
        check_count,
        kernel=True,
    ),
    Job(
        f"conditioned examples of {USERS:,} users in random order",
        conditioned_users,
        {"pyrec": look_up, "NumPy, with a list of all": numpy_look_up},
        check_examples,
        kernel=True,
    ),
    Job(
        "balanced conditions, 1,000 examples of each of 18",
        conditioned_users,
        {"pyrec": balanced, "NumPy, with a list of all": numpy_balanced},
        check_balanced,
        kernel=True,
    ),
    Job(
        "CFGAN masks, 256 users, half of 20,108 items",
        observed,
        {
            "pyrec": native_masks,
            "argpartition": direct(argpartition_masks),
            "NumPy's choice": direct(choice_masks),
        },
        check_masks,
        goal=3.07e-3,
    ),
    Job(
        "windows of 4 items, 64 sequences",
        sequences,
        {"pyrec": direct(native_windows), "Python": direct(python_windows)},
        check_windows,
    ),
]
