"""ADMM_Slim: sparse item-item weights with an L1 penalty, non-negative or not."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pyrec.arguments import at_least_zero, flag, positive, whole
from pyrec.data.csr import is_sparse
from pyrec.kernels.slim import Solved
from pyrec.machine import cuda_device
from pyrec.models import closed_form, slim
from pyrec.models.base import as_rows
from pyrec.models.linear import LinearModel, dense_from, sparse_from, sparse_to
from pyrec.models.tuning import Fitted, grid_values, path_of

if TYPE_CHECKING:
    import scipy.sparse as sp
    import torch

__all__ = ["ADMM_Slim"]

_PARAMETERS = ("lambda1", "lambda2", "rho", "nn_constr", "l1_penalty", "item_bias")
_TRAINING = ("residual", "n_iter", "n_solved")

# A residual of ADMM beyond which B is not the model that was asked for.
_FAR = 1e-2


class ADMM_Slim(LinearModel):
    """Sparse linear item-item weights: SLIM, solved by ADMM or by coordinate descent.

    min over B of ½‖X - XB‖² + ½λ₂‖B‖² + λ₁‖B‖₁ with diag(B) = 0 and B ≥ 0 (Steck et al. 2020,
    equation 2). A history x scores xB.

    Parameters
    ----------
    lambda1 : float
        λ₁, at least 0.
    lambda2 : float
        λ₂, at least 0; above 0 without an L1 penalty.
    rho : float or "auto"
        Above 0: how fast ADMM converges, not where to. "auto" chooses it by a trial on some items.
        Coordinate descent does without.
    nn_constr : bool
        B ≥ 0.
    l1_penalty : bool
        False is λ₁ = 0. With neither of the two, B has a closed form: EASE at λ = λ₂.
    item_bias : bool
        Model X - 1bᵀ, b the items' means over all users: a history scores (x - b)B + b.

    Attributes
    ----------
    lambda1, lambda2, rho, nn_constr, l1_penalty, item_bias
        The parameters.
    model : ScoreRows or None
        The scores of the training users, a row at a time on demand; None before training.
    weights : (n_items, n_items) float32 csr_array, or array, or None
        B; row i is what item i adds to every item's score. Dense in closed form; None before training.
    offset : (n_items,) float32 array or None
        b - Bᵀb, what every history scores beside xB; None without `item_bias`.
    residual : float
        How far the worst column is from its optimum, in the measure that `tol` bounds; NaN before
        training, 0 in closed form.
    n_iter : int
        The most iterations (ADMM) or sweeps (coordinate descent) that a column took.
    n_solved : int
        Columns of B that were solved: all, but after a training that was interrupted.

    References
    ----------
    Harald Steck, Maria Dimakopoulou, Nickolai Riabov, Tony Jebara. 2020. ADMM SLIM: Sparse
    Recommendations for Many Users. WSDM '20, 555-563.
    """

    def __init__(
        self,
        lambda1: float = 5.0,
        lambda2: float = 1e3,
        rho: float | str = 1e5,
        nn_constr: bool = True,
        l1_penalty: bool = True,
        item_bias: bool = False,
    ) -> None:
        self.lambda1 = at_least_zero(lambda1, "lambda1")
        self.lambda2 = at_least_zero(lambda2, "lambda2")
        if isinstance(rho, str) and rho != "auto":
            raise ValueError(f"rho must be a number above 0 or 'auto', got {rho!r}")
        self.rho = rho if isinstance(rho, str) else positive(rho, "rho")
        self.nn_constr = flag(nn_constr, "nn_constr")
        self.l1_penalty = flag(l1_penalty, "l1_penalty")
        self.item_bias = flag(item_bias, "item_bias")
        if self.lambda2 == self._problem.lambda1 == 0:
            raise ValueError("lambda2 must be above 0 without an L1 penalty, got 0")
        self.weights: sp.csr_array | NDArray[np.float32] | None = None
        self.offset = None
        self._train_x = None
        self.residual, self.n_iter, self.n_solved = math.nan, 0, 0

    def __repr__(self) -> str:
        rho = self.rho if isinstance(self.rho, str) else f"{self.rho:g}"
        return (
            f"ADMM_Slim(lambda1={self.lambda1:g}, lambda2={self.lambda2:g}, rho={rho}, "
            f"nn_constr={self.nn_constr}, l1_penalty={self.l1_penalty}, item_bias={self.item_bias})"
        )

    def train(
        self,
        train_data: Any,
        num_iter: int = 50,
        verbose: int = 1,
        *,
        solver: str = "auto",
        tol: float | None = None,
        relaxation: float = 1.6,
        dtype: type[np.float32 | np.float64] = np.float32,
        device: torch.device | str | None = None,
    ) -> None:
        """Compute the weights, one column of B after the other.

        Ctrl-C ends the training with a KeyboardInterrupt and leaves a model that works: with the
        columns solved so far, zeros in the others, and `n_solved` saying how many.

        Parameters
        ----------
        train_data : (n_users, n_items) CSR, Interactions, dense array or tensor, or sampler
            Kept by reference for `predict` and `model`.
        num_iter : int
            Iterations of ADMM at most; a column that has converged needs fewer. It bounds nothing else.
        verbose : int
            Above 0: a bar, on a terminal.
        solver : {"auto", "admm", "cd"}
            Both end at the same B. "cd", coordinate descent on XᵀX, is the faster the sparser B is and
            stops at the optimum; "admm" takes about the same time for any B. "auto" is "cd", which was
            faster in every variant on 3,500 items and on 20,000. The closed form needs neither.
        tol : float, optional
            Above 0. "cd": a column is done when its objective is within ``tol * ‖x_j‖² / 2`` of the
            minimum, 1e-6 by default. "admm": when ‖B - C‖ and ‖C - C before‖ are within `tol` of the
            column's norms (see `pyrec.kernels.slim.admm`), 1e-4 by default.
        relaxation : float
            Over-relaxation of ADMM, above 0 and below 2; 1 is the algorithm as published.
        dtype : float32 or float64
            Of XᵀX or its inverse, and of the arithmetic. The weights are float32.
        device : torch.device or str, optional
            A CUDA device, for ``solver="admm"`` and for the closed form; by default the CPU, on which
            alone coordinate descent runs. The weights come back as they do from there.

        Raises
        ------
        ValueError, TypeError
            An option that is none of these, a `device` that is not there, or a GPU for coordinate
            descent; raised before anything is computed.
        MemoryError
            When the matrices do not fit: raised before anything large is allocated, and later only
            where B turns out less sparse than there is memory for.
        numpy.linalg.LinAlgError
            When λ₂ + rho (ADMM) or λ₂ (closed form) is too small against XᵀX for `dtype`.

        Notes
        -----
        Memory: one n_items x n_items matrix of `dtype` (XᵀX, or its inverse in the same place), 3 x 512
        rows of it for the columns under way, 8 bytes an interaction; and B: 8 bytes a weight that is not
        0, twice that when the matrix has been freed and B is put together. A GPU holds the matrix, and
        3 x 2,048 rows.
        """
        slim.check_options(num_iter, solver, tol, relaxation, dtype)
        place, problem = cuda_device(device), self._problem
        if place is not None and solver != "admm" and not problem.is_closed:
            raise ValueError(
                f"device: coordinate descent runs on the CPU, got device={device!r} with "
                f"solver={solver!r}; pass solver='admm'"
            )
        x = as_rows(train_data, name="train_data")
        self._packed = None
        means = closed_form.item_means(x) if self.item_bias else None
        if problem.is_closed:
            self._take(train_data, x, means, slim.closed(x, means, problem, dtype, place))
            return
        columns = slim.SolvedColumns(int(x.shape[1]))
        if solver != "admm":
            complete = _collect(slim.sweeps(x, means, problem, tol, dtype), columns, verbose)
        else:
            options = {"num_iter": num_iter, "relaxation": relaxation}
            groups = slim.iterations(x, means, problem, self.rho, tol, dtype, place, **options)
            complete = _collect(groups, columns, verbose)
        if complete or columns.n_solved:
            self._take(train_data, x, means, columns)
        if solver == "admm" and not columns.residual <= _FAR:
            warnings.warn(
                f"ADMM ended far from the optimum, with a residual of {columns.residual:.1g} after "
                f"{columns.n_iter} iterations: use rho='auto', a larger num_iter, or solver='cd'",
                RuntimeWarning,
                stacklevel=2,
            )
        if not complete:
            raise KeyboardInterrupt

    @classmethod
    def path(
        cls,
        train_data: Any,
        valid_data: Any,
        valid_metric: str = "ndcg@100",
        *,
        lambda1: ArrayLike = 5.0,
        lambda2: ArrayLike = 1e3,
        nn_constr: bool = True,
        l1_penalty: bool = True,
        item_bias: bool = False,
        tol: float | None = None,
        dtype: type[np.float32 | np.float64] = np.float32,
        verbose: int = 1,
    ) -> Fitted[ADMM_Slim]:
        """Train at every pair of some λ₁ and λ₂, from one XᵀX, and keep the best.

        Coordinate descent begins each fit with the weights of the one before, from the largest λ₁ to
        the smallest (Friedman et al. 2010): ten λ₁ take a few times as long as one.

        Parameters
        ----------
        train_data : (n_users, n_items) CSR, Interactions, dense array or tensor, or sampler
        valid_data : pair (tr, te)
            Histories and held-out items of the users to measure with, as `pyrec.evaluation.evaluate`
            takes them.
        valid_metric : str
            ``name@k``; the largest mean is the best.
        lambda1, lambda2 : float or list of float
            Fitted in the order of `lambda2`, each with all of `lambda1`, the largest first. Without
            `l1_penalty` there is one fit a λ₂.
        nn_constr, l1_penalty, item_bias : bool
            The same in all fits.
        tol, dtype
            As in `train` with the solver "cd".
        verbose : int
            Above 0: a bar, on a terminal.

        Returns
        -------
        Fitted
            ``best`` is the trained model, ``points`` has the parameters, value and seconds of each fit.

        Raises
        ------
        ValueError
            A parameter that the constructor refuses, an unknown metric, or no user with held-out items.
        MemoryError, numpy.linalg.LinAlgError
            As `train`.

        Examples
        --------
        >>> path = ADMM_Slim.path(
        ...     split.train, (split.valid_tr, split.valid_te), lambda1=[1, 3, 10], lambda2=[300, 1000]
        ... )
        >>> path.best, path.points[0].value

        Notes
        -----
        Memory: as `train` with the solver "cd", and the best B so far. In closed form, with neither
        `nn_constr` nor `l1_penalty`: as `EASE.path`.
        """
        options = {"nn_constr": nn_constr, "l1_penalty": l1_penalty, "item_bias": item_bias}
        l1s = grid_values(lambda1, "lambda1") if l1_penalty else [0.0]
        models = [
            model
            for l2 in grid_values(lambda2, "lambda2")
            for model in sorted((cls(l1, l2, **options) for l1 in l1s), key=lambda m: -m.lambda1)
        ]
        if len({model._problem.is_closed for model in models}) > 1:
            raise ValueError(
                "lambda1 must be above 0 when nn_constr is False and others are: 0 has the closed form "
                "that l1_penalty=False tunes"
            )
        slim.check_options(1, "cd", tol, 1.0, dtype)
        x = as_rows(train_data, name="train_data")
        means = closed_form.item_means(x) if item_bias else None
        solutions = slim.path(x, means, [model._problem for model in models], tol, dtype)

        def trained() -> Iterator[ADMM_Slim]:
            while models:
                model = models.pop(0)
                model._take(train_data, x, means, next(solutions))
                yield model

        names = ("lambda1", "lambda2") if l1_penalty else ("lambda2",)
        return path_of(trained(), names, len(models), valid_data, valid_metric, verbose)

    def state(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        weights = self._weights()
        arrays = sparse_to(weights) if is_sparse(weights) else {"weights": weights}
        if self.offset is not None:
            arrays["offset"] = self.offset
        parameters = {name: getattr(self, name) for name in _PARAMETERS}
        return {**parameters, "training": {name: getattr(self, name) for name in _TRAINING}}, arrays

    def restore(
        self, parameters: dict[str, Any], tensors: dict[str, NDArray[Any]], n_items: int
    ) -> None:
        values, arrays = dict(parameters), dict(tensors)
        training = values.pop("training")
        model = ADMM_Slim(**values)
        if model._problem.is_closed:
            model.weights = dense_from(arrays, "weights", (n_items, n_items))
        else:
            model.weights = sparse_from(arrays, n_items)
        if model.item_bias:
            model.offset = dense_from(arrays, "offset", (n_items,))
        if arrays:
            raise ValueError(f"unknown arrays: {', '.join(sorted(arrays))}")
        model.residual = float(training["residual"])
        model.n_iter, model.n_solved = (whole(training[name], name) for name in _TRAINING[1:])
        self.__dict__.update(model.__dict__)

    @property
    def _problem(self) -> slim.Penalties:
        return slim.Penalties(
            self.lambda1 if self.l1_penalty else 0.0, self.lambda2, self.nn_constr
        )

    def _take(
        self,
        train_data: Any,
        x: sp.csr_array,
        means: NDArray[np.float64] | None,
        solution: slim.SolvedColumns | NDArray[np.float32],
    ) -> None:
        """Become the model of these columns, or of these weights in closed form."""
        if isinstance(solution, slim.SolvedColumns):
            self.weights = solution.weights()
            self.residual, self.n_iter = solution.residual, solution.n_iter
            self.n_solved = solution.n_solved
        else:
            self.weights = solution
            self.residual, self.n_iter, self.n_solved = 0.0, 0, len(solution)
        self.offset = None if means is None else slim.centred_offset(means, self.weights)
        self._train_x = x
        self._take_items(train_data, x)


def _collect(groups: Iterator[Solved], columns: slim.SolvedColumns, verbose: int) -> bool:
    """Take all groups, under a bar; False after Ctrl-C.

    Its traceback would keep the matrix of the columns in memory: it ends here.
    """
    from tqdm import tqdm

    off = None if verbose else True  # None: off where the standard error is no terminal
    try:
        with tqdm(total=columns.n_items, leave=False, disable=off, unit="item") as bar:
            for group in groups:
                columns.add(group)
                bar.update(len(group.columns))
                bar.set_postfix_str(f"residual {columns.residual:.1e}", refresh=False)
    except KeyboardInterrupt:
        return False
    return True
