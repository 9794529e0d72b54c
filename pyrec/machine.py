"""What this process may use of the machine: processors and memory, control groups included."""

from __future__ import annotations

import os
import re
import resource
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

__all__ = [
    "available_memory",
    "cuda_device",
    "device_memory",
    "find_device",
    "format_bytes",
    "parse_bytes",
    "peak_memory",
    "require_memory",
    "usable_cpus",
]

_CGROUP_ROOT = Path("/sys/fs/cgroup")
_UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
_UNITS |= {"KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40}


def usable_cpus() -> int:
    """Return the number of processors this process may use: affinity, then the CPU quota of its control groups."""
    try:
        n = len(os.sched_getaffinity(0))
    except AttributeError:  # not on every system
        n = os.cpu_count() or 1
    for folder in _cgroups("cpu"):
        quota, period = _read(folder / "cpu.max"), "100000"
        if quota is not None:
            quota, _, period = quota.partition(" ")
        else:
            quota, period = (
                _read(folder / "cpu.cfs_quota_us"),
                _read(folder / "cpu.cfs_period_us") or period,
            )
        if quota is not None and quota.isdigit() and int(period) > 0:
            n = min(n, max(1, int(quota) // int(period)))
    return n


def available_memory() -> int:
    """Return the bytes this process can still take: free on the machine, and under its control groups' limits."""
    import psutil

    free = int(psutil.virtual_memory().available)
    for folder in _cgroups("memory"):
        for limit_name, usage_name in (
            ("memory.max", "memory.current"),
            ("memory.limit_in_bytes", "memory.usage_in_bytes"),
        ):
            limit, usage = _read(folder / limit_name), _read(folder / usage_name)
            if limit is not None and usage is not None and limit.isdigit():
                free = min(free, int(limit) - int(usage) + _file_cache(folder))
    soft, _ = resource.getrlimit(resource.RLIMIT_AS)
    if soft != resource.RLIM_INFINITY:
        free = min(free, soft - int(psutil.Process().memory_info().vms))
    return max(free, 0)


def device_memory(device: torch.device) -> int:
    """Return the bytes that torch can still take on a CUDA device, those included that it keeps for reuse."""
    import torch

    free, _ = torch.cuda.mem_get_info(device)
    return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)


def require_memory(n_bytes: int, need: str, device: torch.device | None = None) -> None:
    """Raise a ``MemoryError`` that starts with `need` when `n_bytes` more are not to be had.

    Of the machine's memory, or of a CUDA device's.
    """
    if device is None or device.type == "cpu":
        free, where = available_memory(), ""
    else:
        free, where = device_memory(device), f" on {device}"
    if n_bytes > free:
        have = f"{format_bytes(free)} are available{where}"
        raise MemoryError(f"{need}, {format_bytes(n_bytes)}; {have}")


def find_device(device: torch.device | str | None) -> torch.device:
    """Return a device by its name, None as the CPU; a ``ValueError`` says that it is not there.

    A GPU has its number, even where the name has none: only then do two that are the same compare equal.
    """
    import torch

    try:
        return torch.empty(0, device="cpu" if device is None else device).device
    except (RuntimeError, AssertionError, NotImplementedError, TypeError) as error:
        raise ValueError(f"device must be one that is there, got {device!r}: {error}") from error


def cuda_device(device: torch.device | str | None) -> torch.device | None:
    """Return a CUDA device by its name; None stands for the CPU, which ``"cpu"`` is too."""
    place = None if device is None else find_device(device)
    if place is None or place.type == "cpu":
        return None
    if place.type != "cuda":
        raise ValueError(f"device must be the CPU or a CUDA device, got {device!r}")
    return place


def format_bytes(n_bytes: float) -> str:
    """Return for example ``'6.3 GiB'``."""
    for unit in ("bytes", "KiB", "MiB"):
        if n_bytes < 1024:
            return f"{n_bytes:.0f} bytes" if unit == "bytes" else f"{n_bytes:.1f} {unit}"
        n_bytes /= 1024
    return f"{n_bytes:.1f} GiB"


def parse_bytes(size: int | str, name: str) -> int:
    """Return a size as a number of bytes.

    Parameters
    ----------
    size : int or str
        Bytes, or a number with a unit: ``"2GiB"``, ``"1.5 GB"``, ``"500MB"``.
    name : str
        What an error calls it.

    Raises
    ------
    ValueError
        It is neither, or not above 0.
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d*)?)\s*([a-zA-Z]*)\s*", str(size))
    unit = _UNITS.get(found[2].upper()) if found else None
    if found is None or unit is None or isinstance(size, bool) or float(found[1]) * unit < 1:
        raise ValueError(
            f"{name} must be a number of bytes or a text like '2GiB' or '500MB', got {size!r}"
        )
    return int(float(found[1]) * unit)


def peak_memory() -> int:
    """Return the most bytes that this process has held since it began, mapped files included."""
    for line in (_read(Path("/proc/self/status")) or "").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    # Second choice: its peak includes what the parent process held before this program began.
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _cgroups(controller: str) -> Iterator[Path]:
    """Yield the folders of this process's control group and of all those above it, in version 1 and 2 form."""
    for line in (_read(Path("/proc/self/cgroup")) or "").splitlines():
        if line.count(":") < 2:
            continue
        _, controllers, path = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        root = _CGROUP_ROOT / controllers if controllers else _CGROUP_ROOT
        folder = root / path.lstrip("/")
        while True:
            yield folder
            if folder == root or root not in folder.parents:
                break
            folder = folder.parent


def _file_cache(folder: Path) -> int:
    """Return the bytes of cached files in the group's usage, which the kernel gives back under pressure."""
    for line in (_read(folder / "memory.stat") or "").splitlines():
        name, _, value = line.partition(" ")
        if name in ("inactive_file", "total_inactive_file"):
            return int(value)
    return 0


def _read(path: Path) -> str | None:
    try:
        return path.read_text().strip()
    except OSError:
        return None
