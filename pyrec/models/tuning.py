"""Many fits from one Gram matrix: the best of a grid of parameters on validation data."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np
from numpy.typing import ArrayLike

from pyrec.evaluation import evaluate, pairs
from pyrec.metrics import metric_names, summarize
from pyrec.models.base import RecSysModel

__all__ = ["Fitted", "Point", "grid_values", "path_of"]

Model = TypeVar("Model", bound=RecSysModel)


class Point(NamedTuple):
    """One fit of a path.

    Attributes
    ----------
    parameters : dict of str to float
        What this fit does not share with all others.
    value : float
        Mean of the metric over the validation users that have a value.
    seconds : float
        Of the fit; the first includes the Gram matrix. The evaluation is not in it.
    """

    parameters: dict[str, float]
    value: float
    seconds: float


class Fitted(NamedTuple, Generic[Model]):
    """A path of fits.

    Attributes
    ----------
    best : RecSysModel
        The trained model of the point with the largest value, the first of them.
    points : list of Point
        In the order of the fits.
    metric : str
        What was measured.
    """

    best: Model
    points: list[Point]
    metric: str


def path_of(
    models: Iterator[Model],
    names: tuple[str, ...],
    n_models: int,
    valid_data: Any,
    metric: str,
    verbose: int,
) -> Fitted[Model]:
    """Evaluate models as they are trained, and keep the best.

    Parameters
    ----------
    models : iterator of RecSysModel
        Trained when it is asked for the next.
    names : tuple of str
        The attributes that make a point.
    n_models : int
        How many there will be.
    valid_data : pair (tr, te)
        As `pyrec.evaluation.evaluate` takes it.
    metric : str
        ``name@k``.
    verbose : int
        Above 0: a bar, on a terminal.

    Raises
    ------
    ValueError
        An unknown metric, or no user with held-out items.
    """
    from tqdm import tqdm

    metric_names([metric])
    best: Model | None = None
    checked: list[Any] = []
    points: list[Point] = []
    with tqdm(total=n_models, leave=False, disable=None if verbose else True, unit="fit") as bar:
        while True:
            start = time.perf_counter()
            model = next(models, None)
            if model is None:
                break
            seconds = time.perf_counter() - start
            checked = checked or list(pairs(model, valid_data))
            value = summarize(evaluate(model, checked, [metric]))[metric].mean
            if np.isnan(value):
                raise ValueError("valid_data must have a user with held-out items, got none")
            parameters = {name: getattr(model, name) for name in names}
            points.append(Point(parameters, value, seconds))
            if best is None or value > max(point.value for point in points[:-1]):
                best = model
            # Beside the best, only the model under way is in memory.
            del model
            bar.update()
            bar.set_postfix_str(f"{metric} {value:.4f}", refresh=False)
    assert best is not None
    return Fitted(best, points, metric)


def grid_values(values: ArrayLike, name: str) -> list[Any]:
    """Return a number, or some of them, as a list; what numbers are right, the model says."""
    result: list[Any] = np.asarray(values).reshape(-1).tolist() if np.ndim(values) < 2 else []
    if not result:
        raise ValueError(f"{name} must be a number or a list of numbers, got {values!r}")
    return result
