"""The two networks of CFGAN: one makes profiles, the other tells them from genuine ones."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import pairwise
from typing import Any, cast

import torch
from torch import Tensor, nn

from pyrec.data.csr import kind_of
from pyrec.data.randomness import check_seed
from pyrec.kernels.tensors import Csr, Logits, sparse_linear
from pyrec.layers import Batch, SparseLinear, at_least_float32, draw_weights, linear
from pyrec.nets.base import sizes

__all__ = ["CFGAN_D_net", "CFGAN_G_net"]

Activation = Callable[[Tensor], Tensor]

ACTIVATIONS: dict[str, Activation] = {
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "relu": torch.relu,
}
OUTPUTS: dict[str, Activation] = {"sigmoid": torch.sigmoid, "linear": lambda x: x}


class _Net(nn.Module):
    """Layers one after the other, the first for sparse batches; the activation follows all but the last."""

    def __init__(self, layers_dim: list[int], activation: str, seed: int) -> None:
        super().__init__()
        self.layers_dim = layers_dim
        self.activation = _one_of(activation, ACTIVATIONS, "activation")
        self.seed = check_seed(seed)
        first, *others = pairwise(layers_dim)
        self.layers = nn.ModuleList([SparseLinear(*first), *map(linear, others)])
        self.init_weights()

    def init_weights(self) -> None:
        """Draw the initial weights from `seed`, the same ones each time."""
        draw_weights(self.layers, self.seed)

    def config(self) -> dict[str, Any]:
        """Return the constructor's arguments as JSON values; see `build`."""
        return {"layers_dim": list(self.layers_dim), "activation": self.activation}

    def _hidden(self, h: Tensor, layers: Iterable[nn.Module]) -> Tensor:
        """What `layers` make of the first layer's sums `h`, the activation before each of them."""
        activation = ACTIVATIONS[self.activation]
        h = activation(h)
        for layer in layers:
            h = activation(layer(h))
        return h


class CFGAN_G_net(_Net):
    """Generator of CFGAN: from a user's profile, which is its condition, to another profile.

    Parameters
    ----------
    layers_dim : sequence of int
        Sizes of the layers: the items, the hidden layers (at least one), the items again.
    activation : {"tanh", "sigmoid", "relu"}
        Follows every hidden layer.
    output : {"sigmoid", "linear"}
        Follows the last layer.
    seed : int
        Decides the initial weights.

    Attributes
    ----------
    layers_dim : list of int
    activation, output : str
    """

    def __init__(
        self,
        layers_dim: Iterable[int],
        *,
        activation: str = "tanh",
        output: str = "sigmoid",
        seed: int = 0,
    ) -> None:
        dims = sizes(layers_dim, "layers_dim")
        if len(dims) < 3 or dims[0] != dims[-1]:
            raise ValueError(
                "layers_dim of a generator must lead from the items through hidden layers back to "
                f"as many items, got {dims}"
            )
        super().__init__(dims, activation, seed)
        self.output = _one_of(output, OUTPUTS, "output")

    def factored(self, x: Batch) -> Logits:
        """Return the last layer at the batch `x`, (n, n_items), not multiplied out, for `finish`."""
        x = _checked(x, self.layers_dim[0])
        if isinstance(x, Tensor) and not x.requires_grad:
            x = Csr.from_dense(x)
        last = cast(nn.Linear, self.layers[-1])
        h = self._hidden(self.layers[0](x), list(self.layers)[1:-1])
        return Logits(h, last.weight, last.bias)

    def finish(self, scores: Tensor) -> Tensor:
        """Return what `output` makes of the last layer's sums; their order stays."""
        return OUTPUTS[self.output](at_least_float32(scores))

    def forward(self, x: Batch) -> Tensor:
        """Return the (n, n_items) profiles made for the batch `x`."""
        return self.finish(self.factored(x).dense())

    def item_factors(self) -> tuple[Tensor, Tensor]:
        """Return the last weight (n_items, r) and bias (n_items,), shared, not copied."""
        last = cast(nn.Linear, self.layers[-1])
        return last.weight.detach(), last.bias.detach()

    def config(self) -> dict[str, Any]:
        return {**super().config(), "output": self.output}


class CFGAN_D_net(_Net):
    """Discriminator of CFGAN: how likely a profile is to be genuine, beside the user's own one.

    Parameters
    ----------
    layers_dim : sequence of int
        Sizes of the layers: twice the items, the hidden layers, 1.
    activation : {"tanh", "sigmoid", "relu"}
        Follows every hidden layer; a sigmoid follows the last one.
    seed : int
        Decides the initial weights.

    Attributes
    ----------
    layers_dim : list of int
    activation : str
    """

    def __init__(
        self, layers_dim: Iterable[int], *, activation: str = "tanh", seed: int = 0
    ) -> None:
        dims = sizes(layers_dim, "layers_dim")
        if dims[0] % 2 or dims[-1] != 1:
            raise ValueError(
                "layers_dim of a discriminator must lead from twice the items to 1, for profile and "
                f"condition, got {dims}"
            )
        super().__init__(dims, activation, seed)

    def logits(self, x: Batch, condition: Batch | None = None) -> Tensor:
        """Return the (n,) log-odds that the profiles `x` are genuine; arguments as of `forward`."""
        first = cast(SparseLinear, self.layers[0])
        if condition is None:
            h = first(_checked(x, self.layers_dim[0]))
        else:
            # Joined rows would be copies of both; the gradients of a split are joined at once. Dense
            # profiles stay dense: most of what a mask shows is no zero.
            halves = first.weight.split(self.layers_dim[0] // 2)
            parts = [
                _product(_checked(batch, len(half), name), half)
                for batch, half, name in zip(
                    (x, condition), halves, ("x", "condition"), strict=True
                )
            ]
            h = parts[0] + parts[1] + first.bias
        if len(self.layers) > 1:
            h = self.layers[-1](self._hidden(h, list(self.layers)[1:-1]))
        return at_least_float32(h[:, 0])

    def forward(self, x: Batch, condition: Batch | None = None) -> Tensor:
        """Return the (n,) probabilities that the profiles are genuine.

        Parameters
        ----------
        x : (n, n_items) Tensor or Csr
            Profiles; or (n, 2 n_items), each with its condition behind it.
        condition : (n, n_items) Tensor or Csr, optional
        """
        return torch.sigmoid(self.logits(x, condition))


def _product(x: Batch, weight: Tensor) -> Tensor:
    return sparse_linear(x, weight) if isinstance(x, Csr) else x @ weight


def _checked(x: Any, n_columns: int, name: str = "x") -> Batch:
    """A batch of the right width, or an error that names it."""
    if not isinstance(x, (Tensor, Csr)):
        raise TypeError(f"{name} must be a tensor or Csr, got {kind_of(x)}")
    if len(x.shape) != 2 or x.shape[1] != n_columns:
        raise ValueError(f"{name} must have the shape (n, {n_columns}), got {tuple(x.shape)}")
    return x


def _one_of(value: str, known: Iterable[str], name: str) -> str:
    if value not in (names := list(known)):
        raise ValueError(f"{name} must be one of {', '.join(names)}, got {value!r}")
    return value
