"""SVAE: its sampler, its network and recurrent unit, its loss, and the model."""

import tracemalloc

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from torch import nn

import pyrec
from pyrec import nets
from pyrec.callbacks import Checkpoint, EarlyStopping
from pyrec.data import Histories, Interactions
from pyrec.evaluation import evaluate
from pyrec.kernels.matrices import Csr, Sequences
from pyrec.models import SVAE
from pyrec.nets import SVAE_net
from pyrec.nets.recurrent import _by_torch, gru, last_states, packing
from pyrec.samplers import SVAE_Sampler

pytestmark = pytest.mark.usefixtures("one_torch_thread")

N = 12
LOGITS = [[1.0, 2, 3, 4], [0, 0, 0, 0]]
TARGETS = [[0.0, 1, 1, 0], [0, 0, 0, 1]]
MU, LOGVAR = [[1.0, 0], [0.5, -0.5]], [[0.0, 0], [0.2, -0.3]]


def sequences(n_users=20, longest=9, n_items=N, seed=0):
    """Sequences of lengths from 0 on, with repeats."""
    rng = np.random.default_rng(seed)
    lengths = rng.permutation(np.arange(n_users) % (longest + 1))
    return [rng.integers(0, n_items, length).tolist() for length in lengths]


def circles(n_users=60, n_items=N, seed=0):
    """Walks along a circle of items: after each item comes the next number."""
    rng = np.random.default_rng(seed)
    starts, lengths = rng.integers(0, n_items, n_users), rng.integers(3, n_items - 3, n_users)
    return [[(s + t) % n_items for t in range(n)] for s, n in zip(starts, lengths, strict=True)]


def network(n_items=N, seed=0):
    return SVAE_net(n_items, 8, 10, [4, 6, n_items], [10, 6, 4], seed=seed)


def model(n_items=N, **options):
    return SVAE(network(n_items), 0.1, 20, 0.01, **options)


def trained(data, epochs=2, **options):
    result = model()
    result.train(data, num_epochs=epochs, batch_size=8, verbose=0, **options)
    return result


def in_time(lists, n_items=N, ids=None):
    """Interactions whose order of time is that of the lists, which have no repeats."""
    rows = np.repeat(np.arange(len(lists)), [len(own) for own in lists])
    times = np.concatenate([np.arange(len(own)) for own in lists])
    columns = np.concatenate(lists).astype(np.int32)
    order = np.lexsort((columns, rows))
    indptr = np.append(0, np.cumsum([len(own) for own in lists]))
    ones = np.ones(len(rows), np.float32)
    matrix = sp.csr_array((ones, columns[order], indptr), shape=(len(lists), n_items))
    ids = np.arange(n_items) if ids is None else ids
    return Interactions(matrix, np.arange(len(lists)), ids, times[order])


def batch_of(lists, k=2, n_items=N):
    """One batch of all users that have two items or more, in order."""
    sampler = SVAE_Sampler(n_items, dict(enumerate(lists)), None, "next_k", k, False, batch_size=99)
    return next(iter(sampler))


class TestSampler:
    @pytest.mark.parametrize(
        ("pred_type", "expected"),
        [
            ("next", [{1}, {6}, {0}, {3}]),
            ("next_k", [{1, 6}, {6, 0}, {0, 3}, {3}]),
            ("postfix", [{1, 6, 0, 3}, {6, 0, 3}, {0, 3}, {3}]),
        ],
    )
    def test_documented_values(self, pred_type, expected):
        sampler = SVAE_Sampler(7, {"ann": [2, 1, 6, 0, 3]}, None, pred_type, 2)
        ((x, y),) = sampler
        assert x.items.tolist() == [2, 1, 6, 0]
        assert x.offsets.tolist() == [0, 4]
        assert [set(row.nonzero()[:, 0].tolist()) for row in y.dense()] == expected
        torch.testing.assert_close(y.dense().sum(1), torch.ones(4))

    @pytest.mark.parametrize("pred_type", ["next", "next_k", "postfix"])
    @pytest.mark.parametrize("batch_size", [1, 7, 100])
    def test_equals_the_plain_definition(self, pred_type, batch_size):
        lists, k = sequences(), 3
        sampler = SVAE_Sampler(N, dict(enumerate(lists)), None, pred_type, k, batch_size=batch_size)
        ahead = {"next": 1, "next_k": k, "postfix": N * N}[pred_type]
        given = {tuple(own) for own in lists if len(own) > 1}
        found = []
        for x, y in sampler:
            dense = y.dense().numpy()
            for first, last in zip(x.offsets, x.offsets[1:], strict=False):
                # The last item of all is a target of the last step alone.
                inputs = x.items[first:last].tolist()
                own = next(o for o in given if list(o[:-1]) == inputs and dense[last - 1, o[-1]])
                found.append(own)
                for step in range(len(inputs)):
                    wanted = np.zeros(N)
                    wanted[sorted(set(own[step + 1 : step + 1 + ahead]))] = 1
                    np.testing.assert_allclose(dense[first + step], wanted / wanted.sum())
        assert sorted(found) == sorted(tuple(own) for own in lists if len(own) > 1)
        assert sampler.n_dropped == sum(len(own) < 2 for own in lists)
        assert len(sampler) == len(list(sampler)) == -(-len(found) // batch_size)

    def test_order_is_a_function_of_seed_and_epoch(self):
        data = {u: [u, u + 1] for u in range(30)}

        def order(sampler):
            return [int(x.items[0]) for x, _ in sampler]

        first = SVAE_Sampler(40, data, seed=1)
        passes = [order(first), order(first)]
        assert passes[0] != passes[1]
        assert sorted(passes[0]) == list(range(30))
        assert set(passes[0][:4]) != set(passes[1][:4])  # other users, not another order alone
        again = SVAE_Sampler(40, data, seed=1)
        again.epoch = 1
        assert order(again) == passes[1]
        assert order(SVAE_Sampler(40, data, seed=2)) != passes[0]
        assert order(SVAE_Sampler(40, data, shuffle=False)) == list(range(30))

    def test_sources_agree(self):
        lists = [[3, 1, 2], [0, 5], [4, 2, 0, 1]]
        sources = {"dict": dict(enumerate(lists)), "histories": Histories.from_lists(lists, N)}
        sources["interactions"] = in_time(lists)
        for source in sources.values():
            ((x, _),) = SVAE_Sampler(N, source, shuffle=False, batch_size=3)
            assert x.items.tolist() == [3, 1, 0, 4, 2, 0]

    def test_prediction_gives_whole_histories_and_what_was_held_out(self):
        tr, te = {"a": [3, 1], "b": [], "c": [2]}, {"c": [0], "a": [5, 4]}
        sampler = SVAE_Sampler(N, tr, te, is_training=False, batch_size=2)
        batches = list(sampler)
        assert len(batches) == len(sampler) == 2
        assert [own.tolist() for x, _ in batches for own in x] == [[3, 1], [], [2]]
        held_out = sp.vstack([y for _, y in batches]).toarray()
        assert [np.flatnonzero(row).tolist() for row in held_out] == [[4, 5], [], [0]]
        assert sampler.users == ["a", "b", "c"]
        assert [y for _, y in SVAE_Sampler(N, tr, is_training=False)] == [None] * 3

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"pred_type": "all"}, "pred_type must be one of next, next_k, postfix, got 'all'"),
            ({"k": 0}, "k must be a whole number of at least 1, got 0"),
            ({"batch_size": 0}, "batch_size must be a whole number of at least 1, got 0"),
            ({"num_items": 0}, "num_items must be a whole number of at least 1"),
            ({"num_items": 3}, r"dict_data_tr.*0\.\.2"),
            ({"dict_data_tr": {0: [1], 1: []}}, "no user with two items or more"),
            ({"dict_data_tr": {}}, "dict_data_tr has no users"),
            ({"dict_data_te": {7: [1]}}, "users that dict_data_tr lacks, such as 7"),
            ({"dict_data_te": sp.csr_array((5, N))}, "dict_data_te must have a row a user, 1"),
            ({"shuffle": 2}, "shuffle must be true or false"),
        ],
    )
    def test_what_is_wrong_is_named(self, change, message):
        arguments = {"num_items": N, "dict_data_tr": {0: [1, 2, 3]}, **change}
        with pytest.raises(ValueError, match=message):
            SVAE_Sampler(**arguments)

    def test_other_kinds_are_refused(self):
        for data in (sp.csr_array((3, N)), {0: "ab"}, [1, 2]):
            with pytest.raises(TypeError, match="dict_data_tr"):
                SVAE_Sampler(N, data)
        users = in_time([[1, 2], [3, 4]])
        others = Interactions(users.matrix, [5, 6], np.arange(N))
        with pytest.raises(ValueError, match="users of dict_data_tr"):
            SVAE_Sampler(N, users, others, is_training=False)

    def test_memory_does_not_follow_steps_times_items(self):
        n_items = 1_000_000
        items = np.random.default_rng(0).integers(0, n_items, 1000)
        sampler = SVAE_Sampler(n_items, Histories([0, 1000], items, n_items), None, "next_k", 4)
        tracemalloc.start()
        for x, y in sampler:
            assert (x.n_steps, len(y.values)) == (999, 3990)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 1 << 20  # dense: 4 GB


class TestRecurrentUnit:
    """Against torch's own, which has neither packing nor gradients of ours."""

    def test_packing(self):
        offsets = torch.tensor([0, 2, 2, 5, 6])
        packed = packing(offsets)
        assert packed.users.tolist() == [2, 0, 3, 1]
        assert packed.sizes == [3, 2, 1]
        assert packed.order.tolist() == [2, 0, 5, 3, 1, 4]
        assert packed.order[packed.place].tolist() == list(range(6))

    @pytest.mark.parametrize("lengths", [[4], [1, 1, 1], [0, 3, 7, 3, 0, 1]])
    def test_states_and_gradients(self, lengths):
        torch.manual_seed(0)
        layer = nn.GRU(5, 6)
        offsets = torch.tensor([0, *np.cumsum(lengths)])
        x = torch.randn(int(offsets[-1]), 5, requires_grad=True)
        weights = torch.randn(len(x), 6)
        packed = packing(offsets)
        states = gru(layer, x, packed.order, packed.sizes)[packed.place]
        parts = [layer(part)[0] for part in x.split(lengths) if len(part)]
        expected = torch.cat(parts)
        torch.testing.assert_close(states, expected)
        of = [x, *layer.parameters()]
        ours = torch.autograd.grad((states * weights).sum(), of)
        theirs = torch.autograd.grad((expected * weights).sum(), of)
        for mine, other in zip(ours, theirs, strict=True):
            torch.testing.assert_close(mine, other, rtol=1e-4, atol=1e-5)

    def test_other_devices_have_the_same_states(self):
        layer, packed = nn.GRU(5, 6), packing(torch.tensor([0, 4, 4, 5, 8]))
        x = torch.randn(3, 5)
        rows = torch.tensor([2, 0, 0, 1, 2, 2, 1, 0])
        expected = gru(layer, x, rows, packed.sizes)
        torch.testing.assert_close(_by_torch(layer, x[rows], packed.sizes), expected)

    def test_gradients_in_double(self):
        torch.manual_seed(0)
        layer = nn.GRU(3, 4).double()
        x = torch.randn(4, 3, dtype=torch.double, requires_grad=True)
        rows = torch.tensor([0, 2, 1, 1, 3, 0, 0, 1, 2])
        sizes = packing(torch.tensor([0, 3, 3, 8, 9])).sizes
        given = (x, *layer.parameters())
        assert torch.autograd.gradcheck(lambda x, *_: gru(layer, x, rows, sizes), given)

    def test_second_derivatives_are_refused(self):
        x = torch.randn(2, 3, requires_grad=True)
        layer = nn.GRU(3, 4)
        (first,) = torch.autograd.grad(
            gru(layer, x, torch.arange(2), [1, 1]).sum(), x, create_graph=True
        )
        with pytest.raises(RuntimeError, match="twice"):
            first.sum().backward()

    def test_last_states(self):
        torch.manual_seed(0)
        layer, inputs = nn.GRU(5, 6), torch.randn(4, 5)
        offsets, rows = torch.tensor([0, 2, 2, 5]), torch.tensor([3, 0, 1, 1, 2])
        last = last_states(layer, inputs, rows, packing(offsets))
        expected = [layer(inputs[[3, 0]])[0][-1], torch.zeros(6), layer(inputs[[1, 1, 2]])[0][-1]]
        torch.testing.assert_close(last, torch.stack(expected))

    def test_nobody_has_a_step(self):
        packed = packing(torch.zeros(3, dtype=torch.int64))
        layer = nn.GRU(2, 3)
        assert gru(layer, torch.zeros(0, 2), packed.order, packed.sizes).shape == (0, 3)
        none = torch.zeros(0, dtype=torch.int64)
        assert last_states(layer, torch.zeros(0, 2), none, packed).tolist() == [[0.0] * 3] * 2


class TestNetwork:
    def test_is_the_documented_network(self):
        net = network().eval()
        x = torch.tensor([[3, 1, 4, 1]])
        logits, mu, logvar = net(x)
        assert (logits.shape, mu.shape, logvar.shape) == ((1, 4, N), (1, 4, 4), (1, 4, 4))
        h = net.gru(net.item_embed(x[0]))[0]
        heads = net.enc_layers[1](torch.tanh(net.enc_layers[0](h)))
        torch.testing.assert_close(torch.cat([mu[0], logvar[0]], 1), heads)
        decoded = net.dec_layers[1](torch.tanh(net.dec_layers[0](heads[:, :4])))
        torch.testing.assert_close(logits[0], decoded)

    def test_many_users_equal_each_alone(self):
        net, lists = network().eval(), sequences()
        together = net(Sequences.from_arrays(*parts_of(lists)))
        alone = [net(torch.tensor([own])) for own in lists if own]
        for number, whole in enumerate(together):
            expected = torch.cat([results[number][0] for results in alone])
            torch.testing.assert_close(whole, expected)

    def test_last_is_the_last_step(self):
        net, lists = network().eval(), sequences()
        logits, mu, logvar = net.last(Sequences.from_arrays(*parts_of(lists)))
        assert (logits.shape, mu.shape, logvar.shape) == ((20, N), (20, 4), (20, 4))
        for own, row in zip(lists, logits.dense(), strict=True):
            if own:
                torch.testing.assert_close(row, net(torch.tensor([own]))[0][0, -1])
            else:
                torch.testing.assert_close(row, net.decode(net._heads(torch.zeros(1, 10))[0])[0])

    def test_noise_in_training_alone(self):
        net, x = network(), torch.tensor([[1, 2, 3]])
        assert not torch.equal(net(x)[0], net(x)[0])
        net.eval()
        assert torch.equal(net(x)[0], net(x)[0])

    def test_seed_decides_the_weights(self):
        same = [
            torch.cat([p.detach().ravel() for p in network(seed=s).parameters()]) for s in (0, 0, 1)
        ]
        assert torch.equal(same[0], same[1])
        assert not torch.equal(same[0], same[2])
        before = torch.random.get_rng_state()
        network()
        assert torch.equal(torch.random.get_rng_state(), before)

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"n_items": 0}, "n_items must be a whole number of at least 1"),
            ({"embed_size": 1.5}, "embed_size must be a whole number"),
            ({"rnn_size": 9}, "enc_dims must lead from rnn_size = 9 to the 4 latents"),
            ({"dec_dims": [4, 6, 11]}, "dec_dims must end in n_items = 12"),
            ({"dec_dims": [5, N]}, "enc_dims must lead from rnn_size = 10 to the 5 latents"),
            ({"enc_dims": [10]}, "enc_dims must be two or more"),
            ({"seed": -1}, "seed must be"),
        ],
    )
    def test_sizes_that_do_not_fit(self, change, message):
        arguments = {"n_items": N, "embed_size": 8, "rnn_size": 10, "dec_dims": [4, 6, N]}
        with pytest.raises(ValueError, match=message):
            SVAE_net(**{**arguments, "enc_dims": [10, 6, 4], **change})

    def test_other_batches_are_refused(self):
        with pytest.raises(TypeError, match=r"torch.float32 of shape \(1, 12\)"):
            network()(torch.zeros(1, N))
        with pytest.raises(ValueError, match="x must be of 12 items, got 11"):
            network()(Sequences.from_arrays([0, 1], [3], 11))

    def test_builds_from_its_description(self):
        net = network()
        config = nets.describe(net)
        assert config["class"] == "SVAE_net"
        again = nets.build(config)
        assert nets.describe(again) == config
        with pytest.raises(ValueError, match="too few"):
            nets.build({**config, "n_items": 10**9, "dec_dims": [4, 6, 10**9]}, 10**6)


def parts_of(lists, n_items=N):
    own = Histories.from_lists(lists, n_items)
    return own.offsets, own.items, n_items


class TestLoss:
    def test_documented_value(self):
        given = [torch.tensor(v) for v in (LOGITS, TARGETS, MU, LOGVAR)]
        assert model().loss_function(*given, 0.5).item() == pytest.approx(3.5217617)
        with_users = [t[None] for t in given]
        assert model().loss_function(*with_users, 0.5).item() == pytest.approx(3.5217617)
        given[1] = Csr.from_dense(given[1])
        assert model().loss_function(*given, 0.5).item() == pytest.approx(3.5217617)

    def test_two_users_of_one_length(self):
        given = [torch.tensor(v) for v in (LOGITS, TARGETS, MU, LOGVAR)]
        other = [torch.zeros(2, 4), given[1], given[2] * 2, given[3]]
        alone = [model().loss_function(*user, 0.5) for user in (given, other)]
        both = [torch.stack(pair) for pair in zip(given, other, strict=True)]
        torch.testing.assert_close(model().loss_function(*both, 0.5), torch.stack(alone).mean())

    def test_a_step_without_targets_counts_nothing(self):
        logits, mu, logvar = (torch.tensor(v) for v in (LOGITS, MU, LOGVAR))
        targets = torch.tensor([TARGETS[0], [0.0] * 4])
        expected = 4.4401897 - 2.5  # log-sum-exp less the mean of logits 2 and 3
        for x in (targets, Csr.from_dense(targets)):
            value = model().loss_function(logits, x, mu, logvar, 0.0)
            assert value.item() == pytest.approx(expected)

    def test_mean_over_users_of_what_each_has_alone(self):
        own = model()
        own.network.eval()
        own.gradient_updates = 10
        lists = [user for user in sequences() if len(user) > 1]
        whole = own.loss(*batch_of(lists))
        alone = torch.stack([own.loss(*batch_of([user])) for user in lists]).mean()
        torch.testing.assert_close(whole, alone)
        parameters = list(own.network.parameters())
        for a, b in zip(
            torch.autograd.grad(whole, parameters),
            torch.autograd.grad(alone, parameters),
            strict=True,
        ):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)

    def test_documented_tensors_are_a_batch(self):
        own = model()
        own.network.eval()
        x, y = batch_of([[3, 1, 4, 0]])
        expected = own.loss(x, y)
        hot = (y.dense() > 0).float()
        for target in (hot, hot[None], y.to_csr()):
            torch.testing.assert_close(own.loss(x.items[None], target), expected)

    def test_targets_are_needed(self):
        with pytest.raises(ValueError, match="te_batch must hold the targets of each step"):
            model().train_batch(torch.tensor([[1, 2]]))

    def test_annealing(self):
        own = model()
        betas = []
        for _ in range(3):
            betas.append(own.loss_weights()["beta"])
            own.train_batch(*batch_of(circles()))
        np.testing.assert_allclose(betas, [0.0, 0.005, 0.01])
        assert own.n_items == N


class TestModel:
    @pytest.mark.parametrize("pred_type", ["next", "next_k", "postfix"])
    def test_learns_what_comes_next(self, pred_type):
        own = SVAE(network(), 0.01, 0, 0.01, pred_type=pred_type, k=2)
        own.train(circles(), num_epochs=60, batch_size=8, verbose=0)
        walks = [[(s + t) % N for t in range(4)] for s in range(N)]
        best = own.recommend(walks, 1).items[:, 0]
        near = sum((item - walk[-1]) % N <= 2 for item, walk in zip(best, walks, strict=True))
        assert near >= 11
        if pred_type == "next":
            assert sum(i == (w[-1] + 1) % N for i, w in zip(best, walks, strict=True)) >= 11

    def test_order_counts(self):
        own = trained(circles(), 20)
        forward, backward = own.scores([[1, 2, 3, 4], [4, 3, 2, 1]])
        assert np.abs(forward - backward).max() > 0.05

    def test_all_forms_of_histories_agree(self):
        own = trained(circles())
        lists = [[3, 1, 4], [5, 9, 2], [0, 11, 7]]
        expected = own.recommend(Histories.from_lists(lists, N), 5)
        batches = SVAE_Sampler(N, dict(enumerate(lists)), is_training=False, batch_size=2)
        forms = {
            "lists": lists,
            "arrays": [np.array(user) for user in lists],
            "tuples": tuple(map(tuple, lists)),
            "dict": {f"user {u}": user for u, user in enumerate(lists)},
            "tensor": torch.tensor(lists),
            "int32 tensor": torch.tensor(lists, dtype=torch.int32),
            "sequences": Sequences.from_arrays(*parts_of(lists)),
            "interactions": in_time(lists),
            "batches": batches,
            "list of batches": [torch.tensor([user]) for user in lists],
        }
        for name, form in forms.items():
            got = own.recommend(form, 5)
            np.testing.assert_array_equal(got.items, expected.items, err_msg=name)
            np.testing.assert_allclose(got.scores, expected.scores, rtol=1e-5, err_msg=name)
        assert own.predict(torch.tensor(lists[:1]))[0].shape == (1, N)

    def test_a_matrix_is_taken_in_ascending_order(self):
        own = trained(circles())
        lists = [[1, 3, 4], [0, 2]]
        matrix = Histories.from_lists(lists, N).to_csr()
        untimed = Interactions(matrix, np.arange(2), np.arange(N))
        for given in (matrix, matrix.toarray(), torch.from_numpy(matrix.toarray()), untimed):
            with pytest.warns(UserWarning, match="x has no order.*pass Histories") as caught:
                got = own.recommend(given, 3)
            assert len(caught) == 1
            np.testing.assert_array_equal(got.items, own.recommend(lists, 3).items)

    def test_predict_is_the_last_step_and_masks_the_whole_fold_in(self):
        own = trained(circles())
        scores, mu, logvar = own.predict([[3, 1, 4], []])
        assert mu.shape == logvar.shape == (2, 4)
        assert torch.isinf(scores[0]).nonzero()[:, 0].tolist() == [1, 3, 4]
        assert torch.isfinite(scores[1]).all()
        kept = own.predict([[3, 1, 4], []], remove_train=False)[0]
        with torch.no_grad():
            step = own.network(torch.tensor([[3, 1, 4]]))[0][0, -1]
        torch.testing.assert_close(kept[0], step)
        np.testing.assert_array_equal(own.scores([[3, 1, 4], []]), kept.numpy())

    def test_recommend_leaves_out_what_is_seen_or_denied(self):
        own = trained(circles())
        lists = [[3, 1, 4, 1], [], list(range(N))]
        best = own.recommend(lists, N)
        assert sorted(best.items[0])[:3] == [-1] * 3
        assert not set(best.items[0]) & {1, 3, 4}
        assert sorted(best.items[1]) == list(range(N))
        assert (best.items[2] == -1).all()
        assert set(own.recommend(lists, 2, allow=[5, 6], deny=[6]).items.ravel()) == {5, -1}
        assert sorted(own.recommend(lists, N, remove_seen=False).items[2]) == list(range(N))

    def test_blocks_give_what_the_whole_gives(self, monkeypatch):
        own, lists = trained(circles()), sequences()
        whole, scores = own.recommend(lists, 4), own.predict(lists)
        monkeypatch.setattr("pyrec.models.on_device._ROWS", 3)
        monkeypatch.setattr("pyrec.models.base._SCORE_BYTES", 4 * N * 3)
        monkeypatch.setattr("pyrec.nets.svae._STEPS", 5)
        np.testing.assert_array_equal(own.recommend(lists, 4).items, whole.items)
        for part, expected in zip(own.predict(lists), scores, strict=True):
            torch.testing.assert_close(part, expected)

    def test_similar_items(self):
        own = trained(circles())
        best = own.similar_items([2, 5], 3)
        vectors = nn.functional.normalize(own.network.dec_layers[-1].weight.detach())
        cosines = vectors[[2, 5]] @ vectors.T
        cosines[[0, 1], [2, 5]] = -1
        np.testing.assert_array_equal(best.items, cosines.topk(3).indices)

    def test_trains_on_every_source_alike(self):
        lists = circles()
        by_lists = trained(lists)
        sampler = SVAE_Sampler(N, dict(enumerate(lists)), None, "next_k", 4, batch_size=8)
        for source in (Histories.from_lists(lists, N), in_time(lists), sampler):
            other = trained(source)
            assert other.history["loss"] == by_lists.history["loss"]
            np.testing.assert_array_equal(other.item_counts, by_lists.item_counts)
        counts = np.bincount(np.concatenate(lists), minlength=N)
        np.testing.assert_array_equal(by_lists.item_counts, counts)
        assert by_lists.epoch == 2
        assert by_lists.gradient_updates == 16

    def test_trains_on_a_matrix_in_ascending_order(self):
        lists = [sorted(set(user)) for user in circles()]
        with pytest.warns(UserWarning, match="train_data has no order"):
            own = trained(Histories.from_lists(lists, N).to_csr())
        assert own.history["loss"] == trained(lists).history["loss"]

    def test_trains_on_a_list_of_batches(self):
        own = model()
        own.train([batch_of(circles())] * 2, num_epochs=2, verbose=0)
        assert own.gradient_updates == 4
        assert own.n_items == N

    def test_own_items(self):
        ids = np.array([f"film {i}" for i in range(N)], object)
        own = trained(in_time(circles(), ids=ids))
        assert own.item_ids.tolist() == ids.tolist()
        # The same histories, with other columns and one item more.
        lists = [[3, 1, 4], [5, 9, 2]]
        others = np.append(ids[::-1], "unknown")
        turned = [[N - 1 - i for i in user] + [N] for user in lists]
        got = own.recommend(in_time(turned, N + 1, others), 5)
        np.testing.assert_array_equal(got.items, own.recommend(lists, 5).items)

    def test_save_load_and_resume(self, tmp_path):
        file = tmp_path / "svae.safetensors"
        whole = trained(circles(), 4, seed=3)
        part = trained(circles(), 2, seed=3, callbacks=[Checkpoint(file)])
        loaded = SVAE(network(seed=5), pred_type="postfix")
        state = loaded.load_model(file)
        assert (state["epoch"], state["k"], loaded.pred_type, loaded.beta) == (2, 4, "next_k", 0.1)
        lists = sequences()
        np.testing.assert_array_equal(loaded.recommend(lists).items, part.recommend(lists).items)
        again = trained(circles(), 4, seed=3, resume=file)
        assert again.history["loss"] == whole.history["loss"]
        for a, b in zip(again.network.parameters(), whole.network.parameters(), strict=True):
            assert torch.equal(a, b)

    def test_a_file_of_another_size_is_refused(self, tmp_path):
        trained(circles()).save_model(tmp_path / "file")
        other = model(N + 1)
        with pytest.raises(ValueError, match=r"its network is.*this one is"):
            other.load_model(tmp_path / "file")
        assert other.n_items is None

    def test_validation_and_early_stopping(self, tmp_path):
        given = [walk[:-2] for walk in circles(seed=1)]
        held = [walk[-2:] for walk in circles(seed=1)]
        valid = Histories.from_lists(given, N), Histories.from_lists(held, N)
        own = model()
        own.train(
            circles(),
            valid,
            "ndcg@5",
            num_epochs=40,
            batch_size=8,
            best_path=tmp_path / "best",
            callbacks=[EarlyStopping("ndcg@5", patience=3)],
            verbose=0,
        )
        best = np.nanmax(own.history["ndcg@5"])
        assert len(own.history["ndcg@5"]) == own.epoch
        assert np.nanmean(evaluate(own, valid, ["ndcg@5"])["ndcg@5"]) == pytest.approx(best)
        assert best > 0.6
        sampler = SVAE_Sampler(
            N, dict(enumerate(given)), dict(enumerate(held)), is_training=False, batch_size=7
        )
        np.testing.assert_allclose(
            evaluate(own, sampler, ["ndcg@5"])["ndcg@5"], evaluate(own, valid, ["ndcg@5"])["ndcg@5"]
        )

    def test_half_precision(self):
        own = model()
        own.train(circles(), num_epochs=10, batch_size=8, verbose=0, precision="bf16")
        plain = trained(circles(), 10)
        assert own.history["loss"][-1] == pytest.approx(plain.history["loss"][-1], rel=0.05)

    @pytest.mark.parametrize(
        ("data", "message"),
        [
            ([[1], []], "train_data holds no history of two items or more"),
            ([[], []], "train_data holds no interactions"),
            ([], "train_data holds no interactions"),
            (sp.csr_array((2, 11)), "train_data has 11 columns, expected n_items = 12"),
            ([[1, 12]], r"train_data: items must lie in 0\.\.11"),
            ([[1, -1]], r"train_data: items must lie in 0\.\.11"),
            (Histories([0, 2], [1, 2], 11), "train_data has 11 items"),
            (SVAE_Sampler(11, {0: [1, 2]}), "train_data has 11 items"),
            (SVAE_Sampler(N, {0: [1, 2]}, is_training=False), "is_training=True"),
            (torch.zeros(3, dtype=torch.int64), r"shape \(n, steps\), got \(3,\)"),
        ],
    )
    def test_training_data_that_does_not_fit(self, data, message):
        own = model()
        with pytest.raises(ValueError, match=message):
            own.train(data, num_epochs=1, verbose=0)
        assert own.n_items is None

    def test_wrong_histories_are_named(self):
        own = trained(circles())
        for wrong, message in (
            ([[1, 2.5]], "x: lists must hold item numbers"),
            ([["a"]], "x: lists must hold item numbers"),
            ("abc", "x must be"),
            ((torch.tensor([[1]]), torch.tensor([[1]])), "x must be.*got a tuple of 2"),
            (Sequences, "x must be"),
        ):
            with pytest.raises(TypeError, match=message):
                own.recommend(wrong)
        with pytest.raises(ValueError, match="x has 11 items, expected n_items = 12"):
            own.recommend(Histories([0, 1], [1], 11))

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"pred_type": "last"}, "pred_type must be one of"),
            ({"k": 0}, "k must be a whole number of at least 1, got 0"),
            ({"weight_decay": -1}, "weight_decay must be"),
        ],
    )
    def test_wrong_options(self, options, message):
        with pytest.raises(ValueError, match=message):
            model(**options)


def test_load_model_knows_the_class(tmp_path):
    own = trained(circles())
    own.save_model(tmp_path / "file")
    again = pyrec.load_model(tmp_path / "file")
    assert isinstance(again, SVAE)
    np.testing.assert_array_equal(
        again.recommend([[1, 2, 3]]).items, own.recommend([[1, 2, 3]]).items
    )


class TestSequences:
    def test_shape_and_slices(self):
        own = Sequences.from_arrays(*parts_of([[3, 1], [], [4, 1, 5], [2]]))
        assert own.shape == (4, N)
        assert (len(own), own.n_steps) == (4, 6)
        assert repr(own) == "Sequences(4 users, 6 of 12 items, cpu)"
        some = own[1:3]
        assert (some.items.tolist(), some.offsets.tolist()) == ([4, 1, 5], [0, 0, 3])
        assert own[4:].shape == (0, N)
        with pytest.raises(ValueError, match="steps of 1, got 2"):
            own[::2]

    @pytest.mark.parametrize(
        ("most", "expected"),
        [
            (1, [(0, 1), (1, 2), (2, 3), (3, 4)]),
            (3, [(0, 2), (2, 3), (3, 4)]),
            (4, [(0, 2), (2, 4)]),
            (6, [(0, 4)]),
        ],
    )
    def test_parts(self, most, expected):
        own = Sequences.from_arrays(*parts_of([[3, 1], [], [4, 1, 5], [2]]))
        assert [(part.start, part.stop) for part in own.parts(most)] == expected
        assert Sequences.from_arrays(*parts_of([])).parts(most) == [slice(0, 0)]

    def test_of_a_tensor(self):
        own = Sequences.from_dense(torch.tensor([[1, 2], [3, 4]], dtype=torch.int32), N)
        assert (own.items.tolist(), own.offsets.tolist()) == ([1, 2, 3, 4], [0, 2, 4])
        assert own.items.dtype == own.offsets.dtype == torch.int64
        assert own.to("cpu").items.tolist() == [1, 2, 3, 4]

    def test_read_only_arrays(self):
        items = np.array([1, 2, 3])
        items.flags.writeable = False
        assert Sequences.from_arrays(np.array([0, 3]), items, N).items.tolist() == [1, 2, 3]


@pytest.mark.gpu
def test_a_gpu_gives_what_the_cpu_gives():
    results = []
    for device in ("cpu", "cuda"):
        own = model()
        own.to(torch.device(device))
        own.network.eval()
        loss = own.loss(*batch_of(sequences()))
        gradients = torch.autograd.grad(loss, list(own.network.parameters()))
        own.train(circles(), num_epochs=2, batch_size=8, verbose=0)
        assert own.device.type == device
        results.append([loss.cpu(), *(g.cpu() for g in gradients)])
        assert own.recommend(sequences(), 3).items.shape == (20, 3)
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)
