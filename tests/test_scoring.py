"""Parquet in, Parquet out: the same lists as `recommend` gives, whatever form the ids come in."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from unittest import mock

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from pyrec.data import Interactions
from pyrec.models import EASE, Popularity
from pyrec.scoring import fragments, recommend, run, score, scorer

IDS = np.array(["apple", "bread", "cheese", "dill", "eggs"], dtype=object)
NUMBERS = np.array([10, 20, 30, 40, 50])
TRAIN = np.array(
    [[1, 1, 0, 0, 0], [1, 1, 1, 0, 0], [0, 1, 1, 0, 1], [1, 0, 0, 1, 0], [1, 1, 0, 0, 1]]
)


def trained(ids, model=None):
    model = EASE(lam=1.0) if model is None else model
    users = np.arange(len(TRAIN))
    model.train(TRAIN if ids is None else Interactions(sp.csr_array(TRAIN), users, ids))
    return model


@pytest.fixture
def model():
    return trained(IDS)


def write(path, lists, users=None, kind=None, **options):
    users = pa.array(np.arange(100, 100 + len(lists)) if users is None else users)
    lists = lists if isinstance(lists, pa.Array) else pa.array(lists, kind)
    pq.write_table(pa.table({"user_id": users, "items": lists}), path, **options)
    return path


def expected_rows(model, ids, histories, k, remove_seen=True, allowed=None):
    """Each user's (ids, scores), from the scores of all items."""
    position = {item: j for j, item in enumerate(ids)}
    rows = []
    for history in histories:
        known = {position[item] for item in history or [] if item in position}
        x = np.zeros((1, len(ids)), np.float32)
        x[0, list(known)] = 1
        scores = np.asarray(model.scores(sp.csr_array(x)))[0]
        if not known:
            scores = model.item_counts.astype(np.float32)
        ranked = sorted(range(len(ids)), key=lambda j: (-scores[j], j))
        kept = [
            j
            for j in ranked
            if not (remove_seen and j in known) and (allowed is None or ids[j] in allowed)
        ]
        rows.append(([ids[j] for j in kept[:k]], [scores[j] for j in kept[:k]]))
    return rows


def assert_rows(table, expected):
    assert table["items"].to_pylist() == [items for items, _ in expected]
    for found, (_, scores) in zip(table["scores"].to_pylist(), expected, strict=True):
        np.testing.assert_allclose(found, scores, rtol=1e-5, atol=1e-6)


HISTORIES = [
    ["apple"],
    ["dill", "apple", "dill"],
    [],
    None,
    ["eggs", None, "fish", "bread"],
    ["fish", "fish"],
    ["apple", "bread", "cheese", "dill", "eggs"],
]


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
        ):
            pq.write_table(table, f"{folder}/u.parquet", row_group_size=group)
            score(model, f"{folder}/u.parquet", f"{folder}/out", k=4, verbose=0)
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

    def test_the_same_input_gives_the_same_bytes(self, model, tmp_path):
        source = write(tmp_path / "u.parquet", HISTORIES * 50)
        for out in ("one", "two"):
            score(model, source, tmp_path / out, verbose=0)
        one, two = (tmp_path / out / "part-00000.parquet" for out in ("one", "two"))
        assert one.read_bytes() == two.read_bytes()

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

    def test_peak_memory_without_proc(self, model, tmp_path, monkeypatch):
        def no_file(path):
            raise FileNotFoundError(path)

        source = write(tmp_path / "u.parquet", [["apple"]])
        for n, read_text in enumerate([lambda path: "Name: x\n", no_file]):
            monkeypatch.setattr(run.Path, "read_text", read_text)
            report = score(model, source, tmp_path / f"out{n}", verbose=0)
            assert 1 << 20 < report.peak_memory < 1 << 36

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

    def test_memory_does_not_grow_with_the_users(self, tmp_path):
        code = """if True:
            import sys
            import numpy as np
            from pyrec.models import Popularity
            from pyrec.scoring import score
            model = Popularity()
            model.train(np.ones((2, 500), np.float32))
            print(score(model, *sys.argv[1:], k=10, verbose=0).peak_memory / 2**20)
        """
        rng = np.random.default_rng(0)
        peaks = []
        for n in (20_000, 400_000):
            # ids that do not compress, in one row group
            values = pa.array(rng.integers(0, 2**62, n * 20))
            lists = pa.FixedSizeListArray.from_arrays(values, 20)
            path = write(tmp_path / f"{n}.parquet", lists, np.arange(n), row_group_size=n)
            command = [sys.executable, "-c", code, path, tmp_path / f"out{n}"]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            peaks.append(float(done.stdout))
            assert pq.read_metadata(tmp_path / f"out{n}" / "part-00000.parquet").num_rows == n
        # The larger file holds 58 MiB more of ids, and gives 43 MiB more of lists.
        assert peaks[1] - peaks[0] < 40


class TestErrors:
    def assert_untouched(self, tmp_path, *present):
        assert sorted(p.name for p in tmp_path.iterdir()) == sorted(present)

    def test_nothing_is_left_when_a_later_file_fails(self, model, tmp_path):
        folder = tmp_path / "in"
        folder.mkdir()
        write(folder / "a.parquet", [["apple"]])
        write(folder / "b.parquet", [["apple"]] * 20_000)
        whole = (folder / "b.parquet").read_bytes()
        # the footer is intact, the data is not
        (folder / "b.parquet").write_bytes(b"PAR1" + b"\xff" * 200 + whole[204:])
        with pytest.raises(ValueError, match=r"b\.parquet cannot be read"):
            score(model, folder, tmp_path / "out", verbose=0)
        self.assert_untouched(tmp_path, "in")
        (tmp_path / "out").mkdir()
        with pytest.raises(ValueError, match=r"b\.parquet cannot be read"):
            score(model, folder, tmp_path / "out", verbose=0)
        assert list((tmp_path / "out").iterdir()) == []

    def test_nothing_is_left_after_an_interrupt(self, model, tmp_path, monkeypatch):
        source = write(tmp_path / "u.parquet", [["apple"]])

        def interrupt(*arguments, **options):
            raise KeyboardInterrupt

        monkeypatch.setattr(model, "recommend", interrupt)
        with pytest.raises(KeyboardInterrupt):
            score(model, source, tmp_path / "out", verbose=0)
        self.assert_untouched(tmp_path, "u.parquet")

    def test_ids_of_another_type(self, model, tmp_path):
        source = write(tmp_path / "u.parquet", [[1, 2]])
        with pytest.raises(ValueError, match="of the model's type, string, got int64"):
            score(model, source, tmp_path / "out", verbose=0)
        source = write(tmp_path / "u.parquet", [["1"]])
        with pytest.raises(ValueError, match="of the model's type, int64, got string"):
            score(trained(NUMBERS), source, tmp_path / "out", verbose=0)
        source = write(tmp_path / "u.parquet", [[1.5]])
        with pytest.raises(ValueError, match="of the model's type, int64: "):
            score(trained(NUMBERS), source, tmp_path / "out", verbose=0)
        with pytest.raises(ValueError, match="deny must hold ids of the model's type, string"):
            score(model, source, tmp_path / "out", deny=[3], verbose=0)
        self.assert_untouched(tmp_path, "u.parquet")

    def test_input_that_is_not_there_or_not_parquet(self, model, tmp_path):
        out = tmp_path / "out"
        (tmp_path / "empty").mkdir()
        (tmp_path / "text.parquet").write_text("user_id,items\n")
        with pytest.raises(FileNotFoundError, match="none does not exist"):
            score(model, tmp_path / "none", out, verbose=0)
        with pytest.raises(FileNotFoundError, match=r"holds no \*.parquet files"):
            score(model, tmp_path / "empty", out, verbose=0)
        with pytest.raises(ValueError, match=r"text\.parquet is not a readable Parquet file"):
            score(model, tmp_path / "text.parquet", out, verbose=0)
        self.assert_untouched(tmp_path, "empty", "text.parquet")

    def test_output_that_cannot_be_written(self, model, tmp_path):
        source = write(tmp_path / "u.parquet", [["apple"]])
        with pytest.raises(FileExistsError, match=r"already holds u\.parquet"):
            score(model, source, tmp_path, verbose=0)
        with pytest.raises(NotADirectoryError, match="must be a folder"):
            score(model, source, source, verbose=0)
        with pytest.raises(FileNotFoundError, match="no does not exist"):
            score(model, source, tmp_path / "no" / "out", verbose=0)
        self.assert_untouched(tmp_path, "u.parquet")

    def test_options(self, model, tmp_path):
        source = write(tmp_path / "u.parquet", [["apple"]])
        for options, message in [
            ({"k": 0}, "k must be at least 1, got 0"),
            ({"layout": "wide"}, "layout must be one of list, long, got 'wide'"),
        ]:
            with pytest.raises(ValueError, match=message):
                score(model, source, tmp_path / "out", verbose=0, **options)
        with pytest.raises(ValueError, match="EASE cannot recommend before it is trained"):
            score(EASE(), source, tmp_path / "out", verbose=0)


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
        monkeypatch.setattr(run, "BATCH_ROWS", 2)
        assert recommend(model, data).equals(whole)

    def test_options(self, model):
        data = Interactions(sp.csr_array(TRAIN[:1]), [7], IDS)
        table = recommend(model, data, 9, remove_seen=False, allow=["eggs", "apple"])
        assert sorted(table["item_id"].to_pylist()) == ["apple", "eggs"]
        table = recommend(model, data, 9, deny=["eggs"])
        assert sorted(table["item_id"].to_pylist()) == ["cheese", "dill"]

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
