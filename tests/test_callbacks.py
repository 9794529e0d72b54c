"""Callbacks: when they are called, what they keep, and what they do to a training."""

import math
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import pyrec
from pyrec import nets
from pyrec.callbacks import (
    AnnealingCallback,
    Callback,
    Checkpoint,
    EarlyStopping,
    LossHistory,
    Metrics,
    ProgressBar,
    TensorBoard,
    ValidationLoss,
    annealed,
)
from pyrec.data import Histories, Interactions
from pyrec.evaluation import evaluate
from pyrec.models import CFGAN, SVAE, AETrainer, MultiVAE

pytestmark = pytest.mark.usefixtures("one_torch_thread")

USERS, ITEMS = 40, 20
RNG = np.random.default_rng(0)
X, TR, TE = (sp.csr_array((RNG.random((USERS, ITEMS)) < 0.3).astype("f4")) for _ in range(3))
QUIET = {"verbose": 0, "batch_size": 15, "best_path": None}


def make(**options):
    return MultiVAE(nets.MultiVAE_net([4, 6, ITEMS]), learning_rate=0.01, **options)


def fit(*callbacks, epochs=3, model=None, **options):
    model = model or make()
    model.train(X, num_epochs=epochs, callbacks=callbacks, **{**QUIET, **options})
    return model


def watch(callback, metric, values):
    """Show a callback these values, one an epoch; return the epochs after which it acted."""
    acted = []
    callback.model = SimpleNamespace(stop_training=False)
    callback.model.save_model = lambda path: acted.append(epoch)
    callback.on_train_begin({})
    for epoch, value in enumerate(values, 1):
        callback.on_epoch_end(epoch, {metric: value})
        if callback.model.stop_training:
            acted.append(epoch)
            break
    return acted


class TestCalls:
    def test_order_and_arguments(self):
        calls = []

        class Recorder(Callback):
            def bind(self, model):
                super().bind(model)
                calls.append(("bind", model))

            def on_train_begin(self, logs):
                calls.append(("train begin", logs["num_epochs"]))

            def on_epoch_begin(self, epoch, logs):
                calls.append(("epoch begin", epoch, logs["num_batches"]))

            def on_batch_end(self, batch, logs):
                calls.append(("batch end", batch, list(logs)))

            def on_epoch_end(self, epoch, logs):
                calls.append(("epoch end", epoch, list(logs)))

            def on_train_end(self, logs):
                calls.append(("train end", list(logs)))

        model = make()
        for _ in range(2):
            model.train(X, (TR, TE), "ndcg@5", num_epochs=1, callbacks=[Recorder()], **QUIET)
        values = ["loss", "seconds", "beta", "ndcg@5"]
        expected = [
            [
                ("bind", model),
                ("train begin", epoch),
                ("epoch begin", epoch, 3),
                *(("batch end", batch, ["loss"]) for batch in range(3)),
                ("epoch end", epoch, values),
                ("train end", values),
            ]
            for epoch in (1, 2)
        ]
        assert calls == expected[0] + expected[1]

    def test_what_is_added_to_the_logs_enters_the_history(self):
        class Adds(Callback):
            def on_epoch_end(self, epoch, logs):
                logs["mine"] = epoch / 2

        assert fit(Adds()).history["mine"] == [0.5, 1.0, 1.5]

    def test_a_callback_can_end_the_training(self):
        class Stops(Callback):
            def on_epoch_end(self, epoch, logs):
                self.model.stop_training = epoch == 2

        model = fit(Stops(), epochs=9)
        assert model.epoch == 2
        assert fit(epochs=1, model=model).epoch == 3


class TestHistories:
    def test_losses(self):
        history = LossHistory()
        model = fit(ValidationLoss(TR), history)
        assert history.losses == model.history["loss"]
        assert history.val_losses == model.history["val_loss"]
        model.train(X, num_epochs=1, callbacks=[history], **QUIET)
        assert history.losses == model.history["loss"][3:]
        assert history.val_losses == []

    @pytest.mark.parametrize("batch_size", [7, 500])
    def test_validation_loss_is_the_loss_without_noise(self, batch_size):
        model = AETrainer(nets.MultiDAE_net([4, ITEMS]))
        fit(ValidationLoss(TR, batch_size), model=model)
        expected = ((model.scores(TR) - TR.toarray()) ** 2).mean()
        assert model.history["val_loss"][-1] == pytest.approx(expected, rel=1e-5)

    def test_validation_loss_of_sequences(self):
        rng = np.random.default_rng(0)
        lists = [rng.permutation(ITEMS)[: rng.integers(2, 9)] for _ in range(11)]
        histories = Histories.from_lists(lists, ITEMS)
        net = nets.SVAE_net(ITEMS, 4, 5, [3, ITEMS], [5, 3])
        model = SVAE(net, pred_type="next")
        model.train(
            histories,
            num_epochs=1,
            batch_size=4,
            verbose=0,
            callbacks=[ValidationLoss(histories, 3)],
        )
        losses = []
        for user in lists:
            logits, mu, logvar = net(torch.tensor(user[:-1].astype(int))[None])
            nll = torch.nn.functional.cross_entropy(
                logits[0], torch.tensor(user[1:]), reduction="sum"
            )
            kl = -0.5 * (1 + logvar - mu**2 - logvar.exp()).sum(-1).mean()
            losses.append((nll + kl).item())
        assert model.history["val_loss"] == [pytest.approx(np.mean(losses), rel=1e-5)]

    def test_validation_loss_of_two_networks_is_refused(self):
        model = CFGAN(nets.CFGAN_G_net([ITEMS, 4, ITEMS]), nets.CFGAN_D_net([2 * ITEMS, 4, 1]))
        with pytest.raises(TypeError, match="needs a model whose loss is one, not CFGAN"):
            model.train(X, num_epochs=1, verbose=0, callbacks=[ValidationLoss(TR)])
        assert model.epoch == 0

    def test_validation_users_are_checked(self):
        with pytest.raises(ValueError, match="x_valid has 19 columns, expected n_items = 20"):
            fit(ValidationLoss(TR[:, 1:]))
        with pytest.raises(ValueError, match="x_valid must hold values of at least 0"):
            fit(ValidationLoss(-TR))


class TestMetrics:
    def test_ndcg_of_each_epoch_and_the_best_model(self, tmp_path):
        model = make()
        metrics = Metrics(model, TR, TE.toarray(), None, 5, save_path=tmp_path / "best")
        fit(metrics, model=model, epochs=6)
        assert metrics.get_data() == model.history["ndcg@5"]
        last = np.nanmean(evaluate(model, (TR, TE), ["ndcg@5"])["ndcg@5"])
        assert metrics.get_data()[-1] == pytest.approx(last, rel=1e-12)
        best = pyrec.load_model(tmp_path / "best")
        value = np.nanmean(evaluate(best, (TR, TE), ["ndcg@5"])["ndcg@5"])
        assert value == pytest.approx(max(metrics.get_data()), rel=1e-12)
        assert best.epoch == 1 + int(np.argmax(metrics.get_data()))

    def test_k_scores_a_row(self):
        model = make()
        metrics = Metrics(model, TR, TE, None, 5)
        fit(metrics, model=model)
        for remove_seen in (True, False):
            top = metrics.recommend_k_items(TR, 4, remove_seen)
            items, scores = model.recommend(TR, 4, remove_seen=remove_seen)
            assert top.shape == TR.shape
            for u in range(USERS):
                assert (np.diff(top[[u]].indices) > 0).all()
                row = dict(zip(items[u], scores[u], strict=True))
                assert dict(zip(top[[u]].indices, top[[u]].data, strict=True)) == row

    def test_users_get_their_own_ids_back(self):
        users, items = np.arange(USERS) + 100, [f"i{i}" for i in range(ITEMS)]
        mapper = SimpleNamespace(map_back_sparse=lambda matrix, kind: (matrix, kind))
        model = make()
        plain, ids, object_ = (Metrics(model, TR, TE, m, 3) for m in (None, (users, items), mapper))
        fit(plain, ids, object_, model=model, epochs=1)
        table, mapped = plain.recommended(), ids.recommended()
        best = model.recommend(TR, 3)
        assert table.column_names == ["user_id", "item_id", "score"]
        np.testing.assert_array_equal(table["item_id"], best.items.ravel())
        np.testing.assert_array_equal(table["score"], best.scores.ravel())
        np.testing.assert_array_equal(mapped["user_id"], np.repeat(users, 3))
        assert mapped["item_id"].to_pylist() == [items[i] for i in best.items.ravel()]
        matrix, kind = object_.recommended()
        assert (matrix.nnz, kind) == (3 * USERS, "prediction")

    def test_another_model_is_refused(self):
        with pytest.raises(ValueError, match="Metrics was made for another model"):
            fit(Metrics(make(), TR, TE, None, 5))


class Watching(MultiVAE):
    """Keeps the weights that its loss was given."""

    def loss_function(self, recon_x, x, mu, logvar, beta=1.0):
        self.used = [*vars(self).get("used", []), beta]
        return super().loss_function(recon_x, x, mu, logvar, beta)


class TestAnnealing:
    @settings(deadline=None)
    @given(st.integers(0, 50), st.integers(0, 20), st.floats(0, 10))
    def test_schedule(self, step, steps, cap):
        expected = cap * min(1, step / steps) if steps else cap
        assert annealed(step, steps, cap) == pytest.approx(expected, rel=1e-12, abs=1e-300)

    def test_the_documented_rule_sets_beta(self):
        model = Watching(nets.MultiVAE_net([4, ITEMS]))
        callback = AnnealingCallback(0.05, 0.25, 20)
        fit(callback, model=model)
        rule = [min(0.25, t / 20) for t in range(10)]
        assert model.used == pytest.approx([0.05, *rule[1:9]])
        assert callback.get_data() == pytest.approx([rule[3], rule[6], rule[9]])
        assert model.history["beta"] == pytest.approx(callback.get_data())

    def test_multivae_reaches_beta_after_anneal_steps(self):
        model = Watching(nets.MultiVAE_net([4, ITEMS]), beta=0.2, anneal_steps=6)
        fit(model=model)
        assert model.used == pytest.approx([0.2 * min(1, t / 6) for t in range(9)])
        assert model.beta == 0.2

    @pytest.mark.parametrize(
        "arguments", [(-1, 1, 1), (0, math.inf, 1), (0, 1, 0), (math.nan, 1, 1)]
    )
    def test_bad_arguments(self, arguments):
        with pytest.raises(ValueError, match="must be"):
            AnnealingCallback(*arguments)

    def test_a_model_without_beta_or_with_its_own_schedule(self):
        for model in (AETrainer(nets.MultiDAE_net([4, ITEMS])), make(anneal_steps=3)):
            with pytest.raises(ValueError, match="needs a model with a beta that nothing else"):
                fit(AnnealingCallback(0, 1, 5), model=model)


class TestEarlyStopping:
    @settings(deadline=None)
    @given(
        st.lists(st.sampled_from([0.0, 0.5, 1.0, 1.4, 2.0, math.nan]), max_size=12),
        st.integers(1, 4),
        st.sampled_from(["max", "min"]),
        st.sampled_from([0.0, 0.45]),
    )
    def test_stops_after_patience_epochs_without_improvement(self, values, patience, mode, delta):
        best, since, expected = None, 0, []
        for epoch, value in enumerate(values, 1):
            sign = 1 if mode == "max" else -1
            since += 1
            if not math.isnan(value) and (best is None or sign * value > sign * best + delta):
                best, since = value, 0
            if since >= patience:
                expected = [epoch]
                break
        callback = EarlyStopping("m", patience, mode, delta)
        assert watch(callback, "m", values) == expected
        assert callback.best == best

    def test_in_a_training(self):
        model = AETrainer(nets.MultiDAE_net([4, ITEMS], dropout=0.0))
        stopping = EarlyStopping("loss", 2, "max")
        assert fit(stopping, epochs=9, model=model).epoch == 3
        assert fit(stopping, epochs=9, model=model).epoch == 6  # it starts anew

    def test_bad_arguments(self):
        with pytest.raises(ValueError, match="patience must be at least 1, got 0"):
            EarlyStopping("loss", 0)
        with pytest.raises(ValueError, match="mode must be 'max' or 'min', got 'best'"):
            EarlyStopping("loss", mode="best")
        with pytest.raises(ValueError, match="min_delta must be at least 0"):
            EarlyStopping("loss", min_delta=-1)
        with pytest.raises(
            ValueError, match=r"EarlyStopping watches 'val_loss', .* reports loss, seconds, beta"
        ):
            fit(EarlyStopping("val_loss"))


class TestCheckpoint:
    @settings(deadline=None)
    @given(st.lists(st.sampled_from([0.0, 1.0, 2.0, math.nan]), max_size=8))
    def test_writes_when_the_value_improves(self, tmp_path_factory, values):
        expected, best = [], None
        for epoch, value in enumerate(values, 1):
            if not math.isnan(value) and (best is None or value > best):
                expected.append(epoch)
                best = value
        callback = Checkpoint(tmp_path_factory.getbasetemp() / "c", metric="m")
        assert watch(callback, "m", values) == expected
        assert callback.best == best

    def test_smaller_can_be_better(self, tmp_path):
        callback = Checkpoint(tmp_path / "c", metric="m", mode="min")
        assert watch(callback, "m", [2, 3, 1, 1]) == [1, 3]

    def test_without_a_metric_after_every_epoch(self, tmp_path):
        model = fit(Checkpoint(tmp_path / "c"))
        loaded = pyrec.load_model(tmp_path / "c")
        assert loaded.epoch == 3
        assert loaded.history == model.history
        np.testing.assert_array_equal(loaded.scores(TR), model.scores(TR))

    def test_bad_arguments(self, tmp_path):
        with pytest.raises(ValueError, match="mode must be"):
            Checkpoint(tmp_path / "c", mode="up")
        with pytest.raises(ValueError, match="Checkpoint watches 'ndcg@5'"):
            fit(Checkpoint(tmp_path / "c", metric="ndcg@5"))
        with pytest.raises(FileNotFoundError, match=r"the folder .*none does not exist"):
            fit(Checkpoint(tmp_path / "none" / "c"))


class TestProgress:
    def lines(self, capsys, verbose, **options):
        fit(epochs=2, verbose=verbose, **options)
        out, err = capsys.readouterr()
        assert out == ""
        return err.splitlines()

    def test_silent(self, capsys):
        assert self.lines(capsys, 0) == []

    def test_a_line_an_epoch(self, capsys):
        lines = self.lines(capsys, 1, valid_data=(TR, TE), valid_metric="ndcg@5")
        assert [line.split(":")[0] for line in lines] == ["epoch 1/2", "epoch 2/2"]
        for name in ("loss", "ndcg@5", "beta"):
            assert f"{name} " in lines[0]

    def test_lines_within_the_epoch(self, capsys):
        lines = self.lines(capsys, 2, batch_size=10)
        assert [line.split(":")[0] for line in lines[:3]] == [
            "epoch 1/2, batch 2",
            "epoch 1/2, batch 4",
            "epoch 1/2",
        ]
        assert len(self.lines(capsys, 3, batch_size=10)) == 2 * 4
        assert len(self.lines(capsys, 50, batch_size=10)) == 2 * 5

    def test_an_epoch_on_its_own(self, capsys):
        make().train_epoch(1, [torch.from_numpy(X.toarray())], verbose=3)
        assert "epoch 1/1, batch 1" in capsys.readouterr().err

    def test_batches_without_a_number(self, capsys):
        class Batches:
            def __iter__(self):
                return iter([X[:20], X[20:]])

        make().train(Batches(), num_epochs=1, callbacks=[ProgressBar(1)], verbose=0, best_path=None)
        assert capsys.readouterr().err.startswith("epoch 1/1: loss ")


class TestTensorBoard:
    def test_writes_the_logs(self, monkeypatch, tmp_path):
        written, closed = [], []

        class SummaryWriter:
            def __init__(self, folder, purge_step):
                written.append((folder, purge_step))

            def add_scalar(self, name, value, epoch):
                written.append((name, value, epoch))

            def close(self):
                closed.append(True)

        module = SimpleNamespace(SummaryWriter=SummaryWriter)
        monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", module)
        model = fit(TensorBoard(tmp_path / "logs"), epochs=2)
        losses = model.history["loss"]
        assert written[0] == (str(tmp_path / "logs"), 1)
        assert [w for w in written if w[0] == "loss"] == [
            ("loss", losses[0], 1),
            ("loss", losses[1], 2),
        ]
        assert closed == [True]

    def test_says_what_to_install(self, monkeypatch, tmp_path):
        monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
        with pytest.raises(ImportError, match=r"pip install 'pyrec\[tensorboard\]'"):
            fit(TensorBoard(tmp_path))


def test_validation_data_with_item_ids_is_aligned():
    ids = np.arange(ITEMS)
    order = np.random.default_rng(1).permutation(ITEMS)
    users = np.arange(USERS)
    model = make()
    data = [Interactions(x[:, order], users, ids[order]) for x in (TR, TE)]
    metrics = Metrics(model, *data, None, 5)
    model.train(Interactions(X, users, ids), num_epochs=1, callbacks=[metrics], **QUIET)
    expected = np.nanmean(evaluate(model, (TR, TE), ["ndcg@5"])["ndcg@5"])
    assert metrics.get_data()[0] == pytest.approx(expected)
