"""Batches of 500 users of 20,108 items: the next rows of a shuffled epoch, and what is done to them."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
from contest import Floor, Job, direct
from data import simulated

from pyrec import kernels
from pyrec.kernels import tensors
from pyrec.kernels.tensors import Csr
from pyrec.layers import drop, normalize
from pyrec.samplers import DataSampler

ROWS, BATCHES, SHARE = 500, 100, 0.5
USERS = ROWS * BATCHES


def users():
    return (simulated("batches")[:USERS],)


def order(n=USERS):
    return kernels.permuted(0, n, n, 0, 0)


def epoch(layout, use):
    """All batches of an epoch; the last one comes back."""

    def make(x):
        sampler = DataSampler(x, batch_size=ROWS, layout=layout)

        def run():
            sampler.epoch = 0
            for tr, _ in sampler:
                batch = use(tr)
            return batch

        return run

    return make


def scipy_dense(x):
    import torch

    rows = order()

    def run():
        for begin in range(0, USERS, ROWS):
            batch = torch.from_numpy(x[rows[begin : begin + ROWS]].toarray())
        return batch

    return run


def scipy_into(x):
    """As careful code would, into the same memory each time."""
    import torch

    rows, out = order(), np.empty((ROWS, x.shape[1]), np.float32)

    def run():
        for begin in range(0, USERS, ROWS):
            batch = torch.from_numpy(x[rows[begin : begin + ROWS]].toarray(out=out))
        return batch

    return run


def scipy_torch(x):
    """The non-zeros alone, as careful code would: rows by SciPy, the rest by torch."""
    rows = order()

    def run():
        for begin in range(0, USERS, ROWS):
            batch = torch_drop(torch_normalize(Csr.from_scipy(x[rows[begin : begin + ROWS]])))
        return batch

    return run


def torch_normalize(x):
    import torch

    counts = x.indptr.diff()
    norms = torch.segment_reduce(x.values.square(), "sum", lengths=counts).sqrt()
    return x.with_values(x.values / torch.repeat_interleave(norms, counts))


def torch_drop(x):
    import torch

    return x.with_values(torch.nn.functional.dropout(x.values, SHARE))


def check_dense(inputs, batch, way):
    (x,) = inputs
    np.testing.assert_array_equal(batch, x[order()[-ROWS:]].toarray())


def check_sparse(inputs, batch, way):
    (x,) = inputs
    expected = torch_normalize(Csr.from_scipy(x[order()[-ROWS:]]))
    np.testing.assert_array_equal(batch.indices, expected.indices)
    check_dropped((expected,), batch, way)


def batch():
    return (Csr.from_scipy(simulated("batches")[:USERS:10]),)


def check_normalized(inputs, result, way):
    (x,) = inputs
    np.testing.assert_allclose(result.values, torch_normalize(x).values, rtol=1e-6)


def check_dropped(inputs, result, way):
    (x,) = inputs
    kept = result.values > 0
    np.testing.assert_allclose(result.values[kept], x.values[kept] / (1 - SHARE), rtol=1e-6)
    assert abs(kept.float().mean() - (1 - SHARE)) < 5 * (SHARE * (1 - SHARE) / len(kept)) ** 0.5


def check_order(inputs, numbers, way):
    np.testing.assert_array_equal(np.sort(numbers), np.arange(inputs[0]))


def take_rows(x):
    sampler, rows = kernels.RowSampler(x), order()
    return lambda: sampler.rows(rows)


def scipy_rows(x):
    rows = order()

    def run():
        taken = x[rows]
        return taken.indptr, taken.indices, taken.data

    return run


def check_rows(inputs, taken, way):
    expected = inputs[0][order()]
    for part, wanted in zip(taken, (expected.indptr, expected.indices, expected.data), strict=True):
        np.testing.assert_array_equal(part, wanted)


def take_dense(x):
    sampler, rows = kernels.RowSampler(x), order()[:ROWS]
    out = np.empty((ROWS, x.shape[1]), np.float32)

    def run():
        sampler.dense(rows, out)
        return out

    return run


def numpy_dense(x):
    """Into the same memory each time, as pyrec."""
    some = x[order()[:ROWS]]
    rows = np.repeat(np.arange(ROWS), np.diff(some.indptr))
    out = np.empty(some.shape, np.float32)

    def run():
        out.fill(0)
        out[rows, some.indices] = some.data
        return out

    return run


def check_dense_rows(inputs, out, way):
    np.testing.assert_array_equal(out, inputs[0][order()[:ROWS]].toarray())


def dense_rows():
    return (np.ascontiguousarray(simulated("batches")[:ROWS].toarray()),)


def check_nonzeros(inputs, result, way):
    expected = sp.csr_array(inputs[0])
    indptr, indices = result[:2]
    np.testing.assert_array_equal(indptr, expected.indptr)
    np.testing.assert_array_equal(indices, expected.indices)


def numpy_nonzeros(x):
    rows, columns = np.nonzero(x)
    return np.searchsorted(rows, np.arange(len(x) + 1)), columns, x[rows, columns]


JOBS = [
    Job(
        f"sampling {USERS:,} users, dense",
        users,
        {
            "pyrec": epoch("dense", lambda tr: tr),
            "scipy into one array": scipy_into,
            "scipy": scipy_dense,
        },
        check_dense,
        Floor("one write", written=4 * USERS * 20_108),
        goal=0.1,
    ),
    Job(
        f"sampling {USERS:,} users, CSR with dropout",
        users,
        {
            "pyrec": epoch("csr", lambda tr: drop(normalize(tr), SHARE, training=True)),
            "scipy and torch": scipy_torch,
        },
        check_sparse,
        goal=0.01,
    ),
    Job(
        f"{USERS:,} rows of a CSR in random order",
        users,
        {"pyrec": take_rows, "scipy": scipy_rows},
        check_rows,
        Floor("one read, one write", copied=2 * 8 * 3_660_000),
        kernel=True,
    ),
    Job(
        f"{ROWS} rows of a CSR as a dense matrix",
        users,
        {"pyrec": take_dense, "NumPy": numpy_dense},
        check_dense_rows,
        Floor("one write", written=4 * ROWS * 20_108),
        kernel=True,
    ),
    Job(
        "rows of a CSR divided by their norms",
        batch,
        {"pyrec": direct(tensors.normalize_rows), "torch": direct(torch_normalize)},
        check_normalized,
        kernel=True,
    ),
    Job(
        "dropout of a CSR",
        batch,
        {"pyrec": direct(lambda x: tensors.drop(x, SHARE)), "torch": direct(torch_drop)},
        check_dropped,
        kernel=True,
    ),
    Job(
        "order of an epoch, 1,000,000 users",
        lambda: (1_000_000,),
        {
            "pyrec": direct(order),
            "NumPy": direct(lambda n: np.random.default_rng(0).permutation(n)),
        },
        check_order,
        kernel=True,
    ),
    Job(
        f"non-zeros of {ROWS} dense rows",
        dense_rows,
        {"pyrec": direct(kernels.nonzeros), "NumPy": direct(numpy_nonzeros)},
        check_nonzeros,
        Floor("two reads", read=2 * 4 * ROWS * 20_108),
        kernel=True,
    ),
]
