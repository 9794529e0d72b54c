"""CMultiVAE under a condition against MultiVAE filtered afterwards: ML-1M, genres as conditions.

    python bench/quality_conditioned.py DATA [--seeds 3] [--only NAME]

DATA is a folder with ``ml-1m/ratings.parquet`` and ``ml-1m/movies.dat``. Held-out users as in
``quality.py strong``. Each genre of a test user's held-out items is a request: only items of that
genre are ranked, and the user's held-out items of that genre are relevant. CMultiVAE gets the genre
at its input, MultiVAE's list is filtered by it. All settings stand below.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp
from published import Result, report
from quality import STRONG, STRONG_PROTOCOL, held_out, likes

from pyrec import kernels
from pyrec.callbacks import EarlyStopping
from pyrec.data import ItemConditions, Split, as_csr, read_conditions, strong_generalization
from pyrec.models import CMultiVAE, MultiVAE, RecSysModel
from pyrec.nets import CMultiVAE_net, MultiVAE_net
from pyrec.samplers import BalancedConditionedDataSampler, ConditionedDataSampler

METRICS = ["ndcg@100", "ndcg@10", "recall@20"]
CONDITIONED = {
    "hidden": [200],  # of the encoder: history and condition meet there
    "latent": 200,
    "dropout": 0.5,
    "beta": 0.02,
    "anneal_steps": 0,
    "learning_rate": 1e-3,
    "subsample": 0.5,
    "batch_size": 500,
    "num_epochs": 60,
    "patience": 7,
    "metric": "ndcg@100",
}
# As in quality.py.
PLAIN = {
    **STRONG["vae"],
    **{k: STRONG[k] for k in ("batch_size", "num_epochs", "patience", "metric")},
}
SHARED = ("hidden", "latent", "dropout", "beta", "anneal_steps", "learning_rate")
VARIANTS: dict[str, dict[str, Any]] = {
    "MultiVAE": PLAIN,
    # What of the difference is not the condition's.
    "MultiVAE, CMultiVAE's settings": {**PLAIN, **{k: CONDITIONED[k] for k in SHARED}},
    "CMultiVAE, masked likelihood": {**CONDITIONED, "mask_likelihood": True},
    "CMultiVAE, filtered target": {**CONDITIONED, "mask_likelihood": False},
}


def trained(
    settings: dict[str, Any], split: Split, films: ItemConditions, seed: int, best: Path
) -> RecSysModel:
    """The best epoch on the validation users; of CMultiVAE alone and under each of their genres."""
    n, batch_size, metric = split.train.n_items, settings["batch_size"], settings["metric"]
    net: dict[str, Any] = {
        "dec_dims": [settings["latent"], n],
        "enc_dims": [n, *settings["hidden"], settings["latent"]],
        "dropout": settings["dropout"],
        "seed": seed,
    }
    weights = {k: settings[k] for k in ("beta", "anneal_steps", "learning_rate")}
    data: Any = split.train
    valid: Any = split.valid_tr, split.valid_te
    if "mask_likelihood" not in settings:
        model = MultiVAE(MultiVAE_net(**net), **weights)
    else:
        model = CMultiVAE(
            CMultiVAE_net(films.n_cond, **net),
            **weights,
            mask_likelihood=settings["mask_likelihood"],
        )
        given = films, films.n_cond
        data = BalancedConditionedDataSampler(
            *given, data, None, batch_size, settings["subsample"], layout="csr", seed=seed
        )
        valid = ConditionedDataSampler(*given, *valid, 2000, shuffle=False, layout="csr")
    model.train(
        data,
        valid,
        metric,
        num_epochs=settings["num_epochs"],
        best_path=best,
        batch_size=batch_size,
        callbacks=[EarlyStopping(metric, patience=settings["patience"])],
        seed=seed,
        verbose=0,
    )
    return model


def requests(model: RecSysModel, split: Split, films: ItemConditions) -> Result:
    """Every genre that a test user's held-out items have, as a request of its own."""
    held = split.test_te.matrix
    genres = as_csr(held @ films.matrix)
    users = np.repeat(np.arange(genres.shape[0]), np.diff(genres.indptr))
    relevant = as_csr(held[users].multiply(films.by_condition[genres.indices]))
    x, n = split.test_tr.matrix[users], len(users)
    k = max(int(name.partition("@")[2]) for name in METRICS)
    if isinstance(model, CMultiVAE):
        ones, places = np.ones(n, np.float32), (np.arange(n), genres.indices)
        asked = sp.csr_array((ones, places), shape=(n, films.n_cond))
        best = model.recommend(x, k, condition=asked)
    else:
        best = model.recommend(x, k, allow=films.by_condition[genres.indices])
    values = kernels.ranking(best.items, relevant, METRICS)
    return {f"request {name}": float(np.nanmean(v)) for name, v in values.items()}


def run(data: Path, seed: int, names: list[str]) -> dict[str, Result]:
    split = strong_generalization(likes(data), heldout=STRONG["heldout"], seed=seed)
    films = read_conditions(data / "ml-1m" / "movies.dat").align(split.train.items)
    results = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            start = time.perf_counter()
            model = trained(VARIANTS[name], split, films, seed, Path(folder) / "best")
            results[name] = {
                **requests(model, split, films),
                **held_out(model, split),
                "epochs": model.epoch,
                "seconds": time.perf_counter() - start,
            }
            print(f"seed {seed}, {name}: {results[name]}", flush=True)
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", choices=VARIANTS)
    options = parser.parse_args()
    names = list(VARIANTS) if options.only is None else [options.only]
    runs = [run(options.data, seed, names) for seed in range(options.seeds)]
    report(f"{STRONG_PROTOCOL}; a genre of a held-out film is a request", runs)


if __name__ == "__main__":
    main()
