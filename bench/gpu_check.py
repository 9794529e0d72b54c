"""All that a GPU can tell: the tests, compute-sanitizer over the kernels', the benchmarks with their table.

    python bench/gpu_check.py [--out FOLDER] [--laptop]

Writes FOLDER/gpu.md: the device, the date, what passed and the table of speeds; FOLDER/gpu.json: the
table's figures. Ends with 1 where anything failed.
"""

from __future__ import annotations

import argparse
import datetime
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import table

ROOT = Path(__file__).resolve().parents[1]
# Every thread of every kernel is watched: hours for the models' tests, minutes for the kernels'.
SANITIZED = "tests/test_gpu_*.py"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("bench/results"))
    parser.add_argument("--laptop", action="store_true", help="leave out MovieLens-20M's size")
    options = parser.parse_args()
    device = description()
    if device is None:
        print("torch finds no CUDA device, or pyrec has no kernels for it", file=sys.stderr)
        return 2
    options.out.mkdir(parents=True, exist_ok=True)
    passed = [tests(), sanitizer()]
    speeds, benchmarked = benchmarks(full=not options.laptop)
    passed.append(benchmarked)
    report = [f"# On a GPU\n\nOn {datetime.date.today()}: {device}.\n", *passed, "", speeds["text"]]
    (options.out / "gpu.md").write_text("\n".join(report) + "\n")
    (options.out / "gpu.json").write_text(json.dumps(speeds["figures"], indent=1) + "\n")
    print("\n".join(report))
    return 0 if all(": passed" in line or ": not run" in line for line in passed) else 1


def description() -> str | None:
    import torch

    from pyrec.kernels.gpu import native

    if not torch.cuda.is_available() or native.module(torch.empty(0, device="cuda")) is None:
        return None
    of = torch.cuda.get_device_properties(0)
    return (
        f"{of.name} (compute capability {of.major}.{of.minor}, {of.total_memory / 2**30:.0f} GiB), "
        f"CUDA {torch.version.cuda}, torch {torch.__version__}"
    )


def tests() -> str:
    return line("`pytest -m gpu`", pytest(["-m", "gpu"]))


def sanitizer() -> str:
    name = "`compute-sanitizer` over the kernels' tests"
    if shutil.which("compute-sanitizer") is None:
        return f"- {name}: not run, it is not installed"
    results = [
        pytest(
            ["-m", "gpu"],
            [
                "compute-sanitizer",
                "--tool",
                tool,
                "--error-exitcode",
                "1",
                "--target-processes=all",
            ],
        )
        for tool in ("memcheck", "racecheck")
    ]
    return line(name, max(results, key=lambda result: result.returncode))


def pytest(arguments: list[str], before: list[str] | None = None) -> subprocess.CompletedProcess:
    names = sorted(str(path) for path in ROOT.glob(SANITIZED)) if before else [str(ROOT / "tests")]
    command = [*(before or []), sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    # From elsewhere: in the project's root `-m` would find the sources before what is installed.
    with tempfile.TemporaryDirectory() as folder:
        return subprocess.run(
            [
                *command,
                "--rootdir",
                str(ROOT),
                "-c",
                str(ROOT / "pyproject.toml"),
                *arguments,
                *names,
            ],
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
        )


def line(name: str, result: subprocess.CompletedProcess) -> str:
    last = (result.stdout.strip().splitlines() or ["no output"])[-1]
    if result.returncode:
        print(result.stdout[-8000:], result.stderr[-8000:], file=sys.stderr)
    return f"- {name}: {'passed' if result.returncode == 0 else 'FAILED'} ({last})"


def benchmarks(full: bool) -> tuple[dict, str]:
    """The table of the device's jobs, and whether all ran."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "benchmarks.json"
        status = table.run(path, ["-m", "gpu", *(["--full"] if full else [])])
        report = json.loads(path.read_text()) if path.exists() else {"benchmarks": []}
    limits, rows = table.limits_of(report), table.rows_of(report)
    rates = ", ".join(
        f"{name.removeprefix('GPU ')} {rate / 1e9:,.0f} G/s" for name, rate in limits.items()
    )
    text = (
        f"Limits measured in the same run (operations or bytes): {rates}.\n\n{table.markdown(rows)}"
    )
    figures = {"limits": limits, "rows": [table.asdict(row) for row in rows]}
    state = "passed" if status == 0 else "FAILED"
    return {"text": text, "figures": figures}, f"- benchmarks and their checks: {state}"


if __name__ == "__main__":
    raise SystemExit(main())
