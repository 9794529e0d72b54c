"""Users and recommendations in an object store, or a stand-in for one."""

from __future__ import annotations

import os
import secrets

import pyarrow.parquet as pq
import pytest
from pyarrow import fs
from scoring_cases import content, many_users

from pyrec.scoring import find_users, places, score
from pyrec.scoring.places import Place

# A bucket to test with, for example s3://key:secret@bucket?scheme=http&endpoint_override=host:9000
S3 = os.environ.get("PYREC_S3")


@pytest.fixture(params=["stand-in", "s3"] if S3 else ["stand-in"])
def store(request, tmp_path, monkeypatch):
    """store(path): a URI; and the file system and folder that it begins with."""
    if request.param == "s3":
        bucket, _, query = S3.partition("?")
        root = f"{bucket}/{secrets.token_hex(4)}"
        filesystem, folder = fs.FileSystem.from_uri(f"{root}?{query}")
        return lambda path: f"{root}/{path}?{query}", filesystem, folder
    (tmp_path / "store").mkdir()
    filesystem = fs.SubTreeFileSystem(str(tmp_path / "store"), fs.LocalFileSystem())

    def opened(root):
        assert root.startswith("store://key:secret@bucket")
        return filesystem, root.partition("@")[2].partition("?")[0]

    monkeypatch.setattr(places, "_filesystem", opened)
    return lambda path: f"store://key:secret@bucket/{path}?x=1", filesystem, "bucket"


@pytest.fixture
def run(store, tmp_path):
    """A model, its users in the store, and what a run on local folders leaves."""
    uri, filesystem, folder = store
    model = many_users(tmp_path / "in")
    filesystem.create_dir(f"{folder}/users", recursive=True)
    for path in (tmp_path / "in").iterdir():
        with filesystem.open_output_stream(f"{folder}/users/{path.name}") as stream:
            stream.write(path.read_bytes())
    score(model, tmp_path / "in", tmp_path / "whole", k=5, verbose=0)
    return model, uri, content(tmp_path / "whole")


def stored(store):
    _, filesystem, folder = store
    files = filesystem.get_file_info(fs.FileSelector(f"{folder}/out"))
    found = {}
    for info in files:
        if info.is_file and info.size:
            with filesystem.open_input_file(info.path) as file:
                found[info.base_name] = file.read()
    return found


class TestStore:
    def test_the_same_files_as_in_a_folder(self, run, store):
        model, uri, whole = run
        assert find_users(uri("users")) == uri("users")
        report = score(model, uri("users"), uri("out"), k=5, shard="2/2", verbose=0)
        assert report.files[0].endswith("/out/part-00001.parquet")
        assert not {"key", "secret", "?"} & set(report.files[0].replace("/", ":").split(":"))
        assert "secret" not in report.files[0]
        assert len(report.missing) == 2
        for users in ("users", "users/users-*.parquet"):
            report = score(model, uri(users), uri("out"), k=5, verbose=0)
            assert report.missing == ()
        assert (report.written, report.skipped) == (0, 3)
        assert stored(store) == whole

    def test_uploads_that_broke_off(self, run, store, monkeypatch):
        model, uri, whole = run
        _, filesystem, folder = store
        plain, calls = model.recommend, []

        def failing(*arguments, **options):
            calls.append(1)
            if len(calls) == 4:  # in the second file
                raise FloatingPointError("no scores")
            return plain(*arguments, **options)

        monkeypatch.setattr(model, "recommend", failing)
        with pytest.raises(FloatingPointError):
            score(model, uri("users"), uri("out"), k=5, verbose=0)
        assert sorted(stored(store)) == ["_manifest.json", "part-00000.parquet"]
        # Where an upload shows before it has ended.
        with filesystem.open_output_stream(f"{folder}/out/part-00001.parquet") as stream:
            stream.write(whole["part-00001.parquet"][:1000])
        report = score(model, uri("users"), uri("out"), k=5, verbose=0)
        assert (report.written, report.skipped) == (2, 1)
        assert stored(store) == whole

    def test_errors(self, run, store):
        model, uri, _ = run
        with pytest.raises(FileNotFoundError, match=r"://bucket.*/none does not exist"):
            score(model, uri("none"), uri("out"), verbose=0)
        with pytest.raises(FileExistsError, match=r"users already holds users-0\.parquet"):
            score(model, uri("users"), uri("users"), verbose=0)
        score(model, uri("users"), uri("out"), k=5, verbose=0)
        with pytest.raises(FileExistsError, match="/out holds another run: k is 5 there, 6 here"):
            score(model, uri("users"), uri("out"), k=6, verbose=0)
        _, filesystem, folder = store
        table = pq.read_table(f"{folder}/users/users-1.parquet", filesystem=filesystem)
        pq.write_table(table.select(["user_id"]), f"{folder}/plain.parquet", filesystem=filesystem)
        with pytest.raises(ValueError, match="has no column of lists: one row a user is needed"):
            find_users(uri("plain.parquet"))


def test_uris_of_local_files(tmp_path):
    model = many_users(tmp_path / "in a b")
    source, out = (f"file://{tmp_path}/{name}" for name in ("in%20a%20b", "out"))
    report = score(model, source, out, k=5, verbose=0)
    assert report.files[0] == f"{tmp_path}/out/part-00000.parquet"
    score(model, tmp_path / "in a b", tmp_path / "whole", k=5, verbose=0)
    assert content(tmp_path / "out") == content(tmp_path / "whole")


@pytest.mark.parametrize(
    ("text", "shown", "name"),
    [
        ("a/b", "a/b", "b"),
        ("s3://k:s@bucket/dir/?scheme=http", "s3://bucket/dir", "dir"),
        ("gs://bucket/x.parquet", "gs://bucket/x.parquet", "x.parquet"),
        ("file:///a/b", "/a/b", "b"),
    ],
)
def test_how_a_place_is_called(text, shown, name):
    place = Place.of(text)
    assert str(place) == shown
    assert place.base_name == name
    assert str(place / "f") == f"{shown}/f"
    assert place.absolute().is_local == (shown[1:3] in ("/b", "a/"))


def test_a_scheme_that_nobody_knows(tmp_path):
    model = many_users(tmp_path / "in")
    with pytest.raises(ValueError, match="Unrecognized filesystem type"):
        score(model, "nothing://bucket/users", tmp_path / "out", verbose=0)
