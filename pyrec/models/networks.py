"""Networks and their Adam optimisers as named arrays, for model files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

__all__ = ["Names", "check_arrays", "load_arrays", "to_arrays"]

_ADAM = ("exp_avg", "exp_avg_sq", "step")

Names = tuple[str, str]
"""What the arrays of a network and of its optimiser are called: the words before their first dot."""


def to_arrays(
    network: nn.Module, optimizer: torch.optim.Optimizer, names: Names
) -> dict[str, NDArray[Any]]:
    """Return the arrays ``<network>.<key>`` and ``<optimizer>.<parameter>.<key>``.

    On the CPU they share memory with the network: nothing is copied.
    """
    tensors = {f"{names[0]}.{key}": value for key, value in network.state_dict().items()}
    for name, parameter in network.named_parameters():
        for key, value in optimizer.state.get(parameter, {}).items():
            tensors[f"{names[1]}.{name}.{key}"] = value
    return {key: value.detach().cpu().numpy() for key, value in tensors.items()}


def check_arrays(
    network: nn.Module,
    names: Names,
    arrays: Mapping[str, NDArray[Any]],
    left: AbstractSet[str],
) -> AbstractSet[str]:
    """Return what is `left` of the arrays without those of this network and its optimiser.

    Raises a ValueError that names the first array that does not fit.
    """
    expected = {f"{names[0]}.{key}": value for key, value in network.state_dict().items()}
    missing = sorted(expected.keys() - arrays.keys())
    if missing:
        raise ValueError(f"{missing[0]} is missing")
    for name, parameter, updated in _parameters(network, names, arrays):
        for key in _ADAM if updated else ():
            if f"{name}.{key}" not in arrays:
                raise ValueError(f"{name}.{key} is missing")
            value = torch.zeros(()) if key == "step" else parameter
            expected[f"{name}.{key}"] = value
    for key, value in expected.items():
        _check(key, arrays[key], value)
    return left - expected.keys()


def load_arrays(
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    names: Names,
    arrays: Mapping[str, NDArray[Any]],
) -> None:
    """Copy checked arrays into the network and the optimiser, on the network's device."""
    with torch.no_grad():
        for key, value in network.state_dict().items():
            value.copy_(torch.from_numpy(arrays[f"{names[0]}.{key}"]).reshape(value.shape))
        optimizer.state.clear()
        for name, parameter, updated in _parameters(network, names, arrays):
            if updated:
                state = {key: torch.from_numpy(arrays[f"{name}.{key}"]) for key in _ADAM}
                state["step"] = state["step"].reshape(())
                optimizer.state[parameter] = {
                    key: value.to(parameter.device) for key, value in state.items()
                }


def _parameters(
    network: nn.Module, names: Names, arrays: Mapping[str, NDArray[Any]]
) -> Iterator[tuple[str, Tensor, bool]]:
    """Each parameter with the name of its optimiser's arrays, and whether Adam has updated it before."""
    for name, parameter in network.named_parameters():
        own = f"{names[1]}.{name}"
        yield own, parameter, any(f"{own}.{key}" in arrays for key in _ADAM)


def _check(key: str, array: NDArray[Any], expected: Tensor) -> None:
    # A file has no arrays without dimensions: a single number has the shape (1,) there.
    shapes = [tuple(expected.shape)] + ([(1,)] if expected.ndim == 0 else [])
    dtype = torch.empty(0, dtype=expected.dtype).numpy().dtype
    if array.shape not in shapes or array.dtype != dtype:
        raise ValueError(
            f"{key} must be {dtype} of shape {shapes[0]}, got {array.dtype} of shape {array.shape}"
        )
