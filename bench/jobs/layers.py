"""The kernels under networks and linear models that no job of its own shows: products of sparse rows."""

from __future__ import annotations

from functools import partial

import numpy as np
from contest import Floor, Job, direct
from data import simulated

from jobs.ease import matrix
from jobs.topk import sparse_histories
from pyrec import kernels
from pyrec.kernels import tensors
from pyrec.kernels.slim import PackedInverse
from pyrec.kernels.tensors import Csr

ROWS, HIDDEN = 500, 600


def layer():
    """A batch, the first layer's weights and a gradient of its output."""
    import torch

    x = Csr.from_scipy(simulated("batches")[:ROWS])
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(x.n_cols, HIDDEN, generator=generator)
    return x, weight, torch.randn(ROWS, HIDDEN, generator=generator)


def bag(x, weight, values=None):
    import torch

    items, offsets = x.indices.long(), x.indptr[:-1].long()
    values = x.values if values is None else values
    return torch.nn.functional.embedding_bag(
        items, weight, offsets, mode="sum", per_sample_weights=values
    )


def pyrec_forward(x, weight, grad):
    return tensors.sparse_linear(x, weight)


def torch_forward(x, weight, grad):
    return bag(x, weight)


def weight_grad(product):
    def make(x, weight, grad):
        weight = weight.clone().requires_grad_()

        def run():
            weight.grad = None
            product(x, weight).backward(grad)
            return weight.grad

        return run

    return make


def pyrec_value_grad(x, weight, grad):
    values = x.values.clone().requires_grad_()

    def run():
        values.grad = None
        tensors.sparse_linear(x.with_values(values), weight).backward(grad)
        return values.grad

    return run


def torch_value_grad(x, weight, grad):
    values = x.values.clone().requires_grad_()

    def run():
        values.grad = None
        bag(x, weight, values).backward(grad)
        return values.grad

    return run


def same_as(make):
    """The yardstick's answer is what is expected."""

    def check(inputs, answer, way):
        import torch

        torch.testing.assert_close(answer, make(*inputs)(), rtol=1e-4, atol=1e-3)

    return check


def scipy_scores(x, weights):
    return (x @ weights).toarray()


def check_scores(inputs, scores, way):
    np.testing.assert_allclose(scores, scipy_scores(*inputs), rtol=1e-4, atol=1e-5)


def inverse(n):
    return (np.ascontiguousarray(matrix(n)[0] / n),)


def numpy_ease(p):
    """In place, as pyrec's: from run to run on what the last one left, at the same cost."""
    p /= -np.diagonal(p).copy()
    np.fill_diagonal(p, 0)
    np.fill_diagonal(p, 1)
    return p


def pyrec_ease(p):
    kernels.ease_weights(p)
    np.fill_diagonal(p, 1)
    return p


def of_a_copy(function):
    return lambda p: partial(function, p.copy())


def check_ease(inputs, weights, way):
    (p,) = inputs
    expected = -p / np.diagonal(p)
    np.fill_diagonal(expected, 1)
    np.testing.assert_allclose(weights, expected, rtol=1e-5)


def packing(p):
    """Beside a copy of the matrix, which is part of it: the given one stays."""
    memory = PackedInverse.memory(len(p))

    def run():
        memory[:] = p
        return PackedInverse(memory, overwrite=True)

    return run


def check_packed(inputs, answer, way):
    """The same numbers, in another order."""
    panels = answer.panels if way == "pyrec" else answer
    np.testing.assert_allclose(np.sort(panels, None)[-100:], np.sort(inputs[0], None)[-100:])


def copying(p):
    out = np.empty_like(p)

    def run():
        np.copyto(out, p)
        return out

    return run


JOBS = [
    Job(
        f"first layer, {ROWS} histories to {HIDDEN}",
        layer,
        {"pyrec": direct(pyrec_forward), "torch": direct(torch_forward)},
        same_as(direct(torch_forward)),
        kernel=True,
    ),
    Job(
        f"first layer's gradient, {ROWS} histories to {HIDDEN}",
        layer,
        {"pyrec": weight_grad(tensors.sparse_linear), "torch": weight_grad(bag)},
        same_as(weight_grad(bag)),
        kernel=True,
    ),
    Job(
        f"first layer's gradient of the entries, {ROWS} histories to {HIDDEN}",
        layer,
        {"pyrec": pyrec_value_grad, "torch": torch_value_grad},
        same_as(torch_value_grad),
        kernel=True,
    ),
    Job(
        f"scores of {ROWS} histories, sparse weights of 8,000 items",
        lambda: sparse_histories("8,000 items", ROWS),
        {"pyrec": direct(kernels.scores_sparse_weights), "scipy": direct(scipy_scores)},
        check_scores,
        kernel=True,
    ),
    Job(
        "weights of EASE from an inverse of 3,416 rows",
        lambda: inverse(3416),
        {"pyrec": of_a_copy(pyrec_ease), "NumPy": of_a_copy(numpy_ease)},
        check_ease,
        Floor("one read, one write", copied=2 * 4 * 3416**2),
        kernel=True,
    ),
    Job(
        "packing an inverse of 3,416 rows",
        lambda: inverse(3416),
        {"pyrec": packing, "a mere copy": copying},
        check_packed,
        Floor("one read, one write", copied=2 * 4 * 3416**2),
        kernel=True,
    ),
]
