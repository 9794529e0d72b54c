"""The training loop: randomness, resuming, interrupts, validation, and what it refuses."""

import math
import os
import signal
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from pyrec import nets
from pyrec.callbacks import (
    AnnealingCallback,
    Callback,
    Checkpoint,
    EarlyStopping,
    LossHistory,
    Metrics,
)
from pyrec.data import Histories, Interactions
from pyrec.evaluation import ValidFunc, evaluate, one_plus_random
from pyrec.models import VAE, AETrainer, MultiDAE, MultiVAE
from pyrec.samplers import DataSampler
from pyrec.serialization import read_tensors

pytestmark = pytest.mark.usefixtures("one_torch_thread")

USERS, ITEMS = 50, 20
QUIET = {"verbose": 0, "batch_size": 15}


def draw_matrix(seed=0):
    return sp.csr_array((np.random.default_rng(seed).random((USERS, ITEMS)) < 0.3).astype("f4"))


X = draw_matrix()
VALID = draw_matrix(1), draw_matrix(2)


def make(**options):
    return MultiVAE(nets.MultiVAE_net([4, 6, ITEMS]), 0.3, 12, 0.01, **options)


def arrays(model):
    """Weights and moments of Adam; copies."""
    return {name: np.array(value) for name, value in model.state()[1].items()}


def assert_same_bits(ours, theirs):
    assert ours.keys() == theirs.keys()
    for name, array in ours.items():
        np.testing.assert_array_equal(array, theirs[name], err_msg=name)


class At(Callback):
    """Does something once, after a batch of an epoch or after an epoch."""

    def __init__(self, action, epoch, batch=None):
        self.action, self.when = action, (epoch, batch)

    def on_epoch_begin(self, epoch, logs):
        self.epoch = epoch

    def on_batch_end(self, batch, logs):
        if (self.epoch, batch) == self.when:
            self.action()

    def on_epoch_end(self, epoch, logs):
        if (epoch, None) == self.when:
            self.action()


class TestRandomness:
    def test_a_seed_decides_everything(self):
        models = [make(), make(), make()]
        for model, seed in zip(models, (3, 3, 4), strict=True):
            torch.manual_seed(seed * len(models))  # of no account
            model.train(X, num_epochs=2, seed=seed, **QUIET)
        assert_same_bits(arrays(models[0]), arrays(models[1]))
        assert not np.array_equal(models[0].scores(X), models[2].scores(X))

    def test_five_and_five_epochs_are_ten(self):
        halves, whole = make(), make()
        for _ in range(2):
            halves.train(X, num_epochs=5, **QUIET)
        whole.train(X, num_epochs=10, **QUIET)
        assert_same_bits(arrays(halves), arrays(whole))
        assert halves.history["loss"] == whole.history["loss"]
        assert (halves.epoch, halves.gradient_updates) == (10, 40)

    def test_the_global_generator_is_left_alone(self):
        before = torch.get_rng_state()
        make().train(X, num_epochs=1, **QUIET)
        assert torch.equal(torch.get_rng_state(), before)

    def test_every_epoch_has_an_order_of_its_own(self):
        sampler = DataSampler(X, batch_size=USERS)
        orders = []

        class Watching(AETrainer):
            def train_batch(self, tr_batch, te_batch=None):
                orders.append(tr_batch.numpy().copy())
                return super().train_batch(tr_batch, te_batch)

        for _ in range(2):
            Watching(nets.MultiDAE_net([4, ITEMS])).train(sampler, num_epochs=2, verbose=0)
        assert not np.array_equal(orders[0], orders[1])
        np.testing.assert_array_equal(orders[:2], orders[2:])


class TestResume:
    def test_after_kill_9_with_the_same_bits(self, tmp_path):
        """The process dies in the middle of epoch 4; best model, schedule and histories go on."""
        program = f"""
            import os, signal, sys
            sys.path.insert(0, {os.path.dirname(__file__)!r})
            import torch
            torch.set_num_threads(1)
            from test_training import At, everything
            everything({str(tmp_path)!r}, At(lambda: os.kill(os.getpid(), signal.SIGKILL), 4, 1))
        """
        run = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(program)], capture_output=True, check=False
        )
        assert run.returncode == -signal.SIGKILL, run.stderr.decode()
        resumed, ours = everything(tmp_path, resume=tmp_path / "checkpoint")
        whole, theirs = everything(tmp_path)
        assert_same_bits(arrays(resumed), arrays(whole))
        for name in ("loss", "beta", "ndcg@5"):
            assert resumed.history[name] == whole.history[name]
        assert [c.state() for c in ours] == [c.state() for c in theirs]
        assert len(ours[0].losses) == resumed.epoch == 6

    def test_a_shuffled_validation_has_one_order(self):
        """Or the last bits of its mean would depend on how often training began."""
        orders = []

        def noted(model, test_loader, metric_list):
            orders.append([tr.numpy().tobytes() for tr, _ in test_loader])
            return {metric_list[0]: np.ones(1)}

        model, sampler = make(), DataSampler(*VALID, batch_size=15)
        for epochs in (2, 1):
            model.train(X, sampler, "ndcg@5", ValidFunc(noted), epochs, None, **QUIET)
        assert orders[0] == orders[1] == orders[2]

    def test_what_metrics_writes_has_the_states_of_all(self, tmp_path):
        path = tmp_path / "best"
        model = make()
        metrics = Metrics(model, *VALID, None, 5, path)
        model.train(X, num_epochs=4, callbacks=[metrics, LossHistory()], **QUIET)
        best = 1 + int(np.argmax(metrics.get_data()))
        state = make().load_model(path)
        assert state["epoch"] == best
        states = dict(state["callbacks"])
        assert len(states["LossHistory"]["losses"]) == len(states["Metrics"]["ndcg"]) == best

    def test_after_the_last_epoch_nothing_is_trained(self, tmp_path):
        model = make()
        model.train(X, num_epochs=3, callbacks=[Checkpoint(tmp_path / "c")], **QUIET)
        other = make()
        other.train(X, num_epochs=3, resume=tmp_path / "c", **QUIET)
        assert other.epoch == 3
        assert_same_bits(arrays(other), arrays(model))

    def test_where_early_stopping_ended_nothing_is_trained(self, tmp_path):
        def callbacks():
            return [Checkpoint(tmp_path / "c"), EarlyStopping("loss", 1, "max")]

        for resume in (None, tmp_path / "c"):
            model = AETrainer(nets.MultiDAE_net([4, ITEMS], dropout=0.0))
            model.train(X, num_epochs=9, callbacks=callbacks(), resume=resume, **QUIET)
            assert model.epoch == 2  # the loss falls, and is asked to rise

    def test_on_other_arguments_what_the_file_says_counts(self, tmp_path):
        model = make(weight_decay=0.1)
        model.train(X, num_epochs=1, precision="bf16", **QUIET)
        model.optimizer.param_groups[0]["lr"] = 0.005
        model.save_model(tmp_path / "m")
        other = MultiVAE(nets.MultiVAE_net([4, 6, ITEMS]))
        other.train(X, num_epochs=1, resume=tmp_path / "m", **QUIET)
        assert (other.beta, other.anneal_steps, other.annealing) == (0.3, 12, True)
        assert (other.weight_decay, other.learning_rate, other.precision) == (0.1, 0.01, "bf16")
        assert other.optimizer.param_groups[0]["lr"] == 0.005
        assert other.optimizer.param_groups[0]["weight_decay"] == 0.1

    def test_a_file_that_does_not_fit_changes_nothing(self, tmp_path):
        items = np.arange(ITEMS)
        data = Interactions(X, np.arange(USERS), items)
        others = {
            "other class": MultiDAE(nets.MultiDAE_net([4, 6, ITEMS])),
            "other network": MultiVAE(nets.MultiVAE_net([5, 6, ITEMS])),
            "other items": make(),
            "other data": make(),
            "other seed": make(),
        }
        for name, other in others.items():
            ids = items + 1 if name == "other items" else items
            x = X[:-1] if name == "other data" else X
            seed = int(name == "other seed")
            theirs = Interactions(x, np.arange(x.shape[0]), ids)
            other.train(theirs, num_epochs=1, seed=seed, **QUIET)
            other.save_model(tmp_path / name)
        (tmp_path / "foreign").write_text("not a model")
        whole = (tmp_path / "other items").read_bytes()
        (tmp_path / "truncated").write_bytes(whole[: len(whole) // 2])
        messages = {
            "other class": "holds a MultiDAE, not a MultiVAE",
            "other network": "its network is .*5.* this one is .*4",
            "other items": "is of another training: its items are other ones",
            "other data": "is of another training: its interactions are other ones",
            "other seed": "is of another training: its seed is 1, this one's 0",
            "foreign": "is not a pyrec file",
            "truncated": "is truncated",
            "missing": "does not exist",
        }
        model = make()
        before = arrays(model)
        for name, message in messages.items():
            with pytest.raises((ValueError, FileNotFoundError), match=message):
                model.train(data, num_epochs=2, resume=tmp_path / name, **QUIET)
            assert_same_bits(arrays(model), before)
            assert (model.n_items, model.epoch) == (None, 0)

    def test_a_best_model_of_before_stays_the_best(self, tmp_path):
        place = {"best_path": tmp_path / "best", **QUIET}
        keep = [Checkpoint(tmp_path / "c")]
        make().train(X, VALID, "up", ValidFunc(falling()), 2, callbacks=keep, **place)
        best = (tmp_path / "best").read_bytes()
        model, lower = make(), ValidFunc(falling([2.5, 1.0]))
        model.train(X, VALID, "up", lower, 4, resume=tmp_path / "c", **place)
        assert (tmp_path / "best").read_bytes() == best
        assert model.history["up"] == [3.0, 2.0, 2.5, 1.0]
        assert (
            MultiVAE(nets.MultiVAE_net([4, 6, ITEMS])).load_model(tmp_path / "best")["epoch"] == 1
        )

    def test_a_best_model_that_is_gone_is_named(self, tmp_path):
        options = {"best_path": tmp_path / "best", **QUIET}
        make().train(
            X, VALID, "ndcg@5", num_epochs=1, callbacks=[Checkpoint(tmp_path / "c")], **options
        )
        (tmp_path / "best").unlink()
        with pytest.raises(
            FileNotFoundError, match=r"the best model so far, .*best, does not exist"
        ):
            make().train(X, VALID, "ndcg@5", num_epochs=2, resume=tmp_path / "c", **options)


def everything(folder, *more, resume=None):
    """A training of six epochs with all that has a state; returns the model and the callbacks."""
    model = Weighted(nets.VAE_net([4, 6, ITEMS]), 0.01)
    callbacks = [
        LossHistory(),
        AnnealingCallback(0.0, 0.4, 40),
        EarlyStopping("ndcg@5", patience=20),
        Checkpoint(f"{folder}/checkpoint"),
    ]
    model.train(
        X,
        VALID,
        "ndcg@5",
        num_epochs=6,
        best_path=f"{folder}/best",
        callbacks=[*callbacks, *more],
        resume=resume,
        **QUIET,
    )
    return model, callbacks


class Operators(AETrainer):
    """A loss of the user's own, written with operators."""

    def loss_function(self, prediction, ground_truth):
        return ((prediction - ground_truth) ** 2).sum(1).mean()


class Weighted(VAE):
    """A VAE with a weight that a callback changes, and noise in training."""

    beta = 1.0

    def loss_function(self, recon_x, x, mu, logvar, beta=1.0):
        return super().loss_function(recon_x, x, mu, logvar) * beta

    def loss_weights(self):
        return {"beta": self.beta}


class TestInterrupt:
    def test_the_model_stays_usable_and_callbacks_end(self, caplog):
        model, history = make(), LossHistory()
        ended = []
        history.on_train_end = ended.append
        interrupt = At(lambda: signal.raise_signal(signal.SIGINT), 3, 1)
        model.train(X, num_epochs=9, callbacks=[history, interrupt], **QUIET)
        assert model.interrupted
        assert "interrupted after 2 whole epochs" in caplog.text
        assert len(model.history["loss"]) == model.epoch == len(history.losses) == 2
        assert ended[0]["loss"] == history.losses[-1]
        assert not model.network.training
        assert (model.recommend(X, 3).items >= 0).all()
        model.train(X, num_epochs=1, **QUIET)
        assert not model.interrupted

    def test_the_best_model_is_restored(self, tmp_path):
        model = make()
        interrupt = At(lambda: signal.raise_signal(signal.SIGINT), 4, 0)
        worse = ValidFunc(falling())
        best = tmp_path / "best"
        model.train(X, VALID, "up", worse, 9, best_path=best, callbacks=[interrupt], **QUIET)
        expected, header = read_tensors(best, "pyrec-model")
        assert header["parameters"]["training"]["epoch"] == 1
        for name, array in arrays(model).items():
            np.testing.assert_array_equal(array.ravel(), expected[name].ravel())
        assert model.epoch == 3

    def test_an_error_of_a_callback_is_not_hidden(self):
        def fail():
            raise OSError("disk full")

        model, history = make(), LossHistory()
        ended = []
        history.on_train_end = ended.append
        with pytest.raises(OSError, match="disk full"):
            model.train(X, num_epochs=3, callbacks=[history, At(fail, 2)], **QUIET)
        assert len(ended) == 1
        assert model.running == ()
        assert not model.network.training


def falling(values=(3.0, 2.0, 1.0, 0.0)):
    """A validation function that gives these values one after the other, a value for two users."""
    left = list(values)

    def func(model, test_loader, metric_list):
        value = left.pop(0)
        return {metric: np.array([value, math.nan]) for metric in metric_list}

    return func


class TestValidation:
    def test_the_best_epoch_is_kept_and_restored(self, tmp_path):
        model, snapshots = make(), []
        values = [math.nan, 1.0, 3.0, 2.0, math.nan]

        class Snapshot(Callback):
            def on_epoch_end(self, epoch, logs):
                snapshots.append(arrays(self.model))

        model.train(
            X,
            VALID,
            "up",
            ValidFunc(falling(values)),
            5,
            best_path=tmp_path / "best",
            callbacks=[Snapshot()],
            **QUIET,
        )
        assert_same_bits(arrays(model), snapshots[2])
        np.testing.assert_array_equal(model.history["up"], values)
        assert (model.epoch, model.gradient_updates) == (5, 20)

    def test_the_metric_is_what_evaluate_gives(self):
        model = make()
        for data in (VALID, DataSampler(*VALID, batch_size=7), [VALID]):
            model.train(X, data, "recall@4", num_epochs=1, best_path=None, **QUIET)
            expected = np.nanmean(evaluate(model, VALID, ["recall@4"])["recall@4"])
            assert model.history["recall@4"][-1] == pytest.approx(expected, rel=1e-9)
        plus = ValidFunc(one_plus_random, r=5)
        model.train(X, VALID, "hit@1", plus, 1, best_path=None, **QUIET)
        assert 0 < model.history["hit@1"][-1] < 1

    def test_history_has_a_value_an_epoch(self):
        model = make()
        model.train(X, num_epochs=2, **QUIET)
        model.train(X, VALID, "ndcg@5", num_epochs=1, best_path=None, **QUIET)
        history = model.history
        assert set(history) == {"loss", "seconds", "beta", "ndcg@5"}
        assert all(len(values) == 3 for values in history.values())
        assert np.isnan(history["ndcg@5"]).tolist() == [True, True, False]
        assert history["beta"] == pytest.approx([0.3 * 4 / 12, 0.3 * 8 / 12, 0.3])
        assert min(history["seconds"]) > 0


class TestData:
    def test_empty_rows_are_left_out(self):
        x = sp.vstack([X, sp.csr_array((40, ITEMS), dtype=np.float32)], format="csr")
        model, other = make(), make()
        model.train(x, num_epochs=2, **QUIET)
        other.train(X, num_epochs=2, **QUIET)
        assert_same_bits(arrays(model), arrays(other))

    def test_histories_and_one_large_batch(self):
        lists = Histories.from_lists([row.nonzero()[0] for row in X.toarray()], ITEMS)
        model, other = make(), make()
        model.train(lists, num_epochs=2, verbose=0, batch_size=10**6)
        other.train(X, num_epochs=2, verbose=0, batch_size=USERS)
        assert_same_bits(arrays(model), arrays(other))

    def test_the_second_batch_is_the_target(self):
        tr, te = X[:10], draw_matrix(5)[:10]
        model = AETrainer(nets.MultiDAE_net([4, ITEMS], dropout=0.0))
        model.train([(tr, te)], num_epochs=1, verbose=0)
        fresh = AETrainer(nets.MultiDAE_net([4, ITEMS], dropout=0.0))
        expected = ((fresh.scores(tr) - te.toarray()) ** 2).mean()
        assert model.history["loss"][0] == pytest.approx(expected, rel=1e-5)

    def test_batches_in_tuples_of_one(self):
        """As torch's DataLoader gives the rows of a TensorDataset."""
        dense = torch.from_numpy(X.toarray())
        ours, theirs = make(), make()
        ours.train([(dense[:30],), (dense[30:],)], num_epochs=2, verbose=0)
        theirs.train([dense[:30], dense[30:]], num_epochs=2, verbose=0)
        assert_same_bits(arrays(ours), arrays(theirs))
        with pytest.raises(ValueError, match="inputs and targets, got 3 parts"):
            make().train_epoch(1, [(dense, dense, dense)], verbose=0)

    def test_the_mean_loss_is_over_rows(self):
        batches = [X[:30], X[30:32]]
        model = AETrainer(nets.MultiDAE_net([4, ITEMS], dropout=0.0), 1e-12)
        expected = ((model.scores(X[:32]) - X[:32].toarray()) ** 2).mean()
        assert model.train_epoch(1, batches, verbose=0) == pytest.approx(expected, rel=1e-5)

    def test_no_epoch_takes_the_catalogue(self, tmp_path):
        model = make()
        ids = np.array([f"i{i}" for i in range(ITEMS)], dtype=object)
        model.train(Interactions(X, np.arange(USERS), ids), num_epochs=0, verbose=0)
        assert model.history == {}
        np.testing.assert_array_equal(model.item_ids, ids)
        np.testing.assert_array_equal(model.item_counts, X.sum(0))
        model.save_model(tmp_path / "m")

    def test_bfloat16(self):
        model, exact = make(), make()
        model.train(X, num_epochs=3, precision="bf16", **QUIET)
        exact.train(X, num_epochs=3, **QUIET)
        losses = model.history["loss"], exact.history["loss"]
        assert losses[0] != losses[1]
        np.testing.assert_allclose(*losses, rtol=0.02)

    @pytest.mark.parametrize("layout", ["dense", "csr"])
    def test_a_loss_of_ones_own(self, layout):
        model = Operators(nets.MultiDAE_net([4, ITEMS], dropout=0))
        first = torch.nn.functional.mse_loss(
            model.network(torch.from_numpy(X.toarray())), torch.from_numpy(X.toarray())
        )
        model.train(DataSampler(X, batch_size=USERS, layout=layout), num_epochs=1, verbose=0)
        assert model.history["loss"][0] == pytest.approx(first.item() * ITEMS, rel=1e-5)

    def test_train_epoch_of_a_subclass_is_called(self):
        class Doubling(MultiDAE):
            def train_epoch(self, epoch, train_loader, verbose=1):
                return 2 * super().train_epoch(epoch, train_loader, verbose)

        losses = []
        for kind in (MultiDAE, Doubling):
            model = kind(nets.MultiDAE_net([4, ITEMS]))
            model.train(X, num_epochs=1, **QUIET)
            losses.append(model.history["loss"][0])
        assert losses[1] == 2 * losses[0]


class TestRefusals:
    @pytest.mark.parametrize(
        ("arguments", "error", "message"),
        [
            ({"train_data": X[:, 1:]}, ValueError, "train_data has 19 items, the network has 20"),
            (
                {"train_data": -X},
                ValueError,
                "train_data must hold values of at least 0 for MultiVAE",
            ),
            ({"train_data": X[:0]}, ValueError, "train_data holds no interactions"),
            ({"train_data": []}, ValueError, "train_data gave no batches"),
            ({"train_data": iter([X])}, TypeError, "train_data must give its batches again"),
            ({"train_data": [-X]}, ValueError, "train_data must hold values of at least 0"),
            ({"train_data": DataSampler(X, -X)}, ValueError, "sparse_data_te must hold values"),
            ({"valid_data": VALID}, ValueError, "valid_data and valid_metric need each other"),
            ({"valid_metric": "ndcg@5"}, ValueError, "valid_data and valid_metric need each other"),
            (
                {"valid_data": VALID, "valid_metric": "good@5"},
                ValueError,
                "a metric must be name@k",
            ),
            (
                {"valid_data": (VALID[0], 0 * VALID[1]), "valid_metric": "ndcg@5"},
                ValueError,
                "valid_data has no held-out items",
            ),
            (
                {"valid_data": (X[:0], X[:0]), "valid_metric": "ndcg@5"},
                ValueError,
                "valid_data has no held-out items",
            ),
            ({"valid_data": [], "valid_metric": "ndcg@5"}, ValueError, "no held-out items"),
            ({"valid_data": X, "valid_metric": "ndcg@5"}, ValueError, "valid_data: .* pair"),
            ({"valid_data": 3, "valid_metric": "ndcg@5"}, TypeError, "valid_data: .*iterable"),
            (
                {"valid_data": DataSampler(X), "valid_metric": "ndcg@5"},
                ValueError,
                "valid_data: .* te is None",
            ),
            (
                {"valid_data": (X, VALID[1][:, 1:]), "valid_metric": "ndcg@5"},
                ValueError,
                "valid_data: te has 19 columns, expected n_items = 20",
            ),
            (
                {"valid_data": iter([VALID]), "valid_metric": "ndcg@5"},
                TypeError,
                "valid_data must give its batches again",
            ),
            (
                {"valid_data": VALID, "valid_metric": "ndcg@5", "valid_func": "evaluate"},
                TypeError,
                "valid_func must be a ValidFunc",
            ),
            (
                {"valid_data": VALID, "valid_metric": "ndcg@5", "best_path": "no/such/folder"},
                FileNotFoundError,
                "no/such does not exist",
            ),
            ({"num_epochs": -1}, ValueError, "num_epochs must be a whole number of at least 0"),
            ({"num_epochs": 1.5}, ValueError, "num_epochs must be a whole number of at least 0"),
            ({"batch_size": 0}, ValueError, "batch_size must be a whole number of at least 1"),
            ({"seed": -1}, ValueError, "seed must be"),
            ({"precision": "fp64"}, ValueError, "precision must be one of fp32, bf16, got 'fp64'"),
            ({"device": "gpu"}, ValueError, "device must be one that is there, got 'gpu'"),
            ({"callbacks": [print]}, TypeError, "callbacks must be pyrec.callbacks.Callback"),
            ({"callbacks": LossHistory()}, TypeError, "callbacks must be a list of callbacks"),
            ({"callbacks": [AnnealingCallback(0, 1, 9)]}, ValueError, "nothing else anneals"),
        ],
    )
    def test_before_anything_is_changed(self, arguments, error, message):
        model = make()
        before = arrays(model)
        with pytest.raises(error, match=message):
            model.train(**{"train_data": X, "num_epochs": 1, **QUIET, **arguments})
        assert_same_bits(arrays(model), before)
        assert (model.n_items, model.epoch) == (None, 0)

    def test_an_optimiser_that_no_file_holds(self, tmp_path):
        model = make()
        model.train(X, num_epochs=1, **QUIET)
        model.optimizer = torch.optim.SGD(model.network.parameters(), lr=0.1)
        for use in (lambda: model.train(X, **QUIET), lambda: model.save_model(tmp_path / "m")):
            with pytest.raises(TypeError, match=r"must be the torch\.optim\.Adam .* got SGD"):
                use()

    def test_evaluate_without_its_wrapper(self):
        ours, theirs = make(), make()
        ours.train(X, VALID, "ndcg@5", evaluate, 2, None, **QUIET)
        theirs.train(X, VALID, "ndcg@5", ValidFunc(evaluate), 2, None, **QUIET)
        assert ours.history["ndcg@5"] == theirs.history["ndcg@5"]

    @pytest.mark.parametrize("values", [2 * X, -X])
    def test_values_beyond_a_probability(self, values):
        model = VAE(nets.VAE_net([4, ITEMS]))
        with pytest.raises(ValueError, match="train_data must hold values from 0 to 1 for VAE"):
            model.train(values, num_epochs=1, **QUIET)
        AETrainer(nets.MultiDAE_net([4, ITEMS])).train(values, num_epochs=1, **QUIET)

    def test_a_loss_beyond_float32_is_named_and_changes_nothing(self):
        huge = 1e30 * X[:5]
        model = AETrainer(nets.MultiDAE_net([4, ITEMS]))
        with pytest.raises(FloatingPointError, match="the loss is inf in epoch 1, batch 2"):
            model.train([X[:5], X[5:9], huge], num_epochs=3, verbose=0)
        other = AETrainer(nets.MultiDAE_net([4, ITEMS]))
        with pytest.raises(FloatingPointError):
            other.train([X[:5], X[5:9], huge], num_epochs=3, verbose=0)
        assert_same_bits(arrays(model), arrays(other))
        assert all(np.isfinite(array).all() for array in arrays(model).values())
        assert model.history == {}
