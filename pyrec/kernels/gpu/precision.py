"""Float32 products on a GPU that are float32."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import torch

__all__ = ["exact_float32"]

_lock = threading.Lock()
_users = 0
_restore: Callable[[], None] | None = None


@contextmanager
def exact_float32() -> Iterator[None]:
    """Keep GPUs from rounding the factors of float32 products to TF32, whose 10 bits lose an inverse.

    Contexts may overlap, in several threads too: the last one to end restores the setting.
    """
    global _users, _restore
    with _lock:
        if _users == 0:
            _restore = _forbid()
        _users += 1
    try:
        yield
    finally:
        with _lock:
            _users -= 1
            if _users == 0 and _restore is not None:
                _restore()


def _forbid() -> Callable[[], None] | None:
    """Forbid TF32; return what allows it again, where it was allowed."""
    matmul = torch.backends.cuda.matmul
    if not hasattr(matmul, "fp32_precision"):  # torch before 2.9
        before = torch.get_float32_matmul_precision()
        torch.set_float32_matmul_precision("highest")
        return partial(torch.set_float32_matmul_precision, before)
    if matmul.fp32_precision != "tf32":
        return None
    # The setting for all operations may be what was read: it is followed again afterwards.
    matmul.fp32_precision = "none"
    before = "none" if matmul.fp32_precision == "tf32" else "tf32"
    matmul.fp32_precision = "ieee"
    return partial(setattr, matmul, "fp32_precision", before)
