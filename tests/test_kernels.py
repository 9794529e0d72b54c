"""The kernels against their plain definitions, at the sizes where the code changes its mind."""

import os
import signal
import subprocess
import sys

import numpy as np
import pytest
import reference
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from pyrec import _core, kernels

# 15..17: a vector; 63..65: a block; 1023..1025: a group of 16 blocks.
SIZES = [0, 1, 15, 16, 17, 63, 64, 65, 255, 257, 1023, 1025]


def pattern(mask):
    return sp.csr_array(np.asarray(mask, dtype=np.float32))


def assert_topk(result, expected):
    np.testing.assert_array_equal(result.items, expected[0])
    np.testing.assert_array_equal(result.scores, expected[1].astype(np.float32))


class TestGram:
    @pytest.mark.parametrize("n_items", SIZES)
    @pytest.mark.parametrize("binary", [True, False])
    def test_equals_the_product(self, draw, n_items, binary):
        x = draw(40, n_items, 0.2, binary=binary)
        expected = reference.gram(x.toarray())
        np.testing.assert_allclose(kernels.gram(x), expected, rtol=1e-6, atol=1e-6)
        np.testing.assert_allclose(
            kernels.gram(x, dtype=np.float64), expected, rtol=1e-7, atol=1e-7
        )
        np.testing.assert_allclose(
            kernels.gram(x, mirror=False), np.triu(expected), rtol=1e-6, atol=1e-6
        )

    @pytest.mark.parametrize("shape", [(0, 0), (0, 5), (5, 0)])
    def test_empty(self, shape):
        np.testing.assert_array_equal(kernels.gram(sp.csr_array(shape)), np.zeros((shape[1],) * 2))

    def test_more_users_than_a_16_bit_counter_holds(self):
        n = 2 * 65535 + 7  # two flushes and a rest
        x = sp.csr_array(np.ones((n, 2), np.float32))
        np.testing.assert_array_equal(kernels.gram(x), np.full((2, 2), n))

    def test_same_bits_for_any_number_of_threads(self, draw):
        x = draw(500, 200, 0.3, binary=False)
        np.testing.assert_array_equal(kernels.gram(x, n_threads=1), kernels.gram(x, n_threads=4))

    @settings(max_examples=60, deadline=None)
    @given(
        st.integers(0, 12),
        st.integers(1, 70),
        st.integers(0, 80),
        st.sampled_from([np.int32, np.int64]),
        st.sampled_from([np.float32, np.float64, np.int8, bool]),
        st.integers(0, 2**32 - 1),
    )
    def test_any_csr(self, n_users, n_items, nnz, index_type, value_type, seed):
        """Unsorted, duplicate and explicit-zero entries, any index and value types."""
        rng = np.random.default_rng(seed)
        nnz = nnz if n_users else 0
        rows = np.sort(rng.integers(0, max(n_users, 1), nnz))
        indptr = np.searchsorted(rows, np.arange(n_users + 1)).astype(index_type)
        indices = rng.integers(0, n_items, nnz).astype(index_type)
        x = sp.csr_array(
            (rng.integers(0, 3, nnz).astype(value_type), indices, indptr), shape=(n_users, n_items)
        )
        before = x.copy()
        dense = np.zeros(x.shape)
        np.add.at(dense, (rows, indices), x.data.astype(np.float64))
        np.testing.assert_allclose(kernels.gram(x), reference.gram(dense), rtol=1e-6)
        np.testing.assert_array_equal(x.indices, before.indices)
        np.testing.assert_array_equal(x.data, before.data)

    def test_read_only_and_non_contiguous(self, draw):
        x = draw(30, 20, 0.3)
        expected = reference.gram(x.toarray())
        wide = np.zeros((len(x.data), 2), np.float32)
        wide[:, 0] = x.data
        strided = sp.csr_array((x.data, x.indices, x.indptr), shape=x.shape)
        strided.data = wide[:, 0]
        for array in (strided.indices, strided.indptr, strided.data):
            array.flags.writeable = False
        np.testing.assert_array_equal(kernels.gram(strided), expected)


class TestSpdInverse:
    @pytest.mark.parametrize("n", [0, 1, 2, 65, 130])
    @pytest.mark.parametrize("block", [None, 0, 1, 7, 64, 1000])
    @pytest.mark.parametrize(("dtype", "tolerance"), [(np.float32, 3e-6), (np.float64, 1e-13)])
    def test_equals_the_general_inverse(self, n, block, dtype, tolerance):
        factor = np.random.default_rng(n).standard_normal((2 * n, n))
        a = factor.T @ factor + np.eye(n)
        expected = np.linalg.inv(a)
        inverse = a.astype(dtype)
        inverse[np.tril_indices(n, -1)] = np.nan  # only the upper triangle may be read
        assert kernels.spd_inverse(inverse, block=block) is inverse
        np.testing.assert_allclose(
            inverse, expected, atol=tolerance * np.abs(expected).max(initial=1)
        )

    @pytest.mark.parametrize("block", [0, 3])
    def test_not_positive_definite(self, block):
        a = np.diag([2.0, 1.0, 3.0, 4.0, -1.0, 5.0])
        with pytest.raises(np.linalg.LinAlgError, match="pivot 5 of 6 is not positive"):
            kernels.spd_inverse(a, block=block)

    @pytest.mark.parametrize("block", [0, 3])
    @pytest.mark.parametrize("value", [np.nan, np.inf])
    def test_not_finite(self, block, value):
        a = np.eye(6, dtype=np.float32)
        a[1, 4] = value
        with pytest.raises(np.linalg.LinAlgError, match="not positive definite"):
            kernels.spd_inverse(a, block=block)

    @settings(max_examples=40, deadline=None)
    @given(st.integers(0, 40), st.integers(0, 45), st.floats(0.5, 50), st.integers(0, 2**32 - 1))
    def test_any_size_and_block(self, n, block, shift, seed):
        factor = np.random.default_rng(seed).standard_normal((n, n))
        a = factor.T @ factor + shift * np.eye(n)
        expected = np.linalg.inv(a)
        np.testing.assert_allclose(
            kernels.spd_inverse(a, block=block), expected, rtol=1e-9, atol=1e-12
        )

    @pytest.mark.parametrize("block", [0, 64])
    def test_threads_change_the_last_bits_at_most(self, block):
        factor = np.random.default_rng(0).standard_normal((900, 400)).astype(np.float32)
        a = factor.T @ factor
        one, two = (kernels.spd_inverse(a.copy(), block=block, n_threads=n) for n in (1, 2))
        np.testing.assert_allclose(one, two, rtol=0, atol=1e-6 * np.abs(one).max())

    def test_named_errors(self):
        with pytest.raises(
            TypeError, match="a must be a float32 or float64 matrix, got int64 of shape"
        ):
            kernels.spd_inverse(np.eye(3, dtype=np.int64))
        with pytest.raises(ValueError, match=r"a must be square, got shape \(2, 3\)"):
            kernels.spd_inverse(np.zeros((2, 3)))
        with pytest.raises(
            TypeError, match="a must be a C-contiguous float32 array with 2 dimensions"
        ):
            kernels.spd_inverse(np.asfortranarray(np.ones((3, 3), np.float32)))
        read_only = np.eye(2)
        read_only.flags.writeable = False
        with pytest.raises(ValueError, match="a must be writable"):
            kernels.spd_inverse(read_only)

    @pytest.mark.parametrize(
        ("n", "block"), [(4500, 768), pytest.param(30_000, None, marks=pytest.mark.slow)]
    )
    def test_beyond_the_sizes_that_one_blas_call_takes(self, n, block):
        """4,500 rows need two strips; at 30,000 (3.4 GiB) OpenBLAS's own routines crash.

        A = D + vvᵀ has the inverse D⁻¹ - (D⁻¹v)(D⁻¹v)ᵀ / (1 + vᵀD⁻¹v) (Sherman and Morrison).
        """
        rng = np.random.default_rng(0)
        d, v = rng.uniform(1, 2, n), rng.standard_normal(n) / np.sqrt(n)
        a = np.outer(v.astype(np.float32), v.astype(np.float32))
        a.flat[:: n + 1] += d.astype(np.float32)
        kernels.spd_inverse(a, mirror=False, block=block)
        u = v / d
        scale = 1 / (1 + v @ u)
        for i in rng.integers(0, n, 50):
            expected = -scale * u[i] * u[i:]
            np.testing.assert_allclose(a[i, i], expected[0] + 1 / d[i], rtol=5e-6)
            largest = np.abs(expected).max()
            np.testing.assert_allclose(a[i, i + 1 :], expected[1:], rtol=0, atol=1e-4 * largest)

    @pytest.mark.slow
    def test_float64_beyond_the_size_where_lapack_crashes(self):
        """17,000 rows, 2.2 GiB."""
        n = 17_000
        a = np.zeros((n, n))
        a.flat[:: n + 1] = 4.0
        kernels.spd_inverse(a, mirror=False)
        np.testing.assert_array_equal(np.diagonal(a), np.full(n, 0.25))
        assert np.count_nonzero(a) == n


class TestEaseWeights:
    @pytest.mark.parametrize("n", [1, 63, 65, 200])
    def test_equals_the_formula(self, n):
        p = np.random.default_rng(n).standard_normal((n, n)).astype(np.float32)
        p = p + p.T + 3 * n * np.eye(n, dtype=np.float32)
        expected = -p / np.diag(p)
        np.fill_diagonal(expected, 0)
        p[np.tril_indices(n, -1)] = np.nan
        np.testing.assert_allclose(kernels.ease_weights(p), expected, rtol=1e-6)

    def test_same_bits_for_any_number_of_threads(self):
        p = np.random.default_rng(0).random((300, 300), dtype=np.float32)
        p += 300 * np.eye(300, dtype=np.float32)
        one, four = (kernels.ease_weights(p.copy(), n_threads=n) for n in (1, 4))
        np.testing.assert_array_equal(one, four)

    def test_named_errors(self):
        with pytest.raises(TypeError, match=r"p must be a float32 array, got builtins\.list"):
            kernels.ease_weights([[1.0]])
        with pytest.raises(
            TypeError, match="p must be a C-contiguous float32 array with 2 dimensions, got float64"
        ):
            kernels.ease_weights(np.eye(2))


class TestTopk:
    @pytest.mark.parametrize("n_items", SIZES)
    @pytest.mark.parametrize("k", [0, 1, 16, 100, 300])
    def test_equals_a_full_sort(self, n_items, k):
        rng = np.random.default_rng(n_items)
        scores = np.round(rng.standard_normal((33, n_items)), 1).astype(np.float32)  # many ties
        seen = rng.random(scores.shape) < 0.3
        assert_topk(kernels.topk(scores, k, pattern(seen)), reference.topk(scores, k, seen))
        assert_topk(kernels.topk(scores, k), reference.topk(scores, k))

    @settings(max_examples=150, deadline=None)
    @given(st.data())
    def test_adversarial(self, data):
        n_items = data.draw(st.integers(1, 200), label="n_items")
        k = data.draw(st.integers(0, 220), label="k")
        seed = data.draw(st.integers(0, 2**32 - 1), label="seed")
        rng = np.random.default_rng(seed)
        special = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0, 1e-45, -3e38], np.float32)
        scores = rng.choice(special, (5, n_items))
        plain = rng.random(scores.shape) < data.draw(
            st.sampled_from([0.0, 0.5, 1.0]), label="plain"
        )
        scores[plain] = rng.standard_normal(int(plain.sum()))
        masks = {}
        for name in ("seen", "allow", "deny"):
            density = data.draw(st.sampled_from([None, 0.0, 0.1, 0.9, 1.0]), label=name)
            masks[name] = None if density is None else rng.random(scores.shape) < density
        result = kernels.topk(
            scores, k, **{name: None if m is None else pattern(m) for name, m in masks.items()}
        )
        assert_topk(result, reference.topk(scores, k, **masks))

    def test_one_list_for_all_rows(self):
        scores = np.random.default_rng(0).standard_normal((20, 90)).astype(np.float32)
        some = np.array([3, 80, 5, 5, 64])  # unsorted, with a duplicate
        mask = np.zeros(90, bool)
        mask[some] = True
        assert_topk(kernels.topk(scores, 10, deny=some), reference.topk(scores, 10, deny=mask))
        assert_topk(kernels.topk(scores, 10, allow=some), reference.topk(scores, 10, allow=mask))
        assert_topk(
            kernels.topk(scores, 2, allow=[]), reference.topk(scores, 2, allow=mask & False)
        )

    @pytest.mark.parametrize("k", [5, 100, 700, 3000])
    def test_all_equal(self, k):
        scores = np.zeros((2, 2500), np.float32)
        assert_topk(kernels.topk(scores, k), reference.topk(scores, k))

    def test_same_bits_for_any_number_of_threads(self):
        scores = np.random.default_rng(0).standard_normal((300, 500)).astype(np.float32)
        one, four = (kernels.topk(scores, 20, n_threads=n) for n in (1, 4))
        np.testing.assert_array_equal(one.items, four.items)
        np.testing.assert_array_equal(one.scores, four.scores)

    def test_scores_are_converted_and_left_alone(self):
        scores = np.random.default_rng(0).standard_normal((4, 60))[:, ::2]
        scores.flags.writeable = False
        before = scores.copy()
        result = kernels.topk(scores, 3, pattern(np.ones((4, 30)) * (np.arange(30) < 9)))
        expected = reference.topk(scores.astype(np.float32), 3, np.arange(30) < 9)
        assert_topk(result, expected)
        np.testing.assert_array_equal(scores, before)

    def test_named_errors(self, draw):
        scores = np.zeros((3, 4), np.float32)
        with pytest.raises(ValueError, match="scores must have 2 dimensions, got shape"):
            kernels.topk(scores[0], 2)
        with pytest.raises(ValueError, match="k must be a whole number of at least 0, got -1"):
            kernels.topk(scores, -1)
        with pytest.raises(ValueError, match="seen has 5 columns, expected n_items = 4"):
            kernels.topk(scores, 2, draw(3, 5))
        with pytest.raises(ValueError, match="seen must have a row for each of the 3 rows, got 2"):
            kernels.topk(scores, 2, draw(2, 4))
        with pytest.raises(ValueError, match=r"deny must be in 0\.\.3, got 0\.\.4"):
            kernels.topk(scores, 2, deny=np.array([0, 4]))
        with pytest.raises(
            TypeError, match="allow must be a sparse matrix or a 1-D array of item numbers"
        ):
            kernels.topk(scores, 2, allow=np.zeros((3, 4)))
        with pytest.raises(ValueError, match="the number of threads must be at least 1, got 0"):
            kernels.topk(scores, 2, n_threads=0)


class TestTopkDenseWeights:
    @pytest.mark.parametrize("n_items", SIZES[1:])
    @pytest.mark.parametrize("offset", [False, True])
    def test_equals_the_product_and_a_sort(self, draw, n_items, offset):
        """Whole numbers: the sums are exact in any order."""
        rng = np.random.default_rng(n_items)
        x = draw(70, n_items, min(1.0, 20 / n_items))
        weights = rng.integers(-9, 9, (n_items, n_items)).astype(np.float32)
        shift = rng.integers(-9, 9, n_items).astype(np.float32) if offset else None
        scores = x.toarray() @ weights + (0 if shift is None else shift)
        seen = x.toarray() != 0
        result = kernels.topk_dense_weights(x, weights, 12, x, offset=shift)
        assert_topk(result, reference.topk(scores, 12, seen))
        np.testing.assert_array_equal(
            kernels.scores_dense_weights(x, weights, offset=shift), scores
        )
        assert_topk(
            kernels.topk_dense_weights(x, weights, 12, allow=[0], deny=x, offset=shift),
            reference.topk(scores, 12, allow=np.arange(n_items) == 0, deny=seen),
        )

    def test_same_bits_for_any_number_of_threads(self, draw):
        x = draw(300, 130, binary=False)
        weights = np.random.default_rng(0).standard_normal((130, 130)).astype(np.float32)
        one, four = (kernels.topk_dense_weights(x, weights, 9, x, n_threads=n) for n in (1, 4))
        np.testing.assert_array_equal(one.items, four.items)
        np.testing.assert_array_equal(one.scores, four.scores)

    def test_ranks_the_scores_that_are_returned(self, draw):
        x = draw(50, 130, 0.2, binary=False)
        weights = np.random.default_rng(0).standard_normal((130, 130)).astype(np.float32)
        scores = kernels.scores_dense_weights(x, weights)
        np.testing.assert_allclose(scores, x.toarray() @ weights, rtol=1e-4, atol=1e-5)
        assert_topk(kernels.topk_dense_weights(x, weights, 9), reference.topk(scores, 9))

    @pytest.mark.parametrize("shape", [(0, 0), (0, 4), (3, 0)])
    def test_empty(self, shape):
        result = kernels.topk_dense_weights(sp.csr_array(shape), np.ones((shape[1],) * 2), 2)
        assert result.items.shape == (shape[0], 2)
        assert (result.items == -1).sum() == (2 * shape[0] if shape[1] == 0 else 0)

    def test_named_errors(self, draw):
        with pytest.raises(
            ValueError, match=r"weights must have shape \(4, 4\) to fit x, got \(4, 5\)"
        ):
            kernels.topk_dense_weights(draw(3, 4), np.zeros((4, 5)), 2)
        with pytest.raises(
            ValueError, match="offset must have an entry for each of the 4 items, got 3"
        ):
            kernels.topk_dense_weights(draw(3, 4), np.zeros((4, 4)), 2, offset=np.zeros(3))


class TestTopkFactors:
    @pytest.mark.parametrize("n_items", [1, 17, 257, 1025])
    @pytest.mark.parametrize("rank", [0, 1, 33])
    @pytest.mark.parametrize("k", [0, 1, 10, 300])
    def test_equals_topk_of_the_product(self, n_items, rank, k):
        rng = np.random.default_rng(n_items + rank)
        h, items = (rng.standard_normal((n, rank), np.float32) for n in (40, n_items))
        bias = rng.standard_normal(n_items).astype(np.float32)
        seen, deny = pattern(rng.random((40, n_items)) < 0.2), np.array([0])
        for offset in (None, bias):
            ours = kernels.topk_factors(h, items, k, seen, bias=offset, deny=deny)
            scores = h.astype(np.float64) @ items.T + (0 if offset is None else offset)
            out = seen.toarray() > 0
            out[:, 0] = True
            _, best = reference.topk(scores, k, out)
            np.testing.assert_allclose(ours.scores, best, rtol=1e-5, atol=1e-5)
            found = ours.items >= 0
            np.testing.assert_array_equal(found, best > -np.inf)
            rows = np.repeat(np.arange(40), k).reshape(40, k)
            np.testing.assert_allclose(
                scores[rows[found], ours.items[found]], best[found], rtol=1e-5, atol=1e-5
            )
            assert not out[rows[found], ours.items[found]].any()

    def test_ties_go_to_the_lower_number(self):
        items = kernels.topk_factors(np.ones((2, 3)), np.ones((50, 3)), 50).items
        np.testing.assert_array_equal(items, np.tile(np.arange(50), (2, 1)))

    def test_same_bits_for_any_number_of_threads(self):
        rng = np.random.default_rng(0)
        # More rows than one block has, of which there are 104 with so many items.
        h, items = (rng.standard_normal((n, 20), np.float32) for n in (250, 20_000))
        one, four = (kernels.topk_factors(h, items, 9, n_threads=n) for n in (1, 4))
        np.testing.assert_array_equal(one.items, four.items)
        np.testing.assert_array_equal(one.scores, four.scores)

    def test_bad_input_is_named(self):
        h, items = np.ones((2, 3)), np.ones((5, 3))
        with pytest.raises(ValueError, match="h and items must have the same rank, got 2 and 3"):
            kernels.topk_factors(h[:, 1:], items, 1)
        with pytest.raises(ValueError, match=r"items must have 2 dimensions, got shape \(3,\)"):
            kernels.topk_factors(h, items[0], 1)
        with pytest.raises(
            ValueError, match="bias must have an entry for each of the 5 items, got 4"
        ):
            kernels.topk_factors(h, items, 1, bias=np.ones(4))


class TestRowSampler:
    @pytest.mark.parametrize("n_items", SIZES)
    def test_rows_come_in_the_order_asked_for(self, draw, n_items):
        x = draw(40, n_items, 0.2, binary=False)
        numbers = np.array([3, 39, 3, 0])  # one of them twice
        sampler = kernels.RowSampler(x)
        indptr, indices, values = sampler.rows(numbers)
        batch = sp.csr_array((values, indices, indptr), shape=(4, n_items))
        np.testing.assert_array_equal(batch.toarray(), x.toarray()[numbers])
        out = np.full((4, n_items), 7, np.float32)
        sampler.dense(numbers, out)
        np.testing.assert_array_equal(out, x.toarray()[numbers])

    def test_same_rows_for_any_number_of_threads(self, draw):
        x = draw(3000, 20, 0.3, binary=False)  # three tasks
        order = kernels.permuted(0, 3000, 3000, 0, 0)
        sampler = kernels.RowSampler(x)
        one, three = (sampler.rows(order, n_threads=n) for n in (1, 3))
        for ours, theirs in zip(one, three, strict=True):
            np.testing.assert_array_equal(ours, theirs)
        np.testing.assert_array_equal(
            sp.csr_array((one[2], one[1], one[0]), shape=x.shape).toarray(), x.toarray()[order]
        )

    def test_no_rows(self, draw):
        sampler = kernels.RowSampler(draw(4, 5))
        indptr, indices, values = sampler.rows(np.array([], np.int64))
        assert (indptr.tolist(), len(indices), len(values)) == ([0], 0, 0)

    def test_bad_input_is_named(self, draw):
        sampler = kernels.RowSampler(draw(4, 5))
        for call in (sampler.rows, lambda n: sampler.dense(n, np.empty((1, 5), np.float32))):
            for number in (-1, 4):
                with pytest.raises(
                    ValueError, match=rf"numbers must be rows in 0\.\.3, got {number}"
                ):
                    call(np.array([number]))
        with pytest.raises(ValueError, match=r"out must have shape \(2, 5\), got \(1, 5\)"):
            sampler.dense(np.array([0, 1]), np.empty((1, 5), np.float32))


class TestPermuted:
    @pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 16, 17, 1000])
    def test_is_a_permutation_of_its_own_for_each_seed_and_epoch(self, n):
        which = ((0, 0), (0, 1), (1, 0), (1, 1))
        orders = [kernels.permuted(0, n, n, *seeds) for seeds in which]
        for order in orders:
            np.testing.assert_array_equal(np.sort(order), np.arange(n))
        for i, first in enumerate(orders if n == 1000 else []):
            for second in orders[i + 1 :]:
                assert (first == second).sum() < 10

    def test_places_come_one_by_one(self):
        whole = kernels.permuted(0, 9000, 9000, 3, 4, n_threads=1)  # three tasks
        np.testing.assert_array_equal(whole, kernels.permuted(0, 9000, 9000, 3, 4, n_threads=3))
        np.testing.assert_array_equal(whole[70:75], kernels.permuted(70, 75, 9000, 3, 4))
        assert kernels.permuted(5, 5, 9, 0, 0).tolist() == []
        for first, last in ((-1, 2), (8, 10)):
            with pytest.raises(ValueError, match="first must leave room for"):
                kernels.permuted(first, last, 9, 0, 0)

    def test_never_changes(self):
        """Resumed runs on other machines and in later versions rely on it."""
        assert kernels.permuted(0, 8, 8, 7, 2).tolist() == [5, 7, 6, 0, 2, 1, 3, 4]
        assert kernels.permuted(0, 0, 0, 0, 0).tolist() == []

    @pytest.mark.parametrize("place", [0, 3, 7])
    def test_every_place_is_as_likely(self, place):
        """Chi-square of what a place holds, 2,000 epochs: 99.9 % of fair shuffles stay below 24.3."""
        rows = [int(kernels.permuted(place, place + 1, 8, 0, e)[0]) for e in range(2000)]
        counts = np.bincount(rows, minlength=8)
        assert ((counts - 250) ** 2 / 250).sum() < 24.3

    def test_every_order_is_as_likely(self):
        """Chi-square of the 24 orders of 4, 2,400 epochs: 99.9 % of fair shuffles stay below 49.7."""
        orders = [tuple(kernels.permuted(0, 4, 4, 0, e)) for e in range(2400)]
        _, counts = np.unique(orders, axis=0, return_counts=True)
        assert len(counts) == 24
        assert ((counts - 100) ** 2 / 100).sum() < 49.7


class TestRanking:
    @settings(max_examples=80, deadline=None)
    @given(st.integers(1, 40), st.integers(0, 12), st.integers(1, 15), st.integers(0, 2**32 - 1))
    def test_equals_the_formulas(self, n_items, depth, k, seed):
        rng = np.random.default_rng(seed)
        truth = rng.random((6, n_items)) < rng.choice([0.0, 0.1, 0.9])
        items = np.full((6, depth), -1)
        for row in items:
            n = rng.integers(0, min(depth, n_items) + 1)
            row[:n] = rng.permutation(n_items)[:n]
        values = kernels.ranking(items, pattern(truth), [f"{name}@{k}" for name in kernels.METRICS])
        for name in kernels.METRICS:
            expected = [
                reference.ranking(row.tolist(), set(np.flatnonzero(t)), name, k)
                for row, t in zip(items, truth, strict=True)
            ]
            np.testing.assert_allclose(values[f"{name}@{k}"], expected, rtol=1e-12, err_msg=name)

    def test_same_bits_for_any_number_of_threads(self, draw):
        items = kernels.topk(np.random.default_rng(0).random((999, 50)), 10).items
        one, four = (
            kernels.ranking(items, draw(999, 50), ["ndcg@10"], n_threads=n) for n in (1, 4)
        )
        np.testing.assert_array_equal(one["ndcg@10"], four["ndcg@10"])

    @pytest.mark.parametrize("name", ["ndcg", "ndcg@0", "auc@5", "ndcg@-1", "ndcg@5.0", 7])
    def test_unknown_metrics_are_named(self, name, draw):
        with pytest.raises(ValueError, match="a metric must be name@k with a name of ndcg, recall"):
            kernels.ranking(np.zeros((1, 1), int), draw(1, 3), [name])

    @pytest.mark.parametrize(
        "items",
        [
            np.array([[0, 3]]),
            np.array([[-2, 0]]),
            np.array([[2**32]]),
            np.array([[2**63]], np.uint64),
        ],
    )
    def test_items_out_of_range(self, draw, items):
        """2^32 would become item 0 in int32."""
        with pytest.raises(
            ValueError, match=rf"items must be in -1\.\.2, got {items.min()}\.\.{items.max()}"
        ):
            kernels.ranking(items, draw(1, 3), ["ndcg@2"])

    def test_items_that_are_no_numbers(self, draw):
        with pytest.raises(TypeError, match="items must hold item numbers, got float64 of shape"):
            kernels.ranking(np.array([[0.9]]), draw(1, 3), ["ndcg@2"])

    @pytest.mark.slow
    def test_offsets_beyond_2_to_the_31(self):
        """More than 2^31 relevant items, 8 GiB: the last rows are found where they lie."""
        n_items, n_rows = 50_000, 43_000
        relevant = np.tile(np.arange(n_items, dtype=np.int32), n_rows)
        offsets = np.arange(n_rows + 1, dtype=np.int64) * n_items
        assert offsets[-1] > 2**31
        items = np.zeros((n_rows, 2), np.int32)
        items[-1] = -1
        out = np.empty((1, n_rows))
        _core.ranking(items, offsets, relevant, n_items, [(_core.Metric.hit, 2)], out, 2)
        np.testing.assert_array_equal(out[0], np.arange(n_rows) < n_rows - 1)


class TestCorruptMatrices:
    """SciPy checks none of these when attributes are set: the boundary must."""

    @pytest.fixture
    def broken(self, draw):
        def make(**parts):
            x = draw(4, 6, 0.5)
            for name, value in parts.items():
                setattr(x, name, value(getattr(x, name)))
            return x

        return make

    @pytest.mark.parametrize(
        "parts",
        [
            {"indices": lambda a: np.where(np.arange(len(a)) == 2, 6, a)},
            {"indices": lambda a: np.where(np.arange(len(a)) == 2, -1, a)},
            {"indices": lambda a: np.where(np.arange(len(a)) == 2, 2**31 + 1, a.astype(np.int64))},
            {"indptr": lambda a: np.where(np.arange(len(a)) == 4, 2**31 + 9, a.astype(np.int64))},
            {"indptr": lambda a: a[::-1].copy()},
            {"indptr": lambda a: a[:-1]},
            {"data": lambda a: a[:-1]},
        ],
    )
    def test_is_refused_by_name(self, broken, parts):
        with pytest.raises(ValueError, match=r"^x"):
            kernels.gram(broken(**parts))

    def test_native_boundary_checks_for_itself(self):
        """Whoever calls the compiled module directly gets an error too, never a crash."""
        out = np.empty((3, 3), np.float32)
        one = np.ones(2, np.float32)
        offsets, items = np.array([0, 2]), np.array([0, 1], np.int32)
        for bad_offsets in ([0, 3], [1, 2], [0, 2**40], []):
            with pytest.raises(ValueError, match=r"x\.indptr must"):
                _core.gram(np.array(bad_offsets, np.int64), items, one, out, True, 1)
        for bad_items, message in (
            ([0, 3], "must be in"),
            ([1, 1], "must ascend"),
            ([-1, 0], "must be in"),
        ):
            with pytest.raises(ValueError, match=message):
                _core.gram(offsets, np.array(bad_items, np.int32), one, out, True, 1)
        with pytest.raises(
            TypeError,
            match=r"scores must be a C-contiguous float32 array with 2 dimensions, got float64 of shape \(3, 3\)",
        ):
            _core.topk(np.zeros((3, 3)), None, None, None, out.astype(np.int32), out, 1)


class TestThreads:
    def test_explicit_then_environment(self, monkeypatch):
        monkeypatch.setenv("PYREC_NUM_THREADS", "3")
        assert kernels.n_threads() == 3
        assert kernels.n_threads(5) == 5

    @pytest.mark.parametrize("text", ["", "zero", "0", "-1", "1.5"])
    def test_bad_environment(self, monkeypatch, text):
        monkeypatch.setenv("PYREC_NUM_THREADS", text)
        with pytest.raises(ValueError, match="must be"):
            kernels.n_threads()

    def test_torch_when_loaded_else_the_processors(self):
        program = (
            "from pyrec import kernels; from pyrec.machine import usable_cpus;"
            "assert kernels.n_threads() == usable_cpus();"
            "import torch; torch.set_num_threads(7); assert kernels.n_threads() == 7"
        )
        environment = {k: v for k, v in os.environ.items() if k != "PYREC_NUM_THREADS"}
        subprocess.run([sys.executable, "-c", program], check=True, env=environment)

    @pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
    def test_the_pool_survives_fork(self, draw):
        x = draw(300, 300)
        expected = kernels.gram(x, n_threads=4)  # the pool's threads now exist
        child = os.fork()
        if child == 0:
            signal.alarm(20)  # a child that waits for threads it does not have would never end
            same = np.array_equal(kernels.gram(x, n_threads=4), expected)
            os._exit(0 if same else 1)
        assert os.waitpid(child, 0)[1] == 0

    def test_instruction_set(self):
        assert _core.instruction_set() in ("default", "x86-64-v3", "x86-64-v4")
