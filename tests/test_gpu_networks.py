"""The kernels of networks for GPUs against the CPU's and the plain definitions."""

import itertools
import math

import numpy as np
import pytest
import reference
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pyrec.kernels import likelihood, tensors
from pyrec.kernels.gpu import networks
from pyrec.kernels.tensors import Csr

# Launches are slow on the CPU: few examples.
drawn_cases = settings(
    max_examples=12,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
SEEDS = st.integers(0, 2**31 - 1)
TYPES = (torch.float32, torch.float64, torch.bfloat16)

# 3..9: packs of 16 bytes and what is beside them; 127..129: the threads of a short row; 2049: more than
# one round of packs for each of them; 4100: longer rows have more threads.
SIZES = [1, 3, 4, 5, 8, 9, 127, 128, 129, 515, 2049, 4100]


def near(ours, theirs, rtol=None, least=0.0):
    """Relative to `least` or the largest entry that is a number; the others must be the same."""
    ours, theirs = ours.cpu(), theirs.cpu()
    if rtol is None:
        rtol = {torch.float64: 1e-12, torch.bfloat16: 2**-7}.get(theirs.dtype, 1e-6)
    finite = theirs[theirs.isfinite()]
    scale = max(least, float(finite.abs().max()) if finite.numel() else 0.0)
    torch.testing.assert_close(ours, theirs, rtol=rtol, atol=rtol * scale, equal_nan=True)


def batch(n, m, seed=0, dtype=torch.float32, density=0.3):
    """Logits with some -inf, counts of which the first row has none, and masks of every kind."""
    g = torch.Generator().manual_seed(seed)
    logits = 4 * torch.randn(n, m, generator=g, dtype=torch.float64)
    logits[torch.rand(n, m, generator=g) < 0.02] = -math.inf
    counts = torch.poisson(torch.full((n, m), float(density)), generator=g)
    counts[logits == -math.inf] = 0
    counts[0] = 0
    masks = [None, *(torch.rand(shape, generator=g) < 0.3 for shape in ((m,), (1, m), (n, m)))]
    masks[3][-1] = True  # nothing takes part
    return logits.to(dtype), counts, masks


def misplaced(t):
    """The same contiguous tensor, but not at a multiple of 16 bytes."""
    memory = torch.empty(t.numel() + 1, dtype=t.dtype, device=t.device)
    return memory[1:].view(t.shape).copy_(t)


def sparse(n, m, seed=0, density=0.2, dtype=torch.float32):
    """Rows of which the second has no entry, as the last column has none."""
    g = torch.Generator().manual_seed(seed)
    dense = torch.randn(n, m, generator=g, dtype=dtype) * (torch.rand(n, m, generator=g) < density)
    dense[1:2] = 0
    dense[:, -1] = 0
    return Csr.from_dense(dense)


class TestLikelihood:
    def check(self, gpu, logits, counts, mask):
        """Every function against the CPU's, and the loss against the definition."""
        dtype = likelihood.result_type(logits)
        own = None if mask is None else mask.to(gpu)
        scale = torch.linspace(-1, 2, len(logits), dtype=dtype)
        # What losses and gradients are differences of.
        terms, total = float(logits.double().clamp(min=-30).abs().max()), float(counts.sum(1).max())
        for x in (counts.to(dtype), Csr.from_dense(counts)):
            loss, lse = likelihood.nll(logits, x, mask)
            ours = networks.nll(logits.to(gpu), x.to(gpu), own)
            near(ours[0], loss, least=terms)
            near(ours[1], lse)
            exact = reference.multinomial_nll(logits.double(), counts, mask).to(dtype)
            near(ours[0], exact, least=terms)
            grad = networks.nll_grad(logits.to(gpu), x.to(gpu), own, lse.to(gpu), scale.to(gpu))
            near(grad, likelihood.nll_grad(logits, x, mask, lse, scale), least=total)
            kept, expected = logits.to(gpu, copy=True), logits.clone()
            near(networks.nll_in_place(kept, x.to(gpu), own, 0.25), loss, least=terms)
            likelihood.nll_in_place(expected, x, mask, 0.25)
            near(kept, expected, least=0.25 * total)

    @pytest.mark.parametrize("dtype", TYPES)
    def test_equals_the_cpu(self, gpu, dtype):
        for m in SIZES:
            logits, counts, masks = batch(2, m, m, dtype)
            self.check(gpu, logits, counts, masks[m % 4])

    @drawn_cases
    @given(n=st.integers(1, 3), m=st.integers(1, 70), seed=SEEDS, dtype=st.sampled_from(TYPES))
    def test_equals_the_cpu_whatever_is_masked(self, gpu, n, m, seed, dtype):
        logits, counts, masks = batch(n, m, seed, dtype)
        for mask in masks:
            self.check(gpu, logits, counts, mask)

    def test_long_rows(self, gpu):
        logits, counts, masks = batch(2, 65_537, density=0.01)
        self.check(gpu, logits, counts, masks[1])

    @pytest.mark.parametrize("density", [0.6, 30])
    def test_more_targets_than_threads(self, gpu, density):
        logits, counts, masks = batch(2, 515, density=density)
        self.check(gpu, logits, counts, masks[3])

    @pytest.mark.parametrize("dtype", TYPES)
    def test_addresses_do_not_matter(self, gpu, dtype):
        """Neither those of logits, targets and masks nor how they lie to each other."""
        logits, counts, masks = batch(3, 131, 0, dtype)
        logits, counts = logits.to(gpu), counts.to(gpu, likelihood.result_type(logits))
        mask = masks[3].to(gpu)
        loss, lse = networks.nll(logits, counts, mask)
        grad = networks.nll_grad(logits, counts, mask, lse, torch.ones_like(lse))
        for places in itertools.product((misplaced, torch.clone), repeat=3):
            own = [place(t) for place, t in zip(places, (logits, counts, mask), strict=True)]
            near(networks.nll(*own)[0], loss)
            near(networks.nll_grad(*own, lse, torch.ones_like(lse)), grad)
            networks.nll_in_place(*own, 1.0)
            near(own[0], grad, 2e-6 if dtype == torch.float32 else None)

    def test_what_cannot_be_is_infinite_and_nan_stays(self, gpu):
        inf, nan = math.inf, math.nan
        logits = torch.tensor(
            [
                [-inf, 0.0, 1.0],
                [nan, 0.0, 1.0],
                [nan, 0.0, 1.0],
                [-inf, -inf, -inf],
                [-inf, -inf, nan],
                [inf, 0.0, 1.0],
                [3e38, -3e38, 0.0],
            ]
        )
        counts = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], *5 * [[0.0, 0.0, 0.0]]])
        masks = [None, torch.tensor([True, False, False]), torch.ones(7, 3, dtype=torch.bool)]
        for mask, x in itertools.product(masks, (counts, Csr.from_dense(counts))):
            own = None if mask is None else mask.to(gpu)
            loss, lse = networks.nll(logits.to(gpu), x.to(gpu), own)
            expected = likelihood.nll(logits, x, mask)
            near(loss, expected[0])
            near(lse, expected[1])
            grad = networks.nll_grad(logits.to(gpu), x.to(gpu), own, lse, torch.ones_like(lse))
            near(grad, likelihood.nll_grad(logits, x, mask, expected[1], torch.ones(7)))
        assert not expected[0].any()

    def test_a_large_catalogue_loses_no_digits(self, gpu):
        """Each thread begins with a large term, to which floats cannot add the small ones after it."""
        logits = torch.full((1, 1_000_000), math.log(1.4e-8))
        logits[0, :4096] = 0
        x = Csr(
            torch.tensor([0, 1]), torch.tensor([7], dtype=torch.int32), torch.ones(1), 1_000_000
        )
        loss = networks.nll(logits.to(gpu), x.to(gpu), None)[0]
        assert float(loss) == pytest.approx(float(torch.logsumexp(logits.double(), 1)), abs=1e-6)

    def test_other_types_are_left_to_torch(self, gpu):
        logits, counts, _ = batch(3, 20)
        low = logits.half()
        loss, lse = networks.nll(low.to(gpu), counts.to(gpu), None)
        near(loss, likelihood.nll(low.float(), counts, None)[0], 1e-5)
        grad = networks.nll_grad(low.to(gpu), counts.to(gpu), None, lse, torch.ones_like(lse))
        assert grad.dtype == torch.float16

    def test_no_rows_and_no_items(self, gpu):
        for n, m in ((0, 5), (2, 0)):
            logits, x = torch.zeros(n, m, device=gpu), torch.zeros(n, m, device=gpu)
            loss, lse = networks.nll(logits, x, None)
            assert loss.tolist() == n * [0.0]
            assert lse.tolist() == n * [-math.inf]
            assert networks.nll_grad(logits, x, None, lse, loss).shape == (n, m)

    def test_wrong_arguments_are_named(self, gpu):
        logits, x = torch.zeros(2, 5, device=gpu), torch.zeros(2, 5, device=gpu)
        with pytest.raises(ValueError, match=r"target must have shape \(2, 5\), got \(2, 4\)"):
            networks.nll(logits, x[:, 1:], None)
        with pytest.raises(TypeError, match=r"mask must be a bool tensor, got torch\.float32"):
            networks.nll(logits, x, x)
        with pytest.raises(ValueError, match=r"mask must have shape \(1 or 2, 5\), got \(3, 5\)"):
            networks.nll(logits, x, torch.zeros(3, 5, dtype=torch.bool, device=gpu))
        with pytest.raises(ValueError, match=r"lse must have shape \(2,\), got \(3,\)"):
            networks.nll_grad(logits, x, None, torch.zeros(3, device=gpu), x[:, 0])
        with pytest.raises(ValueError, match=r"target must be on .*, got meta"):
            networks.nll(logits, x.to("meta"), None)
        with pytest.raises(ValueError, match=r"target must be on .*, got meta"):
            networks.nll(logits, Csr.from_dense(x.cpu()).to(gpu).to("meta"), None)


class TestSparseLinear:
    def check(self, gpu, x, cols, dtype=torch.float32, place=torch.clone):
        g = torch.Generator().manual_seed(cols)
        weight = torch.randn(x.n_cols, cols, generator=g, dtype=dtype)
        offset = torch.randn(cols, generator=g, dtype=dtype)
        up = torch.randn(len(x), cols, generator=g, dtype=dtype)
        own_weight, own_up, own_offset = (place(t.to(gpu)) for t in (weight, up, offset))
        dense = x.dense().to(dtype)
        # Sums may cancel: the largest of products is the scale.
        least = float(dense.abs().max() * max(weight.abs().max(), up.abs().max()))
        product = networks.sparse_linear(x.to(gpu), own_weight)
        near(product, dense @ weight, least=least)
        out = place(torch.full_like(up, math.nan).to(gpu))
        assert networks.sparse_linear(x.to(gpu), own_weight, own_offset, out) is out
        near(out, dense @ weight + offset, least=least)
        grad = place(torch.full_like(weight, math.nan).to(gpu))
        networks.sparse_linear_weight_grad(x.to(gpu), own_up, grad)
        near(grad, dense.T @ up, least=least)
        ours = networks.sparse_linear_value_grad(x.to(gpu), own_weight, own_up)
        factors = float(weight.abs().max() * up.abs().max())
        near(ours, (up @ weight.T)[x.rows(), x.indices.long()], least=factors)
        # The CPU's own sums.
        values, w = x.values.clone().requires_grad_(), weight.clone().requires_grad_()
        theirs = tensors.sparse_linear(x.with_values(values), w)
        near(product, theirs.detach(), least=least)
        of_values, of_weight = torch.autograd.grad((theirs * up).sum(), (values, w))
        near(ours.to(x.dtype), of_values, least=factors)
        near(grad, of_weight, least=least)

    # 4: a pack of float32; 128..132: a warp of packs; 644: more than one tile, 5121: many, where the
    # entries of a row are not divided.
    @pytest.mark.parametrize("cols", [1, 2, 3, 4, 31, 128, 132, 644, 645, 5121, 5124])
    def test_equals_the_product(self, gpu, cols):
        self.check(gpu, sparse(3, 60), cols)

    @pytest.mark.parametrize("place", [torch.clone, misplaced])
    def test_addresses_and_types_do_not_matter(self, gpu, place):
        for cols, dtype in itertools.product((6, 8), (torch.float32, torch.float64)):
            self.check(gpu, sparse(4, 30, dtype=dtype), cols, dtype, place)
            self.check(gpu, sparse(4, 30), cols, dtype, place)

    def test_long_rows_and_popular_items(self, gpu):
        self.check(gpu, sparse(2, 700, density=0.7), 12)
        self.check(gpu, sparse(150, 4, density=0.9), 12)

    @drawn_cases
    @given(
        n=st.integers(1, 5),
        m=st.integers(1, 40),
        cols=st.integers(1, 20),
        density=st.sampled_from([0.0, 0.3, 1.0]),
        seed=SEEDS,
    )
    def test_equals_the_product_of_any_shape(self, gpu, n, m, cols, density, seed):
        self.check(gpu, sparse(n, m, seed, density), cols)

    def test_infinities_stay_where_they_are(self, gpu):
        """What is read beyond the entries of a row must not be added, not even times zero."""
        x = sparse(3, 30, density=0.4)
        weight = torch.ones(30, 8)
        weight[11] = math.inf
        near(networks.sparse_linear(x.to(gpu), weight.to(gpu)), tensors.sparse_linear(x, weight))

    def test_no_rows_no_items_no_columns(self, gpu):
        for n, m, cols in ((0, 3, 4), (2, 3, 0), (2, 0, 4)):
            x = Csr.from_dense(torch.zeros(n, m)).to(gpu)
            weight = torch.ones(m, cols, device=gpu)
            out = networks.sparse_linear(x, weight)
            assert out.tolist() == torch.zeros(n, cols).tolist()
            grad = networks.sparse_linear_weight_grad(x, out, torch.ones(m, cols, device=gpu))
            assert grad.tolist() == torch.zeros(m, cols).tolist()
            assert len(networks.sparse_linear_value_grad(x, weight, out)) == 0

    def test_the_same_bits_again(self, gpu):
        x = sparse(40, 9, density=0.8).to(gpu)
        up = torch.randn(40, 12, generator=torch.Generator().manual_seed(0)).to(gpu)
        if networks.native.module(up) is None:
            pytest.skip("torch's own sums on a GPU have no order")
        first, second = (
            networks.sparse_linear_weight_grad(x, up, torch.empty(9, 12, device=gpu))
            for _ in range(2)
        )
        assert torch.equal(first, second)

    def test_wrong_arguments_are_named(self, gpu):
        x, weight = sparse(4, 6).to(gpu), torch.zeros(6, 3, device=gpu)
        with pytest.raises(ValueError, match=r"weight must have shape \(6, any\), got \(5, 3\)"):
            networks.sparse_linear(x, weight[1:])
        with pytest.raises(ValueError, match=r"offset must have shape \(3,\), got \(6,\)"):
            networks.sparse_linear(x, weight, weight[:, 0])
        with pytest.raises(ValueError, match=r"out must have shape \(4, 3\), got \(6, 3\)"):
            networks.sparse_linear(x, weight, out=weight)
        with pytest.raises(ValueError, match=r"out_grad must have shape \(4, any\), got \(6, 3\)"):
            networks.sparse_linear_weight_grad(x, weight, weight)
        with pytest.raises(ValueError, match=r"x must be on .*, got meta"):
            networks.sparse_linear(x.to("meta"), weight)


class TestInputs:
    @drawn_cases
    @given(
        n=st.integers(1, 6),
        m=st.integers(1, 300),
        seed=SEEDS,
        dtype=st.sampled_from([torch.float32, torch.float64]),
    )
    def test_normalize_rows_equals_the_cpu(self, gpu, n, m, seed, dtype):
        x = sparse(n, m, seed, 0.6, dtype)
        x.values[: len(x.values) // 2] *= 1e-22  # the squares of float32 would be zero
        x.values[len(x.values) // 2 :][:5] = 0
        ours = networks.normalize_rows(x.to(gpu))
        theirs = tensors.normalize_rows(x)
        tolerance = 1e-12 if dtype == torch.float64 else 1e-6
        torch.testing.assert_close(ours.values.cpu(), theirs.values, rtol=tolerance, atol=0)
        dense = x.dense().double().numpy()
        norms = np.linalg.norm(dense, axis=1, keepdims=True)
        expected = np.divide(dense, norms, out=dense, where=norms > 0)
        np.testing.assert_allclose(ours.dense().cpu(), expected, rtol=1e-6)

    def test_a_row_of_zeros_has_a_gradient(self, gpu):
        x = Csr.from_dense(torch.tensor([[1.0, 2.0], [1.0, 3.0]])).to(gpu)
        values = torch.tensor([3.0, 4.0, 0.0, 0.0], device=gpu, requires_grad=True)
        ours = networks.normalize_rows(x.with_values(values)).values
        assert ours.tolist() == pytest.approx([0.6, 0.8, 0, 0])
        (grad,) = torch.autograd.grad(ours[0] + ours[2], values)
        assert grad.tolist() == pytest.approx([0.128, -0.096, 1, 0])

    @drawn_cases
    @given(
        n=st.sampled_from([0, 1, 255, 256, 257, 1000]),
        share=st.one_of(st.sampled_from([0.0, 0.5, 2**-33, 1 - 2**-40]), st.floats(0, 0.999)),
        seed=st.integers(0, 2**63 - 1),
        dtype=st.sampled_from([torch.float32, torch.float64]),
    )
    def test_drop_is_that_of_the_cpu(self, gpu, n, share, seed, dtype):
        values = torch.rand(n, generator=torch.Generator().manual_seed(n), dtype=dtype) + 1
        x = Csr(torch.tensor([0, n]), torch.arange(n, dtype=torch.int32), values, n)
        expected = torch.empty_like(values)
        likelihood._core.drop(values.numpy(), share, seed, expected.numpy(), 1)
        assert torch.equal(networks.drop(x.to(gpu), share, seed).values.cpu(), expected)

    def test_drop_of_a_type_without_kernel(self, gpu):
        x = Csr.from_dense(torch.ones(3, 50))
        ours = networks.drop(x.with_values(x.values.half()).to(gpu), 0.25, 7).values
        assert ours.dtype == torch.float16
        kept = networks.drop(x.to(gpu), 0.25, 7).values != 0
        assert torch.equal(ours != 0, kept)

    def test_all_is_never_dropped(self, gpu):
        with pytest.raises(ValueError, match=r"share must be in \[0, 1\), got 1"):
            networks.drop(sparse(2, 3).to(gpu), 1, 0)


class TestDispatch:
    """`pyrec.kernels.tensors` over tensors that are not the core's: with autograd."""

    @pytest.fixture
    def elsewhere(self, gpu, monkeypatch):
        """Tensors of the CPU stand for those of a GPU, if need be."""
        if gpu.type == "cpu":
            for module in (likelihood, tensors):
                monkeypatch.setattr(module, "has_kernel", lambda *t: False)
        return gpu

    def step(self, device, dtype=torch.float32):
        """Loss and gradients of a small network, as a training step makes them."""
        torch.manual_seed(3)
        x = sparse(6, 50, dtype=dtype)
        x = x.with_values(x.values.abs()).to(device)
        g = torch.Generator().manual_seed(0)
        shapes = (50, 8), (8,), (50, 8), (50,)
        first, bias, last, end = (
            torch.randn(s, generator=g, dtype=dtype).to(device).requires_grad_() for s in shapes
        )
        values = x.values.clone().requires_grad_()
        dropped = tensors.drop(tensors.normalize_rows(x), 0.5)
        h = tensors.sparse_linear(dropped, first, bias).tanh()
        h = h + tensors.sparse_linear(x.with_values(values), first)
        loss = tensors.fused_decoder_nll(h, last, end, x)
        loss = loss + tensors.multinomial_nll(h @ last.T + end, x).mean()
        return loss.detach(), *torch.autograd.grad(loss, (values, first, bias, last, end))

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    def test_a_step_equals_that_of_the_cpu(self, gpu, request, dtype):
        expected = self.step(torch.device("cpu"), dtype)
        request.getfixturevalue("elsewhere")
        for ours, theirs in zip(self.step(gpu, dtype), expected, strict=True):
            near(ours, theirs, 1e-12 if dtype == torch.float64 else 1e-5)

    def test_torchs_default_device_does_not_matter(self, gpu, request):
        x, g = sparse(6, 50).to(gpu), torch.Generator().manual_seed(0)
        first, last = (torch.randn(50, 8, generator=g).to(gpu).requires_grad_() for _ in range(2))

        def results():
            torch.manual_seed(3)
            values = x.values.clone().requires_grad_()
            h = tensors.sparse_linear(tensors.drop(tensors.normalize_rows(x), 0.5), first)
            h = h + tensors.sparse_linear(x.with_values(values), first)
            loss = tensors.fused_decoder_nll(h, last, None, x)
            loss = loss + tensors.multinomial_nll(h @ last.T, x).mean()
            return torch.autograd.grad(loss, (values, first, last))

        for kernels in ("the core's", "elsewhere"):
            if kernels == "elsewhere":
                request.getfixturevalue(kernels)
            expected = results()
            with torch.device("meta"):
                found = results()
            for ours, theirs in zip(found, expected, strict=True):
                near(ours, theirs)

    def test_gradcheck(self, elsewhere):
        logits, counts, masks = batch(3, 12, 0, torch.float64)
        logits = logits.clamp(min=-9).to(elsewhere).requires_grad_()
        x, mask = Csr.from_dense(counts.double()).to(elsewhere), masks[1].to(elsewhere)
        torch.autograd.gradcheck(lambda y: tensors.multinomial_nll(y, x, mask), (logits,))
        weight = torch.randn(12, 5, dtype=torch.float64).to(elsewhere).requires_grad_()
        torch.autograd.gradcheck(
            lambda v, w: tensors.sparse_linear(x.with_values(v), w),
            (x.values.clone().requires_grad_(), weight),
        )


@pytest.mark.gpu
def test_launches_can_be_captured():
    """Nothing waits for the device or copies from it."""
    if not torch.cuda.is_available():
        pytest.skip("torch finds no CUDA device")
    logits, counts, masks = batch(64, 3000)
    x, logits, mask = Csr.from_dense(counts).to("cuda"), logits.cuda(), masks[1].cuda()
    weight = torch.randn(3000, 40, device="cuda")

    def step():
        loss, lse = networks.nll(logits, x, mask)
        grad = networks.nll_grad(logits, x, mask, lse, torch.ones_like(lse))
        out = networks.sparse_linear(networks.drop(networks.normalize_rows(x), 0.5, 1), weight)
        own = networks.sparse_linear_weight_grad(x, out, torch.empty_like(weight))
        return loss, grad, out, own, networks.sparse_linear_value_grad(x, weight, out)

    expected = step()
    if networks.native.module(logits) is None:
        pytest.skip("torch operations wait for the device")
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        results = step()
    graph.replay()
    for ours, theirs in zip(results, expected, strict=True):
        assert torch.equal(ours.nan_to_num(), theirs.nan_to_num())
