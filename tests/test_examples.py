"""Kernels that make training examples, against plain Python definitions on random data."""

import numpy as np
import pytest
import reference
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from pyrec import kernels

SEEDS = st.integers(0, 2**32 - 1)
# 64 and 65: a word of bits and one more; 1,100 rows: two tasks of a pass over all of them.
WIDTHS = st.sampled_from([1, 2, 15, 16, 17, 63, 64, 65, 130])


def matrix(rng, rows, cols, density, values=False):
    dense = rng.random((rows, cols)) < density
    scale = rng.uniform(0.5, 2, dense.shape) if values else 1.0
    return sp.csr_array((dense * scale).astype(np.float32))


def dense_of(indptr, indices, values, n_cols):
    shape = (len(indptr) - 1, n_cols)
    return sp.csr_array((values, indices, indptr), shape=shape).toarray()


class TestConditionedRows:
    @settings(max_examples=80, deadline=None)
    @given(st.integers(0, 12), WIDTHS, WIDTHS | st.just(0), st.booleans(), SEEDS)
    def test_equals_the_definition(self, n, m, n_cond, has_targets, seed):
        rng = np.random.default_rng(seed)
        x = matrix(rng, n, m, rng.choice([0.0, 0.1, 0.6]), values=True)
        items = matrix(rng, m, n_cond, rng.choice([0.0, 0.05, 0.5]))
        te = matrix(rng, n, m, rng.choice([0.1, 0.6]), values=True) if has_targets else None
        dense, dense_items = x.toarray(), items.toarray()
        dense_te = dense if te is None else te.toarray()
        expected = reference.conditioned_examples(dense, dense_items, dense_te)

        ours = kernels.ConditionedRows(x, items, te)
        assert ours.n_examples == len(expected)
        assert ours.n_unconditioned == sum(c == -1 for _, c in expected)
        assert ours.counts.tolist() == [sum(c == d for _, d in expected) for c in range(n_cond)]
        numbers = rng.permutation(len(expected))
        rows, conditions = ours.examples(numbers)
        assert list(zip(rows, conditions, strict=True)) == [expected[i] for i in numbers]
        inputs = dense_of(*ours.inputs(rows, conditions), m + n_cond)
        targets = dense_of(*ours.targets(rows, conditions), m)
        for b, (r, c) in enumerate(zip(rows, conditions, strict=True)):
            wanted = reference.conditioned_input(dense, r, c, n_cond)
            np.testing.assert_array_equal(inputs[b], wanted)
            wanted = reference.conditioned_target(dense_te, dense_items, r, c)
            np.testing.assert_array_equal(targets[b], wanted)
            assert targets[b].any()

    def test_same_bits_for_any_number_of_threads(self):
        rng = np.random.default_rng(0)
        x, items = matrix(rng, 3000, 40, 0.2), matrix(rng, 40, 7, 0.2)
        results = []
        for n_threads in (1, 3):
            ours = kernels.ConditionedRows(x, items, n_threads=n_threads)
            numbers = kernels.permuted(
                0, ours.n_examples, ours.n_examples, 1, 2, n_threads=n_threads
            )
            rows, conditions = ours.examples(numbers, n_threads=n_threads)
            inputs = ours.inputs(rows, conditions, n_threads=n_threads)
            targets = ours.targets(rows, conditions, n_threads=n_threads)
            results.append([ours.counts, numbers, rows, conditions, *inputs, *targets])
        for first, second in zip(*results, strict=True):
            np.testing.assert_array_equal(first, second)

    @settings(max_examples=40, deadline=None)
    @given(st.integers(0, 30), st.integers(0, 12), SEEDS)
    def test_balanced_takes_as_many_of_each_condition(self, n, n_each, seed):
        rng = np.random.default_rng(seed)
        ours = kernels.ConditionedRows(matrix(rng, n, 9, 0.3), matrix(rng, 9, 5, 0.3))
        numbers = ours.balanced(n_each, seed, 3)
        assert (np.diff(numbers) > 0).all()
        _, conditions = ours.examples(numbers)
        counts = np.bincount(conditions + 1, minlength=6)
        assert counts[0] == ours.n_unconditioned
        np.testing.assert_array_equal(counts[1:], np.minimum(ours.counts, n_each))
        np.testing.assert_array_equal(numbers, ours.balanced(n_each, seed, 3))

    def test_balanced_draws_each_example_as_often(self):
        """Chi-square, 2,000 epochs of 3 from 8: 99.9 % of fair draws stay below 24.3."""
        ours = kernels.ConditionedRows(sp.csr_array(np.ones((8, 1))), sp.csr_array(np.ones((1, 1))))
        drawn = np.concatenate([ours.balanced(3, 0, epoch)[8:] for epoch in range(2000)])
        counts = np.bincount(drawn - 8, minlength=8)
        # Draws without replacement vary less than those with it, by (8 - 3) / (8 - 1).
        assert ((counts - 750) ** 2 / 750).sum() * 7 / 5 < 24.3

    def test_bad_input_is_named(self):
        x, items = sp.csr_array(np.ones((4, 3))), sp.csr_array(np.ones((3, 2)))
        with pytest.raises(ValueError, match="item_conditions must have a row for each of the 3 i"):
            kernels.ConditionedRows(x, items[:2])
        with pytest.raises(ValueError, match="targets must have the rows of x, 4, got 3"):
            kernels.ConditionedRows(x, items, x[:3])
        ours = kernels.ConditionedRows(x, items)
        with pytest.raises(ValueError, match=r"numbers must be in 0\.\.11, got 12"):
            ours.examples(np.array([12]))
        with pytest.raises(ValueError, match=r"conditions must be in -1\.\.1, got 2"):
            ours.targets(np.array([0]), np.array([2], np.int32))
        with pytest.raises(ValueError, match=r"rows must be in 0\.\.3, got 4"):
            ours.targets(np.array([4]), np.array([0], np.int32))
        with pytest.raises(ValueError, match="conditions must be as many as rows"):
            ours.targets(np.array([1]), np.array([0, 0], np.int32))


def drawn_negatives(x, share, seed=0, step=0, **options):
    out = np.ones(x.shape, bool)
    indptr, indices = x.indptr.astype(np.int64), x.indices.astype(np.int32)
    kernels.negatives(indptr, indices, x.shape[1], share, seed, step, out, **options)
    return out


class TestNegatives:
    @settings(max_examples=150, deadline=None)
    @given(
        st.integers(0, 9),
        st.sampled_from([0, 1, 2, 7, 8, 9, 63, 64, 65, 127, 300, 2000]),
        st.sampled_from([0.0, 0.003, 0.1, 0.5, 0.7, 0.98, 1.0]) | st.floats(0, 1),
        st.sampled_from([0.0, 0.01, 0.5, 0.99, 1.0]),
        SEEDS,
    )
    def test_the_right_number_of_unobserved_items(self, n, m, share, density, seed):
        x = matrix(np.random.default_rng(seed), n, m, density)
        observed = x.toarray() > 0
        out = drawn_negatives(x, share, seed)
        assert not (out & observed).any()
        wanted = [round(share * int(count)) for count in (~observed).sum(1)]
        assert out.sum(1).tolist() == wanted
        with_observed = drawn_negatives(x, share, seed, with_observed=True)
        np.testing.assert_array_equal(with_observed, out | observed)

    # 20 items: what is missing is guessed at or listed; 5 of 600: always listed; 700: words of bits.
    @pytest.mark.parametrize(("m", "share"), [(20, 0.3), (20, 0.9), (600, 0.01), (700, 0.5)])
    def test_each_item_is_as_likely(self, m, share):
        """Chi-square of the items over many draws, and of two neighbours drawn together."""
        x = sp.csr_array((np.arange(m) < 5).astype(np.float32)[None])
        x = sp.csr_array(sp.vstack([x] * 50))
        draws = np.concatenate([drawn_negatives(x, share, 1, step) for step in range(40)])
        free, n = m - 5, len(draws)
        size = round(share * free)
        expected = n * size / free
        counts = draws[:, 5:].sum(0)
        # Without replacement: a free sample's chi-square times this has free - 1 degrees of freedom.
        statistic = ((counts - expected) ** 2 / expected).sum() * (free - 1) / (free - size)
        spread = np.sqrt(2 * (free - 1))
        assert abs(statistic - (free - 1)) < 4.5 * spread
        together = (draws[:, 5:-1] & draws[:, 6:]).sum()
        chance = size * (size - 1) / (free * (free - 1))
        trials = n * (free - 1)
        assert abs(together - trials * chance) < 6 * np.sqrt(trials * chance)

    def test_another_set_for_each_seed_step_and_row(self):
        x = sp.csr_array((2, 500), dtype=np.float32)
        sets = [drawn_negatives(x, 0.5, *which) for which in ((0, 0), (0, 1), (1, 0))]
        rows = np.concatenate(sets)
        for i in range(len(rows)):
            for j in range(i):
                assert 150 < (rows[i] != rows[j]).sum() < 350
        np.testing.assert_array_equal(sets[1], drawn_negatives(x, 0.5, 0, 1))

    def test_same_bits_for_any_number_of_threads(self):
        x = matrix(np.random.default_rng(0), 30, 500, 0.1)
        one, three = (drawn_negatives(x, 0.7, n_threads=n) for n in (1, 3))
        np.testing.assert_array_equal(one, three)

    def test_never_changes(self):
        """Resumed runs on other machines and in later versions rely on it."""
        x = sp.csr_array((1, 12), dtype=np.float32)
        assert np.flatnonzero(drawn_negatives(x, 0.5, 7, 2)[0]).tolist() == [1, 2, 4, 7, 9, 10]

    def test_bad_input_is_named(self):
        indptr, indices = np.array([0, 2]), np.array([3, 1], np.int32)
        out = np.empty((1, 5), bool)
        with pytest.raises(ValueError, match=r"x\.indices must ascend within a row"):
            kernels.negatives(indptr, indices, 5, 0.5, 0, 0, out)
        with pytest.raises(ValueError, match=r"x\.indices must be in 0\.\.4"):
            kernels.negatives(indptr, indices + 4, 5, 0.5, 0, 0, out)
        for share in (-0.1, 1.1, np.nan):
            with pytest.raises(ValueError, match=r"share must be in 0\.\.1"):
                kernels.negatives(indptr, indices[::-1].copy(), 5, share, 0, 0, out)
        with pytest.raises(ValueError, match=r"out must have shape \(1, 5\), got \(2, 5\)"):
            kernels.negatives(indptr, indices, 5, 0.5, 0, 0, np.empty((2, 5), bool))
        with pytest.raises(TypeError, match="out must be a C-contiguous bool array"):
            kernels.negatives(indptr, indices, 5, 0.5, 0, 0, np.empty((1, 5), np.uint8))


class TestWindows:
    @settings(max_examples=150, deadline=None)
    @given(
        st.lists(st.lists(st.integers(0, 8), min_size=2, max_size=30), min_size=1, max_size=9),
        st.sampled_from([None, 1, 2, 4, 29, 100]),
        st.booleans(),
        SEEDS,
    )
    def test_equals_the_definition(self, lists, k, weighted, seed):
        offsets = np.cumsum([0, *map(len, lists)])
        items = np.concatenate(lists).astype(np.int32)
        users = np.random.default_rng(seed).permutation(len(lists))[: len(lists) // 2 + 1]
        first, inputs, indptr, indices, values = kernels.windows(
            offsets, items, 9, users, k, weighted
        )
        chosen = [lists[u] for u in users]
        assert inputs.tolist() == [item for s in chosen for item in s[:-1]]
        assert first.tolist() == np.cumsum([0, *(len(s) - 1 for s in chosen)]).tolist()
        rows = [row for s in chosen for row in reference.windows(s, k)]
        assert [r.tolist() for r in np.split(indices, indptr[1:-1])] == rows
        wanted = [1 / len(row) if weighted else 1 for row in rows for _ in row]
        np.testing.assert_array_equal(values, np.float32(wanted))

    def test_small_example(self):
        items = np.array([2, 1, 6, 0, 3], np.int32)
        for k, expected in (
            (1, [[1], [6], [0], [3]]),
            (2, [[1, 6], [0, 6], [0, 3], [3]]),
            (None, [[0, 1, 3, 6], [0, 3, 6], [0, 3], [3]]),
        ):
            _, inputs, indptr, indices, _ = kernels.windows(
                np.array([0, 5]), items, 7, np.array([0]), k, False
            )
            assert inputs.tolist() == [2, 1, 6, 0]
            assert [row.tolist() for row in np.split(indices, indptr[1:-1])] == expected

    def test_same_bits_for_any_number_of_threads(self):
        rng = np.random.default_rng(0)
        offsets = np.arange(0, 2001, 20)
        items, users = rng.integers(0, 50, 2000).astype(np.int32), rng.permutation(100)
        one, three = (
            kernels.windows(offsets, items, 50, users, 4, True, n_threads=n) for n in (1, 3)
        )
        for first, second in zip(one, three, strict=True):
            np.testing.assert_array_equal(first, second)

    def test_no_users(self):
        nobody = np.array([], np.int64)
        result = kernels.windows(np.array([0, 2]), np.array([0, 1], np.int32), 2, nobody, 1, True)
        assert [len(part) for part in result] == [1, 0, 1, 0, 0]

    def test_bad_input_is_named(self):
        items = np.array([0, 1, 2], np.int32)

        def call(offsets=(0, 3), n_items=3, users=(0,), k=1):
            return kernels.windows(np.array(offsets), items, n_items, np.array(users), k, False)

        with pytest.raises(ValueError, match=r"items must be in 0\.\.1, got 2"):
            call(n_items=2)
        with pytest.raises(ValueError, match="user 1 has 1"):
            call(offsets=(0, 2, 3), users=(1,))
        with pytest.raises(ValueError, match="offsets must rise from 0 to 3"):
            call(offsets=(0, 4))
        with pytest.raises(ValueError, match="k must be at least 0, got -1"):
            call(k=-1)
        for user in (-1, 1):
            with pytest.raises(ValueError, match=rf"users must be in 0\.\.0, got {user}"):
                call(users=(user,))
