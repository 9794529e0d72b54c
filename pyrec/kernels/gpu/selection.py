"""Selecting on a GPU: as the functions of the same names over arrays, over tensors of one device.

No more than 256 MiB of scores (or one row) exist at a time, beside those that are given. Item numbers
within a `Csr` are not checked: that would wait for the device.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from pyrec.arguments import whole
from pyrec.kernels.gpu import native, products
from pyrec.kernels.gpu.candidates import Candidates, Listed, some
from pyrec.kernels.gpu.chunks import chunks, cut
from pyrec.kernels.gpu.precision import exact_float32
from pyrec.kernels.matrices import Csr
from pyrec.kernels.memory import scratch

__all__ = [
    "Selected",
    "topk",
    "topk_dense_weights",
    "topk_factors",
    "topk_sparse_weights",
]

# Scores, or the keys of the torch way, that exist at a time.
_CHUNK_BYTES = 256 << 20
# In the order of scores, where -inf is; of items in the lower half of a key.
_EXCLUDED, _LOW_BITS = -(0x7F800000 + 1), 0xFFFFFFFF


class Selected(NamedTuple):
    """The best items of each row, best first: `items` int32 (n, k), -1 where none are left; `scores` float32 (n, k), -inf there."""

    items: Tensor
    scores: Tensor


def topk(
    scores: Tensor,
    k: int,
    seen: Listed = None,
    *,
    allow: Listed = None,
    deny: Listed = None,
) -> Selected:
    """Return the `k` best items of each row of scores.

    Parameters
    ----------
    scores : (n, m) tensor
        Converted to float32. A NaN never wins; -inf means excluded.
    k : int
        At least 0; may exceed m. Beyond 1,024 torch selects.
    seen, deny : (n, m) Csr or 1-D integer tensor, optional
        Items that take no part: the pattern of a row each, or the same items for all rows. The pair
        ``(None, numbers)`` stands for int32 numbers that ascend without duplicates and are known to be
        in range: nothing waits for the device to check them.
    allow : likewise, optional
        The only items that take part; by default all.

    Returns
    -------
    Selected
        Ties: the lower item number first.
    """
    if scores.ndim != 2:
        raise ValueError(f"scores must have 2 dimensions, got shape {tuple(scores.shape)}")
    candidates = Candidates.of(seen, deny, allow, scores)
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
    seen: Listed = None,
    *,
    offset: Tensor | None = None,
    allow: Listed = None,
    deny: Listed = None,
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
    h, w, shift = products.checked(x, weights, Tensor, offset, square=True)

    def score(histories: Csr, out: Tensor) -> None:
        products.scores_dense_weights(histories, w, shift, out)

    return _topk_of(score, _cut(h), h.values, h.shape, k, (seen, deny, allow))


def topk_sparse_weights(
    x: Csr,
    weights: Csr,
    k: int,
    seen: Listed = None,
    *,
    offset: Tensor | None = None,
    allow: Listed = None,
    deny: Listed = None,
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
    h, w, shift = products.checked(x, weights, Csr, offset, square=True)

    def score(histories: Csr, out: Tensor) -> None:
        products.scores_sparse_weights(histories, w, shift, out)

    return _topk_of(score, _cut(h), h.values, h.shape, k, (seen, deny, allow))


def topk_factors(
    h: Tensor,
    items: Tensor,
    k: int,
    seen: Listed = None,
    *,
    bias: Tensor | None = None,
    allow: Listed = None,
    deny: Listed = None,
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
    native.check_device("items", items, h)
    native.check_device("bias", bias, h)
    if h.ndim != 2 or items.ndim != 2 or h.shape[1] != items.shape[1]:
        raise ValueError(
            "h and items must be matrices of the same rank, got shapes "
            f"{tuple(h.shape)} and {tuple(items.shape)}"
        )
    if bias is not None:
        native.check_shape("bias", bias, (len(items),))
    u, v, b = map(products.as_float32, (h, items, bias))

    def score(users: Tensor, out: Tensor) -> None:
        with exact_float32():
            if b is None:
                torch.mm(users, v.t(), out=out)
            else:
                torch.addmm(b, users, v.t(), out=out)

    shape = len(u), len(v)
    parts = [u[rows] for rows in _chunks(*shape)]
    return _topk_of(score, parts, v, shape, k, (seen, deny, allow))


def _topk_of(
    score: Callable[[Any, Tensor], None],
    parts: Sequence[Any],
    like: Tensor,
    shape: Sequence[int],
    k: int,
    lists: Sequence[Listed],
) -> Selected:
    """Select from scores that are made of parts, a chunk of rows each, on the device of a tensor."""
    n, m = shape
    seen, deny, allow = lists
    candidates = Candidates.of(seen, deny, allow, like, (n, m))
    result = _empty_result(like, n, k)
    for rows, part in zip(_chunks(n, m), parts, strict=True) if k else ():
        with scratch("scores", (rows.stop - rows.start, m), torch.float32, like.device) as out:
            score(part, out)
            _select(out, candidates, rows, result)
    return result


def _select(scores: Tensor, candidates: Candidates, rows: slice, result: Selected) -> None:
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


def _select_by_torch(scores: Tensor, candidates: Candidates, k: int) -> tuple[Tensor, Tensor]:
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


def _cut(x: Csr) -> list[Csr]:
    """Return the rows of each chunk; the offsets of those for kernels go on counting from the first.

    So nobody waits for the device to say where their entries begin.
    """
    parts = _chunks(*x.shape)
    if native.module(x.values) is None:
        return cut(x, parts)
    return [Csr(some(x.indptr, rows), x.indices, x.values, x.n_cols) for rows in parts]


def _chunks(n: int, m: int) -> list[slice]:
    return chunks(n, 4 * m, _CHUNK_BYTES)


def _empty_result(like: Tensor, n: int, k: int) -> Selected:
    whole(k, "k")
    return Selected(
        torch.empty((n, k), dtype=torch.int32, device=like.device),
        torch.empty((n, k), dtype=torch.float32, device=like.device),
    )
