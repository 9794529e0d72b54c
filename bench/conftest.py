"""Options and threads of the benchmarks."""

from __future__ import annotations

from check import machine
from contest import THREADS, set_threads

from pyrec import _core


def pytest_addoption(parser):
    parser.addoption("--full", action="store_true", help="also the jobs of MovieLens-20M's size")
    parser.addoption("--seconds", type=float, default=4.0, help="to spend on a job, about")


def pytest_configure(config):
    config.addinivalue_line("markers", "full: of MovieLens-20M's size; `--full` runs these too")
    set_threads()


def pytest_benchmark_update_json(config, benchmarks, output_json):
    output_json["measured_on"] = machine()


def pytest_report_header(config):
    return f"threads: {THREADS}, instruction set: {_core.instruction_set()}"


def pytest_collection_modifyitems(config, items):
    if config.getoption("--full"):
        return
    large = [item for item in items if "full" in item.keywords]
    config.hook.pytest_deselected(items=large)
    items[:] = [item for item in items if "full" not in item.keywords]
