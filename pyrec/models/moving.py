"""Networks on their way to another device: moved or copied whole, or not at all."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from pyrec.machine import require_memory

__all__ = ["check_room", "copied", "move"]


def check_room(
    networks: Sequence[nn.Module],
    optimizers: Sequence[torch.optim.Optimizer],
    place: torch.device,
) -> None:
    """Raise a MemoryError unless a GPU has room for networks and the moments of their Adam.

    Those too that the first update makes, or a checkpoint brings.
    """
    known = {id(parameter) for optimizer in optimizers for parameter in optimizer.state}
    parameters = [p for network in networks for p in network.parameters()]
    new = [p for p in parameters if p.requires_grad and id(p) not in known]
    there = [*_tensors_of(networks), *_known(optimizers)]
    needed = _bytes_to_move(there, place) + 2 * sum(p.nbytes for p in new)
    _require_room(needed, "the training needs the networks and their optimisers' moments", place)


def move(
    networks: Sequence[nn.Module],
    optimizers: Sequence[torch.optim.Optimizer],
    place: torch.device,
) -> None:
    """Move networks, and what their optimisers know of them.

    A MemoryError says that a GPU has too little memory; nothing was moved then.
    """
    needed = _bytes_to_move([*_tensors_of(networks), *_known(optimizers)], place)
    _require_room(needed, "the model needs its networks and what their optimisers know", place)
    for network in networks:
        network.to(place)
    for optimizer in optimizers:
        for state in optimizer.state.values():
            state.update({key: value.to(place) for key, value in state.items()})


def copied(networks: Sequence[nn.Module], place: torch.device) -> list[nn.Module]:
    """Return copies of networks on another device; a MemoryError as `move`."""
    _require_room(
        _bytes_to_move(_tensors_of(networks), place), "the model needs its networks", place
    )
    return [copy.deepcopy(network).to(place) for network in networks]


def _tensors_of(networks: Iterable[nn.Module]) -> list[Tensor]:
    return [t for network in networks for t in (*network.parameters(), *network.buffers())]


def _known(optimizers: Iterable[torch.optim.Optimizer]) -> list[Tensor]:
    states = [state for optimizer in optimizers for state in optimizer.state.values()]
    return [value for state in states for value in state.values()]


def _bytes_to_move(tensors: Iterable[Tensor], place: torch.device) -> int:
    return sum(tensor.nbytes for tensor in tensors if tensor.device != place)


def _require_room(needed: int, need: str, place: torch.device) -> None:
    # Before anything moves: torch would stop half-way, a part of a network here and a part there.
    if place.type == "cuda":
        require_memory(needed, need, place)
