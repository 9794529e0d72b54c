"""What the commands print: tables and text for people, JSON for programs, signs of life."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pyrec.models import RecSysModel

__all__ = ["print_json", "print_table", "title", "working"]


def title(model: RecSysModel) -> str:
    """Return the model's class and parameters, as in the call that made it."""
    parameters = ", ".join(f"{name}={value}" for name, value in model.state()[0].items())
    return f"{type(model).__name__}({parameters})" if parameters else type(model).__name__


@contextmanager
def working(what: str, quiet: bool) -> Iterator[None]:
    """Show that something is going on, where the standard error is a terminal."""
    from rich.console import Console

    console = Console(stderr=True)
    if quiet or not console.is_terminal:
        yield
    else:
        with console.status(what):
            yield


def print_json(**values: Any) -> None:
    """Print one JSON object on the standard output."""
    print(json.dumps(_without_nan(values), allow_nan=False))


def _without_nan(value: Any) -> Any:
    """JSON has no NaN: null stands for it."""
    if isinstance(value, dict):
        return {key: _without_nan(v) for key, v in value.items()}
    if isinstance(value, list):
        return [_without_nan(v) for v in value]
    return None if isinstance(value, float) and math.isnan(value) else value


def print_table(rows: list[dict[str, Any]], names: list[str]) -> None:
    """Print a row a model, a column a metric."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=200)  # a pipe has no width to fold at
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("model", no_wrap=True)
    for name in names:
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("users", justify="right")
    for row in rows:
        values = [row["metrics"][name] for name in names]
        cells = [f"{value['mean']:.4f} ± {value['std_err']:.4f}" for value in values]
        table.add_row(row["title"], *cells, f"{values[0]['n_users']:,}")
    console.print(table)
    for row in rows:
        if row["unknown_heldout"]:
            print(
                f"{row['title']}: {row['unknown_heldout']:,} held-out interactions left out, "
                "with items that the model does not know"
            )
