"""Callbacks that measure the model after each epoch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from pyrec.callbacks.base import Callback, Logs
from pyrec.callbacks.control import Checkpoint
from pyrec.evaluation import evaluate
from pyrec.files import StrPath
from pyrec.metrics import metric_names, summarize

if TYPE_CHECKING:
    import pyarrow as pa
    import scipy.sparse as sp

    from pyrec.models.ae_trainer import AETrainer
    from pyrec.models.base import RecSysModel

__all__ = ["LossHistory", "Metrics", "ValidationLoss", "recommend_k_items"]


class LossHistory(Callback):
    """The losses of this training, a value an epoch.

    Attributes
    ----------
    losses, val_losses : list of float
        Of the training data; of the validation data, where a `ValidationLoss` comes before.
    """

    def __init__(self) -> None:
        self.losses: list[float] = []
        self.val_losses: list[float] = []

    def on_train_begin(self, logs: Logs) -> None:
        self.losses, self.val_losses = [], []

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        self.losses.append(logs["loss"])
        if "val_loss" in logs:
            self.val_losses.append(logs["val_loss"])

    def state(self) -> dict[str, Any]:
        return {"losses": self.losses, "val_losses": self.val_losses}

    def restore(self, state: dict[str, Any]) -> None:
        self.losses, self.val_losses = list(state["losses"]), list(state["val_losses"])


class ValidationLoss(Callback):
    """Puts ``val_loss`` into the logs: the model's loss of other users, without noise.

    Parameters
    ----------
    x_valid : (n, n_items) CSR, Interactions, Histories, dense array or tensor
    batch_size : int
    """

    def __init__(self, x_valid: Any, batch_size: int = 500) -> None:
        self.x_valid = x_valid
        self.batch_size = batch_size

    def bind(self, model: AETrainer) -> None:
        if not hasattr(model, "batches"):
            raise TypeError(
                f"ValidationLoss needs a model whose loss is one, not {type(model).__name__}"
            )
        super().bind(model)

    def on_train_begin(self, logs: Logs) -> None:
        self._batches = self.model.batches(self.x_valid, self.batch_size, name="x_valid")

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        self.model.network.eval()
        total, users = 0.0, 0
        with torch.no_grad():
            for batch, target in self._batches:
                n = batch.shape[0]
                total, users = total + self.model.loss(batch, target).item() * n, users + n
        logs["val_loss"] = total / users


class Metrics(Callback):
    """NDCG@k of validation users after each epoch; the best model goes to a file.

    Parameters
    ----------
    model : AETrainer
        The model that will be trained.
    val_tr, val_te : (n, n_items) CSR, Interactions, dense array or tensor
        Histories of the validation users, and what was held out.
    mapper : object, (user ids, item ids), or None
        Gives back the user's own ids in `recommended`: an object with
        ``map_back_sparse(matrix, kind)``, or the ids of the rows and of the columns.
    k : int
    save_path : path, optional
        The file of the best model (see `Checkpoint`).

    Attributes
    ----------
    checkpoint : Checkpoint or None
        What writes `save_path`; `train` calls it after all other callbacks.
    """

    def __init__(
        self,
        model: AETrainer,
        val_tr: Any,
        val_te: Any,
        mapper: Any,
        k: int,
        save_path: StrPath | None = None,
    ) -> None:
        self.model = model
        self.val_tr, self.val_te, self.mapper, self.k = val_tr, val_te, mapper, k
        (self.metric,) = metric_names([f"ndcg@{k}"])
        self.checkpoint = None if save_path is None else Checkpoint(save_path, metric=self.metric)
        self._ndcg: list[float] = []

    def bind(self, model: AETrainer) -> None:
        if model is not self.model:
            raise ValueError("Metrics was made for another model than the one that is trained")

    def on_train_begin(self, logs: Logs) -> None:
        self._ndcg = []

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        values = evaluate(self.model, (self.val_tr, self.val_te), [self.metric])
        logs[self.metric] = summarize(values)[self.metric].mean
        self._ndcg.append(logs[self.metric])

    def recommend_k_items(self, x: Any, k: int, remove_seen: bool = True) -> sp.csr_array:
        """Return the scores of the `k` best items of each history, as (n, n_items) SciPy CSR."""
        return recommend_k_items(self.model, x, k, remove_seen)

    def recommended(self) -> pa.Table | Any:
        """Return the `k` best items of the validation users under the user's own ids.

        Returns
        -------
        pyarrow.Table
            ``user_id, item_id, score``, each user's items best first; with a mapper that has
            ``map_back_sparse``: what that returns.
        """
        import pyarrow as pa

        if hasattr(self.mapper, "map_back_sparse"):
            matrix = self.recommend_k_items(self.val_tr, self.k)
            return self.mapper.map_back_sparse(matrix, kind="prediction")
        items, scores = self.model.recommend(self.val_tr, self.k)
        taken = items >= 0
        rows, columns = taken.nonzero()[0], items[taken]
        if self.mapper is not None:
            user_ids, item_ids = map(np.asarray, self.mapper)
            rows, columns = user_ids[rows], item_ids[columns]
        return pa.table({"user_id": rows, "item_id": columns, "score": scores[taken]})

    def get_data(self) -> list[float]:
        """Return NDCG@k of each epoch of this training."""
        return self._ndcg

    def state(self) -> dict[str, Any]:
        return {"ndcg": self._ndcg}

    def restore(self, state: dict[str, Any]) -> None:
        self._ndcg = list(state["ndcg"])


def recommend_k_items(model: RecSysModel, x: Any, k: int, remove_seen: bool = True) -> sp.csr_array:
    """Return the scores of the `k` best items of each history.

    Parameters
    ----------
    model : RecSysModel
        Trained.
    x : (n, n_items) histories, as for ``model.recommend``
    k : int
    remove_seen : bool
        Leave out the items of the history itself.

    Returns
    -------
    (n, n_items) SciPy CSR
        ``k`` scores a row, fewer where fewer items are left.
    """
    import scipy.sparse as sp

    items, scores = model.recommend(x, k, remove_seen=remove_seen)
    taken = items >= 0
    offsets = np.concatenate([[0], np.cumsum(taken.sum(1))])
    shape = (len(items), int(model.n_items or 0))
    matrix = sp.csr_array((scores[taken], items[taken], offsets), shape=shape)
    matrix.sort_indices()
    return matrix
