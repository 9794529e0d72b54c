"""A model from its name and NAME=VALUE strings, as ``pyrec train`` takes them."""

from __future__ import annotations

import inspect
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from pyrec.models import RecSysModel

__all__ = ["Recipe", "own_parameters", "read_recipe"]

_SIMPLE = ("ADMM_Slim", "EASE", "Popularity")
# Options of `train` that ``-p`` takes too; such a model shows its own progress.
_OF_TRAINING = {"ADMM_Slim": ("num_iter", "solver", "tol")}
# The network of a model, by its class in pyrec.nets; StandardVAE makes its own.
_NETWORKS = {
    "MultiDAE": "MultiDAE_net",
    "MultiVAE": "MultiVAE_net",
    "StandardVAE": None,
    "VAE": "VAE_net",
}
# The layers of the Mult-VAE paper (Liang et al. 2018), around the number of items.
_LAYERS: dict[str, Any] = {"latent_dim": 200, "hidden_dims": [600]}
# Parameters of constructors that come from the data or from options of the command.
_FROM_ELSEWHERE = {
    *("dec_dims", "enc_dims", "seed", "n_users", "original_dim"),
    *("n_epochs", "batch_size", "k", "verbose", "save_path"),
}


class Recipe(NamedTuple):
    """What a model is made of, checked before the data is there.

    Attributes
    ----------
    name : str
        The model's class in `pyrec.models`.
    values : dict
        The parameters that were given.
    training : dict
        The options of `train` that were given, of a model without a network.
    """

    name: str
    values: dict[str, Any]
    training: dict[str, Any]

    @property
    def has_network(self) -> bool:
        """Whether the model is trained in epochs."""
        return self.name in _NETWORKS

    @property
    def has_bar(self) -> bool:
        """Whether `train` takes ``verbose``, of a model without a network."""
        return self.name in _OF_TRAINING

    def build(
        self,
        n_users: int = 1,
        n_items: int = 1,
        *,
        seed: int = 0,
        options: dict[str, Any] | None = None,
    ) -> RecSysModel:
        """Make the model for data of this size.

        Parameters
        ----------
        n_users, n_items : int
            By default the smallest, to learn early whether the parameters are right.
        seed : int
            Of a network's initial weights.
        options : dict, optional
            Of StandardVAE, whose constructor has the options of training too.

        Raises
        ------
        ValueError, TypeError
            What the constructor refuses.
        """
        import pyrec.models

        model_class = getattr(pyrec.models, self.name)
        if not self.has_network:
            model: RecSysModel = model_class(**self.values)
        elif _NETWORKS[self.name] is None:
            model = model_class(n_users, n_items, seed=seed, **self.values, **(options or {}))
        else:
            own = own_parameters(model_class)
            model = model_class(
                self._network(n_items, seed), **{k: v for k, v in self.values.items() if k in own}
            )
        return model

    def _network(self, n_items: int, seed: int) -> Any:
        from pyrec import nets

        net_class = getattr(nets, str(_NETWORKS[self.name]))
        layers = {name: self.values.get(name, default) for name, default in _LAYERS.items()}
        if not isinstance(layers["hidden_dims"], list):
            raise ValueError(
                f"hidden_dims must be a list such as [600], got {layers['hidden_dims']!r}"
            )
        rest = {k: v for k, v in self.values.items() if k in own_parameters(net_class)}
        dims = [layers["latent_dim"], *layers["hidden_dims"], n_items]
        return net_class(dims, **rest, seed=seed)


def read_recipe(name: str, parameters: Sequence[str]) -> Recipe:
    """Read a model's name, in any case, and its ``NAME=VALUE`` strings, and try to make it.

    Values are JSON; what is not JSON is text.

    Raises
    ------
    ValueError, TypeError
        An unknown model or parameter (the message lists those that there are), or a value that the
        model refuses.
    """
    known = {n.lower(): n for n in (*_SIMPLE, *_NETWORKS)}
    if name.lower() not in known:
        raise ValueError(f"MODEL must be one of {', '.join(known.values())}, got {name!r}")
    name = known[name.lower()]
    accepted = _accepted(name)
    values = {}
    for text in parameters:
        key, equals, value = text.partition("=")
        if not equals or key not in accepted:
            offered = ", ".join(f"{n}={default}" for n, default in accepted.items()) or "none"
            problem = f"{name} has no parameter {key!r}"
            raise ValueError(
                f"{problem if equals else f'-p must be NAME=VALUE, got {text!r}'}; "
                f"parameters of {name}: {offered}"
            )
        values[key] = _value(value)
    of_training = _OF_TRAINING.get(name, ())
    training = {key: values.pop(key) for key in of_training if key in values}
    recipe = Recipe(name, values, training)
    model = recipe.build()
    if training:  # which `train` alone knows how to check: on next to nothing
        import numpy as np

        model.train(np.zeros((1, 1)), verbose=0, **training)
    return recipe


def own_parameters(some_class: type) -> dict[str, Any]:
    """Return a constructor's parameters and defaults, without those that the data or options give."""
    parameters = inspect.signature(some_class).parameters.values()
    return {p.name: p.default for p in parameters if p.name not in _FROM_ELSEWHERE}


def _accepted(name: str) -> dict[str, Any]:
    """The parameters that ``-p`` takes, with their defaults."""
    import pyrec.models

    own = own_parameters(getattr(pyrec.models, name))
    options = inspect.signature(getattr(pyrec.models, name).train).parameters
    own |= {option: options[option].default for option in _OF_TRAINING.get(name, ())}
    net = _NETWORKS.get(name)
    if net is None:
        return own
    from pyrec import nets

    del own[next(iter(own))]  # the network itself
    return {**_LAYERS, **own_parameters(getattr(nets, net)), **own}


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text
