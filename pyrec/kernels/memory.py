"""Large tensors whose memory is used again.

Fresh memory is mapped page by page, which takes longer than to fill it with a gradient. What is kept
here is bounded: one buffer a role, and gradients that `take` handed out. Of a GPU's memory nothing is
kept here: torch does that, stream by stream.
"""

from __future__ import annotations

import math
import sys
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

__all__ = ["release", "scratch", "take", "zero_grad"]

# Gradients from here on are worth keeping.
_LARGE = 1 << 18
# Gradients that were dropped, by type and device, and where those lie that are in use.
_spare: dict[tuple[torch.dtype, torch.device], list[Tensor]] = {}
_in_use: set[int] = set()
_lock = threading.Lock()
_scratch: dict[tuple[str, torch.dtype, torch.device], Tensor] = {}


def take(shape: Sequence[int], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return memory of undefined content for a gradient, used before if there is some of this size."""
    if device.type != "cpu":
        return torch.empty(shape, dtype=dtype, device=device)
    size = math.prod(shape)
    with _lock:  # threads may train models of their own
        spare = _spare.get((dtype, device), [])
        fitting = [place for place, tensor in enumerate(spare) if tensor.numel() == size]
        found = spare.pop(fitting[0]) if fitting else None
    if found is None:
        found = torch.empty(size, dtype=dtype, device=device)
    taken = found.view(shape)
    if size >= _LARGE:
        _in_use.add(taken.data_ptr())
    return taken


def zero_grad(parameters: Iterable[Tensor]) -> None:
    """Drop the gradients; the memory of those that `take` gave is kept for the next backward pass.

    A gradient that somebody else still refers to is left to them; a view of one (`view`, `numpy`)
    does not count, so clone what is to be kept.

    Parameters
    ----------
    parameters : iterable of tensors
        Used instead of ``optimizer.zero_grad()``.
    """
    for parameter in parameters:
        grad, parameter.grad = parameter.grad, None
        if grad is None or grad.data_ptr() not in _in_use:
            continue
        _in_use.discard(grad.data_ptr())
        if sys.getrefcount(grad) <= 2 and grad.is_contiguous():
            _spare.setdefault((grad.dtype, grad.device), []).append(grad)


@contextmanager
def scratch(
    role: str, shape: Sequence[int], dtype: torch.dtype, device: torch.device
) -> Iterator[Tensor]:
    """Lend memory of undefined content for one use; the next use of the same role has it again."""
    if device.type != "cpu":
        yield torch.empty(shape, dtype=dtype, device=device)
        return
    key, size = (role, dtype, device), math.prod(shape)
    buffer = _scratch.pop(key, None)
    if buffer is None or buffer.numel() < size:
        buffer = torch.empty(size, dtype=dtype, device=device)
    try:
        yield buffer[:size].view(shape)
    finally:
        if not buffer.is_inference():  # such memory cannot be written to in training
            _scratch[key] = buffer


def release() -> None:
    """Free all that is kept."""
    for kept in (_spare, _in_use, _scratch):
        kept.clear()
