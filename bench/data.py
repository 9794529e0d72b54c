"""The data of the benchmarks: simulated interactions in the shapes of the sets that papers use."""

from __future__ import annotations

from functools import cache

import numpy as np
import scipy.sparse as sp

from pyrec.data import datasets

# Users, items, interactions: MovieLens-20M and MovieLens-1M, filtered as the papers do; fewer users
# with as many items and as long histories, for what is done batch by batch; two between.
SHAPES = {
    "20M": (136_677, 20_108, 10_000_000),
    "1M": (6_040, 3_416, 800_000),
    "batches": (50_000, 20_108, 3_660_000),
    "8,000 items": (50_000, 8_000, 4_000_000),
    "1,000 items": (20_000, 1_000, 400_000),
}


@cache
def simulated(name: str) -> sp.csr_array:
    """CSR of ones; popularity as in Zipf's law."""
    return datasets.simulate(*SHAPES[name], seed=0).matrix


def assert_same_lists(result: np.ndarray, expected: np.ndarray, scores: np.ndarray) -> None:
    """The same scores at every rank: items may differ where rivals break ties otherwise."""
    rows = np.arange(len(scores))[:, None]
    np.testing.assert_allclose(scores[rows, result], scores[rows, expected], rtol=1e-6)
