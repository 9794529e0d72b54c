"""How costs grow with threads, items, users in a call and users in the data.

    python bench/scaling.py --out docs/scaling [--quick] [--only items ...] [--plot-only]

Writes scaling.json and a picture for each figure. All of it is pyrec: rivals are in `make bench`.
A point is the median of the rounds of at least SECONDS together, a run of more than LONG once;
its low and high are the quartiles. Where memory allows, the points of a curve run in turn, so that
what disturbs the machine disturbs them alike.
"""

from __future__ import annotations

import argparse
import json
import os

# As the command `pyrec` does, before torch starts: its threads spin otherwise, and disturb what is
# measured next to them.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date
from functools import cache, lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from contest import SAMPLE_SECONDS, THREADS, Run, peak, reset_peak, set_threads
from data import simulated

from pyrec import kernels
from pyrec.data import datasets
from pyrec.evaluation import evaluate
from pyrec.kernels import likelihood
from pyrec.kernels.tensors import Csr, fast_float32
from pyrec.models import EASE, MultiVAE
from pyrec.nets import MultiVAE_net
from pyrec.samplers import DataSampler
from pyrec.scoring import score

SECONDS, LONG = 0.3, 3.0
FEWEST_ROUNDS, MOST_ROUNDS = 3, 40
MEMORY = 12 << 30  # a point that needs more ends its curve
K, LAM, LENGTH = 100, 500.0, 73  # items of a list; EASE's penalty; interactions a user in the mean
RANK, HIDDEN, LATENT, ROWS = 128, 600, 200, 500
PARQUET = "EASE: Parquet to Parquet"
METRICS = ["ndcg@100", "recall@20", "recall@50"]
MICRO, NANO = 1e6, 1e9


@dataclass(frozen=True)
class Sizes:
    """What is measured. `large` items are those of the figures in which items do not vary."""

    items: tuple[int, ...]
    large: int
    history_users: int
    batches: tuple[int, ...]
    data_users: tuple[int, ...]
    data_items: int


FULL = Sizes(
    items=(1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000),
    large=20_000,
    history_users=50_000,
    batches=(32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16_384, 32_768),
    data_users=(10_000, 30_000, 100_000, 300_000, 1_000_000),
    data_items=5_000,
)
QUICK = Sizes(
    items=(1_000, 2_000, 5_000),
    large=5_000,
    history_users=16_384,
    batches=(32, 128, 512, 2048, 8192),
    data_users=(10_000, 30_000),
    data_items=2_000,
)

# name of a curve -> its unit and points; name of a figure -> its curves.
Curves = dict[str, dict[str, Any]]


# ---------------------------------------------------------------- what is timed


@lru_cache(maxsize=1)
def histories(n_items: int, n_users: int) -> sp.csr_array:
    return datasets.simulate(n_users, n_items, LENGTH * n_users, seed=0).matrix


def random(n: int, m: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((n, m), np.float32)


def topk(x: sp.csr_array, users: int) -> Run:
    return partial(kernels.topk, random(users, x.shape[1]), K, x[:users])


# The weights of the last fit, by the number of items: the largest one is not made twice.
_weights: dict[int, Any] = {}


def fit(x: sp.csr_array) -> None:
    _weights.clear()
    model = EASE(LAM)
    model.train(x)
    _weights[x.shape[1]] = model.weights


def ease_lists(x: sp.csr_array, users: int) -> Run:
    n_items = x.shape[1]
    if n_items not in _weights:
        fit(x)
    if isinstance(_weights[n_items], np.ndarray):
        _weights[n_items] = kernels.pack_weights(_weights[n_items])
    some = x[:users]
    return lambda: kernels.topk_dense_weights(some, _weights[n_items], K, some)


def factors(x: sp.csr_array, users: int) -> Run:
    return partial(
        kernels.topk_factors, random(users, RANK), random(x.shape[1], RANK), K, x[:users]
    )


def likelihood_rows(x: sp.csr_array, users: int) -> Run:
    # In place: from the second run on the logits are gradients, whose likelihood costs the same.
    logits, target = torch.from_numpy(random(users, x.shape[1])), Csr.from_scipy(x[:users])
    return partial(likelihood.nll_in_place, logits, target, None, 1 / users)


def sampling(layout: str, x: sp.csr_array, users: int) -> Run:
    """A pass over the data in batches of so many users."""
    sampler = DataSampler(x, batch_size=users, layout=layout)

    def run() -> None:
        for _ in sampler:
            pass

    return run


@lru_cache(maxsize=1)
def multivae(n_items: int) -> MultiVAE:
    net = MultiVAE_net([LATENT, HIDDEN, n_items], seed=0)
    model = MultiVAE(net, beta=0.2)
    model.train(sp.csr_array(np.eye(ROWS, n_items, dtype=np.float32)), num_epochs=1, verbose=0)
    return model


def multivae_step(x: sp.csr_array, users: int) -> Run:
    model, batch = multivae(x.shape[1]), Csr.from_scipy(x[:users])

    def run() -> None:
        model.network.train()
        with fast_float32():  # as train does
            model.train_batch(batch)

    return run


def multivae_lists(x: sp.csr_array, users: int) -> Run:
    return partial(multivae(x.shape[1]).recommend, x[:users], K)


def negatives(x: sp.csr_array, users: int, threads: int | None = None) -> Run:
    some, marked = x[:users], np.empty((users, x.shape[1]), bool)
    rows = some.indptr.astype(np.int64), some.indices.astype(np.int32)
    how = 0.5, 0, 0, marked
    return lambda: kernels.negatives(*rows, x.shape[1], *how, n_threads=threads)


def ranking(x: sp.csr_array, users: int) -> Run:
    """Lists of items of which any may be relevant."""
    rng = np.random.default_rng(0)
    firsts = rng.integers(x.shape[1], size=(users, 1))
    lists = ((firsts + 7 * np.arange(K)) % x.shape[1]).astype(np.int32)
    return partial(kernels.ranking, lists, x[:users], METRICS)


@dataclass(frozen=True)
class Job:
    """What is done for some users of x: ``make(x, users)`` returns the function that is timed."""

    make: Callable[[sp.csr_array, int], Run]
    users: int  # in a call, where that does not vary
    bytes: Callable[[int, int], int]  # what it takes for (items, users), roughly
    passes: bool = False  # a run is a pass over all rows of x, `users` at a time


JOBS = {
    "top-100 of given scores": Job(topk, ROWS, lambda n, u: 4 * n * u),
    "EASE: history to top-100": Job(ease_lists, 16_384, lambda n, u: 8 * n * n),
    "factors of rank 128 to top-100": Job(factors, 8192, lambda n, u: 8 * RANK * n),
    "likelihood and gradient": Job(likelihood_rows, ROWS, lambda n, u: 4 * n * u),
    "sampling, dense": Job(partial(sampling, "dense"), ROWS, lambda n, u: 8 * n * u, True),
    "sampling, CSR": Job(partial(sampling, "csr"), ROWS, lambda n, u: 0, True),
    "Mult-VAE: training step": Job(
        multivae_step, ROWS, lambda n, u: 32 * HIDDEN * n + min(4 * n * u, 256 << 20)
    ),
    "Mult-VAE: history to top-100": Job(multivae_lists, 8192, lambda n, u: 40 * HIDDEN * n),
    "negatives, half of the items": Job(negatives, 512, lambda n, u: n * u),
    "metrics of lists of 100": Job(ranking, 8192, lambda n, u: 0),
}


# ---------------------------------------------------------------- how it is timed


def sample(run: Run, repeats: int) -> float:
    begin = time.perf_counter()
    for _ in range(repeats):
        run()
    return (time.perf_counter() - begin) / repeats


def in_turn(runs: Mapping[int, Run]) -> dict[int, np.ndarray]:
    """Seconds of each round of each run; a run that takes long has one round."""
    taken: dict[int, list[float]] = {}
    repeats, rounds = {}, {}
    for x, run in runs.items():
        taken[x] = [sample(run, 1)]
        if taken[x][0] < LONG:
            # The first run found memory and caches empty.
            warm = sample(run, 1)
            taken[x] = []
            repeats[x] = max(1, round(SAMPLE_SECONDS / warm))
            wanted = round(SECONDS / (warm * repeats[x]))
            rounds[x] = max(FEWEST_ROUNDS, min(MOST_ROUNDS, wanted))
    for number in range(max(rounds.values(), default=0)):
        for x in [x for x in rounds if number < rounds[x]]:
            taken[x].append(sample(runs[x], repeats[x]))
    return {x: np.array(seconds) for x, seconds in taken.items()}


def add(
    curves: Curves, name: str, unit: str, x: int, seconds: np.ndarray, costs: np.ndarray
) -> None:
    """Add a point to a curve: what each round took, and what that is in the curve's unit."""
    low, median, high = map(rounded, np.percentile(costs, [25, 50, 75]))
    cost = {"cost": median, "low": low, "high": high}
    how = {"seconds": rounded(np.median(seconds)), "rounds": len(seconds)}
    curve = curves.setdefault(name, {"unit": unit, "points": []})
    curve["points"].append({"x": x, **cost, **how})
    print(f"  {name}, {x:,}: {median:g} {unit}", flush=True)


def rounded(value: float) -> float:
    return float(f"{value:.4g}")


def use_threads(n: int) -> None:
    os.environ["PYREC_NUM_THREADS"] = str(n)
    torch.set_num_threads(n)


# ---------------------------------------------------------------- the figures


def threads_figure(sizes: Sizes) -> Curves:
    """Speed-up over one thread, round by round."""
    small, x = simulated("1M"), histories(sizes.large, sizes.history_users)
    runs: dict[str, Run] = {
        "Gram matrix, 3,416 items": partial(kernels.gram, small),
        "EASE: fit, 3,416 items": partial(EASE(LAM).train, small),
    }
    counts = sorted({1 << i for i in range(THREADS.bit_length())} | {THREADS})
    curves: Curves = {}
    for name in [*runs, *JOBS]:
        # Made one at a time: together they would take too much memory.
        run = runs[name] if name in runs else made(JOBS[name], x[:16_384])

        def on(n: int, run: Run = run) -> None:
            use_threads(n)
            run()

        taken = in_turn({n: partial(on, n) for n in counts})
        for n, seconds in taken.items():
            rounds = min(len(seconds), len(taken[1]))
            add(curves, name, "times", n, seconds, taken[1][:rounds] / seconds[:rounds])
        use_threads(THREADS)
    return curves


def items_figure(sizes: Sizes) -> Curves:
    left_out = {"Mult-VAE: history to top-100", "metrics of lists of 100"}
    curves: Curves = {}
    for n in sizes.items:
        x = histories(n, sizes.history_users)
        if 8 * n**2 < MEMORY:
            seconds = in_turn({n: partial(fit, x)})[n]
            add(curves, "EASE: fit", "seconds", n, seconds, seconds)
            shares = 100 * n**3 / limits()["sgemm"] / seconds
            add(curves, "EASE: fit, share of n³", "% of the time", n, seconds, shares)
        for name, job in JOBS.items():
            if name in left_out or job.bytes(n, job.users) > MEMORY:
                continue
            # Dense rows are written one batch after the other: a few of them tell.
            rows = x[: 8 * ROWS] if name == "sampling, dense" else x
            seconds = in_turn({n: made(job, rows)})[n]
            each = rows.shape[0] if job.passes else job.users
            add(curves, name, "µs a user", n, seconds, MICRO * seconds / each)
    return curves


def batch_figure(sizes: Sizes) -> Curves:
    x, curves = histories(sizes.large, sizes.history_users), {}
    names = ["top-100 of given scores", "likelihood and gradient", "sampling, CSR"]
    names += ["EASE: history to top-100", "Mult-VAE: history to top-100", "Mult-VAE: training step"]
    for name in names:
        job = JOBS[name]
        # Only EASE's kernel gains from more users than these.
        most = x.shape[0] if name.startswith("EASE") else 8192
        taken = in_turn({n: made(job, x, n) for n in sizes.batches if n <= most})
        for n, seconds in taken.items():
            each = x.shape[0] if job.passes else n
            add(curves, name, "µs a user", n, seconds, MICRO * seconds / each)
    return curves


def users_figure(sizes: Sizes) -> Curves:
    curves: Curves = {}
    base = histories(sizes.data_items, min(100_000, sizes.data_users[-1]))
    model = EASE(LAM)
    model.train(base)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model.save_model(folder / "ease.safetensors")
        start_up = in_turn({16: score_run(folder, base[:16])})[16]
        for users in sizes.data_users:
            # Beyond the simulated users, the same histories in other memory.
            copies = -(-users // base.shape[0])
            x = sp.vstack([base] * copies, format="csr")[:users]
            jobs = {
                "Gram matrix": (partial(kernels.gram, x), "ns an interaction", x.nnz / NANO),
                "a pass of sampling, CSR": (sampling("csr", x, ROWS), "µs a user", users / MICRO),
                "EASE: evaluate": (evaluation(model, x), "µs a user", users / MICRO),
                PARQUET: (score_run(folder, x), "µs a user", users / MICRO),
            }
            for job, (run, unit, each) in jobs.items():
                seconds = in_turn({users: run})[users]
                add(curves, job, unit, users, seconds, seconds / each)
    curves[PARQUET]["start_up"] = rounded(np.median(start_up))
    return curves


def made(job: Job, x: sp.csr_array, users: int | None = None) -> Run:
    users = users or job.users
    assert users <= x.shape[0], "fewer rows would be counted as so many users"
    return job.make(x, users)


def evaluation(model: EASE, x: sp.csr_array) -> Run:
    held_out = np.random.default_rng(0).random(x.nnz) < 0.2
    parts = []
    for kept in (~held_out, held_out):
        part = sp.csr_array((kept.astype(np.float32), x.indices, x.indptr), x.shape, copy=True)
        part.eliminate_zeros()
        parts.append(part)
    return partial(evaluate, model, tuple(parts), METRICS)


def score_run(folder: Path, x: sp.csr_array) -> Run:
    """A run of `score` from the model's file and a file of users, into a new folder each time."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    lists = pa.ListArray.from_arrays(x.indptr.astype(np.int32), x.indices.astype(np.int64))
    users = folder / f"users-{x.shape[0]}.parquet"
    table = pa.table({"user_id": np.arange(x.shape[0]), "items": lists})
    pq.write_table(table, users, row_group_size=100_000)

    def run() -> None:
        with tempfile.TemporaryDirectory(dir=folder) as out:
            score(folder / "ease.safetensors", users, out, k=K, verbose=0)

    return run


@cache
def limits() -> dict[str, float]:
    """Operations and bytes a second, by BLAS and by reading memory; what waking costs."""
    from scipy.linalg.blas import sgemm

    n = 3072
    a, c = np.asfortranarray(random(n, n)), np.zeros((n, n), np.float32, order="F")
    ones = torch.ones(50_000_000)
    tiny = sp.csr_array(np.eye(8, 64, dtype=np.float32))
    product = in_turn({0: partial(sgemm, 1.0, a, a, 0.0, c, overwrite_c=1)})[0]
    read = in_turn({0: ones.sum})[0]
    # Two tasks of next to no work, on one thread and on two.
    alone, waking = in_turn({k: negatives(tiny, 8, k) for k in (1, 2)}).values()
    return {
        "sgemm": rounded(2 * n**3 / min(product)),
        "read": rounded(ones.nbytes / min(read)),
        "seconds to wake a thread": rounded(np.median(waking) - np.median(alone)),
    }


FIGURES = {
    "threads": (threads_figure, "threads"),
    "items": (items_figure, "items"),
    "batch": (batch_figure, "users in a call"),
    "users": (users_figure, "users in the data"),
}
# The items come first: their largest weights serve the others.
ORDER = ("items", "batch", "threads", "users")


def measure(path: Path, quick: bool, only: list[str]) -> None:
    """Measure figures and write them to `path`, beside those that it has already."""
    report = json.loads(path.read_text()) if path.exists() else {"figures": {}}
    set_threads()
    reset_peak()
    for name in [name for name in ORDER if name in only]:
        print(name)
        begin = time.perf_counter()
        curves = FIGURES[name][0](QUICK if quick else FULL)
        report["figures"][name] = {
            "x": FIGURES[name][1],
            "quick": quick,
            "measured": date.today().isoformat(),
            "seconds": rounded(time.perf_counter() - begin),
            "curves": curves,
        }
    report["machine"] = {
        "cpu": cpu(),
        "threads": THREADS,
        "caches": caches(),
        "limits": limits(),
        "peak GiB": rounded(peak() / 2**20),
        "OMP_WAIT_POLICY": os.environ["OMP_WAIT_POLICY"],
        "versions": {module.__name__: module.__version__ for module in (np, torch)},
    }
    path.write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n")


def cpu() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((x.partition(": ")[2] for x in lines if x.startswith("model name")), "unknown")


def caches() -> dict[str, str]:
    """Sizes of the data caches that the first processor reaches."""
    found = {}
    for folder in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
        kind, level, size = (
            (folder / name).read_text().strip() for name in ("type", "level", "size")
        )
        if kind != "Instruction":
            found[f"L{level}"] = size
    return found


# ---------------------------------------------------------------- the pictures

BLUE, ORANGE, GREY = "#0072B2", "#D55E00", "#767676"  # told apart by colour-blind eyes too
MARKERS = "osD^vP*X"
COLUMNS, PANEL = 3, (3.2, 2.5)
STYLE = {
    "font.size": 10,
    "axes.titlesize": 10.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#E3E3E3",
    "axes.axisbelow": True,
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "pyrec",  # the same numbers give the same file
}


def plot(path: Path) -> None:
    """Draw the figures of scaling.json beside it."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    figures = json.loads(path.read_text())["figures"]
    with pyplot.rc_context(STYLE):
        for name, figure in figures.items():
            drawn = plot_threads(figure) if name == "threads" else plot_panels(figure)
            if figure["quick"]:
                drawn.suptitle("a quick run: not for reading figures off", color=GREY)
            drawn.savefig(path.with_name(f"{name}.svg"), metadata={"Date": None})
            pyplot.close(drawn)


def plot_panels(figure: dict[str, Any]) -> Any:
    """A panel a curve: cost against size."""
    from matplotlib import pyplot

    curves = figure["curves"]
    rows = -(-len(curves) // COLUMNS)
    size = COLUMNS * PANEL[0], rows * PANEL[1]
    drawn, panels = pyplot.subplots(rows, COLUMNS, figsize=size, layout="constrained")
    for panel in panels.flat[len(curves) :]:
        panel.set_visible(False)
    for panel, (name, curve) in zip(panels.flat, curves.items(), strict=False):
        x, cost, low, high = (
            np.array([p[key] for p in curve["points"]]) for key in ("x", "cost", "low", "high")
        )
        bars = np.maximum([cost - low, high - cost], 0)
        panel.errorbar(x, cost, bars, color=BLUE, marker="o", markersize=4, elinewidth=1)
        grows = figure["x"] == "items" and "share" not in name and name != "sampling, CSR"
        if grows:
            power = 3 if name == "EASE: fit" else 1
            grown = cost[-1] * (x / x[-1]) ** power
            panel.plot(x, grown, "--", color=GREY, linewidth=1, label=f"~ items{'³' * (power > 1)}")
            panel.legend(frameon=False, loc="upper left", fontsize=9)
        if "start_up" in curve:
            start_up = MICRO * curve["start_up"] / x
            label = f"start-up of {curve['start_up']:.2g} s, then even"
            panel.plot(
                x, cost[-1] - start_up[-1] + start_up, "--", color=GREY, linewidth=1, label=label
            )
            panel.legend(frameon=False, loc="lower left", fontsize=9)
        is_share = curve["unit"].startswith("%")
        axes(panel, x, cost, grows or (not is_share and cost.max() > 8 * cost.min()))
        panel.set_title(name, loc="left")
        panel.set_ylabel(curve["unit"])
        panel.set_xlabel(figure["x"])
    return drawn


def axes(panel: Any, x: np.ndarray, cost: np.ndarray, logarithmic: bool) -> None:
    """A logarithmic axis of sizes, marked where it was measured, and one of costs."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator

    panel.set_xscale("log")
    some = x[:: -(-len(x) // 6)]
    panel.set_xticks(some, [short(value) for value in some])
    panel.xaxis.set_minor_locator(NullLocator())
    if not logarithmic:
        panel.set_ylim(0, 1.25 * cost.max())
        return
    panel.set_yscale("log")
    panel.set_ylim(cost.min() / 2, 2 * cost.max())
    panel.yaxis.set_major_locator(
        LogLocator(subs=(1, 2, 5) if cost.max() < 50 * cost.min() else (1,))
    )
    panel.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
    panel.yaxis.set_minor_formatter(NullFormatter())


def plot_threads(figure: dict[str, Any]) -> Any:
    """A line a job, a mark for each number of threads."""
    from matplotlib import pyplot

    curves = dict(reversed(figure["curves"].items()))
    counts = [p["x"] for p in next(iter(curves.values()))["points"]]
    size = COLUMNS * PANEL[0], 0.8 + 0.32 * len(curves)
    drawn, panel = pyplot.subplots(figsize=size, layout="constrained")
    for place, n in enumerate(counts):
        points = [next(p for p in curve["points"] if p["x"] == n) for curve in curves.values()]
        cost = np.array([p["cost"] for p in points])
        bars = np.maximum(
            [cost - [p["low"] for p in points], [p["high"] for p in points] - cost], 0
        )
        colour = GREY if n == 1 else BLUE if n == counts[-1] else ORANGE
        panel.axvline(n, linestyle="--", linewidth=1, color=colour)
        panel.errorbar(
            cost,
            range(len(curves)),
            xerr=bars,
            linestyle="",
            marker=MARKERS[place % len(MARKERS)],
            color=colour,
            elinewidth=1,
            label=f"{n} thread{'s' * (n > 1)}",
        )
    panel.set_yticks(range(len(curves)), list(curves))
    panel.set_xlim(0, 1.1 * counts[-1])
    panel.set_xlabel("times the speed of one thread (dashed: as many times as threads)")
    drawn.legend(loc="outside upper right", frameon=False, ncols=len(counts))
    return drawn


def short(n: float) -> str:
    return (
        f"{n / 1e6:g}M" if n >= 1e6 else f"{n / 1e3:g}k" if n >= 1e3 and n % 10 == 0 else f"{n:g}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--out", type=Path, required=True, help="folder of the JSON and the pictures"
    )
    parser.add_argument("--quick", action="store_true", help="small sizes, about a minute")
    parser.add_argument("--only", nargs="+", choices=FIGURES, default=list(FIGURES))
    parser.add_argument("--plot-only", action="store_true", help="draw the JSON again")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / "scaling.json"
    if not options.plot_only:
        measure(path, options.quick, options.only)
    plot(path)


if __name__ == "__main__":
    main()
