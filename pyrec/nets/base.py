"""What the networks of the autoencoders have in common."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from typing import Any, cast

import numpy as np
from torch import Tensor, nn

from pyrec.arguments import is_number
from pyrec.data.csr import kind_of
from pyrec.data.randomness import check_seed
from pyrec.kernels.tensors import Csr, Logits
from pyrec.layers import Batch, SparseLinear, draw_weights, linear, tanh_layers

__all__ = ["AE_net", "LayeredNet", "share", "sizes"]


class AE_net(nn.Module):
    """Abstract base class of autoencoders: a subclass makes the layers and writes what they do.

    Parameters
    ----------
    dec_dims : sequence of int
        Sizes of the decoder's layers, from the latent space to the items.
    enc_dims : sequence of int, optional
        Sizes of the encoder's layers, from the items to the latent space; by default `dec_dims`
        reversed.

    Attributes
    ----------
    dec_dims, enc_dims : list of int

    Raises
    ------
    ValueError
        Fewer than two sizes, a size that is no whole number above 0, or two halves that do not fit.
    """

    def __init__(self, dec_dims: Iterable[int], enc_dims: Iterable[int] | None = None) -> None:
        super().__init__()
        self.dec_dims = sizes(dec_dims, "dec_dims")
        self.enc_dims = self.dec_dims[::-1] if enc_dims is None else sizes(enc_dims, "enc_dims")
        if (self.enc_dims[0], self.enc_dims[-1]) != (self.dec_dims[-1], self.dec_dims[0]):
            raise ValueError(
                f"enc_dims must lead from {self.dec_dims[-1]} items to {self.dec_dims[0]} latents, "
                f"as dec_dims = {self.dec_dims} leads back, got {self.enc_dims}"
            )

    def encode(self, x: Batch) -> Any:
        """Return what the batch `x` is in the latent space."""
        raise NotImplementedError(f"{type(self).__name__} does not implement encode")

    def decode(self, z: Tensor) -> Tensor:
        """Return the (n, n_items) reconstruction of `z`, (n, latent)."""
        raise NotImplementedError(f"{type(self).__name__} does not implement decode")

    def init_weights(self) -> None:
        """Draw the initial weights."""
        raise NotImplementedError(f"{type(self).__name__} does not implement init_weights")

    def forward(self, x: Batch) -> Any:
        """Return the (n, n_items) reconstruction of the batch `x`."""
        return self.decode(self.encode(x))


class LayeredNet(AE_net):
    """Both halves as lists of layers; the encoder ends in `heads` vectors of the latent space."""

    def __init__(
        self, dec_dims: Iterable[int], enc_dims: Iterable[int] | None, heads: int, seed: int
    ) -> None:
        super().__init__(dec_dims, enc_dims)
        self.seed = check_seed(seed)
        first, *others = pairwise([*self.enc_dims[:-1], heads * self.enc_dims[-1]])
        self.enc_layers = nn.ModuleList([SparseLinear(*first), *map(linear, others)])
        self.dec_layers = nn.ModuleList(map(linear, pairwise(self.dec_dims)))
        self.init_weights()

    def init_weights(self) -> None:
        """Draw the initial weights from `seed`, the same ones each time."""
        draw_weights([*self.enc_layers, *self.dec_layers], self.seed)

    def prepared(self, x: Batch) -> Batch:
        """Return what the first layer sees of the batch `x`."""
        if not isinstance(x, (Tensor, Csr)):
            raise TypeError(f"x must be a tensor or Csr, got {kind_of(x)}")
        if len(x.shape) != 2 or x.shape[1] != self.enc_dims[0]:
            raise ValueError(f"x must have the shape (n, {self.enc_dims[0]}), got {tuple(x.shape)}")
        # A gradient must reach the zeros too, which a Csr does not hold.
        return Csr.from_dense(x) if isinstance(x, Tensor) and not x.requires_grad else x

    def logits(self, z: Tensor) -> Logits:
        """Return the decoder's last layer at `z`, (n, latent), not multiplied out.

        `decode`, `forward` and `factored` all follow from it: a subclass with another decoder
        overrides this one.
        """
        last = cast(nn.Linear, self.dec_layers[-1])
        return Logits(tanh_layers(self.dec_layers[:-1], z), last.weight, last.bias)

    def item_factors(self) -> tuple[Tensor, Tensor]:
        """Return the decoder's last weight (n_items, r) and bias (n_items,), shared, not copied."""
        last = cast(nn.Linear, self.dec_layers[-1])
        return last.weight.detach(), last.bias.detach()

    def config(self) -> dict[str, Any]:
        """Return the constructor's arguments as JSON values; see `build`."""
        return {"dec_dims": list(self.dec_dims), "enc_dims": list(self.enc_dims)}


def sizes(layers: Iterable[int], name: str) -> list[int]:
    """Return the sizes of layers as a list, or raise a ValueError that names them."""
    values = list(layers) if isinstance(layers, Iterable) else []
    whole = all(isinstance(v, (int, np.integer)) and not isinstance(v, bool) for v in values)
    if len(values) < 2 or not whole or min(values) < 1:
        raise ValueError(f"{name} must be two or more whole numbers above 0, got {layers!r}")
    return [int(v) for v in values]


def share(value: float, name: str) -> float:
    """Return a number in [0, 1) as a float, or raise a ValueError that names it."""
    if not is_number(value) or not 0 <= value < 1:
        raise ValueError(f"{name} must be a number in [0, 1), got {value!r}")
    return float(value)
