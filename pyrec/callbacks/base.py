"""`Callback`, the base class."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pyrec.models.ae_trainer import AETrainer

__all__ = ["Callback", "Logs"]

Logs = dict[str, Any]


class Callback:
    """Base class: override what is needed.

    To end the training after the current epoch, set ``self.model.stop_training = True``.

    Attributes
    ----------
    model : AETrainer
        The model in training, from `bind` on.
    """

    model: AETrainer

    def bind(self, model: AETrainer) -> None:
        """Take the model; called first, before anything of it is changed."""
        self.model = model

    def on_train_begin(self, logs: Logs) -> None:
        """``logs``: ``num_epochs``, the number of the last epoch of this training."""

    def on_epoch_begin(self, epoch: int, logs: Logs) -> None:
        """``epoch``: from 1 on, over the model's whole life; ``logs``: ``num_batches`` or None."""

    def on_batch_end(self, batch: int, logs: Logs) -> None:
        """``batch``: from 0 on in each epoch; ``logs``: ``loss`` of the batch."""

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        """``logs``: what the epoch gave; what is added to it enters the model's ``history``."""

    def on_train_end(self, logs: Logs) -> None:
        """Called also when the training was interrupted; ``logs``: of the last whole epoch."""

    def state(self) -> dict[str, Any]:
        """Return the JSON values that a checkpoint must keep for this callback."""
        return {}

    def restore(self, state: dict[str, Any]) -> None:
        """Take over what `state` returned; called after `on_train_begin` of a resumed training."""
