"""What the commands do with their arguments before the library takes over."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pyrec.data import Interactions, Split

__all__ = [
    "SplitKind",
    "check_model_file",
    "describe",
    "is_of_users",
    "naming_wrong_types",
    "split_interactions",
    "training_data",
    "validation_data",
]


class SplitKind(StrEnum):
    """How data is split, as ``--split`` names it."""

    strong = "strong"
    weak = "weak"
    last = "last"
    time = "time"


def is_of_users(error: Exception) -> bool:
    """Whether data, files or the machine are the cause, not a mistake in the program."""
    # By name: to import polars, pyarrow or torch (a GPU's memory) takes longer than to say it.
    homes = {kind.__module__.partition(".")[0] for kind in type(error).__mro__}
    return isinstance(error, (OSError, ValueError, MemoryError, FloatingPointError)) or bool(
        homes & {"polars", "pyarrow", "torch"}
    )


@contextmanager
def naming_wrong_types() -> Iterator[None]:
    """Turn a TypeError of reading into a ValueError: files of users cause it, not the program."""
    try:
        yield
    except TypeError as error:
        raise ValueError(str(error)) from error


def split_interactions(
    data: Interactions, kind: SplitKind, heldout: float | None, seed: int
) -> Split:
    """Split as ``--split`` says; ``heldout`` is the size of the test part, in its own units."""
    from pyrec.data import leave_last_out, strong_generalization, temporal, weak_generalization

    amount: Any = heldout
    if heldout is not None and heldout.is_integer():
        amount = int(heldout)
    if kind is SplitKind.strong:
        return strong_generalization(data, seed=seed, **_given(heldout=amount))
    if kind is SplitKind.weak:
        return weak_generalization(data, seed=seed, **_given(test_prop=amount))
    if kind is SplitKind.time:
        return temporal(data, **_given(test_prop=amount))
    if heldout is not None and not heldout.is_integer():
        raise ValueError(f"--heldout must be a whole number with --split last, got {amount}")
    return leave_last_out(data, **_given(n=amount))


def _given(**options: Any) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None}


def describe(split: Split) -> dict[str, Any]:
    """Return the figures of a split as JSON values."""
    parts = {
        name: {"users": part.n_users, "interactions": part.n_interactions}
        for name in ("train", "valid_tr", "valid_te", "test_tr", "test_te")
        for part in [getattr(split, name)]
    }
    return {
        "protocol": split.protocol,
        "params": split.params,
        "items": split.train.n_items,
        "report": split.report,
        "parts": parts,
    }


def training_data(path: Path) -> Interactions:
    """Read the train part of a prepared folder, saved interactions, or a ratings file."""
    from pyrec.data import Interactions, read_interactions

    if (path / "split.json").exists():
        return Interactions.load(path / "train")
    if not path.is_dir():
        return read_interactions(path)
    try:
        return Interactions.load(path)
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"{path} is no prepared folder: make one with pyrec prepare RATINGS --out FOLDER"
        ) from error


def validation_data(path: Path) -> tuple[Interactions, Interactions] | None:
    """Read the valid part of a prepared folder; None where the data has none."""
    from pyrec.data import Interactions

    if not (path / "split.json").exists():
        return None
    valid_tr, valid_te = (Interactions.load(path / name) for name in ("valid_tr", "valid_te"))
    return (valid_tr, valid_te) if valid_te.n_users else None


def check_model_file(out: Path, data: Path, option: str = "--out") -> None:
    """Refuse to write over the data that a model is trained on."""
    if (
        out.exists()
        and data.exists()
        and (out.samefile(data) or data.resolve() in out.resolve().parents)
    ):
        raise FileExistsError(f"{option} must not be a file of the data, got {out}")
