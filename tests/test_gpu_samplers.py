"""Samplers' kernels for GPUs against those for the CPU, and samplers on a device against those without."""

import copy

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pyrec import kernels, samplers
from pyrec.data import Histories
from pyrec.kernels.gpu import native
from pyrec.kernels.gpu import samplers as gpu_samplers
from pyrec.kernels.gpu.examples import ConditionedRows, Windows
from pyrec.kernels.tensors import Csr

SEEDS = st.integers(0, 2**32 - 1)
many = settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


def matrix(rng, rows, cols, density, values=True):
    dense = rng.random((rows, cols)) < density
    scale = rng.uniform(0.5, 2, dense.shape) if values else 1.0
    return sp.csr_array((dense * scale).astype(np.float32))


def arrays(batch):
    return [t.cpu().numpy() for t in (batch.indptr, batch.indices, batch.values)]


def assert_same(ours, theirs):
    for one, other in zip(ours, theirs, strict=True):
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)


class TestRowSampler:
    # A block writes 8,192 floats: within a row, all of one, parts of two, and of many narrow rows.
    @pytest.mark.parametrize(
        ("n", "m", "density"),
        [
            (3, 1, 0.5),
            (9, 17, 0.3),
            (2, 8192, 0.1),
            (3, 8193, 0.9),
            (5, 20_003, 0.004),
            (300, 57, 0.2),
            (6000, 3, 0.5),
            (4, 5, 0.0),
            (40, 700, 1.0),
        ],
    )
    def test_rows_are_those_of_the_cpu(self, gpu, n, m, density):
        rng = np.random.default_rng(n * m)
        x = matrix(rng, n, m, density)
        numbers = rng.integers(0, n, n + n // 2)  # some of them twice
        cpu, ours = kernels.RowSampler(x), gpu_samplers.RowSampler(x, gpu)
        batch = ours.rows(numbers)
        assert batch.device == gpu
        assert batch.shape == (len(numbers), m)
        assert_same(arrays(batch), cpu.rows(numbers))
        for skipped in (0, 1):  # memory at 16 bytes, and beside it
            memory = torch.full((len(numbers) * m + skipped,), 7.0, device=gpu)
            out = memory[skipped:].view(len(numbers), m)
            ours.dense(numbers, out)
            np.testing.assert_array_equal(out.cpu(), x.toarray()[numbers])
            out.fill_(7)
            gpu_samplers.to_dense(batch, out)
            np.testing.assert_array_equal(out.cpu(), x.toarray()[numbers])
            assert (memory[:skipped] == 7).all()

    @many
    @given(st.integers(0, 40), st.integers(1, 70), st.sampled_from([0.0, 0.05, 0.7]), SEEDS)
    def test_any_shape(self, gpu, n, m, density, seed):
        rng = np.random.default_rng(seed)
        x = matrix(rng, n + 1, m, density)
        numbers = rng.integers(0, n + 1, n)
        ours = gpu_samplers.RowSampler(x, gpu)
        assert_same(arrays(ours.rows(numbers)), kernels.RowSampler(x).rows(numbers))
        out = torch.full((n, m), 7.0, device=gpu)
        ours.dense(numbers, out)
        np.testing.assert_array_equal(out.cpu(), x.toarray()[numbers])

    def test_bad_input_is_named(self, gpu):
        sampler = gpu_samplers.RowSampler(matrix(np.random.default_rng(0), 4, 5, 0.5), gpu)
        out = torch.empty(1, 5, device=gpu)
        for call in (sampler.rows, lambda n: sampler.dense(n, out)):
            for number in (-1, 4):
                with pytest.raises(
                    ValueError, match=rf"numbers must be rows in 0\.\.3, got {number}"
                ):
                    call(np.array([number]))
        with pytest.raises(ValueError, match=r"out must have shape \(2, 5\), got \(1, 5\)"):
            sampler.dense(np.array([0, 1]), out)
        with pytest.raises(ValueError, match=r"out must have shape \(2, 5\), got \(1, 5\)"):
            gpu_samplers.to_dense(sampler.rows(np.array([0, 1])), out)


class TestConditionedRows:
    @staticmethod
    def check(gpu, x, items, te, numbers=None):
        cpu, ours = kernels.ConditionedRows(x, items, te), ConditionedRows(x, items, te, device=gpu)
        assert ours.n_examples == cpu.n_examples
        assert ours.n_unconditioned == cpu.n_unconditioned
        assert_same([ours.counts, ours.balanced(2, 1, 3)], [cpu.counts, cpu.balanced(2, 1, 3)])
        if numbers is None:
            numbers = np.random.default_rng(0).permutation(cpu.n_examples)
        found = cpu.examples(numbers)
        inputs, targets = ours.inputs(numbers), ours.targets(numbers)
        assert inputs.shape == (len(numbers), x.shape[1] + items.shape[1])
        assert targets.shape == (len(numbers), x.shape[1])
        assert inputs.device == targets.device == gpu
        assert_same(arrays(inputs), cpu.inputs(*found))
        assert_same(arrays(targets), cpu.targets(*found))

    # 64 conditions: all in a word. 33 and 65 items of a row: a warp, or two, and one more.
    @many
    @given(
        st.integers(0, 9),
        st.sampled_from([1, 2, 31, 33, 65, 130]),
        st.sampled_from([0, 1, 2, 33, 63, 64, 65, 130]),
        st.booleans(),
        SEEDS,
    )
    def test_examples_are_those_of_the_cpu(self, gpu, n, m, n_cond, has_targets, seed):
        rng = np.random.default_rng(seed)
        x = matrix(rng, n, m, rng.choice([0.0, 0.1, 0.9]))
        items = matrix(rng, m, n_cond, rng.choice([0.0, 0.05, 0.5]))
        self.check(
            gpu, x, items, matrix(rng, n, m, rng.choice([0.1, 0.6])) if has_targets else None
        )

    @pytest.mark.parametrize("n_cond", [5, 64, 65])
    @pytest.mark.parametrize("has_targets", [False, True])
    def test_rows_that_know_some(self, gpu, n_cond, has_targets):
        rng = np.random.default_rng(n_cond)
        x, items = matrix(rng, 10, 70, 0.3), matrix(rng, 70, n_cond, 0.1)
        self.check(gpu, x, items, matrix(rng, 10, 70, 0.1) if has_targets else None)

    @pytest.mark.parametrize("has_targets", [False, True])
    def test_more_conditions_than_a_block_holds(self, gpu, has_targets):
        rng = np.random.default_rng(0)
        n_cond = 70_000
        places = rng.integers(0, n_cond, (30, 3))
        places[:4, 0] = 0, 32_767, 32_768, n_cond - 1
        items = np.zeros((30, n_cond), np.float32)
        items[np.arange(30)[:, None], places] = 1
        x = matrix(rng, 2, 30, 0.9)
        x = sp.csr_array(np.vstack([x.toarray(), np.ones((1, 30)), np.zeros((1, 30))]))
        te = sp.csr_array(np.roll(x.toarray(), 1, axis=1)) if has_targets else None
        known = kernels.ConditionedRows(x, items := sp.csr_array(items), te)
        numbers = rng.permutation(known.n_examples)[:40]
        ends = [known.n_unconditioned, known.n_examples - 1]
        self.check(gpu, x, items, te, np.concatenate([numbers, ends]))

    def test_bad_input_is_named(self, gpu):
        x, items = sp.csr_array(np.ones((4, 3))), sp.csr_array(np.ones((3, 2)))
        with pytest.raises(ValueError, match="item_conditions must have a row for each of the 3 i"):
            ConditionedRows(x, items[:2], device=gpu)
        ours = ConditionedRows(x, items, device=gpu)
        for call in (ours.inputs, ours.targets):
            for number in (-1, 12):
                with pytest.raises(ValueError, match=rf"numbers must be in 0\.\.11, got {number}"):
                    call(np.array([number]))


class TestNegatives:
    @staticmethod
    def check(gpu, x, share, seed=0, step=0):
        indptr, indices = x.indptr.astype(np.int64), x.indices.astype(np.int32)
        pattern = Csr.from_scipy(x).to(gpu)
        for with_observed in (False, True):
            wanted = np.empty(x.shape, bool)
            options = {"with_observed": with_observed}
            kernels.negatives(indptr, indices, x.shape[1], share, seed, step, wanted, **options)
            ours = gpu_samplers.negatives(pattern, share, seed, step, **options)
            assert ours.dtype == torch.bool
            assert ours.device == gpu
            # As bytes: one that is neither 0 nor 1 would pass for True.
            np.testing.assert_array_equal(ours.view(torch.uint8).cpu(), wanted.view(np.uint8))

    @many
    @given(
        st.integers(0, 4),
        st.sampled_from([0, 1, 2, 7, 8, 9, 63, 64, 65, 127, 300, 2000]),
        st.sampled_from([0.0, 0.003, 0.1, 0.5, 0.7, 0.98, 1.0]) | st.floats(0, 1),
        st.sampled_from([0.0, 0.01, 0.5, 0.99, 1.0]),
        SEEDS,
    )
    def test_the_sets_of_the_cpu(self, gpu, n, m, share, density, seed):
        x = matrix(np.random.default_rng(seed), n, m, density)
        self.check(gpu, x, share, seed, seed % 5)

    # Eight rows: their bytes begin at every place within a word.
    # What is turned: guessed at, among 19,000 or 4,000 items, in many rounds; listed, in shared memory, in
    # that of the answer, where all are drawn and where none is.
    @pytest.mark.parametrize(
        ("n_free", "share"),
        [
            (19_000, 0.5),
            (4000, 0.502),
            (500, 0.3),
            (1200, 0.1),
            (1200, 0.999),
            (1240, 0.001),
            (20_003, 0.04),
        ],
    )
    def test_every_way_to_turn(self, gpu, n_free, share):
        m = 20_003
        observed = np.sort(np.random.default_rng(0).permutation(m)[n_free:])
        x = sp.csr_array(np.isin(np.arange(m), observed).astype(np.float32)[None].repeat(8, 0))
        self.check(gpu, x, share)

    # The bits of a row do not fit into shared memory; the second number is no multiple of 8.
    @pytest.mark.parametrize("m", [360_449, 400_003])
    @pytest.mark.parametrize("share", [0.01, 0.5])
    def test_large_catalogues(self, gpu, m, share):
        rng = np.random.default_rng(0)
        parts = [np.sort(rng.permutation(m)[:size]) for size in (0, 300)]
        x = sp.csr_array(
            (np.ones(300, np.float32), np.concatenate(parts), [0, 0, 300]), shape=(2, m)
        )
        self.check(gpu, x, share, 2**63 + 1, 4)

    def test_bad_input_is_named(self, gpu):
        x = Csr.from_scipy(sp.csr_array((1, 5), dtype=np.float32)).to(gpu)
        for share in (-0.1, 1.1, float("nan")):
            with pytest.raises(ValueError, match=r"share must be in 0\.\.1"):
                gpu_samplers.negatives(x, share, 0, 0)


class TestWindows:
    @staticmethod
    def check(gpu, lists, n_items, k, weighted, users):
        offsets = np.cumsum([0, *map(len, lists)])
        items = np.array([item for items in lists for item in items], np.int32)
        first, inputs, *parts = kernels.windows(offsets, items, n_items, users, k, weighted)
        ours = Windows(offsets, items, n_items, k, weighted, device=gpu)
        sequences, batch = ours.of(users)
        assert sequences.device == batch.device == gpu
        assert sequences.shape == (len(users), n_items)
        assert batch.shape == (len(inputs), n_items)
        np.testing.assert_array_equal(sequences.offsets.cpu(), first)
        assert_same([sequences.items.cpu().numpy()], [inputs.astype(np.int64)])
        assert_same(arrays(batch), parts)

    # 32: the longest window that lanes compare; 100: as long as the sequences.
    @many
    @given(
        st.lists(st.lists(st.integers(0, 8), max_size=30), min_size=1, max_size=6),
        st.sampled_from([None, 1, 2, 3, 4, 31, 32, 33, 100]),
        st.booleans(),
        SEEDS,
    )
    def test_those_of_the_cpu(self, gpu, lists, k, weighted, seed):
        able = np.flatnonzero([len(items) > 1 for items in lists])
        users = np.random.default_rng(seed).permutation(able)
        self.check(gpu, lists, 9, k, weighted, users)

    @pytest.mark.parametrize(
        ("k", "n_items"), [(None, 5), (None, 1000), (1, 5), (7, 5), (32, 40), (40, 5), (40, 1000)]
    )
    def test_sequences_longer_than_a_block(self, gpu, k, n_items):
        rng = np.random.default_rng(0)
        lists = [rng.integers(0, n_items, size) for size in (2, 150, 33, 65, 0, 1)]
        self.check(gpu, lists, n_items, k, True, np.array([3, 1, 0, 1]))

    def test_counting_in_parts(self, gpu, monkeypatch):
        monkeypatch.setattr("pyrec.kernels.gpu.examples._COUNTED", 7)
        rng = np.random.default_rng(0)
        lists = [rng.integers(0, 9, size) for size in (2, 20, 1, 0, 3, 3, 8, 1)]
        self.check(gpu, lists, 9, 3, True, np.array([6, 4, 1, 0, 5]))
        x, items = matrix(rng, 9, 12, 0.4), matrix(rng, 12, 3, 0.5)
        TestConditionedRows.check(gpu, x, items, None)

    def test_a_copy_has_memory_of_its_own(self, gpu):
        offsets, items = np.array([0, 3, 5]), np.array([2, 0, 1, 1, 2], np.int32)
        windows = Windows(offsets, items, 3, 1, False, device=gpu)
        other = copy.deepcopy(windows)
        wanted = [arrays(windows.of(np.array([1, 0]))[1]), arrays(other.of(np.array([1, 0]))[1])]
        for there in vars(windows).get("_there", ()):
            there.zero_()
        assert_same(wanted[0], wanted[1])
        assert_same(arrays(other.of(np.array([1, 0]))[1]), wanted[1])

    def test_bad_input_is_named(self, gpu):
        offsets, items = np.array([0, 2, 3]), np.array([0, 1, 2], np.int32)
        windows = Windows(offsets, items, 3, 1, False, device=gpu)
        with pytest.raises(ValueError, match=r"users must have sequences of 2 or more items.* 1"):
            windows.of(np.array([1]))
        for user in (-1, 2):
            with pytest.raises(ValueError, match=rf"users must be in 0\.\.1, got {user}"):
                windows.of(np.array([user]))
        with pytest.raises(ValueError, match=r"items must lie in 0\.\.1, got 0 to 2"):
            Windows(offsets, items, 2, 1, False, device=gpu)
        with pytest.raises(ValueError, match="offsets: row offsets end at 4, beyond 3 entries"):
            Windows(np.array([0, 4]), items, 3, 1, False, device=gpu)


LISTS = {0: [1], 1: [0, 1], 2: [0], 4: [2]}

MADE = {
    "DataSampler": lambda x, **how: samplers.DataSampler(x, batch_size=7, **how),
    "DataSampler, targets": lambda x, **how: samplers.DataSampler(x, 3 * x, 7, **how),
    "in order": lambda x, **how: samplers.DataSampler(x, None, 7, False, **how),
    "ConditionedDataSampler": lambda x, **how: samplers.ConditionedDataSampler(
        LISTS, 3, x, 2 * x, 7, **how
    ),
    "BalancedConditionedDataSampler": lambda x, **how: samplers.BalancedConditionedDataSampler(
        LISTS, 3, x, batch_size=7, subsample=0.5, **how
    ),
    "EmptyConditionedDataSampler": lambda x, **how: samplers.EmptyConditionedDataSampler(
        2, x, batch_size=7, **how
    ),
}


class TestSamplers:
    @pytest.fixture
    def x(self, draw):
        return draw(23, 9, 0.4, binary=False)

    @staticmethod
    def parts(batch):
        if batch is None:
            return []
        if isinstance(batch, torch.Tensor):
            return [batch.cpu().numpy()]
        if isinstance(batch, Csr):
            return arrays(batch)
        return [batch.items.cpu().numpy(), batch.offsets.cpu().numpy()]

    def assert_same_passes(self, ours, theirs, device):
        for epoch in (0, 1):
            ours.epoch = theirs.epoch = epoch
            pairs = list(ours)  # all kept: each has memory of its own
            assert len(pairs) == len(ours) == len(theirs)
            for pair, wanted in zip(pairs, theirs, strict=True):
                for one, other in zip(pair, wanted, strict=True):
                    assert type(one) is type(other)
                    assert one is None or one.device == device
                    assert one is None or one.shape == other.shape
                    assert_same(self.parts(one), self.parts(other))

    @pytest.mark.parametrize("layout", ["dense", "csr"])
    @pytest.mark.parametrize("name", MADE)
    def test_batches_are_those_of_the_cpu(self, device, monkeypatch, x, name, layout):
        ours = MADE[name](x, layout=layout, seed=5, device=device)
        monkeypatch.setattr(native, "is_device", lambda device: False)
        theirs = MADE[name](x, layout=layout, seed=5)
        assert (ours.device, theirs.device) == (device, torch.device("cpu"))
        monkeypatch.setattr(native, "is_device", None)  # it is asked once
        self.assert_same_passes(ours, theirs, device)

    @pytest.mark.parametrize("layout", ["dense", "csr"])
    def test_cfgan(self, device, monkeypatch, x, layout):
        how = {"layout": layout, "seed": 3}
        ours = samplers.CFGAN_TrainingSampler(x, 10, **how, device=device)
        monkeypatch.setattr(native, "is_device", lambda device: False)
        theirs = samplers.CFGAN_TrainingSampler(x, 10, **how)
        for _ in range(3):
            batch = next(ours)
            assert batch.device == ours.device == device
            assert_same(self.parts(batch), self.parts(next(theirs)))

    @pytest.mark.parametrize("pred_type", ["next", "next_k", "postfix"])
    def test_svae(self, device, monkeypatch, pred_type):
        rng = np.random.default_rng(0)
        lists = [rng.integers(0, 12, rng.integers(0, 9)) for _ in range(20)]
        data = Histories.from_lists(lists, 12)
        how = {"pred_type": pred_type, "k": 3, "batch_size": 3, "seed": 4}
        ours = samplers.SVAE_Sampler(12, data, **how, device=device)
        monkeypatch.setattr(native, "is_device", lambda device: False)
        self.assert_same_passes(ours, samplers.SVAE_Sampler(12, data, **how), device)
        whole = samplers.SVAE_Sampler(12, data, is_training=False, device=device)
        assert isinstance(next(iter(whole))[0], Histories)


@pytest.mark.parametrize("device", ["gpu", "cuda:99", "meta:0:1", 1.5])
def test_a_device_that_is_not_there(device, draw):
    x = draw(4, 5)
    for make in (samplers.DataSampler, samplers.CFGAN_TrainingSampler):
        with pytest.raises(ValueError, match="device must be one that is there, got"):
            make(x, device=device)
    with pytest.raises(ValueError, match="device must be one that is there, got"):
        samplers.SVAE_Sampler(5, {0: [1, 2]}, device=device)


def test_the_cpu_has_kernels_of_its_own(draw):
    """However it is asked for."""
    for device in (None, "cpu", torch.device("cpu", 0)):
        sampler = samplers.DataSampler(draw(4, 5), device=device)
        assert sampler.device.type == "cpu"
        assert isinstance(sampler._tr, samplers.rows._Dense)
