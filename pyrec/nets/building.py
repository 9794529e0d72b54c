"""Networks to and from what a model's file says of them."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from torch import nn

from pyrec.nets.autoencoders import (
    CMultiVAE_net,
    MultiDAE_net,
    MultiVAE_net,
    StandardVAE_net,
    VAE_net,
)
from pyrec.nets.base import sizes
from pyrec.nets.cfgan import CFGAN_D_net, CFGAN_G_net
from pyrec.nets.svae import SVAE_net

__all__ = ["build", "describe"]

_CLASSES: tuple[type[nn.Module], ...] = (
    *(MultiDAE_net, VAE_net, MultiVAE_net, StandardVAE_net, CMultiVAE_net),
    *(CFGAN_G_net, CFGAN_D_net, SVAE_net),
)
_NETS: dict[str, Any] = {net.__name__: net for net in _CLASSES}


def describe(net: nn.Module) -> dict[str, Any]:
    """Return the network's class and arguments as JSON values, for `build`.

    Of a class that is not pyrec's: the name alone.
    """
    name = type(net).__name__
    ours: Any = net if _NETS.get(name) is type(net) else None
    return {"class": name, **({} if ours is None else ours.config())}


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

    def given(*names: str) -> list[Any]:
        return [arguments.get(name) for name in names] if names[-1] in arguments else []

    chains = [arguments.get(name) or [] for name in ("dec_dims", "enc_dims", "layers_dim")]
    chains.append(given("n_items", "intermediate_dim", "latent_dim"))
    chains += [given("n_items", "embed_size"), given("embed_size", "rnn_size")]
    if "cond_dim" in arguments:
        chains.append([arguments["cond_dim"], *sizes(chains[1], "layers")[1:2]])
    layers = [sizes(chain, "layers") for chain in chains if chain]
    return sum(a * b for chain in layers for a, b in pairwise(chain))
