"""ndcg@100, recall@20 and recall@50 of 500 users whose 20,108 scores are given."""

import numpy as np
import pytest
import scipy.sparse as sp
from conftest import THREADS, simulated

from pyrec import kernels

ROWS = 500
METRICS = ["ndcg@100", "recall@20", "recall@50"]


@pytest.fixture(scope="module")
def batch():
    x = simulated("20M")[-ROWS:].copy()
    rng = np.random.default_rng(0)
    scores = rng.standard_normal(x.shape).astype(np.float32) + np.log1p(simulated("20M").sum(0))
    held_out = rng.random(x.nnz) < 0.2
    train, test = x.copy(), x.copy()
    train.data, test.data = (~held_out).astype(np.float32), held_out.astype(np.float32)
    for part in (train, test):
        part.eliminate_zeros()
    scores = scores.astype(np.float32)
    scores[train.nonzero()] = -np.inf
    return scores, test


def pyrec(scores, test):
    return kernels.ranking(kernels.topk(scores, 100).items, test, METRICS)


def torch_numpy(scores, test):
    """One torch.topk for all metrics, then NumPy."""
    import torch

    return numpy_metrics(torch.topk(torch.from_numpy(scores), 100).indices.numpy(), test)


def numpy_metrics(items, test):
    relevant = np.zeros(test.shape, bool)
    relevant[test.nonzero()] = True
    hits = np.take_along_axis(relevant, items, 1)
    n = np.diff(test.indptr)
    discount = 1 / np.log2(np.arange(2, 102))
    ideal = np.append(0, np.cumsum(discount))[np.minimum(n, 100)]
    with np.errstate(invalid="ignore"):
        return {
            "ndcg@100": (hits * discount).sum(1) / ideal,
            "recall@20": hits[:, :20].sum(1) / np.minimum(n, 20),
            "recall@50": hits[:, :50].sum(1) / np.minimum(n, 50),
        }


def irspack(scores, test):
    from irspack.evaluation import Evaluator

    core = Evaluator(sp.csr_matrix(test), cutoff=100, n_threads=THREADS).core
    values = {
        k: core.get_metrics_f32(scores, k, 0, THREADS, False).as_dict() for k in (100, 20, 50)
    }
    return {
        "ndcg@100": values[100]["ndcg"],
        "recall@20": values[20]["recall"],
        "recall@50": values[50]["recall"],
    }


WAYS = {f.__name__: f for f in (pyrec, torch_numpy, irspack)}


@pytest.mark.benchmark(group="evaluation of 500 users")
@pytest.mark.parametrize("way", WAYS)
def test_evaluation(measured, batch, way):
    scores, test = batch
    values = measured(WAYS[way], scores, test, rounds=20)
    expected = torch_numpy(scores, test)
    np.testing.assert_allclose(
        np.nanmean(values["ndcg@100"]), np.nanmean(expected["ndcg@100"]), rtol=1e-3
    )
    if way != "irspack":  # its recall divides by all relevant items
        np.testing.assert_allclose(values["recall@50"], expected["recall@50"])


@pytest.mark.benchmark(group="ranking of 500 lists of 100")
@pytest.mark.parametrize("way", ["pyrec", "numpy"])
def test_ranking(measured, batch, way):
    scores, test = batch
    items = kernels.topk(scores, 100).items.astype(np.int64)
    ways = {"pyrec": lambda i, t: kernels.ranking(i, t, METRICS), "numpy": numpy_metrics}
    values, expected = measured(ways[way], items, test, rounds=20), numpy_metrics(items, test)
    for name in METRICS:
        np.testing.assert_allclose(values[name], expected[name])
