import resource

import pytest

from pyrec import machine


@pytest.fixture
def groups(tmp_path, monkeypatch):
    """groups(cgroup_text, {path: text}): a control-group tree in place of the machine's own."""

    def make(own, files):
        root = tmp_path / "fs"
        for name, text in files.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text(text)
        read = machine._read
        monkeypatch.setattr(machine, "_CGROUP_ROOT", root)
        monkeypatch.setattr(
            machine, "_read", lambda p: own if str(p) == "/proc/self/cgroup" else read(p)
        )
        monkeypatch.setattr(machine.os, "sched_getaffinity", lambda pid: set(range(64)))

    return make


def test_version_2_limits_of_all_ancestors(groups):
    groups(
        "0::/outer/inner",
        {
            "outer/inner/memory.max": "max\n",
            "outer/memory.max": str(5 << 20),
            "outer/memory.current": str(4 << 20),
            "outer/memory.stat": f"anon 5\ninactive_file {1 << 20}\n",
            "outer/cpu.max": "300000 100000",
            "outer/inner/cpu.max": "max 100000",
        },
    )
    assert machine.available_memory() == 2 << 20
    assert machine.usable_cpus() == 3


def test_version_1_limits(groups):
    groups(
        "5:cpu,cpuacct:/a\n4:memory:/a",
        {
            "memory/a/memory.limit_in_bytes": "1000",
            "memory/a/memory.usage_in_bytes": "400",
            "cpu,cpuacct/a/cpu.cfs_quota_us": "150000",
            "cpu,cpuacct/a/cpu.cfs_period_us": "100000",
        },
    )
    assert machine.available_memory() == 600
    assert machine.usable_cpus() == 1


def test_no_limits(groups):
    groups("0::/", {"cpu.max": "max 100000"})
    assert machine.usable_cpus() == 64
    assert machine.available_memory() > 1 << 20


def test_address_space_limit(monkeypatch):
    monkeypatch.setattr(resource, "getrlimit", lambda which: (1, 1))
    assert machine.available_memory() == 0


def test_the_message_says_what_is_needed_and_what_there_is(monkeypatch):
    monkeypatch.setattr(machine, "available_memory", lambda: 3 << 30)
    machine.require_memory(3 << 30, "nothing")
    with pytest.raises(
        MemoryError, match=r"the table needs 9 rows, 4\.0 GiB; 3\.0 GiB are available"
    ):
        machine.require_memory(4 << 30, "the table needs 9 rows")


@pytest.mark.parametrize(
    ("n", "text"),
    [
        (0, "0 bytes"),
        (1023, "1023 bytes"),
        (1536, "1.5 KiB"),
        (5 << 20, "5.0 MiB"),
        (5 << 40, "5120.0 GiB"),
    ],
)
def test_format_bytes(n, text):
    assert machine.format_bytes(n) == text


@pytest.mark.parametrize(
    ("text", "n_bytes"),
    [
        (5, 5),
        ("7", 7),
        ("2GiB", 2 << 30),
        ("1.5 gb", 1_500_000_000),
        ("64MiB", 64 << 20),
        ("3kB", 3000),
        (" 1 TiB ", 1 << 40),
        ("0.5KiB", 512),
        ("9B", 9),
    ],
)
def test_sizes_as_text(text, n_bytes):
    assert machine.parse_bytes(text, "memory") == n_bytes


@pytest.mark.parametrize("text", ["", "2 apples", "GiB", 0, -1, "0MiB", None, True, "1e3", "2Gi"])
def test_sizes_that_are_none(text):
    with pytest.raises(ValueError, match="memory must be a number of bytes or a text like '2GiB'"):
        machine.parse_bytes(text, "memory")


def test_peak_memory_without_proc(monkeypatch):
    own = machine.peak_memory()
    for text in ("Name: x\n", None):
        monkeypatch.setattr(machine, "_read", lambda path, text=text: text)
        assert 1 << 20 < machine.peak_memory() < 1 << 36
    assert own > 1 << 20
