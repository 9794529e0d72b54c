"""Packed item-item weights against the plain ones, which share no code with them but the sort."""

import numpy as np
import pytest
import reference
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from pyrec import _core, kernels

# 15..17: a vector; 31..33: a group of bfloat16; 63..65, 127..129: panels; 4095..4097: as many panels
# as have bounds together.
SIZES = [1, 15, 16, 17, 31, 33, 63, 64, 65, 127, 128, 129, 255, 257, 4095, 4096, 4097]
TYPES = ["float32", "bfloat16"]


def to_bfloat16(weights):
    """To the nearest number of 8 significant bits, ties to even."""
    bits = np.asarray(weights, np.float32).view(np.uint32).astype(np.uint64)
    bits = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16 << 16
    rounded = bits.astype(np.uint32).view(np.float32)
    return np.where(np.isnan(weights), np.float32(np.nan), rounded)


def rounded(weights, dtype):
    return weights if dtype == "float32" else to_bfloat16(weights)


def random_weights(n_items, seed=0):
    """Columns of very different size, as those of popular and of rare items."""
    rng = np.random.default_rng(seed)
    return (rng.standard_normal((n_items, n_items)) * rng.lognormal(0, 2, n_items)).astype(
        np.float32
    )


def assert_same(result, expected):
    np.testing.assert_array_equal(result.items, expected.items)
    np.testing.assert_array_equal(result.scores, expected.scores)


def assert_like_plain(x, weights, k, *args, dtype="float32", **options):
    """The bits of the plain kernel, on one thread and on two."""
    packed = kernels.pack_weights(weights, dtype=dtype)
    expected = kernels.topk_dense_weights(x, rounded(weights, dtype), k, *args, **options)
    for n in (1, 2):
        assert_same(
            kernels.topk_dense_weights(x, packed, k, *args, n_threads=n, **options), expected
        )
    return expected


@pytest.mark.parametrize("n_items", SIZES)
@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("binary", [True, False])
def test_same_bits_as_the_plain_weights(draw, n_items, dtype, binary):
    x = draw(70, n_items, min(0.5, 25 / n_items), binary=binary)
    weights = random_weights(n_items)
    offset = np.random.default_rng(1).standard_normal(n_items)
    for k in (1, 7, 100):
        assert_like_plain(x, weights, k, x, dtype=dtype)
    assert_like_plain(x, weights, 12, offset=offset, dtype=dtype)


@pytest.mark.parametrize("n_items", SIZES)
@pytest.mark.parametrize("dtype", TYPES)
def test_equals_the_product_and_a_sort(draw, n_items, dtype):
    """Small whole numbers: exact in any order and in either type, with ties without end."""
    rng = np.random.default_rng(n_items)
    x = draw(40, n_items, min(1.0, 20 / n_items))
    weights = rng.integers(-3, 4, (n_items, n_items)).astype(np.float32)
    result = kernels.topk_dense_weights(x, kernels.pack_weights(weights, dtype=dtype), 40, x)
    items, scores = reference.topk(x.toarray() @ weights, 40, x.toarray() != 0)
    np.testing.assert_array_equal(result.items, items)
    np.testing.assert_array_equal(result.scores, scores)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_adversarial(data):
    """Weights and offsets that are no finite numbers, all kinds of lists, histories and values."""
    n_items = data.draw(st.integers(1, 300), label="n_items")
    k = data.draw(st.integers(0, 320), label="k")
    dtype = data.draw(st.sampled_from(TYPES), label="dtype")
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1), label="seed"))
    special = np.array([np.nan, np.inf, -np.inf, 0, -0.0, 1, 1e-45, -3e38, 3e38], np.float32)

    def numbers(shape, label):
        plain = data.draw(st.sampled_from([0.0, 0.9, 1.0, 1.0]), label=label)
        chosen = rng.choice(special, shape)
        return np.where(rng.random(shape) < plain, rng.standard_normal(shape), chosen).astype(
            np.float32
        )

    shape = (9, n_items)
    values = {
        "ones": lambda: np.ones(shape),
        "positive": lambda: rng.uniform(0.5, 2, shape),
        "any": lambda: rng.standard_normal(shape),
    }[data.draw(st.sampled_from(["ones", "positive", "any"]), label="values")]()
    density = data.draw(st.sampled_from([0.0, 0.05, 0.5, 1.0]), label="density")
    x = sp.csr_array((values * (rng.random(shape) < density)).astype(np.float32))
    weights = numbers((n_items, n_items), "weights")
    options = {}
    if data.draw(st.booleans(), label="offset"):
        options["offset"] = numbers(n_items, "offset")
    for name in ("seen", "allow", "deny"):
        share = data.draw(st.sampled_from([None, 0.0, 0.1, 0.9, 1.0]), label=name)
        if share is not None:
            one_for_all = data.draw(st.booleans(), label=f"one {name} for all")
            mask = rng.random(n_items if one_for_all else shape) < share
            options[name] = np.flatnonzero(mask) if one_for_all else sp.csr_array(mask * 1.0)
    with np.errstate(invalid="ignore"):
        assert_like_plain(x, weights, k, dtype=dtype, **options)


def test_many_users():
    """More than wait for each other at every panel, in a last chunk that is not full."""
    x = sp.random_array((4500, 150), density=0.05, format="csr", dtype=np.float32, rng=0)
    x.data[:] = 1
    assert_like_plain(x, random_weights(150), 10, x)


def test_more_users_than_a_block(draw):
    """Large k: 64 MiB of hits are those of 2,723 users."""
    n_items = 2000
    x = draw(2800, n_items, 0.002)
    expected = assert_like_plain(x, random_weights(n_items), n_items, x)
    assert (expected.items[:, -1] == -1).sum() > 2700


def test_few_of_many_panels_are_needed(draw):
    """Rare items, with bounds below what the popular ones have: skipped, unless they are better."""
    rng = np.random.default_rng(0)
    weights = rng.random((600, 600), np.float32) * np.where(np.arange(600) < 500, 1, 0.001)
    weights = weights[:, rng.permutation(600)].astype(np.float32)
    weights[7] = -weights[7]
    x = draw(500, 600, 0.02)
    assert_like_plain(x, weights, 5, x)
    assert_like_plain(-x, weights, 5, x)


@pytest.mark.parametrize("k", [5, 100, 700, 3000])
def test_all_equal(k):
    x = sp.csr_array((3, 2500), dtype=np.float32)
    expected = assert_like_plain(x, np.zeros((2500, 2500), np.float32), k)
    np.testing.assert_array_equal(expected.items[0, : min(k, 2500)], np.arange(min(k, 2500)))


def test_tie_with_the_item_just_below():
    """Item 1 is met in the first panel, item 0 in the last, when hits were dropped already."""
    weights = np.zeros((300, 300), np.float32)
    weights[0, :2] = 1
    weights[1] = np.r_[0, 300:1:-1]  # the order of the panels
    expected = assert_like_plain(sp.csr_array(np.eye(1, 300, dtype=np.float32)), weights, 1)
    assert expected.items == 0


@pytest.mark.parametrize("shape", [(0, 0), (0, 4), (3, 0)])
def test_empty(shape):
    packed = kernels.pack_weights(np.ones((shape[1],) * 2))
    result = kernels.topk_dense_weights(sp.csr_array(shape), packed, 2)
    assert result.items.shape == (shape[0], 2)
    assert (result.items == -1).all()


@pytest.mark.parametrize("dtype", TYPES)
def test_mapped_from_a_file(tmp_path, draw, dtype):
    x, weights = draw(50, 130, 0.2), random_weights(130)
    size = kernels.PackedWeights.nbytes(130, dtype)
    out = np.memmap(tmp_path / "packed", np.uint8, "w+", shape=(size,))
    expected = kernels.topk_dense_weights(x, kernels.pack_weights(weights, dtype=dtype, out=out), 9)
    out.flush()
    mapped = np.memmap(tmp_path / "packed", np.uint8, "r")
    assert_same(
        kernels.topk_dense_weights(x, kernels.PackedWeights(mapped, 130, dtype), 9), expected
    )
    plain = rounded(weights, dtype)
    assert_same(kernels.topk_dense_weights(x, plain, 9), expected)


def test_inputs_are_left_alone(draw):
    weights = random_weights(70)
    weights.flags.writeable = False
    packed = kernels.pack_weights(weights)
    before = packed.buffer.copy()
    packed.buffer.flags.writeable = False
    kernels.topk_dense_weights(draw(20, 70), packed, 5)
    np.testing.assert_array_equal(packed.buffer, before)


def test_every_byte_is_written_the_same_by_any_number_of_threads():
    weights = random_weights(100)
    size = kernels.PackedWeights.nbytes(100)
    one, two = (
        kernels.pack_weights(weights, out=np.full(size, fill, np.uint8), n_threads=n).buffer
        for fill, n in ((0, 1), (255, 2))
    )
    np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize("dtype", TYPES)
def test_size(dtype):
    weights = 1000 * 1024 * (4 if dtype == "float32" else 2)  # whole panels
    assert weights < kernels.PackedWeights.nbytes(1000, dtype) < 1.2 * weights
    assert kernels.pack_weights(np.zeros((3, 3)), dtype=dtype).shape == (3, 3)


def test_named_errors(draw):
    packed = kernels.pack_weights(np.eye(4))
    with pytest.raises(ValueError, match="weights must be square"):
        kernels.pack_weights(np.zeros((4, 5)))
    with pytest.raises(ValueError, match="dtype must be 'float32' or 'bfloat16', got 'float16'"):
        kernels.pack_weights(np.eye(4), dtype="float16")
    with pytest.raises(ValueError, match=r"out must have \d+ bytes for n_items = 4, got 7"):
        kernels.pack_weights(np.eye(4), out=np.zeros(7, np.uint8))
    with pytest.raises(ValueError, match=r"n_items must be in 0\.\.2\^30, got -1"):
        kernels.PackedWeights.nbytes(-1)
    with pytest.raises(ValueError, match=r"buffer must have \d+ bytes for 5 items in float32"):
        kernels.PackedWeights(packed.buffer, 5)
    with pytest.raises(TypeError, match="buffer must be a uint8 array of 1 dimension, got float64"):
        kernels.PackedWeights(np.zeros(4), 4)
    with pytest.raises(ValueError, match="x has 5 columns, expected n_items = 4"):
        kernels.topk_dense_weights(draw(3, 5), packed, 2)
    with pytest.raises(ValueError, match="offset must have an entry for each of the 4 items"):
        kernels.topk_dense_weights(draw(3, 4), packed, 2, offset=np.zeros(3))
    foreign = kernels.PackedWeights(np.zeros(packed.buffer.size, np.uint8), 4)
    with pytest.raises(ValueError, match="packed does not hold packed weights"):
        kernels.topk_dense_weights(draw(3, 4), foreign, 2)


def test_native_boundary_checks_for_itself(draw):
    size = kernels.PackedWeights.nbytes(4)
    lists = np.zeros(4, np.int64), np.zeros(0, np.int32), np.zeros(0, np.float32)
    out = np.zeros((3, 2), np.int32), np.zeros((3, 2), np.float32)
    unaligned = np.zeros(size + 4, np.uint8)
    start = 1 - unaligned.ctypes.data % 4
    with pytest.raises(ValueError, match="packed must start at a multiple of 4 bytes"):
        _core.topk_packed_weights(
            *lists, unaligned[start : start + size], 4, False, None, None, None, None, *out, 1
        )
    with pytest.raises(ValueError, match="packed must have"):
        _core.topk_packed_weights(
            *lists, unaligned[:size], 4, True, None, None, None, None, *out, 1
        )
