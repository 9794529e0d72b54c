"""Checks of plain arguments: what comes back is the value in its own type, or the error names it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

__all__ = ["at_least_zero", "flag", "is_number", "positive", "whole"]


def positive(value: Any, name: str) -> float:
    """Return a finite number above 0 as a float, or raise a ValueError."""
    if not is_number(value) or not 0 < value < math.inf:
        raise ValueError(f"{name} must be a number above 0, got {value!r}")
    return float(value)


def at_least_zero(value: Any, name: str) -> float:
    """Return a finite number of at least 0 as a float, or raise a ValueError."""
    if not is_number(value) or not 0 <= value < math.inf:
        raise ValueError(f"{name} must be a number of at least 0, got {value!r}")
    return float(value)


def whole(value: Any, name: str, least: int = 0) -> int:
    """Return a whole number of at least `least` as an int, or raise a ValueError."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < least:
        raise ValueError(f"{name} must be a whole number of at least {least}, got {value!r}")
    return int(value)


def flag(value: Any, name: str) -> bool:
    """Return a truth value as a bool, or raise a ValueError."""
    if not isinstance(value, (bool, np.bool_)):
        raise ValueError(f"{name} must be true or false, got {value!r}")
    return bool(value)


def is_number(value: Any) -> bool:
    """Whether `value` is a real number of Python or NumPy; a bool is none."""
    return isinstance(value, (int, float, np.number)) and not isinstance(value, bool)
