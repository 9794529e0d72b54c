"""ADMM_Slim with an L1 penalty and no negative weights, against scikit-learn column by column."""

import numpy as np
import pytest
import scipy.sparse as sp
from sklearn.linear_model import ElasticNet

import pyrec
from pyrec.models import ADMM_Slim


def elastic_net(x, j, lambda1, lambda2):
    """1/(2n) ‖y - Xw‖² + alpha r ‖w‖₁ + alpha (1 - r) / 2 ‖w‖² is ours over the n users."""
    alpha = (lambda1 + lambda2) / x.shape[0]
    model = ElasticNet(
        alpha,
        l1_ratio=lambda1 / (lambda1 + lambda2),
        fit_intercept=False,
        positive=True,
        tol=1e-9,
        max_iter=200_000,
    )
    others = np.delete(np.arange(x.shape[1]), j)
    model.fit(sp.csc_matrix(x[:, others]), x[:, [j]].toarray()[:, 0])
    return np.insert(model.coef_, j, 0.0)


@pytest.mark.parametrize("solver", ["cd", "admm"])
@pytest.mark.parametrize(("lambda1", "lambda2"), [(0.5, 2.0), (3.0, 20.0), (10.0, 0.5)])
def test_random_problems(draw, solver, lambda1, lambda2):
    x = draw(200, 30, 0.25).astype(np.float64)
    model = ADMM_Slim(lambda1, lambda2, rho=40.0)
    tol = 1e-10 if solver == "cd" else 1e-8
    model.train(x, 5000, verbose=0, solver=solver, tol=tol, dtype=np.float64)
    found = model.weights.toarray()
    for j in range(30):
        np.testing.assert_allclose(found[:, j], elastic_net(x, j, lambda1, lambda2), atol=1e-4)


@pytest.mark.data
def test_movielens(real_data):
    data = pyrec.read_interactions(real_data / "ml-100k" / "ml-100k.inter")
    x = data.matrix.astype(np.float64)
    model = ADMM_Slim(3.0, 200.0)
    model.train(data, verbose=0, tol=1e-9, dtype=np.float64)
    for j in np.argsort(-np.bincount(x.indices))[:300:30]:
        found = model.weights[:, [j]].toarray()[:, 0]
        np.testing.assert_allclose(found, elastic_net(x, j, 3.0, 200.0), atol=1e-4)
