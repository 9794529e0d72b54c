"""CMultiVAE: recommendations under a condition that the items have to satisfy."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pyrec import losses
from pyrec.arguments import flag
from pyrec.data import Interactions, ItemConditions, as_csr
from pyrec.files import StrPath
from pyrec.kernels.gpu import native
from pyrec.kernels.tensors import Csr
from pyrec.models import conditioned_batches
from pyrec.models.autoencoders import MultiVAE
from pyrec.models.base import Asked, Recommendations, RecSysModel, as_rows, gives_batches
from pyrec.models.conditioned_lists import both, left_out, pieces, rows_of_lists, wanted
from pyrec.samplers.conditioned import ConditionedDataSampler, conditions_of
from pyrec.training import EVALUATE

if TYPE_CHECKING:
    import scipy.sparse as sp

__all__ = ["CMultiVAE"]

# What the arrays of a model file begin with.
_ARRAYS = "conditions"


class _Given(NamedTuple):
    """A matrix and the conditions of its items, on their way from `train` to `training_data`."""

    data: Any
    conditions: Any


class CMultiVAE(MultiVAE):
    """Conditioned variational autoencoder (Carraro et al. 2020, C-VAE).

    Recommends items that satisfy a condition, such as a genre. The condition is an input of the
    encoder, and the network learns to reconstruct those items of a history that satisfy it; without
    a condition it is a Mult-VAE.

    Parameters
    ----------
    cmvae_net : torch.nn.Module
        Takes histories with or without conditions behind them, and returns logits, the mean and the
        log-variance of the latents, as `pyrec.nets.CMultiVAE_net` does. One of your own should say
        in `n_items` how many items it takes.
    beta : float
        β, the weight of the KL divergence; with annealing, the weight that it reaches.
    anneal_steps : int
        Updates over which β rises from 0, linearly; 0: no annealing.
    learning_rate : float
    weight_decay : float
    mask_likelihood : bool
        The two views of the loss. False: the target alone is filtered, and the network has to
        learn that all other items are unlikely. True: items that do not satisfy an example's
        condition take no part in its likelihood; a batch then needs (n, n_items) bytes.

    Attributes
    ----------
    item_conditions : ItemConditions or None
        Which item satisfies which condition; None before a training with conditions.

    References
    ----------
    Tommaso Carraro, Mirko Polato, Fabio Aiolli. 2020. Conditioned Variational Autoencoder for Top-N
    Item Recommendation. arXiv:2004.11141.
    """

    _satisfied: tuple[ItemConditions, Csr] | None = None

    def __init__(
        self,
        cmvae_net: nn.Module,
        beta: float = 1.0,
        anneal_steps: int = 0,
        learning_rate: float = 1e-3,
        *,
        weight_decay: float = 0.0,
        mask_likelihood: bool = False,
    ) -> None:
        super().__init__(cmvae_net, beta, anneal_steps, learning_rate, weight_decay=weight_decay)
        self.mask_likelihood = flag(mask_likelihood, "mask_likelihood")
        self.item_conditions: ItemConditions | None = None

    @property
    def n_cond(self) -> int | None:
        """Number of conditions; None when neither the network nor a training has said."""
        known: Any = getattr(self.network, "cond_dim", None)
        return known if self.item_conditions is None else self.item_conditions.n_cond

    def loss_function(
        self,
        recon_x: Any,
        x: Any,
        mu: Tensor,
        logvar: Tensor,
        beta: float = 1.0,
        mask: Tensor | None = None,
    ) -> Tensor:
        """Return the multinomial loss + β KL, mean over examples.

        Parameters
        ----------
        recon_x : (n, n_items) Tensor or Logits
        x : (n, n_items) Tensor or Csr
            Counts: of the items that satisfy the condition, or, with `mask`, of all items.
        mu, logvar : (n, latent) Tensor
        beta : float
        mask : (n, n_items) bool Tensor, optional
            True: the item does not satisfy the condition and takes no part in the likelihood.

        Returns
        -------
        Tensor, a scalar
        """
        return losses.multinomial(recon_x, x, mask) + beta * losses.gaussian_kl(mu, logvar)

    def loss(self, tr_batch: Any, te_batch: Any = None) -> Tensor:
        """Return the loss of a batch, in the mode that the network is in.

        Parameters
        ----------
        tr_batch : (n, n_items) or (n, n_items + n_cond) Tensor or Csr
            Or what `pyrec.data.as_csr` takes.
        te_batch : (n, n_items), likewise, optional
            The target; by default the items of `tr_batch`.
        """
        x = self._sparse(self._on_device(tr_batch))
        mask = None
        if self.mask_likelihood or te_batch is None:
            items, mask = self._items_and_mask(x)
            te_batch = items if te_batch is None else te_batch
        target = self._sparse(self._on_device(te_batch))
        weights: dict[str, Any] = {**self.loss_weights(), "mask": mask}
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16"):
            recon, *latents = self._outputs(x)
            return self.loss_function(recon, target, *latents, **weights)

    def train(
        self,
        train_data: Any,
        valid_data: Any = None,
        valid_metric: str | None = None,
        valid_func: Any = EVALUATE,
        num_epochs: int = 200,
        best_path: StrPath | None = "chkpt_best.pth",
        verbose: int = 1,
        *,
        conditions: Any = None,
        **options: Any,
    ) -> None:
        """Train the network; parameters as for `MultiVAE.train`, and one more.

        Parameters
        ----------
        train_data : sampler, or what `MultiVAE.train` takes
            A sampler of conditioned data, which knows its conditions; or a matrix, for which a
            `ConditionedDataSampler` is made.
        valid_data : pair (tr, te), or sampler, optional
            Of a sampler of conditioned data (``shuffle=False``), examples are ranked under their
            conditions.
        conditions : dict, (n_items, n_cond) sparse matrix, or ItemConditions, optional
            Of the items of a matrix; `ItemConditions` with item ids are aligned to `Interactions`.
            By default those that the model has; where it has none, it learns to do without. To
            resume, give those of the checkpoint again: others, or none, are refused.
        """
        super().train(
            train_data if conditions is None else _Given(train_data, conditions),
            valid_data,
            valid_metric,
            valid_func,
            num_epochs,
            best_path,
            verbose,
            **options,
        )

    def training_data(
        self, train_data: Any, batch_size: int, seed: int
    ) -> tuple[Iterable[Any], RecSysModel]:
        conditions: Any = self._own_conditions()
        if isinstance(train_data, _Given):
            train_data, conditions = train_data
            if gives_batches(train_data):
                raise ValueError("conditions are for a matrix: a sampler has those of its own")
        if conditions is not None and not gives_batches(train_data):
            train_data = self._sampler(train_data, conditions, batch_size, seed)
        missing = getattr(train_data, "unknown", [])
        if missing:
            some = f"{', '.join(missing[:5])}{' and others' if len(missing) > 5 else ''}"
            # What the network makes of them is left to chance.
            warnings.warn(f"no training example has {some}", UserWarning, stacklevel=6)
        return super().training_data(train_data, batch_size, seed)

    def take_catalogue(self, catalogue: RecSysModel) -> None:
        super().take_catalogue(catalogue)
        self.item_conditions = getattr(catalogue, "item_conditions", None)

    def predict(self, x: Any, remove_train: bool = True) -> tuple[Tensor, ...]:
        """Return the scores of every item, without noise: two calls give the same.

        Parameters
        ----------
        x : (n, n_items) or (n, n_items + n_cond) tensor, CSR, Csr, Interactions, or sampler
            Histories, with conditions behind them or not.
        remove_train : bool
            Set the scores of the items of the histories to -inf. Items that do not satisfy the
            conditions keep their scores: `recommend` leaves them out.

        Returns
        -------
        tuple of tensors
            (n, n_items) scores, dense: keep n small; mean and log-variance of the latents, (n, latent).
        """
        rows = self.histories(x)
        scores, *latents = super().predict(rows, remove_train=False)
        if remove_train:
            seen = self._split(rows)[0]
            scores[tuple(map(torch.from_numpy, seen.nonzero()))] = -torch.inf
        return scores, *latents

    def recommend(
        self,
        x: Any,
        k: int = 10,
        *,
        remove_seen: bool = True,
        allow: Any = None,
        deny: Any = None,
        condition: Any = None,
    ) -> Recommendations:
        """Return the `k` best items for each history, of those that satisfy the condition.

        Parameters
        ----------
        x : (n, n_items) CSR, Histories, Interactions, or dense array or tensor
            One history a row; or (n, n_items + n_cond), with the conditions behind them.
        k, remove_seen, allow, deny
            See `RecSysModel.recommend`.
        condition : str, int, list of them, or (n, n_cond) sparse matrix, array or tensor, optional
            A condition by name or number, or several: items that satisfy any of them are
            recommended. A matrix has a row a user; one without an entry asks for nothing.

        Returns
        -------
        Recommendations
            ``items`` int32 (n, k), best first, -1 where fewer than k are left; ``scores`` float32
            (n, k), -inf there. Ties: the lower item number first.

        Raises
        ------
        ValueError
            An unknown condition, or one that no item has; a model that was trained without any.
        """
        self._require_trained()
        if condition is not None:
            x = self._under(self.histories(x), condition)
        return super().recommend(x, k, remove_seen=remove_seen, allow=allow, deny=deny)

    def items_with(self, condition: Any) -> NDArray[np.int32]:
        known = self._require_conditions()
        return known.satisfying(wanted(known, condition, 1)).indices.astype(np.int32)

    def histories(self, x: Any, name: str = "x") -> Any:
        n_items = self._network_items() or self.n_items
        if n_items is None or self.n_cond is None or isinstance(x, Interactions):
            return super().histories(x, name)
        rows = as_rows(x, name=name)
        return rows if rows.shape[1] == n_items + self.n_cond else super().histories(rows, name)

    def check_values(self, x: sp.csr_array, name: str) -> None:
        super().check_values(self._split(x)[0], name)

    def state(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        parameters, tensors = super().state()
        if self.item_conditions is not None:
            parameters["training"][_ARRAYS] = self.item_conditions.digest
            tensors |= self.item_conditions.to_arrays(_ARRAYS)
        return parameters, tensors

    def restore(
        self, parameters: dict[str, Any], tensors: dict[str, NDArray[Any]], n_items: int
    ) -> None:
        own = {name: array for name, array in tensors.items() if name.startswith(f"{_ARRAYS}.")}
        conditions = ItemConditions.from_arrays(_ARRAYS, own) if own else None
        if conditions is not None:
            network = parameters["network"]
            n_cond = dict(network).get("cond_dim", conditions.n_cond)
            if conditions.matrix.shape != (n_items, n_cond):
                raise ValueError(
                    f"{_ARRAYS} must have the shape ({n_items}, {n_cond}), "
                    f"got {conditions.matrix.shape}"
                )
        rest = {name: array for name, array in tensors.items() if name not in own}
        super().restore(parameters, rest, n_items)
        self.item_conditions = conditions

    def _check_same(self, progress: dict[str, Any], catalogue: RecSysModel, seed: int) -> None:
        super()._check_same(progress, catalogue, seed)
        conditions = getattr(catalogue, "item_conditions", None)
        if progress.get(_ARRAYS) != (None if conditions is None else conditions.digest):
            raise ValueError("its conditions are other ones than those of the data")

    def _take_items(self, train_data: Any, x: sp.csr_array) -> None:
        super()._take_items(train_data, self._split(x)[0])
        n_cond = getattr(train_data, "n_cond", None)
        expected = getattr(self.network, "cond_dim", n_cond)
        if n_cond not in (None, expected):
            raise ValueError(f"train_data has {n_cond} conditions, the network has {expected}")
        conditions: ItemConditions | None = getattr(train_data, "item_conditions", None)
        if conditions is not None:
            # The ids are the model's: kept once.
            self.item_ids = conditions.items
            self.item_conditions = ItemConditions(conditions.matrix, conditions.names)

    def _divided(self, asked: Asked) -> Iterator[Asked]:
        items, conditions = self._split(asked.x)
        asked = asked._replace(seen=None if asked.seen is None else items)
        if conditions is None or conditions.nnz == 0:
            yield asked
            return
        for rows, satisfying in pieces(self._require_conditions(), conditions):
            own = (rows_of_lists(lists, rows) for lists in asked[1:])
            hidden, allowed, denied = own
            yield Asked(asked.x[rows], hidden, both(allowed, satisfying, items.shape[1]), denied)

    def _items_and_mask(self, x: Tensor | Csr) -> tuple[Any, Tensor | None]:
        """The items of a batch, and those that take no part in the likelihood of each row."""
        n_items = self._network_items() or self.n_items or x.shape[1]
        if isinstance(x, Csr) and x.n_cols > n_items and native.is_device(x.device):
            items, conditions = conditioned_batches.split(x, n_items)
            if not self.mask_likelihood or len(conditions.indices) == 0:
                return items, None
            return items, conditioned_batches.left_out(conditions, self._satisfied_there())
        rows, asked = self._split(as_csr(x, name="tr_batch"))
        if not self.mask_likelihood or asked is None or asked.nnz == 0:
            return rows, None
        left = left_out(self._require_conditions(), asked)
        return rows, torch.from_numpy(left).to(self.device)

    def _satisfied_there(self) -> Csr:
        """Which items have each condition, kept on the device of the network."""
        known, kept = self._require_conditions(), self._satisfied
        if kept is None or kept[0] is not known or kept[1].device != self.device:
            kept = known, conditioned_batches.satisfied_by(known, self.device)
            self._satisfied = kept
        return kept[1]

    def _under(self, rows: sp.csr_array, condition: Any) -> sp.csr_array:
        """Histories with conditions behind them."""
        import scipy.sparse as sp

        if rows.shape[1] != self.n_items:
            raise ValueError("condition must not be given where x has conditions already")
        conditions = wanted(self._require_conditions(), condition, rows.shape[0])
        return as_csr(sp.hstack([rows, conditions], format="csr"))

    def _split(self, x: sp.csr_array) -> tuple[sp.csr_array, sp.csr_array | None]:
        """Histories, and the conditions behind them if there are any."""
        n_items = self._network_items() or self.n_items
        if n_items is None or x.shape[1] != n_items + (self.n_cond or 0):
            return x, None
        return as_csr(x[:, :n_items]), as_csr(x[:, n_items:])

    def _on_device(self, batch: Any) -> Tensor | Csr:
        if isinstance(batch, (np.ndarray, Tensor, Csr)):
            return super()._on_device(batch)
        return self._batch(self.histories(batch, "batch"))

    def _sampler(
        self, data: Any, conditions: Any, batch_size: int, seed: int
    ) -> ConditionedDataSampler:
        x = as_rows(data, name="train_data")
        self.check_values(x, "train_data")
        if x.nnz == 0:
            raise ValueError("train_data holds no interactions: every row is empty")
        known = conditions_of(conditions, self.n_cond, data, x, "conditions")
        layout = "csr" if self._takes_csr() else "dense"
        data = data if isinstance(data, Interactions) else x
        place = self.batches_on or self.device
        return ConditionedDataSampler(
            known, known.n_cond, data, None, batch_size, layout=layout, seed=seed, device=place
        )

    def _own_conditions(self) -> ItemConditions | None:
        known = self.item_conditions
        return known and ItemConditions(known.matrix, known.names, self.item_ids)

    def _require_conditions(self) -> ItemConditions:
        if self.item_conditions is None:
            raise ValueError(
                f"this {type(self).__name__} knows no item conditions: train it with conditions, or "
                "set item_conditions"
            )
        return self.item_conditions
