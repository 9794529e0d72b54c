"""Who multiplies float32 matrices of torch on the CPU."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch

__all__ = ["fast_float32"]

_lock = threading.Lock()
_users = 0
_before: str | None = None


@contextmanager
def fast_float32() -> Iterator[None]:
    """Let torch multiply float32 matrices by oneDNN on the CPU, where that is as exact.

    On AMD processors oneDNN is up to twice as fast as MKL. Nothing is changed where it would round
    to bfloat16 (processors with AMX), where a precision was chosen before, for GPUs, and by versions
    of torch without a setting for oneDNN alone. Contexts may overlap, in several threads too: the
    last one to end restores the setting.
    """
    global _users, _before
    setting = _setting()
    if setting is None or not _is_exact():
        yield
        return
    with _lock:
        if _users == 0 and setting.fp32_precision in ("none", "ieee"):
            _before, setting.fp32_precision = setting.fp32_precision, "bf16"
        _users += 1
    try:
        yield
    finally:
        with _lock:
            _users -= 1
            if _users == 0 and _before is not None:
                setting.fp32_precision, _before = _before, None


def _setting() -> Any:
    matmul = getattr(torch.backends.mkldnn, "matmul", None)
    return matmul if hasattr(matmul, "fp32_precision") else None


@cache
def _is_exact() -> bool:
    """Whether products by oneDNN keep float32, found out by one of them."""
    setting = _setting()
    values = torch.linspace(-1, 1, 2 * 256 * 256, dtype=torch.float32, device="cpu")
    a, b = values.view(2, 256, 256)
    before = setting.fp32_precision
    if before not in ("none", "ieee"):
        return False
    setting.fp32_precision = "bf16"
    try:
        with torch.no_grad(), torch.autocast("cpu", enabled=False):
            product = a @ b
    finally:
        setting.fp32_precision = before
    exact = a.double() @ b.double()
    return bool((product - exact).abs().max() < 1e-5 * exact.abs().max())
