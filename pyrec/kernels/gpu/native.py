"""The compiled module for GPUs, and tensors as it takes them: the only module that knows it."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

from pyrec.kernels.matrices import Csr

__all__ = [
    "check_device",
    "check_shape",
    "check_type",
    "csr",
    "is_device",
    "kernel",
    "lists",
    "matrix",
    "module",
    "queue",
    "vector",
]

Lists = tuple[Tensor | None, Tensor] | None

_NOWHERE = (False, 0, 0, 0)


def is_device(place: torch.device) -> bool:
    """Whether tensors there are for the functions of `pyrec.kernels.gpu`, not for arrays' kernels."""
    return place.type != "cpu"


@cache
def _load() -> Any:
    """The compiled module; None of a wheel without it, and where it finds none of torch's devices.

    Those may be other makers' GPUs, or the driver too old for its CUDA.
    """
    try:
        from pyrec import _cuda
    except ImportError:
        if find_spec("pyrec._cuda") is not None:  # it is there and cannot be loaded
            raise
        return None
    return _cuda if _cuda.device_count() else None


def module(t: Tensor) -> Any:
    """Return the compiled kernels for the tensor's device; None where torch has to do."""
    return _load() if t.device.type == "cuda" else None


def kernel(name: str, t: Tensor) -> Callable[..., None] | None:
    """Return the compiled kernel for the tensor's device and type; None where torch has to do.

    An address has no type: the names of kernels have.
    """
    own = f"{name}_{str(t.dtype).removeprefix('torch.')}"
    found: Callable[..., None] | None = getattr(module(t), own, None)
    return found


def queue(t: Tensor) -> tuple[int, int]:
    """Return the tensor's device and the stream that is current there, as kernels take them."""
    if t.device.type != "cuda":
        return 0, 0
    return t.device.index, torch.cuda.current_stream(t.device).cuda_stream


def vector(t: Tensor | None, dtype: torch.dtype, name: str) -> tuple[int, int]:
    """Return address and size of a vector; None is (0, 0)."""
    if t is None:
        return 0, 0
    _check(t, dtype, 1, name)
    return t.data_ptr(), len(t)


def matrix(t: Tensor | None, dtype: torch.dtype, name: str) -> tuple[int, int, int]:
    """Return address, rows and columns of a matrix; None is (0, 0, 0)."""
    if t is None:
        return 0, 0, 0
    _check(t, dtype, 2, name)
    return t.data_ptr(), t.shape[0], t.shape[1]


def csr(x: Csr, dtype: torch.dtype, name: str) -> tuple[int, int, int, int, int]:
    """Return rows, columns and the addresses of offsets, items and values.

    The arrays must outlive the launch: no temporary may be passed.
    """
    _check(x.indptr, torch.int64, 1, f"{name}.indptr")
    _check(x.indices, torch.int32, 1, f"{name}.indices")
    _check(x.values, dtype, 1, f"{name}.values")
    if len(x.indices) != len(x.values):
        raise ValueError(
            f"{name} must have as many indices as values, got {len(x.indices)} and {len(x.values)}"
        )
    return len(x), x.n_cols, x.indptr.data_ptr(), x.indices.data_ptr(), x.values.data_ptr()


def lists(items: Lists, name: str) -> tuple[bool, int, int, int]:
    """Return (offsets, items) of a list a row, or (None, items) of one for all rows, as kernels take them."""
    if items is None:
        return _NOWHERE
    offsets, numbers = items
    address, size = vector(numbers, torch.int32, f"{name}.indices")
    return True, vector(offsets, torch.int64, f"{name}.indptr")[0], address, size


def check_type(name: str, given: Any, kind: type) -> None:
    """Raise a TypeError unless what is given is of a kind."""
    if not isinstance(given, kind):
        raise TypeError(f"{name} must be a {kind.__name__}, got {type(given).__name__}")


def check_shape(name: str, t: Tensor | Csr, shape: tuple[int | None, ...]) -> None:
    """Raise a ValueError unless a matrix or vector has a shape, in which None stands for any size."""
    got = tuple(t.shape)
    if len(got) != len(shape) or any(
        size not in (None, own) for size, own in zip(shape, got, strict=True)
    ):
        sizes = ", ".join("any" if size is None else str(size) for size in shape)
        end = "," if len(shape) == 1 else ""
        raise ValueError(f"{name} must have shape ({sizes}{end}), got {got}")


def check_device(name: str, t: Tensor | Csr | None, other: Tensor) -> None:
    """Raise an error unless all of `t` is on the device of another tensor; None is anywhere."""
    if t is None:
        return
    if not isinstance(t, (Tensor, Csr)):
        raise TypeError(f"{name} must be a tensor of {other.device}, got {type(t).__name__}")
    for part in (t.indptr, t.indices, t.values) if isinstance(t, Csr) else (t,):
        if part.device != other.device:
            raise ValueError(f"{name} must be on {other.device}, got {part.device}")


def _check(t: Tensor, dtype: torch.dtype, ndim: int, name: str) -> None:
    if t.dtype != dtype or t.ndim != ndim or not t.is_contiguous():
        raise TypeError(
            f"{name} must be a contiguous {dtype} tensor of {ndim} dimensions, "
            f"got {t.dtype} of shape {tuple(t.shape)}"
        )
