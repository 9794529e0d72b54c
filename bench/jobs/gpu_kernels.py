"""ADMM, ranking, sparse weights and the layers under a network on a GPU, beside plain torch there."""

from __future__ import annotations

from functools import partial

import numpy as np
from data import SHAPES, simulated

from jobs import slim
from jobs.evaluation import METRICS, check_ranking
from jobs.gpu import ITEMS, USERS, K, OnDevice, first_layer, here, kernel_job, moved, on_device
from jobs.layers import bag, same_as, weight_grad
from jobs.topk import check_sparse, sparse_histories
from jobs.training import HIDDEN
from pyrec.kernels import tensors
from pyrec.kernels.gpu import ranking, selection, solvers
from pyrec.kernels.tensors import Csr

# So many iterations that what comes back to the host is a small part.
LISTS, ITERATIONS, SHAPE = 16_384, 20, "8,000 items"
MEAN = SHAPES["batches"][2] // SHAPES["batches"][0]  # interactions of a user
LAYER_BYTES = (
    4 * HIDDEN * (ITEMS + USERS)
)  # weights, or their gradient, and the output, or its gradient


def admm_problem():
    return slim.inverse(slim.gram(SHAPE), slim.RHO), ITERATIONS


def pyrec_admm(p, count):
    p = moved(p)
    options = {"lambda1": slim.LAMBDA1, "rho": slim.RHO, "tol": 0, "relaxation": 1}
    return OnDevice(lambda: slim.in_order(solvers.admm(p, num_iter=count, **options)))


def torch_admm(p, count):
    p = moved(p)
    return OnDevice(lambda: Csr.from_dense(slim.torch_iterations(p, count).T).to_csr())


def lists_and_relevant():
    """Windows of the most popular items, and the histories as what is relevant."""
    x = simulated("batches")[:LISTS]
    popular = np.argsort(-x.sum(0), kind="stable")[:1000]
    begins = np.random.default_rng(0).integers(0, len(popular), (x.shape[0], 1))
    return popular[(begins + np.arange(K)) % len(popular)].astype(np.int32), x


def pyrec_ranking(items, relevant):
    return partial(ranking.ranking, items, relevant, METRICS)


def torch_ranking(items, relevant):
    """By a dense mask of what is relevant."""
    import torch

    discount = 1 / torch.arange(2, K + 2, dtype=torch.float64, device=items.device).log2()
    ideal = torch.nn.functional.pad(discount.cumsum(0), (1, 0))

    def run():
        mask = torch.zeros(relevant.shape, dtype=torch.bool, device=items.device)
        mask[relevant.rows(), relevant.indices.long()] = True
        hits, n = mask.gather(1, items.long()).double(), relevant.indptr.diff()
        return {
            "ndcg@100": (hits * discount).sum(1) / ideal[n.clamp(max=K)],
            "recall@20": hits[:, :20].sum(1) / n.clamp(max=20),
            "recall@50": hits[:, :50].sum(1) / n.clamp(max=50),
        }

    return run


def check_values(inputs, values, way):
    items, relevant = inputs
    found = {name: here(value).numpy() for name, value in values.items()}
    check_ranking((items.astype(np.int64), relevant), found, way)


def pyrec_sparse_lists(x, weights):
    return lambda: selection.topk_sparse_weights(x, weights, K, x).items


def torch_sparse_lists(x, weights):
    """Transposed: torch multiplies sparse matrices by dense ones."""
    import torch

    rows, items = x.rows(), x.indices.long()
    transposed = weights.dense().T.to_sparse_csr()

    def run():
        scores = torch.mm(transposed, x.dense().T).T
        scores[rows, items] = -torch.inf
        return torch.topk(scores, K).indices

    return run


def check_sparse_lists(inputs, items, way):
    check_sparse(inputs, here(items).numpy(), way)


def decoder():
    """Hidden units, a last layer of the usual size, and histories."""
    rng = np.random.default_rng(0)
    h, weight = (rng.standard_normal((n, HIDDEN), np.float32) for n in (USERS, ITEMS))
    return h, weight * np.float32(0.04), np.zeros(ITEMS, np.float32), simulated("batches")[:USERS]


def gradients(loss_of):
    """Loss and gradients of hidden units, weights and bias."""

    def make(h, weight, bias, x):
        parts = [t.clone().requires_grad_() for t in (h, weight, bias)]

        def run():
            for part in parts:
                part.grad = None
            loss = loss_of(*parts, x)
            loss.backward()
            return loss.detach(), *(part.grad for part in parts)

        return run

    return make


def torch_decoder(h, weight, bias, x):
    import torch

    logits = torch.nn.functional.linear(h, weight, bias)
    return -(torch.log_softmax(logits, 1) * x.dense()).sum(1).mean()


def check_decoder(inputs, answer, way):
    import torch

    *parts, x = inputs
    expected = gradients(torch_decoder)(*map(torch.from_numpy, parts), Csr.from_scipy(x))()
    for found, wanted in zip(here(answer), expected, strict=True):
        most = float(wanted.abs().max())
        torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-4 * most)


def layer():
    """Of `first_layer`, and a gradient of its output."""
    x, weight = first_layer()
    return x, weight, np.random.default_rng(1).standard_normal((USERS, HIDDEN), np.float32)


def check_layer(inputs, answer, way):
    import torch

    x, *rest = inputs
    on_host = Csr.from_scipy(x), *map(torch.from_numpy, rest)
    same_as(weight_grad(bag))(on_host, here(answer), way)


JOBS = [
    kernel_job(
        f"{ITERATIONS} iterations of ADMM-SLIM, {SHAPE}",
        admm_problem,
        pyrec_admm,
        "torch in place",
        torch_admm,
        slim.check_iterations,
        "products",
        flop=ITERATIONS * 2 * SHAPES[SHAPE][1] ** 3,
    ),
    kernel_job(
        f"ranking of {LISTS:,} lists of {K}",
        lists_and_relevant,
        on_device(pyrec_ranking),
        "torch, a dense mask",
        on_device(torch_ranking),
        check_values,
        "one read",
        read=4 * LISTS * (K + MEAN),
    ),
    kernel_job(
        f"sparse weights: {USERS:,} histories to top-{K} of {SHAPE}",
        partial(sparse_histories, SHAPE, USERS),
        on_device(pyrec_sparse_lists),
        "torch.sparse, torch.topk",
        on_device(torch_sparse_lists),
        check_sparse_lists,
        "scores written and read",
        copied=2 * 4 * USERS * SHAPES[SHAPE][1],
    ),
    kernel_job(
        f"fused decoder and its gradients, {USERS:,} rows of rank {HIDDEN}",
        decoder,
        on_device(gradients(tensors.fused_decoder_nll)),
        "torch",
        on_device(gradients(torch_decoder)),
        check_decoder,
        "three products",
        flop=3 * 2 * USERS * HIDDEN * ITEMS,
    ),
    kernel_job(
        f"first layer's gradient, {USERS:,} histories to {HIDDEN}",
        layer,
        on_device(weight_grad(tensors.sparse_linear)),
        "embedding_bag",
        on_device(weight_grad(bag)),
        check_layer,
        "weights read, gradient written",
        read=LAYER_BYTES,
        written=LAYER_BYTES,
    ),
]
