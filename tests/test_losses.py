"""Losses against the numbers of hand calculations and against their plain definitions."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pyrec import losses
from pyrec.kernels.tensors import Csr, Logits

LOGITS = torch.tensor([[1.0, 2, 3], [0, 0, 0]])
X = torch.tensor([[1.0, 0, 1], [0, 1, 1]])
MU = torch.tensor([[1.0, 0], [0.5, -0.5]])
LOGVAR = torch.tensor([[0.0, 0], [0.2, -0.3]])

# Rows and columns of 1 are where sums over the wrong dimension hide.
shapes = st.tuples(st.integers(1, 6), st.integers(1, 9))


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def counts(*shape, seed=0):
    return torch.poisson(torch.full(shape, 0.7), generator=torch.Generator().manual_seed(seed))


class TestNumbers:
    def test_multinomial(self):
        assert losses.multinomial(LOGITS, X).item() == pytest.approx(2.5062182, abs=1e-6)

    def test_multinomial_with_kl(self):
        loss = losses.multinomial(LOGITS, X) + losses.gaussian_kl(MU, LOGVAR)
        assert loss.item() == pytest.approx(2.8967733, abs=1e-6)

    def test_gaussian_kl(self):
        assert losses.gaussian_kl(MU, LOGVAR).item() == pytest.approx(0.3905552, abs=1e-6)

    def test_bernoulli(self):
        assert losses.bernoulli(LOGITS.sigmoid(), X).item() == pytest.approx(2.2841091, abs=1e-6)

    def test_squared_error(self):
        loss = losses.squared_error(torch.ones(2, 2), torch.tensor([[1.0, 1], [2, 1]]))
        assert loss.item() == pytest.approx(0.25, abs=1e-6)


def plain_multinomial(logits, x, out):
    total = 0.0
    for row, counts_, masked in zip(logits.tolist(), x.tolist(), out.tolist(), strict=True):
        rest = [v for v, m in zip(row, masked, strict=True) if not m]
        lse = math.log(sum(map(math.exp, rest))) if rest else 0.0
        total += sum(
            c * (lse - v) for v, c, m in zip(row, counts_, masked, strict=True) if not m and c
        )
    return total / len(logits)


class TestMultinomial:
    @settings(max_examples=25, deadline=None)
    @given(shapes, st.integers(0, 99), st.booleans(), st.booleans())
    def test_is_its_definition(self, shape, seed, sparse, masked):
        logits, x = normal(*shape, seed=seed), counts(*shape, seed=seed)
        mask = normal(*shape, seed=seed + 1) > 0.5 if masked else None
        if masked:
            mask[:, 0] = False  # a row without any item has no softmax
        expected = plain_multinomial(logits, x, mask if masked else torch.zeros(shape, dtype=bool))
        target = Csr.from_dense(x) if sparse else x
        assert losses.multinomial(logits, target, mask).item() == pytest.approx(expected, abs=1e-5)

    @pytest.mark.parametrize("sparse", [False, True])
    @pytest.mark.parametrize("mask", [None, [False, True, False, False, False]])
    def test_logits_not_multiplied_out_give_the_same_loss_and_gradients(self, sparse, mask):
        h, weight, bias, x = normal(4, 3), normal(5, 3, seed=1), normal(5, seed=2), counts(4, 5)
        mask = None if mask is None else torch.tensor(mask)
        results = []
        for make in (Logits, lambda h, w, b: h @ w.T + b):
            leaves = [t.clone().requires_grad_() for t in (h, weight, bias)]
            loss = losses.multinomial(make(*leaves), Csr.from_dense(x) if sparse else x, mask)
            assert loss.shape == ()
            loss.backward()
            results.append([loss.detach(), *(leaf.grad for leaf in leaves)])
        for ours, plain in zip(*results, strict=True):
            torch.testing.assert_close(ours, plain, rtol=1e-5, atol=1e-6)


class TestGaussianKl:
    def test_is_the_integral(self):
        """KL = E[log q - log p] under q, as a sum over narrow steps."""
        mu, logvar = 0.7, -0.4
        z = np.arange(-12, 12, 1e-4)
        log_q = -0.5 * ((z - mu) ** 2 / math.exp(logvar) + logvar + math.log(2 * math.pi))
        log_p = -0.5 * (z**2 + math.log(2 * math.pi))
        expected = (np.exp(log_q) * (log_q - log_p)).sum() * 1e-4
        found = losses.gaussian_kl(torch.tensor([[mu]]), torch.tensor([[logvar]]))
        assert found.item() == pytest.approx(expected, rel=1e-5)

    def test_sums_over_latents_and_averages_over_users(self):
        one = losses.gaussian_kl(MU[:1], LOGVAR[:1])
        wide = losses.gaussian_kl(MU[:1].repeat(3, 2), LOGVAR[:1].repeat(3, 2))
        assert wide.item() == pytest.approx(2 * one.item())

    def test_low_precision_is_summed_in_float32(self):
        mu = torch.full((2, 3000), 0.125, dtype=torch.bfloat16)
        loss = losses.gaussian_kl(mu, torch.zeros_like(mu))
        assert loss.dtype == torch.float32
        assert loss.item() == pytest.approx(3000 * 0.125**2 / 2)


class TestBernoulli:
    @pytest.mark.parametrize("sparse", [False, True])
    def test_is_its_definition(self, sparse):
        p, x = normal(4, 7).sigmoid(), (normal(4, 7, seed=1) > 0.3).float()
        expected = -sum(
            math.log(q if t else 1 - q)
            for q, t in zip(p.flatten().tolist(), x.flatten().tolist(), strict=True)
        )
        found = losses.bernoulli(p, Csr.from_dense(x) if sparse else x)
        assert found.item() == pytest.approx(expected / 4, rel=1e-5)

    def test_certain_and_wrong_is_finite(self):
        p = torch.tensor([[0.0, 1.0]], requires_grad=True)
        loss = losses.bernoulli(p, torch.tensor([[1.0, 0.0]]))
        assert loss.item() == 200
        loss.backward()
        assert p.grad.isfinite().all()

    def test_works_under_autocast(self):
        p, x = normal(3, 5).sigmoid(), (normal(3, 5, seed=1) > 0).float()
        expected = losses.bernoulli(p, x)
        with torch.autocast("cpu", torch.bfloat16):
            assert losses.bernoulli(p, x).item() == expected.item()
            assert losses.bernoulli(p.bfloat16(), x).item() == pytest.approx(
                expected.item(), rel=0.02
            )

    @pytest.mark.gpu
    def test_works_under_autocast_on_a_gpu(self):
        p, x = normal(3, 5).sigmoid().cuda(), (normal(3, 5, seed=1) > 0).float().cuda()
        expected = losses.bernoulli(p, x)
        with torch.autocast("cuda", torch.bfloat16):
            assert losses.bernoulli(p, x).item() == expected.item()


class TestSquaredError:
    @pytest.mark.parametrize("sparse", [False, True])
    @pytest.mark.parametrize("factored", [False, True])
    def test_is_the_mean_over_all_elements(self, sparse, factored):
        h, weight, x = normal(4, 3), normal(5, 3, seed=1), counts(4, 5)
        prediction = h @ weight.T
        expected = sum(v * v for v in (prediction - x).flatten().tolist()) / 20
        found = losses.squared_error(
            Logits(h, weight) if factored else prediction, Csr.from_dense(x) if sparse else x
        )
        assert found.item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("loss", [losses.bernoulli, losses.squared_error])
def test_the_prediction_decides_the_precision(loss):
    p, x = normal(2, 3).sigmoid(), (normal(2, 3, seed=1) > 0).float()
    for prediction, target in ((p.double(), x), (p, x.double())):
        found = loss(prediction, target)
        assert found.dtype == prediction.dtype
        assert found.item() == pytest.approx(loss(p, x).item(), rel=1e-5)


@pytest.mark.parametrize("loss", [losses.bernoulli, losses.squared_error])
def test_a_target_of_another_shape_is_refused(loss):
    """torch would stretch one row, or one column, over all."""
    with pytest.raises(ValueError, match=r"shape of the prediction, \(2, 3\), got \(1, 3\)"):
        loss(torch.full((2, 3), 0.5), torch.ones(1, 3))


def test_gradients_match_differences():
    x = (normal(2, 4, seed=3) > 0).double()
    p, mu, logvar = (normal(2, 4, seed=s).double().requires_grad_() for s in range(3))
    assert torch.autograd.gradcheck(lambda a: losses.bernoulli(a.sigmoid(), x), p)
    assert torch.autograd.gradcheck(lambda a: losses.squared_error(a, x), p)
    assert torch.autograd.gradcheck(losses.gaussian_kl, (mu, logvar))
    assert torch.autograd.gradcheck(lambda a: losses.multinomial(a, x), p)


def test_one_batch_is_the_mean_of_its_rows():
    logits, x, mu = normal(5, 6), (counts(5, 6) > 0).float(), normal(5, 6, seed=4)
    for loss in (
        lambda rows: losses.multinomial(logits[rows], x[rows]),
        lambda rows: losses.bernoulli(logits[rows].sigmoid(), x[rows]),
        lambda rows: losses.gaussian_kl(mu[rows], logits[rows]),
        lambda rows: losses.squared_error(logits[rows], x[rows]),
    ):
        rows = torch.stack([loss([i]) for i in range(5)])
        torch.testing.assert_close(loss(slice(None)), rows.mean())
