"""Rows in chunks, of which only one exists at a time in another form."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from pyrec.kernels.matrices import Csr

__all__ = ["chunks", "cut"]


def chunks(n: int, row_bytes: int, most: int) -> list[slice]:
    """Divide n rows of so many bytes: a chunk has at most `most` bytes, or is one row."""
    height = max(1, most // max(1, row_bytes))
    return [slice(begin, min(begin + height, n)) for begin in range(0, n, height)]


def cut(x: Csr, parts: Sequence[slice]) -> list[Csr]:
    """Return the rows of each of the `chunks` of x. Where they are several, the device is waited for once."""
    if len(parts) < 2:
        return [x] * len(parts)
    ends = torch.cat([x.indptr[: -1 : parts[0].stop], x.indptr[-1:]]).tolist()
    found = []
    for rows, first, last in zip(parts, ends, ends[1:], strict=False):
        indptr = x.indptr[rows.start : rows.stop + 1] - first
        found.append(Csr(indptr, x.indices[first:last], x.values[first:last], x.n_cols))
    return found
