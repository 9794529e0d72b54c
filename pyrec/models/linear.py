"""Item-item models: a score is the history times a weight matrix B with zero diagonal."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pyrec import kernels
from pyrec.kernels.arrays import INVERSE_BLOCK
from pyrec.machine import require_memory
from pyrec.models.base import Explanation, Recommendations, RecSysModel, as_rows

if TYPE_CHECKING:
    import scipy.sparse as sp

__all__ = ["EASE"]

# Histories scored in one native call: short enough to be interrupted.
_ROWS = 8192
# Items whose rows of P are made at a time in the dual form.
_DUAL_ROWS = 256
# What (XᵀX + λI) P may differ from the identity: beyond it float32 has lost the weights.
_LARGEST_RESIDUAL = 1e-2
# A multiply-add of a sparse product costs about as much as this many operations of a dense one.
_SPARSE_COST = 100


class ScoreRows:
    """The matrix S = XB of the training users, one row or some at a time: ``model.model[ids]``."""

    def __init__(self, model: EASE) -> None:
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


class EASE(RecSysModel):
    """Embarrassingly Shallow AutoEncoders for Sparse Data.

    min over B of ‖X - XB‖² + λ‖B‖² with diag(B) = 0. With P = (XᵀX + λI)⁻¹ the solution is
    B_ij = -P_ij / P_jj (Steck 2019, equation 8). A history x scores xB.

    Parameters
    ----------
    lam : float
        λ, above 0.

    Attributes
    ----------
    lam : float
    model : ScoreRows or None
        S = XB of the training users, a row at a time on demand; None before training.
    weights : (n_items, n_items) float32 array or None
        B; row i is what item i adds to every item's score.

    References
    ----------
    Harald Steck. 2019. Embarrassingly Shallow Autoencoders for Sparse Data. WWW '19, 3251-3257.
    """

    def __init__(self, lam: float = 100.0) -> None:
        if (
            isinstance(lam, bool)
            or not isinstance(lam, (int, float, np.number))
            or not 0 < lam < math.inf
        ):
            raise ValueError(f"lam must be a number above 0, got {lam!r}")
        self.lam = float(lam)
        self.weights: NDArray[np.float32] | None = None
        self._train_x: sp.csr_array | None = None

    def train(self, train_data: Any) -> None:
        """Compute the weights in closed form.

        Parameters
        ----------
        train_data : (n_users, n_items) CSR, Interactions, dense array or tensor, or sampler
            Kept by reference for `predict` and `model`.

        Raises
        ------
        MemoryError
            When the weight matrix does not fit; raised before anything large is allocated.
        numpy.linalg.LinAlgError
            When λ is too small against XᵀX for float32.

        Notes
        -----
        n_items³ operations. Memory: the n_items x n_items float32 matrix, inverted in place, and 8
        bytes an interaction. Where users are few against items, an n_users x n_users inverse gives
        the same weights for less work.
        """
        x = as_rows(train_data, name="train_data")
        dual = _dual_is_cheaper(x)
        n_users, n_items = x.shape
        matrix = f"EASE needs a {n_items:,} x {n_items:,} float32 matrix"
        if dual:
            require_memory(_dual_bytes(x), f"{matrix} and a {n_users:,} x {n_users:,} float64 one")
        else:
            require_memory(_primal_bytes(x), f"{matrix} inverted in place")
        p = _dual_inverse(x, self.lam) if dual else _inverse(x, self.lam)
        self.weights = kernels.ease_weights(p)
        self._train_x = x
        self._take_items(train_data, x)

    def __repr__(self) -> str:
        return f"EASE(lam={self.lam:g})"

    @property
    def model(self) -> ScoreRows | None:
        """S = XB of the training users, a row at a time on demand; None before training."""
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
            histories = hidden = self._histories(ids_te_users, "ids_te_users")
        else:
            hidden = self._histories(test_tr, "test_tr")
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
        """Return the (n, n_items) float32 scores xB of the histories `x`. Dense: keep n small."""
        self._require_trained()
        return kernels.scores_dense_weights(self._histories(x), self._weights())

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
        numbers = self._item_numbers(items)
        return kernels.topk(self._weights()[numbers], k, self._each_itself(numbers))

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
            Contributions x_i B_ij of the history's items i, the largest first; they sum to the score
            of item j.
        """
        self._require_trained()
        histories = self._histories(x)
        asked = np.asarray(items)
        valid = self._item_numbers(np.where(asked < 0, 0, asked), ndim=2)
        if len(asked) != histories.shape[0]:
            raise ValueError(
                f"items must have a row for each of the {histories.shape[0]} histories, got {len(asked)}"
            )
        longest = int(np.diff(histories.indptr).max(initial=0))
        own = np.full((*asked.shape, longest), -1, np.int32)
        parts = np.zeros((*asked.shape, longest), np.float32)
        for u in range(len(asked)):
            history = slice(histories.indptr[u], histories.indptr[u + 1])
            mine = histories.indices[history]
            part = histories.data[history] * self._weights()[np.ix_(mine, valid[u])].T
            order = np.argsort(-part, axis=1, kind="stable")
            real = asked[u] >= 0
            own[u, real, : len(mine)] = mine[order][real]
            parts[u, real, : len(mine)] = np.take_along_axis(part, order, 1)[real]
        return Explanation(own, parts, np.zeros(asked.shape, np.float32))

    def state(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        return {"lam": self.lam}, {"weights": self._weights()}

    def restore(
        self, parameters: dict[str, Any], tensors: dict[str, NDArray[Any]], n_items: int
    ) -> None:
        weights = tensors["weights"]
        if len(tensors) > 1:
            raise ValueError(f"unknown arrays: {', '.join(sorted(tensors.keys() - {'weights'}))}")
        if weights.shape != (n_items, n_items) or weights.dtype != np.float32:
            raise ValueError(
                f"weights must be float32 of shape ({n_items}, {n_items}), got {weights.dtype} of shape {weights.shape}"
            )
        EASE.__init__(self, **parameters)
        self.weights = weights

    def _topk(self, x: sp.csr_array, k: int, seen: Any, allow: Any, deny: Any) -> Recommendations:
        return kernels.topk_dense_weights(x, self._weights(), k, seen, allow=allow, deny=deny)

    def _block_rows(self) -> int:
        return _ROWS

    def _weights(self) -> NDArray[np.float32]:
        self._require_trained()
        assert self.weights is not None
        return self.weights

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


def _inverse(x: sp.csr_array, lam: float) -> NDArray[np.float32]:
    """P = (XᵀX + λI)⁻¹; only its upper triangle is meaningful."""
    p = kernels.gram(x, mirror=False)
    p.flat[:: len(p) + 1] += np.float32(lam)
    try:
        kernels.spd_inverse(p, mirror=False)
    except np.linalg.LinAlgError as error:
        raise np.linalg.LinAlgError(
            f"XᵀX + {lam:g} I cannot be inverted in float32 ({error}): use a larger lam"
        ) from error
    residual = _residual(x, lam, p)
    if not residual < _LARGEST_RESIDUAL:
        raise np.linalg.LinAlgError(
            f"XᵀX + {lam:g} I is too near to singular for float32 (the inverse is off by "
            f"{residual:.1g}): use a larger lam"
        )
    return p


def _residual(x: sp.csr_array, lam: float, p: NDArray[np.float32]) -> float:
    """The largest entry of (XᵀX + λI) p_j - e_j over some columns j, spread over the catalogue."""
    columns = np.unique(np.linspace(0, len(p) - 1, min(len(p), 4)).astype(np.int64))
    some = np.empty((len(columns), len(p)))
    for row, j in zip(some, columns, strict=True):
        row[:j], row[j:] = p[:j, j], p[j, j:]
    off = (x.T @ (x @ some.T)).T + lam * some
    off[np.arange(len(columns)), columns] -= 1.0
    return float(np.abs(off).max(initial=0.0))


def _dual_is_cheaper(x: sp.csr_array) -> bool:
    """Whether the n_users x n_users inverse in float64 and its sparse products are less work than n_items³."""
    n_users, n_items = x.shape
    work = 2 * n_users**3 + _SPARSE_COST * x.nnz * (n_users + n_items)
    return work < n_items**3 and _dual_bytes(x) < 1.5 * _primal_bytes(x)


def _primal_bytes(x: sp.csr_array) -> int:
    """P, and what `gram` and the blocked inverse take beside it."""
    return 4 * int(x.shape[1]) ** 2 + max(8 * x.nnz, 4 * INVERSE_BLOCK * int(x.shape[1]))


def _dual_bytes(x: sp.csr_array) -> int:
    """P, the float64 inverse, blocks of rows in float64, and copies of x."""
    n_users, n_items = map(int, x.shape)
    return 4 * n_items**2 + 8 * n_users**2 + 8 * _DUAL_ROWS * (n_users + 4 * n_items) + 40 * x.nnz


def _dual_inverse(x: sp.csr_array, lam: float) -> NDArray[np.float32]:
    """P = (I - Xᵀ (XXᵀ + λI)⁻¹ X) / λ, the same P by the Woodbury identity.

    In float64, because the difference cancels for items with many users.
    """
    n_users, n_items = x.shape
    k = kernels.gram(x.T, dtype=np.float64)
    k.flat[:: n_users + 1] += lam
    kernels.spd_inverse(k)
    x64, columns = x.astype(np.float64), x.T.tocsr().astype(np.float64)
    p = np.empty((n_items, n_items), np.float32)
    for begin in range(0, n_items, _DUAL_ROWS):
        block = -((columns[begin : begin + _DUAL_ROWS] @ k) @ x64)
        places = np.arange(len(block))
        block[places, begin + places] += 1.0
        p[begin : begin + len(block)] = block / lam
    if not np.isfinite(p.diagonal()).all():
        raise np.linalg.LinAlgError(f"(XᵀX + {lam:g} I)⁻¹ is beyond float32: use a larger lam")
    return p
