"""Training data of conditioned models: each history alone, and under each condition that it knows."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pyrec import kernels
from pyrec.arguments import is_number, whole
from pyrec.data import Interactions, ItemConditions, as_csr
from pyrec.data.csr import rows_of
from pyrec.kernels.gpu import examples as gpu
from pyrec.kernels.gpu import native
from pyrec.kernels.gpu.samplers import to_dense
from pyrec.kernels.tensors import Csr
from pyrec.layers import Batch
from pyrec.samplers.devices import DeviceReader
from pyrec.samplers.rows import DataSampler, reader

if TYPE_CHECKING:
    import scipy.sparse as sp

__all__ = [
    "BalancedConditionedDataSampler",
    "ConditionedDataSampler",
    "EmptyConditionedDataSampler",
    "conditions_of",
]


class _ExampleSampler(DataSampler):
    """Batches of examples: rows of a matrix, under a condition or not."""

    n_cond: int

    def _open(self) -> None:
        """Nothing yet: what reads examples needs the conditions."""

    def _take(self, item_conditions: sp.csr_array) -> None:
        """Number the examples of the rows; rows that have none are left out thereby."""
        self.n_cond = int(item_conditions.shape[1])
        given = self.sparse_data_tr, item_conditions, self.sparse_data_te
        n_items = self.sparse_data_tr.shape[1]
        sizes = n_items + self.n_cond, n_items
        self._examples: kernels.ConditionedRows | gpu.ConditionedRows
        if native.is_device(self.device):
            there = self._examples = gpu.ConditionedRows(*given, device=self.device)
            self._tr, self._te = (
                DeviceReader(self.layout, _OnDevice(take), size, self.device)
                for take, size in zip((there.inputs, there.targets), sizes, strict=True)
            )
        else:
            here = self._examples = kernels.ConditionedRows(*given)
            self._tr = reader(self.layout, _Inputs(here), sizes[0])
            self._te = reader(self.layout, _Targets(here), sizes[1])
        if self._examples.n_examples == 0:
            has_te = self.sparse_data_te is not None
            raise ValueError(
                "sparse_data_tr has no row with an item"
                + (" whose row of sparse_data_te has one too" if has_te else "")
            )

    @property
    def n_examples(self) -> int:
        """How many rows all batches of a pass have."""
        return self._examples.n_examples

    @property
    def counts(self) -> NDArray[np.int64]:
        """How many examples there are with each condition, (n_cond,)."""
        return self._examples.counts

    def __len__(self) -> int:
        """Return the number of batches in a pass."""
        return math.ceil(self.n_examples / self.batch_size)

    def _drawn(self, epoch: int) -> NDArray[np.int64] | None:
        """The numbers of the examples of a pass; None: all of them."""
        return None

    def _batches(self, epoch: int) -> Iterator[tuple[Batch, Batch | None]]:
        n = self.n_examples
        drawn = self._drawn(epoch)
        for begin in range(0, n, self.batch_size):
            end = min(begin + self.batch_size, n)
            numbers = np.arange(begin, end)
            if self.shuffle:
                numbers = kernels.permuted(begin, end, n, self.seed, epoch)
            if drawn is not None:
                numbers = drawn[numbers]
            # No name here may hold a batch: its memory would never be free.
            yield self._tr.read(numbers), None if self._te is None else self._te.read(numbers)


class ConditionedDataSampler(_ExampleSampler):
    """Gives each row alone, and under each condition that it knows, in batches.

    An example without a condition has the row as its input, and all of its targets. A row knows the
    condition c when one of its items has c: that example has the row with a 1 behind the items, in
    column n_items + c, as its input, and those targets that have c. Examples without any target, and
    rows without any item, are left out.

    Parameters
    ----------
    iid2cids : dict, (n_items, n_cond) sparse matrix, or ItemConditions
        A dict leads from an item's number to the list of the numbers of its conditions.
        `ItemConditions` with item ids are aligned to data that has some.
    n_cond : int
        Number of conditions; None: as many as a matrix or `ItemConditions` have.
    sparse_data_tr : (n_users, n_items) Interactions, Histories, SciPy sparse, dense array or tensor
        Inputs.
    sparse_data_te : likewise, optional
        Targets, row by row; by default the inputs.
    batch_size : int, default 1
        Examples a batch. The last batch of a pass holds what is left.
    shuffle : bool, default True
        False gives the examples in their own order: first those without a condition by row, then the
        others by row and condition.
    layout : "dense" or "csr"
        Whether batches are float32 tensors, (rows, n_items + n_cond) and (rows, n_items), or `Csr`.
    seed : int, default 0
        The order of a pass is a function of the number of examples, the seed and `epoch` alone.
    device : torch.device or str, optional
        Where batches are made, as by `DataSampler`.

    Attributes
    ----------
    item_conditions : ItemConditions
    n_cond, n_examples : int
        Conditions; examples in a pass.
    counts : (n_cond,) int64 array
        Examples with each condition that the data has.
    sparse_data_tr, sparse_data_te, batch_size, shuffle, layout, seed, device, epoch
        As of `DataSampler`.

    Raises
    ------
    ValueError, TypeError
        As `DataSampler`; conditions that fit neither the data nor `n_cond`, or no example at all.

    Notes
    -----
    No example is made before it is asked for: memory is 24 bytes a row, 8 an item, and the batches (see
    `DataSampler`); for those of a GPU 24 bytes a row and 4 an example besides.

    References
    ----------
    Tommaso Carraro, Mirko Polato, Fabio Aiolli. 2020. Conditioned Variational Autoencoder for Top-N
    Item Recommendation. arXiv:2004.11141.
    """

    def __init__(
        self,
        iid2cids: Any,
        n_cond: int | None,
        sparse_data_tr: Any,
        sparse_data_te: Any = None,
        batch_size: int = 1,
        shuffle: bool = True,
        *,
        layout: str = "dense",
        seed: int = 0,
        device: torch.device | str | None = None,
    ) -> None:
        super().__init__(
            sparse_data_tr,
            sparse_data_te,
            batch_size,
            shuffle,
            layout=layout,
            seed=seed,
            device=device,
        )
        self.item_conditions = conditions_of(iid2cids, n_cond, sparse_data_tr, self.sparse_data_tr)
        self._take(self.item_conditions.matrix)

    @property
    def unknown(self) -> list[str]:
        """What an error calls the conditions that no example has."""
        return [self.item_conditions.name(int(c)) for c in np.flatnonzero(self.counts == 0)]


class BalancedConditionedDataSampler(ConditionedDataSampler):
    """Gives each row alone, and as many examples of every condition, drawn anew for each pass.

    With E examples under a condition in all (see `ConditionedDataSampler`), a pass has
    ⌈subsample E / n_cond⌉ of each condition, or all of a condition that has fewer.

    Parameters
    ----------
    iid2cids, n_cond, sparse_data_tr, sparse_data_te, batch_size
        See `ConditionedDataSampler`; the order is always shuffled.
    subsample : float, default 0.2
        In (0, 1].
    layout : "dense" or "csr"
    seed : int, default 0
        Draws and order are a function of the data, the seed and `epoch`.
    device : torch.device or str, optional

    Attributes
    ----------
    subsample : float
    item_conditions, n_cond, n_examples, and so on
        See `ConditionedDataSampler`.

    Notes
    -----
    Memory: 8 bytes an example of a pass besides.
    """

    def __init__(
        self,
        iid2cids: Any,
        n_cond: int | None,
        sparse_data_tr: Any,
        sparse_data_te: Any = None,
        batch_size: int = 1,
        subsample: float = 0.2,
        *,
        layout: str = "dense",
        seed: int = 0,
        device: torch.device | str | None = None,
    ) -> None:
        if not is_number(subsample) or not 0 < subsample <= 1:
            raise ValueError(f"subsample must be a number in (0, 1], got {subsample!r}")
        super().__init__(
            iid2cids,
            n_cond,
            sparse_data_tr,
            sparse_data_te,
            batch_size,
            layout=layout,
            seed=seed,
            device=device,
        )
        self.subsample = float(subsample)
        self._n_each = math.ceil(self.subsample * int(self.counts.sum()) / self.n_cond)
        self._n_drawn = int(np.minimum(self.counts, self._n_each).sum())

    @property
    def n_examples(self) -> int:
        return self._examples.n_unconditioned + self._n_drawn

    def _drawn(self, epoch: int) -> NDArray[np.int64] | None:
        return self._examples.balanced(self._n_each, self.seed, epoch)


class EmptyConditionedDataSampler(_ExampleSampler):
    """Gives the rows of a matrix for a conditioned model, without any condition.

    Rows without an item or without a target are left out.

    Parameters
    ----------
    cond_size : int
        Number of conditions, all of them 0.
    sparse_data_tr, sparse_data_te, batch_size, shuffle, layout, seed, device
        See `ConditionedDataSampler`.

    Attributes
    ----------
    n_cond, n_examples, and so on
        See `ConditionedDataSampler`.
    """

    def __init__(
        self,
        cond_size: int,
        sparse_data_tr: Any,
        sparse_data_te: Any = None,
        batch_size: int = 1,
        shuffle: bool = True,
        *,
        layout: str = "dense",
        seed: int = 0,
        device: torch.device | str | None = None,
    ) -> None:
        import scipy.sparse as sp

        whole(cond_size, "cond_size", 1)
        super().__init__(
            sparse_data_tr,
            sparse_data_te,
            batch_size,
            shuffle,
            layout=layout,
            seed=seed,
            device=device,
        )
        nothing: Any = sp.csr_array((self.sparse_data_tr.shape[1], cond_size), dtype=np.float32)
        self._take(nothing)


def conditions_of(
    given: Any, n_cond: int | None, data: Any, matrix: sp.csr_array, name: str = "iid2cids"
) -> ItemConditions:
    """Return item conditions for the columns of `data`, whose CSR form is `matrix`.

    Parameters
    ----------
    given, n_cond, data
        See `ConditionedDataSampler`.
    name : str
        What errors call `given`.

    Returns
    -------
    ItemConditions
        With the item ids of `data`, where that is `Interactions`.
    """
    n_items = int(matrix.shape[1])
    if n_cond is not None:
        whole(n_cond, "n_cond", 1)
    if isinstance(given, Mapping):
        if n_cond is None:
            raise ValueError(f"n_cond must be given where {name} is a dict")
        given = ItemConditions.from_lists(given, n_cond, n_items)
    elif not isinstance(given, ItemConditions):
        given = ItemConditions(as_csr(given, name=name))
    known: ItemConditions = given
    if n_cond not in (None, known.n_cond):
        raise ValueError(f"{name} has {known.n_cond} conditions, n_cond is {n_cond}")
    ids = data.items if isinstance(data, Interactions) else None
    if ids is not None and known.items is not None:
        return known.align(ids)
    if known.n_items != n_items:
        raise ValueError(f"{name} has {known.n_items} items, the data has {n_items}")
    return ItemConditions(known.matrix, known.names, ids)


class _Inputs:
    """Inputs of examples, in the form in which `RowSampler` gives rows."""

    def __init__(self, examples: kernels.ConditionedRows) -> None:
        self._examples = examples

    def rows(
        self, numbers: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.float32]]:
        return self._examples.inputs(*self._examples.examples(numbers))

    def dense(self, numbers: NDArray[np.int64], out: NDArray[np.float32]) -> None:
        indptr, indices, values = self.rows(numbers)
        out[:] = 0
        out[rows_of(indptr), indices] = values


class _Targets(_Inputs):
    """Their targets."""

    def rows(
        self, numbers: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.float32]]:
        return self._examples.targets(*self._examples.examples(numbers))


class _OnDevice:
    """The same on a device, in the form in which its `RowSampler` gives rows."""

    def __init__(self, take: Callable[[NDArray[np.int64]], Csr]) -> None:
        self.rows = take

    def dense(self, numbers: NDArray[np.int64], out: Tensor) -> None:
        to_dense(self.rows(numbers), out)
