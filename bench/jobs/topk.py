"""The best 100 items of each user: of given scores, of histories times weights, of factors."""

from __future__ import annotations

from functools import partial

import numpy as np
import scipy.sparse as sp
from contest import Floor, Job, direct
from data import SHAPES, assert_same_lists, simulated
from peers import peer

from pyrec import kernels

K, ROWS = 100, 500
RANK, FACTOR_USERS = 128, 8192


def given_scores():
    x = simulated("batches")[:ROWS]
    scores = np.random.default_rng(0).standard_normal(x.shape).astype(np.float32)
    return scores, x


def torch_topk(scores, seen):
    """In place: the cheapest mask there is."""
    import torch

    scores[seen] = -np.inf
    return torch.topk(torch.from_numpy(scores), K).indices.numpy()


def argpartition(scores, seen):
    scores[seen] = -np.inf
    part = np.argpartition(scores, -K, axis=1)[:, -K:]
    order = np.argsort(-np.take_along_axis(scores, part, 1), axis=1)
    return np.take_along_axis(part, order, 1)


def masked_by(select):
    """Its own copy of the scores, and where the seen items are."""
    return lambda scores, x: partial(select, scores.copy(), x.nonzero())


def check_topk(inputs, items, way):
    scores, x = inputs
    masked = scores.copy()
    masked[x.nonzero()] = -np.inf
    assert_same_lists(items, np.argsort(-masked, axis=1, kind="stable")[:, :K], masked)


def histories(shape, users):
    """Histories and weights that are larger for popular items, as those of EASE."""
    x = simulated(shape)[:users]
    popularity = np.asarray(x.sum(0), dtype=np.float32)
    weights = np.random.default_rng(0).standard_normal((x.shape[1],) * 2, dtype=np.float32)
    weights *= np.sqrt(popularity + 1)
    return x, weights


def packed(dtype):
    def make(x, weights):
        w = kernels.pack_weights(weights, dtype=dtype)
        return lambda: kernels.topk_dense_weights(x, w, K, x)

    return make


def scipy_torch(x, weights):
    blocks = [x[b : b + ROWS] for b in range(0, x.shape[0], ROWS)]
    return np.concatenate([torch_topk(b @ weights, b.nonzero()) for b in blocks])


def embedding_bag(x, weights):
    """The product by torch, all threads."""
    import torch

    w = torch.from_numpy(weights)
    found = []
    for b in range(0, x.shape[0], ROWS):
        some = x[b : b + ROWS]
        items, offsets = (torch.from_numpy(a) for a in (some.indices, some.indptr[:-1]))
        scores = torch.nn.functional.embedding_bag(items, w, offsets, mode="sum").numpy()
        found.append(torch_topk(scores, some.nonzero()))
    return np.concatenate(found)


def check_lists(rounding, inputs, answer, way):
    """Every hundredth user's list: the best scores, to a share of the largest."""
    x, weights = inputs
    some = x[::100]
    scores = some @ weights
    scores[some.nonzero()] = -np.inf
    items = getattr(answer, "items", answer)[::100]
    found = np.take_along_axis(scores, items.astype(np.int64), 1)
    best = -np.sort(-scores, axis=1)[:, :K]
    np.testing.assert_allclose(found, best, rtol=0, atol=rounding * best.max())


def dense_weights(shape, users, goals=(None, None), **options):
    """bfloat16 ranks other weights, so it stands in a row of its own."""
    name = f"EASE: {users:,} histories to top-100 of {SHAPES[shape][1]:,}"
    inputs = partial(histories, shape, users)
    rivals = {
        "embedding_bag, torch.topk": direct(embedding_bag),
        "scipy, torch.topk": direct(scipy_torch),
    }
    return [
        Job(
            name,
            inputs,
            {"pyrec": packed("float32")} | rivals,
            partial(check_lists, 1e-5),
            goal=goals[0],
            **options,
        ),
        Job(
            f"{name}, bfloat16",
            inputs,
            {"pyrec": packed("bfloat16"), "float32 in torch": direct(embedding_bag)},
            partial(check_lists, 2.0**-7),
            goal=goals[1],
            **options,
        ),
    ]


def plain_weights(x, weights):
    """Weights as they are, for those who score some users only."""
    return lambda: kernels.topk_dense_weights(x, weights, K, x)


def packing(x, weights):
    """Once before many users; a copy is the least that it could be."""
    packed_weights = kernels.pack_weights(weights)
    return lambda: kernels.pack_weights(weights, out=packed_weights.buffer)


def copying(x, weights):
    out = np.empty_like(weights)

    def run():
        np.copyto(out, weights)
        return out

    return run


def check_packed(inputs, answer, way):
    """The weights of one history, ranked from what was packed."""
    x, weights = inputs
    if way == "pyrec":
        lists = kernels.topk_dense_weights(x, answer, K, x)
        np.testing.assert_array_equal(
            lists.items, kernels.topk_dense_weights(x, weights, K, x).items
        )
    else:
        np.testing.assert_array_equal(answer, weights)


def sparse_histories(shape, users):
    """Weights as of ADMM_Slim: 1 % of them, those of popular items more often."""
    x, rng = simulated(shape)[:users], np.random.default_rng(0)
    n = x.shape[1]
    share = np.asarray(x.sum(0), dtype=np.float64) + 1
    share /= share.sum()
    entries = rng.random(n * n // 100, dtype=np.float32)
    places = rng.integers(0, n, len(entries)), rng.choice(n, len(entries), p=share)
    weights = sp.csr_array((entries, places), shape=(n, n))
    weights.sum_duplicates()
    return x, weights


def scipy_sparse(x, weights):
    blocks = [x[b : b + ROWS] for b in range(0, x.shape[0], ROWS)]
    return np.concatenate([torch_topk((b @ weights).toarray(), b.nonzero()) for b in blocks])


def check_sparse(inputs, answer, way):
    x, weights = inputs
    some = x[::100]
    scores = (some @ weights).toarray()
    scores[some.nonzero()] = -np.inf
    items = getattr(answer, "items", answer)[::100]
    np.testing.assert_allclose(
        np.take_along_axis(scores, items.astype(np.int64), 1),
        -np.sort(-scores, axis=1)[:, :K],
        rtol=1e-5,
    )


def factors():
    x = simulated("batches")[:FACTOR_USERS]
    rng = np.random.default_rng(0)
    h, items = (rng.standard_normal((n, RANK), np.float32) for n in x.shape)
    return h, items, x


def numpy_factors(h, items, x):
    blocks = [slice(b, b + ROWS) for b in range(0, len(h), ROWS)]
    return np.concatenate([torch_topk(h[b] @ items.T, x[b].nonzero()) for b in blocks])


def check_factors(inputs, answer, way):
    h, items, x = inputs
    scores = h[:20].astype(np.float64) @ items.T
    scores[x[:20].nonzero()] = -np.inf
    lists = getattr(answer, "items", answer)[:20].astype(np.int64)
    best = -np.sort(-scores, axis=1)[:, :K]
    np.testing.assert_allclose(np.take_along_axis(scores, lists, 1), best, rtol=1e-4)


SPARSE_USERS = 4096

JOBS = [
    Job(
        f"top-100 of {ROWS} masked rows",
        given_scores,
        {
            "pyrec": direct(lambda scores, x: kernels.topk(scores, K, x).items),
            "torch.topk": masked_by(torch_topk),
            "argpartition": masked_by(argpartition),
        },
        check_topk,
        Floor("one read", read=4 * ROWS * 20_108),
        goal=3.5e-3,
    ),
    *dense_weights("8,000 items", 8192),
    *dense_weights("20M", 16_384, goals=(1.229, 0.901), full=True),
    Job(
        "plain weights: 1,024 histories to top-100 of 8,000",
        partial(histories, "8,000 items", 1024),
        {"pyrec": plain_weights, "embedding_bag, torch.topk": direct(embedding_bag)},
        partial(check_lists, 1e-5),
        kernel=True,
    ),
    Job(
        "packing the weights of 8,000 items",
        partial(histories, "8,000 items", 1),
        {"pyrec": packing, "a mere copy": copying},
        check_packed,
        Floor("one read, one write", copied=2 * 4 * 8000**2),
        kernel=True,
    ),
    Job(
        f"ADMM_Slim: {SPARSE_USERS:,} histories to top-100 of 8,000",
        partial(sparse_histories, "8,000 items", SPARSE_USERS),
        {
            "pyrec": direct(lambda x, w: kernels.topk_sparse_weights(x, w, K, x)),
            "scipy, torch.topk": direct(scipy_sparse),
            "implicit": peer("implicit", "item_weights", k=K),
        },
        check_sparse,
    ),
    Job(
        f"factors of rank {RANK}: {FACTOR_USERS:,} users to top-100",
        factors,
        {
            "pyrec": direct(lambda h, items, x: kernels.topk_factors(h, items, K, x)),
            "NumPy, torch.topk": direct(numpy_factors),
            "implicit": peer("implicit", "factors", k=K),
            "irspack": peer("irspack", "factors", k=K),
        },
        check_factors,
        Floor("products", flop=2 * RANK * FACTOR_USERS * 20_108),
        goal=0.295,
    ),
]
