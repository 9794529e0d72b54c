"""Selecting and ranking on a GPU: as `pyrec.kernels.selection`, over tensors of one device.

No more than 256 MiB of scores (or one row) exist at a time, beside those that are given. Item numbers
within a `Csr` and within lists of recommended items are not checked: that would wait for the device.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from pyrec.arguments import whole
from pyrec.kernels.gpu import native, networks, products
from pyrec.kernels.gpu.chunks import chunks, cut
from pyrec.kernels.gpu.precision import exact_float32
from pyrec.kernels.matrices import Csr
from pyrec.kernels.memory import scratch
from pyrec.kernels.selection import METRICS, parse_metric

__all__ = [
    "Selected",
    "ranking",
    "topk",
    "topk_dense_weights",
    "topk_factors",
    "topk_sparse_weights",
]

# Scores, or the keys of the torch way, that exist at a time.
_CHUNK_BYTES = 256 << 20
# In the order of scores, where -inf is; of items in the lower half of a key.
_EXCLUDED, _LOW_BITS = -(0x7F800000 + 1), 0xFFFFFFFF
_INTEGERS = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)


class Selected(NamedTuple):
    """The best items of each row, best first: `items` int32 (n, k), -1 where none are left; `scores` float32 (n, k), -inf there."""

    items: Tensor
    scores: Tensor


def topk(
    scores: Tensor,
    k: int,
    seen: Csr | Tensor | None = None,
    *,
    allow: Csr | Tensor | None = None,
    deny: Csr | Tensor | None = None,
) -> Selected:
    """Return the `k` best items of each row of scores.

    Parameters
    ----------
    scores : (n, m) tensor
        Converted to float32. A NaN never wins; -inf means excluded.
    k : int
        At least 0; may exceed m. Beyond 1,024 torch sorts, in much more time.
    seen, deny : (n, m) Csr or 1-D integer tensor, optional
        Items that take no part: the pattern of a row each, or the same items for all rows.
    allow : likewise, optional
        The only items that take part; by default all.

    Returns
    -------
    Selected
        Ties: the lower item number first.
    """
    if scores.ndim != 2:
        raise ValueError(f"scores must have 2 dimensions, got shape {tuple(scores.shape)}")
    candidates = _Candidates.of(seen, deny, allow, scores)
    result = _empty_result(scores, len(scores), k)
    s = scores.detach()
    given = s.dtype == torch.float32 and s.is_contiguous()
    for rows in [slice(0, len(s))] if given else _chunks(*s.shape):
        _select(s[rows].float().contiguous(), candidates, rows, result)
    return result


def topk_dense_weights(
    x: Csr,
    weights: Tensor,
    k: int,
    seen: Csr | Tensor | None = None,
    *,
    offset: Tensor | None = None,
    allow: Csr | Tensor | None = None,
    deny: Csr | Tensor | None = None,
) -> Selected:
    """Return the `k` best items of each history under the scores ``offset + x @ weights``.

    Parameters
    ----------
    x : Csr of shape (n, m)
        Histories.
    weights : (m, m) tensor
        Item-item weights; row i is what item i adds to every item's score.
    k, seen, allow, deny
        As in `topk`. `seen` is not taken from `x`: pass it to hide the histories.
    offset : (m,) tensor, optional
        Added to every row of scores.
    """
    _check_weights(x, tuple(weights.shape), offset, weights)
    w, shift = weights.detach().float().contiguous(), _offset(offset)

    def score(histories: Csr, out: Tensor) -> None:
        networks.sparse_linear(histories, w, shift, out=out)

    return _topk_of(score, _cut(x), w, x.shape, k, (seen, deny, allow))


def topk_sparse_weights(
    x: Csr,
    weights: Csr,
    k: int,
    seen: Csr | Tensor | None = None,
    *,
    offset: Tensor | None = None,
    allow: Csr | Tensor | None = None,
    deny: Csr | Tensor | None = None,
) -> Selected:
    """Return the `k` best items of each history under the scores ``offset + x @ weights``, with sparse weights.

    An item that no item of the history leads to scores 0 (and its offset), and takes part.

    Parameters
    ----------
    x : Csr of shape (n, m)
        Histories.
    weights : Csr of shape (m, m)
        Item-item weights; row i is what item i adds to other items' scores.
    k, seen, offset, allow, deny
        As in `topk_dense_weights`.
    """
    _check_weights(x, tuple(weights.shape), offset, weights.values)
    w, shift = weights.with_values(weights.values.detach().float()), _offset(offset)

    def score(histories: Csr, out: Tensor) -> None:
        products.scores_sparse_weights(histories, w, shift, out=out)

    return _topk_of(score, _cut(x), w.values, x.shape, k, (seen, deny, allow))


def topk_factors(
    h: Tensor,
    items: Tensor,
    k: int,
    seen: Csr | Tensor | None = None,
    *,
    bias: Tensor | None = None,
    allow: Csr | Tensor | None = None,
    deny: Csr | Tensor | None = None,
) -> Selected:
    """Return the `k` best items of each row under the scores ``h @ items.T + bias``.

    Parameters
    ----------
    h : (n, r) tensor
        Factors of the users; converted to float32, as all the factors.
    items : (m, r) tensor
        Factors of the items.
    bias : (m,) tensor, optional
        Added to every row of scores.
    k, seen, allow, deny
        As in `topk`.

    Notes
    -----
    torch multiplies. The products are float32's even where its setting of their precision allows
    TF32, whose 10 bits would let near items change places.
    """
    if h.ndim != 2 or items.ndim != 2 or h.shape[1] != items.shape[1]:
        raise ValueError(
            "h and items must be matrices of the same rank, got shapes "
            f"{tuple(h.shape)} and {tuple(items.shape)}"
        )
    _check_offset(bias, len(items), items, "bias")
    u, v, b = h.detach().float(), items.detach().float(), _offset(bias)

    def score(users: Tensor, out: Tensor) -> None:
        with exact_float32():
            if b is None:
                torch.mm(users, v.t(), out=out)
            else:
                torch.addmm(b, users, v.t(), out=out)

    shape = len(u), len(v)
    parts = [u[rows] for rows in _chunks(*shape)]
    return _topk_of(score, parts, v, shape, k, (seen, deny, allow))


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
    if items.ndim != 2 or len(items) != len(relevant):
        raise ValueError(
            f"items must have 2 dimensions and a row for each of the {len(relevant)} rows of "
            f"relevant, got shape {tuple(items.shape)}"
        )
    _check_device(relevant.values, items, "relevant")
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


class _Candidates(NamedTuple):
    """The lists of items that decide what takes part."""

    seen: native.Lists
    deny: native.Lists
    allow: native.Lists

    @classmethod
    def of(
        cls,
        seen: Csr | Tensor | None,
        deny: Csr | Tensor | None,
        allow: Csr | Tensor | None,
        scores: Tensor,
        shape: Sequence[int] | None = None,
    ) -> _Candidates:
        n, n_items = shape or scores.shape
        named = (seen, "seen"), (deny, "deny"), (allow, "allow")
        return cls(*(_item_lists(items, n, n_items, scores, name) for items, name in named))

    def rows(self, rows: slice) -> _Candidates:
        """Return the lists of some rows; the offsets go on counting from the first."""
        return _Candidates(*(one and (_some(one[0], rows), one[1]) for one in self))


def _some(offsets: Tensor | None, rows: slice) -> Tensor | None:
    return None if offsets is None else offsets[rows.start : rows.stop + 1]


def _topk_of(
    score: Callable[[Any, Tensor], None],
    parts: Sequence[Any],
    like: Tensor,
    shape: Sequence[int],
    k: int,
    lists: Sequence[Csr | Tensor | None],
) -> Selected:
    """Select from scores that are made of parts, a chunk of rows each, on the device of a tensor."""
    n, m = shape
    seen, deny, allow = lists
    candidates = _Candidates.of(seen, deny, allow, like, (n, m))
    result = _empty_result(like, n, k)
    for rows, part in zip(_chunks(n, m), parts, strict=True) if k else ():
        with scratch("scores", (rows.stop - rows.start, m), torch.float32, like.device) as out:
            score(part, out)
            _select(out, candidates, rows, result)
    return result


def _select(scores: Tensor, candidates: _Candidates, rows: slice, result: Selected) -> None:
    """Select from the scores of some rows."""
    items, best = result.items[rows], result.scores[rows]
    n, k = items.shape
    kernels = native.module(scores)
    if kernels is None or k > kernels.most_selected:
        for part in _chunks(n, 2 * scores.shape[1]):
            chunk = slice(rows.start + part.start, rows.start + part.stop)
            chosen = _select_by_torch(scores[part], candidates.rows(chunk), k)
            items[part], best[part] = chosen
        return
    parts = kernels.topk_parts(*scores.shape)
    shape = (n * parts, k) if parts > 1 else (0, 0)
    partial = torch.empty(shape, dtype=torch.int64, device=scores.device)
    some = candidates.rows(rows)
    kernels.topk(
        native.matrix(scores, torch.float32, "scores"),
        *(native.lists(one, name) for one, name in zip(some, some._fields, strict=True)),
        native.matrix(items, torch.int32, "items"),
        native.matrix(best, torch.float32, "best"),
        native.matrix(partial, torch.int64, "partial"),
        native.queue(scores),
    )


def _select_by_torch(scores: Tensor, candidates: _Candidates, k: int) -> tuple[Tensor, Tensor]:
    """Select by keys that differ: the order of the score above, that of the item below."""
    n, m = scores.shape
    out = scores.isnan()
    for lists in (candidates.seen, candidates.deny):
        if lists is not None:
            out |= _mask(lists, n, m)
    if candidates.allow is not None:
        out |= ~_mask(candidates.allow, n, m)
    bits = (scores + 0.0).view(torch.int32)  # -0 and 0 tie
    order = (bits ^ (bits >> 31 & 0x7FFFFFFF)).masked_fill_(out, _EXCLUDED)
    keys = (order.long() << 32) | (_LOW_BITS - torch.arange(m, device=scores.device))
    keys = keys.topk(min(k, m), dim=1).values
    order = (keys >> 32).int()
    found = order > _EXCLUDED
    items = torch.full((n, k), -1, dtype=torch.int32, device=scores.device)
    best = torch.full((n, k), -torch.inf, device=scores.device)
    bits = order ^ (order >> 31 & 0x7FFFFFFF)
    items[:, :m] = torch.where(found, (_LOW_BITS - (keys & _LOW_BITS)).int(), -1)
    best[:, :m] = torch.where(found, bits.view(torch.float32), -torch.inf)
    return items, best


def _mask(lists: tuple[Tensor | None, Tensor], n: int, m: int) -> Tensor:
    """Return the (n, m) bool matrix of what is listed."""
    offsets, numbers = lists
    mask = torch.zeros((n, m), dtype=torch.bool, device=numbers.device)
    if offsets is None:
        mask[:, numbers.long()] = True
    else:
        first, last = offsets[[0, -1]].tolist()
        rows = torch.arange(n, device=numbers.device)
        rows = rows.repeat_interleave(offsets.diff(), output_size=last - first)
        mask[rows, numbers[first:last].long()] = True
    return mask


def _item_lists(
    items: Csr | Tensor | None, n: int, n_items: int, like: Tensor, name: str
) -> native.Lists:
    """Return (offsets, items) of a list a row, (None, items) of one list for all rows, or None."""
    if items is None:
        return None
    if isinstance(items, Csr):
        if tuple(items.shape) != (n, n_items):
            raise ValueError(
                f"{name} must have shape {(n, n_items)}, as the scores, got {tuple(items.shape)}"
            )
        _check_device(items.indices, like, name)
        return items.indptr, items.indices
    if not isinstance(items, Tensor) or items.ndim != 1 or items.dtype not in _INTEGERS:
        got = type(items).__name__
        if isinstance(items, Tensor):
            got = f"{items.dtype} of shape {tuple(items.shape)}"
        raise TypeError(f"{name} must be a Csr or a 1-D tensor of item numbers, got {got}")
    _check_device(items, like, name)
    numbers = torch.unique(items)
    if len(numbers):
        least, most = numbers[[0, -1]].tolist()
        if not 0 <= least <= most < n_items:
            raise ValueError(f"{name} must be in 0..{n_items - 1}, got {least}..{most}")
    return None, numbers.int()


def _cut(x: Csr) -> list[Csr]:
    """Return chunks of rows with float32 values."""
    return cut(x.with_values(x.values.detach().float()), _chunks(*x.shape))


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


def _chunks(n: int, m: int) -> list[slice]:
    return chunks(n, 4 * m, _CHUNK_BYTES)


def _empty_result(like: Tensor, n: int, k: int) -> Selected:
    whole(k, "k")
    return Selected(
        torch.empty((n, k), dtype=torch.int32, device=like.device),
        torch.empty((n, k), dtype=torch.float32, device=like.device),
    )


def _check_weights(x: Csr, shape: tuple[int, ...], offset: Tensor | None, like: Tensor) -> None:
    wanted = (x.n_cols, x.n_cols)
    if shape != wanted:
        raise ValueError(f"weights must have shape {wanted} to fit x, got {shape}")
    _check_device(x.values, like, "x")
    _check_offset(offset, x.n_cols, like, "offset")


def _check_offset(offset: Tensor | None, m: int, like: Tensor, name: str) -> None:
    if offset is None:
        return
    if tuple(offset.shape) != (m,):
        raise ValueError(f"{name} must have shape {(m,)}, got {tuple(offset.shape)}")
    _check_device(offset, like, name)


def _offset(offset: Tensor | None) -> Tensor | None:
    return None if offset is None else offset.detach().float().contiguous()


def _check_device(t: Tensor, like: Tensor, name: str) -> None:
    if t.device != like.device:
        raise ValueError(f"{name} must be on {like.device}, got {t.device}")
