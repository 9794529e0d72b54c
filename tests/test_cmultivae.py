"""CMultiVAE: its network, its two losses, and recommendations under a condition."""

import inspect
import json

import numpy as np
import pytest
import reference
import scipy.sparse as sp
import torch
import torch.nn.functional as F
from torch import nn

import pyrec
from pyrec import nets
from pyrec.data import Interactions, ItemConditions
from pyrec.evaluation import ValidFunc, evaluate, one_plus_random
from pyrec.kernels.tensors import Csr, drop
from pyrec.models import CMultiVAE, MultiVAE, conditioned_lists
from pyrec.nets import CMultiVAE_net, MultiVAE_net
from pyrec.samplers import (
    BalancedConditionedDataSampler,
    ConditionedDataSampler,
    EmptyConditionedDataSampler,
)
from pyrec.serialization import read_tensors, write_tensors

pytestmark = pytest.mark.usefixtures("one_torch_thread")

USERS, ITEMS, COND = 30, 20, 3
RNG = np.random.default_rng(0)
X = sp.csr_array((RNG.random((USERS, ITEMS)) < 0.4).astype("f4"))
# Item 0 has no condition, item 1 all of them.
HAS = (RNG.random((ITEMS, COND)) < 0.4).astype("f4")
HAS[0], HAS[1] = 0, 1
NAMES = ["Comedy", "Drama", "War"]
FILMS = ItemConditions(HAS, NAMES)
WIDE = np.hstack([X.toarray(), np.eye(COND, dtype="f4")[RNG.integers(0, COND, USERS)]])
WIDE[::3, ITEMS:] = 0
QUIET = {"verbose": 0, "batch_size": 25}


def made(**options):
    return CMultiVAE(CMultiVAE_net(COND, [4, 6, ITEMS]), 0.2, **options)


def trained(epochs=2, x=X, conditions=FILMS, **options):
    model = made(**options)
    model.train(x, num_epochs=epochs, conditions=conditions, **QUIET)
    return model


@pytest.fixture(scope="module")
def model():
    return trained()


class TestNetwork:
    def outputs(self, net, x, seed=0):
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            return net(x)

    def biased(self):
        net = CMultiVAE_net(COND, [4, 6, ITEMS])
        generator = torch.Generator().manual_seed(1)
        with torch.no_grad():
            for name, parameter in net.named_parameters():
                if name.endswith("bias"):
                    parameter.normal_(generator=generator)
        return net

    def expected(self, net, x, keep=1.0, noise=0.0):
        p = {name: t.detach().numpy() for name, t in net.named_parameters()}
        history, condition = x[:, :ITEMS], x[:, ITEMS:]
        norms = np.maximum(np.sqrt((history**2).sum(1, keepdims=True)), 1e-30)
        inputs = np.hstack([history / norms * keep, condition])
        h = np.tanh(inputs @ p["enc_layers.0.weight"] + p["enc_layers.0.bias"])
        h = h @ p["enc_layers.1.weight"].T + p["enc_layers.1.bias"]
        mu, logvar = h[:, :4], h[:, 4:]
        z = mu + noise * np.exp(logvar / 2)
        h = np.tanh(z @ p["dec_layers.0.weight"].T + p["dec_layers.0.bias"])
        return h @ p["dec_layers.1.weight"].T + p["dec_layers.1.bias"], mu, logvar

    def test_conditions_are_neither_normalised_nor_dropped(self):
        net = self.biased()
        x = torch.from_numpy(WIDE * np.where(np.arange(ITEMS + COND) < ITEMS, 3, 1)).float()
        x[4, :ITEMS] = 0  # a condition alone
        keep = torch.ones(USERS, ITEMS)
        with torch.random.fork_rng():
            torch.manual_seed(7)
            # Draws follow the entries, those of the conditions included.
            drawn = drop(Csr.from_dense((x != 0).float()), 0.5).dense()[:, :ITEMS]
            keep[x[:, :ITEMS] != 0] = drawn[x[:, :ITEMS] != 0]
            noise = torch.randn(USERS, 4).numpy()
        for found, plain in (
            (self.outputs(net, x, seed=7), self.expected(net, x.numpy(), keep.numpy(), noise)),
            (self.outputs(net.eval(), x), self.expected(net, x.numpy())),
        ):
            for ours, theirs in zip(found, plain, strict=True):
                np.testing.assert_allclose(ours.detach(), theirs, rtol=1e-4, atol=1e-5)

    @pytest.mark.parametrize("training", [False, True])
    def test_dense_and_sparse_batches_give_the_same(self, training):
        net = CMultiVAE_net(COND, [4, 6, ITEMS]).train(training)
        x = torch.from_numpy(WIDE)
        for first, second in zip(
            self.outputs(net, x), self.outputs(net, Csr.from_dense(x)), strict=True
        ):
            assert torch.equal(first, second)
        factored = self.outputs(net.factored, x)
        assert torch.equal(factored[0].dense(), self.outputs(net, x)[0])

    @pytest.mark.parametrize("training", [False, True])
    def test_items_alone_are_no_condition(self, training):
        net = CMultiVAE_net(COND, [4, 6, ITEMS]).train(training)
        x = torch.from_numpy(X.toarray())
        for alone, zeros in zip(
            self.outputs(net, x), self.outputs(net, F.pad(x, (0, COND))), strict=True
        ):
            assert torch.equal(alone, zeros)

    @pytest.mark.parametrize("width", [ITEMS, ITEMS + COND])
    def test_a_batch_that_requires_a_gradient_gets_it(self, width):
        net = CMultiVAE_net(COND, [4, 6, ITEMS]).eval()
        plain = torch.from_numpy(WIDE[:, :width]).clone().requires_grad_()
        sparse = Csr.from_dense(plain.detach())
        sparse = sparse.with_values(sparse.values.clone().requires_grad_())
        for x in (plain, sparse):
            net(x)[0].square().sum().backward()
        taken = plain.detach() != 0
        torch.testing.assert_close(plain.grad[taken], sparse.values.grad)
        assert plain.grad[:, ITEMS:][plain.detach()[:, ITEMS:] == 0].any() or width == ITEMS
        net.train()(plain)[0].sum().backward()
        assert plain.grad.isfinite().all()

    def test_first_layer_and_file(self):
        net = CMultiVAE_net(COND, [4, ITEMS], [ITEMS, 7, 4], dropout=0.3, seed=2)
        assert net.enc_layers[0].weight.shape == (ITEMS + COND, 7)
        assert (net.enc_dims, net.dec_dims) == ([ITEMS, 7, 4], [4, ITEMS])
        bound = np.sqrt(6 / (ITEMS + COND + 7))
        assert 0.8 * bound < float(net.enc_layers[0].weight.detach().abs().max()) <= bound
        config = json.loads(json.dumps(nets.describe(net)))
        assert config == {
            "class": "CMultiVAE_net",
            "cond_dim": COND,
            "dec_dims": [4, ITEMS],
            "enc_dims": [ITEMS, 7, 4],
            "dropout": 0.3,
        }
        again = nets.build(config, sum(p.numel() for p in net.parameters()))
        assert again.config() == net.config()
        with pytest.raises(ValueError, match="numbers are too few"):
            nets.build({**config, "cond_dim": 10**9}, 10**6)
        first = CMultiVAE_net(COND, [4, ITEMS], [ITEMS, 7, 4], seed=2)
        for ours, theirs in zip(first.parameters(), net.parameters(), strict=True):
            assert torch.equal(ours, theirs)

    def test_errors(self):
        net = CMultiVAE_net(COND, [4, ITEMS])
        message = r"x must have the shape \(n, 20\), or \(n, 23\) with conditions, got \(2, 21\)"
        with pytest.raises(ValueError, match=message):
            net(torch.zeros(2, 21))
        with pytest.raises(TypeError, match="x must be a tensor or Csr, got numpy ndarray"):
            net(WIDE)
        for cond_dim in (0, -1, 2.0, None, True):
            with pytest.raises(ValueError, match="cond_dim must be a whole number of at least 1"):
                CMultiVAE_net(cond_dim, [4, ITEMS])
        with pytest.raises(ValueError, match=r"dropout must be a number in \[0, 1\)"):
            CMultiVAE_net(COND, [4, ITEMS], dropout=1)

    def test_signature(self):
        parameters = inspect.signature(CMultiVAE_net).parameters.values()
        assert [(p.name, p.default) for p in parameters][2:] == [
            ("enc_dims", None),
            ("dropout", 0.5),
            ("seed", 0),
        ]


class TestLoss:
    LOGITS, TARGET = torch.tensor([[1.0, 2, 3], [0, 0, 0]]), torch.tensor([[1.0, 0, 1], [0, 1, 1]])
    LATENTS = torch.tensor([[1.0, 0], [0.5, -0.5]]), torch.tensor([[0.0, 0], [0.2, -0.3]])

    @pytest.mark.parametrize("sparse", [False, True])
    def test_documented_values(self, sparse):
        target = Csr.from_dense(self.TARGET) if sparse else self.TARGET
        loss_function = CMultiVAE(CMultiVAE_net(1, [2, 3])).loss_function
        for beta, expected in ((0.0, 2.5062182), (1.0, 2.8967733)):
            loss = loss_function(self.LOGITS, target, *self.LATENTS, beta=beta)
            assert loss.item() == pytest.approx(expected, rel=1e-6)

    def test_masked_items_take_no_part(self):
        mask = torch.tensor([[False, True, False], [False, False, False]])
        model = CMultiVAE(CMultiVAE_net(1, [2, 3]))
        loss = model.loss_function(self.LOGITS, self.TARGET, *self.LATENTS, 0.0, mask)
        two = np.log(np.exp([1, 3]).sum())
        expected = (2 * two - 1 - 3 + 2 * np.log(3)) / 2
        assert loss.item() == pytest.approx(expected, rel=1e-6)

    @pytest.mark.parametrize("masked", [False, True])
    @pytest.mark.parametrize("layout", ["dense", "csr"])
    def test_of_a_samplers_batch(self, model, masked, layout):
        """Both views, against the likelihood written out."""
        model = trained(mask_likelihood=masked)
        sampler = ConditionedDataSampler(FILMS, COND, X, None, 40, layout=layout)
        for tr, te in sampler:
            with torch.no_grad():
                found = model.loss(tr, te).item()
                x, target = (b if layout == "dense" else b.dense() for b in (tr, te))
                logits, mu, logvar = model.network(x)
                condition = x[:, ITEMS:].numpy()
                out = (condition @ HAS.T == 0) & (condition.sum(1, keepdims=True) > 0)
                if masked:
                    logits = logits.masked_fill(torch.from_numpy(out), -torch.inf)
                each = torch.where(target > 0, target * logits.log_softmax(1), 0)
                kl = -0.5 * (1 + logvar - mu**2 - logvar.exp()).sum(1).mean()
                expected = -each.sum(1).mean() + 0.2 * kl
            assert found == pytest.approx(expected.item(), rel=1e-5)
            assert not masked or out.any()

    def test_both_views_take_the_full_target_or_the_filtered_one(self):
        """What is masked counts for nothing, whether the target holds it or not."""
        model = trained(mask_likelihood=True)
        tr, te = next(iter(ConditionedDataSampler(FILMS, COND, X, None, 200, False)))
        full = tr[:, :ITEMS]
        assert not torch.equal(full, te)
        with torch.no_grad():
            assert model.loss(tr, te).item() == pytest.approx(model.loss(tr, full).item())
            assert model.loss(tr).item() == pytest.approx(model.loss(tr, full).item())

    def test_without_a_target_it_is_the_history(self, model):
        with torch.no_grad():
            expected = model.loss(torch.from_numpy(WIDE), torch.from_numpy(X.toarray())).item()
            for batch in (WIDE, torch.from_numpy(WIDE), sp.csr_array(WIDE)):
                assert model.loss(batch).item() == pytest.approx(expected, rel=1e-6)

    def test_a_mask_needs_conditions(self):
        with pytest.raises(ValueError, match="knows no item conditions"):
            made(mask_likelihood=True).train_batch(torch.from_numpy(WIDE))
        made(mask_likelihood=True).train_batch(torch.from_numpy(X.toarray()))

    @pytest.mark.parametrize("precision", ["fp32", "bf16"])
    def test_training_lowers_it(self, precision):
        """Even users like even items, odd users odd ones."""
        u, i = np.ogrid[:USERS, :ITEMS]
        x = (u % 2 == i % 2).astype("f4")
        for masked in (False, True):
            model = made(learning_rate=0.05, mask_likelihood=masked)
            model.train(x, num_epochs=8, conditions=FILMS, precision=precision, **QUIET)
            assert model.history["loss"][-1] < 0.85 * model.history["loss"][0]


class TestTraining:
    def test_a_matrix_makes_its_own_sampler(self):
        expected = made()
        expected.train(
            ConditionedDataSampler(FILMS, COND, X, None, 25, layout="csr"), num_epochs=2, verbose=0
        )
        lists = {i: np.flatnonzero(row).tolist() for i, row in enumerate(HAS)}
        for conditions in (FILMS, sp.csr_array(HAS), HAS, lists):
            ours = trained(conditions=conditions)
            assert ours.history["loss"] == expected.history["loss"]
            for a, b in zip(ours.network.parameters(), expected.network.parameters(), strict=True):
                assert torch.equal(a, b)
            np.testing.assert_array_equal(ours.item_conditions.matrix.toarray(), HAS)
            np.testing.assert_array_equal(ours.item_counts, X.sum(0))
        assert (ours.n_items, ours.n_cond, ours.item_conditions.names) == (ITEMS, COND, None)

    def test_interactions_align_the_conditions(self):
        ids = np.arange(ITEMS)[::-1] * 10
        films = ItemConditions(np.vstack([HAS, HAS[:1]]), NAMES, [*(np.arange(ITEMS) * 10), 7])
        data = Interactions(X, np.arange(USERS), ids)
        model = trained(x=data, conditions=films)
        np.testing.assert_array_equal(model.item_ids, ids)
        np.testing.assert_array_equal(model.item_conditions.matrix.toarray(), HAS[::-1])
        sampled = made()
        sampled.train(ConditionedDataSampler(films, COND, data), num_epochs=1, verbose=0)
        np.testing.assert_array_equal(sampled.item_ids, ids)
        # Another training takes the conditions that are known, in the order of its own items.
        model.train(Interactions(X, np.arange(USERS), ids[::-1]), num_epochs=1, **QUIET)
        np.testing.assert_array_equal(model.item_conditions.matrix.toarray(), HAS)
        np.testing.assert_array_equal(model.item_ids, ids[::-1])

    def test_two_trainings_are_one(self):
        twice, once = trained(1), trained(2)
        twice.train(X, num_epochs=1, **QUIET)
        assert twice.history["loss"] == once.history["loss"]

    def test_without_conditions_it_learns_to_do_without(self):
        ours, theirs = made(), MultiVAE(MultiVAE_net([4, 6, ITEMS]), 0.2)
        ours.train(X, num_epochs=1, **QUIET)
        with torch.no_grad():  # what the two share
            for a, b in zip(ours.network.parameters(), theirs.network.parameters(), strict=True):
                b.copy_(a[: len(b)])
        x = torch.from_numpy(X.toarray())
        torch.testing.assert_close(ours.predict(x)[0], theirs.predict(x)[0])
        assert ours.item_conditions is None

    def test_the_other_samplers(self):
        model = made()
        model.train(EmptyConditionedDataSampler(COND, X, None, 10), num_epochs=1, verbose=0)
        assert model.item_conditions is None
        model.train(
            BalancedConditionedDataSampler(FILMS, COND, X, None, 10), num_epochs=1, verbose=0
        )
        assert model.item_conditions.names.tolist() == NAMES
        pairs = [(WIDE[:9], X[:9]), (WIDE[9:], X[9:])]
        model.train(pairs, num_epochs=1, verbose=0)
        np.testing.assert_array_equal(model.item_counts, X.sum(0))
        assert model.item_conditions.names.tolist() == NAMES

    def test_validation_under_conditions(self, tmp_path):
        sampler = ConditionedDataSampler(FILMS, COND, X[:20], X[10:], 7, shuffle=False)
        model = made()
        model.train(
            X,
            sampler,
            "ndcg@5",
            num_epochs=3,
            best_path=tmp_path / "best",
            conditions=FILMS,
            **QUIET,
        )
        values = evaluate(model, sampler, ["ndcg@5"])["ndcg@5"]
        assert values.shape == (sampler.n_examples,)
        best = max(model.history["ndcg@5"])
        assert np.nanmean(values) == pytest.approx(best)
        assert model.item_conditions is not None

    def test_validation_among_random_items_that_satisfy_the_condition(self):
        sampler = ConditionedDataSampler(FILMS, COND, X[:20], X[10:], 7, shuffle=False)
        model = made()
        model.train(
            X,
            sampler,
            "mrr@9",
            ValidFunc(one_plus_random, r=4),
            num_epochs=2,
            best_path=None,
            conditions=FILMS,
            **QUIET,
        )
        values = one_plus_random(model, sampler, ["mrr@9"], r=4)["mrr@9"]
        assert np.nanmean(values) == pytest.approx(model.history["mrr@9"][-1])
        # All of the items that are possible: ranks are those of the plain definition.
        found = one_plus_random(model, sampler, [f"mrr@{ITEMS}"], r=ITEMS)[f"mrr@{ITEMS}"]
        expected = []
        for tr, te in sampler:
            for x, target, scores in zip(tr.numpy(), te.numpy(), model.scores(tr), strict=True):
                satisfies = (HAS @ x[ITEMS:] > 0) | (x[ITEMS:].sum() == 0)
                rivals = satisfies & (x[:ITEMS] == 0) & (target == 0)
                own = scores[target > 0]
                expected.extend(1 / (1 + (scores[rivals] > own[:, None]).sum(1)))
        np.testing.assert_allclose(found, expected)

    def test_random_items_of_wide_histories(self, model):
        """Held-out items that do not satisfy any of the conditions are never found."""
        wide = np.zeros((3, ITEMS + COND), "f4")
        wide[1, ITEMS] = wide[2, ITEMS + 1 :] = 1
        te = np.ones((3, ITEMS), "f4")
        found = one_plus_random(model, (wide, te), ["hit@1"])["hit@1"].reshape(3, ITEMS)
        satisfying = np.array([HAS[:, 0] * 0 + 1, HAS[:, 0], HAS[:, 1:].max(1)])
        assert 0 < satisfying.sum() < satisfying.size
        np.testing.assert_array_equal(found, satisfying)  # no rivals: all the others are held out

    def test_a_loop_of_ones_own(self, tmp_path):
        model = made()
        model.train_epoch(1, ConditionedDataSampler(FILMS, COND, X, None, 20), verbose=0)
        assert model.n_items == ITEMS
        assert model.recommend(X, 3).items.shape == (USERS, 3)
        model.item_conditions = FILMS
        model.recommend(X, 3, condition="War")
        model.save_model(tmp_path / "m", 1)

    def test_a_network_of_ones_own(self):
        class Own(nn.Module):
            def __init__(self):
                super().__init__()
                self.encoder = nn.Linear(ITEMS + COND, 4)
                self.decoder = nn.Linear(2, ITEMS)

            def forward(self, x):
                assert type(x) is torch.Tensor
                x = F.pad(x, (0, ITEMS + COND - x.shape[1]))
                mu, logvar = self.encoder(x).chunk(2, 1)
                return self.decoder(mu), mu, logvar

        for masked in (False, True):
            model = CMultiVAE(Own(), mask_likelihood=masked)
            model.train(X, num_epochs=1, conditions=FILMS, **QUIET)
            items = model.recommend(X, ITEMS, condition="War").items
            assert HAS[items[items >= 0], 2].all()
            assert model.predict(WIDE)[0].shape == (USERS, ITEMS)

    def test_conditions_that_nobody_knows_are_named(self):
        x = X.toarray() * (HAS[:, 1] == 0)  # nobody has an item with the condition 1
        with pytest.warns(UserWarning, match="no training example has condition 'Drama'"):
            trained(x=x)

    @pytest.mark.parametrize(
        ("train", "error", "message"),
        [
            (lambda: trained(conditions=np.eye(ITEMS)), ValueError, "has 20 conditions, n_cond"),
            (
                lambda: trained(conditions=HAS[:-1]),
                ValueError,
                "conditions has 19 items, the data has 20",
            ),
            (lambda: trained(conditions={0: [3]}), ValueError, "conditions must lie in"),
            (lambda: trained(conditions=HAS * 0), ValueError, "of 20 items none has one of 3"),
            (lambda: trained(conditions="genres"), TypeError, "conditions must be"),
            (lambda: trained(x=X[:, 1:]), ValueError, "train_data has 19 items, the network"),
            (lambda: trained(x=0 * X), ValueError, "train_data holds no interactions"),
            (lambda: trained(x=-1 * X), ValueError, "must hold values of at least 0 for CMultiVAE"),
            (
                lambda: trained(x=ConditionedDataSampler(FILMS, COND, X)),
                ValueError,
                "conditions are for a matrix: a sampler has those of its own",
            ),
            (
                lambda: made().train(EmptyConditionedDataSampler(2, X), verbose=0),
                ValueError,
                "train_data has 2 conditions, the network has 3",
            ),
            (
                lambda: made().train(ConditionedDataSampler(HAS[:, :2], 2, X), verbose=0),
                ValueError,
                "train_data has 2 conditions, the network has 3",
            ),
            (
                lambda: trained(
                    x=Interactions(X, np.arange(USERS), np.arange(ITEMS) + 100),
                    conditions=ItemConditions(HAS, NAMES, np.arange(ITEMS)),
                ),
                ValueError,
                "none of the 20 items has a condition",
            ),
            (lambda: made(mask_likelihood=1), ValueError, "mask_likelihood must be true or false"),
        ],
    )
    def test_errors(self, train, error, message):
        with pytest.raises(error, match=message):
            train()

    def test_an_error_leaves_the_model_as_it_was(self, model):
        before = model.item_conditions
        with pytest.raises(ValueError, match="valid_metric"):
            model.train(X, (X, X), conditions=ItemConditions(HAS[::-1]), **QUIET)
        assert model.item_conditions is before

    def test_signatures(self):
        found = inspect.signature(CMultiVAE).parameters
        assert list(found)[:4] == ["cmvae_net", "beta", "anneal_steps", "learning_rate"]
        assert [p.default for p in found.values()][1:4] == [1.0, 0, 1e-3]
        ours, theirs = (inspect.signature(c.train).parameters for c in (CMultiVAE, MultiVAE))
        positional = [p for p in theirs.values() if p.kind is p.POSITIONAL_OR_KEYWORD]
        assert list(ours.values())[: len(positional)] == positional


class TestPredict:
    def test_only_items_are_masked(self, model):
        for x in (
            WIDE,
            torch.from_numpy(WIDE),
            sp.csr_array(WIDE),
            Csr.from_dense(torch.from_numpy(WIDE)),
        ):
            scores, mu, logvar = model.predict(x)
            assert scores.shape == (USERS, ITEMS)
            np.testing.assert_array_equal(np.isneginf(scores.numpy()), X.toarray() > 0)
            assert mu.shape == logvar.shape == (USERS, 4)
        with torch.no_grad():
            plain = model.network.eval()(torch.from_numpy(WIDE))
        kept = X.toarray() == 0
        np.testing.assert_allclose(scores[kept], plain[0][kept], rtol=1e-4, atol=1e-5)
        whole = model.predict(WIDE, remove_train=False)[0]
        torch.testing.assert_close(whole, plain[0])
        np.testing.assert_allclose(model.scores(WIDE), plain[0], rtol=1e-4, atol=1e-5)

    def test_with_and_without_conditions(self, model):
        alone = model.predict(X)[0]
        zeros = model.predict(np.hstack([X.toarray(), np.zeros((USERS, COND))]))[0]
        torch.testing.assert_close(alone, zeros)
        assert not torch.allclose(model.predict(WIDE)[0][1], alone[1])

    def test_a_samplers_inputs_in_order(self, model):
        sampler = ConditionedDataSampler(FILMS, COND, X, None, 7, shuffle=False)
        inputs = torch.cat([tr for tr, _ in sampler])
        torch.testing.assert_close(model.predict(sampler)[0], model.predict(inputs)[0])
        shuffled = ConditionedDataSampler(FILMS, COND, X, None, 7)
        inputs = torch.cat([tr for tr, _ in shuffled])
        shuffled.epoch = 0
        torch.testing.assert_close(model.predict(shuffled)[0], model.predict(inputs)[0])

    def test_errors(self, model):
        with pytest.raises(ValueError, match="x has 21 columns, expected n_items = 20"):
            model.predict(np.zeros((2, 21)))


class TestRecommend:
    def expected(self, model, x, conditions, k, allowed=None, remove_seen=True):
        """The best of the scores, among items that have any of the row's conditions."""
        scores = model.predict(np.hstack([x.toarray(), conditions]), remove_train=False)[0].numpy()
        lacks = (conditions @ HAS.T == 0) & (conditions.sum(1, keepdims=True) > 0)
        hidden = lacks | (x.toarray() > 0 if remove_seen else False)
        if allowed is not None:
            hidden = hidden | ~allowed
        return reference.topk(scores, k, hidden)

    def check(self, found, expected):
        np.testing.assert_array_equal(found.items, expected[0])
        np.testing.assert_allclose(found.scores, expected[1], rtol=1e-4, atol=1e-5)

    @pytest.mark.parametrize("remove_seen", [True, False])
    @pytest.mark.parametrize(
        ("condition", "numbers"),
        [("War", [2]), (0, [0]), (["Comedy", 2], [0, 2]), (np.array([1]), [1])],
    )
    def test_one_condition_or_any_of_several_for_all(self, model, condition, numbers, remove_seen):
        wide = np.zeros((USERS, COND), "f4")
        wide[:, numbers] = 1
        found = model.recommend(X, 8, condition=condition, remove_seen=remove_seen)
        self.check(found, self.expected(model, X, wide, 8, remove_seen=remove_seen))
        assert (found.items >= 0).any()

    @pytest.mark.parametrize("listed", [None, 1, 30])
    def test_a_row_a_user(self, model, listed, monkeypatch):
        if listed is not None:  # pieces of few rows
            monkeypatch.setattr(conditioned_lists, "_LISTED", listed)
        rng = np.random.default_rng(3)
        wide = (rng.random((USERS, COND)) < 0.4).astype("f4")
        assert (wide.sum(1) == 0).any()
        found = model.recommend(X, 8, condition=sp.csr_array(wide))
        self.check(found, self.expected(model, X, wide, 8))
        for dense in (wide, wide.astype(int), torch.from_numpy(wide)):
            again = model.recommend(X, 8, condition=dense)
            np.testing.assert_array_equal(again.items, found.items)
        behind = np.hstack([X.toarray(), wide])
        self.check(model.recommend(behind, 8), self.expected(model, X, wide, 8))
        monkeypatch.setattr(model, "_block_rows", lambda: 7)
        self.check(model.recommend(behind, 8), self.expected(model, X, wide, 8))

    @pytest.mark.parametrize("rows", [True, False])
    @pytest.mark.parametrize("condition", ["War", "each"])
    def test_with_lists_of_ones_own(self, model, rows, condition):
        rng = np.random.default_rng(5)
        allowed, denied = rng.random((USERS, ITEMS)) < 0.7, rng.random((USERS, ITEMS)) < 0.2
        if not rows:
            allowed[:], denied[:] = allowed[0], denied[0]
        wide = np.tile(np.eye(COND, dtype="f4")[2], (USERS, 1))
        if condition == "each":
            wide = np.eye(COND, dtype="f4")[np.arange(USERS) % COND]
            condition = sp.csr_array(wide)
        lists = [allowed, denied]
        lists = [sp.csr_array(a) if rows else np.flatnonzero(a[0]) for a in lists]
        found = model.recommend(X, 8, allow=lists[0], deny=lists[1], condition=condition)
        self.check(found, self.expected(model, X, wide, 8, allowed & ~denied))

    @pytest.mark.parametrize("condition", ["War", "each"])
    @pytest.mark.parametrize(
        "allow",
        [
            [1, ITEMS],
            [-1, 1],
            np.ones(ITEMS, bool),
            [0.5],
            1,
            np.ones((USERS, ITEMS)),
            sp.csr_array((USERS, ITEMS + 1)),
        ],
        ids=["beyond", "negative", "bool", "float", "number", "dense", "wide"],
    )
    def test_wrong_lists_are_named_as_without_a_condition(self, model, allow, condition):
        with pytest.raises((TypeError, ValueError), match="allow") as expected:
            model.recommend(X, 3, allow=allow)
        if condition == "each":
            condition = sp.csr_array(np.eye(COND, dtype="f4")[np.arange(USERS) % COND])
        with pytest.raises(type(expected.value)) as found:
            model.recommend(X, 3, allow=allow, condition=condition)
        assert str(found.value) == str(expected.value)

    def test_without_a_condition_everything_is_allowed(self, model):
        self.check(model.recommend(X, 8), self.expected(model, X, np.zeros((USERS, COND), "f4"), 8))
        nothing = model.recommend(X, 8, condition=sp.csr_array((USERS, COND)))
        np.testing.assert_array_equal(nothing.items, model.recommend(X, 8).items)

    def test_empty_inputs(self, model):
        assert model.recommend(X[:0], 3, condition="War").items.shape == (0, 3)
        nobody = model.recommend(sp.csr_array((2, ITEMS)), 3, condition="War").items
        assert HAS[nobody, 2].all()

    def test_items_without_a_condition_are_for_nobody_who_asks(self, model):
        items = model.recommend(X, ITEMS, condition=[0, 1, 2], remove_seen=False).items
        assert not (items == 0).any()
        assert (items == 1).any(1).all()

    def test_it_learns_the_condition(self):
        """Items of two kinds at even and odd places: whoever asks for one gets it from the network."""
        x = sp.csr_array(
            np.tile(RNG.random((60, 1)) < 2, (1, ITEMS)) * (RNG.random((60, ITEMS)) < 0.5)
        )
        kinds = np.zeros((ITEMS, 2), "f4")
        kinds[::2, 0] = kinds[1::2, 1] = 1
        model = CMultiVAE(CMultiVAE_net(2, [8, ITEMS]), 0.1, learning_rate=0.02)
        model.train(x.astype("f4"), num_epochs=30, conditions=kinds, **QUIET)
        for kind in (0, 1):
            wide = np.hstack([x.toarray(), np.tile(np.eye(2)[kind], (60, 1))])
            scores = model.predict(wide, remove_train=False)[0]
            assert scores[:, kind::2].min(1).values.mean() > scores[:, 1 - kind :: 2].max()

    @pytest.mark.parametrize(
        ("condition", "message"),
        [
            ("Western", "condition 'Western' is unknown; known: Comedy, Drama, War"),
            (3, r"condition must be in 0\.\.2, got 3"),
            ([], "condition must name at least one condition"),
            (True, "condition must be a name, a number or a list of them, got True"),
            (
                sp.csr_array((USERS, 2)),
                r"condition must have the shape \(30, 3\), a row a history, got \(30, 2\)",
            ),
            (
                np.eye(COND, dtype=int),
                r"condition must have the shape \(30, 3\), a row a history, got \(3, 3\)",
            ),
            (np.eye(COND).tolist(), r"a number or a list of them, got an array of shape \(3, 3\)"),
        ],
    )
    def test_errors(self, model, condition, message):
        with pytest.raises(ValueError, match=message):
            model.recommend(X, 3, condition=condition)

    def test_more_errors(self, model):
        with pytest.raises(ValueError, match="x has conditions already"):
            model.recommend(WIDE, 3, condition="War")
        with pytest.raises(RuntimeError, match="CMultiVAE is not trained"):
            made().recommend(X, 3, condition="War")
        alone = made()
        alone.train(X, num_epochs=1, **QUIET)
        with pytest.raises(ValueError, match="knows no item conditions: train it with conditions"):
            alone.recommend(X, 3, condition="War")

    def test_a_condition_that_no_item_has(self, model):
        other = trained()
        other.item_conditions = ItemConditions(HAS * [1, 0, 1], NAMES)
        with pytest.raises(ValueError, match="no item has the condition 'Drama'"):
            other.recommend(X, 3, condition="Drama")


class TestFiles:
    @pytest.mark.parametrize("names", [NAMES, None])
    def test_conditions_travel_with_the_model(self, tmp_path, names):
        model = trained(conditions=ItemConditions(HAS, names), mask_likelihood=True)
        model.save_model(tmp_path / "m")
        loaded = made()
        state = loaded.load_model(tmp_path / "m")
        assert state["mask_likelihood"] is True
        assert loaded.mask_likelihood is True
        for other in (loaded, pyrec.load_model(tmp_path / "m")):
            np.testing.assert_array_equal(other.item_conditions.matrix.toarray(), HAS)
            for condition in (1, "Drama" if names else [0, 2]):
                ours = other.recommend(X, 5, condition=condition)
                theirs = model.recommend(X, 5, condition=condition)
                np.testing.assert_array_equal(ours.items, theirs.items)

    def test_training_goes_on_as_if_it_had_never_stopped(self, tmp_path):
        whole, half = trained(4), trained(2)
        half.save_model(tmp_path / "m")
        fresh = made()
        fresh.load_model(tmp_path / "m")
        fresh.train(X, num_epochs=2, **QUIET)
        assert fresh.history["loss"] == whole.history["loss"]
        resumed = made()
        resumed.train(X, num_epochs=4, conditions=FILMS, resume=tmp_path / "m", **QUIET)
        for model in (fresh, resumed):
            for a, b in zip(model.network.parameters(), whole.network.parameters(), strict=True):
                assert torch.equal(a, b)

    @pytest.mark.parametrize(
        ("before", "now"),
        [
            (FILMS, None),
            (None, FILMS),
            (FILMS, ItemConditions(HAS[::-1], NAMES)),
            (FILMS, ItemConditions(HAS, ["Comedy", "Drama", "Western"])),
            (FILMS, HAS),
        ],
        ids=["none now", "none before", "other items", "other names", "no names"],
    )
    def test_a_training_under_other_conditions_is_not_resumed(self, tmp_path, before, now):
        trained(1, conditions=before).save_model(tmp_path / "m")
        model = made()
        weights = [p.detach().clone() for p in model.network.parameters()]
        with pytest.raises(ValueError, match="its conditions are other ones than those of the da"):
            model.train(X, num_epochs=2, conditions=now, resume=tmp_path / "m", **QUIET)
        assert (model.epoch, model.item_conditions) == (0, None)
        for a, b in zip(model.network.parameters(), weights, strict=True):
            assert torch.equal(a, b)

    def test_a_training_without_conditions_is_resumed(self, tmp_path):
        trained(1, conditions=None).save_model(tmp_path / "m")
        model = made()
        model.train(X, num_epochs=2, resume=tmp_path / "m", **QUIET)
        assert model.history["loss"] == trained(2, conditions=None).history["loss"]

    def test_a_file_without_conditions(self, tmp_path, model):
        alone = made()
        alone.train(X, num_epochs=1, **QUIET)
        alone.save_model(tmp_path / "m")
        loaded = trained()
        loaded.load_model(tmp_path / "m")
        assert loaded.item_conditions is None

    def test_a_corrupt_file_changes_nothing(self, tmp_path):
        trained(conditions=HAS).save_model(tmp_path / "m")
        arrays, header = read_tensors(tmp_path / "m", "pyrec-model")
        arrays["conditions.shape"][1] = COND + 1
        write_tensors(tmp_path / "bad", arrays, header)
        other = trained(1)
        with pytest.raises(
            ValueError, match=r"conditions must have the shape \(20, 3\), got \(20, 4\)"
        ):
            other.load_model(tmp_path / "bad")
        assert other.epoch == 1
