"""RecSysModel: the verbs that every recommender answers to."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pyrec import kernels
from pyrec.data import Histories, Interactions, as_csr
from pyrec.data.csr import is_sparse
from pyrec.files import StrPath
from pyrec.kernels import Recommendations
from pyrec.machine import find_device
from pyrec.models import storage

if TYPE_CHECKING:
    import scipy.sparse as sp
    import torch

__all__ = ["Asked", "Explanation", "RecSysModel", "Recommendations"]

_SCORE_BYTES = 64 << 20


class Asked(NamedTuple):
    """Histories whose lists are asked for, and the items to hide, to allow and to deny."""

    x: Any
    seen: Any
    allow: Any
    deny: Any


class Explanation(NamedTuple):
    """What each score is made of.

    `items` int32 (n, m, h) are the user's own items, the largest contribution first, -1 where there
    are no more; `contributions` float32 (n, m, h) sum to the score less `offset`, float32 (n, m).
    """

    items: NDArray[np.int32]
    contributions: NDArray[np.float32]
    offset: NDArray[np.float32]


class RecSysModel:
    """Abstract base class of all recommenders.

    A subclass writes `train` and `predict` (or `scores`), and `state` and `restore` for its file.

    Attributes
    ----------
    n_items : int or None
        Size of the catalogue; None before training.
    item_ids : (n_items,) array or None
        The user's own item ids, when the model was trained on `Interactions`.
    item_counts : (n_items,) int64 array or None
        How many training users have each item.
    """

    n_items: int | None = None
    item_ids: NDArray[Any] | None = None
    item_counts: NDArray[np.int64] | None = None

    def train(self, train_data: Any, **kwargs: Any) -> None:
        """Train the model on `train_data`: CSR, `Interactions`, a dense array or tensor, or a sampler."""
        raise NotImplementedError(f"{type(self).__name__} does not implement train")

    def predict(self, x: Any, *args: Any, **kwargs: Any) -> tuple[Any, ...]:
        """Return a tuple whose first element holds the (n, n_items) scores of `x`."""
        raise NotImplementedError(f"{type(self).__name__} does not implement predict")

    def state(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        """Return what a model file holds: constructor parameters (JSON values) and arrays."""
        raise NotImplementedError(f"{type(self).__name__} does not implement state")

    def restore(
        self, parameters: dict[str, Any], tensors: dict[str, NDArray[Any]], n_items: int
    ) -> None:
        """Take over what `state` returned; a ValueError names what does not fit."""
        raise NotImplementedError(f"{type(self).__name__} does not implement restore")

    def save_model(self, filepath: StrPath) -> None:
        """Write the trained model to one ``.safetensors`` file, whole or not at all."""
        storage.save_model(self, filepath)

    def load_model(self, filepath: StrPath) -> dict[str, Any]:
        """Restore this model from a file of its class, and return the parameters stored there."""
        return storage.load_into(self, filepath)

    def scores(self, x: Any) -> NDArray[np.float32]:
        """Return the (n, n_items) float32 scores of the histories `x`, seen items included.

        The result is dense: keep n small.
        """
        return np.ascontiguousarray(self.predict(x, remove_train=False)[0], dtype=np.float32)

    def recommend(
        self,
        x: Any,
        k: int = 10,
        *,
        remove_seen: bool = True,
        allow: Any = None,
        deny: Any = None,
        condition: Any = None,
    ) -> Recommendations:
        """Return the `k` best items for each history.

        Parameters
        ----------
        x : (n, n_items) CSR, Histories, Interactions, or dense array or tensor
            One history a row; users need not have been seen in training. `Interactions` with other
            item ids than the model's are aligned to it, and items it does not know are ignored.
        k : int
            May exceed the number of items.
        remove_seen : bool
            Leave out the items of the history itself.
        allow, deny : 1-D array of item numbers, or (n, n_items) sparse matrix, optional
            The only items to recommend; items not to recommend. For all users, or a row each.
        condition : optional
            For conditioned models only.

        Returns
        -------
        Recommendations
            ``items`` int32 (n, k), best first, -1 where fewer than k are left; ``scores`` float32
            (n, k), -inf there. Ties: the lower item number first.
        """
        self._require_trained()
        if condition is not None:
            self.items_with(condition)
        histories = self.histories(x)
        blocks = self._asked(histories, remove_seen, allow, deny)
        place = self._place()
        if place is not None:
            from pyrec.models import on_device

            how = k, self.n_items or 0, place
            return on_device.recommend(blocks, histories.shape[0], *how, self._topk_there)
        parts = [self._topk(x, k, seen, allow, deny) for x, seen, allow, deny in blocks]
        return (
            parts[0]
            if len(parts) == 1
            else Recommendations(*map(np.concatenate, zip(*parts, strict=True)))
        )

    def to(self, device: torch.device | str) -> None:
        """Recommend on a GPU from now on, or on the CPU again.

        A model with neither weights nor networks stays on the CPU.

        Raises
        ------
        ValueError
            A device that is not there.
        """
        find_device(device)

    def on(self, device: torch.device | str) -> Self:
        """Return a model that recommends on a device and shares all else with this one, which stays."""
        model = copy.copy(self)
        model.to(device)
        return model

    @property
    def device_type(self) -> str:
        """Of the device on which the model recommends: "cpu", "cuda"."""
        return "cpu"

    def items_with(self, condition: Any) -> NDArray[np.int32]:
        """Return the numbers of the items that satisfy a condition, or any of several, ascending.

        Raises
        ------
        ValueError
            An unknown condition, or a model that takes none.
        """
        raise ValueError(f"{type(self).__name__} takes no condition")

    def pack(
        self,
        precision: str = "fp32",
        *,
        file: StrPath | None = None,
        release: bool = False,
    ) -> None:
        """Make ready to recommend to many users: models with dense weights lay them out for that.

        Parameters
        ----------
        precision : {"fp32", "bf16"}
            With bf16 the weights that rank are rounded to 8 significant bits. Networks and sparse
            weights know fp32 only.
        file : path, optional
            Where processes of a machine share what has been laid out; made when absent.
        release : bool
            Let the pages of weights go that are mapped from a model's file and have not been
            written to: they are read again when used.
        """
        self.check_precision(precision)

    def unpacked(self) -> Self:
        """Return a model that shares everything with this one but what `pack` has made."""
        return copy.copy(self)

    def check_precision(self, precision: str) -> None:
        """Raise a ValueError unless the model can recommend in this precision."""
        if precision != "fp32":
            raise ValueError(
                f"precision of {type(self).__name__}'s recommendations must be fp32, got {precision!r}"
            )

    def similar_items(self, items: ArrayLike, k: int = 10) -> Recommendations:
        """Return the `k` items most similar to each of `items`; the item itself is left out."""
        raise NotImplementedError(f"{type(self).__name__} has no similarity between items")

    def explain(self, x: Any, items: ArrayLike) -> Explanation:
        """Return which of the user's items gave the scores of `items`, and how much."""
        raise NotImplementedError(f"{type(self).__name__} cannot explain its scores")

    def _topk(self, x: sp.csr_array, k: int, seen: Any, allow: Any, deny: Any) -> Recommendations:
        return kernels.topk(self.scores(x), k, seen, allow=allow, deny=deny)

    @property
    def rows_at_once(self) -> int:
        """How many histories at a time make `recommend` fastest; 0 where their number does not matter.

        Above 0 only where a history's list does not depend on those beside it, to the last bit.
        """
        return 0

    def _place(self) -> torch.device | None:
        """The GPU on which `_topk_there` makes lists; None: `_topk` makes them of arrays."""
        return None

    def _topk_there(
        self, x: Any, k: int, seen: Any, allow: Any, deny: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Items and scores as `_topk`, where all are on the GPU: histories are `Csr` or `Sequences`."""
        raise NotImplementedError

    def _asked(self, histories: Any, remove_seen: bool, allow: Any, deny: Any) -> Iterator[Asked]:
        """Divide histories into blocks, each with its lists."""
        n = histories.shape[0]
        for rows in self._blocks(n):
            block = histories if rows == slice(0, n) else histories[rows]
            lists = _rows_of(allow, rows, n, "allow"), _rows_of(deny, rows, n, "deny")
            seen = block.to_csr() if isinstance(block, Histories) else block
            yield from self._divided(Asked(block, seen if remove_seen else None, *lists))

    def _divided(self, asked: Asked) -> Iterator[Asked]:
        """Divide a block where its rows need something else each."""
        yield asked

    def _block_rows(self) -> int:
        """Rows handled at a time: 64 MiB of scores."""
        return max(1, _SCORE_BYTES // (4 * max(1, self.n_items or 0)))

    def _blocks(self, n: int) -> list[slice]:
        step = self._block_rows()
        return [slice(begin, min(begin + step, n)) for begin in range(0, n, step)] or [slice(0, 0)]

    def aligned(self, data: Interactions) -> tuple[Interactions, int]:
        """Return `data` with the model's items as its columns, and how many interactions that dropped.

        A model without item ids takes the item numbers 0..n_items - 1 as ids.
        """
        self._require_trained()
        ids = np.arange(self.n_items or 0) if self.item_ids is None else self.item_ids
        if self.item_ids is None and not np.isin(data.items, ids).all():
            raise ValueError(
                f"this {type(self).__name__} was trained without item ids and the data has some: "
                "train it on Interactions, or pass the matrix"
            )
        return data.align(ids)

    def histories(self, x: Any, name: str = "x") -> Any:
        """Return `x` in the model's items: CSR, or `Histories` of a model to which order counts."""
        return as_rows(self.aligned(x)[0] if isinstance(x, Interactions) else x, self.n_items, name)

    def _item_numbers(self, items: ArrayLike, ndim: int = 1) -> NDArray[np.int64]:
        numbers = np.asarray(items)
        if numbers.size == 0:
            numbers = numbers.astype(np.int64)
        if numbers.ndim != ndim or numbers.dtype.kind not in "iu":
            raise TypeError(
                f"items must be {ndim}-dimensional item numbers, got {numbers.dtype} of shape {numbers.shape}"
            )
        if numbers.size and not 0 <= numbers.min() <= numbers.max() < (self.n_items or 0):
            raise ValueError(
                f"items must be in 0..{(self.n_items or 0) - 1}, got {numbers.min()}..{numbers.max()}"
            )
        return numbers.astype(np.int64)

    def _each_itself(self, items: NDArray[np.int64]) -> sp.csr_array:
        """A row an item, with the item itself: what `similar_items` leaves out."""
        import scipy.sparse as sp

        ones, rows = np.ones(len(items), np.float32), np.arange(len(items))
        return sp.csr_array((ones, (rows, items)), shape=(len(items), self.n_items or 0))

    def _require_trained(self) -> None:
        if self.n_items is None:
            raise RuntimeError(
                f"{type(self).__name__} is not trained: call train or load_model first"
            )

    def _take_items(self, train_data: Any, x: sp.csr_array) -> None:
        """Remember the catalogue of the training data."""
        self.n_items = int(x.shape[1])
        self.item_ids = train_data.items if isinstance(train_data, Interactions) else None
        self.item_counts = np.bincount(x.indices, minlength=self.n_items).astype(np.int64)


def as_rows(x: Any, n_items: int | None = None, name: str = "x") -> sp.csr_array:
    """Return `x` as CSR (see `as_csr`); a sampler's batches are stacked in their order, inputs only."""
    if isinstance(x, tuple):
        raise TypeError(f"{name} must be one matrix or a sampler, got a tuple of {len(x)}")
    if not gives_batches(x):
        return as_csr(x, n_items, name)
    rows = [
        as_csr(batch[0] if isinstance(batch, (tuple, list)) else batch, n_items, name)
        for batch in x
    ]
    if not rows:
        raise ValueError(f"{name} gave no batches")
    import scipy.sparse as sp

    return as_csr(sp.vstack(rows, format="csr"), n_items, name)


def gives_batches(x: Any) -> bool:
    """Whether `x` is a sampler or the like, and not data itself."""
    # Frames are iterable too, by their columns: `as_csr` says what to do with one.
    is_data = is_sparse(x) or any(hasattr(x, a) for a in ("detach", "to_csr", "__arrow_c_stream__"))
    return isinstance(x, Iterable) and not (
        is_data or isinstance(x, (Interactions, Histories, np.ndarray))
    )


def _rows_of(items: Any, rows: slice, n: int, name: str) -> Any:
    """The block's part of lists that have a row a user; lists for all users as they are."""
    if not is_sparse(items):
        return items
    items = as_csr(items, name=name)
    if items.shape[0] != n:
        raise ValueError(
            f"{name} must have a row for each of the {n} histories, got {items.shape[0]}"
        )
    return items[rows]
