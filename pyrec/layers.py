"""What the networks are built of: layers and operations that take a batch dense or as `Csr`."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pyrec.kernels import tensors
from pyrec.kernels.tensors import Csr

__all__ = [
    "Batch",
    "SparseLinear",
    "at_least_float32",
    "draw_weights",
    "drop",
    "linear",
    "normalize",
    "tanh_layers",
]

Batch = Tensor | Csr

_BIAS_SD = 0.001


class SparseLinear(nn.Module):
    """``x @ weight + bias`` for batches that are mostly zeros: a sum of the rows that occur.

    Parameters
    ----------
    in_features, out_features : int

    Attributes
    ----------
    weight : (in_features, out_features) Parameter
        A row an item, the transpose of what `torch.nn.Linear` keeps; zeros until it is drawn.
    bias : (out_features,) Parameter
    """

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__()
        self.in_features, self.out_features = in_features, out_features
        self.weight = nn.Parameter(torch.zeros(in_features, out_features, device="cpu"))
        self.bias = nn.Parameter(torch.zeros(out_features, device="cpu"))

    def forward(self, x: Batch) -> Tensor:
        """Return (n, out_features) of `x`, (n, in_features)."""
        if isinstance(x, Csr):
            return tensors.sparse_linear(x, self.weight, self.bias)
        return F.linear(x, self.weight.T, self.bias)

    def extra_repr(self) -> str:
        return f"in_features={self.in_features}, out_features={self.out_features}"


def linear(sizes: tuple[int, int]) -> nn.Linear:
    """Return a layer without initial weights: torch would draw them from its global generator."""
    return nn.Linear(*sizes, device="meta").to_empty(device="cpu")


def draw_weights(layers: Iterable[nn.Module], seed: int) -> None:
    """Draw the weights and biases of `layers`: the same ones for a seed, on any device.

    Weights: uniform in ±√(6 / (inputs + outputs)) (Glorot & Bengio 2010, equation 16). Biases:
    normal with standard deviation 0.001, cut at two of them. Both as in Mult-VAE's code.
    """
    generator = torch.Generator("cpu").manual_seed(seed % 2**64)

    def uniform(parameter: Tensor, bound: float) -> Tensor:
        draws = torch.empty(parameter.shape, device="cpu")
        return draws.uniform_(-bound, bound, generator=generator)

    for layer in layers:
        weight, bias = cast(Tensor, layer.weight), cast(Tensor, layer.bias)
        with torch.no_grad():
            weight.copy_(uniform(weight, math.sqrt(6 / sum(weight.shape))))
            # erf(2 / √2) of a normal distribution lies within two standard deviations.
            share = uniform(bias, math.erf(math.sqrt(2)))
            bias.copy_(share.erfinv() * math.sqrt(2) * _BIAS_SD)


def tanh_layers(layers: nn.ModuleList, x: Batch) -> Tensor:
    """Return `x` after all `layers`, each followed by tanh."""
    for layer in layers:
        x = torch.tanh(layer(x))
    return cast(Tensor, x)


def normalize(x: Batch) -> Batch:
    """Return `x` with every row divided by its L2 norm; rows of zeros stay as they are."""
    if not isinstance(x, Csr):
        return F.normalize(x)
    return tensors.normalize_rows(x)


def drop(x: Batch, share: float, training: bool) -> Batch:
    """Return `x` after dropout of its non-zeros, a `share` of which is left out in training."""
    if not isinstance(x, Csr):
        return F.dropout(x, share, training)
    return tensors.drop(x, share) if training and share else x


def at_least_float32(x: Tensor) -> Tensor:
    """Return `x` in float32 where its precision is lower, as under autocast; unchanged otherwise."""
    return x.to(torch.promote_types(x.dtype, torch.float32))
