"""StandardVAE: a variational autoencoder with its network, schedule and validation inside."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from pyrec import losses
from pyrec.arguments import at_least_zero, whole
from pyrec.callbacks import (
    Callback,
    Logs,
    Metrics,
    ValidationLoss,
    annealed,
    improves,
    recommend_k_items,
)
from pyrec.files import StrPath
from pyrec.models.autoencoders import VAE
from pyrec.models.base import as_rows
from pyrec.nets import StandardVAE_net

if TYPE_CHECKING:
    import scipy.sparse as sp

__all__ = ["StandardVAE"]

# The share of all updates after which beta has reached its cap.
_ANNEALED = 0.8


class StandardVAE(VAE):
    """Variational autoencoder with a Bernoulli likelihood for each item and a softmax at its end.

    Encoder: dropout, a hidden layer with tanh, two linear heads; decoder: a hidden layer with tanh,
    dropout, softmax (`pyrec.nets.StandardVAE_net`). Adam begins with a learning rate of 1e-3, which
    `fit` divides by 5, down to 1e-4, after every epoch in which the validation loss has not
    improved by 1e-4.

    Parameters
    ----------
    n_users : int
        Rows of the training data.
    original_dim : int
        Items.
    intermediate_dim, latent_dim : int
        Sizes of the hidden layers and of the latent space.
    n_epochs : int
        Epochs of `fit`.
    batch_size : int
        Users a batch in `fit`.
    k : int
        The best epoch is that with the highest NDCG@k.
    verbose : int
        0 silent, 1 a bar and a line an epoch, 2 or more also so many lines within the epoch.
    drop_encoder, drop_decoder : float
        Dropout, in [0, 1).
    beta : float
        Weight of the KL divergence, without annealing.
    annealing : bool
        Let the weight rise from 0, linearly, to `anneal_cap` after 80 % of all updates of `fit`.
        (Where `train` is called instead, it is `anneal_cap` all the time.)
    anneal_cap : float
    seed : int, optional
        Decides everything random; None is 0.
    save_path : path, optional
        The file of the best model of `fit`, which is restored at its end.

    Attributes
    ----------
    anneal_steps : int
        The updates over which the weight rises; 0 before `fit`.
    metrics : pyrec.callbacks.Metrics or None
        With a `mapper`: gives recommendations of the validation users under the user's own ids.
    """

    not_stored = frozenset({"save_path", "verbose"})

    def __init__(
        self,
        n_users: int,
        original_dim: int,
        intermediate_dim: int = 200,
        latent_dim: int = 70,
        n_epochs: int = 400,
        batch_size: int = 100,
        k: int = 100,
        verbose: int = 1,
        drop_encoder: float = 0.5,
        drop_decoder: float = 0.5,
        beta: float = 1.0,
        annealing: bool = False,
        anneal_cap: float = 1.0,
        seed: int | None = None,
        save_path: StrPath | None = None,
    ) -> None:
        layers = (original_dim, intermediate_dim, latent_dim, drop_encoder, drop_decoder)
        super().__init__(StandardVAE_net(*layers, seed=seed or 0))
        for name, value in (("n_users", n_users), ("batch_size", batch_size), ("k", k)):
            whole(value, name, 1)
        self.n_users, self.original_dim = n_users, original_dim
        self.intermediate_dim, self.latent_dim = intermediate_dim, latent_dim
        self.n_epochs, self.batch_size = whole(n_epochs, "n_epochs"), batch_size
        self.k, self.verbose = k, verbose
        self.drop_encoder, self.drop_decoder = drop_encoder, drop_decoder
        self.beta = at_least_zero(beta, "beta")
        self.annealing, self.anneal_cap = bool(annealing), at_least_zero(anneal_cap, "anneal_cap")
        self.seed = seed
        self.save_path = None if save_path is None else os.fspath(save_path)
        self.anneal_steps = 0
        self.metrics: Metrics | None = None

    def loss_function(
        self, recon_x: Any, x: Any, mu: Tensor, logvar: Tensor, beta: float = 1.0
    ) -> Tensor:
        """Return the negative ELBO: cross-entropy summed over items + β KL, mean over users.

        Parameters
        ----------
        recon_x : (n, original_dim) Tensor
            Probabilities.
        x : (n, original_dim) Tensor or Csr
            Values from 0 to 1.
        mu, logvar : (n, latent_dim) Tensor
        beta : float

        Returns
        -------
        Tensor, a scalar
        """
        return losses.bernoulli(recon_x, x) + beta * losses.gaussian_kl(mu, logvar)

    def loss_weights(self) -> dict[str, float]:
        """Return β at the next update."""
        if not self.annealing:
            return {"beta": self.beta}
        return {"beta": annealed(self.gradient_updates, self.anneal_steps, self.anneal_cap)}

    def fit(
        self,
        x_train: Any,
        x_valid: Any = None,
        x_val_tr: Any = None,
        x_val_te: Any = None,
        mapper: Any = None,
        *,
        callbacks: Iterable[Callback] = (),
        device: torch.device | str | None = None,
        precision: str | None = None,
        resume: StrPath | None = None,
    ) -> None:
        """Train for `n_epochs`; every user is seen in every epoch, in a new order.

        Parameters
        ----------
        x_train : (n_users, original_dim) CSR, Interactions, Histories, dense array or tensor
            Values from 0 to 1.
        x_valid : likewise, optional
            The whole histories of the validation users: their loss lowers the learning rate.
        x_val_tr, x_val_te : likewise, optional
            A part of those histories, and what is to be found: they choose the best epoch.
        mapper : object or (user ids, item ids), optional
            For `metrics`; see `pyrec.callbacks.Metrics`. NDCG@k is then computed a second time.
        callbacks, device, precision, resume
            As for `AETrainer.train`.

        Raises
        ------
        ValueError
            A number of rows other than `n_users`, or one of `x_val_tr` and `x_val_te` alone;
            and what `AETrainer.train` raises.
        """
        rows = as_rows(x_train, self.original_dim, "x_train")
        if rows.shape[0] != self.n_users:
            raise ValueError(f"x_train has {rows.shape[0]} rows, expected n_users = {self.n_users}")
        if (x_val_tr is None) != (x_val_te is None):
            raise ValueError("x_val_tr and x_val_te need each other, got one of them")
        has_validation = x_val_tr is not None
        own: list[Callback] = []
        if x_valid is not None:
            own += [ValidationLoss(x_valid, self.batch_size), _LowerRate()]
        if has_validation and mapper is not None:
            self.metrics = Metrics(self, x_val_tr, x_val_te, mapper, self.k)
            own.append(self.metrics)
        updates = self.n_epochs * math.ceil(
            np.count_nonzero(np.diff(rows.indptr)) / self.batch_size
        )
        self.anneal_steps = math.ceil(_ANNEALED * updates)
        self.train(
            x_train,
            (x_val_tr, x_val_te) if has_validation else None,
            self._metric if has_validation else None,
            num_epochs=self.n_epochs,
            verbose=self.verbose,
            best_path=self.save_path,
            seed=self.seed or 0,
            callbacks=[*own, *callbacks],
            batch_size=self.batch_size,
            device=device,
            precision=precision,
            resume=resume,
        )

    def recommend_k_items(self, x: Any, k: int, remove_seen: bool = True) -> sp.csr_array:
        """Return the scores of the `k` best items of each history, as (n, original_dim) SciPy CSR.

        Parameters
        ----------
        x : (n, original_dim) CSR, Interactions, Histories, dense array or tensor
        k : int
        remove_seen : bool
            Leave out the items of the history itself.
        """
        return recommend_k_items(self, x, k, remove_seen)

    def ndcg_per_epoch(self) -> list[float]:
        """Return NDCG@k of the validation users after each epoch.

        Raises
        ------
        RuntimeError
            There was no validation.
        """
        values = self.history.get(self._metric)
        if values is None:
            raise RuntimeError(
                f"there is no {self._metric}: call fit with x_val_tr and x_val_te first"
            )
        return values

    def get_optimal_beta(self) -> float:
        """Return the KL divergence's weight after the epoch with the highest NDCG@k.

        Without annealing: `beta`.

        Raises
        ------
        RuntimeError
            With annealing, and no epoch had a value.
        """
        if not self.annealing:
            return self.beta
        ndcg = np.asarray(self.ndcg_per_epoch())
        if np.isnan(ndcg).all():
            raise RuntimeError(f"{self._metric} has no value in any epoch")
        return self.history["beta"][int(np.nanargmax(ndcg))]

    def display_metrics(self) -> None:
        """Print curves of NDCG@k and of the losses by epoch (a picture: `pyrec.plotting.draw`)."""
        from pyrec.plotting import text_curves

        print(text_curves(self.history))

    @property
    def _metric(self) -> str:
        return f"ndcg@{self.k}"


class _LowerRate(Callback):
    """Divides the learning rate by 5, at least to 1e-4, when the validation loss does not improve."""

    def on_train_begin(self, logs: Logs) -> None:
        self._best: float | None = None

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        loss = logs["val_loss"]
        if improves(loss, self._best, "min", min_delta=1e-4):
            self._best = loss
            return
        for group in self.model.optimizer.param_groups:
            group["lr"] = max(group["lr"] / 5, min(group["lr"], 1e-4))

    def state(self) -> dict[str, Any]:
        return {"best": self._best}

    def restore(self, state: dict[str, Any]) -> None:
        self._best = state["best"]
