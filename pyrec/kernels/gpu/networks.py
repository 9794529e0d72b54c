"""What networks need of a GPU: the likelihood of rows of logits, sparse layers, and what precedes them.

Compiled kernels where there are some, otherwise torch operations with the same results, on any device.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from pyrec.kernels.gpu import native
from pyrec.kernels.matrices import Csr

__all__ = [
    "drop",
    "nll",
    "nll_grad",
    "nll_in_place",
    "normalize_rows",
    "result_type",
    "sparse_linear",
    "sparse_linear_value_grad",
    "sparse_linear_weight_grad",
]

Target = Tensor | Csr


def nll(logits: Tensor, target: Target, mask: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return the multinomial loss of each row, and log sum exp of its logits.

    Parameters
    ----------
    logits : (n, m) tensor
    target : (n, m) tensor or Csr
        Counts.
    mask : (m,), (1, m) or (n, m) bool tensor, optional
        True for items that take no part.

    Returns
    -------
    (n,) and (n,) tensors
        float64 for float64 logits, otherwise float32.
    """
    mask = _checked(logits, target, mask)
    kernel = native.kernel("multinomial_forward", logits)
    if kernel is None:
        x, masked = _torch_operands(logits, target, mask)
        lse = torch.logsumexp(masked, 1)
        lse.masked_fill_(lse == math.inf, math.nan)  # inf - inf, as the kernels have it
        return torch.where(x != 0, x * (lse[:, None] - masked), 0).sum(1), lse
    logits = logits.detach().contiguous()
    x = _typed(target, result_type(logits))
    loss, lse = (logits.new_empty(len(logits), dtype=result_type(logits)) for _ in range(2))
    kernel(*_operands(logits, x, mask), _vector(loss), _vector(lse), native.queue(logits))
    return loss, lse


def nll_grad(
    logits: Tensor, target: Target, mask: Tensor | None, lse: Tensor, scale: Tensor
) -> Tensor:
    """Return the gradient of ``sum_i scale_i loss_i``.

    Parameters
    ----------
    logits, target, mask
        As in `nll`.
    lse : (n,) tensor
        As `nll` returned it.
    scale : (n,) tensor
    """
    mask = _checked(logits, target, mask)
    for name, vector in (("lse", lse), ("scale", scale)):
        native.check_shape(name, vector, (len(logits),))
        native.check_device(name, vector, logits)
    kernel = native.kernel("multinomial_backward", logits)
    if kernel is None:
        x, masked = _torch_operands(logits, target, mask)
        grad = scale[:, None] * (x.sum(1, keepdim=True) * torch.exp(masked - lse[:, None]) - x)
        if mask is not None:
            grad.masked_fill_(mask, 0)
        return grad.to(logits.dtype)
    logits = logits.detach().contiguous()
    dtype = result_type(logits)
    x, grad = _typed(target, dtype), torch.empty_like(logits)
    vectors = [t.detach().to(dtype).contiguous() for t in (lse, scale)]
    kernel(
        *_operands(logits, x, mask),
        *map(_vector, vectors),
        native.matrix(grad, grad.dtype, "grad"),
        native.queue(logits),
    )
    return grad


def nll_in_place(logits: Tensor, target: Target, mask: Tensor | None, scale: float) -> Tensor:
    """Return the loss of each row; its gradient times `scale` takes the place of the logits.

    Parameters
    ----------
    logits : (n, m) tensor
        Contiguous, overwritten.
    target, mask
        As in `nll`.
    scale : float
    """
    mask = _checked(logits, target, mask)
    kernel = native.kernel("multinomial_in_place", logits)
    if kernel is None:
        loss, lse = nll(logits, target, mask)
        scales = torch.full_like(loss, scale)
        logits.copy_(nll_grad(logits, target, mask, lse, scales))
        return loss
    x = _typed(target, result_type(logits))
    loss = logits.new_empty(len(logits), dtype=result_type(logits))
    kernel(*_operands(logits, x, mask), scale, _vector(loss), native.queue(logits))
    return loss


def sparse_linear(
    x: Csr, weight: Tensor, offset: Tensor | None = None, out: Tensor | None = None
) -> Tensor:
    """Return ``x @ weight + offset``, of the type of `weight`.

    Parameters
    ----------
    x : Csr of shape (n, m)
    weight : (m, cols) tensor
    offset : (cols,) tensor, optional
    out : (n, cols) tensor, optional
        Contiguous; takes the result.
    """
    native.check_shape("weight", weight, (x.n_cols, None))
    shape = len(x), weight.shape[1]
    if offset is not None:
        native.check_shape("offset", offset, shape[1:])
    if out is not None:
        native.check_shape("out", out, shape)
    for name, other in (("x", x), ("offset", offset), ("out", out)):
        native.check_device(name, other, weight)
    x = _typed(x, weight.dtype)
    kernel = native.kernel("sparse_linear", weight)
    if kernel is None:
        product = _torch_product(x, weight, offset)
        return product if out is None else out.copy_(product)
    weight = weight.detach().contiguous()
    out = weight.new_empty(shape) if out is None else out
    kernel(
        native.csr(x, weight.dtype, "x"),
        native.matrix(weight, weight.dtype, "weight"),
        native.vector(offset, weight.dtype, "offset"),
        native.matrix(out, weight.dtype, "out"),
        native.queue(weight),
    )
    return out


def sparse_linear_weight_grad(x: Csr, out_grad: Tensor, out: Tensor) -> Tensor:
    """Write ``x.T @ out_grad``, the gradient of a sparse layer's weights, to `out`.

    Parameters
    ----------
    x : Csr of shape (n, m)
    out_grad : (n, cols) tensor
    out : (m, cols) tensor
        Contiguous; all of it is written.
    """
    native.check_shape("out_grad", out_grad, (len(x), None))
    native.check_shape("out", out, (x.n_cols, out_grad.shape[1]))
    for name, other in (("x", x), ("out", out)):
        native.check_device(name, other, out_grad)
    x = _typed(x, out_grad.dtype)
    kernel = native.kernel("sparse_linear_weight_grad", out_grad)
    if kernel is None:
        products = x.values[:, None] * out_grad[x.rows()]
        return out.zero_().index_add_(0, x.indices.long(), products)
    out_grad = out_grad.detach().contiguous()
    by_item = _transposed(x)
    kernel(
        native.csr(by_item, out_grad.dtype, "x"),
        native.matrix(out_grad, out_grad.dtype, "out_grad"),
        native.matrix(out, out_grad.dtype, "out"),
        native.queue(out_grad),
    )
    return out


def sparse_linear_value_grad(x: Csr, weight: Tensor, out_grad: Tensor) -> Tensor:
    """Return ``<out_grad[row], weight[item]>`` for each entry of `x`: the gradient of its values.

    Parameters
    ----------
    x : Csr of shape (n, m)
    weight : (m, cols) tensor
    out_grad : (n, cols) tensor
    """
    native.check_shape("weight", weight, (x.n_cols, None))
    native.check_shape("out_grad", out_grad, (len(x), weight.shape[1]))
    for name, other in (("x", x), ("out_grad", out_grad)):
        native.check_device(name, other, weight)
    kernel = native.kernel("sparse_linear_value_grad", weight)
    if kernel is None:
        return (weight[x.indices.long()] * out_grad[x.rows()]).sum(1)
    x = _typed(x, weight.dtype)
    weight, out_grad = weight.detach().contiguous(), out_grad.detach().contiguous()
    grad = weight.new_empty(len(x.indices))
    kernel(
        native.csr(x, weight.dtype, "x"),
        native.matrix(weight, weight.dtype, "weight"),
        native.matrix(out_grad, weight.dtype, "out_grad"),
        _vector(grad),
        native.queue(weight),
    )
    return grad


def normalize_rows(x: Csr) -> Csr:
    """Return `x` with every row divided by its L2 norm; rows of zeros stay as they are.

    Differentiable in the values, then by torch operations.
    """
    kernel = None if x.values.requires_grad else native.kernel("normalize_rows", x.values)
    if kernel is None:
        squares = torch.segment_reduce(
            x.values.double().square(), "sum", offsets=x.indptr, initial=0
        )
        # Not 0 before the root, whose derivative is infinite there.
        scales = torch.where(squares > 0, squares, 1).sqrt().reciprocal().to(x.dtype)
        return x.with_values(x.values * scales[x.rows()])
    x = _typed(x, x.dtype)
    values = torch.empty_like(x.values)
    indptr = native.vector(x.indptr, torch.int64, "x.indptr")
    kernel(indptr, _vector(x.values), _vector(values), native.queue(values))
    return x.with_values(values)


def drop(x: Csr, share: float, seed: int) -> Csr:
    """Return `x` after dropout of its entries: 0 with probability `share`, else divided by 1 - `share`.

    `seed`, in 0..2**63 - 1, decides it all: the same entries as on the CPU.
    """
    if not 0 <= share < 1:
        raise ValueError(f"share must be in [0, 1), got {share}")
    kernel = native.kernel("drop", x.values)
    if kernel is None:
        scaled = share * 2**32
        threshold = int(scaled) + (scaled % 1 >= 0.5)
        kept = _drawn(len(x.values), seed, x.device) >= threshold
        return x.with_values(torch.where(kept, x.values * (1 / (1 - share)), 0))
    x = _typed(x, x.dtype)
    values = torch.empty_like(x.values)
    kernel(_vector(x.values), share, seed, _vector(values), native.queue(values))
    return x.with_values(values)


def result_type(logits: Tensor) -> torch.dtype:
    """Return the type of losses: float64 for float64 logits, otherwise float32."""
    return torch.float64 if logits.dtype == torch.float64 else torch.float32


def _vector(t: Tensor) -> tuple[int, int]:
    return native.vector(t, t.dtype, "values")


def _typed(x: Any, dtype: torch.dtype) -> Any:
    """The same tensor or Csr with values as the kernels take them."""
    if isinstance(x, Csr):
        return x.with_values(x.values.detach().to(dtype).contiguous())
    return x.detach().to(dtype).contiguous()


def _operands(logits: Tensor, target: Target, mask: Tensor | None) -> tuple[Any, ...]:
    """Logits, target and mask as the kernels of the likelihood take them; the tensors must outlive these."""
    dtype = result_type(logits)
    if isinstance(target, Csr):
        addresses = native.csr(target, dtype, "target")[2:]
    else:
        addresses = 0, 0, native.matrix(target, dtype, "target")[0]
    rows = (0, 0) if mask is None else (mask.data_ptr(), 0 if len(mask) == 1 else mask.shape[1])
    return native.matrix(logits, logits.dtype, "logits"), addresses, rows


def _checked(logits: Tensor, target: Target, mask: Tensor | None) -> Tensor | None:
    """Check what belongs to logits; the mask as contiguous rows, one for all or one each."""
    if logits.ndim != 2:
        raise ValueError(f"logits must have 2 dimensions, got shape {tuple(logits.shape)}")
    n, m = logits.shape
    native.check_shape("target", target, (n, m))
    native.check_device("target", target, logits)
    if mask is None:
        return None
    if mask.dtype != torch.bool:
        raise TypeError(f"mask must be a bool tensor, got {mask.dtype}")
    native.check_device("mask", mask, logits)
    rows: Tensor = torch.atleast_2d(mask).contiguous()
    if rows.ndim != 2 or len(rows) not in (1, n) or rows.shape[1] != m:
        raise ValueError(f"mask must have shape (1 or {n}, {m}), got {tuple(mask.shape)}")
    return rows


def _transposed(x: Csr) -> Csr:
    """The (m, n) Csr of the same entries, rows ascending within an item; nobody waits for the device."""
    items, order = torch.sort(x.indices, stable=True)
    bounds = torch.arange(x.n_cols + 1, dtype=items.dtype, device=items.device)
    rows = x.rows()[order].to(torch.int32)
    return Csr(torch.searchsorted(items, bounds), rows, x.values[order], len(x))


def _torch_product(x: Csr, weight: Tensor, offset: Tensor | None) -> Tensor:
    product: Tensor = torch.nn.functional.embedding_bag(
        x.indices, weight, x.indptr[:-1].int(), mode="sum", per_sample_weights=x.values
    )
    return product if offset is None else product + offset


def _torch_operands(logits: Tensor, target: Target, mask: Tensor | None) -> tuple[Tensor, Tensor]:
    dtype = result_type(logits)
    x = (target.dense() if isinstance(target, Csr) else target).to(dtype)
    logits = logits.to(dtype)
    if mask is None:
        return x, logits
    return x.masked_fill(mask, 0), logits.masked_fill(mask, -math.inf)


# What csrc/core/random.h does, in int64, whose products and sums wrap around like those of uint64.
_GOLDEN, _FIRST, _SECOND = (
    0x9E3779B97F4A7C15 - 2**64,
    0xBF58476D1CE4E5B9 - 2**64,
    0x94D049BB133111EB - 2**64,
)


def _drawn(n: int, seed: int, device: torch.device) -> Tensor:
    """The upper 32 bits of ``draw(seed, 0, index)`` for the indices ``0..n - 1``."""
    base = int(_mixed(_mixed(torch.tensor(seed, device="cpu") + _GOLDEN)))
    return _shifted(_mixed(torch.arange(n, device=device) * _GOLDEN + base), 32)


def _mixed(z: Tensor) -> Tensor:
    z = (z ^ _shifted(z, 30)) * _FIRST
    z = (z ^ _shifted(z, 27)) * _SECOND
    return z ^ _shifted(z, 31)


def _shifted(z: Tensor, by: int) -> Tensor:
    """Shift to the right, zeros from the left."""
    return (z >> by) & ((1 << (64 - by)) - 1)
