"""Run the benchmarks and print one table: pyrec, its best rival, the machine's limit, the goal.

    python bench/table.py [--json FILE] [pytest arguments]

Figures are the best rounds of one run on one machine: compare the ratios, absolute times differ by
the hour.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
import tempfile
from pathlib import Path

# Goals on two cores of an AMD EPYC with AVX-512, in milliseconds.
GOALS = {
    "gram [20M]": 1700,
    "EASE [20M]": 47_000,
    "EASE [1M]": 400,
    "three iterations of ADMM-SLIM, 8,000 items": 16_800,
    "SLIM [20M]": 600_000,
    "top-100 of 500 masked rows": 3.5,
    "EASE: 16,384 histories to top-100": 1229,
    "EASE: 16,384 histories to top-100, bfloat16": 901,
    "evaluation of 500 users": 4.5,
    "Mult-VAE step of 500 users": 235,
    "Mult-VAE step of 500 users, bfloat16": 150,
    "likelihood and gradient, 500 rows": 3.5,
    "sampling 50,000 users, dense": 100,
    "CFGAN masks, 256 users, half of 20,108 items": 3.07,
    "sampling 50,000 users, CSR with dropout": 10,
    "factors of rank 128: 8,192 users to top-100": 295,
    "Mult-VAE: 8,192 histories to top-100": 1147,
}
ITEMS = {"20M": 20_108, "1M": 3_416}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="also keep pytest-benchmark's JSON here")
    options, arguments = parser.parse_known_args()
    with tempfile.TemporaryDirectory() as folder:
        path = options.json or Path(folder) / "benchmarks.json"
        command = [sys.executable, "-m", "pytest", "-q", str(Path(__file__).parent)]
        command += ["-o", "python_files=bench_*.py", "-W", "default", "-p", "no:cacheprovider"]
        command += ["--benchmark-columns=min,median,rounds", "--benchmark-sort=name"]
        # From elsewhere: in the project's root `-m` would find the sources before the installed wheel.
        status = subprocess.run(
            [*command, f"--benchmark-json={path.resolve()}", *arguments], cwd=folder, check=False
        ).returncode
        if status == 0:
            print_table(json.loads(path.read_text()))
    return status


def print_table(report: dict) -> None:
    groups: dict[str, dict[str, dict]] = {}
    for b in report["benchmarks"]:
        case, _, way = (b["param"] or "").rpartition("-")
        job = f"{b['group']} [{case}]" if case else b["group"]
        groups.setdefault(job, {})[way] = b
    limits = {
        b["group"]: b
        for ways in groups.values()
        for b in ways.values()
        if b["group"].startswith("limit")
    }
    sgemm, read = limits["limit: sgemm 4096"], limits["limit: read 400 MB"]
    flops = sgemm["extra_info"]["flop"] / best(sgemm)
    bandwidth = read["extra_info"]["bytes"] / best(read)
    print(
        f"\n{machine(report)}; sgemm {flops / 1e9:.0f} GFLOP/s, reading {bandwidth / 1e9:.0f} GB/s\n"
    )
    print(
        "| job | pyrec | best rival | ratio | limit | goal | memory beyond the input: pyrec, rival |"
    )
    print("|---|---|---|---|---|---|---|")
    for job, ways in groups.items():
        if "pyrec" not in ways:
            continue
        own = ways["pyrec"]
        rivals = [(best(b), name, memory(b)) for name, b in ways.items() if name != "pyrec"]
        time, name, taken = min(rivals, default=(0.0, "", ""))
        beside = f"{show(time)} ({name}) | {time / best(own):.1f}" if rivals else " | "
        print(
            f"| {job} | {show(best(own))} | {beside} | {floor(job, groups, flops, bandwidth)} "
            f"| {show(GOALS[job] / 1e3) if job in GOALS else ''} "
            f"| {memory(own)}{', ' if rivals else ''}{taken} |"
        )


def floor(job: str, groups: dict, flops: float, bandwidth: float) -> str:
    """The time that the operations, or the bytes, of a job take at the measured limits."""
    if job.startswith("inverse"):
        return f"{show(ITEMS['1M'] ** 3 / flops)} (n³ operations)"
    if job.startswith("EASE ["):
        case = job[6:-1]
        inverse = ITEMS[case] ** 3 / flops
        gram = groups.get(f"gram [{case}]", {}).get("pyrec")
        return (
            f"{show(inverse + best(gram))} (inverse and Gram)"
            if gram
            else f"{show(inverse)} (inverse)"
        )
    if job.startswith("three iterations"):
        return f"{show(3 * 2 * 8000**3 / flops)} (products)"
    if job == "Mult-VAE step of 500 users":
        # Products of a step with sparse input (37.3 GFLOP) and 28 bytes a parameter for Adam.
        return f"{show(37.3e9 / flops + 24.5e6 * 28 / bandwidth)} (products and Adam)"
    if job.startswith("likelihood"):
        return f"{show(500 * 8 * ITEMS['20M'] / bandwidth)} (one read, one write)"
    if job.startswith("factors"):
        return f"{show(8192 * 2 * 128 * ITEMS['20M'] / flops)} (products)"
    if job.startswith("Mult-VAE: 8,192"):
        return f"{show(8192 * 2 * (600 * ITEMS['20M'] + 360_000) / flops)} (products)"
    if job.startswith("sampling") and job.endswith("dense"):
        return f"{show(50_000 * 4 * ITEMS['20M'] / bandwidth)} (one write)"
    if job.startswith(("top-100", "evaluation")):
        return f"{show(500 * 4 * ITEMS['20M'] / bandwidth)} (one read)"
    return ""


def best(benchmark: dict) -> float:
    """The quickest round: what other work on the machine does only adds."""
    return benchmark["stats"]["min"]


def memory(benchmark: dict) -> str:
    mib = benchmark["extra_info"].get("peak_mib")
    return "" if mib is None else f"{mib:,} MiB" if mib >= 10 else "under 10 MiB"


def show(seconds: float) -> str:
    return f"{seconds:.3g} s" if seconds >= 1 else f"{seconds * 1e3:.3g} ms"


def machine(report: dict) -> str:
    cpu = report["machine_info"]["cpu"].get("brand_raw", platform.processor())
    from pyrec import kernels

    return f"{report['datetime'][:10]}, {cpu}, {kernels.n_threads()} threads"


if __name__ == "__main__":
    raise SystemExit(main())
