"""Run the benchmarks and print one table: pyrec, its rivals, the machine's limits, the goals.

    python bench/table.py [--full] [--out FOLDER] [--readme FILE] [pytest arguments]

Writes to the folder ``benchmarks.json`` (pytest-benchmark's, every round), ``table.json``, ``table.md``
and ``ratios.svg``. Times are the quickest rounds: what else a machine does only adds to them. Ratios
are medians over rounds in which both ran, so they hold on a busy machine too. What runs on a GPU is
gpu_check.py's.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
MARKS = "<!-- benchmarks -->", "<!-- end of benchmarks -->"
HEADS = [
    "job",
    "pyrec",
    "best rival",
    "ratio",
    "limit",
    "share",
    "goal",
    "peak memory: pyrec, rival",
]


@dataclass
class Row:
    """A job's figures: seconds, and memory beside the inputs in KiB."""

    job: str
    kernel: bool
    seconds: dict[str, float]  # way by way, the quickest round
    ratios: dict[str, float]  # of each rival's time to pyrec's, the median over the rounds
    memory: dict[str, int]
    rounds: int
    limit: float | None
    why: str  # what the limit is of
    goal: float | None

    @property
    def rival(self) -> str | None:
        """The quickest one."""
        return min(self.ratios, key=lambda name: self.ratios[name], default=None)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("bench-out"))
    parser.add_argument("--readme", type=Path, help="put the table between the marks in this file")
    parser.add_argument("--again", action="store_true", help="from the figures that --out has")
    options, arguments = parser.parse_known_args()
    if "gpu" in arguments:
        parser.error("`-m gpu` has a table of its own: python bench/gpu_check.py --only benchmarks")
    out = options.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    path = out / "benchmarks.json"
    status = 0
    if not options.again:
        path.unlink(missing_ok=True)
        status = subprocess.run(command(path, arguments), cwd=out, check=False).returncode
    if not path.exists():
        return status or 1
    report = json.loads(path.read_text())
    limits, rows = limits_of(report), rows_of(report)
    head = headline(report, limits)
    kept = {"head": head, "limits": limits, "rows": [asdict(row) for row in rows]}
    (out / "table.json").write_text(json.dumps(kept, indent=1) + "\n")
    short = markdown([row for row in rows if not row.kernel])
    (out / "table.md").write_text(
        f"{head}\n\n{short}\n\nKernels alone:\n\n"
        f"{markdown([row for row in rows if row.kernel])}\n\nAll rivals, by their ratios:\n\n"
        f"{all_rivals(rows)}\n"
    )
    if options.readme:
        text = options.readme.read_text()
        begin, end = text.index(MARKS[0]) + len(MARKS[0]), text.index(MARKS[1])
        options.readme.write_text(f"{text[:begin]}\n{head}\n\n{short}\n{text[end:]}")
    from picture import draw

    draw(rows, head, out / "ratios.svg")
    show(head, rows)
    return status


def command(path: Path, arguments: list[str], where: Sequence[str] = ("",)) -> list[str]:
    """The one that writes figures to a path; `where`: files and tests of this folder, by default all.

    To be started elsewhere: in the project's root `-m` would find the sources before the installed wheel.
    """
    start = [sys.executable, "-m", "pytest", "-q", *(f"{HERE}/{name}" for name in where)]
    start += ["-o", "python_files=bench_*.py", "-W", "default", "-p", "no:cacheprovider"]
    start += [f"--benchmark-json={path}", "--benchmark-columns=min,median,rounds"]
    return [*start, "--benchmark-sort=name", *arguments]


def limits_of(report: dict) -> dict[str, float]:
    """Operations or bytes a second, at best."""
    return {
        b["group"].removeprefix("limit: "): b["extra_info"]["amount"] / b["stats"]["min"]
        for b in report["benchmarks"]
        if b["group"].startswith("limit: ")
    }


def rows_of(report: dict) -> list[Row]:
    from jobs import JOBS

    limits = limits_of(report)
    ways: dict[str, dict[str, dict]] = {}
    for b in report["benchmarks"]:
        if "way" in b["extra_info"]:
            ways.setdefault(b["group"], {})[b["extra_info"]["way"]] = b["extra_info"]
    rows = []
    for job in JOBS:
        if "pyrec" not in (found := ways.get(job.name, {})):
            continue
        own = found["pyrec"]["seconds"]
        ratios = {
            name: statistics.median(o / p for o, p in zip(info["seconds"], own, strict=True))
            for name, info in found.items()
            if name != "pyrec"
        }
        rows.append(
            Row(
                job.name,
                job.kernel,
                {name: min(info["seconds"]) for name, info in found.items()},
                ratios,
                {name: info["memory_kib"] for name, info in found.items()},
                len(own),
                job.floor.seconds(limits) if job.floor else None,
                job.floor.why if job.floor else "",
                job.goal,
            )
        )
    return rows


def headline(report: dict, limits: dict[str, float]) -> str:
    of = report["measured_on"]
    measured = [
        f"{name} {limits[name] / 1e9:.0f} {unit}"
        for name, unit in (
            ("sgemm", "GFLOP/s"),
            ("bfloat16 product", "GFLOP/s"),
            ("read", "GB/s"),
            ("write", "GB/s"),
            ("copy", "GB/s"),
        )
        if name in limits
    ]
    return (
        f"Measured on {report['datetime'][:10]}, {of['processor']} ({of['instruction set']}), "
        f"{of['threads']} threads, torch {of['torch']}, NumPy {of['numpy']}, SciPy {of['scipy']}. "
        f"In the same run: {', '.join(measured)}."
    )


def cells(row: Row) -> list[str]:
    own, rival = row.seconds["pyrec"], row.rival
    return [
        row.job,
        time(own),
        f"{time(row.seconds[rival])} ({rival})" if rival else "",
        times(row.ratios[rival]) if rival else "",
        f"{time(row.limit)} ({row.why})" if row.limit else "",
        f"{row.limit / own:.0%}" if row.limit else "",
        f"{time(row.goal)}{'' if own <= row.goal else ' (missed)'}" if row.goal else "",
        ", ".join(memory(row.memory[name]) for name in ("pyrec", rival) if name),
    ]


def markdown(rows: list[Row]) -> str:
    return "\n".join(lines([HEADS, ["---"] * len(HEADS), *(cells(row) for row in rows)]))


def all_rivals(rows: list[Row]) -> str:
    head = ["job", "rounds", "rivals: times pyrec's time, quickest round, memory"]
    body = [
        [
            row.job,
            str(row.rounds),
            "; ".join(
                f"{name} {times(row.ratios[name])} ({time(row.seconds[name])}, {memory(row.memory[name])})"
                for name in sorted(row.ratios, key=lambda name: row.ratios[name])
            ),
        ]
        for row in rows
    ]
    return "\n".join(lines([head, ["---"] * 3, *body]))


def lines(table: list[list[str]]) -> Iterator[str]:
    for line in table:
        yield f"| {' | '.join(line)} |"


def show(head: str, rows: list[Row]) -> None:
    from rich.console import Console
    from rich.table import Table

    console: Any = Console(width=None if sys.stdout.isatty() else 200)
    for kernel in (False, True):
        table = Table(title="Kernels alone" if kernel else "Jobs", title_justify="left")
        for name in HEADS:
            table.add_column(name)
        for row in rows:
            if row.kernel == kernel:
                table.add_row(*cells(row))
        console.print(table)
    console.print(head)


def time(seconds: float) -> str:
    for unit, size in (("s", 1.0), ("ms", 1e-3)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds * 1e6:.3g} µs"


def times(ratio: float) -> str:
    return f"{ratio:.1f}" if ratio >= 1 else f"{ratio:.2g}"


def memory(kib: int) -> str:
    return f"{kib / 2**20:.2f} GiB" if kib >= 2**20 else f"{kib / 2**10:.0f} MiB"


if __name__ == "__main__":
    raise SystemExit(main())
