"""The linear algebra for GPUs against the processor's, and the models that run on it."""

import re

import numpy as np
import pytest
import reference
import scipy.sparse as sp
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from pyrec import kernels, machine
from pyrec.kernels import slim
from pyrec.kernels.gpu import native, solvers
from pyrec.kernels.gpu.precision import exact_float32
from pyrec.kernels.tensors import Csr
from pyrec.models import EASE, ADMM_Slim, closed_form
from pyrec.models import slim as slim_model

KINDS = {torch.float32: np.float32, torch.float64: np.float64}
VARIANTS = [(2.0, True), (2.0, False), (0.0, True)]  # lambda1, nonnegative


def on(device, x):
    return Csr.from_scipy(x).to(device)


def array(t):
    return t.cpu().numpy()


class TestGram:
    @pytest.mark.parametrize("n_items", [1, 31, 32, 33, 90])  # 32: the side of a mirrored tile
    @pytest.mark.parametrize("dtype", KINDS)
    @pytest.mark.parametrize("binary", [True, False])
    def test_equals_the_processor(self, gpu, draw, n_items, dtype, binary):
        x = draw(40, n_items, 0.3, binary=binary)
        for mirror in (True, False):
            expected = kernels.gram(x, dtype=KINDS[dtype], mirror=mirror)
            found = solvers.gram(on(gpu, x), dtype=dtype, mirror=mirror)
            assert (found.dtype, found.device) == (dtype, gpu)
            if binary:
                np.testing.assert_array_equal(array(found), expected)
            else:
                tolerance = 1e-6 if dtype == torch.float32 else 1e-12
                np.testing.assert_allclose(array(found), expected, rtol=tolerance)

    @pytest.mark.parametrize(
        ("dtype", "width"), [(torch.float32, 1536), (torch.float64, 768)], ids=str
    )
    @pytest.mark.parametrize("beyond", [0, 1])
    def test_more_columns_than_a_tile(self, gpu, dtype, width, beyond):
        """Entries on both sides of the boundary, and users with none on one of them."""
        n_items = width + beyond
        columns = np.array([0, 1, width // 2, *range(width - 40, n_items)])
        rng = np.random.default_rng(0)
        dense = np.zeros((7, n_items), np.float32)
        dense[:, columns] = (rng.random((7, len(columns))) < 0.7) * rng.uniform(
            0.5, 2, len(columns)
        )
        dense[3, : width - 2] = 0
        dense[4, width - 2 :] = 0
        x = sp.csr_array(dense)
        expected = kernels.gram(x, dtype=KINDS[dtype], mirror=False)
        found = solvers.gram(on(gpu, x), dtype=dtype, mirror=False)
        np.testing.assert_allclose(
            array(found), expected, rtol=1e-6 if dtype == torch.float32 else 1e-12
        )

    @pytest.mark.parametrize(
        "gpu",
        [
            pytest.param("kernels", marks=pytest.mark.slow),
            pytest.param("cuda", marks=pytest.mark.gpu),
        ],
        indirect=True,
    )
    def test_more_columns_than_a_tile_of_counts(self, gpu):
        """600 MB: a tile has 12,288."""
        n_items, rng = 12_300, np.random.default_rng(0)
        columns = np.array([0, 1, 6000, *range(12_280, n_items)])
        dense = np.zeros((7, n_items), np.float32)
        dense[:, columns] = rng.random((7, len(columns))) < 0.7
        dense[3, :12_286] = 0
        dense[4, 12_286:] = 0
        expected = np.triu(dense[:, columns].T @ dense[:, columns])
        found = solvers.gram(on(gpu, sp.csr_array(dense)), mirror=False)
        np.testing.assert_array_equal(array(found[columns][:, columns]), expected)
        assert int(found.count_nonzero()) == np.count_nonzero(expected)

    @pytest.mark.parametrize("binary", [True, False])
    def test_histories_longer_than_what_is_read_together(self, gpu, binary):
        values = np.ones((3, 300)) if binary else np.random.default_rng(0).uniform(0.5, 2, (3, 300))
        values[1, 3::2] = 0
        x = sp.csr_array(values.astype(np.float32))
        np.testing.assert_allclose(
            array(solvers.gram(on(gpu, x))), reference.gram(x.toarray()), rtol=1e-6
        )

    @pytest.mark.parametrize("n_users", [31, 33, 257, 513, 1100])
    @pytest.mark.parametrize("binary", [True, False])
    def test_many_users_of_an_item(self, gpu, n_users, binary):
        """Users of a lane, of a warp, of a block, and more than that."""
        rng = np.random.default_rng(n_users)
        dense = np.ones((n_users, 3)) if binary else rng.uniform(0.5, 2, (n_users, 3))
        dense[:, 1] *= rng.random(n_users) < 0.5
        x = sp.csr_array(dense.astype(np.float32))
        x.eliminate_zeros()
        expected = reference.gram(x.toarray())
        for dtype in KINDS:
            found = array(solvers.gram(on(gpu, x), dtype=dtype))
            if binary:
                np.testing.assert_array_equal(found, expected)
            np.testing.assert_allclose(
                found, expected, rtol=1e-6 if dtype == torch.float32 else 1e-12
            )

    @pytest.mark.parametrize("shape", [(0, 0), (0, 5), (5, 0), (5, 4)])
    def test_empty(self, gpu, shape):
        found = solvers.gram(on(gpu, sp.csr_array(shape, dtype=np.float32)))
        np.testing.assert_array_equal(array(found), np.zeros((shape[1],) * 2))

    @settings(
        max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
    )
    @given(
        st.integers(0, 40),
        st.integers(1, 40),
        st.sampled_from([0.0, 0.05, 0.5, 1.0]),
        st.booleans(),
        st.integers(0, 2**32 - 1),
    )
    def test_any(self, gpu, n_users, n_items, density, binary, seed):
        rng = np.random.default_rng(seed)
        dense = (rng.random((n_users, n_items)) < density).astype(np.float32)
        if not binary:
            dense *= rng.integers(-3, 4, dense.shape).astype(np.float32)
        dense[rng.random(n_users) < 0.2] = 0
        found = solvers.gram(on(gpu, sp.csr_array(dense)))
        np.testing.assert_array_equal(array(found), reference.gram(dense))

    def test_same_bits_again(self, gpu, draw):
        x = on(gpu, draw(300, 5, 0.5, binary=False))
        np.testing.assert_array_equal(array(solvers.gram(x)), array(solvers.gram(x)))

    def test_bad_input_is_named(self, gpu, draw):
        x = on(gpu, draw(4, 3, 0.9))
        with pytest.raises(TypeError, match="dtype must be float32 or float64"):
            solvers.gram(x, dtype=torch.float16)
        with pytest.raises(TypeError, match=r"x\.values must be a contiguous torch\.float32"):
            solvers.gram(x.with_values(x.values.double()))
        with pytest.raises(TypeError, match="x must be a Csr, got Tensor"):
            solvers.gram(x.dense())
        with pytest.raises(ValueError, match=r"out must have shape \(3, 3\), got \(4, 3\)"):
            solvers.gram(x, out=torch.empty(4, 3, device=gpu))
        with pytest.raises(TypeError, match=r"out must be a contiguous torch\.float64 tensor"):
            solvers.gram(x, dtype=torch.float64, out=torch.empty(3, 3, device=gpu))
        with pytest.raises(ValueError, match=r"out must be on .*, got meta"):
            solvers.gram(x, out=torch.empty(3, 3, device="meta"))


class TestMirror:
    @pytest.mark.parametrize("dtype", KINDS)
    @pytest.mark.parametrize("n", [0, 1, 31, 32, 33, 70, 300])
    def test_lower_equals_upper(self, gpu, n, dtype):
        a = np.random.default_rng(n).standard_normal((n, n)).astype(KINDS[dtype])
        found = torch.from_numpy(a.copy()).to(gpu)
        assert solvers.mirror_upper(found) is found
        np.testing.assert_array_equal(array(found), np.triu(a) + np.triu(a, 1).T)

    def test_bad_input_is_named(self, gpu):
        with pytest.raises(ValueError, match=r"a must be square, got shape \(2, 3\)"):
            solvers.mirror_upper(torch.zeros(2, 3, device=gpu))
        with pytest.raises(TypeError, match=r"a must be a contiguous torch\.float32"):
            solvers.mirror_upper(torch.zeros(3, 3, device=gpu)[:, :2])


class TestSpdInverse:
    @pytest.mark.parametrize("n", [0, 1, 2, 65, 130])
    @pytest.mark.parametrize("block", [7, 64, 1000, 0])
    @pytest.mark.parametrize(("dtype", "tolerance"), [(np.float32, 3e-6), (np.float64, 1e-13)])
    def test_equals_the_general_inverse(self, gpu, n, block, dtype, tolerance):
        factor = np.random.default_rng(n).standard_normal((2 * n, n))
        a = factor.T @ factor + np.eye(n)
        expected = np.linalg.inv(a)
        upper = a.astype(dtype)
        upper[np.tril_indices(n, -1)] = np.nan  # only the upper triangle may be read
        for mirror in (True, False):
            inverse = torch.from_numpy(upper.copy()).to(gpu)
            assert solvers.spd_inverse(inverse, mirror=mirror, block=block) is inverse
            found = array(inverse) if mirror else np.triu(array(inverse))
            np.testing.assert_allclose(
                found,
                expected if mirror else np.triu(expected),
                atol=tolerance * np.abs(expected).max(initial=1),
            )

    @settings(
        max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
    )
    @given(st.integers(0, 40), st.integers(1, 45), st.floats(0.5, 50), st.integers(0, 2**32 - 1))
    @example(40, 1, 1.0, 0)
    def test_any_size_and_block(self, gpu, n, block, shift, seed):
        factor = np.random.default_rng(seed).standard_normal((n, n))
        a = factor.T @ factor + shift * np.eye(n)
        found = solvers.spd_inverse(torch.from_numpy(a.copy()).to(gpu), block=block)
        np.testing.assert_allclose(array(found), np.linalg.inv(a), rtol=1e-9, atol=1e-12)

    @pytest.mark.parametrize("block", [3, 64])
    def test_not_positive_definite(self, gpu, block):
        a = torch.diag(torch.tensor([2.0, 1.0, 3.0, 4.0, -1.0, 5.0], device=gpu))
        message = "the matrix is not positive definite: pivot 5 of 6 is not positive"
        with pytest.raises(np.linalg.LinAlgError, match=message):
            solvers.spd_inverse(a, block=block)

    @pytest.mark.parametrize("block", [3, 64])
    @pytest.mark.parametrize("value", [np.nan, np.inf])
    def test_not_finite(self, gpu, block, value):
        a = torch.eye(6, device=gpu)
        a[1, 4] = value
        with pytest.raises(np.linalg.LinAlgError, match="the matrix is not positive definite"):
            solvers.spd_inverse(a, block=block)

    def test_bad_input_is_named(self, gpu):
        with pytest.raises(TypeError, match="a must be a float32 or float64 matrix"):
            solvers.spd_inverse(torch.eye(3, dtype=torch.int64, device=gpu))
        with pytest.raises(ValueError, match=r"a must be square, got shape \(2, 3\)"):
            solvers.spd_inverse(torch.zeros(2, 3, device=gpu))
        with pytest.raises(ValueError, match="block must be at least 0, got -1"):
            solvers.spd_inverse(torch.eye(3, device=gpu), block=-1)

    def test_products_are_not_rounded_to_tf32(self, gpu, monkeypatch):
        matmul = torch.backends.cuda.matmul
        seen, addmm = [], torch.Tensor.addmm_

        def watched(*given, **options):
            seen.append(matmul.fp32_precision)
            return addmm(*given, **options)

        monkeypatch.setattr(torch.Tensor, "addmm_", watched)
        before, matmul.fp32_precision = matmul.fp32_precision, "tf32"
        try:
            solvers.spd_inverse(torch.eye(6, device=gpu), block=3)
            assert set(seen) == {"ieee"}
            with exact_float32():
                with exact_float32():
                    pass
                assert matmul.fp32_precision == "ieee"
            assert matmul.fp32_precision == "tf32"
        finally:
            matmul.fp32_precision = before

    def test_a_setting_for_all_operations_is_followed_again(self, monkeypatch):
        matmul = torch.backends.cuda.matmul
        monkeypatch.setattr(torch.backends, "fp32_precision", "tf32")
        with exact_float32():
            assert matmul.fp32_precision == "ieee"
        assert matmul.fp32_precision == "tf32"
        torch.backends.fp32_precision = "ieee"
        assert matmul.fp32_precision == "ieee"

    def test_autocast_does_not_round_them(self, gpu):
        a = torch.eye(6, device=gpu) + 0.1
        expected = solvers.spd_inverse(a.clone(), block=3)
        with torch.autocast(gpu.type, torch.bfloat16):
            assert torch.equal(solvers.spd_inverse(a.clone(), block=3), expected)


class TestEaseWeights:
    @pytest.mark.parametrize("n", [0, 1, 33, 200])
    def test_same_bits_as_on_the_processor(self, gpu, n):
        p = np.random.default_rng(n).standard_normal((n, n)).astype(np.float32)
        p[np.diag_indices(n)] = np.abs(p[np.diag_indices(n)]) + 1
        p[np.tril_indices(n, -1)] = np.nan
        expected = kernels.ease_weights(p.copy())
        found = torch.from_numpy(p).to(gpu)
        assert solvers.ease_weights(found) is found
        if gpu.type == "cpu":
            np.testing.assert_array_equal(array(found), expected)
        np.testing.assert_allclose(array(found), expected, rtol=1e-6)

    def test_bad_input_is_named(self, gpu):
        with pytest.raises(TypeError, match=r"p must be a contiguous torch\.float32 tensor"):
            solvers.ease_weights(torch.eye(2, dtype=torch.float64, device=gpu))


def gram_of(n_items, seed=0, n_users=120):
    rng = np.random.default_rng(seed)
    chances = 0.6 / np.arange(1, n_items + 1) ** 0.5
    x = rng.random((n_users, n_items)) < np.clip(chances * rng.random((n_users, 1)) * 2, 0, 0.9)
    return x.astype(np.float64).T @ x


def inverse_of(g, shift, dtype=np.float64):
    return np.linalg.inv(g + shift * np.eye(len(g))).astype(dtype)


class TestAdmm:
    # 128: the threads of a column.
    @pytest.mark.parametrize("n", [1, 2, 33, 128, 129])
    @pytest.mark.parametrize(("lambda1", "nonnegative"), VARIANTS)
    @pytest.mark.parametrize(("iterations", "relaxation"), [(1, 1.0), (4, 1.6)])
    def test_iterates_as_published(self, gpu, n, lambda1, nonnegative, iterations, relaxation):
        g, lambda2, rho = gram_of(n, seed=n), 5.0, 20.0
        options = {"lambda1": lambda1, "rho": rho, "nonnegative": nonnegative, "tol": 0}
        options |= {"num_iter": iterations, "relaxation": relaxation}
        options["columns"] = np.unique([0, n // 3, n - 1])
        expected = reference.admm_slim(
            g, lambda1, lambda2, rho, nonnegative, iterations, relaxation
        )
        for dtype, tolerance in ((np.float64, 1e-12), (np.float32, 2e-6)):
            p = inverse_of(g, lambda2 + rho, dtype)
            (found,) = solvers.admm(torch.from_numpy(p).to(gpu), **options)
            (here,) = slim.admm(slim.PackedInverse(p), **options)
            np.testing.assert_array_equal(found.columns, here.columns)
            for weights in (found.weights, here.weights):
                assert weights.dtype == dtype
                np.testing.assert_allclose(
                    weights.toarray().T, expected[:, found.columns], atol=tolerance
                )
            tolerance = 1e-3 if dtype == np.float32 else 1e-9
            np.testing.assert_allclose(found.residual, here.residual, rtol=tolerance)

    @pytest.mark.parametrize(("lambda1", "nonnegative"), VARIANTS[:2])
    def test_takes_turns_as_on_the_processor(self, gpu, monkeypatch, lambda1, nonnegative):
        """14 columns in 4 places, which are done after different numbers of iterations."""
        monkeypatch.setattr(solvers, "PANEL", 4)
        p = inverse_of(gram_of(14), 5.0 + 30.0)
        options = {"lambda1": lambda1, "rho": 30.0, "nonnegative": nonnegative, "tol": 1e-5}
        options["num_iter"] = 25
        found = list(solvers.admm(torch.from_numpy(p).to(gpu), **options))
        expected = list(slim.admm(slim.PackedInverse(p), **options))
        assert max(len(s.columns) for s in found) <= 4
        assert sum(len(s.columns) for s in found) == 14
        np.testing.assert_allclose(
            reference.assemble(found, 14), reference.assemble(expected, 14), atol=1e-12
        )
        there, here = (
            {j: n for s in some for j, n in zip(s.columns, s.work, strict=True)}
            for some in (found, expected)
        )
        assert there == here
        assert len(set(there.values())) > 3

    def test_some_columns_and_none(self, gpu):
        p = torch.from_numpy(inverse_of(gram_of(9), 2.0)).to(gpu)
        (solved,) = solvers.admm(p, lambda1=1.0, rho=1.0, tol=0, num_iter=3, columns=[7, 2])
        np.testing.assert_array_equal(solved.columns, [7, 2])
        assert list(solvers.admm(p, lambda1=1, rho=1, columns=[])) == []

    def test_what_is_not_finite_ends(self, gpu):
        p = torch.full((5, 5), np.nan, device=gpu)
        (solved,) = solvers.admm(p, lambda1=1.0, rho=2.0, num_iter=50)
        assert np.isnan(solved.residual).all()
        assert (solved.work == 1).all()

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"lambda1": -1}, "lambda1 must be"),
            ({"rho": 0}, "rho must be"),
            ({"tol": -1e-3}, "tol must be"),
            ({"num_iter": 0}, "num_iter must be"),
            ({"relaxation": 2}, "relaxation must be"),
            ({"columns": [0, 9]}, "columns must be in 0..8"),
        ],
    )
    def test_bad_input_is_named(self, gpu, change, message):
        p = torch.eye(9, device=gpu)
        with pytest.raises(ValueError, match=message):
            solvers.admm(p, **{"lambda1": 1.0, "rho": 1.0, **change})
        with pytest.raises(ValueError, match="p must be square"):
            solvers.admm(p[:3], lambda1=1.0, rho=1.0)


@pytest.mark.parametrize("shape", [(0, 3), (1, 1), (70, 33)])
@pytest.mark.parametrize("dtype", KINDS)
def test_to_host(gpu, monkeypatch, shape, dtype):
    monkeypatch.setattr(solvers, "_CHUNK_BYTES", 16 * 33 * 4)
    values = torch.rand(shape, dtype=dtype)
    found = solvers.to_host(values.to(gpu))
    assert found.dtype == KINDS[dtype]
    np.testing.assert_array_equal(found, values.numpy())


@pytest.fixture
def device(gpu, monkeypatch):
    """The device as models take it; a CPU's tensors go where those of a GPU do."""
    for model in ("ease", "admm_slim"):
        own = f"pyrec.models.{model}.cuda_device"
        monkeypatch.setattr(own, lambda device: None if device is None else gpu)
    return gpu


class TestModels:
    @pytest.mark.parametrize("binary", [True, False])
    def test_ease(self, device, draw, binary):
        x = draw(200, 40, 0.1, binary=binary)
        there, here = EASE(30.0), EASE(30.0)
        there.train(x, device=device)
        here.train(x)
        assert isinstance(there.weights, np.ndarray)
        assert there.weights.dtype == np.float32
        assert there.weights.flags.c_contiguous
        expected = reference.ease(x.toarray(), 30.0)
        for model in (there, here):
            assert np.linalg.norm(model.weights - expected) < 2e-6 * np.linalg.norm(expected)
        np.testing.assert_array_equal(there.recommend(x, 5).items, here.recommend(x, 5).items)

    def test_the_dual_form_stays_on_the_processor(self, device, draw, monkeypatch):
        monkeypatch.setattr(closed_form, "_dual_is_cheaper", lambda *given: True)
        monkeypatch.setattr(closed_form, "_gram_on", None)
        x = draw(20, 90, 0.2)
        there, here = EASE(3.0), EASE(3.0)
        there.train(x, device=device)
        here.train(x)
        np.testing.assert_array_equal(there.weights, here.weights)
        valid = (x, x)
        EASE.path(x, valid, lam=[3.0], device=device, verbose=0)

    def test_a_path(self, device, draw):
        x = draw(200, 40, 0.2)
        path = EASE.path(x, (x, draw(200, 40, 0.2, seed=1)), lam=[3.0, 300.0, 30.0], device=device)
        assert [p.parameters["lam"] for p in path.points] == [3.0, 300.0, 30.0]
        expected = reference.ease(x.toarray(), path.best.lam)
        np.testing.assert_allclose(path.best.weights, expected, atol=2e-6)

    @pytest.mark.parametrize(("dtype", "item_bias"), [(np.float32, False), (np.float64, True)])
    @pytest.mark.parametrize(
        "variant", [(True, True), (False, True), (True, False), (False, False)]
    )
    def test_admm_slim(self, device, draw, variant, item_bias, dtype):
        x = draw(150, 8, 0.25, binary=False)
        models = [ADMM_Slim(2.0, 5.0, 60.0, *variant, item_bias=item_bias) for _ in range(2)]
        for model, place in zip(models, (device, None), strict=True):
            model.train(x, 30, 0, solver="admm", tol=1e-3, dtype=dtype, device=place)
        there, here = models
        assert there.n_solved == 8
        assert there.n_iter == here.n_iter
        assert sp.issparse(there.weights) == any(variant)
        weights = [sp.csr_array(model.weights).toarray() for model in models]
        np.testing.assert_allclose(*weights, atol=1e-5 if dtype == np.float32 else 1e-7)
        if item_bias:
            np.testing.assert_allclose(there.offset, here.offset, atol=1e-6)

    def test_rho_by_trial(self, device, draw):
        x = draw(150, 12, 0.25)
        models = [ADMM_Slim(1.0, 4.0, "auto") for _ in range(2)]
        for model, place in zip(models, (device, None), strict=True):
            model.train(x, 300, 0, solver="admm", dtype=np.float64, device=place)
        assert models[0].n_iter == models[1].n_iter
        difference = abs(models[0].weights - models[1].weights)
        assert difference.max() < 1e-6

    @pytest.mark.parametrize("solver", ["auto", "cd"])
    def test_coordinate_descent_is_refused(self, device, draw, solver):
        x, model = draw(60, 20, 0.3), ADMM_Slim(1.0, 4.0)
        message = (
            f"coordinate descent runs on the CPU, got device={device!r} with solver={solver!r}"
        )
        with pytest.raises(ValueError, match=re.escape(f"{message}; pass solver='admm'")):
            model.train(x, solver=solver, device=device)
        assert model.weights is None
        closed = ADMM_Slim(1.0, 4.0, nn_constr=False, l1_penalty=False)
        closed.train(x, solver=solver, device=device)
        assert closed.residual == 0

    @pytest.mark.parametrize(
        ("x", "lam"),
        [
            (np.full((500, 3), 1e4), 1e-6),  # λ vanishes in the sum
            (np.full((2, 3), 1e20), 1.0),  # the Gram matrix overflows
            (np.random.default_rng(0).random((40, 300)) < 0.2, 1e-4),  # weights wrong by a third
        ],
    )
    def test_what_float32_cannot_hold_is_named(self, device, x, lam, monkeypatch):
        monkeypatch.setattr(closed_form, "_dual_is_cheaper", lambda *given: False)
        with (
            pytest.raises(np.linalg.LinAlgError, match=r"float32.*: use a larger lam"),
            np.errstate(over="ignore"),
        ):
            EASE(lam).train(np.asarray(x, np.float32), device=device)

    def test_memory_of_the_device_is_checked_first(self, monkeypatch):
        monkeypatch.setattr(machine, "device_memory", lambda device: 4 << 30)
        place, x = torch.device("cuda", 1), sp.csr_array((50_000, 41_140))
        message = "EASE needs a 41,140 x 41,140 float32 matrix inverted in place, "
        with pytest.raises(
            MemoryError, match=message + r"6\.6 GiB; 4\.0 GiB are available on cuda:1"
        ):
            closed_form.weights(x, 1.0, device=place)
        with pytest.raises(
            MemoryError, match=r"EASE needs two 41,140 x 41,140 float32 matrices, 12\.9 GiB"
        ):
            next(closed_form.weights_path(x, [1.0], device=place))
        message = r"ADMM_Slim needs a 41,140 x 41,140 float64 matrix, 1\d\.\d GiB; 4\.0 GiB"
        problem = slim_model.Penalties(1.0, 1.0, True)
        with pytest.raises(MemoryError, match=message):
            next(slim_model.iterations(x, None, problem, 1.0, None, np.float64, place))
        monkeypatch.setattr(machine, "device_memory", lambda device: 40 << 30)
        monkeypatch.setattr(machine, "available_memory", lambda: 1 << 30)
        message = r"EASE needs a 41,140 x 41,140 float32 matrix, 6\.3 GiB; 1\.0 GiB are available$"
        with pytest.raises(MemoryError, match=message):
            closed_form.weights(x, 1.0, device=place)

    @pytest.mark.parametrize("model", [EASE(3.0), ADMM_Slim()])
    @pytest.mark.parametrize(
        ("device", "message"),
        [
            ("abacus", "device must be one that is there, got 'abacus'"),
            ("cuda:99", "device must be one that is there, got 'cuda:99'"),
            ("meta", "device must be the CPU or a CUDA device, got 'meta'"),
        ],
    )
    def test_a_device_that_is_none(self, draw, model, device, message):
        with pytest.raises(ValueError, match=re.escape(message)):
            model.train(draw(9, 5, 0.5), device=device)
        assert model.weights is None

    @pytest.mark.parametrize("solver", ["auto", "cd", "admm"])
    def test_every_solver_runs_on_the_cpu(self, draw, solver):
        x, model = draw(60, 20, 0.3), ADMM_Slim(1.0, 4.0, "auto")
        model.train(x, 500, verbose=0, solver=solver, device="cpu")
        assert model.residual <= 1e-4

    def test_the_processor_by_its_name(self, draw, monkeypatch):
        monkeypatch.setattr(native, "module", None)
        x, models = draw(90, 30, 0.3), [EASE(3.0), EASE(3.0)]
        for model, place in zip(models, ("cpu", None), strict=True):
            model.train(x, device=place)
        np.testing.assert_array_equal(models[0].weights, models[1].weights)
