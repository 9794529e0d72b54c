"""Training examples on a device: rows under a condition, and windows of sequences.

As in `pyrec.kernels.gpu.samplers`. Where no kernels are compiled for the device, those for the CPU make
the examples, which are then copied.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pyrec.data.csr import as_csr, check_offsets, check_range, offsets_of, rows_of
from pyrec.kernels import examples
from pyrec.kernels.gpu import native
from pyrec.kernels.gpu.samplers import check_in, empty, module_of, send, vectors
from pyrec.kernels.matrices import Csr, Sequences

if TYPE_CHECKING:
    import scipy.sparse as sp

__all__ = ["ConditionedRows", "Windows"]

# Examples, or steps, that are counted at a time when their data comes.
_COUNTED = 1 << 18


class ConditionedRows:
    """Training examples of a conditioned model on a device: see `pyrec.kernels.ConditionedRows`.

    Parameters
    ----------
    x, item_conditions, targets
        As of `pyrec.kernels.ConditionedRows`; copied to the device.
    device : torch.device

    Attributes
    ----------
    n_examples, n_unconditioned, counts
        As of `pyrec.kernels.ConditionedRows`.

    Notes
    -----
    The targets of all examples are counted once, here. Memory on the CPU: 24 bytes a row and 4 an
    example, besides that of `pyrec.kernels.ConditionedRows`.
    """

    def __init__(
        self,
        x: sp.sparray | sp.spmatrix,
        item_conditions: sp.sparray | sp.spmatrix,
        targets: sp.sparray | sp.spmatrix | None = None,
        *,
        device: torch.device,
    ) -> None:
        c, items = as_csr(x), as_csr(item_conditions, name="item_conditions")
        te = None if targets is None else as_csr(targets, c.shape[1], "targets")
        self._cpu = examples.ConditionedRows(c, items, te)
        self.n_examples, self.n_unconditioned = self._cpu.n_examples, self._cpu.n_unconditioned
        self.counts = self._cpu.counts
        self._device, self._n_items = device, int(c.shape[1])
        self._n_columns = self._n_items + int(items.shape[1])
        self._examples = None
        if module_of(device) is not None:
            self._examples = _Examples(c, items, te, self._cpu.before(), device)

    def balanced(self, n_each: int, seed: int, epoch: int) -> NDArray[np.int64]:
        """Return numbers of examples: see `pyrec.kernels.ConditionedRows.balanced`."""
        return self._cpu.balanced(n_each, seed, epoch)

    def inputs(self, numbers: NDArray[np.int64]) -> Csr:
        """Return the inputs of the examples `numbers`, (len(numbers), n_items + n_conditions)."""
        check_in(numbers, self.n_examples, "numbers must be")
        if self._examples is not None:
            return self._examples.inputs(numbers, self._n_columns)
        parts = self._cpu.inputs(*self._cpu.examples(numbers))
        return _copied(parts, self._n_columns, self._device)

    def targets(self, numbers: NDArray[np.int64]) -> Csr:
        """Return their targets, (len(numbers), n_items): those items that have the condition."""
        check_in(numbers, self.n_examples, "numbers must be")
        if self._examples is not None:
            return self._examples.targets(numbers, self._n_items)
        parts = self._cpu.targets(*self._cpu.examples(numbers))
        return _copied(parts, self._n_items, self._device)


class _Examples:
    """What the compiled kernels read of the examples, and how much each of them has."""

    def __init__(
        self,
        x: sp.csr_array,
        items: sp.csr_array,
        targets: sp.csr_array | None,
        before: tuple[NDArray[np.int64], NDArray[np.int64]],
        device: torch.device,
    ) -> None:
        self._alone, self._paired = before
        self._lengths = np.diff(x.indptr).astype(np.int64)
        own, conditions = (Csr.from_scipy(matrix).to(device) for matrix in (x, items))
        te = own if targets is None else Csr.from_scipy(targets).to(device)
        self._matrices = {"x": own, "targets": te, "item_conditions": conditions}
        self._others = [torch.from_numpy(array).to(device) for array in (*before, _masks(items))]
        self._device = device
        self._n_targets = self._counted()

    @property
    def _at(self) -> tuple[Any, ...]:
        """Addresses; made when needed, since those of a copy of this are others."""
        matrices = (native.csr(x, torch.float32, name) for name, x in self._matrices.items())
        same = self._matrices["targets"] is self._matrices["x"]
        return *matrices, *vectors(*self._others), same

    def inputs(self, numbers: NDArray[np.int64], n_columns: int) -> Csr:
        n_alone = self._alone[-1]
        paired = numbers >= n_alone
        next_rows = np.where(
            paired,
            np.searchsorted(self._paired, numbers - n_alone, "right"),
            np.searchsorted(self._alone, numbers, "right"),
        )
        offsets = offsets_of(self._lengths[next_rows - 1] + paired)
        return self._taken(module_of(self._device).conditioned_inputs, numbers, offsets, n_columns)

    def targets(self, numbers: NDArray[np.int64], n_columns: int) -> Csr:
        offsets = offsets_of(self._n_targets[numbers])
        return self._taken(module_of(self._device).conditioned_targets, numbers, offsets, n_columns)

    def _taken(
        self,
        take: Callable[..., None],
        numbers: NDArray[np.int64],
        offsets: NDArray[np.int64],
        n_columns: int,
    ) -> Csr:
        wanted, indptr = send(self._device, numbers, offsets)
        found = self._found(wanted)
        batch = empty(indptr, int(offsets[-1]), n_columns)
        parts = vectors(*found, batch.indptr, batch.indices, batch.values)
        take(self._at, *parts, native.queue(indptr))
        return batch

    def _found(self, numbers: Tensor) -> tuple[Tensor, Tensor]:
        """Rows and conditions."""
        rows, conditions = torch.empty_like(numbers), torch.empty_like(numbers, dtype=torch.int32)
        parts = vectors(numbers, rows, conditions)
        module_of(self._device).find_examples(self._at, *parts, native.queue(numbers))
        return rows, conditions

    def _counted(self) -> NDArray[np.int32]:
        """The number of targets of each example."""
        n = int(self._alone[-1] + self._paired[-1])
        counted = np.empty(n, np.int32)
        for begin in range(0, n, _COUNTED):
            end = min(begin + _COUNTED, n)
            numbers = torch.arange(begin, end, device=self._device)
            found, sizes = self._found(numbers), torch.empty_like(numbers)
            parts = vectors(*found, sizes)
            module_of(self._device).count_targets(self._at, *parts, native.queue(sizes))
            counted[begin:end] = sizes.cpu().numpy()
        return counted


class Windows:
    """What follows each item of users' sequences but the last: see `pyrec.kernels.windows`.

    Parameters
    ----------
    offsets, items, n_items, k, weighted
        As of `pyrec.kernels.windows`; copied to the device, and borrowed.
    device : torch.device

    Notes
    -----
    What follows is counted once, here; memory on the CPU: 8 bytes a user.
    """

    def __init__(
        self,
        offsets: NDArray[np.int64],
        items: NDArray[np.int32],
        n_items: int,
        k: int | None,
        weighted: bool,
        *,
        device: torch.device,
    ) -> None:
        check_offsets(offsets, len(offsets) - 1, len(items), "offsets")
        check_range(items, n_items, "items")
        self._arrays, self._n_items = (offsets, items), n_items
        self._k, self._weighted, self._device = k, weighted, device
        if module_of(device) is None:
            return
        self._there = [torch.tensor(array, device=device) for array in self._arrays]  # copies
        self._totals = self._counted()

    def of(self, users: NDArray[np.int64]) -> tuple[Sequences, Csr]:
        """Return the sequences of `users` without their last items, and what follows, a row an item.

        Each of them has two items or more.
        """
        offsets = self._arrays[0]
        check_in(users, len(offsets) - 1, "users must be")
        steps = offsets[users + 1] - offsets[users] - 1
        if np.any(steps < 1):
            user = users[steps < 1][0]
            raise ValueError(f"users must have sequences of 2 or more items, but not user {user}")
        if (module := module_of(self._device)) is None:
            n, how = self._n_items, (self._k, self._weighted)
            made = examples.windows(*self._arrays, n, users, *how)
            inputs = Sequences.from_arrays(made[0], made[1], n).to(self._device)
            return inputs, _copied(made[2:], n, self._device)
        users_there, first_there = send(self._device, users, offsets_of(steps))
        indptr, workspace = self._offsets(users_there, first_there, int(steps.sum()))
        batch = empty(indptr, int(self._totals[users].sum()), self._n_items)
        items_there = torch.empty(len(indptr) - 1, dtype=torch.int32, device=self._device)
        module.take_windows(
            *vectors(*self._there),
            *vectors(users_there, first_there),
            self._k or 0,
            self._weighted,
            *vectors(indptr, items_there, batch.indices, batch.values, workspace),
            native.queue(indptr),
        )
        return Sequences(items_there.long(), first_there, self._n_items), batch

    def _offsets(self, users: Tensor, first: Tensor, n_steps: int) -> tuple[Tensor, Tensor]:
        """Offsets of the rows of what follows, and the kernels' workspace."""
        module, reach = module_of(self._device), self._k or 0
        indptr = torch.zeros(n_steps + 1, dtype=torch.int64, device=self._device)
        size = module.windows_workspace(len(users), n_steps, reach)
        workspace = torch.empty(size, dtype=torch.int32, device=self._device)
        parts = vectors(*self._there, users, first)
        rest = vectors(indptr[1:], workspace)
        module.count_windows(*parts, reach, *rest, native.queue(indptr))
        return indptr.cumsum_(0), workspace

    def _counted(self) -> NDArray[np.int64]:
        """How many entries the windows of each user have."""
        steps = np.diff(self._arrays[0]) - 1
        totals = np.zeros(len(steps), np.int64)
        able = np.flatnonzero(steps > 0)
        parts = np.cumsum(steps[able]) // _COUNTED
        for users in np.split(able, np.flatnonzero(np.diff(parts)) + 1):
            users_there, first = send(self._device, users, offsets_of(steps[users]))
            indptr, _ = self._offsets(users_there, first, int(steps[users].sum()))
            totals[users] = indptr[first].diff().cpu().numpy()
        return totals


def _masks(items: sp.csr_array) -> NDArray[np.int64]:
    """The conditions of each item as the bits of a number; none where they are more than 64."""
    n_items, n_conditions = items.shape
    if not 0 < n_conditions <= 64:
        return np.empty(0, np.int64)
    masks = np.zeros(n_items, np.uint64)
    bits = np.uint64(1) << items.indices.astype(np.uint64)
    np.bitwise_or.at(masks, rows_of(items.indptr), bits)
    return masks.view(np.int64)


def _copied(parts: Iterable[NDArray[Any]], n_columns: int, device: torch.device) -> Csr:
    indptr, indices, values = map(torch.from_numpy, parts)
    return Csr(indptr, indices, values, n_columns).to(device)
