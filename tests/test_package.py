"""The package as a whole: import time, the stub of the compiled module, public names."""

import ast
import re
import subprocess
import sys
from importlib import resources

import pytest

import pyrec
from pyrec import _core


def run(program):
    return subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    ).stdout


@pytest.mark.parametrize("statement", ["import pyrec", "from pyrec.models import EASE"])
def test_import_is_quick_and_loads_no_heavy_library(statement):
    """Best of five, so that a busy machine does not fail it: under 0.3 s."""
    program = (
        f"import time; t = time.perf_counter(); {statement}; print(time.perf_counter() - t);"
        "import sys; print(*sorted({'torch', 'polars', 'pandas', 'pyarrow', 'matplotlib', 'typer'} & set(sys.modules)))"
    )
    times = []
    for _ in range(5):
        seconds, _, heavy = run(program).partition("\n")
        assert heavy.strip() == ""
        times.append(float(seconds))
    assert min(times) < 0.3


def test_public_names_exist():
    for name in pyrec.__all__:
        assert getattr(pyrec, name) is not None
    assert set(pyrec.__all__) <= set(dir(pyrec))
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = pyrec.nothing


def test_the_package_is_typed():
    assert (resources.files(pyrec) / "py.typed").is_file()


@pytest.fixture
def stub():
    tree = ast.parse((resources.files(pyrec) / "_core.pyi").read_text())
    return {
        node.name: node for node in tree.body if isinstance(node, (ast.FunctionDef, ast.ClassDef))
    }


class TestStub:
    def test_has_every_name_and_no_other(self, stub):
        public = {name for name in vars(_core) if not name.startswith("_")}
        assert set(stub) == public

    def test_has_every_parameter_in_order(self, stub):
        for name, node in stub.items():
            if isinstance(node, ast.FunctionDef):
                # pybind11 writes name(a: ..., b: ...) -> ... into the docstring, once an overload.
                signatures = re.findall(rf"{name}\((.*)\) -> ", getattr(_core, name).__doc__)
                assert signatures
                for signature in signatures:
                    parameters = re.findall(r"(\w+): ", signature)
                    assert [a.arg for a in node.args.args] == parameters, name

    def test_has_the_members_of_the_enumeration(self, stub):
        members = [n.targets[0].id for n in stub["Metric"].body if isinstance(n, ast.Assign)]
        assert members == list(_core.Metric.__members__)
