"""Training batches on a device: rows of a matrix, and negative items.

The data lies on the device, and what is asked for by number is taken there. How long the results are is
known on the CPU: nothing waits for the device. Everything has the bits of the kernels for the CPU.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pyrec.data.csr import as_csr, offsets_of
from pyrec.kernels import examples
from pyrec.kernels.gpu import native
from pyrec.kernels.matrices import Csr

if TYPE_CHECKING:
    import scipy.sparse as sp

__all__ = ["RowSampler", "negatives", "to_dense"]


class RowSampler:
    """Rows of a CSR matrix in any order, as batches on the device where the matrix lies.

    Parameters
    ----------
    x : (n, m) CSR
        Copied to the device; its offsets are borrowed too.
    device : torch.device
    """

    def __init__(self, x: sp.sparray | sp.spmatrix, device: torch.device) -> None:
        c = as_csr(x)
        self.shape = c.shape
        self._offsets = c.indptr
        self._x = Csr.from_scipy(c).to(device)

    def rows(self, numbers: NDArray[np.int64]) -> Csr:
        """Return the rows `numbers`, in that order."""
        check_in(numbers, self.shape[0], "numbers must be rows")
        x, offsets = self._x, offsets_of(self._offsets[numbers + 1] - self._offsets[numbers])
        taken, indptr = send(x.device, numbers, offsets)
        size = int(offsets[-1])
        if (module := native.module(x.values)) is None:
            behind = x.indptr[taken] - indptr[:-1]
            places = torch.repeat_interleave(behind, indptr.diff(), output_size=size)
            places += torch.arange(size, device=x.device)
            return Csr(indptr, x.indices[places], x.values[places], x.n_cols)
        batch = empty(indptr, size, x.n_cols)
        module.take_rows(
            native.csr(x, torch.float32, "x"),
            *vectors(taken, batch.indptr, batch.indices, batch.values),
            native.queue(indptr),
        )
        return batch

    def dense(self, numbers: NDArray[np.int64], out: Tensor) -> None:
        """Write the rows `numbers` to `out`, a contiguous float32 (len(numbers), m) tensor there."""
        check_in(numbers, self.shape[0], "numbers must be rows")
        native.check_shape("out", out, (len(numbers), self.shape[1]))
        if (module := native.module(out)) is None:
            to_dense(self.rows(numbers), out)
            return
        (taken,) = send(out.device, numbers)
        module.take_rows_dense(
            native.csr(self._x, torch.float32, "x"),
            *vectors(taken),
            native.matrix(out, torch.float32, "out"),
            native.queue(out),
        )


def to_dense(x: Csr, out: Tensor) -> None:
    """Write a float32 Csr to `out`, a contiguous float32 tensor of its shape on its device."""
    native.check_shape("out", out, tuple(x.shape))
    if (module := native.module(out)) is None:
        out.zero_()
        out[x.rows(), x.indices.long()] = x.values
        return
    module.take_rows_dense(
        native.csr(x, torch.float32, "x"),
        native.vector(None, torch.int64, "numbers"),
        native.matrix(out, torch.float32, "out"),
        native.queue(out),
    )


def negatives(x: Csr, share: float, seed: int, step: int, *, with_observed: bool = False) -> Tensor:
    """Return, True in a tensor of the shape of `x`, a `share` of the items that each row does not hold.

    Arguments are those of `pyrec.kernels.negatives`; the values of `x` are not read.
    """
    if not 0 <= share <= 1:
        raise ValueError(f"share must be in 0..1, got {share}")
    if (module := native.module(x.values)) is None:
        marks = np.empty(tuple(x.shape), bool)
        pattern = x.indptr.cpu().numpy(), x.indices.cpu().numpy(), x.n_cols
        examples.negatives(*pattern, share, seed, step, marks, with_observed=with_observed)
        return torch.from_numpy(marks).to(x.device)
    out = torch.empty(x.shape, dtype=torch.bool, device=x.device)
    size = module.negatives_workspace(*x.shape)
    workspace = torch.empty(size, dtype=torch.int64, device=x.device)
    module.negatives(
        native.csr(x, x.dtype, "x"),
        share,
        seed,
        step,
        with_observed,
        native.matrix(out, torch.bool, "out"),
        *vectors(workspace),
        native.queue(out),
    )
    return out


def module_of(device: torch.device) -> Any:
    """Return the compiled kernels for a device, or None."""
    return native.module(torch.empty(0, device=device))


def send(device: torch.device, *arrays: NDArray[np.int64]) -> tuple[Tensor, ...]:
    """Copy int64 arrays to a device, all at once."""
    together = torch.from_numpy(np.concatenate(arrays, dtype=np.int64))
    if device.type == "cuda":
        together = together.pin_memory()  # of which copies wait for nobody
    there = together.to(device, non_blocking=True)
    return torch.split(there, [len(array) for array in arrays])


def empty(indptr: Tensor, size: int, n_columns: int) -> Csr:
    """Return a float32 Csr of undefined entries."""
    indices = torch.empty(size, dtype=torch.int32, device=indptr.device)
    return Csr(indptr, indices, torch.empty_like(indices, dtype=torch.float32), n_columns)


def vectors(*tensors: Tensor) -> tuple[tuple[int, int], ...]:
    """Return addresses and sizes of vectors, whose types are known to be right."""
    return tuple(native.vector(tensor, tensor.dtype, "a vector") for tensor in tensors)


def check_in(numbers: NDArray[np.int64], n: int, what: str) -> None:
    """Raise a ValueError unless `numbers` are in ``0..n - 1``."""
    outside = numbers[(numbers < 0) | (numbers >= n)]
    if len(outside):
        raise ValueError(f"{what} in 0..{n - 1}, got {outside[0]}")
