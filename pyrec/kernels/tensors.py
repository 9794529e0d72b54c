"""The native kernels over torch tensors: autograd, and memory that is used again.

CPU tensors go to the core's kernels, tensors of other devices to `gpu.networks`. None of the functions
here can be differentiated twice: that raises a RuntimeError.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import wraps
from typing import Any

import torch
from torch import Tensor

from pyrec import _core
from pyrec.kernels.gpu import networks
from pyrec.kernels.gpu.chunks import chunks, cut
from pyrec.kernels.likelihood import (
    array,
    has_kernel,
    nll,
    nll_grad,
    nll_in_place,
    parts,
    result_type,
)
from pyrec.kernels.matrices import Csr, Logits
from pyrec.kernels.memory import release, scratch, take, zero_grad
from pyrec.kernels.products import fast_float32
from pyrec.kernels.threads import n_threads

__all__ = [
    "Csr",
    "Logits",
    "drop",
    "fast_float32",
    "fused_decoder_nll",
    "multinomial_nll",
    "normalize_rows",
    "only_once",
    "release",
    "sparse_linear",
    "zero_grad",
]

# Logits of a batch that exist at a time in the fused decoder.
_CHUNK_BYTES = 256 << 20


def multinomial_nll(logits: Tensor, target: Tensor | Csr, mask: Tensor | None = None) -> Tensor:
    """Return the multinomial negative log-likelihood of each row, ``-sum_j x_ij log softmax_j(logits_i)``.

    Parameters
    ----------
    logits : (n, m) float32, float64 or bfloat16 tensor
    target : (n, m) tensor or Csr
        Counts x; never differentiated.
    mask : (m,) or (n, m) bool tensor, optional
        True for items that take no part: neither in the softmax nor as targets.

    Returns
    -------
    (n,) tensor
        float64 for float64 logits, otherwise float32; 0 for a row without targets.

    References
    ----------
    Liang et al. 2018, Variational Autoencoders for Collaborative Filtering, equation 2.
    """
    if logits.ndim != 2:
        raise ValueError(f"logits must have 2 dimensions, got shape {tuple(logits.shape)}")
    _check_target(target, tuple(logits.shape))
    loss: Tensor = _MultinomialNll.apply(logits, target, mask)
    return loss


def fused_decoder_nll(
    h: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    target: Tensor | Csr,
    mask: Tensor | None = None,
) -> Tensor:
    """Return the mean over the rows of ``multinomial_nll(h @ weight.T + bias, target, mask)``.

    The gradients of h, weight and bias are made in the forward pass, chunk of rows by chunk of rows,
    and can be taken once. Under autocast to bfloat16 the products are done in bfloat16.

    Parameters
    ----------
    h : (n, r) tensor
    weight : (m, r) tensor
    bias : (m,) tensor, optional
    target, mask
        As in `multinomial_nll`.

    Notes
    -----
    Memory: a chunk of logits, at most 256 MiB (or one row), and the gradients. Products run on BLAS:
    the last bits depend on the number of threads.
    """
    if h.ndim != 2 or weight.ndim != 2 or h.shape[1] != weight.shape[1]:
        raise ValueError(
            "h and weight must be matrices of the same rank, got shapes "
            f"{tuple(h.shape)} and {tuple(weight.shape)}"
        )
    _check_target(target, (len(h), len(weight)))
    # Inside, nothing tells whether the caller asked for no gradients.
    wants_grad = torch.is_grad_enabled()
    loss: Tensor = _FusedDecoderNll.apply(h, weight, bias, target, mask, wants_grad)
    return loss


def sparse_linear(x: Csr, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return ``x @ weight + bias``: for each row the sum of the weights' rows that occur in it.

    Differentiable in the values of `x`, in `weight` and in `bias`. Work and memory follow the
    entries of `x`, but for the gradient of `weight`, which is dense.

    Parameters
    ----------
    x : Csr of shape (n, m)
    weight : (m, out) tensor
    bias : (out,) tensor, optional
    """
    if weight.ndim != 2 or len(weight) != x.n_cols:
        raise ValueError(
            f"weight must have {x.n_cols} rows, one a column of x, got shape {tuple(weight.shape)}"
        )
    out: Tensor = _SparseLinear.apply(x.values, weight, x)
    return out if bias is None else out + bias


def normalize_rows(x: Csr) -> Csr:
    """Return `x` with every row divided by its L2 norm; rows of zeros stay as they are.

    Differentiable in the values, then by torch operations.
    """
    if has_kernel(x.values) and not x.values.requires_grad:
        values = torch.empty_like(x.values)
        _core.normalize_rows(array(x.indptr), array(x.values), array(values), n_threads())
        return x.with_values(values)
    return networks.normalize_rows(x)


def drop(x: Csr, share: float) -> Csr:
    """Return `x` after dropout of its entries: 0 with probability `share`, else divided by 1 - `share`.

    One number of torch's generator decides it all. Differentiable in the values, then by torch.
    """
    if x.values.requires_grad:
        return x.with_values(torch.nn.functional.dropout(x.values, share))
    # Of the CPU's generator, for a GPU too: the same entries there.
    seed = int(torch.randint(2**63 - 1, (), device="cpu"))
    if not has_kernel(x.values):
        return networks.drop(x, share, seed)
    values = torch.empty_like(x.values)
    _core.drop(array(x.values), share, seed, array(values), n_threads())
    return x.with_values(values)


class _Refused(torch.autograd.Function):
    """A gradient that can be used, but not differentiated."""

    @staticmethod
    def forward(ctx: Any, anchor: Tensor, grad: Tensor) -> Tensor:
        return grad.view_as(grad)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[None, None]:
        raise RuntimeError("pyrec's own gradients cannot be differentiated twice")


def only_once(backward: Callable[..., Any]) -> Callable[..., Any]:
    """Make a backward pass whose results, under ``create_graph``, refuse another one.

    torch's own `once_differentiable` lets a second derivative with respect to inputs pass as zero.
    """

    @wraps(backward)
    def checked(ctx: Any, *grads: Tensor) -> Any:
        with torch.no_grad():
            results = backward(ctx, *grads)
        if not torch.is_grad_enabled():
            return results
        anchor = torch.zeros((), requires_grad=True)
        return tuple(r if r is None else _Refused.apply(anchor, r) for r in results)

    return checked


class _MultinomialNll(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits: Tensor, target: Tensor | Csr, mask: Tensor | None) -> Tensor:
        rows = logits.detach().contiguous()
        loss, lse = nll(rows, target, mask)
        ctx.save_for_backward(rows, lse)
        ctx.target, ctx.mask = target, mask
        return loss

    @staticmethod
    @only_once
    def backward(ctx: Any, loss_grad: Tensor) -> tuple[Tensor, None, None]:
        logits, lse = ctx.saved_tensors
        # Of a mean, the gradient is one number with stride 0.
        grad = nll_grad(logits, ctx.target, ctx.mask, lse, loss_grad.contiguous())
        return grad, None, None


class _FusedDecoderNll(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        h: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        target: Tensor | Csr,
        mask: Tensor | None,
        wants_grad: bool,
    ) -> Tensor:
        dtype = _product_type(h, weight)
        wanted = ctx.needs_input_grad[:3] if wants_grad else (False, False, False)
        ctx.grads = _empty_grads(wanted, h, weight, bias, dtype)
        losses = [torch.zeros(0, dtype=result_type(weight), device=h.device)]
        with fast_float32(), _as_type(weight, dtype) as w:
            b = None if bias is None else bias.detach().to(dtype)
            slices = chunks(len(h), len(weight) * dtype.itemsize, _CHUNK_BYTES)
            for rows, counts in zip(slices, _targets(target, slices), strict=True):
                part = h[rows].to(dtype).contiguous()
                with scratch("logits", (len(part), len(w)), dtype, h.device) as logits:
                    if b is None:
                        torch.mm(part, w.t(), out=logits)
                    else:
                        torch.addmm(b, part, w.t(), out=logits)
                    some = counts, _rows_of_mask(mask, rows)
                    if any(wanted):
                        losses.append(nll_in_place(logits, *some, scale=1 / len(h)))
                        _add_products(ctx.grads, logits, part, w, rows)
                    else:
                        losses.append(nll(logits, *some)[0])
        return torch.cat(losses).mean()

    @staticmethod
    @only_once
    def backward(ctx: Any, loss_grad: Tensor) -> tuple[Tensor | None, ...]:
        if ctx.grads is None:
            raise RuntimeError("the gradients of fused_decoder_nll can be taken only once")
        # No other reference may be left: autograd then keeps this memory as the parameter's gradient.
        grads, ctx.grads = ctx.grads, None
        if not (loss_grad.device.type == "cpu" and loss_grad == 1):
            for grad in grads:
                if grad is not None:
                    grad.mul_(loss_grad)
        return *grads, None, None, None


class _SparseLinear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, weight: Tensor, x: Csr) -> Tensor:
        ctx.save_for_backward(values, weight)
        ctx.x = x
        if not has_kernel(weight):
            return networks.sparse_linear(x.with_values(values), weight)
        out = weight.new_empty((len(x), weight.shape[1]))
        _core.sparse_linear(*parts(x, weight.dtype), array(weight), None, array(out), n_threads())
        return out

    @staticmethod
    @only_once
    def backward(ctx: Any, out_grad: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        values, weight = ctx.saved_tensors
        x, out_grad = ctx.x, out_grad.to(weight.dtype).contiguous()
        value_grad = weight_grad = None
        if ctx.needs_input_grad[1]:
            weight_grad = take(weight.shape, weight.dtype, weight.device)
        if not has_kernel(weight):
            if ctx.needs_input_grad[0]:
                value_grad = networks.sparse_linear_value_grad(x, weight, out_grad).to(values.dtype)
            if weight_grad is not None:
                networks.sparse_linear_weight_grad(x.with_values(values), out_grad, weight_grad)
            return value_grad, weight_grad, None
        csr, grad, threads = parts(x, weight.dtype), array(out_grad), n_threads()
        if ctx.needs_input_grad[0]:
            value_grad = weight.new_empty(len(values))
            _core.sparse_linear_value_grad(*csr, array(weight), grad, array(value_grad), threads)
            value_grad = value_grad.to(values.dtype)
        if weight_grad is not None:
            _core.sparse_linear_weight_grad(*csr, grad, array(weight_grad), threads)
        return value_grad, weight_grad, None


Grads = tuple[Tensor | None, Tensor | None, Tensor | None]


def _empty_grads(
    wanted: Sequence[bool], h: Tensor, weight: Tensor, bias: Tensor | None, dtype: torch.dtype
) -> Grads:
    """Memory for the gradients of h and weight that are wanted, zeros for that of bias."""
    return (
        torch.empty(h.shape, dtype=dtype, device=h.device) if wanted[0] else None,
        take(weight.shape, weight.dtype, weight.device) if wanted[1] else None,
        torch.zeros_like(bias) if wanted[2] and bias is not None else None,
    )


def _add_products(grads: Grads, g: Tensor, h: Tensor, w: Tensor, rows: slice) -> None:
    """Add what a chunk's gradient `g` of the logits gives for h, weight and bias."""
    grad_h, grad_w, grad_b = grads
    if grad_h is not None:
        torch.mm(g, w, out=grad_h[rows])
    if grad_b is not None:
        # A product: torch's sum of bfloat16 columns takes eight times as long. Of a row with a
        # matrix: `mv` of the transposed one takes twice as long.
        ones = torch.ones((1, len(g)), dtype=g.dtype, device=g.device)
        grad_b += torch.mm(ones, g)[0]
    if grad_w is None:
        return
    if g.dtype != grad_w.dtype:
        with scratch("product", grad_w.shape, g.dtype, g.device) as product:
            torch.mm(g.t(), h, out=product)
            grad_w.copy_(product) if rows.start == 0 else grad_w.add_(product)
    elif rows.start == 0:
        torch.mm(g.t(), h, out=grad_w)
    else:
        grad_w.addmm_(g.t(), h)


def _check_target(target: Tensor | Csr, shape: tuple[int, ...]) -> None:
    if tuple(target.shape) != shape:
        raise ValueError(
            f"target must have the shape of the logits, {shape}, got {tuple(target.shape)}"
        )


def _targets(target: Tensor | Csr, slices: Sequence[slice]) -> Sequence[Tensor | Csr]:
    return cut(target, slices) if isinstance(target, Csr) else [target[rows] for rows in slices]


def _rows_of_mask(mask: Tensor | None, rows: slice) -> Tensor | None:
    return mask if mask is None or mask.ndim == 1 or len(mask) == 1 else mask[rows]


def _product_type(h: Tensor, weight: Tensor) -> torch.dtype:
    """bfloat16 where autocast asks for it, else the type of the weights."""
    device = h.device.type
    if torch.is_autocast_enabled(device) and weight.dtype == torch.float32:
        return torch.get_autocast_dtype(device)
    return weight.dtype


@contextmanager
def _as_type(t: Tensor, dtype: torch.dtype) -> Iterator[Tensor]:
    if t.dtype == dtype:
        yield t.detach()
    else:
        with scratch("weight", t.shape, dtype, t.device) as copy:
            yield copy.copy_(t.detach())
