"""Parquet in, Parquet out: the same lists as `recommend` gives, whatever form the ids come in."""

from __future__ import annotations

import json
import tempfile
from unittest import mock

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st
from scoring_cases import (
    HISTORIES,
    IDS,
    NUMBERS,
    TRAIN,
    assert_rows,
    expected_rows,
    many_users,
    trained,
    write,
)

from pyrec.data import Histories, Interactions, ItemConditions
from pyrec.models import CMultiVAE, Popularity
from pyrec.nets import CMultiVAE_net
from pyrec.scoring import fragments, score, scorer


@pytest.fixture
def model():
    return trained(IDS)


class TestScore:
    @pytest.mark.parametrize(
        "kind",
        [
            pa.list_(pa.string()),
            pa.large_list(pa.large_string()),
            pa.list_(pa.dictionary(pa.int8(), pa.string())),
        ],
        ids=str,
    )
    def test_the_lists_of_every_user(self, model, tmp_path, kind):
        source = write(tmp_path / "users.parquet", HISTORIES, kind=kind)
        report = score(model, source, tmp_path / "out", k=3, verbose=0)
        assert (report.users, report.unknown_items, report.users_without_history) == (7, 3, 3)
        assert report.files == (str(tmp_path / "out" / "part-00000.parquet"),)
        assert report.seconds > 0
        assert report.peak_memory > 1 << 20
        table = pq.read_table(report.files[0])
        assert table.schema.names == ["user_id", "items", "scores"]
        assert table.schema.types == [pa.int64(), pa.list_(pa.string()), pa.list_(pa.float32())]
        assert table["user_id"].to_pylist() == list(range(100, 107))
        assert_rows(table, expected_rows(model, IDS, HISTORIES, 3))
        assert [len(items) for items in table["items"].to_pylist()] == [3, 3, 3, 3, 3, 3, 0]

    @pytest.mark.parametrize("value", [pa.int64(), pa.int32(), pa.uint16(), pa.float64()], ids=str)
    def test_integer_ids_of_any_width(self, tmp_path, value):
        model = trained(NUMBERS)
        histories = [[20], [50, None, 7], None, [10, 40]]
        source = write(tmp_path / "u.parquet", histories, kind=pa.list_(value))
        report = score(model, source, tmp_path / "out", k=9, verbose=0)
        table = pq.read_table(report.files[0])
        assert table.schema.field("items").type == pa.list_(pa.int64())
        assert_rows(table, expected_rows(model, NUMBERS, histories, 9))
        assert report.unknown_items == 1

    def test_fixed_size_lists(self, model, tmp_path):
        histories = [["apple", "eggs"], None, ["dill", None]]
        source = write(tmp_path / "u.parquet", histories, kind=pa.list_(pa.string(), 2))
        score(model, source, tmp_path / "out", k=2, verbose=0)
        table = pq.read_table(tmp_path / "out")
        assert_rows(table, expected_rows(model, IDS, histories, 2))

    def test_a_null_list_over_values_that_are_there(self, model):
        lists = pa.ListArray.from_arrays(
            pa.array([0, 1, 2, 3], pa.int32()),
            pa.array(["apple", "bread", "eggs"]),
            mask=pa.array([False, True, False]),
        )
        histories, n_unknown = scorer.Scorer(model, 2).histories(lists)
        assert n_unknown == 0
        assert [h.tolist() for h in (histories[0], histories[1], histories[2])] == [[0], [], [4]]

    def test_a_model_without_ids_takes_numbers(self, tmp_path):
        model = trained(None)
        histories = [[0, 5, -1], [4, 3], []]
        source = write(tmp_path / "u.parquet", histories)
        report = score(model, source, tmp_path / "out", k=2, verbose=0)
        table = pq.read_table(report.files[0])
        assert_rows(table, expected_rows(model, range(5), histories, 2))
        assert report.unknown_items == 2

    @pytest.mark.parametrize(
        "users",
        [
            pa.array(["u1", None, "u3"]),
            pa.array(["a", "b", "a"]).dictionary_encode(),
            pa.array([b"x", b"y", b"z"], pa.binary(1)),
            pa.array([1, 2, 3], pa.uint8()),
        ],
        ids=lambda users: str(users.type),
    )
    @pytest.mark.parametrize("layout", ["list", "long"])
    def test_user_ids_keep_their_type(self, model, tmp_path, users, layout):
        source = write(tmp_path / "u.parquet", [["apple"], [], ["dill"]], users)
        score(model, source, tmp_path / "out", k=1, layout=layout, verbose=0)
        found = pq.read_table(tmp_path / "out")["user_id"]
        assert found.to_pylist() == users.to_pylist()
        assert found.type == users.type

    def test_long_layout(self, model, tmp_path):
        source = write(tmp_path / "u.parquet", HISTORIES)
        score(model, source, tmp_path / "out", k=3, layout="long", verbose=0)
        table = pq.read_table(tmp_path / "out")
        assert table.schema.names == ["user_id", "item_id", "score", "rank"]
        rows = [
            (user, item, rank)
            for user, (items, _) in enumerate(expected_rows(model, IDS, HISTORIES, 3), 100)
            for rank, item in enumerate(items, 1)
        ]
        columns = [table[name].to_pylist() for name in ("user_id", "item_id", "rank")]
        assert list(zip(*columns, strict=True)) == rows

    def test_seen_items_allow_and_deny(self, model, tmp_path):
        source = write(tmp_path / "u.parquet", HISTORIES)
        score(model, source, tmp_path / "seen", k=5, remove_seen=False, verbose=0)
        table = pq.read_table(tmp_path / "seen")
        assert_rows(table, expected_rows(model, IDS, HISTORIES, 5, remove_seen=False))
        allowed = ["apple", "eggs", "fish", "dill"]
        score(model, source, tmp_path / "a", k=5, allow=allowed, deny=["dill"], verbose=0)
        table = pq.read_table(tmp_path / "a")
        assert_rows(table, expected_rows(model, IDS, HISTORIES, 5, allowed={"apple", "eggs"}))

    @settings(deadline=None, max_examples=25)
    @given(st.data())
    def test_blocks_and_row_groups_do_not_change_the_rows(self, data):
        histories = data.draw(
            st.lists(
                st.none() | st.lists(st.sampled_from([*IDS, "fish", None]), max_size=6),
                min_size=1,
                max_size=40,
            )
        )
        group = data.draw(st.integers(1, 41))
        batch = data.draw(st.integers(1, 41))
        fragment = data.draw(st.integers(1, 41))
        memory = data.draw(st.sampled_from(["32MiB", "2GiB"]))
        model = trained(IDS)
        table = pa.table(
            {
                "user_id": np.arange(len(histories)),
                "items": pa.array(histories, pa.list_(pa.string())),
            }
        )
        with (
            tempfile.TemporaryDirectory() as folder,
            mock.patch.object(fragments, "BATCH_ROWS", batch),
            mock.patch.object(fragments, "FRAGMENT_ROWS", fragment),
        ):
            pq.write_table(table, f"{folder}/u.parquet", row_group_size=group)
            score(model, f"{folder}/u.parquet", f"{folder}/out", k=4, memory=memory, verbose=0)
            found = pq.read_table(f"{folder}/out")
        assert_rows(found, expected_rows(model, IDS, histories, 4))

    def test_many_files_keep_their_order(self, model, tmp_path):
        folder = tmp_path / "in"
        folder.mkdir()
        for name in ("b", "a", "_meta", ".hidden"):
            write(folder / f"{name}.parquet", [["apple"]], users=[name])
        (folder / "notes.txt").write_text("x")
        for source in (folder, f"{folder}/[ab].parquet", str(folder)):
            out = tmp_path / f"out{len(list(tmp_path.iterdir()))}"
            report = score(model, source, out, k=2, verbose=0)
            assert report.users == 2
            parts = [pq.read_table(path)["user_id"].to_pylist() for path in report.files]
            assert parts == [["a"], ["b"]]

    def test_no_users(self, model, tmp_path):
        source = write(tmp_path / "u.parquet", pa.array([], pa.list_(pa.string())), users=[])
        report = score(model, source, tmp_path / "out", verbose=0)
        assert report.users == 0
        assert pq.read_table(report.files[0]).num_rows == 0

    def test_columns_by_name(self, model, tmp_path):
        lists = pa.array([["apple"]])
        table = pa.table({"who": ["x"], "uid": [1], "bought": lists, "viewed": lists})
        pq.write_table(table, tmp_path / "u.parquet")
        with pytest.raises(ValueError, match="2 columns look like the list of item ids; name it"):
            score(model, tmp_path / "u.parquet", tmp_path / "out", verbose=0)
        with pytest.raises(ValueError, match="columns found: who, uid, bought, viewed"):
            score(model, tmp_path / "u.parquet", tmp_path / "out", items="seen", verbose=0)
        with pytest.raises(ValueError, match="'uid' must hold lists of item ids, it holds int64"):
            score(model, tmp_path / "u.parquet", tmp_path / "out", items="uid", verbose=0)
        score(model, tmp_path / "u.parquet", tmp_path / "o", user="who", items="viewed", verbose=0)
        assert pq.read_table(tmp_path / "o")["user_id"].to_pylist() == ["x"]

    def test_no_user_column(self, model, tmp_path):
        pq.write_table(pa.table({"who": ["x"], "seen": [["apple"]]}), tmp_path / "u.parquet")
        with pytest.raises(ValueError, match="no columns look like the user id; name it with user"):
            score(model, tmp_path / "u.parquet", tmp_path / "out", verbose=0)

    def test_the_same_lists_as_the_model_recommends(self, tmp_path):
        model = many_users(tmp_path / "in")
        report = score(model, tmp_path / "in", tmp_path / "out", k=7, verbose=0)
        lists = pq.read_table(tmp_path / "in")["items"].combine_chunks()
        numbers = pc.index_in(lists.values, pa.array(model.item_ids)).to_numpy()
        histories = Histories(lists.offsets.to_numpy(), numbers, 60)
        items, scores = model.recommend(histories, 7)
        empty = np.diff(histories.offsets) == 0
        popular = np.argsort(-model.item_counts, kind="stable")[:7]
        items[empty], scores[empty] = popular, model.item_counts[popular]
        table = pq.read_table(tmp_path / "out")
        assert table["user_id"].equals(pq.read_table(tmp_path / "in")["user_id"])
        assert table["items"].to_pylist() == model.item_ids[items].tolist()
        np.testing.assert_array_equal(table["scores"].to_pylist(), scores)
        assert report.users == 46_000
        assert report.users_without_history == np.count_nonzero(empty)

    def test_ties_go_to_the_lower_number(self, tmp_path):
        model = trained(IDS, Popularity())
        model.item_counts = np.array([2, 3, 2, 3, 2])
        source = write(tmp_path / "u.parquet", HISTORIES)
        score(model, source, tmp_path / "out", k=4, verbose=0)
        table = pq.read_table(tmp_path / "out")
        assert_rows(table, expected_rows(model, IDS, HISTORIES, 4))
        assert table["items"][0].as_py() == ["bread", "dill", "cheese", "eggs"]

    def test_lists_of_each_user(self, model, tmp_path):
        some = [["dill", "eggs", "fish"], None, ["cheese"], None, [], ["eggs", "bread"], ["eggs"]]
        rest = [["eggs"], ["bread", "fish"], None, ["apple"], ["dill"], [], None]
        more = {"some": some, "rest": rest}
        source = write(tmp_path / "u.parquet", HISTORIES, more=more)
        for n, (columns, options) in enumerate(
            [
                ({"allow_column": "some"}, {}),
                ({"deny_column": "rest"}, {}),
                ({"allow_column": "some", "deny_column": "rest"}, {}),
                ({"allow_column": "some"}, {"deny": ["eggs"], "allow": ["eggs", "dill", "bread"]}),
                ({"deny_column": "rest"}, {"deny": ["dill"], "remove_seen": False}),
                ({"deny_column": "rest"}, {"allow": ["dill", "bread"]}),
            ]
        ):
            score(
                model,
                source,
                tmp_path / f"o{n}",
                k=4,
                items="items",
                verbose=0,
                **columns,
                **options,
            )
            rows = []
            for history, allow, deny in zip(HISTORIES, some, rest, strict=True):
                allowed = set(options.get("allow", IDS)) - set(options.get("deny", []))
                if "allow_column" in columns and allow is not None:
                    allowed &= set(allow)
                if "deny_column" in columns:
                    allowed -= set(deny or [])
                seen = options.get("remove_seen", True)
                rows += expected_rows(model, IDS, [history], 4, seen, allowed)
            assert_rows(pq.read_table(tmp_path / f"o{n}"), rows)

    def test_lists_of_each_user_need_a_column_of_lists(self, model, tmp_path):
        source = write(tmp_path / "u.parquet", [["apple"]], more={"some": [[1]], "name": ["x"]})
        for name, message in [
            ("some", "some must hold ids of the model's type, string, got int64"),
            ("name", "'name' must hold lists of item ids, it holds string"),
            ("none", "no single column 'none'"),
        ]:
            with pytest.raises(ValueError, match=message):
                score(model, source, tmp_path / "out", items="items", deny_column=name, verbose=0)
        assert not (tmp_path / "out").exists()

    def test_large_files_come_in_parts(self, model, tmp_path, monkeypatch):
        monkeypatch.setattr(fragments, "FRAGMENT_ROWS", 10)
        (tmp_path / "in").mkdir()
        for name, n, group in (("a", 23, 4), ("b", 10, 5), ("c", 30, 30), ("d", 0, 1)):
            write(
                tmp_path / "in" / f"{name}.parquet",
                [["apple"]] * n,
                [name] * n,
                pa.list_(pa.string()),
                row_group_size=group,
            )
        report = score(model, tmp_path / "in", tmp_path / "out", k=1, verbose=0)
        users = [pq.read_table(path)["user_id"].to_pylist() for path in report.files]
        assert users == [["a"] * 8, ["a"] * 8, ["a"] * 7, ["b"] * 10, ["c"] * 30, []]

    def test_dictionaries_that_differ_between_row_groups(self, model, tmp_path):
        tables = [
            pa.table(
                {
                    "user_id": pa.array([f"{name}{i % 9}" for i in range(40)]).dictionary_encode(),
                    "items": pa.array(
                        [[item]] * 40, pa.list_(pa.dictionary(pa.int8(), pa.string()))
                    ),
                }
            )
            for name, item in (("u", "apple"), ("v", "dill"))
        ]
        with pq.ParquetWriter(tmp_path / "u.parquet", tables[0].schema) as writer:
            for table in tables:
                writer.write_table(table)
        score(model, tmp_path / "u.parquet", tmp_path / "out", k=2, verbose=0)
        found = pq.read_table(tmp_path / "out")
        expected = [name for table in tables for name in table["user_id"].to_pylist()]
        assert found["user_id"].to_pylist() == expected
        assert pa.types.is_dictionary(found["user_id"].type)
        rows = expected_rows(model, IDS, [["apple"]] * 40 + [["dill"]] * 40, 2)
        assert_rows(found, rows)

    def test_a_condition_goes_to_the_model(self, model, tmp_path, monkeypatch):
        source = write(tmp_path / "u.parquet", [["apple"]])
        with pytest.raises(ValueError, match="EASE takes no condition"):
            score(model, source, tmp_path / "out", condition=[1], verbose=0)
        assert not (tmp_path / "out").exists()
        got = []
        plain = model.recommend

        def recommend(x, k, *, condition, **options):
            got.append(condition)
            return plain(x, k, **options)

        monkeypatch.setattr(model, "recommend", recommend)
        monkeypatch.setattr(model, "items_with", lambda condition: np.array([2, 4]))
        score(model, source, tmp_path / "out", condition=[1], verbose=0)
        assert got[-1] == [1]
        (items,) = pq.read_table(tmp_path / "out")["items"].to_pylist()
        assert sorted(items) == ["cheese", "eggs"]

    def test_the_report(self, model, tmp_path):
        source = write(tmp_path / "u.parquet", HISTORIES)
        report = score(model, source, tmp_path / "out", verbose=0)
        values = report.to_dict()
        assert json.loads(json.dumps(values)) == values
        assert values["users_per_second"] == pytest.approx(7 / values["seconds"])
        assert str(report).startswith("7 users in ")
        assert "3 unknown items ignored; 3 users with nothing known got" in str(report)


def test_users_without_a_history_get_popular_items_that_satisfy_the_condition(tmp_path):
    conditions = ItemConditions(np.array([[1, 0], [1, 0], [0, 1], [0, 1], [1, 1]]), ["hot", "cold"])
    model = CMultiVAE(CMultiVAE_net(2, [3, 5]))
    data = Interactions(sp.csr_array(TRAIN), np.arange(len(TRAIN)), IDS)
    model.train(data, conditions=conditions, num_epochs=1, verbose=0)
    source = write(tmp_path / "u.parquet", [[], ["apple"]])
    score(model, source, tmp_path / "out", k=5, condition="cold", verbose=0)
    lists = pq.read_table(tmp_path / "out")["items"].to_pylist()
    counts = dict(zip(IDS, TRAIN.sum(0), strict=True))
    assert lists[0] == sorted(["cheese", "dill", "eggs"], key=lambda name: -counts[name])
    assert sorted(lists[1]) == ["cheese", "dill", "eggs"]
    score(model, source, tmp_path / "two", condition="cold", allow=["dill", "apple"], verbose=0)
    assert pq.read_table(tmp_path / "two")["items"].to_pylist() == [["dill"], ["dill"]]
    with pytest.raises(ValueError, match="'warm'"):
        score(model, source, tmp_path / "no", condition="warm", verbose=0)
    assert not (tmp_path / "no").exists()
