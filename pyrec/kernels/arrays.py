"""The native kernels over NumPy arrays and SciPy CSR matrices: linear algebra.

Nothing here imports torch. Inputs are borrowed where they are as the kernels want them (C-contiguous
float32; CSR with int64 offsets, int32 items that ascend without duplicates) and converted otherwise;
they are never modified unless a function says that it works in place. Every kernel gives the same
bits for any number of threads, but for `spd_inverse`, which runs on BLAS.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pyrec import _core
from pyrec.data.csr import as_csr
from pyrec.kernels.devices import by_device
from pyrec.kernels.threads import blas_threads
from pyrec.kernels.threads import n_threads as resolve_threads

if TYPE_CHECKING:
    import scipy.sparse as sp

__all__ = ["ease_weights", "gram", "scores_dense_weights", "scores_sparse_weights", "spd_inverse"]

# OpenBLAS's potrf was run up to 26,000 rows of float32 and crashes at 29,858; its syrk crashes at
# 17,000 rows of float64 (two threads): what counts is the bytes of a row.
_WHOLE_INVERSE_ROW_BYTES = 26_000 * 4
INVERSE_BLOCK = 768


@by_device("solvers")
def gram(
    x: sp.sparray | sp.spmatrix,
    *,
    dtype: type[np.float32 | np.float64] = np.float32,
    mirror: bool = True,
    out: NDArray[Any] | None = None,
    n_threads: int | None = None,
) -> NDArray[Any]:
    """Return XᵀX as a dense symmetric matrix; of a float32 `Csr` on a GPU as a tensor there.

    Parameters
    ----------
    x : (n, m) CSR
        Rows are users. When all values are 1 the counts are exact (float32: up to 2²⁴).
    dtype : float32 or float64
        Type of the result, and of the sums.
    mirror : bool
        False leaves zeros below the diagonal: enough for `spd_inverse`.
    out : (m, m) C-contiguous array of `dtype`, optional
        Where to write it; by default in memory of its own.

    Returns
    -------
    (m, m) array of `dtype`

    Notes
    -----
    Memory: the result, and 8 bytes an interaction.
    """
    c = as_csr(x)
    shape, kind = (c.shape[1], c.shape[1]), _float_type(dtype)
    if out is None:
        out = np.empty(shape, kind)
    if not isinstance(out, np.ndarray) or out.shape != shape or out.dtype != kind:
        raise TypeError(f"out must be a {kind} array of shape {shape}, got {describe(out)}")
    _core.gram(*parts(c), out, mirror, resolve_threads(n_threads))
    return out


@by_device("solvers")
def spd_inverse(
    a: NDArray[Any], *, mirror: bool = True, block: int | None = None, n_threads: int | None = None
) -> NDArray[Any]:
    """Invert a symmetric positive-definite matrix in place, a tensor of a GPU there.

    Parameters
    ----------
    a : (n, n) C-contiguous float32 or float64 array
        Only the upper triangle is read. It is overwritten.
    mirror : bool
        False leaves what was below the diagonal: enough for `ease_weights`.
    block : int, optional
        Rows inverted at a time. By default the whole matrix by LAPACK up to 26,000 rows (float64:
        13,000), blocks of 768 beyond, where OpenBLAS crashes; on a GPU blocks of 1,024. 0 means the
        whole matrix.

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
        raise TypeError(f"a must be a float32 or float64 matrix, got {describe(a)}")
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


@by_device("solvers")
def ease_weights(p: NDArray[np.float32], *, n_threads: int | None = None) -> NDArray[np.float32]:
    """Turn P = (XᵀX + λI)⁻¹ into the weights of EASE, in place, a tensor of a GPU there.

    B_ij = -P_ij / P_jj for i ≠ j, and B_jj = 0 (Steck 2019, equation 8).

    Parameters
    ----------
    p : (m, m) C-contiguous float32 array
        Only its upper triangle is read. It is overwritten, and returned.
    """
    if not isinstance(p, np.ndarray):
        raise TypeError(f"p must be a float32 array, got {describe(p)}")
    _core.ease_weights(p, resolve_threads(n_threads))
    return p


@by_device("products")
def scores_dense_weights(
    x: sp.sparray | sp.spmatrix,
    weights: NDArray[np.float32],
    *,
    offset: ArrayLike | None = None,
    n_threads: int | None = None,
) -> NDArray[np.float32]:
    """Return the (n, m) scores ``offset + x @ weights``, the very ones that `topk_dense_weights` ranks.

    Parameters are those of `topk_dense_weights`, also on a GPU. The result is n x m: keep n small.
    """
    c, w, o = dense_weights(x, weights, offset)
    out = np.empty(c.shape, np.float32)
    _core.sparse_linear(*parts(c), w, o, out, resolve_threads(n_threads))
    return out


@by_device("products")
def scores_sparse_weights(
    x: sp.sparray | sp.spmatrix,
    weights: sp.sparray | sp.spmatrix,
    *,
    offset: ArrayLike | None = None,
    n_threads: int | None = None,
) -> NDArray[np.float32]:
    """Return the (n, m) scores ``offset + x @ weights``, the very ones that `topk_sparse_weights` ranks.

    Parameters are those of `topk_sparse_weights`, also on a GPU. The result is n x m and dense: keep
    n small.
    """
    c, w, o = sparse_weights(x, weights, offset)
    out = np.empty(c.shape, np.float32)
    _core.sparse_product(*parts(c), parts(w), o, out, resolve_threads(n_threads))
    return out


def dense_weights(
    x: Any, weights: Any, offset: Any
) -> tuple[sp.csr_array, NDArray[np.float32], NDArray[np.float32] | None]:
    c = as_csr(x)
    w = np.ascontiguousarray(weights, dtype=np.float32)
    _fits(w, c)
    return c, w, _offset(offset)


def sparse_weights(
    x: Any, weights: Any, offset: Any
) -> tuple[sp.csr_array, sp.csr_array, NDArray[np.float32] | None]:
    c, w = as_csr(x), as_csr(weights, name="weights")
    _fits(w, c)
    return c, w, _offset(offset)


def _fits(weights: Any, x: sp.csr_array) -> None:
    wanted = (x.shape[1], x.shape[1])
    if weights.shape != wanted:
        raise ValueError(f"weights must have shape {wanted} to fit x, got {weights.shape}")


def _offset(offset: Any) -> NDArray[np.float32] | None:
    return None if offset is None else np.ascontiguousarray(offset, dtype=np.float32)


def parts(c: sp.csr_array) -> tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.float32]]:
    """Return offsets, items and values in the types of the kernels; the offsets are copied, no more."""
    return c.indptr.astype(np.int64), c.indices.astype(np.int32, copy=False), c.data


def _float_type(dtype: Any) -> np.dtype[Any]:
    result: np.dtype[Any] = np.dtype(dtype)
    if result not in (np.float32, np.float64):
        raise TypeError(f"dtype must be float32 or float64, got {result}")
    return result


def describe(x: Any) -> str:
    if isinstance(x, np.ndarray):
        return f"{x.dtype} of shape {x.shape}"
    return f"{type(x).__module__}.{type(x).__qualname__}"
