"""Callbacks that steer a training or keep its models."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pyrec.callbacks.base import Callback, Logs
from pyrec.files import StrPath, check_place

if TYPE_CHECKING:
    from pyrec.models.ae_trainer import AETrainer

__all__ = ["AnnealingCallback", "Checkpoint", "EarlyStopping", "annealed", "improves"]


class AnnealingCallback(Callback):
    """Sets the model's ``beta`` to min(anneal_cap, t / total_anneal_steps) after t updates.

    For models with a ``beta`` and without annealing of their own.

    Parameters
    ----------
    beta : float
        The value before the first update.
    anneal_cap : float
        The largest value.
    total_anneal_steps : int
        Updates after which an uncapped beta would be 1.
    """

    def __init__(self, beta: float, anneal_cap: float, total_anneal_steps: int) -> None:
        for name, value in (("beta", beta), ("anneal_cap", anneal_cap)):
            if not isinstance(value, (int, float)) or not 0 <= value < math.inf:
                raise ValueError(f"{name} must be a number of at least 0, got {value!r}")
        if not isinstance(total_anneal_steps, int) or total_anneal_steps < 1:
            raise ValueError(f"total_anneal_steps must be at least 1, got {total_anneal_steps!r}")
        self.beta, self.anneal_cap = beta, anneal_cap
        self.total_anneal_steps = total_anneal_steps
        self._betas: list[float] = []

    def bind(self, model: AETrainer) -> None:
        if not hasattr(model, "beta") or getattr(model, "annealing", False):
            raise ValueError(
                f"AnnealingCallback needs a model with a beta that nothing else anneals, got {model}"
            )
        super().bind(model)

    def on_train_begin(self, logs: Logs) -> None:
        self._betas = []
        self._set(self.beta if self.model.gradient_updates == 0 else self._current())

    def on_batch_end(self, batch: int, logs: Logs) -> None:
        self._set(self._current())

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        self._betas.append(self._current())

    def get_data(self) -> list[float]:
        """Return beta at the end of each epoch of this training."""
        return self._betas

    def state(self) -> dict[str, Any]:
        return {"betas": self._betas}

    def restore(self, state: dict[str, Any]) -> None:
        self._betas = list(state["betas"])

    def _current(self) -> float:
        cap = self.anneal_cap
        return annealed(self.model.gradient_updates, cap * self.total_anneal_steps, cap)

    def _set(self, beta: float) -> None:
        self.model.beta = beta  # type: ignore[attr-defined]


class EarlyStopping(Callback):
    """Ends the training when a value has not improved for some epochs.

    Parameters
    ----------
    metric : str
        A name in the logs: the validation metric, ``loss``, ``val_loss``.
    patience : int
        Epochs without improvement after which the training ends, at least 1.
    mode : {"max", "min"}
        Whether larger or smaller is better.
    min_delta : float
        What counts as improvement is larger than this.

    Attributes
    ----------
    best : float or None
    """

    def __init__(
        self, metric: str, patience: int = 10, mode: str = "max", min_delta: float = 0.0
    ) -> None:
        if not isinstance(patience, int) or patience < 1:
            raise ValueError(f"patience must be at least 1, got {patience!r}")
        if not min_delta >= 0:
            raise ValueError(f"min_delta must be at least 0, got {min_delta!r}")
        _check_mode(mode)
        self.metric, self.patience, self.mode, self.min_delta = metric, patience, mode, min_delta
        self.best: float | None = None
        self._waited = 0

    def on_train_begin(self, logs: Logs) -> None:
        self.best, self._waited = None, 0

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        value = _watched(self, logs)
        if improves(value, self.best, self.mode, self.min_delta):
            self.best, self._waited = value, 0
        else:
            self._waited += 1
        self._decide()

    def state(self) -> dict[str, Any]:
        return {"best": self.best, "waited": self._waited}

    def restore(self, state: dict[str, Any]) -> None:
        self.best, self._waited = state["best"], int(state["waited"])
        self._decide()

    def _decide(self) -> None:
        if self._waited >= self.patience:
            self.model.stop_training = True


class Checkpoint(Callback):
    """Writes the model's file: after every epoch, or when a value improves.

    The file holds the network, the optimiser, the number of epochs, the history and the states of
    all callbacks, and is written whole or not at all: ``train(..., resume=path)`` goes on from it
    as if the training had never stopped.

    Parameters
    ----------
    path : path
        Its folder must exist.
    metric : str, optional
        A name in the logs: write only when it improves. NaN never improves; a first number does.
    mode : {"max", "min"}
        Whether larger or smaller is better.

    Attributes
    ----------
    best : float or None
        The best value so far; with a `metric`, the file is the model that had it.
    """

    def __init__(self, path: StrPath, *, metric: str | None = None, mode: str = "max") -> None:
        _check_mode(mode)
        self.path, self.metric, self.mode = Path(path), metric, mode
        self.best: float | None = None

    def on_train_begin(self, logs: Logs) -> None:
        check_place(self.path)
        self.best = None

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        if self.metric is not None:
            value = _watched(self, logs)
            if not improves(value, self.best, self.mode):
                return
            self.best = value
        self.model.save_model(self.path)

    def state(self) -> dict[str, Any]:
        return {} if self.metric is None else {"best": self.best}

    def restore(self, state: dict[str, Any]) -> None:
        if state["best"] is not None and not self.path.exists():
            raise FileNotFoundError(f"the best model so far, {self.path}, does not exist any more")
        self.best = state["best"]


def annealed(step: int, steps: float, cap: float) -> float:
    """Return the weight after `step` updates: linear from 0, `cap` from `steps` updates on."""
    return cap if step >= steps else cap * step / steps


def improves(value: float, best: float | None, mode: str, min_delta: float = 0.0) -> bool:
    """Whether `value` is better than `best` by more than `min_delta`.

    NaN never is; any number is better than None, nothing yet.
    """
    if math.isnan(value) or best is None:
        return not math.isnan(value)
    return value > best + min_delta if mode == "max" else value < best - min_delta


def _watched(callback: EarlyStopping | Checkpoint, logs: Logs) -> float:
    if callback.metric not in logs:
        raise ValueError(
            f"{type(callback).__name__} watches {callback.metric!r}, which this training does not "
            f"report; it reports {', '.join(logs)}"
        )
    return float(logs[callback.metric])


def _check_mode(mode: str) -> None:
    if mode not in ("max", "min"):
        raise ValueError(f"mode must be 'max' or 'min', got {mode!r}")
