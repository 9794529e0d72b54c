"""EASE, from CSR to weights."""

import numpy as np
import pytest
import scipy.sparse as sp
from scipy.linalg import lapack

from pyrec.models import EASE

LAM = 500.0


def pyrec(x):
    model = EASE(LAM)
    model.train(x)
    return model.weights


def lapack_by_hand(x):
    """What a careful user writes: sparse Gram, Cholesky factorisation and inverse, in place where possible."""
    p = np.asfortranarray((x.T @ x).toarray())
    p.flat[:: len(p) + 1] += LAM
    p, info = lapack.spotrf(p, lower=1, overwrite_a=1, clean=0)
    assert info == 0
    p, info = lapack.spotri(p, lower=1, overwrite_c=1)
    assert info == 0
    p += np.tril(p, -1).T - np.triu(p, 1)
    p /= -np.diag(p).copy()
    np.fill_diagonal(p, 0)
    return p


def torch_inverse(x):
    """What most implementations do: a general inverse."""
    import torch

    p = torch.from_numpy((x.T @ x).toarray())
    p.diagonal().add_(LAM)
    p = torch.linalg.inv(p)
    p.div_(-p.diagonal().clone()).fill_diagonal_(0)
    return p.numpy()


def irspack(x):
    from irspack import DenseSLIMRecommender

    return DenseSLIMRecommender(sp.csr_matrix(x), reg=LAM).learn().W


WAYS = {f.__name__: f for f in (pyrec, lapack_by_hand, torch_inverse, irspack)}


@pytest.mark.benchmark(group="EASE")
@pytest.mark.parametrize("way", WAYS)
def test_ease(measured, interactions, way):
    large = interactions.shape[1] > 10_000
    if large and way == "torch_inverse":
        pytest.skip(
            "a general inverse of 20,108 rows takes minutes; it is measured on the small set"
        )
    weights = measured(WAYS[way], interactions, rounds=1 if large else 7, warmup=0 if large else 1)
    columns = np.arange(5)
    # (XᵀX + λI) b_j = XᵀX e_j + c e_j : the residual off the diagonal vanishes at the solution.
    b = np.asarray(weights[:, columns], dtype=np.float64)
    gram_columns = (interactions.T @ interactions[:, columns]).toarray()
    residual = interactions.T @ (interactions @ b) + LAM * b - gram_columns
    residual[columns, columns] = 0
    assert np.abs(residual).max() < 2e-3 * np.abs(gram_columns).max()
