"""What the machine can do: the floor of every other figure."""

import numpy as np
import pytest

N = 4096


@pytest.mark.benchmark(group="limit: sgemm")
def test_sgemm(benchmark):
    """SciPy's BLAS, the one that pyrec borrows."""
    from scipy.linalg.blas import sgemm

    a = np.asfortranarray(np.random.default_rng(0).random((N, N), dtype=np.float32))
    c = np.zeros_like(a)
    benchmark.pedantic(
        sgemm, args=(1.0, a, a, 0.0, c), kwargs={"overwrite_c": 1}, rounds=5, warmup_rounds=1
    )
    benchmark.extra_info["amount"] = 2 * N**3


@pytest.mark.benchmark(group="limit: bfloat16 product")
def test_bfloat16(benchmark):
    import torch

    a = torch.rand(N, N).bfloat16()
    c = torch.empty_like(a)
    benchmark.pedantic(torch.mm, args=(a, a), kwargs={"out": c}, rounds=5, warmup_rounds=1)
    benchmark.extra_info["amount"] = 2 * N**3


@pytest.mark.benchmark(group="limit: read")
def test_read(benchmark):
    """All threads: torch's sum is memory-bound."""
    import torch

    x = torch.ones(100_000_000)
    benchmark.pedantic(x.sum, rounds=10, warmup_rounds=1)
    benchmark.extra_info["amount"] = x.nbytes


@pytest.mark.benchmark(group="limit: write")
def test_write(benchmark):
    import torch

    x = torch.ones(100_000_000)
    benchmark.pedantic(x.fill_, args=(2.0,), rounds=10, warmup_rounds=1)
    benchmark.extra_info["amount"] = x.nbytes


@pytest.mark.benchmark(group="limit: copy")
def test_copy(benchmark):
    """Bytes read and bytes written, all threads."""
    import torch

    x, y = torch.ones(50_000_000), torch.zeros(50_000_000)
    benchmark.pedantic(y.copy_, args=(x,), rounds=10, warmup_rounds=1)
    benchmark.extra_info["amount"] = 2 * x.nbytes


def on_device(benchmark, run, amount):
    """Time a run to the end of the device's work."""
    import torch

    def whole():
        run()
        torch.cuda.synchronize()

    benchmark.pedantic(whole, rounds=10, warmup_rounds=2)
    benchmark.extra_info["amount"] = amount


@pytest.mark.gpu
@pytest.mark.parametrize("name", ["sgemm", "bfloat16 product"])
def test_gpu_products(benchmark, name):
    """float32 at full precision, without TF32, as pyrec multiplies."""
    import torch

    n = 2 * N
    benchmark.group = f"limit: GPU {name}"
    a = torch.rand(n, n, device="cuda", dtype=torch.float32 if name == "sgemm" else torch.bfloat16)
    c = torch.empty_like(a)
    on_device(benchmark, lambda: torch.mm(a, a, out=c), 2 * n**3)


@pytest.mark.gpu
@pytest.mark.parametrize("name", ["read", "write", "copy"])
def test_gpu_memory(benchmark, name):
    import torch

    benchmark.group = f"limit: GPU {name}"
    x = torch.ones(500_000_000, device="cuda")
    y = torch.empty_like(x)
    run = {"read": x.sum, "write": lambda: y.fill_(2.0), "copy": lambda: y.copy_(x)}[name]
    on_device(benchmark, run, x.nbytes * (2 if name == "copy" else 1))
