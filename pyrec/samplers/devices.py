"""Batches of rows that are made on a device, where a copy of the data lies."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pyrec.kernels.tensors import Csr
from pyrec.layers import Batch

__all__ = ["DeviceReader"]


class DeviceRows(Protocol):
    """What gives rows by their numbers, in either layout, as `gpu.samplers.RowSampler` does."""

    def rows(self, numbers: NDArray[np.int64]) -> Csr: ...

    def dense(self, numbers: NDArray[np.int64], out: Tensor) -> None: ...


class DeviceReader:
    """Reads batches of rows on a device.

    Memory is always fresh: torch's allocator there keeps what is free, to give it again.
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
