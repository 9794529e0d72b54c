"""The inverse of a symmetric positive-definite matrix of 3,416 rows, in float32."""

import numpy as np
import pytest

from pyrec import kernels

N = 3416


@pytest.fixture(scope="module")
def matrix():
    factor = np.random.default_rng(0).standard_normal((N, N), dtype=np.float32)
    return factor @ factor.T + N * np.eye(N, dtype=np.float32)


def pyrec(a):
    return kernels.spd_inverse(a.copy())


def scipy_inverse(a):
    from scipy.linalg import inv

    return inv(a)


def torch_inverse(a):
    import torch

    return torch.linalg.inv(torch.from_numpy(a)).numpy()


WAYS = {f.__name__: f for f in (pyrec, scipy_inverse, torch_inverse)}


@pytest.mark.benchmark(group="inverse of 3,416 rows")
@pytest.mark.parametrize("way", WAYS)
def test_inverse(measured, matrix, way):
    inverse = measured(WAYS[way], matrix, rounds=5)
    np.testing.assert_allclose(inverse[:50] @ matrix, np.eye(N)[:50], atol=1e-4)
