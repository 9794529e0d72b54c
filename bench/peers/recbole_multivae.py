"""RecBole's MultiVAE on given batches: prints a JSON line with the seconds of each training step.

    python recbole_multivae.py BATCHES.npz HIDDEN LATENT

Runs in an environment of its own (``pip install recbole "numpy<2"``). The class is RecBole's; what
it takes from RecBole's data set, the padded histories of the users, is handed to it directly.
"""

import json
import os
import sys
import time

import numpy as np
import torch
from recbole.model.general_recommender.multivae import MultiVAE


def main(path: str, hidden: int, latent: int) -> None:
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    data = np.load(path)
    n_batches = sum(name.endswith(".indptr") for name in data.files)
    model = make(int(data["n_items"]), hidden, latent)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    seconds = []
    for b in range(n_batches):
        pad(model, data[f"{b}.indptr"], data[f"{b}.indices"])
        users = torch.arange(len(data[f"{b}.indptr"]) - 1)
        start = time.perf_counter()
        optimizer.zero_grad()
        loss = model.calculate_loss({model.USER_ID: users})
        loss.backward()
        optimizer.step()
        assert np.isfinite(loss.item())
        seconds.append(time.perf_counter() - start)
    print(json.dumps({"seconds": seconds}))


def make(n_items: int, hidden: int, latent: int) -> MultiVAE:
    """The model without RecBole's configuration: the attributes that its methods read."""
    model = MultiVAE.__new__(MultiVAE)
    torch.nn.Module.__init__(model)
    model.n_items, model.device, model.USER_ID = n_items, torch.device("cpu"), "user_id"
    model.layers, model.lat_dim, model.drop_out = [hidden], 2 * latent, 0.5
    model.anneal_cap, model.total_anneal_steps, model.update = 0.2, 200_000, 0
    model.encoder = model.mlp_layers([n_items, hidden, 2 * latent])
    model.decoder = model.mlp_layers([latent, hidden, n_items])
    return model.train()


def pad(model: MultiVAE, indptr: np.ndarray, indices: np.ndarray) -> None:
    lengths = np.diff(indptr)
    items = np.zeros((len(lengths), lengths.max()), np.int64)
    values = np.zeros(items.shape, np.float32)
    taken = np.arange(items.shape[1]) < lengths[:, None]
    items[taken], values[taken] = indices, 1
    model.history_item_id = torch.from_numpy(items)
    model.history_item_value = torch.from_numpy(values)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
