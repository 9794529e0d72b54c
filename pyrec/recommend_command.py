"""The command ``pyrec recommend``."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from pyrec.commands import naming_wrong_types
from pyrec.console import Json, Quiet, print_json

__all__ = ["recommend"]


class Layout(StrEnum):
    """The form of the recommendations' Parquet files."""

    list = "list"
    long = "long"


class Engine(StrEnum):
    """Where recommendations are made."""

    local = "local"
    ray = "ray"


def recommend(
    file: Annotated[Path, typer.Argument(help="Model file.", metavar="FILE")],
    users: Annotated[
        str,
        typer.Argument(
            help="Prepared folder; Parquet with one row a user (a file, folder, quoted pattern, or "
            "a URI such as s3://bucket/users); or the same with one row an interaction, which is "
            "read whole.",
            metavar="USERS",
        ),
    ],
    out: Annotated[str, typer.Option(help="Folder for the Parquet files, or its URI.")],
    k: Annotated[int, typer.Option(help="Items a user.")] = 100,
    layout: Annotated[
        Layout, typer.Option(help="list: a row a user; long: a row an item, with its rank.")
    ] = Layout.list,
    precision: Annotated[
        str, typer.Option(help="bf16 rounds EASE's weights: faster, slightly other lists.")
    ] = "fp32",
    device: Annotated[
        str | None, typer.Option(help="cpu, cuda or cuda:1; of Ray actors: cuda.")
    ] = None,
    condition: Annotated[
        list[str] | None,
        typer.Option(
            help="Only items that satisfy it, of CMultiVAE; again: or that.", metavar="NAME"
        ),
    ] = None,
    user_column: Annotated[
        str | None, typer.Option(help="Column of user ids; by default found by its name.")
    ] = None,
    items_column: Annotated[
        str | None, typer.Option(help="Column of lists of item ids; by default found by its type.")
    ] = None,
    allow_column: Annotated[
        str | None, typer.Option(help="Column of lists: the only items for that user.")
    ] = None,
    deny_column: Annotated[
        str | None, typer.Option(help="Column of lists: items never for that user.")
    ] = None,
    memory: Annotated[
        str, typer.Option(help="Bound of the users in work, besides the model.", metavar="SIZE")
    ] = "2GiB",
    shard: Annotated[
        str | None, typer.Option(help="2/3: the second of three shares of the files.")
    ] = None,
    engine: Annotated[
        Engine, typer.Option(help="This process, or Ray actors (pyrec\\[ray]).")
    ] = Engine.local,
    address: Annotated[
        str | None, typer.Option(help="Of a Ray cluster; by default one is started here.")
    ] = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Write every user's best items to Parquet, by your own ids.

    Items of a user's history are left out. Parquet with one row a user (a
    user id and a list of item ids) is streamed: memory does not grow with
    the number of users. Each file, or 262,144 users of a large one, gives
    one file. When it was stopped or killed, the same command goes on.

    [bold]Examples:[/bold]

      pyrec recommend ease.safetensors data --out lists --k 100
      pyrec recommend ease.safetensors users.parquet --out lists --layout long
      pyrec recommend ease.safetensors users/ --out lists --shard 1/3
      pyrec recommend cvae.safetensors users/ --out lists --condition Comedy
      pyrec recommend ease.safetensors users/ --out lists --engine ray
    """
    from pyrec.scoring import find_users, score

    with naming_wrong_types():
        source = find_users(users)
    try:
        report = score(
            file,
            source,
            out,
            k=k,
            layout=layout.value,
            precision=precision,
            device=device,
            condition=condition or None,
            user=user_column,
            items=items_column,
            allow_column=allow_column,
            deny_column=deny_column,
            memory=memory,
            shard=shard,
            engine=engine.value,
            address=address,
            verbose=0 if quiet else 1,
        )
    except ImportError as error:  # of Ray
        raise ValueError(str(error)) from error
    if as_json:
        print_json(out=out, **report.to_dict())
        return
    print(report)
    if report.files:
        more = f" and {len(report.files) - 1:,} more" if len(report.files) > 1 else ""
        print(f"written to {report.files[0]}{more}")
