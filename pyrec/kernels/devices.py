"""Which kernels are meant: those for arrays, or those for tensors of a GPU."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import wraps
from importlib import import_module
from inspect import signature
from typing import TYPE_CHECKING, Any, ParamSpec, Protocol, TypeVar, overload

if TYPE_CHECKING:
    from torch import Tensor

    from pyrec.kernels.matrices import Csr

__all__ = ["by_device", "on_device"]

P = ParamSpec("P")
R_co = TypeVar("R_co", covariant=True)


class ByDevice(Protocol[P, R_co]):
    """A function over arrays, and the one of the same name over tensors of a GPU."""

    @overload
    def __call__(self, *args: P.args, **options: P.kwargs) -> R_co: ...
    @overload
    def __call__(self, main: Tensor | Csr, *args: Any, **options: Any) -> Any: ...


def on_device(x: Any) -> bool:
    """Whether this is a tensor, or a Csr, of a device that is not the CPU. For others torch is not imported."""
    if "torch" not in sys.modules:
        return False
    import torch

    from pyrec.kernels.gpu import native

    place = getattr(x, "device", None)
    return isinstance(place, torch.device) and native.is_device(place)


def by_device(module: str) -> Callable[[Callable[P, R_co]], ByDevice[P, R_co]]:
    """Let a function's namesake in a module of `pyrec.kernels.gpu` answer where the first argument is on a device.

    `n_threads` says nothing there.
    """

    def decorate(function: Callable[P, R_co]) -> ByDevice[P, R_co]:
        first = next(iter(signature(function).parameters))

        @wraps(function)
        def call(*args: Any, **options: Any) -> Any:
            if not on_device(args[0] if args else options.get(first)):
                return function(*args, **options)
            options.pop("n_threads", None)
            theirs = import_module(f"pyrec.kernels.gpu.{module}")
            return getattr(theirs, function.__name__)(*args, **options)

        return call

    return decorate
