"""Jobs of RecBole: its models' own constructors and methods, on a data set that is no more than CSR.

RecBole's configuration, files and batch loader are left out, so its figures are without their cost.
"""

from __future__ import annotations

from itertools import cycle
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from recbole.model.general_recommender import EASE, MultiVAE
from worker import Way, serve


class Config(dict):
    """What the models read of RecBole's configuration, as items and as attributes."""

    device = torch.device("cpu")

    def __init__(self, **options: Any) -> None:
        names = {"USER_ID_FIELD": "user", "ITEM_ID_FIELD": "item", "NEG_PREFIX": "neg_"}
        super().__init__(names, device=self.device, **options)


class Dataset:
    """What the models ask of RecBole's data set."""

    def __init__(self, x: sp.csr_matrix) -> None:
        self.x = x

    def num(self, field: str) -> int:
        return self.x.shape[0] if field == "user" else self.x.shape[1]

    def inter_matrix(self, form: str) -> sp.csr_matrix:
        return self.x

    def history_item_matrix(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """The items of each user and their values, padded with item 0 to the longest history."""
        lengths = np.diff(self.x.indptr)
        items = np.zeros((len(lengths), lengths.max()), np.int64)
        values = np.zeros(items.shape, np.float32)
        taken = np.arange(items.shape[1]) < lengths[:, None]
        items[taken], values[taken] = self.x.indices, self.x.data
        return torch.from_numpy(items), torch.from_numpy(values), torch.from_numpy(lengths)


def ease(x: sp.csr_matrix, lam: float) -> Way:
    """The whole of its constructor: Gram matrix, inverse, weights."""
    config, data = Config(reg_weight=lam), Dataset(x)
    return lambda: EASE(config, data).item_similarity, np.asarray


def multvae(batches: list[sp.csr_matrix], hidden: int, latent: int) -> Way:
    """An update a run, on the next batch.

    The model and its loss are RecBole's; the three lines around the loss are those of its trainer.
    """
    # Item 0 is RecBole's padding: the others follow.
    x = sp.vstack(batches, format="csr")
    data = Dataset(sp.csr_matrix((x.data, x.indices + 1, x.indptr), (x.shape[0], x.shape[1] + 1)))
    config = Config(
        mlp_hidden_size=[hidden],
        latent_dimension=2 * latent,  # RecBole counts means and variances
        dropout_prob=0.5,
        anneal_cap=0.2,
        total_anneal_steps=200_000,
    )
    model = MultiVAE(config, data).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    users = torch.arange(x.shape[0]).split([batch.shape[0] for batch in batches])
    following = cycle(zip(users, batches, strict=True))

    def run() -> tuple[float, float]:
        some, batch = next(following)
        optimizer.zero_grad()
        loss = model.calculate_loss({"user": some})
        loss.backward()
        optimizer.step()
        return loss.item(), batch.nnz / batch.shape[0]

    return run, lambda answer: answer


if __name__ == "__main__":
    serve({job.__name__: job for job in (ease, multvae)})
