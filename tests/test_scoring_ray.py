"""Ray: the same files as on one machine, whatever happens to its actors."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time

import psutil
import pytest
from scoring_cases import content, many_users, trained

from pyrec.models import EASE
from pyrec.scoring import ray_engine, score

ray = pytest.importorskip("ray", reason="Ray is not installed (pip install 'pyrec[ray]')")

ROWS = (25_000,) * 5


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """Ray's workers look for modules in the driver's folder first: in the sources none is compiled."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module", autouse=True)
def one_start():
    """Ray takes seconds to start: the first test starts it by `score`, the others go on with it."""
    shutdown = ray.shutdown
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ray, "shutdown", lambda: None)
        yield
    shutdown()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A model's file, users, and the folder that a run in this process left."""
    folder = tmp_path_factory.mktemp("ray")
    model = many_users(folder / "in", ROWS)
    model.save_model(folder / "m.safetensors")
    score(model, folder / "in", folder / "whole", k=40, verbose=0)
    return folder


def over_ray(folder, model, out, **options):
    return score(model, folder / "in", out, k=40, engine="ray", verbose=0, **options)


def kill_actors(only=None):
    """Kill the processes of actors, or some of them; return how many were there."""
    killed = 0
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            if "ray::_Worker" in " ".join(process.cmdline()) and killed != only:
                process.kill()
                killed += 1
    return killed


@contextlib.contextmanager
def while_parts_are_made(out, kill):
    """Call `kill` again and again while there are temporary files, until it returns True."""
    stop = []

    def watch():
        while not stop:
            if list(out.glob(".part-*.tmp")) and kill():
                stop.append("killed")
            time.sleep(0.01)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield stop
    finally:
        stop.append("end")
        thread.join()


def test_the_same_files_though_an_actor_is_killed(folder, tmp_path):
    model = EASE()
    model.load_model(folder / "m.safetensors")
    with while_parts_are_made(tmp_path / "out", lambda: kill_actors(only=1)) as stop:
        report = over_ray(folder, model, tmp_path / "out", workers=2)
    assert stop[0] == "killed"
    assert content(tmp_path / "out") == content(folder / "whole")
    assert (report.written, report.users, report.missing) == (5, sum(ROWS), ())
    assert report.peak_memory > 1 << 26


def test_what_is_finished_and_names_of_the_current_folder(folder, tmp_path, monkeypatch):
    file = folder / "m.safetensors"
    score(file, folder / "in", tmp_path / "out", k=40, shard="1/2", verbose=0)
    monkeypatch.chdir(folder)  # not that of the actors
    out = os.path.relpath(tmp_path / "out")
    report = score("m.safetensors", "in", out, k=40, engine="ray", verbose=0)
    assert (report.written, report.skipped) == (2, 3)
    assert content(tmp_path / "out") == content(folder / "whole")
    assert over_ray(folder, file, tmp_path / "out").written == 0


def test_errors_of_the_actors(folder, tmp_path, monkeypatch):
    path = folder / "in" / "users-4.parquet"
    whole = path.read_bytes()
    path.write_bytes(b"PAR1" + b"\xff" * 200 + whole[204:])
    with pytest.raises(ValueError, match=r"users-4\.parquet cannot be read"):
        over_ray(folder, folder / "m.safetensors", tmp_path / "out")
    path.write_bytes(whole)
    file = tmp_path / "m.safetensors"
    file.write_bytes((folder / "m.safetensors").read_bytes())
    digest = ray_engine.model_digest

    def replacing(model, **options):
        trained(None).save_model(file)
        return digest(model, **options)

    monkeypatch.setattr("pyrec.scoring.run.model_digest", replacing)
    with pytest.raises(ValueError, match=r"m\.safetensors is not the model that the run began"):
        over_ray(folder, file, tmp_path / "out")


def test_a_part_that_kills_every_actor(folder, tmp_path):
    with (
        while_parts_are_made(tmp_path / "out", lambda: kill_actors() and False),
        pytest.raises(ChildProcessError, match=r"3 Ray actors have died while they (made|opened)"),
    ):
        over_ray(folder, folder / "m.safetensors", tmp_path / "out", workers=1)


def test_no_actor_starts(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(ray_engine, "_START_SECONDS", 0.2)
    monkeypatch.setattr(ray_engine, "_shares", lambda *arguments: (1, 1000))
    with pytest.raises(TimeoutError, match="no Ray actor with 1000 CPUs has started"):
        over_ray(folder, folder / "m.safetensors", tmp_path / "out")


def test_without_ray(folder, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ImportError, match=r"needs Ray: pip install 'pyrec\[ray\]'"):
        over_ray(folder, folder / "m.safetensors", tmp_path / "out")


@pytest.mark.parametrize(
    ("nodes", "spare", "workers", "expected"),
    [
        ([3], 1, None, (1, 2)),
        ([17, 17], 1, None, (4, 8)),
        ([4, 16, 0], 0, None, (5, 4)),
        ([16, 16], 0, 4, (4, 8)),
        ([16, 16], 0, 1, (1, 16)),
        ([2], 0, 5, (5, 1)),
        ([64], 0, None, (8, 8)),
    ],
)
def test_how_processors_are_shared(nodes, spare, workers, expected):
    class Cluster:
        def nodes(self):
            return [{"Alive": True, "Resources": {"CPU": float(n)} if n else {}} for n in nodes]

    assert ray_engine._shares(Cluster(), workers, 100, spare) == expected
    assert ray_engine._shares(Cluster(), workers, 1, spare) == (1, expected[1])
