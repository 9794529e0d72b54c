"""Networks against their formulas in NumPy, written out layer by layer."""

import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from pyrec import nets
from pyrec.kernels.tensors import Csr, Logits, drop
from pyrec.layers import SparseLinear

ITEMS = 11

MAKERS = {
    "MultiDAE_net": lambda **kw: nets.MultiDAE_net([3, 6, ITEMS], **kw),
    "VAE_net": lambda **kw: nets.VAE_net([3, 6, ITEMS], **kw),
    "MultiVAE_net": lambda **kw: nets.MultiVAE_net([3, 5, ITEMS], [ITEMS, 7, 3], **kw),
    "StandardVAE_net": lambda **kw: nets.StandardVAE_net(ITEMS, 6, 3, 0.4, 0.3, **kw),
}
FACTORED = ["MultiDAE_net", "MultiVAE_net"]
every_net = pytest.mark.parametrize("name", MAKERS)


@pytest.fixture
def x(draw):
    """Non-binary, with a row without items."""
    x = draw(8, ITEMS, 0.4, seed=3, binary=False).toarray()
    x[2] = 0
    return torch.from_numpy(x)


@pytest.fixture
def biased():
    """biased(net): biases that can be seen in the results; fresh ones are nearly 0."""

    def make(net):
        generator = torch.Generator().manual_seed(1)
        with torch.no_grad():
            for name, parameter in net.named_parameters():
                if name.endswith("bias"):
                    parameter.normal_(generator=generator)
        return net

    return make


def outputs(net, x, seed=0):
    """What the net returns as a tuple, with torch's generator at `seed`."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        result = net(x)
    return result if isinstance(result, tuple) else (result,)


def arrays(net):
    return {name: p.detach().numpy().astype(np.float64) for name, p in net.named_parameters()}


def encoded(p, x, n_layers):
    """Tanh after every layer but the last; the first weight is (inputs, outputs), others not."""
    h = x @ p["enc_layers.0.weight"] + p["enc_layers.0.bias"]
    for i in range(1, n_layers):
        h = np.tanh(h) @ p[f"enc_layers.{i}.weight"].T + p[f"enc_layers.{i}.bias"]
    return h


def decoded(p, z, n_layers, keep=None):
    h = z
    for i in range(n_layers):
        if i == n_layers - 1 and keep is not None:
            h = h * keep
        h = h @ p[f"dec_layers.{i}.weight"].T + p[f"dec_layers.{i}.bias"]
        h = np.tanh(h) if i < n_layers - 1 else h
    return h


def normalized(x):
    norms = np.sqrt((x**2).sum(1, keepdims=True))
    return np.divide(x, norms, out=np.zeros_like(x), where=norms > 0)


def softmax(a):
    e = np.exp(a - a.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


def expected_outputs(name, net, x, input_keep=1.0, noise=0.0, hidden_keep=None):
    """The network's definition; `input_keep`, `noise`, `hidden_keep`: what training draws."""
    p, x = arrays(net), x.numpy().astype(np.float64)
    if name in FACTORED:
        x = normalized(x)
    h = encoded(p, x * input_keep, 2)
    if name == "MultiDAE_net":
        return (decoded(p, np.tanh(h), 2),)
    mu, logvar = h[:, :3], h[:, 3:]
    logits = decoded(p, mu + noise * np.exp(logvar / 2), 2, hidden_keep)
    if name == "VAE_net":
        logits = 1 / (1 + np.exp(-logits))
    if name == "StandardVAE_net":
        logits = softmax(logits)
    return logits, mu, logvar


def assert_same(found, expected):
    assert len(found) == len(expected)
    for ours, plain in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours.detach().numpy(), plain, rtol=1e-4, atol=1e-5)


@every_net
class TestEveryNet:
    def test_evaluation_is_the_formula(self, name, x, biased):
        net = biased(MAKERS[name]()).eval()
        found = outputs(net, x)
        assert_same(found, expected_outputs(name, net, x))
        assert all(torch.equal(a, b) for a, b in zip(found, outputs(net, x, seed=1), strict=True))

    def test_training_is_the_formula_with_its_draws(self, name, x, biased):
        """Dropout of the non-zeros, row by row; then noise; then dropout of the hidden layer."""
        net = biased(MAKERS[name]())
        share = net.config().get("dropout", net.config().get("drop_encoder", 0.0))
        input_keep, draws = torch.ones_like(x), {}
        with torch.random.fork_rng():
            torch.manual_seed(7)
            if share:
                ones = Csr.from_dense((x != 0).float())
                input_keep[x != 0] = drop(ones, share).values
            if name != "MultiDAE_net":
                draws["noise"] = torch.randn(len(x), 3).numpy()
            if name == "StandardVAE_net":
                draws["hidden_keep"] = F.dropout(torch.ones(len(x), 6), 0.3).numpy()
        expected = expected_outputs(name, net, x, input_keep.numpy(), **draws)
        assert_same(outputs(net, x, seed=7), expected)

    def test_training_draws_anew(self, name, x):
        if name == "VAE_net":
            x = torch.ones_like(x)
        net = MAKERS[name]()
        assert not torch.equal(outputs(net, x, seed=1)[0], outputs(net, x, seed=2)[0])

    @pytest.mark.parametrize("training", [False, True])
    def test_dense_and_sparse_batches_give_the_same_bits(self, name, x, training):
        net = MAKERS[name]().train(training)
        results = []
        for batch in (x, Csr.from_dense(x)):
            net.zero_grad()
            found = outputs(net, batch)
            sum(t.square().sum() for t in found).backward()
            results.append([*found, *(p.grad.clone() for p in net.parameters())])
        assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))

    def test_a_batch_that_requires_a_gradient_gets_it(self, name, x, biased):
        """At the zeros too; at the non-zeros it is that of the sparse batch's values."""
        net = biased(MAKERS[name]()).eval()
        plain, sparse = x.clone().requires_grad_(), Csr.from_dense(x)
        sparse = sparse.with_values(sparse.values.clone().requires_grad_())
        found = outputs(net, plain), outputs(net, sparse)
        for a, b in zip(*found, strict=True):
            torch.testing.assert_close(a, b)
            (a.square().sum() + b.square().sum()).backward(retain_graph=True)
        taken = (x != 0).numpy()
        assert plain.grad.numpy()[~taken].any()
        assert plain.grad.isfinite().all()
        np.testing.assert_allclose(
            plain.grad.numpy()[taken], sparse.values.grad.numpy(), rtol=1e-4, atol=1e-6
        )
        outputs(net.train(), plain)[0].sum().backward()
        assert plain.grad.isfinite().all()

    def test_rows_do_not_depend_on_each_other(self, name, x):
        net = MAKERS[name]().eval()
        for whole, first, rest in zip(
            outputs(net, x), outputs(net, x[:3]), outputs(net, x[3:]), strict=True
        ):
            torch.testing.assert_close(whole, torch.cat([first, rest]))

    def test_a_batch_without_rows_or_without_items_is_fine(self, name, x):
        net = MAKERS[name]()
        assert [t.shape[0] for t in outputs(net, x[:0])] == [0] * len(outputs(net, x[:0]))
        result = outputs(net, torch.zeros(3, ITEMS))
        sum(t.sum() for t in result).backward()
        assert all(p.grad.isfinite().all() for p in net.parameters())

    def test_config_rebuilds_it(self, name, x):
        net = MAKERS[name]()
        described = json.loads(json.dumps(nets.describe(net)))
        assert described == {"class": name, **net.config()}
        again = nets.build(described)
        assert type(again) is type(net)
        assert again.config() == net.config()
        again.load_state_dict(net.state_dict())
        for ours, theirs in zip(outputs(again, x), outputs(net, x), strict=True):
            assert torch.equal(ours, theirs)

    def test_item_factors_are_the_last_layer(self, name, x):
        net = MAKERS[name]().eval()
        weight, bias = net.item_factors()
        last = net.dec_layers[-1]
        assert weight.shape[0] == bias.shape[0] == ITEMS
        assert weight.data_ptr() == last.weight.data_ptr()
        assert bias.data_ptr() == last.bias.data_ptr()
        assert not weight.requires_grad

    def test_initial_weights_depend_on_the_seed_alone(self, name):
        before = torch.get_rng_state()
        first = MAKERS[name](seed=5)
        assert torch.equal(before, torch.get_rng_state())
        with torch.device("meta"):  # an ambient device does not matter
            second = MAKERS[name](seed=5)
        second.init_weights()
        for a, b, c in zip(
            first.parameters(),
            second.parameters(),
            MAKERS[name](seed=6).parameters(),
            strict=True,
        ):
            assert torch.equal(a, b)
            assert not torch.equal(a, c)

    def test_input_errors(self, name, x):
        net = MAKERS[name]()
        for wrong in (x[:, :-1], x[0], Csr.from_dense(x[:, :-1])):
            with pytest.raises(ValueError, match=rf"x must have the shape \(n, {ITEMS}\), got \("):
                net(wrong)
        with pytest.raises(TypeError, match="x must be a tensor or Csr, got numpy ndarray"):
            net(x.numpy())

    def test_bfloat16_stays_near(self, name, x):
        net = MAKERS[name]().eval()
        expected = outputs(net, x)
        with torch.autocast("cpu", torch.bfloat16):
            found = outputs(net, x)
        for ours, full in zip(found, expected, strict=True):
            torch.testing.assert_close(ours.float(), full, rtol=0.05, atol=0.02)
        if name not in FACTORED:
            assert found[0].dtype == torch.float32

    @pytest.mark.gpu
    def test_a_gpu_gives_the_same(self, name, x):
        net = MAKERS[name]().eval()
        expected = outputs(net, x)
        net.to("cuda")
        for batch in (x.to("cuda"), Csr.from_dense(x).to("cuda")):
            for ours, cpu in zip(outputs(net, batch), expected, strict=True):
                torch.testing.assert_close(ours.cpu(), cpu, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", FACTORED)
class TestFactored:
    @pytest.mark.parametrize("training", [False, True])
    def test_is_forward_not_multiplied_out(self, name, x, training):
        net = MAKERS[name]().train(training)
        forward = outputs(net, x)
        with torch.random.fork_rng():
            torch.manual_seed(0)
            result = net.factored(x)
        logits, *latents = result if isinstance(result, tuple) else (result,)
        assert isinstance(logits, Logits)
        assert torch.equal(logits.dense(), forward[0])
        assert all(torch.equal(a, b) for a, b in zip(latents, forward[1:], strict=True))

    def test_scores_are_made_of_item_factors(self, name, x):
        net = MAKERS[name]().eval()
        result = net.factored(x)
        logits = result[0] if isinstance(result, tuple) else result
        weight, bias = net.item_factors()
        torch.testing.assert_close(logits.h @ weight.T + bias, outputs(net, x)[0])

    def test_dropout_0_draws_nothing_of_the_input(self, name, x):
        net = type(MAKERS[name]())([3, 6, ITEMS], dropout=0)
        assert torch.equal(net.train().prepared(x).values, net.eval().prepared(x).values)

    def test_the_length_of_a_history_does_not_matter(self, name, x):
        net = MAKERS[name]().eval()
        for ours, full in zip(outputs(net, x * 1e-4), outputs(net, x), strict=True):
            torch.testing.assert_close(ours, full)

    def test_values_of_zero_are_a_history_of_nothing(self, name, x):
        """0 / 0 has no place in the results, nor in the gradients."""
        net, batch = MAKERS[name]().eval(), Csr.from_dense(x)
        values = torch.zeros_like(batch.values, requires_grad=True)
        found = outputs(net, batch.with_values(values))
        for ours, nothing in zip(found, outputs(net, torch.zeros_like(x)), strict=True):
            torch.testing.assert_close(ours, nothing)
        sum(t.sum() for t in found).backward()
        assert values.grad.isfinite().all()

    def test_a_dense_batch_with_a_gradient_loses_items_too(self, name, x):
        x = torch.ones(200, ITEMS, requires_grad=True)
        kept = MAKERS[name]().prepared(x) * ITEMS**0.5
        assert sorted(set(kept.detach().round(decimals=3).flatten().tolist())) == [0, 2]
        assert float((kept == 0).float().mean()) == pytest.approx(0.5, abs=0.05)

    @pytest.mark.parametrize("dropout", [-0.1, 1, 1.0, float("nan"), "half", None, True])
    def test_dropout_errors(self, name, dropout):
        with pytest.raises(ValueError, match=r"dropout must be a number in \[0, 1\), got"):
            type(MAKERS[name]())([3, ITEMS], dropout=dropout)


def test_networks_with_probabilities_are_not_factored():
    assert not hasattr(nets.VAE_net([2, 4]), "factored")
    assert not hasattr(nets.StandardVAE_net(4, 3, 2, 0, 0), "factored")


class TestInitialWeights:
    def test_weights_are_glorot_and_biases_small(self):
        net = nets.MultiVAE_net([50, 80, 400])
        for layer in (*net.enc_layers, *net.dec_layers):
            bound = np.sqrt(6 / sum(layer.weight.shape))
            assert bound * 0.99 < layer.weight.abs().max() <= bound
            assert float(layer.weight.detach().std()) == pytest.approx(bound / np.sqrt(3), rel=0.02)
        biases = torch.cat([m.bias.detach() for m in (*net.enc_layers, *net.dec_layers)])
        assert float(biases.abs().max()) <= 0.002
        # A normal distribution cut at two standard deviations has 0.880 of its deviation left.
        assert float(biases.std()) == pytest.approx(0.00088, rel=0.1)
        assert float(biases.mean()) == pytest.approx(0, abs=1e-4)

    def test_the_variances_have_weights_of_their_own(self):
        weight = nets.VAE_net([3, 7]).enc_layers[0].weight
        assert weight.shape == (7, 6)
        assert not torch.equal(weight[:, :3], weight[:, 3:])

    @pytest.mark.parametrize("seed", [-1, 1.5, None])
    def test_seed_errors(self, seed):
        with pytest.raises(ValueError, match="seed must be a whole number"):
            nets.VAE_net([3, 7], seed=seed)

    def test_a_large_seed_is_taken(self):
        nets.VAE_net([3, 7], seed=2**70)


class TestSizes:
    @pytest.mark.parametrize("dims", [[3, 7], (3, 7), np.array([3, 7]), iter([3, 7])])
    def test_any_sequence_of_whole_numbers(self, dims):
        net = nets.MultiDAE_net(dims)
        assert net.dec_dims == [3, 7]
        assert net.enc_dims == [7, 3]
        assert all(type(size) is int for size in net.dec_dims)

    @pytest.mark.parametrize(
        "dims", [[], [7], [3, 0], [-3, 7], [3.0, 7], [True, 7], ["3", 7], "37", 7, None]
    )
    def test_errors(self, dims):
        with pytest.raises(ValueError, match="dec_dims must be two or more whole numbers above 0"):
            nets.MultiDAE_net(dims)
        if dims is not None:
            with pytest.raises(ValueError, match="enc_dims must be two or more whole numbers"):
                nets.MultiDAE_net([3, 7], dims)

    @pytest.mark.parametrize("enc_dims", [[8, 3], [7, 4], [3, 7]])
    def test_halves_that_do_not_fit(self, enc_dims):
        with pytest.raises(ValueError, match=r"enc_dims must lead from 7 items to 3 latents"):
            nets.MultiVAE_net([3, 7], enc_dims)

    @pytest.mark.parametrize("name", ["drop_encoder", "drop_decoder"])
    def test_dropout_of_the_standard_network(self, name):
        shares = {"drop_encoder": 0.5, "drop_decoder": 0.5, name: 1}
        with pytest.raises(ValueError, match=rf"{name} must be a number in \[0, 1\), got 1"):
            nets.StandardVAE_net(7, 5, 3, **shares)


class TestBuild:
    def test_a_class_of_ones_own_is_described_by_its_name(self):
        class Own(nets.MultiVAE_net):
            pass

        class VAE_net(nn.Module):  # pyrec's name, another class
            pass

        assert nets.describe(Own([2, 4])) == {"class": "Own"}
        assert nets.describe(VAE_net()) == {"class": "VAE_net"}

    @pytest.mark.parametrize("name", ["Own", None, 3, ["MultiVAE_net"], "AE_net", "describe"])
    def test_an_unknown_class_is_named(self, name):
        with pytest.raises(ValueError, match="is not one of MultiDAE_net, VAE_net") as error:
            nets.build({"class": name, "dec_dims": [2, 4]})
        assert repr(name) in str(error.value)

    @pytest.mark.parametrize(
        "arguments", [{}, {"dec_dims": [2, 4], "width": 3}, {"dec_dims": [2.5, 4]}]
    )
    def test_arguments_that_it_does_not_take(self, arguments):
        with pytest.raises(ValueError, match=r"VAE_net|dec_dims"):
            nets.build({"class": "VAE_net", **arguments})

    def test_the_description_is_left_as_it_is(self):
        config = nets.describe(nets.VAE_net([2, 4]))
        before = json.dumps(config)
        nets.build(config)
        assert json.dumps(config) == before


class TestOwnNetworks:
    def test_the_base_class_makes_no_layers(self, x):
        class Own(nets.AE_net):
            def __init__(self):
                super().__init__([2, ITEMS])
                self.layer = nn.Linear(ITEMS, 2)

            def encode(self, x):
                return self.layer(x)

            def decode(self, z):
                return z @ self.layer.weight

        net = Own()
        assert [name for name, _ in net.named_parameters()] == ["layer.weight", "layer.bias"]
        torch.testing.assert_close(net(x), net.layer(x) @ net.layer.weight)

    @pytest.mark.parametrize("method", ["encode", "decode", "init_weights"])
    def test_what_it_lacks_is_named(self, method):
        net = nets.AE_net([2, 4])
        with pytest.raises(NotImplementedError, match=f"AE_net does not implement {method}"):
            getattr(net, method)(*([] if method == "init_weights" else [None]))

    def test_another_decoder_reaches_every_way_out(self, x):
        class Louder(nets.MultiVAE_net):
            def logits(self, z):
                return super().logits(2 * z)

        plain, net = nets.MultiVAE_net([3, ITEMS]).eval(), Louder([3, ITEMS]).eval()
        mu, _ = plain.encode(x)
        for ours in (net(x)[0], net.factored(x)[0].dense(), net.decode(mu)):
            torch.testing.assert_close(ours, plain.decode(2 * mu))


class TestSparseLinear:
    def test_dense_and_sparse_are_a_product(self, x):
        layer = SparseLinear(ITEMS, 4)
        assert not any(p.any() for p in layer.parameters())
        with torch.no_grad():
            layer.weight.normal_()
            layer.bias.normal_()
        expected = x.numpy() @ layer.weight.detach().numpy() + layer.bias.detach().numpy()
        for batch in (x, Csr.from_dense(x)):
            np.testing.assert_allclose(layer(batch).detach().numpy(), expected, atol=1e-5)
        assert "in_features=11, out_features=4" in repr(layer)

    def test_gradients_match_differences(self):
        """Values, weight and bias, in double precision, through normalisation as well."""
        net = nets.MultiDAE_net([2, 5], dropout=0).double()
        layer = net.enc_layers[0]
        batch = Csr.from_dense(torch.tensor([[0, 2.0, 1, 0, 0], [0] * 5, [1, 0, 3, 0, 1]]).double())

        def loss(values, weight, bias):
            inputs = net.prepared(batch.with_values(values))
            return torch.func.functional_call(layer, {"weight": weight, "bias": bias}, inputs)

        values = batch.values.clone().requires_grad_()
        assert torch.autograd.gradcheck(loss, (values, layer.weight, layer.bias))
