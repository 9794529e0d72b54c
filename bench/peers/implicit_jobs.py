"""Jobs of implicit."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
from implicit._nearest_neighbours import NearestNeighboursScorer
from implicit.cpu.topk import topk
from implicit.nearest_neighbours import ItemItemRecommender
from threadpoolctl import threadpool_limits
from worker import THREADS, Way, serve


def factors(h: np.ndarray, items: np.ndarray, seen: sp.csr_matrix, k: int) -> Way:
    """The function under the ``recommend`` of its factor models.

    Its own threads multiply blocks: with more of BLAS beneath each of them it is slower, so BLAS gets
    one, as implicit advises.
    """
    threadpool_limits(1, "blas")

    def run() -> tuple[np.ndarray, np.ndarray]:
        return topk(items, h, k, filter_query_items=seen, num_threads=THREADS)

    return run, lambda answer: answer[0]


def item_weights(x: sp.csr_matrix, weights: sp.csr_matrix, k: int) -> Way:
    """The ``recommend`` of its item-item models, with weights that are given.

    It goes from user to user in Python, in one thread, and computes in float64: both matrices are
    made so beforehand. A list ends with -1 where fewer than ``k`` items have a score.
    """
    model = ItemItemRecommender(num_threads=THREADS)
    model.similarity = weights.astype(np.float64)
    model.scorer = NearestNeighboursScorer(model.similarity)
    histories, users = x.astype(np.float64), np.arange(x.shape[0])
    return lambda: model.recommend(users, histories, N=k), lambda answer: answer[0]


if __name__ == "__main__":
    serve({job.__name__: job for job in (factors, item_weights)})
