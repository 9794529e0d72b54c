"""How many threads the kernels use, and who owns the cores."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from pyrec.machine import usable_cpus

# More never helps, and beyond the native type the boundary would refuse it.
_MOST = 4096

__all__ = ["blas_threads", "n_threads"]


def n_threads(wanted: int | None = None) -> int:
    """Return the number of threads a kernel uses.

    Parameters
    ----------
    wanted : int, optional
        An explicit number, at least 1. By default the environment variable ``PYREC_NUM_THREADS``;
        without it ``torch.get_num_threads()`` when torch has been imported; else the processors
        this process may use.
    """
    if wanted is None:
        text = os.environ.get("PYREC_NUM_THREADS")
        if text is None:
            torch = sys.modules.get("torch")
            return usable_cpus() if torch is None else int(torch.get_num_threads())
        if not text.strip().isdigit():
            raise ValueError(
                f"PYREC_NUM_THREADS must be a whole number of at least 1, got {text!r}"
            )
        wanted = int(text)
    if wanted < 1:
        raise ValueError(f"the number of threads must be at least 1, got {wanted}")
    return min(int(wanted), _MOST)


@contextmanager
def blas_threads(n: int) -> Iterator[None]:
    """Run BLAS on `n` threads inside the block, so that it and our own pool never fight over the cores."""
    from threadpoolctl import threadpool_limits

    with threadpool_limits(limits=n, user_api="blas"):
        yield
