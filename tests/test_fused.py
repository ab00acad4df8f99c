"""The fused kernels of training against their NumPy twins: quantizers and optimizers bit for bit (N3, N4, N5), float
layers within the bounds of refvit/vectors/bounded.py, and nothing that depends on the number of threads."""

import math
import os
from contextlib import contextmanager
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refvit import fused, kernels, layers, passes, threads
from refvit.config import QuantConfig
from refvit.errors import BadInputError
from refvit.fused import BLOCK, compiled
from refvit.model import create_model
from refvit.training import optim
from refvit.vectors import bounded
from refvit.vectors.bounded import Bounded
from tests.strategies import any_float, matrices

NATIVE = [name for name in kernels.backends() if name != "numpy"]
pytestmark = pytest.mark.skipif(not NATIVE, reason="needs the C kernels")
each_backend = pytest.mark.parametrize("backend", NATIVE)
seeds = st.integers(0, 2**32 - 1)
lengths = st.sampled_from((1, 2, 15, 16, 17, 33, 65, 197))


@contextmanager
def forced(backend):
    with mock.patch.dict(os.environ, REFVIT_BACKEND=backend):
        yield


def random(seed, *shape):
    return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)


def assert_same_bits(got, want, *case):
    """Arrays, or values and where they were not clipped; None there means all over."""
    for g, w in zip(got, want) if isinstance(want, tuple) else [(got, want)]:
        g = np.ones_like(w) if g is None else g
        assert g.dtype == w.dtype and g.shape == w.shape and (g.tobytes() == w.tobytes()), case


def same_as_twin(function, *args):
    with forced("numpy"), np.errstate(over="ignore"):
        want = function(*args)
    for backend in NATIVE:
        with forced(backend):
            assert_same_bits(function(*args), want, function.__name__, backend, args)


# --- the idiom ---


@pytest.mark.parametrize(
    ("backend", "dtype", "accepts", "runs"),
    [("portable", "f4", True, "kernel"), ("portable", "f4", False, "twin"), ("portable", "f8", True, "twin"),
     ("numpy", "f4", True, "twin")],
)  # fmt: skip
def test_who_runs(backend, dtype, accepts, runs):
    twin = compiled(lambda x: "kernel" if accepts else NotImplemented)(lambda x: "twin")
    with forced(backend):
        assert twin(np.zeros(1, dtype)) == runs and twin.numpy(np.zeros(1, dtype)) == "twin"


@each_backend
def test_shapes_that_do_not_fit_are_refused_not_read(backend):
    x, short = random(0, 4, 8), random(1, 7)
    with forced(backend):
        for call in (
            lambda: layers.add_bias(x, short),
            lambda: layers.layernorm_forward(x, short, short, 1e-6),
            lambda: layers.gelu_backward(x, random(2, 4, 7)),
            lambda: layers.softmax_backward(x, random(2, 3, 8)),
            lambda: layers.layernorm_backward(x, (random(2, 3, 8), random(3, 3, 1), short)),
            lambda: layers.context_forward(random(2, 1, 1, 1, 3, 2), random(2, 1, 1, 1, 3, 3)),
            lambda: optim.adamw_update(x, short, x, x, 1, 0.1, 0.0, (0.9, 0.99), 1e-8),
        ):
            with pytest.raises(ValueError):
                call()


# --- bit for bit ---


@settings(max_examples=100, deadline=None)
@given(matrices(any_float), st.integers(2, 8), st.sampled_from(("symmetric", "minmax")))
def test_activations_of_any_floats(x, bits, quantizer):
    same_as_twin(passes.fake_quantize, x, bits, quantizer)
    s, zp = np.full(len(x), 0.37, np.float32), np.full(len(x), 2 if quantizer == "minmax" else 0, np.int32)
    zp = np.clip(zp, -(1 << (bits - 1)), (1 << (bits - 1)) - 1)
    same_as_twin(passes.fake_quantize, x, bits, quantizer, s, zp)


@settings(max_examples=40, deadline=None)
@given(seeds, st.integers(1, 6), lengths, st.integers(2, 8), st.sampled_from(("symmetric", "minmax")))
def test_activations_of_odd_shapes(seed, rows, k, bits, quantizer):
    same_as_twin(passes.fake_quantize, random(seed, rows, k) * np.float32(1e-3), bits, quantizer)


def test_a_nan_is_named_as_by_the_twin():
    x = random(0, 3, 20)
    x[1, 17] = np.nan
    for backend in (*NATIVE, "numpy"):
        with forced(backend), pytest.raises(BadInputError, match="row 1, column 17"):
            passes.fake_quantize(x, 8, "symmetric")


@settings(max_examples=40, deadline=None)
@given(seeds, st.integers(1, 3), st.integers(1, 3), st.integers(1, 3), st.sampled_from((1, 4, 9)), st.integers(1, 33))
def test_heads_with_one_scale_over_all_windows(seed, b, w, heads, t, d):
    parts = layers.split_heads_forward(random(seed, b, w, t, 3 * heads * d), heads)
    for part in parts:
        same_as_twin(passes.quantize_heads, part)
    same_as_twin(passes.quantize_heads, np.ascontiguousarray(parts[0])[:, ::-1])


def test_probabilities():
    same_as_twin(passes.quantize_probabilities, np.linspace(0, 1, 100_003, dtype=np.float32).reshape(1, -1))


@settings(max_examples=100, deadline=None)
@given(matrices(), st.sampled_from(("channel", "layer")), st.sampled_from(("masked_mean", "absolute_mean")),
       st.sampled_from((0.0, 0.5, 0.7, 1.3, "optimal")))  # fmt: skip
def test_ternary_weights(w, granularity, scale, threshold):
    """Rows of zeros, subnormals and wide ranges among them: where the sums are not provably exact, the twin works."""
    same_as_twin(passes.ternary_values, w, granularity, threshold, scale)


@settings(max_examples=40, deadline=None)
@given(seeds, st.integers(1, 6), lengths, st.sampled_from((0, 3, 12, 30)), st.sampled_from(("channel", "layer")))
def test_ternary_and_8_bit_weights_of_many_magnitudes(seed, rows, k, spread, granularity):
    rng = np.random.default_rng(seed)
    w = random(seed, rows, k) * (10.0 ** rng.uniform(-spread, 0, (rows, k))).astype(np.float32)
    w[rng.random((rows, k)) < 0.1] = 0.0
    same_as_twin(passes.ternary_values, w, granularity, 0.7, "masked_mean")
    same_as_twin(passes.int8_values, w, granularity)


def test_weights_at_the_threshold():
    """In each row one weight is within an ulp or two of the row's Delta, so that its last bit decides."""
    w = np.abs(random(2, 20_000, 4))
    w[:, 3] = 0.7 * w[:, :3].astype(np.float64).sum(axis=1) / 3.3  # d = 0.7 (a + b + c + d) / 4
    w[1::3, 3] = np.nextafter(w[1::3, 3], np.float32(0))
    w[2::3, 3] = np.nextafter(w[2::3, 3], np.float32(9))
    same_as_twin(passes.ternary_values, w, "channel", 0.7, "masked_mean")


@pytest.mark.parametrize("rest", ([2.0**-50, 0.0], [2.0**-51, 2.0**-149]))
def test_a_sum_that_is_nearly_a_tie(rest):
    """The mean is 1 + 2^-24 and a little: the last weight decides how it is rounded, first to float64, then to float32."""
    w = np.array([[4.0, 2.0**-22, *rest]], np.float32)
    same_as_twin(passes.ternary_values, w, "channel", 0.7, "absolute_mean")
    assert passes.ternary_values(w, "channel", 0.7, "absolute_mean")[0, 0] == np.float32(1.0 + 2.0**-23)


def test_a_long_row_is_summed_exactly_by_the_kernel_itself():
    """A whole matrix as one row, where a plain float64 sum is not provably exact and the twin takes its time."""
    w = random(1, 64, 1 << 12) * (10.0 ** np.linspace(-4, 0, 1 << 12)).astype(np.float32)
    assert fused.ternary_values(w, "layer", 0.7, "masked_mean") is not NotImplemented
    same_as_twin(passes.ternary_values, w, "layer", 0.7, "masked_mean")


def test_weights_that_are_not_finite_are_an_error():
    for bad in (np.nan, np.inf):
        w = random(0, 2, 20)
        w[1, 18] = bad
        with pytest.raises(BadInputError):
            passes.ternary_values(w, "channel", 0.7, "masked_mean")


@settings(max_examples=40, deadline=None)
@given(seeds, st.integers(1, 300), st.integers(1, 1000), st.sampled_from((0.0, 0.05)), st.sampled_from((1e-8, 1e-3)))
def test_optimizers(seed, size, t, weight_decay, eps):
    arrays = [random(seed + i, size) * np.float32(10.0**-i) for i in range(4)]
    arrays[3] = np.abs(arrays[3])
    for update in (optim.adamw_update, optim.lamb_update):
        results = {}
        for backend in (*NATIVE, "numpy"):
            p, g, m, v = results[backend] = [a.copy() for a in arrays]
            with forced(backend):
                update(p, g, m, v, t, 1e-3, weight_decay, (0.9, 0.999), eps)
            assert_same_bits(tuple(results[backend]), tuple(results[NATIVE[0]]), update.__name__, backend, t)


@settings(max_examples=60, deadline=None)
@given(matrices(any_float))
def test_norms(x):
    want = optim.sum_of_squares.numpy(x)
    for backend in NATIVE:
        with forced(backend):
            assert optim.sum_of_squares(x) == want


# --- within bounds ---


def within(name, got, bound):
    worst = (np.abs(got - bound.value) / bound.err).max()
    assert got.dtype == np.float32 and got.shape == bound.value.shape and worst <= 1, f"{name}: {worst} times its bound"


@each_backend
@pytest.mark.parametrize("k", (1, 17, 65, 197))
def test_rows_within_bounds(backend, k):
    """More rows than a block of LayerNorm's sums, so that the last is a part of one."""
    x, dy = 3 * random(k, 2 * BLOCK + 3, k), random(k + 1, 2 * BLOCK + 3, k)
    weight, bias = random(k + 2, k), random(k + 3, k)
    bx, bdy, bw, bb = (Bounded(a) for a in (x, dy, weight, bias))
    with forced(backend):
        p, _ = layers.softmax_forward(x)
        within("softmax", p, bounded.softmax(bx))
        within("softmax dx", layers.softmax_backward(dy, p), bounded.softmax_gradient(bdy, Bounded(p)))
        y, slope = layers.gelu_forward(x)
        within("gelu", y, bounded.gelu(bx))
        within("gelu dx", layers.gelu_backward(dy, slope), bounded.gelu_gradient(bdy, bx))
        y, cache = layers.layernorm_forward(x, weight, bias, 0.5)
        within("layernorm", y, bounded.layernorm(bx, bw, bb, 0.5))
        for got, bound in zip(layers.layernorm_backward(dy, cache), bounded.layernorm_gradients(bdy, bx, bw, 0.5)):
            within("layernorm gradient", got, bound)


@each_backend
def test_gelu_on_all_magnitudes(backend):
    """Phi is off by less than 2^-23, so y by 2^-23 |x| and its rounding; the slope by 2^-22 as it is at most 1.13."""
    wide = np.geomspace(1e-30, 1e30, 20_001)
    x = np.concatenate([np.linspace(-16, 16, 200_001), wide, -wide]).astype(np.float32)
    with forced(backend):
        y, slope = layers.gelu_forward(x)
    exact = x.astype(np.float64)
    cdf = 0.5 * np.vectorize(math.erfc)(-exact / math.sqrt(2))
    density = np.exp(-0.5 * exact * exact) / np.sqrt(2 * np.pi)
    assert (np.abs(y - exact * cdf) <= 2.0**-23 * np.abs(exact)).all()
    assert (np.abs(slope - (cdf + exact * density)) <= 2.0**-22).all()


def test_gelu_of_what_is_not_finite():
    for backend in (*NATIVE, "numpy"):
        with forced(backend), np.errstate(invalid="ignore"):
            assert layers.gelu_forward(np.array([np.inf], np.float32))[0] == np.inf, backend
            with pytest.raises(BadInputError, match="NaN"):
                layers.gelu_forward(np.array([0.5, np.nan], np.float32))


@each_backend
def test_softmax_of_masked_scores(backend):
    """The mask of shifted windows adds -100: probabilities down to the subnormals, and 0 below them."""
    x = np.linspace(-120, 0, 1201, dtype=np.float32)[None]
    with forced(backend):
        p, _ = layers.softmax_forward(x)
    within("softmax", p, bounded.softmax(Bounded(x)))
    assert p[0, 0] == 0 < p[0, 220]


@each_backend
@pytest.mark.parametrize(
    ("shape", "shifted"), [((2, 1, 3, 17, 8), False), ((2, 4, 2, 9, 24), True), ((1, 1, 1, 300, 3), False)]
)
def test_attention_within_bounds(backend, shape, shifted):
    """Heads as they come out of a qkv row, gradients as they come from a merged one; more than 256 terms in a sum."""
    b, w, h, t, d = shape
    q, k, v = layers.split_heads_forward(random(1, b, w, t, 3 * h * d), h)
    dy = layers.merge_heads_backward(random(2, b, w, t, h * d), h)
    bias, mask = (random(3, h, t, t), random(4, w, t, t)) if shifted else (None, None)
    with forced(backend):
        scores, scores_cache = layers.scores_forward(q, k, bias, mask)
        p, _ = layers.softmax_forward(scores)
        y, context_cache = layers.context_forward(p, v)
        dp, dv = layers.context_backward(dy, context_cache)
        dq, dk, dbias = layers.scores_backward(layers.softmax_backward(dp, p), scores_cache)
    operands = [Bounded(a) for a in (q, k, v)]
    operands += [Bounded(bias), Bounded(mask[:, None])] if shifted else []
    *bounds, dbias_bound = bounded.attention_gradients(Bounded(dy), *operands)
    for name, got, bound in zip(("y", "dq", "dk", "dv"), (y, dq, dk, dv), (bounded.attention(*operands), *bounds)):
        within(name, got, bound)
    assert dbias is None if not shifted else within("dbias", dbias, dbias_bound) is None


# --- the same whatever the threads ---


@pytest.mark.parametrize("quant", (None, QuantConfig()), ids=("float", "W2A8"))
@pytest.mark.parametrize("name", ("deit_tiny_patch16_224", "swin_tiny_patch4_window7_224"))
def test_a_step_does_not_depend_on_the_number_of_threads(name, quant, monkeypatch):
    """Only the kernels' threads: those of BLAS are set when NumPy is loaded."""
    small = {
        "deit": {"embed_dim": 96, "depth": 2, "img_size": 64, "patch_size": 4},
        "swin": {"embed_dim": 48, "depths": (2, 2), "num_heads": (2, 4), "img_size": 48, "window_size": 4},
    }
    model = create_model(name, num_classes=5, **small[name[:4]])
    model = model if quant is None else model.with_quant(quant)
    x, dy = random(0, 2, 3, model.config.img_size, model.config.img_size), random(1, 2, 5)
    monkeypatch.setattr(kernels, "SMALL_ROWS", 1)  # as large arrays are treated
    results = []
    for count in (1, 2, 3, 3):
        monkeypatch.setattr(threads, "_count", count)
        logits, cache = model.forward(x)
        dx, grads = model.backward(dy, cache)
        results.append([a.tobytes() for a in (logits, dx, *grads.values())])
    assert all(result == results[0] for result in results)
