"""evaluate and one_plus_random against their plain definitions."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

import pyrec.evaluation
from pyrec.data import Interactions
from pyrec.evaluation import ValidFunc, evaluate, one_plus_random
from pyrec.metrics import Metrics
from pyrec.models import EASE, Popularity, RecSysModel

METRICS = ["ndcg@3", "recall@2", "full_recall@5", "hit@1", "mrr@5", "map@4", "precision@3"]


def matrices(seed: int, n_users: int, n_items: int) -> tuple[sp.csr_array, sp.csr_array]:
    """Histories and held-out items that do not overlap; some rows of either are empty."""
    rng = np.random.default_rng(seed)
    kind = rng.choice(3, (n_users, n_items), p=[0.6, 0.25, 0.15])
    kind[rng.random(n_users) < 0.2] = 0
    return (
        sp.csr_array((kind == 1).astype(np.float32)),
        sp.csr_array((kind == 2).astype(np.float32)),
    )


@pytest.fixture
def data() -> tuple[sp.csr_array, sp.csr_array]:
    return matrices(seed=3, n_users=40, n_items=12)


@pytest.fixture
def model(data) -> EASE:
    ease = EASE(lam=2.0)
    ease.train(data[0])
    return ease


class TestEvaluate:
    @settings(deadline=None, max_examples=40)
    @given(st.integers(0, 2**32), st.integers(1, 12), st.integers(1, 15))
    def test_it_is_the_metrics_of_the_unseen_items(self, seed, n_users, n_items):
        tr, te = matrices(seed, n_users, n_items)
        model = Popularity()
        model.train(tr)
        scores = model.scores(tr).copy()
        scores[tr.nonzero()] = -np.inf
        expected = Metrics.compute(scores, te, METRICS)
        found = evaluate(model, (tr, te), METRICS)
        assert found.keys() == expected.keys()
        for name in METRICS:
            np.testing.assert_array_equal(found[name], expected[name])

    def test_blocks_and_batches_do_not_change_the_values(self, model, data, monkeypatch):
        torch = pytest.importorskip("torch")
        tr, te = data
        expected = evaluate(model, data, METRICS)
        monkeypatch.setattr(pyrec.evaluation, "BLOCK_BYTES", 7 * 5 * 8)
        batches = [(tr[:9], te[:9]), (tr[9:], te[9:])]
        dense = [tuple(torch.tensor(m.toarray()) for m in batch) for batch in batches]
        for loader in (data, batches, tuple(batches), iter(batches), dense, [list(dense[0])]):
            found = evaluate(model, loader, METRICS)
            for name in METRICS:
                np.testing.assert_array_equal(found[name], expected[name][: len(found[name])])

    def test_interactions_are_aligned_by_item_id(self, data):
        tr, te = data
        ids = np.array([f"item {j:02d}" for j in range(12)], dtype=object)
        users = np.arange(40)
        model = EASE(lam=2.0)
        model.train(Interactions(tr, users, ids))
        order = np.random.default_rng(0).permutation(12)
        extra = sp.csr_array(np.ones((40, 1), np.float32))  # an item that the model does not know
        other_ids = np.append(ids[order], "new")
        pair = tuple(
            Interactions(sp.hstack([m[:, order], extra], format="csr"), users, other_ids)
            for m in (tr, te)
        )
        for function in (evaluate, one_plus_random):
            expected = function(model, (tr, te), METRICS)
            found = function(model, pair, METRICS)
            for name in METRICS:
                np.testing.assert_array_equal(found[name], expected[name])

    @pytest.mark.parametrize("function", [evaluate, one_plus_random])
    def test_pairs_of_different_users_are_refused(self, function, model, data):
        tr, te = (Interactions(m, [f"u{i:02d}" for i in range(40)], np.arange(12)) for m in data)
        expected = function(model, data, ["hit@1"])["hit@1"]
        np.testing.assert_array_equal(function(model, (tr, te), ["hit@1"])["hit@1"], expected)
        for other, message in [
            (te.select_users(np.roll(np.arange(40), 1)), "40 of 40 rows differ, row 0 is the user"),
            (
                te.select_users([*range(38), 39, 38]),
                "row 38 is the user 'u38' in tr and 'u39' in te",
            ),
            (Interactions(te.matrix, np.arange(40), te.items), "'u00' in tr and 0 in te"),
            (te.select_users(slice(5)), "te must have a row a row of tr, 40, got 5"),
        ]:
            with pytest.raises(ValueError, match=message):
                function(model, [(tr, te), (tr, other)], ["hit@1"])

    @pytest.mark.parametrize("function", [evaluate, one_plus_random])
    def test_item_ids_that_a_model_without_ids_cannot_know(self, function, model, data):
        pair = tuple(Interactions(m, np.arange(40), np.arange(1, 13)) for m in data)
        with pytest.raises(ValueError, match="trained without item ids"):
            function(model, pair, ["hit@1"])

    def test_lists_are_no_longer_than_the_catalogue(self, model, data, monkeypatch):
        lengths = []

        def recommend(x, k):
            lengths.append(k)
            return EASE.recommend(model, x, k)

        monkeypatch.setattr(model, "recommend", recommend)
        deep, whole = (evaluate(model, data, [f"ndcg@{k}", "map@2"]) for k in (100_000, 12))
        assert lengths == [12, 12]
        np.testing.assert_array_equal(deep["ndcg@100000"], whole["ndcg@12"])
        deep, whole = (one_plus_random(model, data, [f"ndcg@{k}"]) for k in (100_000, 12))
        np.testing.assert_array_equal(deep["ndcg@100000"], whole["ndcg@12"])

    @pytest.mark.parametrize("function", [evaluate, one_plus_random])
    def test_a_k_beyond_all_catalogues_is_named(self, function, model, data):
        with pytest.raises(ValueError, match="at most 2147483647, got 'ndcg@99999999999'"):
            function(model, data, ["ndcg@99999999999"])

    def test_nothing_to_evaluate(self, model, data):
        empty = (data[0][:0], data[1][:0])
        for loader in (empty, []):
            assert evaluate(model, loader, ["hit@1"])["hit@1"].shape == (0,)
            assert one_plus_random(model, loader, ["hit@1"])["hit@1"].shape == (0,)

    @pytest.mark.parametrize("function", [evaluate, one_plus_random])
    def test_wrong_loaders_are_named(self, function, model, data):
        tr, te = data
        for loader, message in [
            ((tr, None), "no held-out items"),
            ([(tr, None)], "no held-out items"),
            ((tr, te[:5]), "te must have a row a row of tr, 40, got 5"),
            ((tr, te[:, :5]), "te"),
            ((tr[:, :5], te), "5"),
            ([tr, te], "must be a pair"),
        ]:
            with pytest.raises(ValueError, match=message):
                function(model, loader, ["hit@1"])
        with pytest.raises(ValueError, match="auc@1"):
            function(model, data, ["auc@1"])

    def test_torch_is_not_imported(self):
        code = "import sys, pyrec.evaluation, pyrec.metrics; assert 'torch' not in sys.modules"
        subprocess.run([sys.executable, "-c", code], check=True)


class ScoresByItem(RecSysModel):
    """Scores that depend on the item alone."""

    def __init__(self, scores):
        self.n_items = len(scores)
        self.values = np.array(scores, dtype=np.float32)

    def scores(self, x):
        return np.repeat(self.values[None], x.shape[0], axis=0)


class TestOnePlusRandom:
    def test_all_unknown_items_when_there_are_few(self):
        model = ScoresByItem([5, 4, 4, 4, 3, 9])
        tr = sp.csr_array([[0, 0, 0, 0, 0, 1]])  # the best item is known: no rival
        te = sp.csr_array([[0, 0, 1, 0, 1, 0]])
        # item 2: behind 0 and the equal, lower 1; item 4: behind 0, 1 and 3 (2 is held out too)
        found = one_plus_random(model, (tr, te), ["mrr@5", "hit@2", "hit@3"], r=100)
        np.testing.assert_allclose(found["mrr@5"], [1 / 3, 1 / 4])
        np.testing.assert_array_equal(found["hit@2"], [0, 0])
        np.testing.assert_array_equal(found["hit@3"], [1, 0])

    def test_one_relevant_item_a_list(self):
        model = ScoresByItem([0, 1, 2])
        tr, te = sp.csr_array((1, 3)), sp.csr_array([[0, 1, 0]])
        found = one_plus_random(model, (tr, te), [m.split("@")[0] + "@5" for m in METRICS])
        expected = {"ndcg": 1 / np.log2(3), "precision": 0.2, "mrr": 0.5, "map": 0.5}
        for name, values in found.items():
            np.testing.assert_allclose(values, [expected.get(name.split("@")[0], 1.0)])

    @pytest.mark.parametrize("score", [-np.inf, np.nan])
    def test_an_excluded_item_is_never_found(self, score):
        model = ScoresByItem([score, 1, np.nan, -np.inf])
        tr, te = sp.csr_array((1, 4)), sp.csr_array([[1, 1, 0, 0]])
        found = one_plus_random(model, (tr, te), ["hit@50", "mrr@1"])
        np.testing.assert_array_equal(found["hit@50"], [0, 1])
        np.testing.assert_array_equal(found["mrr@1"], [0, 1])

    def test_rivals_are_unknown_not_held_out_and_drawn_without_replacement(self):
        n = 30
        tr = sp.csr_array([[1.0] * 10 + [0] * 20])
        te = sp.csr_array([[0.0] * 10 + [1, 1] + [0] * 18])
        # Known and held-out items beat every rival, so a list that held one would rank worse.
        model = ScoresByItem([9.0] * 10 + [5, 5] + [1] * 18)
        assert one_plus_random(model, (tr, te), ["hit@1"], r=17)["hit@1"].tolist() == [1, 1]
        # All 18 rivals beat the held-out item: its rank counts the draws, every one different.
        worst = ScoresByItem([0.0] * 12 + list(range(1, 19)))
        ranks = 1 / one_plus_random(worst, (tr, te), ["mrr@30"], r=17)["mrr@30"]
        np.testing.assert_allclose(ranks, [18, 18])
        assert worst.n_items == n

    def test_draws_are_uniform(self):
        # The rank among r of n unknown items is 1 + a hypergeometric variable.
        model = ScoresByItem([10.0] + [20] * 25 + [0] * 75)
        users = 2000
        tr = sp.csr_array((users, 101))
        te = sp.csr_array(np.eye(1, 101).repeat(users, 0))
        better = 1 / one_plus_random(model, (tr, te), ["mrr@100"], r=20)["mrr@100"] - 1
        assert better.mean() == pytest.approx(20 * 0.25, abs=0.15)
        assert better.var() == pytest.approx(20 * 0.25 * 0.75 * 80 / 99, rel=0.1)

    def test_draws_depend_on_the_seed_and_the_row_alone(self, model, data, monkeypatch):
        tr, te = data
        expected = one_plus_random(model, data, ["mrr@9"], r=4, seed=5)["mrr@9"]
        assert len(expected) == te.nnz
        other = one_plus_random(model, data, ["mrr@9"], r=4, seed=6)["mrr@9"]
        assert not np.array_equal(expected, other)
        monkeypatch.setattr(pyrec.evaluation, "BLOCK_BYTES", 3 * 4 * 12)
        for loader in (data, [(tr[:9], te[:9]), (tr[9:], te[9:])]):
            again = one_plus_random(model, loader, ["mrr@9"], r=4, seed=5)["mrr@9"]
            np.testing.assert_array_equal(again, expected)

    def test_conditions_behind_the_histories(self):
        class Conditioned(ScoresByItem):
            """Condition 0: the items 0 to 2; condition 1: the items 3 to 5."""

            def histories(self, x, name="x"):
                return sp.csr_array(x)

            def items_with(self, condition):
                return np.arange(6)[np.isin(np.arange(6) // 3, condition)]

        model = Conditioned([1, 2, 3, 4, 5, 6])
        tr = sp.csr_array(
            [
                [0, 0, 1, 0, 0, 0, 1, 0],  # behind 1
                [0, 0, 1, 0, 0, 0, 0, 0],  # behind 1, 3, 4 and 5
                [0, 0, 0, 0, 0, 0, 1, 1],  # behind all
                [0, 0, 0, 0, 0, 0, 0, 1],  # it does not satisfy the condition
            ]
        )
        te = sp.csr_array([[1, 0, 0, 0, 0, 0]] * 4)
        found = one_plus_random(model, (tr, te), ["mrr@8"])["mrr@8"]
        np.testing.assert_allclose(found, [1 / 2, 1 / 5, 1 / 6, 0])

    def test_more_random_items_are_harder(self, model, data):
        easy, hard = (one_plus_random(model, data, ["mrr@9"], r=r)["mrr@9"] for r in (1, 100))
        assert easy.mean() > hard.mean()

    def test_r_is_checked(self, model, data):
        with pytest.raises(ValueError, match="r must be at least 1, got 0"):
            one_plus_random(model, data, ["hit@1"], r=0)


class TestValidFunc:
    def test_it_prints_as_documented(self):
        assert repr(ValidFunc(one_plus_random, r=5)) == (
            "ValidFunc(fun='one_plus_random', params={'r': 5})"
        )
        assert repr(ValidFunc(evaluate)) == "ValidFunc(fun='evaluate', params=None)"

    def test_it_is_called_with_one_metric(self, model, data):
        np.testing.assert_array_equal(
            ValidFunc(evaluate)(model, data, "ndcg@3"),
            evaluate(model, data, ["ndcg@3"])["ndcg@3"],
        )
        np.testing.assert_array_equal(
            ValidFunc(one_plus_random, r=3, seed=1)(model, data, "hit@2"),
            one_plus_random(model, data, ["hit@2"], r=3, seed=1)["hit@2"],
        )

    def test_a_function_of_ones_own(self, model, data):
        def constant(model, test_loader, metric_list, value=1.0):
            return {metric: np.full(2, value) for metric in metric_list}

        assert ValidFunc(constant)(model, data, "x").tolist() == [1, 1]
        assert ValidFunc(constant, value=2)(model, data, "x").tolist() == [2, 2]

    def test_other_signatures_are_refused(self):
        def wrong_names(model, loader, metrics): ...
        def one_more(model, test_loader, metric_list, needed): ...
        def good(model, test_loader, metric_list, **options): ...

        for function in (wrong_names, one_more, len):
            with pytest.raises(TypeError, match="must be model, test_loader, metric_list, got "):
                ValidFunc(function)
        ValidFunc(one_more, needed=1)
        ValidFunc(good, anything=1)
        with pytest.raises(TypeError, match="evaluate has no parameter rr, s"):
            ValidFunc(evaluate, rr=5, s=1)
        with pytest.raises(TypeError, match="must be model, test_loader, metric_list"):
            ValidFunc(one_more, metric_list=["a"], needed=1)
