"""The training loop, once, for every network: epochs, validation, callbacks, resuming.

Randomness is a function of the seed and of the number of the epoch, counted over the model's whole
life: a resumed training ends with the same bits, and two trainings of 5 epochs equal one of 10.
"""

from __future__ import annotations

import copy
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence, Sized
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import numpy as np
import torch

from pyrec import evaluation, kernels
from pyrec.arguments import whole
from pyrec.callbacks import Callback, Checkpoint, Logs, ProgressBar
from pyrec.data.randomness import check_seed
from pyrec.evaluation import ValidFunc
from pyrec.files import StrPath, check_place
from pyrec.kernels import tensors
from pyrec.machine import find_device
from pyrec.metrics import summarize
from pyrec.models import moving
from pyrec.models.base import RecSysModel, as_rows, gives_batches

if TYPE_CHECKING:
    from pyrec.models.autoencoders import AETrainer
    from pyrec.models.network_model import NetworkModel

__all__ = [
    "EVALUATE",
    "PRECISIONS",
    "check_repeats",
    "each_batch",
    "run",
    "run_epoch",
    "training_data",
]

EVALUATE = ValidFunc(evaluation.evaluate)
PRECISIONS = ("fp32", "bf16")

_log = logging.getLogger(__name__)


class Validation(NamedTuple):
    """Held-out data, the metric that judges the model on it, and the function that computes it."""

    data: Any
    metric: str
    func: Any

    def measure(self, model: NetworkModel) -> float:
        """Return the mean over the users that have a value; NaN when there are none."""
        if hasattr(self.data, "epoch"):  # one order for all epochs, or the last bits would differ
            self.data.epoch = 0
        values = self.func(model, self.data, self.metric)
        return summarize({self.metric: values})[self.metric].mean


def run(
    model: NetworkModel,
    train_data: Any,
    valid: tuple[Any, str | None, Any],
    num_epochs: int,
    verbose: int,
    *,
    best_path: StrPath | None,
    seed: int,
    callbacks: Iterable[Callback],
    batch_size: int,
    device: torch.device | str | None,
    precision: str | None,
    resume: StrPath | None,
) -> None:
    """Train a model; the parameters are those of `train`, where they are explained."""
    # Whatever can be wrong is found before anything of the model is changed.
    model.check_trainable()
    num_epochs, seed = whole(num_epochs, "num_epochs"), check_seed(seed)
    place = None if device is None else find_device(device)
    planned = copy.copy(model)  # which knows where batches are wanted
    planned.batches_on = place
    loader, catalogue = planned.training_data(train_data, batch_size, seed)
    validation = _validation(catalogue, *valid)
    if precision not in (None, *PRECISIONS):
        raise ValueError(f"precision must be one of {', '.join(PRECISIONS)}, got {precision!r}")
    best = None
    if validation is not None and best_path is not None:
        check_place(best_path)
        best = Checkpoint(best_path, metric=validation.metric)
    called = _in_order(callbacks, verbose, best)
    for callback in called:
        callback.bind(cast("AETrainer", model))  # each says itself what of a model it needs
    if place is not None:
        moving.check_room(model.networks(), model.optimizers(), place)
    states = [] if resume is None else model.resume(resume, catalogue, seed)

    model.take_catalogue(catalogue)
    model.precision = precision or model.precision
    model.seed_of_training = seed
    if place is not None:
        model.to(place)
    last = num_epochs if resume is not None else model.epoch + num_epochs
    _fit(model, loader, validation, called, states, last, seed)
    if best is not None and best.best is not None:
        model.take_weights(best.path)


def run_epoch(model: AETrainer, epoch: int, loader: Iterable[Any], verbose: int) -> float:
    """Train on every batch once; parameters and result are those of `AETrainer.train_epoch`."""
    total, rows = 0.0, 0
    for batch, loss in each_batch(
        model, epoch, loader, verbose, lambda batch: model.train_batch(*_pair(batch))
    ):
        n = _pair(batch)[0].shape[0]
        total, rows = total + loss * n, rows + n
    if rows == 0:
        raise ValueError("train_loader gave no rows")
    return total / rows


def each_batch(
    model: NetworkModel,
    epoch: int,
    loader: Iterable[Any],
    verbose: int,
    train: Callable[[Any], float],
) -> Iterator[tuple[Any, float]]:
    """Yield every batch with the loss that `train` returned for it, once the callbacks know it."""
    with _bar(epoch, loader, verbose) as bar:
        for number, batch in enumerate(loader):
            try:
                loss = train(batch)
            except FloatingPointError as error:
                raise FloatingPointError(f"{error} in epoch {epoch}, batch {number}") from error
            for callback in (*model.running, *bar):
                callback.on_batch_end(number, {"loss": loss})
            yield batch, loss


def _pair(batch: Any) -> tuple[Any, Any]:
    """Inputs and targets of a batch: a pair, or inputs alone, in a tuple of one too."""
    if not isinstance(batch, (tuple, list)):
        return batch, None
    if len(batch) not in (1, 2):
        raise ValueError(f"a batch must be inputs, or inputs and targets, got {len(batch)} parts")
    return batch[0], batch[1] if len(batch) == 2 else None


def _fit(
    model: NetworkModel,
    loader: Iterable[Any],
    validation: Validation | None,
    callbacks: Sequence[Callback],
    states: Sequence[tuple[str, dict[str, Any]]],
    last: int,
    seed: int,
) -> None:
    """Call the callbacks around the epochs up to `last`; Ctrl-C ends them early and in order."""
    model.stop_training = model.interrupted = False
    logs: Logs = {}
    with ExitStack() as stack:
        stack.callback(_finish, model)
        stack.enter_context(_own_generators(model.device))
        try:
            for callback in callbacks:
                callback.on_train_begin({"num_epochs": last})
                stack.callback(callback.on_train_end, logs)
            _restore(callbacks, states)
            model.running = tuple(callbacks)
            while model.epoch < last and not model.stop_training:
                _seed_epoch(model, loader, seed)
                logs.update(_one_epoch(model, loader, validation))
        except KeyboardInterrupt:
            model.interrupted = True
            _log.warning("training was interrupted after %d whole epochs", model.epoch)


def _one_epoch(model: NetworkModel, loader: Iterable[Any], validation: Validation | None) -> Logs:
    """Train and validate, then tell the callbacks; return the logs."""
    epoch, start = model.epoch + 1, time.perf_counter()
    for callback in model.running:
        callback.on_epoch_begin(epoch, {"num_batches": _length(loader)})
    loss = model.train_epoch(epoch, loader, 0)
    logs: Logs = {"loss": loss, "seconds": time.perf_counter() - start, **model.epoch_values()}
    if validation is not None:
        logs[validation.metric] = validation.measure(model)
    # Before the callbacks: what they add to the logs enters the history, and a checkpoint has it all.
    model.record(epoch, logs)
    for callback in model.running:
        callback.on_epoch_end(epoch, logs)
    return logs


@contextmanager
def _bar(epoch: int, loader: Iterable[Any], verbose: int) -> Iterator[list[ProgressBar]]:
    """A progress bar of one epoch, for `train_epoch` outside `train`."""
    bars = [ProgressBar(verbose)] if verbose > 0 else []
    for bar in bars:
        bar.on_train_begin({"num_epochs": epoch})
        bar.on_epoch_begin(epoch, {"num_batches": _length(loader)})
    try:
        yield bars
    finally:
        for bar in bars:
            bar.on_train_end({})


def _finish(model: NetworkModel) -> None:
    model.running = ()
    for net in model.networks():
        net.eval()
        tensors.zero_grad(net.parameters())
    tensors.release()


def training_data(
    model: AETrainer, train_data: Any, batch_size: int, seed: int
) -> tuple[Iterable[Any], RecSysModel]:
    """The batches to train on, and a stand-in for the model that knows their catalogue."""
    catalogue = copy.copy(model)
    if not gives_batches(train_data):
        x = as_rows(train_data, name="train_data")
        model.check_values(x, "train_data")
        catalogue._take_items(train_data, x)
        filled = np.flatnonzero(np.diff(x.indptr))
        if not len(filled):
            raise ValueError("train_data holds no interactions: every row is empty")
        x = x if len(filled) == x.shape[0] else x[filled]
        return model.batches(x, batch_size, shuffle=True, seed=seed), catalogue
    check_repeats(train_data, "train_data")
    x = as_rows(getattr(train_data, "sparse_data_tr", train_data), name="train_data")
    model.check_values(x, "train_data")
    targets = getattr(train_data, "sparse_data_te", None)
    if targets is not None:
        model.check_values(targets, "sparse_data_te")
    catalogue._take_items(train_data, x)
    return train_data, catalogue


def _validation(
    catalogue: RecSysModel, data: Any, metric: str | None, func: Any
) -> Validation | None:
    if (data is None) != (metric is None):
        raise ValueError(
            f"valid_data and valid_metric need each other, got valid_metric = {metric!r} "
            f"{'without' if data is None else 'with'} valid_data"
        )
    if data is None or metric is None:
        return None
    if func in (evaluation.evaluate, evaluation.one_plus_random):
        func = ValidFunc(func)
    if not callable(func):
        raise TypeError(f"valid_func must be a ValidFunc, got {func!r}")
    if getattr(func, "func", func) in (evaluation.evaluate, evaluation.one_plus_random):
        kernels.parse_metric(metric)  # a function of the user's own may have other metrics
    check_repeats(data, "valid_data")
    try:
        held_out = sum(te.nnz for _, te in evaluation.pairs(catalogue, data))
    except (TypeError, ValueError) as error:
        raise type(error)(f"valid_data: {error}") from error
    if held_out == 0:
        raise ValueError("valid_data has no held-out items")
    return Validation(data, metric, func)


def check_repeats(batches: Any, name: str) -> None:
    """Raise a TypeError for batches that come once only."""
    if isinstance(batches, Iterator):
        raise TypeError(
            f"{name} must give its batches again in every epoch, as a sampler or a list does, got "
            f"{type(batches).__name__}"
        )


def _in_order(
    callbacks: Iterable[Callback], verbose: int, best: Checkpoint | None
) -> list[Callback]:
    if not isinstance(callbacks, Iterable):
        raise TypeError(f"callbacks must be a list of callbacks, got {callbacks!r}")
    given: list[Any] = list(callbacks)
    for callback in given:
        if not isinstance(callback, Callback):
            raise TypeError(f"callbacks must be pyrec.callbacks.Callback, got {callback!r}")
    # What Metrics writes has to hold the states of all others too.
    inner = [getattr(callback, "checkpoint", None) for callback in given]
    given += [checkpoint for checkpoint in inner if checkpoint is not None]
    given += [ProgressBar(verbose)] if verbose > 0 else []
    given += [] if best is None else [best]
    return sorted(given, key=_place)


def _place(callback: Callback) -> int:
    """A checkpoint's file holds the states of all others, the best value so far included."""
    if not isinstance(callback, Checkpoint):
        return 0
    return 2 if callback.metric is None else 1


def _restore(callbacks: Sequence[Callback], states: Sequence[tuple[str, dict[str, Any]]]) -> None:
    """Give each callback the next state of its class that the file has."""
    left = list(states)
    for callback in callbacks:
        for number, (name, state) in enumerate(left):
            if name == type(callback).__name__ and callback.state().keys() == state.keys():
                callback.restore(state)
                del left[number]
                break


@contextmanager
def _own_generators(device: torch.device) -> Iterator[None]:
    """Leave torch's generators as they were."""
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        yield


def _seed_epoch(model: NetworkModel, loader: Any, seed: int) -> None:
    mixed = np.random.SeedSequence((seed, model.epoch)).generate_state(1, np.uint64)
    torch.default_generator.manual_seed(int(mixed[0]))
    if model.device.type == "cuda":
        with torch.cuda.device(model.device):
            torch.cuda.manual_seed(int(mixed[0]))
    if hasattr(loader, "epoch"):
        loader.epoch = model.epoch


def _length(loader: Iterable[Any]) -> int | None:
    return len(loader) if isinstance(loader, Sized) else None
