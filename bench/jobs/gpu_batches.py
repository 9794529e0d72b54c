"""Batches and training examples that a GPU makes, beside plain torch there.

The data lies on the device already. The numbers of rows, examples and users come from the host for pyrec,
as its samplers have them; torch has them on the device.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import scipy.sparse as sp
from data import SHAPES, simulated

from jobs import examples
from jobs.gpu import DEVICE, ITEMS, USERS, OnDevice, here, kernel_job, moved, on_device
from pyrec import kernels
from pyrec.kernels.gpu import samplers
from pyrec.kernels.gpu.examples import ConditionedRows, Windows
from pyrec.kernels.tensors import Csr
from pyrec.machine import find_device

EVERYONE, _, ENTRIES = SHAPES["batches"]
EACH = ENTRIES // EVERYONE  # a user's interactions, in the mean
SHARE, REACH, EXAMPLES = 0.5, 4, 50_000
# Bytes of an entry of a CSR matrix: item and value; and of an offset.
ENTRY, OFFSET = 8, 8


def rows_in_order(n):
    """All users and the first n of them in random order."""
    x = simulated("batches")
    return x, kernels.permuted(0, min(n, x.shape[0]), x.shape[0], 0, 0)


def pyrec_rows(x, order):
    sampler = samplers.RowSampler(x, find_device(DEVICE))
    return OnDevice(partial(sampler.rows, order))


def gathered(x, rows):
    """Some rows of a Csr, entry by entry."""
    import torch

    counts = x.indptr.diff()[rows]
    indptr = torch.nn.functional.pad(counts.cumsum(0), (1, 0))
    places = torch.repeat_interleave(x.indptr[rows] - indptr[:-1], counts)
    places += torch.arange(len(places), device=places.device)
    return Csr(indptr, x.indices[places], x.values[places], x.n_cols)


def check_rows(inputs, answer, way):
    x, order = inputs
    assert_same_csr(answer, x[order])


def assert_same_csr(answer, expected):
    found = here(answer).to_csr()
    for part in ("indptr", "indices", "data"):
        np.testing.assert_array_equal(getattr(found, part), getattr(expected, part))


def pyrec_dense(x, order):
    """Into the same memory each time, as torch."""
    import torch

    sampler = samplers.RowSampler(x, find_device(DEVICE))
    out = torch.empty((len(order), x.shape[1]), device=DEVICE)

    def run():
        sampler.dense(order, out)
        return out

    return OnDevice(run)


def torch_dense(x, order):
    import torch

    out = torch.empty((len(order), x.n_cols), device=order.device)

    def run():
        some = gathered(x, order)
        out.zero_()
        out[some.rows(), some.indices.long()] = some.values
        return out

    return run


def check_dense(inputs, out, way):
    x, order = inputs
    np.testing.assert_array_equal(here(out).numpy(), x[order].toarray())


def pyrec_negatives(x):
    return partial(samplers.negatives, x, SHARE, 0, 1)


def torch_negatives(x):
    """Random keys; those of least rank, of which every user has another number."""
    import torch

    rows, items = x.rows(), x.indices.long()
    wanted = ((x.n_cols - x.indptr.diff()) * SHARE).round()[:, None]

    def run():
        keys = torch.rand(x.shape, device=x.device)
        keys[rows, items] = 2
        first = torch.arange(x.n_cols, device=x.device) < wanted
        return torch.empty_like(keys, dtype=torch.bool).scatter_(1, keys.argsort(1), first)

    return run


def check_negatives(inputs, out, way):
    examples.check_masks(inputs, here(out).numpy(), way)


def sequences():
    """Of all users with two items or more."""
    x = simulated("batches")
    offsets, items = x.indptr.astype(np.int64), x.indices.astype(np.int32)
    return offsets, items, x.shape[1], np.flatnonzero(np.diff(offsets) > 1)


def pyrec_windows(offsets, items, n_items, users):
    windows = Windows(offsets, items, n_items, REACH, True, device=find_device(DEVICE))

    def run():
        inputs, targets = windows.of(users)
        return inputs.items, targets

    return OnDevice(run)


def torch_windows(offsets, items, n_items, users):
    """All windows as the rows of a matrix; no user has an item twice."""
    import torch

    offsets, items, users = moved(offsets), moved(items), moved(users)

    def run():
        steps = offsets[users + 1] - offsets[users] - 1
        owners = torch.repeat_interleave(users, steps)
        shift = torch.repeat_interleave(offsets[users] + steps - steps.cumsum(0), steps)
        places = torch.arange(len(owners), device=users.device) + shift
        ahead = places[:, None] + torch.arange(1, REACH + 1, device=users.device)
        behind = ahead >= offsets[owners + 1][:, None]
        found = items[ahead.clamp_(max=len(items) - 1)].masked_fill_(behind, n_items)
        found = found.sort(1).values
        there = found < n_items
        sizes = there.sum(1)
        indptr = torch.nn.functional.pad(sizes.cumsum(0), (1, 0))
        values = torch.repeat_interleave(1 / sizes, sizes)
        return items[places], Csr(indptr, found[there], values, n_items)

    return OnDevice(run)


def check_windows(inputs, answer, way):
    _, items, *rest = kernels.windows(*inputs, REACH, True)
    found, targets = here(answer)
    np.testing.assert_array_equal(found, items)
    for part, expected in zip((targets.indptr, targets.indices), rest[:2], strict=True):
        np.testing.assert_array_equal(part, expected)
    np.testing.assert_allclose(targets.values, rest[2], rtol=1e-6)


def conditioned():
    """Histories, genres, and the first examples of an epoch."""
    x, genres = examples.conditioned_users()
    n = kernels.ConditionedRows(x, genres).n_examples
    return x, genres, kernels.permuted(0, min(EXAMPLES, n), n, 0, 0)


def pyrec_conditioned(x, genres, numbers):
    rows = ConditionedRows(x, genres, device=find_device(DEVICE))
    return OnDevice(lambda: (rows.inputs(numbers), rows.targets(numbers)))


def torch_conditioned(x, genres, numbers):
    """From the list of all examples, which pyrec does not keep, and a dense table of the genres' items."""
    import torch

    chosen = kernels.ConditionedRows(x, genres).examples(numbers)
    users, conditions = (moved(part.astype(np.int64)) for part in chosen)
    every = np.ones((1, x.shape[1]), bool)  # what an example without a condition, -1, asks for
    table = moved(np.vstack([genres.toarray().T > 0, every]))
    n_items, n_columns, x = x.shape[1], x.shape[1] + genres.shape[1], moved(x)

    def run():
        some = gathered(x, users)
        owners, asked = some.rows(), conditions >= 0
        before = torch.nn.functional.pad(asked.cumsum(0), (1, 0))
        indptr = some.indptr + before
        items = torch.empty(len(owners) + int(before[-1]), dtype=torch.int32, device=x.device)
        values = torch.ones_like(items, dtype=torch.float32)
        places = torch.arange(len(owners), device=x.device) + before[owners]
        items[places], values[places] = some.indices, some.values
        items[indptr[1:][asked] - 1] = (conditions[asked] + n_items).int()
        kept = table[conditions[owners], some.indices.long()]
        ends = torch.nn.functional.pad(kept.cumsum(0), (1, 0))[some.indptr]
        targets = Csr(ends, some.indices[kept], some.values[kept], n_items)
        return Csr(indptr, items, values, n_columns), targets

    return OnDevice(run)


def check_conditioned(inputs, answer, way):
    x, genres, numbers = inputs
    rows = kernels.ConditionedRows(x, genres)
    chosen = rows.examples(numbers)
    for found, take in zip(answer, (rows.inputs, rows.targets), strict=True):
        indptr, items, values = take(*chosen)
        assert_same_csr(found, sp.csr_array((values, items, indptr), shape=tuple(found.shape)))


# Steps of all sequences, and what follows them: less near a sequence's end.
STEPS = ENTRIES - EVERYONE
FOLLOWING = REACH * STEPS - EVERYONE * REACH * (REACH - 1) // 2

JOBS = [
    kernel_job(
        f"rows of a CSR matrix, {EVERYONE:,} in random order",
        partial(rows_in_order, EVERYONE),
        pyrec_rows,
        "torch, gathered",
        on_device(lambda x, order: partial(gathered, x, order)),
        check_rows,
        "one read, one write",
        copied=2 * ENTRY * ENTRIES,
    ),
    kernel_job(
        f"rows of a CSR matrix, {USERS:,} made dense",
        partial(rows_in_order, USERS),
        pyrec_dense,
        "torch, gathered",
        on_device(torch_dense),
        check_dense,
        "one write",
        written=4 * USERS * ITEMS,
    ),
    kernel_job(
        f"negatives, half of the items of {USERS:,} users",
        lambda: (simulated("batches")[:USERS],),
        on_device(pyrec_negatives),
        "torch, sorted keys",
        on_device(torch_negatives),
        check_negatives,
        "one write",
        written=USERS * ITEMS,
    ),
    kernel_job(
        f"windows of {REACH} items, {EVERYONE:,} sequences",
        sequences,
        pyrec_windows,
        "torch, a matrix",
        torch_windows,
        check_windows,
        "one write",
        written=ENTRY * FOLLOWING + 2 * OFFSET * STEPS,  # inputs are as wide as offsets
    ),
    kernel_job(
        f"{EXAMPLES:,} conditioned examples, inputs and targets",
        conditioned,
        pyrec_conditioned,
        "torch, gathered",
        torch_conditioned,
        check_conditioned,
        "one write of the inputs",
        written=EXAMPLES * (EACH * ENTRY + OFFSET),
    ),
]
