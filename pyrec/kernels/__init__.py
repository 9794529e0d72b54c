"""The native kernels: the only module that knows the compiled code.

Everything here takes and returns arrays, but for the two likelihoods; `pyrec.kernels.tensors` is the
face for torch. What a GPU does too (top-k, ranking, scores, the Gram matrix, the inverse, EASE's
weights) takes and returns tensors of one where its first argument is there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pyrec.kernels.arrays import (
    ease_weights,
    gram,
    scores_dense_weights,
    scores_sparse_weights,
    spd_inverse,
)
from pyrec.kernels.batches import RowSampler, nonzeros, permuted
from pyrec.kernels.examples import ConditionedRows, negatives, windows
from pyrec.kernels.packed import PackedWeights, pack_weights
from pyrec.kernels.selection import (
    METRICS,
    Recommendations,
    parse_metric,
    ranking,
    topk,
    topk_dense_weights,
    topk_factors,
    topk_sparse_weights,
)
from pyrec.kernels.threads import blas_threads, n_threads

if TYPE_CHECKING:
    from pyrec.kernels.tensors import fused_decoder_nll, multinomial_nll

__all__ = [
    "METRICS",
    "ConditionedRows",
    "PackedWeights",
    "Recommendations",
    "RowSampler",
    "blas_threads",
    "ease_weights",
    "fused_decoder_nll",
    "gram",
    "multinomial_nll",
    "n_threads",
    "negatives",
    "nonzeros",
    "pack_weights",
    "parse_metric",
    "permuted",
    "ranking",
    "scores_dense_weights",
    "scores_sparse_weights",
    "spd_inverse",
    "topk",
    "topk_dense_weights",
    "topk_factors",
    "topk_sparse_weights",
    "windows",
]


def __getattr__(name: str) -> Any:
    # With torch, which all others do without.
    if name in ("fused_decoder_nll", "multinomial_nll"):
        from pyrec.kernels import tensors

        return getattr(tensors, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
