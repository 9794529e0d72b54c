"""Item-item models: a score is the history times a weight matrix B with zero diagonal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pyrec import kernels
from pyrec.data.csr import as_csr, csr, is_sparse
from pyrec.files import StrPath
from pyrec.kernels.packed import PackedType, PackedWeights, pack_in_file
from pyrec.machine import require_memory
from pyrec.models.base import Explanation, Recommendations
from pyrec.models.placed import PlacedModel

if TYPE_CHECKING:
    import scipy.sparse as sp

__all__ = [
    "LinearModel",
    "ScoreRows",
    "dense_from",
    "sparse_from",
    "sparse_to",
]

# Histories scored in one native call: the fewer, the sooner it can be interrupted. Of packed weights
# each panel is read from memory once a call, which many histories share: worth seconds at a time.
_ROWS, _PACKED_ROWS = 8192, 32_768
_PACKED_TYPES: dict[str, PackedType] = {"fp32": "float32", "bf16": "bfloat16"}
_SPARSE = {"weights.indptr": np.int64, "weights.indices": np.int32, "weights.data": np.float32}


class ScoreRows:
    """The scores of the training users, one row or some at a time: ``model.model[ids]``."""

    def __init__(self, model: LinearModel) -> None:
        self._model = model

    def __getitem__(self, ids: Any) -> NDArray[np.float32]:
        """Return the float32 scores of the training rows `ids` (an int, a slice or an array of row numbers)."""
        numbers = np.arange(len(self))[ids]
        rows = self._model.scores(self._model._training_rows(np.atleast_1d(numbers)))
        return rows[0] if np.ndim(numbers) == 0 else rows

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def shape(self) -> tuple[int, int]:
        """(n_users, n_items)"""
        x = self._model._training_matrix()
        return int(x.shape[0]), int(x.shape[1])


class LinearModel(PlacedModel):
    """Abstract base class of item-item models: a history x scores xB, plus a constant an item.

    A subclass writes `train`, which sets the attributes, and `state` and `restore`. Only `_lists`,
    `scores`, `_block` and `DeviceWeights` know whether the weights are dense or sparse.

    Attributes
    ----------
    model : ScoreRows or None
        The scores of the training users, a row at a time on demand; None before training.
    weights : (n_items, n_items) float32 array or csr_array, or None
        B; row i is what item i adds to every item's score. None before training.
    offset : (n_items,) float32 array or None
        The constant; None for zeros.
    """

    weights: Any = None
    offset: NDArray[np.float32] | None = None
    _train_x: sp.csr_array | None = None
    _packed: tuple[Any, PackedWeights] | None = None

    @property
    def model(self) -> ScoreRows | None:
        """The scores of the training users, a row at a time on demand; None before training."""
        return None if self.weights is None else ScoreRows(self)

    def predict(
        self, ids_te_users: Any, test_tr: Any = None, remove_train: bool = True
    ) -> tuple[NDArray[np.float32]]:
        """Return the scores of every item.

        Parameters
        ----------
        ids_te_users : (n,) row numbers of training users, None, or histories
            The training users whose histories are scored; None to score `test_tr` itself. Without
            `test_tr`: the histories to score (CSR, Interactions, dense array or tensor, sampler).
        test_tr : (n, n_items) CSR, optional
            The histories whose items `remove_train` hides.
        remove_train : bool
            Set the scores of the items of `test_tr` to -inf.

        Returns
        -------
        tuple of one (n, n_items) float32 array
            Dense: keep n small. `recommend` never builds it.
        """
        self._require_trained()
        if test_tr is None:
            histories = hidden = self.histories(ids_te_users, "ids_te_users")
        else:
            hidden = self.histories(test_tr, "test_tr")
            histories = hidden if ids_te_users is None else self._training_rows(ids_te_users)
        if histories.shape[0] != hidden.shape[0]:
            raise ValueError(
                f"test_tr must have a row for each of the {histories.shape[0]} ids, got {hidden.shape[0]}"
            )
        scores = self.scores(histories)
        if remove_train:
            scores[hidden.nonzero()] = -np.inf
        return (scores,)

    def scores(self, x: Any) -> NDArray[np.float32]:
        """Return the (n, n_items) float32 scores of the histories `x`. Dense: keep n small."""
        weights = self._weights()
        if self._device is not None:
            return self._scores_there(self.histories(x))
        kernel = (
            kernels.scores_sparse_weights if is_sparse(weights) else kernels.scores_dense_weights
        )
        found: NDArray[np.float32] = kernel(self.histories(x), weights, offset=self.offset)
        return found

    def pack(
        self,
        precision: str = "fp32",
        *,
        file: StrPath | None = None,
        release: bool = False,
    ) -> None:
        """Lay dense weights out for `recommend`, which is then about three times as fast.

        Worth it from some ten thousand users on. In fp32 the recommendations stay the same to the
        bit. Memory: as much again as the weights take (bf16: half of it). Other `weights`, by
        `train`, `load_model` or by hand, must be packed anew. On a GPU there is nothing to do.

        Parameters
        ----------
        precision, file, release
            As in `RecSysModel.pack`.
        """
        self._check_precision_there(precision)
        self.check_precision(precision)
        weights = self._weights()
        if is_sparse(weights) or self._device is not None:
            return
        kind = _PACKED_TYPES[precision]
        if file is None:
            require_memory(
                PackedWeights.nbytes(len(weights), kind), "the model needs its packed weights"
            )
            packed = kernels.pack_weights(weights, dtype=kind, release=release)
        else:
            packed = pack_in_file(weights, file, dtype=kind, release=release)
        self._packed = weights, packed

    def unpacked(self) -> Self:
        model = super().unpacked()
        model._packed = None
        return model

    def check_precision(self, precision: str) -> None:
        if is_sparse(self._weights()):
            super().check_precision(precision)
        elif precision not in _PACKED_TYPES:
            raise ValueError(
                f"precision must be one of {', '.join(_PACKED_TYPES)}, got {precision!r}"
            )

    def similar_items(self, items: ArrayLike, k: int = 10) -> Recommendations:
        """Return the `k` items whose scores each of `items` raises most: the largest weights of its row.

        Parameters
        ----------
        items : (n,) item numbers
        k : int

        Returns
        -------
        Recommendations
            ``items`` int32 (n, k) without the item itself, ``scores`` the weights.
        """
        self._require_trained()
        alone = self._each_itself(self._item_numbers(items))
        if self._device is not None:
            return self._similar_there(alone, k)
        return self._lists(alone, k, alone)

    def explain(self, x: Any, items: ArrayLike) -> Explanation:
        """Return which of the user's items gave the scores of `items`, and how much.

        Parameters
        ----------
        x : (n, n_items) histories
        items : (n, m) item numbers
            The items to explain for each history, for example ``recommend(x).items``; -1 is passed over.

        Returns
        -------
        Explanation
            Contributions x_i B_ij of the history's items i, the largest first; with the offset they
            sum to the score of item j.
        """
        self._require_trained()
        histories = self.histories(x)
        asked = np.asarray(items)
        valid = self._item_numbers(np.where(asked < 0, 0, asked), ndim=2)
        if len(asked) != histories.shape[0]:
            raise ValueError(
                f"items must have a row for each of the {histories.shape[0]} histories, got {len(asked)}"
            )
        longest = int(np.diff(histories.indptr).max(initial=0))
        own = np.full((*asked.shape, longest), -1, np.int32)
        parts = np.zeros((*asked.shape, longest), np.float32)
        offset = np.zeros(asked.shape, np.float32)
        if self.offset is not None:
            offset[asked >= 0] = self.offset[asked[asked >= 0]]
        for u in range(len(asked)):
            history = slice(histories.indptr[u], histories.indptr[u + 1])
            mine = histories.indices[history]
            part = histories.data[history] * self._block(mine, valid[u]).T
            order = np.argsort(-part, axis=1, kind="stable")
            real = asked[u] >= 0
            own[u, real, : len(mine)] = mine[order][real]
            parts[u, real, : len(mine)] = np.take_along_axis(part, order, 1)[real]
        return Explanation(own, parts, offset)

    def _topk(self, x: sp.csr_array, k: int, seen: Any, allow: Any, deny: Any) -> Recommendations:
        options = {"offset": self.offset, "allow": allow, "deny": deny}
        packed = self._packed_weights()
        if packed is not None:
            return kernels.topk_dense_weights(x, packed, k, seen, **options)
        return self._lists(x, k, seen, **options)

    def _lists(self, x: sp.csr_array, k: int, seen: Any, **options: Any) -> Recommendations:
        weights = self._weights()
        kernel = kernels.topk_sparse_weights if is_sparse(weights) else kernels.topk_dense_weights
        return kernel(x, weights, k, seen, **options)

    def _block(self, rows: NDArray[Any], columns: NDArray[Any]) -> NDArray[np.float32]:
        """Some rows and columns of the weights, dense."""
        weights = self._weights()
        block: NDArray[np.float32] = (
            weights[rows][:, columns].toarray()
            if is_sparse(weights)
            else weights[np.ix_(rows, columns)]
        )
        return block

    @property
    def rows_at_once(self) -> int:
        if self._device is not None:
            return super().rows_at_once
        return 0 if self._packed_weights() is None else _PACKED_ROWS

    def _block_rows(self) -> int:
        if self._device is not None:
            return super()._block_rows()
        return self.rows_at_once or _ROWS

    def _packed_weights(self) -> PackedWeights | None:
        """What `pack` has made, unless other weights have come since."""
        packed = self._packed
        return None if packed is None or packed[0] is not self.weights else packed[1]

    def _training_matrix(self) -> sp.csr_array:
        if self._train_x is None:
            raise RuntimeError(
                f"this {type(self).__name__} was loaded from a file, which does not keep the training "
                "histories: pass the histories themselves (ids_te_users=None and test_tr, or recommend)"
            )
        return self._train_x

    def _training_rows(self, ids: Any) -> sp.csr_array:
        x = self._training_matrix()
        numbers = np.asarray(ids)
        if numbers.ndim != 1 or (numbers.size and numbers.dtype.kind not in "iu"):
            raise TypeError(
                f"ids_te_users must be a 1-D array of row numbers, got {numbers.dtype} of shape {numbers.shape}"
            )
        if numbers.size and not 0 <= numbers.min() <= numbers.max() < x.shape[0]:
            raise ValueError(
                f"ids_te_users must be training rows in 0..{x.shape[0] - 1}, got {numbers.min()}..{numbers.max()}"
            )
        return x[numbers.astype(np.int64)]


def dense_from(
    tensors: dict[str, NDArray[Any]], name: str, shape: tuple[int, ...]
) -> NDArray[np.float32]:
    """Take the float32 array `name` out of a model file's arrays, or raise a ValueError."""
    array = tensors.pop(name)
    if array.shape != shape or array.dtype != np.float32:
        raise ValueError(
            f"{name} must be float32 of shape {shape}, got {array.dtype} of shape {array.shape}"
        )
    return array


def sparse_to(weights: sp.csr_array) -> dict[str, NDArray[Any]]:
    """Return the arrays of a model file that hold sparse weights."""
    return {
        name: getattr(weights, name.partition(".")[2]).astype(dtype, copy=False)
        for name, dtype in _SPARSE.items()
    }


def sparse_from(tensors: dict[str, NDArray[Any]], n_items: int) -> sp.csr_array:
    """Take sparse weights out of a model file's arrays; a ValueError says why they are none."""
    arrays = {name: tensors.pop(name) for name in _SPARSE}
    for name, array in arrays.items():
        if array.ndim != 1 or array.dtype != _SPARSE[name]:
            raise ValueError(
                f"{name} must be {np.dtype(_SPARSE[name])} of one dimension, "
                f"got {array.dtype} of shape {array.shape}"
            )
    indptr, indices, data = arrays.values()
    n = int(indptr[-1]) if len(indptr) else 0
    if not n == len(indices) == len(data):
        raise ValueError(
            f"weights.indices and weights.data must have {n} entries, as weights.indptr says, "
            f"got {len(indices)} and {len(data)}"
        )
    # The gate checks offsets and item numbers before any native code trusts them.
    return as_csr(csr(data, indices, indptr, (n_items, n_items)), name="weights")
