"""Metrics equal their plain definitions."""

from __future__ import annotations

import math

import numpy as np
import pytest
import reference
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from pyrec import kernels
from pyrec.metrics import Metrics, Summary, catalogue_coverage, summarize

SCORES = np.array([[4, 3, 2, 1, 0], [0.1, 0.9, 0.3, 0.7, 0.5]])
RELEVANT = np.array([[1, 1, 0, 0, 1], [1, 0, 0, 1, 0]])
NAMES = ["ndcg", "recall", "full_recall", "hit", "mrr", "map", "precision"]


class TestMetrics:
    @pytest.mark.parametrize(
        ("metric", "expected"),
        [
            ("ndcg@2", [1, 0.3868528]),
            ("ndcg@5", [0.9469024, 0.6240505]),
            ("recall@2", [1, 0.5]),
            ("hit@1", [1, 0]),
            ("mrr@5", [1, 0.5]),
        ],
    )
    def test_the_published_numbers(self, metric, expected):
        found = Metrics.compute(SCORES, RELEVANT, [metric])[metric]
        np.testing.assert_allclose(found, expected, rtol=1e-6)

    @settings(deadline=None, max_examples=60)
    @given(st.data())
    def test_every_metric_equals_its_definition(self, data):
        n_users, n_items = data.draw(st.integers(0, 5)), data.draw(st.integers(1, 20))
        k = data.draw(st.integers(1, 25))
        rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
        # few different scores, so that ties decide; some items excluded
        scores = rng.integers(0, 4, (n_users, n_items)).astype(np.float64)
        scores[rng.random(scores.shape) < 0.1] = -np.inf
        relevant = rng.random((n_users, n_items)) < rng.random()
        found = Metrics.compute(scores, relevant, [f"{name}@{k}" for name in NAMES])
        lists, _ = reference.topk(scores, n_items)
        for name in NAMES:
            expected = [
                reference.ranking(items, set(np.flatnonzero(r)), name, k)
                for items, r in zip(lists, relevant, strict=True)
            ]
            np.testing.assert_allclose(found[f"{name}@{k}"], expected, rtol=1e-12, atol=1e-15)

    @pytest.mark.parametrize("name", NAMES)
    def test_the_method_of_each_metric(self, name):
        method = getattr(Metrics, f"{name}_at_k")
        np.testing.assert_array_equal(
            method(SCORES, RELEVANT, k=3),
            Metrics.compute(SCORES, RELEVANT, [f"{name}@3"])[f"{name}@3"],
        )
        np.testing.assert_array_equal(
            method(SCORES, RELEVANT),
            Metrics.compute(SCORES, RELEVANT, [f"{name}@100"])[f"{name}@100"],
        )

    def test_sparse_matrices_and_tensors(self):
        torch = pytest.importorskip("torch")
        expected = Metrics.compute(SCORES, RELEVANT, ["ndcg@3"])["ndcg@3"]
        for scores, relevant in [
            (SCORES, sp.csr_matrix(RELEVANT)),
            (SCORES.astype(np.float32), sp.coo_array(RELEVANT)),
            (torch.tensor(SCORES, requires_grad=True), torch.tensor(RELEVANT)),
            (np.asfortranarray(SCORES), RELEVANT.astype(bool)),
            (SCORES.tolist(), RELEVANT * 5.0),
        ]:
            found = Metrics.compute(scores, relevant, ["ndcg@3"])["ndcg@3"]
            np.testing.assert_array_equal(found, expected)

    def test_a_user_with_nothing_relevant_is_nan(self):
        found = Metrics.compute(
            np.ones((2, 3)), np.array([[0, 0, 0], [1, 0, 0]]), ["hit@1", "ndcg@2"]
        )
        np.testing.assert_array_equal(found["hit@1"], [np.nan, 1])
        np.testing.assert_array_equal(found["ndcg@2"], [np.nan, 1])

    @pytest.mark.parametrize("metric", ["auc@5", "ndcg", "ndcg@0", "ndcg@-1", "ndcg@x", ""])
    def test_an_unknown_metric_is_named(self, metric):
        with pytest.raises(ValueError, match="ndcg") as raised:
            Metrics.compute(SCORES, RELEVANT, [metric])
        assert repr(metric) in str(raised.value)

    def test_lists_are_no_longer_than_the_catalogue(self, monkeypatch):
        topk = kernels.topk
        lengths = []
        monkeypatch.setattr(kernels, "topk", lambda s, k: topk(s, lengths.append(k) or k))
        found = Metrics.compute(SCORES, RELEVANT, ["ndcg@1000", "precision@1000"])
        assert lengths == [5]
        np.testing.assert_array_equal(found["ndcg@1000"], Metrics.ndcg_at_k(SCORES, RELEVANT, 5))
        np.testing.assert_array_equal(found["precision@1000"], [0.003, 0.002])

    def test_a_k_beyond_all_catalogues_is_named(self):
        with pytest.raises(ValueError, match="at most 2147483647, got 'ndcg@99999999999'"):
            Metrics.compute(SCORES, RELEVANT, ["hit@1", "ndcg@99999999999"])

    def test_wrong_shapes_are_named(self):
        with pytest.raises(ValueError, match="ground_truth must have a row a row of pred_scores"):
            Metrics.compute(SCORES, RELEVANT[:1], ["hit@1"])
        with pytest.raises(ValueError, match="ground_truth"):
            Metrics.compute(SCORES, RELEVANT[:, :3], ["hit@1"])
        with pytest.raises(ValueError, match="pred_scores must be"):
            Metrics.compute(SCORES[0], RELEVANT, ["hit@1"])
        with pytest.raises(TypeError, match="the single string 'hit@1'"):
            Metrics.compute(SCORES, RELEVANT, "hit@1")
        with pytest.raises(ValueError, match="an empty list"):
            Metrics.compute(SCORES, RELEVANT, [])


class TestSummaries:
    def test_nan_users_are_left_out(self):
        summary = summarize({"hit@1": [1, np.nan, 0, 1]})
        assert summary["hit@1"] == Summary(
            mean=pytest.approx(2 / 3),
            std_err=pytest.approx(math.sqrt(1 / 3) / math.sqrt(3)),
            n_users=3,
        )

    @pytest.mark.parametrize(
        ("values", "mean", "n"), [([], math.nan, 0), ([math.nan], math.nan, 0), ([0.5], 0.5, 1)]
    )
    def test_too_few_users_for_an_error(self, values, mean, n):
        summary = summarize({"m": values})["m"]
        assert summary.mean == pytest.approx(mean, nan_ok=True)
        assert math.isnan(summary.std_err)
        assert summary.n_users == n

    def test_catalogue_coverage(self):
        assert catalogue_coverage([[0, 2, -1], [2, -1, -1]], 4) == 0.5
        assert catalogue_coverage(np.array([[-1]]), 3) == 0
        assert catalogue_coverage(np.empty((0, 5), np.int32), 3) == 0
        assert catalogue_coverage([[0, 1, 2]], 3) == 1

    @pytest.mark.parametrize(("items", "n_items"), [([3], 3), ([-2], 3), ([0], 0), ([0.5], 3)])
    def test_coverage_of_impossible_items(self, items, n_items):
        with pytest.raises(ValueError, match="items"):
            catalogue_coverage(items, n_items)
