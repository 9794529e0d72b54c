"""The autoencoders: each is an `AETrainer` with a loss of its own."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from pyrec import losses
from pyrec.arguments import at_least_zero, whole
from pyrec.callbacks import annealed
from pyrec.files import StrPath
from pyrec.models.ae_trainer import AETrainer
from pyrec.models.torch_trainer import TorchNNTrainer
from pyrec.training import EVALUATE

__all__ = ["VAE", "AETrainer", "MultiDAE", "MultiVAE", "TorchNNTrainer"]


class VAE(AETrainer):
    """Variational autoencoder with a Bernoulli likelihood (Kingma & Welling 2013).

    Parameters and attributes are those of `AETrainer`. The network returns probabilities, the mean
    and the log-variance of the latents, as `pyrec.nets.VAE_net` does; values are from 0 to 1.

    References
    ----------
    Diederik P. Kingma, Max Welling. 2013. Auto-Encoding Variational Bayes. arXiv:1312.6114.
    """

    least, most = 0.0, 1.0

    def loss_function(self, recon_x: Any, x: Any, mu: Tensor, logvar: Tensor) -> Tensor:
        """Return the negative ELBO: cross-entropy plus KL, sums over items and latents, mean over users.

        Parameters
        ----------
        recon_x : (n, n_items) Tensor
            Probabilities.
        x : (n, n_items) Tensor or Csr
            Values from 0 to 1.
        mu, logvar : (n, latent) Tensor

        Returns
        -------
        Tensor, a scalar
        """
        return losses.bernoulli(recon_x, x) + losses.gaussian_kl(mu, logvar)


class MultiDAE(AETrainer):
    """Denoising autoencoder with a multinomial likelihood (Liang et al. 2018, Mult-DAE).

    Parameters
    ----------
    mdae_net : torch.nn.Module
        Returns logits, as `pyrec.nets.MultiDAE_net` does; values are counts.
    lam : float
        λ, the weight of the two norms.
    learning_rate : float
    weight_decay : float

    References
    ----------
    Dawen Liang, Rahul G. Krishnan, Matthew D. Hoffman, Tony Jebara. 2018. Variational Autoencoders
    for Collaborative Filtering. WWW '18, 689-698.
    """

    least = 0.0

    def __init__(
        self,
        mdae_net: nn.Module,
        lam: float = 0.2,
        learning_rate: float = 1e-3,
        *,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(mdae_net, learning_rate, weight_decay=weight_decay)
        self.lam = at_least_zero(lam, "lam")

    def loss_function(self, recon_x: Any, x: Any) -> Tensor:
        """Return the multinomial loss + λ (‖θ‖₂ + ‖φ‖₂), of all decoder and all encoder parameters.

        Parameters
        ----------
        recon_x : (n, n_items) Tensor or Logits
        x : (n, n_items) Tensor or Csr
            Counts.

        Returns
        -------
        Tensor, a scalar
        """
        loss = losses.multinomial(recon_x, x)
        if self.lam == 0:
            return loss
        named = list(self.network.named_parameters())
        theta = [p for name, p in named if name.startswith("dec")]
        phi = [p for name, p in named if not name.startswith("dec")]
        for half in filter(None, (theta, phi)):
            loss = loss + self.lam * _norm(half)
        return loss


class MultiVAE(VAE):
    """Variational autoencoder with a multinomial likelihood (Liang et al. 2018, Mult-VAE).

    Parameters
    ----------
    mvae_net : torch.nn.Module
        Returns logits, the mean and the log-variance of the latents, as `pyrec.nets.MultiVAE_net`
        does; values are counts.
    beta : float
        β, the weight of the KL divergence; with annealing, the weight that it reaches.
    anneal_steps : int
        Updates over which β rises from 0, linearly; 0: no annealing.
    learning_rate : float
    weight_decay : float

    Attributes
    ----------
    annealing : bool
        Whether `anneal_steps` is above 0.

    References
    ----------
    As for `MultiDAE`.
    """

    least, most = 0.0, math.inf

    def __init__(
        self,
        mvae_net: nn.Module,
        beta: float = 1.0,
        anneal_steps: int = 0,
        learning_rate: float = 1e-3,
        *,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(mvae_net, learning_rate, weight_decay=weight_decay)
        self.beta = at_least_zero(beta, "beta")
        self.anneal_steps = whole(anneal_steps, "anneal_steps")

    @property
    def annealing(self) -> bool:
        """Whether `anneal_steps` is above 0."""
        return self.anneal_steps > 0

    def loss_function(
        self, recon_x: Any, x: Any, mu: Tensor, logvar: Tensor, beta: float = 1.0
    ) -> Tensor:
        """Return the multinomial loss + β KL, mean over users (Liang et al. 2018, equation 4).

        Parameters
        ----------
        recon_x : (n, n_items) Tensor or Logits
        x : (n, n_items) Tensor or Csr
            Counts.
        mu, logvar : (n, latent) Tensor
        beta : float

        Returns
        -------
        Tensor, a scalar
        """
        return losses.multinomial(recon_x, x) + beta * losses.gaussian_kl(mu, logvar)

    def loss_weights(self) -> dict[str, float]:
        """Return β at the next update."""
        return {"beta": annealed(self.gradient_updates, self.anneal_steps, self.beta)}

    def train(
        self,
        train_data: Any,
        valid_data: Any = None,
        valid_metric: str | None = None,
        valid_func: Any = EVALUATE,
        num_epochs: int = 200,
        best_path: StrPath | None = "chkpt_best.pth",
        verbose: int = 1,
        **options: Any,
    ) -> None:
        """Train the network; parameters as for `AETrainer.train`, in this class's own order."""
        super().train(
            train_data,
            valid_data,
            valid_metric,
            valid_func,
            num_epochs,
            verbose,
            best_path=best_path,
            **options,
        )


def _norm(parameters: Iterable[Tensor]) -> Tensor:
    """The L2 norm of all parameters together."""
    norms = [torch.linalg.vector_norm(parameter) for parameter in parameters]
    whole: Tensor = torch.linalg.vector_norm(torch.stack(norms))
    return whole
