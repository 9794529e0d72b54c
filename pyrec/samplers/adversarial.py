"""Batches of CFGAN: random users, without end."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch

from pyrec import kernels
from pyrec.arguments import whole
from pyrec.data import as_csr
from pyrec.data.randomness import check_seed
from pyrec.layers import Batch
from pyrec.machine import find_device
from pyrec.samplers.rows import LAYOUTS, Sampler, row_reader

if TYPE_CHECKING:
    import scipy.sparse as sp

__all__ = ["CFGAN_TrainingSampler", "Steps"]


class CFGAN_TrainingSampler(Sampler):
    """Gives batches of random rows, one a `next`, without end and without targets.

    Parameters
    ----------
    sparse_data_tr : (n_users, n_items) Interactions, Histories, SciPy sparse, dense array or tensor
    batch_size : int, default 64
        Rows a batch, all of them different; at most as many as there are.
    layout : "dense" or "csr"
        Whether batches are (rows, n_items) float32 tensors or `Csr`, which is quicker.
    seed : int, default 0
        A batch is a function of the number of rows, the seed and its own number alone.
    device : torch.device or str, optional
        Where batches are made, as by `DataSampler`.

    Attributes
    ----------
    sparse_data_tr : csr_array
        In canonical form (see `pyrec.data.as_csr`).
    device : torch.device
    batch_size, layout, seed
        See the parameters.
    number : int
        Of the next batch, from 0. Training sets it.

    Raises
    ------
    ValueError
        A batch size below 1, an unknown layout, no rows, or a device that is not there.

    Notes
    -----
    The matrix is borrowed where it is canonical already: do not change its arrays meanwhile. Memory
    of a dense batch is used again, as by `DataSampler`.
    """

    def __init__(
        self,
        sparse_data_tr: Any,
        batch_size: int = 64,
        *,
        layout: str = "dense",
        seed: int = 0,
        device: torch.device | str | None = None,
    ) -> None:
        self.batch_size = whole(batch_size, "batch_size", 1)
        if layout not in LAYOUTS:
            raise ValueError(f"layout must be one of {', '.join(LAYOUTS)}, got {layout!r}")
        tr = as_csr(sparse_data_tr, name="sparse_data_tr")
        if tr.shape[0] == 0:
            raise ValueError("sparse_data_tr has no rows")
        self.sparse_data_tr: sp.csr_array = tr
        self.layout = layout
        self.seed = check_seed(seed)
        self.device = find_device(device)
        self.number = 0
        self._reader = row_reader(tr, layout, self.device)

    def __len__(self) -> int:
        raise TypeError("CFGAN_TrainingSampler has no length: its batches never end")

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        """Return the next batch."""
        number, self.number = self.number, self.number + 1
        n = self.sparse_data_tr.shape[0]
        return self._reader.read(kernels.permuted(0, min(self.batch_size, n), n, self.seed, number))


class Steps:
    """An epoch of CFGAN: pairs of a network's name and a batch, first all of the generator's.

    The batches of an epoch are a function of its number, `epoch`, and no two steps have the same.
    """

    def __init__(
        self,
        generator: CFGAN_TrainingSampler,
        discriminator: CFGAN_TrainingSampler,
        g_steps: int,
        d_steps: int,
    ) -> None:
        self.epoch = 0
        self._plan = [("generator", generator)] * g_steps + [
            ("discriminator", discriminator)
        ] * d_steps

    def __len__(self) -> int:
        return len(self._plan)

    def __iter__(self) -> Iterator[tuple[str, Batch]]:
        first, self.epoch = self.epoch * len(self), self.epoch + 1
        for number, (name, sampler) in enumerate(self._plan, first):
            sampler.number = number
            yield name, next(sampler)
