"""ADMM_Slim against exact solutions, its files, and what it refuses."""

import re

import numpy as np
import pytest
import scipy.sparse as sp
from scipy.optimize import nnls

import pyrec
from pyrec import kernels
from pyrec.kernels import slim
from pyrec.models import EASE, ADMM_Slim
from pyrec.serialization import read_tensors, write_tensors

VARIANTS = {
    "vanilla": {"nn_constr": True, "l1_penalty": True},
    "negative": {"nn_constr": False, "l1_penalty": True},
    "no L1": {"nn_constr": True, "l1_penalty": False},
    "neither": {"nn_constr": False, "l1_penalty": False},
}
SOLVERS = ["cd", "admm"]
# To the optimum, as far as float64 goes.
EXACTLY = {"num_iter": 2000, "tol": 1e-13, "dtype": np.float64}


def gram(x, centred):
    x = x.toarray().astype(np.float64)
    x = x - x.mean(0) if centred else x
    return x.T @ x


def exact(g, lambda1, lambda2, nonnegative):
    """Each weight to its own optimum, a row of B at a time, until nothing moves."""
    b, h = np.zeros_like(g), g + lambda2 * np.eye(len(g))
    for _ in range(20_000):
        before = b.copy()
        for i in range(len(g)):
            b[i] = 0
            r = g[i] - h[i] @ b
            size = np.maximum((r if nonnegative else np.abs(r)) - lambda1, 0)
            b[i] = size * np.sign(r) / h[i, i]
            b[i, i] = 0
        if np.abs(b - before).max() < 1e-13:
            return b
    raise AssertionError("the exact solution was not reached")


def exact_nonnegative(g, j, lambda1, lambda2):
    """Column j by the active sets of Lawson & Hanson: with LLᵀ = G + λ₂I, min ‖Lᵀb - L⁻¹(g_j - λ₁)‖, b ≥ 0."""
    others = np.delete(np.arange(len(g)), j)
    factor = np.linalg.cholesky(g[np.ix_(others, others)] + lambda2 * np.eye(len(others)))
    b, _ = nnls(factor.T, np.linalg.solve(factor, g[others, j] - lambda1))
    return np.insert(b, j, 0.0)


def objective(g, b, lambda1, lambda2):
    fit = np.trace(g) - 2 * np.sum(g * b) + np.sum(b * (g @ b))
    return 0.5 * fit + 0.5 * lambda2 * np.sum(b * b) + lambda1 * np.abs(b).sum()


def excess(g, b, lambda1, lambda2, nonnegative):
    """At least what the objective is above its minimum: the smallest subgradient over the strong convexity."""
    slope = g @ b - g + lambda2 * b
    if nonnegative:
        at_zero = np.minimum(slope + lambda1, 0)
    else:
        at_zero = np.sign(slope) * np.maximum(np.abs(slope) - lambda1, 0)
    v = np.where(b == 0, at_zero, slope + lambda1 * np.sign(b))
    np.fill_diagonal(v, 0)
    return np.sum(v * v) / (2 * lambda2)


def dense(weights):
    return weights.toarray() if sp.issparse(weights) else weights


def trained(x, *parameters, solver="auto", num_iter=50, tol=None, dtype=np.float32, **flags):
    model = ADMM_Slim(*parameters, **flags)
    model.train(x, num_iter, 0, solver=solver, tol=tol, dtype=dtype)
    return model


class TestOptimum:
    X = np.array([[1, 1, 0, 0], [0, 1, 1, 0], [1, 0, 1, 1], [1, 1, 0, 1], [0, 0, 1, 1]])
    B = np.array(
        [
            [0, 0.511111, 0, 0.422222],
            [0.422222, 0, 0.111111, 0],
            [0, 0.111111, 0, 0.422222],
            [0.422222, 0, 0.511111, 0],
        ]
    )

    @pytest.mark.parametrize("solver", SOLVERS)
    def test_small_example(self, solver):
        model = trained(self.X, 0.1, 0.5, 2.0, solver=solver, num_iter=500, tol=1e-9)
        np.testing.assert_allclose(dense(model.weights), self.B, atol=1e-5)
        assert isinstance(model.weights, sp.csr_array)
        assert model.weights.dtype == np.float32
        assert model.weights.has_canonical_format

    @pytest.mark.parametrize("solver", SOLVERS)
    @pytest.mark.parametrize("item_bias", [False, True])
    @pytest.mark.parametrize("variant", VARIANTS)
    def test_equals_the_exact_solution(self, draw, variant, item_bias, solver):
        x = draw(80, 30, 0.25, binary=False)
        flags = VARIANTS[variant]
        lambda1 = 2.0 if flags["l1_penalty"] else 0.0
        g = gram(x, item_bias)
        expected = exact(g, lambda1, 5.0, flags["nn_constr"])
        model = trained(x, 2.0, 5.0, 20.0, item_bias=item_bias, solver=solver, **flags, **EXACTLY)
        found = dense(model.weights).astype(np.float64)
        np.testing.assert_allclose(found, expected, atol=1e-6)
        assert (np.diag(found) == 0).all()
        assert model.residual < 1e-6
        # In float32 and with the tolerance of its own, the objective is as good.
        quick = trained(x, 2.0, 5.0, 20.0, item_bias=item_bias, solver=solver, **flags)
        least = objective(g, expected, lambda1, 5.0)
        assert objective(g, dense(quick.weights), lambda1, 5.0) < least + 1e-6 * np.trace(g)

    @pytest.mark.parametrize("lambda1", [0.0, 1.5])
    def test_equals_active_sets(self, draw, lambda1):
        x = draw(100, 60, 0.2)
        g = gram(x, False)
        model = trained(x, lambda1, 3.0, solver="cd", **EXACTLY)
        for j in (0, 17, 59):
            expected = exact_nonnegative(g, j, lambda1, 3.0)
            np.testing.assert_allclose(model.weights[:, [j]].toarray()[:, 0], expected, atol=1e-6)

    def test_neither_constraint_is_ease(self, draw):
        x = draw(200, 40, 0.2)
        ease = EASE(7.0)
        ease.train(x)
        for model in (
            trained(x, 3.0, 7.0, nn_constr=False, l1_penalty=False),
            trained(x, 0.0, 7.0, nn_constr=False),
        ):
            np.testing.assert_array_equal(model.weights, ease.weights)
            assert (model.residual, model.n_iter, model.n_solved) == (0.0, 0, 40)
        wide = trained(x, 3.0, 7.0, nn_constr=False, l1_penalty=False, dtype=np.float64)
        np.testing.assert_allclose(wide.weights, ease.weights, atol=1e-6)
        assert wide.weights.dtype == np.float32

    @pytest.mark.parametrize("rho", [1.0, 300.0, "auto"])
    def test_rho_is_a_matter_of_speed(self, draw, rho):
        x = draw(150, 25, 0.3)
        model = trained(x, 1.0, 4.0, rho, solver="admm", **EXACTLY)
        expected = trained(x, 1.0, 4.0, solver="cd", **EXACTLY)
        np.testing.assert_allclose(dense(model.weights), dense(expected.weights), atol=1e-5)
        assert model.rho == rho

    def test_iterations_bound_admm_alone(self, draw):
        x = draw(150, 25, 0.3)
        with pytest.warns(RuntimeWarning, match=r"far from the optimum.* after 3 iterations"):
            assert trained(x, 1.0, 4.0, 1e3, solver="admm", num_iter=3).n_iter == 3
        assert trained(x, 1.0, 4.0, solver="cd", num_iter=1).residual <= 1e-6

    def test_which_solver_runs(self, draw, monkeypatch):
        x, called = draw(50, 10, 0.3), []
        for name in ("admm", "coordinate_descent"):
            own = getattr(slim, name)
            monkeypatch.setattr(
                slim, name, lambda *a, own=own, name=name, **o: called.append(name) or own(*a, **o)
            )
        trained(x, 1.0)
        trained(x, l1_penalty=False)
        trained(x, 1.0, 5.0, 30.0, solver="admm")
        trained(x, nn_constr=False, l1_penalty=False, solver="admm")
        assert called == ["coordinate_descent", "coordinate_descent", "admm"]

    def test_one_thread_and_four_give_the_same_bits(self, draw, monkeypatch):
        x, found = draw(300, 600, 0.05), []  # more columns than a group has
        for n in ("1", "4"):
            monkeypatch.setenv("PYREC_NUM_THREADS", n)
            found.append(trained(x, 1.0, 5.0, nn_constr=False).weights)
        assert (found[0] != found[1]).nnz == 0
        assert found[0].nnz > 0

    @pytest.mark.data
    @pytest.mark.parametrize("item_bias", [False, True])
    @pytest.mark.parametrize("variant", ["vanilla", "negative", "no L1"])
    def test_movielens(self, real_data, variant, item_bias):
        data = pyrec.read_interactions(real_data / "ml-100k" / "ml-100k.inter")
        flags = VARIANTS[variant]
        lambda1 = 3.0 if flags["l1_penalty"] else 0.0
        g = gram(data.matrix, item_bias)
        options = {"item_bias": item_bias, "solver": "cd", **flags}
        close = trained(data, 3.0, 200.0, tol=1e-9, dtype=np.float64, **options)
        b = dense(close.weights).astype(np.float64)
        least = objective(g, b, lambda1, 200.0)
        assert excess(g, b, lambda1, 200.0, flags["nn_constr"]) < 1e-7 * least
        quick = trained(data, 3.0, 200.0, **options)
        assert objective(g, dense(quick.weights), lambda1, 200.0) < least + 1e-6 * least
        for j in range(0, len(g), 400) if flags["nn_constr"] else ():
            expected = exact_nonnegative(g, j, lambda1, 200.0)
            found = close.weights[:, [j]].toarray()[:, 0]
            np.testing.assert_allclose(found, expected, atol=1e-4)


class TestItemBias:
    @pytest.mark.parametrize("solver", SOLVERS)
    @pytest.mark.parametrize("variant", VARIANTS)
    def test_scores_are_those_of_a_centred_matrix(self, draw, variant, solver):
        x = draw(60, 20, 0.3, binary=False)
        model = trained(x, 1.0, 4.0, 10.0, item_bias=True, solver=solver, **VARIANTS[variant])
        b, weights = x.toarray().mean(0), dense(model.weights)
        some = draw(7, 20, 0.3, seed=1)
        expected = (some.toarray() - b) @ weights + b
        np.testing.assert_allclose(model.scores(some), expected, atol=1e-5)
        np.testing.assert_allclose(model.predict(some, None, False)[0], expected, atol=1e-5)
        np.testing.assert_allclose(
            model.model[[3]], (x.toarray()[[3]] - b) @ weights + b, atol=1e-5
        )
        items, scores = model.recommend(some, 5)
        np.testing.assert_allclose(scores, np.take_along_axis(expected, items, 1), atol=1e-5)

    def test_a_history_without_items_gets_the_offset(self, draw):
        model = trained(draw(60, 20, 0.3), 1.0, 4.0, item_bias=True)
        items, scores = model.recommend(sp.csr_array((1, 20)), 20)
        np.testing.assert_array_equal(items[0], np.argsort(-model.offset, kind="stable"))
        np.testing.assert_array_equal(scores[0], -np.sort(-model.offset))

    @pytest.mark.parametrize("variant", VARIANTS)
    def test_explanations_sum_to_the_scores(self, draw, variant):
        x = draw(60, 20, 0.3, binary=False)
        model = trained(x, 1.0, 4.0, item_bias=True, **VARIANTS[variant])
        some = draw(5, 20, 0.3, seed=1)
        items, scores = model.recommend(some, 18)
        why = model.explain(some, items)
        np.testing.assert_allclose(
            (why.contributions.sum(2) + why.offset)[items >= 0], scores[items >= 0], atol=1e-5
        )
        np.testing.assert_array_equal(why.offset[items >= 0], model.offset[items[items >= 0]])
        assert (why.offset[items < 0] == 0).all()

    def test_the_gram_matrix_stays_symmetric(self, draw):
        from pyrec.models import closed_form

        x = draw(70, 600, 0.1, binary=False)
        means = closed_form.item_means(x)
        np.testing.assert_allclose(means, x.toarray().mean(0), rtol=1e-6)
        g = closed_form.gram(x, means)
        np.testing.assert_array_equal(g, g.T)
        np.testing.assert_allclose(g, gram(x, True), atol=1e-4)


class TestModel:
    def test_similar_items(self, draw):
        model = trained(draw(50, 20, 0.3), 1.0, 5.0, item_bias=True)
        items, scores = model.similar_items([4, 7], 20)
        weights = model.weights.toarray()
        for row, item in enumerate((4, 7)):
            order = np.argsort(-weights[item], kind="stable")
            order = order[order != item]
            np.testing.assert_array_equal(items[row], np.append(order, -1))
            np.testing.assert_array_equal(scores[row, :-1], weights[item, order])

    def test_before_training(self):
        model = ADMM_Slim()
        assert (model.model, model.weights, model.n_solved) == (None, None, 0)
        assert repr(model) == (
            "ADMM_Slim(lambda1=5, lambda2=1000, rho=100000, nn_constr=True, l1_penalty=True, "
            "item_bias=False)"
        )

    def test_an_interrupted_training_keeps_what_it_has(self, draw, monkeypatch, tmp_path):
        x = draw(100, 40, 0.2)
        whole = trained(x, 1.0, 5.0, item_bias=True)
        descend = slim.coordinate_descent

        def interrupted(*given, **options):
            for groups, group in enumerate(descend(*given, **options)):
                if groups == 2:
                    raise KeyboardInterrupt
                yield group

        monkeypatch.setattr(slim, "_GROUP", 8)
        monkeypatch.setattr(slim, "coordinate_descent", interrupted)
        model = ADMM_Slim(1.0, 5.0, item_bias=True)
        with pytest.raises(KeyboardInterrupt):
            model.train(x, verbose=0)
        assert (whole.n_solved, model.n_solved) == (40, 16)
        expected = whole.weights.toarray()
        expected[:, 16:] = 0
        np.testing.assert_array_equal(model.weights.toarray(), expected)
        np.testing.assert_allclose(model.offset[16:], x.toarray().mean(0)[16:], rtol=1e-6)
        model.save_model(tmp_path / "m")
        assert pyrec.load_model(tmp_path / "m").n_solved == 16
        assert (model.recommend(x, 3).items >= 0).all()

    def test_a_training_interrupted_at_once_changes_nothing(self, draw, monkeypatch):
        model = trained(draw(100, 40, 0.2), 1.0, 5.0)
        before = model.weights

        def interrupted(*given, **options):
            raise KeyboardInterrupt
            yield

        monkeypatch.setattr(slim, "coordinate_descent", interrupted)
        with pytest.raises(KeyboardInterrupt):
            model.train(draw(100, 30, 0.2), verbose=0)
        assert model.weights is before
        assert (model.n_items, model.n_solved) == (40, 40)

    @pytest.mark.parametrize(
        ("parameters", "message"),
        [
            ({"lambda1": -1}, "lambda1 must be a number of at least 0, got -1"),
            ({"lambda1": np.nan}, "lambda1 must be a number of at least 0, got nan"),
            ({"lambda1": np.inf}, "lambda1 must be a number of at least 0, got inf"),
            ({"lambda1": True}, "lambda1 must be a number of at least 0, got True"),
            ({"lambda2": -0.5}, "lambda2 must be a number of at least 0, got -0.5"),
            ({"lambda2": "5"}, "lambda2 must be a number of at least 0, got '5'"),
            ({"lambda2": 0, "l1_penalty": False}, "lambda2 must be above 0 without an L1 penalty"),
            ({"lambda2": 0, "lambda1": 0}, "lambda2 must be above 0 without an L1 penalty"),
            ({"rho": 0}, "rho must be a number above 0, got 0"),
            ({"rho": "x"}, "rho must be a number above 0 or 'auto', got 'x'"),
            ({"rho": None}, "rho must be a number above 0, got None"),
            ({"nn_constr": 1}, "nn_constr must be true or false, got 1"),
            ({"l1_penalty": "no"}, "l1_penalty must be true or false, got 'no'"),
            ({"item_bias": None}, "item_bias must be true or false, got None"),
        ],
    )
    def test_bad_parameters(self, parameters, message):
        with pytest.raises(ValueError, match=re.escape(message)):
            ADMM_Slim(**parameters)

    @pytest.mark.parametrize(
        ("options", "error", "message"),
        [
            ({"num_iter": 0}, ValueError, "num_iter must be a whole number of at least 1, got 0"),
            ({"num_iter": 2.0}, ValueError, "num_iter must be a whole number of at least 1"),
            ({"solver": "lbfgs"}, ValueError, "solver must be one of auto, admm, cd, got 'lbfgs'"),
            ({"tol": 0}, ValueError, "tol must be a number above 0, got 0"),
            ({"tol": np.nan}, ValueError, "tol must be a number above 0, got nan"),
            ({"relaxation": 2}, ValueError, "relaxation must be below 2, got 2"),
            ({"relaxation": 0}, ValueError, "relaxation must be a number above 0, got 0"),
            ({"dtype": int}, TypeError, "dtype must be float32 or float64, got <class 'int'>"),
            ({"dtype": "half"}, TypeError, "dtype must be float32 or float64, got 'half'"),
        ],
    )
    @pytest.mark.parametrize("variant", ["vanilla", "neither"])
    def test_bad_options(self, draw, options, error, message, variant):
        with pytest.raises(error, match=re.escape(message)):
            ADMM_Slim(**VARIANTS[variant]).train(draw(5, 4), **options)

    def test_memory_is_checked_first(self, monkeypatch):
        monkeypatch.setattr("pyrec.machine.available_memory", lambda: 4 << 30)
        x = sp.csr_array((50_000, 41_140))
        for solver in SOLVERS:
            with pytest.raises(
                MemoryError, match="ADMM_Slim needs a 41,140 x 41,140 float32 matrix"
            ):
                ADMM_Slim().train(x, solver=solver)
        with pytest.raises(
            MemoryError, match=r"41,140 x 41,140 float64 matrix, 13\.1 GiB; 4\.0 GiB"
        ):
            ADMM_Slim().train(x, dtype=np.float64)
        with pytest.raises(
            MemoryError, match="ADMM_Slim needs a 41,140 x 41,140 float32 matrix inv"
        ):
            ADMM_Slim(nn_constr=False, l1_penalty=False).train(x)

    def test_weights_that_grow_beyond_the_memory_are_named(self, draw, monkeypatch):
        room, taken = iter([1 << 30, 1 << 20]), []
        monkeypatch.setattr("pyrec.machine.available_memory", lambda: next(room, 100))
        monkeypatch.setattr(slim, "_GROUP", 8)
        own = slim.coordinate_descent
        monkeypatch.setattr(
            *(slim, "coordinate_descent"),
            lambda *a, **o: (taken.append(group) or group for group in own(*a, **o)),
        )
        with pytest.raises(MemoryError, match="B is not sparse enough"):
            ADMM_Slim(0.1, 1.0).train(draw(100, 40, 0.3))
        assert len(taken) == 2  # of five: not when all are done

    @pytest.mark.parametrize("flags", VARIANTS.values(), ids=VARIANTS)
    @pytest.mark.parametrize(
        "x",
        [
            np.full((5000, 3), 1e4),  # the penalties vanish in the sum
            np.full((2, 3), 1e20),  # the Gram matrix overflows
        ],
    )
    def test_what_float32_cannot_hold_is_named(self, x, flags):
        penalty = "lambda2 or rho" if any(flags.values()) else "lambda2"
        model = ADMM_Slim(1e-3, 1e-6, 1e-6, **flags)
        with (
            pytest.raises(np.linalg.LinAlgError, match=f"use a larger {penalty}"),
            np.errstate(over="ignore"),
        ):
            model.train(np.asarray(x, np.float32), solver="admm")


class TestFiles:
    @pytest.fixture
    def model(self, draw):
        return trained(draw(60, 20, 0.3), 1.0, 4.0, 9.0, item_bias=True)

    @pytest.fixture
    def file(self, model, tmp_path):
        model.save_model(tmp_path / "m")
        return tmp_path / "m"

    def test_weights_are_stored_sparse(self, model, file):
        tensors, header = read_tensors(file, "pyrec-model")
        assert tensors["weights.indptr"].dtype == np.int64
        assert tensors["weights.indices"].dtype == np.int32
        assert tensors["weights.data"].dtype == np.float32
        assert len(tensors["weights.data"]) == model.weights.nnz < 20 * 19
        assert "weights" not in tensors
        assert header["parameters"]["lambda2"] == 4.0

    def test_everything_comes_back(self, model, file, draw):
        loaded = pyrec.load_model(file)
        assert repr(loaded) == repr(model)
        for name in ("residual", "n_iter", "n_solved"):
            assert getattr(loaded, name) == getattr(model, name)
        assert isinstance(loaded.weights, sp.csr_array)
        np.testing.assert_array_equal(loaded.weights.toarray(), model.weights.toarray())
        np.testing.assert_array_equal(loaded.offset, model.offset)
        x = draw(6, 20, 0.3, seed=1)
        np.testing.assert_array_equal(loaded.predict(None, x)[0], model.predict(None, x)[0])
        with pytest.raises(RuntimeError, match="does not keep the training histories"):
            loaded.model[0]

    def test_loading_replaces_what_a_model_was(self, model, file, draw):
        other = trained(draw(60, 9, 0.3), nn_constr=False, l1_penalty=False)
        state = other.load_model(file)
        assert state["item_bias"] is True
        assert (other.n_items, other.weights.shape) == (20, (20, 20))
        assert other.nn_constr
        with pytest.raises(RuntimeError, match="does not keep the training histories"):
            other.model[0]

    @pytest.mark.parametrize(
        "change",
        [
            lambda t, h: t.update({"weights.indptr": t["weights.indptr"][:-1]}),
            lambda t, h: t.update({"weights.indptr": t["weights.indptr"][::-1].copy()}),
            lambda t, h: t["weights.indptr"].__setitem__(-1, 1 << 40),
            lambda t, h: t["weights.indptr"].__setitem__(0, -5),
            lambda t, h: t["weights.indptr"].__setitem__(3, 10**6),
            lambda t, h: t.update({"weights.indptr": t["weights.indptr"].astype(np.int32)}),
            lambda t, h: t.update({"weights.indptr": t["weights.indptr"][:, None]}),
            lambda t, h: t["weights.indices"].__setitem__(0, 20),
            lambda t, h: t["weights.indices"].__setitem__(0, -1),
            lambda t, h: t.update({"weights.indices": t["weights.indices"][:-1]}),
            lambda t, h: t.update({"weights.data": t["weights.data"][:-1]}),
            lambda t, h: t.update(
                {"weights.indices": np.append(t["weights.indices"], np.int32(1))}
            ),
            lambda t, h: t.update(
                {
                    name: np.append(t[name], t[name][:1])
                    for name in t
                    if name[8:] in ("indices", "data")
                }
            ),
            lambda t, h: t.update({"weights.indptr": np.empty(0, np.int64)}),
            lambda t, h: t.update({"weights.data": t["weights.data"].astype(np.float64)}),
            lambda t, h: t["weights.data"].__setitem__(0, np.nan),
            lambda t, h: t.pop("weights.indices"),
            lambda t, h: t.pop("offset"),
            lambda t, h: t.update(offset=np.zeros(19, np.float32)),
            lambda t, h: t.update(more=np.zeros(1)),
            lambda t, h: t.update(weights=np.zeros((20, 20), np.float32)),
            lambda t, h: h["parameters"].update(nn_constr="yes"),
            lambda t, h: h["parameters"].update(lambda1=None),
            lambda t, h: h["parameters"].update(rho=[1]),
            lambda t, h: h["parameters"].update(item_bias=False),
            lambda t, h: h["parameters"].update(nn_constr=False, l1_penalty=False),
            lambda t, h: h["parameters"].pop("training"),
            lambda t, h: h["parameters"].update(training=3),
            lambda t, h: h["parameters"]["training"].pop("n_iter"),
            lambda t, h: h["parameters"]["training"].update(n_solved=-1),
            lambda t, h: h["parameters"]["training"].update(residual="x"),
            lambda t, h: h.update(parameters=7),
            lambda t, h: h.update(n_items=21),
        ],
    )
    def test_a_wrong_file_is_named(self, file, model, change):
        tensors, header = read_tensors(file, "pyrec-model")
        change(tensors, header)
        write_tensors(file, tensors, header)
        with pytest.raises(ValueError, match="does not hold a valid ADMM_Slim"):
            pyrec.load_model(file)
        before = model.weights
        with pytest.raises(ValueError, match="does not hold a valid ADMM_Slim"):
            model.load_model(file)
        assert model.weights is before


def test_the_kernels_are_called_once_a_fit(draw, monkeypatch):
    """One Gram matrix, never a dense centred X."""
    calls = []
    own = kernels.gram
    monkeypatch.setattr(kernels, "gram", lambda *a, **o: calls.append(1) or own(*a, **o))
    for variant in VARIANTS.values():
        trained(draw(60, 20, 0.3), 1.0, 4.0, item_bias=True, **variant)
    assert len(calls) == 4
