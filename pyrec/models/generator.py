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
from pyrec.kernels.gpu import native, selection
from pyrec.kernels.tensors import Csr
from pyrec.layers import Batch, SparseLinear
from pyrec.models import on_device
from pyrec.models.base import Asked, Recommendations, RecSysModel, as_rows
from pyrec.models.network_model import NetworkModel, as_array
from pyrec.models.training_users import TrainingUsers
from pyrec.nets.cfgan import CFGAN_G_net
from pyrec.samplers.adversarial import CFGAN_TrainingSampler

if TYPE_CHECKING:
    import scipy.sparse as sp

__all__ = ["GeneratorModel"]

# From factors of users and items, and a bias of the items, to the best items and their scores.
_Choose = Callable[[Tensor, Tensor, Tensor | None], tuple[Tensor, Tensor]]
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
    _kept: tuple[Any, dict[str, Tensor]] = (None, {})

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
        vectors = self._hidden() if self.item_based else self._layered.item_factors()[0]
        return self._nearest(numbers, as_array(vectors), k)

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

        def choose(h: Tensor, items: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor]:
            b = None if bias is None else as_array(bias)
            how = {"seen": seen, "allow": allow, "deny": deny, "bias": b}
            best = kernels.topk_factors(as_array(h), as_array(items), k, **how)
            return torch.from_numpy(best.items), torch.from_numpy(best.scores)

        rows = torch.from_numpy(x) if self.item_based else self._batch(x)
        return Recommendations(*(found.numpy() for found in self._best(rows, choose)))

    def _topk_there(self, x: Any, k: int, seen: Any, allow: Any, deny: Any) -> Any:
        def choose(h: Tensor, items: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor]:
            how = {"seen": seen, "allow": allow, "deny": deny, "bias": bias}
            return selection.topk_factors(h, items, k, **how)

        return self._best(on_device.as_taken(x, self._takes_csr()), choose)

    def _best(self, x: Any, choose: _Choose) -> tuple[Tensor, Tensor]:
        """Items and scores of profiles, or of users by their numbers, by factors that `choose` gets."""
        weight, bias = self._layered.item_factors()
        if self.item_based:
            return self._best_of_users(x, weight, bias, choose)
        with self._evaluating():
            h = self._layered.factored(x).h
        items, scores = choose(h, weight, bias)
        return items, self._finished(scores)

    def _best_of_users(
        self, users: Tensor, weight: Tensor, bias: Tensor, choose: _Choose
    ) -> tuple[Tensor, Tensor]:
        """The best items of training users, -1 for somebody unknown, who gets the means of all."""
        factors, wanted, unknown = self._hidden(), weight[users], users[:, None] < 0
        if unknown.any():
            # The means are one more factor, that of strangers alone.
            factors = torch.column_stack([factors, self._means()])
            wanted = torch.cat([wanted.masked_fill(unknown, 0), unknown.to(wanted.dtype)], 1)
        items, scores = choose(wanted, factors, None)
        return items, torch.where(unknown, scores, self._finished(scores + bias[users][:, None]))

    def _finished(self, scores: Tensor) -> Tensor:
        """What the generator's output makes of scores; what is excluded stays so."""
        return torch.where(scores.isneginf(), scores, self._layered.finish(scores))

    def _place(self) -> torch.device | None:
        is_there = native.is_device(self.device) and isinstance(self.generator, CFGAN_G_net)
        return self.device if is_there else None

    def _divided(self, asked: Asked) -> Iterator[Asked]:
        is_by_number = self.item_based and isinstance(self.generator, CFGAN_G_net)
        yield asked._replace(x=self._numbers(asked.x)) if is_by_number else asked

    def _block_rows(self) -> int:
        if not isinstance(self.generator, CFGAN_G_net):
            return super()._block_rows()
        return on_device.encoded_rows(self._place())

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

    def _means(self) -> Tensor:
        """The means of all users' scores, (n_items,)."""

        def made() -> Tensor:
            return torch.cat([scores.mean(1) for scores in self._all_made()])

        return self._once("means", made)

    def _hidden(self) -> Tensor:
        """What the last layer sees of each item's profile, (n_items, r)."""
        return self._once(
            "hidden", lambda: self._layered.factored(self._batch(self._known().profiles)).h
        )

    def _once(self, name: str, make: Callable[[], Tensor]) -> Tensor:
        """What is made of all items, kept for the next block of users while the weights stay."""
        versions = [(id(p), p._version) for p in self.generator.parameters()]
        # Moved networks have the same parameters, elsewhere.
        key = (id(self._users), self.device, self.gradient_updates, *versions)
        if self._kept[0] != key:
            self._kept = (key, {})
        if name not in self._kept[1]:
            with self._evaluating():
                self._kept[1][name] = make().detach().float()
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
