"""Float32 products on a GPU that are float32."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch

__all__ = ["exact_float32"]

_lock = threading.Lock()
_users = 0
_before: str | bool | None = None


@contextmanager
def exact_float32() -> Iterator[None]:
    """Keep GPUs from rounding the factors of float32 products to TF32, whose 10 bits lose an inverse.

    Contexts may overlap, in several threads too: the last one to end restores the setting.
    """
    global _users, _before
    setting = torch.backends.cuda.matmul
    name = "fp32_precision" if hasattr(setting, "fp32_precision") else "allow_tf32"
    with _lock:
        value = getattr(setting, name)
        if _users == 0 and value in ("tf32", True):
            _before = value
            setattr(setting, name, False if value is True else "ieee")
        _users += 1
    try:
        yield
    finally:
        with _lock:
            _users -= 1
            if _users == 0 and _before is not None:
                setattr(setting, name, _before)
                _before = None
