"""SVAE: what comes next, from the order in which a user had the items."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pyrec import losses
from pyrec.data import Histories, Interactions, as_csr
from pyrec.files import StrPath
from pyrec.kernels.matrices import Csr, Sequences
from pyrec.layers import at_least_float32
from pyrec.models.autoencoders import MultiVAE
from pyrec.models.base import RecSysModel
from pyrec.models.ordered import as_histories, is_batches
from pyrec.samplers.sequences import SVAE_Sampler, reach
from pyrec.training import EVALUATE, check_repeats

__all__ = ["SVAE"]


class SVAE(MultiVAE):
    """Sequential variational autoencoder (Sachdeva et al. 2019).

    Histories `x` of all its methods are `Histories`, lists of item numbers (a list or a dictionary of
    one list a user), `Interactions` (in order of time), an integer tensor (n, steps), or batches of
    these. A matrix or `Interactions` without times have no order: their items are taken in ascending
    order, with a UserWarning. Scores are those after the last item; a user without items gets those
    of the state that every sequence starts with.

    Parameters
    ----------
    svae_net : torch.nn.Module
        As `pyrec.nets.SVAE_net`.
    beta : float
        β, the weight of the KL divergence; with annealing, the weight that it reaches.
    anneal_steps : int
        Updates over which β rises from 0, linearly; 0: no annealing.
    learning_rate : float
    weight_decay : float
    pred_type : {"next_k", "next", "postfix"}
        What is to be told after each item: the next `k` items, the next one, all the rest. For the
        sampler that `train` makes; one that is given has its own.
    k : int
        For ``"next_k"``.

    Attributes
    ----------
    See `MultiVAE`.

    References
    ----------
    Noveen Sachdeva, Giuseppe Manco, Ettore Ritacco, Vikram Pudi. 2019. Sequential Variational
    Autoencoders for Collaborative Filtering. WSDM '19, 600-608.
    """

    def __init__(
        self,
        svae_net: nn.Module,
        beta: float = 1.0,
        anneal_steps: int = 0,
        learning_rate: float = 1e-3,
        *,
        weight_decay: float = 0.0,
        pred_type: str = "next_k",
        k: int = 4,
    ) -> None:
        super().__init__(svae_net, beta, anneal_steps, learning_rate, weight_decay=weight_decay)
        reach(pred_type, k)  # checks both
        self.pred_type, self.k = pred_type, int(k)

    def loss_function(
        self,
        recon_x: Any,
        x: Any,
        mu: Tensor,
        logvar: Tensor,
        beta: float = 1.0,
        *,
        offsets: Tensor | None = None,
    ) -> Tensor:
        """Return likelihood + β KL, mean over users.

        The negative log-likelihood of each step is divided by its number of targets and summed over
        the user's steps; the KL divergence is the mean over them.

        Parameters
        ----------
        recon_x : (steps, n_items) Tensor or Logits, or (n, steps, n_items) Tensor
            Logits after each step of one user, or of n users with as many steps.
        x : Tensor of the same shape, or (steps, n_items) Csr
            Targets of each step.
        mu, logvar : (steps, latent) or (n, steps, latent) Tensor
        beta : float
        offsets : (n + 1,) int64 Tensor, optional
            Where the steps of each user begin, when there are several users.

        Returns
        -------
        Tensor, a scalar
        """
        n = len(recon_x) if len(recon_x.shape) == 3 else 1
        logits, target, mu, logvar = map(_by_step, (recon_x, x, mu, logvar))
        steps, weights = len(logits), None
        if offsets is not None:
            n, lengths = len(offsets) - 1, offsets.diff()
            weights = torch.repeat_interleave(1 / (n * lengths), lengths, output_size=steps)
        likelihood = losses.multinomial(logits, _shares(target)) * (steps / n)
        return likelihood + beta * _mean_kl(mu, logvar, weights)

    def loss(self, tr_batch: Any, te_batch: Any = None) -> Tensor:
        """Return the loss of a batch, in the mode that the network is in.

        Parameters
        ----------
        tr_batch : Sequences, or (n, steps) integer Tensor
        te_batch : (steps, n_items) Csr or Tensor, or (n, steps, n_items) Tensor
            What follows each step, user by user.
        """
        if te_batch is None:
            raise ValueError("te_batch must hold the targets of each step, got None")
        network: Any = self.network
        x = network.sequences(tr_batch).to(self.device)
        target = _by_step(te_batch)
        if not isinstance(target, (Tensor, Csr)):
            target = Csr.from_scipy(as_csr(target, x.n_items, "te_batch"))
        target = self._sparse(self._on_device(target))
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16"):
            recon, mu, logvar = self._outputs(x)
            weights: dict[str, Any] = self.loss_weights()
            return self.loss_function(recon, target, mu, logvar, **weights, offsets=x.offsets)

    def train(
        self,
        train_data: Any,
        valid_data: Any = None,
        valid_metric: str | None = None,
        valid_func: Any = EVALUATE,
        num_epochs: int = 200,
        best_path: StrPath | None = "chkpt_best.pth",
        verbose: int = 1,
        *,
        batch_size: int = 64,
        **options: Any,
    ) -> None:
        """Train the network; parameters as for `MultiVAE.train`.

        `train_data` is an `SVAE_Sampler`, or histories as the class takes them, from which one is made
        that gives `batch_size` users at a time; users with fewer than two items are left out.
        """
        super().train(
            train_data,
            valid_data,
            valid_metric,
            valid_func,
            num_epochs,
            best_path,
            verbose,
            batch_size=batch_size,
            **options,
        )

    def training_data(
        self, train_data: Any, batch_size: int, seed: int
    ) -> tuple[Iterable[Any], RecSysModel]:
        catalogue, loader = copy.copy(self), train_data
        if isinstance(train_data, SVAE_Sampler):
            if not train_data.is_training:
                raise ValueError("train_data must be a sampler with is_training=True")
            x = as_histories(train_data.histories, self._network_items(), "train_data")
        else:
            check_repeats(train_data, "train_data")
            x = as_histories(train_data, self._network_items(), "train_data")
            if not is_batches(train_data):
                _check_lengths(x)
                loader = self.batches(x, batch_size, shuffle=True, seed=seed, name="train_data")
        catalogue._take_items(train_data, x.to_csr())
        return loader, catalogue

    def batches(
        self, x: Any, batch_size: int, *, shuffle: bool = False, seed: int = 0, name: str = "x"
    ) -> SVAE_Sampler:
        """Return a sampler of sequences with what follows each item."""
        histories = self.histories(x, name)
        return SVAE_Sampler(
            histories.n_items,
            histories,
            None,
            self.pred_type,
            self.k,
            shuffle,
            batch_size=batch_size,
            seed=seed,
            device=self.batches_on or self.device,
        )

    def histories(self, x: Any, name: str = "x") -> Histories:
        if isinstance(x, Interactions) and self.n_items is not None:
            x = self.aligned(x)[0]
        return as_histories(x, self.n_items or self._network_items(), name)

    def _batch(self, x: Histories) -> Sequences:
        return Sequences.from_arrays(x.offsets, x.items, x.n_items).to(self.device)

    def _outputs_of(self, batch: Sequences) -> tuple[Any, ...]:
        network: Any = self.network
        outputs: tuple[Any, ...] = network.last(batch)
        return outputs


def _check_lengths(x: Histories) -> None:
    """Raise a ValueError unless something follows an item."""
    longest = np.diff(x.offsets).max(initial=0)
    if longest == 0:
        raise ValueError("train_data holds no interactions: every history is empty")
    if longest == 1:
        raise ValueError(
            "train_data holds no history of two items or more: nothing follows an item"
        )


def _by_step(x: Any) -> Any:
    """Users and steps of a tensor in one dimension."""
    return x.flatten(0, 1) if isinstance(x, Tensor) and x.ndim == 3 else x


def _shares(target: Tensor | Csr) -> Tensor | Csr:
    """Targets divided by their sum, a row a step; rows of zeros stay as they are."""
    if isinstance(target, Csr):
        sums = target.values.new_zeros(len(target)).index_add_(0, target.rows(), target.values)
        return target.with_values(target.values / sums[target.rows()])
    return target / target.sum(1, keepdim=True).clamp(min=torch.finfo(target.dtype).tiny)


def _mean_kl(mu: Tensor, logvar: Tensor, weights: Tensor | None) -> Tensor:
    """KL(N(mu, exp(logvar)) || N(0, 1)) of each step, summed with `weights`; their mean without any."""
    if weights is None:
        return losses.gaussian_kl(mu, logvar)
    mu, logvar = at_least_float32(mu), at_least_float32(logvar)
    return -0.5 * weights @ (1 + logvar - mu.square() - logvar.exp()).sum(1)
