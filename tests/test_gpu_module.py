"""The compiled module for GPUs where there is none: it can be imported, and says what is missing."""

import ast
from pathlib import Path

import pytest
import torch

import pyrec
from pyrec.kernels.gpu import native
from pyrec.kernels.tensors import Csr

STUB = Path(pyrec.__file__).with_name("_cuda.pyi")


@pytest.fixture
def cuda():
    return pytest.importorskip("pyrec._cuda", reason="this build has no kernels for GPUs")


def named_in_stub():
    names = set()
    for node in ast.parse(STUB.read_text()).body:
        if isinstance(node, ast.FunctionDef):
            names.add(node.name)
        elif isinstance(node, ast.AnnAssign) and node.value is None:
            names.add(node.target.id)
    return names


def public(module):
    return {name for name in vars(module) if not name.startswith("_")}


def test_it_can_be_imported_without_a_device(cuda):
    assert cuda.device_count() == (torch.cuda.device_count() if torch.version.cuda else 0)
    assert public(cuda) == named_in_stub()


def test_the_kernels_on_the_cpu_are_the_same(kernels_on_cpu):
    assert public(kernels_on_cpu) == named_in_stub()


def test_without_a_device_an_error_names_the_kernel(cuda):
    if cuda.device_count():
        pytest.skip("there is a device")
    with pytest.raises(RuntimeError, match=r"CUDA kernel permuted: .+"):
        cuda.permuted(5, 0, 0, 0, (0, 5), (0, 0))


def test_nothing_is_launched_for_nothing(cuda):
    cuda.permuted(5, 0, 0, 0, (0, 0), (0, 0))


@pytest.mark.parametrize(
    "t",
    [torch.zeros(3, dtype=torch.float64), torch.zeros(3, 1), torch.zeros(6)[::2]],
    ids=["type", "dimensions", "strides"],
)
def test_tensors_that_are_not_as_the_kernels_take_them(t):
    with pytest.raises(TypeError, match=r"x must be a contiguous torch.float32 tensor of 1 dim"):
        native.vector(t, torch.float32, "x")


def test_csr_with_parts_that_do_not_fit():
    x = Csr(torch.tensor([0, 2]), torch.zeros(2, dtype=torch.int32), torch.zeros(3), 4)
    with pytest.raises(ValueError, match="x must have as many indices as values, got 2 and 3"):
        native.csr(x, torch.float32, "x")
