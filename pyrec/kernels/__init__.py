"""The native kernels: the only module that knows the compiled code.

Everything here takes and returns arrays; `pyrec.kernels.tensors` is the face for torch.
"""

from pyrec.kernels.arrays import ease_weights, gram, scores_dense_weights, spd_inverse
from pyrec.kernels.batches import RowSampler, nonzeros, shuffled_rows
from pyrec.kernels.selection import (
    METRICS,
    Recommendations,
    parse_metric,
    ranking,
    topk,
    topk_dense_weights,
    topk_factors,
)
from pyrec.kernels.threads import blas_threads, n_threads

__all__ = [
    "METRICS",
    "Recommendations",
    "RowSampler",
    "blas_threads",
    "ease_weights",
    "gram",
    "n_threads",
    "nonzeros",
    "parse_metric",
    "ranking",
    "scores_dense_weights",
    "shuffled_rows",
    "spd_inverse",
    "topk",
    "topk_dense_weights",
    "topk_factors",
]
