"""Networks on their way to a device: moved or copied whole, or not at all."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from pyrec.machine import require_memory

__all__ = ["copied", "move"]


def move(
    networks: Sequence[nn.Module],
    optimizers: Iterable[torch.optim.Optimizer],
    place: torch.device,
) -> None:
    """Move networks, and what their optimisers know of them.

    A MemoryError says that a CUDA device has too little memory; nothing was moved then.
    """
    states = [state for optimizer in optimizers for state in optimizer.state.values()]
    known = [value for state in states for value in state.values()]
    _require_room([*_tensors_of(networks), *known], place)
    for network in networks:
        network.to(place)
    for state in states:
        state.update({key: value.to(place) for key, value in state.items()})


def copied(networks: Sequence[nn.Module], place: torch.device) -> list[nn.Module]:
    """Return copies of networks on another device; a MemoryError as `move`."""
    _require_room(_tensors_of(networks), place)
    return [copy.deepcopy(network).to(place) for network in networks]


def _tensors_of(networks: Iterable[nn.Module]) -> list[Tensor]:
    return [t for network in networks for t in (*network.parameters(), *network.buffers())]


def _require_room(tensors: Iterable[Tensor], place: torch.device) -> None:
    # Before anything moves: torch would stop half-way, a part of a network here and a part there.
    if place.type == "cuda":
        needed = sum(tensor.nbytes for tensor in tensors if tensor.device != place)
        require_memory(needed, "the networks and what their optimisers know need", place)
