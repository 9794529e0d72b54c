"""EASE from CSR to weights, and its two parts: the Gram matrix and the inverse."""

from __future__ import annotations

from functools import partial

import numpy as np
from contest import Floor, Job, direct
from data import SHAPES, simulated
from peers import peer
from scipy.linalg import inv, lapack

from pyrec import kernels
from pyrec.models import EASE

LAM = 500.0


def pyrec(x):
    model = EASE(LAM)
    model.train(x)
    return model.weights


def lapack_by_hand(x):
    """What a careful user writes: sparse Gram, Cholesky factorisation and inverse, all in place."""
    p = (x.T @ x).toarray().T  # symmetric, so the columns that LAPACK wants are the rows
    p.flat[:: len(p) + 1] += LAM
    p, info = lapack.spotrf(p, lower=1, overwrite_a=1, clean=0)
    assert info == 0
    p, info = lapack.spotri(p, lower=1, overwrite_c=1)
    assert info == 0
    for j in range(1, len(p)):
        p[:j, j] = p[j, :j]
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


def check_weights(inputs, weights, way):
    """(XᵀX + λI) b_j = XᵀX e_j + c e_j: the residual off the diagonal vanishes at the solution."""
    (x,) = inputs
    columns = np.arange(5)
    b = np.asarray(weights[:, columns], dtype=np.float64)
    gram_columns = (x.T @ x[:, columns]).toarray()
    residual = x.T @ (x @ b) + LAM * b - gram_columns
    residual[columns, columns] = 0
    assert np.abs(residual).max() < 2e-3 * np.abs(gram_columns).max()


def check_gram(inputs, gram, way):
    (x,) = inputs
    np.testing.assert_array_equal(gram[:20], (x[:, :20].T @ x).toarray())


def matrix(n):
    factor = np.random.default_rng(0).standard_normal((n, n), dtype=np.float32)
    return (factor @ factor.T + n * np.eye(n, dtype=np.float32),)


def check_inverse(inputs, inverse, way):
    (a,) = inputs
    np.testing.assert_allclose(inverse[:50] @ a, np.eye(len(a))[:50], atol=1e-4)


def scipy_gram(x):
    return (x.T @ x).toarray()


def fit(shape, ways, **options):
    n = SHAPES[shape][1]
    return Job(
        f"EASE [{shape}]",
        lambda: (simulated(shape),),
        {"pyrec": direct(pyrec), "LAPACK by hand": direct(lapack_by_hand), **ways},
        check_weights,
        Floor("n³ operations", flop=n**3),
        **options,
    )


def gram(shape, **options):
    return Job(
        f"Gram [{shape}]",
        lambda: (simulated(shape),),
        {"pyrec": direct(kernels.gram), "scipy": direct(scipy_gram)},
        check_gram,
        **options,
    )


N = SHAPES["1M"][1]
PEERS = {name: peer(name, "ease", lam=LAM) for name in ("irspack", "recbole", "recpack")}

JOBS = [
    gram("1M"),
    gram("20M", goal=1.7, full=True),
    Job(
        f"inverse of {N:,} rows",
        partial(matrix, N),
        {
            "pyrec": direct(lambda a: kernels.spd_inverse(a.copy())),
            "scipy": direct(inv),
        },
        check_inverse,
        Floor("n³ operations", flop=N**3),
    ),
    fit("1M", {"torch.linalg.inv": direct(torch_inverse), **PEERS}, goal=0.4),
    fit("20M", {"irspack": PEERS["irspack"]}, goal=47, full=True, once=True),
]
