"""Callbacks that show how a training goes."""

from __future__ import annotations

import sys
from pathlib import Path

from pyrec.callbacks.base import Callback, Logs
from pyrec.files import StrPath

__all__ = ["ProgressBar", "TensorBoard"]


class ProgressBar(Callback):
    """A bar while an epoch runs, and a line when it has ended, on the standard error.

    Parameters
    ----------
    verbose : int
        1: the bar (on a terminal) and a line an epoch; 2 or more: also so many lines within the
        epoch, at most one a batch, where the number of batches is known.
    """

    def __init__(self, verbose: int = 1) -> None:
        self.verbose = verbose

    def on_train_begin(self, logs: Logs) -> None:
        self._last = logs["num_epochs"]

    def on_epoch_begin(self, epoch: int, logs: Logs) -> None:
        from tqdm import tqdm

        self._title = f"epoch {epoch}/{self._last}"
        self._total = logs["num_batches"]
        # disable=None: no bar where the standard error is no terminal
        self._bar = tqdm(
            desc=self._title, total=self._total, leave=False, disable=None, unit="batch"
        )

    def on_batch_end(self, batch: int, logs: Logs) -> None:
        self._bar.update()
        self._bar.set_postfix_str(f"loss {logs['loss']:.4f}", refresh=False)
        if self.verbose > 1 and self._lines(batch + 1) > self._lines(batch):
            self._write(f"{self._title}, batch {batch + 1}: loss {logs['loss']:.4f}")

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        self._bar.close()
        seconds = logs["seconds"]
        values = {name: value for name, value in logs.items() if name != "seconds"}
        text = ", ".join(f"{name} {value:.4f}" for name, value in values.items())
        self._write(f"{self._title}: {text} ({seconds:.1f} s)")

    def on_train_end(self, logs: Logs) -> None:
        if hasattr(self, "_bar"):
            self._bar.close()

    def _lines(self, batches: int) -> int:
        """How many lines are due after so many batches."""
        return batches * self.verbose // self._total if self._total else 0

    def _write(self, line: str) -> None:
        self._bar.write(line, file=sys.stderr)


class TensorBoard(Callback):
    """Writes the logs of each epoch for TensorBoard (needs the extra ``tensorboard``).

    Parameters
    ----------
    folder : path
        Where the event files go; made when it does not exist.
    """

    def __init__(self, folder: StrPath) -> None:
        self.folder = Path(folder)

    def on_train_begin(self, logs: Logs) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise ImportError(
                "the callback TensorBoard needs tensorboard: pip install 'pyrec[tensorboard]'"
            ) from error
        # What an interrupted training wrote beyond its checkpoint is hidden.
        self._writer = SummaryWriter(str(self.folder), purge_step=self.model.epoch + 1)

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        for name, value in logs.items():
            self._writer.add_scalar(name, value, epoch)

    def on_train_end(self, logs: Logs) -> None:
        self._writer.close()
