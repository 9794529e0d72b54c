"""Interactions in memory: as a table of recommendations, and as the input of a run."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import scipy.sparse as sp
from scoring_cases import IDS, NUMBERS, TRAIN, assert_rows, content, expected_rows, trained

from pyrec.data import Interactions, ItemConditions
from pyrec.models import CMultiVAE, Popularity
from pyrec.nets import CMultiVAE_net
from pyrec.scoring import in_memory, recommend, score


@pytest.fixture
def model():
    return trained(IDS)


class TestScore:
    def test_interactions_in_memory(self, model, tmp_path):
        data = Interactions(
            sp.csr_array([[1, 1, 0], [0, 0, 1]]), np.array(["x", "y"]), ["apple", "dill", "fish"]
        )
        report = score(model, data, tmp_path / "out", k=2, verbose=0)
        assert (report.users, report.unknown_items, report.users_without_history) == (2, 1, 1)
        table = pq.read_table(report.files[0])
        assert table["user_id"].to_pylist() == ["x", "y"]
        assert_rows(table, expected_rows(model, IDS, [["apple", "dill"], []], 2))

    def test_values_of_interactions_count(self, model, tmp_path):
        values = sp.csr_array(TRAIN * np.array([1.0, 4.0, 0.25, 2.0, 3.0]))
        data = Interactions(values, np.arange(5), IDS)
        best = model.recommend(data, 2)
        ones = model.recommend(sp.csr_array(TRAIN), 2)
        assert not np.array_equal(best.scores, ones.scores)
        table = recommend(model, data, 2)
        score(model, data, tmp_path / "out", k=2, verbose=0)
        written = pq.read_table(tmp_path / "out")
        assert table["item_id"].to_pylist() == IDS[best.items.ravel()].tolist()
        assert written["items"].to_pylist() == IDS[best.items].tolist()
        np.testing.assert_array_equal(table["score"].to_numpy(), best.scores.ravel())
        np.testing.assert_array_equal(written["scores"].to_pylist(), best.scores)

    def test_many_users_come_in_parts(self, model, tmp_path, monkeypatch):
        monkeypatch.setattr(in_memory, "FRAGMENT_ROWS", 2)
        data = Interactions(sp.csr_array(TRAIN), np.arange(5), IDS)
        for shard in ("2/2", "1/2"):
            report = score(model, data, tmp_path / "out", k=2, shard=shard, verbose=0)
            assert len(report.missing) == (2 if shard == "2/2" else 0)
        users = [
            pq.read_table(path)["user_id"].to_pylist()
            for path in sorted((tmp_path / "out").glob("*.parquet"))
        ]
        assert users == [[0, 1], [2, 3], [4]]
        before = content(tmp_path / "out")
        assert score(model, data, tmp_path / "out", k=2, verbose=0).written == 0
        other = Interactions(sp.csr_array(TRAIN), np.arange(1, 6), IDS)
        with pytest.raises(FileExistsError, match="holds another run: the users differ"):
            score(model, other, tmp_path / "out", k=2, verbose=0)
        assert content(tmp_path / "out") == before

    def test_what_needs_files(self, model, tmp_path):
        data = Interactions(sp.csr_array(TRAIN), np.arange(5), IDS)
        for options in ({"engine": "ray"}, {"allow_column": "x"}, {"deny_column": "x"}):
            with pytest.raises(ValueError, match="need users in files"):
                score(model, data, tmp_path / "out", verbose=0, **options)
        assert not (tmp_path / "out").exists()


class TestRecommend:
    def test_ids_in_and_out(self, model):
        source = pa.table(
            {"user_id": ["v", "u", "u", "w"], "item_id": ["fish", "apple", "dill", "eggs"]}
        )
        table = recommend(model, source, k=2)
        assert table.schema == pa.schema(
            {
                "user_id": pa.string(),
                "item_id": pa.string(),
                "score": pa.float32(),
                "rank": pa.int32(),
            }
        )
        expected = expected_rows(model, IDS, [["apple", "dill"], [], ["eggs"]], 2)
        assert table["user_id"].to_pylist() == ["u", "u", "v", "v", "w", "w"]
        assert table["item_id"].to_pylist() == [item for items, _ in expected for item in items]
        assert table["rank"].to_pylist() == [1, 2] * 3
        scores = [value for _, values in expected for value in values]
        np.testing.assert_allclose(table["score"].to_pylist(), scores, rtol=1e-5, atol=1e-6)

    def test_blocks_do_not_change_the_rows(self, model, monkeypatch):
        data = Interactions(sp.csr_array(TRAIN), np.arange(5), IDS)
        whole = recommend(model, data)
        assert whole["user_id"].type == pa.int64()
        monkeypatch.setattr(in_memory, "BATCH_ROWS", 2)
        assert recommend(model, data).equals(whole)

    def test_options(self, model):
        data = Interactions(sp.csr_array(TRAIN[:1]), [7], IDS)
        table = recommend(model, data, 9, remove_seen=False, allow=["eggs", "apple"])
        assert sorted(table["item_id"].to_pylist()) == ["apple", "eggs"]
        table = recommend(model, data, 9, deny=["eggs"])
        assert sorted(table["item_id"].to_pylist()) == ["cheese", "dill"]

    @pytest.mark.usefixtures("one_torch_thread")
    def test_condition(self):
        has = np.array([[1, 0], [0, 1], [1, 0], [0, 0], [0, 1]])
        kinds = ItemConditions(has, ["first", "second"], IDS)
        data = Interactions(sp.csr_array(TRAIN), np.arange(5), IDS)
        model = CMultiVAE(CMultiVAE_net(2, [3, 5]))
        model.train(data, num_epochs=1, conditions=kinds, verbose=0)
        source = Interactions(
            sp.csr_array([[0, 0, 0, 1, 0], [0, 0, 0, 0, 0]]), ["some", "nothing"], IDS
        )
        for condition, popular in (("first", ["apple", "cheese"]), (1, ["bread", "eggs"])):
            table = recommend(model, source, 5, condition=condition)
            best = model.recommend(source, 2, condition=condition)
            assert table["user_id"].to_pylist() == ["some"] * 2 + ["nothing"] * 2
            assert table["item_id"].to_pylist() == [*IDS[best.items[0]], *popular]
            assert table["score"].to_pylist()[2:] == [4, 2]
        both = recommend(model, source, 9, allow=["bread", "dill"], condition=["first", "second"])
        assert both["item_id"].to_pylist() == ["bread", "bread"]

    def test_conditions_that_the_model_does_not_take(self, model):
        data = Interactions(sp.csr_array(TRAIN), np.arange(5), IDS)
        with pytest.raises(ValueError, match="EASE takes no condition"):
            recommend(model, data, condition="first")

    @pytest.mark.parametrize("ids", [IDS, NUMBERS], ids=["strings", "integers"])
    def test_empty_lists_of_items(self, ids):
        data = Interactions(sp.csr_array(TRAIN), np.arange(5), ids)
        model = trained(ids)
        for empty in ([], (), np.array([], dtype=object), np.array([], dtype=np.int64)):
            assert recommend(model, data, allow=empty).num_rows == 0
            assert recommend(model, data, deny=empty).equals(recommend(model, data))

    def test_a_model_without_ids_refuses_others(self):
        model = trained(None)
        data = Interactions(sp.csr_array(TRAIN), np.arange(5), np.arange(5))
        assert recommend(model, data, 1)["item_id"].type == pa.int64()
        for ids in (NUMBERS, IDS):
            with pytest.raises(ValueError, match="trained without item ids"):
                recommend(model, Interactions(sp.csr_array(TRAIN), np.arange(5), ids), 1)

    def test_popularity_needs_no_history(self):
        table = recommend(
            trained(NUMBERS, Popularity()), pa.table({"user": [1], "item": [20]}), k=2
        )
        assert table["item_id"].to_pylist() == [10, 30]

    def test_item_ids_of_another_type(self, model):
        with pytest.raises(ValueError, match="item ids differ in type"):
            recommend(model, pa.table({"user": [1], "item": [2]}))
