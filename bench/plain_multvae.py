"""Mult-VAE in plain torch: how it is usually written, and how somebody who has measured writes it."""

import torch
import torch.nn.functional as F
from torch import nn

from pyrec.kernels.tensors import Csr


class Dense(nn.Module):
    """Dense batches, dense dropout, log_softmax times the target."""

    def __init__(self, n_items, hidden, latent):
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Linear(n_items, hidden), nn.Tanh(), nn.Linear(hidden, 2 * latent)
        )
        self.decoder = nn.Sequential(
            nn.Linear(latent, hidden), nn.Tanh(), nn.Linear(hidden, n_items)
        )

    def loss(self, x, beta):
        target = x.dense() if isinstance(x, Csr) else torch.from_numpy(x.toarray())
        return self.elbo(self.encoder(F.dropout(F.normalize(target), 0.5)), beta, target)

    def elbo(self, encoded, beta, target):
        mu, logvar = encoded.chunk(2, 1)
        logits = self.decoder(mu + torch.randn_like(mu) * torch.exp(0.5 * logvar))
        likelihood = (F.log_softmax(logits, 1) * target).sum(1).mean()
        kl = -0.5 * (1 + logvar - mu.square() - logvar.exp()).sum(1).mean()
        return beta * kl - likelihood


class Careful(Dense):
    """Sparse input by embedding_bag, dropout on the non-zeros, gathered targets."""

    def __init__(self, n_items, hidden, latent):
        super().__init__(n_items, hidden, latent)
        self.first = nn.EmbeddingBag(n_items, hidden, mode="sum")
        self.first.weight.data.mul_(0.01)
        self.bias = nn.Parameter(torch.zeros(hidden))
        self.encoder = nn.Sequential(nn.Tanh(), nn.Linear(hidden, 2 * latent))

    def loss(self, x, beta):
        indptr, items = torch.as_tensor(x.indptr), torch.as_tensor(x.indices).long()
        counts = indptr.diff()
        rows = torch.repeat_interleave(torch.arange(len(counts), device=items.device), counts)
        values = F.dropout(counts.float().rsqrt()[rows], 0.5)
        bags = indptr[:-1].long()
        h = self.first(items, bags, per_sample_weights=values) + self.bias
        return self.elbo(self.encoder(h), beta, (rows, items, counts))

    def elbo(self, encoded, beta, target):
        rows, items, counts = target
        mu, logvar = encoded.chunk(2, 1)
        logits = self.decoder(mu + torch.randn_like(mu) * torch.exp(0.5 * logvar))
        at = logits.view(-1).index_select(0, rows * logits.shape[1] + items)
        likelihood = (at.sum() - (counts * torch.logsumexp(logits, 1)).sum()) / len(counts)
        kl = -0.5 * (1 + logvar - mu.square() - logvar.exp()).sum(1).mean()
        return beta * kl - likelihood


def trainer(net, bfloat16=False):
    """step(x): one step on a batch, SciPy's CSR or ours on a device, with the fused Adam; returns the loss."""
    place = next(net.parameters()).device.type
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3, fused=True)

    def step(x):
        optimizer.zero_grad()
        with torch.autocast(place, torch.bfloat16, enabled=bfloat16):
            loss = net.loss(x, 0.2)
        loss.backward()
        optimizer.step()
        return loss.item()

    return step
