import functools
import hashlib
import http.server
import io
import logging
import threading
import zipfile

import numpy as np
import pytest
import reference

from pyrec.data import datasets, strong_generalization

RATINGS = "1::10::5::100\n1::20::3::200\n2::10::4::300\n"


def zipped(**files):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, text in files.items():
            archive.writestr(name.replace("__", "/"), text)
    return buffer.getvalue()


ARCHIVE = zipped(
    **{
        "ml-1m/ratings.dat": RATINGS,
        "ml-1m/movies.dat": "10::A::Drama\n",
        "ml-1m/README": "terms",
        "../../../escaped.txt": "no",
    }
)


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


class Cut(Quiet):
    """Promises the whole archive and closes the connection halfway."""

    def do_GET(self):
        if self.path.endswith(".md5"):
            return super().do_GET()
        self.send_response(200)
        self.send_header("Content-Length", str(len(ARCHIVE)))
        self.end_headers()
        self.wfile.write(ARCHIVE[: len(ARCHIVE) // 2])
        return None


@pytest.fixture
def home(tmp_path, monkeypatch):
    """An empty cache, no PYREC_DATA, no proxy."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("PYREC_DATA", raising=False)
    monkeypatch.setenv("no_proxy", "*")
    return tmp_path


@pytest.fixture
def serve(home):
    """serve(handler): the address of a server of the folder ``home / "www"``."""
    (home / "www").mkdir()
    servers = []

    def start(handler=Quiet):
        handler = functools.partial(handler, directory=home / "www")
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def publish(home, archive=ARCHIVE, checksum="MD5 (ml-1m.zip) = {}\n"):
    (home / "www" / "ml-1m.zip").write_bytes(archive)
    digest = hashlib.md5(ARCHIVE).hexdigest()
    (home / "www" / "ml-1m.zip.md5").write_text(checksum.format(digest))


def left_in_cache(home):
    return sorted(str(p.relative_to(home / "cache")) for p in (home / "cache").rglob("*.*"))


@pytest.mark.parametrize("checksum", ["MD5 (ml-1m.zip) = {}\n", "{}  ml-1m.zip\n"])
def test_download_is_checked_kept_and_used_again(home, serve, caplog, checksum):
    publish(home, checksum=checksum)
    with caplog.at_level(logging.WARNING, "pyrec"):
        data = datasets.load("ml-1m", min_rating=4, url=serve())
    assert (data.n_users, data.n_items, data.n_interactions) == (2, 1, 2)
    assert [record.message for record in caplog.records if "research" in record.message]
    assert left_in_cache(home) == ["pyrec/ml-1m/movies.dat", "pyrec/ml-1m/ratings.dat"]
    assert not list(home.rglob("escaped.txt"))
    caplog.clear()
    again = datasets.load("ml-1m", url="http://127.0.0.1:9", duplicates="error")
    assert again.n_interactions == 3
    assert not caplog.records


def test_damaged_download_leaves_nothing(home, serve):
    publish(home, archive=ARCHIVE[:-1] + b"x")
    with pytest.raises(OSError, match=r"damaged or incomplete .* its MD5 is .* Nothing was kept"):
        datasets.load("ml-1m", url=serve())
    assert left_in_cache(home) == []


def test_truncated_download_leaves_nothing(home, serve):
    publish(home)
    with pytest.raises(OSError, match=r"damaged or incomplete|cannot be fetched"):
        datasets.load("ml-1m", url=serve(Cut))
    assert left_in_cache(home) == []


def test_archive_without_ratings_leaves_nothing(home, serve):
    other = zipped(README="nothing here")
    publish(home, archive=other, checksum=hashlib.md5(other).hexdigest())
    with pytest.raises(OSError, match=r"ml-1m\.zip holds none of ratings\.parquet"):
        datasets.load("ml-1m", url=serve())
    assert left_in_cache(home) == []


def test_checksum_file_without_a_checksum(home, serve):
    publish(home, checksum="<html>not found</html>")
    with pytest.raises(OSError, match="holds no MD5"):
        datasets.load("ml-1m", url=serve())


def test_without_network_the_error_says_what_to_put_where(home, serve, monkeypatch):
    with pytest.raises(FileNotFoundError, match="404") as missing:
        datasets.load("ml-1m", url=serve())
    monkeypatch.setenv("PYREC_DATA", str(home / "mine"))
    with pytest.raises(FileNotFoundError, match="refused") as refused:
        datasets.load("ml-20m", url="http://127.0.0.1:9")
    for error, folders in (
        (missing, [home / "cache/pyrec/ml-1m"]),
        (refused, [home / "mine/ml-20m", home / "cache/pyrec/ml-20m"]),
    ):
        assert "ratings.csv" in str(error.value)
        for folder in folders:
            assert str(folder) in str(error.value)
    assert left_in_cache(home) == []


@pytest.mark.parametrize(
    ("name", "file", "text"),
    [
        ("ml-1m", "ratings.dat", RATINGS),
        ("ml-100k", "u.data", RATINGS.replace("::", "\t")),
        (
            "ml-20m",
            "ratings.csv",
            "userId,movieId,rating\n1,2,3\n",
        ),
        ("ml-100k", "ml-100k.inter", "user_id:token\titem_id:token\n1\t2\n"),
    ],
)
def test_local_files_come_first(home, monkeypatch, name, file, text):
    monkeypatch.setenv("PYREC_DATA", str(home / "mine"))
    (home / "mine" / name).mkdir(parents=True)
    (home / "mine" / name / file).write_text(text)
    data = datasets.load(name, url="http://127.0.0.1:9")
    assert data.report.sources == [str(home / "mine" / name / file)]


def test_unknown_names_are_listed():
    with pytest.raises(ValueError, match=r"name must be one of ml-100k, .* got 'netflix'"):
        datasets.load("netflix")


@pytest.mark.data
def test_real_data_by_name(real_data):
    assert datasets.load("ml-100k", min_rating=4).n_interactions == 55_375
    assert datasets.load("ml-1m").n_interactions == 1_000_209
    assert datasets.load("ml-latest-small", timestamp="timestamp").n_users == 671


@pytest.mark.parametrize(
    ("users", "items", "interactions"),
    [(2000, 1000, 100_000), (1, 4, 1), (50, 400, 5000), (400, 8, 800), (30, 5000, 900)],
)
def test_simulation_has_the_size_asked_for(users, items, interactions):
    data = datasets.simulate(users, items, interactions, seed=1)
    assert data.matrix.shape == (users, items)
    assert data.n_interactions == interactions
    assert data.users.tolist() == list(range(1, users + 1))
    assert np.diff(data.matrix.indptr).min() >= 1
    assert len(data.timestamps) == interactions
    rows = np.repeat(np.arange(users), np.diff(data.matrix.indptr))
    assert len(np.unique(rows * 2**32 + data.timestamps)) == interactions


@pytest.mark.parametrize("sizes", [(0, 10, 0), (10, 1, 10), (10, 10, 26), (10, 10, 9)])
def test_impossible_sizes(sizes):
    with pytest.raises(ValueError, match="must"):
        datasets.simulate(*sizes)


def test_the_seed_decides_whatever_the_block(monkeypatch):
    one, again, other = (datasets.simulate(300, 100, 5000, seed=s) for s in (1, 1, 2))
    np.testing.assert_array_equal(one.matrix.indices, again.matrix.indices)
    np.testing.assert_array_equal(one.timestamps, again.timestamps)
    assert not np.array_equal(one.matrix.indices, other.matrix.indices)
    # many blocks: the sizes stay right at their borders
    monkeypatch.setattr("pyrec.data.simulation._BLOCK_CELLS", 700)
    assert datasets.simulate(300, 100, 5000).n_interactions == 5000


def test_simulation_is_as_skewed_as_real_data():
    data = datasets.simulate(3000, 1500, 150_000)
    counts = np.bincount(data.matrix.indices, minlength=1500)
    lengths = np.diff(data.matrix.indptr)
    in_order = np.sort(counts)[::-1]
    assert 0.3 < in_order[:150].sum() / counts.sum() < 0.6  # MovieLens-1M: 0.52
    assert 0.2 < in_order[0] / 3000 < 0.7  # MovieLens-1M: 0.47
    assert lengths.max() > 8 * np.median(lengths)
    assert abs(np.corrcoef(counts, np.arange(1500))[0, 1]) < 0.1


def test_simulated_order_means_something():
    data = datasets.simulate(2000, 1000, 100_000)
    histories = data.sequences()
    follows = np.delete(
        histories.items[:-1].astype(np.int64) * 1000 + histories.items[1:],
        histories.offsets[1:-1] - 1,
    )
    counts = np.bincount(follows, minlength=1_000_000).reshape(1000, 1000)
    # The commonest successor is far commoner than the commonest predecessor is as a successor.
    best = counts.argmax(1)
    assert counts.max(1).sum() / counts.sum() > 0.1
    assert counts[best, np.arange(1000)].sum() < 0.3 * counts[np.arange(1000), best].sum()
    # Trends: what is popular in the first year is not what is popular in the last.
    year = np.quantile(data.timestamps, [0.2, 0.8])
    early = np.bincount(data.matrix.indices[data.timestamps < year[0]], minlength=1000)
    late = np.bincount(data.matrix.indices[data.timestamps > year[1]], minlength=1000)
    assert np.corrcoef(early, late)[0, 1] < 0.9


@pytest.mark.parametrize("seed", [0, 1])
def test_item_weights_beat_popularity_on_simulated_data(seed):
    split = strong_generalization(datasets.simulate(seed=seed))
    x, tr, te = (part.matrix.toarray() > 0 for part in (split.train, split.test_tr, split.test_te))

    def ndcg(scores):
        lists, _ = reference.topk(scores, 100, seen=tr)
        wanted = [set(np.flatnonzero(row)) for row in te]
        values = [reference.ranking(*pair, "ndcg", 100) for pair in zip(lists, wanted, strict=True)]
        return np.mean(values)

    popularity = ndcg(np.tile(x.sum(0), (len(tr), 1)))
    assert 0.15 < popularity < 0.35
    assert ndcg(tr @ reference.ease(x, 100)) > 1.5 * popularity


@pytest.mark.parametrize("function", [datasets.simulate, datasets.simulated_genres])
@pytest.mark.parametrize("seed", [-1, 0.5, None])
def test_impossible_seeds(function, seed):
    with pytest.raises(ValueError, match=f"seed must be a whole number, at least 0, got {seed}"):
        function(seed=seed)


def test_genres_are_those_of_the_simulation():
    genres, names = datasets.simulated_genres(1000, seed=0)
    again, _ = datasets.simulated_genres(1000, seed=0)
    assert genres.shape == (1000, len(names)) == (1000, 18)
    assert len(set(names)) == 18
    np.testing.assert_array_equal(genres.toarray(), again.toarray())
    per_item = genres.sum(1)
    assert per_item.min() == 1
    assert per_item.max() <= 3
    # A user's items share genres far more than two items of different users do.
    data = datasets.simulate(2000, 1000, 100_000, seed=0)
    tastes = data.matrix @ genres
    tastes = tastes.toarray() / tastes.sum(1)[:, None]
    assert tastes.max(1).mean() > 1.5 * tastes.mean(0).max()
