"""The network of the sequential VAE."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from pyrec.arguments import whole
from pyrec.data.csr import kind_of
from pyrec.data.randomness import check_seed
from pyrec.kernels.matrices import Sequences
from pyrec.kernels.tensors import Logits
from pyrec.layers import draw_weights, linear, tanh_layers
from pyrec.nets.autoencoders import VAE_net
from pyrec.nets.base import sizes
from pyrec.nets.recurrent import gru, last_states, packing

__all__ = ["SVAE_net"]

# Items of histories whose different embeddings exist at a time, where no gradient is asked for.
_STEPS = 1 << 15


class SVAE_net(VAE_net):
    """Sequential variational autoencoder with logits at its end (Sachdeva et al. 2019).

    Each item of a sequence is embedded; the state of a gated recurrent unit after it is encoded, and
    the latents decoded to logits of what follows. Tanh follows every layer but the encoder's last,
    which gives the mean and the log-variance of the latents, and the decoder's last.

    Parameters
    ----------
    n_items, embed_size, rnn_size : int
    dec_dims : sequence of int
        Sizes of the decoder's layers, from the latent space to the items.
    enc_dims : sequence of int
        Sizes of the encoder's layers, from the state, `rnn_size`, to the latent space.
    seed : int
        Decides the initial weights.

    Raises
    ------
    ValueError
        Sizes that are no whole numbers above 0, or do not fit together.
    """

    def __init__(
        self,
        n_items: int,
        embed_size: int,
        rnn_size: int,
        dec_dims: Iterable[int],
        enc_dims: Iterable[int],
        *,
        seed: int = 0,
    ) -> None:
        nn.Module.__init__(self)  # other halves fit together here
        self.n_items = whole(n_items, "n_items", 1)
        self.embed_size = whole(embed_size, "embed_size", 1)
        self.rnn_size = whole(rnn_size, "rnn_size", 1)
        self.dec_dims, self.enc_dims = sizes(dec_dims, "dec_dims"), sizes(enc_dims, "enc_dims")
        self.seed = check_seed(seed)
        if self.dec_dims[-1] != self.n_items:
            raise ValueError(f"dec_dims must end in n_items = {self.n_items}, got {self.dec_dims}")
        wanted = self.rnn_size, self.dec_dims[0]
        if (self.enc_dims[0], self.enc_dims[-1]) != wanted:
            raise ValueError(
                f"enc_dims must lead from rnn_size = {wanted[0]} to the {wanted[1]} latents with which "
                f"dec_dims = {self.dec_dims} begins, got {self.enc_dims}"
            )
        layers = pairwise([*self.enc_dims[:-1], 2 * self.enc_dims[-1]])
        # Without initial weights, as in `linear`.
        embedding = nn.Embedding(self.n_items, self.embed_size, device="meta")
        recurrent = nn.GRU(self.embed_size, self.rnn_size, device="meta")
        self.item_embed = embedding.to_empty(device="cpu")
        self.gru = recurrent.to_empty(device="cpu")
        self.enc_layers = nn.ModuleList(map(linear, layers))
        self.dec_layers = nn.ModuleList(map(linear, pairwise(self.dec_dims)))
        self.init_weights()

    def init_weights(self) -> None:
        """Draw the initial weights from `seed`, the same ones each time.

        Layers as in `pyrec.layers.draw_weights`; the recurrent unit uniform in ±1/√rnn_size and
        embeddings standard normal, both as in torch. Smaller embeddings say nothing to the recurrent
        unit at first, and training takes epochs to get going.
        """
        draw_weights([*self.enc_layers, *self.dec_layers], self.seed)
        generator = torch.Generator("cpu").manual_seed(~self.seed % 2**64)
        embedding, bound = self.item_embed.weight, self.rnn_size**-0.5
        with torch.no_grad():
            embedding.copy_(torch.randn(embedding.shape, generator=generator, device="cpu"))
            for parameter in self.gru.parameters():
                draws = torch.empty(parameter.shape, device="cpu")
                parameter.copy_(draws.uniform_(-bound, bound, generator=generator))

    def sequences(self, x: Any) -> Sequences:
        """Return the batch `x` as `Sequences`, after a check of its shape."""
        if isinstance(x, Tensor) and x.dtype in (torch.int64, torch.int32) and x.ndim == 2:
            x = Sequences.from_dense(x, self.n_items)
        if not isinstance(x, Sequences):
            got = f"{x.dtype} of shape {tuple(x.shape)}" if isinstance(x, Tensor) else kind_of(x)
            raise TypeError(f"x must be Sequences or a LongTensor of shape (n, steps), got {got}")
        if x.n_items != self.n_items:
            raise ValueError(f"x must be of {self.n_items} items, got {x.n_items}")
        return x

    def encode(self, x: Any) -> tuple[Tensor, Tensor]:
        """Return mean and log-variance of the latents after each step, (steps, latent) each.

        Parameters
        ----------
        x : Sequences, or (n, steps) LongTensor
            Steps follow each other user by user.
        """
        batch = self.sequences(x)
        packed = packing(batch.offsets)
        items, rows = torch.unique(batch.items[packed.order], return_inverse=True)
        states = gru(self.gru, self.item_embed(items), rows, packed.sizes)
        mu, logvar = self._heads(states)
        return mu[packed.place], logvar[packed.place]

    def _heads(self, states: Tensor) -> tuple[Tensor, Tensor]:
        mu, logvar = self.enc_layers[-1](tanh_layers(self.enc_layers[:-1], states)).chunk(2, dim=1)
        return mu, logvar

    def decode(self, z: Tensor) -> Tensor:
        """Return the (steps, n_items) logits of `z`, (steps, latent)."""
        return self.logits(z).dense()

    def factored(self, x: Any) -> tuple[Logits, Tensor, Tensor]:
        """Return the logits of all steps, not multiplied out, and what `encode` returns."""
        mu, logvar = self.encode(x)
        return self.logits(self.sample(mu, logvar)), mu, logvar

    def forward(self, x: Any) -> tuple[Tensor, Tensor, Tensor]:
        """Return logits, mean and log-variance of each step: (n, steps, ...) of a LongTensor, else (steps, ...)."""
        logits, mu, logvar = self.factored(x)
        results = logits.dense(), mu, logvar
        if not isinstance(x, Tensor):
            return results
        return tuple(t.view(*x.shape, t.shape[1]) for t in results)  # type: ignore[return-value]

    def last(self, x: Any) -> tuple[Logits, Tensor, Tensor]:
        """Return logits (not multiplied out), mean and log-variance after each user's last step, (n, ...) each.

        A user without steps has the state of zeros. Not differentiable.
        """
        batch = self.sequences(x)
        states = [self._last_states(batch[users]) for users in batch.parts(_STEPS)]
        mu, logvar = self._heads(torch.cat(states))
        return self.logits(self.sample(mu, logvar)), mu, logvar

    def _last_states(self, x: Sequences) -> Tensor:
        items, rows = torch.unique(x.items, return_inverse=True)
        return last_states(self.gru, self.item_embed(items), rows, packing(x.offsets))

    def config(self) -> dict[str, Any]:
        """Return the constructor's arguments as JSON values; see `build`."""
        own = {"n_items": self.n_items, "embed_size": self.embed_size, "rnn_size": self.rnn_size}
        return {**own, **super().config()}
