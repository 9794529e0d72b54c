"""ndcg@100, recall@20 and recall@50 of 500 users: from given scores, and from given lists."""

from __future__ import annotations

import numpy as np
from contest import Floor, Job, direct
from data import simulated
from peers import peer

from pyrec import kernels

ROWS, K = 500, 100
METRICS = ["ndcg@100", "recall@20", "recall@50"]


def batch():
    everyone = simulated("batches")
    x = everyone[-ROWS:].copy()
    rng = np.random.default_rng(0)
    scores = rng.standard_normal(x.shape).astype(np.float32) + np.log1p(everyone.sum(0))
    held_out = rng.random(x.nnz) < 0.2
    train, test = x.copy(), x.copy()
    train.data, test.data = (~held_out).astype(np.float32), held_out.astype(np.float32)
    for part in (train, test):
        part.eliminate_zeros()
    scores = scores.astype(np.float32)
    scores[train.nonzero()] = -np.inf
    return scores, test


def lists():
    scores, test = batch()
    return kernels.topk(scores, K).items.astype(np.int64), test


def pyrec(scores, test):
    return kernels.ranking(kernels.topk(scores, K).items, test, METRICS)


def torch_numpy(scores, test):
    """One torch.topk for all metrics, then NumPy."""
    import torch

    return numpy_metrics(torch.topk(torch.from_numpy(scores), K).indices.numpy(), test)


def numpy_metrics(items, test):
    relevant = np.zeros(test.shape, bool)
    relevant[test.nonzero()] = True
    hits = np.take_along_axis(relevant, items, 1)
    n = np.diff(test.indptr)
    discount = 1 / np.log2(np.arange(2, K + 2))
    ideal = np.append(0, np.cumsum(discount))[np.minimum(n, K)]
    with np.errstate(invalid="ignore"):
        return {
            "ndcg@100": (hits * discount).sum(1) / ideal,
            "recall@20": hits[:, :20].sum(1) / np.minimum(n, 20),
            "recall@50": hits[:, :50].sum(1) / np.minimum(n, 50),
        }


def check_evaluation(inputs, values, way):
    """The libraries give means, and may rank ties otherwise."""
    expected = torch_numpy(*inputs)
    for name in METRICS:
        np.testing.assert_allclose(np.nanmean(values[name]), np.nanmean(expected[name]), rtol=1e-3)
        if way == "pyrec":
            np.testing.assert_allclose(values[name], expected[name])


def check_ranking(inputs, values, way):
    expected = numpy_metrics(*inputs)
    for name in METRICS:
        np.testing.assert_allclose(values[name], expected[name])


JOBS = [
    Job(
        f"evaluation of {ROWS} users",
        batch,
        {
            "pyrec": direct(pyrec),
            "torch and NumPy": direct(torch_numpy),
            "irspack": peer("irspack", "evaluation"),
            "recpack": peer("recpack", "evaluation"),
        },
        check_evaluation,
        Floor("one read", read=4 * ROWS * 20_108),
        goal=4.5e-3,
    ),
    Job(
        f"ranking of {ROWS} lists of {K}",
        lists,
        {
            "pyrec": direct(lambda items, test: kernels.ranking(items, test, METRICS)),
            "NumPy": direct(numpy_metrics),
        },
        check_ranking,
        kernel=True,
    ),
]
