"""Lists that a GPU makes, block by block, and the weights that linear models keep there."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pyrec.arguments import whole
from pyrec.data import Histories, as_csr
from pyrec.data.csr import is_sparse
from pyrec.kernels.arrays import parts
from pyrec.kernels.gpu import products, selection
from pyrec.kernels.gpu.transfers import Block, in_blocks
from pyrec.kernels.matrices import Csr, Sequences
from pyrec.kernels.selection import item_lists
from pyrec.machine import require_memory
from pyrec.models.base import Asked, Recommendations

__all__ = [
    "DeviceWeights",
    "as_taken",
    "block_rows",
    "encoded_rows",
    "recommend",
    "scores",
    "topk",
]

# Histories of a block: enough to keep a large GPU busy, and all of them at the same place among those of a file.
_LEAST_ROWS, _MOST_ROWS = 2048, 8192
# Histories that a network encodes at a time where their scores are never written; on a GPU, where the next
# ones are sent meanwhile.
_ROWS, _ROWS_THERE = 8192, 2048
# Scores that exist at a time, and what else a block takes.
_SCORE_BYTES, _WORK_BYTES = 256 << 20, 512 << 20
# Bytes of an array that are copied at a time.
_CHUNK_BYTES = 32 << 20

Make = Callable[[Sequence[Tensor]], Any]
Best = Callable[..., tuple[Tensor, Tensor]]


def block_rows(n_items: int) -> int:
    """Return how many histories make a block: a power of two."""
    fitting = _SCORE_BYTES // (4 * max(1, n_items))
    return min(_MOST_ROWS, max(_LEAST_ROWS, 1 << max(0, fitting.bit_length() - 1)))


def encoded_rows(device: torch.device | None) -> int:
    """Return how many histories make a block for a network that writes no scores; None is the CPU."""
    return _ROWS if device is None else _ROWS_THERE


def as_taken(x: Any, takes_csr: bool) -> Any:
    """Return histories as a network takes them: dense where they are `Csr` and it takes none."""
    return x.dense() if isinstance(x, Csr) and not takes_csr else x


def recommend(
    blocks: Iterable[Asked], n: int, k: int, n_items: int, device: torch.device, best: Best
) -> Recommendations:
    """Return the lists of blocks of histories, n in all, each made on a GPU by `best`.

    Parameters
    ----------
    blocks : iterable of Asked
        Histories are CSR, `Histories`, or an array of what `best` takes, a number a row.
    n, k, n_items : int
    device : torch.device
    best : callable
        ``best(x, k, seen, allow, deny)`` returns items and scores: x is a `Csr`, `Sequences` or tensor,
        the lists are `Csr`, ``(None, numbers)`` or None, as `pyrec.kernels.gpu.selection` takes them.
    """
    found = Recommendations(np.empty((n, whole(k, "k")), np.int32), np.empty((n, k), np.float32))
    in_blocks(_sent(blocks, k, n_items, best), found, device)
    return found


def scores(
    histories: Any, n_items: int, device: torch.device, score: Callable[[Csr], Tensor]
) -> NDArray[np.float32]:
    """Return the (n, n_items) scores that `score` makes of CSR histories on a GPU."""
    n, step = histories.shape[0], max(1, _SCORE_BYTES // (4 * max(1, n_items)))
    found = np.empty((n, n_items), np.float32)

    def block(begin: int) -> Block:
        parcel = _Parcel()
        make = parcel.rows(histories[begin : begin + step])
        rows = slice(begin, begin + step)
        return Block(rows, parcel.arrays, lambda *tensors: (score(make(tensors)),))

    in_blocks(map(block, range(0, n, step)), (found,), device)
    return found


def topk(given: Tensor, k: int, seen: Any, allow: Any, deny: Any) -> Recommendations:
    """Return what `pyrec.kernels.topk` does, for scores that lie on a GPU."""
    asked = Asked(np.arange(len(given)), seen, allow, deny)

    def best(rows: Tensor, k: int, seen: Any, allow: Any, deny: Any) -> tuple[Tensor, Tensor]:
        return selection.topk(given, k, seen, allow=allow, deny=deny)

    return recommend([asked], len(given), k, given.shape[1], given.device, best)


class DeviceWeights(NamedTuple):
    """Weights of a linear model on a GPU.

    Attributes
    ----------
    source : (weights, offset)
        What they are copies of.
    weights : (n_items, n_items) float32 Tensor or Csr
    offset : (n_items,) float32 Tensor or None
    """

    source: tuple[Any, Any]
    weights: Tensor | Csr
    offset: Tensor | None

    @classmethod
    def of(cls, weights: Any, offset: Any, device: torch.device) -> DeviceWeights:
        """Copy weights and offset; a MemoryError says that the GPU has too little memory."""
        arrays: list[NDArray[Any]] = [] if offset is None else [_float32(offset)]
        if is_sparse(weights):
            arrays += parts(as_csr(weights, name="weights"))
        else:
            arrays.append(_float32(weights))
        needed = sum(array.nbytes for array in arrays) + _WORK_BYTES
        require_memory(needed, "the model needs its weights and room for the work", device)
        there = [_upload(array, device) for array in arrays]
        shift = None if offset is None else there.pop(0)
        return cls(
            (weights, offset), _csr(there, weights.shape[1]) if there[1:] else there[0], shift
        )

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickles and deep copies of a model have none: weights are copied there again when used."""
        return type(None), ()

    def is_of(self, weights: Any, offset: Any) -> bool:
        """Whether these are copies of such weights, and not of others."""
        return self.source[0] is weights and self.source[1] is offset

    def scores(self, x: Csr) -> Tensor:
        """Return offset + x B, (n, n_items)."""
        if isinstance(self.weights, Csr):
            return products.scores_sparse_weights(x, self.weights, self.offset)
        return products.scores_dense_weights(x, self.weights, self.offset)

    def topk(self, x: Csr, k: int, seen: Any, allow: Any, deny: Any) -> tuple[Tensor, Tensor]:
        """Return the best items and their scores."""
        options = {"offset": self.offset, "allow": allow, "deny": deny}
        if isinstance(self.weights, Csr):
            return selection.topk_sparse_weights(x, self.weights, k, seen, **options)
        return selection.topk_dense_weights(x, self.weights, k, seen, **options)


def _sent(blocks: Iterable[Asked], k: int, n_items: int, best: Best) -> Iterator[Block]:
    begin = 0
    for asked in blocks:
        rows = slice(begin, begin + asked.x.shape[0])
        begin = rows.stop
        block = _block(asked, rows, k, n_items, best)
        if rows.start < rows.stop:
            yield block


def _block(asked: Asked, rows: slice, k: int, n_items: int, best: Best) -> Block:
    parcel = _Parcel()
    x = parcel.rows(asked.x)
    # A history's own items are what is hidden, as a rule: they go once.
    seen = x if asked.seen is asked.x else parcel.lists(asked.seen, n_items, "seen")
    allow, deny = (parcel.lists(getattr(asked, s), n_items, s) for s in ("allow", "deny"))

    def work(*tensors: Tensor) -> tuple[Tensor, Tensor]:
        return best(x(tensors), k, seen(tensors), allow(tensors), deny(tensors))

    return Block(rows, parcel.arrays, work)


class _Parcel:
    """Arrays on their way to a GPU; what each method returns makes of them what they were."""

    def __init__(self) -> None:
        self.arrays: list[NDArray[Any]] = []

    def rows(self, x: Any) -> Make:
        """Send histories, or an array."""
        if isinstance(x, Histories):
            place = self._add(x.offsets, x.items)
            return lambda t: Sequences(t[place + 1].long(), t[place], x.n_items)
        if not is_sparse(x):
            place = self._add(x)
            return lambda t: t[place]
        place = self._add(*parts(x))
        return lambda t: _csr(t[place : place + 3], x.shape[1])

    def lists(self, items: Any, n_items: int, name: str) -> Make:
        """Send lists of items, one for all rows or a row each."""
        lists = item_lists(items, n_items, name)
        if lists is None:
            return lambda t: None
        offsets, numbers = lists
        if offsets is None:
            place = self._add(numbers)
            return lambda t: (None, t[place])
        place = self._add(offsets, numbers)
        return lambda t: Csr(t[place], t[place + 1], torch.ones_like(t[place + 1]), n_items)

    def _add(self, *arrays: NDArray[Any]) -> int:
        self.arrays += arrays
        return len(self.arrays) - len(arrays)


def _csr(tensors: Sequence[Tensor], n_cols: int) -> Csr:
    indptr, indices, values = tensors
    return Csr(indptr, indices, values, n_cols)


def _float32(array: Any) -> NDArray[np.float32]:
    return np.ascontiguousarray(array, np.float32)


def _upload(array: NDArray[Any], device: torch.device) -> Tensor:
    """Return a copy on a GPU, made at the speed of the bus: through pinned memory."""
    out = torch.from_numpy(array[:0].copy()).new_empty(array.shape, device=device)
    step = max(1, _CHUNK_BYTES // max(1, array[:1].nbytes))

    def put(begin: int) -> Block:
        def work(some: Tensor) -> tuple[()]:
            out[begin : begin + step] = some
            return ()

        return Block(slice(0), [array[begin : begin + step]], work)

    in_blocks(map(put, range(0, len(array), step)), (), device)
    return out
