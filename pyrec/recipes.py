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
# Options of `train` that ``-p`` takes too; a model without a network shows its own progress.
_OF_TRAINING = {
    "ADMM_Slim": ("num_iter", "solver", "tol"),
    "CFGAN": ("g_steps", "d_steps", "d_batch_size"),
}
# The networks of a model, by their classes in pyrec.nets; StandardVAE makes its own.
_NETWORKS: dict[str, tuple[str, ...]] = {
    "CFGAN": ("CFGAN_G_net", "CFGAN_D_net"),
    "CMultiVAE": ("CMultiVAE_net",),
    "MultiDAE": ("MultiDAE_net",),
    "MultiVAE": ("MultiVAE_net",),
    "StandardVAE": (),
    "SVAE": ("SVAE_net",),
    "VAE": ("VAE_net",),
}
# The layers around the number of items: those of the Mult-VAE paper (Liang et al. 2018), but for the
# models whose own papers say others (Chae et al. 2018, Sachdeva et al. 2019).
_LAYERS: dict[str, Any] = {"latent_dim": 200, "hidden_dims": [600]}
_OWN_LAYERS: dict[str, dict[str, Any]] = {
    "CFGAN": {"generator_dims": [400], "discriminator_dims": [125]},
    "StandardVAE": {},
    "SVAE": {"embed_size": 256, "rnn_size": 200, "latent_dim": 64, "hidden_dims": [150]},
}
# Parameters of constructors that come from the data, the layers or options of the command.
_FROM_ELSEWHERE = {
    *("dec_dims", "enc_dims", "layers_dim", "cond_dim", "n_items", "embed_size", "rnn_size"),
    *("seed", "n_users", "original_dim"),
}
# Models whose training is a Gram matrix and what solves it.
_SOLVED = {"EASE", "ADMM_Slim"}
# StandardVAE's constructor has the options of training too.
_OF_STANDARD_VAE = {"n_epochs", "batch_size", "k", "verbose", "save_path"}


class Recipe(NamedTuple):
    """What a model is made of, checked before the data is there.

    Attributes
    ----------
    name : str
        The model's class in `pyrec.models`.
    values : dict
        The parameters that were given.
    training : dict
        The options of `train` that were given.
    """

    name: str
    values: dict[str, Any]
    training: dict[str, Any]

    @property
    def has_network(self) -> bool:
        """Whether the model is trained in epochs."""
        return self.name in _NETWORKS

    @property
    def takes_device(self) -> bool:
        """Whether `train` may run on a GPU."""
        return self.has_network or self.name in _SOLVED

    @property
    def has_bar(self) -> bool:
        """Whether `train` takes ``verbose``, of a model without a network."""
        return self.name in _OF_TRAINING and not self.has_network

    @property
    def has_conditions(self) -> bool:
        """Whether the model recommends under conditions of the items."""
        return self.name == "CMultiVAE"

    def build(
        self,
        n_users: int = 1,
        n_items: int = 1,
        n_conditions: int = 1,
        *,
        seed: int = 0,
        options: dict[str, Any] | None = None,
    ) -> RecSysModel:
        """Make the model for data of this size.

        Parameters
        ----------
        n_users, n_items, n_conditions : int
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
        model: RecSysModel
        if not self.has_network:
            model = model_class(**self.values)
        elif not _NETWORKS[self.name]:
            model = model_class(n_users, n_items, seed=seed, **self.values, **(options or {}))
        else:
            own = own_parameters(model_class)
            networks = self._networks(n_users, n_items, n_conditions, seed)
            model = model_class(*networks, **{k: v for k, v in self.values.items() if k in own})
        return model

    def _networks(self, n_users: int, n_items: int, n_conditions: int, seed: int) -> list[Any]:
        from pyrec import nets

        layers = {n: self.values.get(n, default) for n, default in _layers(self.name).items()}
        for name in (name for name in layers if name.endswith("_dims")):
            if not isinstance(layers[name], list):
                raise ValueError(f"{name} must be a list such as [600], got {layers[name]!r}")
        arguments = self._sizes(layers, n_users, n_items, n_conditions)
        made = []
        for net_name, sizes in zip(_NETWORKS[self.name], arguments, strict=True):
            net_class = getattr(nets, net_name)
            accepted = own_parameters(net_class)
            rest = {k: v for k, v in self.values.items() if k in accepted}
            made.append(net_class(*sizes, **rest, seed=seed))
        return made

    def _sizes(
        self, layers: dict[str, Any], n_users: int, n_items: int, n_conditions: int
    ) -> list[tuple[Any, ...]]:
        """The positional arguments of each network."""
        if self.name == "CFGAN":
            width = n_users if self.values.get("item_based") else n_items
            return [
                ([width, *layers["generator_dims"], width],),
                ([2 * width, *layers["discriminator_dims"], 1],),
            ]
        hidden, latent = layers["hidden_dims"], layers["latent_dim"]
        dims = [latent, *hidden, n_items]
        if self.name == "SVAE":
            encoder = [layers["rnn_size"], *hidden[::-1], latent]
            return [(n_items, layers["embed_size"], layers["rnn_size"], dims, encoder)]
        return [(n_conditions, dims)] if self.has_conditions else [(dims,)]


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
    if (
        training and not recipe.has_network
    ):  # which `train` alone knows how to check: on next to nothing
        import numpy as np

        model.train(np.zeros((1, 1)), verbose=0, **training)
    return recipe


def own_parameters(some_class: type) -> dict[str, Any]:
    """Return a constructor's parameters and defaults, without those that the data or options give."""
    parameters = inspect.signature(some_class).parameters.values()
    others = _OF_STANDARD_VAE if some_class.__name__ == "StandardVAE" else set()
    return {p.name: p.default for p in parameters if p.name not in _FROM_ELSEWHERE | others}


def _accepted(name: str) -> dict[str, Any]:
    """The parameters that ``-p`` takes, with their defaults."""
    import pyrec.models

    own = own_parameters(getattr(pyrec.models, name))
    options = inspect.signature(getattr(pyrec.models, name).train).parameters
    own |= {option: options[option].default for option in _OF_TRAINING.get(name, ())}
    names = _NETWORKS.get(name, ())
    for network in list(own)[: len(names)]:
        del own[network]
    from pyrec import nets

    of_nets: dict[str, Any] = {}
    for net in names:
        of_nets |= own_parameters(getattr(nets, net))
    return {**_layers(name), **of_nets, **own} if names else own


def _layers(name: str) -> dict[str, Any]:
    """The parameters that size a model's networks, with their defaults."""
    return _OWN_LAYERS.get(name, _LAYERS)


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text
