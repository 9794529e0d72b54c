"""The recommenders.

Names load when they are first used: ADMM_Slim, EASE and Popularity need no torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pyrec.models.admm_slim import ADMM_Slim
    from pyrec.models.autoencoders import VAE, AETrainer, MultiDAE, MultiVAE, TorchNNTrainer
    from pyrec.models.base import RecSysModel
    from pyrec.models.cfgan import CFGAN
    from pyrec.models.cmultivae import CMultiVAE
    from pyrec.models.ease import EASE
    from pyrec.models.popularity import Popularity
    from pyrec.models.standard_vae import StandardVAE
    from pyrec.models.svae import SVAE

_HOMES = {
    "ADMM_Slim": "pyrec.models.admm_slim",
    "CFGAN": "pyrec.models.cfgan",
    "CMultiVAE": "pyrec.models.cmultivae",
    "EASE": "pyrec.models.ease",
    "VAE": "pyrec.models.autoencoders",
    "AETrainer": "pyrec.models.autoencoders",
    "MultiDAE": "pyrec.models.autoencoders",
    "MultiVAE": "pyrec.models.autoencoders",
    "Popularity": "pyrec.models.popularity",
    "RecSysModel": "pyrec.models.base",
    "SVAE": "pyrec.models.svae",
    "StandardVAE": "pyrec.models.standard_vae",
    "TorchNNTrainer": "pyrec.models.autoencoders",
}

__all__ = [
    "CFGAN",
    "EASE",
    "SVAE",
    "VAE",
    "ADMM_Slim",
    "AETrainer",
    "CMultiVAE",
    "MultiDAE",
    "MultiVAE",
    "Popularity",
    "RecSysModel",
    "StandardVAE",
    "TorchNNTrainer",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'pyrec.models' has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
