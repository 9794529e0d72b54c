"""Data, threads and limits that all benchmarks share."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from pyrec import _core, kernels
from pyrec.data import datasets

THREADS = kernels.n_threads()
# Users x items and interactions of MovieLens-20M and MovieLens-1M, filtered as the papers do.
SHAPES = {"20M": (136_677, 20_108, 10_000_000), "1M": (6_040, 3_416, 800_000)}


def pytest_configure(config):
    # Each contender gets the same threads, from its own switch.
    os.environ["PYREC_NUM_THREADS"] = str(THREADS)
    import torch

    torch.set_num_threads(THREADS)


def pytest_report_header(config):
    return f"threads: {THREADS}, instruction set: {_core.instruction_set()}"


@pytest.fixture(scope="session", params=SHAPES)
def interactions(request):
    """CSR of ones in the shape of a MovieLens set."""
    return simulated(request.param)


_made = {}


def simulated(name):
    if name not in _made:
        _made[name] = datasets.simulate(*SHAPES[name], seed=0).matrix
    return _made[name]


@pytest.fixture
def measured(benchmark):
    """measured(f, *args, rounds=n): run, time, and note how far memory rose above where it stood."""

    def run(f, *args, rounds=5, warmup=1):
        result = []

        def once():
            result.clear()  # a round's result goes before the next round allocates its own
            result.append(f(*args))

        before = _reset_peak()
        benchmark.pedantic(once, rounds=rounds, warmup_rounds=warmup)
        benchmark.extra_info["peak_mib"] = round((_status("VmHWM") - before) / 1024)
        return result[0]

    return run


def _reset_peak() -> int:
    """Start the process's peak memory afresh; return what it holds now, in KiB."""
    Path("/proc/self/clear_refs").write_text("5")
    return _status("VmRSS")


def _status(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name))


def assert_same_lists(result, expected, scores):
    """The same scores at every rank: items may differ where rivals break ties otherwise."""
    rows = np.arange(len(scores))[:, None]
    np.testing.assert_allclose(scores[rows, result], scores[rows, expected], rtol=1e-6)


class Replayed:
    """A clock for times that another process measured: read before and after, it goes on by the next."""

    def __init__(self, times):
        self.times, self.now, self.running = times, 0.0, False

    def __call__(self):
        if self.running:
            self.now += next(self.times)
        self.running = not self.running
        return self.now
