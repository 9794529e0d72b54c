"""The way to the kernels for GPUs: the compiled module, also where there is no GPU, and copies to and fro."""

import ast
import contextlib
import importlib
import itertools
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import pyrec
from pyrec.kernels.gpu import native, transfers
from pyrec.kernels.tensors import Csr
from pyrec.machine import cuda_device, find_device

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
    with pytest.raises(RuntimeError, match=r"CUDA kernel drop: .+"):
        cuda.drop_float32((0, 5), 0.5, 0, (0, 5), (0, 0))


def test_nothing_is_launched_for_nothing(cuda):
    cuda.drop_float32((0, 0), 0.5, 0, (0, 0), (0, 0))


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


@pytest.fixture
def forgotten():
    """What was found out about the compiled module, before and after."""
    native._load.cache_clear()
    yield
    native._load.cache_clear()


@pytest.mark.parametrize("n_devices", [0, 1])
def test_only_devices_that_the_module_finds_have_kernels(forgotten, monkeypatch, n_devices):
    """None with a driver too old for its CUDA, and of other makers, whose devices torch calls cuda too."""
    module = SimpleNamespace(device_count=lambda: n_devices)
    monkeypatch.setitem(sys.modules, "pyrec._cuda", module)
    monkeypatch.setattr(pyrec, "_cuda", module, raising=False)
    there = SimpleNamespace(device=torch.device("cuda", 0))
    assert native.module(there) is (module if n_devices else None)
    assert native.module(torch.empty(0)) is None


def test_a_module_that_cannot_be_loaded_is_no_missing_one(forgotten, monkeypatch, tmp_path):
    monkeypatch.delitem(sys.modules, "pyrec._cuda", raising=False)
    monkeypatch.delattr(pyrec, "_cuda", raising=False)
    monkeypatch.setattr(pyrec, "__path__", [str(tmp_path)])
    there = SimpleNamespace(device=torch.device("cuda", 0))
    assert native.module(there) is None
    native._load.cache_clear()
    (tmp_path / "_cuda.py").write_text("raise ImportError('undefined symbol')")
    importlib.invalidate_caches()
    with pytest.raises(ImportError, match="undefined symbol"):
        native.module(there)


@pytest.mark.gpu
def test_a_device_has_its_number():
    if not torch.cuda.is_available():
        pytest.skip("torch finds no CUDA device")
    place = torch.device("cuda", torch.cuda.current_device())
    assert find_device("cuda") == cuda_device("cuda") == place


class Stream:
    """Does what is queued only when somebody waits for it: as late as a GPU may."""

    current = None

    def __init__(self):
        self.queued, self.n_done = [], 0

    def put(self, work):
        self.queued.append(work)

    def end(self):
        return self.n_done + len(self.queued)

    def run(self, end):
        while self.n_done < end:
            self.n_done += 1
            self.queued.pop(0)()

    def wait_stream(self, other):
        end = other.end()
        self.put(lambda: other.run(end))

    def synchronize(self):
        self.run(self.end())


class Event:
    def __init__(self, blocking):
        self.stream = None

    def record(self):
        self.stream, self.end = Stream.current, Stream.current.end()

    def synchronize(self):
        if self.stream:
            self.stream.run(self.end)


@pytest.fixture
def late(monkeypatch):
    """torch's streams replaced by those above, which are returned; copies that wait for nobody go there."""
    streams = []

    def stream():
        streams.append(Stream())
        return streams[-1]

    @contextlib.contextmanager
    def using(stream):
        before, Stream.current = Stream.current, stream
        try:
            yield
        finally:
            Stream.current = before

    class Memory(transfers._Memory):
        def __init__(self, **where):
            super().__init__()

    copy = torch.Tensor.copy_

    def copy_(self, source, non_blocking=False):
        if not non_blocking:
            return copy(self, source)
        Stream.current.put(lambda: copy(self, source))
        return self

    for name, new in {
        "Stream": stream,
        "Event": Event,
        "stream": using,
        "device": lambda device: contextlib.nullcontext(),
        "current_stream": lambda: Stream.current,
    }.items():
        monkeypatch.setattr(torch.cuda, name, new)
    monkeypatch.setattr(torch.Tensor, "copy_", copy_)
    monkeypatch.setattr(transfers, "_Memory", Memory)
    with using(stream()):
        yield streams


def doubled(values, numbers):
    """Queued where kernels are."""
    found = torch.empty_like(values), torch.empty_like(numbers)

    def work():
        torch.mul(values, 2, out=found[0])
        torch.add(numbers, 1, out=found[1])

    Stream.current.put(work)
    return found


class TestBlocks:
    """Two under way at a time, each in memory that the one before it had."""

    HEIGHTS = (3, 9, 1, 20, 0, 5, 70, 2)

    def blocks(self, values, numbers, work):
        ends = np.cumsum([0, *self.HEIGHTS])
        for begin, end in itertools.pairwise(ends):
            rows = slice(begin, end)
            arrays = values[rows].copy(), numbers[rows].copy()
            arrays[0].flags.writeable = bool(begin % 2)
            yield transfers.Block(rows, arrays, work)
            for array in arrays:  # has been copied
                array.flags.writeable = True
                array[:] = 0

    @pytest.mark.parametrize("place", ["cpu", "cuda"])
    def test_results_are_those_of_their_rows(self, late, place):
        values = np.random.default_rng(0).random((sum(self.HEIGHTS), 3), np.float32)
        numbers = np.arange(len(values))
        results = np.full_like(values, np.nan), np.full_like(numbers, -1)
        work = doubled if place == "cuda" else lambda v, n: (2 * v, n + 1)
        transfers.in_blocks(self.blocks(values, numbers, work), results, torch.device(place))
        np.testing.assert_array_equal(results[0], 2 * values)
        np.testing.assert_array_equal(results[1], numbers + 1)

    def test_nothing_is_under_way_after_an_error(self, late):
        values, numbers = np.ones((sum(self.HEIGHTS), 3), np.float32), np.arange(sum(self.HEIGHTS))

        def fail(some, others):
            if len(some) == self.HEIGHTS[3]:
                raise RuntimeError("no such block")
            return doubled(some, others)

        results = np.zeros_like(values), np.zeros_like(numbers)
        blocks = self.blocks(values, numbers, fail)
        with pytest.raises(RuntimeError, match="no such block"):
            transfers.in_blocks(blocks, results, torch.device("cuda"))
        assert len(late) == 3
        assert not any(stream.queued for stream in late)
