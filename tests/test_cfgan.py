"""CFGAN: its networks, batches, losses, training, files, and the item-based form."""

import signal
import tracemalloc

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from torch import nn

from pyrec import kernels, nets
from pyrec.callbacks import Callback, Checkpoint, LossHistory
from pyrec.data import Histories, Interactions
from pyrec.kernels.tensors import Csr
from pyrec.models import storage, training_users
from pyrec.models.cfgan import CFGAN
from pyrec.models.training_users import TrainingUsers
from pyrec.nets import CFGAN_D_net, CFGAN_G_net
from pyrec.samplers import DataSampler
from pyrec.samplers.adversarial import CFGAN_TrainingSampler, Steps

pytestmark = pytest.mark.usefixtures("one_torch_thread")

USERS, ITEMS = 50, 20
QUIET = {"verbose": 0, "batch_size": 15, "g_steps": 3, "d_steps": 2}


def draw_matrix(seed=0):
    x = (np.random.default_rng(seed).random((USERS, ITEMS)) < 0.3).astype("f4")
    x[:, 0] = 1  # nobody without an item
    return sp.csr_array(x)


X = draw_matrix()
VALID = draw_matrix(1), draw_matrix(2)


def make(item_based=False, hidden=6, output="sigmoid", activation="tanh", **options):
    n = USERS if item_based else ITEMS
    return CFGAN(
        CFGAN_G_net([n, hidden, n], output=output, activation=activation),
        CFGAN_D_net([2 * n, 5, 1], activation=activation, seed=1),
        **{"learning_rate": 0.01, "item_based": item_based, **options},
    )


def arrays(model):
    """Weights and moments of both optimisers; copies."""
    return {name: np.array(value) for name, value in model.state()[1].items()}


def assert_same_bits(ours, theirs):
    assert ours.keys() == theirs.keys()
    for name, array in ours.items():
        np.testing.assert_array_equal(array, theirs[name], err_msg=name)


def weights(net):
    return [parameter.detach().clone() for parameter in net.parameters()]


def is_same(ours, theirs):
    return all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


both_forms = pytest.mark.parametrize("item_based", [False, True], ids=["users", "items"])


ACTIVATIONS = {
    "tanh": np.tanh,
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "relu": lambda x: np.maximum(x, 0),
}


class TestNetworks:
    @staticmethod
    def layers(net, x, activation):
        """All layers by their formula; the first one's weight lies the other way."""
        first, *others = net.layers
        h = x @ first.weight.detach().numpy() + first.bias.detach().numpy()
        for layer in others:
            h = activation(h) @ layer.weight.detach().numpy().T + layer.bias.detach().numpy()
        return h

    @pytest.mark.parametrize("activation", ACTIVATIONS)
    @pytest.mark.parametrize("output", ["sigmoid", "linear"])
    def test_the_generator_is_its_formula(self, activation, output):
        net = CFGAN_G_net([ITEMS, 7, 5, ITEMS], activation=activation, output=output)
        x = draw_matrix(3).toarray() * 0.5
        expected = self.layers(net, x, ACTIVATIONS[activation])
        if output == "sigmoid":
            expected = ACTIVATIONS["sigmoid"](expected)
        for batch in (torch.from_numpy(x), Csr.from_dense(torch.from_numpy(x))):
            np.testing.assert_allclose(net(batch).detach(), expected, rtol=1e-4, atol=1e-6)
            sums = net.factored(batch).dense()
            np.testing.assert_array_equal(net.finish(sums).detach(), net(batch).detach())

    @pytest.mark.parametrize("dims", [[2 * ITEMS, 1], [2 * ITEMS, 7, 5, 1]])
    @pytest.mark.parametrize("activation", ACTIVATIONS)
    def test_the_discriminator_is_its_formula(self, dims, activation):
        net = CFGAN_D_net(dims, activation=activation)
        x, c = draw_matrix(3).toarray() * 0.5, draw_matrix(4).toarray()
        odds = self.layers(net, np.hstack([x, c]), ACTIVATIONS[activation])[:, 0]
        expected = ACTIVATIONS["sigmoid"](odds)
        both = torch.from_numpy(np.hstack([x, c]))
        for profile in (torch.from_numpy(x), Csr.from_dense(torch.from_numpy(x))):
            for condition in (torch.from_numpy(c), Csr.from_dense(torch.from_numpy(c))):
                result = net(profile, condition).detach()
                np.testing.assert_allclose(result, expected, rtol=1e-4, atol=1e-6)
        for batch in (both, Csr.from_dense(both)):
            np.testing.assert_allclose(net(batch).detach(), expected, rtol=1e-4, atol=1e-6)

    def test_gradients_of_two_batches_are_those_of_one(self):
        net = CFGAN_D_net([2 * ITEMS, 4, 1])
        x, c = (torch.from_numpy(draw_matrix(s).toarray()) for s in (3, 4))
        results = []
        for arguments in ((x.clone(), Csr.from_dense(c)), (torch.hstack([x, c]),)):
            arguments[0].requires_grad_()
            gradients = torch.autograd.grad(
                net.logits(*arguments).square().sum(), [arguments[0], *net.parameters()]
            )
            results.append([gradients[0][:, :ITEMS], *gradients[1:]])
        for ours, theirs in zip(*results, strict=True):
            torch.testing.assert_close(ours, theirs)

    @pytest.mark.parametrize(
        "net",
        [
            CFGAN_G_net([4, 3, 2, 4], activation="relu", output="linear", seed=5),
            CFGAN_D_net([8, 3, 1], activation="sigmoid", seed=5),
        ],
        ids=["generator", "discriminator"],
    )
    def test_what_a_file_says_of_it_rebuilds_it(self, net):
        config = nets.describe(net)
        other = nets.build(config, sum(p.numel() for p in net.parameters()))
        assert type(other) is type(net)
        assert nets.describe(other) == config
        with pytest.raises(ValueError, match="5 numbers are too few"):
            nets.build(config, 5)
        other.seed = 5
        other.init_weights()
        assert is_same(weights(other), weights(net))

    @pytest.mark.parametrize(
        ("build", "message"),
        [
            (lambda: CFGAN_G_net([4, 4]), "through hidden layers back .* got \\[4, 4\\]"),
            (lambda: CFGAN_G_net([4, 2, 5]), "back to as many items, got \\[4, 2, 5\\]"),
            (lambda: CFGAN_G_net([4, 0, 4]), "layers_dim must be two or more whole numbers"),
            (lambda: CFGAN_D_net([7, 3, 1]), "twice the items to 1, .* got \\[7, 3, 1\\]"),
            (lambda: CFGAN_D_net([8, 3, 2]), "twice the items to 1, .* got \\[8, 3, 2\\]"),
            (
                lambda: CFGAN_G_net([4, 3, 4], activation="elu"),
                "activation must be one of tanh, sigmoid, relu, got 'elu'",
            ),
            (
                lambda: CFGAN_G_net([4, 3, 4], output="tanh"),
                "output must be one of sigmoid, linear, got 'tanh'",
            ),
            (lambda: CFGAN_G_net([4, 3, 4])(torch.zeros(2, 5)), "x must have the shape \\(n, 4\\)"),
            (
                lambda: CFGAN_D_net([8, 3, 1])(torch.zeros(2, 4), torch.zeros(2, 3)),
                "condition must have the shape \\(n, 4\\), got \\(2, 3\\)",
            ),
        ],
    )
    def test_what_does_not_fit_is_named(self, build, message):
        with pytest.raises(ValueError, match=message):
            build()


class TestSampler:
    @pytest.mark.parametrize("layout", ["dense", "csr"])
    def test_batches_are_different_rows_without_end(self, layout):
        x = sp.csr_array(np.eye(30, dtype=np.float32))
        sampler = CFGAN_TrainingSampler(x, 7, layout=layout, seed=3)
        seen = []
        for _, batch in zip(range(50), sampler, strict=False):
            rows = batch.dense() if layout == "csr" else batch
            assert rows.shape == (7, 30)
            seen.append(rows.argmax(1).numpy().copy())
            assert len(set(seen[-1])) == 7
        assert sampler.number == 50
        assert (np.bincount(np.concatenate(seen), minlength=30) > 0).all()
        assert len({tuple(rows) for rows in seen}) == 50
        again = CFGAN_TrainingSampler(x, 7, seed=3)
        again.number = 20
        np.testing.assert_array_equal(next(again).argmax(1), seen[20])
        assert not np.array_equal(next(CFGAN_TrainingSampler(x, 7, seed=4)).argmax(1), seen[0])

    def test_as_documented(self):
        sampler = CFGAN_TrainingSampler(X)
        assert sampler.batch_size == 64
        batch = next(sampler)
        assert batch.shape == (USERS, ITEMS)  # no more users than there are
        np.testing.assert_array_equal(np.sort(batch.sum(1)), np.sort(X.sum(1)))
        with pytest.raises(TypeError, match="has no length"):
            len(sampler)

    def test_a_batch_that_is_kept_stays(self):
        sampler = CFGAN_TrainingSampler(X, 5)
        batches = [next(sampler) for _ in range(6)]
        again = CFGAN_TrainingSampler(X, 5)
        for batch in batches:
            assert torch.equal(batch, next(again))

    def test_an_epoch_has_batches_of_its_own(self):
        steps = Steps(CFGAN_TrainingSampler(X, 5), CFGAN_TrainingSampler(X, 8), 3, 2)
        assert len(steps) == 5
        epochs = [[(name, batch.clone()) for name, batch in steps] for _ in range(2)]
        assert [name for name, _ in epochs[0]] == ["generator"] * 3 + ["discriminator"] * 2
        assert [len(batch) for _, batch in epochs[1]] == [5, 5, 5, 8, 8]
        kept = {batch.numpy().tobytes() for epoch in epochs for _, batch in epoch}
        assert len(kept) == 10
        steps.epoch = 1
        for (_, ours), (_, theirs) in zip(steps, epochs[1], strict=True):
            assert torch.equal(ours, theirs)

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"batch_size": 0}, "batch_size must be a whole number of at least 1"),
            ({"layout": "coo"}, "layout must be one of dense, csr"),
            ({"seed": -1}, "seed must be"),
            ({"sparse_data_tr": X[:0]}, "sparse_data_tr has no rows"),
        ],
    )
    def test_bad_arguments(self, arguments, message):
        with pytest.raises(ValueError, match=message):
            CFGAN_TrainingSampler(**{"sparse_data_tr": X, **arguments})


def masks(batch, share, draw, updates, seed=0, **options):
    """The masks of an update, as a float array."""
    csr = sp.csr_array(batch)
    out = np.empty(batch.shape, bool)
    offsets, items = csr.indptr.astype(np.int64), csr.indices.astype(np.int32)
    kernels.negatives(
        offsets, items, batch.shape[1], share, seed, 2 * updates + draw, out, **options
    )
    return torch.from_numpy(out.astype(np.float32))


def plain_losses(model, batch, updates):
    """The documented losses written out: the discriminator's and the generator's."""
    c = torch.from_numpy(batch)
    shown = masks(batch, model.s_pm, 0, updates, with_observed=True)
    zeros = masks(batch, model.s_zr, 1, updates)
    fake = model.generator(c)
    d_fake = model.discriminator(torch.hstack([fake * shown, c]))
    d_real = model.discriminator(torch.hstack([c, c]))
    d_loss = -(d_real.log() + (1 - d_fake).log()).mean()
    g_loss = (-d_fake.log() + model.alpha * (zeros * (0 - fake) ** 2).sum(1)).mean()
    return d_loss, g_loss


class OwnGenerator(nn.Module):
    def __init__(self, n):
        super().__init__()
        torch.manual_seed(7)
        self.layers = nn.Sequential(nn.Linear(n, 6), nn.ReLU(), nn.Linear(6, n), nn.Sigmoid())

    def forward(self, x):
        assert type(x) is torch.Tensor
        return self.layers(x)


class OwnDiscriminator(nn.Module):
    def __init__(self, n):
        super().__init__()
        torch.manual_seed(8)
        self.layer = nn.Linear(2 * n, 1)

    def forward(self, x, condition):
        return torch.sigmoid(self.layer(torch.cat([x, condition], 1)))


def own(item_based=False, **options):
    n = USERS if item_based else ITEMS
    return CFGAN(OwnGenerator(n), OwnDiscriminator(n), item_based=item_based, **options)


class TestUpdates:
    @pytest.mark.parametrize(
        "layout", [torch.from_numpy, lambda x: Csr.from_scipy(sp.csr_array(x))]
    )
    def test_losses_and_updates_are_the_documented_ones(self, layout):
        model, plain = (make(alpha=0.3, s_pm=0.6, s_zr=0.4, generator_l2=0.02) for _ in range(2))
        nets_of = {"d": plain.discriminator, "g": plain.generator}
        adams = {
            "d": torch.optim.Adam(plain.discriminator.parameters(), 0.01),
            "g": torch.optim.Adam(plain.generator.parameters(), 0.01, weight_decay=0.02),
        }
        for update, which in enumerate("dggd"):
            batch = draw_matrix(update).toarray()[:9]
            d_loss, g_loss = plain_losses(plain, batch, update)
            expected = d_loss if which == "d" else g_loss
            adams[which].zero_grad()
            expected.backward(inputs=list(nets_of[which].parameters()))
            adams[which].step()
            train = model.train_disc_batch if which == "d" else model.train_gen_batch
            assert train(layout(batch)) == pytest.approx(expected.item(), rel=1e-5)
        assert model.gradient_updates == 4
        for ours, theirs in zip(model.networks(), plain.networks(), strict=True):
            for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
                torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)

    def test_each_update_is_of_one_network(self):
        model = make()
        batch = torch.from_numpy(X.toarray()[:9])
        before = [weights(net) for net in model.networks()]
        model.train_gen_batch(batch)
        assert not is_same(weights(model.generator), before[0])
        assert is_same(weights(model.discriminator), before[1])
        assert all(p.grad is None for p in model.discriminator.parameters())
        before = [weights(net) for net in model.networks()]
        model.train_disc_batch(batch)
        assert is_same(weights(model.generator), before[0])
        assert not is_same(weights(model.discriminator), before[1])
        assert all(p.requires_grad for net in model.networks() for p in net.parameters())

    def test_what_the_user_froze_stays_frozen(self):
        model = make()
        model.discriminator.layers[0].weight.requires_grad_(False)
        kept = model.discriminator.layers[0].weight.detach().clone()
        for train in (model.train_gen_batch, model.train_disc_batch):
            train(X[:9])
        assert torch.equal(model.discriminator.layers[0].weight, kept)
        assert not model.discriminator.layers[0].weight.requires_grad

    def test_networks_of_ones_own(self):
        model = own(alpha=0.2)
        batch = X.toarray()[:9]
        c = torch.from_numpy(batch)
        fake = model.generator(c)
        shown, zeros = masks(batch, 0.7, 0, 0, with_observed=True), masks(batch, 0.5, 1, 0)
        d = model.discriminator(fake * shown, c)
        expected = (-d.log()[:, 0] + 0.2 * (zeros * fake**2).sum(1)).mean()
        assert model.train_gen_batch(c) == pytest.approx(expected.item(), rel=1e-5)
        for data in (X, CFGAN_TrainingSampler(X, 8, layout="csr")):
            model.train(data, VALID, "ndcg@5", num_epochs=2, **QUIET)
        items, scores = model.recommend(X, 4)
        expected = np.take_along_axis(model.predict(X)[0].numpy(), items.astype(int), 1)
        np.testing.assert_array_equal(scores, expected)
        with pytest.raises(NotImplementedError, match="has no similarity"):
            model.similar_items([0])

    def test_a_loss_that_is_no_number_changes_nothing(self):
        model = make(output="linear", activation="relu")
        huge = torch.from_numpy(X.toarray()[:9] * 1e30)
        before = arrays_of_networks(model)
        with pytest.raises(FloatingPointError, match="the loss is"):
            model.train_gen_batch(huge)
        assert is_same(arrays_of_networks(model), before)
        data = sp.csr_array(X.toarray() * 1e30)
        with pytest.raises(FloatingPointError, match=r"the loss is .* in epoch 1, batch 0"):
            model.train(data, num_epochs=1, **QUIET)

    def test_in_a_loop_of_ones_own(self):
        model, sampler = make(), CFGAN_TrainingSampler(X, 10)
        for _ in range(3):
            assert isinstance(model.train_gen_batch(next(sampler)), float)
            assert isinstance(model.train_disc_batch(next(sampler)), float)
        assert model.n_items == ITEMS
        assert (model.recommend(X, 3).items >= 0).all()


def arrays_of_networks(model):
    return [array for net in model.networks() for array in weights(net)]


@both_forms
class TestTraining:
    def test_a_seed_decides_everything(self, item_based):
        models = [make(item_based) for _ in range(3)]
        for model, seed in zip(models, (3, 3, 4), strict=True):
            torch.manual_seed(seed)  # of no account
            model.train(X, num_epochs=2, seed=seed, **QUIET)
        assert_same_bits(arrays(models[0]), arrays(models[1]))
        assert not np.array_equal(models[0].scores(X), models[2].scores(X))

    def test_two_and_three_epochs_are_five(self, item_based):
        parts, whole = make(item_based), make(item_based)
        for epochs in (2, 3):
            parts.train(X, num_epochs=epochs, **QUIET)
        whole.train(X, num_epochs=5, **QUIET)
        assert_same_bits(arrays(parts), arrays(whole))
        assert (parts.epoch, parts.gradient_updates) == (5, 25)
        assert set(whole.history) == {"loss", "d_loss", "seconds"}
        for name in ("loss", "d_loss"):
            assert parts.history[name] == whole.history[name]
        assert not any(net.training for net in whole.networks())

    def test_a_checkpoint_goes_on_with_the_same_bits(self, item_based, tmp_path):
        options = {**QUIET, "d_batch_size": 8, "seed": 2}
        whole, first, resumed = (make(item_based) for _ in range(3))
        whole.train(X, num_epochs=5, callbacks=[LossHistory()], **options)
        keep = [LossHistory(), Checkpoint(tmp_path / "c")]
        first.train(X, num_epochs=3, callbacks=keep, **options)
        assert {name.partition(".")[0] for name in arrays(first)} >= {"opt_g", "opt_d"}
        history = LossHistory()
        resumed.train(X, num_epochs=5, resume=tmp_path / "c", callbacks=[history], **options)
        assert_same_bits(arrays(resumed), arrays(whole))
        assert history.losses == whole.history["loss"]

    def test_other_steps_are_another_training(self, item_based, tmp_path):
        model = make(item_based)
        model.train(X, num_epochs=1, callbacks=[Checkpoint(tmp_path / "c")], **QUIET)
        for other in ({"g_steps": 4}, {"d_steps": 1}, {"batch_size": 14}, {"d_batch_size": 3}):
            with pytest.raises(ValueError, match=r"batch sizes are \[3, 2, 15, 15\], this one's"):
                make(item_based).train(X, num_epochs=2, resume=tmp_path / "c", **{**QUIET, **other})

    def test_an_interrupt_leaves_a_usable_model(self, item_based, caplog):
        model = make(item_based)

        class Interrupt(Callback):
            def on_batch_end(self, batch, logs):
                if self.model.epoch == 2 and batch == 3:
                    signal.raise_signal(signal.SIGINT)

        model.train(X, num_epochs=9, callbacks=[Interrupt()], **QUIET)
        assert model.interrupted
        assert model.epoch == len(model.history["loss"]) == 2
        assert "interrupted after 2 whole epochs" in caplog.text
        assert (model.recommend(X, 3).items >= 0).all()

    def test_the_best_epoch_is_restored(self, item_based, tmp_path):
        model, values = make(item_based), iter([1.0, 3.0, 2.0])
        snapshots = []

        class Snapshot(Callback):
            def on_epoch_end(self, epoch, logs):
                snapshots.append(arrays(self.model))

        def func(model, test_loader, metric_list):
            return {metric_list[0]: np.array([next(values)])}

        from pyrec.evaluation import ValidFunc

        model.train(
            X,
            (X, VALID[1]),
            "up",
            ValidFunc(func),
            3,
            best_path=tmp_path / "best",
            callbacks=[Snapshot()],
            **QUIET,
        )
        assert_same_bits(arrays(model), snapshots[1])
        assert model.epoch == 3

    def test_any_kind_of_training_data(self, item_based):
        expected = make(item_based)
        expected.train(X, num_epochs=2, **QUIET)
        dense = torch.from_numpy(X.toarray())
        own_sampler = CFGAN_TrainingSampler(X, 15, layout="dense")
        lists = Histories.from_lists([row.nonzero()[0] for row in X.toarray()], ITEMS)
        for data in (dense, Csr.from_scipy(X), [(X[:7], None), (X[7:], None)], lists, own_sampler):
            model = make(item_based)
            model.train(data, num_epochs=2, **QUIET)
            for (name, ours), theirs in zip(
                arrays(model).items(), arrays(expected).values(), strict=True
            ):
                np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5, err_msg=name)
            np.testing.assert_array_equal(model.item_counts, X.sum(0))

    def test_empty_profiles_are_left_out(self, item_based):
        wide = sp.csr_array(
            np.pad(X.toarray(), [(0, 0), (0, 5)] if item_based else [(0, 5), (0, 0)])
        )
        model, other = make(item_based), make(item_based)
        model.train(wide, num_epochs=2, **QUIET)
        other.train(X, num_epochs=2, **QUIET)
        assert is_same(arrays_of_networks(model), arrays_of_networks(other))

    def test_a_file_keeps_everything(self, item_based, tmp_path):
        ids = np.array([f"item {i}" for i in range(ITEMS)], dtype=object)
        data = Interactions(X, np.arange(USERS), ids)
        model = make(item_based, alpha=0.2, s_pm=0.3, s_zr=0.1, generator_l2=0.01)
        model.train(data, num_epochs=2, **QUIET)
        model.opt_d.param_groups[0]["lr"] = 0.003
        model.save_model(tmp_path / "m")
        fresh, new = make(item_based), CFGAN.__new__(CFGAN)
        fresh.load_model(tmp_path / "m")
        storage.load_into(new, tmp_path / "m")  # as pyrec.load_model makes it
        for other in (fresh, new):
            assert_same_bits(arrays(other), arrays(model))
            assert repr(other) == repr(model)
            assert (other.alpha, other.s_pm, other.s_zr) == (0.2, 0.3, 0.1)
            assert other.opt_g.param_groups[0]["weight_decay"] == 0.01
            assert other.opt_d.param_groups[0]["weight_decay"] == 0
            assert other.opt_d.param_groups[0]["lr"] == 0.003
            np.testing.assert_array_equal(other.item_ids, ids)
            for ours, theirs in zip(other.recommend(X, 5), model.recommend(X, 5), strict=True):
                np.testing.assert_array_equal(ours, theirs)
            other.train(data, num_epochs=1, **QUIET)
        model.train(data, num_epochs=1, **QUIET)
        assert_same_bits(arrays(new), arrays(model))

    def test_lists_agree_with_the_scores(self, item_based):
        for output in ("sigmoid", "linear"):
            model = make(item_based, output=output)
            model.train(X, num_epochs=3, **QUIET)
            some = X[[3, 1, 4, 1]]
            scores = model.scores(some)
            assert scores.shape == (4, ITEMS)
            if output == "sigmoid":
                assert 0 < scores.min() < scores.max() < 1
            hidden = model.predict(some)[0].numpy()
            np.testing.assert_array_equal(np.isneginf(hidden), some.toarray() > 0)
            items, best = model.recommend(some, ITEMS)
            for row in range(4):
                left = ITEMS - np.diff(some.indptr)[row]
                assert (items[row, left:] == -1).all()
                assert np.isneginf(best[row, left:]).all()
                np.testing.assert_allclose(
                    best[row, :left], -np.sort(-hidden[row])[:left], rtol=1e-5, atol=1e-6
                )
                np.testing.assert_allclose(
                    best[row, :left], hidden[row, items[row, :left]], rtol=1e-5, atol=1e-6
                )
            for ours, theirs in zip(model.scores(X), model.scores(X), strict=True):
                np.testing.assert_array_equal(ours, theirs)

    def test_blocks_make_no_difference(self, item_based, monkeypatch):
        model = make(item_based)
        model.train(X, num_epochs=2, **QUIET)
        rows = sp.vstack([X, sp.csr_array((3, ITEMS), dtype=np.float32)], format="csr")
        expected, scores = model.recommend(rows, 6), model.scores(rows)
        monkeypatch.setattr(model, "_block_rows", lambda: 7)
        monkeypatch.setattr("pyrec.models.base._SCORE_BYTES", 4 * ITEMS * 9)
        monkeypatch.setattr("pyrec.models.generator.SCORE_BYTES", 4 * USERS * 3)
        np.testing.assert_array_equal(model.recommend(rows, 6).items, expected.items)
        np.testing.assert_allclose(model.recommend(rows, 6).scores, expected.scores, rtol=1e-5)
        np.testing.assert_allclose(model.scores(rows), scores, rtol=1e-5)

    def test_bfloat16(self, item_based):
        model, exact = make(item_based), make(item_based)
        model.train(X, num_epochs=3, precision="bf16", **QUIET)
        exact.train(X, num_epochs=3, **QUIET)
        for name in ("loss", "d_loss"):
            assert model.history[name] != exact.history[name]
            np.testing.assert_allclose(model.history[name], exact.history[name], rtol=0.05)

    def test_similar_items_are_those_with_the_same_users(self, item_based):
        x = np.zeros((USERS, ITEMS), np.float32)
        x[:25, ::2] = x[25:, 1::2] = 1
        x[np.arange(USERS), np.arange(USERS) % ITEMS] = 0
        model = make(item_based)
        model.train(sp.csr_array(x), num_epochs=60, **QUIET)
        items, cosines = model.similar_items(np.arange(ITEMS), 5)
        assert (items % 2 == np.arange(ITEMS)[:, None] % 2).mean() > 0.9
        assert (items != np.arange(ITEMS)[:, None]).all()
        assert (cosines <= 1 + 1e-6).all()


class TestItemBased:
    @pytest.fixture
    def model(self):
        model = make(True, output="linear")
        model.train(X, num_epochs=2, **QUIET)
        return model

    def test_a_score_is_the_generator_at_the_item_for_the_user(self, model):
        made = model.generator(torch.from_numpy(X.toarray().T.copy())).detach().numpy()
        np.testing.assert_allclose(model.scores(X), made.T, rtol=1e-5, atol=1e-6)

    def test_values_are_of_no_account_in_a_history(self, model):
        expected = model.recommend(X, 5)
        lists = Histories.from_lists([row.nonzero()[0][::-1] for row in X.toarray()], ITEMS)
        for x in (2 * X, lists, X.toarray() > 0):
            np.testing.assert_array_equal(model.recommend(x, 5).items, expected.items)

    def test_of_equal_histories_the_first_counts(self):
        x = X.toarray()
        x[7] = x[31] = x[40]
        model = make(True)
        model.train(sp.csr_array(x), num_epochs=2, **QUIET)
        scores = model.scores(sp.csr_array(x))
        np.testing.assert_array_equal(scores[[31, 40]], scores[[7, 7]])

    @pytest.mark.parametrize("output", ["linear", "sigmoid"])
    def test_an_empty_history_gets_the_means(self, output):
        model = make(True, output=output)
        model.train(X, num_epochs=4, **QUIET)
        rows = sp.csr_array(np.vstack([X.toarray()[:2], np.zeros((2, ITEMS)), X.toarray()[2:3]]))
        means = model.scores(X).mean(0)
        scores = model.scores(rows)
        np.testing.assert_allclose(scores[2:4], [means, means], rtol=1e-5, atol=1e-6)
        np.testing.assert_array_equal(scores[[0, 1, 4]], model.scores(X[:3]))
        items, best = model.recommend(rows, 6)
        order = np.argsort(-means, kind="stable")[:6]
        np.testing.assert_array_equal(items[2:4], [order, order])
        np.testing.assert_allclose(best[2], means[order], rtol=1e-5, atol=1e-6)
        known = model.recommend(X[:3], 6)
        np.testing.assert_array_equal(items[[0, 1, 4]], known.items)
        np.testing.assert_allclose(best[[0, 1, 4]], known.scores, rtol=1e-6)

    def test_an_empty_user_of_the_training_gets_them_too(self):
        x = X.toarray()
        x[3] = 0
        model = make(True)
        model.train(sp.csr_array(x), num_epochs=2, **QUIET)
        every = model.generator(torch.from_numpy(x.T.copy())).detach().numpy()
        np.testing.assert_allclose(
            model.scores(sp.csr_array(x[3:4]))[0], every.mean(1), rtol=1e-5, atol=1e-6
        )

    def test_other_users_are_refused(self, model):
        other = X.toarray()
        other[4, np.flatnonzero(other[4])[0]] = 0
        other[9] = 1
        message = (
            "an item-based CFGAN can score the users of its training alone, .* rows of the training "
            "data as x: 2 of 50 rows are other histories, row 4 first"
        )
        for use in (model.recommend, model.predict, model.scores):
            with pytest.raises(ValueError, match=message):
                use(sp.csr_array(other))
        with pytest.raises(ValueError, match=r"valid_data: .* as tr: 49 of 50 rows"):
            make(True).train(X, VALID, "ndcg@5", num_epochs=1, **QUIET)

    def test_lists_are_made_without_scores_of_all(self, model, monkeypatch):
        def never(*given):
            raise AssertionError("users x items")

        for name in ("_columns", "_all_made"):
            monkeypatch.setattr(model, name, never)
        assert (model.recommend(X, 3).items >= 0).all()

    def test_another_catalogue_is_aligned_by_id(self):
        ids = np.arange(ITEMS) * 10
        model = make(True)
        model.train(Interactions(X, np.arange(USERS), ids), num_epochs=2, **QUIET)
        order = np.random.default_rng(0).permutation(ITEMS)
        other = Interactions(X[:, order], np.arange(USERS), ids[order])
        np.testing.assert_array_equal(model.recommend(other, 5).items, model.recommend(X, 5).items)

    def test_a_network_of_ones_own(self):
        model = own(True)
        model.train(X, num_epochs=2, **QUIET)
        made = model.generator(torch.from_numpy(X.toarray().T.copy())).detach().numpy().T
        np.testing.assert_allclose(model.scores(X), made, rtol=1e-5, atol=1e-6)
        items = model.recommend(X, 4).items
        expected = np.argsort(-np.where(X.toarray() > 0, -np.inf, made), 1, kind="stable")[:, :4]
        np.testing.assert_array_equal(items, expected)

    def test_before_training(self):
        model = make(True)
        for use in (model.recommend, model.predict, model.scores):
            with pytest.raises(RuntimeError, match="CFGAN is not trained"):
                use(X)
        model.train_gen_batch(X.T)
        with pytest.raises(RuntimeError, match="CFGAN is not trained"):
            model.recommend(X)

    def test_users_in_another_order_are_another_training(self, tmp_path):
        model = make(True)
        model.train(X, num_epochs=1, callbacks=[Checkpoint(tmp_path / "c")], **QUIET)
        with pytest.raises(ValueError, match="of another training: its users are other ones"):
            make(True).train(X[::-1], num_epochs=2, resume=tmp_path / "c", **QUIET)

    def test_a_file_of_the_other_form_is_refused(self, tmp_path):
        square = X[:ITEMS]
        options = {**QUIET, "num_epochs": 1}
        forms = {}
        for item_based in (True, False):
            net = CFGAN_G_net([ITEMS, 6, ITEMS]), CFGAN_D_net([2 * ITEMS, 5, 1])
            forms[item_based] = CFGAN(*net, item_based=item_based)
        forms[True].train(square, callbacks=[Checkpoint(tmp_path / "c")], **options)
        with pytest.raises(ValueError, match="of another training: its users are other ones"):
            forms[False].train(square, resume=tmp_path / "c", **options)
        assert not forms[False].item_based

    def test_items_are_passed_once_for_all_blocks_of_users(self, monkeypatch):
        model = make(True)
        model.train(X, num_epochs=1, **QUIET)
        x = sp.csr_array(sp.vstack([X[:20], sp.csr_array((2, ITEMS)), X[20:]]))
        expected = model.recommend(x, 5)
        calls = []
        factored = CFGAN_G_net.factored
        monkeypatch.setattr(
            CFGAN_G_net, "factored", lambda self, x: calls.append(1) or factored(self, x)
        )
        monkeypatch.setattr(model, "_block_rows", lambda: 4)
        ours = model.recommend(x, 5)
        np.testing.assert_array_equal(ours.items, expected.items)
        np.testing.assert_allclose(ours.scores, expected.scores, rtol=1e-6)
        assert calls == []  # kept from before
        model.train(X, num_epochs=1, **QUIET)
        calls.clear()
        changed = model.recommend(x, 5)
        assert len(calls) == 2  # for the lists, and for the means that a user without items gets
        assert np.abs(changed.scores - expected.scores).max() > 0
        with torch.no_grad():
            model.generator.layers[0].weight.mul_(2)
        assert np.abs(model.recommend(x, 5).scores - changed.scores).max() > 0


def test_batches_take_the_memory_of_their_entries():
    rng = np.random.default_rng(0)
    users, items = np.repeat(np.arange(20_000), 5), rng.integers(0, 1_000_000, 100_000)
    x = sp.csr_array((np.ones(100_000, np.float32), (users, items)), shape=(20_000, 1_000_000))
    sampler = CFGAN_TrainingSampler(x, 64, layout="csr")
    tracemalloc.start()
    try:
        batch = next(sampler)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert batch.shape == (64, 1_000_000)
    assert peak < 100_000  # dense: 256 MB


def test_batches_that_are_none():
    model = make()
    for batch in (X, torch.zeros(2, ITEMS), ("both", X)):
        with pytest.raises(TypeError, match="train_loader must give pairs of 'generator' or"):
            model.train_epoch(1, [batch], 0)
    for train_batch in (model.train_gen_batch, model.train_disc_batch):
        with pytest.raises(ValueError, match="batch has no rows"):
            train_batch(X[:0])


@pytest.mark.parametrize("config", [3, {"class": "CFGAN_G_net", "layers_dim": []}])
def test_files_whose_network_makes_no_sense(config, tmp_path):
    model = make()
    model.train(X, num_epochs=1, **QUIET)
    state = model.state
    model.state = lambda: ({**state()[0], "generator": config}, state()[1])
    model.save_model(tmp_path / "m")
    with pytest.raises(ValueError, match="m does not hold a valid CFGAN: "):
        storage.load_model(tmp_path / "m")


class TestTrainingUsers:
    @pytest.mark.parametrize("collide", [False, True])
    def test_rows_are_found(self, collide, monkeypatch):
        if collide:  # all histories have one hash: the items themselves must decide
            monkeypatch.setattr(
                training_users, "_hashes", lambda x: np.full(x.shape[0], 7, np.uint64)
            )
        dense = X.toarray()
        dense[20] = dense[10]
        users = TrainingUsers(sp.csr_array(dense))
        order = np.random.default_rng(0).permutation(USERS)
        found = users.find(sp.csr_array(dense[order]))
        np.testing.assert_array_equal(found, np.where(order == 20, 10, order))
        swapped = dense[:2].copy()
        swapped[0, :2] = 1 - swapped[0, :2]
        swapped[1] = 1
        np.testing.assert_array_equal(users.find(sp.csr_array(swapped)), [-1, -1])
        assert users.find(sp.csr_array((0, ITEMS))).shape == (0,)

    def test_every_item_counts(self):
        users = TrainingUsers(sp.csr_array(np.eye(ITEMS, dtype=np.float32)))
        np.testing.assert_array_equal(users.find(users.x[::-1]), np.arange(ITEMS)[::-1])

    def test_arrays_there_and_back(self):
        users = TrainingUsers(2 * X)
        arrays = users.arrays()
        again = TrainingUsers.from_arrays(arrays, ITEMS)
        assert not arrays
        np.testing.assert_array_equal(again.x.toarray(), 2 * X.toarray())
        assert again.digest == users.digest
        assert TrainingUsers(X).digest != users.digest
        np.testing.assert_array_equal(again.profiles.toarray(), 2 * X.toarray().T)

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (lambda a: a.pop("train.indices"), "train.indices is missing"),
            (
                lambda a: a.update({"train.data": a["train.data"].astype("f8")}),
                "train.data must be float32",
            ),
            (lambda a: a.update({"train.data": a["train.data"][:-1]}), "train: row offsets end at"),
            (lambda a: a["train.indices"].fill(ITEMS), "train: column numbers must lie in"),
            (
                lambda a: a.update({"train.indptr": np.array([0, 1])}),
                "train must have 1 entries, got",
            ),
        ],
    )
    def test_arrays_that_do_not_fit(self, change, message):
        arrays = {name: array.copy() for name, array in TrainingUsers(X).arrays().items()}
        change(arrays)
        with pytest.raises(ValueError, match=message):
            TrainingUsers.from_arrays(arrays, ITEMS)


class TestRefusals:
    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"alpha": -1}, "alpha must be a number of at least 0, got -1"),
            ({"s_pm": 1.1}, r"s_pm must be a number in \[0, 1\], got 1.1"),
            ({"s_zr": "half"}, r"s_zr must be a number in \[0, 1\], got 'half'"),
            ({"learning_rate": -1}, "learning_rate must be"),
            ({"generator_l2": np.inf}, "generator_l2 must be"),
            ({"item_based": 1}, "item_based must be true or false"),
            (
                {"discriminator": CFGAN_D_net([ITEMS, 3, 1])},
                "discriminator must take 40 columns, twice those of the generator, got 20",
            ),
        ],
    )
    def test_the_constructor(self, options, message):
        given = {
            "generator": CFGAN_G_net([ITEMS, 3, ITEMS]),
            "discriminator": CFGAN_D_net([2 * ITEMS, 3, 1]),
            **options,
        }
        with pytest.raises(ValueError, match=message):
            CFGAN(**given)

    def test_networks_that_are_none(self):
        net = CFGAN_G_net([ITEMS, 3, ITEMS])
        with pytest.raises(TypeError, match=r"discriminator must be a torch\.nn\.Module, got str"):
            CFGAN(net, "D")
        with pytest.raises(TypeError, match="generator must have float32 parameters"):
            CFGAN(net.double(), CFGAN_D_net([2 * ITEMS, 3, 1]))

    @pytest.mark.parametrize(
        ("arguments", "error", "message"),
        [
            ({"train_data": X[:, 1:]}, ValueError, "train_data has 19 items, the generator has 20"),
            ({"train_data": 2 * X}, ValueError, "must hold values from 0 to 1 .* got 2 to 2"),
            ({"train_data": 0 * X}, ValueError, "train_data holds no interactions"),
            ({"train_data": []}, ValueError, "train_data gave no batches"),
            ({"train_data": iter([X])}, TypeError, "train_data must give its batches again"),
            ({"train_data": VALID}, TypeError, "must be one matrix or a sampler, got a tuple of 2"),
            ({"valid_data": VALID}, ValueError, "valid_data and valid_metric need each other"),
            ({"g_steps": 0}, ValueError, "g_steps must be a whole number of at least 1, got 0"),
            ({"d_steps": 1.5}, ValueError, "d_steps must be a whole number of at least 1"),
            ({"batch_size": 0}, ValueError, "batch_size must be a whole number of at least 1"),
            ({"d_batch_size": 0}, ValueError, "d_batch_size must be a whole number of at least 1"),
            ({"num_epochs": -1}, ValueError, "num_epochs must be"),
            ({"precision": "fp64"}, ValueError, "precision must be one of"),
        ],
    )
    def test_before_anything_is_changed(self, arguments, error, message):
        model = make()
        before = arrays(model)
        with pytest.raises(error, match=message):
            model.train(**{"train_data": X, "num_epochs": 1, **QUIET, **arguments})
        assert_same_bits(arrays(model), before)
        assert (model.n_items, model.epoch) == (None, 0)

    def test_an_endless_sampler_is_no_history(self):
        model = make()
        model.train(X, num_epochs=1, **QUIET)
        with pytest.raises(TypeError, match="x must be histories, got a CFGAN_TrainingSampler"):
            model.recommend(CFGAN_TrainingSampler(X))
        np.testing.assert_array_equal(
            model.predict(DataSampler(X, batch_size=8, shuffle=False))[0], model.predict(X)[0]
        )

    def test_an_epoch_needs_steps_of_both(self):
        with pytest.raises(ValueError, match="train_loader gave no batches for the discriminator"):
            make().train_epoch(1, [("generator", X[:9])], verbose=0)

    def test_an_optimiser_that_no_file_holds(self):
        model = make()
        model.opt_d = torch.optim.SGD(model.discriminator.parameters(), lr=0.1)
        with pytest.raises(TypeError, match=r"opt_d must be the torch\.optim\.Adam .* got SGD"):
            model.train(X, num_epochs=1, **QUIET)

    @both_forms
    def test_a_file_that_does_not_fit_changes_nothing(self, item_based, tmp_path):
        for name, other in {
            "hidden": make(item_based, hidden=7),
            "other form": make(not item_based),
            "own": own(item_based),
        }.items():
            other.train(X, num_epochs=1, **QUIET)
            other.save_model(tmp_path / name)
        model = make(item_based)
        before = arrays_of_networks(model)
        for name, message in {
            "hidden": "its generator is .*7.*, this one is .*6",
            "other form": "its generator is",
            "own": "its generator is .*OwnGenerator",
        }.items():
            with pytest.raises(ValueError, match=message):
                model.load_model(tmp_path / name)
            assert is_same(arrays_of_networks(model), before)
            assert (model.n_items, model.item_based, model._users) == (None, item_based, None)
        with pytest.raises(ValueError, match=r"OwnGenerator.* is not one of"):
            storage.load_into(CFGAN.__new__(CFGAN), tmp_path / "own")

    @both_forms
    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (lambda p, a: a.pop("opt_d.layers.0.weight.exp_avg"), "exp_avg is missing"),
            (lambda p, a: a.update(foreign=np.zeros(3)), "unknown arrays: foreign"),
            (
                lambda p, a: p["training"].update(learning_rate=0.1),
                "learning_rate must have 2 values",
            ),
            (lambda p, a: p.pop("discriminator"), "'discriminator' is missing"),
            (lambda p, a: p.update(more=1), "parameters must be alpha, s_pm"),
            (
                lambda p, a: p["generator"].update(layers_dim=[4, 6, 4]),
                "profiles have .* columns, but the generator 4",
            ),
        ],
    )
    def test_what_is_wrong_with_a_file_is_named(
        self, item_based, change, message, tmp_path, monkeypatch
    ):
        model = make(item_based)
        model.train(X, num_epochs=1, **QUIET)
        parameters, tensors = model.state()
        tensors = {name: array.copy() for name, array in tensors.items()}
        change(parameters, tensors)
        monkeypatch.setattr(model, "state", lambda: (parameters, tensors))
        model.save_model(tmp_path / "m")
        other = make(item_based)
        before = arrays_of_networks(other)
        with pytest.raises(ValueError, match=message):
            other.load_model(tmp_path / "m")
        assert is_same(arrays_of_networks(other), before)
