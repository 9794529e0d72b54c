"""Selecting and ranking on a GPU: as the kernels for the CPU do, and as the plain definitions say."""

import numpy as np
import pytest
import reference
import scipy.sparse as sp
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pyrec import kernels
from pyrec.kernels.gpu import native, products, ranking, selection
from pyrec.kernels.matrices import Csr

# 1024: four scores of each thread; 8192: a step of a block; 16384: two, from where rows have parts;
# 32768: a window.
SIZES = [0, 1, 3, 31, 33, 1023, 1025, 8189, 8191, 8193, 16385, 32771]

each = settings(
    deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.fixture
def in_rows(monkeypatch):
    """in_rows(n, m): let no more than n rows of m scores exist at a time."""
    return lambda n, m: monkeypatch.setattr(selection, "_CHUNK_BYTES", 4 * n * m)


@pytest.fixture
def whole_rows(gpu, monkeypatch):
    """Select each row at once, few as they are."""
    module = native.module(torch.empty(0, device=gpu))

    class Whole:
        most_selected = getattr(module, "most_selected", None)
        topk = staticmethod(getattr(module, "topk", None))

        @staticmethod
        def topk_parts(rows, cols):
            return 1

    monkeypatch.setattr(native, "module", lambda t: module and Whole)


def pattern(mask, device):
    return Csr.from_scipy(sp.csr_array(np.asarray(mask, np.float32))).to(device)


def tensors(arrays, device):
    """Boolean masks as Csr, 1-D arrays as they are."""
    return {
        name: a if a is None else torch.tensor(a).to(device) if a.ndim == 1 else pattern(a, device)
        for name, a in arrays.items()
    }


def assert_selected(result, expected):
    assert (result.items.dtype, result.scores.dtype) == (torch.int32, torch.float32)
    np.testing.assert_array_equal(result.items.cpu(), expected[0])
    np.testing.assert_array_equal(result.scores.cpu(), np.asarray(expected[1], np.float32))


def adversarial(data, rng, n, m):
    """Scores of a kind that is drawn."""
    kind = data.draw(
        st.sampled_from(["ties", "special", "ascending", "descending", "equal", "few", "late"]),
        label="kind",
    )
    scores = np.round(rng.standard_normal((n, m)), 1).astype(np.float32)
    if kind == "special":
        special = [np.nan, np.inf, -np.inf, 0.0, -0.0, 1e-45, -1e-45, -3.4028235e38, -np.nan]
        taken = rng.random((n, m)) < data.draw(st.sampled_from([0.1, 0.9, 1.0]), label="share")
        scores[taken] = rng.choice(np.array(special, np.float32), int(taken.sum()))
    elif kind == "ascending":
        scores[:] = np.arange(m)
    elif kind == "descending":
        scores[:] = -np.arange(m)
    elif kind == "equal":
        scores[:] = rng.choice([0.0, -0.0, np.inf, -3.0])
    elif kind == "few":  # as sparse weights give them
        scores[rng.random((n, m)) < 0.99] = 0
    elif kind == "late":
        scores += (np.arange(m) / max(1, m) * 4).astype(np.float32)
    return scores


class TestTopk:
    @pytest.mark.parametrize("n_items", SIZES)
    def test_equals_a_full_sort(self, gpu, n_items):
        rng = np.random.default_rng(n_items)
        scores = np.round(rng.standard_normal((3, n_items)), 2).astype(np.float32)  # many ties
        out, given = rng.random((2, 3, n_items)) < [[[0.3]], [[0.6]]]
        s, seen, allow = torch.tensor(scores).to(gpu), pattern(out, gpu), pattern(given, gpu)
        for k in (1, 128, 129, 700):
            assert_selected(selection.topk(s, k), reference.topk(scores, k))
            assert_selected(selection.topk(s, k, seen), reference.topk(scores, k, out))
            expected = reference.topk(scores, k, out, given)
            assert_selected(selection.topk(s, k, allow=allow, deny=seen), expected)

    @each
    @given(st.data())
    def test_adversarial(self, gpu, data):
        n = data.draw(st.integers(1, 3), label="n")
        m = data.draw(st.one_of(st.integers(1, 300), st.integers(8100, 20000)), label="m")
        k = data.draw(st.sampled_from([0, 1, 20, 100, 128, 256, 257, 1000, 1024, 1025]), label="k")
        rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1), label="seed"))
        scores = adversarial(data, rng, n, m)
        arrays, masks = {}, {}
        for name in ("seen", "allow", "deny"):
            density = data.draw(st.sampled_from([None, None, 0.0, 0.01, 0.9, 1.0]), label=name)
            one = data.draw(st.booleans(), label="one for all")
            if density is not None:
                masks[name] = rng.random(m if one else (n, m)) < density
                arrays[name] = np.flatnonzero(masks[name]) if one else masks[name]
        first = data.draw(st.integers(0, 3), label="first")  # where four scores lie together
        memory = torch.zeros(n * m + first, device=gpu)
        s = memory[first:].view(n, m).copy_(torch.tensor(scores))
        result = selection.topk(s, k, **tensors(arrays, gpu))
        expected = reference.topk(scores, k, **masks)
        assert_selected(result, expected)
        sparse = {
            a: v if v.ndim == 1 else sp.csr_array(v.astype(np.float32)) for a, v in arrays.items()
        }
        ours = kernels.topk(scores, k, **sparse)
        np.testing.assert_array_equal(
            np.signbit(result.scores.cpu().numpy()), np.signbit(ours.scores)
        )

    @pytest.mark.parametrize("k", [1, 100, 300])
    def test_equal_scores_of_any_size(self, gpu, k):
        scores = np.zeros((7, 8300), np.float32)
        scores.T[:] = [np.inf, 3.4028235e38, 1e-45, -0.0, -1e-45, -3.4028235e38, -np.inf]
        s = torch.tensor(scores).to(gpu)
        assert_selected(selection.topk(s, k), reference.topk(scores, k))
        for places in (slice(1, None, 3), slice(5, None, 6)):  # the next to them
            scores[:, places] = np.nextafter(scores[:, places], np.float32(0))
        scores[:, 7::50] = np.nan
        s = torch.tensor(scores).to(gpu)
        assert_selected(selection.topk(s, k), reference.topk(scores, k))

    @pytest.mark.parametrize("k", [5, 128, 300, 1024])
    @pytest.mark.parametrize("kind", ["ascending", "zeros", "tails", "late"])
    def test_rows_that_fill_all_room(self, gpu, whole_rows, kind, k):
        m = 40000  # two windows
        scores = {
            "ascending": np.arange(m),
            "zeros": np.where(np.arange(m) % 1000 == 7, np.arange(m), 0),
            "tails": np.abs(np.arange(m) - m // 2) // 3,
            "late": np.random.default_rng(0).random(m) + np.arange(m) / m,
        }[kind].astype(np.float32)[None]
        out, given = np.arange(m)[None] % 3 == 0, np.arange(m)[None] % 7 != 0
        s, seen, allow = torch.tensor(scores).to(gpu), pattern(out, gpu), pattern(given, gpu)
        assert_selected(selection.topk(s, k), reference.topk(scores, k))
        assert_selected(selection.topk(s, k, seen), reference.topk(scores, k, out))
        expected = reference.topk(scores, k, out, given)
        assert_selected(selection.topk(s, k, seen, allow=allow), expected)

    def test_parts_of_rows_that_lie_anywhere(self, gpu):
        """Of a row that is the only one, the parts; their lists begin in the middle."""
        m = 70001
        rng = np.random.default_rng(0)
        scores = np.round(rng.standard_normal((2, m)), 2).astype(np.float32)
        out, given = rng.random((2, 2, m)) < [[[0.1]], [[0.02]]]
        given[1, 20000:] = False
        s, seen, allow = torch.tensor(scores).to(gpu), pattern(out, gpu), pattern(given, gpu)
        for k in (100, 400):
            assert_selected(selection.topk(s, k, seen), reference.topk(scores, k, out))
            expected = reference.topk(scores, k, out, given)
            assert_selected(selection.topk(s, k, seen, allow=allow), expected)

    def test_one_list_for_all_rows_in_any_order(self, gpu):
        scores = np.random.default_rng(0).standard_normal((4, 90)).astype(np.float32)
        some = torch.tensor([3, 80, 5, 5, 64]).to(gpu)
        mask = np.isin(np.arange(90), some.cpu())
        s = torch.tensor(scores).to(gpu)
        assert_selected(selection.topk(s, 10, deny=some), reference.topk(scores, 10, deny=mask))
        for dtype in (torch.int32, torch.uint8):
            result = selection.topk(s, 10, allow=some.to(dtype))
            assert_selected(result, reference.topk(scores, 10, allow=mask))
        assert_selected(
            selection.topk(s, 2, allow=some[:0]), reference.topk(scores, 2, allow=mask & False)
        )

    def test_a_list_that_is_known_to_be_right(self, gpu):
        scores = np.random.default_rng(0).standard_normal((4, 90)).astype(np.float32)
        mask = np.isin(np.arange(90), [3, 5, 64])
        some = None, torch.tensor([3, 5, 64], dtype=torch.int32).to(gpu)
        s = torch.tensor(scores).to(gpu)
        assert_selected(selection.topk(s, 10, some), reference.topk(scores, 10, mask))
        assert_selected(selection.topk(s, 10, allow=some), reference.topk(scores, 10, allow=mask))
        with pytest.raises(ValueError, match=r"seen must be on .*, got meta"):
            selection.topk(s, 2, (None, some[1].to("meta")))
        for bad in ((), (some[1], some[1]), (None, [3])):
            with pytest.raises(TypeError, match="seen must be a Csr or a 1-D tensor"):
                selection.topk(s, 2, bad)

    @pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
    def test_scores_are_converted_in_chunks_and_left_alone(self, gpu, in_rows, dtype):
        in_rows(2, 60)
        g = torch.Generator().manual_seed(0)
        scores = torch.randn(5, 120, generator=g).to(gpu, dtype)[:, ::2].requires_grad_()
        before = scores.detach().clone()
        seen = np.random.default_rng(0).random((5, 60)) < 0.2
        result = selection.topk(scores, 7, pattern(seen, gpu))
        assert_selected(result, reference.topk(before.float().cpu().numpy(), 7, seen))
        assert torch.equal(scores, before)

    @pytest.mark.parametrize(("shape", "k"), [((0, 5), 3), ((2, 0), 3), ((2, 5), 0), ((0, 0), 0)])
    def test_nothing(self, gpu, shape, k):
        result = selection.topk(torch.zeros(shape, device=gpu), k)
        assert_selected(result, reference.topk(np.zeros(shape), k))

    def test_a_subset_of_rows_has_the_same_lists(self, gpu):
        g = torch.Generator().manual_seed(0)
        scores = torch.randn(9, 700, generator=g).to(gpu)
        whole = selection.topk(scores, 50)
        some = selection.topk(scores[4:7], 50)
        assert torch.equal(some.items, whole.items[4:7])
        assert torch.equal(some.scores, whole.scores[4:7])

    def test_named_errors(self, gpu):
        s = torch.zeros(3, 4, device=gpu)
        with pytest.raises(ValueError, match="scores must have 2 dimensions, got shape"):
            selection.topk(s[0], 2)
        with pytest.raises(ValueError, match="k must be a whole number of at least 0, got -1"):
            selection.topk(s, -1)
        with pytest.raises(
            ValueError, match=r"seen must have shape \(3, 4\), as the scores, got \(3, 5\)"
        ):
            selection.topk(s, 2, pattern(np.ones((3, 5)), gpu))
        with pytest.raises(ValueError, match=r"deny must be in 0\.\.3, got -1\.\.4"):
            selection.topk(s, 2, deny=torch.tensor([0, 4, -1]).to(gpu))
        for bad in (torch.zeros(3, 4), torch.zeros(2), torch.ones(4, dtype=torch.bool), [1, 2]):
            with pytest.raises(
                TypeError, match="allow must be a Csr or a 1-D tensor of item numbers"
            ):
                selection.topk(s, 2, allow=bad)
        with pytest.raises(ValueError, match=r"deny must be on .*, got meta"):
            selection.topk(s, 2, deny=torch.zeros(2, dtype=torch.int64, device="meta"))


def histories(n, m, rng, density=0.2):
    """Small whole numbers, whose sums have no rounding; the first row is empty."""
    x = rng.integers(1, 4, (n, m)) * (rng.random((n, m)) < density)
    x[:1] = 0
    return sp.csr_array(x.astype(np.float32))


class TestTopkOfWeights:
    @pytest.mark.parametrize("n_items", [1, 5, 130, 515])
    @pytest.mark.parametrize("layout", ["dense", "sparse"])
    @pytest.mark.parametrize("shifted", [False, True])
    def test_equals_the_product_and_a_sort(self, gpu, in_rows, n_items, layout, shifted):
        in_rows(3, n_items)
        rng = np.random.default_rng(n_items)
        x = histories(7, n_items, rng)
        w = rng.integers(-3, 4, (n_items, n_items)) * (rng.random((n_items, n_items)) < 0.2)
        w = sp.csr_array(w.astype(np.float32))
        offset = rng.integers(-2, 3, n_items).astype(np.float32) if shifted else None
        scores = x.toarray() @ w.toarray() + (offset if shifted else 0)
        seen, given = x.toarray() != 0, rng.random((7, n_items)) < 0.5
        if layout == "dense":
            select, weights = selection.topk_dense_weights, torch.tensor(w.toarray()).to(gpu)
        else:
            select, weights = selection.topk_sparse_weights, Csr.from_scipy(w).to(gpu)
        c = Csr.from_scipy(x).to(gpu)
        shift = None if offset is None else torch.tensor(offset).to(gpu)
        result = select(c, weights, 12, c, offset=shift)
        assert_selected(result, reference.topk(scores, 12, seen))
        lists = tensors({"allow": given, "deny": np.array([0])}, gpu)
        expected = reference.topk(scores, 12, allow=given, deny=np.arange(n_items) == 0)
        assert_selected(select(c, weights, 12, offset=shift, **lists), expected)
        ours = kernels.topk_sparse_weights(x, w, 12, x, offset=offset)
        assert_selected(result, ours)

    @pytest.mark.parametrize("layout", ["dense", "sparse"])
    def test_nobody_waits_for_the_device(self, gpu, in_rows, monkeypatch, layout):
        """Also with several chunks of scores, and lists for all rows."""
        if native.module(torch.empty(0, device=gpu)) is None:
            pytest.skip("torch's operations wait")
        in_rows(3, 40)
        rng = np.random.default_rng(0)
        x, w = histories(8, 40, rng), histories(40, 40, rng)
        c, weights = Csr.from_scipy(x).to(gpu), Csr.from_scipy(w).to(gpu)
        given = np.arange(0, 40, 2)
        allow = None, torch.tensor(given, dtype=torch.int32).to(gpu)
        select = selection.topk_sparse_weights
        if layout == "dense":
            weights, select = weights.dense(), selection.topk_dense_weights
        for name in ("tolist", "item", "cpu", "__bool__", "__int__"):
            monkeypatch.setattr(torch.Tensor, name, None)
        result = select(c, weights, 6, c, allow=allow)
        monkeypatch.undo()
        mask = np.isin(np.arange(40), given)
        scores = x.toarray() @ w.toarray()
        assert_selected(result, reference.topk(scores, 6, x.toarray() != 0, mask))

    def test_histories_longer_than_a_block(self, gpu):
        rng = np.random.default_rng(0)
        x, w = histories(3, 700, rng, 0.7), histories(700, 700, rng, 0.3)
        result = selection.topk_sparse_weights(
            Csr.from_scipy(x).to(gpu), Csr.from_scipy(w).to(gpu), 700
        )
        assert_selected(result, reference.topk(x.toarray() @ w.toarray(), 700))

    def test_sums_keep_their_order(self, gpu):
        """1e8 + 1 - 1e8 is 0 in float32, in no other order of the three."""
        if native.module(torch.empty(0, device=gpu)) is None:
            pytest.skip("torch has an order of its own")
        w = sp.csr_array(np.array([[1e8] * 3, [1] * 3, [-1e8] * 3], np.float32))
        x = Csr.from_dense(torch.ones(1, 3)).to(gpu)
        result = selection.topk_sparse_weights(x, Csr.from_scipy(w).to(gpu), 3)
        assert result.scores.tolist() == [[0, 0, 0]]

    @pytest.mark.parametrize("layout", ["dense", "sparse"])
    def test_float64_is_converted(self, gpu, layout):
        rng = np.random.default_rng(1)
        x, w = histories(4, 30, rng), histories(30, 30, rng)
        c = Csr.from_scipy(x).to(gpu)
        c = c.with_values(c.values.double().requires_grad_())
        weights = torch.tensor(w.toarray()).to(gpu).double().requires_grad_()
        if layout == "sparse":
            result = selection.topk_sparse_weights(c, Csr.from_dense(weights.detach()), 9)
        else:
            result = selection.topk_dense_weights(c, weights, 9)
        assert_selected(result, reference.topk(x.toarray() @ w.toarray(), 9))

    @pytest.mark.parametrize("shape", [(0, 4), (3, 0)])
    def test_nothing(self, gpu, shape):
        x = Csr.from_scipy(sp.csr_array(shape, dtype=np.float32)).to(gpu)
        weights = torch.ones((shape[1],) * 2, device=gpu)
        expected = reference.topk(np.zeros(shape), 2)
        assert_selected(selection.topk_dense_weights(x, weights, 2), expected)
        assert_selected(selection.topk_sparse_weights(x, Csr.from_dense(weights), 2), expected)

    def test_named_errors(self, gpu):
        x = pattern(np.ones((3, 4)), gpu)
        with pytest.raises(TypeError, match="x must be a Csr, got Tensor"):
            selection.topk_dense_weights(torch.ones(4, device=gpu), torch.ones(4, 4, device=gpu), 2)
        with pytest.raises(ValueError, match=r"weights must have shape \(4, 4\), got \(4, 5\)"):
            selection.topk_dense_weights(x, torch.zeros(4, 5, device=gpu), 2)
        with pytest.raises(ValueError, match=r"weights must have shape \(4, 4\), got \(3, 4\)"):
            selection.topk_sparse_weights(x, x, 2)
        with pytest.raises(ValueError, match=r"offset must be on .*, got meta"):
            selection.topk_sparse_weights(
                x,
                Csr.from_dense(torch.ones(4, 4, device=gpu)),
                2,
                offset=torch.zeros(4, device="meta"),
            )
        with pytest.raises(ValueError, match=r"offset must have shape \(4,\), got \(3,\)"):
            selection.topk_dense_weights(
                x, torch.zeros(4, 4, device=gpu), 2, offset=torch.zeros(3, device=gpu)
            )


class TestScores:
    @pytest.mark.parametrize("shifted", [False, True])
    def test_equal_the_product(self, gpu, shifted):
        rng = np.random.default_rng(0)
        x, w = histories(5, 30, rng), sp.csr_array(histories(30, 30, rng)[:, :7])
        offset = rng.integers(-2, 3, 7).astype(np.float32)
        c, weights = Csr.from_scipy(x).to(gpu), Csr.from_scipy(w).to(gpu)
        shift = torch.tensor(offset).to(gpu) if shifted else None
        expected = x.toarray() @ w.toarray() + (offset if shifted else 0)
        c = c.with_values(c.values.double())
        for score, own in (
            (products.scores_sparse_weights, weights),
            (products.scores_dense_weights, weights.dense()),
        ):
            np.testing.assert_array_equal(score(c, own, shift).cpu(), expected)
            out = torch.full((5, 7), np.nan, device=gpu)
            assert score(c, own, shift, out) is out
            np.testing.assert_array_equal(out.cpu(), expected)

    @pytest.mark.parametrize("layout", ["dense", "sparse"])
    def test_named_errors(self, gpu, layout):
        x, w = pattern(np.ones((3, 4)), gpu), pattern(np.ones((4, 5)), gpu)
        score, kind = products.scores_sparse_weights, "Csr"
        if layout == "dense":
            w, score, kind = w.dense(), products.scores_dense_weights, "Tensor"
        offset, out = torch.zeros(5, device=gpu), torch.zeros(3, 5, device=gpu)
        with pytest.raises(TypeError, match="x must be a Csr, got Tensor"):
            score(x.dense(), w)
        with pytest.raises(TypeError, match=f"weights must be a {kind}, got ndarray"):
            score(x, np.ones((4, 5)))
        with pytest.raises(ValueError, match=r"weights must have shape \(5, any\), got \(4, 5\)"):
            score(pattern(np.ones((3, 5)), gpu), w)
        with pytest.raises(ValueError, match=r"offset must have shape \(5,\), got \(3,\)"):
            score(x, w, offset[:3])
        with pytest.raises(ValueError, match=r"out must have shape \(3, 5\), got \(2, 5\)"):
            score(x, w, offset, out[:2])
        with pytest.raises(ValueError, match=r"weights must be on .*, got meta"):
            score(x, w.to("meta"))
        with pytest.raises(ValueError, match=r"offset must be on .*, got meta"):
            score(x, w, offset.to("meta"))
        with pytest.raises(TypeError, match=r"offset must be a tensor of .*, got ndarray"):
            score(x, w, np.zeros(5, np.float32))
        with pytest.raises(ValueError, match=r"out must be on .*, got meta"):
            score(x, w, offset, out.to("meta"))

    def test_out_must_be_as_kernels_write_it(self, gpu):
        x, w = pattern(np.ones((3, 4)), gpu), pattern(np.ones((4, 5)), gpu)
        for out in (torch.zeros(3, 5, dtype=torch.float64), torch.zeros(5, 3).T):
            with pytest.raises(TypeError, match=r"out must be a contiguous torch\.float32 tensor"):
                products.scores_sparse_weights(x, w, out=out.to(gpu))


class TestTopkFactors:
    @pytest.mark.parametrize(("n_items", "rank"), [(1, 1), (130, 0), (131, 17), (515, 8)])
    @pytest.mark.parametrize("biased", [False, True])
    def test_equals_topk_of_the_product(self, gpu, in_rows, n_items, rank, biased):
        in_rows(3, n_items)
        rng = np.random.default_rng(rank)
        h, v = (rng.integers(-4, 5, (n, rank)).astype(np.float32) for n in (7, n_items))
        bias = rng.integers(-9, 9, n_items).astype(np.float32) if biased else None
        scores = h @ v.T + (bias if biased else 0)
        seen = rng.random(scores.shape) < 0.3
        u, items = torch.tensor(h, dtype=torch.float64).to(gpu), torch.tensor(v).to(gpu)
        b = None if bias is None else torch.tensor(bias).to(gpu).requires_grad_()
        result = selection.topk_factors(u, items, 20, pattern(seen, gpu), bias=b)
        assert_selected(result, reference.topk(scores, 20, seen))
        ours = kernels.topk_factors(h, v, 20, sp.csr_array(seen.astype(np.float32)), bias=bias)
        assert_selected(result, ours)

    def test_named_errors(self, gpu):
        h, items = torch.zeros(2, 3, device=gpu), torch.zeros(5, 3, device=gpu)
        with pytest.raises(ValueError, match="h and items must be matrices of the same rank"):
            selection.topk_factors(h[:, 1:], items, 1)
        with pytest.raises(ValueError, match=r"bias must have shape \(5,\), got \(4,\)"):
            selection.topk_factors(h, items, 1, bias=items[:4, 0])
        with pytest.raises(ValueError, match=r"items must be on .*, got meta"):
            selection.topk_factors(h, items.to("meta"), 1)


class TestRanking:
    @each
    @given(st.integers(1, 40), st.integers(0, 70), st.integers(1, 80), st.integers(0, 2**32 - 1))
    def test_equals_the_formulas(self, gpu, n_items, depth, k, seed):
        rng = np.random.default_rng(seed)
        n_items *= rng.choice([1, 30])
        truth = rng.random((6, n_items)) < rng.choice([0.0, 0.1, 0.9])
        items = np.full((6, depth), -1)
        for row in items:
            n = rng.integers(0, min(depth, n_items) + 1)
            row[:n] = rng.permutation(n_items)[:n]
        names = [f"{name}@{k}" for name in kernels.METRICS] + ["ndcg@1", "map@999"]
        values = ranking.ranking(torch.tensor(items).to(gpu), pattern(truth, gpu), names)
        ours = kernels.ranking(items, sp.csr_array(truth.astype(np.float32)), names)
        assert list(values) == list(dict.fromkeys(names))
        for name in names:
            assert values[name].dtype == torch.float64
            np.testing.assert_allclose(values[name].cpu(), ours[name], rtol=1e-12, err_msg=name)
            expected = [
                reference.ranking(row.tolist(), set(np.flatnonzero(t)), *kernels.parse_metric(name))
                for row, t in zip(items, truth, strict=True)
            ]
            np.testing.assert_allclose(values[name].cpu(), expected, rtol=1e-12, err_msg=name)

    def test_more_rows_than_a_block_has(self, gpu, draw):
        items = np.random.default_rng(0).integers(0, 9, (261, 1))
        relevant = draw(261, 9, 0.5)
        names = ["hit@1", "mrr@3"]
        values = ranking.ranking(
            torch.tensor(items).to(gpu), Csr.from_scipy(relevant).to(gpu), names
        )
        for name, expected in kernels.ranking(items, relevant, names).items():
            np.testing.assert_array_equal(values[name].cpu(), expected)

    def test_nothing(self, gpu):
        none = torch.zeros((0, 3), dtype=torch.int32, device=gpu)
        values = ranking.ranking(none, pattern(np.zeros((0, 5)), gpu), ["ndcg@2"])
        assert values["ndcg@2"].shape == (0,)
        assert ranking.ranking(none, pattern(np.zeros((0, 5)), gpu), []) == {}

    def test_named_errors(self, gpu):
        items = torch.zeros((2, 3), dtype=torch.int32, device=gpu)
        with pytest.raises(ValueError, match="a metric must be name@k with a name of ndcg, recall"):
            ranking.ranking(items, pattern(np.ones((2, 4)), gpu), ["auc@5"])
        with pytest.raises(
            ValueError, match="items must have 2 dimensions and a row for each of the 1"
        ):
            ranking.ranking(items, pattern(np.ones((1, 4)), gpu), ["ndcg@5"])
        with pytest.raises(TypeError, match="relevant must be a Csr, got Tensor"):
            ranking.ranking(items, torch.ones(2, 4, device=gpu), ["ndcg@5"])
