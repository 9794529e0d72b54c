"""The torch face of the kernels against plain torch, at the sizes where the code changes its mind."""

import itertools

import numpy as np
import pytest
import reference
import scipy.sparse as sp
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pyrec.data import as_csr
from pyrec.kernels import likelihood, memory, tensors
from pyrec.kernels.tensors import Csr, Logits, fused_decoder_nll, multinomial_nll, sparse_linear

# 15..17: a vector; 63..65: a block of nonzeros(); 1023..1025: a block of the likelihood.
SIZES = [1, 15, 16, 17, 63, 65, 1023, 1025, 2500]
ROWS = 7


def drawn(n_items, dtype=torch.float32, seed=0):
    """Logits, counts (a row of them empty) and masks of every kind."""
    g = torch.Generator().manual_seed(seed)
    logits = 4 * torch.randn(ROWS, n_items, generator=g, dtype=dtype)
    target = torch.poisson(torch.full((ROWS, n_items), 0.3), generator=g).to(dtype)
    target[3] = 0
    masks = [None, *(torch.rand(shape, generator=g) < 0.3 for shape in (n_items, (ROWS, n_items)))]
    masks[2][5] = True  # nothing takes part
    return logits, target, masks


def gradient(loss, *inputs):
    return torch.autograd.grad(loss, inputs)


def assert_near(ours, theirs, rtol=1e-5):
    """Relative to the largest entry: gradients of far items are differences of rounding."""
    scale = float(theirs.detach().abs().max()) if theirs.numel() else 0.0
    torch.testing.assert_close(ours, theirs, rtol=rtol, atol=rtol * scale)


class TestMultinomialNll:
    @pytest.mark.parametrize("n_items", SIZES)
    @pytest.mark.parametrize("layout", ["dense", "csr"])
    def test_equals_plain_torch(self, n_items, layout):
        logits, target, masks = drawn(n_items)
        logits.requires_grad_()
        x = Csr.from_dense(target) if layout == "csr" else target
        weights = torch.linspace(-1, 2, ROWS)
        for mask in masks:
            ours = multinomial_nll(logits, x, mask)
            theirs = reference.multinomial_nll(logits.double(), target.double(), mask)
            assert_near(ours, theirs.float(), 1e-6)
            assert_near(
                *(gradient((loss * weights).sum(), logits)[0] for loss in (ours, theirs.float()))
            )

    def test_in_place_equals_forward_and_backward(self):
        for n_items, dtype in itertools.product(SIZES, (torch.float32, torch.float64)):
            logits, target, masks = drawn(n_items, dtype)
            for x, mask in itertools.product((target, Csr.from_dense(target)), masks):
                kept = logits.clone()
                loss = likelihood.nll_in_place(kept, x, mask, 0.25)
                expected, lse = likelihood.nll(logits, x, mask)
                torch.testing.assert_close(loss, expected, rtol=0, atol=0)
                grad = likelihood.nll_grad(logits, x, mask, lse, torch.full_like(lse, 0.25))
                assert_near(kept, grad, 2e-6)

    def test_the_fallback_gives_the_same(self, monkeypatch):
        logits, target, masks = drawn(300)
        logits.requires_grad_()
        results = []
        for native in (True, False):
            monkeypatch.setattr(likelihood, "has_kernel", lambda *t, native=native: native)
            for x, mask in itertools.product((target, Csr.from_dense(target)), masks):
                loss = multinomial_nll(logits, x, mask)
                results.append((loss, gradient(loss.sum(), logits)[0]))
        for ours, theirs in zip(
            results[: len(results) // 2], results[len(results) // 2 :], strict=True
        ):
            assert_near(ours[0], theirs[0])
            assert_near(ours[1], theirs[1])

    @pytest.mark.parametrize("masked", [False, True])
    def test_gradcheck(self, masked):
        logits, target, masks = drawn(40, torch.float64)
        x = Csr.from_dense(target)
        mask = masks[2] if masked else None
        torch.autograd.gradcheck(lambda y: multinomial_nll(y, x, mask), (logits.requires_grad_(),))

    def test_bfloat16_is_rounded_not_wrong(self):
        logits, target, _ = drawn(1500)
        low = logits.bfloat16()
        loss = multinomial_nll(low, target)
        assert loss.dtype == torch.float32
        assert_near(loss, multinomial_nll(low.float(), target), 1e-6)
        kept = low.clone()
        likelihood.nll_in_place(kept, target, None, 1.0)
        exact = low.float()
        likelihood.nll_in_place(exact, target, None, 1.0)
        torch.testing.assert_close(kept.float(), exact, rtol=2**-8, atol=1e-30)

    def test_twice_is_refused(self):
        logits, target, _ = drawn(5)
        logits.requires_grad_()
        loss = multinomial_nll(logits, target).sum()
        (grad,) = torch.autograd.grad(loss, logits, create_graph=True)
        assert_near(grad.detach(), gradient(multinomial_nll(logits, target).sum(), logits)[0])
        with pytest.raises(RuntimeError, match="cannot be differentiated twice"):
            (loss + grad.square().sum()).backward()

    def test_far_logits(self):
        """Beyond what a naive exp can hold, -inf where an item is impossible, ties."""
        logits = torch.tensor([[1e4, -1e4, 0.0], [-3e38, 1.0, 1.0], [-np.inf, 5.0, -90.0]])
        target = torch.tensor([[1.0, 1.0, 0.0], [0.0, 1.0, 2.0], [0.0, 1.0, 1.0]])
        ours = multinomial_nll(logits, target)
        assert_near(ours, reference.multinomial_nll(logits.double(), target, None).float(), 1e-6)

    def test_what_cannot_be_is_infinite_and_nan_stays(self):
        logits = torch.tensor([[-np.inf, 0.0], [np.nan, 0.0], [-np.inf, -np.inf]])
        loss = multinomial_nll(logits, torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]]))
        assert loss[0] == np.inf
        assert torch.isnan(loss[1])
        assert loss[2] == 0

    def test_same_bits_for_any_number_of_threads(self, monkeypatch):
        logits, target, masks = drawn(3000)
        results = []
        for n in ("1", "3"):
            monkeypatch.setenv("PYREC_NUM_THREADS", n)
            kept = logits.clone()
            loss = likelihood.nll_in_place(kept, target, masks[1], 0.5)
            lse = likelihood.nll(logits, target, masks[1])[1]
            results.append((loss, kept, lse))
        for ours, theirs in zip(*results, strict=True):
            assert torch.equal(ours, theirs)

    def test_bad_input_is_named(self):
        logits, target, _ = drawn(5)
        with pytest.raises(
            ValueError, match=r"target must have the shape of the logits, \(7, 5\), got \(7, 4\)"
        ):
            multinomial_nll(logits, target[:, 1:])
        with pytest.raises(TypeError, match=r"mask must be a bool tensor, got torch\.float32"):
            multinomial_nll(logits, target, torch.zeros(5))
        with pytest.raises(ValueError, match=r"mask must have shape \(1 or 7, 5\), got \(2, 5\)"):
            multinomial_nll(logits, target, torch.zeros(2, 5, dtype=torch.bool))

    @settings(max_examples=40, deadline=None)
    @given(st.integers(1, 5), st.integers(1, 40), st.integers(0, 2**31 - 1))
    def test_strides_do_not_matter(self, n, n_items, seed):
        g = torch.Generator().manual_seed(seed)
        logits = torch.randn(n_items, 2 * n, generator=g)[:, ::2].t().requires_grad_()
        target = torch.poisson(torch.ones(n_items, n), generator=g).t()
        ours, theirs = multinomial_nll(logits, target), reference.multinomial_nll(logits, target)
        assert_near(ours, theirs)
        assert_near(gradient(ours.mean(), logits)[0], gradient(theirs.mean(), logits)[0])


class TestFusedDecoderNll:
    @pytest.fixture(params=[1 << 30, 3 * 40 * 8, 1], ids=["one chunk", "chunks of 3 or 6", "rows"])
    def decoder(self, request, monkeypatch):
        monkeypatch.setattr(tensors, "_CHUNK_BYTES", request.param)

        def make(dtype):
            g = torch.Generator().manual_seed(1)
            shapes = (ROWS, 6), (40, 6), (40,)
            return [torch.randn(s, generator=g, dtype=dtype).requires_grad_() for s in shapes]

        return make

    @pytest.mark.parametrize("layout", ["dense", "csr"])
    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    def test_equals_plain_torch(self, decoder, layout, dtype):
        h, weight, bias = decoder(dtype)
        _, target, masks = drawn(40, dtype)
        x = Csr.from_dense(target) if layout == "csr" else target
        for mask, b in itertools.product(masks, (bias, None)):
            inputs = [t for t in (h, weight, b) if t is not None]
            ours = fused_decoder_nll(h, weight, b, x, mask)
            theirs = reference.multinomial_nll(
                torch.nn.functional.linear(h, weight, b), target, mask
            ).mean()
            assert_near(ours, theirs)
            for mine, plain in zip(
                gradient(3 * ours, *inputs), gradient(3 * theirs, *inputs), strict=True
            ):
                assert_near(mine, plain)
            with torch.no_grad():
                assert_near(fused_decoder_nll(h, weight, b, x, mask), theirs)

    def test_gradients_are_slopes(self, decoder):
        """Central differences in every direction: gradcheck would take the gradients twice."""
        inputs = decoder(torch.float64)
        x = Csr.from_dense(drawn(40, torch.float64)[1])
        grads = gradient(fused_decoder_nll(*inputs, x), *inputs)
        with torch.no_grad():
            for own, t in zip(grads, inputs, strict=True):
                slopes = torch.empty(t.numel(), dtype=t.dtype)
                for k, value in enumerate(t.view(-1).tolist()):
                    ends = []
                    for step in (1e-6, -1e-6):
                        t.view(-1)[k] = value + step
                        ends.append(fused_decoder_nll(*inputs, x))
                    t.view(-1)[k] = value
                    slopes[k] = (ends[0] - ends[1]) / 2e-6
                torch.testing.assert_close(own, slopes.view(t.shape), rtol=1e-6, atol=1e-8)

    def test_autocast_multiplies_in_bfloat16(self, decoder):
        h, weight, bias = decoder(torch.float32)
        target = drawn(40)[1]
        exact = fused_decoder_nll(h, weight, bias, target)
        with torch.autocast("cpu", torch.bfloat16):
            low = fused_decoder_nll(h, weight, bias, target)
        assert low.dtype == torch.float32
        assert low != exact
        assert low.item() == pytest.approx(exact.item(), rel=2e-2)
        for ours, theirs in zip(
            gradient(low, h, weight, bias), gradient(exact, h, weight, bias), strict=True
        ):
            assert ours.dtype == theirs.dtype
            assert (ours - theirs).norm() < 3e-2 * theirs.norm()

    def test_twice_is_refused(self, decoder):
        h, weight, bias = decoder(torch.float32)
        loss = fused_decoder_nll(h, weight, bias, drawn(40)[1])
        loss.backward(retain_graph=True)
        with pytest.raises(RuntimeError, match="can be taken only once"):
            loss.backward()

    def test_no_logits_of_all_rows_exist(self, monkeypatch):
        monkeypatch.setattr(tensors, "_CHUNK_BYTES", 2 * 4 * 40)
        memory.release()
        h, weight = torch.randn(ROWS, 6, requires_grad=True), torch.randn(40, 6)
        fused_decoder_nll(h, weight, None, drawn(40)[1])
        assert {name: b.numel() for (name, *_), b in memory._scratch.items()} == {"logits": 2 * 40}

    def test_only_what_is_asked_for_is_made(self, monkeypatch):
        made = []
        add = tensors._add_products
        monkeypatch.setattr(
            tensors, "_add_products", lambda grads, *a: made.append(grads) or add(grads, *a)
        )
        h, weight = torch.randn(ROWS, 6, requires_grad=True), torch.randn(40, 6)
        target = drawn(40)[1]
        fused_decoder_nll(h, weight, None, target).backward()
        assert [grad is None for grad in made.pop()] == [False, True, True]
        with torch.no_grad():
            fused_decoder_nll(h, weight, None, target)
        assert not made

    def test_no_rows_and_wrong_shapes(self):
        weight = torch.randn(40, 6, requires_grad=True)
        assert torch.isnan(fused_decoder_nll(torch.zeros(0, 6), weight, None, torch.zeros(0, 40)))
        with pytest.raises(
            ValueError, match=r"must be matrices of the same rank, got shapes \(7, 5\)"
        ):
            fused_decoder_nll(torch.zeros(ROWS, 5), weight, None, drawn(40)[1])
        with pytest.raises(ValueError, match=r"logits must have 2 dimensions, got shape \(4,\)"):
            multinomial_nll(torch.zeros(4), torch.zeros(4))

    def test_one_row_of_masks_is_for_all_rows(self, decoder):
        h, weight, bias = decoder(torch.float32)
        _, target, masks = drawn(40)
        losses = [fused_decoder_nll(h, weight, bias, target, m) for m in (masks[1], masks[1][None])]
        assert losses[0] == losses[1]


class TestMemory:
    """Of gradients and working space that is used again."""

    SHAPE = (1 << 15, 16)

    def step(self, weight, n=3):
        h, target = torch.randn(n, 16), torch.ones(n, self.SHAPE[0])
        fused_decoder_nll(h, weight, None, target).backward()

    @pytest.fixture
    def weight(self):
        memory.release()
        yield torch.randn(self.SHAPE, requires_grad=True)
        memory.release()

    def test_gradients_keep_their_memory(self, weight):
        places = set()
        for _ in range(3):
            memory.zero_grad([weight])
            self.step(weight)
            places.add(weight.grad.data_ptr())
        assert len(places) == 1

    def test_a_gradient_that_is_kept_is_left_alone(self, weight):
        self.step(weight)
        kept = weight.grad
        before = kept.clone()
        memory.zero_grad([weight])
        self.step(weight)
        assert torch.equal(kept, before)

    def test_gradients_of_torchs_own_operations_are_not_collected(self, weight):
        for _ in range(3):
            memory.zero_grad([weight])
            weight.square().sum().backward()
        memory.zero_grad([weight])
        assert not memory._spare

    def test_batches_of_many_sizes_need_the_memory_of_the_largest(self, weight):
        for n in (5, 2, 9, 3):
            memory.zero_grad([weight])
            self.step(weight, n)
        assert [b.numel() for b in memory._scratch.values()] == [9 * self.SHAPE[0]]
        assert sum(map(len, memory._spare.values())) <= 1

    def test_other_devices_memory_is_torchs_to_keep(self):
        place = torch.device("meta")
        with memory.scratch("logits", (600, 600), torch.float32, place) as buffer:
            assert buffer.shape == (600, 600)
            assert buffer.device == place
        parameter = torch.empty(600, 600, device=place, requires_grad=True)
        parameter.grad = memory.take((600, 600), torch.float32, place)
        memory.zero_grad([parameter])
        assert not memory._scratch
        assert not memory._spare
        assert not memory._in_use

    def test_inference_mode_leaves_nothing_behind(self, weight):
        with torch.inference_mode():
            fused_decoder_nll(torch.randn(3, 16), weight, None, torch.ones(3, self.SHAPE[0]))
        self.step(weight)
        assert weight.grad is not None


class TestSparseLinear:
    @pytest.mark.parametrize("n_out", [1, 15, 16, 17, 130])
    @pytest.mark.parametrize("native", [True, False])
    def test_equals_the_product(self, n_out, native, monkeypatch):
        if not native:
            monkeypatch.setattr(tensors, "has_kernel", lambda *t: False)
        g = torch.Generator().manual_seed(0)
        dense = torch.randn(30, 50, generator=g) * (torch.rand(30, 50, generator=g) < 0.2)
        dense[4] = 0  # a row without entries
        dense[:, 7] = 0  # a column without entries
        x = Csr.from_dense(dense)
        values = x.values.clone().requires_grad_()
        weight = torch.randn(50, n_out, generator=g).requires_grad_()
        bias = torch.randn(n_out, generator=g).requires_grad_()
        ours = sparse_linear(x.with_values(values), weight, bias)
        plain = dense.clone().requires_grad_()
        theirs = plain @ weight + bias
        assert_near(ours, theirs)
        up = torch.randn(ours.shape, generator=g)
        of_values, *own = gradient((ours * up).sum(), values, weight, bias)
        of_dense, *others = gradient((theirs * up).sum(), plain, weight, bias)
        for mine, expected in zip(own, others, strict=True):
            assert_near(mine, expected)
        assert_near(of_values, of_dense[dense != 0])

    def test_gradcheck(self):
        x = Csr.from_dense(drawn(12, torch.float64)[1])
        weight = torch.randn(12, 5, dtype=torch.float64).requires_grad_()
        torch.autograd.gradcheck(
            lambda v, w: sparse_linear(x.with_values(v), w),
            (x.values.clone().requires_grad_(), weight),
        )

    def test_same_bits_for_any_number_of_threads(self, monkeypatch):
        x = Csr.from_dense(drawn(2000)[1])
        weight = torch.randn(2000, 33).requires_grad_()
        results = []
        for n in ("1", "3"):
            monkeypatch.setenv("PYREC_NUM_THREADS", n)
            out = sparse_linear(x, weight)
            results.append((out.detach(), gradient(out.square().sum(), weight)[0].clone()))
        for ours, theirs in zip(*results, strict=True):
            assert torch.equal(ours, theirs)

    def test_no_rows_and_no_entries(self):
        weight = torch.randn(4, 3, requires_grad=True)
        for n in (0, 2):
            out = sparse_linear(Csr.from_dense(torch.zeros(n, 4)), weight)
            assert torch.equal(out, torch.zeros(n, 3))
            assert torch.equal(gradient(out.sum(), weight)[0], torch.zeros(4, 3))


class TestNormalizeRows:
    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    def test_equals_plain_torch(self, dtype):
        g = torch.Generator().manual_seed(0)
        dense = torch.randn(300, 40, generator=g, dtype=dtype)
        dense *= torch.rand(300, 40, generator=g) < 0.2
        dense[[0, 7]] = 0
        dense[3] *= 1e-18  # squares that are zero in float32
        plain = dense.clone().requires_grad_()
        expected = plain.double() / plain.double().norm(dim=1, keepdim=True).clamp(min=1e-300)
        x = Csr.from_dense(dense)
        torch.testing.assert_close(tensors.normalize_rows(x).dense(), expected.detach().to(dtype))
        kept = dense.clone()
        kept[3] = 0
        x = Csr.from_dense(kept)
        values = x.values.clone().requires_grad_()
        ours = tensors.normalize_rows(x.with_values(values)).dense()
        up = torch.randn(300, 40, generator=g, dtype=dtype)
        own = gradient((ours * up).sum(), values)[0]
        theirs = gradient((expected.to(dtype) * up).sum(), plain)[0][kept != 0]
        assert_near(own, theirs)

    def test_same_bits_for_any_number_of_threads(self, monkeypatch):
        x = Csr.from_dense(torch.rand(5000, 20))  # three tasks
        results = []
        for n in ("1", "3"):
            monkeypatch.setenv("PYREC_NUM_THREADS", n)
            results.append(tensors.normalize_rows(x).values)
        assert torch.equal(*results)


class TestDrop:
    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    @pytest.mark.parametrize("share", [0.0, 0.3, 0.999])
    def test_drops_a_share_and_scales_the_rest(self, dtype, share):
        x = Csr.from_dense(torch.full((100, 1000), 2.0, dtype=dtype))
        torch.manual_seed(3)
        values = tensors.drop(x, share).values
        kept = values != 0
        torch.testing.assert_close(values[kept], torch.full_like(values[kept], 2 / (1 - share)))
        # Five standard deviations of a fair draw.
        assert abs(kept.double().mean() - (1 - share)) <= 5 * (share * (1 - share) / 1e5) ** 0.5

    def test_draws_follow_from_torchs_generator_alone(self, monkeypatch):
        x = Csr.from_dense(torch.ones(300, 1000))  # three tasks
        drawn = []
        for seed, threads in ((0, "1"), (0, "3"), (1, "1")):
            monkeypatch.setenv("PYREC_NUM_THREADS", threads)
            torch.manual_seed(seed)
            drawn += [tensors.drop(x, 0.5).values, tensors.drop(x, 0.5).values]
        assert torch.equal(drawn[0], drawn[2])
        assert torch.equal(drawn[1], drawn[3])
        for a, b in itertools.combinations((drawn[0], drawn[1], drawn[4], drawn[5]), 2):
            assert 0.45 < (a == b).double().mean() < 0.55

    def test_is_differentiable_in_the_values(self):
        x = Csr.from_dense(torch.ones(5, 40))
        values = x.values.clone().requires_grad_()
        dropped = tensors.drop(x.with_values(values), 0.5).values
        assert torch.equal(gradient(dropped.sum(), values)[0], dropped)


class TestMatrices:
    @pytest.mark.parametrize("n_items", [0, *SIZES])
    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.int64])
    def test_from_dense_and_back(self, n_items, dtype):
        dense = drawn(n_items)[1].to(dtype)
        x = Csr.from_dense(dense)
        assert torch.equal(x.dense(), dense)
        assert x.shape == dense.shape
        np.testing.assert_array_equal(as_csr(x).toarray(), dense)
        assert torch.equal(x.rows(), dense.nonzero()[:, 0])

    def test_from_scipy_shares_the_values(self, draw):
        matrix = draw(9, 20, 0.3, binary=False)
        x = Csr.from_scipy(matrix)
        assert x.values.data_ptr() == matrix.data.ctypes.data
        np.testing.assert_array_equal(x.dense(), matrix.toarray())
        assert x.to("cpu").shape == (9, 20)
        assert x.device.type == "cpu"

    def test_torch_functions_see_the_matrix(self):
        target = drawn(6)[1]
        x = Csr.from_dense(target)
        logits = Logits(torch.randn(ROWS, 2), torch.randn(6, 2), torch.randn(6))
        torch.testing.assert_close(
            torch.nn.functional.mse_loss(logits, x), (logits.dense() - target).square().mean()
        )
        torch.testing.assert_close(target - logits, target - logits.dense())
        assert torch.equal(torch.cat([x, x]), torch.cat([target, target]))
        assert logits.shape == (ROWS, 6)
        assert len(logits) == len(x) == ROWS

    def test_operators_and_methods_see_the_matrix(self):
        target = drawn(6)[1]
        x = Csr.from_dense(target)
        logits = Logits(torch.randn(ROWS, 2), torch.randn(6, 2), torch.randn(6))
        y = logits.dense()
        pairs = [
            ((logits - x) ** 2, (y - target) ** 2),
            (-x * logits, -target * y),
            (2 * x + logits / 3, 2 * target + y / 3),
            (1 - x, 1 - target),
            (logits @ torch.ones(6), y @ torch.ones(6)),
            (x[2:4], target[2:4]),
            (x > 0, target > 0),
            (logits.softmax(1).sum(), y.softmax(1).sum()),
            (abs(logits), y.abs()),
        ]
        for ours, theirs in pairs:
            torch.testing.assert_close(ours, theirs)
        with pytest.raises(AttributeError, match="Csr has no attribute 'nothing'"):
            _ = x.nothing

    def test_dense_is_differentiable_in_the_values(self):
        x = Csr.from_dense(drawn(6)[1])
        values = x.values.clone().requires_grad_()
        (grad,) = gradient(x.with_values(values).dense().square().sum(), values)
        assert torch.equal(grad, 2 * values)

    def test_names_for_people(self):
        assert repr(Csr.from_dense(torch.eye(3))) == "Csr(3 x 3, 3 entries, cpu)"
        assert repr(Logits(torch.zeros(2, 4), torch.zeros(5, 4))) == "Logits(2 x 5, rank 4)"


def test_the_exponential_is_accurate():
    """Softmax of (0, x): exp(x) of every size that float32 sees, against float64."""
    x = -torch.linspace(0, 86, 20_001).double()
    logits = torch.stack([torch.zeros_like(x), x], 1)
    grad = logits.float()
    likelihood.nll_in_place(grad, torch.tensor([[1.0, 0.0]]).expand(len(x), 2), None, 1.0)
    error = grad[:, 1].double() / torch.softmax(logits.float().double(), 1)[:, 1] - 1
    # The rounding of x log2(e) grows with x, twice as fast without fused operations.
    assert (error.abs() < 3e-7 + 8e-8 * x.abs()).all()


class TestFastFloat32:
    def test_is_undone_and_exact(self):
        before = torch.backends.mkldnn.matmul.fp32_precision
        a, b = torch.randn(2, 300, 300)
        with tensors.fast_float32():
            product = a @ b
        assert torch.backends.mkldnn.matmul.fp32_precision == before
        assert_near(product, (a.double() @ b.double()).float(), 1e-6)

    def test_overlapping_uses_end_where_they_began(self):
        before = torch.backends.mkldnn.matmul.fp32_precision
        first, second = tensors.fast_float32(), tensors.fast_float32()
        first.__enter__()
        second.__enter__()
        first.__exit__(None, None, None)
        second.__exit__(None, None, None)
        assert torch.backends.mkldnn.matmul.fp32_precision == before

    def test_gpus_keep_their_precision(self):
        with tensors.fast_float32():
            assert torch.backends.cuda.matmul.fp32_precision in ("none", "ieee")


def test_read_only_arrays_are_copied_without_a_warning():
    x = sp.csr_array(np.eye(3, dtype=np.float32))
    for array in (x.indices, x.indptr, x.data):
        array.flags.writeable = False
    made = Csr.from_scipy(x)
    made.values.mul_(2)
    np.testing.assert_array_equal(x.toarray(), np.eye(3))
