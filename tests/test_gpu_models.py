"""Models that make their lists on a GPU: those of the CPU, whatever is asked."""

import contextlib
import math
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import scipy.sparse as sp
import test_models
import torch
from test_models import ITEMS, MAKERS, NETWORKS, USERS, checkerboard

import pyrec
from pyrec import cli, models, nets, scoring
from pyrec.callbacks import Checkpoint
from pyrec.data import Histories, Interactions, ItemConditions
from pyrec.evaluation import evaluate
from pyrec.kernels import likelihood, tensors
from pyrec.kernels.gpu import native, transfers
from pyrec.kernels.matrices import Csr
from pyrec.models import on_device
from pyrec.scoring import ray_engine
from pyrec.scoring.manifest import manifest_of
from pyrec.scoring.scorer import Scorer

__all__ = ["checkerboard"]  # a fixture

pytestmark = [
    pytest.mark.usefixtures("one_torch_thread"),
    pytest.mark.filterwarnings("ignore:.*order:UserWarning"),
]

SAME_LISTS = test_models.assert_same_lists  # before a test replaces it


@pytest.fixture
def place(gpu, monkeypatch):
    """The device of the fixture `gpu`, which counts as one where it is the processor."""
    if gpu.type == "cpu":
        monkeypatch.setattr(native, "is_device", lambda place: True)
        for module in (likelihood, tensors):  # the networks' kernels are those for GPUs too
            monkeypatch.setattr(module, "has_kernel", lambda *tensor: False)
    return gpu


HAS_KERNEL = likelihood.has_kernel


@contextlib.contextmanager
def without_devices():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(native, "is_device", lambda place: place.type != "cpu")
        for module in (likelihood, tensors):
            patch.setattr(module, "has_kernel", HAS_KERNEL)
        yield


def assert_near(ours, theirs):
    """The same lists, but where scores are nearly the same."""
    SAME_LISTS("a network", ours, theirs)


def by_processor(model, *args, **options):
    """What `recommend` gives on the processor."""
    with without_devices():
        return model.on("cpu").recommend(*args, **options)


def both(model, place, *args, **options):
    """What it gives on the device and on the processor."""
    there = model.on(place).recommend(*args, **options)
    return there, by_processor(model, *args, **options)


def linear(dense=True, n_items=37, seed=0):
    """A linear model of random weights with an offset."""
    rng = np.random.default_rng(seed)
    model = models.EASE() if dense else models.ADMM_Slim(item_bias=True)
    weights = rng.standard_normal((n_items, n_items)).astype(np.float32)
    model.weights = weights if dense else sp.csr_array(weights * (rng.random(weights.shape) < 0.2))
    model.offset = rng.standard_normal(n_items).astype(np.float32)
    model.n_items = n_items
    model.item_counts = np.arange(n_items)
    return model


both_kinds = pytest.mark.parametrize("dense", [True, False], ids=["dense", "sparse"])


class TestTransfers:
    def blocks(self, sizes, work):
        """Blocks of which each has its own rows and arrays of its own sizes."""
        rng, begin = np.random.default_rng(0), 0
        for n in sizes:
            a = rng.integers(0, 100, (n, 3)).astype(np.float32)
            arrays = [a, rng.integers(0, 100, 2 * n + 1).astype(np.int64), np.zeros(0, np.int32)]
            self.expected.append((a * 2, a.sum(1) + arrays[1].sum()))
            yield transfers.Block(slice(begin, begin + n), arrays, work)
            begin += n

    def check(self, device, work, sizes=(5, 2, 9, 1, 0, 30, 4)):
        self.expected = []
        results = np.full((sum(sizes), 3), np.nan, np.float32), np.full(sum(sizes), np.nan)
        transfers.in_blocks(self.blocks(sizes, work), results, device)
        for result, parts in zip(results, zip(*self.expected, strict=True), strict=True):
            np.testing.assert_array_equal(result, np.concatenate(parts))

    @staticmethod
    def work(a, b, nothing):
        assert nothing.dtype == torch.int32
        return a * 2, (a.sum(1) + b.sum()).double()

    def test_every_block_is_done(self, gpu):
        self.check(gpu, self.work)

    def test_no_blocks(self, gpu):
        transfers.in_blocks([], (), gpu)

    @pytest.mark.gpu
    def test_slow_work_and_large_blocks(self):
        def slow(a, b, nothing):
            torch.cuda._sleep(10**7)
            return self.work(a, b, nothing)

        rng = np.random.default_rng(0)
        self.check(torch.device("cuda"), slow, [int(n) for n in rng.integers(0, 10**5, 50)])

    @pytest.mark.parametrize("late", [True, False])
    def test_streams_wait_for_each_other(self, monkeypatch, late):
        """Streams that do everything as late as they may, or at once, on the processor."""
        streams = Streams(late)
        monkeypatch.setattr(transfers, "torch", streams)

        def work(a, b, nothing):
            doubled, sums = streams.empty(a.shape), streams.empty(len(a), dtype=torch.float64)
            a, b, *found = (t.as_subclass(torch.Tensor) for t in (a, b, doubled, sums))
            streams.queue(lambda: found[0].copy_(a * 2))
            streams.queue(lambda: found[1].copy_(a.sum(1) + b.sum()))
            return doubled, sums

        self.check(torch.device("cuda"), work)

    def test_an_error_ends_it(self, gpu):
        def fail(*tensors):
            raise ValueError("no")

        with pytest.raises(ValueError, match="no"):
            self.check(gpu, fail)


class Streams:
    """What `transfers` uses of torch, for streams of which each does its work when somebody waits for it."""

    def __init__(self, late):
        outer = self

        class Stream:
            def __init__(self):
                self.work, self.done = [], 0

            def wait_stream(self, other):
                n = len(other.work)
                outer.queue(lambda: other.run(n), self)

            def run(self, n):
                while self.done < n:
                    self.done += 1
                    self.work[self.done - 1]()

            def synchronize(self):
                self.run(len(self.work))

        class Event:
            def __init__(self, blocking):
                self.run = lambda: None

            def record(self):
                stream, n = outer.current, len(outer.current.work)
                self.run = lambda: stream.run(n)

            def synchronize(self):
                self.run()

        class Late(torch.Tensor):
            def copy_(self, other, non_blocking=False):
                a, b = (t.as_subclass(torch.Tensor) for t in (self, other))
                if non_blocking:
                    outer.queue(lambda: a.copy_(b))
                else:  # from array to pinned memory
                    a.copy_(b)

        self.late, self.made, self.current = late, Late, Stream()
        self.cuda = SimpleNamespace(
            Stream=Stream,
            Event=Event,
            stream=self.using,
            current_stream=lambda: self.current,
            device=lambda device: contextlib.nullcontext(),
        )

    def __getattr__(self, name):
        return getattr(torch, name)

    def empty(self, shape, dtype=torch.float32, **where):
        return torch.empty(shape, dtype=dtype).fill_(77).as_subclass(self.made)

    @contextlib.contextmanager
    def using(self, stream):
        before, self.current = self.current, stream
        yield
        self.current = before

    def queue(self, work, stream=None):
        stream = stream or self.current
        stream.work.append(work)
        if not self.late:
            stream.synchronize()


@both_kinds
class TestLinear:
    def test_lists_scores_and_similar_items(self, dense, place, draw):
        model, x = linear(dense), draw(12, 37, 0.2, binary=False)
        there = model.on(place)
        assert (there.device_type, model.device_type) == (place.type, "cpu")
        for options in (
            {},
            {"remove_seen": False},
            {"allow": np.array([3, 1, 1, 30]), "deny": draw(12, 37, 0.4, seed=1)},
            {"allow": draw(12, 37, 0.4, seed=1), "deny": np.array([0, 36])},
            {"allow": np.array([], np.int64)},
        ):
            for k in (0, 9, 50):
                assert_near(there.recommend(x, k, **options), model.recommend(x, k, **options))
        np.testing.assert_allclose(there.scores(x), model.scores(x), rtol=1e-5, atol=1e-5)
        assert_near(there.similar_items([4, 4, 36], 40), model.similar_items([4, 4, 36], 40))
        np.testing.assert_allclose(
            there.predict(x)[0], model.predict(x)[0], rtol=1e-5, atol=1e-5
        )  # hides what is seen
        with pytest.raises(ValueError, match=r"deny must be in 0\.\.36, got 0\.\.37"):
            there.recommend(x, deny=np.array([0, 37]))
        with pytest.raises(ValueError, match="allow has 36 columns, expected n_items = 37"):
            there.recommend(x, allow=x[:, :36])

    def test_blocks_of_histories(self, dense, place, draw, monkeypatch):
        model, x = linear(dense), draw(21, 37, 0.2)
        there, deny = model.on(place), draw(21, 37, 0.2, seed=1)
        monkeypatch.setattr(on_device, "block_rows", lambda n_items: 8)
        monkeypatch.setattr(on_device, "_SCORE_BYTES", 4 * 37 * 7)
        assert_near(there.recommend(x, 9, deny=deny), model.recommend(x, 9, deny=deny))
        np.testing.assert_allclose(there.scores(x), model.scores(x), rtol=1e-5, atol=1e-5)

    def test_other_weights_are_taken_anew(self, dense, place, draw, tmp_path):
        model, x = linear(dense), draw(6, 37, 0.2)
        there = model.on(place)
        before = there.recommend(x, 5)
        there.weights = -there.weights
        with pytest.raises(AssertionError):
            assert_near(there.recommend(x, 5), before)
        assert_near(there.recommend(x, 5), by_processor(there, x, 5))
        there.offset = -5 * there.offset
        model.weights, model.offset = there.weights, there.offset
        assert_near(there.recommend(x, 5), model.recommend(x, 5))
        other = linear(dense, seed=3)
        other.offset = there.offset = None if dense else other.offset  # which EASE's files have not
        other.save_model(tmp_path / "m")
        there.load_model(tmp_path / "m")
        assert_near(there.recommend(x, 5), pyrec.load_model(tmp_path / "m").recommend(x, 5))
        there.train(draw(80, 37, 0.3, seed=2))
        assert_near(there.recommend(x, 5), by_processor(there, x, 5))
        assert there._there.source[0] is there.weights

    def test_it_lets_go(self, dense, place, draw):
        model, x = linear(dense), draw(20, 37, 0.2)
        expected = model.recommend(x, 5)
        model.to(place)
        assert model.rows_at_once > 0
        with without_devices():
            model.to("cpu")
        assert model._there is None
        assert model.rows_at_once == 0
        np.testing.assert_array_equal(model.recommend(x, 5).scores, expected.scores)

    def test_packing(self, dense, place):
        model = linear(dense)
        model.to(place)
        model.pack()
        assert model._packed is None
        with pytest.raises(ValueError, match="precision must be fp32 on a GPU, where weights are"):
            model.pack("bf16")

    def test_too_little_memory(self, dense, place, monkeypatch):
        name = "available_memory" if place.type == "cpu" else "device_memory"
        monkeypatch.setattr(f"pyrec.machine.{name}", lambda *device: 1 << 20)
        model = linear(dense)
        with pytest.raises(
            MemoryError,
            match=r"the model needs its weights and room for the work, .* MiB; 1\.0 MiB",
        ):
            model.to(place)
        assert model.device_type == "cpu"
        assert model._place() is None


def test_a_device_that_is_not_there():
    for model in (linear(), MAKERS["MultiVAE"](40), models.Popularity()):
        with pytest.raises(ValueError, match="device must be one that is there, got 'cuda:77'"):
            model.to("cuda:77")
        with pytest.raises(ValueError, match="device must be one that is there"):
            model.on("cuda:77")


def test_untrained_models_can_be_moved(place, draw):
    model = models.EASE(3.0)
    model.to(place)
    x = draw(60, 37, 0.2)
    with pytest.raises(RuntimeError, match="EASE is not trained"):
        model.recommend(x)
    model.train(x)
    assert_near(model.recommend(x, 5), by_processor(model, x, 5))


def test_memory_mapped_weights(place, draw, tmp_path):
    linear().save_model(tmp_path / "m")
    model = scoring.scorer.open_model(tmp_path / "m")
    assert_near(*both(model, place, draw(20, 37, 0.2), 5))


def test_how_many_histories_make_a_block():
    assert [on_device.block_rows(m) for m in (0, 1, 1000, 20_108, 10**6, 10**8)] == [
        *(8192, 8192, 8192, 2048, 2048, 2048)
    ]


def test_torch_is_not_loaded_before_it_is_needed():
    program = """if True:
        import sys, numpy as np
        from pyrec.models import EASE, ADMM_Slim
        model = EASE()
        model.train(np.eye(3))
        model.recommend(np.eye(3), 2), model.pack(), model.scores(np.eye(3)), model.device_type
        assert 'torch' not in sys.modules"""
    subprocess.run([sys.executable, "-c", program], check=True)


class TestNetworks:
    @pytest.mark.parametrize("case", NETWORKS)
    def test_on_leaves_the_model_where_it_is(self, case, checkerboard):
        model = test_models.trained(case, checkerboard, epochs=1)
        there = model.on("meta")
        assert (there.device.type, there.device_type, model.device.type) == ("meta", "meta", "cpu")
        assert model.on("cpu").networks()[0] is model.networks()[0]
        assert (model.recommend(checkerboard, 3).items >= 0).all()

    @pytest.mark.parametrize("case", NETWORKS)
    def test_what_on_returns_is_not_trained(self, case, checkerboard):
        there = MAKERS[case](ITEMS).on("meta")
        with pytest.raises(
            TypeError, match=r"must have the parameters of .* `on` returns recommends only"
        ):
            there.train(checkerboard, num_epochs=1, verbose=0)
        assert there.n_items is None

    @pytest.mark.parametrize("case", NETWORKS)
    def test_too_little_memory(self, case, checkerboard, monkeypatch):
        model = test_models.trained(case, checkerboard, epochs=1)
        room = sum(
            p.nbytes for net in model.networks() for p in (*net.parameters(), *net.buffers())
        )
        monkeypatch.setattr("pyrec.models.network_model.find_device", torch.device)
        # The moments of Adam go with `to`, and have no room here.
        for call, free, need in (
            (model.to, room, "its networks and what their optimisers know"),
            (model.on, room - 1, "its networks"),
        ):
            monkeypatch.setattr("pyrec.machine.device_memory", lambda device, free=free: free)
            with pytest.raises(MemoryError, match=f"the model needs {need}, .* on cuda:0"):
                call("cuda:0")
            assert {p.device.type for net in model.networks() for p in net.parameters()} == {"cpu"}

    @pytest.mark.parametrize("case", [c for c in NETWORKS if "CFGAN" not in c])
    def test_lists_are_made_where_scores_are(self, case, place, checkerboard, monkeypatch):
        with without_devices():
            model = test_models.trained(case, checkerboard)
        there = model.on(place)
        assert there._place() == place
        expected = by_processor(model, checkerboard[:20], 8)
        monkeypatch.setattr("pyrec.models.base._SCORE_BYTES", 4 * ITEMS * 8)
        monkeypatch.setattr(models.AETrainer, "predict", None)
        assert_near(there.recommend(checkerboard[:20], 8), expected)

    def test_somebody_elses_predict_decides(self, place, checkerboard):
        class Backwards(models.VAE):
            def predict(self, x, remove_train=True):
                scores, *others = super().predict(x, remove_train)
                return -scores, *others

        model = Backwards(nets.VAE_net([8, 16, ITEMS]), 0.01)
        with without_devices():
            model.train(checkerboard, num_epochs=1, verbose=0, batch_size=25)
        assert_near(*both(model, place, checkerboard[:20], 8, remove_seen=False))

    def conditioned(self, n_items=40, n_cond=4):
        rng = np.random.default_rng(0)
        conditions = sp.csr_array((rng.random((n_items, n_cond)) < 0.4).astype(np.float32))
        net = nets.CMultiVAE_net(n_cond, [6, n_items])
        model = models.CMultiVAE(net, mask_likelihood=True)
        x = sp.csr_array((rng.random((16, n_items)) < 0.2).astype(np.float32))
        names = ["a", "b", "c", "d"]
        model.train(
            x, conditions=ItemConditions(conditions, names), num_epochs=1, verbose=0, batch_size=50
        )
        return model, x

    def test_conditions(self, place, draw):
        with without_devices():
            model, x = self.conditioned()
        for condition in ("b", ["a", "d"], draw(16, 4, 0.3)):
            for options in ({}, {"allow": np.arange(20)}, {"deny": draw(16, 40, 0.3, seed=2)}):
                assert_near(*both(model, place, x, 8, condition=condition, **options))

    def test_pieces_of_a_block(self, place, draw, monkeypatch):
        monkeypatch.setattr("pyrec.models.conditioned_lists._LISTED", 100)
        with without_devices():
            model, x = self.conditioned()
        assert_near(*both(model, place, x, 8, condition=draw(16, 4, 0.5)))

    def test_sequences(self, place):
        rng = np.random.default_rng(0)
        lists = [rng.integers(0, 40, n).tolist() for n in rng.integers(0, 12, 20)]
        model = MAKERS["SVAE"](40)
        with without_devices():
            model.train(lists, num_epochs=1, verbose=0)
        assert_near(*both(model, place, lists, 8))
        assert_near(*both(model, place, Histories.from_lists([[], []], 40), 8))

    def test_strangers_and_users_of_the_training(self, place, checkerboard):
        with without_devices():
            model = test_models.trained("CFGAN (item)", checkerboard)
        some = sp.vstack([checkerboard[5:9], sp.csr_array((2, ITEMS))], format="csr")
        assert_near(*both(model, place, some, 8))
        there = model.on(place)
        with pytest.raises(ValueError, match="can score the users of its training alone"):
            there.recommend(sp.csr_array(np.ones((1, ITEMS))))

    @pytest.mark.parametrize("case", ["MultiVAE", "VAE", "SVAE", "CFGAN"])
    def test_blocks_of_histories(self, case, place, checkerboard, monkeypatch):
        with without_devices():
            model = test_models.trained(case, checkerboard)
        monkeypatch.setattr(on_device, "_ROWS_THERE", 8)
        assert_near(*both(model, place, checkerboard[:20], 8))

    def test_a_generator_of_another_make(self, place, checkerboard):
        class Generator(torch.nn.Module):
            def __init__(self):
                super().__init__()
                self.layer = torch.nn.Linear(ITEMS, ITEMS)

            def forward(self, x):
                return self.layer(x)

        model = models.CFGAN(Generator(), nets.CFGAN_D_net([2 * ITEMS, 8, 1]))
        with without_devices():
            model.train(checkerboard, num_epochs=1, verbose=0, batch_size=25)
        assert_near(*both(model, place, checkerboard[:20], 8))


def loss_of(model, *batch):
    model.network.eval()
    with torch.no_grad():
        return float(model.loss(*batch))


class TestTraining:
    @pytest.mark.parametrize("case", [c for c in NETWORKS if c != "StandardVAE"])
    def test_batches_are_made_on_the_device(self, case, place, checkerboard, monkeypatch):
        seen, losses = [], {}
        x, options = checkerboard, {"g_steps": 2, "d_steps": 1}
        if "CFGAN" not in case:
            x, options = checkerboard[:20], {}
        for device in ("cpu", place):
            model = test_models.made(case)
            getattr(model, "network", model.networks()[0]).dropout = 0.0
            if hasattr(model.networks()[0], "sample"):
                model.network.sample = lambda mu, logvar: mu
            context = without_devices() if device == "cpu" else contextlib.nullcontext()
            with context:
                loader = self.loader(model, x, device)
                seen.append(getattr(loader, "device", None))
                how = {"num_epochs": 2, "verbose": 0, "batch_size": 10, "device": device}
                model.train(x, **how, **options)
            losses[str(device), len(losses)] = model.history["loss"]
        np.testing.assert_allclose(*losses.values(), rtol=1e-4)
        assert seen[1] == place

    def loader(self, model, x, device):
        """What `train` would take its batches from."""
        model.batches_on = torch.device(device)
        if isinstance(model, models.CFGAN):
            return model.training_data((x, 1, 1, None), 25, 0)[0]._plan[0][1]
        return model.training_data(x, 25, 0)[0]

    def test_batches_follow_the_device_that_train_is_given(self, place, checkerboard, monkeypatch):
        wanted = []
        batches = models.MultiVAE.batches

        def noting(self, *args, **options):
            wanted.append((self.batches_on, self.device.type))
            return batches(self, *args, **options)

        monkeypatch.setattr(models.MultiVAE, "batches", noting)
        model = MAKERS["MultiVAE"](ITEMS)
        model.train(checkerboard, num_epochs=1, verbose=0, device=place)
        assert wanted == [(torch.device(place), "cpu")]
        assert model.batches_on is None

    def test_too_little_memory_for_the_moments(self, checkerboard, tmp_path, monkeypatch):
        """Of a checkpoint, and of the first update: both come later than the check."""
        how = {"num_epochs": 2, "verbose": 0}
        before = MAKERS["MultiVAE"](ITEMS)
        before.train(checkerboard, callbacks=[Checkpoint(tmp_path / "c")], **how)
        room = 3 * sum(p.nbytes for p in before.network.parameters())
        for module in ("training", "models.network_model"):
            monkeypatch.setattr(f"pyrec.{module}.find_device", torch.device)
        monkeypatch.setattr("pyrec.machine.device_memory", lambda device: room - 1)
        model, batches = MAKERS["MultiVAE"](ITEMS), [torch.from_numpy(checkerboard.toarray())]
        expected = model.network.state_dict()
        for resume in (tmp_path / "c", None):
            with pytest.raises(
                MemoryError, match="the training needs the networks and their optimisers' moments, "
            ):
                model.train(batches, device="cuda:0", resume=resume, **how)
            assert (model.n_items, model.seed_of_training, model.epoch) == (None, None, 0)
            assert model.optimizer.state == {}
            for name, weights in model.network.state_dict().items():
                torch.testing.assert_close(weights, expected[name], rtol=0, atol=0)

    def test_the_loss_is_read_when_the_backward_pass_is_queued(self, checkerboard, monkeypatch):
        class Noting(models.MultiVAE):
            def loss(self, *batch):
                loss = super().loss(*batch) * self.factor
                loss.register_hook(lambda grad: order.append("backward"))
                return loss

        order, item = [], torch.Tensor.item

        def noting(self):
            order.append("item")
            return item(self)

        monkeypatch.setattr(torch.Tensor, "item", noting)
        model = Noting(nets.MultiVAE_net([4, ITEMS], seed=0))
        batch = Csr.from_scipy(checkerboard)
        model.factor = 1.0
        model.train_batch(batch)
        assert order == ["backward", "item"]
        before = {name: t.clone() for name, t in model.network.state_dict().items()}
        model.factor = math.inf
        with pytest.raises(FloatingPointError, match="the loss is inf"):
            model.train_batch(batch)
        assert order == ["backward", "item"] * 2
        assert all(p.grad is None for p in model.network.parameters())
        assert model.gradient_updates == 1
        for name, weights in model.network.state_dict().items():
            torch.testing.assert_close(weights, before[name], rtol=0, atol=0)

    def test_conditioned_batches(self, place):
        with without_devices():
            model, x = TestNetworks().conditioned()
            there = model.on(place)
            batches = list(model.training_data(x, 30, 0)[0])
            expected = [loss_of(model, *batch) for batch in batches]
        sampler = there.training_data(x, 30, 0)[0]
        assert sampler.device == there.device == place
        for (tr, te), loss in zip(sampler, expected, strict=True):
            assert tr.device == te.device == place
            np.testing.assert_allclose(loss_of(there, tr, te), loss, rtol=1e-4)
            assert there._satisfied[1].device == place
            np.testing.assert_allclose(loss_of(there, tr, None), loss, rtol=1e-4)

    @pytest.mark.parametrize("case", ["MultiVAE", "CMultiVAE", "SVAE"])
    def test_validation(self, case, place, checkerboard):
        rng = np.random.default_rng(0)
        te = sp.csr_array((rng.random((USERS, ITEMS)) < 0.1) & (checkerboard.toarray() == 0))
        model = MAKERS[case](ITEMS)
        valid = (checkerboard[:20], te[:20].astype(np.float32))
        how = {"num_epochs": 1, "verbose": 0, "best_path": None}
        model.train(valid[0], valid, "ndcg@10", device=place, **how)
        with without_devices():
            expected = evaluate(model.on("cpu"), valid, ["ndcg@10"])["ndcg@10"]
        assert model.history["ndcg@10"] == pytest.approx([np.nanmean(expected)], rel=1e-3)


class TestScoring:
    IDS = np.array([f"item {j}" for j in range(ITEMS)], dtype=object)

    def data(self, checkerboard):
        empty = sp.csr_array((3, ITEMS), dtype=np.float32)
        x = sp.vstack([checkerboard, empty], format="csr")
        return Interactions(x, np.arange(x.shape[0]), self.IDS)

    @pytest.mark.parametrize("case", ["EASE", "MultiVAE", "Popularity"])
    def test_a_table(self, case, place, checkerboard):
        data = self.data(checkerboard).select_users(np.arange(40, USERS + 3))
        with without_devices():
            model = test_models.trained(case, data)
        table = pyrec.recommend(model, data, 5, device=place, deny=["item 3"])
        with without_devices():
            expected = pyrec.recommend(model, data, 5, deny=["item 3"])
        assert table.schema == expected.schema
        assert table["user_id"].to_pylist() == expected["user_id"].to_pylist()
        scores = [t["score"].to_numpy() for t in (table, expected)]
        np.testing.assert_allclose(*scores, rtol=1e-4, atol=1e-5)
        assert "item 3" not in set(table["item_id"].to_pylist())
        assert model.device_type == "cpu"

    def test_a_run(self, place, checkerboard, tmp_path):
        data = self.data(checkerboard)
        model = test_models.trained("EASE", data)
        model.save_model(tmp_path / "m")
        for given, out in ((model, "a"), (tmp_path / "m", "b")):
            scoring.score(given, data, tmp_path / out, k=5, device=place, verbose=0)
        one, other = ((tmp_path / out / "part-00000.parquet").read_bytes() for out in "ab")
        assert one == other

    def test_the_manifest_says_where(self, checkerboard):
        model = test_models.trained("EASE", self.data(checkerboard))
        settings = [
            manifest_of(Scorer(model, 5, device=device), "", [])["settings"].get("device")
            for device in (None, "cpu", "cuda", "cuda:1")
        ]
        assert settings == [None, None, "cuda", "cuda"]
        with pytest.raises(ValueError, match="precision must be fp32 on a GPU, got 'bf16'"):
            Scorer(model, 5, device="cuda", precision="bf16")

    def test_another_device_is_another_run(self, place, checkerboard, tmp_path, monkeypatch):
        data = self.data(checkerboard)
        model = test_models.trained("EASE", data)
        scoring.score(model, data, tmp_path / "out", k=5, verbose=0)
        monkeypatch.setattr("pyrec.scoring.run.find_device", lambda device: device)
        with pytest.raises(FileExistsError, match="device is None there, 'cuda' here"):
            scoring.score(model, data, tmp_path / "out", k=5, verbose=0, device="cuda")

    def test_packing_is_left_out(self, place, checkerboard):
        model = test_models.trained("EASE", checkerboard)
        scorer = Scorer(model, 5, device=place)
        scorer.pack(10**6, mapped=False)
        assert scorer.model._packed is None
        assert scorer.blocks_at_once == 8
        assert model._place() is None

    def test_bfloat16_on_the_processor_of_a_model_that_is_elsewhere(self, place, checkerboard):
        model = test_models.trained("EASE", checkerboard)
        model.to(place)
        with without_devices():
            scorer = Scorer(model, 5, device="cpu", precision="bf16")
            scorer.pack(1, mapped=False)
        assert scorer.model._packed is not None
        assert scorer.model.device_type == "cpu"
        if place.type != "cpu":
            with pytest.raises(ValueError, match="precision must be fp32 on a GPU"):
                Scorer(model, 5, precision="bf16")

    def test_actors_count_their_own_gpu_alone(self, checkerboard, tmp_path, monkeypatch):
        class Enough(Exception):
            pass

        def noting(task, *args, **options):
            tasks.append(task)
            raise Enough

        tasks, data = [], self.data(checkerboard)
        monkeypatch.setattr(ray_engine, "score_with_ray", noting)
        model = test_models.trained("EASE", data)
        pyrec.data.parquet.write_users(data, tmp_path / "users.parquet")
        for device, out in (("cuda:1", "a"), ("cpu", "b")):
            with pytest.raises(Enough):
                scoring.score(
                    model, tmp_path / "users.parquet", tmp_path / out, engine="ray", device=device
                )
        assert [task.device for task in tasks] == ["cuda", None]

    def test_a_device_that_is_not_there(self, checkerboard, tmp_path):
        data = self.data(checkerboard)
        model = test_models.trained("EASE", data)
        message = "device must be one that is there, got 'cuda:77'"
        with pytest.raises(ValueError, match=message):
            pyrec.recommend(model, data, device="cuda:77")
        with pytest.raises(ValueError, match=message):
            scoring.score(model, data, tmp_path / "out", device="cuda:77")
        assert not (tmp_path / "out").exists()
        worker = ray_engine._Worker(
            ray_engine.Task("no file", "", {"k": 5, "device": "cuda:77"}, "", 0), 1
        )
        with pytest.raises(ValueError, match=message):
            worker.open()

    @pytest.mark.parametrize(
        "command",
        [
            "evaluate {0} {1}",
            "recommend {0} {1} --out out",
            "train EASE {1} --out trained",
            "train ADMM_Slim {1} --out trained",
        ],
    )
    def test_commands(self, command, checkerboard, tmp_path, capsys, monkeypatch):
        monkeypatch.chdir(tmp_path)
        data = self.data(checkerboard)
        test_models.trained("EASE", data).save_model("m")
        pyrec.data.strong_generalization(data, heldout=10).save("split")
        pyrec.data.parquet.write_users(data, "split/users.parquet")
        arguments = command.format("m", "split").split()
        outputs = []
        for device, code in ((["--device", "cpu"], 0), (["--device", "cuda:77"], 1)):
            with pytest.raises(SystemExit) as stopped:
                cli.main([*arguments, *device])
            assert stopped.value.code == code
            outputs.append(capsys.readouterr())
        assert "device must be one that is there, got 'cuda:77'" in outputs[1].err

    @pytest.mark.parametrize(
        "gpu", ["torch", pytest.param("cuda", marks=pytest.mark.gpu)], indirect=True
    )
    def test_the_solver_of_a_command(self, gpu, checkerboard, tmp_path, capsys, monkeypatch):
        monkeypatch.setattr("pyrec.models.admm_slim.cuda_device", lambda device: gpu)
        pyrec.data.strong_generalization(self.data(checkerboard), heldout=10).save(tmp_path / "d")
        command = ["train", "ADMM_Slim", str(tmp_path / "d"), "--out", str(tmp_path / "m")]
        statuses = []
        for options in ([], ["-p", "solver=admm"]):
            with pytest.raises(SystemExit) as stopped:
                cli.main([*command, "--device", "cuda", "-p", "rho=auto", *options])
            statuses.append(stopped.value.code)
        assert statuses == [1, 0]
        message = "coordinate descent runs on the CPU, got device='cuda' with solver='auto'"
        assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("cpus", "gpus", "workers", "expected"),
    [
        ([17], [1], None, (1, 8)),
        ([9, 33, 5], [2, 4, 0], None, (6, 4)),
        ([3], [4], None, (2, 1)),
        ([17], [4], 2, (2, 4)),
        ([17], [4], 9, (4, 4)),
    ],
)
def test_actors_with_a_gpu_each(cpus, gpus, workers, expected):
    resources = [{"CPU": c, "GPU": g} if g else {"CPU": c} for c, g in zip(cpus, gpus, strict=True)]
    ray = SimpleNamespace(nodes=lambda: [{"Alive": True, "Resources": r} for r in resources])
    assert ray_engine._shares(ray, workers, 100, 1, 1) == expected
    assert ray_engine._shares(ray, workers, 1, 1, 1) == (1, expected[1])
    without = SimpleNamespace(nodes=lambda: [{"Alive": True, "Resources": {"CPU": 4}}])
    with pytest.raises(
        ValueError, match="each actor needs a GPU for the device, and the Ray cluster"
    ):
        ray_engine._shares(without, workers, 100, 1, 1)
