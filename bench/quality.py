"""Quality of the models on real data, mean and spread over seeds; the settings stand below.

    python bench/quality.py ncf|strong|slim|standard DATA [--seeds 3]

DATA is a folder with ``ml-1m/ratings.parquet`` and ``ml-1m/ncf/{train,test}.parquet``.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import scipy.sparse as sp
from published import Result, report

from pyrec import kernels, read_interactions
from pyrec.callbacks import EarlyStopping
from pyrec.data import Interactions, strong_generalization
from pyrec.evaluation import evaluate
from pyrec.metrics import summarize
from pyrec.models import (
    EASE,
    ADMM_Slim,
    MultiDAE,
    MultiVAE,
    Popularity,
    RecSysModel,
    StandardVAE,
)
from pyrec.nets import MultiDAE_net, MultiVAE_net

NCF = {
    "EASE": {"lam": 1320.0},
    "ADMM_Slim": {"lambda1": 2.0, "lambda2": 500.0},
    "latent": 200,
    "dropout": 0.5,
    "lam": 0.0,
    "weight_decay": 0.0,
    "learning_rate": 1e-3,
    "batch_size": 500,
    "num_epochs": 200,
    "patience": 30,
    "metric": "hit@10",
}
STRONG = {
    "heldout": 600,
    "ease": {"lam": 500.0},
    "dae": {"hidden": [], "latent": 200, "dropout": 0.5, "lam": 0.0, "learning_rate": 1e-3},
    "vae": {
        "hidden": [],
        "latent": 200,
        "dropout": 0.5,
        "beta": 0.2,
        "anneal_steps": 1000,
        "learning_rate": 1e-3,
    },
    "batch_size": 250,
    "num_epochs": 200,
    "patience": 25,
    "metric": "ndcg@100",
}
# The grids from which validation chooses.
SLIM = {
    "heldout": 600,
    "lam": [100.0, 200.0, 300.0, 500.0, 700.0, 1000.0, 1500.0, 2000.0],
    "lambda1": [1.0, 2.0, 5.0, 10.0],
    "lambda2": [100.0, 300.0, 1000.0],
    "metric": "ndcg@100",
    "variants": {
        "L1, B >= 0": {},
        "L1": {"nn_constr": False},
        "B >= 0": {"l1_penalty": False},
        "neither": {"nn_constr": False, "l1_penalty": False},
    },
}
STANDARD = {
    "heldout": 600,
    "n_epochs": 100,
    "batch_size": 100,
    "annealing_epochs": 100,
    "anneal_cap": 1.0,
}


def ncf(data: Path, seed: int) -> dict[str, Result]:
    """EASE, ADMM_Slim and Mult-DAE [I-200-I] on the split of He et al. 2017: a user's last item among 99.

    For Mult-DAE one training item a user, drawn at random, is held out to choose the number of epochs; then
    the model is trained on everything for so many.
    """
    folder = data / "ml-1m" / "ncf"
    train = read_interactions(folder / "train.parquet")
    given, held = one_out(train.matrix, seed)
    fit = {k: NCF[k] for k in ("batch_size",)} | {"seed": seed, "verbose": 0}

    def model() -> MultiDAE:
        net = MultiDAE_net([NCF["latent"], train.n_items], dropout=NCF["dropout"], seed=seed)
        kept = {k: NCF[k] for k in ("lam", "learning_rate", "weight_decay")}
        return MultiDAE(net, **kept)

    trial = model()
    stop = EarlyStopping(NCF["metric"], patience=NCF["patience"])
    trial.train(
        given,
        (given, held),
        NCF["metric"],
        num_epochs=NCF["num_epochs"],
        callbacks=[stop],
        **fit,
    )
    epochs = 1 + int(np.nanargmax(trial.history[NCF["metric"]]))
    final = model()
    final.train(train, num_epochs=epochs, **fit)
    models = {name: make(**NCF[name]) for name, make in (("EASE", EASE), ("ADMM_Slim", ADMM_Slim))}
    for linear in models.values():
        linear.train(train)
    models["MultiDAE"] = final
    test = folder / "test.parquet"
    return {name: among_negatives(m, train, test) for name, m in models.items()}


def one_out(x: sp.csr_array, seed: int) -> tuple[sp.csr_array, sp.csr_array]:
    """Split off one interaction a user."""
    drawn = np.random.default_rng(seed).integers(0, np.diff(x.indptr)) + x.indptr[:-1]
    held = x.copy()
    held.data = np.zeros_like(x.data)
    held.data[drawn] = 1
    held.eliminate_zeros()
    return x - held, held


def among_negatives(model: RecSysModel, data: Interactions, path: Path) -> Result:
    """Rank each user's positive among the negatives that the split comes with."""
    test = pq.read_table(path).to_pydict()
    place = {item: number for number, item in enumerate(data.items)}
    row = {user: number for number, user in enumerate(data.users)}

    def lists(items: list[list[int]]) -> sp.csr_array:
        # An item that nobody has in training is in no model: it ranks behind all others.
        known = [
            (row[u], place[i])
            for u, own in zip(test["user_id"], items, strict=True)
            for i in own
            if i in place
        ]
        rows, columns = np.array(known).T
        ones = np.ones(len(rows), np.float32)
        return sp.csr_array((ones, (rows, columns)), shape=data.matrix.shape)

    positives = lists([[item] for item in test["item_id"]])
    among = lists([[p, *n] for p, n in zip(test["item_id"], test["negatives"], strict=True)])
    best = model.recommend(data, 10, allow=among, remove_seen=False)
    values = kernels.ranking(best.items, positives, ["hit@1", "hit@5", "hit@10", "ndcg@10"])
    return {name: float(np.nansum(v)) / data.n_users for name, v in values.items()}


def likes(data: Path) -> Interactions:
    """MovieLens-1M as in the Mult-VAE paper: ratings of 4 and more, users with 5 or more of them."""
    return read_interactions(data / "ml-1m" / "ratings.parquet", min_rating=4).filter(min_user=5)


def strong(data: Path, seed: int) -> dict[str, Result]:
    """Held-out users: EASE, Mult-DAE, Mult-VAE and popularity."""
    split = strong_generalization(likes(data), heldout=STRONG["heldout"], seed=seed)
    n, valid = split.train.n_items, (split.valid_tr, split.valid_te)
    dae, vae = STRONG["dae"], STRONG["vae"]
    models = {
        "Popularity": Popularity(),
        "EASE": EASE(**STRONG["ease"]),
        "MultiDAE": MultiDAE(
            MultiDAE_net([dae["latent"], *dae["hidden"], n], dropout=dae["dropout"], seed=seed),
            lam=dae["lam"],
            learning_rate=dae["learning_rate"],
        ),
        "MultiVAE": MultiVAE(
            MultiVAE_net([vae["latent"], *vae["hidden"], n], dropout=vae["dropout"], seed=seed),
            beta=vae["beta"],
            anneal_steps=vae["anneal_steps"],
            learning_rate=vae["learning_rate"],
        ),
    }
    results = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, model in models.items():
            options = {}
            if name.startswith("Multi"):
                options = {
                    "valid_data": valid,
                    "valid_metric": STRONG["metric"],
                    "num_epochs": STRONG["num_epochs"],
                    "best_path": Path(folder) / name,
                    "batch_size": STRONG["batch_size"],
                    "callbacks": [EarlyStopping(STRONG["metric"], patience=STRONG["patience"])],
                    "seed": seed,
                    "verbose": 0,
                }
            model.train(split.train, **options)
            results[name] = held_out(model, split)
            if options:
                results[name]["epochs"] = 1 + int(np.nanargmax(model.history[STRONG["metric"]]))
    return results


def slim(data: Path, seed: int) -> dict[str, Result]:
    """Held-out users: EASE and the variants of ADMM_Slim, the penalties of each chosen on validation."""
    split = strong_generalization(likes(data), heldout=SLIM["heldout"], seed=seed)
    given = (split.train, (split.valid_tr, split.valid_te), SLIM["metric"])
    paths = {"EASE": EASE.path(*given, lam=SLIM["lam"], verbose=0)}
    for name, flags in SLIM["variants"].items():
        # Without both it is EASE: the same grid.
        grid = {"lambda2": SLIM["lambda2"] if flags.get("nn_constr", True) else SLIM["lam"]}
        if flags.get("l1_penalty", True):
            grid = {name: SLIM[name] for name in ("lambda1", "lambda2")}
        paths[f"ADMM_Slim, {name}"] = ADMM_Slim.path(*given, **grid, **flags, verbose=0)
    results = {}
    for name, path in paths.items():
        model, n_items = path.best, split.train.n_items
        kept = model.weights.nnz if sp.issparse(model.weights) else np.count_nonzero(model.weights)
        best = max(path.points, key=lambda point: point.value)
        results[name] = {
            **held_out(model, split),
            **best.parameters,
            "non-zero": float(kept) / n_items**2,
            "seconds": sum(point.seconds for point in path.points),
        }
    return results


def standard(data: Path, seed: int) -> dict[str, Result]:
    """StandardVAE: beta 1, and the beta at which an annealed training was best on validation."""
    split = strong_generalization(likes(data), heldout=STANDARD["heldout"], seed=seed)
    valid = (split.valid_tr.matrix, split.valid_te.matrix)
    x_valid = valid[0] + valid[1]

    def fitted(epochs: int, **options: float) -> StandardVAE:
        n_users, n_items = split.train.matrix.shape
        model = StandardVAE(
            n_users,
            n_items,
            n_epochs=epochs,
            batch_size=STANDARD["batch_size"],
            seed=seed,
            verbose=0,
            **options,
        )
        model.fit(split.train, x_valid, *valid)
        return model

    annealed = fitted(
        STANDARD["annealing_epochs"], annealing=True, anneal_cap=STANDARD["anneal_cap"]
    )
    beta = annealed.get_optimal_beta()
    with tempfile.TemporaryDirectory() as folder:
        return {
            f"StandardVAE, {name}": {
                **held_out(
                    fitted(STANDARD["n_epochs"], beta=value, save_path=f"{folder}/{name}"), split
                ),
                "beta": value,
            }
            for name, value in (("beta 1", 1.0), ("best beta", beta))
        }


def held_out(model: RecSysModel, split) -> Result:
    names = ["ndcg@100", "recall@20", "recall@50"]
    values = summarize(evaluate(model, (split.test_tr, split.test_te), names))
    return {name: value.mean for name, value in values.items()}


STRONG_PROTOCOL = "ML-1M, rating 4 and more, strong generalisation"
JOBS: dict[str, tuple[str, Callable[[Path, int], dict[str, Result]]]] = {
    "ncf": ("ML-1M, split of the NCF paper", ncf),
    "strong": (STRONG_PROTOCOL, strong),
    "slim": (f"{STRONG_PROTOCOL}, penalties chosen on the validation users", slim),
    "standard": (STRONG_PROTOCOL, standard),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("job", choices=JOBS)
    parser.add_argument("data", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    protocol, run = JOBS[options.job]
    runs = []
    for seed in range(options.seeds):
        runs.append(run(options.data, seed))
        print(f"seed {seed}: {runs[-1]}", flush=True)
    report(protocol, runs)


if __name__ == "__main__":
    main()
