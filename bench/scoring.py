"""Scoring many users, from files to files: time and peak memory of `pyrec recommend`, each run a process.

    python bench/scoring.py [--users 1000000] [--models EASE,EASE:bf16,ADMM_Slim,MultiVAE] [--ray]

Users are those of simulated data in MovieLens-20M's shape, over and over, each time with another 90 % of
their items; models are trained on that data (MultiVAE for one pass: its speed is that of any weights).
``--ray`` adds a run of the first model on a local Ray beside the local engine, with Ray's start apart.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from contest import THREADS
from data import simulated

K = 100
FILE_USERS = 262_144
KEPT = 0.9


def write_users(x: Any, n: int, folder: Path) -> float:
    """Write the histories of n users, a file for each FILE_USERS; return their mean length."""
    rng = np.random.default_rng(0)
    total = 0
    for begin in range(0, n, FILE_USERS):
        users = np.arange(begin, min(begin + FILE_USERS, n))
        rows = x[users % x.shape[0]]
        kept = rng.random(rows.nnz) < KEPT
        offsets = np.concatenate([[0], np.cumsum(kept)])[rows.indptr].astype(np.int32)
        lists = pa.ListArray.from_arrays(offsets, pa.array(rows.indices[kept].astype(np.int64)))
        table = pa.table({"user_id": users, "items": lists})
        pq.write_table(table, folder / f"users-{begin // FILE_USERS:04d}.parquet")
        total += offsets[-1]
    return total / n


def train(name: str, x: Any, folder: Path) -> Path:
    """Train a model and write its file."""
    from pyrec import models, nets

    path = folder / f"{name}.safetensors"
    if name == "MultiVAE":
        model: Any = models.MultiVAE(nets.MultiVAE_net([200, 600, x.shape[1]]), beta=0.2)
        model.train(x, num_epochs=1, verbose=0)
    else:
        model = models.EASE(500.0) if name == "EASE" else models.ADMM_Slim(5.0, 500.0)
        model.train(x)
    model.save_model(path)
    return path


def recommend(file: Path, users: Path, out: Path, *options: str) -> dict[str, float]:
    """Run the command in a process of its own; return its seconds and its peak memory in GiB."""
    program = "from pyrec.cli import main; main()"
    command = [sys.executable, "-c", program, "recommend", str(file), str(users)]
    command += ["--out", str(out), "--k", str(K), "--quiet", "--json", *options]
    environment = {**os.environ, "PYREC_NUM_THREADS": str(THREADS)}
    start = time.perf_counter()
    child = subprocess.Popen(command, stdout=subprocess.PIPE, env=environment)
    assert child.stdout is not None
    report = json.loads(child.stdout.read())
    if child.wait() != 0:
        raise RuntimeError(f"{' '.join(command)} ended with status {child.returncode}")
    seconds = time.perf_counter() - start
    return {"seconds": seconds, "peak_gib": report["peak_memory"] / 2**30}


def ray_beside_local(file: Path, users: Path, folder: Path) -> dict[str, float]:
    """Both engines from within a process; how long Ray takes to start is measured apart."""
    import ray

    from pyrec.scoring import score

    times = {}
    start = time.perf_counter()
    ray.init(num_cpus=THREADS + 1, include_dashboard=False, log_to_driver=False)
    times["start of Ray"] = time.perf_counter() - start
    for engine in ("local", "ray"):
        start = time.perf_counter()
        score(str(file), str(users), str(folder / engine), k=K, engine=engine, verbose=0)
        times[engine] = time.perf_counter() - start
    ray.shutdown()
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--users", type=int, default=1_000_000)
    parser.add_argument("--models", default="EASE,EASE:bf16,ADMM_Slim,MultiVAE")
    parser.add_argument("--ray", action="store_true")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    arguments = parser.parse_args()
    report: dict[str, Any] = {"threads": THREADS, "users": arguments.users, "k": K}
    x = simulated("20M")
    print(f"threads: {THREADS}; {x.shape[1]:,} items, k = {K}")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        users = folder / "users"
        users.mkdir()
        mean = write_users(x, arguments.users, users)
        print(f"{arguments.users:,} users with {mean:.1f} items in the mean")
        files: dict[str, Path] = {}
        for number, case in enumerate(arguments.models.split(",")):
            model, _, precision = case.partition(":")
            if model not in files:
                files[model] = train(model, x, folder)
            options = ("--precision", precision) if precision else ()
            run = recommend(files[model], users, folder / f"out-{number}", *options)
            each = 1e6 * run["seconds"] / arguments.users
            report[case] = run
            print(
                f"{case:14s} {run['seconds']:7.1f} s  {each:6.1f} us a user  "
                f"{run['peak_gib']:.2f} GiB",
                flush=True,
            )
        if arguments.ray:
            times = ray_beside_local(next(iter(files.values())), users, folder)
            report["engines"] = times
            print("  ".join(f"{name} {seconds:.1f} s" for name, seconds in times.items()))
    if arguments.json:
        arguments.json.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
