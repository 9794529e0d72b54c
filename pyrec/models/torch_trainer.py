"""TorchNNTrainer: a model with one network."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor, nn

from pyrec.arguments import at_least_zero
from pyrec.models.network_model import NetworkModel, adam, checked_network, parameters_of

__all__ = ["TorchNNTrainer"]


class TorchNNTrainer(NetworkModel):
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
    and those of `NetworkModel`
    """

    _optimizer_of: ClassVar[dict[str, str]] = {"network": "optimizer"}

    def __init__(
        self, net: nn.Module, learning_rate: float = 1e-3, *, weight_decay: float = 0.0
    ) -> None:
        super().__init__()
        self.network = checked_network(net, "the network")
        self.learning_rate = at_least_zero(learning_rate, "learning_rate")
        self.weight_decay = at_least_zero(weight_decay, "weight_decay")
        self.optimizer = adam(net, self.learning_rate, self.weight_decay)

    def loss_function(
        self, prediction: Any, ground_truth: Any, *args: Any, **kwargs: Any
    ) -> Tensor:
        """Return the loss to minimise."""
        raise NotImplementedError(f"{type(self).__name__} does not implement loss_function")

    def loss_weights(self) -> dict[str, float]:
        """Return the keyword arguments of `loss_function` at the next update."""
        return {}

    def train_batch(self, tr_batch: Any, te_batch: Any = None) -> float:
        """Update the weights once; return the loss."""
        raise NotImplementedError(f"{type(self).__name__} does not implement train_batch")

    def epoch_values(self) -> dict[str, float]:
        return self.loss_weights()

    @classmethod
    def _constructor(cls) -> tuple[dict[str, str], list[str]]:
        names = parameters_of(cls)
        nets_ = [name for name in names if name == "net" or name.endswith("_net")]
        return dict.fromkeys(nets_[:1], "network"), [name for name in names if name not in nets_]

    def _check_sizes(self, configs: dict[str, dict[str, Any]], n_items: int) -> None:
        config = configs["network"]
        of_network = config.get("n_items", config.get("enc_dims", [n_items])[0])
        if of_network != n_items:
            raise ValueError(f"n_items is {n_items}, but the network has {of_network} items")
