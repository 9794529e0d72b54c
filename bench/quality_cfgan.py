"""Quality of item-based CFGAN on the split of its paper, mean and spread over seeds; settings below.

    python bench/quality_cfgan.py DATA [--seeds 3]

DATA is a folder with ``ml-100k-cfgan/{train,test}.txt``: user, item and rating in columns.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import scipy.sparse as sp
from published import report

from pyrec.evaluation import evaluate
from pyrec.metrics import summarize
from pyrec.models import EASE, RecSysModel
from pyrec.models.cfgan import CFGAN
from pyrec.nets import CFGAN_D_net, CFGAN_G_net

# Those of the paper's authors, who count whole passes over the items: the steps here are batches.
SETTINGS = {
    "hidden": {"generator": [400], "discriminator": [125]},
    "networks": {"activation": "sigmoid"},
    "output": "linear",
    "model": {
        "alpha": 0.03,
        "s_pm": 0.7,
        "s_zr": 0.7,
        "learning_rate": 1e-4,
        "generator_l2": 1e-3,
    },
    "training": {
        "num_epochs": 250,
        "g_steps": 208,
        "d_steps": 52,
        "batch_size": 32,
        "d_batch_size": 64,
    },
}
EASE_LAM = 400.0
METRICS = [f"{name}@{k}" for name in ("precision", "full_recall", "ndcg", "mrr") for k in (5, 20)]


def read(path: Path) -> np.ndarray:
    """Pairs of user and item; ratings count as 1."""
    return np.loadtxt(path, usecols=(0, 1)).astype(np.int64)


def split(data: Path) -> tuple[sp.csr_array, sp.csr_array]:
    """Training and test matrix, of the users and items of the training."""
    train, test = (read(data / "ml-100k-cfgan" / f"{name}.txt") for name in ("train", "test"))
    axes = [np.unique(column) for column in train.T]

    def matrix(pairs: np.ndarray) -> sp.csr_array:
        known = np.all([np.isin(c, axis) for c, axis in zip(pairs.T, axes, strict=True)], axis=0)
        places = [np.searchsorted(a, c) for a, c in zip(axes, pairs[known].T, strict=True)]
        ones = np.ones(int(known.sum()), np.float32)
        return sp.csr_array((ones, tuple(places)), shape=tuple(map(len, axes)))

    return matrix(train), matrix(test)


def cfgan(n_users: int, seed: int) -> CFGAN:
    layers, networks = SETTINGS["hidden"], SETTINGS["networks"]
    generator = CFGAN_G_net(
        [n_users, *layers["generator"], n_users],
        output=SETTINGS["output"],
        seed=seed,
        **networks,
    )
    discriminator = CFGAN_D_net(
        [2 * n_users, *layers["discriminator"], 1], seed=seed + 1, **networks
    )
    return CFGAN(generator, discriminator, item_based=True, **SETTINGS["model"])


def measured(model: RecSysModel, train: sp.csr_array, test: sp.csr_array) -> dict[str, float]:
    values = summarize(evaluate(model, (train, test), METRICS))
    return {name: value.mean for name, value in values.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    train, test = split(options.data)
    ease = EASE(EASE_LAM)
    ease.train(train)
    linear = measured(ease, train, test)
    runs = []
    for seed in range(options.seeds):
        model, start = cfgan(train.shape[0], seed), time.perf_counter()
        model.train(train, seed=seed, verbose=0, **SETTINGS["training"])
        seconds = time.perf_counter() - start
        own = {**measured(model, train, test), "seconds": seconds}
        runs.append({"EASE": linear, "CFGAN": own})
        print(f"seed {seed}: {runs[-1]}", flush=True)
    report("ML-100K, split of the CFGAN paper", runs)


if __name__ == "__main__":
    main()
