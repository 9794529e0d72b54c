"""StandardVAE: its loss, its two schedules and its documented methods."""

import numpy as np
import pytest
import torch

import pyrec
from pyrec.callbacks import Callback, Checkpoint, ValidationLoss
from pyrec.evaluation import evaluate
from pyrec.metrics import summarize
from pyrec.models import StandardVAE, standard_vae

pytestmark = pytest.mark.usefixtures("one_torch_thread")

USERS, ITEMS = 60, 30


@pytest.fixture(scope="module")
def data():
    """x_train, and x_valid, x_val_tr, x_val_te of other users; 13 training rows are empty."""
    rng = np.random.default_rng(0)
    train, valid = ((rng.random((n, ITEMS)) < 0.3).astype(np.float32) for n in (USERS, 20))
    train[7:20] = 0
    te = valid * (rng.random(valid.shape) < 0.4)
    te[:, 0], valid[:, :2] = valid[:, 0], 1
    return train, valid, valid - te, te


def make(**changes):
    options = {"intermediate_dim": 12, "latent_dim": 4, "n_epochs": 3, "batch_size": 16, "k": 5}
    return StandardVAE(USERS, ITEMS, **{**options, "verbose": 0, **changes})


def weights(model):
    return {name: value.numpy() for name, value in model.network.state_dict().items()}


class Recorder(Callback):
    """What the model had after each update and each epoch."""

    def __init__(self, stop_after=None):
        self.betas, self.rates, self.stop_after = [], [], stop_after

    def on_epoch_begin(self, epoch, logs):
        self.rates.append(self.model.optimizer.param_groups[0]["lr"])
        if not self.betas:
            self.betas.append(self.model.loss_weights()["beta"])

    def on_batch_end(self, batch, logs):
        self.betas.append(self.model.loss_weights()["beta"])

    def on_epoch_end(self, epoch, logs):
        if epoch == self.stop_after:
            self.model.stop_training = True


class TestLoss:
    def test_it_is_the_documented_sum(self):
        """original_dim x the mean binary cross-entropy + beta x KL, mean over users."""
        torch.manual_seed(0)
        p, x = torch.softmax(torch.randn(7, ITEMS), 1), (torch.rand(7, ITEMS) < 0.3).float()
        mu, logvar = torch.randn(7, 4), torch.randn(7, 4)
        cross = torch.nn.functional.binary_cross_entropy(p, x)
        kl = torch.distributions.kl_divergence(
            torch.distributions.Normal(mu, (logvar / 2).exp()), torch.distributions.Normal(0.0, 1.0)
        )
        expected = ITEMS * cross + 0.3 * kl.sum(1).mean()
        torch.testing.assert_close(make().loss_function(p, x, mu, logvar, beta=0.3), expected)

    def test_scores_are_a_softmax(self, data):
        scores = make().predict(data[0], remove_train=False)[0]
        torch.testing.assert_close(scores.sum(1), torch.ones(USERS))


class TestFit:
    def test_it_is_train(self, data):
        fitted, trained = make(seed=3), make(seed=3)
        fitted.fit(data[0])
        trained.train(data[0], num_epochs=3, batch_size=16, seed=3, verbose=0)
        for name, value in weights(trained).items():
            np.testing.assert_array_equal(weights(fitted)[name], value)
        assert len(fitted.history["loss"]) == 3

    def test_the_seed_decides(self, data):
        models = [make(seed=seed) for seed in (None, 0, 1)]
        for model in models:
            model.fit(data[0])
        none, zero, one = (weights(model)["dec_layers.0.weight"] for model in models)
        np.testing.assert_array_equal(none, zero)
        assert not np.array_equal(zero, one)

    def test_the_best_model_is_kept(self, data, tmp_path):
        model = make(n_epochs=6, save_path=tmp_path / "best")
        model.fit(*data)
        ndcg = model.ndcg_per_epoch()
        assert len(ndcg) == 6
        assert len(set(ndcg)) > 1
        for kept in (model, pyrec.load_model(tmp_path / "best")):
            values = evaluate(kept, data[2:], ["ndcg@5"])
            assert summarize(values)["ndcg@5"].mean == pytest.approx(max(ndcg))

    def test_without_validation_there_is_no_file(self, data, tmp_path):
        make(save_path=tmp_path / "best", n_epochs=1).fit(data[0])
        assert list(tmp_path.iterdir()) == []

    def test_a_mapper_gives_back_ids(self, data):
        users, items = np.arange(20) + 100, np.array([f"i{n}" for n in range(ITEMS)])
        model = make(n_epochs=2)
        model.fit(*data, mapper=(users, items))
        assert model.metrics.get_data() == model.ndcg_per_epoch()
        table = model.metrics.recommended()
        best = model.recommend(data[2], 5)
        assert table["user_id"].to_pylist() == np.repeat(users, 5).tolist()
        assert table["item_id"].to_pylist() == items[best.items.ravel()].tolist()

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (lambda x: (x[0][1:],), "x_train has 59 rows, expected n_users = 60"),
            (lambda x: (x[0][:, 1:],), "x_train has 29 columns, expected n_items = 30"),
            (lambda x: (x[0], None, x[2]), "x_val_tr and x_val_te need each other"),
            (lambda x: (2 * x[0],), "from 0 to 1"),
        ],
    )
    def test_errors(self, data, change, message):
        model = make()
        before = weights(model)
        with pytest.raises(ValueError, match=message):
            model.fit(*change(data))
        np.testing.assert_array_equal(
            weights(model)["dec_layers.0.bias"], before["dec_layers.0.bias"]
        )
        assert model.epoch == 0


class TestAnnealing:
    def test_linear_until_80_percent_of_the_updates(self, data):
        model, recorder = make(annealing=True, anneal_cap=0.3, n_epochs=5), Recorder()
        model.fit(data[0], callbacks=[recorder])
        updates = 5 * 3  # 47 rows that are not empty, 16 a batch
        expected = np.minimum(0.3, 0.3 * np.arange(updates + 1) / (0.8 * updates))
        np.testing.assert_allclose(recorder.betas, expected, rtol=1e-12)
        assert model.history["beta"] == recorder.betas[3::3]

    def test_the_loss_uses_it(self, data):
        """Without KL divergence the first loss is cross-entropy alone."""
        model = make(annealing=True, n_epochs=1)
        seen = []
        model.loss_function = lambda *a, beta: (
            seen.append(beta) or type(model).loss_function(model, *a, beta=beta)
        )
        model.fit(data[0])
        assert seen[0] == 0
        assert seen == sorted(seen)

    def test_optimal_beta(self, data):
        constant = make(beta=0.7)
        assert constant.get_optimal_beta() == 0.7
        model = make(annealing=True, n_epochs=5)
        with pytest.raises(RuntimeError, match=r"there is no ndcg@5: call fit with x_val_tr"):
            model.get_optimal_beta()
        model.fit(*data)
        assert model.get_optimal_beta() == model.history["beta"][np.argmax(model.ndcg_per_epoch())]


class TestLearningRate:
    @pytest.mark.parametrize("seed", range(3))
    def test_as_torch_s_scheduler(self, data, monkeypatch, seed):
        """Keras's patience of 1 is torch's 0."""
        steps = np.random.default_rng(seed).choice([-1.0, -1.5e-4, -0.5e-4, 0.0, 0.3], 8)
        values = 50 + np.cumsum(steps)
        monkeypatch.setattr(
            ValidationLoss,
            "on_epoch_end",
            lambda self, epoch, logs: logs.update(val_loss=values[epoch - 1]),
        )
        recorder, model = Recorder(), make(n_epochs=8)
        model.fit(*data[:2], callbacks=[recorder])
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1e-3)
        reference = torch.optim.lr_scheduler.ReduceLROnPlateau(
            optimizer, factor=0.2, patience=0, threshold=1e-4, threshold_mode="abs", min_lr=1e-4
        )
        rates = [1e-3]
        for value in values:
            reference.step(value)
            rates.append(optimizer.param_groups[0]["lr"])
        np.testing.assert_allclose(recorder.rates, rates[:-1])
        assert len(set(recorder.rates)) > 1

    def test_a_lower_rate_stays(self, data):
        callback, model = standard_vae._LowerRate(), make()
        model.optimizer.param_groups[0]["lr"] = 1e-5
        callback.bind(model)
        callback.on_train_begin({})
        for loss in (1.0, 2.0):
            callback.on_epoch_end(1, {"val_loss": loss})
        assert model.optimizer.param_groups[0]["lr"] == 1e-5


class TestFiles:
    def test_resuming_gives_the_same_bits(self, data, tmp_path):
        """Both schedules and the best model go on."""
        options = {"annealing": True, "n_epochs": 6, "save_path": tmp_path / "best"}
        whole, first, second = (make(**options) for _ in range(3))
        whole.fit(*data)
        first.fit(*data, callbacks=[Checkpoint(tmp_path / "c"), Recorder(stop_after=2)])
        second.fit(*data, callbacks=[Recorder()], resume=tmp_path / "c")
        assert first.epoch == 2
        for name, value in weights(whole).items():
            np.testing.assert_array_equal(weights(second)[name], value)
        for name, values in whole.history.items():
            assert name == "seconds" or second.history[name] == values
        assert (
            second.optimizer.param_groups[0]["lr"] == whole.optimizer.param_groups[0]["lr"] < 1e-3
        )

    def test_a_file_rebuilds_it(self, data, tmp_path):
        model = make(annealing=True, anneal_cap=0.2, drop_decoder=0.1, seed=5)
        model.fit(*data)
        model.save_model(tmp_path / "m")
        loaded = pyrec.load_model(tmp_path / "m")
        for name in ("n_users", "original_dim", "drop_decoder", "anneal_cap", "seed", "save_path"):
            assert getattr(loaded, name) == getattr(model, name)
        assert loaded.ndcg_per_epoch() == model.ndcg_per_epoch()
        assert loaded.get_optimal_beta() == model.get_optimal_beta()
        for ours, theirs in zip(loaded.recommend(data[0]), model.recommend(data[0]), strict=True):
            np.testing.assert_array_equal(ours, theirs)


class TestMethods:
    def test_recommend_k_items(self, data):
        model = make(n_epochs=1)
        model.fit(data[0])
        lists = model.recommend_k_items(data[2], 4)
        assert lists.shape == (20, ITEMS)
        best = model.recommend(data[2], 4)
        expected = np.zeros((20, ITEMS), np.float32)
        np.put_along_axis(expected, best.items, best.scores, 1)
        np.testing.assert_array_equal(lists.toarray(), expected)
        assert (np.diff(lists.indptr) == 4).all()
        assert not (lists.toarray() * data[2]).any()
        assert (model.recommend_k_items(data[2], 4, remove_seen=False).toarray() * data[2]).any()

    def test_display_metrics(self, data, capsys):
        model = make()
        model.fit(*data)
        model.display_metrics()
        out = capsys.readouterr().out
        assert [line.split(":")[0] for line in out.splitlines() if "best" in line] == [
            "ndcg@5",
            "loss",
            "val_loss",
        ]


def test_a_file_does_not_say_where_to_write(data, tmp_path):
    model = make(save_path=tmp_path / "first")
    model.fit(*data)
    other = make(save_path=tmp_path / "mine", verbose=0, n_epochs=9)
    other.load_model(tmp_path / "first")
    assert (other.save_path, other.n_epochs) == (str(tmp_path / "mine"), 3)
    assert pyrec.load_model(tmp_path / "first").save_path is None
