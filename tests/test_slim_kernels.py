"""The solvers of SLIM's columns against their plain definitions."""

import numpy as np
import pytest
import reference
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from pyrec import _core, kernels
from pyrec.kernels.slim import PackedInverse, admm, coordinate_descent, pilot_rho

VARIANTS = [(2.0, True), (2.0, False), (0.0, True)]  # lambda1, nonnegative
# 8 and 6: a group of rows; 24 and 48, 8 and 16: a panel, of double and float, wide and narrow.
SIZES = [1, 2, 7, 8, 9, 16, 17, 23, 24, 25, 47, 48, 49, 97]


def gram_of(n_items, n_users=120, seed=0, dtype=np.float64):
    rng = np.random.default_rng(seed)
    chances = 0.6 / np.arange(1, n_items + 1) ** 0.5
    taste = rng.random((n_users, 1)) * 2
    x = (rng.random((n_users, n_items)) < np.clip(chances * taste, 0, 0.9)).astype(np.float64)
    return (x.T @ x).astype(dtype)


def inverse_of(g, lambda2, rho, dtype=None):
    return PackedInverse(
        np.linalg.inv(g + (lambda2 + rho) * np.eye(len(g))).astype(dtype or g.dtype)
    )


class TestAdmm:
    @pytest.mark.parametrize("n", SIZES)
    @pytest.mark.parametrize(("lambda1", "nonnegative"), VARIANTS)
    @pytest.mark.parametrize(("iterations", "relaxation"), [(1, 1.0), (4, 1.0), (4, 1.6)])
    def test_iterates_as_published(self, n, lambda1, nonnegative, iterations, relaxation):
        g, lambda2, rho = gram_of(n, seed=n), 5.0, 20.0
        expected = reference.admm_slim(
            g, lambda1, lambda2, rho, nonnegative, iterations, relaxation
        )
        for dtype, tolerance in ((np.float64, 1e-12), (np.float32, 2e-6)):
            found = admm(
                inverse_of(g, lambda2, rho, dtype),
                lambda1=lambda1,
                rho=rho,
                nonnegative=nonnegative,
                num_iter=iterations,
                tol=0,
                relaxation=relaxation,
            )
            np.testing.assert_allclose(reference.assemble(found, n), expected, atol=tolerance)

    @pytest.mark.parametrize(("lambda1", "nonnegative"), VARIANTS)
    def test_converges_to_the_optimum(self, lambda1, nonnegative):
        g, lambda2, rho = gram_of(40), 5.0, 30.0
        solved = list(
            admm(
                inverse_of(g, lambda2, rho),
                lambda1=lambda1,
                rho=rho,
                nonnegative=nonnegative,
                num_iter=5000,
                tol=1e-9,
            )
        )
        assert all((s.residual <= 1e-9).all() and (s.work < 5000).all() for s in solved)
        expected = reference.slim(g, lambda1, lambda2, nonnegative)
        np.testing.assert_allclose(reference.assemble(solved, 40), expected, atol=1e-7)

    def test_converges_where_nothing_holds_back(self):
        """All weights above zero without L1: Gamma is zero."""
        g = np.ones((4, 4)) + np.eye(4)
        (solved,) = admm(inverse_of(g, 1, 2), lambda1=0, rho=2, num_iter=500, tol=1e-6)
        assert (solved.work < 100).all()
        assert (solved.residual <= 1e-6).all()
        assert (np.diff(solved.weights.indptr) == 3).all()

    def test_same_bits_for_any_threads_and_any_company(self):
        """600 columns take turns in a panel of 512; 37 are solved on their own."""
        g = gram_of(600, seed=3, dtype=np.float32)
        p = inverse_of(g.astype(np.float64), 50, 300, np.float32)
        options = {"lambda1": 2.0, "rho": 300, "num_iter": 30, "tol": 1e-3}
        whole = reference.assemble(admm(p, **options, n_threads=1), 600)
        np.testing.assert_array_equal(
            reference.assemble(admm(p, **options, n_threads=3), 600), whole
        )
        some = np.arange(5, 600, 17)
        for s in admm(p, **options, columns=some):
            np.testing.assert_array_equal(s.weights.toarray().T, whole[:, s.columns])

    def test_every_column_once(self):
        g = gram_of(530, seed=1)
        p = inverse_of(g, 10, 50)
        groups = list(admm(p, lambda1=1.0, rho=50, num_iter=12, tol=1e-2))
        columns = np.concatenate([s.columns for s in groups])
        np.testing.assert_array_equal(np.sort(columns), np.arange(530))
        assert len(groups) > 2
        assert all((s.work <= 12).all() for s in groups)

    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    @pytest.mark.parametrize("n", [1, 47, 48, 100])
    def test_packed_in_place_or_in_a_copy(self, n, dtype):
        p = np.linalg.inv(gram_of(n) + 10 * np.eye(n)).astype(dtype)
        before = p.copy()
        copied = PackedInverse(p)
        np.testing.assert_array_equal(p, before)
        own = PackedInverse.memory(n, dtype)
        own[:] = p
        taken = PackedInverse(own, overwrite=True)
        assert np.shares_memory(taken.panels, own)
        np.testing.assert_array_equal(taken.panels[:n], copied.panels[:n])
        with pytest.raises(ValueError, match=r"must be an array from PackedInverse\.memory"):
            PackedInverse(p, overwrite=True)

    def test_no_columns(self):
        assert list(admm(inverse_of(gram_of(9), 1, 1), lambda1=1, rho=1, columns=[])) == []

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"lambda1": -1}, "lambda1 must be"),
            ({"lambda1": np.nan}, "lambda1 must be"),
            ({"rho": 0}, "rho must be"),
            ({"tol": -1e-3}, "tol must be"),
            ({"num_iter": 0}, "num_iter must be"),
            ({"num_iter": 2.5}, "num_iter must be"),
            ({"relaxation": 2}, "relaxation must be"),
            ({"columns": [0, 9]}, "columns must be in 0..8"),
            ({"columns": [[0]]}, "columns must be a 1-D"),
        ],
    )
    def test_bad_input_is_named(self, change, message):
        p = inverse_of(gram_of(9), 1, 1)
        with pytest.raises((TypeError, ValueError), match=message):
            admm(p, **{"lambda1": 1.0, "rho": 1.0, **change})

    @pytest.mark.parametrize(
        ("p", "message"),
        [
            (np.ones((3, 4), np.float32), "must be square"),
            (np.ones((3, 3), np.int64), "must be a float32 or float64"),
            (np.full((3, 3), np.nan), "must be finite"),
        ],
    )
    def test_bad_inverse_is_named(self, p, message):
        with pytest.raises((TypeError, ValueError), match=message):
            PackedInverse(p)

    def test_native_boundary_checks_for_itself(self):
        p = PackedInverse(np.eye(9, dtype=np.float32))
        d, b = p.scratch(3)
        w, out = np.zeros((3, 9), np.float32), np.zeros(3)
        columns = np.arange(3, dtype=np.int32)
        good = [p.panels, columns, 1.0, 1.0, 1.0, True, w, d, b, out, 1]
        _core.admm_step(*good)
        for place, bad, message in [
            (0, np.eye(9, dtype=np.float32), "p must have"),
            (1, columns + 7, "columns must be in"),
            (3, 0.0, "rho must be"),
            (6, w[:2], "w must have shape"),
            (7, d[:1], "d must have shape"),
            (8, b[:, :9], "C-contiguous"),
            (9, out[:2], "residuals must have"),
            (10, 0, "n_threads must be"),
        ]:
            args = list(good)
            args[place] = bad
            with pytest.raises((TypeError, ValueError), match=message):
                _core.admm_step(*args)


class TestCoordinateDescent:
    @pytest.mark.parametrize("n", [1, 2, 17, 60])
    @pytest.mark.parametrize(("lambda1", "nonnegative"), VARIANTS)
    @pytest.mark.parametrize(("dtype", "tolerance"), [(np.float64, 1e-6), (np.float32, 2e-5)])
    def test_finds_the_optimum(self, n, lambda1, nonnegative, dtype, tolerance):
        g, lambda2 = gram_of(n, seed=n), 3.0
        expected = reference.slim(g, lambda1, lambda2, nonnegative)
        solved = list(
            coordinate_descent(
                g.astype(dtype),
                lambda1=lambda1,
                lambda2=lambda2,
                nonnegative=nonnegative,
                tol=1e-14 if dtype == np.float64 else 1e-9,
            )
        )
        np.testing.assert_allclose(reference.assemble(solved, n), expected, atol=tolerance)
        assert all(s.weights.dtype == dtype for s in solved)

    @settings(max_examples=60, deadline=None)
    @given(
        st.integers(1, 12),
        st.integers(0, 30),
        st.sampled_from([0.0, 0.5, 3.0, 1e6]),
        st.sampled_from([0.0, 0.1, 10.0, 1e6]),
        st.booleans(),
        st.sampled_from([1e-1, 1e-4, 1e-8]),
        st.integers(0, 2**32 - 1),
    )
    def test_the_gap_bounds_the_objective(self, n, users, lambda1, lambda2, nonnegative, tol, seed):
        """Users may be fewer than items, items may have no users at all."""
        if lambda1 == lambda2 == 0:
            lambda2 = 1.0
        x = np.random.default_rng(seed).integers(0, 3, (users, n)).astype(np.float64)
        g = x.T @ x
        solved = list(
            coordinate_descent(
                g, lambda1=lambda1, lambda2=lambda2, nonnegative=nonnegative, tol=tol
            )
        )
        b = reference.assemble(solved, n)
        best = reference.slim(g, lambda1, lambda2, nonnegative)
        above = reference.slim_objective(g, b, lambda1, lambda2) - reference.slim_objective(
            g, best, lambda1, lambda2
        )
        assert not np.diagonal(b).any()
        assert not (nonnegative and (b < 0).any())
        bound = np.concatenate([s.residual for s in solved]) * np.diagonal(g) / 2
        scale = 1e-9 * (1 + np.diagonal(g))
        assert (above <= bound + scale).all()
        # Without a ridge the gap is a loose bound, of the size of the gradient.
        assert (bound <= (tol if lambda2 else max(tol, 1e-5)) * np.diagonal(g) / 2 + scale).all()

    def test_more_items_than_become_active_at_once(self):
        """Several rounds: 128 items enter at first, zeros leave and others come."""
        rng = np.random.default_rng(0)
        x = (rng.random((500, 600)) < 0.3).astype(np.float64)
        g = x.T @ x
        columns = np.array([0, 599, 300])
        for nonnegative in (True, False):
            (solved,) = coordinate_descent(
                g, lambda1=0.1, lambda2=20.0, nonnegative=nonnegative, tol=1e-13, columns=columns
            )
            assert nonnegative or (np.diff(solved.weights.indptr) > 500).all()
            b = solved.weights.toarray()
            rest = g[columns] - b @ g - 20.0 * b
            rest[np.arange(3), columns] = 0
            # The conditions of the optimum: |gradient| <= lambda1, equal where a weight is not zero.
            size = rest if nonnegative else np.abs(rest)
            assert size.max() < 0.1 + 1e-4
            np.testing.assert_allclose(rest[b != 0], 0.1 * np.sign(b[b != 0]), atol=1e-4)

    def test_so_many_active_items_that_their_square_is_too_large(self):
        n = 4200  # 4,096 squared floats are 64 MiB
        g = np.ones((n, n), np.float32)
        g.flat[:: n + 1] += 9
        (solved,) = coordinate_descent(g, lambda1=0.0, lambda2=2.0, columns=[7], tol=1e-9)
        # All others alike: (11 + (n - 2)) b = 1.
        row = solved.weights.toarray()[0]
        assert row[7] == 0
        np.testing.assert_allclose(np.delete(row, 7), 1 / (11 + n - 2), rtol=2e-3)

    def test_same_bits_for_any_threads_and_any_company(self):
        g = gram_of(300, seed=5, dtype=np.float32)
        options = {"lambda1": 1.0, "lambda2": 30.0}
        whole = reference.assemble(coordinate_descent(g, **options, n_threads=1), 300)
        again = reference.assemble(coordinate_descent(g, **options, n_threads=3), 300)
        np.testing.assert_array_equal(again, whole)
        some = np.arange(4, 300, 31)[::-1]
        for s in coordinate_descent(g, **options, columns=some):
            np.testing.assert_array_equal(s.weights.toarray().T, whole[:, s.columns])

    def test_a_warm_start_is_less_work_for_the_same_optimum(self):
        g = gram_of(120, seed=2)
        options = {"lambda2": 20.0, "tol": 1e-10}
        first = next(coordinate_descent(g, lambda1=2.0, **options))
        cold = next(coordinate_descent(g, lambda1=1.9, **options))
        warm = next(coordinate_descent(g, lambda1=1.9, **options, start=first.weights))
        assert warm.work.sum() < cold.work.sum()
        np.testing.assert_allclose(warm.weights.toarray(), cold.weights.toarray(), atol=1e-5)

    def test_a_start_that_breaks_the_constraints_is_mended(self):
        g = gram_of(20)
        wild = sp.csr_array(np.random.default_rng(0).standard_normal((20, 20)))
        options = {"lambda1": 1.0, "lambda2": 5.0, "tol": 1e-12}
        expected = next(coordinate_descent(g, **options)).weights.toarray()
        found = next(coordinate_descent(g, **options, start=wild)).weights.toarray()
        np.testing.assert_allclose(found, expected, atol=1e-6)

    def test_read_only_and_left_alone(self):
        g = gram_of(30)
        before = g.copy()
        g.flags.writeable = False
        list(coordinate_descent(g, lambda1=1, lambda2=1))
        np.testing.assert_array_equal(g, before)

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"g": np.ones((2, 3))}, "g must be square"),
            ({"g": np.full((9, 9), np.inf)}, "g must be finite"),
            ({"g": [[1.0]]}, "g must be a float32"),
            ({"lambda1": -1}, "lambda1 must be"),
            ({"lambda2": np.inf}, "lambda2 must be"),
            ({"lambda1": 0, "lambda2": 0}, "must not both be 0"),
            ({"tol": 0}, "tol must be"),
            ({"columns": [-1]}, "columns must be in"),
            ({"columns": [0.5]}, "columns must be a 1-D"),
            ({"start": sp.csr_array((2, 9))}, "start must be a sparse matrix of shape"),
            ({"start": np.zeros((9, 9))}, "start must be a sparse matrix"),
        ],
    )
    def test_bad_input_is_named(self, change, message):
        arguments = {"g": gram_of(9), "lambda1": 1.0, "lambda2": 1.0, **change}
        with pytest.raises((TypeError, ValueError), match=message):
            coordinate_descent(arguments.pop("g"), **arguments)


class TestPilotRho:
    @pytest.mark.parametrize(("lambda1", "nonnegative"), VARIANTS)
    def test_needs_few_iterations(self, lambda1, nonnegative):
        g, lambda2 = gram_of(150, n_users=2000, dtype=np.float32), 100.0
        rho = pilot_rho(g, lambda1=lambda1, lambda2=lambda2, nonnegative=nonnegative)

        def work(value):
            p = inverse_of(g.astype(np.float64), lambda2, value, np.float32)
            options = {
                "lambda1": lambda1,
                "rho": value,
                "nonnegative": nonnegative,
                "num_iter": 200,
            }
            return sum(int(s.work.sum()) for s in admm(p, **options))

        assert work(rho) <= 1.2 * min(work(rho * 10), work(rho / 10))

    def test_without_a_ridge(self):
        assert pilot_rho(gram_of(30), lambda1=1.0, lambda2=0.0) > 0

    def test_no_items(self):
        assert pilot_rho(np.zeros((0, 0)), lambda1=1.0, lambda2=1.0) > 0

    def test_no_interactions_at_all(self):
        assert pilot_rho(np.zeros((5, 5)), lambda1=1.0, lambda2=2.0) > 0


class TestSparseWeights:
    @settings(max_examples=80, deadline=None)
    @given(
        st.integers(0, 9),
        st.integers(1, 70),
        st.integers(1, 80),
        st.booleans(),
        st.integers(0, 2**32 - 1),
    )
    def test_equals_the_dense_product(self, n, m, k, with_offset, seed):
        """Few distinct values: ties everywhere, and many items that no history leads to."""
        rng = np.random.default_rng(seed)
        x = sp.csr_array((rng.random((n, m)) < 0.2).astype(np.float32))
        w = sp.csr_array(rng.integers(-1, 3, (m, m)) * (rng.random((m, m)) < 0.1), dtype=np.float32)
        offset = rng.integers(-2, 3, m).astype(np.float32) if with_offset else None
        scores = (x @ w).toarray() + (0 if offset is None else offset)
        seen, deny = x.toarray() > 0, rng.random(m) < 0.1
        expected = reference.topk(scores, k, seen=seen, deny=deny)
        found = kernels.topk_sparse_weights(x, w, k, x, offset=offset, deny=np.flatnonzero(deny))
        np.testing.assert_array_equal(found.items, expected[0])
        np.testing.assert_array_equal(found.scores, expected[1].astype(np.float32))
        np.testing.assert_array_equal(
            kernels.scores_sparse_weights(x, w, offset=offset), scores.astype(np.float32)
        )

    def test_same_bits_for_any_number_of_threads(self, draw):
        x = draw(300, 200, 0.1, binary=False)
        w = draw(200, 200, 0.1, binary=False)
        one = kernels.topk_sparse_weights(x, w, 20, x, n_threads=1)
        three = kernels.topk_sparse_weights(x, w, 20, x, n_threads=3)
        for a, b in zip(one, three, strict=True):
            np.testing.assert_array_equal(a, b)

    def test_allow(self):
        x, w = sp.csr_array(np.eye(5, dtype=np.float32)), sp.csr_array((5, 5), dtype=np.float32)
        found = kernels.topk_sparse_weights(x, w, 3, x, allow=[4, 2])
        np.testing.assert_array_equal(found.items[:3], [[2, 4, -1], [2, 4, -1], [4, -1, -1]])

    def test_bad_input_is_named(self, draw):
        x = draw(3, 5, 0.5)
        for weights, message in [
            (sp.csr_array((5, 4)), "weights must have shape"),
            (sp.csr_array((4, 4)), "weights must have shape"),
        ]:
            with pytest.raises(ValueError, match=message):
                kernels.topk_sparse_weights(x, weights, 2)
        with pytest.raises(ValueError, match="offset must have an entry"):
            kernels.topk_sparse_weights(x, sp.csr_array((5, 5)), 2, offset=np.zeros(4))
