"""Jobs of irspack."""

from __future__ import annotations

from itertools import cycle
from typing import Any

import numpy as np
import scipy.sparse as sp
from irspack import DenseSLIMRecommender, SLIMRecommender
from irspack.evaluation import Evaluator
from irspack.utils.id_mapping import retrieve_recommend_from_score
from worker import THREADS, Way, serve

BLOCK = 500  # rows whose scores are held at a time


def ease(x: sp.csr_matrix, lam: float) -> Way:
    """The item-item weights of EASE, which irspack calls DenseSLIM."""
    return lambda: DenseSLIMRecommender(x, reg=lam).learn().W, np.asarray


def slim(x: sp.csr_matrix, lambda1: float, lambda2: float, tol: float = 1e-4) -> Way:
    """It stops when no weight moves by more than ``tol``; pyrec when the duality gap is small enough.

    Its penalties are a sum, a mean over the users, and the share of the first.
    """
    alpha = (lambda1 + lambda2) / x.shape[0]
    share = lambda1 / (lambda1 + lambda2)

    def run() -> Any:
        model = SLIMRecommender(x, alpha, share, n_iter=1000, tol=tol, n_threads=THREADS)
        return model.learn().W

    return run, sp.csr_matrix


def evaluation(scores: np.ndarray, test: sp.csr_matrix) -> Way:
    """The native core of its Evaluator, spared the copy of the scores that the public method makes.

    The evaluator is made from the test set beforehand, as in a training that validates often. Its
    answers are means over users.
    """
    core = Evaluator(test, n_threads=THREADS).core

    def run() -> list:
        return [core.get_metrics_f32(scores, k, 0, THREADS, True) for k in (100, 20, 50)]

    def present(metrics: list) -> dict[str, np.ndarray]:
        at_100, at_20, at_50 = (m.as_dict() for m in metrics)
        means = {
            "ndcg@100": at_100["ndcg"],
            "recall@20": at_20["recall"],
            "recall@50": at_50["recall"],
        }
        return {name: np.array([mean]) for name, mean in means.items()}

    return run, present


def factors(h: np.ndarray, items: np.ndarray, seen: sp.csr_matrix, k: int) -> Way:
    """Scores of a block of users by NumPy, seen items masked, then irspack's selection."""

    def run() -> list:
        lists: list = []
        for begin in range(0, len(h), BLOCK):
            block = slice(begin, begin + BLOCK)
            scores = h[block] @ items.T
            scores[seen[block].nonzero()] = -np.inf
            lists += retrieve_recommend_from_score(scores, [], k, THREADS)
        return lists

    return run, lambda lists: np.array([[item for item, _ in one] for one in lists])


def multvae(batches: list[sp.csr_matrix], hidden: int, latent: int) -> Way:
    """An update a run, on the next batch; the first run also compiles.

    ``run_epoch`` of irspack's own trainer, whose data is replaced by one batch. It keeps no loss:
    that of the answer is found afterwards, with the updated network and no dropout.
    """
    import jax
    from irspack.recommenders.multvae import MultVAERecommender

    rows = batches[0].shape[0]
    model = MultVAERecommender(
        batches[0], dim_z=latent, enc_hidden_dims=hidden, minibatch_size=rows
    )
    trainer = model.trainer = model._create_trainer()
    following = cycle(batches)

    def run() -> sp.csr_matrix:
        trainer.X = x = next(following)
        trainer.n_users = x.shape[0]
        trainer.run_epoch()
        jax.block_until_ready((trainer.params, trainer.opt_state))
        return x

    def present(x: sp.csr_matrix) -> tuple[float, float]:
        log_softmax = model.get_score_cold_user(x)
        return -x.multiply(log_softmax).sum() / x.shape[0], x.nnz / x.shape[0]

    return run, present


if __name__ == "__main__":
    jobs = (ease, slim, evaluation, factors, multvae)
    serve({job.__name__: job for job in jobs})
