"""The multinomial likelihood of 500 rows of 20,108 logits and its gradient."""

from __future__ import annotations

import numpy as np
from contest import Floor, Job
from data import simulated

from pyrec.kernels import likelihood
from pyrec.kernels.tensors import Csr

ROWS = 500


def batch():
    import torch

    x = simulated("batches")[:ROWS]
    return torch.randn(x.shape, generator=torch.Generator().manual_seed(0)), x


def plain(logits, x):
    """As it is written in most code: log_softmax times a dense target, and autograd."""
    import torch

    logits, target = logits.clone().requires_grad_(), torch.from_numpy(x.toarray())

    def run():
        logits.grad = None
        loss = -(torch.log_softmax(logits, 1) * target).sum(1)
        loss.mean().backward()
        return loss.detach(), logits.grad

    return run


def torch_in_place(logits, x):
    """As somebody who knows what memory costs would write it: no autograd, every result in place."""
    import torch

    counts = torch.from_numpy(np.diff(x.indptr)).float()
    rows = torch.from_numpy(np.repeat(np.arange(ROWS), np.diff(x.indptr)))
    places = rows * x.shape[1] + torch.from_numpy(x.indices).long()
    grad = torch.empty_like(logits)

    def run():
        most = logits.amax(1, keepdim=True)
        torch.sub(logits, most, out=grad).exp_()
        total = grad.sum(1, keepdim=True)
        lse = (most + total.log()).squeeze(1)
        at = torch.zeros(ROWS).index_add_(0, rows, logits.view(-1)[places])
        grad.mul_(counts[:, None] / (total * ROWS))
        grad.view(-1).index_add_(0, places, torch.full((len(places),), -1 / ROWS))
        return counts * lse - at, grad

    return run


def in_place(logits, x):
    """From the second run on the logits are gradients, whose likelihood costs the same."""
    csr, kept = Csr.from_scipy(x), logits.clone()
    return lambda: (likelihood.nll_in_place(kept, csr, None, 1 / ROWS), kept)


def check(inputs, answer, way):
    import torch

    torch.testing.assert_close(answer, plain(*inputs)(), rtol=1e-4, atol=1e-6)


def forward(logits, x):
    csr = Csr.from_scipy(x)
    return lambda: likelihood.nll(logits, csr, None)


def torch_forward(logits, x):
    import torch

    counts = torch.from_numpy(np.diff(x.indptr))
    rows = torch.repeat_interleave(torch.arange(ROWS), counts)
    items = torch.from_numpy(x.indices).long()

    def run():
        lse = torch.logsumexp(logits, 1)
        at = torch.zeros(ROWS).index_add_(0, rows, logits[rows, items])
        return counts * lse - at, lse

    return run


def check_forward(inputs, answer, way):
    import torch

    torch.testing.assert_close(answer, torch_forward(*inputs)(), rtol=1e-5, atol=1e-4)


def backward(logits, x):
    """The gradient where it may not take the logits' place."""
    import torch

    csr, scale = Csr.from_scipy(x), torch.full((ROWS,), 1 / ROWS)
    lse = torch.logsumexp(logits, 1)
    return lambda: likelihood.nll_grad(logits, csr, None, lse, scale)


def torch_backward(logits, x):
    import torch

    target = torch.from_numpy(x.toarray())
    counts, lse = target.sum(1, keepdim=True), torch.logsumexp(logits, 1, keepdim=True)
    return lambda: (torch.exp(logits - lse) * counts).sub_(target).div_(ROWS)


def check_backward(inputs, answer, way):
    import torch

    torch.testing.assert_close(answer, torch_backward(*inputs)(), rtol=1e-4, atol=1e-6)


JOBS = [
    Job(
        "likelihood and gradient, 500 rows",
        batch,
        {"pyrec": in_place, "torch in place": torch_in_place, "torch": plain},
        check,
        Floor("one read, one write", copied=2 * 4 * ROWS * 20_108),
        goal=3.5e-3,
    ),
    Job(
        "likelihood forward, 500 rows",
        batch,
        {"pyrec": forward, "torch": torch_forward},
        check_forward,
        Floor("one read", read=4 * ROWS * 20_108),
        kernel=True,
    ),
    Job(
        "likelihood backward, 500 rows",
        batch,
        {"pyrec": backward, "torch": torch_backward},
        check_backward,
        Floor("one read, one write", copied=2 * 4 * ROWS * 20_108),
        kernel=True,
    ),
]
