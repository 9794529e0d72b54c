"""EASE: the item-item model with a closed form."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pyrec.arguments import positive
from pyrec.machine import cuda_device
from pyrec.models import closed_form
from pyrec.models.base import as_rows
from pyrec.models.linear import LinearModel, dense_from
from pyrec.models.tuning import Fitted, grid_values, path_of

if TYPE_CHECKING:
    import torch

__all__ = ["EASE"]


class EASE(LinearModel):
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
        self.lam = positive(lam, "lam")
        self.weights: NDArray[np.float32] | None = None
        self._train_x = self._packed = None

    def __repr__(self) -> str:
        return f"EASE(lam={self.lam:g})"

    def train(self, train_data: Any, *, device: torch.device | str | None = None) -> None:
        """Compute the weights in closed form.

        Parameters
        ----------
        train_data : (n_users, n_items) CSR, Interactions, dense array or tensor, or sampler
            Kept by reference for `predict` and `model`.
        device : torch.device or str, optional
            A CUDA device that computes; the weights come back as an array. By default the CPU.

        Raises
        ------
        ValueError
            A `device` that is not there.
        MemoryError
            When the weight matrix does not fit; raised before anything large is allocated.
        numpy.linalg.LinAlgError
            When λ is too small against XᵀX for float32.

        Notes
        -----
        n_items³ operations. Memory: the n_items x n_items float32 matrix, inverted in place, and 8
        bytes an interaction. Where users are few against items, an n_users x n_users inverse gives
        the same weights for less work, on the CPU always. A GPU holds the matrix while it is inverted;
        its weights differ in the last bits of products.
        """
        place = cuda_device(device)
        x = as_rows(train_data, name="train_data")
        self._packed = None
        self.weights = closed_form.weights(x, self.lam, device=place)
        self._train_x = x
        self._take_items(train_data, x)

    @classmethod
    def path(
        cls,
        train_data: Any,
        valid_data: Any,
        valid_metric: str = "ndcg@100",
        *,
        lam: ArrayLike,
        verbose: int = 1,
        device: torch.device | str | None = None,
    ) -> Fitted[EASE]:
        """Train at some λ, from one Gram matrix, and keep the best.

        Parameters
        ----------
        train_data : (n_users, n_items) CSR, Interactions, dense array or tensor, or sampler
        valid_data : pair (tr, te)
            Histories and held-out items of the users to measure with, as `pyrec.evaluation.evaluate`
            takes them.
        valid_metric : str
            ``name@k``; the largest mean is the best.
        lam : list of float
            Fitted in this order.
        verbose : int
            Above 0: a bar, on a terminal.
        device : torch.device or str, optional
            As in `train`.

        Returns
        -------
        Fitted
            ``best`` is the trained model, ``points`` has the parameters, value and seconds of each fit.

        Raises
        ------
        ValueError
            A λ that is not above 0, an unknown metric, no user with held-out items, or a `device` that is
            not there.
        MemoryError, numpy.linalg.LinAlgError
            As `train`.

        Examples
        --------
        >>> path = EASE.path(split.train, (split.valid_tr, split.valid_te), lam=[100, 300, 1000])
        >>> path.best.lam, path.points[0].value

        Notes
        -----
        Each λ takes n_items³ operations and an evaluation. Memory: 2.5 matrices of n_items x n_items
        float32, those of the best λ, of the λ under way, and half a Gram matrix; on a GPU two.
        """
        place = cuda_device(device)
        models = [cls(value) for value in grid_values(lam, "lam")]
        x = as_rows(train_data, name="train_data")
        weights = closed_form.weights_path(x, [model.lam for model in models], device=place)

        def trained() -> Iterator[EASE]:
            while models:
                model = models.pop(0)
                model.weights, model._train_x = next(weights), x
                model._take_items(train_data, x)
                yield model

        return path_of(trained(), ("lam",), len(models), valid_data, valid_metric, verbose)

    def state(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        return {"lam": self.lam}, {"weights": self._weights()}

    def restore(
        self, parameters: dict[str, Any], tensors: dict[str, NDArray[Any]], n_items: int
    ) -> None:
        if len(tensors) > 1:
            raise ValueError(f"unknown arrays: {', '.join(sorted(tensors.keys() - {'weights'}))}")
        weights = dense_from(tensors, "weights", (n_items, n_items))
        EASE.__init__(self, **parameters)
        self.weights = weights
