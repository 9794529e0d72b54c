"""Quality of SVAE on MovieLens-1M, mean and spread over seeds; the settings stand below.

    python bench/quality_svae.py DATA [--seeds 3] [--first 0] [--set name=value ...] [--verbose]

DATA is a folder with ``ml-1m/svae/{train,validation_tr,validation_te,test_tr,test_te}.parquet``: a row
an interaction, each user's in order of time; users of validation and test are not those of training,
and the last fifth of their items is held out. Validation says after which epoch to stop.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from published import Result, report

from pyrec.callbacks import EarlyStopping
from pyrec.data import Histories
from pyrec.evaluation import evaluate
from pyrec.metrics import summarize
from pyrec.models import EASE, SVAE
from pyrec.nets import SVAE_net

SETTINGS = {
    "embed_size": 256,
    "rnn_size": 200,
    "hidden": 150,
    "latent": 64,
    "pred_type": "next_k",
    "k": 4,
    "beta": 0.2,
    "anneal_steps": 1000,
    "learning_rate": 3e-3,
    "weight_decay": 5e-3,
    "batch_size": 16,
    "num_epochs": 8,
    "patience": 2,
    "precision": "fp32",
}
METRIC = "ndcg@100"
REPORTED = ["ndcg@10", "full_recall@10", "ndcg@100", "full_recall@100"]


def parts_of(folder: Path) -> dict[str, Histories]:
    """The sequences of each file; those of one user stand together, in order."""
    names = ("train", "validation_tr", "validation_te", "test_tr", "test_te")
    tables = {name: pq.read_table(folder / f"{name}.parquet").to_pydict() for name in names}
    n_items = 1 + max(max(table["item_id"]) for table in tables.values())
    users, parts = {}, {}
    for name, table in tables.items():
        user, items = np.array(table["user_id"]), np.array(table["item_id"])
        starts = np.flatnonzero(np.diff(user, prepend=-1))
        users[name] = user[starts]
        parts[name] = Histories(np.append(starts, len(user)), items, n_items)
    for held in ("validation", "test"):
        assert np.array_equal(users[f"{held}_tr"], users[f"{held}_te"])
    return parts


def measured(model, parts: dict[str, Histories]) -> Result:
    tr = parts["test_tr"]
    given = tr if isinstance(model, SVAE) else tr.to_csr()
    values = summarize(evaluate(model, (given, parts["test_te"]), REPORTED))
    return {name: value.mean for name, value in values.items()}


def trained(
    parts: dict[str, Histories], seed: int, settings: dict, verbose: int
) -> tuple[SVAE, Result]:
    """An SVAE, and what its training took."""
    s, n_items = settings, parts["train"].n_items
    net = SVAE_net(
        n_items,
        s["embed_size"],
        s["rnn_size"],
        [s["latent"], s["hidden"], n_items],
        [s["rnn_size"], s["hidden"], s["latent"]],
        seed=seed,
    )
    kept = ("beta", "anneal_steps", "learning_rate", "weight_decay", "pred_type", "k")
    model = SVAE(net, **{name: s[name] for name in kept})
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        model.train(
            parts["train"],
            (parts["validation_tr"], parts["validation_te"]),
            METRIC,
            num_epochs=s["num_epochs"],
            batch_size=s["batch_size"],
            precision=s["precision"],
            best_path=Path(folder) / "best",
            callbacks=[EarlyStopping(METRIC, patience=s["patience"])],
            seed=seed,
            verbose=verbose,
        )
    epochs = model.history[METRIC]
    return model, {
        "epochs": 1 + int(np.argmax(epochs)),
        "validation": max(epochs),
        "seconds": time.perf_counter() - start,
    }


def ease(parts: dict[str, Histories]) -> Result:
    model = EASE(300.0)
    model.train(parts["train"])
    return measured(model, parts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--set", nargs="*", default=[], metavar="name=value")
    parser.add_argument("--verbose", action="store_true", help="a line an epoch")
    options = parser.parse_args()
    settings = dict(SETTINGS)
    for text in options.set:
        name, _, value = text.partition("=")
        settings[name] = type(SETTINGS[name])(value)
    print(json.dumps(settings))
    parts = parts_of(options.data / "ml-1m" / "svae")
    linear = ease(parts)  # it knows no order
    runs = []
    for seed in range(options.first, options.first + options.seeds):
        model, training = trained(parts, seed, settings, int(options.verbose))
        runs.append({"EASE": linear, "SVAE": {**measured(model, parts), **training}})
        print(f"seed {seed}: {runs[-1]}; validation {model.history[METRIC]}", flush=True)
    report("ML-1M, split of the SVAE paper", runs)


if __name__ == "__main__":
    main()
