"""The multinomial likelihood of rows of logits: native on the CPU, torch operations elsewhere."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pyrec import _core
from pyrec.kernels.matrices import Csr
from pyrec.kernels.threads import n_threads

__all__ = ["array", "has_kernel", "nll", "nll_grad", "nll_in_place", "parts", "result_type"]


def nll(logits: Tensor, target: Tensor | Csr, mask: Tensor | None) -> tuple[Tensor, Tensor]:
    """The loss of each row, and log sum exp of its logits."""
    dtype = result_type(logits)
    if not has_kernel(logits, torch.bfloat16):
        x, masked = _torch_operands(logits, target, mask)
        lse = torch.logsumexp(masked, 1)
        return torch.where(x != 0, x * (lse[:, None] - masked), 0).sum(1), lse
    loss, lse = (torch.empty(len(logits), dtype=dtype) for _ in range(2))
    operands = array(logits), _target_arrays(target, dtype), _mask_array(mask)
    _core.multinomial_forward(*operands, array(loss), array(lse), n_threads())
    return loss, lse


def nll_grad(
    logits: Tensor, target: Tensor | Csr, mask: Tensor | None, lse: Tensor, scale: Tensor
) -> Tensor:
    """The gradient of sum_i scale_i loss_i."""
    if not has_kernel(logits, torch.bfloat16):
        x, masked = _torch_operands(logits, target, mask)
        # Where nothing takes part, -inf less -inf is no number.
        softmax = torch.where(masked == -math.inf, 0, torch.exp(masked - lse[:, None]))
        return (scale[:, None] * (x.sum(1, keepdim=True) * softmax - x)).to(logits.dtype)
    grad = torch.empty_like(logits)
    operands = array(logits), _target_arrays(target, lse.dtype), _mask_array(mask)
    vectors = array(lse), array(scale.to(lse.dtype))
    _core.multinomial_backward(*operands, *vectors, array(grad), n_threads())
    return grad


def nll_in_place(logits: Tensor, target: Tensor | Csr, mask: Tensor | None, scale: float) -> Tensor:
    """The loss of each row; its gradient times `scale` takes the place of the logits."""
    dtype = result_type(logits)
    if not has_kernel(logits, torch.bfloat16):
        loss, lse = nll(logits, target, mask)
        scales = torch.full_like(loss, scale)
        logits.copy_(nll_grad(logits, target, mask, lse, scales))
        return loss
    loss = torch.empty(len(logits), dtype=dtype)
    operands = array(logits), _target_arrays(target, dtype), _mask_array(mask)
    _core.multinomial_in_place(*operands, scale, array(loss), n_threads())
    return loss


def _torch_operands(
    logits: Tensor, target: Tensor | Csr, mask: Tensor | None
) -> tuple[Tensor, Tensor]:
    dtype = result_type(logits)
    x = (target.dense() if isinstance(target, Csr) else target).to(dtype)
    logits = logits.to(dtype)
    if mask is None:
        return x, logits
    return x.masked_fill(mask, 0), logits.masked_fill(mask, -math.inf)


def result_type(logits: Tensor) -> torch.dtype:
    return torch.float64 if logits.dtype == torch.float64 else torch.float32


def has_kernel(t: Tensor, *more: torch.dtype) -> bool:
    """Whether there is native code for such tensors: float32, float64 and `more` on the CPU."""
    return t.device.type == "cpu" and t.dtype in (torch.float32, torch.float64, *more)


def array(t: Tensor) -> NDArray[Any]:
    """View a CPU tensor as an array; NumPy has no bfloat16, its bits go as uint16."""
    t = t.detach().contiguous()
    if t.dtype == torch.bfloat16:
        return t.view(torch.int16).numpy().view(np.uint16)
    array: NDArray[Any] = t.numpy()
    return array


def parts(x: Csr, dtype: torch.dtype) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    return array(x.indptr), array(x.indices), array(x.values.to(dtype))


def _target_arrays(target: Tensor | Csr, dtype: torch.dtype) -> Any:
    return parts(target, dtype) if isinstance(target, Csr) else array(target.to(dtype))


def _mask_array(mask: Tensor | None) -> NDArray[np.uint8] | None:
    if mask is None:
        return None
    if mask.dtype != torch.bool:
        raise TypeError(f"mask must be a bool tensor, got {mask.dtype}")
    return np.atleast_2d(array(mask)).view(np.uint8)
