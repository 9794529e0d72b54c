"""Batches of 500 users of 20,108 items: the next rows of a shuffled epoch, with dropout where it says so."""

import numpy as np
import pytest
import torch
from conftest import simulated

from pyrec import kernels
from pyrec.kernels.tensors import Csr
from pyrec.layers import drop, normalize
from pyrec.samplers import DataSampler

ROWS, BATCHES = 500, 100


@pytest.fixture(scope="module")
def x():
    return simulated("20M")[: ROWS * BATCHES]


def take(sampler):
    """All batches of an epoch: the last one to compare."""
    for tr, _ in sampler:  # noqa: B007
        pass
    return tr


def scipy(x, order):
    for begin in range(0, len(order), ROWS):
        batch = torch.from_numpy(x[order[begin : begin + ROWS]].toarray())
    return batch


@pytest.mark.benchmark(group="sampling 50,000 users, dense")
@pytest.mark.parametrize("way", ["pyrec", "scipy"])
def test_dense(measured, x, way):
    order = kernels.permuted(0, x.shape[0], x.shape[0], 0, 0)
    sampler = DataSampler(x, batch_size=ROWS)

    def pyrec():
        sampler.epoch = 0
        return take(sampler)

    batch = measured(pyrec) if way == "pyrec" else measured(scipy, x, order)
    np.testing.assert_array_equal(batch, x[order[-ROWS:]].toarray())


@pytest.mark.benchmark(group="sampling 50,000 users, CSR with dropout")
@pytest.mark.parametrize("way", ["pyrec", "scipy_torch"])
def test_sparse(measured, x, way):
    order = kernels.permuted(0, x.shape[0], x.shape[0], 0, 0)
    sampler = DataSampler(x, batch_size=ROWS, layout="csr")

    def pyrec():
        sampler.epoch = 0
        for tr, _ in sampler:
            batch = drop(normalize(tr), 0.5, training=True)
        return batch

    def scipy_torch():
        """The non-zeros alone, as careful code would: rows by SciPy, the rest by torch."""
        for begin in range(0, len(order), ROWS):
            some = x[order[begin : begin + ROWS]]
            counts = torch.from_numpy(np.diff(some.indptr))
            values = torch.from_numpy(some.data)
            norms = torch.segment_reduce(values.square(), "sum", lengths=counts).sqrt()
            values = values / torch.repeat_interleave(norms, counts)
            batch = Csr.from_scipy(some).with_values(torch.nn.functional.dropout(values, 0.5))
        return batch

    batch = measured({"pyrec": pyrec, "scipy_torch": scipy_torch}[way])
    np.testing.assert_array_equal(batch.indices, x[order[-ROWS:]].indices)
    assert 0.45 < (batch.values > 0).float().mean() < 0.55
