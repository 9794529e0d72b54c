"""What happens beside training: histories, stopping early, checkpoints, progress.

A callback is bound to its model, then called with ``(index, logs)``. The logs of an epoch are one
dict: ``loss``, ``seconds`` of training, ``beta`` where the model has one, the validation metric
under its own name, and what callbacks add. They are called in the order given, checkpoints last.
"""

from pyrec.callbacks.base import Callback, Logs
from pyrec.callbacks.control import (
    AnnealingCallback,
    Checkpoint,
    EarlyStopping,
    annealed,
    improves,
)
from pyrec.callbacks.measures import LossHistory, Metrics, ValidationLoss, recommend_k_items
from pyrec.callbacks.progress import ProgressBar, TensorBoard

__all__ = [
    "AnnealingCallback",
    "Callback",
    "Checkpoint",
    "EarlyStopping",
    "Logs",
    "LossHistory",
    "Metrics",
    "ProgressBar",
    "TensorBoard",
    "ValidationLoss",
    "annealed",
    "improves",
    "recommend_k_items",
]
