"""Jobs, the ways of doing them, and how ways are compared: in turn, round by round.

A round runs every way once, so what disturbs the machine disturbs them alike: the ratio of two times of
one round says more than either time, and the median ratio of many rounds more than the best times.
"""

from __future__ import annotations

import ctypes
import gc
import os
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from pyrec import kernels

THREADS = kernels.n_threads()

# A way of a job is a maker: from the job's inputs it makes the function that is timed.
Run = Callable[[], Any]
Maker = Callable[..., Run]

# A sample is as many runs as take this long together: a clock's tick and a thread's waking even out.
SAMPLE_SECONDS = 0.01
# Threads of OpenMP spin for about a millisecond after a run, and would take processors from the next way.
PAUSE = 0.003
# torch's steps take a few runs until no memory is asked of the system; of long runs that is a small part.
WARM_RUNS, WARM_SECONDS = 5, 1.0
MOST_ROUNDS = 40
FEWEST_ROUNDS = 3


def direct(function: Callable[..., Any]) -> Maker:
    """The way that calls the function on the inputs and needs no preparation."""
    return partial(partial, function)


@dataclass(frozen=True)
class Floor:
    """What a job cannot do without: operations of products, bytes that come from and go to memory."""

    why: str
    flop: float = 0
    flop_bf16: float = 0
    read: float = 0
    written: float = 0
    copied: float = 0  # bytes read and bytes written, together
    gpu: bool = False  # whether its limits are those of the GPU

    def seconds(self, limits: dict[str, float]) -> float | None:
        """The time that it takes at the measured limits (operations and bytes a second).

        None where one of them was not measured.
        """
        amounts = {
            "sgemm": self.flop,
            "bfloat16 product": self.flop_bf16,
            "read": self.read,
            "write": self.written,
            "copy": self.copied,
        }
        where = "GPU " if self.gpu else ""
        needed = {where + name: amount for name, amount in amounts.items() if amount}
        if not needed.keys() <= limits.keys():
            return None
        return sum(amount / limits[name] for name, amount in needed.items())


@dataclass(frozen=True)
class Job:
    """A job, what it is done with, and those who do it.

    ``ways`` begins with pyrec. ``check(inputs, answer, way)`` raises AssertionError where an answer is
    wrong. ``full`` jobs have the whole size of MovieLens-20M, ``once`` ones take too long to be run again.
    """

    name: str
    inputs: Callable[[], tuple]
    ways: dict[str, Maker]
    check: Callable[[tuple, Any, str], None]
    floor: Floor | None = None
    goal: float | None = None  # seconds, on the machine that the goals were set for
    full: bool = False
    once: bool = False
    kernel: bool = False  # a kernel alone: its row stands apart in the tables
    gpu: bool = False  # on a CUDA device, all its ways

    @property
    def yardstick(self) -> str | None:
        """The plain way that ratios are kept of: the first rival that needs no environment of its own."""
        own = [n for n, make in self.ways.items() if n != "pyrec" and not hasattr(make, "peer")]
        return own[0] if own else None


@dataclass
class Result:
    """Seconds of each round and memory in KiB, way by way.

    Memory is how far it rose from before a way was prepared to the end of its first run: beside the
    inputs, with all that the way keeps for itself.
    """

    seconds: dict[str, list[float]] = field(default_factory=dict)
    memory: dict[str, int] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)  # ways that cannot run here, and why

    def ratios(self, rival: str) -> list[float]:
        """How many times pyrec's time the rival took, round by round."""
        pairs = zip(self.seconds[rival], self.seconds["pyrec"], strict=True)
        return [other / own for other, own in pairs]


class Missing(Exception):
    """A way that cannot run here; the message says what to install."""


def play(job: Job, seconds: float, only: list[str] | None = None) -> Result:
    """Run the ways of a job in turn for about some seconds (at least FEWEST_ROUNDS rounds)."""
    result = Result()
    inputs = job.inputs()
    with ExitStack() as open_ways:
        runs, first = {}, {}
        for name in only or job.ways:
            before = 0 if job.gpu else reset_peak()
            try:
                run = job.ways[name](*inputs)
                if hasattr(run, "close"):
                    open_ways.callback(run.close)
                first[name], answer, result.memory[name] = _first(run, before)
                job.check(inputs, answer, name)
            except Missing as why:
                result.missing[name] = str(why)
            except Exception as error:
                if not (hasattr(job.ways[name], "peer") or (job.gpu and name != "pyrec")):
                    raise
                # A rival's trouble is its own row's, not that of the whole run: another library's, and on
                # a GPU, which is there too seldom to lose pyrec's figures for it, torch's too.
                result.missing[name] = f"{name} failed: {error}"
            else:
                runs[name] = run
                del answer
        if job.once:
            result.seconds = {name: [taken] for name, taken in first.items()}
        else:
            result.seconds = _rounds(runs, first, seconds)
    return result


def _rounds(runs: dict[str, Run], first: dict[str, float], seconds: float) -> dict[str, list]:
    taken: dict[str, list[float]] = {name: [] for name in runs}
    # The first runs find memory and caches empty, or compile: they tell the number of rounds badly.
    warm = {name: _warm(run, first[name]) for name, run in runs.items()}
    repeats = {name: max(1, min(100, round(SAMPLE_SECONDS / warm[name]))) for name in runs}
    a_round = sum(warm[name] * repeats[name] for name in runs)
    order = list(runs)
    gc.collect()
    gc.disable()
    try:
        for _ in range(max(FEWEST_ROUNDS, min(MOST_ROUNDS, round(seconds / a_round)))):
            for name in order:
                time.sleep(PAUSE)
                taken[name].append(_sample(runs[name], repeats[name]))
            order.reverse()  # neither way always finds the caches as the same other left them
    finally:
        gc.enable()
    return taken


def _warm(run: Run, seconds: float) -> float:
    """Seconds of the last of some runs, after a first one that took `seconds`."""
    if seconds > WARM_SECONDS:
        return seconds
    end = time.perf_counter() + WARM_SECONDS
    for _ in range(WARM_RUNS):
        seconds, _ = _timed(run)
        if time.perf_counter() > end:
            break
    return seconds


def _sample(run: Run, repeats: int) -> float:
    """Seconds of a run, the mean of several; a run that is queued on a device takes them together."""
    if hasattr(run, "sample"):
        return run.sample(repeats)
    return sum(_timed(run)[0] for _ in range(repeats)) / repeats


def _timed(run: Run) -> tuple[float, Any]:
    """Seconds of a run and its answer; a run in another process tells its own."""
    if hasattr(run, "timed"):
        return run.timed()
    begin = time.perf_counter()
    answer = run()
    return time.perf_counter() - begin, answer


def _first(run: Run, before: int) -> tuple[float, Any, int]:
    """The first run: its time, its answer, and how far memory rose above `before` (KiB)."""
    if hasattr(run, "first"):
        return run.first()
    seconds, answer = _timed(run)
    return seconds, answer, peak() - before


def reset_peak() -> int:
    """Start the peak of this process's memory afresh; return what it holds now, in KiB."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # else one way runs in memory that another has left
    Path("/proc/self/clear_refs").write_text("5")
    return _status("VmRSS")


def peak() -> int:
    """The most memory that this process held since `reset_peak`, in KiB."""
    return _status("VmHWM")


def _status(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name))


def set_threads() -> None:
    """Give every contender the same threads, each by its own switch."""
    os.environ["PYREC_NUM_THREADS"] = str(THREADS)
    import torch
    from threadpoolctl import threadpool_limits

    torch.set_num_threads(THREADS)
    threadpool_limits(THREADS, "blas")
