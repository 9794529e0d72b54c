"""The functions of `pyrec.kernels` over tensors of a GPU: as over arrays, and the results are there."""

import inspect
import subprocess
import sys

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from pyrec import kernels
from pyrec.kernels.devices import on_device
from pyrec.kernels.matrices import Csr

RNG = np.random.default_rng(0)


def whole(*shape):
    """Small whole numbers, whose sums and products have no rounding."""
    return RNG.integers(-3, 4, shape).astype(np.float32)


def sparse(*shape):
    return sp.csr_array(whole(*shape) * (RNG.random(shape) < 0.3))


X, SPARSE, DENSE = sparse(6, 9), sparse(9, 9), whole(9, 9)
LISTS = {"allow": np.array([7, 1, 2, 4, 5]), "deny": sparse(6, 9)}
POSITIVE = (DENSE @ DENSE.T + 20 * np.eye(9)).astype(np.float32)

# Arguments of each function; the first one says where it is done.
CASES = {
    "ease_weights": ([POSITIVE], {}),
    "gram": ([X], {"dtype": np.float64, "mirror": False}),
    "ranking": ([RNG.permuted(np.tile(np.arange(9), (6, 1)), axis=1), X, ["ndcg@5", "hit@1"]], {}),
    "scores_dense_weights": ([X, DENSE], {"offset": whole(9)}),
    "scores_sparse_weights": ([X, SPARSE], {"offset": whole(9)}),
    "spd_inverse": ([POSITIVE], {"mirror": True, "block": None}),
    "topk": ([whole(6, 9), 3, X], LISTS),
    "topk_dense_weights": ([X, DENSE, 3, X], {"offset": whole(9), **LISTS}),
    "topk_factors": ([whole(6, 4), whole(9, 4), 3, X], {"bias": whole(9), **LISTS}),
    "topk_sparse_weights": ([X, SPARSE, 3, X], {"offset": whole(9), **LISTS}),
}


def there(value, device):
    """The same on a device; a copy, which may be overwritten."""
    if isinstance(value, sp.csr_array):
        return Csr.from_scipy(value).to(device)
    return torch.tensor(value).to(device) if isinstance(value, np.ndarray) else value


def tensors_of(result):
    if isinstance(result, dict):
        return list(result.values())
    return list(result) if isinstance(result, tuple) else [result]


@pytest.mark.parametrize("name", CASES)
def test_results_are_those_over_arrays(device, name):
    function, (given, options) = getattr(kernels, name), CASES[name]
    copies = [value.copy() if isinstance(value, np.ndarray) else value for value in given]
    expected = tensors_of(function(*copies, **options, n_threads=1))
    own = [there(value, device) for value in given]
    named = {key: there(value, device) for key, value in options.items() if key != "dtype"}
    named |= {key: value for key, value in options.items() if key == "dtype"}
    found = function(*own, **named, n_threads=1)
    if name in ("ease_weights", "spd_inverse"):
        assert found is own[0]
    found = tensors_of(found)
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert isinstance(one, torch.Tensor)
        assert one.device == device
        assert one.cpu().numpy().dtype == other.dtype
        np.testing.assert_allclose(one.cpu(), other, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", CASES)
def test_the_first_argument_may_be_named(device, name):
    function, (given, options) = getattr(kernels, name), CASES[name]
    first = next(iter(inspect.signature(function).parameters))
    own = {key: there(value, device) for key, value in options.items() if key != "dtype"}
    rest = dict(zip(list(inspect.signature(function).parameters)[1:], given[1:], strict=False))
    rest = {key: there(value, device) for key, value in rest.items()}
    for result in tensors_of(function(**{first: there(given[0], device)}, **rest, **own)):
        assert isinstance(result, torch.Tensor)


def test_gram_is_written_where_it_is_wanted(device):
    out = torch.full((9, 9), np.nan, device=device)
    assert kernels.gram(there(X, device), out=out) is out
    np.testing.assert_array_equal(out.cpu(), kernels.gram(X))


def test_what_is_not_there_is_named(device):
    x, h = there(X, device), torch.zeros(2, 3, device=device)
    with pytest.raises(TypeError, match="weights must be a Tensor, got ndarray"):
        kernels.topk_dense_weights(x, DENSE, 3)
    with pytest.raises(TypeError, match="weights must be a Tensor, got PackedWeights"):
        kernels.topk_dense_weights(x, kernels.pack_weights(DENSE), 3)
    with pytest.raises(TypeError, match="weights must be a Csr, got csr_array"):
        kernels.scores_sparse_weights(x, SPARSE)
    with pytest.raises(TypeError, match=r"items must be a tensor of .*, got ndarray"):
        kernels.topk_factors(h, np.zeros((4, 3)), 1)
    with pytest.raises(TypeError, match="deny must be a Csr or a 1-D tensor of item numbers"):
        kernels.topk(h, 1, deny=np.array([1]))


def test_tensors_of_the_cpu_are_arrays():
    scores = torch.tensor(whole(3, 5))
    assert not on_device(scores)
    result = kernels.topk(scores, 2)
    assert isinstance(result.items, np.ndarray)
    assert isinstance(kernels.gram(Csr.from_scipy(X)), np.ndarray)


def test_arrays_do_not_need_torch():
    program = (
        "import sys, numpy as np; from pyrec import kernels;"
        "kernels.topk(np.zeros((2, 3)), 1); kernels.ease_weights(np.eye(3, dtype=np.float32));"
        "sys.exit('torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
