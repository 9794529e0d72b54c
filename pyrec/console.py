"""What the commands print: tables and text for people, JSON for programs, signs of life."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from pyrec.data import Interactions
    from pyrec.models import RecSysModel

__all__ = [
    "Json",
    "Quiet",
    "Seed",
    "parameters_of",
    "print_json",
    "print_table",
    "print_training",
    "title",
    "working",
]

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress on the standard error.")]
Seed = Annotated[int, typer.Option(help="Of everything random: the same seed, the same result.")]


def parameters_of(model: RecSysModel) -> dict[str, Any]:
    """Return what the model's file says of how it was made; not what happened in training."""
    return {name: value for name, value in model.state()[0].items() if name != "training"}


def title(model: RecSysModel) -> str:
    """Return the model's class, and the parameters that are not at their defaults."""
    from pyrec.recipes import own_parameters

    defaults, values = own_parameters(type(model)), parameters_of(model)
    given = (n for n in defaults if n in values and not isinstance(values[n], dict))  # no networks
    changed = [f"{n}={values[n]}" for n in given if values[n] != defaults[n]]
    return f"{type(model).__name__}({', '.join(changed)})" if changed else type(model).__name__


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


def print_training(
    model: RecSysModel, data: Interactions, out: Path, seconds: float, *, as_json: bool
) -> None:
    """Print what was trained on what, in which file, and how it went."""
    # Of models with a network only.
    training = {n: getattr(model, n) for n in ("history", "interrupted") if hasattr(model, n)}
    size = out.stat().st_size
    if as_json:
        print_json(
            file=str(out),
            bytes=size,
            model=type(model).__name__,
            parameters=parameters_of(model),
            users=data.n_users,
            items=data.n_items,
            interactions=data.n_interactions,
            seconds=seconds,
            **training,
        )
        return
    losses = training["history"].get("loss", []) if training else []
    epochs = f", {len(losses):,} epochs" if training else ""
    print(
        f"{title(model)}: {data.n_interactions:,} interactions of "
        f"{data.n_users:,} users and {data.n_items:,} items in {seconds:.1f} s{epochs}"
    )
    if len(losses) > 1:
        from pyrec.plotting import text_curves

        print(text_curves(training["history"]))
    print(f"written to {out} ({size / 2**20:,.1f} MiB)")


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
