"""CFGAN: a generator of profiles and a discriminator, trained against each other."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pyrec import kernels, training
from pyrec.arguments import at_least_zero, flag, is_number, whole
from pyrec.callbacks import Callback
from pyrec.data import as_csr
from pyrec.data.csr import kind_of
from pyrec.files import StrPath
from pyrec.kernels.gpu import native, samplers
from pyrec.kernels.tensors import Csr
from pyrec.layers import Batch
from pyrec.models.base import RecSysModel, as_rows
from pyrec.models.generator import GeneratorModel
from pyrec.models.network_model import adam, checked_network, parameters_of
from pyrec.models.training_users import TrainingUsers
from pyrec.nets.cfgan import CFGAN_D_net
from pyrec.samplers.adversarial import CFGAN_TrainingSampler, Steps
from pyrec.training import EVALUATE

if TYPE_CHECKING:
    import scipy.sparse as sp

__all__ = ["CFGAN"]


class _Data(NamedTuple):
    """Training data with what `train` knows of the steps."""

    data: Any
    g_steps: int
    d_steps: int
    d_batch_size: int | None


class CFGAN(GeneratorModel):
    """Generative adversarial networks over whole profiles (Chae et al. 2018).

    From a user's profile r, which is the condition c, the generator makes r̂; the discriminator D
    tells r from r̂ ⊙ (e + k), the items of the user and some others (partial masking). Means over
    the users of a batch:

    - discriminator: -log D(r | c) - log(1 - D(r̂ ⊙ (e + k) | c))
    - generator: -log D(r̂ ⊙ (e + k) | c) + alpha Σ_j z_j r̂_j² (zero reconstruction)

    k and z are 1 for shares `s_pm` and `s_zr` of the items that the user does not have, drawn anew in each
    step. The generator's first term is what the authors' program minimises: log(1 - D), of the same
    optimum, has next to no gradient while the discriminator wins.

    Parameters
    ----------
    generator : torch.nn.Module
        From (n, m) profiles to (n, m) profiles: `pyrec.nets.CFGAN_G_net`, or one of your own.
    discriminator : torch.nn.Module
        From profiles and conditions, (n, m) each, to (n,) or (n, 1) probabilities:
        `pyrec.nets.CFGAN_D_net`, or one of your own.
    alpha : float
        The coefficient of zero reconstruction.
    s_pm, s_zr : float
        Shares in [0, 1], of partial masking and of zero reconstruction.
    learning_rate : float
        Of both networks.
    generator_l2 : float
        L2 penalty of Adam on the generator's parameters.
    item_based : bool
        Train on the profiles of items: m is the number of users, and the generator makes for an item
        a score of every user. Only the users of the training can then be recommended to: a history
        must hold the items that one of them has there (of several, the first counts), or none,
        which gets the means of all users' scores. Files hold the training matrix for that.

    Attributes
    ----------
    generator, discriminator : torch.nn.Module
    opt_g, opt_d : torch.optim.Adam
    alpha, s_pm, s_zr, learning_rate, generator_l2, item_based
        See the parameters.
    and those of `NetworkModel`; of `history`, ``loss`` is the generator's, ``d_loss`` the discriminator's

    References
    ----------
    Dong-Kyu Chae, Jin-Soo Kang, Sang-Wook Kim, Jung-Tae Lee. 2018. CFGAN: A Generic Collaborative
    Filtering Framework based on Generative Adversarial Networks. CIKM '18, 137-146.
    """

    _optimizer_of: ClassVar[dict[str, str]] = {"generator": "opt_g", "discriminator": "opt_d"}
    _d_loss = math.nan
    # Of an epoch: the batches of each network, and their sizes.
    _steps: list[int] | None = None

    def __init__(
        self,
        generator: nn.Module,
        discriminator: nn.Module,
        alpha: float = 0.1,
        s_pm: float = 0.7,
        s_zr: float = 0.5,
        learning_rate: float = 0.001,
        *,
        generator_l2: float = 0.0,
        item_based: bool = False,
    ) -> None:
        super().__init__()
        self.generator = checked_network(generator, "generator")
        self.discriminator = checked_network(discriminator, "discriminator")
        self.alpha = at_least_zero(alpha, "alpha")
        self.s_pm, self.s_zr = _share(s_pm, "s_pm"), _share(s_zr, "s_zr")
        self.learning_rate = at_least_zero(learning_rate, "learning_rate")
        self.generator_l2 = at_least_zero(generator_l2, "generator_l2")
        self.item_based = flag(item_based, "item_based")
        self.opt_g = adam(generator, self.learning_rate, self.generator_l2)
        self.opt_d = adam(discriminator, self.learning_rate, 0.0)
        width, both = self._width(), getattr(discriminator, "layers_dim", None)
        if width is not None and both is not None and both[0] != 2 * width:
            raise ValueError(
                f"discriminator must take {2 * width} columns, twice those of the generator, "
                f"got {both[0]}"
            )

    def train_gen_batch(self, batch: Any) -> float:
        """Update the generator once.

        Parameters
        ----------
        batch : (n, m) Tensor or Csr
            Profiles of users, or of items where the model is item-based.

        Returns
        -------
        float
            The generator's loss before the update.

        Raises
        ------
        FloatingPointError
            The loss is NaN or infinite; the weights stay as they were.
        """

        def loss(x: Batch, pattern: Csr) -> Tensor:
            fake = self.generator(x).float()
            shown = fake * self._negatives(pattern, self.s_pm, 0, with_observed=True)
            zeros = fake * self._negatives(pattern, self.s_zr, 1)
            reconstruction: Tensor = zeros.square().sum() / len(fake)
            return self._surprise(shown, x, genuine=True) + self.alpha * reconstruction

        # No time for gradients that nobody asks for.
        with _frozen(self.discriminator):
            return self._update(self.generator, self.opt_g, batch, loss)

    def train_disc_batch(self, batch: Any) -> float:
        """Update the discriminator once; parameter, result and errors as of `train_gen_batch`."""

        def loss(x: Batch, pattern: Csr) -> Tensor:
            with torch.no_grad():
                fake = self.generator(x).float()
                fake = fake * self._negatives(pattern, self.s_pm, 0, with_observed=True)
            return self._surprise(x, x, genuine=True) + self._surprise(fake, x, genuine=False)

        return self._update(self.discriminator, self.opt_d, batch, loss)

    def train_epoch(self, epoch: int, train_loader: Any, verbose: int = 1) -> float:
        """Update the networks once for each of their batches.

        Parameters
        ----------
        epoch : int
            Its number, from 1 on.
        train_loader : iterable of pairs ("generator" or "discriminator", batch)
        verbose : int
            0 silent, 1 a bar, 2 or more also so many lines.

        Returns
        -------
        float
            The mean loss of the generator.
        """
        steps = {"generator": self.train_gen_batch, "discriminator": self.train_disc_batch}
        losses: dict[str, list[float]] = {name: [] for name in steps}

        def update(step: Any) -> float:
            if not isinstance(step, tuple) or len(step) != 2 or str(step[0]) not in steps:
                raise TypeError(
                    "train_loader must give pairs of 'generator' or 'discriminator' and a batch, "
                    f"got {kind_of(step)}"
                )
            return steps[step[0]](step[1])

        done = training.each_batch(self, epoch, train_loader, verbose, update)
        for (name, _), loss in done:
            losses[name].append(loss)
        for name, values in losses.items():
            if not values:
                raise ValueError(f"train_loader gave no batches for the {name}")
        g_loss, self._d_loss = (float(np.mean(values)) for values in losses.values())
        return g_loss

    def epoch_values(self) -> dict[str, float]:
        return {"d_loss": self._d_loss}

    def train(
        self,
        train_data: Any,
        valid_data: Any = None,
        valid_metric: str | None = None,
        valid_func: Any = EVALUATE,
        num_epochs: int = 1000,
        g_steps: int = 5,
        d_steps: int = 5,
        verbose: int = 1,
        *,
        best_path: StrPath | None = None,
        seed: int = 0,
        callbacks: Iterable[Callback] = (),
        batch_size: int = 64,
        d_batch_size: int | None = None,
        device: torch.device | str | None = None,
        precision: str | None = None,
        resume: StrPath | None = None,
    ) -> None:
        """Train both networks in turn; `history` holds what each epoch gave.

        Ctrl-C ends the training in order: the model stays usable, and `interrupted` is set.

        Parameters
        ----------
        train_data : CSR, Interactions, Histories, dense array or tensor, or sampler
            A `CFGAN_TrainingSampler` is taken as it is, unless the model is item-based; of all else
            one is made, without the empty profiles.
        valid_data, valid_metric, valid_func, num_epochs
            As for `AETrainer.train`. To an item-based model only users of the training are known.
        g_steps, d_steps : int
            Batches an epoch, at least 1: first so many for the generator, then for the discriminator.
        verbose, best_path, seed, callbacks
            As for `AETrainer.train`. The seed also decides which items the masks hold.
        batch_size, d_batch_size : int
            Profiles a batch, where `train_data` is no `CFGAN_TrainingSampler`, and in the steps of
            the discriminator; by default the same.
        device, precision, resume
            As for `AETrainer.train`; the steps and batch sizes too must be those of the first training.

        Raises
        ------
        ValueError, TypeError, FileNotFoundError
            Before anything is changed, as by `AETrainer.train`.
        FloatingPointError
            A loss is NaN or infinite; the message names the epoch and the batch.
        """
        steps = whole(g_steps, "g_steps", 1), whole(d_steps, "d_steps", 1)
        size = None if d_batch_size is None else whole(d_batch_size, "d_batch_size", 1)
        training.run(
            self,
            _Data(train_data, *steps, size),
            (valid_data, valid_metric, valid_func),
            num_epochs,
            verbose,
            best_path=best_path,
            seed=seed,
            callbacks=callbacks,
            batch_size=batch_size,
            device=device,
            precision=precision,
            resume=resume,
        )

    def training_data(
        self, train_data: Any, batch_size: int, seed: int
    ) -> tuple[Iterable[Any], RecSysModel]:
        data, g_steps, d_steps, d_batch_size = train_data
        catalogue = copy.copy(self)
        is_sampler = isinstance(data, CFGAN_TrainingSampler)
        if not is_sampler:
            training.check_repeats(data, "train_data")
        x = as_rows(getattr(data, "sparse_data_tr", data), name="train_data")
        profiles = x
        if self.item_based:
            catalogue._users = TrainingUsers(x)
            profiles = catalogue._users.profiles
        self._check_profiles(profiles)
        catalogue._take_items(data, x)
        sampler = data
        if self.item_based or not is_sampler:
            layout = "csr" if self._takes_csr() else "dense"
            profiles = profiles[np.flatnonzero(np.diff(profiles.indptr))]
            own = (data.batch_size, data.seed) if is_sampler else (batch_size, seed)
            place = self.batches_on or self.device
            sampler = CFGAN_TrainingSampler(
                profiles, own[0], layout=layout, seed=own[1], device=place
            )
        second = sampler
        if d_batch_size is not None:
            how = {"layout": sampler.layout, "seed": sampler.seed, "device": sampler.device}
            second = CFGAN_TrainingSampler(sampler.sparse_data_tr, d_batch_size, **how)
        catalogue._steps = [g_steps, d_steps, sampler.batch_size, second.batch_size]
        return Steps(sampler, second, g_steps, d_steps), catalogue

    def take_catalogue(self, catalogue: RecSysModel) -> None:
        super().take_catalogue(catalogue)
        self._steps = getattr(catalogue, "_steps", None)

    def progress(self) -> dict[str, Any]:
        return {**super().progress(), "steps": self._steps}

    def _check_same(self, progress: dict[str, Any], catalogue: RecSysModel, seed: int) -> None:
        super()._check_same(progress, catalogue, seed)
        before, now = progress["steps"], getattr(catalogue, "_steps", None)
        if before not in (None, now):
            names = "g_steps, d_steps and the two batch sizes"
            raise ValueError(f"its {names} are {before}, this one's {now}")

    def _set_progress(self, progress: dict[str, Any]) -> None:
        super()._set_progress(progress)
        self._steps = progress["steps"]

    @classmethod
    def _constructor(cls) -> tuple[dict[str, str], list[str]]:
        others = [name for name in parameters_of(cls) if name not in cls._optimizer_of]
        return {name: name for name in cls._optimizer_of}, others

    def _check_profiles(self, profiles: sp.csr_array) -> None:
        """Raise a ValueError unless the generator can make such profiles."""
        if not profiles.nnz:
            raise ValueError("train_data holds no interactions: every row is empty")
        width = self._width()
        if width not in (None, profiles.shape[1]):
            kind = "users" if self.item_based else "items"
            raise ValueError(
                f"train_data has {profiles.shape[1]} {kind}, the generator has {width}"
            )
        ends_in_sigmoid = getattr(self.generator, "output", None) == "sigmoid"
        least, most = profiles.data.min(), profiles.data.max()
        if ends_in_sigmoid and not 0 <= least <= most <= 1:
            raise ValueError(
                "train_data must hold values from 0 to 1 for a generator that ends in a sigmoid, "
                f"got {least:g} to {most:g}"
            )

    def _update(
        self,
        net: nn.Module,
        optimizer: torch.optim.Optimizer,
        batch: Any,
        loss_of: Callable[[Batch, Csr], Tensor],
    ) -> float:
        """Update a network once; `loss_of` gets the batch, and as CSR for its pattern."""
        pattern = self._pattern(batch)
        if len(pattern) == 0:
            raise ValueError("batch has no rows")

        def loss() -> Tensor:
            is_bf16 = self.precision == "bf16"
            with torch.autocast(self.device.type, torch.bfloat16, enabled=is_bf16):
                return loss_of(self._batch(pattern), pattern)

        value = self._updated(net, optimizer, loss)
        if self.n_items is None and not self.item_based:
            # In a loop of the user's own; `train` knows the catalogue.
            self.n_items = pattern.n_cols
            self.item_counts = np.zeros(pattern.n_cols, np.int64)
        return value

    def _pattern(self, batch: Any) -> Csr:
        if isinstance(batch, Tensor):
            batch = Csr.from_dense(batch.detach().float())
        elif not isinstance(batch, Csr):
            batch = Csr.from_scipy(as_csr(batch, self._width(), "batch"))
        pattern: Csr = batch
        return pattern.to(self.device)

    def _negatives(self, x: Csr, share: float, draw: int, *, with_observed: bool = False) -> Tensor:
        """A share of what each profile lacks, True in an (n, m) tensor; a draw of this step."""
        how = share, self.seed_of_training or 0, 2 * self.gradient_updates + draw
        if native.is_device(x.device):
            return samplers.negatives(x, *how, with_observed=with_observed)
        out = np.empty(tuple(x.shape), bool)
        pattern = x.indptr.numpy(), x.indices.numpy(), x.n_cols
        kernels.negatives(*pattern, *how, out, with_observed=with_observed)
        return torch.from_numpy(out)

    def _surprise(self, profiles: Batch, conditions: Batch, *, genuine: bool) -> Tensor:
        """-log D of profiles taken for genuine ones, or -log(1 - D); mean over the profiles."""
        if isinstance(self.discriminator, CFGAN_D_net):
            odds = self.discriminator.logits(profiles, conditions)
            return F.softplus(-odds if genuine else odds).mean()
        found = self.discriminator(profiles, conditions).float()
        with torch.autocast(self.device.type, enabled=False):
            return F.binary_cross_entropy(found, torch.full_like(found, float(genuine)))


@contextmanager
def _frozen(net: nn.Module) -> Iterator[None]:
    """Let no gradient reach the parameters of a network."""
    wanted = [parameter for parameter in net.parameters() if parameter.requires_grad]
    for parameter in wanted:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in wanted:
            parameter.requires_grad_(True)


def _share(value: float, name: str) -> float:
    """Return a number in [0, 1] as a float, or raise a ValueError that names it."""
    if not is_number(value) or not 0 <= value <= 1:
        raise ValueError(f"{name} must be a number in [0, 1], got {value!r}")
    return float(value)
