"""A run that was stopped goes on; the folder is the same as if nothing had happened."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time

import pytest
from scoring_cases import IDS, NUMBERS, TRAIN, content, many_users, trained, write

from pyrec.models import EASE
from pyrec.scoring import fragments_of, manifest, score, score_fragment
from pyrec.scoring.digests import model_digest
from pyrec.scoring.scorer import Scorer, open_model

# A run in a process of its own, slow enough to be hit in the middle.
RUN = """if True:
    import resource, signal, sys, time
    from pyrec.models import EASE
    from pyrec.scoring import score
    model, users, out, seconds, limit = sys.argv[1:]
    if int(limit):
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit), int(limit)))
    recommend = EASE.recommend
    def slow(*arguments, **options):
        time.sleep(float(seconds))
        return recommend(*arguments, **options)
    EASE.recommend = slow
    score(model, users, out, k=30, verbose=0)
"""


def start(folder, out, seconds=0.0, limit=0, **options):
    arguments = [folder / "m.safetensors", folder / "in", folder / out, seconds, limit]
    command = [sys.executable, "-c", RUN, *map(str, arguments)]
    return subprocess.Popen(command, **options)


@pytest.fixture
def folder(tmp_path):
    """A model's file, users in three files, and the folder that an undisturbed run left."""
    model = many_users(tmp_path / "in")
    model.save_model(tmp_path / "m.safetensors")
    score(model, tmp_path / "in", tmp_path / "whole", k=30, verbose=0)
    return tmp_path


def go_on(folder, out="out", **options):
    return score(folder / "m.safetensors", folder / "in", folder / out, k=30, verbose=0, **options)


class TestKilled:
    def kill(self, folder, wait):
        """Kill a run after `wait`, and check what it left against the run before."""
        finished = {p.name: p.stat().st_mtime_ns for p in folder.glob("out/part*")}
        run = start(folder, "out", seconds=0.1)
        wait(run)
        run.kill()
        run.wait()
        whole = content(folder / "whole")
        for name, data in content(folder / "out").items() if (folder / "out").exists() else ():
            assert name.endswith(".tmp") or data == whole[name]
        for name, time_of_change in finished.items():
            assert (folder / "out" / name).stat().st_mtime_ns == time_of_change

    def test_the_folder_is_that_of_an_undisturbed_run(self, folder):
        def at_the_next_file(run):
            while run.poll() is None and not list(folder.glob("out/.part-*.tmp")):
                time.sleep(0.01)
            time.sleep(random.Random(len(list(folder.glob("out/part*")))).uniform(0, 0.2))

        for _ in range(2):
            self.kill(folder, at_the_next_file)
        assert list(folder.glob("out/.part-*.tmp"))
        (folder / "out" / f".{manifest.MANIFEST}.0f.tmp").write_text("of a killed run")
        before = len(list(folder.glob("out/part*")))
        report = go_on(folder)
        assert content(folder / "out") == content(folder / "whole")
        assert (report.skipped, report.written) == (before, 3 - before)
        assert report.users == 46_000

    @pytest.mark.slow
    def test_twenty_kills_at_any_moment(self, folder):
        source = random.Random(0)
        for _ in range(20):
            self.kill(folder, lambda run: time.sleep(source.uniform(0.5, 3)))
        go_on(folder)
        assert content(folder / "out") == content(folder / "whole")


def test_threads_and_memory_do_not_change_the_files(folder, monkeypatch):
    monkeypatch.setenv("PYREC_NUM_THREADS", "1")
    go_on(folder, memory="170MiB")
    assert content(folder / "out") == content(folder / "whole")


def test_shards_make_one_run(folder):
    whole = go_on(folder, "whole")
    reports = [go_on(folder, shard=f"{i}/3") for i in (3, 1, 2)]
    assert content(folder / "out") == content(folder / "whole")
    assert [len(report.missing) for report in reports] == [2, 1, 0]
    assert reports[0].missing == tuple(str(folder / f"out/part-0000{i}.parquet") for i in (0, 1))
    assert "; 2 files of other shards are missing" in str(reports[0])
    for name in ("users", "unknown_items", "users_without_history"):
        assert sum(getattr(report, name) for report in reports) == getattr(whole, name)
    files = [file for report in reports for file in report.files]
    assert [file.replace("out/", "whole/") for file in sorted(files)] == list(whole.files)
    more = go_on(folder, "four", shard="4/4")
    assert (more.users, more.files, len(more.missing)) == (0, (), 3)


@pytest.mark.parametrize("shard", ["0/3", "4/3", "1", "1/0", "a/b", "", 2, "1/2/3", "-1/2"])
def test_shards_that_are_none(folder, shard):
    with pytest.raises(ValueError, match="shard must be i/n with i from 1 to n"):
        go_on(folder, shard=shard)


def test_another_shards_temporary_files_stay(folder):
    go_on(folder, shard="1/3")
    kept = folder / "out" / ".part-00001.parquet.0123456789ab.tmp"
    kept.write_text("in work")
    removed = folder / "out" / ".part-00002.parquet.0123456789ab.tmp"
    removed.write_text("left behind")
    go_on(folder, shard="3/3")
    assert kept.exists()
    assert not removed.exists()


class TestRefused:
    def assert_refused(self, folder, message, model=None, users=None, **options):
        before = content(folder / "whole")
        model = folder / "m.safetensors" if model is None else model
        with pytest.raises(FileExistsError, match=message):
            score(
                model, users or folder / "in", folder / "whole", verbose=0, **{"k": 30, **options}
            )
        assert content(folder / "whole") == before

    def test_other_settings(self, folder):
        for options, message in [
            ({"k": 29}, "holds another run: k is 30 there, 29 here. Give a new folder"),
            ({"remove_seen": False}, "remove_seen is True there, False here"),
            ({"layout": "long"}, "layout is 'list' there, 'long' here"),
            ({"deny": ["item 3"]}, "deny is None there, '1 items, sha256"),
            ({"allow": ["item 3", "none"]}, "allow is None there, '1 items, sha256"),
        ]:
            self.assert_refused(folder, message, **options)

    def test_another_model(self, folder):
        model = EASE(lam=5.0)
        model.load_model(folder / "m.safetensors")
        model.weights[3, 4] += 1e-6
        self.assert_refused(folder, "the model is another one", model)
        model.load_model(folder / "m.safetensors")
        model.item_ids[3] = "renamed"
        self.assert_refused(folder, "the model is another one", model)
        self.assert_refused(folder, "another one, EASE there and .* here", trained(IDS, _Renamed()))

    def test_other_users(self, folder):
        write(folder / "in" / "users-9.parquet", [["item 1"]])
        self.assert_refused(folder, "the users come in 3 parts there, 4 here")
        (folder / "in" / "users-9.parquet").unlink()
        write(folder / "in" / "users-1.parquet", [["item 1"]])
        self.assert_refused(folder, 'the users differ: {"file": "users-1.parquet", .*"rows": 9000')

    def test_a_manifest_that_is_not_one(self, folder):
        for text in ("{", "[]", "{}", '{"format": "x"}'):
            (folder / "whole" / manifest.MANIFEST).write_text(text)
            self.assert_refused(folder, "its _manifest.json is not one of pyrec's")

    def test_files_of_others(self, folder):
        (folder / "whole" / manifest.MANIFEST).unlink()
        self.assert_refused(folder, "already holds part-00000.parquet: give a new or an empty")

    def test_a_part_of_another_run(self, folder):
        go_on(folder, "other", remove_seen=False)
        (folder / "other" / "part-00001.parquet").replace(folder / "whole" / "part-00001.parquet")
        self.assert_refused(folder, r"part-00001\.parquet is not of the run in its folder")


def test_the_manifest_says_what_the_run_is(folder):
    text = json.loads((folder / "whole" / manifest.MANIFEST).read_text())
    assert text["model"]["class"] == "EASE"
    assert text["settings"]["k"] == 30
    assert [part["rows"] for part in text["parts"]] == [20_000, 9_000, 17_000]
    assert [part["file"] for part in text["parts"]] == [f"users-{i}.parquet" for i in range(3)]


def test_a_damaged_file_is_made_again(folder):
    go_on(folder)
    path = folder / "out" / "part-00001.parquet"
    path.write_bytes(path.read_bytes()[:-7])
    (folder / "out" / "part-00002.parquet").write_bytes(b"")
    assert go_on(folder).written == 2
    assert content(folder / "out") == content(folder / "whole")


def test_a_corrupt_file_of_users(folder):
    path = folder / "in" / "users-1.parquet"
    whole = path.read_bytes()
    # the footer is intact, the data is not
    path.write_bytes(b"PAR1" + b"\xff" * 200 + whole[204:])
    with pytest.raises(ValueError, match=r"users-1\.parquet cannot be read"):
        go_on(folder)
    assert sorted(content(folder / "out")) == [manifest.MANIFEST, "part-00000.parquet"]
    path.write_bytes(whole)
    assert go_on(folder).skipped == 1
    assert content(folder / "out") == content(folder / "whole")


def test_users_that_change_in_the_middle(folder):
    fragment = fragments_of(folder / "in")[2]
    write(folder / "in" / "users-2.parquet", [["item 1"]])
    with pytest.raises(ValueError, match=r"users-2\.parquet has changed since the run began"):
        score_fragment(Scorer(open_model(folder / "m.safetensors"), 3), fragment, folder / "x")
    assert not (folder / "x").exists()


def test_an_interrupt(folder, monkeypatch):
    recommend, calls = EASE.recommend, []

    def interrupted(self, *arguments, **options):
        calls.append(1)
        if len(calls) == 4:  # in the second file
            raise KeyboardInterrupt
        return recommend(self, *arguments, **options)

    monkeypatch.setattr(EASE, "recommend", interrupted)
    with pytest.raises(KeyboardInterrupt):
        go_on(folder)
    assert sorted(content(folder / "out")) == [manifest.MANIFEST, "part-00000.parquet"]
    monkeypatch.undo()
    go_on(folder)
    assert content(folder / "out") == content(folder / "whole")


def test_a_full_disk(folder):
    size = (folder / "whole" / "part-00001.parquet").stat().st_size
    run = start(folder, "out", limit=size + 1000, stderr=subprocess.PIPE, text=True)
    _, errors = run.communicate()
    assert (
        errors.strip()
        .split("\n")[-1]
        .startswith(f"OSError: cannot write {folder}/out/part-00000.parquet: ")
    )
    assert sorted(content(folder / "out")) == [manifest.MANIFEST]
    go_on(folder, shard="2/3")
    run = start(folder, "out", limit=size + 1000, stderr=subprocess.PIPE, text=True)
    assert "cannot write" in run.communicate()[1]
    assert sorted(content(folder / "out")) == [manifest.MANIFEST, "part-00001.parquet"]
    assert go_on(folder).skipped == 1
    assert content(folder / "out") == content(folder / "whole")


def test_a_model_replaced_half_way(folder):
    go_on(folder, shard="1/3")
    whole = (folder / "m.safetensors").read_bytes()
    trained(NUMBERS).save_model(folder / "m.safetensors")
    with pytest.raises(ValueError, match="of the model's type, int64, got string"):
        go_on(folder)
    model = EASE(lam=7.0)
    (folder / "m.safetensors").write_bytes(whole)
    model.load_model(folder / "m.safetensors")
    model.lam = 7.0
    model.save_model(folder / "m.safetensors")
    before = content(folder / "out")
    with pytest.raises(FileExistsError, match="holds another run: the model is another one"):
        go_on(folder)
    assert content(folder / "out") == before
    (folder / "m.safetensors").write_bytes(whole)
    go_on(folder)
    assert content(folder / "out") == content(folder / "whole")


def test_a_networks_file_is_known_again(tmp_path):
    from pyrec.models import MultiVAE
    from pyrec.nets import MultiVAE_net

    model = MultiVAE(MultiVAE_net([2, 3, 5]), anneal_steps=3)
    model.train(TRAIN, num_epochs=1, verbose=0)
    model.save_model(tmp_path / "m")
    assert model_digest(open_model(tmp_path / "m")) == model_digest(model)
    model.train(TRAIN, num_epochs=1, verbose=0)
    assert model_digest(open_model(tmp_path / "m")) != model_digest(model)


class _Renamed(EASE):
    pass
