"""The networks.

A batch is a dense (n, n_items) tensor or a `Csr`, with the same results, dropout included: a dense
batch is turned into a `Csr` first, unless it requires a gradient. The first layer then costs what
the batch has of non-zeros, not of items. Dropout and latent noise draw from torch's own generator.
"""

from pyrec.nets.autoencoders import (
    CMultiVAE_net,
    MultiDAE_net,
    MultiVAE_net,
    StandardVAE_net,
    VAE_net,
)
from pyrec.nets.base import AE_net
from pyrec.nets.building import build, describe
from pyrec.nets.cfgan import CFGAN_D_net, CFGAN_G_net
from pyrec.nets.svae import SVAE_net

__all__ = [
    "AE_net",
    "CFGAN_D_net",
    "CFGAN_G_net",
    "CMultiVAE_net",
    "MultiDAE_net",
    "MultiVAE_net",
    "SVAE_net",
    "StandardVAE_net",
    "VAE_net",
    "build",
    "describe",
]
