"""The float kernels in C have the bits of their twins in exact.py and quant.py (N4, N5, N8, N9, N14)."""

import ctypes
import platform

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refvit import exact, kernels, threads
from refvit.backend import LEVELS, ffi, lib, pointer
from refvit.errors import BadInputError, UsageError
from tests.strategies import any_float, matrices

NATIVE = [name for name in kernels.backends() if name != "numpy"]
needs_c = pytest.mark.skipif(not NATIVE, reason="needs the C kernels")
SPECIAL = np.array(
    [0.0, -0.0, 1.0, -1.0, 0.5, 1e-45, -1e-45, 2.0**-126, 2.0**-127, 3.4028235e38, -3.4028235e38, np.inf, -np.inf,
     88.72283, 88.72284, -87.33654, -103.97207, -103.97208, -103.972084, 3.9999998, 4.0, 127.5, -128.5, 5.6568542],
    np.float32,
)  # fmt: skip
seeds = st.integers(0, 2**32 - 1)
lengths = st.sampled_from((1, 2, 15, 16, 17, 31, 33, 49, 196, 197, 385, 1000))


def outcome(function, *args, backend):
    """Bytes of all results, or the text of the error."""
    try:
        result = function(*args, backend=backend)
    except BadInputError as error:
        return str(error)
    return [(r.dtype, r.shape, r.tobytes()) for r in (result if isinstance(result, tuple) else (result,))]


def assert_same_bits(function, *args):
    want = outcome(function, *args, backend="numpy")
    for backend in NATIVE:
        assert outcome(function, *args, backend=backend) == want, (function.__name__, backend, args)


def random_floats(seed, *shape):
    """Normal numbers at a random scale; sometimes special values among them."""
    rng = np.random.default_rng(seed)
    x = (rng.standard_normal(shape) * 10.0 ** rng.integers(-3, 4)).astype(np.float32)
    if rng.random() < 0.4:
        x = np.where(rng.random(shape) < 0.1, rng.choice(SPECIAL, shape), x)
    return x


@needs_c
@pytest.mark.parametrize("name", ("exp", "erf", "gelu"))
def test_elementwise_on_a_sample_of_all_floats(name):
    bits = np.arange(0, 1 << 32, 9973, dtype=np.uint64).astype(np.uint32)
    x = np.concatenate([bits.view(np.float32), SPECIAL, np.linspace(-110, 95, 100_000, dtype=np.float32)])
    x = x[~np.isnan(x)]
    if name == "gelu":
        x = x[x != -np.inf]  # -inf * 0
    assert_same_bits(getattr(kernels, name), x)


@needs_c
@settings(max_examples=100, deadline=None)
@given(matrices(any_float))
def test_any_floats(x):
    rows, k = x.shape
    weight, acc = np.resize(SPECIAL[:11], k), np.resize(x.view(np.int32), (rows, k))
    assert_same_bits(kernels.softmax, x)
    assert_same_bits(kernels.gelu, x)
    assert_same_bits(kernels.layernorm, x, weight, weight[::-1], 1e-6)
    assert_same_bits(kernels.matmul16, x, x)
    assert_same_bits(kernels.rescale, acc, np.ascontiguousarray(x[:, 0]), weight, None)
    for quantizer in ("symmetric", "minmax"):
        assert_same_bits(kernels.quantize_rows, x, 8, quantizer)


@needs_c
@settings(max_examples=60, deadline=None)
@given(seed=seeds, rows=st.integers(0, 6), k=lengths)
def test_odd_shapes(seed, rows, k):
    x, w, b = random_floats(seed, rows, k), random_floats(seed + 1, k), random_floats(seed + 2, k)
    assert_same_bits(kernels.softmax, x)
    assert_same_bits(kernels.layernorm, x, w, b, 1e-5)
    acc = np.random.default_rng(seed).integers(-(1 << 31), 1 << 31, (rows, k)).astype(np.int32)
    assert_same_bits(kernels.rescale, acc, random_floats(seed, rows), w, b)


@needs_c
@settings(max_examples=60, deadline=None)
@given(seed=seeds, m=st.integers(0, 4), n=st.integers(0, 4), k=st.one_of(lengths, st.just(0)),
       leading=st.sampled_from(((), (2,), (1, 3))))  # fmt: skip
def test_float_products(seed, m, n, k, leading):
    a, b = random_floats(seed, *leading, k, m).swapaxes(-1, -2), random_floats(seed + 1, *leading, n, k)
    assert_same_bits(kernels.matmul16, a, b)


@needs_c
@pytest.mark.parametrize("bits", range(2, 9))
@pytest.mark.parametrize("quantizer", ("symmetric", "minmax"))
@settings(max_examples=25, deadline=None)
@given(seed=seeds, rows=st.integers(0, 6), k=st.one_of(lengths, st.just(0)))
def test_quantizers(bits, quantizer, seed, rows, k):
    x, rng = random_floats(seed, rows, k), np.random.default_rng(seed)
    assert_same_bits(kernels.quantize_rows, x, bits, quantizer)
    s = (10.0 ** rng.uniform(-4, 1, rows)).astype(np.float32)
    zp = rng.integers(-(1 << (bits - 1)), 1 << (bits - 1), rows).astype(np.int32)
    assert_same_bits(kernels.quantize_rows, x, bits, quantizer, s, zp)


@needs_c
def test_quantizers_round_half_to_even_everywhere():
    x = np.arange(-300, 301, dtype=np.float32)[None] / 2
    for bits in range(2, 9):
        for zp in (-2, -1, 0, 1):
            static = np.ones(1, np.float32), np.full(1, zp, np.int32)
            assert_same_bits(kernels.quantize_rows, x, bits, "minmax", *static)
            assert_same_bits(kernels.quantize_rows, x, bits, "symmetric", *static)


@needs_c
@settings(max_examples=60, deadline=None)
@given(seed=seeds, rows=st.integers(0, 4), k=lengths)
def test_quotients_around_the_ties_of_codes(seed, rows, k):
    rng = np.random.default_rng(seed)
    s = (rng.uniform(1, 2, rows) * 2.0 ** rng.integers(-126, 118, rows)).astype(np.float32)
    ties = ((rng.integers(-130, 130, (rows, k)) + 0.5) * s[:, None]).astype(np.float32)
    x = (ties.view(np.int32) + rng.integers(-2, 3, (rows, k), np.int32)).view(np.float32)
    for quantizer in ("symmetric", "minmax"):
        zp = rng.integers(-128, 128, rows).astype(np.int32)
        assert_same_bits(kernels.quantize_rows, x, 8, quantizer, s, zp)


@needs_c
@settings(max_examples=40, deadline=None)
@given(seed=seeds, rows=st.integers(1, 4), k=lengths)
def test_softmax_of_masked_scores(seed, rows, k):
    """The exponentials of strangers in a shifted window are subnormal, or 0."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((rows, k)) * 3 - np.where(rng.random((rows, k)) < 0.4, 100.0, 0.0)
    assert_same_bits(kernels.softmax, x.astype(np.float32))


@needs_c
@pytest.mark.parametrize("bits", (2, 3, 4, 8))
@settings(max_examples=60, deadline=None)
@given(seed=seeds, rows=st.integers(0, 6), k=lengths)
def test_codes_of_gelu(bits, seed, rows, k):
    assert_same_bits(kernels.gelu_codes, random_floats(seed, rows, k), bits)


@needs_c
@settings(max_examples=60, deadline=None)
@given(seed=seeds, bits=st.integers(2, 8), amax=st.floats(0.2, 8.0), steps=st.integers(-40, 40))
def test_codes_of_gelu_at_the_ties(seed, bits, amax, steps):
    """Inputs whose gelu lies within some ulp of a tie of the codes, found by bisection; and several that are largest."""
    rng, high = np.random.default_rng(seed), (1 << (bits - 1)) - 1
    target = (rng.integers(0, high, 48) + 0.5) / high * float(exact.gelu(np.float32([amax]))[0])
    low, top = np.zeros(48), np.full(48, amax)
    for _ in range(60):
        middle = (low + top) / 2
        below = exact.gelu(middle.astype(np.float32)) < target
        low, top = np.where(below, middle, low), np.where(below, top, middle)
    x = low.astype(np.float32).view(np.int32) + rng.integers(-abs(steps) - 1, abs(steps) + 2, 48, dtype=np.int32)
    largest = np.float32([amax]).view(np.int32) - rng.integers(0, 3, 3, dtype=np.int32)
    assert_same_bits(kernels.gelu_codes, np.concatenate([x, largest]).view(np.float32)[None], bits)


@needs_c
@settings(max_examples=60, deadline=None)
@given(seed=seeds, rows=st.integers(0, 6), k=lengths)
def test_codes_of_probabilities(seed, rows, k):
    assert_same_bits(kernels.softmax_codes, random_floats(seed, rows, k))


@needs_c
@pytest.mark.parametrize("k", (1 << 17, (1 << 17) + 1))
def test_codes_of_probabilities_of_the_longest_rows(k):
    assert_same_bits(kernels.softmax_codes, np.float32([[12.0] + [0.0] * (k - 1), [0.0] * (k - 1) + [20.0]]))


@needs_c
@settings(max_examples=60, deadline=None)
@given(seed=seeds, code=st.integers(0, 125), ulps=st.integers(-30, 30))
def test_codes_of_probabilities_at_the_ties(seed, code, ulps):
    """Two scores whose first probability is (code + 1/2) / 127, but for some ulp of their difference."""
    p = (code + 0.5) / 127
    difference = np.float32([np.log(p / (1 - p))]).view(np.int32) + np.int32(ulps)
    x = np.stack([difference.view(np.float32), np.zeros(1, np.float32)], axis=1)
    assert_same_bits(kernels.softmax_codes, x + np.float32(np.random.default_rng(seed).integers(-4, 5)))


@needs_c
def test_subnormal_and_overflowing_ranges():
    big, tiny = np.float32(3.4028235e38), np.float32(1e-45)
    x = np.array([[-big, big, 1.0], [tiny, -tiny, 0.0], [0.0, -0.0, 0.0], [big, np.inf, -np.inf], [2.0**-126, 0, 0],
                  [big / 2, -big, big]], np.float32)  # fmt: skip
    for bits in range(2, 9):
        for quantizer in ("symmetric", "minmax"):
            assert_same_bits(kernels.quantize_rows, x, bits, quantizer)


@needs_c
def test_scales_around_the_smallest_normal_number():
    x = (np.linspace(0.2, 2.2, 401)[:, None] * [1.0, 0.5, -0.5, 0.25]).astype(np.float32)
    for bits in range(2, 9):
        rows = x * np.float32(2.0**-126 * ((1 << (bits - 1)) - 1))
        for quantizer in ("symmetric", "minmax"):
            assert_same_bits(kernels.quantize_rows, rows, bits, quantizer)


def calls_with(x):
    """Every float kernel on a matrix [T, K]."""
    ones, zeros = np.ones(x.shape[1], np.float32), np.zeros(x.shape[1], np.float32)
    acc = np.arange(x.size, dtype=np.int32).reshape(x.shape) * 7919
    scale = np.resize(np.abs(x), len(x)) + np.float32(1)
    return {
        "softmax": lambda backend: kernels.softmax(x, backend),
        "gelu": lambda backend: kernels.gelu(x, backend),
        "exp": lambda backend: kernels.exp(x, backend),
        "erf": lambda backend: kernels.erf(x, backend),
        "layernorm": lambda backend: kernels.layernorm(x, ones, zeros, 1e-6, backend),
        "matmul16": lambda backend: kernels.matmul16(x, x[:3], backend),
        "quantize_rows": lambda backend: kernels.quantize_rows(x, backend=backend)[0],
        "rescale": lambda backend: kernels.rescale(acc, scale, x[0], None, backend),
    }


NAMES = list(calls_with(np.zeros((4, 4), np.float32)))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("backend", kernels.backends())
@pytest.mark.parametrize("place", ((0, 0), (0, 7), (0, 8), (0, 15), (0, 16), (0, 18)))
def test_nan_is_an_error(name, backend, place):
    x = np.ones((3, 19), np.float32)
    x[place] = np.nan
    with pytest.raises(BadInputError, match="NaN"):
        calls_with(x)[name](backend)


@needs_c
@pytest.mark.parametrize("name", ("exp", "erf", "gelu", "softmax", "gelu_codes", "softmax_codes"))
@settings(max_examples=40, deadline=None)
@given(sign=st.sampled_from((0, 1 << 31)), payload=st.integers(1, (1 << 23) - 1), place=st.integers(0, 36))
def test_every_nan_is_an_error(name, sign, payload, place):
    x = np.ones((1, 37), np.float32)
    x.view(np.uint32)[0, place] = sign | 0x7F800000 | payload
    assert_same_bits(getattr(kernels, name), x)
    with pytest.raises(BadInputError, match="NaN"):
        getattr(kernels, name)(x)


def c_calls(level, k):
    """Every C kernel whose result has k elements: the type of the result, and a call on pointers to x [k] and to it."""
    null = ffi.NULL
    ones, acc, zp = np.ones(k, np.float32), np.arange(k, dtype=np.int32), np.zeros(1, np.int32)
    one, numbers, zero = map(pointer, (ones, acc, zp))
    return {
        "softmax": (np.float32, lambda x, y: lib.refvit_softmax(level, 1, k, x, y)),
        "layernorm": (np.float32, lambda x, y: lib.refvit_layernorm(level, 1, k, x, one, one, 1e-6, y)),
        "gelu": (np.float32, lambda x, y: lib.refvit_gelu(level, k, x, y)),
        "exp": (np.float32, lambda x, y: lib.refvit_exp(level, k, x, y)),
        "erf": (np.float32, lambda x, y: lib.refvit_erf(level, k, x, y)),
        "rescale": (np.float32, lambda x, y: lib.refvit_rescale(level, 1, k, numbers, x, one, null, y)),
        "matmul16": (np.float32, lambda x, y: lib.refvit_matmul16(level, 1, k, 1, 1, x, one, y)),
        "quantize_rows": (np.int8, lambda x, y: lib.refvit_quantize_rows(level, 1, k, -127, 127, x, one, zero, y)),
    }


@needs_c
@pytest.mark.parametrize("backend", NATIVE)
@pytest.mark.parametrize("k", (1, 7, 8, 9, 15, 16, 17, 31, 33))
def test_kernels_write_their_result_alone(backend, k):
    x, level = np.linspace(-3, 3, k, dtype=np.float32), LEVELS[backend]
    for name, (dtype, call) in c_calls(level, k).items():
        y = np.full(k + 64, 77, dtype)
        assert call(pointer(x), pointer(y[32:])) == lib.REFVIT_OK, name
        assert (y[:32] == 77).all() and (y[32 + k :] == 77).all(), name
        assert not (y[32 : 32 + k] == 77).all(), name


@pytest.mark.parametrize("backend", NATIVE)
@pytest.mark.parametrize("k", (1, 15, 16, 49, 197))
@pytest.mark.parametrize("name", ("softmax", "layernorm", "gelu", "exp", "erf"))
def test_a_result_may_replace_its_argument(backend, k, name):
    call = c_calls(LEVELS[backend], k)[name][1]
    x, y = np.linspace(-3, 3, k, dtype=np.float32), np.empty(k, np.float32)
    call(pointer(x), pointer(y))
    call(pointer(x), pointer(x))
    assert x.tobytes() == y.tobytes()


@needs_c
@pytest.mark.parametrize("name", NAMES)
def test_results_do_not_depend_on_threads(name, monkeypatch):
    monkeypatch.setattr(kernels, "SMALL_ROWS", 0)
    monkeypatch.setattr(kernels, "SMALL_PRODUCT", 0)
    call = calls_with(random_floats(0, 13, 37))[name]
    want = call("numpy").tobytes()
    for count in (1, 2, 3, 16):
        monkeypatch.setattr(threads, "_count", count)
        for backend in NATIVE:
            assert call(backend).tobytes() == want


FE_UPWARD, MXCSR_OFFSET, FTZ_AND_DAZ = 0x800, 28, 0x8040  # glibc on x86-64


@pytest.fixture
def floating_point_environment():
    """libm and the saved environment of glibc on x86-64; restored after the test."""
    if platform.machine() != "x86_64" or platform.libc_ver()[0] != "glibc":
        pytest.skip("knows the layout of fenv_t of glibc on x86-64 alone")
    libm, saved = ctypes.CDLL("libm.so.6"), ctypes.create_string_buffer(32)
    libm.fegetenv(saved)
    yield libm, saved
    libm.fesetenv(saved)


@pytest.mark.parametrize("backend", NATIVE)
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("mode", ("upward", "flush to zero"))
def test_the_callers_floating_point_environment_does_not_matter(
    name, mode, backend, floating_point_environment, monkeypatch
):
    monkeypatch.setattr(threads, "_count", 1)
    libm, saved = floating_point_environment
    x = random_floats(5, 9, 33)
    x[1] *= np.float32(1e-38)
    call = calls_with(np.nan_to_num(x, posinf=1.0, neginf=-1.0))[name]
    want = call("numpy").tobytes()
    changed = bytearray(saved.raw)
    if mode == "flush to zero":
        mxcsr = int.from_bytes(changed[MXCSR_OFFSET : MXCSR_OFFSET + 4], "little") | FTZ_AND_DAZ
        changed[MXCSR_OFFSET : MXCSR_OFFSET + 4] = mxcsr.to_bytes(4, "little")
        libm.fesetenv(bytes(changed))
    else:
        libm.fesetround(FE_UPWARD)
    got = call(backend).tobytes()
    after = ctypes.create_string_buffer(32)
    libm.fegetenv(after)
    rounding = libm.fegetround()
    libm.fesetenv(saved)
    assert got == want
    if mode == "flush to zero":
        assert int.from_bytes(after.raw[MXCSR_OFFSET:], "little") & FTZ_AND_DAZ == FTZ_AND_DAZ  # and it is restored
    else:
        assert rounding == FE_UPWARD


good = np.ones((2, 3), np.float32)


@pytest.mark.parametrize("backend", kernels.backends())
@pytest.mark.parametrize(
    "call",
    (
        lambda b: kernels.softmax(good.astype(np.float64), b),
        lambda b: kernels.softmax(np.ones((2, 0), np.float32), b),
        lambda b: kernels.softmax(good[0], b),
        lambda b: kernels.gelu([1.0], b),
        lambda b: kernels.layernorm(good, good[0], good[0, :2], 1e-6, b),
        lambda b: kernels.layernorm(good, None, good[0], 1e-6, b),
        lambda b: kernels.matmul16(good, good[:, :2], b),
        lambda b: kernels.rescale(good, good[:, 0], good[0], None, b),
        lambda b: kernels.rescale(good.astype(np.int32), good[0], good[0], None, b),
        lambda b: kernels.quantize_rows(good, 1, backend=b),
        lambda b: kernels.quantize_rows(good, 9, backend=b),
        lambda b: kernels.quantize_rows(good, 8, "asymmetric", backend=b),
        lambda b: kernels.quantize_rows(good, 8, s=np.zeros(2, np.float32), backend=b),
        lambda b: kernels.quantize_rows(good, 8, s=np.full(2, np.inf, np.float32), backend=b),
        lambda b: kernels.quantize_rows(good, 8, "minmax", s=good[:, 0], backend=b),
        lambda b: kernels.quantize_rows(good, 8, "minmax", good[:, 0], np.full(2, 128, np.int32), backend=b),
    ),
)
def test_wrong_arguments_are_errors(call, backend):
    with pytest.raises(UsageError):
        call(backend)
