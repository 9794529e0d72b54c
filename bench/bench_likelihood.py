"""The multinomial likelihood of 500 rows of 20,108 logits and its gradient."""

import numpy as np
import pytest
import torch
from conftest import simulated

from pyrec.kernels import likelihood
from pyrec.kernels.tensors import Csr

ROWS = 500


@pytest.fixture(scope="module")
def batch():
    x = simulated("20M")[:ROWS]
    logits = torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    return logits, x


def plain(logits, target):
    """As it is written in most code: log_softmax times a dense target."""
    logits.grad = None
    loss = -(torch.log_softmax(logits, 1) * target).sum(1)
    loss.mean().backward()
    return loss.detach(), logits.grad


class Gathered:
    """As somebody who knows what memory costs would write it: no autograd, every result in place."""

    def __init__(self, logits, x):
        counts = torch.from_numpy(np.diff(x.indptr)).float()
        rows = torch.from_numpy(np.repeat(np.arange(ROWS), np.diff(x.indptr)))
        self.counts = counts[:, None]
        self.places = rows * x.shape[1] + torch.from_numpy(x.indices).long()
        self.rows, self.grad = rows, torch.empty_like(logits)

    def __call__(self, logits):
        most = logits.amax(1, keepdim=True)
        torch.sub(logits, most, out=self.grad).exp_()
        total = self.grad.sum(1, keepdim=True)
        lse = most + total.log()
        at = torch.zeros(ROWS).index_add_(0, self.rows, logits.view(-1)[self.places])
        self.grad.mul_(self.counts / (total * ROWS))
        ones = torch.full((len(self.places),), -1 / ROWS)
        self.grad.view(-1).index_add_(0, self.places, ones)
        return (self.counts * lse).squeeze(1) - at, self.grad


@pytest.mark.benchmark(group="likelihood and gradient, 500 rows")
@pytest.mark.parametrize("way", ["pyrec", "torch", "torch_in_place"])
def test_likelihood(measured, batch, way):
    logits, x = batch
    target = torch.from_numpy(x.toarray())
    own = logits.clone().requires_grad_()
    expected = plain(own, target)
    if way == "pyrec":
        csr = Csr.from_scipy(x)
        kept = logits.clone()
        loss = likelihood.nll_in_place(kept, csr, None, 1 / ROWS)
        torch.testing.assert_close((loss, kept), expected, rtol=1e-4, atol=1e-6)
        # In place: from the second round on the logits are gradients, whose likelihood costs the same.
        measured(likelihood.nll_in_place, kept, csr, None, 1 / ROWS, rounds=40)
    elif way == "torch":
        measured(plain, own, target, rounds=10)
    else:
        result = measured(Gathered(logits, x), logits, rounds=20)
        torch.testing.assert_close(result, expected, rtol=1e-4, atol=1e-6)
