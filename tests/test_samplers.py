"""Batches: every row once a pass, in the order that seed and epoch decide, in memory used again."""

import threading
import time
import weakref
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pyrec import kernels, samplers
from pyrec.data import Histories, Interactions
from pyrec.kernels.tensors import Csr
from pyrec.samplers import DataSampler, Sampler

LAYOUTS = ["dense", "csr"]


def dense(batch):
    return batch.dense() if isinstance(batch, Csr) else batch


def stacked(sampler, part=0):
    return torch.cat([dense(pair[part]) for pair in sampler]).numpy()


@pytest.fixture
def x(draw):
    return draw(23, 9, 0.4, binary=False)


class TestBatches:
    @pytest.mark.parametrize("layout", LAYOUTS)
    @pytest.mark.parametrize("batch_size", [1, 5, 22, 23, 24, 1000])
    def test_without_shuffling_rows_come_in_their_order(self, x, layout, batch_size):
        sampler = DataSampler(x, batch_size=batch_size, shuffle=False, layout=layout)
        batches = list(sampler)
        assert len(batches) == len(sampler) == -(-23 // batch_size)
        assert [len(tr) for tr, _ in batches[:-1]] == [batch_size] * (len(batches) - 1)
        assert all(te is None for _, te in batches)
        np.testing.assert_array_equal(stacked(batches), x.toarray())

    @settings(max_examples=25, deadline=None)
    @given(
        st.integers(1, 40),
        st.integers(1, 12),
        st.integers(0, 2**40),
        st.integers(0, 9),
        st.sampled_from(LAYOUTS),
    )
    def test_a_pass_has_every_row_once_in_the_order_of_seed_and_epoch(
        self, n, batch_size, seed, epoch, layout
    ):
        x = np.arange(1, n + 1, dtype=np.float32)[:, None] * np.array([[1, 0, 2]])
        sampler = DataSampler(x, batch_size=batch_size, layout=layout, seed=seed)
        sampler.epoch = epoch
        order = kernels.permuted(0, n, n, seed, epoch)
        np.testing.assert_array_equal(np.sort(order), np.arange(n))
        np.testing.assert_array_equal(stacked(sampler), x[order])

    @pytest.mark.parametrize("layout", LAYOUTS)
    def test_targets_are_the_same_rows(self, x, layout):
        targets = x * 3
        pairs = list(DataSampler(x, targets, 4, layout=layout))
        np.testing.assert_array_equal(stacked(pairs, 1), 3 * stacked(pairs))

    def test_types(self, x):
        for tr, te in DataSampler(x, x, 4):
            assert isinstance(tr, torch.Tensor)
            assert tr.dtype == te.dtype == torch.float32
            assert tr.shape[1] == te.shape[1] == 9
        for tr, te in DataSampler(x, x, 4, layout="csr"):
            assert isinstance(te, Csr)
            assert tr.shape == (len(tr), 9)
            types = [t.dtype for t in (tr.indptr, tr.indices, tr.values)]
            assert types == [torch.int64, torch.int32, torch.float32]

    @pytest.mark.parametrize("layout", LAYOUTS)
    def test_rows_without_items_stay(self, layout):
        x = np.array([[0, 0], [1, 0], [0, 0]], np.float32)
        np.testing.assert_array_equal(
            stacked(DataSampler(x, batch_size=2, shuffle=False, layout=layout)), x
        )

    def test_takes_every_kind_of_data(self, x):
        binary = sp.csr_array((x > 0).astype(np.float32))
        for data in (
            binary,
            sp.csc_matrix(binary),
            binary.toarray(),
            torch.from_numpy(binary.toarray()),
            Interactions(binary, np.arange(23), np.arange(9)),
            Histories(binary.indptr.astype(np.int64), binary.indices.astype(np.int32), 9),
            Csr.from_scipy(binary),
        ):
            sampler = DataSampler(data, data, 5, shuffle=False)
            np.testing.assert_array_equal(stacked(sampler), binary.toarray())
            np.testing.assert_array_equal(stacked(sampler, 1), binary.toarray())

    def test_canonical_data_is_not_copied(self, x):
        assert DataSampler(x, x).sparse_data_te is x
        assert DataSampler(x).sparse_data_te is None


class TestOrder:
    def test_each_pass_has_another_order_and_counts(self, x):
        sampler = DataSampler(x, batch_size=4)
        first, second = stacked(sampler), stacked(sampler)
        assert sampler.epoch == 2
        assert not np.array_equal(first, second)
        sampler.epoch = 0
        np.testing.assert_array_equal(stacked(sampler), first)

    def test_the_batch_size_does_not_change_it(self, x):
        np.testing.assert_array_equal(
            stacked(DataSampler(x, batch_size=4, seed=3)),
            stacked(DataSampler(x, batch_size=7, seed=3)),
        )

    def test_another_seed_is_another_order(self, x):
        assert not np.array_equal(stacked(DataSampler(x)), stacked(DataSampler(x, seed=1)))

    def test_a_pass_takes_its_number_as_it_starts(self, x):
        """A pass that is left early counts, and passes side by side do not disturb each other."""
        sampler = DataSampler(x, batch_size=4)
        expected = [stacked(sampler), stacked(sampler)]
        sampler.epoch = 0
        both = iter(sampler), iter(sampler)
        assert sampler.epoch == 2
        found = list(zip(*both, strict=True))
        for number in (0, 1):
            np.testing.assert_array_equal(
                stacked(pairs[number] for pairs in found), expected[number]
            )

    def test_global_generators_are_neither_used_nor_changed(self, x):
        np.random.seed(1)  # noqa: NPY002
        torch.manual_seed(1)
        before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
        first = stacked(DataSampler(x))
        assert torch.equal(before[0], torch.get_rng_state())
        np.testing.assert_array_equal(before[1], np.random.get_state()[1])  # noqa: NPY002
        torch.manual_seed(2)
        np.testing.assert_array_equal(stacked(DataSampler(x)), first)


class TestMemory:
    def test_kept_batches_stay_as_they_were(self, x):
        pairs = list(DataSampler(x, 2 * x, 2, shuffle=False))
        addresses = {t.data_ptr() for pair in pairs for t in pair}
        assert len(addresses) == 2 * len(pairs)
        np.testing.assert_array_equal(stacked(pairs), x.toarray())
        np.testing.assert_array_equal(stacked(pairs, 1), 2 * x.toarray())

    @pytest.mark.parametrize(("batch_size", "height"), [(2, 2), (1000, 23)])
    def test_a_loop_needs_two_batches_of_memory(self, x, monkeypatch, batch_size, height):
        taken = []

        class Counted(samplers.rows._Buffer):
            def __init__(self, shape):
                super().__init__(shape)
                taken.append(self._memory)

        monkeypatch.setattr(samplers.rows, "_Buffer", Counted)
        sampler = DataSampler(x, x, batch_size)
        for pair in sampler:
            for batch in pair:
                assert any(np.shares_memory(batch.numpy(), memory) for memory in taken)
        shapes = [(height, 9)] * (4 if batch_size < 23 else 2)
        assert [memory.shape for memory in taken] == shapes
        del pair, batch
        for _ in sampler:
            pass
        assert [memory.shape for memory in taken] == shapes  # the next pass takes no more
        sampler.batch_size = 5
        assert np.shape(next(iter(sampler))[0]) == (5, 9)

    def test_passes_in_several_threads(self, monkeypatch):
        """Each gets whole batches, whoever else reads from the sampler."""

        class Slow(weakref.ref):  # other threads run between the question and the answer
            def __call__(self):
                view = super().__call__()
                time.sleep(1e-5)
                return view

        monkeypatch.setattr(samplers.rows, "weakref", SimpleNamespace(ref=Slow))
        x = np.arange(1, 4001, dtype=np.float32).reshape(400, 10)
        sampler = DataSampler(x, batch_size=40, shuffle=False)
        begin = threading.Barrier(4)

        def check():
            begin.wait()
            for _ in range(20):
                for number, (tr, _) in enumerate(sampler):
                    np.testing.assert_array_equal(tr, x[40 * number : 40 * (number + 1)])

        with ThreadPoolExecutor(4) as threads:
            for done in [threads.submit(check) for _ in range(4)]:
                done.result()

    @pytest.mark.parametrize(
        "part",
        [
            lambda t: t[1:],
            lambda t: t.numpy(),
            lambda t: t.T.reshape(-1) if t.shape[0] == 1 else t.view(-1),
        ],
        ids=["slice", "numpy", "view"],
    )
    def test_what_shares_memory_with_a_batch_keeps_it(self, x, part):
        kept = [part(tr) for tr, _ in DataSampler(x, batch_size=5, shuffle=False)]
        fresh = [part(tr.clone()) for tr, _ in DataSampler(x, batch_size=5, shuffle=False)]
        for ours, theirs in zip(kept, fresh, strict=True):
            np.testing.assert_array_equal(np.asarray(ours), np.asarray(theirs))

    def test_a_graph_keeps_what_it_needs(self, x):
        """The backward pass of an earlier batch reads the inputs that the graph saved."""
        weight = torch.ones(9, 1, requires_grad=True)
        outputs = [(tr @ weight).sum() for tr, _ in DataSampler(x, batch_size=5)]
        sum(outputs).backward()
        np.testing.assert_allclose(weight.grad[:, 0], x.sum(0), rtol=1e-5)

    def test_a_buffer_holds_no_rests_of_the_batch_before(self):
        x = np.zeros((6, 4), np.float32)
        x[:4] = 1
        sampler = DataSampler(x, batch_size=1, shuffle=False)
        sums = [float(tr.sum()) for tr, _ in sampler]
        assert sums == [4, 4, 4, 4, 0, 0]


class TestErrors:
    @pytest.mark.parametrize("batch_size", [0, -1, 1.5, True, "8", None])
    def test_batch_size(self, x, batch_size):
        with pytest.raises(ValueError, match="batch_size must be a whole number of at least 1"):
            DataSampler(x, batch_size=batch_size)

    def test_layout(self, x):
        with pytest.raises(ValueError, match="layout must be one of dense, csr, got 'coo'"):
            DataSampler(x, layout="coo")

    @pytest.mark.parametrize("seed", [-1, 0.5, None])
    def test_seed(self, x, seed):
        with pytest.raises(ValueError, match="seed must be"):
            DataSampler(x, seed=seed)

    @pytest.mark.parametrize("part", [np.s_[:22], np.s_[:, :8]])
    def test_shapes(self, x, part):
        with pytest.raises(ValueError, match=r"shape of sparse_data_tr, \(23, 9\), got"):
            DataSampler(x, x[part])

    def test_no_rows(self, x):
        with pytest.raises(ValueError, match="sparse_data_tr has no rows"):
            DataSampler(x[:0])

    @pytest.mark.parametrize("name", ["users", "items"])
    def test_other_users_or_items(self, x, name):
        ids = {"users": np.arange(23), "items": np.arange(9)}
        tr = Interactions(x, **ids)
        te = Interactions(x, **{**ids, name: ids[name][::-1].copy()})
        with pytest.raises(ValueError, match=f"must have the {name} of sparse_data_tr"):
            DataSampler(tr, te)

    @pytest.mark.parametrize("place", [0, 1])
    def test_data_names_the_argument(self, x, place):
        data = [x, x]
        data[place] = [[1, 0]]
        with pytest.raises(TypeError, match=("sparse_data_tr", "sparse_data_te")[place]):
            DataSampler(*data)


def test_a_sampler_of_ones_own_needs_length_and_iteration():
    class Own(Sampler):
        pass

    assert Own().epoch == 0
    with pytest.raises(NotImplementedError, match="Own does not implement __len__"):
        len(Own())
    with pytest.raises(NotImplementedError, match="Own does not implement __iter__"):
        iter(Own())
