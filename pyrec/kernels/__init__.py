"""The native kernels: the only module that knows the compiled code."""

from pyrec.kernels.arrays import (
    METRICS,
    Recommendations,
    ease_weights,
    gram,
    parse_metric,
    ranking,
    scores_dense_weights,
    spd_inverse,
    topk,
    topk_dense_weights,
)
from pyrec.kernels.threads import blas_threads, n_threads

__all__ = [
    "METRICS",
    "Recommendations",
    "blas_threads",
    "ease_weights",
    "gram",
    "n_threads",
    "parse_metric",
    "ranking",
    "scores_dense_weights",
    "spd_inverse",
    "topk",
    "topk_dense_weights",
]
