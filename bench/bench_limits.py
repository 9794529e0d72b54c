"""What the machine can do: the floor of every other figure."""

import numpy as np
import pytest


@pytest.mark.benchmark(group="limit: sgemm 4096")
def test_sgemm(benchmark):
    """SciPy's BLAS, the one that pyrec borrows."""
    from scipy.linalg.blas import sgemm

    a = np.asfortranarray(np.random.default_rng(0).random((4096, 4096), dtype=np.float32))
    c = np.zeros_like(a)
    benchmark.pedantic(
        sgemm, args=(1.0, a, a, 0.0, c), kwargs={"overwrite_c": 1}, rounds=5, warmup_rounds=1
    )
    benchmark.extra_info["flop"] = 2 * 4096**3


@pytest.mark.benchmark(group="limit: read 400 MB")
def test_read(benchmark):
    """All threads: torch's sum is memory-bound."""
    import torch

    x = torch.ones(100_000_000)
    benchmark.pedantic(x.sum, rounds=10, warmup_rounds=1)
    benchmark.extra_info["bytes"] = x.nbytes
