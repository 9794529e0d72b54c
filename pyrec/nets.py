"""Networks of the autoencoders.

A batch is a dense (n, n_items) tensor or a `Csr`, with the same results, dropout included: a dense
batch is turned into a `Csr` first, unless it requires a gradient. The first layer then costs what
the batch has of non-zeros, not of items. Dropout and latent noise draw from torch's own generator.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pyrec.arguments import is_number
from pyrec.data.csr import kind_of
from pyrec.data.randomness import check_seed
from pyrec.kernels.tensors import Csr, Logits
from pyrec.layers import (
    Batch,
    SparseLinear,
    at_least_float32,
    draw_weights,
    drop,
    linear,
    normalize,
    tanh_layers,
)

__all__ = [
    "AE_net",
    "MultiDAE_net",
    "MultiVAE_net",
    "StandardVAE_net",
    "VAE_net",
    "build",
    "describe",
]


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
        self.dec_dims = _sizes(dec_dims, "dec_dims")
        self.enc_dims = self.dec_dims[::-1] if enc_dims is None else _sizes(enc_dims, "enc_dims")
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


class _LayeredNet(AE_net):
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


class _MultinomialNet(_LayeredNet):
    """What Mult-DAE and Mult-VAE share: their input, and logits at the end."""

    dropout: float

    def prepared(self, x: Batch) -> Batch:
        return drop(normalize(super().prepared(x)), self.dropout, self.training)

    def decode(self, z: Tensor) -> Tensor:
        """Return the (n, n_items) logits of `z`, (n, latent)."""
        return self.logits(z).dense()

    def config(self) -> dict[str, Any]:
        return {**super().config(), "dropout": self.dropout}


class MultiDAE_net(_MultinomialNet):
    """Denoising autoencoder with logits at its end (Liang et al. 2018, Mult-DAE).

    A history is divided by its L2 norm, then thinned by dropout. Tanh follows every layer but the
    decoder's last.

    Parameters
    ----------
    dec_dims, enc_dims
        See `AE_net`.
    dropout : float
        Share of a history that is left out in training, in [0, 1).
    seed : int
        Decides the initial weights.
    """

    def __init__(
        self,
        dec_dims: Iterable[int],
        enc_dims: Iterable[int] | None = None,
        dropout: float = 0.5,
        *,
        seed: int = 0,
    ) -> None:
        super().__init__(dec_dims, enc_dims, heads=1, seed=seed)
        self.dropout = _share(dropout, "dropout")

    def encode(self, x: Batch) -> Tensor:
        """Return the (n, latent) latents of the batch `x`."""
        return tanh_layers(self.enc_layers, self.prepared(x))

    def factored(self, x: Batch) -> Logits:
        """Return what `forward` returns, not multiplied out."""
        return self.logits(self.encode(x))


class VAE_net(_LayeredNet):
    """Variational autoencoder with probabilities at its end (Kingma & Welling 2013).

    Tanh follows every layer but the encoder's last, which is linear and gives the mean and the
    log-variance of the latents, and the decoder's last, which ends in a sigmoid.

    Parameters
    ----------
    dec_dims, enc_dims
        See `AE_net`.
    seed : int
        Decides the initial weights.
    """

    def __init__(
        self, dec_dims: Iterable[int], enc_dims: Iterable[int] | None = None, *, seed: int = 0
    ) -> None:
        super().__init__(dec_dims, enc_dims, heads=2, seed=seed)

    def encode(self, x: Batch) -> tuple[Tensor, Tensor]:
        """Return mean and log-variance of the latents of the batch `x`, (n, latent) each."""
        h = tanh_layers(self.enc_layers[:-1], self.prepared(x))
        mu, logvar = self.enc_layers[-1](h).chunk(2, dim=1)
        return mu, logvar

    def sample(self, mu: Tensor, logvar: Tensor) -> Tensor:
        """Draw z = mu + ε exp(logvar / 2), ε ~ N(0, 1), in training; return `mu` otherwise."""
        return mu + torch.randn_like(mu) * torch.exp(logvar / 2) if self.training else mu

    def decode(self, z: Tensor) -> Tensor:
        """Return the (n, n_items) probabilities of `z`, (n, latent)."""
        # In bfloat16 a logit of 7 would be a probability of 1.
        return torch.sigmoid(at_least_float32(self.logits(z).dense()))

    def forward(self, x: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """Return the (n, n_items) reconstruction of the batch `x`, and what `encode` returns."""
        mu, logvar = self.encode(x)
        return self.decode(self.sample(mu, logvar)), mu, logvar


class MultiVAE_net(_MultinomialNet, VAE_net):
    """Variational autoencoder with logits at its end (Liang et al. 2018, Mult-VAE).

    A history is divided by its L2 norm, then thinned by dropout; the layers are those of `VAE_net`
    without the sigmoid.

    Parameters
    ----------
    dec_dims, enc_dims
        See `AE_net`.
    dropout : float
        Share of a history that is left out in training, in [0, 1).
    seed : int
        Decides the initial weights.
    """

    def __init__(
        self,
        dec_dims: Iterable[int],
        enc_dims: Iterable[int] | None = None,
        dropout: float = 0.5,
        *,
        seed: int = 0,
    ) -> None:
        super().__init__(dec_dims, enc_dims, seed=seed)
        self.dropout = _share(dropout, "dropout")

    def factored(self, x: Batch) -> tuple[Logits, Tensor, Tensor]:
        """Return what `forward` returns, the logits not multiplied out."""
        mu, logvar = self.encode(x)
        return self.logits(self.sample(mu, logvar)), mu, logvar


class StandardVAE_net(VAE_net):
    """Variational autoencoder with a softmax at its end, the network of `StandardVAE`.

    One hidden layer in each half, with tanh; dropout of the history and of the decoder's hidden
    layer.

    Parameters
    ----------
    n_items, intermediate_dim, latent_dim : int
        Sizes of the layers.
    drop_encoder, drop_decoder : float
        Shares left out in training, in [0, 1).
    seed : int
        Decides the initial weights.
    """

    def __init__(
        self,
        n_items: int,
        intermediate_dim: int,
        latent_dim: int,
        drop_encoder: float,
        drop_decoder: float,
        *,
        seed: int = 0,
    ) -> None:
        super().__init__([latent_dim, intermediate_dim, n_items], seed=seed)
        self.drop_encoder = _share(drop_encoder, "drop_encoder")
        self.drop_decoder = _share(drop_decoder, "drop_decoder")

    def prepared(self, x: Batch) -> Batch:
        return drop(super().prepared(x), self.drop_encoder, self.training)

    def logits(self, z: Tensor) -> Logits:
        full = super().logits(z)
        return Logits(F.dropout(full.h, self.drop_decoder, self.training), full.weight, full.bias)

    def decode(self, z: Tensor) -> Tensor:
        """Return the (n, n_items) probabilities of `z`, (n, latent); they sum to 1 a row."""
        return torch.softmax(at_least_float32(self.logits(z).dense()), dim=1)

    def config(self) -> dict[str, Any]:
        latent_dim, intermediate_dim, n_items = self.dec_dims
        return {
            "n_items": n_items,
            "intermediate_dim": intermediate_dim,
            "latent_dim": latent_dim,
            "drop_encoder": self.drop_encoder,
            "drop_decoder": self.drop_decoder,
        }


_NETS = {net.__name__: net for net in (MultiDAE_net, VAE_net, MultiVAE_net, StandardVAE_net)}


def describe(net: nn.Module) -> dict[str, Any]:
    """Return the network's class and arguments as JSON values, for `build`.

    Of a class that is not pyrec's: the name alone.
    """
    name = type(net).__name__
    ours = _NETS.get(name) is type(net)
    return {"class": name, **(cast(_LayeredNet, net).config() if ours else {})}


def build(config: dict[str, Any], n_parameters: int | None = None) -> nn.Module:
    """Return a new network of what `describe` returned.

    Parameters
    ----------
    config : dict
    n_parameters : int, optional
        How many numbers there are for it: layers that need more are refused before they are made.

    Raises
    ------
    ValueError
        A class that is not in `pyrec.nets`, arguments that it does not take, or too many numbers.
    """
    arguments = dict(config)
    name = arguments.pop("class", None)
    if not isinstance(name, str) or name not in _NETS:
        raise ValueError(
            f"network class {name!r} is not one of {', '.join(_NETS)}: make a model with such a "
            "network and call its load_model"
        )
    if n_parameters is not None and _fewest_parameters(arguments) > n_parameters:
        raise ValueError(f"its network is {config}, for which {n_parameters:,} numbers are too few")
    try:
        net: nn.Module = _NETS[name](**arguments)
    except TypeError as error:
        raise ValueError(f"network {name}: {error}") from error
    return net


def _fewest_parameters(arguments: dict[str, Any]) -> int:
    """The weights between the layers that a network's arguments name, or fewer."""
    halves = [arguments.get("dec_dims"), arguments.get("enc_dims")]
    if "n_items" in arguments:
        halves = [[arguments.get(n) for n in ("n_items", "intermediate_dim", "latent_dim")]]
    sizes = [_sizes(half, "layers") for half in halves if half is not None]
    return sum(a * b for half in sizes for a, b in pairwise(half))


def _sizes(sizes: Iterable[int], name: str) -> list[int]:
    values = list(sizes) if isinstance(sizes, Iterable) else []
    whole = all(isinstance(v, (int, np.integer)) and not isinstance(v, bool) for v in values)
    if len(values) < 2 or not whole or min(values) < 1:
        raise ValueError(f"{name} must be two or more whole numbers above 0, got {sizes!r}")
    return [int(v) for v in values]


def _share(value: float, name: str) -> float:
    if not is_number(value) or not 0 <= value < 1:
        raise ValueError(f"{name} must be a number in [0, 1), got {value!r}")
    return float(value)
