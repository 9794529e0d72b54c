"""Where batches are made: on the CPU, or on a device that has a copy of the data."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pyrec.kernels.tensors import Csr
from pyrec.layers import Batch

__all__ = ["DeviceReader", "device_of", "makes_batches"]


def device_of(device: torch.device | str | None) -> torch.device:
    """Return a device by its full name, None as the CPU; raise a ValueError where it is not there."""
    try:
        return torch.empty(0, device="cpu" if device is None else device).device
    except (RuntimeError, AssertionError, NotImplementedError, TypeError) as error:
        raise ValueError(f"device must be one that is there, got {device!r}: {error}") from error


def makes_batches(device: torch.device) -> bool:
    """Whether batches are made by `pyrec.kernels.gpu`, and not by the kernels for the CPU."""
    return device.type != "cpu"


class DeviceRows(Protocol):
    """What gives rows by their numbers, in either layout, as `gpu.samplers.RowSampler` does."""

    def rows(self, numbers: NDArray[np.int64]) -> Csr: ...

    def dense(self, numbers: NDArray[np.int64], out: Tensor) -> None: ...


class DeviceReader:
    """Reads batches of rows on a device.

    Memory is always fresh: torch's allocator there gives again what is free, without a cost.
    """

    def __init__(self, layout: str, rows: DeviceRows, n_columns: int, device: torch.device) -> None:
        self._layout, self._rows = layout, rows
        self._n_columns, self._device = n_columns, device

    def read(self, numbers: NDArray[np.int64]) -> Batch:
        """Return the rows `numbers`."""
        if self._layout == "csr":
            return self._rows.rows(numbers)
        shape = len(numbers), self._n_columns
        out = torch.empty(shape, dtype=torch.float32, device=self._device)
        self._rows.dense(numbers, out)
        return out
