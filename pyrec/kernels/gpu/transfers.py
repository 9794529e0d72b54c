"""Work on a device block by block: what a block needs and what it gives is copied while others compute."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["Block", "in_blocks"]

Arrays = Sequence[NDArray[Any]]

# Arrays that are copied together begin where any kernel likes it.
_ALIGNED = 256


class Block(NamedTuple):
    """Some `rows` of the results, the arrays that they are made of, and how.

    `work` gets a tensor of each array, valid until it returns; it gives one of each result.
    """

    rows: slice
    arrays: Arrays
    work: Callable[..., Sequence[Tensor]]


def in_blocks(blocks: Iterable[Block], results: Arrays, device: torch.device) -> None:
    """Do the work of blocks, and write what it gives to `results`, arrays of the same types.

    A CUDA device works on the current stream. While it does, the arrays of the next block are prepared,
    by `blocks`, and copied by a second stream, and the results of the one before come back by a third:
    two blocks are under way, in pinned memory that is used again. Best is work that waits for nothing.
    """
    if device.type == "cuda":
        with torch.cuda.device(device):
            _in_turns(blocks, results, device)
        return
    for block in blocks:
        tensors = [torch.tensor(array, device=device) for array in block.arrays]
        for result, found in zip(results, block.work(*tensors), strict=True):
            result[block.rows] = found.cpu().numpy()


def _in_turns(blocks: Iterable[Block], results: Arrays, device: torch.device) -> None:
    computing = torch.cuda.current_stream()
    sending, fetching = torch.cuda.Stream(), torch.cuda.Stream()
    slot, other = _Slot(device), _Slot(device)
    try:
        for block in blocks:
            # The last block of this slot was collected: nothing of it is under way.
            with torch.cuda.stream(sending):
                tensors = slot.send(block.arrays)
            computing.wait_stream(sending)
            found = [tensor.contiguous() for tensor in block.work(*tensors)]
            fetching.wait_stream(computing)
            with torch.cuda.stream(fetching):
                slot.fetch(block.rows, found)
            other.collect(results)
            slot, other = other, slot
        other.collect(results)
    finally:
        # After an error too, nobody may write to memory that is given back.
        for stream in (sending, computing, fetching):
            stream.synchronize()


class _Slot:
    """A block under way: its pinned memory, and that on the device."""

    def __init__(self, device: torch.device) -> None:
        self._there = _Memory(device=device)
        self._sent, self._back = _Memory(pin_memory=True), _Memory(pin_memory=True)
        self._rows, self._kept, self._fetched = slice(0), list[Tensor](), list[Tensor]()
        self._done = torch.cuda.Event(blocking=True)  # waiting leaves the processor to others

    def send(self, arrays: Arrays) -> list[Tensor]:
        """Copy arrays to the device by the current stream, all at once."""
        for array, target in zip(arrays, self._sent.like(arrays), strict=True):
            if array.flags.writeable:
                target.copy_(torch.from_numpy(array))  # by all processors, NumPy has one
            else:
                target.numpy()[...] = array
        tensors, used = self._there.like(arrays), slice(self._sent.size)
        self._there.memory[used].copy_(self._sent.memory[used], non_blocking=True)
        return tensors

    def fetch(self, rows: slice, found: list[Tensor]) -> None:
        """Copy results to pinned memory by the current stream; they live until they are collected."""
        self._rows, self._kept, self._fetched = rows, found, self._back.like(found)
        for tensor, target in zip(found, self._fetched, strict=True):
            target.copy_(tensor, non_blocking=True)
        self._done.record()

    def collect(self, results: Arrays) -> None:
        """Wait for the results of the block, if there is one, and write them to arrays."""
        self._done.synchronize()
        if self._fetched:
            for result, fetched in zip(results, self._fetched, strict=True):
                torch.from_numpy(result[self._rows]).copy_(fetched)
        self._kept, self._fetched = [], []


class _Memory:
    """Bytes that are used again, and replaced by more where they are too few."""

    def __init__(self, **where: Any) -> None:
        self._where, self.size = where, 0
        self.memory = torch.empty(0, dtype=torch.uint8, **where)

    def like(self, arrays: Sequence[NDArray[Any] | Tensor]) -> list[Tensor]:
        """Return tensors of the arrays' shapes and types, of undefined content."""
        sizes = [-(-array.nbytes // _ALIGNED) * _ALIGNED for array in arrays]
        *begins, self.size = np.cumsum([0, *sizes]).tolist()
        if self.size > len(self.memory):
            self.memory = torch.empty(self.size * 5 // 4, dtype=torch.uint8, **self._where)
        parts = (self.memory[b : b + a.nbytes] for a, b in zip(arrays, begins, strict=True))
        return [p.view(_type(a)).view(a.shape) for p, a in zip(parts, arrays, strict=True)]


def _type(array: NDArray[Any] | Tensor) -> torch.dtype:
    if isinstance(array, Tensor):
        return array.dtype
    return torch.from_numpy(np.empty(0, array.dtype)).dtype
