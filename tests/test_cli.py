"""The commands, run as a user runs them; each step's files are those the library would make."""

from __future__ import annotations

import json
import signal
import subprocess
import sys

import numpy as np
import polars
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from pyrec import cli, load_model
from pyrec.data import Interactions, Split, datasets, read_interactions
from pyrec.evaluation import evaluate
from pyrec.metrics import summarize
from pyrec.models import EASE, ADMM_Slim


class Result:
    def __init__(self, code, out, err):
        self.code, self.out, self.err = code, out, err

    @property
    def json(self):
        assert self.code == 0, self.err
        return json.loads(self.out)


@pytest.fixture
def run(capsys):
    def run(*arguments):
        with pytest.raises(SystemExit) as stopped:
            cli.main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return Result(stopped.value.code, captured.out, captured.err)

    return run


@pytest.fixture(scope="session")
def demo(tmp_path_factory):
    """Simulated data, prepared, with a trained model."""
    folder = tmp_path_factory.mktemp("demo")
    for line in [
        f"simulate --out {folder} --users 300 --items 80 --interactions 5000",
        f"prepare {folder}/ratings.parquet --out {folder}/split --seed 3",
        f"train EASE {folder}/split --out {folder}/ease.safetensors -p lam=20",
        f"train popularity {folder}/split --out {folder}/pop.safetensors",
    ]:
        with pytest.raises(SystemExit) as stopped:
            cli.main(line.split())
        assert stopped.value.code == 0
    return folder


def assert_error(result, *messages):
    assert result.code == 1
    assert result.out == ""
    assert result.err.startswith("error: ")
    assert result.err.count("\n") == 1
    for message in messages:
        assert message in result.err


class TestSimulate:
    def test_the_files_are_the_library_s(self, demo):
        expected = datasets.simulate(300, 80, 5000, seed=0)
        ratings = pq.read_table(demo / "ratings.parquet")
        assert ratings.schema.names == ["user_id", "item_id", "timestamp"]
        read = read_interactions(ratings)
        assert (read.n_users, read.n_interactions) == (300, 5000)
        np.testing.assert_array_equal(read.timestamps, expected.timestamps)
        items = pq.read_table(demo / "items.parquet")
        genres, names = datasets.simulated_genres(80, seed=0)
        assert items["item_id"].to_pylist() == list(range(1, 81))
        assert items["genres"].to_pylist() == [
            [names[j] for j in row.nonzero()[0]] for row in genres.toarray()
        ]

    def test_json(self, run, tmp_path):
        size = ("--users", 30, "--items", 20, "--interactions", 100)
        found = run("simulate", "--out", tmp_path, *size, "--json").json
        assert found == {
            "files": [str(tmp_path / "ratings.parquet"), str(tmp_path / "items.parquet")],
            "users": 30,
            "items": 20,
            "interactions": 100,
        }

    def test_impossible_numbers(self, run, tmp_path):
        result = run("simulate", "--out", tmp_path / "x", "--users", 10, "--interactions", 5)
        assert_error(result, "interactions must lie between")
        assert list(tmp_path.iterdir()) == []


class TestPrepare:
    def test_the_split_and_the_users(self, run, demo, tmp_path):
        report = run(
            "prepare", demo / "ratings.parquet", "--out", tmp_path / "p", "--min-user", 8, "--json"
        ).json
        data = read_interactions(demo / "ratings.parquet").filter(min_user=8)
        assert report["interactions"] == data.n_interactions
        split = Split.load(tmp_path / "p")
        assert split.protocol == report["split"]["protocol"] == "strong_generalization"
        assert report["split"]["parts"]["test_te"]["users"] == split.test_te.n_users > 0
        users = pq.read_table(tmp_path / "p" / "users.parquet")
        assert users["user_id"].to_pylist() == data.users.tolist()
        histories = data.sequences()
        assert users["items"].to_pylist() == [
            data.items[histories[u]].tolist() for u in range(len(histories))
        ]

    @pytest.mark.parametrize(
        ("options", "params"),
        [
            ("--split strong --heldout 20 --seed 4", {"heldout": 20, "seed": 4}),
            ("--split strong --heldout 0.2", {"heldout": 0.2, "seed": 0}),
            ("--split weak --heldout 0.3 --seed 4", {"test_prop": 0.3, "seed": 4}),
            ("--split last", {"n": 1}),
            ("--split last --heldout 2", {"n": 2}),
            ("--split time --heldout 0.1", {"test_prop": 0.1}),
        ],
    )
    def test_splits(self, run, demo, tmp_path, options, params):
        out = tmp_path / "p"
        result = run("prepare", demo / "ratings.parquet", "--out", out, "--json", *options.split())
        found = result.json["split"]["params"]
        assert {name: found[name] for name in params} == params
        assert Split.load(out).params == found

    def test_columns_and_ratings(self, run, tmp_path):
        rows = [f"{u},{i},{1 + (u + i) % 5}" for u in range(30) for i in range(12)]
        (tmp_path / "a.csv").write_text("\n".join(["who,what,liked", *rows[:200]]))
        (tmp_path / "b.csv").write_text("\n".join(["who,what,liked", *rows[200:]]))
        names = ["--user", "who", "--item", "what", "--rating", "liked", "--min-rating", "4"]
        out = ["--min-user", "0", "--json", "--out"]
        both = run("prepare", tmp_path / "a.csv", tmp_path / "b.csv", *names, *out, tmp_path / "p")
        pattern = run("prepare", tmp_path / "*.csv", *names, *out, tmp_path / "q")
        assert both.json["rows"] == pattern.json["rows"] == 360
        assert both.json["dropped"]["rating below 4"] == 216

    def test_the_report_is_for_people(self, run, demo, tmp_path):
        result = run("prepare", demo / "ratings.parquet", "--out", tmp_path / "p")
        assert result.code == 0
        assert "5,000 rows" in result.out
        assert "test_te: " in result.out
        assert result.err == ""

    def test_nothing_is_left_after_an_error(self, run, demo, tmp_path):
        (tmp_path / "bad.csv").write_text("a,b\n1,2\n")
        out = tmp_path / "p"
        ratings = demo / "ratings.parquet"
        assert_error(run("prepare", tmp_path / "none.csv", "--out", out), "none.csv")
        assert_error(run("prepare", tmp_path / "bad.csv", "--out", out), "columns found: a, b")
        assert_error(run("prepare", ratings, "--out", out, "--heldout", 0.9), "heldout")
        assert_error(run("prepare", ratings, "--out", out, "--min-user", 10**6), "leaves none")
        assert_error(run("prepare", ratings, "--out", out, "--min-rating", 1), "rating column")
        last = ("--split", "last", "--heldout", 0.5)
        assert_error(run("prepare", ratings, "--out", out, *last), "whole number")
        assert_error(run("prepare", ratings, "--out", tmp_path / "no" / "p"), "does not exist")
        assert_error(run("prepare", ratings, "--out", demo), "already exists")
        assert sorted(p.name for p in tmp_path.iterdir()) == ["bad.csv"]


class TestTrain:
    def test_the_model_is_the_library_s(self, run, demo, tmp_path):
        result = run("train", "EASE", demo / "split", "--out", tmp_path / "m", "-p", "lam=7.5")
        assert result.code == 0
        assert "EASE(lam=7.5)" in result.out
        model, expected = load_model(tmp_path / "m"), EASE(lam=7.5)
        data = Split.load(demo / "split").train
        expected.train(data)
        np.testing.assert_allclose(model.weights, expected.weights, atol=1e-6)
        assert model.item_ids.tolist() == data.items.tolist()

    def test_admm_slim(self, run, demo, tmp_path):
        options = ["lambda1=1", "lambda2=20", "rho=50", "nn_constr=false", "num_iter=70"]
        given = [word for option in options for word in ("-p", option)]
        result = run(
            "train",
            "admm_slim",
            demo / "split",
            "--out",
            tmp_path / "m",
            *given,
            "-p",
            "solver=admm",
        )
        assert result.code == 0
        assert "ADMM_Slim(lambda1=1.0, lambda2=20.0, rho=50.0, nn_constr=False)" in result.out
        model = load_model(tmp_path / "m")
        assert model.n_iter <= 70
        expected = ADMM_Slim(1, 20, 50, nn_constr=False)
        expected.train(Split.load(demo / "split").train, 70, 0, solver="admm")
        np.testing.assert_allclose(model.weights.toarray(), expected.weights.toarray(), atol=1e-6)
        found = run("train", "ADMM_Slim", demo / "split", "--out", tmp_path / "m", "--json").json
        assert found["parameters"] == {
            "lambda1": 5.0,
            "lambda2": 1000.0,
            "rho": 100000.0,
            "nn_constr": True,
            "l1_penalty": True,
            "item_bias": False,
        }
        shown = run("evaluate", tmp_path / "m", demo / "split", "--json")
        assert shown.code == 0

    def test_json(self, run, demo, tmp_path):
        found = run("train", "ease", demo / "split", "--out", tmp_path / "m", "--json").json
        assert found["model"] == "EASE"
        assert found["parameters"] == {"lam": 100.0}
        assert found["bytes"] == (tmp_path / "m").stat().st_size

    def test_saved_interactions_and_a_ratings_file(self, run, demo, tmp_path):
        data = read_interactions(demo / "ratings.parquet")
        data.save(tmp_path / "saved")
        for source in (tmp_path / "saved", demo / "ratings.parquet"):
            run("train", "EASE", source, "--out", tmp_path / "m")
            assert load_model(tmp_path / "m").n_items == data.n_items

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (
                ["SVD"],
                "Popularity, CFGAN, CMultiVAE, MultiDAE, MultiVAE, StandardVAE, SVAE, VAE, got 'SVD'",
            ),
            (["AETrainer"], "MODEL must be one of"),
            (
                ["EASE", "--epochs", "3", "--batch-size", "4", "--resume"],
                "--epochs, --batch-size, --resume: only for models with a network, not for EASE",
            ),
            (
                ["MultiVAE", "-p", "lam=1"],
                "MultiVAE: latent_dim=200, hidden_dims=[600], dropout=0.5, beta=1.0, anneal_steps=0,",
            ),
            (
                ["StandardVAE", "-p", "n_epochs=3"],
                "drop_decoder=0.5, beta=1.0, annealing=False, anneal_cap=1.0",
            ),
            (
                ["VAE", "-p", "hidden_dims=600"],
                "hidden_dims must be a list such as [600], got 600",
            ),
            (["VAE", "-p", "latent_dim=0"], "whole numbers above 0"),
            (["MultiDAE", "-p", "dropout=1"], "dropout must be a number in [0, 1)"),
            (["MultiDAE", "-p", "lam=-1"], "lam must be a number of at least 0"),
            (["MultiVAE", "--epochs", "0"], "greater than or equal to 1"),
            (["MultiVAE", "--metric", "auc@3"], "'auc@3'"),
            (["StandardVAE", "--metric", "hit@3"], "--metric of StandardVAE must be ndcg@K"),
            (["RecSysModel"], "MODEL must be one of"),
            (["EASE", "-p", "lamda=3"], "EASE has no parameter 'lamda'; parameters of EASE: lam"),
            (["EASE", "-p", "lam"], "-p must be NAME=VALUE, got 'lam'"),
            (["EASE", "-p", "lam=x"], "lam must be a number above 0, got 'x'"),
            (["EASE", "-p", "lam=-1"], "lam must be a number above 0"),
            (["Popularity", "-p", "lam=1"], "parameters of Popularity: none"),
            (
                ["ADMM_Slim", "-p", "lam=1"],
                "l1_penalty=True, item_bias=False, num_iter=50, solver=auto, tol=None",
            ),
            (
                ["ADMM_Slim", "-p", "nn_constr=False"],
                "nn_constr must be true or false, got 'False'",
            ),
            (["ADMM_Slim", "-p", "rho=x"], "rho must be a number above 0 or 'auto', got 'x'"),
            (
                ["ADMM_Slim", "-p", "num_iter=0"],
                "num_iter must be a whole number of at least 1, got 0",
            ),
            (["ADMM_Slim", "-p", "solver=lbfgs"], "solver must be one of auto, admm, cd"),
            (["ADMM_Slim", "--epochs", "3"], "only for models with a network, not for ADMM_Slim"),
            (["EASE", "--device", "cpu", "--seed", "3"], "--seed: only for models with a network"),
            (["Popularity", "--device", "cpu"], "--device: only for models with a network"),
            (["CMultiVAE"], "CMultiVAE needs --conditions FILE"),
            (
                ["MultiVAE", "--conditions", "f"],
                "--conditions: only for CMultiVAE, not for MultiVAE",
            ),
            (
                ["CFGAN", "-p", "lam=1"],
                "discriminator_dims=[125], activation=tanh, output=sigmoid, alpha=0.1",
            ),
            (["CFGAN", "-p", "generator_dims=4"], "generator_dims must be a list such as [600]"),
            (["SVAE", "-p", "rnn_size=0"], "rnn_size must be a whole number of at least 1, got 0"),
            (["SVAE", "-p", "pred_type=all"], "pred_type must be one of"),
        ],
    )
    def test_usage(self, run, demo, tmp_path, arguments, message):
        model, *options = arguments
        result = run("train", model, demo / "split", "--out", tmp_path / "m", *options)
        assert result.code == 2
        text = " ".join(result.err.replace("│", " ").split())
        assert message in text
        assert list(tmp_path.iterdir()) == []

    def test_places(self, run, demo, tmp_path):
        out = tmp_path / "no" / "m"
        assert_error(run("train", "EASE", demo / "split", "--out", out), "no does not exist")
        # said before the data is read
        assert_error(run("train", "EASE", tmp_path / "x", "--out", out), "no does not exist")
        assert_error(run("train", "EASE", demo / "split", "--out", tmp_path), "it is a folder")
        assert_error(run("train", "EASE", tmp_path, "--out", tmp_path / "m"), "no prepared folder")
        assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("one_torch_thread")
class TestTrainNetworks:
    SMALL = ("-p", "latent_dim=6", "-p", "hidden_dims=[12]", "--batch-size", "64")

    @pytest.fixture
    def interrupt_in(self, monkeypatch):
        """interrupt_in(epoch): Ctrl-C when that epoch begins; None: never again."""
        from pyrec import models

        train_epoch, chosen = models.MultiVAE.train_epoch, []

        def interrupt(self, epoch, *arguments):
            if chosen[-1:] == [epoch]:
                signal.raise_signal(signal.SIGINT)
            return train_epoch(self, epoch, *arguments)

        monkeypatch.setattr(models.MultiVAE, "train_epoch", interrupt)
        return chosen.append

    @pytest.mark.parametrize(
        ("model", "options"),
        [
            ("SVAE", "embed_size=4 rnn_size=6 latent_dim=3 hidden_dims=[5] pred_type=next_k k=3"),
            ("CFGAN", "generator_dims=[8] discriminator_dims=[4] g_steps=2 d_batch_size=9"),
            ("CMultiVAE", "latent_dim=6 hidden_dims=[12] mask_likelihood=true"),
        ],
    )
    def test_models_with_layers_of_their_own(self, run, demo, tmp_path, model, options):
        out, films = tmp_path / "m", tmp_path / "films.csv"
        ids = Split.load(demo / "split").train.items
        genres = ["Comedy|War" if n % 3 else "Drama" for n in range(len(ids))]
        films.write_text("\n".join(["item_id,genres", *map("{},{}".format, ids, genres)]))
        command = ["train", model, demo / "split", "--out", out, "--epochs", 2, "--batch-size", 64]
        command += [part for option in options.split() for part in ("-p", option)]
        conditions = ["--conditions", films] if model == "CMultiVAE" else []
        assert run(*command, *conditions).code == 0
        trained = load_model(out)
        parameters = dict(option.split("=") for option in options.split())
        for name, value in parameters.items():
            assert str(getattr(trained, name, value)).lower() == value
        if model == "CFGAN":
            assert trained.gradient_updates == 2 * (int(parameters["g_steps"]) + 5)
        table = run("evaluate", out, demo / "split").out
        assert all(name in table for name in ("ndcg@100", "recall@20", " ± "))
        lists = tmp_path / "lists"
        assert run("recommend", out, demo / "split", "--out", lists, "--k", 5).code == 0
        data = read_interactions(demo / "ratings.parquet").filter(min_user=5)
        found = pq.read_table(lists)["items"].to_pylist()
        assert found == trained.item_ids[trained.recommend(data, 5).items].tolist()
        if model != "CMultiVAE":
            return
        for number, names in enumerate((["Drama"], ["War", "Drama"])):
            wanted = [part for name in names for part in ("--condition", name)]
            lists = tmp_path / f"lists {number}"
            command = ["recommend", out, demo / "split", "--out", lists, "--k", 5, *wanted]
            assert run(*command).code == 0
            found = pq.read_table(lists)["items"].to_pylist()
            best = trained.recommend(data, 5, condition=names)
            assert found == [trained.item_ids[row[row >= 0]].tolist() for row in best.items]
        only = set(ids[::3])
        assert all(
            set(row) <= only for row in pq.read_table(tmp_path / "lists 0")["items"].to_pylist()
        )
        command = [
            "recommend",
            out,
            demo / "split",
            "--out",
            tmp_path / "no",
            "--condition",
            "Dram",
        ]
        assert_error(run(*command), "'Dram'", "Drama")

    def test_the_model_is_the_library_s(self, run, demo, tmp_path):
        from pyrec.models import MultiVAE
        from pyrec.nets import MultiVAE_net

        parameters = ("-p", "dropout=0.3", "-p", "beta=0.2", "-p", "anneal_steps=9")
        options = ("--epochs", 3, "--seed", 4, "--metric", "recall@10", "--json")
        out = tmp_path / "m"
        result = run(
            "train", "MultiVAE", demo / "split", "--out", out, *self.SMALL, *parameters, *options
        )
        split = Split.load(demo / "split")
        expected = MultiVAE(MultiVAE_net([6, 12, split.train.n_items], dropout=0.3, seed=4), 0.2, 9)
        expected.train(
            split.train,
            (split.valid_tr, split.valid_te),
            "recall@10",
            num_epochs=3,
            batch_size=64,
            seed=4,
            verbose=0,
            best_path=tmp_path / "best",
        )
        for ours, theirs in zip(
            load_model(out).recommend(split.test_tr),
            expected.recommend(split.test_tr),
            strict=True,
        ):
            np.testing.assert_array_equal(ours, theirs)
        history = result.json["history"]
        assert history.keys() == {"loss", "seconds", "beta", "recall@10"}
        assert history["recall@10"] == expected.history["recall@10"]
        assert result.json["interrupted"] is False
        assert result.json["parameters"]["network"]["dec_dims"] == [6, 12, split.train.n_items]
        assert "training" not in result.json["parameters"]
        assert {path.name for path in tmp_path.iterdir()} == {"m", "best"}

    def test_standard_vae_is_fitted(self, run, demo, tmp_path):
        from pyrec.models import StandardVAE

        options = ("--epochs", 3, "--batch-size", 64, "--seed", 4, "--metric", "ndcg@7", "--json")
        parameters = ("-p", "intermediate_dim=12", "-p", "latent_dim=6", "-p", "annealing=true")
        out = tmp_path / "m"
        result = run("train", "standardvae", demo / "split", "--out", out, *parameters, *options)
        split = Split.load(demo / "split")
        expected = StandardVAE(
            split.train.n_users,
            split.train.n_items,
            *(12, 6, 3, 64, 7, 0),
            annealing=True,
            seed=4,
            save_path=tmp_path / "best",
        )
        whole = split.valid_tr.matrix + split.valid_te.matrix
        expected.fit(split.train, whole, split.valid_tr, split.valid_te)
        history = result.json["history"]
        for name in ("loss", "val_loss", "beta", "ndcg@7"):
            assert history[name] == expected.history[name]
        model = load_model(out)
        np.testing.assert_array_equal(
            model.recommend(split.test_tr).items, expected.recommend(split.test_tr).items
        )

    @pytest.mark.parametrize("name", ["MultiDAE", "VAE"])
    def test_the_best_epoch_is_drawn_and_kept(self, run, demo, tmp_path, name):
        out, plot = tmp_path / "m", tmp_path / "p.png"
        arguments = ("--epochs", 4, "--precision", "bf16", "--plot", plot)
        result = run("train", name, demo / "split", "--out", out, *self.SMALL, *arguments)
        assert result.code == 0
        assert f"{name}: " in result.out
        assert "4 epochs" in result.out
        model = load_model(out)
        ndcg = model.history["ndcg@100"]
        assert len(ndcg) == 4
        assert f"ndcg@100: best {max(ndcg):.4g} in epoch {1 + np.argmax(ndcg)}" in result.out
        assert "loss: best" in result.out
        split = Split.load(demo / "split")
        kept = summarize(evaluate(model, (split.valid_tr, split.valid_te), ["ndcg@100"]))
        assert kept["ndcg@100"].mean == pytest.approx(max(ndcg), abs=1e-4)
        assert [line.split(":")[0] for line in result.err.splitlines()] == [
            f"epoch {epoch}/4" for epoch in range(1, 5)
        ]
        assert plot.read_bytes().startswith(b"\x89PNG")
        assert sorted(path.name for path in tmp_path.iterdir()) == ["m", "p.png"]

    def test_patience(self, run, demo, tmp_path, monkeypatch):
        from pyrec import training

        values = iter([0.5, 0.6, 0.4, 0.6, 0.9])
        monkeypatch.setattr(training.Validation, "measure", lambda self, model: next(values))
        out = tmp_path / "m"
        options = ("--epochs", 9, "--patience", 2, "--json", "-q")
        result = run("train", "MultiVAE", demo / "split", "--out", out, *self.SMALL, *options)
        assert result.json["history"]["ndcg@100"] == [0.5, 0.6, 0.4, 0.6]
        assert result.err == ""

    def test_without_a_valid_part(self, run, demo, tmp_path):
        ratings, out = demo / "ratings.parquet", tmp_path / "m"
        result = run("train", "MultiVAE", ratings, "--out", out, *self.SMALL, "--epochs", 2, "-q")
        assert result.code == 0
        assert "ndcg" not in result.out
        for option in (("--metric", "ndcg@5"), ("--patience", 3)):
            result = run("train", "MultiVAE", ratings, "--out", tmp_path / "x", *option)
            assert_error(result, "--metric and --patience need a valid part", "pyrec prepare")
        assert [path.name for path in tmp_path.iterdir()] == ["m"]

    def test_interrupted_and_resumed(self, run, demo, tmp_path, interrupt_in):
        interrupt_in(3)
        split = demo / "split"
        options = (*self.SMALL, "-p", "anneal_steps=10", "--epochs", 5, "-q")
        out, whole = tmp_path / "m", tmp_path / "whole"
        checkpoint = tmp_path / "m.checkpoint"
        result = run("train", "MultiVAE", split, "--out", out, *options)
        assert result.code == 130
        assert result.err == f"interrupted: {out} holds the model so far, --resume goes on\n"
        assert f"written to {out}" in result.out
        assert len(load_model(out).history["loss"]) == 2
        assert checkpoint.exists()
        interrupt_in(None)
        result = run("train", "MultiVAE", split, "--out", out, *options, "--resume")
        assert result.code == 0
        assert result.out.startswith(f"continuing from {checkpoint}\n")
        assert not checkpoint.exists()
        result = run("train", "MultiVAE", split, "--out", whole, *options, "--resume")
        assert result.out.startswith(f"there is no {whole}.checkpoint: training from the beginning")
        test = Split.load(split).test_tr
        resumed, undisturbed = load_model(out), load_model(whole)
        for ours, theirs in zip(resumed.recommend(test), undisturbed.recommend(test), strict=True):
            np.testing.assert_array_equal(ours, theirs)
        for name in ("loss", "beta", "ndcg@100"):
            assert resumed.history[name] == undisturbed.history[name]

    def test_interrupted_in_the_first_epoch(self, run, demo, tmp_path, interrupt_in):
        interrupt_in(1)
        options = (*self.SMALL, "--epochs", 5, "-q", "--json", "--resume")
        result = run("train", "MultiVAE", demo / "split", "--out", tmp_path / "m", *options)
        assert result.code == 130
        assert result.err == f"interrupted: {tmp_path}/m holds the model so far\n"
        found = json.loads(result.out)
        assert (found["interrupted"], found["history"]) == (True, {})
        assert load_model(tmp_path / "m").epoch == 0

    def test_a_checkpoint_of_other_parameters(self, run, demo, tmp_path):
        out, checkpoint = tmp_path / "m", tmp_path / "m.checkpoint"
        train = ("train", "MultiVAE", demo / "split", "--out")
        run(*train, checkpoint, *self.SMALL, "--epochs", 2, "-p", "beta=0.2")
        resumed = (*train, out, *self.SMALL, "--resume", "-q")
        for option, message in (
            (("-p", "beta=0.5"), "is of a training with beta=0.2"),
            (("--epochs", 1), "has 2 epochs already"),
            (("--seed", 7), "its seed is 0, this one's 7"),
        ):
            result = run(*resumed, *option)
            assert result.code == 1
            assert message in result.err
        assert checkpoint.exists()
        result = run(*train, out, *self.SMALL, "--epochs", 1, "-q")
        assert f"overwriting {checkpoint} of an interrupted training" in result.out

    def test_a_checkpoint_of_another_network(self, run, demo, tmp_path):
        out, checkpoint = tmp_path / "m", tmp_path / "m.checkpoint"
        run("train", "MultiVAE", demo / "split", "--out", checkpoint, *self.SMALL, "--epochs", 1)
        before = checkpoint.read_bytes()
        result = run("train", "MultiVAE", demo / "split", "--out", out, "--resume", "-q", "--json")
        assert_error(result, "m.checkpoint", "network")
        assert checkpoint.read_bytes() == before

    def test_errors(self, run, demo, tmp_path, monkeypatch):
        split, out = demo / "split", tmp_path / "m"
        result = run("train", "VAE", split, "--out", out, *self.SMALL, "--device", "abacus")
        assert_error(result, "device must be one that is there, got 'abacus'")
        place = ("--plot", tmp_path / "no" / "p.png")
        assert_error(run("train", "VAE", split, "--out", out, *place), "no does not exist")
        result = run("train", "VAE", split, "--out", out, "--plot", split / "users.parquet")
        assert_error(result, "--plot must not be a file of the data")
        result = run("train", "VAE", split, "--out", out, "--plot", out)
        assert_error(result, "--plot and --out must be two files")
        rate = ("-p", "learning_rate=1e30", "--epochs", 3, "-q")
        result = run("train", "MultiVAE", split, "--out", out, *self.SMALL, *rate)
        assert_error(result, "in epoch")
        monkeypatch.setitem(sys.modules, "matplotlib", None)
        result = run("train", "VAE", split, "--out", out, "--plot", tmp_path / "p.png")
        assert result.code == 2
        assert "pyrec[plot]" in result.err


class TestEvaluate:
    def test_json_has_the_library_s_numbers(self, run, demo):
        files = [demo / "pop.safetensors", demo / "ease.safetensors"]
        found = run("evaluate", *files, demo / "split", "--metrics", "ndcg@10, hit@1", "--json")
        split = Split.load(demo / "split")
        for row, file in zip(found.json["models"], files, strict=True):
            pair = (split.test_tr, split.test_te)
            expected = summarize(evaluate(load_model(file), pair, ["ndcg@10", "hit@1"]))
            assert row["file"] == str(file)
            assert row["metrics"] == {n: s._asdict() for n, s in expected.items()}
        assert found.json["users"] == split.test_te.n_users

    def test_a_row_a_model(self, run, demo):
        files = (demo / "pop.safetensors", demo / "ease.safetensors")
        result = run("evaluate", *files, demo / "split")
        assert result.code == 0
        lines = [line.split() for line in result.out.splitlines() if line.strip()]
        assert lines[0] == ["model", "ndcg@100", "recall@20", "recall@50", "users"]
        assert [line[0] for line in lines[2:]] == ["Popularity", "EASE(lam=20.0)"]
        assert all(line[-1] == "30" for line in lines[2:])

    def test_items_that_the_model_lacks(self, run, demo, tmp_path):
        table = pq.read_table(demo / "ratings.parquet")
        known = table.filter(pa.compute.less(table["item_id"], 60))
        pq.write_table(known, tmp_path / "known.parquet")
        run("train", "Popularity", tmp_path / "known.parquet", "--out", tmp_path / "m")
        result = run("evaluate", tmp_path / "m", demo / "split")
        assert "held-out interactions left out" in result.out
        result = run("evaluate", tmp_path / "m", demo / "split", "--json")
        assert result.json["models"][0]["unknown_heldout"] > 0

    def test_errors(self, run, demo):
        ease, ratings = demo / "ease.safetensors", demo / "ratings.parquet"
        assert_error(run("evaluate", ease, demo), "holds no split")
        assert_error(run("evaluate", "two\nlines", demo / "split"), "two lines does not exist")
        assert_error(run("evaluate", ratings, demo / "split"), "is not a pyrec file")
        result = run("evaluate", ease, demo / "split", "--metrics", "auc@3")
        assert_error(result, "'auc@3'", "full_recall")
        assert_error(run("evaluate", ease, demo / "split", "--metrics", ","), "empty list")


class TestRecommend:
    @pytest.mark.parametrize("source", ["split", "split/users.parquet", "ratings.parquet"])
    def test_every_form_of_users_gives_the_same_lists(self, run, demo, tmp_path, source):
        out = tmp_path / "lists"
        report = run(
            "recommend", demo / "ease.safetensors", demo / source, "--out", out, "--k", 7, "--json"
        ).json
        assert report["files"] == [str(out / "part-00000.parquet")]
        model = load_model(demo / "ease.safetensors")
        data = read_interactions(demo / "ratings.parquet")
        if source != "ratings.parquet":
            data = data.filter(min_user=5)
        best = model.recommend(data, 7)
        table = pq.read_table(out)
        assert table["user_id"].to_pylist() == data.users.tolist()
        assert table["items"].to_pylist() == model.item_ids[best.items].tolist()

    def test_a_folder_with_one_row_an_interaction(self, run, demo, tmp_path):
        ratings = pq.read_table(demo / "ratings.parquet")
        (tmp_path / "log").mkdir()
        pq.write_table(ratings[:2000], tmp_path / "log" / "a.parquet")
        pq.write_table(ratings[2000:], tmp_path / "log" / "b.parquet")
        for source, out in ((tmp_path / "log", "one"), (demo / "ratings.parquet", "two")):
            ease = demo / "ease.safetensors"
            assert run("recommend", ease, source, "--out", tmp_path / out).code == 0
        found, expected = (pq.read_table(tmp_path / out) for out in ("one", "two"))
        assert found.equals(expected)

    def test_columns_that_are_not_found(self, run, demo, tmp_path):
        lists = [[1]]
        pq.write_table(pa.table({"user": [1], "a": lists, "b": lists}), tmp_path / "u.parquet")
        command = "recommend", demo / "pop.safetensors", tmp_path, "--out", tmp_path / "out"
        assert_error(run(*command), "2 columns look like the list", "items= (--items-column)")
        options = "--items-column", "b", "--user-column", "user"
        assert run(*command, *options).code == 0

    def test_shards_and_lists_of_each_user(self, run, demo, tmp_path):
        items = load_model(demo / "ease.safetensors").item_ids
        (tmp_path / "users").mkdir()
        for part, allowed in enumerate((items[:3], items[3:6])):
            table = {"user": [part], "seen": [[items[9]]], "may": [allowed], "not": [items[1:4]]}
            pq.write_table(pa.table(table), tmp_path / "users" / f"{part}.parquet")
        out = tmp_path / "out"
        options = "--allow-column", "may", "--deny-column", "not", "--memory", "1GB"
        command = "recommend", demo / "ease.safetensors", tmp_path / "users", "--out", out, *options
        one = run(*command, "--shard", "2/2", "--json").json
        assert (one["written"], one["missing"]) == (1, [f"{out}/part-00000.parquet"])
        result = run(*command)
        assert "; 1 files written, 1 finished before" in result.out
        assert f"written to {out}/part-00000.parquet and 1 more\n" in result.out
        found = [set(row) for row in pq.read_table(out)["items"].to_pylist()]
        assert found == [{items[0]}, {items[4], items[5]}]
        assert_error(run(*command, "--k", "3"), "holds another run: k is 80 there, 3 here")
        assert_error(run(*command, "--shard", "3/2"), "shard must be i/n")
        assert_error(run(*command, "--address", "auto"), "go with engine='ray'")

    def test_long_layout(self, run, demo, tmp_path):
        out = tmp_path / "lists"
        ease = demo / "ease.safetensors"
        result = run("recommend", ease, demo / "split", "--out", out, "--layout", "long")
        assert result.code == 0
        assert f"written to {out}/part-00000.parquet\n" in result.out
        assert result.err == ""
        assert pq.read_schema(out / "part-00000.parquet").names[-1] == "rank"

    def test_errors(self, run, demo, tmp_path):
        ease, out = demo / "ease.safetensors", tmp_path / "lists"
        assert_error(run("recommend", ease, tmp_path / "none", "--out", out), "does not exist")
        assert_error(run("recommend", tmp_path / "no", demo / "split", "--out", out), "not exist")
        assert_error(run("recommend", ease, demo / "split", "--out", demo), "already holds")
        assert_error(run("recommend", ease, demo / "split", "--out", out, "--k", 0), "k must be")
        table = pa.table({"user_id": [1], "items": [["a"]]})
        pq.write_table(table, tmp_path / "u.parquet")
        result = run("recommend", ease, tmp_path / "u.parquet", "--out", out)
        assert_error(result, "items must hold ids of the model's type, int64, got string")
        assert [p.name for p in tmp_path.iterdir()] == ["u.parquet"]


class TestCommand:
    def test_help_teaches(self, run):
        result = run("--help")
        assert result.code == 0
        assert "pyrec prepare demo/ratings.parquet --out demo/split" in result.out
        for command in ("simulate", "prepare", "train", "evaluate", "recommend"):
            assert command in result.out
            text = run(command, "--help").out
            assert f"pyrec {command} " in text.split("Example")[1]

    def test_usage_errors(self, run):
        assert run("train").code == 2
        assert run("nonsense").code == 2

    @pytest.mark.parametrize(
        "error",
        [
            pa.ArrowKeyError("no key"),
            pa.ArrowCapacityError("too many bytes"),
            pa.ArrowNotImplementedError("no such type"),
            polars.exceptions.ComputeError("bad cell"),
            MemoryError("too large"),
            torch.OutOfMemoryError("the GPU is full"),
        ],
        ids=lambda error: type(error).__name__,
    )
    def test_errors_of_data_have_no_traceback(self, run, tmp_path, monkeypatch, error):
        def fail(*arguments, **options):
            raise error

        monkeypatch.setattr(datasets, "simulate", fail)
        assert_error(run("simulate", "--out", tmp_path / "x"), error.args[0])

    def test_ids_of_a_wrong_type(self, run, demo, tmp_path):
        table = pa.table({"user": [1.5, 2.0], "item": [1, 2]})
        pq.write_table(table, tmp_path / "r.parquet")
        out, ease = tmp_path / "out", demo / "ease.safetensors"
        for command in (
            ("prepare", tmp_path / "r.parquet"),
            ("train", "EASE", tmp_path / "r.parquet"),
            ("recommend", ease, tmp_path / "r.parquet"),
        ):
            assert_error(run(*command, "--out", out), "ids must be integers or text")

    @pytest.mark.parametrize("error", [TypeError, RuntimeError, KeyError, AttributeError])
    def test_mistakes_in_the_program_keep_their_traceback(self, tmp_path, monkeypatch, error):
        def fail(*arguments, **options):
            raise error("wrong")

        monkeypatch.setattr(datasets, "simulate", fail)
        with pytest.raises(error, match="wrong"):
            cli.main(["simulate", "--out", str(tmp_path / "x")])

    @pytest.mark.parametrize(
        ("target", "command"),
        [
            ("pyrec.data.datasets.simulate", "simulate --out {out}"),
            ("pyrec.data.parquet.write_users", "prepare {demo}/ratings.parquet --out {out}"),
            ("pyrec.files._fsync", "train EASE {demo}/split --out {out}"),
            (
                "pyrec.models.EASE.recommend",
                "recommend {demo}/ease.safetensors {demo}/split --out {out}",
            ),
        ],
    )
    def test_an_interrupt(self, run, demo, tmp_path, monkeypatch, target, command):
        def interrupt(*arguments, **options):
            signal.raise_signal(signal.SIGINT)

        monkeypatch.setattr(target, interrupt)
        result = run(*command.format(out=tmp_path / "out", demo=demo).split())
        assert (result.code, result.out, result.err) == (130, "", "interrupted\n")
        # what a run of recommendations began with stays: the same command goes on
        kept = {"out", "_manifest.json"} if command.startswith("recommend") else set()
        assert {path.name for path in tmp_path.rglob("*")} == kept

    def test_terminated(self, demo, tmp_path):
        """kill, docker stop: temporary files go as after Ctrl-C."""
        code = (
            "import os, signal; from pyrec import cli, models;"
            "models.EASE.recommend = lambda *a, **o: os.kill(os.getpid(), signal.SIGTERM);"
            "cli.main()"
        )
        arguments = [
            "recommend",
            demo / "ease.safetensors",
            demo / "split",
            "--out",
            tmp_path / "out",
        ]
        done = subprocess.run([sys.executable, "-c", code, *arguments], check=False)
        assert done.returncode == 143
        assert {path.name for path in tmp_path.rglob("*")} == {"out", "_manifest.json"}

    def test_a_model_is_never_written_over_its_data(self, run, demo, tmp_path):
        ratings = tmp_path / "ratings.parquet"
        ratings.write_bytes((demo / "ratings.parquet").read_bytes())
        before = ratings.read_bytes()
        for data, out in ((ratings, ratings), (demo / "split", demo / "split" / "users.parquet")):
            result = run("train", "EASE", data, "--out", out)
            assert (result.code, result.err) == (
                1,
                f"error: --out must not be a file of the data, got {out}\n",
            )
        assert ratings.read_bytes() == before

    def test_a_folder_that_is_not_prepared(self, run, demo, tmp_path):
        result = run("train", "EASE", demo, "--out", tmp_path / "m")
        assert (result.code, result.err) == (
            1,
            f"error: {demo} is no prepared folder: make one with pyrec prepare RATINGS --out FOLDER\n",
        )

    def test_a_full_disk(self, demo, tmp_path):
        limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096));"
        code = f"import signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); {limit} from pyrec import cli; cli.main()"
        command = [
            sys.executable,
            "-c",
            code,
            "train",
            "EASE",
            demo / "split",
            "--out",
            tmp_path / "m",
        ]
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        assert done.returncode == 1
        assert done.stderr.startswith(f"error: cannot write {tmp_path}/m: ")
        assert done.stderr.count("\n") == 1
        assert list(tmp_path.iterdir()) == []

    def test_version(self, run):
        import pyrec

        assert run("--version").out == f"pyrec {pyrec.__version__}\n"

    def test_as_a_process(self, demo, tmp_path):
        code = "import sys; from pyrec.cli import main; main()"
        command = [sys.executable, "-c", code, "evaluate", tmp_path / "none", demo / "split"]
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        assert done.returncode == 1
        assert done.stderr == f"error: {tmp_path}/none does not exist\n"

    def test_torch_is_not_imported(self):
        code = (
            "import sys; from pyrec import cli, scoring, serialization; "
            "assert not {'torch', 'polars', 'pandas'} & set(sys.modules)"
        )
        subprocess.run([sys.executable, "-c", code], check=True)

    def test_interactions_load_from_the_prepared_folder(self, demo):
        assert Interactions.load(demo / "split" / "train").n_users == 240
