"""What ``pyrec train`` does for a model with a network: validation, checkpoints, interrupts."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass, fields
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from pyrec.commands import naming_wrong_types, validation_data
from pyrec.console import print_training, title

if TYPE_CHECKING:
    from pyrec.data import Interactions, ItemConditions
    from pyrec.recipes import Recipe

__all__ = ["Options", "Precision", "check_options", "train_network"]

_METRIC = "ndcg@100"


class Precision(StrEnum):
    """The numbers in which a network's matrix products are made."""

    fp32 = "fp32"
    bf16 = "bf16"


@dataclass(frozen=True, kw_only=True)
class Options:
    """Options of models with a network; None and False: not given."""

    epochs: int | None = None
    batch_size: int | None = None
    conditions: Path | None = None
    device: str | None = None
    precision: Precision | None = None
    seed: int | None = None
    metric: str | None = None
    patience: int | None = None
    resume: bool = False
    plot: Path | None = None

    def given(self) -> list[str]:
        """The options that were given, as they are written."""
        names = (field.name for field in fields(self))
        return [f"--{n.replace('_', '-')}" for n in names if getattr(self, n) not in (None, False)]


def check_options(recipe: Recipe, options: Options) -> None:
    """Raise a ValueError for options that the model does not have, or that need what is missing."""
    given = [o for o in options.given() if o != "--device" or not recipe.takes_device]
    if not recipe.has_network and given:
        raise ValueError(
            f"{', '.join(given)}: only for models with a network, not for {recipe.name}"
        )
    if recipe.has_conditions and options.conditions is None:
        raise ValueError(f"{recipe.name} needs --conditions FILE: which item satisfies what")
    if options.conditions is not None and not recipe.has_conditions:
        raise ValueError(f"--conditions: only for CMultiVAE, not for {recipe.name}")
    if options.metric is not None:
        from pyrec.metrics import metric_names

        metric_names([options.metric])
        if recipe.name == "StandardVAE" and not options.metric.startswith("ndcg@"):
            raise ValueError(f"--metric of StandardVAE must be ndcg@K, got {options.metric!r}")
    if options.plot is not None:
        from pyrec.plotting import require_matplotlib

        try:
            require_matplotlib()
        except ImportError as error:
            raise ValueError(f"--plot: {error}") from error


def train_network(
    recipe: Recipe,
    data: Interactions,
    folder: Path,
    out: Path,
    options: Options,
    *,
    as_json: bool,
    quiet: bool,
) -> None:
    """Train, write the model (also after Ctrl-C), and print how it went.

    A checkpoint beside `out` is written after every epoch and removed at the end.

    Parameters
    ----------
    recipe : Recipe
        The model.
    data : Interactions
        To train on.
    folder : path
        Where the data lies: its valid part chooses the best epoch.
    out : path
        The model's file.
    options : Options
        What was given.
    as_json, quiet : bool
        One JSON object on the standard output; no progress.
    """
    valid = validation_data(folder)
    if valid is None and (options.metric or options.patience):
        raise ValueError(
            f"--metric and --patience need a valid part, which {folder} does not have: "
            "pyrec prepare makes one"
        )
    checkpoint = out.with_name(f"{out.name}.checkpoint")
    resume = checkpoint if options.resume and checkpoint.exists() else None
    extra = dict(recipe.training)
    if options.conditions is not None:
        from pyrec.data import read_conditions

        with naming_wrong_types():
            extra["conditions"] = read_conditions(options.conditions).align(data.items)
        _say_what_they_cover(extra["conditions"])
    model = _new_model(recipe, data, options, out, extra, verbose=0 if quiet else 1)
    if resume is not None:
        _check_checkpoint(resume, recipe, options)
    if not as_json:
        _say_where_it_begins(checkpoint, resume, options)
    start = time.perf_counter()
    _fit(model, data, valid, out, checkpoint, resume, options, extra, verbose=0 if quiet else 1)
    seconds = time.perf_counter() - start
    model.save_model(out)
    if options.plot is not None:
        from pyrec.plotting import save_png

        save_png(model.history, options.plot, title(model))
    if not model.interrupted:
        checkpoint.unlink(missing_ok=True)
    print_training(model, data, out, seconds, as_json=as_json)
    if model.interrupted:
        more = ", --resume goes on" if checkpoint.exists() else ""
        print(f"interrupted: {out} holds the model so far{more}", file=sys.stderr)
        raise typer.Exit(130)


def _say_what_they_cover(conditions: ItemConditions) -> None:
    """Warn where many items have no condition: the file may be that of other data."""
    covered = int((conditions.matrix.indptr[1:] > conditions.matrix.indptr[:-1]).sum())
    if 2 * covered < conditions.n_items:
        print(
            f"warning: only {covered:,} of {conditions.n_items:,} items have a condition: is the "
            "conditions file one of this data?",
            file=sys.stderr,
        )


def _check_checkpoint(path: Path, recipe: Recipe, options: Options) -> None:
    """Raise a ValueError for parameters that were given and are others in the checkpoint."""
    from pyrec.models.storage import load_model

    before: Any = load_model(path)
    for name, value in recipe.values.items():
        stored = getattr(before, name, value)
        if stored != value:
            raise ValueError(f"-p {name}={value}: {path} is of a training with {name}={stored}")
    if options.epochs is not None and before.epoch >= options.epochs:
        raise ValueError(f"--epochs {options.epochs}: {path} has {before.epoch} epochs already")


def _say_where_it_begins(checkpoint: Path, resume: Path | None, options: Options) -> None:
    if resume is not None:
        print(f"continuing from {checkpoint}")
    elif options.resume:
        print(f"there is no {checkpoint}: training from the beginning")
    elif checkpoint.exists():
        print(f"overwriting {checkpoint} of an interrupted training: --resume would go on from it")


def _new_model(
    recipe: Recipe,
    data: Interactions,
    options: Options,
    out: Path,
    extra: dict[str, Any],
    verbose: int,
) -> Any:
    # StandardVAE's constructor takes what the others' train takes.
    k = int((options.metric or _METRIC).partition("@")[2])
    standard = _given(n_epochs=options.epochs, batch_size=options.batch_size)
    standard |= {"k": k, "verbose": verbose, "save_path": out}
    n_conditions = extra["conditions"].n_cond if recipe.has_conditions else 1
    seed = options.seed or 0
    return recipe.build(data.n_users, data.n_items, n_conditions, seed=seed, options=standard)


def _fit(
    model: Any,
    data: Interactions,
    valid: tuple[Interactions, Interactions] | None,
    out: Path,
    checkpoint: Path,
    resume: Path | None,
    options: Options,
    extra: dict[str, Any],
    verbose: int,
) -> None:
    from pyrec.callbacks import Callback, Checkpoint, EarlyStopping
    from pyrec.models import StandardVAE

    metric = options.metric or _METRIC
    callbacks: list[Callback] = [Checkpoint(checkpoint)]
    if options.patience:
        callbacks.append(EarlyStopping(metric, options.patience))
    how: dict[str, Any] = {"callbacks": callbacks, "resume": resume, "device": options.device}
    if options.precision is not None:
        how["precision"] = options.precision.value
    if isinstance(model, StandardVAE):
        tr, te = valid or (None, None)
        both = None if tr is None or te is None else tr.matrix + te.matrix
        model.fit(data, both, tr, te, **how)
        return
    model.train(
        data,
        valid,
        metric if valid else None,
        verbose=verbose,
        best_path=out,
        seed=options.seed or 0,
        **_given(num_epochs=options.epochs, batch_size=options.batch_size),
        **how,
        **extra,
    )


def _given(**options: Any) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None}
