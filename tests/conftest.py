import os
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp

# Child processes import the installed package too, not the sources in the folder they start from.
os.environ["PYTHONSAFEPATH"] = "1"


@pytest.fixture
def draw():
    """draw(rows, cols, density, seed, binary): a random CSR matrix of float32."""

    def make(rows, cols, density=0.1, seed=0, binary=True):
        rng = np.random.default_rng(seed)
        dense = rng.random((rows, cols)) < density
        values = dense if binary else dense * rng.uniform(0.5, 2.0, (rows, cols))
        return sp.csr_array(values.astype(np.float32))

    return make


@pytest.fixture(scope="session")
def real_data():
    """The folder of real data sets."""
    folder = os.environ.get("PYREC_DATA")
    if not folder:
        pytest.skip("PYREC_DATA names no folder of real data sets")
    if not Path(folder).is_dir():
        pytest.fail(f"PYREC_DATA names {folder}, which is no folder")
    return Path(folder)


@pytest.fixture
def one_torch_thread():
    """Tiny networks are quicker on one, above all where other work has the processors."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def kernels_on_cpu(request, tmp_path_factory):
    """The kernels for GPUs as a module for CPU tensors; compiled once, and kept by pytest's cache."""
    import on_cpu

    cache = getattr(request.config, "cache", None)
    name = "kernels_on_cpu"
    return on_cpu.compiled(cache.mkdir(name) if cache else tmp_path_factory.mktemp(name))


@pytest.fixture(
    params=[
        *("kernels", "torch"),
        *(pytest.param(name, marks=pytest.mark.gpu) for name in ("cuda", "torch on cuda")),
    ]
)
def gpu(request, monkeypatch):
    """The device of the tensors to pass to `pyrec.kernels.gpu`.

    ``kernels``: the kernels for GPUs, run on the CPU; ``torch``: what stands in where they were not
    compiled; ``cuda``: a GPU, ``torch on cuda``: what stands in there.
    """
    import torch

    from pyrec.kernels.gpu import native

    place = torch.device("cpu")
    if request.param.endswith("cuda"):
        if not torch.cuda.is_available():
            pytest.skip("torch finds no CUDA device")
        place = torch.device("cuda", torch.cuda.current_device())
    if request.param == "cuda":
        if native.module(torch.empty(0, device=place)) is None:
            pytest.fail(
                "pyrec has no kernels for this GPU: "
                "build it with nvcc (-Ccmake.define.PYREC_CUDA=ON), and with a CUDA that the driver knows"
            )
        return place
    module = request.getfixturevalue("kernels_on_cpu") if request.param == "kernels" else None
    monkeypatch.setattr(native, "module", lambda t: module)
    return place


@pytest.fixture
def device(gpu, monkeypatch):
    """The device of `gpu`; where that is the CPU, it counts as a GPU."""
    from pyrec.kernels.gpu import native

    monkeypatch.setattr(native, "is_device", lambda device: True)
    return gpu
