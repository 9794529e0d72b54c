import gzip
import json
import re
from datetime import UTC, date, datetime

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyrec.data import read_interactions

ROWS = [(3, 7, 5.0, 30), (1, 9, 3.5, 10), (3, 2, 4.0, 20), (1, 7, 1.0, 40)]
CORRUPT_GZIP = gzip.compress(b"user,item\n", mtime=0)[:10] + b"\xff" * 40
TRIPLES = {(user, item): (1.0, time) for user, item, _, time in ROWS}


def triples(data):
    rows = np.repeat(data.users, np.diff(data.matrix.indptr)).tolist()
    items = data.items[data.matrix.indices].tolist()
    times = [None] * len(rows) if data.timestamps is None else data.timestamps.tolist()
    values = zip(data.matrix.data.tolist(), times, strict=True)
    return dict(zip(zip(rows, items, strict=True), values, strict=True))


def write(path, text):
    path.write_text(text)
    return path


def lines(separator, header=None, rows=ROWS):
    body = [separator.join(map(str, row)) for row in rows]
    return "\n".join([*([header] if header else []), *body]) + "\n"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.csv", lines(",", "userId,movieId,rating,timestamp")),
        ("a.csv", lines(",", "User-ID,ASIN,Score,unixReviewTime")),
        ("a.csv", lines(",", '"userId","movieId","rating","timestamp"')),
        ("a.csv", lines(";", "user;item;rating;time")),
        ("a.csv", lines(",")),
        ("a.csv", "\ufeff" + lines(",", "uid,sid,rating,ts")),
        ("a.csv", "\ufeff" + lines(",")),
        ("a.csv", lines(",", "uid,sid,rating,ts").replace("\n", "\r\n")),
        ("a.tsv", lines("\t", "visitorid\titemid\tstars\tdate")),
        ("u.data", lines("\t")),
        ("train.txt", lines(" ")),
        ("ratings.dat", lines("::")),
        ("ratings.dat", lines("::", "UserID::MovieID::Rating::Timestamp")),
        ("a.inter", lines("\t", "user_id:token\titem_id:token\trating:float\ttimestamp:float")),
    ],
)
def test_text_files(tmp_path, name, text):
    data = read_interactions(write(tmp_path / name, text))
    assert triples(data) == TRIPLES
    assert data.users.tolist() == [1, 3]
    assert data.items.tolist() == [2, 7, 9]
    assert data.users.dtype == data.items.dtype == data.timestamps.dtype == np.int64
    assert data.report.rows == data.report.interactions == 4


def test_gzip(tmp_path):
    path = tmp_path / "a.csv.gz"
    path.write_bytes(gzip.compress(lines(",", "user,item,rating,time").encode()))
    assert triples(read_interactions(path)) == TRIPLES
    path.write_bytes(path.read_bytes()[:20])
    with pytest.raises(ValueError, match=r"a\.csv\.gz could not be"):
        read_interactions(path)


FRAME = pl.DataFrame(ROWS, schema=["user_id", "item_id", "rating", "timestamp"], orient="row")


@pytest.mark.parametrize(
    "source",
    [
        FRAME,
        FRAME.to_arrow(),
        FRAME.to_arrow().to_reader(),
        FRAME.to_pandas(),
        FRAME.to_pandas().set_index("rating", append=True),
        FRAME.with_columns(pl.lit(None).alias("title")),
        FRAME.cast({"user_id": pl.Int32, "item_id": pl.UInt64, "timestamp": pl.UInt32}),
        FRAME.cast({"user_id": pl.Float64, "item_id": pl.Int8}),
        FRAME.cast({"user_id": pl.Decimal(38, 0), "timestamp": pl.Float64}),
        pa.table(
            {
                "user_id": pa.array([3, 1, 3, 1], pa.int32()).dictionary_encode(),
                "item_id": [7, 9, 2, 7],
                "timestamp": [30, 10, 20, 40],
            }
        ),
    ],
)
def test_frames(source):
    assert triples(read_interactions(source)) == TRIPLES


@pytest.mark.parametrize("dtype", [pl.String, pl.Categorical, pl.Enum(["b", "é", "a", "10", "9"])])
def test_text_ids_are_sorted_by_character(dtype):
    frame = pl.DataFrame({"user": ["b", "é", "a", "b"], "item": ["10", "9", "10", "9"]})
    data = read_interactions(frame.cast({"user": dtype, "item": dtype}))
    assert data.users.tolist() == ["a", "b", "é"]
    assert data.items.tolist() == ["10", "9"]
    assert data.users.dtype == object
    np.testing.assert_array_equal(data.matrix.toarray(), [[1, 0], [1, 1], [0, 1]])
    assert triples(read_interactions(frame.to_pandas())) == triples(data)


def test_parquet_globs_and_lists(tmp_path):
    FRAME[:2].write_parquet(tmp_path / "part-1.parquet")
    FRAME[2:].cast(pl.Int32).write_parquet(tmp_path / "part-2.parquet")
    FRAME[:0].write_csv(tmp_path / "empty.csv")
    for source in (
        tmp_path / "part-*.parquet",
        str(tmp_path / "**" / "*.parquet"),
        [tmp_path / "part-2.parquet", str(tmp_path / "part-1.parquet"), tmp_path / "empty.csv"],
    ):
        data = read_interactions(source)
        assert triples(data) == TRIPLES
        assert data.users.dtype == np.int64
        assert len(data.report.sources) == (3 if isinstance(source, list) else 2)
    odd = tmp_path / "odd[1].parquet"  # a name that is a pattern, too
    FRAME.write_parquet(odd)
    assert triples(read_interactions(odd)) == TRIPLES


def test_only_the_columns_needed_are_read(tmp_path):
    frame = FRAME.to_pandas().assign(title=[object()] * 4)  # Arrow knows no such type
    assert triples(read_interactions(frame)) == TRIPLES
    path = write(tmp_path / "a.csv", lines(",", "user,item,rating,time").replace("5.0", "good"))
    assert triples(read_interactions(path)) == TRIPLES
    with pytest.raises(ValueError, match="column rating as rating"):
        read_interactions(path, min_rating=1)


def test_the_order_of_the_rows_does_not_matter():
    data = read_interactions(FRAME.sample(fraction=1, shuffle=True, seed=1))
    assert triples(data) == TRIPLES
    assert data.users.tolist() == [1, 3]


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        ([1.5, 2.0, 3.0, 4.0], [1.5, 2.0, 3.0, 4.0]),
        ([date(1970, 1, day) for day in (1, 2, 3, 4)], [0, 86400, 172800, 259200]),
        ([datetime(1970, 1, 1, 0, 0, s, tzinfo=UTC) for s in range(4)], [0, 1, 2, 3]),
        ([datetime(1970, 1, 1, 0, 0, s, 500_000) for s in range(4)], [0.5, 1.5, 2.5, 3.5]),
        ([f"1970-01-01 00:00:0{s}" for s in range(4)], [0, 1, 2, 3]),
    ],
)
def test_timestamps_become_seconds(times, expected):
    data = read_interactions(pl.DataFrame({"user": [0, 0, 1, 2], "item": range(4), "t": times}))
    assert data.timestamps.tolist() == expected
    assert data.timestamps.dtype == (np.float64 if isinstance(expected[0], float) else np.int64)


def test_dates_in_text_files(tmp_path):
    text = "userId,movieId,timestamp\n1,2,2005-04-02 23:53:47\n1,3,1970-01-02 00:00:00\n"
    assert read_interactions(write(tmp_path / "a.csv", text)).timestamps.tolist() == [
        1112486027,
        86400,
    ]


@pytest.mark.parametrize(
    ("changes", "note"),
    [
        ({"timestamp": [1, None, 2, 3]}, "timestamp is null in 1 rows"),
        ({"timestamp": [1.0, float("nan"), 2, 3]}, "timestamp is null in 1 rows"),
        ({"date": [1, 2, 3, 4]}, "timestamp, date could be meant, name one"),
        ({"timestamp": ["a", "b", "c", "d"]}, "column timestamp: .* or dates, got 'a'"),
        ({"timestamp": ["2020-01-01", None, "x", "2020-01-02"]}, ".* or dates, got 'x'"),
        ({"timestamp": [1.0, float("inf"), 2, 3]}, ".* or dates, got an infinite one"),
        ({"timestamp": [True, False, True, True]}, ".* or dates, got Boolean"),
    ],
)
def test_uncertain_timestamps_are_left_unknown(changes, note):
    frame = FRAME.with_columns(**{name: pl.Series(v, strict=False) for name, v in changes.items()})
    data = read_interactions(frame)
    assert data.timestamps is None
    assert re.search(f"timestamps left unknown: .*{note}", str(data.report))
    if "dates" in note:
        with pytest.raises((TypeError, ValueError), match=r"column timestamp as timestamp: .*got"):
            read_interactions(frame, timestamp="timestamp")
    if "date" in changes:
        named = read_interactions(frame, timestamp="date")
        assert sorted(named.timestamps.tolist()) == [1, 2, 3, 4]


def test_min_rating_drops_and_counts():
    frame = FRAME.with_columns(rating=pl.Series([5.0, 3.5, None, float("nan")]))
    data = read_interactions(frame, min_rating=4)
    assert triples(data) == {(3, 7): (1.0, 30)}
    assert data.report.dropped == {"null or infinite rating": 2, "rating below 4": 1}
    assert triples(read_interactions(FRAME, min_rating=3.5)).keys() == {(3, 7), (1, 9), (3, 2)}
    for dtype in (pl.Int8, pl.Decimal(5, 1), pl.String, pl.Float32):
        kept = read_interactions(FRAME.cast({"rating": dtype}, strict=False), min_rating=5)
        assert triples(kept).keys() == {(3, 7)}


def test_null_ids_are_dropped_and_counted(tmp_path):
    frame = pl.DataFrame({"user": ["a", None, "", "b"], "item": [1.0, 2.0, 3.0, float("nan")]})
    data = read_interactions(frame)
    assert list(triples(data)) == [("a", 1)]
    assert data.report.dropped == {"null user or item id": 3}
    cut = write(tmp_path / "cut.csv", "user,item,rating\n1,2,3\n1\n")
    assert read_interactions(cut).report.dropped == {"null user or item id": 1}


REPEATED = pl.DataFrame(
    {
        "user": [1, 1, 2, 1, 2, 3],
        "item": [5, 6, 5, 5, 5, 5],
        "rating": [2.0, 1.5, 4.0, 0.5, -4.0, 1.0],
        "timestamp": [9, 8, 7, 3, 2, 1],
    }
)


def test_duplicates_are_merged_with_the_earliest_time():
    data = read_interactions(REPEATED)
    assert triples(data) == {(1, 5): (1, 3), (1, 6): (1, 8), (2, 5): (1, 2), (3, 5): (1, 1)}
    assert data.report.duplicates == 2
    summed = read_interactions(REPEATED, duplicates="sum")
    assert triples(summed) == {(1, 5): (2.5, 3), (1, 6): (1.5, 8), (3, 5): (1, 1)}
    assert summed.users.tolist() == [1, 3]
    assert summed.report.duplicates == 2
    assert summed.report.dropped == {"interactions whose ratings sum to 0": 1}
    counted = read_interactions(REPEATED.drop("rating"), duplicates="sum")
    assert triples(counted) == {(1, 5): (2, 3), (1, 6): (1, 8), (2, 5): (2, 2), (3, 5): (1, 1)}
    with pytest.raises(ValueError, match=r"2 rows repeat .* user 1 and item 5"):
        read_interactions(REPEATED, duplicates="error")
    assert read_interactions(FRAME, duplicates="error").n_interactions == 4
    with pytest.raises(ValueError, match=r"duplicates must be .* got 'keep'"):
        read_interactions(REPEATED, duplicates="keep")


def test_columns_by_name():
    frame = FRAME.rename({"user_id": "who", "item_id": "what", "timestamp": "when"})
    data = read_interactions(frame, user="who", item="what", timestamp="when")
    assert triples(data) == TRIPLES
    assert data.report.columns == {"user": "who", "item": "what", "timestamp": "when"}


@pytest.mark.parametrize(
    ("columns", "options", "message"),
    [
        (
            "user,thing",
            {},
            r"no column looks like the item; .* user, thing; name it, item='\.\.\.'",
        ),
        ("user,user_id,item", {}, "several columns could be the user; .* user, user_id, item"),
        ("user,item", {"min_rating": 4}, "min_rating needs a rating column: .* found: user, item"),
        ("user,item,score,stars", {"min_rating": 4}, "several columns could be the rating"),
        ("user,item", {"timestamp": "when"}, "no column 'when' for timestamp; .* user, item"),
        ("user,item", {"rating": "stars"}, "no column 'stars' for rating"),
        ("user,item", {"user": "item"}, "one column in two roles"),
    ],
)
def test_missing_and_ambiguous_columns(columns, options, message):
    names = columns.split(",")
    with pytest.raises(ValueError, match=message):
        read_interactions(pl.DataFrame({name: [1] for name in names}), **options)


@pytest.mark.parametrize(
    ("columns", "error", "message"),
    [
        ({"user": [1.5]}, TypeError, "column user as user: ids must be integers or text, got frac"),
        ({"user": [float("inf")]}, ValueError, "column user as user: "),
        ({"user": [True]}, TypeError, "column user as user: .* got Boolean"),
        ({"item": [date(2020, 1, 1)]}, TypeError, "column item as item: .* got Date"),
        ({"item": pl.Series([2**63], dtype=pl.UInt64)}, ValueError, "column item as item: "),
        ({"t": ["yesterday"]}, ValueError, "column t as timestamp: .* or dates, got 'yesterday'"),
        ({"t": [[1]]}, TypeError, "column t as timestamp: .* got List"),
        ({"rating": ["good"]}, ValueError, "column rating as rating: "),
        ({"rating": [[1]]}, TypeError, "column rating as rating: ratings must be numbers"),
    ],
)
def test_columns_of_the_wrong_type(columns, error, message):
    frame = pl.DataFrame({"user": [1], "item": [2], "rating": [3], "t": [4]} | columns)
    with pytest.raises(error, match=message):
        read_interactions(frame, min_rating=1, timestamp="t")


def test_columns_of_mixed_types():
    mixed = FRAME.to_pandas().assign(user_id=[3, "x", 3, 1])
    with pytest.raises(TypeError, match=r"column user_id as user: .* or text, got int and str"):
        read_interactions(mixed)
    mixed = FRAME.to_pandas().assign(timestamp=[3, "x", None, 1])
    assert "dates, got int and str" in str(read_interactions(mixed).report)


def test_later_rows_of_another_type(tmp_path):
    body = "".join(f"{n},{n % 7},3\n" for n in range(12_000))
    data = read_interactions(
        write(tmp_path / "a.csv", f"user,item,rating\n{body}5,99,4.5\n"), min_rating=4
    )
    assert triples(data).keys() == {(5, 99)}
    data = read_interactions(write(tmp_path / "b.csv", f"user,item,rating\n{body}x,99,4\n"))
    assert data.users[-1] == "x"
    assert data.users.dtype == object
    assert data.items.dtype == np.int64


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.csv", "user,isbn\n007,0195153448\n7,195153448\n"),
        ("a.csv", "007,0195153448\n7,195153448\n"),
        ("a.tsv", "user\tisbn\n007\t0195153448\n7\t195153448\n"),
        ("a.dat", "007::0195153448\n7::195153448\n"),
    ],
)
def test_leading_zeros_stay(tmp_path, name, text):
    data = read_interactions(write(tmp_path / name, text))
    assert data.users.tolist() == ["007", "7"]
    assert data.items.tolist() == ["0195153448", "195153448"]
    np.testing.assert_array_equal(data.matrix.toarray(), np.eye(2))
    assert data.report.duplicates == 0


@settings(deadline=None, max_examples=50)
@given(st.lists(st.text("0172+-. ex", min_size=1, max_size=4), min_size=1))
def test_ids_come_back_as_they_were(tmp_path_factory, ids):
    path = tmp_path_factory.mktemp("ids") / "a.csv"
    rows = [("5", 1), *((user, 1) for user in ids)]
    data = read_interactions(write(path, lines(",", "user,item", rows)))
    expected = {user.strip() for user in ids} - {""} | {"5"}
    assert set(map(str, data.users.tolist())) == expected


def test_spaces_around_names_and_ids(tmp_path):
    text = "user , item, rating, time\n1, 2 , 3.5, 100\n a b , 12, 4 , 200\n ,3,1,1\n"
    data = read_interactions(write(tmp_path / "a.csv", text), min_rating=3.5)
    assert triples(data) == {("1", 2): (1, 100), ("a b", 12): (1, 200)}
    assert data.report.columns["item"] == "item"
    assert data.report.dropped == {"null user or item id": 1}
    named = read_interactions(tmp_path / "a.csv", user="user", item="rating")
    assert named.items.tolist() == ["3.5", "4"]


def test_integers_that_floats_cannot_tell_apart():
    for dtype, exact in ((pl.Float64, 2**53), (pl.Float32, 2**24)):
        frame = pl.DataFrame({"user": [1, None, -(exact - 1)], "item": [1, 2, 3]})
        data = read_interactions(frame.cast({"user": dtype}))
        assert data.users.tolist() == [1 - exact, 1]
        for wrong in (exact + 1, -exact):
            frame = pl.DataFrame({"user": [wrong, None, 1], "item": [1, 2, 3]})
            with pytest.raises(
                ValueError, match=f"column user as user: ids must be .* Float.* from {exact:,} on"
            ):
                read_interactions(frame.cast({"user": dtype}).to_pandas())


def test_other_encodings_in_other_columns(tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes("user,item,title\n1,2,café\n".encode("latin-1"))
    assert list(triples(read_interactions(path))) == [(1, 2)]
    with pytest.raises(TypeError, match="column title as item: ids are not UTF-8"):
        read_interactions(path, item="title")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", b"", r"a\.csv is empty"),
        ("a.csv", b"\n\n", r"a\.csv is empty or starts with an empty line"),
        ("a.csv", b"user,item\n", r"no interactions left of 0 rows of .*a\.csv"),
        ("a.csv", b"user,item\n1,2\n1,2,3\n", r"a\.csv could not be read as text separated by ','"),
        ("a.csv", b"alice,milk\nbob,tea\n", "no column looks like the user; .* alice, milk"),
        ("a.dat", b"1::2::3\n1:2:3::4::5\n", r"a\.dat"),
        ("a.dat", b"1::2::3\n1::a:b:::5\n", r"a\.dat"),
        ("a.dat", b"1::2::3\n1:x:2::3\n", r"a\.dat: expected fields separated by '::'"),
        ("a.parquet", b"user,item\n1,2\n", r"a\.parquet could not be read as Parquet"),
        ("a.parquet", b"", r"a\.parquet could not be read as Parquet"),
        ("a.csv", "user,item\n".encode("utf-16"), r"a\.csv is not UTF-8 text but UTF-16: .* b'"),
        ("a.csv", b"\x89PNG\r\n\x1a\n\0\0", r"a\.csv is not UTF-8 text: .* b'\\x89PNG\\r\\n"),
        (
            "a.csv",
            gzip.compress(b"user,item\n1,2\n", mtime=0),
            r"not UTF-8 text: it starts with b'\\x1f",
        ),
        (
            "a.csv.gz",
            gzip.compress(b"u,i\n1,2\n" * 9, mtime=0)[:-9],
            r"a\.csv\.gz could not be .* end of",
        ),
        ("a.csv.gz", CORRUPT_GZIP, r"a\.csv\.gz could not be decompressed"),
        ("a.xlsx", b"PK", r"unknown extension '\.xlsx'; expected one of \.base, \.csv"),
    ],
)
def test_malformed_files(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_interactions(tmp_path / name)


def test_truncated_parquet(tmp_path):
    path = tmp_path / "a.parquet"
    FRAME.write_parquet(path)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(ValueError, match=r"a\.parquet could not be read as Parquet"):
        read_interactions(path)


def test_sources_that_are_not_there(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none\.csv does not exist"):
        read_interactions(tmp_path / "none.csv")
    with pytest.raises(FileNotFoundError, match="as a pattern it matches no file"):
        read_interactions(str(tmp_path / "*.parquet"))
    with pytest.raises(ValueError, match=r"is a folder; none of its files ends in .*\.csv"):
        read_interactions(tmp_path)
    for name in ("README.md", "b.csv.gz"):
        (tmp_path / name).touch()
    with pytest.raises(ValueError, match=r"is a folder; pass its files, .*/\*\.csv\.gz$"):
        read_interactions(tmp_path)
    for source in (3, [], {"user": [1]}, FRAME["user_id"], FRAME["user_id"].to_pandas()):
        with pytest.raises(TypeError, match="source must be a path, a glob"):
            read_interactions(source)


def test_parts_that_do_not_fit_together(tmp_path):
    one = write(tmp_path / "one.csv", "user,item,time\n1,2,3\n")
    two = write(tmp_path / "two.csv", "user,item\nx,2\n")
    three = write(tmp_path / "three.csv", "user,item\n5,2\n")
    four = tmp_path / "four.parquet"
    pl.DataFrame({"user": [1], "item": [2]}).write_parquet(four)
    with pytest.raises(
        ValueError, match=r"user ids differ in type: text in .*two.*integers in .*fo"
    ):
        read_interactions([two, four])
    assert triples(read_interactions([one, four])).keys() == {(1, 2)}
    # Of text files alone, all are judged together.
    assert triples(read_interactions([one, two])).keys() == {("1", 2), ("x", 2)}
    pl.DataFrame({"user": ["007"], "item": [2]}).write_parquet(four)
    assert triples(read_interactions([one, four])).keys() == {("1", 2), ("007", 2)}
    data = read_interactions([one, three])
    assert triples(data).keys() == {(1, 2), (5, 2)}
    assert data.timestamps is None
    assert "timestamp ignored: not every file has that column" in data.report.notes


@pytest.mark.parametrize("least", ["4", float("nan"), float("inf")])
def test_min_rating_is_a_number(least):
    with pytest.raises(ValueError, match=f"min_rating must be a finite number, got {least!r}"):
        read_interactions(FRAME, min_rating=least)


def test_nothing_left_says_why():
    with pytest.raises(ValueError, match=r"left of 4 rows of .*4 dropped: rating below 6"):
        read_interactions(FRAME, min_rating=6)


def test_report_is_readable_and_plain():
    report = read_interactions(REPEATED, min_rating=0).report
    assert str(report) == (
        "read 6 rows of polars DataFrame (user=user, item=item, rating=rating, "
        "timestamp=timestamp)\n"
        "dropped 1: rating below 0\n"
        "merged 1 duplicates\n"
        "3 users, 2 items, 4 interactions"
    )
    assert json.loads(json.dumps(report.to_dict()))["duplicates"] == 1
    filtered = read_interactions(REPEATED).filter(min_user=2).report
    assert filtered.dropped == {"filter(min_user=2, min_item=0)": 2}
    untouched = read_interactions(REPEATED).filter(min_user=1).report
    assert "dropped" not in str(untouched)
    assert (filtered.users, filtered.items, filtered.interactions) == (1, 2, 2)


@pytest.mark.data
def test_movielens_counts(real_data, tmp_path):
    ratings = pl.read_parquet(real_data / "ml-1m" / "ratings.parquet")
    data = read_interactions(real_data / "ml-1m" / "ratings.parquet", min_rating=4)
    core = data.filter(min_user=5)
    assert (core.n_users, core.n_items, core.n_interactions) == (6034, 3533, 575_272)
    assert data.timestamps is None
    ordered = read_interactions(
        real_data / "ml-1m" / "ratings.parquet", min_rating=4, timestamp="position"
    )
    assert ordered.timestamps is not None
    dat = tmp_path / "ratings.dat"
    columns = [pl.col(c).cast(pl.String) for c in ("user_id", "item_id", "rating")]
    ratings.select(pl.concat_str(columns, separator="::")).write_csv(dat, include_header=False)
    same = read_interactions(dat, min_rating=4)
    np.testing.assert_array_equal(same.matrix.indices, data.matrix.indices)
    np.testing.assert_array_equal(same.users, data.users)


@pytest.mark.data
@pytest.mark.parametrize(
    ("source", "counts"),
    [
        ("ml-100k/ml-100k.inter", (943, 1682, 100_000)),
        ("ml-latest-small/ratings.csv", (671, 9066, 100_004)),
        ("ml-100k-cfgan/*.txt", (943, 1653, 99_963)),
        ("ml-1m/ncf/train.parquet", (6040, 3704, 994_169)),
    ],
)
def test_other_counts(real_data, source, counts):
    data = read_interactions(real_data / source)
    assert (data.n_users, data.n_items, data.n_interactions) == counts
