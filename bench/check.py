"""Has a job become slower? Its time beside a plain way's is compared with a stored ratio.

    python bench/check.py [--only TEXT] [--accept] [--baseline FILE]

Ratios, never seconds: a busy or another machine slows both ways. Each row's ratio is the median over
rounds in which pyrec and the yardstick ran one after the other; a row that seems to have fallen is
measured again, in new processes, and only one that has fallen every time is reported. ``--accept``
stores the ratios of four processes, from whose differences the noise of each row is known.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
BASELINE = HERE / "baseline.json"
SECONDS = 1.5
PASSES_TO_ACCEPT = 4
PASSES_TO_FAIL = 3
# A row has fallen when its ratio lacks more than this share, and more than its noise explains; but a
# slowdown of a half, which lacks a third, must not hide behind noise.
LEAST_FALL, MOST_FALL, NOISES = 0.10, 0.27, 4
MORE_INSTRUCTIONS = 0.03


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--accept", action="store_true", help="store what is measured now")
    parser.add_argument("--only", default="", help="rows whose name has this text")
    parser.add_argument("--baseline", type=Path, default=BASELINE)
    parser.add_argument("--seconds", type=float, default=SECONDS, help="to spend on a row, about")
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)  # one pass, in this process
    parser.add_argument("--rows", type=json.loads, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        measure(options)
        return 0
    rows = [name for name in checked_rows() if options.only in name]
    if not rows:
        print(f"no row has {options.only!r} in its name", file=sys.stderr)
        return 2
    if not options.baseline.exists() and (options.only or not options.accept):
        print(f"{options.baseline} is not there: `make bench-accept` stores it", file=sys.stderr)
        return 2
    return accept(options, rows) if options.accept else compare(options, rows)


def checked_rows() -> list[str]:
    """Jobs of a laptop's size whose yardstick needs no environment of its own."""
    from jobs import JOBS

    return [job.name for job in JOBS if job.yardstick and not (job.full or job.gpu)]


def measure(options: argparse.Namespace) -> None:
    """Play rows, each with a slowdown planted where one is given, and write the ratios of their rounds."""
    from contest import play, set_threads
    from jobs import JOBS
    from planted import planted

    set_threads()
    jobs = {job.name: job for job in JOBS}
    ratios = {}
    for name, row, slowdown in options.rows:
        job = jobs[row]
        with planted(slowdown):
            result = play(job, options.seconds, only=["pyrec", job.yardstick])
        ratios[name] = result.ratios(job.yardstick)
    options.measure.write_text(json.dumps(ratios))


def one_pass(
    rows: list[str], seconds: float, slowdowns: dict[str, tuple[str, dict]] | None = None
) -> dict[str, list[float]]:
    """The ratios of the rounds of some rows, measured in a process of their own.

    Or of names that stand for a row and what is planted in it.
    """
    given = [(name, *(slowdowns[name] if slowdowns else (name, None))) for name in rows]
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "ratios.json"
        command = [sys.executable, str(Path(__file__).resolve()), "--measure", str(out)]
        command += ["--rows", json.dumps(given), "--seconds", str(seconds)]
        # From elsewhere: in the project's root `import pyrec` would find the sources.
        subprocess.run(command, cwd=folder, check=True)
        return json.loads(out.read_text())


def accept(options: argparse.Namespace, rows: list[str]) -> int:
    from instructions import count

    if not options.only:
        stored = {"rows": {}, "machine": machine(), "instructions": count()}
    else:
        stored = json.loads(options.baseline.read_text())
        if differences := unlike(stored["machine"], machine()):
            print("rows of another machine or other libraries are kept apart:", *differences)
            return 2
    passes = [one_pass(rows, options.seconds) for _ in range(PASSES_TO_ACCEPT)]
    for name in rows:
        medians = [statistics.median(p[name]) for p in passes]
        stored["rows"][name] = {
            "ratio": round(statistics.median(medians), 3),
            "noise": round(noise(passes, name), 4),
            "processes": [round(median, 3) for median in medians],
        }
    options.baseline.write_text(json.dumps(stored, indent=1, sort_keys=True) + "\n")
    for name in rows:
        print(
            f"{stored['rows'][name]['ratio']:9.2f} ± {stored['rows'][name]['noise']:5.1%}  {name}"
        )
    return 0


def noise(passes: list[dict[str, list[float]]], name: str) -> float:
    """The standard deviation of a pass's median, relative: between processes, and from the rounds."""
    medians = [statistics.median(p[name]) for p in passes]
    between = statistics.stdev(medians) / statistics.mean(medians)
    return max(between, statistics.median(error(p[name]) for p in passes))


def error(ratios: list[float]) -> float:
    """The relative standard error of the median of some rounds, by their median deviation."""
    middle = statistics.median(ratios)
    deviation = 1.4826 * statistics.median(abs(r - middle) for r in ratios)
    return 1.2533 * deviation / middle / len(ratios) ** 0.5


def compare(options: argparse.Namespace, rows: list[str]) -> int:
    stored = json.loads(options.baseline.read_text())
    if differences := unlike(stored["machine"], machine()):
        print("The baseline is of another machine or other libraries:", *differences, sep="\n  ")
        print("Ratios may differ for that alone; `make bench-accept` stores those of this one.\n")
    known = {name for name in stored["rows"] if options.only in name}
    changed = [f"{name}: not in the baseline" for name in rows if name not in known]
    changed += [f"{name}: in the baseline only" for name in sorted(known - set(rows))]
    rows = [name for name in rows if name in stored["rows"]]
    fallen, found = rows, {}
    for number in range(PASSES_TO_FAIL):
        if not fallen:
            break
        # Rows that are asked for again get more rounds.
        result = one_pass(fallen, options.seconds * (1 + number))
        for name in fallen:
            found[name] = statistics.median(result[name])
        fallen = [name for name in fallen if found[name] < least(stored["rows"][name])]
    print(f"{'ratio':>9} {'stored':>9} {'least':>9}  row")
    for name in rows:
        baseline = stored["rows"][name]
        mark = "  FALLEN" if name in fallen else ""
        print(f"{found[name]:9.2f} {baseline['ratio']:9.2f} {least(baseline):9.2f}  {name}{mark}")
    grown, uncounted = more_instructions(stored["instructions"])
    for name in (*fallen, *grown):
        print(f"slower than the baseline: {name}", file=sys.stderr)
    for change in (*changed, *uncounted):
        print(f"{change} (`make bench-accept`)", file=sys.stderr)
    return 1 if fallen or grown or changed or uncounted else 0


def least(row: dict[str, float]) -> float:
    """The ratio below which a row has fallen."""
    return row["ratio"] * (1 - min(max(LEAST_FALL, NOISES * row["noise"]), MOST_FALL))


def more_instructions(stored: dict[str, Any] | None) -> tuple[list[str], list[str]]:
    """The kernels that execute more instructions than stored, and those that are not in both counts.

    None where they cannot be counted.
    """
    from instructions import count

    now = count()
    if not now or not stored or now["built with"] != stored["built with"]:
        print("instructions not compared: no valgrind, or a compiler other than the baseline's")
        return [], []
    grown = []
    changed = sorted(
        f"{name} (instructions): not in both"
        for name in now["counts"].keys() ^ stored["counts"].keys()
    )
    print(f"{'million':>9} {'stored':>9}            instructions")
    for name, number in now["counts"].items():
        before = stored["counts"].get(name)
        mark = "  MORE" if before and number > before * (1 + MORE_INSTRUCTIONS) else ""
        print(f"{number / 1e6:9.2f} {(before or 0) / 1e6:9.2f}            {name}{mark}")
        if mark:
            grown.append(f"{name} (instructions)")
    return grown, changed


def machine() -> dict[str, str]:
    """What ratios depend on."""
    import platform
    from importlib.metadata import version

    from contest import THREADS

    from pyrec import _core

    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {
        "processor": names[0] if names else platform.machine(),
        "threads": str(THREADS),
        "instruction set": _core.instruction_set(),
        "python": platform.python_version(),
        **{name: version(name) for name in ("numpy", "scipy", "torch")},
    }


def unlike(stored: dict[str, str], now: dict[str, str]) -> list[str]:
    return [f"{k}: {stored.get(k)}, now {v}" for k, v in now.items() if stored.get(k) != v]


if __name__ == "__main__":
    raise SystemExit(main())
