"""Scoring in bounded memory, and the channels between its threads."""

from __future__ import annotations

import subprocess
import sys
import threading
import time

import numpy as np
import pyarrow as pa
import pytest
from scoring_cases import IDS, trained, write

from pyrec import machine
from pyrec.models import EASE
from pyrec.scoring import budget, fragments_of, score
from pyrec.scoring.budget import Budget
from pyrec.scoring.pipeline import Channel, Closed
from pyrec.scoring.scorer import Scorer

# Popularity of few items costs nothing of its own; what is imported late is imported first.
CODE = """if True:
    import sys
    import numpy as np, pyarrow.parquet, scipy.sparse, tqdm
    from pyrec.machine import peak_memory
    from pyrec.models import Popularity
    from pyrec.scoring import score
    source, out, k, memory = sys.argv[1:]
    model = Popularity()
    model.train(np.ones((2, 500), np.float32))
    before = peak_memory()
    report = score(model, source, out, k=int(k), memory=memory, verbose=0)
    print((report.peak_memory - before) / 2**20)
"""


def peak(source, out, k, memory):
    """MiB that scoring took in a process of its own."""
    command = [sys.executable, "-c", CODE, source, out, str(k), memory]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return float(done.stdout)


def users(path, n, length, **options):
    """Ids that do not compress, in one row group."""
    rng = np.random.default_rng(0)
    values = pa.array(rng.integers(0, 2**62, n * length))
    lists = pa.FixedSizeListArray.from_arrays(values, length)
    return write(path, lists, np.arange(n), row_group_size=n, **options)


def test_memory_does_not_grow_with_the_users(tmp_path):
    sizes = (100_000, 400_000)
    peaks = [
        peak(users(tmp_path / f"{n}.parquet", n, 20), tmp_path / f"{n}", 10, "64MiB") for n in sizes
    ]
    # The larger file holds 46 MiB more of ids, and gives 34 MiB more of lists.
    assert peaks[1] - peaks[0] < 60


def test_memory_bounds_what_is_in_flight(tmp_path):
    source = users(tmp_path / "u.parquet", 66_000, 200)
    wanted = 220
    little = peak(source, tmp_path / "little", 10, f"{wanted}MiB")
    # Popularity's own scores are 16 MiB, and libraries load more code as they are used.
    assert little < wanted + 50
    # More users than can be in flight, or the reader's pace would decide how far ahead it is.
    source = users(tmp_path / "more.parquet", 132_000, 200)
    little = peak(source, tmp_path / "little of more", 10, f"{wanted}MiB")
    much = peak(source, tmp_path / "much", 10, "4GiB")
    assert much > little + 100


def test_processes_share_the_weights_of_a_models_file(tmp_path):
    """What is not a process's own is one copy in the memory of the machine."""
    n = 4000  # 61 MiB of weights
    model = EASE()
    model.n_items, model.item_counts = n, np.ones(n, np.int64)
    model.weights = np.random.default_rng(0).random((n, n), np.float32)
    model.save_model(tmp_path / "m.safetensors")
    code = """if True:
        import re, sys
        import numpy as np, scipy.sparse as sp
        from pathlib import Path
        from pyrec.scoring.scorer import open_model
        def own():
            return int(re.search(r"RssAnon:\\s*(\\d+)", Path("/proc/self/status").read_text())[1])
        before = own()
        model = open_model(sys.argv[1])
        model.recommend(sp.eye_array(n := 4000, format="csr", dtype=np.float32), 10)
        print((own() - before) / 1024)
    """
    command = [sys.executable, "-c", code, tmp_path / "m.safetensors"]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert float(done.stdout) < 30


class TestBudget:
    def scorer(self, k=5):
        return Scorer(trained(IDS), k)

    def test_not_even_one_block(self, tmp_path):
        source = write(tmp_path / "u.parquet", [["apple"]])
        with pytest.raises(
            MemoryError, match=r"at least [\d.]+ MiB for blocks of 8,192 users with"
        ):
            score(trained(IDS), source, tmp_path / "out", memory="1MiB", verbose=0)
        assert score(trained(IDS), source, tmp_path / "out", memory=2**26, verbose=0).users == 1

    def test_the_machine_has_less(self, tmp_path, monkeypatch):
        monkeypatch.setattr(machine, "available_memory", lambda: 3 << 20)
        source = write(tmp_path / "u.parquet", [["apple"]])
        with pytest.raises(MemoryError, match=r"in flight need memory, .* 3\.0 MiB are available"):
            score(trained(IDS), source, tmp_path / "out", verbose=0)

    def test_long_histories_of_a_few(self, tmp_path, monkeypatch):
        """The mean of a row group says nothing of users with a thousand times as many."""
        monkeypatch.setattr(budget, "BATCH_ROWS", 64)
        lists = [["apple"] * 2_000_000, *[["apple"]] * 5000]
        source = write(tmp_path / "u.parquet", lists)
        needed = (
            r"at least [\d.]+ MiB for the long histories of 64 users in .*u\.parquet, from row 0"
        )
        with pytest.raises(MemoryError, match=needed):
            score(trained(IDS), source, tmp_path / "out", memory="30MiB", verbose=0)
        score(trained(IDS), source, tmp_path / "out", memory="1GiB", verbose=0)

    def test_more_memory_lets_more_wait(self, tmp_path):
        source = fragments_of(users(tmp_path / "u.parquet", 100, 50, kind=None))
        plans = [Budget.plan(m << 20, self.scorer(), source) for m in (70, 100, 200, 1 << 12)]
        assert [p.depth for p in plans] == sorted(p.depth for p in plans)
        assert plans[0].depth < plans[-1].depth
        assert plans[-1].depth == 8
        assert plans[-1].raw_limit > plans[0].raw_limit

    def test_packed_weights_are_given_more_users_at_a_time(self, tmp_path):
        source = fragments_of(users(tmp_path / "u.parquet", 100, 50, kind=None))
        scorer = self.scorer()
        assert Budget.plan(1 << 32, scorer, source).together == 1
        scorer.pack(10**6, mapped=False)
        plans = [Budget.plan(m << 20, scorer, source) for m in (70, 100, 200, 1 << 12)]
        assert [p.together for p in plans] == [min(p.depth, 4) for p in plans]
        assert (plans[0].together, plans[-1].together) == (1, 4)


class TestChannel:
    def test_the_order_stays_and_little_waits(self):
        channel, most = Channel(10), []

        def fill():
            for i in range(50):
                channel.put(i, 4)
                most.append(channel._waiting)
            channel.finish()

        thread = threading.Thread(target=fill)
        thread.start()
        assert list(channel) == list(range(50))
        thread.join()
        assert max(most) == 8

    def test_an_item_larger_than_the_limit_waits_alone(self):
        channel = Channel(10)
        channel.put("large", 100)
        thread = threading.Thread(target=lambda: channel.put("small", 1))
        thread.start()
        time.sleep(0.05)
        assert len(channel._items) == 1
        assert next(iter(channel)) == "large"
        thread.join(5)
        assert len(channel._items) == 1

    def test_nobody_takes_any_more(self):
        channel = Channel(1)
        channel.put(1, 1)
        failed = []

        def put():
            try:
                channel.put(2, 1)
            except Closed as error:
                failed.append(error)

        thread = threading.Thread(target=put)
        thread.start()
        time.sleep(0.02)
        channel.close()
        thread.join(5)
        assert len(failed) == 1
