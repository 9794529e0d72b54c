import numpy as np
import pandas as pd
import polars as pl
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from pyrec.data import Histories, Interactions, ReadReport, as_csr, datasets

SMALL = np.array([[1, 0, 2], [0, 0, 0], [0, 3, 0]], np.float32)


def small(**changes):
    parts = {
        "matrix": sp.csr_array(SMALL),
        "users": [10, 20, 30],
        "items": ["a", "b", "c"],
        "timestamps": [5, 3, 4],
    }
    return Interactions(**{**parts, **changes})


def assert_canonical(x):
    assert isinstance(x, sp.csr_array)
    assert (x.data.dtype, x.indices.dtype, x.indptr.dtype) == (np.float32, np.int32, np.int32)
    assert len(x.data) == len(x.indices) == x.indptr[-1]
    for row in range(x.shape[0]):
        assert np.all(np.diff(x.indices[x.indptr[row] : x.indptr[row + 1]]) > 0)
    assert np.all(x.data != 0)


# Rows 0 and columns 0 exist on purpose; small integers make sums exact and cancel to 0 often.
entries = st.tuples(st.integers(0, 6), st.integers(0, 6)).flatmap(
    lambda shape: st.tuples(
        st.just(shape),
        st.lists(
            st.tuples(
                st.integers(0, max(shape[0] - 1, 0)),
                st.integers(0, max(shape[1] - 1, 0)),
                st.integers(-2, 2),
            ),
            max_size=20 if 0 not in shape else 0,
        ),
    )
)


@settings(deadline=None)
@given(
    entries,
    st.sampled_from(["csr", "csc", "coo", "lil", "dok", "bsr", "dense", "fortran"]),
    st.sampled_from([np.float32, np.float64, np.int8, np.int64]),
    st.sampled_from([np.int32, np.int64]),
)
def test_as_csr_equals_the_dense_sum(drawn, form, dtype, index_dtype):
    shape, triples = drawn
    dense = np.zeros(shape, np.float32)
    for row, column, value in triples:
        dense[row, column] += value
    rows, columns, values = (np.array(triples, np.int64).reshape(-1, 3).T).copy()
    x = sp.coo_array((values.astype(dtype), (rows, columns)), shape=shape)
    if form == "csr":  # unsorted, with duplicates and zeros, which SciPy's own conversion removes
        order = np.argsort(rows, kind="stable")
        x = sp.csr_array(shape, dtype=dtype)
        x.data, x.indices = values[order].astype(dtype), columns[order].astype(index_dtype)
        x.indptr = np.searchsorted(rows[order], np.arange(shape[0] + 1)).astype(index_dtype)
    elif form in ("dense", "fortran"):
        as_form = {"dense": np.asarray, "fortran": np.asfortranarray}
        x = as_form[form](dense.astype(dtype))
    elif form not in ("coo", "csc") and 0 in shape:
        return
    else:
        x = x.asformat(form)
    before = x.copy()
    result = as_csr(x)
    assert_canonical(result)
    np.testing.assert_array_equal(result.toarray(), dense)
    if form == "csr":
        np.testing.assert_array_equal(x.indices, before.indices)
        np.testing.assert_array_equal(x.data, before.data)


def test_as_csr_returns_canonical_input_itself():
    x = as_csr(SMALL)
    assert as_csr(x) is x
    x.has_sorted_indices = False  # a wrong cache of SciPy's changes nothing
    assert as_csr(x) is x
    narrow = sp.csr_array(SMALL)
    assert np.shares_memory(as_csr(narrow).data, narrow.data)


def test_as_csr_sees_through_a_wrong_canonical_flag():
    x = sp.csr_array((np.ones(3, np.float32), np.array([2, 0, 0]), [0, 3]), shape=(1, 3))
    x.has_sorted_indices = x.has_canonical_format = True
    np.testing.assert_array_equal(as_csr(x).toarray(), [[2, 0, 1]])


def test_as_csr_sums_small_integers_and_bools_without_wrapping():
    for values, total in (([100, 100], 200), ([True, True], 2)):
        coo = sp.coo_array((np.array(values, np.int8 if total > 2 else bool), ([0, 0], [1, 1])))
        assert as_csr(coo).toarray()[0, 1] == total


def test_as_csr_takes_read_only_and_strided_arrays():
    x = sp.csr_array(SMALL[:, ::-1])
    x.data, x.indices = np.repeat(x.data, 2)[::2], np.repeat(x.indices, 2)[::2][::1]
    for array in (x.data, x.indices, x.indptr):
        array.flags.writeable = False
    assert_canonical(as_csr(x))
    np.testing.assert_array_equal(as_csr(x).toarray(), SMALL[:, ::-1])


def test_as_csr_takes_dense_torch_tensors():
    torch = pytest.importorskip("torch")
    for dtype in (torch.float32, torch.float64, torch.bfloat16, torch.int64, torch.bool):
        x = torch.tensor(SMALL).to(dtype)
        np.testing.assert_array_equal(as_csr(x).toarray(), x.float().numpy())
    with pytest.raises(TypeError, match=r"seen: torch tensors must be dense"):
        as_csr(torch.tensor(SMALL).to_sparse(), name="seen")


def test_as_csr_takes_histories_and_interactions():
    data = small()
    assert as_csr(data) is data.matrix
    histories = Histories.from_lists([[2, 0, 2], []], 3)
    np.testing.assert_array_equal(as_csr(histories).toarray(), [[1, 0, 1], [0, 0, 0]])


def corrupt(**arrays):
    x = sp.csr_array(SMALL)
    for name, array in arrays.items():
        setattr(x, name, array)
    return x


def corrupt_csc():
    x = sp.csc_array(SMALL)
    x.indices = x.indices + 3
    return x


def corrupt_coo():
    x = sp.coo_array(SMALL)
    x.row[0] = -1
    return x


@pytest.mark.parametrize(
    ("x", "error", "message"),
    [
        (np.ones(3), ValueError, r"x must have 2 dimensions .* got shape \(3,\)"),
        (np.ones((2, 4)), ValueError, "x has 4 columns, expected n_items = 3"),
        ([[1, 0, 0]], TypeError, "x must be Interactions.* got list$"),
        (pd.DataFrame(SMALL), TypeError, "got pandas DataFrame: use pyrec.read_interactions for"),
        (pl.DataFrame(SMALL), TypeError, "got polars DataFrame: use pyrec.read_interactions for"),
        (SMALL.astype(complex), TypeError, "x must hold real numbers, got dtype complex128"),
        (np.array([["a", "b", "c"]]), TypeError, "x must hold real numbers"),
        (SMALL * np.nan, ValueError, "x holds values that are NaN"),
        (sp.csr_array(SMALL) * np.inf, ValueError, "x holds values that are NaN, infinite"),
        (SMALL.astype(np.float64) * 1e39, ValueError, "beyond float32"),
        (corrupt(indices=np.array([0, 3, 1])), ValueError, r"must lie in 0\.\.2, got 0 to 3"),
        (corrupt(indices=np.array([0, -1, 1])), ValueError, r"got -1 to 1"),
        # 2^32 would become 0 in int32.
        (corrupt(indices=np.array([0, 2**32, 1])), ValueError, r"got 0 to 4294967296"),
        (corrupt(indptr=np.array([0, 4, 2, 3])), ValueError, "start at 0 and never fall"),
        (corrupt(indptr=np.array([1, 2, 2, 3])), ValueError, "start at 0 and never fall"),
        (corrupt(indptr=np.array([0, 2, 2, 9])), ValueError, "end at 9, beyond 3 entries"),
        (corrupt(indptr=np.array([0, 3])), ValueError, "expected 4 row offsets, got 2"),
        (corrupt(data=np.ones(2, np.float32)), ValueError, "end at 3, beyond 2 entries"),
        (corrupt_csc(), ValueError, "x: row numbers must lie in"),
        (corrupt_coo(), ValueError, "x: row numbers must lie in"),
    ],
)
def test_as_csr_names_what_is_wrong(x, error, message):
    with pytest.raises(error, match=message):
        as_csr(x, n_items=3)


def test_as_csr_ignores_entries_beyond_the_last_offset():
    x = corrupt(
        indices=np.array([0, 2, 1, 99], np.int32), data=np.array([1, 2, 3, np.nan], np.float32)
    )
    np.testing.assert_array_equal(as_csr(x).toarray(), SMALL)


def test_histories_slice_without_copying_items():
    histories = Histories.from_lists([[3, 1], [], [2, 2, 0]], 4)
    part = histories[1:3]
    assert (len(histories), len(part)) == (3, 2)
    assert part.offsets.tolist() == [0, 0, 3]
    assert part.items.tolist() == [2, 2, 0]
    assert np.shares_memory(part.items, histories.items)
    assert histories[2].tolist() == histories[-1].tolist() == [2, 2, 0]
    assert [h.tolist() for h in histories] == [[3, 1], [], [2, 2, 0]]
    assert len(histories[2:1]) == 0
    np.testing.assert_array_equal(part.to_csr().toarray(), [[0, 0, 0, 0], [1, 0, 1, 0]])
    assert_canonical(histories.to_csr())


@pytest.mark.parametrize(
    ("offsets", "items", "error", "message"),
    [
        ([0, 2, 1], [0, 1], ValueError, "offsets: row offsets must start at 0 and never fall"),
        ([0, 1], [0, 1], ValueError, "offsets end at 1, but there are 2 items"),
        ([0, 3], [0, 1], ValueError, "offsets: row offsets end at 3"),
        ([], [], ValueError, "offsets: expected 0 row offsets"),
        ([0, 2], [0, 4], ValueError, r"items must lie in 0\.\.3, got 0 to 4"),
        ([0, 1], [2**32], ValueError, "items must lie in"),
        ([0, 1], [0.5], TypeError, "items must hold integers, got dtype float64"),
        ([[0]], [], ValueError, "offsets must have 1 dimension"),
    ],
)
def test_histories_name_what_is_wrong(offsets, items, error, message):
    with pytest.raises(error, match=message):
        Histories(offsets, items, 4)


@pytest.mark.parametrize(
    ("lists", "message"),
    [
        ([[0], [1.5]], r"lists must hold item numbers, .* got 1\.5"),
        ([["3"]], "lists must hold item numbers, .* got '3'"),
        (["a"], "lists must hold item numbers, .* got 'a'"),
        ([[True, False]], "lists must hold item numbers, .* got True"),
        ([1, 2], "lists must hold a list of item numbers a user: .*'int'"),
    ],
)
def test_lists_of_something_else(lists, message):
    with pytest.raises(TypeError, match=message):
        Histories.from_lists(lists, 4)


def test_lists_of_any_whole_numbers():
    torch = pytest.importorskip("torch")
    rows = [[], np.array([2, 1], np.uint8), (3,), torch.tensor([0, 2])]
    assert Histories.from_lists(rows, 4).items.tolist() == [2, 1, 3, 0, 2]
    with pytest.raises(TypeError, match="integer"):
        Histories.from_lists([torch.tensor([0.5])], 4)


def test_interactions_keep_ids_and_times():
    data = small()
    assert (data.n_users, data.n_items, data.n_interactions) == (3, 3, 3)
    assert data.users.dtype == np.int64
    assert data.items.dtype == object
    assert data.timestamps.dtype == np.int64
    assert small(timestamps=[0.5, 1, 2]).timestamps.dtype == np.float64
    assert small(items=np.array(["a", "b", "c"])).items.tolist() == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"users": [1, 2]}, ValueError, r"users must have shape \(3,\), got \(2,\)"),
        ({"items": ["a", "b", "b"]}, ValueError, "items must not repeat an id"),
        ({"items": [0.5, 1, 2]}, TypeError, "items must hold integers or strings"),
        ({"items": ["a", None, "c"]}, TypeError, "items must hold integers or strings"),
        ({"users": np.array([1, 2, 2**63], np.uint64)}, ValueError, "users must fit in int64"),
        ({"timestamps": [1, 2]}, ValueError, r"timestamps must have shape \(3,\)"),
        ({"timestamps": [1, 2, np.nan]}, ValueError, "timestamps must not be NaN"),
        ({"timestamps": ["x", "y", "z"]}, TypeError, "timestamps must be numbers"),
        ({"matrix": SMALL}, ValueError, "with timestamps, matrix must be CSR"),
        ({"matrix": corrupt(indices=np.array([2, 0, 1]))}, ValueError, "with timestamps, matrix"),
    ],
)
def test_interactions_name_what_is_wrong(changes, error, message):
    with pytest.raises(error, match=message):
        small(**changes)


def test_sequences_follow_time_and_then_the_item_number():
    matrix = sp.csr_array(np.ones((2, 4)))
    data = Interactions(matrix, [1, 2], [1, 2, 3, 4], [3, 1, 2, 1, 7, 7, 7, 7])
    assert data.sequences().items.tolist() == [1, 3, 2, 0, 0, 1, 2, 3]
    assert Interactions(matrix, [1, 2], [1, 2, 3, 4]).sequences().items.tolist() == [0, 1, 2, 3] * 2


def test_align_renumbers_drops_and_carries_times():
    aligned, dropped = small().align(["c", "new", "a"])
    assert dropped == 1
    assert aligned.users.tolist() == [10, 20, 30]
    assert aligned.items.tolist() == ["c", "new", "a"]
    np.testing.assert_array_equal(aligned.matrix.toarray(), [[2, 0, 1], [0, 0, 0], [0, 0, 0]])
    assert aligned.timestamps.tolist() == [3, 5]
    assert_canonical(aligned.matrix)
    with pytest.raises(ValueError, match="strings in these interactions, integers in the model"):
        small().align([1, 2])
    with pytest.raises(ValueError, match="must not repeat"):
        small().align(["a", "a"])


def test_select_users_takes_rows_masks_and_slices():
    data = small()
    for rows in ([2, 0], slice(None, None, -2), np.array([2, 0], np.int32)):
        part = data.select_users(rows)
        assert part.users.tolist() == [30, 10]
        np.testing.assert_array_equal(part.matrix.toarray(), SMALL[[2, 0]])
        assert part.timestamps.tolist() == [4, 5, 3]
    assert data.select_users([True, False, False]).users.tolist() == [10]
    with pytest.raises(ValueError, match="rows do not fit 3 users"):
        data.select_users([3])
    with pytest.raises(ValueError, match="must not repeat"):
        data.select_users([1, 1])


def test_select_keeps_rows_and_columns():
    part = small().select([True, False, True])
    np.testing.assert_array_equal(part.matrix.toarray(), [[1, 0, 0], [0, 0, 0], [0, 3, 0]])
    assert part.timestamps.tolist() == [5, 4]
    with pytest.raises(ValueError, match=r"keep must be a bool array of shape \(3,\)"):
        small().select([0, 1, 2])


@settings(deadline=None)
@given(
    hnp.arrays(bool, hnp.array_shapes(min_dims=2, max_dims=2, max_side=9)),
    st.integers(0, 4),
    st.integers(0, 4),
)
def test_filter_reaches_the_fixed_point(dense, min_user, min_item):
    users, items = np.ones(dense.shape[0], bool), np.ones(dense.shape[1], bool)
    while True:  # the plain definition: drop one user or item at a time
        left = dense & users[:, None] & items
        bad_users = np.flatnonzero(users & (left.sum(1) < min_user))
        bad_items = np.flatnonzero(items & (left.sum(0) < min_item))
        if len(bad_users):
            users[bad_users[0]] = False
        elif len(bad_items):
            items[bad_items[0]] = False
        else:
            break
    n_users, n_items = dense.shape
    times = np.arange(dense.sum())
    data = Interactions(sp.csr_array(dense), np.arange(n_users), np.arange(n_items), times)
    if not left.any():
        with pytest.raises(ValueError, match=f"min_user={min_user}, min_item={min_item}"):
            data.filter(min_user, min_item)
        return
    core = data.filter(min_user, min_item)
    assert core.users.tolist() == np.flatnonzero(users).tolist()
    assert core.items.tolist() == np.flatnonzero(items).tolist()
    np.testing.assert_array_equal(core.matrix.toarray(), left[users][:, items])
    time_of = np.zeros(dense.shape, int)
    time_of[dense] = times
    np.testing.assert_array_equal(core.timestamps, time_of[left])


@pytest.mark.parametrize("least", [-5, 1.5, "4", float("nan")])
@pytest.mark.parametrize("name", ["min_user", "min_item"])
def test_filter_names_what_is_wrong(name, least):
    with pytest.raises(
        ValueError, match=f"{name} must be a whole number, at least 0, got {least!r}"
    ):
        small().filter(**{name: least})


def test_filter_adds_up_what_it_dropped():
    report = ReadReport(["f"], {"user": "u"}, 7, {}, 0, 4, 3, 7, [])
    dense = np.array([[1, 1, 0], [1, 1, 0], [1, 0, 0], [1, 0, 1]])
    data = Interactions(dense, [1, 2, 3, 4], [5, 6, 7], report=report)
    by_user, by_item = "filter(min_user=2, min_item=0)", "filter(min_user=0, min_item=2)"
    data = data.filter(min_user=2)
    assert data.report.dropped == {by_user: 1}
    assert data.filter(min_user=2).report.dropped == {by_user: 1}
    data = data.filter(min_item=2)
    assert data.report.dropped == {by_user: 1, by_item: 1}
    assert data.filter(min_user=2).report.dropped == {by_user: 2, by_item: 1}
    assert data.filter().report.dropped == {by_user: 1, by_item: 1}
    assert report.dropped == {}


string_types = ["<U5", object]
if hasattr(np.dtypes, "StringDType"):  # since NumPy 2
    string_types.append(np.dtypes.StringDType())


@pytest.mark.parametrize("dtype", string_types)
def test_strings_of_any_numpy_type_are_object_strings(tmp_path, dtype):
    data = small(users=np.array(["x", "yy", "é"], dtype), items=np.array(["a", "b", "c"], dtype))
    data.save(tmp_path)
    for part in (data, data.select_users([2, 0]), data.filter(1, 1), Interactions.load(tmp_path)):
        assert part.users.dtype == part.items.dtype == object
        assert {type(i) for i in [*part.users, *part.items]} == {str}
    aligned, dropped = data.align(np.array(["c", "zz"], dtype))
    assert (aligned.items.tolist(), dropped) == (["c", "zz"], 2)


@pytest.mark.parametrize("users", [[3, 1, 2], ["ü", "", "x\0y"]])
@pytest.mark.parametrize("timestamps", [None, [5, 3, 4], [0.5, 0.25, 1]])
def test_saving_and_loading_keep_everything(tmp_path, users, timestamps):
    report = ReadReport(["f"], {"user": "u"}, 5, {"null": 2}, 0, 3, 3, 3, ["a note"])
    data = small(users=users, timestamps=timestamps, report=report)
    data.save(tmp_path / "new" / "folder")
    loaded = Interactions.load(tmp_path / "new" / "folder")
    assert_canonical(loaded.matrix)
    np.testing.assert_array_equal(loaded.matrix.toarray(), SMALL)
    assert loaded.users.tolist() == users
    assert loaded.users.dtype == data.users.dtype
    assert loaded.items.tolist() == ["a", "b", "c"]
    assert loaded.report == report
    if timestamps is None:
        assert loaded.timestamps is None
    else:
        assert loaded.timestamps.tolist() == timestamps
        assert loaded.timestamps.dtype == data.timestamps.dtype


def test_loading_names_the_file_that_is_wrong(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"interactions\.safetensors"):
        Interactions.load(tmp_path)
    datasets.simulate(20, 20, 60).save(tmp_path)
    path = tmp_path / "interactions.safetensors"
    whole = path.read_bytes()
    path.write_bytes(whole[:-8])
    with pytest.raises(ValueError, match=r"interactions\.safetensors"):
        Interactions.load(tmp_path)
    place = whole.index(np.arange(1, 5, dtype=np.int64).tobytes())  # ids 1, 2, ... become 1, 1
    path.write_bytes(whole[: place + 8] + whole[place : place + 8] + whole[place + 16 :])
    with pytest.raises(ValueError, match=r"interactions\.safetensors is corrupt: \w+ must not"):
        Interactions.load(tmp_path)


def test_interactions_print_their_size():
    assert repr(small()) == "Interactions(3 users, 3 items, 3 interactions)"
    assert repr(Histories.from_lists([[1]], 2)) == "Histories(1 users, 1 of 2 items)"
