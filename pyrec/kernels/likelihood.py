"""The multinomial likelihood of rows of logits: on the CPU by the core, elsewhere by `gpu.networks`."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pyrec import _core
from pyrec.kernels.gpu import networks
from pyrec.kernels.gpu.networks import result_type
from pyrec.kernels.matrices import Csr
from pyrec.kernels.threads import n_threads

__all__ = ["array", "has_kernel", "nll", "nll_grad", "nll_in_place", "parts", "result_type"]


def nll(logits: Tensor, target: Tensor | Csr, mask: Tensor | None) -> tuple[Tensor, Tensor]:
    """The loss of each row, and log sum exp of its logits."""
    if not has_kernel(logits, torch.bfloat16):
        return networks.nll(logits, target, mask)
    dtype = result_type(logits)
    loss, lse = (logits.new_empty(len(logits), dtype=dtype) for _ in range(2))
    operands = array(logits), _target_arrays(target, dtype), _mask_array(mask)
    _core.multinomial_forward(*operands, array(loss), array(lse), n_threads())
    return loss, lse


def nll_grad(
    logits: Tensor, target: Tensor | Csr, mask: Tensor | None, lse: Tensor, scale: Tensor
) -> Tensor:
    """The gradient of sum_i scale_i loss_i."""
    if not has_kernel(logits, torch.bfloat16):
        return networks.nll_grad(logits, target, mask, lse, scale)
    grad = torch.empty_like(logits)
    operands = array(logits), _target_arrays(target, lse.dtype), _mask_array(mask)
    vectors = array(lse), array(scale.to(lse.dtype))
    _core.multinomial_backward(*operands, *vectors, array(grad), n_threads())
    return grad


def nll_in_place(logits: Tensor, target: Tensor | Csr, mask: Tensor | None, scale: float) -> Tensor:
    """The loss of each row; its gradient times `scale` takes the place of the logits."""
    if not has_kernel(logits, torch.bfloat16):
        return networks.nll_in_place(logits, target, mask, scale)
    dtype = result_type(logits)
    loss = logits.new_empty(len(logits), dtype=dtype)
    operands = array(logits), _target_arrays(target, dtype), _mask_array(mask)
    _core.multinomial_in_place(*operands, scale, array(loss), n_threads())
    return loss


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
