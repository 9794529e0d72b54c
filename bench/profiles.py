"""Where the time of the three main jobs goes: an EASE fit, an epoch of Mult-VAE, scoring from Parquet to Parquet.

    python bench/profiles.py {ease,multvae,scoring} [--items 20108 ...] [--models EASE,...] [--users 250000]

The functions of a job are timed from outside, each without the functions inside it, so that the parts of
a thread add up to its wall time. Beside a part stands its limit: what the part's operations or bytes take
at the rates of this machine, measured in the same run.
"""

from __future__ import annotations

import argparse
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import wraps
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import scipy.sparse as sp
from contest import THREADS, set_threads
from data import SHAPES

from pyrec.data import datasets

HIDDEN, LATENT, ROWS, K = 600, 200, 500, 100


class Clock:
    """Seconds of named parts, thread by thread; a part inside another counts for itself alone."""

    def __init__(self) -> None:
        self.seconds: dict[tuple[str, str], float] = defaultdict(float)
        self.calls: dict[tuple[str, str], int] = defaultdict(int)
        self._open = threading.local()

    @contextmanager
    def part(self, name: str, lane: str | None = None) -> Iterator[None]:
        """Time a block of code; `lane` names the thread from here on."""
        stack = self._open.__dict__.setdefault("stack", [])
        before = self._open.__dict__.get("lane", "main")
        self._open.lane = lane or before
        stack.append(0.0)
        begin = time.perf_counter()
        try:
            yield
        finally:
            taken = time.perf_counter() - begin
            key = self._open.lane, name
            self.seconds[key] += taken - stack.pop()
            self.calls[key] += 1
            if stack:
                stack[-1] += taken
            self._open.lane = before

    def timed(self, function: Callable[..., Any], name: str, lane: str | None = None) -> Any:
        @wraps(function)
        def run(*args: Any, **options: Any) -> Any:
            with self.part(name, lane):
                return function(*args, **options)

        return run

    def each(self, function: Callable[..., Any], name: str) -> Any:
        """As `timed`, for a function that returns an iterator: what its steps take."""

        @wraps(function)
        def run(*args: Any, **options: Any) -> Iterator[Any]:
            items = iter(function(*args, **options))
            end = object()
            while True:
                with self.part(name):
                    item = next(items, end)
                if item is end:
                    return
                yield item
                del item  # a sampler uses its memory again

        return run


def watch(stack: ExitStack, clock: Clock, places: list[tuple[Any, str, str]]) -> None:
    """Time the functions `owner.name`, each as the part of that title, while the stack is open."""
    for owner, name, title in places:
        stack.enter_context(
            mock.patch.object(owner, name, clock.timed(getattr(owner, name), title))
        )


def report(title: str, wall: float, clock: Clock, limits: dict[str, float], least: float) -> None:
    """Print the parts of each thread; those below the share `least` together."""
    print(f"\n### {title}\n\nwall time {wall:.2f} s")
    for lane in dict.fromkeys(lane for lane, _ in clock.seconds):
        parts = {name: s for (of, name), s in clock.seconds.items() if of == lane}
        large = {name: s for name, s in parts.items() if s >= least * wall or name in limits}
        print(f"\n| {lane} | calls | seconds | share | limit |\n|---|---:|---:|---:|---:|")
        for name, seconds in sorted(large.items(), key=lambda item: -item[1]):
            limit = f"{limits[name]:.2f}" if name in limits else ""
            share = f"{seconds / wall:.1%}"
            print(f"| {name} | {clock.calls[lane, name]} | {seconds:.2f} | {share} | {limit} |")
        rest = sum(parts.values()) - sum(large.values())
        if len(large) < len(parts):
            print(
                f"| {len(parts) - len(large)} smaller parts | | {rest:.2f} | {rest / wall:.1%} | |"
            )
        print(f"| sum | | {sum(parts.values()):.2f} | {sum(parts.values()) / wall:.1%} | |")


def rates() -> dict[str, float]:
    """Operations of a product and bytes read, copied and page-faulted a second."""
    import torch

    from pyrec.kernels.tensors import fast_float32

    def best(work: Callable[[], object]) -> float:
        times = []
        for _ in range(4):
            begin = time.perf_counter()
            work()
            times.append(time.perf_counter() - begin)
        return min(times)

    from scipy.linalg.blas import sgemm

    n = 4096
    a = np.asfortranarray(np.random.default_rng(0).random((n, n), dtype=np.float32))
    c = np.zeros_like(a)
    found = {"sgemm": 2 * n**3 / best(lambda: sgemm(1.0, a, a, 0.0, c, overwrite_c=1))}
    left, right = torch.rand(ROWS, HIDDEN), torch.rand(HIDDEN, 20_108)
    out = torch.empty(ROWS, 20_108)
    with fast_float32():  # a batch's product: less favourable than a square one
        seconds = best(lambda: torch.mm(left, right, out=out))
    found["batch product"] = 2 * ROWS * HIDDEN * 20_108 / seconds
    x, y = torch.ones(50_000_000), torch.zeros(50_000_000)
    found["copy"] = 2 * x.nbytes / best(lambda: y.copy_(x))
    found["fresh memory"] = x.nbytes / best(lambda: np.ones(50_000_000, np.float32))
    print(f"{THREADS} threads; measured: ", end="")
    print(", ".join(f"{name} {rate / 1e9:.1f} G/s" for name, rate in found.items()))
    return found


def shape_of(n_items: int) -> tuple[int, int, int]:
    """MovieLens-20M's shape; with other numbers of items, users in proportion, as long histories."""
    users, items, nnz = SHAPES["20M"]
    n = round(users * n_items / items)
    return n, n_items, nnz * n // users


def simulated(n_items: int) -> sp.csr_array:
    return datasets.simulate(*shape_of(n_items), seed=0).matrix


def ease(x: sp.csr_array, rate: dict[str, float], least: float) -> Any:
    """Fit EASE; return the model."""
    from pyrec import kernels
    from pyrec.models import EASE, closed_form, linear
    from pyrec.models import ease as module

    clock, model, n = Clock(), EASE(500.0), x.shape[1]
    lengths = np.diff(x.indptr).astype(float)
    with ExitStack() as stack:
        watch(
            stack,
            clock,
            [
                (module, "as_rows", "check the histories"),
                (closed_form, "require_memory", "ask for the memory"),
                (kernels, "gram", "Gram matrix"),
                (kernels, "spd_inverse", "inverse"),
                (closed_form, "_residual", "check the inverse"),
                (kernels, "ease_weights", "weights from the inverse"),
                (linear.LinearModel, "_take_items", "count the items"),
            ],
        )
        begin = time.perf_counter()
        with clock.part("rest"):
            model.train(x)
        wall = time.perf_counter() - begin
    limits = {
        # Of the matrix alone, half of which is written; the pairs are added in the cache.
        "Gram matrix": 4 * n**2 / 2 / rate["fresh memory"],
        "inverse": n**3 / rate["sgemm"],
        "weights from the inverse": 2 * 4 * n**2 / rate["copy"],
    }
    pairs = float((lengths * (lengths + 1)).sum() / 2)
    report(f"EASE fit, {x.shape[0]:,} x {n:,}, {x.nnz:,} interactions", wall, clock, limits, least)
    print(f"\nThe Gram matrix adds {pairs / 1e9:.2f} G pairs of items.")
    return model


def multvae(x: sp.csr_array, rate: dict[str, float], least: float, epochs: int = 2) -> Any:
    """Train for some epochs, the first of them apart: its memory is fresh; return the model."""
    import torch

    from pyrec import kernels
    from pyrec.callbacks import Callback
    from pyrec.kernels import tensors
    from pyrec.models import MultiVAE, network_model
    from pyrec.nets import MultiVAE_net

    n = x.shape[1]
    model = MultiVAE(MultiVAE_net([LATENT, HIDDEN, n], seed=0), beta=0.2)
    clocks, walls = [Clock()], []

    def clock_of(function: Any, title: str) -> Any:
        """Time calls by the clock of the epoch under way."""

        @wraps(function)
        def run(*args: Any, **options: Any) -> Any:
            with clocks[-1].part(title):
                return function(*args, **options)

        return run

    def timed(owner: Any, name: str, title: str) -> None:
        made = clock_of(getattr(owner, name), title)
        stack.enter_context(mock.patch.object(owner, name, made))

    class Turn(Callback):
        """Begins a new clock with each epoch."""

        def on_epoch_end(self, index: int, logs: Any) -> None:
            walls.append(logs["seconds"])
            clocks.append(Clock())

    with ExitStack() as stack:
        timed(torch, "addmm", "decoder's products")
        wide_product, row_product = (
            clock_of(torch.mm, title) for title in ("decoder's products", "decoder's bias gradient")
        )
        mm = lambda a, b, **o: (row_product if len(a) == 1 else wide_product)(a, b, **o)
        stack.enter_context(mock.patch.object(torch, "mm", mm))
        timed(tensors, "nll_in_place", "likelihood and its gradient")
        timed(tensors._FusedDecoderNll, "forward", "fused decoder, rest")
        timed(tensors._SparseLinear, "forward", "first layer")
        timed(tensors._core, "sparse_linear_weight_grad", "first layer's gradient")
        timed(tensors, "drop", "normalise and drop")
        timed(tensors, "normalize_rows", "normalise and drop")
        timed(tensors, "zero_grad", "drop the gradients")
        timed(torch.optim.Adam, "step", "Adam")
        timed(torch.autograd, "backward", "backward, rest (narrow layers, accumulation)")
        timed(type(model.network), "factored", "narrow layers, forward")
        timed(model, "train_batch", "step, rest")
        timed(kernels, "permuted", "sampling: order")
        timed(kernels.RowSampler, "rows", "sampling: rows")
        timed(network_model.NetworkModel, "training_data", "check the data")
        timed(model, "train_epoch", "epoch, rest (loop, callbacks)")
        begin = time.perf_counter()
        model.train(x, num_epochs=epochs, best_path=None, verbose=0, callbacks=[Turn()])
        whole = time.perf_counter() - begin
    steps = -(-x.shape[0] // ROWS)
    users = x.shape[0]
    wide = HIDDEN * n
    parameters = sum(p.numel() for p in model.network.parameters())
    limits = {
        "decoder's products": 3 * 2 * users * wide / rate["batch product"],
        "likelihood and its gradient": 2 * 4 * users * n / rate["copy"],
        "Adam": steps * 7 * 4 * parameters / rate["copy"],
        "first layer's gradient": steps * 2 * 4 * wide / rate["copy"],
    }
    for number, wall in enumerate(walls):
        report(
            f"Mult-VAE, epoch {number + 1}: {users:,} users, {n:,} items, {steps} steps",
            wall,
            clocks[number],
            limits,
            least,
        )
    print(f"\nOutside the epochs `train` took {whole - sum(walls):.2f} s.")
    return model


def scoring(
    name: str, n_items: int, n_users: int, folder: Path, rate: dict[str, float], least: float
) -> None:
    """Score users from a Parquet file to a folder with a model from its file."""
    from scoring import train, write_users

    from pyrec import kernels
    from pyrec.models import base
    from pyrec.scoring import fragments, output, pipeline, run, scorer

    name, _, precision = name.partition(":")
    file = folder / f"{name}-{n_items}.safetensors"
    if not file.exists():
        train(name, simulated(n_items), folder).rename(file)
    users = folder / f"users-{n_items}-{n_users}"
    if not users.exists():
        users.mkdir()
        write_users(simulated(n_items), n_users, users)
    clock = Clock()
    with ExitStack() as stack:
        watch(
            stack,
            clock,
            [
                (run, "open_model", "open the model"),
                (run, "model_digest", "hash the model"),
                (run, "_find", "read the footers"),
                (scorer.Scorer, "pack", "pack the weights"),
                (scorer.Scorer, "histories", "read: look up the ids"),
                (scorer.Scorer, "best", "lists, rest"),
                (scorer.Scorer, "table", "write: tables"),
                (pipeline, "write_part", "write: rest (temporary file, fsync)"),
                (output, "_flush", "write: encode and compress"),
                (base.RecSysModel, "recommend", "recommend, rest (checks, joining)"),
                (base, "as_rows", "histories to CSR"),
                (kernels, "topk_dense_weights", "scores and top-k"),
                (kernels, "topk_sparse_weights", "scores and top-k"),
                (kernels, "topk_factors", "decoder and top-k"),
            ],
        )
        if name == "MultiVAE":
            from pyrec.models.ae_trainer import AETrainer

            watch(stack, clock, [(AETrainer, "_answers", "encoder")])
        _name_lanes(stack, clock, fragments, pipeline)
        begin = time.perf_counter()
        with clock.part("rest of the run"):
            run.score(
                str(file),
                str(users),
                str(Path(tempfile.mkdtemp(dir=folder))),
                k=K,
                precision=precision or "fp32",
                verbose=0,
            )
        wall = time.perf_counter() - begin
    title = f"{name} {precision or 'fp32'}, {n_items:,} items, {n_users:,} users, k = {K}"
    limits = {"decoder and top-k": 2 * n_users * HIDDEN * n_items / rate["sgemm"]}
    if name == "EASE":  # read, written to memory that is fresh
        n_bytes = 4 * n_items**2
        limits["pack the weights"] = n_bytes / rate["copy"] + n_bytes / rate["fresh memory"]
    limits = {part: s for part, s in limits.items() if ("main", part) in clock.seconds}
    report(f"scoring, {title}", wall, clock, limits, least)
    lists = sum(s for (_, part), s in clock.seconds.items() if part.endswith("top-k"))
    each = 1e6 / n_users
    print(f"\n{each * wall:.1f} us a user, of them {each * lists:.1f} in the kernel.")


def _name_lanes(stack: ExitStack, clock: Clock, fragments: Any, pipeline: Any) -> None:
    """Tell reader, scorer and writer apart, and what each waits for."""
    blocks = fragments.Fragment.blocks
    writing = pipeline.write_part
    channel = pipeline.Channel

    def in_reader(self: Any, *args: Any) -> Iterator[Any]:
        clock._open.lane = "reader"
        return clock.each(blocks, "read: Parquet, slices")(self, *args)

    def in_writer(*args: Any, **options: Any) -> Any:
        clock._open.lane = "writer"
        return writing(*args, **options)

    stack.enter_context(mock.patch.object(fragments.Fragment, "blocks", in_reader))
    stack.enter_context(mock.patch.object(pipeline, "write_part", in_writer))
    waits = clock.timed(channel.put, "wait for room")
    stack.enter_context(mock.patch.object(channel, "put", waits))
    arriving = clock.each(channel.__iter__, "wait for the next block")
    stack.enter_context(mock.patch.object(channel, "__iter__", arriving))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("job", choices=["ease", "multvae", "scoring"])
    parser.add_argument("--items", type=int, nargs="+", default=[20_108])
    parser.add_argument("--models", default="EASE,ADMM_Slim,MultiVAE", help="of scoring")
    parser.add_argument("--users", type=int, help="of multvae (all) and scoring (250,000)")
    parser.add_argument("--epochs", type=int, default=2, help="of multvae")
    parser.add_argument("--least", type=float, default=0.001, help="least share of a line")
    parser.add_argument("--folder", type=Path, help="where models and users stay for the next call")
    chosen = parser.parse_args()
    set_threads()
    rate = rates()
    for n_items in chosen.items:
        if chosen.job == "ease":
            ease(simulated(n_items), rate, chosen.least)
        elif chosen.job == "multvae":
            multvae(simulated(n_items)[: chosen.users], rate, chosen.least, chosen.epochs)
        else:
            with tempfile.TemporaryDirectory() as temporary:
                folder = chosen.folder or Path(temporary)
                for name in chosen.models.split(","):
                    scoring(name, n_items, chosen.users or 250_000, folder, rate, chosen.least)


if __name__ == "__main__":
    main()
