"""The baseline of every table."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyrec.models.base import RecSysModel, as_rows

__all__ = ["Popularity"]


class Popularity(RecSysModel):
    """Recommends what most training users have: the score of an item is its number of users."""

    def __repr__(self) -> str:
        return "Popularity()"

    def train(self, train_data: Any) -> None:
        """Count the users of each item.

        Parameters
        ----------
        train_data : (n_users, n_items) CSR, Interactions, dense array or tensor, or sampler
        """
        x = as_rows(train_data, name="train_data")
        self._take_items(train_data, x)

    def predict(self, x: Any, remove_train: bool = True) -> tuple[NDArray[np.float32]]:
        """Return the counts for every history of `x`, -inf on its own items when `remove_train`."""
        histories = self.histories(x)
        scores = self.scores(histories)
        if remove_train:
            scores[histories.nonzero()] = -np.inf
        return (scores,)

    def scores(self, x: Any) -> NDArray[np.float32]:
        """Return the (n, n_items) float32 scores: the same row n times."""
        self._require_trained()
        assert self.item_counts is not None
        return np.tile(self.item_counts.astype(np.float32), (self.histories(x).shape[0], 1))

    def state(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        return {}, {}

    def restore(
        self, parameters: dict[str, Any], tensors: dict[str, NDArray[Any]], n_items: int
    ) -> None:
        if tensors:
            raise ValueError(f"unknown arrays: {', '.join(sorted(tensors))}")
        if parameters:
            raise ValueError(f"unknown parameters: {', '.join(sorted(parameters))}")
