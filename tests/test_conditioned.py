"""Conditions of items, files of them, and the samplers of conditioned data."""

import gzip
import tracemalloc

import numpy as np
import polars as pl
import pytest
import scipy.sparse as sp
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pyrec import kernels, samplers
from pyrec.data import Histories, Interactions, ItemConditions, read_conditions, read_interactions
from pyrec.kernels.tensors import Csr
from pyrec.samplers import (
    BalancedConditionedDataSampler,
    ConditionedDataSampler,
    EmptyConditionedDataSampler,
)

LISTS = {0: [1], 1: [0, 1], 2: [0]}
X = np.array([[1, 1, 0], [0, 1, 1]], np.float32)


def dense(batch):
    return batch.dense() if isinstance(batch, Csr) else batch


def stacked(sampler):
    """Inputs and targets of a pass."""
    pairs = list(sampler)
    return tuple(torch.cat([dense(p[part]) for p in pairs]).numpy() for part in (0, 1))


def films(names=("Comedy", "Drama", "War"), items=(10, 20, 30, 40)):
    return ItemConditions([[1, 0, 0], [1, 1, 0], [0, 0, 0], [0, 1, 0]] @ np.eye(3), names, items)


class TestItemConditions:
    def test_any_matrix_becomes_a_pattern(self):
        given = sp.csc_matrix([[0, 2.5], [0, 0], [-1, 7]])
        known = ItemConditions(given)
        np.testing.assert_array_equal(known.matrix.toarray(), [[0, 1], [0, 0], [1, 1]])
        np.testing.assert_array_equal(known.by_condition.toarray(), known.matrix.toarray().T)
        assert (known.n_items, known.n_cond, known.names, known.items) == (3, 2, None, None)
        assert given.data.tolist() == [-1, 2.5, 7]
        assert repr(known) == "ItemConditions(3 items, 2 conditions)"

    def test_lists(self):
        known = ItemConditions.from_lists({**LISTS, 4: []}, 3, 5)
        expected = [[0, 1, 0], [1, 1, 0], [1, 0, 0], [0, 0, 0], [0, 0, 0]]
        np.testing.assert_array_equal(known.matrix.toarray(), expected)
        assert ItemConditions.from_lists({np.int64(2): {1}}, 2).matrix.shape == (3, 2)
        repeated = ItemConditions.from_lists({0: [1, 1]}, 2)
        np.testing.assert_array_equal(repeated.matrix.toarray(), [[0, 1]])

    def test_alignment_by_id(self):
        known = films().align([40, 7, 10])
        np.testing.assert_array_equal(known.matrix.toarray(), [[0, 1, 0], [0, 0, 0], [1, 0, 0]])
        assert known.items.tolist() == [40, 7, 10]
        assert known.names.tolist() == ["Comedy", "Drama", "War"]

    @pytest.mark.parametrize(
        ("condition", "numbers"),
        [
            ("Drama", [1]),
            (2, [2]),
            (["War", "Comedy"], [0, 2]),
            ((np.int64(1), "Drama"), [1]),
            (np.array([2, 0]), [0, 2]),
            (np.array(["War"]), [2]),
        ],
    )
    def test_numbers(self, condition, numbers):
        found = films().numbers(condition)
        assert found.dtype == np.int64
        assert found.tolist() == numbers

    @pytest.mark.parametrize(
        ("condition", "message"),
        [
            ("Darma", "condition 'Darma' is unknown; known: Drama, Comedy, War"),
            (["War", "x"], "condition 'x' is unknown"),
            (3, r"condition must be in 0\.\.2, got 3"),
            (-1, r"condition must be in 0\.\.2, got -1"),
            ([], "condition must name at least one condition"),
            (True, "condition must be a name, a number or a list of them, got True"),
            (1.0, "condition must be a name, a number or a list of them, got 1.0"),
            ([None], "condition must be a name, a number or a list of them, got None"),
            ([[0, 1], [1, 0]], r"a number or a list of them, got an array of shape \(2, 2\)"),
            (np.eye(3, dtype=int), r"a number or a list of them, got an array of shape \(3, 3\)"),
        ],
    )
    def test_what_is_no_condition(self, condition, message):
        with pytest.raises(ValueError, match=message):
            films().numbers(condition)

    def test_the_digest_is_of_the_matrix_and_the_names(self):
        assert films().digest == films(items=(1, 2, 3, 4)).digest
        matrix = films().matrix.toarray()
        others = [
            films(),
            films(names=None),
            films(names=("Comedy", "Drama", "Western")),
            films(names=("ComedyD", "rama", "War")),
            ItemConditions(matrix[::-1], films().names),
            ItemConditions(np.vstack([matrix, 0 * matrix]), films().names),
            ItemConditions(np.hstack([matrix, 0 * matrix])),
        ]
        assert len({other.digest for other in others}) == len(others)

    def test_not_all_of_many_names_are_listed(self):
        many = ItemConditions(np.eye(300), [f"tag {n}" for n in range(300)])
        with pytest.raises(ValueError, match=r"known: .*tag 25.*, and 280 more") as error:
            many.numbers("tag 25x")
        assert str(error.value).count("tag") == 21

    def test_conditions_without_names(self):
        with pytest.raises(ValueError, match="these conditions have no names, only numbers"):
            ItemConditions(np.eye(2)).numbers("War")

    def test_items_that_have_any_of_a_rows_conditions(self):
        wanted = sp.csr_array(np.array([[1, 1, 0], [0, 0, 0], [0, 3, 0]], np.float32))
        found = films().satisfying(wanted)
        np.testing.assert_array_equal(
            found.toarray() > 0, [[1, 1, 0, 1], [0, 0, 0, 0], [0, 1, 0, 1]]
        )

    @pytest.mark.parametrize(
        ("make", "error", "message"),
        [
            (lambda: ItemConditions(np.zeros((3, 2))), ValueError, "of 3 items none has one of 2"),
            (lambda: ItemConditions(np.zeros((3, 0))), ValueError, "of 3 items none has one of 0"),
            (lambda: ItemConditions([[1]]), TypeError, "matrix must be"),
            (lambda: films(names=["a", "b"]), ValueError, r"names must have shape \(3,\)"),
            (lambda: films(names=["a", "b", "a"]), ValueError, "names must not repeat"),
            (lambda: films(names=["a", "b", 3]), TypeError, "names must be strings"),
            (lambda: films(items=[1, 2]), ValueError, r"items must have shape \(4,\), got \(2,\)"),
            (lambda: films(items=[1, 2, 2, 3]), ValueError, "items must not repeat an id"),
            (lambda: films().align(["a"]), ValueError, "item ids differ in type"),
            (lambda: films().align([30, 99]), ValueError, "none of the 2 items has a condition"),
            (lambda: films(items=None).align([1]), ValueError, "have no item ids"),
            (lambda: ItemConditions.from_lists([[1]], 2), TypeError, "iid2cids must be a dict"),
            (lambda: ItemConditions.from_lists({0: 1}, 2), TypeError, "must hold a list of num"),
            (lambda: ItemConditions.from_lists({0: ["a"]}, 2), TypeError, "conditions must be wh"),
            (lambda: ItemConditions.from_lists({"a": [0]}, 2), TypeError, "items must be whole"),
            (
                lambda: ItemConditions.from_lists({0: [2]}, 2),
                ValueError,
                r"iid2cids: conditions must lie in 0\.\.1, got 2 to 2",
            ),
            (
                lambda: ItemConditions.from_lists({5: [1]}, 2, 5),
                ValueError,
                r"iid2cids: items must lie in 0\.\.4, got 5 to 5",
            ),
            (lambda: ItemConditions.from_lists({}, 2, 5), ValueError, "of 5 items none has one"),
        ],
    )
    def test_errors(self, make, error, message):
        with pytest.raises(error, match=message):
            make()

    def test_arrays_of_a_file(self):
        for known in (films(), ItemConditions(np.eye(3))):
            arrays = known.to_arrays("c")
            assert all(name.startswith("c.") for name in arrays)
            again = ItemConditions.from_arrays("c", arrays)
            np.testing.assert_array_equal(again.matrix.toarray(), known.matrix.toarray())
            assert (again.names is None) == (known.names is None)
        assert ItemConditions.from_arrays("c", films().to_arrays("c")).names.tolist() == [
            "Comedy",
            "Drama",
            "War",
        ]

    @pytest.mark.parametrize(
        ("change", "error"),
        [
            (lambda a: a.pop("c.shape"), KeyError),
            (lambda a: a.update({"c.shape": np.array([4])}), ValueError),
            (lambda a: a.update({"c.shape": np.array([9, 3])}), ValueError),
            (lambda a: a.update({"c.shape": np.array([4, -3])}), ValueError),
            (lambda a: a.update({"c.shape": np.array([4, 4])}), ValueError),
            (lambda a: a.update({"c.indices": np.array([0, 0, 1, 3])}), ValueError),
            (lambda a: a.update({"c.indices": np.array([0, 0])}), ValueError),
            (lambda a: a.update({"c.indptr": np.array([0, 1, 0, 3, 4])}), ValueError),
            (lambda a: a.update({"c.indptr": np.zeros((5, 1), np.int64)}), ValueError),
            (lambda a: a.update({"c.indices": np.zeros(4)}), ValueError),
        ],
    )
    def test_corrupt_arrays(self, change, error):
        arrays = films().to_arrays("c")
        change(arrays)
        with pytest.raises(error):
            ItemConditions.from_arrays("c", arrays)


class TestReading:
    DAT = (
        "7::Ångström: a life (1999)::War|Drama\n3::A::B::Comedy\r\n\n10::None::(no genres listed)\n"
    )
    CSV = 'movieId,title,genres\n3,"A, B",Comedy\n10,C,(no genres listed)\n7,D,Drama|War\n'
    ITEM = "item_id:token\ttitle:token_seq\tclass:token_seq\n3\tA B\tComedy\n10\tC\t\n7\tD\tWar Drama\n"

    def check(self, known, names=("Comedy", "Drama", "War")):
        assert known.items.tolist() == [3, 7, 10]
        assert known.names.tolist() == list(names)
        np.testing.assert_array_equal(known.matrix.toarray(), [[1, 0, 0], [0, 1, 1], [0, 0, 0]])

    @pytest.mark.parametrize("encoding", ["latin-1", "utf-8"])
    def test_movielens_dat(self, tmp_path, encoding):
        path = tmp_path / "movies.dat"
        path.write_bytes(self.DAT.encode(encoding))
        self.check(read_conditions(path))
        self.check(read_conditions(str(tmp_path / "*.dat")))

    def test_movielens_dat_with_a_header(self, tmp_path):
        path = tmp_path / "movies.dat"
        path.write_text("movie_id::title::genres\n" + self.DAT)
        self.check(read_conditions(path))

    def test_conditions_keep_latin_1(self, tmp_path):
        path = tmp_path / "movies.dat"
        path.write_bytes("1::A::Café|War\n".encode("latin-1"))
        assert read_conditions(path).names.tolist() == ["Café", "War"]

    def test_csv(self, tmp_path):
        path = tmp_path / "movies.csv"
        path.write_text(self.CSV)
        self.check(read_conditions(path))
        zipped = tmp_path / "movies.csv.gz"
        zipped.write_bytes(gzip.compress(self.CSV.encode()))
        self.check(read_conditions(zipped))

    def test_recbole(self, tmp_path):
        path = tmp_path / "films.item"
        path.write_text(self.ITEM)
        self.check(read_conditions(path))
        path.write_text(self.ITEM.replace("C\t\n", "C\t(no genres listed)\n"))
        self.check(read_conditions(path))
        titles = read_conditions(path, conditions="title")
        assert titles.names.tolist() == ["A", "B", "C", "D"]

    def test_parquet_and_frames(self, tmp_path):
        frame = pl.DataFrame(
            {"asin": [10, 7, 3, 7], "tags": [None, ["War", " "], ["Comedy"], ["Drama", "War"]]}
        )
        frame.write_parquet(tmp_path / "films.parquet")
        self.check(read_conditions(tmp_path / "films.parquet"))
        self.check(read_conditions(frame))
        self.check(read_conditions(frame.to_pandas()))
        numbers = pl.DataFrame({"item": [3, 7, 7, 10], "category": [1, 2, 3, None]})
        self.check(read_conditions(numbers), names="123")

    def test_named_columns_and_separator(self, tmp_path):
        path = tmp_path / "films.csv"
        path.write_text("film;kind;genres\n3;Comedy;x\n7; Drama , War,;y\n10;;z\n")
        self.check(read_conditions(path, item="film", conditions="kind", separator=","))

    def test_ids_are_read_as_those_of_interactions(self, tmp_path):
        """007 is text, and a file of both is one of texts."""
        path = tmp_path / "films.csv"
        path.write_text("item,genre\n007,War\n8,Drama\n")
        assert read_conditions(path).items.tolist() == ["007", "8"]

    def test_several_files(self, tmp_path):
        (tmp_path / "a.csv").write_text("item,genre\n3,Comedy\n7,War\n")
        (tmp_path / "b.csv").write_text("item,genre\n10,\n7,Drama\n")
        self.check(read_conditions(tmp_path / "*.csv"))
        (tmp_path / "c.csv").write_text("item,genre\nx,Drama\n")
        with pytest.raises(ValueError, match=r"item ids differ in type between .*a\.csv"):
            read_conditions(tmp_path / "*.csv")

    @pytest.mark.parametrize(
        ("name", "text", "message"),
        [
            ("a.csv", "movieId,title\n1,2\n", "no column looks like the conditions; columns found"),
            ("a.csv", "title,genres\nx,War\n", "no column looks like the item; columns found"),
            ("a.csv", "item,genre,tags\n1,a,b\n", "several columns could be the conditions"),
            ("a.csv", "item,genre\n1,\n", r"a\.csv: no item has a condition"),
            ("a.dat", "1::A::War\n2::B\n", "expected 3 fields separated by '::', got '2::B'"),
            ("a.dat", "", r"a\.dat is empty"),
            ("a.xml", "<x/>", "unknown extension"),
        ],
    )
    def test_errors(self, tmp_path, name, text, message):
        (tmp_path / name).write_text(text)
        with pytest.raises(ValueError, match=message):
            read_conditions(tmp_path / name)

    def test_more_errors(self, tmp_path):
        with pytest.raises(FileNotFoundError, match=r"none\.dat does not exist"):
            read_conditions(tmp_path / "none.dat")
        with pytest.raises(TypeError, match="source must be a path"):
            read_conditions(3)
        frame = pl.DataFrame({"item": [1], "genre": [0.5]})
        with pytest.raises(TypeError, match="column genre must hold text, integers or lists"):
            read_conditions(frame)
        with pytest.raises(ValueError, match="no column 'kind' for conditions; columns found"):
            read_conditions(frame, conditions="kind")

    @pytest.mark.data
    def test_real_files(self, real_data):
        ratings = read_interactions(real_data / "ml-1m" / "ratings.parquet", min_rating=4)
        known = read_conditions(real_data / "ml-1m" / "movies.dat")
        assert (known.n_items, known.n_cond, known.matrix.nnz) == (3883, 18, 6408)
        assert "Children's" in known.names
        aligned = known.align(ratings.items)
        assert aligned.n_items == ratings.n_items
        assert (np.diff(aligned.matrix.indptr) > 0).all()
        assert aligned.matrix[[0]].indices.tolist() == [2, 3, 4]  # Toy Story
        for path, n_cond in (
            ("ml-100k/ml-100k.item", 19),
            ("ml-latest-small/movies.csv", 19),
        ):
            assert read_conditions(real_data / path).n_cond == n_cond


def plain_examples(x, conditions, te):
    """The definition: inputs and targets of each example, row by row."""
    n_cond = conditions.shape[1]
    alone, under = [], []
    for row, target in zip(x, te, strict=True):
        if not (row.any() and target.any()):
            continue
        alone.append((np.append(row, np.zeros(n_cond)), target))
        for c in range(n_cond):
            has = conditions[:, c] > 0
            if (row * has).any() and (target * has).any():
                under.append((np.append(row, np.eye(n_cond)[c]), target * has))
    examples = alone + under
    width = x.shape[1]
    inputs = np.array([e[0] for e in examples], np.float32).reshape(-1, width + n_cond)
    return inputs, np.array([e[1] for e in examples], np.float32).reshape(-1, width)


def in_order(rows):
    return rows[np.lexsort(rows.T)]


@st.composite
def data(draw):
    """Histories, conditions of items and targets, with empty rows and items without a condition."""
    n, m, c = draw(st.integers(1, 12)), draw(st.integers(1, 9)), draw(st.integers(1, 4))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    x, te = (rng.random((n, m)) < draw(st.sampled_from([0.2, 0.6])) for _ in range(2))
    values = rng.integers(1, 5, (2, n, m)).astype(np.float32)
    conditions = (rng.random((m, c)) < 0.4).astype(np.float32)
    x[0, 0] = te[0, 0] = conditions[0, 0] = True  # at least one example
    return x * values[0], conditions, te * values[1]


class TestConditionedDataSampler:
    @pytest.mark.parametrize("layout", ["dense", "csr"])
    def test_documented_example(self, layout):
        sampler = ConditionedDataSampler(LISTS, 2, X, None, 2, shuffle=False, layout=layout)
        found = [[dense(batch).tolist() for batch in pair] for pair in sampler]
        assert found == [
            [[[1, 1, 0, 0, 0], [0, 1, 1, 0, 0]], [[1, 1, 0], [0, 1, 1]]],
            [[[1, 1, 0, 1, 0], [1, 1, 0, 0, 1]], [[0, 1, 0], [1, 1, 0]]],
            [[[0, 1, 1, 1, 0], [0, 1, 1, 0, 1]], [[0, 1, 1], [0, 1, 0]]],
        ]
        assert (len(sampler), sampler.n_examples, sampler.counts.tolist()) == (3, 6, [2, 2])

    @settings(max_examples=60, deadline=None)
    @given(data(), st.integers(1, 30), st.booleans(), st.sampled_from(["dense", "csr"]))
    def test_equals_the_definition(self, drawn, batch_size, has_te, layout):
        x, conditions, te = drawn
        expected = plain_examples(x, conditions, te if has_te else x)
        given = (sp.csr_array(conditions), conditions.shape[1], x, te if has_te else None)
        ordered = ConditionedDataSampler(*given, batch_size, shuffle=False, layout=layout)
        for ours, plain in zip(stacked(ordered), expected, strict=True):
            np.testing.assert_array_equal(ours, plain)
        sizes = [len(tr) for tr, _ in ordered]
        assert len(sizes) == len(ordered)
        assert sizes[:-1] == [batch_size] * (len(sizes) - 1)
        assert sizes[-1] > 0
        mixed = ConditionedDataSampler(*given, batch_size, layout=layout, seed=3)
        order = kernels.permuted(0, mixed.n_examples, mixed.n_examples, 3, 0)
        for ours, plain in zip(stacked(mixed), expected, strict=True):
            np.testing.assert_array_equal(ours, plain[order])

    def test_every_kind_of_conditions(self):
        expected = stacked(ConditionedDataSampler(LISTS, 2, X, shuffle=False))
        known = ItemConditions.from_lists(LISTS, 2, 3)
        for one, n_cond in (
            (known, 2),
            (known, None),
            (known.matrix, None),
            (known.matrix.toarray() * 7, 2),
            (sp.coo_matrix(known.matrix), 2),
        ):
            sampler = ConditionedDataSampler(one, n_cond, X, shuffle=False)
            for ours, theirs in zip(stacked(sampler), expected, strict=True):
                np.testing.assert_array_equal(ours, theirs)
        assert sampler.n_cond == 2

    def test_every_kind_of_data(self):
        expected = stacked(ConditionedDataSampler(LISTS, 2, X, X, shuffle=False))
        for x in (
            sp.csc_matrix(X),
            torch.from_numpy(X),
            Histories.from_lists([[1, 0], [2, 1]], 3),
            Interactions(X, [0, 1], ["a", "b", "c"]),
        ):
            found = stacked(ConditionedDataSampler(LISTS, 2, x, x, shuffle=False))
            for ours, theirs in zip(found, expected, strict=True):
                np.testing.assert_array_equal(ours, theirs)

    def test_interactions_align_the_conditions(self):
        x = Interactions(X, [0, 1], [30, 10, 20])
        sampler = ConditionedDataSampler(films(), 3, x, batch_size=9, shuffle=False)
        assert sampler.item_conditions.items.tolist() == [30, 10, 20]
        expected = films().matrix.toarray()[[2, 0, 1]]
        np.testing.assert_array_equal(sampler.item_conditions.matrix.toarray(), expected)
        plain = plain_examples(X, expected, X)
        np.testing.assert_array_equal(stacked(sampler)[1], plain[1])
        assert sampler.counts.tolist() == [2, 1, 0]
        assert sampler.unknown == ["condition 'War'"]

    def test_order_follows_seed_and_epoch(self):
        x = np.eye(40, 3, dtype=np.float32) + 1
        sampler = ConditionedDataSampler(LISTS, 2, x, batch_size=7)
        first, second = stacked(sampler)[0], stacked(sampler)[0]
        assert sampler.epoch == 2
        assert not np.array_equal(first, second)
        np.testing.assert_array_equal(in_order(first), in_order(second))
        sampler.epoch = 0
        np.testing.assert_array_equal(stacked(sampler)[0], first)
        other = ConditionedDataSampler(LISTS, 2, x, batch_size=7, seed=1)
        assert not np.array_equal(stacked(other)[0], first)

    def test_one_thread_and_four_give_the_same(self, draw, monkeypatch):
        x, conditions = draw(300, 50, 0.2), draw(50, 6, 0.2, seed=1)
        passes = []
        for n in ("1", "4"):
            monkeypatch.setenv("PYREC_NUM_THREADS", n)
            passes.append(stacked(BalancedConditionedDataSampler(conditions, 6, x, None, 64)))
        for one, four in zip(*passes, strict=True):
            np.testing.assert_array_equal(one, four)

    def test_memory_of_dense_batches_is_used_again(self, monkeypatch):
        taken = []

        class Counted(samplers.rows._Buffer):
            def __init__(self, shape):
                super().__init__(shape)
                taken.append(shape)

        monkeypatch.setattr(samplers.rows, "_Buffer", Counted)
        x = np.ones((30, 3), np.float32)
        sampler = ConditionedDataSampler(LISTS, 2, x, batch_size=4)
        for _ in sampler:
            pass
        assert sorted(taken) == [(4, 3), (4, 3), (4, 5), (4, 5)]
        kept = list(sampler)
        np.testing.assert_array_equal(
            in_order(torch.cat([tr for tr, _ in kept]).numpy()),
            in_order(plain_examples(x, ItemConditions.from_lists(LISTS, 2).matrix.toarray(), x)[0]),
        )

    @pytest.mark.parametrize("layout", ["dense", "csr"])
    def test_examples_are_made_when_they_are_asked_for(self, layout):
        """Neither they nor their order ever exist as a whole: 3 million of them here."""
        x = sp.csr_array(np.ones((50_000, 60), np.float32))
        conditions = sp.csr_array(np.eye(60, dtype=np.float32))
        tracemalloc.start()
        try:
            sampler = ConditionedDataSampler(conditions, 60, x, None, 100, layout=layout)
            tracemalloc.reset_peak()  # the check of the matrix has a byte an entry
            for _, _ in zip(sampler, range(20), strict=False):
                pass
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert sampler.n_examples == 61 * 50_000
        # 16 bytes a row, offsets of rows that are 8 bytes each, and two batches.
        assert peak < 24 * 50_000 + (1 << 20)

    @pytest.mark.parametrize(
        ("arguments", "error", "message"),
        [
            (({0: [2]}, 2, X), ValueError, r"iid2cids: conditions must lie in 0\.\.1"),
            (({3: [1]}, 2, X), ValueError, r"iid2cids: items must lie in 0\.\.2"),
            (({0: []}, 2, X), ValueError, "of 3 items none has one of 2"),
            ((LISTS, None, X), ValueError, "n_cond must be given where iid2cids is a dict"),
            ((LISTS, 0, X), ValueError, "n_cond must be a whole number of at least 1, got 0"),
            ((np.eye(3), 2, X), ValueError, "iid2cids has 3 conditions, n_cond is 2"),
            ((np.eye(4), 4, X), ValueError, "iid2cids has 4 items, the data has 3"),
            (([[1]], 1, X), TypeError, "iid2cids must be"),
            ((LISTS, 2, X, X[:1]), ValueError, r"shape of sparse_data_tr, \(2, 3\), got \(1, 3\)"),
            ((LISTS, 2, X, X, 0), ValueError, "batch_size must be a whole number of at least 1"),
            ((LISTS, 2, 0 * X), ValueError, "sparse_data_tr has no row with an item"),
            ((LISTS, 2, X, 0 * X), ValueError, "whose row of sparse_data_te has one too"),
        ],
    )
    def test_errors(self, arguments, error, message):
        with pytest.raises(error, match=message):
            ConditionedDataSampler(*arguments)

    def test_more_errors(self):
        with pytest.raises(ValueError, match="layout must be one of dense, csr, got 'coo'"):
            ConditionedDataSampler(LISTS, 2, X, layout="coo")
        with pytest.raises(ValueError, match="seed must be"):
            ConditionedDataSampler(LISTS, 2, X, seed=-1)


class TestBalancedConditionedDataSampler:
    LISTS = np.eye(4, 3)

    @pytest.fixture
    def x(self):
        """60 rows know condition 0, six of them condition 1, one condition 2."""
        x = np.zeros((64, 4), np.float32)
        x[:60, 0] = x[:6, 1] = x[0, 2] = x[:63, 3] = 1
        return x

    @pytest.mark.parametrize("layout", ["dense", "csr"])
    def test_as_many_of_every_condition(self, x, layout):
        sampler = BalancedConditionedDataSampler(self.LISTS, 3, x, None, 10, layout=layout)
        assert sampler.counts.tolist() == [60, 6, 1]
        # ⌈.2 · 67 / 3⌉ = 5 of each condition, and the 63 rows that are not empty.
        passes = [stacked(sampler)[0] for _ in range(2)]
        for inputs in passes:
            assert inputs[:, 4:].sum(0).tolist() == [5, 5, 1]
            assert (inputs[:, 4:].sum(1) == 0).sum() == 63
            assert len(np.unique(inputs, axis=0)) <= len(inputs) == sampler.n_examples == 74
        assert len(sampler) == 8
        assert not np.array_equal(*passes)

    def test_draws_are_examples_without_repeats(self, draw):
        x, conditions = draw(80, 30, 0.2).toarray(), draw(30, 4, 0.3, seed=1).toarray()
        x *= np.arange(1, 81)[:, None]  # every row another one
        sampler = BalancedConditionedDataSampler(conditions, 4, x, None, 16, 0.5)
        known = {row.tobytes() for row in np.hstack(plain_examples(x, conditions, x))}
        chances = []
        for _ in range(30):
            rows = np.hstack(stacked(sampler))
            assert {row.tobytes() for row in rows} <= known
            assert len({row.tobytes() for row in rows}) == len(rows)
            chances.append(rows[rows[:, 30] == 1].max(1))
        # Over the passes, every example of a condition has its turn.
        assert len(np.unique(np.concatenate(chances))) == sampler.counts[0]

    def test_draws_follow_seed_and_epoch(self, x):
        made = [
            BalancedConditionedDataSampler(self.LISTS, 3, x, None, 10, seed=seed)
            for seed in (4, 4, 5)
        ]
        passes = [stacked(sampler)[0] for sampler in made]
        np.testing.assert_array_equal(passes[0], passes[1])
        assert not np.array_equal(passes[0], passes[2])
        made[0].epoch = 0
        np.testing.assert_array_equal(stacked(made[0])[0], passes[0])

    @pytest.mark.parametrize("subsample", [0, -0.1, 1.1, "half", None, True, float("nan")])
    def test_subsample(self, x, subsample):
        with pytest.raises(ValueError, match=r"subsample must be a number in \(0, 1\], got"):
            BalancedConditionedDataSampler(self.LISTS, 3, x, subsample=subsample)


class TestEmptyConditionedDataSampler:
    @pytest.mark.parametrize("layout", ["dense", "csr"])
    def test_zeros_behind_the_rows(self, layout):
        x = np.array([[1, 0, 2], [0, 0, 0], [0, 3, 0], [1, 1, 1]], np.float32)
        te = np.array([[0, 4, 0], [1, 0, 0], [0, 0, 5], [0, 0, 0]], np.float32)
        sampler = EmptyConditionedDataSampler(2, x, te, 2, shuffle=False, layout=layout)
        assert (len(sampler), sampler.n_cond, sampler.n_examples) == (1, 2, 2)
        inputs, targets = stacked(sampler)
        np.testing.assert_array_equal(inputs, [[1, 0, 2, 0, 0], [0, 3, 0, 0, 0]])
        np.testing.assert_array_equal(targets, te[[0, 2]])
        own = EmptyConditionedDataSampler(2, x, None, 2, shuffle=False, layout=layout)
        np.testing.assert_array_equal(stacked(own)[1], x[[0, 2, 3]])

    def test_it_is_shuffled(self):
        x = np.arange(1, 61, dtype=np.float32)[:, None]
        sampler = EmptyConditionedDataSampler(1, x, batch_size=7)
        first, second = stacked(sampler)[0], stacked(sampler)[0]
        assert not np.array_equal(first, second)
        np.testing.assert_array_equal(np.sort(first, 0), np.hstack([x, 0 * x]))

    @pytest.mark.parametrize("cond_size", [0, -1, 1.5, None])
    def test_errors(self, cond_size):
        with pytest.raises(ValueError, match="cond_size must be a whole number of at least 1"):
            EmptyConditionedDataSampler(cond_size, X)
