"""Draws that depend on where they are, not on when: seeds, and a hash in place of a stream."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def check_seed(seed: int) -> int:
    """Return ``seed`` as Python's int, or raise ValueError."""
    if not isinstance(seed, (int, np.integer)) or seed < 0:
        raise ValueError(f"seed must be a whole number, at least 0, got {seed!r}")
    return int(seed)


def streams(seed: int, numbers: NDArray[np.int64]) -> NDArray[np.uint64]:
    """The start of one stream of draws a number."""
    return _mix(numbers.astype(np.uint64) * _GOLDEN + np.uint64(seed % 2**64))


def draws(streams: NDArray[np.uint64], index: NDArray[np.int64]) -> NDArray[np.uint64]:
    """64 random bits at an index of a stream."""
    return _mix(streams + index.astype(np.uint64) * _GOLDEN)


def _mix(z: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The finaliser of splitmix64 (Steele et al. 2014): every input bit reaches every output bit."""
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))
