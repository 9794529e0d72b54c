"""Jobs of RecPack."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
from recpack.algorithms import EASE
from recpack.metrics import NDCGK, CalibratedRecallK
from worker import Way, serve


def ease(x: sp.csr_matrix, lam: float) -> Way:
    """The item-item weights, which it keeps as a CSR matrix that is full but for the diagonal."""
    return lambda: EASE(l2=lam).fit(x).similarity_matrix_, lambda weights: weights.toarray()


def evaluation(scores: np.ndarray, test: sp.csr_matrix) -> Way:
    """Its metrics read scores as CSR: what is masked is left out of that beforehand.

    Its RecallK divides by all held-out items; CalibratedRecallK is the recall of the other ways. The
    answers are means over users.
    """
    rows, columns = np.nonzero(np.isfinite(scores))
    given = sp.csr_matrix((scores[rows, columns], (rows, columns)), shape=scores.shape)
    del rows, columns
    makers = {
        "ndcg@100": lambda: NDCGK(100),
        "recall@20": lambda: CalibratedRecallK(20),
        "recall@50": lambda: CalibratedRecallK(50),
    }

    def run() -> dict[str, np.ndarray]:
        values = {}
        for name, make in makers.items():
            metric = make()
            metric.calculate(test, given)
            values[name] = np.array([metric.value])
        return values

    return run, lambda values: values


if __name__ == "__main__":
    serve({"ease": ease, "evaluation": evaluation})
