"""All that a GPU can tell: the tests, the benchmarks with their table, compute-sanitizer over the kernels' tests.

    python bench/gpu_check.py [--out FOLDER] [--only STAGE] [--laptop]

Writes FOLDER/gpu.md: the device, what passed and when, the table of speeds; FOLDER/gpu.json: the same as
figures. Both are written anew whenever something is known, each benchmark too, so nothing is lost to what
comes after. ``--only`` runs one stage (tests, benchmarks or sanitizer; it can be given twice), and keeps
what the files say of the others if it was the same device. Ends with 1 where anything failed, with 2 and no
files where there is no GPU to ask.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import table

ROOT = Path(__file__).resolve().parents[1]
# Against what never ends. A stage of tests takes minutes, a benchmark seconds, with its data a minute.
TESTS_SECONDS, JOB_SECONDS = 900, 300
ENDED_BY_TIME = (124, 137)  # exit statuses of timeout(1)
# To spend on a benchmark's rounds, about.
ROUNDS_SECONDS = "2"
# Each tool watches every thread of pyrec's kernels: long for the models' tests, minutes for the kernels'.
# Errors of calls are exceptions in pyrec; torch makes some that it expects.
SANITIZERS = {"memcheck": ["--report-api-errors", "no"], "racecheck": []}
KERNEL_TESTS = [
    path for path in sorted(ROOT.glob("tests/test_gpu_*.py")) if "models" not in path.name
]
HEADS = [
    *["job", "pyrec", "achieved", "limit", "share of it", "goal", "best rival", "ratio"],
    "peak memory on the device: pyrec, rival",
]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("bench/results"))
    parser.add_argument("--only", action="append", choices=STAGES, help="run this stage")
    parser.add_argument("--laptop", action="store_true", help="leave out MovieLens-20M's size")
    options = parser.parse_args()
    if why := missing():
        print(f"nothing was checked: {why}", file=sys.stderr)
        return 2
    from pyrec.files import check_place

    options.out.mkdir(parents=True, exist_ok=True)
    check_place(options.out / "gpu.md")
    wanted = [name for name in STAGES if name in (options.only or STAGES)]
    device = description()
    print(device, flush=True)
    stages = {n: kept for n, kept in known(options.out, device).items() if n not in wanted}
    for name in wanted:
        for found in STAGES[name](options.laptop):
            stages[name] = {"date": str(datetime.date.today()), **found}
            write(options.out, {"device": device, "stages": stages})
    print((options.out / "gpu.md").read_text())
    failed = any("FAILED" in line for name in wanted for line in stages[name]["lines"])
    return 1 if failed else 0


def known(out: Path, device: str) -> dict[str, Any]:
    """What the files there say of each stage on this device."""
    path = out / "gpu.json"
    before = json.loads(path.read_text()) if path.exists() else {}
    return before["stages"] if before.get("device") == device else {}


def write(out: Path, report: dict[str, Any]) -> None:
    from pyrec.files import atomic_write

    for name, text in (("gpu.json", json.dumps(report, indent=1)), ("gpu.md", page(report))):
        with atomic_write(out / name) as temporary:
            temporary.write_text(text + "\n")


def missing() -> str | None:
    """Why nothing can be checked here; None where all is there."""
    try:
        import torch

        import pyrec
    except ImportError as error:
        return str(error)
    try:
        from pyrec import _cuda
    except ImportError as error:
        built = "pyrec is built without kernels for GPUs (-Ccmake.define.PYREC_CUDA=ON, with nvcc)"
        return f"{built}: {error}, {Path(pyrec.__file__).parent}"
    if torch.version.cuda is None:
        return f"torch {torch.__version__} is built without CUDA"
    if not torch.cuda.is_available():
        built = f"torch {torch.__version__}, built for CUDA {torch.version.cuda},"
        return f"{built} finds no GPU, or a driver too old for it (nvidia-smi says more)"
    if _cuda.device_count() == 0:
        why = "the driver is older than the CUDA they were built with"
        return f"pyrec's kernels find no device: {why}"
    return None


def description() -> str:
    import torch

    of = torch.cuda.get_device_properties(0)
    return (
        f"{of.name} (compute capability {of.major}.{of.minor}, {of.total_memory / 2**30:.0f} GiB), "
        f"driver {driver()}, torch {torch.__version__} with CUDA {torch.version.cuda}"
    )


def driver() -> str:
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader", "--id=0"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return answer.stdout.strip()


def tests(laptop: bool) -> Iterator[dict[str, Any]]:
    yield {"lines": outcome("`pytest -m gpu`", *pytest([ROOT / "tests"]))}


def sanitizer(laptop: bool) -> Iterator[dict[str, Any]]:
    """The kernels' tests under each tool, one memory block a tensor: else overruns meet torch's own."""
    title = "`compute-sanitizer --tool {}` over the kernels' tests"
    beside_nvcc = Path(os.environ.get("CUDA_HOME", "/usr/local/cuda")) / "bin"
    program = shutil.which("compute-sanitizer") or shutil.which(
        "compute-sanitizer", path=beside_nvcc
    )
    lines: list[str] = []
    for tool, options in SANITIZERS.items():
        name = title.format(tool)
        if program is None:
            why = "NOT RUN, compute-sanitizer is not installed (it comes with the CUDA toolkit)"
            lines.append(f"- {name}: {why}")
            continue
        command = [program, "--tool", tool, "--error-exitcode", "1", *options]
        # Not torch's own kernels, which take most of the time.
        command += ["--kernel-name", "kernel_substring=pyrec"]
        alone = {"PYTORCH_NO_CUDA_MEMORY_CACHING": "1"}
        lines += outcome(name, *pytest(KERNEL_TESTS, command, alone))
        yield {"lines": lines}
    yield {"lines": lines}


def pytest(
    paths: list[Path], before: list[str] | None = None, environment: dict[str, str] | None = None
) -> tuple[int, list[str]]:
    command = [*(before or []), sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    command += ["-m", "gpu", "--rootdir", str(ROOT), "-c", str(ROOT / "pyproject.toml")]
    # From elsewhere: in the project's root `-m` would find the sources before what is installed.
    with tempfile.TemporaryDirectory() as folder:
        return told([*command, *map(str, paths)], TESTS_SECONDS, folder, environment)


def told(
    command: list[str], seconds: float, folder: str, environment: dict[str, str] | None = None
) -> tuple[int, list[str]]:
    """Run a command for so long at most; its exit status, and what it printed, which is printed at once."""
    lines = []
    with subprocess.Popen(
        ["timeout", "--kill-after=10", str(seconds), *command],
        cwd=folder,
        env={**os.environ, "PYTHONUNBUFFERED": "1", **(environment or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    ) as process:
        try:
            for line in process.stdout:
                print(line, end="", flush=True)
                lines.append(line.rstrip())
        except KeyboardInterrupt:
            process.terminate()  # timeout(1) and all that it started have a group of their own
            raise
    return process.returncode, lines


def outcome(name: str, status: int, lines: list[str]) -> list[str]:
    """A line about some tests, and one for each that failed."""
    # A sanitizer has the last word, pytest's summary is before it.
    last = (
        r"(passed|failed|skipped|errors?|warnings?|deselected|no tests ran) in [\d.]+s| SUMMARY: "
    )
    ends = [line.strip("= ") for line in lines if re.search(last, line)]
    ran = any(re.search(r"\d+ passed", end) for end in ends)  # else all were left out
    why = "time was up" if status in ENDED_BY_TIME else "pytest did not end"
    state = "passed" if status == 0 and ran else "FAILED"
    return [f"- {name}: {state} ({'; '.join(ends) or why})", *(f"  - {f}" for f in failures(lines))]


def failures(lines: list[str]) -> list[str]:
    """What pytest's summary says of each."""
    return [f"`{line[:300]}`" for line in lines if re.match(r"(FAILED|ERROR) ", line)]


def benchmarks(laptop: bool) -> Iterator[dict[str, Any]]:
    """Each in a process of its own: what one leaves behind, a broken device even, is not the next one's."""
    from jobs import JOBS

    measured: list[dict] = []
    notes: list[str] = []
    chosen = [job for job in JOBS if job.gpu and not (laptop and job.full)]
    parts = {"the limits of the device": ["bench_limits.py"]}
    parts |= {
        j.name: [f"bench_jobs.py::test_job[{j.name}-{way}]" for way in j.ways] for j in chosen
    }
    for number, (name, where) in enumerate(parts.items(), 1):
        status, lines, found = benchmarked(where)
        measured += found
        notes += [f"  - {name}: left out: {line}" for line in lines if line.startswith("SKIPPED")]
        if status:
            why = "time was up" if status in ENDED_BY_TIME else next(iter(failures(lines)), "")
            notes.append(f"  - {name}: FAILED {why}")
        state = "FAILED" if any("FAILED" in note for note in notes) else "passed"
        line = (
            f"- benchmarks and the checks of their answers: {state}, {number} of {len(parts)} run"
        )
        rows = [asdict(row) for row in table.rows_of({"benchmarks": measured})]
        limits = table.limits_of({"benchmarks": measured})
        yield {"lines": [line, *notes], "limits": limits, "rows": rows}


def benchmarked(where: list[str]) -> tuple[int, list[str], list[dict]]:
    """Exit status, what was printed, and pytest-benchmark's figures."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "benchmarks.json"
        options = ["-m", "gpu", "--full", "--seconds", ROUNDS_SECONDS]
        wide = {"COLUMNS": "300"}  # for the reasons in pytest's summary
        status, lines = told(table.command(path, options, where), JOB_SECONDS, folder, wide)
        found = json.loads(path.read_text())["benchmarks"] if path.exists() else []
    return status, lines, found


STAGES = {"tests": tests, "benchmarks": benchmarks, "sanitizer": sanitizer}


def page(report: dict[str, Any]) -> str:
    """The report as Markdown."""
    stages = report["stages"]
    lines = [f"# On a GPU\n\n{report['device']}.\n"]
    for name in STAGES:
        if stage := stages.get(name):
            date = f", {stage['date']}"
            lines += [line + date * line.startswith("- ") for line in stage["lines"]]
        else:
            lines.append(f"- {name}: not run")
    if figures := stages.get("benchmarks"):
        own = {name.removeprefix("GPU "): value for name, value in figures["limits"].items()}
        rates = ", ".join(f"{name} {rate(name, value)}" for name, value in own.items())
        rows = [cells(table.Row(**row)) for row in figures["rows"]]
        lines.append(f"\nLimits measured in the same run: {rates or 'none'}.\n")
        lines += table.lines([HEADS, ["---"] * len(HEADS), *rows])
    return "\n".join(lines)


def rate(name: str, value: float) -> str:
    is_bytes = name in ("read", "write", "copy")
    return f"{value / 1e9:,.0f} GB/s" if is_bytes else f"{value / 1e12:,.1f} TFLOP/s"


def cells(row: table.Row) -> list[str]:
    own, rival = row.seconds["pyrec"], row.rival
    return [
        row.job,
        table.time(own),
        achieved(row),
        f"{table.time(row.limit)} ({row.why})" if row.limit else "",
        f"{row.limit / own:.0%}" if row.limit else "",
        goal(row),
        f"{table.time(row.seconds[rival])} ({rival})" if rival else "",
        table.times(row.ratios[rival]) if rival else "",
        ", ".join(table.memory(row.memory[name]) for name in ("pyrec", rival) if name),
    ]


def achieved(row: table.Row) -> str:
    """The operations and bytes that the job cannot do without, a second."""
    floor, own = job_of(row).floor, row.seconds["pyrec"]
    if floor is None:
        return ""
    amounts = {
        "products": floor.flop + floor.flop_bf16,
        "copy": floor.read + floor.written + floor.copied,
    }
    return ", ".join(rate(name, amount / own) for name, amount in amounts.items() if amount)


def goal(row: table.Row) -> str:
    """What was aimed at, and whether it was reached."""
    job, own = job_of(row), row.seconds["pyrec"]
    if job.goal:
        text, reached = f"under {table.time(job.goal)}", own <= job.goal
    elif job.least_share and row.limit:
        text, reached = f"{job.least_share:.0%} of the limit", row.limit / own >= job.least_share
    elif job.least_ratio and job.yardstick in row.ratios:
        ratio = row.ratios[job.yardstick]
        text = f"{job.least_ratio:g} times as fast as {job.yardstick}: {ratio:.1f}"
        reached = ratio >= job.least_ratio
    else:
        return ""
    return text if reached else f"{text} (missed)"


def job_of(row: table.Row):
    from jobs import JOBS

    return next(job for job in JOBS if job.name == row.job)


if __name__ == "__main__":
    raise SystemExit(main())
