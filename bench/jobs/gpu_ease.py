"""EASE on a GPU: its Gram matrix, its fit, and a million users' lists, beside plain torch."""

from __future__ import annotations

from functools import cache, partial

import numpy as np
from contest import Floor
from data import SHAPES, simulated

from jobs.ease import LAM, check_weights
from jobs.gpu import DEVICE, USERS, GpuJob, K, OnDevice, first_layer_in_torch, here, on_device
from pyrec.kernels.gpu import solvers
from pyrec.kernels.tensors import Csr

SCORED = 1_000_000


def fit(x):
    """From a matrix on the host to weights on the host."""

    def run():
        from pyrec.models import EASE

        model = EASE(LAM)
        model.train(x, device=DEVICE)
        return model.weights

    return OnDevice(run)


def fit_in_torch(x):
    """The Gram matrix from dense blocks of users, a general inverse."""
    import torch

    def run():
        n = x.shape[1]
        g = torch.zeros(n, n, device=DEVICE)
        for begin in range(0, x.shape[0], USERS):
            block = Csr.from_scipy(x[begin : begin + USERS]).to(DEVICE).dense()
            g.addmm_(block.T, block)
        g.diagonal().add_(LAM)
        p = torch.linalg.inv(g)
        p.div_(-p.diagonal().clone()).fill_diagonal_(0)
        return p.cpu().numpy()

    return OnDevice(run)


def ease(shape, **options):
    return GpuJob(
        f"GPU: EASE [{shape}]",
        lambda: (simulated(shape),),
        {"pyrec": fit, "torch": fit_in_torch},
        check_weights,
        Floor("n³ operations", flop=SHAPES[shape][1] ** 3, gpu=True),
        **options,
    )


def check_gram(inputs, gram, way):
    (x,) = inputs
    np.testing.assert_array_equal(here(gram)[:20].numpy(), (x[:, :20].T @ x).toarray())


def gram_in_torch(x):
    def run():
        dense = x.dense()
        return dense.T @ dense

    return run


# Of sparse histories times weights; histories of the mean length.
OPERATIONS = 2 * SCORED * SHAPES["20M"][2] // SHAPES["20M"][0] * SHAPES["20M"][1]


@cache
def a_million():
    x = simulated("20M")
    rows = np.random.default_rng(0).integers(0, x.shape[0], SCORED)
    return x[rows]


@cache
def weights():
    x = simulated("20M")
    return np.random.default_rng(0).standard_normal((x.shape[1],) * 2, dtype=np.float32) * np.sqrt(
        np.asarray(x.sum(0), dtype=np.float32) + 1
    )


def recommend(x, w):
    """Histories on the host, lists on the host; weights stay on the device."""
    from pyrec.models import EASE

    model = EASE(LAM)
    model.weights, model.n_items = w, x.shape[1]
    model.to(DEVICE)
    return OnDevice(lambda: model.recommend(x, K).items)


def recommend_in_torch(x, w):
    """embedding_bag and torch.topk, block by block."""
    import torch

    on_gpu = torch.from_numpy(w).to(DEVICE)

    def run():
        found = []
        for begin in range(0, x.shape[0], USERS):
            some = Csr.from_scipy(x[begin : begin + USERS]).to(DEVICE)
            scores = first_layer_in_torch(some, on_gpu)()
            scores[some.rows(), some.indices.long()] = -np.inf
            found.append(torch.topk(scores, K).indices.cpu().numpy())
        return np.concatenate(found)

    return OnDevice(run)


def check_recommended(inputs, items, way):
    x, w = inputs
    some = slice(0, x.shape[0], x.shape[0] // 100)
    scores = x[some] @ w
    scores[x[some].nonzero()] = -np.inf
    found = np.take_along_axis(scores, items[some].astype(np.int64), 1)
    best = -np.sort(-scores, axis=1)[:, :K]
    np.testing.assert_allclose(found, best, rtol=0, atol=1e-5 * best.max())


JOBS = [
    GpuJob(
        "GPU: Gram [1M]",
        lambda: (simulated("1M"),),
        {
            "pyrec": on_device(lambda x: partial(solvers.gram, x)),
            "torch, dense": on_device(gram_in_torch),
        },
        check_gram,
        # How many pairs of interactions are added up depends on the data.
        Floor("one write", written=4 * SHAPES["1M"][1] ** 2, gpu=True),
    ),
    ease("1M"),
    ease("20M", goal=2.0, full=True),
    GpuJob(
        f"GPU: EASE: {SCORED:,} histories to top-{K} of {SHAPES['20M'][1]:,}",
        lambda: (a_million(), weights()),
        {"pyrec": recommend, "torch": recommend_in_torch},
        check_recommended,
        Floor("a product an interaction", flop=OPERATIONS, gpu=True),
        goal=5.0,
        full=True,
    ),
]
