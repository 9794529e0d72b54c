"""What is wrong is said before anything is written."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scoring_cases import IDS, NUMBERS, many_users, trained, write

from pyrec.models import EASE, Popularity
from pyrec.scoring import fragments_of, score, score_fragment
from pyrec.scoring.scorer import Scorer


@pytest.fixture
def model():
    return trained(IDS)


def assert_untouched(tmp_path, *present):
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(present)


def test_ids_of_another_type(model, tmp_path):
    source = write(tmp_path / "u.parquet", [[1, 2]])
    with pytest.raises(ValueError, match=r"items must hold .* model's type, string, got int64"):
        score(model, source, tmp_path / "out", verbose=0)
    source = write(tmp_path / "u.parquet", [["1"]])
    with pytest.raises(ValueError, match="of the model's type, int64, got string"):
        score(trained(NUMBERS), source, tmp_path / "out", verbose=0)
    with pytest.raises(ValueError, match="deny must hold ids of the model's type, string"):
        score(model, source, tmp_path / "out", deny=[3], verbose=0)
    assert_untouched(tmp_path, "u.parquet")
    source = write(tmp_path / "u.parquet", [[1.5]])
    with pytest.raises(ValueError, match="of the model's type, int64: "):
        score(trained(NUMBERS), source, tmp_path / "out", verbose=0)


def test_input_that_is_not_there_or_not_parquet(model, tmp_path):
    out = tmp_path / "out"
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.parquet").write_text("user_id,items\n")
    with pytest.raises(FileNotFoundError, match="none does not exist"):
        score(model, tmp_path / "none", out, verbose=0)
    with pytest.raises(FileNotFoundError, match=r"holds no \*.parquet files"):
        score(model, tmp_path / "empty", out, verbose=0)
    with pytest.raises(ValueError, match=r"text\.parquet is not a readable Parquet file"):
        score(model, tmp_path / "text.parquet", out, verbose=0)
    with pytest.raises(FileNotFoundError, match=r"m\.safetensors does not exist"):
        score(tmp_path / "m.safetensors", tmp_path / "empty", out, verbose=0)
    assert_untouched(tmp_path, "empty", "text.parquet")


def test_output_that_cannot_be_written(model, tmp_path):
    source = write(tmp_path / "u.parquet", [["apple"]])
    with pytest.raises(FileExistsError, match=r"already holds u\.parquet"):
        score(model, source, tmp_path, verbose=0)
    with pytest.raises(NotADirectoryError, match="must be a folder"):
        score(model, source, source, verbose=0)
    with pytest.raises(FileNotFoundError, match="no does not exist"):
        score(model, source, tmp_path / "no" / "out", verbose=0)
    assert_untouched(tmp_path, "u.parquet")


def test_options(model, tmp_path):
    source = write(tmp_path / "u.parquet", [["apple"]])
    for options, message in [
        ({"k": 0}, "k must be a whole number of at least 1, got 0"),
        ({"layout": "wide"}, "layout must be one of list, long, got 'wide'"),
        ({"engine": "spark"}, "engine must be one of local, ray, got 'spark'"),
        ({"address": "auto"}, "address and workers go with engine='ray'"),
        ({"workers": 2}, "address and workers go with engine='ray'"),
        ({"workers": 0, "engine": "ray"}, "workers must be a whole number of at least 1, got 0"),
        ({"memory": "much"}, "memory must be a number of bytes or a text like '2GiB'"),
    ]:
        with pytest.raises(ValueError, match=message):
            score(model, source, tmp_path / "out", verbose=0, **options)
    with pytest.raises(ValueError, match="EASE cannot recommend before it is trained"):
        score(EASE(), source, tmp_path / "out", verbose=0)
    with pytest.raises(TypeError, match="model must be a trained model, or its file, got int"):
        score(5, source, tmp_path / "out", verbose=0)
    for name in ("allow", "deny"):
        with pytest.raises(ValueError, match=f"{name} holds 2 ids, none of which the model knows"):
            score(model, source, tmp_path / "out", verbose=0, **{name: ["plum", "rye"]})
    assert_untouched(tmp_path, "u.parquet")


def test_columns_by_name(model, tmp_path):
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


def test_no_user_column(model, tmp_path):
    pq.write_table(pa.table({"who": ["x"], "seen": [["apple"]]}), tmp_path / "u.parquet")
    with pytest.raises(ValueError, match="no columns look like the user id; name it with user"):
        score(model, tmp_path / "u.parquet", tmp_path / "out", verbose=0)


def test_a_model_without_a_state(tmp_path):
    class Own(Popularity):
        def state(self):
            raise NotImplementedError("Own does not implement state")

    source = write(tmp_path / "u.parquet", [["apple"]])
    with pytest.raises(NotImplementedError, match="Own does not implement state"):
        score(trained(IDS, Own()), source, tmp_path / "out", verbose=0)
    assert_untouched(tmp_path, "u.parquet")


def test_one_fragment_to_one_file(tmp_path):
    model = many_users(tmp_path / "in")
    fragments = fragments_of(tmp_path / "in")
    done = []
    report = score_fragment(Scorer(model, 4), fragments[1], tmp_path / "x.parquet", done.append)
    assert report.users == sum(done) == 9_000
    score(model, tmp_path / "in", tmp_path / "out", k=4, verbose=0)
    table = pq.read_table(tmp_path / "x.parquet")
    assert table.equals(pq.read_table(tmp_path / "out" / "part-00001.parquet"))

    def failing(x, k, **options):
        raise FloatingPointError("no scores")

    model.recommend = failing
    with pytest.raises(FloatingPointError, match="no scores"):
        score_fragment(Scorer(model, 4), fragments[0], tmp_path / "y.parquet")
    assert_untouched(tmp_path, "in", "out", "x.parquet")
    assert np.array_equal(table["user_id"].to_numpy()[[0, -1]], [10**6, 10**6 + 8_999])
