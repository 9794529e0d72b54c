"""Models that lay their weights out to recommend to many users."""

import errno

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pyrec.kernels import PackedWeights
from pyrec.models import EASE, ADMM_Slim, Popularity
from pyrec.models.storage import load_model
from pyrec.scoring import score


@pytest.fixture
def x(draw):
    return draw(400, 150, 0.08)


def trained(x, **parameters):
    model = EASE(**parameters)
    model.train(x)
    return model


def assert_same(found, expected):
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_array_equal(a, b)


def test_recommends_the_same_to_the_bit(x):
    model = trained(x)
    expected = model.recommend(x, 20)
    model.pack()
    assert_same(model.recommend(x, 20), expected)
    few = {"allow": np.arange(0, 150, 7), "deny": np.array([14, 3])}
    assert_same(model.recommend(x, 20, **few), trained(x).recommend(x, 20, **few))


def test_bf16_rounds_and_no_more(x):
    model = trained(x)
    expected = model.recommend(x, 10)
    model.pack("bf16")
    found = model.recommend(x, 10)
    np.testing.assert_allclose(found.scores, expected.scores, rtol=0.02, atol=0.02)
    assert (found.items == expected.items).mean() > 0.8
    assert (found.scores != expected.scores).any()


def test_other_weights_are_not_mistaken_for_the_packed_ones(x):
    model = trained(x, lam=5.0)
    model.pack()
    model.lam = 5000.0
    model.train(x)
    assert_same(model.recommend(x, 20), trained(x, lam=5000.0).recommend(x, 20))


def test_a_mapped_model_keeps_its_weights(x, tmp_path):
    model = trained(x)
    model.save_model(tmp_path / "ease.safetensors")
    mapped = load_model(tmp_path / "ease.safetensors", memory_map=True)
    mapped.pack(release=True)
    assert_same(mapped.recommend(x, 20), model.recommend(x, 20))
    np.testing.assert_array_equal(mapped.weights, model.weights)


def test_processes_share_a_file(x, tmp_path):
    model, other, file = trained(x), trained(x), tmp_path / "packed"
    model.pack(file=file)
    assert file.stat().st_size == PackedWeights.nbytes(150)
    made = file.stat().st_mtime_ns
    other.pack(file=file)
    assert file.stat().st_mtime_ns == made
    assert_same(other.recommend(x, 20), trained(x).recommend(x, 20))
    file.write_bytes(b"something else")
    with pytest.raises(ValueError, match="does not hold packed weights of 150 items"):
        trained(x).pack(file=file)


def test_what_is_sparse_or_has_no_weights_stays(x):
    slim, popular = ADMM_Slim(1.0, 10.0), Popularity()
    slim.train(x, verbose=0)
    popular.train(x)
    for model in (slim, popular):
        expected = model.recommend(x, 20)
        model.pack()
        assert_same(model.recommend(x, 20), expected)
        with pytest.raises(ValueError, match="recommendations must be fp32, got 'bf16'"):
            model.pack("bf16")


def write_users(x, path):
    lists = [row.indices.tolist() for row in x]
    pq.write_table(pa.table({"user_id": np.arange(len(lists)), "items": lists}), path)


def read(folder):
    return pq.read_table(folder).to_pydict()


def test_a_run_leaves_the_model_as_it_was(x, tmp_path):
    model = trained(x)
    write_users(x, tmp_path / "users.parquet")
    users, expected = tmp_path / "users.parquet", model.recommend(x, 20)
    score(model, users, tmp_path / "before", k=20, verbose=0)
    score(model, users, tmp_path / "bf16", k=20, precision="bf16", verbose=0)
    assert_same(model.recommend(x, 20), expected)
    model.pack("bf16")
    score(model, users, tmp_path / "after", k=20, verbose=0)
    assert read(tmp_path / "after") == read(tmp_path / "before") != read(tmp_path / "bf16")
    with pytest.raises(FileExistsError, match="precision is 'bf16' there, 'fp32' here"):
        score(model, users, tmp_path / "bf16", k=20, verbose=0)


def test_without_memory_for_packed_weights_plain_ones_serve(x, tmp_path, monkeypatch):
    write_users(x, tmp_path / "users.parquet")
    users, model = tmp_path / "users.parquet", trained(x)
    score(model, users, tmp_path / "plain", k=20, verbose=0)
    monkeypatch.setattr("pyrec.scoring.scorer._PACK_FROM", 1)

    def refuse(n_bytes, need):
        raise MemoryError(need)

    monkeypatch.setattr("pyrec.models.linear.require_memory", refuse)
    score(model, users, tmp_path / "refused", k=20, verbose=0)
    assert read(tmp_path / "refused") == read(tmp_path / "plain")
    with pytest.raises(MemoryError, match="the model needs its packed weights"):
        score(model, users, tmp_path / "bf16", k=20, precision="bf16", verbose=0)


def test_a_disk_without_room_for_packed_weights(x, tmp_path, monkeypatch):
    def full(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.posix_fallocate", full)
    with pytest.raises(OSError, match=r"No space left on device: .*packed"):
        trained(x).pack(file=tmp_path / "packed")
    assert [path.name for path in tmp_path.iterdir()] == ["packed.lock"]


def test_unknown_precision(x, tmp_path):
    with pytest.raises(ValueError, match="precision must be one of fp32, bf16, got 'fp8'"):
        trained(x).pack("fp8")
    with pytest.raises(ValueError, match="precision must be one of"):
        score(trained(x), tmp_path / "users.parquet", tmp_path / "out", precision="fp8")
    assert not (tmp_path / "out").exists()
