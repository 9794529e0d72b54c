"""Options and threads of the benchmarks."""

from __future__ import annotations

import pytest
from check import machine
from contest import THREADS, set_threads

from pyrec import _core


def pytest_addoption(parser):
    parser.addoption("--full", action="store_true", help="also the jobs of MovieLens-20M's size")
    parser.addoption("--seconds", type=float, default=4.0, help="to spend on a job, about")


def pytest_configure(config):
    config.addinivalue_line("markers", "full: of MovieLens-20M's size; `--full` runs these too")
    config.addinivalue_line("markers", "gpu: needs a CUDA device; `-m gpu` runs these alone")
    set_threads()


def pytest_benchmark_update_json(config, benchmarks, output_json):
    output_json["measured_on"] = machine()


def pytest_report_header(config):
    return f"threads: {THREADS}, instruction set: {_core.instruction_set()}"


def pytest_collection_modifyitems(config, items):
    left_out = set()
    if not config.getoption("--full"):
        left_out.add("full")
    if "gpu" not in config.getoption("markexpr"):
        left_out.add("gpu")
    config.hook.pytest_deselected(items=[i for i in items if left_out & set(i.keywords)])
    items[:] = [item for item in items if not left_out & set(item.keywords)]


def pytest_runtest_setup(item):
    if "gpu" in item.keywords:
        import torch

        if not torch.cuda.is_available():
            pytest.fail("torch finds no CUDA device")
