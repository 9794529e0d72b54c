"""Selecting and ranking: the native top-k forms and the metrics of their lists, over NumPy arrays.

As in `pyrec.kernels.arrays`, inputs are borrowed or converted and never modified, and the result has
the same bits for any number of threads.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pyrec import _core
from pyrec.arguments import whole
from pyrec.data.csr import as_csr, is_sparse
from pyrec.kernels.arrays import dense_weights, describe, parts, sparse_weights
from pyrec.kernels.devices import by_device
from pyrec.kernels.packed import PackedWeights
from pyrec.kernels.threads import n_threads as resolve_threads

if TYPE_CHECKING:
    import scipy.sparse as sp

__all__ = [
    "METRICS",
    "Recommendations",
    "item_lists",
    "parse_metric",
    "ranking",
    "topk",
    "topk_dense_weights",
    "topk_factors",
    "topk_sparse_weights",
]

METRICS = tuple(_core.Metric.__members__)
"""Names of the ranking metrics."""

Lists = tuple[NDArray[np.int64] | None, NDArray[np.int32]] | None


class Recommendations(NamedTuple):
    """The best items of each row, best first: `items` int32 (n, k), -1 where none are left; `scores` float32 (n, k), -inf there."""

    items: NDArray[np.int32]
    scores: NDArray[np.float32]


@by_device("selection")
def topk(
    scores: ArrayLike,
    k: int,
    seen: Any = None,
    *,
    allow: Any = None,
    deny: Any = None,
    n_threads: int | None = None,
) -> Recommendations:
    """Return the `k` best items of each row of scores.

    Parameters
    ----------
    scores : (n, m) array
        Converted to float32. A NaN never wins; -inf means excluded. With a tensor of a GPU the lists
        are `Csr` or 1-D tensors there, and so is the result.
    k : int
        At least 0; may exceed m.
    seen, deny : (n, m) sparse matrix or 1-D array of item numbers, optional
        Items that take no part: the non-zero pattern of a row each, or the same items for all rows.
    allow : likewise, optional
        The only items that take part; by default all.

    Returns
    -------
    Recommendations
        Ties: the lower item number first.
    """
    s = np.ascontiguousarray(scores, dtype=np.float32)
    if s.ndim != 2:
        raise ValueError(f"scores must have 2 dimensions, got shape {s.shape}")
    result = _empty_result(len(s), k)
    lists = _candidates(seen, deny, allow, s.shape[1])
    _core.topk(s, *lists, *result, resolve_threads(n_threads))
    return result


@by_device("selection")
def topk_dense_weights(
    x: sp.sparray | sp.spmatrix,
    weights: NDArray[np.float32] | PackedWeights,
    k: int,
    seen: Any = None,
    *,
    offset: ArrayLike | None = None,
    allow: Any = None,
    deny: Any = None,
    n_threads: int | None = None,
) -> Recommendations:
    """Return the `k` best items of each history under the scores ``offset + x @ weights``.

    The scores are never written: memory is one row of m floats a thread; with packed weights,
    up to about 100 MiB for a block of users.

    Parameters
    ----------
    x : (n, m) CSR
        Histories. With a `Csr` on a GPU all else are tensors there, not packed, and so is the result.
    weights : (m, m) float32 array, or PackedWeights
        Item-item weights; row i is what item i adds to every item's score. Packed by `pack_weights`
        they give the same result (in float32) in less than half the time, for many histories.
    k, seen, allow, deny, n_threads
        As in `topk`. `seen` is not taken from `x`: pass it to hide the histories.
    offset : (m,) array, optional
        Added to every row of scores.
    """
    threads = resolve_threads(n_threads)
    if isinstance(weights, PackedWeights):
        c = as_csr(x, weights.n_items, "x")
        o = None if offset is None else np.ascontiguousarray(offset, dtype=np.float32)
        result = _empty_result(c.shape[0], k)
        lists = _candidates(seen, deny, allow, c.shape[1])
        packed = weights.buffer, weights.n_items, weights.dtype == "bfloat16"
        _core.topk_packed_weights(*parts(c), *packed, o, *lists, *result, threads)
        return result
    c, w, o = dense_weights(x, weights, offset)
    result = _empty_result(c.shape[0], k)
    lists = _candidates(seen, deny, allow, c.shape[1])
    _core.topk_dense_weights(*parts(c), w, o, *lists, *result, threads)
    return result


@by_device("selection")
def topk_sparse_weights(
    x: sp.sparray | sp.spmatrix,
    weights: sp.sparray | sp.spmatrix,
    k: int,
    seen: Any = None,
    *,
    offset: ArrayLike | None = None,
    allow: Any = None,
    deny: Any = None,
    n_threads: int | None = None,
) -> Recommendations:
    """Return the `k` best items of each history under the scores ``offset + x @ weights``, with sparse weights.

    An item that no item of the history leads to scores 0 (and its offset), and takes part.

    Parameters
    ----------
    x : (n, m) CSR
        Histories. With a `Csr` on a GPU all else, the weights a `Csr` too, are there, and so is the result.
    weights : (m, m) CSR
        Item-item weights; row i is what item i adds to other items' scores.
    k, seen, offset, allow, deny, n_threads
        As in `topk_dense_weights`.

    Notes
    -----
    Memory: one row of m floats a thread.
    """
    c, w, o = sparse_weights(x, weights, offset)
    result = _empty_result(c.shape[0], k)
    lists = _candidates(seen, deny, allow, c.shape[1])
    _core.topk_sparse_weights(*parts(c), parts(w), o, *lists, *result, resolve_threads(n_threads))
    return result


@by_device("selection")
def topk_factors(
    h: ArrayLike,
    items: ArrayLike,
    k: int,
    seen: Any = None,
    *,
    bias: ArrayLike | None = None,
    allow: Any = None,
    deny: Any = None,
    n_threads: int | None = None,
) -> Recommendations:
    """Return the `k` best items of each row under the scores ``h @ items.T + bias``.

    Parameters
    ----------
    h : (n, r) array
        Factors of the users; converted to float32, as all the factors. With a tensor of a GPU all else
        are tensors there, and so is the result.
    items : (m, r) array
        Factors of the items.
    bias : (m,) array, optional
        Added to every row of scores.
    k, seen, allow, deny, n_threads
        As in `topk`.

    Notes
    -----
    Memory: a copy of the item factors, and 8 MiB of scores a thread (16 rows, where these are
    more). Each score is summed in the order of its factors: the same bits for any number of threads.
    """
    u, v = (np.ascontiguousarray(a, dtype=np.float32) for a in (h, items))
    for name, factors in (("h", u), ("items", v)):
        if factors.ndim != 2:
            raise ValueError(f"{name} must have 2 dimensions, got shape {factors.shape}")
    b = None if bias is None else np.ascontiguousarray(bias, dtype=np.float32)
    result = _empty_result(len(u), k)
    lists = _candidates(seen, deny, allow, len(v))
    _core.topk_factors(u, v, b, *lists, *result, resolve_threads(n_threads))
    return result


def parse_metric(name: str) -> tuple[str, int]:
    """Split ``'ndcg@100'`` into ``('ndcg', 100)``; a ValueError lists the known names."""
    match = re.fullmatch(r"(\w+)@([1-9]\d*)", name) if isinstance(name, str) else None
    if match is None or match[1] not in METRICS:
        raise ValueError(
            f"a metric must be name@k with a name of {', '.join(METRICS)} and k >= 1, got {name!r}"
        )
    return match[1], int(match[2])


@by_device("ranking")
def ranking(
    items: ArrayLike,
    relevant: sp.sparray | sp.spmatrix,
    metrics: Sequence[str],
    *,
    n_threads: int | None = None,
) -> dict[str, NDArray[np.float64]]:
    """Return each metric of each row's list of recommended items.

    With hits h_i ∈ {0, 1} at the ranks i = 1..k and R relevant items:

    - ``ndcg@k``: Σ h_i / log₂(i + 1) over its largest possible value, Σ_{i ≤ min(k, R)} 1 / log₂(i + 1)
    - ``recall@k``: Σ h_i / min(k, R) (as Liang et al. 2018 define it)
    - ``full_recall@k``: Σ h_i / R
    - ``precision@k``: Σ h_i / k
    - ``hit@k``: 1 if any h_i is 1, else 0
    - ``mrr@k``: 1 / rank of the first hit, 0 without one
    - ``map@k``: Σ h_i precision@i / min(k, R)

    Parameters
    ----------
    items : (n, d) integer array
        Distinct item numbers, best first; -1 pads. A metric whose k exceeds d uses the d there are.
        With a tensor of a GPU `relevant` is a `Csr` there, and the metrics are tensors there.
    relevant : (n, m) sparse matrix
        Its non-zero pattern tells the relevant items.
    metrics : sequence of str

    Returns
    -------
    dict of (n,) float64 arrays
        NaN in every metric for a row with nothing relevant.
    """
    measures = [(getattr(_core.Metric, name), k) for name, k in map(parse_metric, metrics)]
    truth = as_csr(relevant, name="relevant")
    lists = np.asarray(items)
    if lists.ndim != 2:
        raise ValueError(f"items must have 2 dimensions, got shape {lists.shape}")
    lists = np.ascontiguousarray(_in_range(lists, -1, truth.shape[1], "items"), dtype=np.int32)
    out = np.empty((len(measures), len(lists)))
    _core.ranking(
        lists,
        *parts(truth)[:2],
        truth.shape[1],
        measures,
        out,
        resolve_threads(n_threads),
    )
    return dict(zip(metrics, out, strict=True))


def _candidates(seen: Any, deny: Any, allow: Any, n_items: int) -> tuple[Lists, Lists, Lists]:
    return (
        item_lists(seen, n_items, "seen"),
        item_lists(deny, n_items, "deny"),
        item_lists(allow, n_items, "allow"),
    )


def item_lists(items: Any, n_items: int, name: str) -> Lists:
    """Return (offsets, items) of a list a row, (None, items) of one list for all rows, or None."""
    if items is None:
        return None
    if is_sparse(items):
        offsets, numbers, _ = parts(as_csr(items, n_items, name))
        return offsets, numbers
    if np.ndim(items) != 1:
        raise TypeError(
            f"{name} must be a sparse matrix or a 1-D array of item numbers, got {describe(items)}"
        )
    numbers = np.unique(_in_range(np.asarray(items), 0, n_items, name))
    return None, numbers.astype(np.int32)


def _in_range(numbers: NDArray[Any], least: int, n_items: int, name: str) -> NDArray[Any]:
    """Return item numbers that may be narrowed to int32; a cast would wrap others around."""
    if numbers.size == 0:
        return numbers.astype(np.int32)
    if numbers.dtype.kind not in "iu":
        raise TypeError(f"{name} must hold item numbers, got {describe(numbers)}")
    if not least <= numbers.min() <= numbers.max() < n_items:
        raise ValueError(
            f"{name} must be in {least}..{n_items - 1}, got {numbers.min()}..{numbers.max()}"
        )
    return numbers


def _empty_result(n: int, k: int) -> Recommendations:
    whole(k, "k")
    return Recommendations(np.empty((n, k), np.int32), np.empty((n, k), np.float32))
