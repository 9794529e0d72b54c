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
