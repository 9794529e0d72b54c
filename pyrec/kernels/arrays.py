"""The native kernels over NumPy arrays and SciPy CSR matrices.

Nothing here imports torch. Inputs are borrowed where they are as the kernels want them (C-contiguous
float32; CSR with int64 offsets, int32 items that ascend without duplicates) and converted otherwise;
they are never modified unless a function says that it works in place. Every kernel gives the same
bits for any number of threads, but for `spd_inverse`, which runs on BLAS.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pyrec import _core
from pyrec.data.csr import as_csr, is_sparse
from pyrec.kernels.threads import blas_threads
from pyrec.kernels.threads import n_threads as resolve_threads

if TYPE_CHECKING:
    import scipy.sparse as sp

__all__ = [
    "METRICS",
    "Recommendations",
    "ease_weights",
    "gram",
    "parse_metric",
    "ranking",
    "scores_dense_weights",
    "spd_inverse",
    "topk",
    "topk_dense_weights",
]

METRICS = tuple(_core.Metric.__members__)
"""Names of the ranking metrics."""

# OpenBLAS's potrf was run up to 26,000 rows of float32 and crashes at 29,858; its syrk crashes at
# 17,000 rows of float64 (two threads): what counts is the bytes of a row.
_WHOLE_INVERSE_ROW_BYTES = 26_000 * 4
INVERSE_BLOCK = 768

Lists = tuple[NDArray[np.int64] | None, NDArray[np.int32]] | None


class Recommendations(NamedTuple):
    """The best items of each row, best first: `items` int32 (n, k), -1 where none are left; `scores` float32 (n, k), -inf there."""

    items: NDArray[np.int32]
    scores: NDArray[np.float32]


def gram(
    x: sp.sparray | sp.spmatrix,
    *,
    dtype: type[np.float32 | np.float64] = np.float32,
    mirror: bool = True,
    n_threads: int | None = None,
) -> NDArray[Any]:
    """Return XᵀX as a dense symmetric matrix.

    Parameters
    ----------
    x : (n, m) CSR
        Rows are users. When all values are 1 the counts are exact (float32: up to 2²⁴).
    dtype : float32 or float64
        Type of the result, and of the sums.
    mirror : bool
        False leaves zeros below the diagonal: enough for `spd_inverse`.

    Returns
    -------
    (m, m) array of `dtype`

    Notes
    -----
    Memory: the result, and 8 bytes an interaction.
    """
    c = as_csr(x)
    out = np.empty((c.shape[1], c.shape[1]), _float_type(dtype))
    _core.gram(*_parts(c), out, mirror, resolve_threads(n_threads))
    return out


def spd_inverse(
    a: NDArray[Any], *, mirror: bool = True, block: int | None = None, n_threads: int | None = None
) -> NDArray[Any]:
    """Invert a symmetric positive-definite matrix in place.

    Parameters
    ----------
    a : (n, n) C-contiguous float32 or float64 array
        Only the upper triangle is read. It is overwritten.
    mirror : bool
        False leaves what was below the diagonal: enough for `ease_weights`.
    block : int, optional
        Rows inverted at a time. By default the whole matrix by LAPACK up to 26,000 rows (float64:
        13,000), blocks of 768 beyond, where OpenBLAS crashes. 0 means the whole matrix.

    Returns
    -------
    (n, n) array
        `a` itself.

    Raises
    ------
    numpy.linalg.LinAlgError
        When `a` is not positive definite, or not finite; its content is then lost.

    Notes
    -----
    n³ operations, by Cholesky factorisation or by the symmetric sweep; memory beside `a`: none, or
    block x n. The products run on SciPy's BLAS, so the last bits depend on the number of threads
    and on the block (relative differences up to about 1e-6 times the condition number).
    """
    from scipy.linalg import cython_blas, cython_lapack

    if not isinstance(a, np.ndarray) or a.ndim != 2 or a.dtype not in (np.float32, np.float64):
        raise TypeError(f"a must be a float32 or float64 matrix, got {_describe(a)}")
    if block is None:
        whole = a.shape[-1] * a.itemsize <= _WHOLE_INVERSE_ROW_BYTES
        block = 0 if whole else INVERSE_BLOCK
    if block < 0:
        raise ValueError(f"block must be at least 0, got {block}")
    threads = resolve_threads(n_threads)
    with blas_threads(threads):
        pivot = _core.spd_inverse(
            a, block, mirror, cython_blas.__pyx_capi__, cython_lapack.__pyx_capi__, threads
        )
    if pivot:
        raise np.linalg.LinAlgError(
            f"the matrix is not positive definite: pivot {pivot} of {len(a)} is not positive"
        )
    # LAPACK passes NaN on without a word.
    diagonal = np.diagonal(a)
    if not np.isfinite(diagonal).all() or (diagonal <= 0).any():
        raise np.linalg.LinAlgError("the matrix is not positive definite, or not finite")
    return a


def ease_weights(p: NDArray[np.float32], *, n_threads: int | None = None) -> NDArray[np.float32]:
    """Turn P = (XᵀX + λI)⁻¹ into the weights of EASE, in place.

    B_ij = -P_ij / P_jj for i ≠ j, and B_jj = 0 (Steck 2019, equation 8).

    Parameters
    ----------
    p : (m, m) C-contiguous float32 array
        Only its upper triangle is read. It is overwritten, and returned.
    """
    if not isinstance(p, np.ndarray):
        raise TypeError(f"p must be a float32 array, got {_describe(p)}")
    _core.ease_weights(p, resolve_threads(n_threads))
    return p


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
        Converted to float32. A NaN never wins; -inf means excluded.
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


def topk_dense_weights(
    x: sp.sparray | sp.spmatrix,
    weights: NDArray[np.float32],
    k: int,
    seen: Any = None,
    *,
    offset: ArrayLike | None = None,
    allow: Any = None,
    deny: Any = None,
    n_threads: int | None = None,
) -> Recommendations:
    """Return the `k` best items of each history under the scores ``offset + x @ weights``.

    The scores are never written: memory is one row of m floats a thread.

    Parameters
    ----------
    x : (n, m) CSR
        Histories.
    weights : (m, m) float32 array
        Item-item weights; row i is what item i adds to every item's score.
    k, seen, allow, deny, n_threads
        As in `topk`. `seen` is not taken from `x`: pass it to hide the histories.
    offset : (m,) array, optional
        Added to every row of scores.
    """
    c, w, o = _dense_weights(x, weights, offset)
    result = _empty_result(c.shape[0], k)
    lists = _candidates(seen, deny, allow, c.shape[1])
    _core.topk_dense_weights(*_parts(c), w, o, *lists, *result, resolve_threads(n_threads))
    return result


def scores_dense_weights(
    x: sp.sparray | sp.spmatrix,
    weights: NDArray[np.float32],
    *,
    offset: ArrayLike | None = None,
    n_threads: int | None = None,
) -> NDArray[np.float32]:
    """Return the (n, m) scores ``offset + x @ weights``, the very ones that `topk_dense_weights` ranks.

    Parameters are those of `topk_dense_weights`. The result is n x m: keep n small.
    """
    c, w, o = _dense_weights(x, weights, offset)
    out = np.empty(c.shape, np.float32)
    _core.scores_dense_weights(*_parts(c), w, o, out, resolve_threads(n_threads))
    return out


def parse_metric(name: str) -> tuple[str, int]:
    """Split ``'ndcg@100'`` into ``('ndcg', 100)``; a ValueError lists the known names."""
    match = re.fullmatch(r"(\w+)@([1-9]\d*)", name) if isinstance(name, str) else None
    if match is None or match[1] not in METRICS:
        raise ValueError(
            f"a metric must be name@k with a name of {', '.join(METRICS)} and k >= 1, got {name!r}"
        )
    return match[1], int(match[2])


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
        *_parts(truth)[:2],
        truth.shape[1],
        measures,
        out,
        resolve_threads(n_threads),
    )
    return dict(zip(metrics, out, strict=True))


def _parts(c: sp.csr_array) -> tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.float32]]:
    """Return offsets, items and values in the types of the kernels; the offsets are copied, no more."""
    return c.indptr.astype(np.int64), c.indices.astype(np.int32, copy=False), c.data


def _dense_weights(
    x: Any, weights: Any, offset: Any
) -> tuple[sp.csr_array, NDArray[np.float32], NDArray[np.float32] | None]:
    c = as_csr(x)
    w = np.ascontiguousarray(weights, dtype=np.float32)
    if w.shape != (c.shape[1], c.shape[1]):
        raise ValueError(
            f"weights must have shape {(c.shape[1], c.shape[1])} to fit x, got {w.shape}"
        )
    return c, w, None if offset is None else np.ascontiguousarray(offset, dtype=np.float32)


def _candidates(seen: Any, deny: Any, allow: Any, n_items: int) -> tuple[Lists, Lists, Lists]:
    return (
        _lists(seen, n_items, "seen"),
        _lists(deny, n_items, "deny"),
        _lists(allow, n_items, "allow"),
    )


def _lists(items: Any, n_items: int, name: str) -> Lists:
    """Return (offsets, items) of a list a row, (None, items) of one list for all rows, or None."""
    if items is None:
        return None
    if is_sparse(items):
        offsets, numbers, _ = _parts(as_csr(items, n_items, name))
        return offsets, numbers
    if np.ndim(items) != 1:
        raise TypeError(
            f"{name} must be a sparse matrix or a 1-D array of item numbers, got {_describe(items)}"
        )
    numbers = np.unique(_in_range(np.asarray(items), 0, n_items, name))
    return None, numbers.astype(np.int32)


def _in_range(numbers: NDArray[Any], least: int, n_items: int, name: str) -> NDArray[Any]:
    """Return item numbers that may be narrowed to int32; a cast would wrap others around."""
    if numbers.size == 0:
        return numbers.astype(np.int32)
    if numbers.dtype.kind not in "iu":
        raise TypeError(f"{name} must hold item numbers, got {_describe(numbers)}")
    if not least <= numbers.min() <= numbers.max() < n_items:
        raise ValueError(
            f"{name} must be in {least}..{n_items - 1}, got {numbers.min()}..{numbers.max()}"
        )
    return numbers


def _empty_result(n: int, k: int) -> Recommendations:
    if isinstance(k, bool) or not isinstance(k, (int, np.integer)) or k < 0:
        raise ValueError(f"k must be a whole number of at least 0, got {k!r}")
    return Recommendations(np.empty((n, k), np.int32), np.empty((n, k), np.float32))


def _float_type(dtype: Any) -> np.dtype[Any]:
    result: np.dtype[Any] = np.dtype(dtype)
    if result not in (np.float32, np.float64):
        raise TypeError(f"dtype must be float32 or float64, got {result}")
    return result


def _describe(x: Any) -> str:
    if isinstance(x, np.ndarray):
        return f"{x.dtype} of shape {x.shape}"
    return f"{type(x).__module__}.{type(x).__qualname__}"
