"""Paths: many fits from one Gram matrix equal those made one at a time."""

import re
import tracemalloc

import numpy as np
import pytest
import scipy.sparse as sp

from pyrec import kernels
from pyrec.data import Interactions, strong_generalization
from pyrec.data.datasets import simulate
from pyrec.evaluation import evaluate
from pyrec.kernels import slim
from pyrec.metrics import summarize
from pyrec.models import EASE, ADMM_Slim, closed_form

LAMS = [300.0, 1.0, 30.0, 3000.0]
METRIC = "ndcg@10"


@pytest.fixture(scope="module")
def split():
    return strong_generalization(simulate(800, 120, 12_000, seed=1), heldout=100, seed=0)


@pytest.fixture(scope="module")
def valid(split):
    return split.valid_tr, split.valid_te


@pytest.fixture
def grams(monkeypatch):
    """A list with an entry for each Gram matrix that is computed."""
    calls = []
    own = kernels.gram
    monkeypatch.setattr(kernels, "gram", lambda *a, **o: calls.append(1) or own(*a, **o))
    return calls


def value_of(model, valid):
    return summarize(evaluate(model, valid, [METRIC]))[METRIC].mean


def dense(weights):
    return weights.toarray() if sp.issparse(weights) else weights


class TestEase:
    @pytest.mark.parametrize("dual", [False, True])
    def test_equals_separate_fits(self, split, valid, grams, monkeypatch, dual):
        monkeypatch.setattr(closed_form, "_dual_is_cheaper", lambda *given: dual)
        path = EASE.path(split.train, valid, METRIC, lam=LAMS, verbose=0)
        assert len(grams) == 1
        assert [point.parameters for point in path.points] == [{"lam": lam} for lam in LAMS]
        assert path.metric == METRIC
        values = []
        for lam, point in zip(LAMS, path.points, strict=True):
            model = EASE(lam)
            model.train(split.train)
            values.append(value_of(model, valid))
            assert point.value == pytest.approx(values[-1], abs=1e-12)
            assert point.seconds > 0
            if lam == path.best.lam:
                np.testing.assert_array_equal(path.best.weights, model.weights)
                np.testing.assert_array_equal(path.best.item_ids, split.train.items)
                np.testing.assert_array_equal(path.best.model[[3]], model.model[[3]])
        assert path.best.lam == LAMS[int(np.argmax(values))]
        assert max(values) > min(values)

    def test_memory(self):
        """Half a Gram matrix, the best weights and those under way: never a third matrix."""
        n = 1000
        x = sp.random_array((4000, n), density=0.01, dtype=np.float32, rng=0, format="csr")
        valid = x[:50], x[50:100]
        EASE.path(x, valid, METRIC, lam=[5.0], verbose=0)  # imports
        tracemalloc.start()
        EASE.path(x, valid, METRIC, lam=[5.0, 50.0, 500.0, 5000.0], verbose=0)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 2.75 * 4 * n * n

    def test_memory_is_checked_first(self, monkeypatch):
        monkeypatch.setattr("pyrec.machine.available_memory", lambda: 4 << 30)
        x = sp.csr_array((50_000, 25_000))
        with pytest.raises(
            MemoryError, match=r"EASE needs the 25,000 x 25,000 .*, 5\.9 GiB; 4\.0 GiB"
        ):
            EASE.path(x, (x, x), lam=[1.0, 2.0])

    def test_one_value(self, split, valid):
        path = EASE.path(split.train, valid, METRIC, lam=20, verbose=0)
        assert (path.best.lam, len(path.points)) == (20.0, 1)


class TestAdmmSlim:
    @pytest.mark.parametrize("item_bias", [False, True])
    @pytest.mark.parametrize(
        "flags",
        [
            {},
            {"nn_constr": False},
            {"l1_penalty": False},
            {"nn_constr": False, "l1_penalty": False},
        ],
    )
    def test_equals_separate_fits(self, split, valid, grams, flags, item_bias):
        flags = {**flags, "item_bias": item_bias}
        lambda1 = {} if "l1_penalty" in flags else {"lambda1": [0.5, 8.0, 2.0]}
        path = ADMM_Slim.path(
            *(split.train, valid, METRIC),
            **lambda1,
            lambda2=[5.0, 100.0],
            tol=1e-12,
            dtype=np.float64,
            verbose=0,
            **flags,
        )
        assert len(grams) == 1
        if lambda1:
            expected = [{"lambda1": a, "lambda2": b} for b in (5.0, 100.0) for a in (8.0, 2.0, 0.5)]
        else:
            expected = [{"lambda2": 5.0}, {"lambda2": 100.0}]
        assert [point.parameters for point in path.points] == expected
        values = []
        for point in path.points:
            model = ADMM_Slim(**point.parameters, **flags)
            model.train(split.train, verbose=0, solver="cd", tol=1e-12, dtype=np.float64)
            values.append(value_of(model, valid))
            assert point.value == pytest.approx(values[-1], abs=1e-3)
            if all(getattr(path.best, name) == v for name, v in point.parameters.items()):
                np.testing.assert_allclose(
                    dense(path.best.weights), dense(model.weights), atol=1e-5
                )
                if item_bias:
                    np.testing.assert_allclose(path.best.offset, model.offset, atol=1e-5)
        best = path.points[int(np.argmax([point.value for point in path.points]))]
        assert value_of(path.best, valid) == pytest.approx(best.value, abs=1e-12)

    def test_each_fit_begins_where_a_neighbour_ended(self, split, valid, monkeypatch):
        starts = []
        own = slim.coordinate_descent

        def watched(g, **options):
            starts.append(options["start"])
            return own(g, **options)

        monkeypatch.setattr(slim, "coordinate_descent", watched)
        grid = {"lambda1": [1.0, 4.0, 2.0], "lambda2": [10.0, 50.0]}
        ADMM_Slim.path(split.train, valid, METRIC, **grid, verbose=0)
        assert starts[0] is None
        for (a, b), start in zip(
            [(4, 10), (2, 10), (4, 10), (4, 50), (2, 50)], starts[1:], strict=True
        ):
            model = ADMM_Slim(a, b)
            model.train(split.train, verbose=0)
            np.testing.assert_allclose(start.toarray(), model.weights.toarray().T, atol=2e-3)

    def test_a_warm_start_saves_sweeps(self, split, valid, monkeypatch):
        work = []
        own = slim.coordinate_descent

        def counted(g, **options):
            for group in own(g, **options):
                work.append(group.work.sum())
                yield group

        monkeypatch.setattr(slim, "coordinate_descent", counted)
        near = {"lambda1": [2.02, 2.0], "lambda2": 20.0}
        ADMM_Slim.path(split.train, valid, METRIC, **near, verbose=0)
        assert work[1] < 0.6 * work[0]


class TestWhatIsRefused:
    @pytest.mark.parametrize(
        ("model", "grid", "message"),
        [
            (EASE, {"lam": []}, "lam must be a number or a list of numbers, got []"),
            (EASE, {"lam": [[1.0]]}, "lam must be a number or a list of numbers, got [[1.0]]"),
            (EASE, {"lam": [1.0, 0.0]}, "lam must be a number above 0, got 0.0"),
            (EASE, {"lam": ["x"]}, "lam must be a number above 0, got 'x'"),
            (
                ADMM_Slim,
                {"lambda1": [1.0, -1.0]},
                "lambda1 must be a number of at least 0, got -1.0",
            ),
            (ADMM_Slim, {"lambda2": None}, "lambda2 must be a number of at least 0, got None"),
            (ADMM_Slim, {"nn_constr": 3}, "nn_constr must be true or false, got 3"),
            (ADMM_Slim, {"tol": -1}, "tol must be a number above 0, got -1"),
        ],
    )
    def test_parameters(self, split, valid, grams, model, grid, message):
        with pytest.raises(ValueError, match=re.escape(message)):
            model.path(split.train, valid, METRIC, **grid)
        assert grams == []

    def test_metric(self, split, valid, grams):
        with pytest.raises(ValueError, match="a metric must be name@k"):
            EASE.path(split.train, valid, "auc", lam=[1.0])
        assert grams == []

    def test_nothing_held_out(self, split, valid):
        te = valid[1]
        nothing = Interactions(sp.csr_array(te.matrix.shape, dtype=np.float32), te.users, te.items)
        with pytest.raises(ValueError, match="valid_data must have a user with held-out items"):
            EASE.path(split.train, (valid[0], nothing), METRIC, lam=[1.0], verbose=0)
