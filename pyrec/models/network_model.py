"""NetworkModel: what every model with trained networks has, its progress and its file."""

from __future__ import annotations

import copy
import inspect
import math
from collections.abc import Callable, Iterable, Iterator
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pyrec import kernels, nets
from pyrec.arguments import at_least_zero, whole
from pyrec.callbacks import Callback
from pyrec.files import StrPath
from pyrec.kernels import tensors
from pyrec.kernels.gpu import native
from pyrec.machine import find_device
from pyrec.models import moving, networks, on_device, storage
from pyrec.models.base import Recommendations, RecSysModel
from pyrec.training import PRECISIONS

__all__ = ["NetworkModel", "adam", "as_array", "checked_network", "parameters_of"]


class NetworkModel(RecSysModel):
    """Abstract base class of models with networks that `pyrec.training` trains.

    A subclass makes its networks and optimisers, and writes `training_data`, `train_epoch`, `train`
    and `predict`. Its constructor keeps each argument as an attribute of the same name, but for the
    networks: that is how files are written and read.

    Attributes
    ----------
    device : torch.device
        Where the networks are.
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
    batches_on : torch.device or None
        Where `training_data` makes batches; None: where the networks are.
    """

    # The attributes that hold the networks, each with that of its optimiser; files name them so too.
    _optimizer_of: ClassVar[dict[str, str]]
    # Parameters of the constructor that a file does not decide.
    not_stored: frozenset[str] = frozenset()
    batches_on: torch.device | None = None

    def __init__(self) -> None:
        self.precision = "fp32"
        self.epoch = self.gradient_updates = 0
        self.interrupted = self.stop_training = False
        self.running: tuple[Callback, ...] = ()
        self._rows: list[dict[str, Any]] = []
        self.seed_of_training: int | None = None

    def __repr__(self) -> str:
        classes = [type(net).__name__ for net in self.networks()]
        arguments = [f"{name}={getattr(self, name)}" for name in self._constructor()[1]]
        return f"{type(self).__name__}({', '.join([*classes, *arguments])})"

    def networks(self) -> list[nn.Module]:
        """Return the networks, in a fixed order."""
        return [getattr(self, name) for name in self._optimizer_of]

    def optimizers(self) -> list[torch.optim.Optimizer]:
        """Return the optimisers, in the order of `networks`."""
        return [getattr(self, name) for name in self._optimizer_of.values()]

    @property
    def device(self) -> torch.device:
        """Where the networks are."""
        return next(self.networks()[0].parameters()).device

    @property
    def history(self) -> dict[str, list[float]]:
        """What each epoch gave: a list a name, a value an epoch, NaN where there is none."""
        names = dict.fromkeys(name for row in self._rows for name in row)
        return {name: [float(row.get(name, math.nan)) for row in self._rows] for name in names}

    @property
    def device_type(self) -> str:
        return self.device.type

    def to(self, device: torch.device | str) -> None:
        """Move the networks, and what the optimisers know of them.

        Parameters
        ----------
        device : torch.device or str

        Raises
        ------
        ValueError
            A device that is not there.
        MemoryError
            A GPU has too little free memory; the model stays where it was.
        """
        moving.move(self.networks(), self.optimizers(), find_device(device))

    def on(self, device: torch.device | str) -> Self:
        """Return a model that recommends on a device and shares all else with this one, which stays.

        It cannot be trained: the optimisers are those of this one's networks.
        """
        model, place = copy.copy(self), find_device(device)
        if place != self.device:
            there = moving.copied(self.networks(), place)
            vars(model).update(zip(self._optimizer_of, there, strict=True))
        return model

    def training_data(
        self, train_data: Any, batch_size: int, seed: int
    ) -> tuple[Iterable[Any], RecSysModel]:
        """Return the batches to train on, and a copy of the model that knows their catalogue.

        Raises
        ------
        TypeError, ValueError
            Data that is empty or does not fit; the model stays as it was.
        """
        raise NotImplementedError(f"{type(self).__name__} does not implement training_data")

    def train_epoch(self, epoch: int, train_loader: Any, verbose: int = 1) -> float:
        """Update the weights once a batch; return the mean loss."""
        raise NotImplementedError(f"{type(self).__name__} does not implement train_epoch")

    def scores(self, x: Any) -> NDArray[np.float32]:
        """Return the (n, n_items) float32 scores of the histories `x`. Dense: keep n small."""
        return as_array(self.predict(x, remove_train=False)[0])

    def _topk(self, x: Any, k: int, seen: Any, allow: Any, deny: Any) -> Recommendations:
        if not native.is_device(self.device):
            return super()._topk(x, k, seen, allow, deny)
        return on_device.topk(self.predict(x, remove_train=False)[0], k, seen, allow, deny)

    def epoch_values(self) -> dict[str, float]:
        """Return what else of an epoch enters the history, beside its loss."""
        return {}

    def record(self, epoch: int, row: dict[str, Any]) -> None:
        """Count a whole epoch; `row` is what it gave."""
        self.epoch = epoch
        self._rows.append(row)

    def take_catalogue(self, catalogue: RecSysModel) -> None:
        """Remember the catalogue that `training_data` returned."""
        self.n_items, self.item_ids = catalogue.n_items, catalogue.item_ids
        self.item_counts = catalogue.item_counts

    def save_model(self, filepath: StrPath, cur_epoch: int | None = None) -> None:
        """Write networks, optimisers and history to one file, whole or not at all.

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
        """Restore networks, optimisers and history: training goes on as if it had never stopped.

        Returns
        -------
        dict
            The constructor's arguments, each network (its class and sizes), ``epoch``,
            ``gradient_updates``, ``history`` and the rest of the state at the time of saving.

        Raises
        ------
        FileNotFoundError, ValueError
            As `pyrec.load_model`, and when the file's networks are others; nothing is changed then.
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
            self._check_same(parameters["training"], catalogue, seed)
            wanted = catalogue.item_ids
            if ids is not None and wanted is not None and not np.array_equal(ids, wanted):
                raise ValueError("its items are other ones than those of the data")
            if not np.array_equal(counts, np.asarray(catalogue.item_counts)):
                raise ValueError("its interactions are other ones than those of the data")

        parameters = storage.load_into(self, path, check=check)
        return [(name, state) for name, state in parameters["training"]["callbacks"]]

    def take_weights(self, path: StrPath) -> None:
        """Take networks and optimisers from a file; epochs and history stay as they are."""
        progress = self.progress()
        self.load_model(path)
        self._set_progress(progress)

    def progress(self) -> dict[str, Any]:
        """Return how far the training has come, as JSON values."""
        states = [(type(callback).__name__, callback.state()) for callback in self.running]
        rates = [float(optimizer.param_groups[0]["lr"]) for optimizer in self.optimizers()]
        return {
            "epoch": self.epoch,
            "gradient_updates": self.gradient_updates,
            "learning_rate": rates if len(rates) > 1 else rates[0],
            "precision": self.precision,
            "seed": self.seed_of_training,
            "history": self.history,
            "callbacks": [[name, state] for name, state in states if state],
        }

    def check_optimizer(self) -> None:
        """Raise a TypeError unless every optimiser is one that a file can hold."""
        for name, optimizer in zip(self._optimizer_of.values(), self.optimizers(), strict=True):
            groups = optimizer.param_groups
            if type(optimizer) is not torch.optim.Adam or len(groups) != 1:
                raise TypeError(
                    f"{name} must be the torch.optim.Adam that the constructor made (its settings "
                    f"may change), got {type(optimizer).__name__} with {len(groups)} groups: model "
                    "files hold no other"
                )

    def check_trainable(self) -> None:
        """Raise a TypeError unless every optimiser is of its network: of what `on` returns it is not."""
        self.check_optimizer()
        for names in self._optimizer_of.items():
            net, optimizer = (getattr(self, name) for name in names)
            parameters = set(map(id, net.parameters()))
            if not parameters.issuperset(map(id, optimizer.param_groups[0]["params"])):
                raise TypeError(
                    f"{names[1]} must have the parameters of {names[0]}, got those of another network: "
                    "what `on` returns recommends only, train the model that it was called of"
                )

    def state(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        self.check_optimizer()
        parameters = {name: getattr(self, name) for name in self._stored()}
        tensors: dict[str, NDArray[Any]] = {}
        for names in self._optimizer_of.items():
            net, optimizer = (getattr(self, name) for name in names)
            parameters[names[0]] = nets.describe(net)
            tensors |= networks.to_arrays(net, optimizer, names)
        parameters["training"] = self.progress()
        return parameters, tensors

    def restore(
        self, parameters: dict[str, Any], tensors: dict[str, NDArray[Any]], n_items: int
    ) -> None:
        arguments = dict(parameters)
        configs = {name: arguments.pop(name) for name in self._optimizer_of}
        progress = arguments.pop("training")
        nets_of, names = self._constructor()[0], self._stored()
        if arguments.keys() != set(names):
            raise ValueError(f"parameters must be {', '.join(names)}, got {', '.join(arguments)}")
        # pyrec.load_model makes it without its constructor.
        is_new = not vars(self).keys() >= self._optimizer_of.keys()
        for argument, name in nets_of.items():
            size = sum(a.size for key, a in tensors.items() if key.startswith(f"{name}."))
            arguments[argument] = nets.build(configs[name], size) if is_new else getattr(self, name)
        checked = type(self)(**arguments)
        if is_new:
            vars(self).update(vars(checked))
        for name, config in configs.items():
            own = nets.describe(getattr(self, name))
            if config != own:
                raise ValueError(f"its {name} is {config}, this one is {own}")
        self._check_sizes(configs, n_items)
        self._check_progress(progress)
        left: AbstractSet[str] = tensors.keys()
        for pair in self._optimizer_of.items():
            left = networks.check_arrays(getattr(self, pair[0]), pair, tensors, left)
        if left:
            raise ValueError(f"unknown arrays: {', '.join(sorted(left))}")
        # Nothing was changed so far, and nothing can fail from here on.
        for name in names:
            setattr(self, name, getattr(checked, name))
        for pair, optimizer in zip(self._optimizer_of.items(), checked.optimizers(), strict=True):
            net, own_optimizer = (getattr(self, name) for name in pair)
            own_optimizer.param_groups[0]["weight_decay"] = optimizer.param_groups[0][
                "weight_decay"
            ]
            networks.load_arrays(net, own_optimizer, pair, tensors)
            net.eval()
        self._set_progress(progress)

    def _updated(
        self, net: nn.Module, optimizer: torch.optim.Optimizer, loss_of: Callable[[], Tensor]
    ) -> float:
        """Update a network once; return the loss before, or raise a FloatingPointError."""
        for each in self.networks():
            each.train()
        tensors.zero_grad(net.parameters())
        with tensors.fast_float32():
            loss = loss_of()
            torch.autograd.backward(loss)
        # Read only now: a GPU would have nothing to do until the backward pass is queued.
        value = loss.item()
        if not math.isfinite(value):
            tensors.zero_grad(net.parameters())
            raise FloatingPointError(f"the loss is {value}")
        optimizer.step()
        self.gradient_updates += 1
        return value

    @contextmanager
    def _evaluating(self) -> Iterator[None]:
        for net in self.networks():
            net.eval()
        with torch.no_grad(), tensors.fast_float32():
            yield

    def _nearest(
        self, items: NDArray[np.int64], vectors: NDArray[np.float32], k: int
    ) -> Recommendations:
        """The `k` items whose vectors have the largest cosine with those of `items`."""
        norms = np.linalg.norm(vectors, axis=1, keepdims=True)
        vectors = vectors / np.maximum(norms, np.finfo(np.float32).tiny)
        return kernels.topk_factors(vectors[items], vectors, k, self._each_itself(items))

    @classmethod
    def _constructor(cls) -> tuple[dict[str, str], list[str]]:
        """The constructor's parameters: networks, with the attribute of each, and all others."""
        raise NotImplementedError

    @classmethod
    def _stored(cls) -> list[str]:
        """The constructor's parameters in a file, but for the networks."""
        return [name for name in cls._constructor()[1] if name not in cls.not_stored]

    def _check_sizes(self, configs: dict[str, dict[str, Any]], n_items: int) -> None:
        """Raise a ValueError unless the networks that a file names are for so many items."""

    def _check_same(self, progress: dict[str, Any], catalogue: RecSysModel, seed: int) -> None:
        """Raise a ValueError unless a file's progress is that of the training that starts now."""
        if progress["seed"] not in (None, seed):
            raise ValueError(f"its seed is {progress['seed']}, this one's {seed}")

    def _set_progress(self, progress: dict[str, Any]) -> None:
        """Take over what `progress` returned, but for the callbacks."""
        self.epoch, self.gradient_updates = progress["epoch"], progress["gradient_updates"]
        rates = np.atleast_1d(progress["learning_rate"]).tolist()
        for optimizer, rate in zip(self.optimizers(), rates, strict=True):
            optimizer.param_groups[0]["lr"] = rate
        self.precision, self.seed_of_training = progress["precision"], progress["seed"]
        columns = progress["history"]
        self._rows = [
            dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)
        ]

    def _check_progress(self, progress: dict[str, Any]) -> None:
        """Raise a ValueError unless it is what `progress` returns."""
        whole(progress["epoch"], "epoch")
        whole(progress["gradient_updates"], "gradient_updates")
        rates = progress["learning_rate"]
        rates = rates if isinstance(rates, list) else [rates]
        for rate in rates:
            at_least_zero(rate, "learning_rate")
        if len(rates) != len(self._optimizer_of):
            raise ValueError(
                f"learning_rate must have {len(self._optimizer_of)} values, got {len(rates)}"
            )
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


def as_array(tensor: Tensor) -> NDArray[np.float32]:
    """Return a tensor as a float32 array, without a copy where it is one."""
    return tensor.detach().float().cpu().numpy()


def parameters_of(model_class: type[NetworkModel]) -> list[str]:
    """Return the names of a constructor's parameters."""
    return list(inspect.signature(model_class).parameters)


def checked_network(net: Any, name: str) -> nn.Module:
    """Return a network that can be trained, or raise a TypeError that names it."""
    if not isinstance(net, nn.Module):
        raise TypeError(f"{name} must be a torch.nn.Module, got {type(net).__name__}")
    types = {parameter.dtype for parameter in net.parameters()}
    if types != {torch.float32}:
        raise TypeError(
            f"{name} must have float32 parameters, got {', '.join(map(str, types)) or 'none'}; "
            "precision='bf16' is for products alone"
        )
    return net


def adam(net: nn.Module, learning_rate: float, weight_decay: float) -> torch.optim.Adam:
    """Return the optimiser of a network."""
    return torch.optim.Adam(
        net.parameters(), lr=learning_rate, weight_decay=weight_decay, fused=True
    )
