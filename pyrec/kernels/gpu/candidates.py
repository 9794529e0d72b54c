"""The lists of items that decide what takes part in a selection on a GPU."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from pyrec.kernels.gpu import native
from pyrec.kernels.matrices import Csr

__all__ = ["Candidates", "Listed", "some"]

# What `seen`, `deny` and `allow` may be; a pair as `pyrec.kernels.gpu.selection.topk` says.
Listed = Csr | Tensor | tuple[None, Tensor] | None

_INTEGERS = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)


class Candidates(NamedTuple):
    """Lists as kernels take them."""

    seen: native.Lists
    deny: native.Lists
    allow: native.Lists

    @classmethod
    def of(
        cls,
        seen: Listed,
        deny: Listed,
        allow: Listed,
        scores: Tensor,
        shape: Sequence[int] | None = None,
    ) -> Candidates:
        """Check the lists that belong to scores of a shape, by default that of `scores`."""
        n, n_items = shape or scores.shape
        named = (seen, "seen"), (deny, "deny"), (allow, "allow")
        return cls(*(_item_lists(items, n, n_items, scores, name) for items, name in named))

    def rows(self, rows: slice) -> Candidates:
        """Return the lists of some rows; the offsets go on counting from the first."""
        return Candidates(*(_of_rows(one, rows) for one in self))


def _of_rows(lists: native.Lists, rows: slice) -> native.Lists:
    if lists is None or lists[0] is None:
        return lists
    return some(lists[0], rows), lists[1]


def some(offsets: Tensor, rows: slice) -> Tensor:
    """Return the offsets of some rows, which go on counting from the first."""
    return offsets[rows.start : rows.stop + 1]


def _item_lists(items: Listed, n: int, n_items: int, like: Tensor, name: str) -> native.Lists:
    """Return (offsets, items) of a list a row, (None, items) of one list for all rows, or None."""
    match items:
        case None:
            return None
        case (None, Tensor() as known):
            native.check_device(name, known, like)
            return None, known
    if isinstance(items, Csr):
        if tuple(items.shape) != (n, n_items):
            raise ValueError(
                f"{name} must have shape {(n, n_items)}, as the scores, got {tuple(items.shape)}"
            )
        native.check_device(name, items, like)
        return items.indptr, items.indices
    if not isinstance(items, Tensor) or items.ndim != 1 or items.dtype not in _INTEGERS:
        got = type(items).__name__
        if isinstance(items, Tensor):
            got = f"{items.dtype} of shape {tuple(items.shape)}"
        raise TypeError(f"{name} must be a Csr or a 1-D tensor of item numbers, got {got}")
    native.check_device(name, items, like)
    numbers = torch.unique(items)
    if len(numbers):
        least, most = numbers[[0, -1]].tolist()
        if not 0 <= least <= most < n_items:
            raise ValueError(f"{name} must be in 0..{n_items - 1}, got {least}..{most}")
    return None, numbers.int()
