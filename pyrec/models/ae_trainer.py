"""AETrainer: training, prediction and recommendation of autoencoders, written once."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn

from pyrec import kernels, losses, training
from pyrec.callbacks import Callback
from pyrec.data import as_csr
from pyrec.files import StrPath
from pyrec.kernels.gpu import native, selection
from pyrec.kernels.tensors import Csr
from pyrec.layers import SparseLinear
from pyrec.models import on_device
from pyrec.models.base import Recommendations, RecSysModel, as_rows
from pyrec.models.network_model import as_array
from pyrec.models.torch_trainer import TorchNNTrainer
from pyrec.samplers import DataSampler
from pyrec.training import EVALUATE

if TYPE_CHECKING:
    import scipy.sparse as sp

__all__ = ["AETrainer"]


class AETrainer(TorchNNTrainer):
    """Autoencoder with squared error, and the base class of the others.

    A subclass is its `loss_function`, and `loss_weights` where a weight of the loss changes.

    Parameters
    ----------
    ae_net : torch.nn.Module
        Takes a batch of histories; returns the reconstruction, or a tuple with that first. One of
        `pyrec.nets`, or one of your own.
    learning_rate : float
    weight_decay : float
        L2 penalty of Adam on all parameters.

    Attributes
    ----------
    See `TorchNNTrainer`.
    """

    # The values of a history that the likelihood has a meaning for.
    least, most = -math.inf, math.inf

    def __init__(
        self, ae_net: nn.Module, learning_rate: float = 1e-3, *, weight_decay: float = 0.0
    ) -> None:
        super().__init__(ae_net, learning_rate, weight_decay=weight_decay)

    def loss_function(self, prediction: Any, ground_truth: Any) -> Tensor:
        """Return (x_ij - y_ij)², mean over users and items.

        Parameters
        ----------
        prediction : (n, n_items) Tensor or Logits
        ground_truth : (n, n_items) Tensor or Csr

        Returns
        -------
        Tensor, a scalar
        """
        return losses.squared_error(prediction, ground_truth)

    def loss_weights(self) -> dict[str, float]:
        """Return the keyword arguments of `loss_function` at the next update."""
        return {}

    def loss(self, tr_batch: Any, te_batch: Any = None) -> Tensor:
        """Return the loss of a batch, in the mode that the network is in.

        Parameters
        ----------
        tr_batch : (n, n_items) Tensor or Csr
            Or what `pyrec.data.as_csr` takes.
        te_batch : likewise, optional
            The target; by default the batch itself.
        """
        x = self._sparse(self._on_device(tr_batch))
        target = x if te_batch is None else self._sparse(self._on_device(te_batch))
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16"):
            recon, *latents = self._outputs(x)
            return self.loss_function(recon, target, *latents, **self.loss_weights())

    def train_batch(self, tr_batch: Any, te_batch: Any = None) -> float:
        """Update the weights once.

        Parameters
        ----------
        tr_batch : (n, n_items) Tensor or Csr
        te_batch : (n, n_items) Tensor or Csr, optional
            The target; by default the batch itself.

        Returns
        -------
        float
            The loss before the update.

        Raises
        ------
        FloatingPointError
            The loss is NaN or infinite; the weights stay as they were.
        """
        value = self._updated(self.network, self.optimizer, lambda: self.loss(tr_batch, te_batch))
        if self.n_items is None:  # in a loop of the user's own; `train` knows the catalogue
            self.n_items = self._network_items() or int(tr_batch.shape[1])
            self.item_counts = np.zeros(self.n_items, np.int64)
        return value

    def train_epoch(self, epoch: int, train_loader: Any, verbose: int = 1) -> float:
        """Update the weights once a batch.

        Parameters
        ----------
        epoch : int
            Its number, from 1 on.
        train_loader : iterable of (tr, te) pairs or of batches
        verbose : int
            0 silent, 1 a bar, 2 or more also so many lines.

        Returns
        -------
        float
            The mean loss over the rows.
        """
        return training.run_epoch(self, epoch, train_loader, verbose)

    def train(
        self,
        train_data: Any,
        valid_data: Any = None,
        valid_metric: str | None = None,
        valid_func: Any = EVALUATE,
        num_epochs: int = 100,
        verbose: int = 1,
        *,
        best_path: StrPath | None = None,
        seed: int = 0,
        callbacks: Iterable[Callback] = (),
        batch_size: int = 500,
        device: torch.device | str | None = None,
        precision: str | None = None,
        resume: StrPath | None = None,
    ) -> None:
        """Train the network; `history` holds what each epoch gave.

        Ctrl-C ends the training in order: the model stays usable, and `interrupted` is set.

        Parameters
        ----------
        train_data : CSR, Interactions, Histories, dense array or tensor, or sampler
            A matrix is shuffled by a sampler of its own, without its empty rows. A sampler, or a list
            of (tr, te) pairs or of batches, is taken as it is.
        valid_data : pair (tr, te), or sampler, optional
            What `pyrec.evaluation.evaluate` takes.
        valid_metric : str, optional
            ``name@k``; goes with `valid_data`.
        valid_func : ValidFunc
            ``valid_func(model, valid_data, valid_metric)`` returns a value a user.
        num_epochs : int
            Epochs to train; with `resume`, how many the model will have in total.
        verbose : int
            0 silent, 1 a bar and a line an epoch, 2 or more also so many lines within the epoch.
        best_path : path, optional
            With `valid_data`: the file of the best model, which is restored at the end.
        seed : int
            Of the order of the rows, dropout and latent noise; together with the network's initial
            weights it decides the result.
        callbacks : iterable of Callback
        batch_size : int
            Rows a batch, where `train_data` is a matrix.
        device : optional
            Where to train; by default where the network is.
        precision : {"fp32", "bf16"}, optional
            Of the matrix products; by default as before, ``"fp32"`` at first.
        resume : path, optional
            A file that `Checkpoint` or `save_model` wrote, to go on from. Its parameters (`beta`,
            learning rate and so on) replace the model's; `seed`, `batch_size` and the data must be
            those of the first training for the same result.

        Raises
        ------
        ValueError, TypeError, FileNotFoundError
            Before anything is changed: data that is empty or does not fit the network or the
            likelihood, a foreign or truncated file, and so on.
        FloatingPointError
            The loss is NaN or infinite; the message names the epoch and the batch.
        """
        training.run(
            self,
            train_data,
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

    def predict(self, x: Any, remove_train: bool = True) -> tuple[Tensor, ...]:
        """Return the scores of every item, without noise: two calls give the same.

        Parameters
        ----------
        x : (n, n_items) tensor, CSR, Csr, Interactions, Histories, or sampler
            Of a sampler: the inputs of its batches, in order.
        remove_train : bool
            Set the scores of the items of `x` to -inf.

        Returns
        -------
        tuple of tensors
            (n, n_items) scores, dense: keep n small; then what else the network returns: mean and
            log-variance of the latents, (n, latent) each, of variational ones.
        """
        histories = self.histories(x)
        step = RecSysModel._block_rows(self)
        parts = []
        for begin in range(0, max(1, histories.shape[0]), step):
            block = histories[begin : begin + step]
            with self._evaluating():
                recon, *latents = self._answers(block)
                scores = recon if isinstance(recon, Tensor) else recon.dense()
            if remove_train:
                scores[tuple(map(torch.from_numpy, as_csr(block).nonzero()))] = -math.inf
            parts.append((scores, *latents))
        return parts[0] if len(parts) == 1 else tuple(map(torch.cat, zip(*parts, strict=True)))

    def similar_items(self, items: ArrayLike, k: int = 10) -> Recommendations:
        """Return the `k` items whose vectors in the decoder's last layer have the largest cosine.

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
        network: Any = self.network
        if not hasattr(network, "item_factors"):
            return super().similar_items(items, k)
        return self._nearest(numbers, as_array(network.item_factors()[0]), k)

    def training_data(
        self, train_data: Any, batch_size: int, seed: int
    ) -> tuple[Iterable[Any], RecSysModel]:
        """Return the batches to train on, and a copy of the model that knows their catalogue.

        Raises
        ------
        TypeError, ValueError
            Data that is empty, or fits neither the network nor the likelihood; the model stays as
            it was.
        """
        return training.training_data(self, train_data, batch_size, seed)

    def batches(
        self, x: Any, batch_size: int, *, shuffle: bool = False, seed: int = 0, name: str = "x"
    ) -> DataSampler:
        """Return a sampler of histories, in the layout that the network is quickest with."""
        rows = self.histories(x, name)
        self.check_values(rows, name)
        # A network of another make may do with a batch what only a dense tensor can.
        layout = "csr" if self._takes_csr() else "dense"
        place = self.batches_on or self.device
        return DataSampler(rows, None, batch_size, shuffle, layout=layout, seed=seed, device=place)

    def check_values(self, x: sp.csr_array, name: str) -> None:
        """Raise a ValueError unless histories fit the network and the likelihood."""
        n_items = self._network_items()
        if n_items not in (None, x.shape[1]):
            raise ValueError(f"{name} has {x.shape[1]} items, the network has {n_items}")
        if x.nnz and not self.least <= x.data.min() <= x.data.max() <= self.most:
            upper = f"from {self.least:g} to {self.most:g}"
            limits = f"of at least {self.least:g}" if self.most == math.inf else upper
            raise ValueError(
                f"{name} must hold values {limits} for {type(self).__name__}, "
                f"got {x.data.min():g} to {x.data.max():g}"
            )

    def _topk(self, x: sp.csr_array, k: int, seen: Any, allow: Any, deny: Any) -> Recommendations:
        if not hasattr(self.network, "factored"):
            return super()._topk(x, k, seen, allow, deny)
        with self._evaluating():
            logits = self._answers(x)[0]
        h, weight, bias = map(as_array, (logits.h, logits.weight, logits.bias))
        return kernels.topk_factors(h, weight, k, seen, bias=bias, allow=allow, deny=deny)

    def _place(self) -> torch.device | None:
        # Lists follow a `predict` of somebody's own, as on the CPU.
        is_known = hasattr(self.network, "factored") or type(self).predict is AETrainer.predict
        return self.device if native.is_device(self.device) and is_known else None

    def _topk_there(self, x: Any, k: int, seen: Any, allow: Any, deny: Any) -> Any:
        with self._evaluating():
            made = self._outputs_of(on_device.as_taken(x, self._takes_csr()))[0]
        lists = {"seen": seen, "allow": allow, "deny": deny}
        if isinstance(made, Tensor):
            return selection.topk(made, k, **lists)
        return selection.topk_factors(made.h, made.weight, k, bias=made.bias, **lists)

    def _block_rows(self) -> int:
        if not hasattr(self.network, "factored"):
            return super()._block_rows()
        return on_device.encoded_rows(self._place())

    def histories(self, x: Any, name: str = "x") -> Any:
        # A network knows its items before it is trained.
        if self.n_items is None:
            return as_rows(x, self._network_items(), name)
        return super().histories(x, name)

    def _network_items(self) -> int | None:
        """How many items the network takes; None when it does not say."""
        network: Any = self.network
        if hasattr(network, "n_items"):
            return int(network.n_items)
        return int(network.enc_dims[0]) if hasattr(network, "enc_dims") else None

    def _takes_csr(self) -> bool:
        return any(isinstance(layer, SparseLinear) for layer in self.network.modules())

    def _batch(self, x: sp.csr_array) -> Tensor | Csr:
        """Histories as the network takes them, on its device."""
        return self._on_device(Csr.from_scipy(x) if self._takes_csr() else x.toarray())

    def _answers(self, histories: Any) -> tuple[Any, ...]:
        """What the network returns for what `histories` gave, a row a user."""
        return self._outputs_of(self._batch(histories))

    def _outputs_of(self, batch: Any) -> tuple[Any, ...]:
        """The same for histories as the network takes them."""
        return self._outputs(batch)

    def _on_device(self, batch: Any) -> Tensor | Csr:
        if isinstance(batch, np.ndarray):
            batch = torch.from_numpy(batch)
        if isinstance(batch, Tensor):
            return batch.to(self.device, next(self.network.parameters()).dtype)
        if isinstance(batch, Csr):
            return batch.to(self.device)
        return self._batch(as_csr(batch, self._network_items(), "batch"))

    def _sparse(self, batch: Tensor | Csr) -> Tensor | Csr:
        """A dense batch made sparse once, for the first layer and the likelihood both."""
        if isinstance(batch, Csr) or not hasattr(self.network, "factored"):
            return batch
        return Csr.from_dense(batch)

    def _outputs(self, x: Tensor | Csr) -> tuple[Any, ...]:
        """What the network returns, as a tuple; logits not multiplied out where it offers that."""
        network: Any = self.network
        result = network.factored(x) if hasattr(network, "factored") else network(x)
        return result if isinstance(result, tuple) else (result,)
