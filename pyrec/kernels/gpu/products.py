"""Histories times item-item weights on a GPU: as the functions of the same names over arrays."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from pyrec.kernels.gpu import native, networks
from pyrec.kernels.matrices import Csr

__all__ = ["as_float32", "checked", "scores_dense_weights", "scores_sparse_weights"]


def scores_dense_weights(
    x: Csr, weights: Tensor, offset: Tensor | None = None, out: Tensor | None = None
) -> Tensor:
    """Return ``offset + x @ weights``, (n, cols), for (m, cols) weights, all converted to float32.

    `out`, contiguous, takes the result.
    """
    return networks.sparse_linear(*checked(x, weights, Tensor, offset), out)


def scores_sparse_weights(
    x: Csr, weights: Csr, offset: Tensor | None = None, out: Tensor | None = None
) -> Tensor:
    """Return ``offset + x @ weights``, (n, cols), for sparse (m, cols) weights, all converted to float32.

    `out`, contiguous, takes the result.
    """
    x, weights, offset = checked(x, weights, Csr, offset)
    shape = len(x), weights.n_cols
    if out is None:
        out = torch.empty(shape, dtype=torch.float32, device=x.device)
    native.check_shape("out", out, shape)
    native.check_device("out", out, x.values)
    scores = native.matrix(out, torch.float32, "out")
    module = native.module(out)
    if module is not None:
        module.sparse_product(
            native.csr(x, torch.float32, "x"),
            native.csr(weights, torch.float32, "weights"),
            native.vector(offset, torch.float32, "offset"),
            scores,
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


def checked(
    x: Csr, weights: Any, kind: type, offset: Tensor | None, *, square: bool = False
) -> tuple[Csr, Any, Tensor | None]:
    """Return x, weights and offset in float32, of one device and of shapes that fit.

    Parameters
    ----------
    x, weights, offset
    kind : Tensor or Csr
        What the weights have to be.
    square : bool
        Whether they must have as many columns as rows.
    """
    native.check_type("x", x, Csr)
    native.check_type("weights", weights, kind)
    native.check_shape("weights", weights, (x.n_cols, x.n_cols if square else None))
    native.check_device("weights", weights, x.values)
    native.check_device("offset", offset, x.values)
    if offset is not None:
        native.check_shape("offset", offset, (weights.shape[1],))
    return as_float32(x), as_float32(weights), as_float32(offset)


def as_float32(t: Any) -> Any:
    """Return a tensor, or a Csr, as the kernels take it; None is None."""
    if isinstance(t, Csr):
        return t.with_values(as_float32(t.values))
    return None if t is None else t.detach().float().contiguous()
