"""Would a slowdown be seen? Each native kernel in turn is made to take half as long again.

    python bench/planted.py [--only KERNEL] [--factor 1.5]

``check.py`` has two ways to see one, and both are tried. Time: a kernel's function is replaced by one
that calls it and then waits; the row in which the kernel has the largest share should fall. Instructions:
the function is called three times for twice, and those that are counted should grow. Prints a line a
kernel, and fails where one went unseen by both.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pyrec import _core

CLASSES = ("Rows", "ConditionedRows")
# No kernels: they say how much memory is needed, or are a sum of numbers that are already there.
ANSWERS = {
    "instruction_set",
    "admm_rows",
    "packed_weights_bytes",
    "size_of",
    "n_examples",
    "n_alone",
    "before",
    "counts",
}


def kernels() -> dict[str, tuple[Any, str]]:
    """Where each kernel's function is to be found, by its name."""
    found: dict[str, tuple[Any, str]] = {}
    for owner in (_core, *(getattr(_core, name) for name in CLASSES)):
        prefix = "" if owner is _core else f"{owner.__name__}."
        for name, value in vars(owner).items():
            is_function = callable(value) and not isinstance(value, type)
            if is_function and not name.startswith("_") and name not in ANSWERS:
                found[prefix + name] = owner, name
    return found


@contextmanager
def planted(slowdown: dict | None) -> Iterator[None]:
    """Within it the kernel of that name takes `factor` times its time."""
    if slowdown is None:
        yield
        return
    factor = slowdown["factor"]

    def wrap(function):
        def slow(*args, **options):
            begin = time.perf_counter()
            result = function(*args, **options)
            end = begin + factor * (time.perf_counter() - begin)
            while time.perf_counter() < end:
                pass
            return result

        return slow

    owner, name = kernels()[slowdown["kernel"]]
    function = getattr(owner, name)
    setattr(owner, name, wrap(function))
    try:
        yield
    finally:
        setattr(owner, name, function)


def shares(rows: list[str]) -> dict[str, tuple[str, float]]:
    """For each kernel the row of which it is the largest share, and that share."""
    from contest import set_threads
    from jobs import JOBS

    set_threads()
    inside = dict.fromkeys(kernels(), 0.0)

    def timed(kernel):
        def wrap(function):
            def run(*args, **options):
                begin = time.perf_counter()
                try:
                    return function(*args, **options)
                finally:
                    inside[kernel] += time.perf_counter() - begin

            return run

        return wrap

    for kernel, (owner, name) in kernels().items():
        setattr(owner, name, timed(kernel)(getattr(owner, name)))
    best = {kernel: ("", 0.0) for kernel in inside}
    for job in JOBS:
        if job.name not in rows:
            continue
        run = job.ways["pyrec"](*job.inputs())
        run()
        for kernel in inside:
            inside[kernel] = 0.0
        begin = time.perf_counter()
        for _ in range(3):
            run()
        total = time.perf_counter() - begin
        for kernel, seconds in inside.items():
            if seconds / total > best[kernel][1]:
                best[kernel] = job.name, seconds / total
    return best


def growth(stored: dict[str, Any] | None) -> dict[str, float]:
    """How many more instructions each native function makes of the counted kernels that call it, at most."""
    import instructions

    planted_counts = instructions.count("--planted") if stored else None
    if planted_counts is None:
        return {}
    more: dict[str, float] = {}
    for name, number in planted_counts["counts"].items():
        kernel, _, native = name.partition(": ")
        if before := stored["counts"].get(kernel):
            more[native] = max(more.get(native, 0.0), number / (2 * before) - 1)
    return more


def main() -> int:
    import check

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="kernels whose name has this text")
    parser.add_argument("--factor", type=float, default=1.5)
    arguments = parser.parse_args()
    if not check.BASELINE.exists():
        parser.error(f"{check.BASELINE} is not there: `make bench-accept` stores it")
    baseline = json.loads(check.BASELINE.read_text())["rows"]
    found = {k: v for k, v in shares(list(baseline)).items() if arguments.only in k}
    slowdowns = {
        kernel: (row, {"kernel": kernel, "factor": arguments.factor})
        for kernel, (row, _) in found.items()
        if row
    }
    seen, ratios = list(slowdowns), {}
    for number in range(check.PASSES_TO_FAIL):
        result = check.one_pass(seen, check.SECONDS * (1 + number), slowdowns)
        ratios |= {kernel: statistics.median(rounds) for kernel, rounds in result.items()}
        seen = [k for k in seen if ratios[k] < check.least(baseline[slowdowns[k][0]])]
    grown = growth(json.loads(check.BASELINE.read_text())["instructions"])
    print(f"{'share':>6} {'ratio':>8} {'stored':>8} {'least':>8} {'instructions':>12}  kernel, row")
    for kernel, (row, share) in found.items():
        of = baseline.get(row, {"ratio": math.nan, "noise": math.nan})
        more = f"{grown[kernel]:+.0%}" if kernel in grown else "not counted"
        print(
            f"{share:6.0%} {ratios.get(kernel, math.nan):8.2f} {of['ratio']:8.2f} "
            f"{check.least(of):8.2f} {more:>12}  {kernel}, {row}"
        )
    by_count = {kernel for kernel, more in grown.items() if more > check.MORE_INSTRUCTIONS}
    print(
        f"of {len(found)} seen by time: {len(seen)}, by instructions: {len(by_count & set(found))}"
    )
    unseen = [kernel for kernel in found if kernel not in {*seen, *by_count}]
    if unseen:
        print("unseen:", ", ".join(unseen))
    return 1 if unseen else 0


if __name__ == "__main__":
    raise SystemExit(main())
