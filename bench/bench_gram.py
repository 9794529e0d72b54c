"""XᵀX as a dense float32 matrix."""

import numpy as np
import pytest

from pyrec import kernels

WAYS = {"pyrec": kernels.gram, "scipy": lambda x: (x.T @ x).toarray()}


@pytest.mark.benchmark(group="gram")
@pytest.mark.parametrize("way", WAYS)
def test_gram(measured, interactions, way):
    rounds = 1 if way == "scipy" and interactions.nnz > 10**6 else 5
    result = measured(WAYS[way], interactions, rounds=rounds, warmup=1 if way == "pyrec" else 0)
    some = interactions[:, :20].T @ interactions
    np.testing.assert_array_equal(result[:20], some.toarray())
