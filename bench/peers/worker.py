"""The peer's side of the pipe: makes the inputs of a job, runs it when asked, tells seconds and memory.

One JSON object a line. At the start the worker says ``{}``: ready. To ``{}`` it answers
``{"seconds": ...}``; to ``{"answer": path}`` it also saves there what the run returned, and tells
how far memory rose. Standard library, NumPy and SciPy alone, of any version that a peer wants.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp

# A job makes, from inputs and options, the function that is timed and another that turns what it
# returned into an answer like pyrec's, outside the clock.
Way = tuple[Callable[[], Any], Callable[[Any], Any]]

THREADS = int(os.environ.get("OMP_NUM_THREADS", "1"))
PR_SET_PDEATHSIG = 1


def serve(jobs: dict[str, Callable[..., Way]]) -> None:
    """Serve the job that the command line names until the pipe is closed."""
    # A stopped process would outlive a parent that was killed.
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # libraries print what they like to stdout; it is not in the way of the replies
    # For those who ask for the number of processors and not for any of the variables.
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:THREADS])
    name, path = sys.argv[1:]
    inputs, options = load(Path(path))
    before = _reset_peak()
    run, present = jobs[name](*inputs, **options)
    del inputs
    gc.freeze()  # irspack collects garbage while it fits: not among all that was imported
    reply: dict[str, Any] = {}
    while True:
        print(json.dumps(reply), file=replies, flush=True)
        line = sys.stdin.readline()
        if not line:
            return
        request = json.loads(line)
        if "answer" in request:
            seconds, answer = _timed(run)
            reply = {"seconds": seconds, "memory": _status("VmHWM") - before}
            save(Path(request["answer"]), present(answer))
        else:
            seconds, answer = _timed(run)
            reply = {"seconds": seconds}
        del answer


def _timed(run: Callable[[], Any]) -> tuple[float, Any]:
    gc.disable()
    begin = time.perf_counter()
    answer = run()
    seconds = time.perf_counter() - begin
    gc.enable()
    return seconds, answer


def _reset_peak() -> int:
    """As contest.reset_peak, which this process cannot import."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    return _status("VmRSS")


def _status(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name))


def save(folder: Path, value: Any) -> None:
    """Write arrays, CSR matrices, numbers and texts, in tuples, lists and dicts."""
    folder.mkdir(exist_ok=True)
    arrays: list[np.ndarray] = []
    (folder / "value.json").write_text(json.dumps(_describe(value, arrays)))
    for number, array in enumerate(arrays):
        np.save(folder / f"{number}.npy", array)


def load(folder: Path) -> Any:
    """What `save` wrote; a tuple comes back as a list, a sparse array as a csr_matrix."""
    return _restore(json.loads((folder / "value.json").read_text()), folder)


def _describe(value: Any, arrays: list[np.ndarray]) -> Any:
    """The value in JSON, its arrays by their numbers."""
    if sp.issparse(value):
        csr = value.tocsr()
        parts = [_describe(part, arrays) for part in (csr.data, csr.indices, csr.indptr)]
        return {"csr": parts, "shape": list(map(int, csr.shape))}
    if isinstance(value, np.ndarray):
        arrays.append(np.asarray(value))  # of a np.matrix: the array
        return {"array": len(arrays) - 1}
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, dict):
        return {"dict": {key: _describe(part, arrays) for key, part in value.items()}}
    if isinstance(value, (list, tuple)):
        return [_describe(part, arrays) for part in value]
    return value


def _restore(value: Any, folder: Path) -> Any:
    if isinstance(value, list):
        return [_restore(part, folder) for part in value]
    if not isinstance(value, dict):
        return value
    if "csr" in value:
        # Libraries of before SciPy's sparse arrays know matrices alone.
        return sp.csr_matrix(tuple(_restore(value["csr"], folder)), shape=value["shape"])
    if "array" in value:
        return np.load(folder / f"{value['array']}.npy")
    return {key: _restore(part, folder) for key, part in value["dict"].items()}
