"""What the network models add to the contract: documented losses and signatures, prediction, files."""

import inspect
import math

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from torch import nn

import pyrec
from pyrec import nets
from pyrec.kernels.tensors import Csr
from pyrec.models import VAE, AETrainer, MultiDAE, MultiVAE, TorchNNTrainer, base
from pyrec.samplers import DataSampler
from pyrec.serialization import read_tensors, write_tensors

pytestmark = pytest.mark.usefixtures("one_torch_thread")

USERS, ITEMS = 30, 20
X = sp.csr_array((np.random.default_rng(0).random((USERS, ITEMS)) < 0.3).astype("f4"))
QUIET = {"verbose": 0, "batch_size": 10}

MAKERS = {
    AETrainer: lambda: AETrainer(nets.MultiDAE_net([4, 6, ITEMS])),
    VAE: lambda: VAE(nets.VAE_net([4, 6, ITEMS])),
    MultiDAE: lambda: MultiDAE(nets.MultiDAE_net([4, 6, ITEMS])),
    MultiVAE: lambda: MultiVAE(nets.MultiVAE_net([4, 6, ITEMS])),
}
every_class = pytest.mark.parametrize("kind", MAKERS)


def trained(kind=MultiVAE, epochs=1, x=X):
    model = MAKERS[kind]()
    model.train(x, num_epochs=epochs, **QUIET)
    return model


class Own(nn.Module):
    """A user's network: knows nothing of sparse batches, nor of what nets of pyrec offer."""

    def __init__(self, hidden=5):
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(ITEMS, hidden), nn.BatchNorm1d(hidden))
        self.decoder = nn.Linear(hidden, ITEMS)

    def forward(self, x):
        assert type(x) is torch.Tensor
        return self.decoder(torch.tanh(self.encoder(x / 2)))


class TestLosses:
    LOGITS, TARGET = torch.tensor([[1.0, 2, 3], [0, 0, 0]]), torch.tensor([[1.0, 0, 1], [0, 1, 1]])
    LATENTS = torch.tensor([[1.0, 0], [0.5, -0.5]]), torch.tensor([[0.0, 0], [0.2, -0.3]])

    @pytest.mark.parametrize("sparse", [False, True])
    def test_documented_values(self, sparse):
        target = Csr.from_dense(self.TARGET) if sparse else self.TARGET
        multivae = MultiVAE(nets.MultiVAE_net([2, 3])).loss_function
        for beta, expected in ((0.0, 2.5062182), (1.0, 2.8967733)):
            loss = multivae(self.LOGITS, target, *self.LATENTS, beta=beta)
            assert loss.item() == pytest.approx(expected, rel=1e-6)
        vae = VAE(nets.VAE_net([2, 3])).loss_function
        loss = vae(self.LOGITS.sigmoid(), target, *self.LATENTS)
        assert loss.item() == pytest.approx(2.2841091 + 0.3905552, rel=1e-6)

    def test_squared_error(self):
        ones, other = torch.ones(2, 2), torch.tensor([[1.0, 1], [2, 1]])
        assert AETrainer(nets.MultiDAE_net([1, 2])).loss_function(ones, other).item() == 0.25

    def test_norms_of_both_halves(self):
        model = MultiDAE(nets.MultiDAE_net([1, 2], dropout=0.0), lam=0.2)
        for parameter in model.network.parameters():
            nn.init.constant_(parameter, 0.5)
        logits, target = torch.tensor([[1.0, 2], [0, 0]]), torch.tensor([[1.0, 0], [1, 1]])
        loss = model.loss_function(logits, target)
        assert loss.item() == pytest.approx(1.7229831, rel=1e-6)
        loss.backward()
        for layers, norm in (
            (model.network.dec_layers, math.sqrt(4 * 0.25)),
            (model.network.enc_layers, math.sqrt(3 * 0.25)),
        ):
            for parameter in layers.parameters():
                np.testing.assert_allclose(parameter.grad, 0.2 * 0.5 / norm, rtol=1e-6)

    def test_an_update_is_that_of_adam(self):
        """Loss before the update, target from the second batch, L2 penalty as torch has it."""
        options = {"learning_rate": 0.02, "weight_decay": 0.3}
        ours = AETrainer(nets.MultiDAE_net([4, ITEMS], dropout=0.0), **options)
        net = nets.MultiDAE_net([4, ITEMS], dropout=0.0)
        adam = torch.optim.Adam(net.parameters(), lr=0.02, weight_decay=0.3)
        x = torch.from_numpy(X.toarray())
        for _ in range(3):
            adam.zero_grad()
            loss = ((net(x[:15]) - x[15:]) ** 2).mean()
            loss.backward()
            adam.step()
            assert ours.train_batch(x[:15], x[15:]) == pytest.approx(loss.item(), rel=1e-5)
        for mine, theirs in zip(ours.network.parameters(), net.parameters(), strict=True):
            torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-6)
        assert ours.gradient_updates == 3

    def test_norm_of_a_network_without_a_decoder(self):
        model = MultiDAE(nn.Linear(2, 2), lam=1.0)
        nn.init.constant_(model.network.weight, 0.5)
        nn.init.zeros_(model.network.bias)
        loss = model.loss_function(torch.zeros(1, 2), torch.zeros(1, 2))
        assert loss.item() == pytest.approx(1.0)


class TestSignatures:
    TRAIN = ("train_data", "valid_data", "valid_metric", "valid_func", "num_epochs")

    def parameters(self, function):
        found = inspect.signature(function).parameters.values()
        kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD,)
        return {p.name: p.default for p in found if p.kind in kinds and p.name != "self"}

    def test_constructors(self):
        expected = {
            TorchNNTrainer: {"net": inspect.Parameter.empty, "learning_rate": 1e-3},
            AETrainer: {"ae_net": inspect.Parameter.empty, "learning_rate": 1e-3},
            VAE: {"ae_net": inspect.Parameter.empty, "learning_rate": 1e-3},
            MultiDAE: {"mdae_net": inspect.Parameter.empty, "lam": 0.2, "learning_rate": 1e-3},
            MultiVAE: {
                "mvae_net": inspect.Parameter.empty,
                "beta": 1.0,
                "anneal_steps": 0,
                "learning_rate": 1e-3,
            },
        }
        for kind, parameters in expected.items():
            assert self.parameters(kind) == parameters
            assert list(self.parameters(kind)) == list(parameters)

    def test_train(self):
        for kind in (AETrainer, VAE, MultiDAE):
            found = self.parameters(kind.train)
            assert tuple(found) == (*self.TRAIN, "verbose")
            assert (found["num_epochs"], found["verbose"]) == (100, 1)
        found = self.parameters(MultiVAE.train)
        assert tuple(found) == (*self.TRAIN, "best_path", "verbose")
        assert (found["num_epochs"], found["best_path"]) == (200, "chkpt_best.pth")
        assert repr(found["valid_func"]) == "ValidFunc(fun='evaluate', params=None)"

    @every_class
    def test_the_rest(self, kind):
        assert list(self.parameters(kind.train_batch)) == ["tr_batch", "te_batch"]
        assert list(self.parameters(kind.train_epoch)) == ["epoch", "train_loader", "verbose"]
        assert self.parameters(kind.save_model)["cur_epoch"] is None
        assert self.parameters(kind.predict)["remove_train"] is True
        assert list(self.parameters(kind.load_model)) == ["filepath"]

    @pytest.mark.parametrize(
        ("make", "message"),
        [
            (lambda net: MultiVAE(net, beta=-1), "beta must be a number of at least 0, got -1"),
            (lambda net: MultiVAE(net, anneal_steps=math.nan), "anneal_steps must be"),
            (lambda net: MultiDAE(net, lam="1"), "lam must be a number of at least 0, got '1'"),
            (lambda net: AETrainer(net, learning_rate=math.inf), "learning_rate must be"),
            (lambda net: VAE(net, weight_decay=True), "weight_decay must be a number"),
        ],
    )
    def test_bad_arguments(self, make, message):
        with pytest.raises(ValueError, match=message):
            make(nets.MultiVAE_net([2, 3]))

    def test_what_is_no_network(self):
        with pytest.raises(TypeError, match=r"must be a torch\.nn\.Module, got list"):
            AETrainer([4, 20])


class TestPredict:
    @every_class
    def test_scores_and_latents_without_noise(self, kind):
        model = trained(kind)
        first, second = model.predict(X), model.predict(X)
        widths = [ITEMS, 4, 4] if issubclass(kind, VAE) else [ITEMS]
        assert [tuple(t.shape) for t in first] == [(USERS, width) for width in widths]
        for ours, theirs in zip(first, second, strict=True):
            assert torch.equal(ours, theirs)
            assert not ours.requires_grad
        with torch.no_grad():
            outputs = model.network.eval()(torch.from_numpy(X.toarray()))
        recon = outputs[0] if isinstance(outputs, tuple) else outputs
        hidden = np.where(X.toarray() > 0, -np.inf, recon)
        np.testing.assert_allclose(first[0], hidden, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(model.scores(X), recon, rtol=1e-5, atol=1e-6)

    def test_batches_of_a_sampler_in_order(self):
        model = trained()
        sampler = DataSampler(X, X, batch_size=7, shuffle=False)
        for ours, theirs in zip(model.predict(sampler), model.predict(X), strict=True):
            torch.testing.assert_close(ours, theirs)

    def test_in_blocks(self, monkeypatch):
        model = trained()
        whole = model.predict(X)
        monkeypatch.setattr(base, "_SCORE_BYTES", 4 * ITEMS * 7)
        for ours, theirs in zip(model.predict(X), whole, strict=True):
            torch.testing.assert_close(ours, theirs)

    def test_before_train_after_updates_of_ones_own(self):
        model = MAKERS[MultiVAE]()
        model.train_batch(torch.from_numpy(X.toarray()))
        assert model.predict(X)[0].shape == (USERS, ITEMS)
        with pytest.raises(ValueError, match="x has 19 columns, expected n_items = 20"):
            model.predict(X[:, 1:])

    @every_class
    def test_similar_items_are_near_in_the_last_layer(self, kind):
        model = trained(kind, 3)
        vectors = model.network.item_factors()[0].numpy().astype(np.float64)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        items, scores = model.similar_items([3, 11], ITEMS)
        for row, item in enumerate((3, 11)):
            cosines = vectors @ vectors[item]
            order = np.argsort(-cosines, kind="stable")
            order = order[order != item]
            np.testing.assert_array_equal(items[row], [*order, -1])
            np.testing.assert_allclose(scores[row, :-1], cosines[order], atol=1e-6)

    def test_similar_items_of_a_network_that_has_none(self):
        model = AETrainer(Own())
        model.train(X, num_epochs=1, **QUIET)
        with pytest.raises(NotImplementedError, match="no similarity between items"):
            model.similar_items([1])


class TestFiles:
    def test_what_loading_returns(self, tmp_path):
        model = trained()
        model.save_model(tmp_path / "m")
        state = MAKERS[MultiVAE]().load_model(tmp_path / "m")
        assert (state["epoch"], state["gradient_updates"], state["beta"]) == (1, 3, 1.0)
        assert state["history"] == model.history
        assert state["network"] == nets.describe(model.network)
        model.save_model(tmp_path / "m", 7)
        assert MAKERS[MultiVAE]().load_model(tmp_path / "m")["epoch"] == model.epoch == 7
        with pytest.raises(ValueError, match="cur_epoch must be a whole number of at least 0"):
            model.save_model(tmp_path / "m", -1)

    @every_class
    def test_training_goes_on_as_if_it_had_never_stopped(self, kind, tmp_path):
        whole, half = trained(kind, 4), trained(kind, 2)
        half.save_model(tmp_path / "m")
        fresh = MAKERS[kind]()
        fresh.load_model(tmp_path / "m")
        for model in (fresh, pyrec.load_model(tmp_path / "m")):
            model.train(X, num_epochs=2, **QUIET)
            assert model.history["loss"] == whole.history["loss"]
            for (name, ours), theirs in zip(
                model.network.state_dict().items(), whole.network.state_dict().values(), strict=True
            ):
                assert torch.equal(ours, theirs), name

    def test_a_network_of_ones_own(self, tmp_path):
        model = AETrainer(Own(), 0.01)
        model.train(X, num_epochs=3, **QUIET)
        expected = model.recommend(X, 5)
        model.save_model(tmp_path / "m")
        other = AETrainer(Own())
        other.load_model(tmp_path / "m")
        np.testing.assert_array_equal(other.recommend(X, 5).items, expected.items)
        assert other.network.encoder[1].num_batches_tracked == 9
        with pytest.raises(ValueError, match=r"network class 'Own' .* call its load_model"):
            pyrec.load_model(tmp_path / "m")
        with pytest.raises(
            ValueError, match=r"encoder\.0\.weight must be .*\(6, 20\), got .*\(5, 20\)"
        ):
            AETrainer(Own(6)).load_model(tmp_path / "m")

    def test_a_file_from_before_the_first_update(self, tmp_path):
        start, model = MAKERS[MultiVAE](), trained()
        start.train(X, num_epochs=0, verbose=0)
        start.save_model(tmp_path / "m")
        model.load_model(tmp_path / "m")
        assert (model.epoch, model.history, dict(model.optimizer.state)) == (0, {}, {})
        np.testing.assert_array_equal(model.scores(X), start.scores(X))

    def test_after_a_loop_of_ones_own(self, tmp_path):
        model = MAKERS[MultiVAE]()
        for epoch in (1, 2):
            model.train_epoch(epoch, DataSampler(X, batch_size=15), verbose=0)
        model.save_model(tmp_path / "m", 2)
        loaded = pyrec.load_model(tmp_path / "m")
        assert (loaded.epoch, loaded.n_items) == (2, ITEMS)
        np.testing.assert_array_equal(loaded.recommend(X, 5).items, model.recommend(X, 5).items)

    def test_untrained(self, tmp_path):
        with pytest.raises(ValueError, match="MultiVAE cannot be saved before it is trained"):
            MAKERS[MultiVAE]().save_model(tmp_path / "m")

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (lambda a, h: a.pop("network.dec_layers.0.bias"), "dec_layers.0.bias is missing"),
            (lambda a, h: a.update(extra=np.ones(3)), "unknown arrays: extra"),
            (lambda a, h: a.pop("optimizer.dec_layers.0.bias.step"), "bias.step is missing"),
            (
                lambda a, h: a.update({"network.dec_layers.0.bias": np.ones(9, np.float32)}),
                r"dec_layers.0.bias must be float32 of shape \(6,\), got float32 of shape \(9,\)",
            ),
            (lambda a, h: h["parameters"].pop("beta"), "parameters must be beta, anneal_steps"),
            (lambda a, h: h["parameters"].update(beta=-1), "beta must be a number"),
            (lambda a, h: h["parameters"].pop("network"), "'network' is missing"),
            (
                lambda a, h: h["parameters"]["network"].update(dropout=2),
                "dropout must be|network is",
            ),
            (
                lambda a, h: h["parameters"]["network"].update(dec_dims=[10**9, 10**11]),
                "numbers are too few|network is",
            ),
            (lambda a, h: h["parameters"]["training"].update(history=[]), "history must be"),
            (lambda a, h: h["parameters"].pop("training"), "'training' is missing"),
            (lambda a, h: h["parameters"]["training"].update(epoch=-1), "epoch must be a whole"),
            (lambda a, h: h["parameters"]["training"].pop("history"), "'history' is missing"),
            (
                lambda a, h: h["parameters"]["training"]["history"].update(loss=[1.0, 2.0]),
                "history must hold lists of floats of one length",
            ),
            (lambda a, h: h["parameters"]["training"].update(precision="fp8"), "precision must be"),
            (
                lambda a, h: h["parameters"]["training"].update(callbacks=[["A", 1]]),
                "callbacks must",
            ),
        ],
    )
    def test_a_damaged_file_is_named_and_changes_nothing(self, change, message, tmp_path):
        trained().save_model(tmp_path / "m")
        arrays, header = read_tensors(tmp_path / "m", "pyrec-model")
        change(arrays, header)
        write_tensors(tmp_path / "m", arrays, header)
        with pytest.raises(ValueError, match=message):
            pyrec.load_model(tmp_path / "m")
        model = MultiVAE(nets.MultiVAE_net([4, 6, ITEMS]), 0.5)
        before = model.scores(X)
        with pytest.raises(ValueError, match=message):
            model.load_model(tmp_path / "m")
        np.testing.assert_array_equal(model.scores(X), before)
        assert (model.beta, model.epoch, model.n_items) == (0.5, 0, None)
        assert not model.optimizer.state

    def test_a_catalogue_of_another_size(self, tmp_path):
        trained().save_model(tmp_path / "m")
        arrays, header = read_tensors(tmp_path / "m", "pyrec-model")
        header["n_items"], arrays["item_counts"] = 7, np.zeros(7, np.int64)
        write_tensors(tmp_path / "m", arrays, header)
        with pytest.raises(ValueError, match="n_items is 7, but the network has 20 items"):
            pyrec.load_model(tmp_path / "m")

    def test_networks_of_other_types_are_refused(self):
        for dtype in (torch.float64, torch.bfloat16):
            with pytest.raises(TypeError, match=f"must have float32 parameters, got {dtype}"):
                MultiVAE(nets.MultiVAE_net([4, 6, ITEMS]).to(dtype))


@pytest.mark.gpu
@every_class
def test_on_a_gpu_as_on_the_cpu(kind, tmp_path):
    models = []
    for device in ("cpu", "cuda"):
        model = MAKERS[kind]()
        model.network.dropout = 0.0
        model.network.sample = lambda mu, logvar: mu
        model.train(X, num_epochs=2, device=device, **QUIET)
        assert model.device.type == device
        models.append(model)
    np.testing.assert_allclose(models[0].scores(X), models[1].scores(X), rtol=1e-3, atol=1e-4)
    ours, theirs = (model.recommend(X, 5) for model in models)
    np.testing.assert_allclose(ours.scores, theirs.scores, rtol=1e-3, atol=1e-4)
    models[1].save_model(tmp_path / "m")
    model = MAKERS[kind]()
    model.load_model(tmp_path / "m")
    np.testing.assert_allclose(model.scores(X), models[1].scores(X), rtol=1e-4, atol=1e-5)
