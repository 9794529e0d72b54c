"""TorchNNTrainer: what every model with a network has, its progress and its file."""

from __future__ import annotations

import inspect
import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pyrec import nets
from pyrec.arguments import at_least_zero, whole
from pyrec.callbacks import Callback
from pyrec.files import StrPath
from pyrec.models import networks, storage
from pyrec.models.base import RecSysModel
from pyrec.training import PRECISIONS

__all__ = ["TorchNNTrainer"]


class TorchNNTrainer(RecSysModel):
    """Abstract base class of models with one network, trained by backpropagation.

    A subclass writes `loss_function`, `train_batch`, `train_epoch`, `train` and `predict`. Its
    constructor keeps each argument as an attribute of the same name, but for the network (`net`, or
    a name that ends in ``_net``): that is how files are written and read.

    Parameters
    ----------
    net : torch.nn.Module
    learning_rate : float
    weight_decay : float
        L2 penalty of Adam on all parameters.

    Attributes
    ----------
    network : torch.nn.Module
    learning_rate, weight_decay : float
    optimizer : torch.optim.Adam
    device : torch.device
        Where the network is.
    precision : {"fp32", "bf16"}
        Of the matrix products in training.
    epoch, gradient_updates : int
        Epochs trained, and updates of the weights, over the model's whole life.
    history : dict of str to list of float
        A value an epoch: ``loss``, ``seconds``, the validation metric, what callbacks add; NaN where
        an epoch had none.
    interrupted : bool
        Whether Ctrl-C ended the last training.
    stop_training : bool
        Set by callbacks: the training ends after the current epoch.
    running : tuple of Callback
        The callbacks of the training under way.
    seed_of_training : int or None
        The seed of the last `train`.
    """

    # Parameters of the constructor that a file does not decide.
    not_stored: frozenset[str] = frozenset()

    def __init__(
        self, net: nn.Module, learning_rate: float = 1e-3, *, weight_decay: float = 0.0
    ) -> None:
        if not isinstance(net, nn.Module):
            raise TypeError(f"the network must be a torch.nn.Module, got {type(net).__name__}")
        types = {parameter.dtype for parameter in net.parameters()}
        if types != {torch.float32}:
            raise TypeError(
                "the network must have float32 parameters, got "
                f"{', '.join(map(str, types)) or 'none'}; precision='bf16' is for products alone"
            )
        self.learning_rate = at_least_zero(learning_rate, "learning_rate")
        self.weight_decay = at_least_zero(weight_decay, "weight_decay")
        self.network = net
        self.optimizer = torch.optim.Adam(
            net.parameters(), lr=self.learning_rate, weight_decay=self.weight_decay, fused=True
        )
        self.precision = "fp32"
        self.epoch = self.gradient_updates = 0
        self.interrupted = self.stop_training = False
        self.running: tuple[Callback, ...] = ()
        self._rows: list[dict[str, Any]] = []
        self.seed_of_training: int | None = None

    def __repr__(self) -> str:
        arguments = [f"{name}={getattr(self, name)}" for name in _arguments(type(self))[1]]
        return f"{type(self).__name__}({', '.join([type(self.network).__name__, *arguments])})"

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return next(self.network.parameters()).device

    @property
    def history(self) -> dict[str, list[float]]:
        """What each epoch gave: a list a name, a value an epoch, NaN where there is none."""
        names = dict.fromkeys(name for row in self._rows for name in row)
        return {name: [float(row.get(name, math.nan)) for row in self._rows] for name in names}

    def to(self, device: torch.device) -> None:
        """Move the network, and what the optimiser knows of it."""
        self.network.to(device)
        for state in self.optimizer.state.values():
            state.update({key: value.to(device) for key, value in state.items()})

    def loss_function(
        self, prediction: Any, ground_truth: Any, *args: Any, **kwargs: Any
    ) -> Tensor:
        """Return the loss to minimise."""
        raise NotImplementedError(f"{type(self).__name__} does not implement loss_function")

    def train_batch(self, tr_batch: Any, te_batch: Any = None) -> float:
        """Update the weights once; return the loss."""
        raise NotImplementedError(f"{type(self).__name__} does not implement train_batch")

    def train_epoch(self, epoch: int, train_loader: Any, verbose: int = 1) -> float:
        """Update the weights once a batch; return the mean loss."""
        raise NotImplementedError(f"{type(self).__name__} does not implement train_epoch")

    def record(self, epoch: int, row: dict[str, Any]) -> None:
        """Count a whole epoch; `row` is what it gave."""
        self.epoch = epoch
        self._rows.append(row)

    def save_model(self, filepath: StrPath, cur_epoch: int | None = None) -> None:
        """Write network, optimiser and history to one file, whole or not at all.

        Parameters
        ----------
        filepath : path
        cur_epoch : int, optional
            The number of epochs trained, where a loop of your own did it; by default `epoch`.
        """
        if cur_epoch is not None:
            self.epoch = whole(cur_epoch, "cur_epoch")
        storage.save_model(self, filepath)

    def load_model(self, filepath: StrPath) -> dict[str, Any]:
        """Restore network, optimiser and history: training goes on as if it had never stopped.

        Returns
        -------
        dict
            The constructor's arguments, ``network`` (its class and sizes), ``epoch``,
            ``gradient_updates``, ``history`` and the rest of the state at the time of saving.

        Raises
        ------
        FileNotFoundError, ValueError
            As `pyrec.load_model`, and when the file's network is another; nothing is changed then.
        """
        parameters = storage.load_into(self, filepath)
        return {**parameters.pop("training"), **parameters}

    def resume(
        self, path: StrPath, catalogue: RecSysModel, seed: int
    ) -> list[tuple[str, dict[str, Any]]]:
        """Restore the model from a checkpoint of the same training; return its callbacks' states."""

        def check(
            parameters: dict[str, Any], ids: NDArray[Any] | None, counts: NDArray[Any]
        ) -> None:
            before = parameters["training"]["seed"]
            if before not in (None, seed):
                raise ValueError(f"its seed is {before}, this one's {seed}")
            wanted = catalogue.item_ids
            if ids is not None and wanted is not None and not np.array_equal(ids, wanted):
                raise ValueError("its items are other ones than those of the data")
            if not np.array_equal(counts, np.asarray(catalogue.item_counts)):
                raise ValueError("its interactions are other ones than those of the data")

        parameters = storage.load_into(self, path, check=check)
        return [(name, state) for name, state in parameters["training"]["callbacks"]]

    def take_weights(self, path: StrPath) -> None:
        """Take network and optimiser from a file; epochs and history stay as they are."""
        progress = self.progress()
        self.load_model(path)
        self._set_progress(progress)

    def progress(self) -> dict[str, Any]:
        """Return how far the training has come, as JSON values."""
        states = [(type(callback).__name__, callback.state()) for callback in self.running]
        return {
            "epoch": self.epoch,
            "gradient_updates": self.gradient_updates,
            "learning_rate": float(self.optimizer.param_groups[0]["lr"]),
            "precision": self.precision,
            "seed": self.seed_of_training,
            "history": self.history,
            "callbacks": [[name, state] for name, state in states if state],
        }

    def check_optimizer(self) -> None:
        """Raise a TypeError unless the optimiser is one that a file can hold."""
        groups = self.optimizer.param_groups
        if type(self.optimizer) is not torch.optim.Adam or len(groups) != 1:
            raise TypeError(
                "optimizer must be the torch.optim.Adam that the constructor made (its settings may "
                f"change), got {type(self.optimizer).__name__} with {len(groups)} groups: model files "
                "hold no other"
            )

    def state(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        self.check_optimizer()
        parameters = {name: getattr(self, name) for name in self._stored()}
        parameters["network"] = nets.describe(self.network)
        parameters["training"] = self.progress()
        return parameters, networks.to_arrays(self.network, self.optimizer)

    def restore(
        self, parameters: dict[str, Any], tensors: dict[str, NDArray[Any]], n_items: int
    ) -> None:
        arguments = dict(parameters)
        config, progress = arguments.pop("network"), arguments.pop("training")
        net_name, names = _arguments(type(self))[0], self._stored()
        if arguments.keys() != set(names):
            raise ValueError(f"parameters must be {', '.join(names)}, got {', '.join(arguments)}")
        is_new = "network" not in vars(self)  # pyrec.load_model makes it without its constructor
        if net_name is not None:
            size = sum(a.size for name, a in tensors.items() if name.startswith("network."))
            arguments[net_name] = nets.build(config, size) if is_new else self.network
        checked = type(self)(**arguments)
        if is_new:
            vars(self).update(vars(checked))
        own = nets.describe(self.network)
        if config != own:
            raise ValueError(f"its network is {config}, this one is {own}")
        sizes = config.get("enc_dims", [config.get("n_items", n_items)])
        if sizes[0] != n_items:
            raise ValueError(f"n_items is {n_items}, but the network has {sizes[0]} items")
        _check_progress(progress)
        networks.check_arrays(self.network, tensors)
        # Nothing was changed so far, and nothing can fail from here on.
        for name in names:
            setattr(self, name, getattr(checked, name))
        self.optimizer.param_groups[0]["weight_decay"] = self.weight_decay
        networks.load_arrays(self.network, self.optimizer, tensors)
        self._set_progress(progress)
        self.network.eval()

    @classmethod
    def _stored(cls) -> list[str]:
        """The constructor's parameters in a file, but for the network."""
        return [name for name in _arguments(cls)[1] if name not in cls.not_stored]

    def _set_progress(self, progress: dict[str, Any]) -> None:
        """Take over what `progress` returned, but for the callbacks."""
        self.epoch, self.gradient_updates = progress["epoch"], progress["gradient_updates"]
        self.optimizer.param_groups[0]["lr"] = progress["learning_rate"]
        self.precision, self.seed_of_training = progress["precision"], progress["seed"]
        columns = progress["history"]
        self._rows = [
            dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)
        ]


def _arguments(model_class: type[TorchNNTrainer]) -> tuple[str | None, list[str]]:
    """The names of a constructor's parameters: of the network, if it takes one, and of the others."""
    names = list(inspect.signature(model_class).parameters)
    nets_ = [name for name in names if name == "net" or name.endswith("_net")]
    return (nets_[0] if nets_ else None), [name for name in names if name not in nets_]


def _check_progress(progress: dict[str, Any]) -> None:
    """Raise a ValueError unless it is what `TorchNNTrainer.progress` returns."""
    whole(progress["epoch"], "epoch")
    whole(progress["gradient_updates"], "gradient_updates")
    at_least_zero(progress["learning_rate"], "learning_rate")
    if progress["seed"] is not None:
        whole(progress["seed"], "seed")
    if progress["precision"] not in PRECISIONS:
        raise ValueError(f"precision must be one of {', '.join(PRECISIONS)}")
    if not isinstance(progress["history"], dict):
        raise ValueError("history must be a list of values a name")
    columns = list(progress["history"].values())
    lengths = {len(column) for column in columns}
    if len(lengths) > 1 or not all(isinstance(v, float) for column in columns for v in column):
        raise ValueError("history must hold lists of floats of one length")
    for name, state in progress["callbacks"]:
        if not isinstance(name, str) or not isinstance(state, dict):
            raise ValueError("callbacks must be pairs of a class and its state")
