"""The best 100 of rows of 20,108 given scores, seen items masked; a batch of 500 rows."""

import numpy as np
import pytest
from conftest import assert_same_lists, simulated

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


@pytest.mark.benchmark(group="EASE: 2,000 histories to top-100")
@pytest.mark.parametrize("way", ["pyrec", "scipy_torch"])
def test_dense_weights(measured, way):
    x = simulated("20M")[:2000]
    weights = np.random.default_rng(0).standard_normal((x.shape[1],) * 2, dtype=np.float32)

    def fused(x):
        return kernels.topk_dense_weights(x, weights, K, x).items

    def scipy_torch(x):
        blocks = [x[b : b + ROWS] for b in range(0, x.shape[0], ROWS)]
        return np.concatenate([torch_topk(b @ weights, b, b.nonzero()) for b in blocks])

    items = measured(fused if way == "pyrec" else scipy_torch, x, rounds=3)
    some = x[:20]
    scores = some.astype(np.float64) @ weights
    scores[some.nonzero()] = -np.inf
    rows = np.arange(20)[:, None]
    np.testing.assert_allclose(
        scores[rows, items[:20]], -np.sort(-scores, axis=1)[:, :K], rtol=1e-4, atol=1e-4
    )


@pytest.fixture(scope="module")
def popular():
    """Histories and weights that are larger for popular items, as those of EASE; what a plain sum gives."""
    x = simulated("20M")[:PACKED_ROWS]
    popularity = np.asarray(x.sum(0), dtype=np.float32)
    weights = np.random.default_rng(0).standard_normal((x.shape[1],) * 2, dtype=np.float32)
    weights *= np.sqrt(popularity + 1)
    return x, weights, kernels.topk_dense_weights(x[::100], weights, K, x[::100])


@pytest.mark.benchmark(group="EASE: 16,384 histories to top-100")
@pytest.mark.parametrize("way", ["float32", "bfloat16", "not packed"])
def test_packed_weights(measured, popular, way):
    x, weights, expected = popular
    w = weights if way == "not packed" else kernels.pack_weights(weights, dtype=way)
    result = measured(kernels.topk_dense_weights, x, w, K, x, rounds=3)
    if way != "bfloat16":
        np.testing.assert_array_equal(result.items[::100], expected.items)
    rounding = 2.0**-8 * expected.scores.max()
    np.testing.assert_allclose(result.scores[::100], expected.scores, rtol=0, atol=rounding)


@pytest.mark.benchmark(group="factors of rank 128: 8,192 users to top-100")
@pytest.mark.parametrize("way", ["pyrec", "numpy_torch"])
def test_factors(measured, way):
    x = simulated("20M")[:8192]
    rng = np.random.default_rng(0)
    h, factors = (rng.standard_normal((n, 128), np.float32) for n in x.shape)

    def fused(h):
        return kernels.topk_factors(h, factors, K, x).items

    def numpy_torch(h):
        blocks = [slice(b, b + ROWS) for b in range(0, len(h), ROWS)]
        return np.concatenate([torch_topk(h[b] @ factors.T, None, x[b].nonzero()) for b in blocks])

    items = measured({"pyrec": fused, "numpy_torch": numpy_torch}[way], h)
    scores = h[:20].astype(np.float64) @ factors.T
    scores[x[:20].nonzero()] = -np.inf
    rows = np.arange(20)[:, None]
    best = -np.sort(-scores, axis=1)[:, :K]
    np.testing.assert_allclose(scores[rows, items[:20]], best, rtol=1e-4)
