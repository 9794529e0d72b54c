"""The command ``pyrec``: every command is a plain function of the library underneath."""

from __future__ import annotations

import os
import signal
import sys
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from pyrec import __version__
from pyrec.commands import (
    SplitKind,
    describe,
    is_of_users,
    naming_wrong_types,
    split_interactions,
)
from pyrec.console import (
    Json,
    Quiet,
    Seed,
    parameters_of,
    print_json,
    print_table,
    title,
    working,
)
from pyrec.recommend_command import recommend
from pyrec.train_command import train

__all__ = ["main"]


class _Interruptible(TyperGroup):
    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as error:
            print("interrupted", file=sys.stderr)
            raise typer.Exit(130) from error


app = typer.Typer(
    name="pyrec",
    cls=_Interruptible,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line.

    Exit status 0; 1 after an error in data or files, 2 after a mistake in the usage, 130 when
    interrupted, 143 when terminated. A mistake in the program itself keeps its traceback.

    Parameters
    ----------
    arguments : list of str, optional
        By default those of the process.
    """
    if arguments is None:
        # Like Ctrl-C, so that temporary files go: by default the process would end at once.
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
        # Threads of OpenMP that wait would spin, and with other work on the same cores training
        # takes ten times as long. Read when torch is loaded.
        os.environ.setdefault("OMP_WAIT_POLICY", "passive")
        # Without the file and the line of code, which say nothing to who types commands.
        warnings.formatwarning = lambda message, *_: f"warning: {message}\n"
    try:
        app(args=None if arguments is None else list(arguments), prog_name="pyrec")
    except Exception as error:
        if not is_of_users(error):
            raise
        message = " ".join(str(error).split()) or type(error).__name__
        print(f"error: {message}", file=sys.stderr)
        sys.exit(1)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"pyrec {__version__}")
        raise typer.Exit


@app.callback()
def _pyrec(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print it.")
    ] = False,
) -> None:
    """Train strong, simple recommenders and score many users.

    [bold]A first run, on simulated data:[/bold]

      pyrec simulate --out demo
      pyrec prepare demo/ratings.parquet --out demo/split
      pyrec train EASE demo/split --out demo/ease.safetensors -p lam=100
      pyrec evaluate demo/ease.safetensors demo/split
      pyrec recommend demo/ease.safetensors demo/split --out demo/lists --k 100

    With data of your own, start at prepare: it reads Parquet, CSV, TSV,
    MovieLens and RecBole files. pyrec COMMAND --help explains each command.
    """


@app.command()
def simulate(
    out: Annotated[Path, typer.Option(help="Folder for the two files, made when absent.")],
    users: Annotated[int, typer.Option(help="Number of users.")] = 2000,
    items: Annotated[int, typer.Option(help="Number of items.")] = 1000,
    interactions: Annotated[int, typer.Option(help="Number of interactions.")] = 100_000,
    seed: Seed = 0,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Write realistic synthetic data: ratings.parquet and items.parquet.

    Popularity follows a power law, users have tastes that models can learn,
    and the order in time means something. ratings.parquet has user_id,
    item_id, timestamp; items.parquet has item_id and a list of genres.

    [bold]Example:[/bold]

      pyrec simulate --out demo --users 10000 --items 2000 --interactions 1000000
    """
    from pyrec.data import datasets
    from pyrec.data.parquet import write_item_lists, write_ratings

    with working("simulating", quiet):
        data = datasets.simulate(users, items, interactions, seed=seed)
        genres, names = datasets.simulated_genres(items, seed=seed)
        out.mkdir(parents=True, exist_ok=True)
        write_ratings(data, out / "ratings.parquet")
        # `simulate` numbers the items from 1, those without an interaction too.
        numbers = range(1, items + 1)
        write_item_lists(numbers, genres, names, "genres", out / "items.parquet")
    ratings = out / "ratings.parquet"
    if as_json:
        print_json(
            files=[str(ratings), str(out / "items.parquet")],
            users=data.n_users,
            items=items,
            interactions=data.n_interactions,
        )
    else:
        print(f"{data.n_interactions:,} interactions of {data.n_users:,} users: {ratings}")


@app.command()
def prepare(
    ratings: Annotated[
        list[str],
        typer.Argument(help="Files, or a quoted glob: one row an interaction.", metavar="RATINGS"),
    ],
    out: Annotated[Path, typer.Option(help="New folder for the prepared data.")],
    min_rating: Annotated[float | None, typer.Option(help="Drop lower ratings.")] = None,
    min_user: Annotated[int, typer.Option(help="Drop users with fewer interactions.")] = 5,
    min_item: Annotated[int, typer.Option(help="Drop items with fewer interactions.")] = 0,
    split: Annotated[
        SplitKind,
        typer.Option(
            help="What is held out: some users (strong), random interactions of every user (weak), "
            "every user's last ones (last), the latest of all (time)."
        ),
    ] = SplitKind.strong,
    heldout: Annotated[
        float | None,
        typer.Option(
            help="How much goes to test. strong: a share or number of users, as many again go to "
            "validation (0.1); weak, time: a share of the interactions (0.2); last: a number of "
            "interactions a user (1).",
        ),
    ] = None,
    seed: Seed = 0,
    user: Annotated[str | None, typer.Option(help="Column of user ids.")] = None,
    item: Annotated[str | None, typer.Option(help="Column of item ids.")] = None,
    rating: Annotated[str | None, typer.Option(help="Column of ratings.")] = None,
    timestamp: Annotated[str | None, typer.Option(help="Column of times.")] = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Read interactions, filter them, split them, and say what was dropped and why.

    Columns are found by their usual names; name them where that fails.
    The folder then holds the parts of the split, and users.parquet: one
    row a user, all items in order of time.

    [bold]Examples:[/bold]

      pyrec prepare ratings.csv --out data --min-rating 4
      pyrec prepare 'logs/*.parquet' --out data --item sku --split last
      pyrec prepare ratings.dat --out data --min-rating 4 --heldout 600
    """
    from pyrec.data import read_interactions
    from pyrec.data.parquet import write_users
    from pyrec.files import atomic_folder

    # Made first: nobody waits for the reading only to learn that the folder cannot be made.
    with working("preparing", quiet), atomic_folder(out) as folder:
        with naming_wrong_types():
            data = read_interactions(
                ratings if len(ratings) > 1 else ratings[0],
                user=user,
                item=item,
                rating=rating,
                timestamp=timestamp,
                min_rating=min_rating,
            )
        data = data.filter(min_user=min_user, min_item=min_item)
        parts = split_interactions(data, split, heldout, seed)
        parts.save(folder)
        write_users(data, folder / "users.parquet")
    report = data.report
    assert report is not None
    if as_json:
        print_json(out=str(out), **report.to_dict(), split=describe(parts))
        return
    print(report)
    for name, text in describe(parts)["parts"].items():
        print(f"{name}: {text['users']:,} users, {text['interactions']:,} interactions")
    for reason, count in parts.report.items():
        if count:
            print(f"{reason}: {count:,}")
    print(f"written to {out}")


app.command()(train)


@app.command()
def evaluate(
    files: Annotated[
        list[Path], typer.Argument(help="Model files: a row of the table each.", metavar="FILES")
    ],
    data: Annotated[Path, typer.Argument(help="Prepared folder: its test part.", metavar="DATA")],
    metrics: Annotated[
        str, typer.Option(help="name@k, separated by commas.", metavar="LIST")
    ] = "ndcg@100,recall@20,recall@50",
    device: Annotated[str | None, typer.Option(help="cpu, cuda or cuda:1.")] = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Rank all items for the test users and measure where the held-out ones come.

    Metrics: ndcg, recall (hits / min(k, relevant)), full_recall (hits /
    relevant), hit, mrr, map, precision. The table gives the mean and its
    standard error over the users.

    [bold]Examples:[/bold]

      pyrec evaluate ease.safetensors data
      pyrec evaluate *.safetensors data --metrics ndcg@10,hit@1 --json
    """
    from pyrec.data import Split
    from pyrec.evaluation import evaluate as evaluate_model
    from pyrec.metrics import metric_names, summarize
    from pyrec.models.storage import load_model

    names = metric_names([name.strip() for name in metrics.split(",") if name.strip()])
    split = Split.load(data)
    pair = (split.test_tr, split.test_te)
    rows = []
    for file in files:
        with working(f"evaluating {file.name}", quiet):
            model = load_model(file)
            if device is not None:
                model.to(device)
            start = time.perf_counter()
            summary = summarize(evaluate_model(model, pair, names))
            seconds = time.perf_counter() - start
            unknown = 0 if model.item_ids is None else split.test_te.align(model.item_ids)[1]
        rows.append(
            {
                "file": str(file),
                "model": type(model).__name__,
                "title": title(model),
                "parameters": parameters_of(model),
                "seconds": seconds,
                "unknown_heldout": unknown,
                "metrics": {name: value._asdict() for name, value in summary.items()},
            }
        )
    if as_json:
        print_json(data=str(data), users=split.test_te.n_users, models=rows)
    else:
        print_table(rows, names)


app.command()(recommend)
