"""Training data of sequential models: the items of each user in order, and what followed each."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from pyrec import kernels
from pyrec.arguments import flag, whole
from pyrec.data import Histories, Interactions, as_csr
from pyrec.data.csr import kind_of
from pyrec.data.randomness import check_seed
from pyrec.kernels.gpu import native
from pyrec.kernels.gpu.examples import Windows
from pyrec.kernels.matrices import Csr, Sequences
from pyrec.machine import find_device
from pyrec.samplers.rows import Sampler

if TYPE_CHECKING:
    import scipy.sparse as sp

__all__ = ["SVAE_Sampler", "reach"]

PRED_TYPES = ("next", "next_k", "postfix")
# Batches whose users are put together by length.
_POOL = 4


class SVAE_Sampler(Sampler):
    """Gives users' sequences in batches: in training with what follows each item, else whole.

    Parameters
    ----------
    num_items : int
        Size of the catalogue.
    dict_data_tr : dict, Histories or Interactions
        Each user's item numbers, in order; of `Interactions` in order of time.
    dict_data_te : dict, Histories, Interactions or (n, num_items) CSR, optional
        What was held out of the same users, a row each; for prediction alone.
    pred_type : {"next_k", "next", "postfix"}
        What is to be told after each item: the next `k` items, the next one, all the rest.
    k : int
        For ``"next_k"``; fewer where fewer items are left.
    shuffle : bool
        False gives the users in their own order. For training alone.
    is_training : bool
        True: pairs of `Sequences` without each user's last item and `Csr` of the targets, a row a
        step. False: pairs of whole `Histories` and held-out items as CSR, or None without any.
    batch_size : int
        Users a batch.
    seed : int
        The order of a pass is a function of the number of users, the seed and `epoch` alone.
    device : torch.device or str, optional
        Where batches for training are made, with the same bits. A GPU gets a copy of the sequences,
        here, and has batches without waiting for them; None: the CPU.

    Attributes
    ----------
    num_items, pred_type, k, shuffle, is_training, batch_size, seed
        See the parameters.
    device : torch.device
    histories : Histories
        All users of `dict_data_tr`, in order.
    held_out : (n, num_items) csr_array or None
    users : list
        The user of each row: the dictionary's keys, the ids of `Interactions`, or numbers.
    n_dropped : int
        Users with fewer than two items, who have nothing to train on and are left out there.
    epoch : int
        Number of the next pass, from 0. A pass adds 1 as it starts.

    Raises
    ------
    ValueError
        An unknown `pred_type`, k or batch size below 1, item numbers that are not in
        ``0..num_items - 1``, held-out items of other users, no user to give, or a device that is not
        there.
    TypeError
        Sequences of another kind.

    Notes
    -----
    The targets of ``"postfix"`` are all the rest of a sequence at each of its steps: T² / 2 entries of
    8 bytes for T items. The values of a target row sum to 1: each step counts once, however many items are its target.
    Users are shuffled, then those of four batches at a time are put together by length: a recurrent
    unit takes a step for each item of a batch's longest sequence.
    """

    def __init__(
        self,
        num_items: int,
        dict_data_tr: Any,
        dict_data_te: Any = None,
        pred_type: str = "next_k",
        k: int = 1,
        shuffle: bool = True,
        is_training: bool = True,
        *,
        batch_size: int = 1,
        seed: int = 0,
        device: torch.device | str | None = None,
    ) -> None:
        self.num_items = whole(num_items, "num_items", 1)
        self._reach = reach(pred_type, k)
        self.pred_type, self.k = pred_type, int(k)
        self.shuffle, self.is_training = flag(shuffle, "shuffle"), flag(is_training, "is_training")
        self.batch_size, self.seed = whole(batch_size, "batch_size", 1), check_seed(seed)
        self.epoch = 0
        self.users, self.histories = _histories(dict_data_tr, self.num_items, "dict_data_tr")
        self.held_out = None if dict_data_te is None else self._rows_of(dict_data_te)
        lengths = np.diff(self.histories.offsets)
        self._given = np.flatnonzero(lengths >= (2 if self.is_training else 0))
        self.n_dropped = len(lengths) - len(self._given)
        if not len(self._given):
            least = " with two items or more: nothing follows an item" if len(lengths) else "s"
            raise ValueError(f"dict_data_tr has no user{least}")
        self.device = find_device(device)
        self._windows = None
        if self.is_training and native.is_device(self.device):
            own = self.histories.offsets, self.histories.items, self.num_items
            self._windows = Windows(*own, self._reach, True, device=self.device)

    def __len__(self) -> int:
        """Return the number of batches in a pass."""
        return math.ceil(len(self._given) / self.batch_size)

    def __iter__(self) -> Iterator[tuple[Any, Any]]:
        """Start a pass: an iterator over pairs of inputs and targets."""
        epoch, self.epoch = self.epoch, self.epoch + 1
        return self._training_batches(epoch) if self.is_training else self._whole_batches()

    def _training_batches(self, epoch: int) -> Iterator[tuple[Sequences, Csr]]:
        for users in self._users_of_batches(epoch):
            if self._windows is not None:
                yield self._windows.of(users)
                continue
            own = self.histories
            windows = kernels.windows(
                own.offsets, own.items, self.num_items, users, self._reach, True
            )
            first, items = windows[:2]
            indptr, indices, values = map(torch.from_numpy, windows[2:])
            yield (
                Sequences.from_arrays(first, items, self.num_items),
                Csr(indptr, indices, values, self.num_items),
            )

    def _users_of_batches(self, epoch: int) -> Iterator[NDArray[np.int64]]:
        n, step = len(self._given), self.batch_size
        if not self.shuffle:
            yield from (self._given[begin : begin + step] for begin in range(0, n, step))
            return
        lengths = np.diff(self.histories.offsets)
        for begin in range(0, n, _POOL * step):
            end = min(begin + _POOL * step, n)
            users = self._given[kernels.permuted(begin, end, n, self.seed, epoch)]
            users = users[np.argsort(lengths[users], kind="stable")]
            batches = -(-len(users) // step)
            # Not always the short ones first.
            for number in kernels.permuted(0, batches, batches, self.seed, epoch + begin):
                yield users[number * step : (number + 1) * step]

    def _whole_batches(self) -> Iterator[tuple[Histories, sp.csr_array | None]]:
        for begin in range(0, len(self._given), self.batch_size):
            rows = slice(begin, begin + self.batch_size)
            yield self.histories[rows], None if self.held_out is None else self.held_out[rows]

    def _rows_of(self, te: Any) -> sp.csr_array:
        """Held-out items as CSR, in the order of the users."""
        name, n = "dict_data_te", len(self.histories)
        if isinstance(te, Mapping):
            known = set(self.users)
            unknown = [user for user in te if user not in known]
            if unknown:
                raise ValueError(
                    f"{name} has users that dict_data_tr lacks, such as {unknown[0]!r}"
                )
            te = _histories({u: te.get(u, ()) for u in self.users}, self.num_items, name)[1]
        if isinstance(te, Interactions) and te.users.tolist() != self.users:
            raise ValueError(f"{name} must have the users of dict_data_tr, in the same order")
        held_out = as_csr(te, self.num_items, name)
        if held_out.shape[0] != n:
            raise ValueError(f"{name} must have a row a user, {n}, got {held_out.shape[0]}")
        return held_out


def reach(pred_type: Any, k: int) -> int | None:
    """Return how many items after an item are its targets; None: all.

    Raises a ValueError for an unknown type or a `k` below 1.
    """
    if pred_type not in PRED_TYPES:
        raise ValueError(f"pred_type must be one of {', '.join(PRED_TYPES)}, got {pred_type!r}")
    k = whole(k, "k", 1)
    return {"next": 1, "next_k": k, "postfix": None}[pred_type]


def _histories(data: Any, n_items: int, name: str) -> tuple[list[Hashable], Histories]:
    """The users and their sequences."""
    if isinstance(data, Mapping):
        try:
            return list(data), Histories.from_lists(data.values(), n_items)
        except (TypeError, ValueError) as error:
            raise type(error)(f"{name}: {error}") from error
    users = data.users.tolist() if isinstance(data, Interactions) else None
    if isinstance(data, Interactions):
        data = data.sequences()
    if not isinstance(data, Histories):
        raise TypeError(
            f"{name} must be a dict of item numbers, Histories or Interactions, got {kind_of(data)}"
        )
    if data.n_items != n_items:
        raise ValueError(f"{name} has {data.n_items} items, num_items is {n_items}")
    return list(range(len(data))) if users is None else users, data
