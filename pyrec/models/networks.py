"""A network and its Adam optimiser as named arrays, for model files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

__all__ = ["check_arrays", "load_arrays", "to_arrays"]

_NETWORK = "network."
_OPTIMIZER = "optimizer."
_ADAM = ("exp_avg", "exp_avg_sq", "step")


def to_arrays(network: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, NDArray[Any]]:
    """Return the arrays ``network.<key>`` and ``optimizer.<parameter>.<key>``.

    On the CPU they share memory with the network: nothing is copied.
    """
    tensors = {_NETWORK + key: value for key, value in network.state_dict().items()}
    for name, parameter in network.named_parameters():
        for key, value in optimizer.state.get(parameter, {}).items():
            tensors[f"{_OPTIMIZER}{name}.{key}"] = value
    return {key: value.detach().cpu().numpy() for key, value in tensors.items()}


def check_arrays(network: nn.Module, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Raise a ValueError that names the first array that does not fit the network."""
    expected = {_NETWORK + key: value for key, value in network.state_dict().items()}
    missing = sorted(expected.keys() - arrays.keys())
    if missing:
        raise ValueError(f"{missing[0]} is missing")
    for name, parameter, trained in _parameters(network, arrays):
        for key in _ADAM if trained else ():
            if f"{name}.{key}" not in arrays:
                raise ValueError(f"{name}.{key} is missing")
            value = torch.zeros(()) if key == "step" else parameter
            expected[f"{name}.{key}"] = value
    unknown = sorted(arrays.keys() - expected.keys())
    if unknown:
        raise ValueError(f"unknown arrays: {', '.join(unknown)}")
    for key, value in expected.items():
        _check(key, arrays[key], value)


def load_arrays(
    network: nn.Module, optimizer: torch.optim.Optimizer, arrays: Mapping[str, NDArray[Any]]
) -> None:
    """Copy checked arrays into the network and the optimiser, on the network's device."""
    with torch.no_grad():
        for key, value in network.state_dict().items():
            value.copy_(torch.from_numpy(arrays[_NETWORK + key]).reshape(value.shape))
        optimizer.state.clear()
        for name, parameter, trained in _parameters(network, arrays):
            if trained:
                state = {key: torch.from_numpy(arrays[f"{name}.{key}"]) for key in _ADAM}
                state["step"] = state["step"].reshape(())
                optimizer.state[parameter] = {
                    key: value.to(parameter.device) for key, value in state.items()
                }


def _parameters(
    network: nn.Module, arrays: Mapping[str, NDArray[Any]]
) -> Iterator[tuple[str, Tensor, bool]]:
    """Each parameter with the name of its arrays, and whether Adam has updated it before."""
    for name, parameter in network.named_parameters():
        own = f"{_OPTIMIZER}{name}"
        yield own, parameter, any(f"{own}.{key}" in arrays for key in _ADAM)


def _check(key: str, array: NDArray[Any], expected: Tensor) -> None:
    # A file has no arrays without dimensions: a single number has the shape (1,) there.
    shapes = [tuple(expected.shape)] + ([(1,)] if expected.ndim == 0 else [])
    dtype = torch.empty(0, dtype=expected.dtype).numpy().dtype
    if array.shape not in shapes or array.dtype != dtype:
        raise ValueError(
            f"{key} must be {dtype} of shape {shapes[0]}, got {array.dtype} of shape {array.shape}"
        )
