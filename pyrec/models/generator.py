"""GeneratorModel: scores that a network makes of profiles, those of users or those of items."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from pyrec import kernels
from pyrec.kernels.tensors import Csr
from pyrec.layers import Batch, SparseLinear
from pyrec.models.base import Recommendations, RecSysModel, as_rows
from pyrec.models.network_model import NetworkModel, as_array
from pyrec.models.training_users import TrainingUsers
from pyrec.nets.cfgan import CFGAN_G_net
from pyrec.samplers.adversarial import CFGAN_TrainingSampler

if TYPE_CHECKING:
    import scipy.sparse as sp

__all__ = ["GeneratorModel"]

# Histories whose lists are made at a time where their scores are never written.
_ROWS = 8192
# Of scores that exist at a time where all users are scored.
SCORE_BYTES = 64 << 20


class GeneratorModel(NetworkModel):
    """Abstract base class of models that score with a `generator` of profiles.

    User-based, the generator makes a user's scores of the user's history. Item-based, it makes of an
    item's profile, the users who have it, a score of every user of the training: lists are then the
    columns of those users.
    """

    generator: nn.Module
    item_based: bool
    _users: TrainingUsers | None = None
    _kept: tuple[Any, dict[str, NDArray[np.float32]]] = (None, {})

    def predict(self, x: Any, remove_train: bool = True) -> tuple[Tensor]:
        """Return the scores of every item, without noise: two calls give the same.

        Parameters
        ----------
        x : (n, n_items) tensor, CSR, Csr, Interactions, Histories, or sampler
            Of a sampler: the inputs of its batches, in order.
        remove_train : bool
            Set the scores of the items of `x` to -inf.

        Returns
        -------
        tuple of one (n, n_items) tensor
            Dense: keep n small.

        Raises
        ------
        ValueError
            Item-based: a row that is the history of no user of the training.
        """
        histories = self.histories(x)
        step = RecSysModel._block_rows(self)
        parts = []
        for begin in range(0, max(1, histories.shape[0]), step):
            block = histories[begin : begin + step]
            with self._evaluating():
                scores = self._columns(block) if self.item_based else self._made(block)
            if remove_train:
                scores[tuple(map(torch.from_numpy, block.nonzero()))] = -math.inf
            parts.append(scores)
        return (parts[0] if len(parts) == 1 else torch.cat(parts),)

    def similar_items(self, items: ArrayLike, k: int = 10) -> Recommendations:
        """Return the `k` items whose vectors have the largest cosine.

        An item's vector is its row of the generator's last layer; of an item-based model, what the
        generator makes of the item's profile before its last layer.

        Parameters
        ----------
        items : (n,) item numbers
        k : int

        Returns
        -------
        Recommendations
            ``items`` int32 (n, k) without the item itself, ``scores`` the cosines.
        """
        self._require_trained()
        numbers = self._item_numbers(items)
        if not isinstance(self.generator, CFGAN_G_net):
            return super().similar_items(items, k)
        vectors = self._hidden() if self.item_based else as_array(self._layered.item_factors()[0])
        return self._nearest(numbers, vectors, k)

    def histories(self, x: Any, name: str = "x") -> Any:
        if isinstance(x, CFGAN_TrainingSampler):
            raise TypeError(
                f"{name} must be histories, got a CFGAN_TrainingSampler, which never ends"
            )
        if self.item_based:
            self._require_trained()
        # A network knows its items before it is trained.
        trained = self.n_items is not None
        rows = super().histories(x, name) if trained else as_rows(x, self._width(), name)
        if self.item_based:
            self._numbers(rows, name)
        return rows

    def take_catalogue(self, catalogue: RecSysModel) -> None:
        super().take_catalogue(catalogue)
        self._users = getattr(catalogue, "_users", None)

    def state(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        parameters, arrays = super().state()
        if self._users is not None:
            parameters["training"]["users"] = self._users.digest
            arrays |= self._users.arrays()
        return parameters, arrays

    def restore(
        self, parameters: dict[str, Any], tensors: dict[str, NDArray[Any]], n_items: int
    ) -> None:
        left, users, width = dict(tensors), None, n_items
        if parameters["item_based"]:
            users = TrainingUsers.from_arrays(left, n_items)
            width = users.x.shape[0]
        layers = parameters["generator"].get("layers_dim", [width])
        if layers[0] != width:
            raise ValueError(f"profiles have {width} columns, but the generator {layers[0]}")
        super().restore(parameters, left, n_items)
        self._users = users

    def _check_same(self, progress: dict[str, Any], catalogue: RecSysModel, seed: int) -> None:
        super()._check_same(progress, catalogue, seed)
        users = getattr(catalogue, "_users", None)
        # Other users, or the same ones in another order, are other columns of the networks.
        if progress.get("users") != (None if users is None else users.digest):
            raise ValueError("its users are other ones than those of the data")

    def _topk(self, x: sp.csr_array, k: int, seen: Any, allow: Any, deny: Any) -> Recommendations:
        if not isinstance(self.generator, CFGAN_G_net):
            return super()._topk(x, k, seen, allow, deny)
        if self.item_based:
            return self._topk_of_users(self._numbers(x), k, seen, allow, deny)
        with self._evaluating():
            h = as_array(self._layered.factored(self._batch(x)).h)
        weight, bias = map(as_array, self._layered.item_factors())
        best = kernels.topk_factors(h, weight, k, seen, bias=bias, allow=allow, deny=deny)
        return Recommendations(best.items, self._finished(best.scores))

    def _topk_of_users(
        self, users: NDArray[np.int64], k: int, seen: Any, allow: Any, deny: Any
    ) -> Recommendations:
        """The best items of training users, -1 for somebody unknown, who gets the means of all."""
        weight, bias = map(as_array, self._layered.item_factors())
        items, wanted, strangers = self._hidden(), weight[users], users < 0
        if strangers.any():
            # The means are one more factor, that of strangers alone.
            items = np.column_stack([items, self._means()])
            wanted[strangers] = 0
            wanted = np.column_stack([wanted, strangers.astype(np.float32)])
        best = kernels.topk_factors(wanted, items, k, seen, allow=allow, deny=deny)
        scores = self._finished(best.scores + bias[users][:, None])
        scores[strangers] = best.scores[strangers]
        return Recommendations(best.items, scores)

    def _finished(self, scores: NDArray[np.float32]) -> NDArray[np.float32]:
        """What the generator's output makes of scores; what is excluded stays so."""
        made = self._layered.finish(torch.from_numpy(scores)).numpy()
        return np.where(np.isneginf(scores), scores, made)

    def _block_rows(self) -> int:
        return _ROWS if isinstance(self.generator, CFGAN_G_net) else super()._block_rows()

    def _made(self, x: sp.csr_array) -> Tensor:
        """What the generator makes of profiles."""
        made: Tensor = self.generator(self._batch(x))
        return made.float()

    def _columns(self, x: sp.csr_array) -> Tensor:
        """The (n, n_items) scores of training users, columns of what is made of all items."""
        users = torch.from_numpy(self._numbers(x))
        parts = []
        for made in self._all_made():
            part = made[:, users]
            part[:, users < 0] = made.mean(1, keepdim=True)
            parts.append(part)
        return torch.cat(parts).T.contiguous()

    def _all_made(self) -> Iterator[Tensor]:
        """The scores of all users, some items at a time."""
        profiles = self._known().profiles
        step = max(1, SCORE_BYTES // (4 * profiles.shape[1]))
        for begin in range(0, profiles.shape[0], step):
            yield self._made(profiles[begin : begin + step])

    def _means(self) -> NDArray[np.float32]:
        """The means of all users' scores, (n_items,)."""

        def made() -> Tensor:
            return torch.cat([scores.mean(1) for scores in self._all_made()])

        return self._once("means", made)

    def _hidden(self) -> NDArray[np.float32]:
        """What the last layer sees of each item's profile, (n_items, r)."""
        return self._once(
            "hidden", lambda: self._layered.factored(self._batch(self._known().profiles)).h
        )

    def _once(self, name: str, make: Callable[[], Tensor]) -> NDArray[np.float32]:
        """What is made of all items, kept for the next block of users while the weights stay."""
        versions = [(id(p), p._version) for p in self.generator.parameters()]
        key = (id(self._users), self.gradient_updates, *versions)
        if self._kept[0] != key:
            self._kept = (key, {})
        if name not in self._kept[1]:
            with self._evaluating():
                self._kept[1][name] = as_array(make())
        return self._kept[1][name]

    def _known(self) -> TrainingUsers:
        self._require_trained()
        return cast(TrainingUsers, self._users)

    def _numbers(self, x: sp.csr_array, name: str = "x") -> NDArray[np.int64]:
        """The training users whose histories the rows are; -1 for an empty row."""
        users, lengths = self._known().find(x), np.diff(x.indptr)
        foreign = np.flatnonzero((users < 0) & (lengths > 0))
        if len(foreign):
            raise ValueError(
                f"an item-based {type(self).__name__} can score the users of its training alone, by "
                f"the items that they had there, so pass rows of the training data as {name}: "
                f"{len(foreign):,} of {len(users):,} rows are other histories, row {foreign[0]} first"
            )
        return np.where(lengths > 0, users, -1)

    @property
    def _layered(self) -> CFGAN_G_net:
        """The generator, where it is one of pyrec's."""
        return cast(CFGAN_G_net, self.generator)

    def _width(self) -> int | None:
        """How many columns the generator takes; None when it does not say."""
        layers = getattr(self.generator, "layers_dim", None)
        return None if layers is None else int(layers[0])

    def _takes_csr(self) -> bool:
        """Whether all networks do: one of another make may need what only a dense tensor can."""
        return all(
            any(isinstance(layer, SparseLinear) for layer in net.modules())
            for net in self.networks()
        )

    def _batch(self, x: sp.csr_array | Csr) -> Batch:
        """Profiles as the networks take them, on their device."""
        rows = x if isinstance(x, Csr) else Csr.from_scipy(x)
        return (rows if self._takes_csr() else rows.dense()).to(self.device)
