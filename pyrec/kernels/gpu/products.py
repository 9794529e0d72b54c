"""Histories times item-item weights on a GPU: as the functions of the same names over arrays."""

from __future__ import annotations

import torch
from torch import Tensor

from pyrec.kernels.gpu import native, networks
from pyrec.kernels.matrices import Csr

__all__ = ["scores_dense_weights", "scores_sparse_weights"]


def scores_dense_weights(x: Csr, weights: Tensor, offset: Tensor | None = None) -> Tensor:
    """Return ``offset + x @ weights``, (n, m), for (m, m) weights, all float32."""
    return networks.sparse_linear(x, weights, offset)


def scores_sparse_weights(
    x: Csr, weights: Csr, offset: Tensor | None = None, out: Tensor | None = None
) -> Tensor:
    """Return ``offset + x @ weights``, (n, m), for sparse (m, m) weights, all float32.

    `out`, contiguous, takes the result.
    """
    if out is None:
        out = torch.empty((len(x), weights.n_cols), dtype=torch.float32, device=x.device)
    module = native.module(out)
    if module is not None:
        module.sparse_product(
            native.csr(x, torch.float32, "x"),
            native.csr(weights, torch.float32, "weights"),
            native.vector(offset, torch.float32, "offset"),
            native.matrix(out, torch.float32, "scores"),
            native.queue(out),
        )
        return out
    # Each entry of a history gives a row of the weights.
    items = x.indices.long()
    lengths = weights.indptr.diff()[items]
    begin = weights.indptr[items] - (lengths.cumsum(0) - lengths)
    places = torch.repeat_interleave(begin, lengths)
    places += torch.arange(len(places), device=x.device)
    rows = torch.repeat_interleave(x.rows(), lengths, output_size=len(places))
    values = torch.repeat_interleave(x.values, lengths, output_size=len(places))
    out.zero_()
    where = rows, weights.indices[places].long()
    out.index_put_(where, values * weights.values[places], accumulate=True)
    return out if offset is None else out.add_(offset)
