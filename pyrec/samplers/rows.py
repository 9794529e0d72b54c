"""Training data in batches: every row once a pass, in an order that seed and epoch decide."""

from __future__ import annotations

import math
import threading
import weakref
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pyrec import kernels
from pyrec.arguments import whole
from pyrec.data import Interactions, as_csr
from pyrec.data.randomness import check_seed
from pyrec.kernels.gpu import native
from pyrec.kernels.gpu import samplers as gpu
from pyrec.kernels.tensors import Csr
from pyrec.layers import Batch
from pyrec.machine import find_device
from pyrec.samplers.devices import DeviceReader

if TYPE_CHECKING:
    import scipy.sparse as sp

__all__ = ["DataSampler", "Sampler"]

LAYOUTS = ("dense", "csr")


class Sampler:
    """Abstract base class of what gives training data in batches; iterating it is one pass.

    Attributes
    ----------
    epoch : int
        Number of the next pass, which decides its order. Training sets it.
    """

    epoch: int = 0

    def __len__(self) -> int:
        """Return the number of batches in a pass."""
        raise NotImplementedError(f"{type(self).__name__} does not implement __len__")

    def __iter__(self) -> Iterator[tuple[Any, Any]]:
        """Start a pass: an iterator over pairs of inputs and targets; targets may be None."""
        raise NotImplementedError(f"{type(self).__name__} does not implement __iter__")


class DataSampler(Sampler):
    """Gives the rows of a matrix in batches, and the same rows of a second matrix as targets.

    Parameters
    ----------
    sparse_data_tr : (n_users, n_items) Interactions, Histories, SciPy sparse, dense array or tensor
        Inputs.
    sparse_data_te : likewise, optional
        Targets, row by row. None means that the inputs are the targets, and gives None.
    batch_size : int, default 1
        Rows a batch. The last batch of a pass holds what is left; a batch size beyond the number of
        rows gives one batch.
    shuffle : bool, default True
        False gives the rows in their own order.
    layout : "dense" or "csr"
        Whether batches are (rows, n_items) float32 tensors or `Csr`. The networks take both with
        the same results; `Csr` is quicker.
    seed : int, default 0
        The order of a pass is a function of the number of rows, the seed and `epoch` alone.
    device : torch.device or str, optional
        Where batches are made, with the same bits. A GPU gets a copy of the matrices, here, and has
        batches without waiting for them; None: the CPU.

    Attributes
    ----------
    sparse_data_tr, sparse_data_te : csr_array
        In canonical form (see `pyrec.data.as_csr`); `sparse_data_te` may be None.
    device : torch.device
    batch_size, shuffle, layout, seed
        See the parameters.
    epoch : int
        Number of the next pass, from 0. A pass adds 1 as it starts.

    Raises
    ------
    ValueError
        A batch size below 1, an unknown layout, no rows, two matrices of different shapes, users or
        items, or a device that is not there.

    Notes
    -----
    The matrices are borrowed where they are canonical already: do not change their arrays meanwhile.
    Memory of a dense batch is used again once nothing refers to the batch any more: a loop needs
    two batches of memory, and every batch that is kept stays as it was given. The sampler keeps that
    memory from pass to pass, since fresh memory costs as much as what is written to it. On a GPU that
    is what torch's allocator does.
    """

    def __init__(
        self,
        sparse_data_tr: Any,
        sparse_data_te: Any = None,
        batch_size: int = 1,
        shuffle: bool = True,
        *,
        layout: str = "dense",
        seed: int = 0,
        device: torch.device | str | None = None,
    ) -> None:
        whole(batch_size, "batch_size", 1)
        if layout not in LAYOUTS:
            raise ValueError(f"layout must be one of {', '.join(LAYOUTS)}, got {layout!r}")
        tr = as_csr(sparse_data_tr, name="sparse_data_tr")
        te = None if sparse_data_te is None else as_csr(sparse_data_te, name="sparse_data_te")
        if te is not None and te.shape != tr.shape:
            raise ValueError(
                f"sparse_data_te must have the shape of sparse_data_tr, {tr.shape}, got {te.shape}"
            )
        _check_ids(sparse_data_tr, sparse_data_te)
        if tr.shape[0] == 0:
            raise ValueError("sparse_data_tr has no rows")
        self.sparse_data_tr: sp.csr_array = tr
        self.sparse_data_te: sp.csr_array | None = te
        self.batch_size = int(batch_size)
        self.shuffle = bool(shuffle)
        self.layout = layout
        self.seed = check_seed(seed)
        self.device = find_device(device)
        self.epoch = 0
        self._open()

    def _open(self) -> None:
        """Make what reads batches."""
        tr, te, how = self.sparse_data_tr, self.sparse_data_te, (self.layout, self.device)
        self._tr: Reader = row_reader(tr, *how)
        self._te: Reader | None = None if te is None else row_reader(te, *how)

    def __len__(self) -> int:
        """Return the number of batches in a pass."""
        return math.ceil(self.sparse_data_tr.shape[0] / self.batch_size)

    def __iter__(self) -> Iterator[tuple[Batch, Batch | None]]:
        """Start a pass: an iterator over pairs (tr, te) of batches."""
        epoch, self.epoch = self.epoch, self.epoch + 1
        return self._batches(epoch)

    def _batches(self, epoch: int) -> Iterator[tuple[Batch, Batch | None]]:
        n = self.sparse_data_tr.shape[0]
        for begin in range(0, n, self.batch_size):
            end = min(begin + self.batch_size, n)
            if self.shuffle:
                rows = kernels.permuted(begin, end, n, self.seed, epoch)
            else:
                rows = np.arange(begin, end)
            # No name here may hold a batch: its memory would never be free.
            yield self._tr.read(rows), None if self._te is None else self._te.read(rows)


def _check_ids(tr: Any, te: Any) -> None:
    """Row and column numbers of two Interactions must mean the same users and items."""
    if isinstance(tr, Interactions) and isinstance(te, Interactions):
        for name in ("users", "items"):
            if not np.array_equal(getattr(tr, name), getattr(te, name)):
                raise ValueError(
                    f"sparse_data_te must have the {name} of sparse_data_tr, in the same order"
                )


class Reader(Protocol):
    """What reads a batch of rows by their numbers."""

    def read(self, numbers: NDArray[np.int64]) -> Batch: ...


def row_reader(x: sp.csr_array, layout: str, device: torch.device) -> Reader:
    """Return what reads batches of a matrix in a layout, on a device."""
    if native.is_device(device):
        return DeviceReader(layout, gpu.RowSampler(x, device), x.shape[1], device)
    return reader(layout, kernels.RowSampler(x), x.shape[1])


class Rows(Protocol):
    """What gives rows by their numbers, in either layout, as `kernels.RowSampler` does."""

    def rows(
        self, numbers: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.float32]]: ...

    def dense(self, numbers: NDArray[np.int64], out: NDArray[np.float32]) -> None: ...


def reader(layout: str, rows: Rows, n_columns: int) -> _Dense | _Sparse:
    """Return what reads batches in a layout; it keeps the memory of dense ones from pass to pass."""
    return _Sparse(rows, n_columns) if layout == "csr" else _Dense(rows, n_columns)


class _Sparse:
    def __init__(self, rows: Rows, n_columns: int) -> None:
        self._rows, self._n_columns = rows, n_columns

    def read(self, numbers: NDArray[np.int64]) -> Csr:
        indptr, indices, values = map(torch.from_numpy, self._rows.rows(numbers))
        return Csr(indptr, indices, values, self._n_columns)


class _Dense:
    """Reads into memory that no earlier batch uses any more."""

    def __init__(self, rows: Rows, n_columns: int) -> None:
        self._rows, self._n_columns = rows, n_columns
        # Two, because a loop holds one batch while it asks for the next.
        self._buffers: list[_Buffer] = []

    def read(self, numbers: NDArray[np.int64]) -> Tensor:
        view = self._lend(len(numbers))
        self._rows.dense(numbers, view)
        return torch.from_numpy(view)

    def _lend(self, height: int) -> NDArray[np.float32]:
        for buffer in self._buffers:
            if (view := buffer.lend(height)) is not None:
                return view
        new = _Buffer((height, self._n_columns))
        view = new.lend(height)
        assert view is not None  # nobody else has seen it
        self._buffers = [*self._buffers[-1:], new]
        return view


class _Buffer:
    """Memory, and a weak reference to the view that was lent of it.

    A tensor made of the view, and all that shares its memory, keeps the view alive.
    """

    def __init__(self, shape: tuple[int, int]) -> None:
        self._memory = np.empty(shape, np.float32)
        self._lent: weakref.ref[NDArray[np.float32]] | None = None
        self._lock = threading.Lock()  # passes may run in several threads

    def lend(self, height: int) -> NDArray[np.float32] | None:
        """Return the first rows, or None where they are too few or somebody has them."""
        with self._lock:
            if height > len(self._memory) or (self._lent is not None and self._lent() is not None):
                return None
            view = self._memory[:height]
            self._lent = weakref.ref(view)
            return view
