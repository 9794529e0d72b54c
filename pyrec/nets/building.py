"""Networks to and from what a model's file says of them."""

from __future__ import annotations

from itertools import pairwise
from typing import Any, cast

from torch import nn

from pyrec.nets.autoencoders import MultiDAE_net, MultiVAE_net, StandardVAE_net, VAE_net
from pyrec.nets.base import LayeredNet, sizes

__all__ = ["build", "describe"]

_NETS = {net.__name__: net for net in (MultiDAE_net, VAE_net, MultiVAE_net, StandardVAE_net)}


def describe(net: nn.Module) -> dict[str, Any]:
    """Return the network's class and arguments as JSON values, for `build`.

    Of a class that is not pyrec's: the name alone.
    """
    name = type(net).__name__
    ours = _NETS.get(name) is type(net)
    return {"class": name, **(cast(LayeredNet, net).config() if ours else {})}


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
    layers = [sizes(half, "layers") for half in halves if half is not None]
    return sum(a * b for half in layers for a, b in pairwise(half))
