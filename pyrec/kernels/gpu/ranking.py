"""Metrics of lists of recommended items on a GPU: as `pyrec.kernels.ranking`, over tensors of one device.

Item numbers are not checked: that would wait for the device.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from pyrec.kernels.gpu import native
from pyrec.kernels.matrices import Csr
from pyrec.kernels.selection import METRICS, parse_metric

__all__ = ["ranking"]


def ranking(items: Tensor, relevant: Csr, metrics: Sequence[str]) -> dict[str, Tensor]:
    """Return each metric of each row's list of recommended items; see `pyrec.kernels.ranking`.

    Parameters
    ----------
    items : (n, d) int32 tensor
        Distinct item numbers, best first; -1 pads. A metric whose k exceeds d uses the d there are.
    relevant : Csr of shape (n, m)
        Its pattern tells the relevant items.
    metrics : sequence of str

    Returns
    -------
    dict of (n,) float64 tensors
        NaN in every metric for a row with nothing relevant.
    """
    measures = [parse_metric(name) for name in metrics]
    native.check_type("relevant", relevant, Csr)
    if items.ndim != 2 or len(items) != len(relevant):
        raise ValueError(
            f"items must have 2 dimensions and a row for each of the {len(relevant)} rows of "
            f"relevant, got shape {tuple(items.shape)}"
        )
    native.check_device("relevant", relevant, items)
    lists = items.to(torch.int32).contiguous()
    deepest = max((k for _, k in measures), default=0)
    depth = min(deepest, lists.shape[1])
    discounts, sums = _discounts(max(depth, min(deepest, relevant.n_cols)), lists.device)
    out = torch.empty((len(measures), len(lists)), dtype=torch.float64, device=lists.device)
    kernels = native.module(lists)
    if kernels is None:
        hits = _hits(lists[:, :depth], relevant).double()
        n_relevant = relevant.indptr.diff()
        for row, (name, k) in zip(out, measures, strict=True):
            row.copy_(_value(name, k, hits[:, :k], n_relevant, discounts, sums))
    else:
        hits = torch.empty((len(lists), depth), dtype=torch.int32, device=lists.device)
        n_hits = torch.empty(len(lists), dtype=torch.int32, device=lists.device)
        kernels.ranking(
            native.matrix(lists, torch.int32, "items"),
            native.lists((relevant.indptr, relevant.indices), "relevant"),
            [(METRICS.index(name), k) for name, k in measures],
            native.vector(discounts, torch.float64, "discounts"),
            native.vector(sums, torch.float64, "sums"),
            native.matrix(hits, torch.int32, "hits"),
            native.vector(n_hits, torch.int32, "n_hits"),
            native.matrix(out, torch.float64, "out"),
            native.queue(lists),
        )
    return dict(zip(metrics, out, strict=True))


def _hits(items: Tensor, relevant: Csr) -> Tensor:
    """Return the (n, d) bool matrix of the items that are relevant to their row."""
    m = relevant.n_cols
    rows = torch.arange(len(items), device=items.device)[:, None]
    known = relevant.rows() * m + relevant.indices
    if len(known) == 0:
        return torch.zeros(items.shape, dtype=torch.bool, device=items.device)
    wanted = rows * m + items
    place = torch.searchsorted(known, wanted).clamp_(max=len(known) - 1)
    return (known[place] == wanted) & (items >= 0) & (items < m)


def _value(
    name: str, k: int, hits: Tensor, n_relevant: Tensor, discounts: Tensor, sums: Tensor
) -> Tensor:
    """Return a metric of hits within the first k ranks; the formulas are those of `pyrec.kernels.ranking`."""
    reachable = n_relevant.clamp(max=k)
    n, ranks = hits.sum(1), torch.arange(1, hits.shape[1] + 1, device=hits.device)
    if name == "ndcg":
        value = (hits * discounts[: len(ranks)]).sum(1) / sums[reachable]
    elif name == "recall":
        value = n / reachable
    elif name == "full_recall":
        value = n / n_relevant
    elif name == "hit":
        value = (n > 0).double()
    elif name == "mrr":
        best = torch.where(hits > 0, 1 / ranks.double(), 0)
        value = best.amax(1) if len(ranks) else n
    elif name == "map":
        value = (hits * hits.cumsum(1) / ranks).sum(1) / reachable
    else:
        value = n / k
    return value.masked_fill(n_relevant == 0, torch.nan)


def _discounts(n: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return the discount of each rank, and of the first 0..n ranks together."""
    discounts = 1 / torch.arange(2, n + 2, dtype=torch.float64, device=device).log2()
    sums = torch.zeros(n + 1, dtype=torch.float64, device=device)
    torch.cumsum(discounts, 0, out=sums[1:])
    return discounts, sums
