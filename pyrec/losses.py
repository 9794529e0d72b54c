"""The losses of the networks: functions of what came out and what should have come out."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from pyrec.kernels.tensors import Csr, Logits, fused_decoder_nll, multinomial_nll
from pyrec.layers import at_least_float32

__all__ = ["bernoulli", "gaussian_kl", "multinomial", "squared_error"]


def multinomial(recon: Tensor | Logits, target: Tensor | Csr, mask: Tensor | None = None) -> Tensor:
    """Return -Σ_j x_ij log softmax(logits_i)_j, mean over users (Liang et al. 2018, equation 2).

    Parameters
    ----------
    recon : (n, n_items) Tensor or Logits
        Logits. `Logits` are never multiplied out: memory is bounded, whatever the catalogue.
    target : (n, n_items) Tensor or Csr
        Counts x.
    mask : bool Tensor, (n_items,) or (n, n_items), optional
        True: the item takes no part, neither in the sum nor in the softmax.

    Returns
    -------
    Tensor, a scalar
    """
    if isinstance(recon, Logits):
        return fused_decoder_nll(recon.h, recon.weight, recon.bias, target, mask)
    return multinomial_nll(recon, target, mask).mean()


def gaussian_kl(mu: Tensor, logvar: Tensor) -> Tensor:
    """Return KL(N(mu, exp(logvar)) || N(0, 1)), summed over latents, mean over users.

    Kingma & Welling 2013, appendix B. `mu` and `logvar` are (n, latent).
    """
    mu, logvar = at_least_float32(mu), at_least_float32(logvar)
    return -0.5 * (1 + logvar - mu.square() - logvar.exp()).sum(1).mean()


def bernoulli(probabilities: Tensor, target: Tensor | Csr) -> Tensor:
    """Return -Σ_j x_ij log p_ij + (1 - x_ij) log(1 - p_ij), mean over users.

    Parameters
    ----------
    probabilities : (n, n_items) Tensor
        p, in 0..1. No logarithm counts for less than -100, so that 0 and 1 have a finite loss.
    target : (n, n_items) Tensor or Csr
        x, in 0..1.

    Returns
    -------
    Tensor, a scalar
    """
    p, x = _pair(probabilities, target)
    # torch refuses this function under autocast, because of probabilities of low precision.
    with torch.autocast(p.device.type, enabled=False):
        return F.binary_cross_entropy(p, x, reduction="none").sum(1).mean()


def squared_error(prediction: Tensor | Logits, target: Tensor | Csr) -> Tensor:
    """Return (x_ij - y_ij)², mean over users and items; both are (n, n_items)."""
    y, x = _pair(prediction, target)
    return F.mse_loss(y, x)


def _pair(prediction: Tensor | Logits, target: Tensor | Csr) -> tuple[Tensor, Tensor]:
    """Both as dense matrices of one shape and one precision."""
    y, x = (t if isinstance(t, Tensor) else t.dense() for t in (prediction, target))
    if x.shape != y.shape:  # torch would broadcast
        raise ValueError(
            f"target must have the shape of the prediction, {tuple(y.shape)}, got {tuple(x.shape)}"
        )
    y = at_least_float32(y)
    return y, x.to(y.dtype)
