"""Large tensors whose memory is used again.

Fresh memory is mapped page by page, which takes longer than to fill it with a gradient.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

__all__ = ["give", "release", "take", "zero_grad"]

# Gradients from here on are worth keeping.
_LARGE = 1 << 18
# Memory that was used and will be again, by type and device.
_spare: dict[tuple[torch.dtype, torch.device], list[Tensor]] = {}


def zero_grad(parameters: Iterable[Tensor]) -> None:
    """Drop the gradients, and keep the memory of large ones for the next backward pass.

    Fresh memory is mapped page by page, which takes longer than to fill it with a gradient.
    """
    for parameter in parameters:
        grad, parameter.grad = parameter.grad, None
        if grad is not None and grad.numel() >= _LARGE:
            give(grad)


def release() -> None:
    """Free the memory that `zero_grad` and the fused decoder keep."""
    _spare.clear()


def take(shape: Sequence[int], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return memory of undefined content, used before if there is some of this size."""
    size = math.prod(shape)
    spare = _spare.get((dtype, device), [])
    for place, tensor in enumerate(spare):
        if tensor.numel() == size:
            return spare.pop(place).view(shape)
    return torch.empty(shape, dtype=dtype, device=device)


def give(tensor: Tensor) -> None:
    """Keep memory for `take`; a tensor that shares its storage with others is let go."""
    if (
        tensor.is_contiguous()
        and tensor.numel() * tensor.element_size() == tensor.untyped_storage().nbytes()
    ):
        _spare.setdefault((tensor.dtype, tensor.device), []).append(tensor.detach())
