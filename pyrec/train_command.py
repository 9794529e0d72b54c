"""``pyrec train``: a model by its name, from prepared data, to one file."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any

import typer

from pyrec.commands import check_model_file, naming_wrong_types, training_data
from pyrec.console import Json, Quiet, print_training, working
from pyrec.fitting import Options, Precision, check_options, train_network

__all__ = ["train"]


def train(
    model: Annotated[
        str,
        typer.Argument(
            help="ADMM_Slim, CFGAN, CMultiVAE, EASE, Popularity, MultiDAE, MultiVAE, StandardVAE, "
            "SVAE or VAE.",
            metavar="MODEL",
        ),
    ],
    data: Annotated[
        Path,
        typer.Argument(
            help="Prepared folder (its train and valid parts), or a ratings file.", metavar="DATA"
        ),
    ],
    out: Annotated[Path, typer.Option(help="The model's file, usually *.safetensors.")],
    parameters: Annotated[
        list[str] | None,
        typer.Option("-p", "--parameter", metavar="NAME=VALUE", help="A parameter of the model."),
    ] = None,
    epochs: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Passes over the data (100; MultiVAE, CMultiVAE and SVAE 200; StandardVAE 400; "
            "rounds of CFGAN 1,000).",
        ),
    ] = None,
    batch_size: Annotated[
        int | None,
        typer.Option(min=1, help="Users a batch (500; StandardVAE 100; CFGAN and SVAE 64)."),
    ] = None,
    conditions: Annotated[
        Path | None,
        typer.Option(
            help="Of CMultiVAE: which item satisfies what, such as MovieLens' movies.dat or a CSV "
            "with a column of genres.",
            metavar="FILE",
        ),
    ] = None,
    device: Annotated[
        str | None,
        typer.Option(help="cpu, cuda or cuda:1; of ADMM_Slim with -p solver=admm."),
    ] = None,
    precision: Annotated[
        Precision | None, typer.Option(help="Of the matrix products: bf16 is faster.")
    ] = None,
    seed: Annotated[
        int | None, typer.Option(help="Of everything random (0): the same seed, the same model.")
    ] = None,
    metric: Annotated[
        str | None,
        typer.Option(help="Chooses the best epoch on the valid part (ndcg@100).", metavar="NAME@K"),
    ] = None,
    patience: Annotated[
        int | None, typer.Option(min=1, help="Stop after so many epochs without a better one.")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue a training that was interrupted.")
    ] = False,
    plot: Annotated[
        Path | None, typer.Option(help="Draw losses and metric to a PNG file.", metavar="FILE.png")
    ] = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Train a model and write it to one file, ids included.

    Models with a network also take their layers by -p: latent_dim,
    hidden_dims (between items and latent), dropout. Where the data has a
    valid part, the file holds the best epoch. After Ctrl-C it holds the
    model so far, and --resume goes on from the last whole epoch.

    ADMM_Slim takes options of its training by -p too: num_iter, solver
    (auto, admm or cd), tol; CFGAN takes g_steps, d_steps and d_batch_size.
    SVAE learns from the order of a user's items: the data needs times.

    [bold]Examples:[/bold]

      pyrec train EASE data --out ease.safetensors -p lam=500
      pyrec train ADMM_Slim data --out slim.safetensors -p lambda1=1 -p lambda2=500
      pyrec train Popularity ratings.csv --out popularity.safetensors
      pyrec train MultiVAE data --out vae.safetensors --epochs 50 --patience 5 \\
        -p latent_dim=200 -p 'hidden_dims=\\[600]' -p beta=0.2 -p anneal_steps=2000
      pyrec train CMultiVAE data --out cvae.safetensors --conditions movies.dat
    """
    from pyrec.files import check_place
    from pyrec.recipes import read_recipe

    options = Options(
        epochs=epochs,
        batch_size=batch_size,
        conditions=conditions,
        device=device,
        precision=precision,
        seed=seed,
        metric=metric,
        patience=patience,
        resume=resume,
        plot=plot,
    )
    try:
        recipe = read_recipe(model, parameters or [])
        check_options(recipe, options)
    except (TypeError, ValueError) as error:
        raise typer.BadParameter(str(error)) from error
    if plot is not None and plot.absolute() == out.absolute():
        raise ValueError(f"--plot and --out must be two files, got {out}")
    for option, place in (("--out", out), ("--plot", plot)):
        if place is not None:
            check_place(place)
            check_model_file(place, data, option)
    with naming_wrong_types():
        interactions = training_data(data)
    if recipe.has_network:
        train_network(recipe, interactions, data, out, options, as_json=as_json, quiet=quiet)
        return
    recommender = recipe.build()
    how: dict[str, Any] = {"verbose": 0 if quiet else 1} if recipe.has_bar else {}
    if device is not None:
        how["device"] = device
    start = time.perf_counter()
    with working(f"training {recipe.name}", quiet or recipe.has_bar):
        recommender.train(interactions, **recipe.training, **how)
        seconds = time.perf_counter() - start
        recommender.save_model(out)
    print_training(recommender, interactions, out, seconds, as_json=as_json)
