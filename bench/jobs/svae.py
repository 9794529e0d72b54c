"""An epoch of SVAE beside the way it is published: one user at a time, dense targets.

Users of MovieLens-1M's shape (3,416 items), 64 of them; the layers of the paper (Sachdeva et al. 2019).
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from contest import Job
from data import simulated
from torch import nn

from pyrec.data import Histories
from pyrec.models import SVAE
from pyrec.nets import SVAE_net
from pyrec.samplers import SVAE_Sampler

USERS, ROWS, K = 64, 64, 4
EMBED, RNN, HIDDEN, LATENT, BETA = 256, 200, 150, 64, 0.2


def histories():
    x = simulated("1M")[:USERS]
    rng = np.random.default_rng(0)
    lists = [rng.permutation(x.indices[x.indptr[u] : x.indptr[u + 1]]) for u in range(USERS)]
    return (Histories.from_lists(lists, x.shape[1]),)


class OneByOne(nn.Module):
    """The published training: a user a step, a dense target a step of the sequence."""

    def __init__(self, n_items):
        super().__init__()
        self.n_items = n_items
        self.embed = nn.Embedding(n_items, EMBED)
        self.gru = nn.GRU(EMBED, RNN, batch_first=True)
        self.encoder = nn.Sequential(
            nn.Linear(RNN, HIDDEN), nn.Tanh(), nn.Linear(HIDDEN, 2 * LATENT)
        )
        self.decoder = nn.Sequential(
            nn.Linear(LATENT, HIDDEN), nn.Tanh(), nn.Linear(HIDDEN, n_items)
        )

    def loss(self, sequence):
        inputs = torch.from_numpy(sequence[None, :-1].astype(np.int64))
        target = torch.zeros(len(sequence) - 1, self.n_items)
        for t in range(len(sequence) - 1):
            target[t, sequence[t + 1 : t + 1 + K]] = 1
        mu, logvar = self.encoder(self.gru(self.embed(inputs))[0][0]).chunk(2, 1)
        z = mu + torch.randn_like(mu) * torch.exp(logvar / 2)
        each = -(target * F.log_softmax(self.decoder(z), 1)).sum(1) / target.sum(1)
        kl = -0.5 * (1 + logvar - mu.square() - logvar.exp()).sum(1).mean()
        return each.sum() + BETA * kl


def one_by_one(histories):
    model = OneByOne(histories.n_items)
    optimizer = torch.optim.Adam(model.parameters(), fused=True)

    def epoch():
        total = 0.0
        for u in range(len(histories)):
            optimizer.zero_grad()
            loss = model.loss(histories[u])
            loss.backward()
            optimizer.step()
            total += loss.item()
        return total / len(histories)

    return epoch


def pyrec(histories):
    n = histories.n_items
    net = SVAE_net(n, EMBED, RNN, [LATENT, HIDDEN, n], [RNN, HIDDEN, LATENT])
    model = SVAE(net, beta=BETA)
    sampler = SVAE_Sampler(n, histories, None, "next_k", K, batch_size=ROWS)
    return lambda: model.train_epoch(1, sampler, 0)


def check_loss(inputs, loss, way):
    """A few updates more or less, of the same loss: that of guessing among all items at first."""
    (sequences,) = inputs
    steps = np.diff(sequences.offsets).mean() - 1
    assert 0.5 < loss / (steps * np.log(sequences.n_items)) < 1.1


JOBS = [
    Job(
        f"SVAE epoch of {USERS} users",
        histories,
        {"pyrec": pyrec, "torch, one user at a time": one_by_one},
        check_loss,
    )
]
