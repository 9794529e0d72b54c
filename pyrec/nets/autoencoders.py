"""Networks of the autoencoders over sets of items."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from pyrec.arguments import whole
from pyrec.data.csr import kind_of
from pyrec.kernels.tensors import Csr, Logits
from pyrec.layers import Batch, SparseLinear, at_least_float32, drop, normalize, tanh_layers
from pyrec.nets.base import LayeredNet, share

__all__ = ["CMultiVAE_net", "MultiDAE_net", "MultiVAE_net", "StandardVAE_net", "VAE_net"]


class _MultinomialNet(LayeredNet):
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
        self.dropout = share(dropout, "dropout")

    def encode(self, x: Batch) -> Tensor:
        """Return the (n, latent) latents of the batch `x`."""
        return tanh_layers(self.enc_layers, self.prepared(x))

    def factored(self, x: Batch) -> Logits:
        """Return what `forward` returns, not multiplied out."""
        return self.logits(self.encode(x))


class VAE_net(LayeredNet):
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
        self.dropout = share(dropout, "dropout")

    def factored(self, x: Batch) -> tuple[Logits, Tensor, Tensor]:
        """Return what `forward` returns, the logits not multiplied out."""
        mu, logvar = self.encode(x)
        return self.logits(self.sample(mu, logvar)), mu, logvar


class CMultiVAE_net(MultiVAE_net):
    """Variational autoencoder with a condition at its input (Carraro et al. 2020, C-VAE).

    A batch holds histories, (n, n_items), or histories with a condition behind them,
    (n, n_items + cond_dim); without one, nothing is asked for. Histories are normalised and thinned
    as in `MultiVAE_net`, conditions are neither.

    Parameters
    ----------
    cond_dim : int
        Number of conditions.
    dec_dims, enc_dims
        See `AE_net`: sizes for the items alone. The first layer takes `cond_dim` inputs more.
    dropout : float
        Share of a history that is left out in training, in [0, 1).
    seed : int
        Decides the initial weights.

    Attributes
    ----------
    cond_dim : int
    """

    def __init__(
        self,
        cond_dim: int,
        dec_dims: Iterable[int],
        enc_dims: Iterable[int] | None = None,
        dropout: float = 0.5,
        *,
        seed: int = 0,
    ) -> None:
        n_conditions = whole(cond_dim, "cond_dim", 1)
        super().__init__(dec_dims, enc_dims, dropout, seed=seed)
        self.cond_dim = n_conditions
        width = cast(SparseLinear, self.enc_layers[0]).out_features
        self.enc_layers[0] = SparseLinear(self.enc_dims[0] + n_conditions, width)
        self.init_weights()

    def prepared(self, x: Batch) -> Batch:
        n, width = self.enc_dims[0], self.enc_dims[0] + self.cond_dim
        if not isinstance(x, (Tensor, Csr)):
            raise TypeError(f"x must be a tensor or Csr, got {kind_of(x)}")
        if len(x.shape) != 2 or x.shape[1] not in (n, width):
            raise ValueError(
                f"x must have the shape (n, {n}), or (n, {width}) with conditions, "
                f"got {tuple(x.shape)}"
            )
        if isinstance(x, Tensor) and x.requires_grad:
            conditions = F.pad(x[:, n:], (0, width - x.shape[1]))
            return torch.cat([cast(Tensor, super().prepared(x[:, :n])), conditions], dim=1)
        rows = Csr.from_dense(x) if isinstance(x, Tensor) else x
        is_item = rows.indices < n
        # Of length 0, conditions take no part in the norm of a history.
        items = rows.with_values(torch.where(is_item, rows.values, 0))
        kept = cast(Csr, drop(normalize(items), self.dropout, self.training))
        values = torch.where(is_item, kept.values, rows.values)
        return Csr(rows.indptr, rows.indices, values, width)

    def config(self) -> dict[str, Any]:
        return {"cond_dim": self.cond_dim, **super().config()}


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
        self.drop_encoder = share(drop_encoder, "drop_encoder")
        self.drop_decoder = share(drop_decoder, "drop_decoder")

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
