"""SLIM: iterations of ADMM, how many of them an optimum takes, and whole fits."""

from __future__ import annotations

from functools import cache

import numpy as np
import scipy.sparse as sp
from contest import Floor, Job, direct
from data import SHAPES, simulated
from peers import peer

from pyrec import kernels
from pyrec.kernels.slim import PackedInverse, admm, coordinate_descent
from pyrec.models import ADMM_Slim

LAMBDA1, LAMBDA2, RHO = 5.0, 1e3, 1e4
SAMPLE, SOME = 512, 24


@cache
def gram(shape):
    return kernels.gram(simulated(shape))


def inverse(g, rho):
    p = PackedInverse.memory(len(g), g.dtype)
    p[:] = g
    p.flat[:: len(g) + 1] += LAMBDA2 + rho
    return kernels.spd_inverse(p)


def pyrec(p, count):
    packed = PackedInverse(p)
    return in_order(admm(packed, lambda1=LAMBDA1, rho=RHO, num_iter=count, tol=0, relaxation=1))


def in_order(solved):
    """All columns; one that has converged, as that of an item nobody has, made room for another."""
    solved = sorted(solved, key=lambda s: s.columns[0])
    columns = np.concatenate([s.columns for s in solved])
    weights = sp.vstack([s.weights for s in solved], format="csr")
    return weights if (np.diff(columns) > 0).all() else weights[np.argsort(columns)]


def torch_in_place(p, count):
    import torch

    return sp.csr_array(torch_iterations(torch.from_numpy(p), count).numpy().T)


def torch_iterations(inverse_, count):
    """A careful user's: four matrices, no temporaries."""
    import torch

    diagonal = inverse_.diagonal()
    w, d, b = (torch.zeros_like(inverse_) for _ in range(3))
    for _ in range(count):
        torch.addmm(inverse_, inverse_, d, beta=-(LAMBDA2 + RHO), alpha=RHO, out=b)
        b.diagonal().add_(1)
        torch.addcmul(b, inverse_, b.diagonal() / diagonal, value=-1, out=b)
        w.add_(b)
        torch.sub(d, b, out=d)  # w was 2c - d before: w + b - c = c - (d - b)
        w.sub_(torch.clamp(w - b - LAMBDA1 / RHO, min=0))
        torch.clamp(w - LAMBDA1 / RHO, min=0, out=d).mul_(2).sub_(w)
    return torch.clamp(w - LAMBDA1 / RHO, min=0)


def numpy_as_recbole(p, count):
    """The iteration of RecBole's ADMMSLIM, with its temporaries; the penalties of this benchmark."""
    n = len(p)
    fixed = np.eye(n, dtype=np.float32) - (LAMBDA2 + RHO) * p  # P G
    c, scaled_dual = np.zeros_like(p), np.zeros_like(p)
    for _ in range(count):
        b = fixed + p @ (RHO * (c - scaled_dual))
        b -= p * (np.diag(b) / np.diag(p))
        c = np.maximum(b + scaled_dual - LAMBDA1 / RHO, 0)
        scaled_dual += b - c
    return sp.csr_array(c.T)


def check_iterations(inputs, weights, way):
    """Some columns in float64, by the formulas."""
    p, count = inputs
    columns = np.linspace(0, len(p) - 1, 20).astype(int)
    wide, places = p.astype(np.float64), np.arange(len(columns))
    w = np.zeros((len(p), len(columns)))
    for _ in range(count):
        c = np.maximum(w - LAMBDA1 / RHO, 0)
        b = -(LAMBDA2 + RHO) * wide[:, columns] + RHO * (wide @ (2 * c - w))
        b[columns, places] += 1
        b -= wide[:, columns] * (b[columns, places] / np.diag(wide)[columns])
        w += b - c
    expected = np.maximum(w - LAMBDA1 / RHO, 0).T
    np.testing.assert_allclose(weights.tocsr()[columns].toarray(), expected, atol=2e-5)


def iterations(shape, count, name, **options):
    n = SHAPES[shape][1]
    return Job(
        f"{name} of ADMM-SLIM, {n:,} items",
        lambda: (inverse(gram(shape), RHO), count),
        {
            "pyrec": direct(pyrec),
            "torch in place": direct(torch_in_place),
            "NumPy as RecBole": direct(numpy_as_recbole),
        },
        check_iterations,
        Floor("products", flop=count * 2 * n**3),
        **options,
    )


def objective(g, columns, weights):
    b = weights.toarray().astype(np.float64)
    fit = ((b @ g - 2 * g[columns]) * b).sum(1) + np.diagonal(g)[columns]
    return (0.5 * fit + 0.5 * LAMBDA2 * (b * b).sum(1) + LAMBDA1 * b.sum(1)).sum()


def optimum(g, columns):
    """The least objective of some columns."""
    exact = list(coordinate_descent(g, lambda1=LAMBDA1, lambda2=LAMBDA2, columns=columns, tol=1e-9))
    return objective(g, columns, sp.vstack([s.weights for s in exact]))


def one_iteration(shape):
    """Of many items: any matrix costs the same, so the Gram matrix stands for the inverse."""
    packed = PackedInverse(kernels.gram(simulated(shape), out=memory_of(shape)), overwrite=True)
    return packed, np.random.default_rng(0).choice(SHAPES[shape][1], SAMPLE, replace=False)


def memory_of(shape):
    return PackedInverse.memory(SHAPES[shape][1])


def admm_once(packed, columns):
    options = {"lambda1": LAMBDA1, "rho": RHO, "tol": 0, "num_iter": 1, "columns": columns}
    return list(admm(packed, **options))


def check_finite(inputs, solved, way):
    assert all(np.isfinite(s.weights.data).all() for s in solved)


def slim_by_pyrec(x):
    model = ADMM_Slim(LAMBDA1, LAMBDA2)
    model.train(x, verbose=0)
    return model.weights


def slim_by_numpy(g, columns):
    """Cyclic coordinate descent for all the columns at once, to the same objective."""
    some = g[:, columns].astype(np.float64)
    weights, residual = np.zeros_like(some), some.copy()  # residual: XᵀX e_j - XᵀX b_j
    places = np.arange(len(columns))
    moved = np.inf
    while moved > 1e-5:
        moved = 0.0
        for i in range(len(g)):
            old = weights[i]
            new = residual[i] + g[i, i] * old - LAMBDA1
            np.maximum(new, 0, out=new)
            new /= g[i, i] + LAMBDA2
            new[places[columns == i]] = 0
            step = new - old
            if (most := np.abs(step).max()) > 0:
                residual -= np.outer(g[i], step)
                weights[i] = new
                moved = max(moved, most)
    return sp.csr_array(weights.T)


def slim_columns(g, columns):
    solved = coordinate_descent(g, lambda1=LAMBDA1, lambda2=LAMBDA2, columns=columns)
    return sp.vstack([s.weights for s in solved])


def check_columns(inputs, weights, way):
    g, columns = inputs
    assert objective(g, columns, weights) <= optimum(g, columns) * (1 + 1e-4)


def check_fit(inputs, weights, way):
    (x,) = inputs
    g = kernels.gram(x)
    columns = np.linspace(0, len(g) - 1, 16).astype(int)
    found = objective(g, columns, sp.csr_array(weights[:, columns].T))
    assert found <= optimum(g, columns) * (1 + 1e-4)


JOBS = [
    iterations("1M", 2, "two iterations"),
    iterations("8,000 items", 3, "three iterations", goal=16.8, full=True),
    Job(
        f"an iteration of ADMM-SLIM, {SAMPLE} columns of 20,108",
        lambda: one_iteration("20M"),
        {"pyrec": direct(admm_once)},
        check_finite,
        Floor("products", flop=2 * SAMPLE * SHAPES["20M"][1] ** 2),
        full=True,
    ),
    Job(
        f"SLIM by coordinate descent, {SOME} columns of 1,000 items",
        lambda: (gram("1,000 items"), np.arange(0, 1000, 1000 // SOME)[:SOME]),
        {"pyrec": direct(slim_columns), "NumPy": direct(slim_by_numpy)},
        check_columns,
        kernel=True,
    ),
    Job(
        "SLIM [1M]",
        lambda: (simulated("1M"),),
        {
            "pyrec": direct(slim_by_pyrec),
            "irspack": peer("irspack", "slim", lambda1=LAMBDA1, lambda2=LAMBDA2),
        },
        check_fit,
    ),
    Job(
        "SLIM [20M]",
        lambda: (simulated("20M"),),
        {"pyrec": direct(slim_by_pyrec)},
        check_fit,
        goal=600,
        full=True,
        once=True,
    ),
]
