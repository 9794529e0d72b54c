"""All that a GPU can tell: the tests, compute-sanitizer over the kernels', the benchmarks with their table.

    python bench/gpu_check.py [--out FOLDER] [--laptop]

Writes FOLDER/gpu.md: the device, the date, what passed and the table of speeds; FOLDER/gpu.json: the
same as figures. Ends with 1 where anything failed, with 2 and no files where there is no GPU to ask.
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
from dataclasses import asdict
from pathlib import Path

import table

ROOT = Path(__file__).resolve().parents[1]
# Each tool watches every thread of every kernel: hours for the models' tests, minutes for the kernels'.
SANITIZERS = ("memcheck", "racecheck")
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
    parser.add_argument("--laptop", action="store_true", help="leave out MovieLens-20M's size")
    options = parser.parse_args()
    if why := missing():
        print(f"nothing was checked: {why}", file=sys.stderr)
        return 2
    from pyrec.files import atomic_write, check_place

    options.out.mkdir(parents=True, exist_ok=True)
    check_place(options.out / "gpu.md")
    device = description()
    print(device, flush=True)
    passed = [tests(), *sanitizer()]
    benchmarked, speeds, figures = benchmarks(full=not options.laptop)
    passed.append(benchmarked)
    lines = [f"# On a GPU\n\nOn {datetime.date.today()}: {device}.\n", *passed, "", speeds]
    figures |= {"device": device, "date": str(datetime.date.today()), "passed": passed}
    for name, text in (("gpu.json", json.dumps(figures, indent=1)), ("gpu.md", "\n".join(lines))):
        with atomic_write(options.out / name) as temporary:
            temporary.write_text(text + "\n")
    print("\n".join(lines))
    return 1 if any("FAILED" in line for line in passed) else 0


def missing() -> str | None:
    """Why nothing can be checked here; None where all is there."""
    try:
        import torch

        from pyrec.kernels.gpu import native
    except ImportError as error:
        return str(error)
    if torch.version.cuda is None:
        return f"torch {torch.__version__} is built without CUDA"
    if not torch.cuda.is_available():
        built = f"torch {torch.__version__}, built for CUDA {torch.version.cuda},"
        return f"{built} finds no GPU, or a driver too old for it (nvidia-smi says more)"
    if native.module(torch.empty(0, device="cuda")) is None:
        return "pyrec is built without kernels for GPUs (-Ccmake.define.PYREC_CUDA=ON, with nvcc)"
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


def tests() -> str:
    return outcome("`pytest -m gpu`", pytest([ROOT / "tests"]))


def sanitizer() -> list[str]:
    """The kernels' tests under each tool, one memory block a tensor: else overruns meet torch's own."""
    name = "`compute-sanitizer --tool {}` over the kernels' tests"
    beside_nvcc = Path(os.environ.get("CUDA_HOME", "/usr/local/cuda")) / "bin"
    program = shutil.which("compute-sanitizer") or shutil.which(
        "compute-sanitizer", path=beside_nvcc
    )
    if program is None:
        why = "NOT RUN, compute-sanitizer is not installed (it comes with the CUDA toolkit)"
        return [f"- {name.format(tool)}: {why}" for tool in SANITIZERS]
    alone = {"PYTORCH_NO_CUDA_MEMORY_CACHING": "1"}
    return [
        outcome(
            name.format(tool),
            pytest(KERNEL_TESTS, [program, "--tool", tool, "--error-exitcode", "1"], alone),
        )
        for tool in SANITIZERS
    ]


def pytest(
    paths: list[Path], before: list[str] | None = None, environment: dict[str, str] | None = None
) -> subprocess.CompletedProcess:
    command = [*(before or []), sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    command += ["-m", "gpu", "--rootdir", str(ROOT), "-c", str(ROOT / "pyproject.toml")]
    # From elsewhere: in the project's root `-m` would find the sources before what is installed.
    with tempfile.TemporaryDirectory() as folder:
        return subprocess.run(
            [*command, *map(str, paths)],
            cwd=folder,
            env={**os.environ, **(environment or {})},
            capture_output=True,
            text=True,
            check=False,
        )


def outcome(name: str, result: subprocess.CompletedProcess) -> str:
    if result.returncode:
        print(result.stdout[-8000:], result.stderr[-8000:], file=sys.stderr)
    # A sanitizer has the last word, pytest's summary is before it.
    ends = [line for line in result.stdout.splitlines() if re.search(r" in [\d.]+s", line)]
    state = "passed" if result.returncode == 0 else "FAILED"
    line = f"- {name}: {state} ({ends[-1].strip('= ') if ends else 'pytest did not end'})"
    print(line, flush=True)
    return line


def benchmarks(full: bool) -> tuple[str, str, dict]:
    """Whether all jobs of the device ran, their table, and its figures."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "benchmarks.json"
        status = table.run(path, ["-m", "gpu", *(["--full"] if full else [])])
        report = json.loads(path.read_text()) if path.exists() else {"benchmarks": []}
    limits, rows = table.limits_of(report), table.rows_of(report)
    own = {name.removeprefix("GPU "): value for name, value in limits.items()}
    rates = ", ".join(f"{name} {rate(name, value)}" for name, value in own.items())
    body = [HEADS, ["---"] * len(HEADS), *map(cells, rows)]
    text = f"Limits measured in the same run: {rates}.\n\n" + "\n".join(table.lines(body))
    state = "passed" if status == 0 else "FAILED"
    figures = {"limits": limits, "rows": [asdict(row) for row in rows]}
    return f"- benchmarks and the checks of their answers: {state}", text, figures


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
        f"{row.ratios[rival]:.1f}" if rival else "",
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
