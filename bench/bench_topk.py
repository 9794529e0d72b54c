"""The best 100 of rows of 20,108 given scores, seen items masked; a batch of 500 rows."""

import numpy as np
import pytest
import scipy.sparse as sp
from conftest import THREADS, assert_same_lists, simulated

from pyrec import kernels

K, ROWS, PACKED_ROWS = 100, 500, 16_384


@pytest.fixture(scope="module")
def batch():
    x = simulated("20M")[:ROWS]
    scores = np.random.default_rng(0).standard_normal(x.shape).astype(np.float32)
    return scores, x, x.nonzero()


def pyrec(scores, x, seen):
    return kernels.topk(scores, K, x).items


def torch_topk(scores, x, seen):
    import torch

    scores[seen] = -np.inf  # in place: the cheapest mask there is
    return torch.topk(torch.from_numpy(scores), K).indices.numpy()


def argpartition(scores, x, seen):
    scores[seen] = -np.inf
    part = np.argpartition(scores, -K, axis=1)[:, -K:]
    order = np.argsort(-np.take_along_axis(scores, part, 1), axis=1)
    return np.take_along_axis(part, order, 1)


WAYS = {f.__name__: f for f in (pyrec, torch_topk, argpartition)}


@pytest.mark.benchmark(group="top-100 of 500 masked rows")
@pytest.mark.parametrize("way", WAYS)
def test_topk(measured, batch, way):
    scores, x, seen = batch
    own = scores.copy()
    items = measured(WAYS[way], own, x, seen, rounds=5 if way == "argpartition" else 40)
    masked = scores.copy()
    masked[seen] = -np.inf
    assert_same_lists(items, np.argsort(-masked, axis=1, kind="stable")[:, :K], masked)


@pytest.fixture(scope="module")
def popular():
    """Histories and weights that are larger for popular items, as those of EASE; what a plain sum gives."""
    x = simulated("20M")[:PACKED_ROWS]
    popularity = np.asarray(x.sum(0), dtype=np.float32)
    weights = np.random.default_rng(0).standard_normal((x.shape[1],) * 2, dtype=np.float32)
    weights *= np.sqrt(popularity + 1)
    return x, weights, kernels.topk_dense_weights(x[::100], weights, K, x[::100])


def scipy_torch(x, weights):
    blocks = [x[b : b + ROWS] for b in range(0, x.shape[0], ROWS)]
    return np.concatenate([torch_topk(b @ weights, b, b.nonzero()) for b in blocks])


# bfloat16 ranks other weights, so it stands in a row of its own.
@pytest.mark.benchmark(group="EASE: 16,384 histories to top-100")
@pytest.mark.parametrize("way", ["pyrec", "not packed", "scipy_torch"])
def test_dense_weights(measured, popular, way):
    x, weights, expected = popular
    if way == "scipy_torch":
        items = measured(scipy_torch, x, weights, rounds=1, warmup=0)
        assert (items[::100] == expected.items).mean() > 0.99
        return
    w = weights if way == "not packed" else kernels.pack_weights(weights)
    result = measured(kernels.topk_dense_weights, x, w, K, x, rounds=3)
    np.testing.assert_array_equal(result.items[::100], expected.items)


@pytest.mark.benchmark(group="EASE: 16,384 histories to top-100, bfloat16")
@pytest.mark.parametrize("way", ["pyrec"])
def test_dense_weights_in_bfloat16(measured, popular, way):
    x, weights, expected = popular
    packed = kernels.pack_weights(weights, dtype="bfloat16")
    result = measured(kernels.topk_dense_weights, x, packed, K, x, rounds=3)
    rounding = 2.0**-8 * expected.scores.max()
    np.testing.assert_allclose(result.scores[::100], expected.scores, rtol=0, atol=rounding)


@pytest.mark.benchmark(group="factors of rank 128: 8,192 users to top-100")
@pytest.mark.parametrize("way", ["pyrec", "numpy_torch", "implicit"])
def test_factors(measured, way):
    x = simulated("20M")[:8192]
    rng = np.random.default_rng(0)
    h, factors = (rng.standard_normal((n, 128), np.float32) for n in x.shape)

    def fused(h):
        return kernels.topk_factors(h, factors, K, x).items

    def numpy_torch(h):
        blocks = [slice(b, b + ROWS) for b in range(0, len(h), ROWS)]
        return np.concatenate([torch_topk(h[b] @ factors.T, None, x[b].nonzero()) for b in blocks])

    def implicit(h):
        from implicit.cpu.topk import topk

        return topk(factors, h, K, filter_query_items=sp.csr_matrix(x), num_threads=THREADS)[0]

    items = measured({"pyrec": fused, "numpy_torch": numpy_torch, "implicit": implicit}[way], h)
    scores = h[:20].astype(np.float64) @ factors.T
    scores[x[:20].nonzero()] = -np.inf
    rows = np.arange(20)[:, None]
    best = -np.sort(-scores, axis=1)[:, :K]
    np.testing.assert_allclose(scores[rows, items[:20]], best, rtol=1e-4)
