"""Training batches of histories with conditions behind them, where they lie on a GPU."""

from __future__ import annotations

import torch
from torch import Tensor

from pyrec.data import ItemConditions
from pyrec.kernels.gpu.products import scores_sparse_weights
from pyrec.kernels.matrices import Csr

__all__ = ["left_out", "satisfied_by", "split"]


def split(x: Csr, n_items: int) -> tuple[Csr, Csr]:
    """Return the histories of a batch, and the conditions behind them."""
    is_item = x.indices < n_items
    before = torch.zeros(len(is_item) + 1, dtype=torch.int64, device=x.device)
    torch.cumsum(is_item, 0, out=before[1:])
    indptr, others = before[x.indptr], ~is_item
    items = Csr(indptr, x.indices[is_item], x.values[is_item], n_items)
    numbers = x.indices[others] - n_items
    return items, Csr(x.indptr - indptr, numbers, x.values[others], x.n_cols - n_items)


def satisfied_by(known: ItemConditions, device: torch.device) -> Csr:
    """Return which items have each condition, (n_cond, n_items) with ones."""
    pattern = Csr.from_scipy(known.by_condition).to(device)
    return pattern.with_values(torch.ones_like(pattern.values))


def left_out(conditions: Csr, satisfied: Csr) -> Tensor:
    """Return an (n, n_items) mask, True for items that do not satisfy their row's conditions."""
    asked = conditions.with_values(torch.ones_like(conditions.values))
    asks = conditions.indptr.diff() > 0
    return (scores_sparse_weights(asked, satisfied) == 0) & asks[:, None]
