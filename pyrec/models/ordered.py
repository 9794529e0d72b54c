"""Histories in the order of the user: whatever a sequential model takes, as `Histories`."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pyrec.data import Histories, Interactions
from pyrec.data.csr import offsets_of
from pyrec.kernels.matrices import Sequences
from pyrec.models.base import as_rows, gives_batches

__all__ = ["as_histories", "is_batches"]


def as_histories(x: Any, n_items: int | None = None, name: str = "x") -> Histories:
    """Return `x` as `Histories`.

    Parameters
    ----------
    x : Histories, lists, Interactions, integer tensor, Sequences, matrix, or batches of these
        Lists are a list or a dictionary of a list of item numbers a user. Of `Interactions`: in order
        of time. A tensor of whole numbers, (n, steps), holds item numbers. Of a matrix, and of
        `Interactions` without times: in ascending order, with a UserWarning. Of batches that are pairs:
        the inputs.
    n_items : int, optional
        Size of the catalogue; lists and tensors do not say it.
    name : str
        What errors call `x`.

    Raises
    ------
    TypeError, ValueError
        Another kind, or item numbers that are not in ``0..n_items - 1``.
    """
    if is_batches(x):
        return _joined([as_histories(_inputs(batch), n_items, name) for batch in x], name)
    if isinstance(x, Tensor) and x.dtype in (torch.int64, torch.int32):
        x = _from_tensor(x, n_items, name)
    elif _is_lists(x):
        x = _from_lists(x, n_items, name)
    elif isinstance(x, Sequences):
        x = Histories(x.offsets.cpu().numpy(), x.items.cpu().numpy(), x.n_items)
    elif isinstance(x, Interactions) and x.timestamps is not None:
        x = x.sequences()
    elif not isinstance(x, Histories):
        x = _ascending(x, n_items, name)
    if n_items not in (None, x.n_items):
        raise ValueError(f"{name} has {x.n_items} items, expected n_items = {n_items}")
    histories: Histories = x
    return histories


def is_batches(x: Any) -> bool:
    """Whether `x` gives batches, and is not data itself."""
    return gives_batches(x) and not isinstance(x, (tuple, str)) and not _is_lists(x)


def _is_lists(x: Any) -> bool:
    """Whether `x` is a list or a dictionary of lists of numbers."""
    if not isinstance(x, (list, tuple, Mapping)):
        return False
    rows = x.values() if isinstance(x, Mapping) else x
    return all(
        isinstance(row, (list, tuple, np.ndarray))
        and not any(getattr(value, "shape", ()) for value in row[:1])
        for row in rows
    )


def _inputs(batch: Any) -> Any:
    return batch[0] if isinstance(batch, (tuple, list)) and not _is_lists(batch) else batch


def _joined(parts: list[Histories], name: str) -> Histories:
    if not parts:
        raise ValueError(f"{name} gave no batches")
    if len({part.n_items for part in parts}) > 1:
        raise ValueError(f"{name} gave batches of different numbers of items")
    lengths = np.concatenate([np.diff(part.offsets) for part in parts])
    items = np.concatenate([part.items for part in parts])
    return Histories(offsets_of(lengths), items, parts[0].n_items)


def _from_lists(x: Any, n_items: int | None, name: str) -> Histories:
    lists = x.values() if isinstance(x, Mapping) else x
    try:
        return Histories.from_lists(lists, _known(n_items, name))
    except (TypeError, ValueError) as error:
        raise type(error)(f"{name}: {error}") from error


def _from_tensor(x: Tensor, n_items: int | None, name: str) -> Histories:
    if x.ndim != 2:
        raise ValueError(f"{name} must have the shape (n, steps), got {tuple(x.shape)}")
    n, steps = x.shape
    offsets = np.arange(n + 1) * steps
    try:
        return Histories(offsets, x.cpu().numpy().reshape(-1), _known(n_items, name))
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error


def _ascending(x: Any, n_items: int | None, name: str) -> Histories:
    rows = as_rows(x, None, name)
    if n_items not in (None, rows.shape[1]):
        raise ValueError(f"{name} has {rows.shape[1]} columns, expected n_items = {n_items}")
    warnings.warn(
        f"{name} has no order: each user's items are taken in ascending order; pass Histories, lists "
        "of item numbers, or Interactions with timestamps",
        UserWarning,
        stacklevel=3,
    )
    return Histories(rows.indptr, rows.indices, rows.shape[1])


def _known(n_items: int | None, name: str) -> int:
    if n_items is None:
        raise ValueError(f"{name} does not say how many items there are: pass Histories")
    return n_items
