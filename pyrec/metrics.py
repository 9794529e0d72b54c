"""Ranking metrics of score matrices, and the figures that sum them up."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pyrec import kernels
from pyrec.data import as_csr
from pyrec.data.csr import INT32_MAX

__all__ = ["Metrics", "Summary", "catalogue_coverage", "summarize"]

Values = NDArray[np.float64]


class Metrics:
    """Metrics of the ``k`` best items of each user, as static methods.

    Everywhere ``pred_scores`` is (n_users, n_items), an array or a tensor, compared as float32: an
    item scored -inf or NaN is not in the list, equal scores are listed by item number.
    ``ground_truth`` is of the same shape, dense or sparse: the items that are not 0 are relevant.
    The result holds one float64 a user, NaN where the user has nothing relevant.

    In the formulas ``h_i`` is 1 when the item at rank ``i = 1..k`` is relevant, otherwise 0, and
    ``R`` is the number of the user's relevant items.
    """

    @staticmethod
    def compute(
        pred_scores: Any, ground_truth: Any, metrics_list: Iterable[str]
    ) -> dict[str, Values]:
        """Compute several metrics of the same lists.

        Parameters
        ----------
        pred_scores : (n_users, n_items) array or tensor
            Scores, higher is better.
        ground_truth : (n_users, n_items) array, tensor or sparse matrix
            Relevant items.
        metrics_list : list of str
            ``name@k`` with a name of ndcg, recall, full_recall, hit, mrr, map, precision.

        Returns
        -------
        dict of str to (n_users,) float64

        Raises
        ------
        ValueError
            Shapes that differ, an unknown metric, or a ``k`` below 1 or above 2^31 - 1.
        """
        names = metric_names(metrics_list)
        scores = _dense_scores(pred_scores)
        relevant = as_csr(ground_truth, n_items=scores.shape[1], name="ground_truth")
        if relevant.shape[0] != scores.shape[0]:
            raise ValueError(
                f"ground_truth must have a row a row of pred_scores, {scores.shape[0]}, "
                f"got {relevant.shape[0]}"
            )
        best = kernels.topk(scores, deepest(names, scores.shape[1]))
        return kernels.ranking(best.items, relevant, names)

    @staticmethod
    def ndcg_at_k(pred_scores: Any, ground_truth: Any, k: int = 100) -> Values:
        """Normalised discounted cumulative gain (Järvelin & Kekäläinen 2002), binary relevance.

        ``sum_i h_i / log2(i + 1)  /  sum_{i <= min(k, R)} 1 / log2(i + 1)``
        """
        return _one("ndcg", pred_scores, ground_truth, k)

    @staticmethod
    def recall_at_k(pred_scores: Any, ground_truth: Any, k: int = 100) -> Values:
        """Recall as the Mult-VAE paper has it (Liang et al. 2018): ``sum_i h_i / min(k, R)``."""
        return _one("recall", pred_scores, ground_truth, k)

    @staticmethod
    def full_recall_at_k(pred_scores: Any, ground_truth: Any, k: int = 100) -> Values:
        """Recall, the share of the relevant items found: ``sum_i h_i / R``."""
        return _one("full_recall", pred_scores, ground_truth, k)

    @staticmethod
    def hit_at_k(pred_scores: Any, ground_truth: Any, k: int = 100) -> Values:
        """1 when any of the ``k`` items is relevant, otherwise 0."""
        return _one("hit", pred_scores, ground_truth, k)

    @staticmethod
    def mrr_at_k(pred_scores: Any, ground_truth: Any, k: int = 100) -> Values:
        """Reciprocal rank: 1 / (rank of the first relevant item), 0 when there is none."""
        return _one("mrr", pred_scores, ground_truth, k)

    @staticmethod
    def map_at_k(pred_scores: Any, ground_truth: Any, k: int = 100) -> Values:
        """Average precision: ``sum_i h_i * precision@i / min(k, R)``."""
        return _one("map", pred_scores, ground_truth, k)

    @staticmethod
    def precision_at_k(pred_scores: Any, ground_truth: Any, k: int = 100) -> Values:
        """Precision: ``sum_i h_i / k``."""
        return _one("precision", pred_scores, ground_truth, k)


class Summary(NamedTuple):
    """One metric over many users.

    Attributes
    ----------
    mean : float
        Over the users that have a value; NaN when there are none.
    std_err : float
        Standard error of the mean: the sample standard deviation (n - 1) over the square root of
        ``n_users``; NaN for fewer than two users.
    n_users : int
        Users that have a value (those with nothing relevant have none).
    """

    mean: float
    std_err: float
    n_users: int


def summarize(results: Mapping[str, ArrayLike]) -> dict[str, Summary]:
    """Sum up per-user metrics; users whose value is NaN are left out.

    Parameters
    ----------
    results : dict of str to (n_users,) floats
        What `Metrics.compute` and `pyrec.evaluation.evaluate` return.
    """
    return {name: _summary(np.asarray(values, np.float64)) for name, values in results.items()}


def catalogue_coverage(items: ArrayLike, n_items: int) -> float:
    """Return the share of the catalogue that occurs in at least one list, from 0 to 1.

    Parameters
    ----------
    items : integers of any shape
        Item numbers of recommendation lists; -1 is ignored.
    n_items : int
        Size of the catalogue.

    Raises
    ------
    ValueError
        ``n_items`` below 1, or an item number outside -1..n_items - 1.
    """
    numbers = np.asarray(items)
    if n_items < 1:
        raise ValueError(f"n_items must be at least 1, got {n_items}")
    if numbers.size == 0:
        return 0.0
    if numbers.dtype.kind not in "iu":
        raise ValueError(f"items must be integers, got {numbers.dtype}")
    if numbers.min() < -1 or numbers.max() >= n_items:
        raise ValueError(
            f"items must be from -1 to {n_items - 1}, got {numbers.min()} to {numbers.max()}"
        )
    listed = np.zeros(n_items + 1, dtype=bool)
    listed[numbers.ravel()] = True  # -1 falls on the spare last place
    return float(np.count_nonzero(listed[:n_items])) / n_items


def metric_names(metrics_list: Iterable[str]) -> list[str]:
    """Check a list of ``name@k`` strings and return it without repetitions."""
    if isinstance(metrics_list, str):
        raise TypeError(f"metrics must be a list of names, got the single string {metrics_list!r}")
    names = list(dict.fromkeys(metrics_list))
    if not names:
        raise ValueError("metrics must name at least one metric, got an empty list")
    for name in names:
        if kernels.parse_metric(name)[1] > INT32_MAX:
            raise ValueError(f"the k of a metric must be at most {INT32_MAX}, got {name!r}")
    return names


def deepest(names: Iterable[str], n_items: int) -> int:
    """Return how long the lists must be for ``name@k`` strings: no longer than the catalogue."""
    return max(1, min(n_items, max(kernels.parse_metric(name)[1] for name in names)))


def _one(name: str, pred_scores: Any, ground_truth: Any, k: int) -> Values:
    metric = f"{name}@{k}"
    return Metrics.compute(pred_scores, ground_truth, [metric])[metric]


def _dense_scores(pred_scores: Any) -> NDArray[np.float32]:
    if hasattr(pred_scores, "detach"):
        pred_scores = pred_scores.detach().float().cpu().numpy()
    scores = np.ascontiguousarray(pred_scores, dtype=np.float32)
    if scores.ndim != 2:
        raise ValueError(f"pred_scores must be (n_users, n_items), got shape {scores.shape}")
    return scores


def _summary(values: Values) -> Summary:
    known = values[~np.isnan(values)]
    n = len(known)
    mean = float(known.mean()) if n else math.nan
    std_err = float(known.std(ddof=1)) / math.sqrt(n) if n > 1 else math.nan
    return Summary(mean, std_err, n)
