"""Linear algebra of the item-item models on a GPU: XᵀX, its inverse, EASE's weights, ADMM.

Each call gives the same bits again on the same machine.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from pyrec.kernels.columns import AdmmOptions, Solved, column_numbers, iterate
from pyrec.kernels.gpu import native
from pyrec.kernels.gpu.chunks import chunks, cut
from pyrec.kernels.gpu.precision import exact_float32
from pyrec.kernels.gpu.transfers import Block, in_blocks
from pyrec.kernels.matrices import Csr

if TYPE_CHECKING:
    import scipy.sparse as sp

__all__ = [
    "BLOCK",
    "PANEL",
    "admm",
    "ease_weights",
    "gram",
    "mirror_upper",
    "spd_inverse",
    "to_host",
]

# Rows that the inverse eliminates at a time.
BLOCK = 1024
# Columns that ADMM iterates together: meant for products that keep a large GPU busy, and few stops to look.
PANEL = 2048
# Rows of temporaries, where torch's operations do what a kernel does in passing.
_ROWS = 256
# Bytes of dense histories, and of what comes back, at a time.
_CHUNK_BYTES = 64 << 20


def gram(
    x: Csr, *, dtype: Any = torch.float32, mirror: bool = True, out: Tensor | None = None
) -> Tensor:
    """Return XᵀX as a dense symmetric matrix.

    Parameters
    ----------
    x : (n, m) Csr of float32
        When all values are 1 the counts are exact (float32: up to 2²⁴).
    dtype : float32 or float64
        Type of the result, and of the sums; torch's or NumPy's.
    mirror : bool
        False leaves zeros below the diagonal: enough for `spd_inverse`.
    out : (m, m) contiguous tensor of `dtype`, optional
        Where to write it; by default in memory of its own.

    Returns
    -------
    (m, m) tensor of `dtype`

    Notes
    -----
    Memory: the result; 16 bytes an interaction, and as much again while they are sorted.
    """
    kind = dtype if isinstance(dtype, torch.dtype) else getattr(torch, np.dtype(dtype).name, dtype)
    if kind not in (torch.float32, torch.float64):
        raise TypeError(f"dtype must be float32 or float64, got {dtype}")
    native.check_type("x", x, Csr)
    rows = native.csr(x, torch.float32, "x")
    if out is None:
        out = torch.empty((x.n_cols, x.n_cols), dtype=kind, device=x.device)
    native.check_device("out", out, x.values)
    native.check_shape("out", out, (x.n_cols, x.n_cols))
    result = native.matrix(out, kind, "out")
    kernel = native.kernel("gram", out)
    if kernel is None:
        _add_products(x, out)
    else:
        where = _occurrences(x)
        addresses = tuple(part.data_ptr() for part in where)
        kernel(rows, addresses, bool((x.values == 1).all()), result, native.queue(out))
    return mirror_upper(out) if mirror else out


def _occurrences(x: Csr) -> tuple[Tensor, Tensor, Tensor]:
    """Where the list of each item begins; the entries of x by item, rows ascending; where their rows end."""
    items, entries = torch.sort(x.indices, stable=True)
    numbers = torch.arange(x.n_cols + 1, dtype=torch.int32, device=x.device)
    begin = torch.searchsorted(items, numbers)
    row_ends = torch.repeat_interleave(x.indptr[1:], x.indptr.diff(), output_size=len(x.indices))
    return begin, entries, row_ends[entries]


def _add_products(x: Csr, out: Tensor) -> None:
    """The upper triangle of XᵀX by dense blocks of rows."""
    out.zero_()
    for part in cut(x, chunks(len(x), out.element_size() * x.n_cols, _CHUNK_BYTES)):
        block = part.with_values(part.values.to(out.dtype)).dense()
        with exact_float32():
            out.addmm_(block.T, block)
    out.triu_()


def mirror_upper(a: Tensor) -> Tensor:
    """Copy the upper triangle of a square matrix over the lower one; return it."""
    _square(a, "a")
    kernel = native.kernel("mirror_upper", a)
    if kernel is not None:
        kernel(native.matrix(a, a.dtype, "a"), native.queue(a))
        return a
    for begin in range(0, len(a), _ROWS):
        rows = slice(begin, begin + _ROWS)
        a[rows, :begin] = a[:begin, rows].T
        block = a[rows, rows].triu()
        a[rows, rows] = block + block.triu(1).T
    return a


def spd_inverse(a: Tensor, *, mirror: bool = True, block: int | None = None) -> Tensor:
    """Invert a symmetric positive-definite matrix in place.

    Parameters
    ----------
    a : (n, n) contiguous float32 or float64 tensor
        Only the upper triangle is read. It is overwritten.
    mirror : bool
        False leaves what is below the diagonal undefined: enough for a `mirror_upper` later.
    block : int, optional
        Rows eliminated at a time, by default 1,024. 0 means the whole matrix.

    Returns
    -------
    (n, n) tensor
        `a` itself.

    Raises
    ------
    numpy.linalg.LinAlgError
        When `a` is not positive definite, or not finite; its content is then lost.

    Notes
    -----
    n³ operations, nearly all in products, by the symmetric sweep (Goodnight 1979, A Tutorial on the
    SWEEP Operator): with K the rows of a block, D = (A_KK)⁻¹ and R = A_K,
    A_IJ becomes A_IJ - R_Iᵀ D R_J, A_KJ becomes D R_J, A_KK becomes -D; after all blocks A is -A⁻¹.
    Memory beside `a`: two panels of block x n, so one n x n matrix in all. torch's own inverse of a
    Cholesky factor takes 2⅓ n³ operations and a second matrix.
    """
    _square(a, "a")
    n, block = len(a), BLOCK if block is None else block
    if block < 0:
        raise ValueError(f"block must be at least 0, got {block}")
    block = block or max(1, n)
    with exact_float32():
        for begin in range(0, n, block):
            _sweep(a, begin, min(begin + block, n), block)
    diagonal = a.neg_().diagonal()
    if not (diagonal > 0).logical_and(diagonal.isfinite()).all():
        raise np.linalg.LinAlgError("the matrix is not positive definite, or not finite")
    return mirror_upper(a) if mirror else a


def _sweep(a: Tensor, begin: int, end: int, block: int) -> None:
    """Eliminate the rows begin..end in the upper triangle."""
    pivot = a[begin:end, begin:end]
    # Torch reads lower triangles: that of the transposed block is the upper one.
    factor, info = torch.linalg.cholesky_ex(pivot.mT)
    if info:
        raise np.linalg.LinAlgError(
            f"the matrix is not positive definite: pivot {begin + int(info)} of {len(a)} is not positive"
        )
    inverse = torch.cholesky_inverse(factor)
    rows = torch.empty((end - begin, len(a)), dtype=a.dtype, device=a.device)
    rows[:, :begin] = a[:begin, begin:end].T
    rows[:, begin:end] = 0  # has its own place in the end
    rows[:, end:] = a[begin:end, end:]
    # What goes to `out` is not rounded by autocast.
    product = torch.mm(inverse, rows, out=torch.empty_like(rows))
    for first in range(0, len(a), block):
        if first != begin:
            strip = slice(first, first + block)
            a[strip, first:].addmm_(rows[:, strip].T, product[:, first:], alpha=-1)
    a[:begin, begin:end] = product[:, :begin].T
    a[begin:end, end:] = product[:, end:]
    torch.neg(inverse, out=pivot)


def ease_weights(p: Tensor) -> Tensor:
    """Turn P = (XᵀX + λI)⁻¹ into the weights of EASE, in place.

    B_ij = -P_ij / P_jj for i ≠ j, and B_jj = 0 (Steck 2019, equation 8).

    Parameters
    ----------
    p : (m, m) contiguous float32 tensor
        Only its upper triangle is read. It is overwritten, and returned.
    """
    native.matrix(p, torch.float32, "p")
    mirror_upper(p)
    return p.mul_(-1 / p.diagonal()).fill_diagonal_(0)


def admm(
    p: Tensor,
    *,
    lambda1: float,
    rho: float,
    nonnegative: bool = True,
    num_iter: int = 50,
    tol: float = 1e-4,
    relaxation: float = 1.6,
    columns: ArrayLike | None = None,
) -> Iterator[Solved]:
    """Solve columns of SLIM by ADMM, 2,048 at a time; columns that have converged make room for others.

    Parameters
    ----------
    p : (n, n) contiguous float32 or float64 tensor
        P = (XᵀX + (λ₂ + rho)I)⁻¹, both triangles filled. It must stay as it is until all is solved.
    lambda1, rho, nonnegative, num_iter, tol, relaxation, columns
        As of `pyrec.kernels.slim.admm`.

    Returns
    -------
    iterator of Solved
        On the host.

    Notes
    -----
    2 n² operations an iteration of a column. Memory: `p`, and 3 x 2,048 x n numbers.
    """
    _square(p, "p")
    options = AdmmOptions.checked(lambda1, rho, nonnegative, num_iter, tol, relaxation)
    numbers = column_numbers(columns, len(p))
    return iterate(_DevicePanel(p, min(PANEL, len(numbers)), options), numbers, options)


class _DevicePanel:
    """Columns on a GPU."""

    def __init__(self, p: Tensor, width: int, options: AdmmOptions) -> None:
        self.width, self._p, self._options = width, p, options
        self._w = p.new_zeros((width, len(p)))
        self._d, self._b = torch.empty_like(self._w), torch.empty_like(self._w)
        self._residual = torch.empty(width, dtype=torch.float64, device=p.device)

    def step(self, columns: NDArray[np.int32]) -> NDArray[np.float64]:
        here = torch.from_numpy(columns).to(self._p.device)
        w, d, b, residual = (t[: len(columns)] for t in (self._w, self._d, self._b, self._residual))
        _aim(self._p, here, self._options, w, d)
        with exact_float32():
            torch.mm(d, self._p, out=b)  # P is symmetric: of rows, not of columns
        _advance(here, self._options, b, w, residual)
        return residual.cpu().numpy()

    def solved(self, places: NDArray[np.int64]) -> sp.csr_array:
        import scipy.sparse as sp

        parts = []
        for some in torch.from_numpy(places).to(self._p.device).split(_ROWS):
            parts.append(Csr.from_dense(_shrunk(self._w[some], self._options)).to_csr())
        return sp.csr_array(sp.vstack(parts, format="csr"))

    def restart(self, places: NDArray[np.int64]) -> None:
        self._w[torch.from_numpy(places).to(self._p.device)] = 0

    def move(self, sources: NDArray[np.int64], targets: NDArray[np.int64]) -> None:
        there = torch.from_numpy(targets).to(self._p.device)
        self._w[there] = self._w[torch.from_numpy(sources).to(self._p.device)]


def _aim(p: Tensor, columns: Tensor, options: AdmmOptions, w: Tensor, d: Tensor) -> None:
    """D = 2C - W, with the D_j of each column that makes B_j zero."""
    kernel = native.kernel("admm_aim", p)
    if kernel is not None:
        kernel(
            native.matrix(p, p.dtype, "p"),
            native.vector(columns, torch.int32, "columns"),
            options.settings,
            native.matrix(w, p.dtype, "w"),
            native.matrix(d, p.dtype, "d"),
            native.queue(p),
        )
        return
    for begin in range(0, len(w), _ROWS):
        own = columns[begin : begin + _ROWS].long()[:, None]
        state = w[begin : begin + _ROWS]
        aims = (2 * _shrunk(state, options) - state).scatter_(1, own, 0)
        rows = p[own[:, 0]]
        sums = (rows.double() * aims).sum(1, keepdim=True)
        best = -(1 / options.rho + sums) / rows.gather(1, own)
        d[begin : begin + _ROWS] = aims.scatter_(1, own, best.to(p.dtype))


def _advance(
    columns: Tensor, options: AdmmOptions, product: Tensor, w: Tensor, residuals: Tensor
) -> None:
    """W becomes W + relaxation (B - C), with B = rho D P but for its B_j = 0."""
    kernel = native.kernel("admm_advance", w)
    if kernel is not None:
        kernel(
            native.vector(columns, torch.int32, "columns"),
            options.settings,
            native.matrix(product, w.dtype, "product"),
            native.matrix(w, w.dtype, "w"),
            native.vector(residuals, torch.float64, "residuals"),
            native.queue(w),
        )
        return
    for begin in range(0, len(w), _ROWS):
        some = slice(begin, begin + _ROWS)
        b = (options.rho * product[some]).scatter_(1, columns[some].long()[:, None], 0)
        before = _shrunk(w[some], options)
        w[some] += options.relaxation * (b - before)
        c = _shrunk(w[some], options)
        norms = (t.double().norm(dim=1) for t in (b, c, b - c, c - before, w[some] - c))
        residuals[some] = _residual(*norms)


def _residual(b: Tensor, c: Tensor, gap: Tensor, move: Tensor, dual: Tensor) -> Tensor:
    """As in `csrc/core/admm_terms.h`."""
    weights = b.maximum(c).clamp_min(1e-2)
    return (gap / weights).maximum(move / dual.maximum(1e-3 * weights))


def _shrunk(w: Tensor, options: AdmmOptions) -> Tensor:
    """C = soft(W, λ₁ / rho), cut off at 0 when nonnegative."""
    threshold = options.lambda1 / options.rho
    if options.nonnegative:
        return (w - threshold).clamp_min_(0)
    return (w.abs() - threshold).clamp_min_(0).copysign_(w)


def _square(a: Tensor, name: str) -> None:
    if a.dtype not in (torch.float32, torch.float64):
        raise TypeError(f"{name} must be a float32 or float64 matrix, got {a.dtype}")
    native.matrix(a, a.dtype, name)
    if a.shape[0] != a.shape[1]:
        raise ValueError(f"{name} must be square, got shape {tuple(a.shape)}")


def to_host(t: Tensor) -> NDArray[Any]:
    """Return a matrix as an array; that of a CPU tensor shares its memory."""
    if t.device.type != "cuda":
        return t.numpy()
    result = torch.empty(t.shape, dtype=t.dtype, device="cpu").numpy()

    def block(rows: slice) -> Block:
        return Block(rows, (), lambda: (t[rows],))

    parts = chunks(len(t), t.element_size() * t.shape[1], _CHUNK_BYTES)
    in_blocks(map(block, parts), (result,), t.device)
    return result
