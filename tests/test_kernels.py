"""Integer kernels equal int64 matrix products on every backend usable here (N2, N7); threads; the choice of backend."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refvit import bitplanes, kernels, threads
from refvit.backend import LEVELS, ffi, info, lib, pointer
from refvit.errors import BadInputError, UsageError
from refvit.rules import K_MAX

BACKENDS = kernels.backends()
seeds = st.integers(0, 2**32 - 1)
lengths = st.sampled_from((0, 1, 2, 31, 32, 33, 63, 64, 65, 127, 130, 384, 1000, 2047))
sizes = st.integers(0, 10)

every_backend = pytest.mark.parametrize("backend", BACKENDS)
every_family = pytest.mark.parametrize("family", kernels.FAMILIES)


def random_int8(rng, shape, low=-128, high=127):
    """Uniform codes, or only the two extremes."""
    if rng.random() < 0.3:
        return rng.choice(np.array([low, high], np.int8), shape)
    return rng.integers(low, high + 1, shape).astype(np.int8)


def int64_product(x, w):
    return x.astype(np.int64) @ w.astype(np.int64).swapaxes(-1, -2)


def assert_equal(got, want):
    assert got.dtype == np.int32
    np.testing.assert_array_equal(got, want)


@pytest.fixture
def thread_count():
    """A setter of the number of threads, undone after the test."""
    before = threads._count
    yield kernels.set_threads
    threads._count = before


@every_backend
@settings(max_examples=25, deadline=None)
@given(seed=seeds, n=sizes, k=lengths)
def test_packing_equals_the_twin(backend, seed, n, k):
    codes = random_int8(np.random.default_rng(seed), (n, k), -1, 1)
    np.testing.assert_array_equal(kernels.pack_planes(codes, backend), bitplanes.pack_planes(codes))


@pytest.mark.parametrize("bits", range(1, 9))
@every_family
@every_backend
@settings(max_examples=10, deadline=None)
@given(seed=seeds, m=sizes, n=sizes | st.integers(60, 70), k=lengths)
def test_ternary_product_equals_int64(backend, family, bits, seed, m, n, k):
    rng = np.random.default_rng(seed)
    x = random_int8(rng, (m, k), -(1 << (bits - 1)), (1 << (bits - 1)) - 1)
    codes = random_int8(rng, (n, k), -1, 1)
    got = kernels.ternary_matmul(x, bitplanes.pack_planes(codes), k, backend, bits, family)
    assert_equal(got, int64_product(x, codes))


@pytest.mark.parametrize(
    "m, n, k",
    (
        *((m, 33, 200) for m in range(1, 20)),
        *((9, n, 130) for n in (3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 32, 47, 48, 49)),
        *((9, 18, 64 * words + rest) for words in (7, 8, 9, 30, 31, 32, 47, 48, 49, 96, 97) for rest in (-1, 0, 1)),
        *((5, n, k) for n in (767, 768, 769, 785) for k in (1, 64, 65)),
    ),
)
@every_backend
def test_the_ternary_product_is_right_at_the_edges_of_blocks(backend, m, n, k):
    rng, bits = np.random.default_rng([m, n, k]), 1 + (m + n + k) % 8
    x = random_int8(rng, (m, k), -(1 << (bits - 1)), (1 << (bits - 1)) - 1)
    codes = random_int8(rng, (n, k), -1, 1)
    got = kernels.ternary_matmul(x, bitplanes.pack_planes(codes), k, backend, bits=bits)
    assert_equal(got, int64_product(x, codes))


@every_backend
@settings(max_examples=40, deadline=None)
@given(seed=seeds, m=sizes, n=sizes | st.integers(60, 70), k=lengths, leading=st.sampled_from(((), (1,), (3,), (2, 3), (0,), (1, 2, 1))))
def test_int8_product_equals_int64(backend, seed, m, n, k, leading):
    rng = np.random.default_rng(seed)
    x, w = random_int8(rng, (*leading, m, k)), random_int8(rng, (*leading, n, k))
    assert_equal(kernels.int8_matmul(x, w, backend), int64_product(x, w))
    assert_equal(kernels.int8_matmul(x, np.ascontiguousarray(w.swapaxes(-1, -2)), backend, by_inputs=True), int64_product(x, w))


@every_backend
@every_family
@pytest.mark.parametrize("value", (-128, 127, -1))
@pytest.mark.parametrize("code", (-1, 1))
def test_the_longest_ternary_product_is_exact(backend, family, value, code):
    x = np.full((2, K_MAX), value, np.int8)
    planes = bitplanes.pack_planes(np.full((3, K_MAX), code, np.int8))
    assert_equal(kernels.ternary_matmul(x, planes, K_MAX, backend, family=family), np.full((2, 3), value * code * K_MAX))


@every_backend
@pytest.mark.parametrize("a, b", ((-128, -128), (-128, 127), (127, 127)))
def test_the_longest_int8_product_is_exact(backend, a, b):
    k = K_MAX - 1
    got = kernels.int8_matmul(np.full((2, k), a, np.int8), np.full((1, k), b, np.int8), backend)
    assert_equal(got, np.full((2, 1), a * b * k))


@every_backend
def test_longer_products_are_rejected(backend):
    x = np.zeros((1, K_MAX + 1), np.int8)
    with pytest.raises(UsageError, match="131072"):
        kernels.ternary_matmul(x, bitplanes.pack_planes(x), K_MAX + 1, backend)
    with pytest.raises(UsageError, match="131071"):
        kernels.int8_matmul(x[:, :K_MAX], x[:, :K_MAX], backend)


@every_backend
def test_arrays_may_lie_anywhere_in_memory(backend):
    rng = np.random.default_rng(1)
    x, codes = random_int8(rng, (130, 7)).T, random_int8(rng, (10, 260), -1, 1)[::2, ::2]
    planes = np.asfortranarray(kernels.pack_planes(codes, backend))
    assert_equal(kernels.ternary_matmul(x, planes, 130, backend), int64_product(x, codes))
    assert_equal(kernels.int8_matmul(x, codes, backend), int64_product(x, codes))
    unaligned = np.frombuffer(b"\0" + planes.tobytes(), np.uint64, planes.size, offset=1).reshape(planes.shape)
    assert_equal(kernels.ternary_matmul(x, unaligned, 130, backend), int64_product(x, codes))


@every_backend
def test_results_do_not_depend_on_the_number_of_threads(backend, thread_count, monkeypatch):
    monkeypatch.setattr(kernels, "SMALL_PRODUCT", 0)
    rng = np.random.default_rng(2)
    x, codes = random_int8(rng, (37, 200)), random_int8(rng, (23, 200), -1, 1)
    heads, others = random_int8(rng, (5, 9, 64)), random_int8(rng, (5, 4, 64))
    planes = bitplanes.pack_planes(codes)
    for count in (1, 2, 3, 64):
        thread_count(count)
        assert_equal(kernels.ternary_matmul(x, planes, 200, backend), int64_product(x, codes))
        assert_equal(kernels.int8_matmul(x, codes, backend), int64_product(x, codes))
        assert_equal(kernels.int8_matmul(heads, others, backend), int64_product(heads, others))


@every_backend
def test_kernels_may_be_called_from_many_threads_at_once(backend, thread_count, monkeypatch):
    monkeypatch.setattr(kernels, "SMALL_PRODUCT", 0)
    thread_count(3)

    def run(seed):
        rng = np.random.default_rng(seed)
        x, codes = random_int8(rng, (20, 300)), random_int8(rng, (30, 300), -1, 1)
        got = kernels.ternary_matmul(x, kernels.pack_planes(codes, backend), 300, backend)
        return np.array_equal(got, int64_product(x, codes))

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(run, range(64)))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_has_threads_of_its_own(thread_count):
    thread_count(2)
    assert len(threads.split_rows(4, 2, lambda a, b: b - a)) == 2
    child = os.fork()
    if child == 0:
        os._exit(sum(threads.split_rows(4, 2, lambda a, b: b - a)))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 4


@pytest.mark.parametrize("n", (0, -1, 1.5, "2", None, True, 10**9))
def test_a_wrong_number_of_threads_is_an_error(n):
    with pytest.raises(UsageError, match="number of threads"):
        kernels.set_threads(n)


def test_threads_come_from_the_environment(thread_count, monkeypatch):
    threads._count = None
    monkeypatch.setenv("REFVIT_THREADS", "3")
    assert kernels.threads() == 3
    thread_count(2)
    assert kernels.threads() == 2


@pytest.mark.parametrize("text", ("0", "-1", "two", "", "1.5", "9" * 5000))
def test_a_wrong_environment_is_an_error(text, thread_count, monkeypatch):
    threads._count = None
    monkeypatch.setenv("REFVIT_THREADS", text)
    with pytest.raises(UsageError, match="REFVIT_THREADS: number of threads"):
        kernels.threads()


def test_backends_are_listed_best_first():
    assert BACKENDS[-1] == "numpy"
    assert BACKENDS == [row["name"] for row in info()["backends"] if row["usable"]]
    assert all((row["why"] is None) == row["usable"] for row in info()["backends"])


@every_backend
def test_the_environment_forces_a_backend(backend, monkeypatch):
    monkeypatch.setenv("REFVIT_BACKEND", backend)
    assert info()["default"] == backend
    assert kernels.backends() == BACKENDS


@pytest.mark.parametrize("name", ("sse9", "", "AVX2"))
def test_an_unknown_backend_is_an_error_that_lists_the_usable_ones(name, monkeypatch):
    with pytest.raises(UsageError, match=", ".join(BACKENDS)):
        kernels.pack_planes(np.zeros((1, 1), np.int8), name)
    monkeypatch.setenv("REFVIT_BACKEND", name)
    for call in (kernels.backends, info, lambda: kernels.pack_planes(np.zeros((1, 1), np.int8))):
        with pytest.raises(UsageError, match=", ".join(BACKENDS)):
            call()


def test_without_the_extension_numpy_alone_is_left():
    code = (
        "import sys; sys.modules['refvit._kernels'] = None\n"
        "import numpy as np\n"
        "from refvit import kernels\n"
        "from refvit.backend import info\n"
        "assert kernels.backends() == ['numpy']\n"
        "assert 'C compiler' in info()['backends'][0]['why']\n"
        "x = np.ones((2, 70), np.int8)\n"
        "assert (kernels.ternary_matmul(x, kernels.pack_planes(x), 70) == 70).all()\n"
    )
    environment = {k: v for k, v in os.environ.items() if k != "REFVIT_BACKEND"}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)


def good_arguments():
    return {"x": np.zeros((2, 70), np.int8), "planes": np.zeros((2, 3, 2), np.uint64), "k": 70, "bits": 8}


@every_backend
@pytest.mark.parametrize(
    "name, value",
    (
        ("x", np.zeros((2, 70), np.uint8)),
        ("x", np.zeros((2, 70))),
        ("x", np.zeros((2, 69), np.int8)),
        ("x", np.zeros(70, np.int8)),
        ("x", [[0] * 70] * 2),
        ("planes", np.zeros((2, 3, 2), np.int64)),
        ("planes", np.zeros((2, 3, 1), np.uint64)),
        ("planes", np.zeros((1, 3, 2), np.uint64)),
        ("planes", np.zeros((3, 2), np.uint64)),
        ("planes", None),
        ("k", 70.0),
        ("k", -1),
        ("k", 64),
        ("k", None),
        ("bits", 0),
        ("bits", 9),
        ("bits", "8"),
    ),
)
def test_wrong_arguments_of_the_ternary_product_are_errors(backend, name, value):
    kernels.ternary_matmul(**good_arguments(), backend=backend)
    with pytest.raises(UsageError, match="ternary_matmul"):
        kernels.ternary_matmul(**{**good_arguments(), name: value}, backend=backend)


@every_backend
@pytest.mark.parametrize("bits", range(1, 8))
def test_codes_beyond_their_bits_are_errors(backend, bits):
    for code in (1 << (bits - 1), -(1 << (bits - 1)) - 1):
        arguments = good_arguments() | {"x": np.full((2, 70), code, np.int8), "bits": bits}
        with pytest.raises(UsageError, match=f"codes of {bits} bits"):
            kernels.ternary_matmul(**arguments, backend=backend)


@every_backend
@pytest.mark.parametrize(
    "pos, neg, place",
    ((1 << 5, 1 << 5, "row 2, column 69"), (0, 1 << 6, "padding at row 2, column 70"), (1 << 63, 0, "padding at row 2, column 127")),
)
def test_planes_that_break_the_rule_are_errors(backend, pos, neg, place):
    planes = np.zeros((2, 3, 2), np.uint64)
    planes[:, 2, 1] = pos, neg
    with pytest.raises(BadInputError, match=place):
        kernels.ternary_matmul(**good_arguments() | {"planes": planes}, backend=backend)


@every_backend
@pytest.mark.parametrize(
    "x, w",
    (
        (np.zeros((2, 3), np.int8), np.zeros((2, 4), np.int8)),
        (np.zeros((2, 2, 3), np.int8), np.zeros((2, 3), np.int8)),
        (np.zeros((2, 2, 3), np.int8), np.zeros((3, 2, 3), np.int8)),
        (np.zeros((2, 3), np.int16), np.zeros((2, 3), np.int8)),
        (np.zeros(3, np.int8), np.zeros(3, np.int8)),
        (None, np.zeros((2, 3), np.int8)),
    ),
)
def test_wrong_arguments_of_the_int8_product_are_errors(backend, x, w):
    with pytest.raises(UsageError, match="int8_matmul"):
        kernels.int8_matmul(x, w, backend)


@every_backend
@pytest.mark.parametrize("codes", (np.full((2, 3), 2, np.int8), np.zeros((2, 3)), np.zeros(3, np.int8), None))
def test_packing_rejects_what_is_not_ternary(backend, codes):
    with pytest.raises(BadInputError, match="ternary codes"):
        kernels.pack_planes(codes, backend)


@pytest.mark.skipif(lib is None, reason="needs the C kernels")
@pytest.mark.parametrize("backend", [name for name in kernels.backends() if name != "numpy"])
def test_products_of_no_inputs_are_zero(backend):
    out, counts, null, level = np.full(6, 7, np.int32), np.zeros(3, np.int32), ffi.NULL, LEVELS[backend]
    assert lib.refvit_ternary_matmul(level, 2, 3, 0, 8, null, null, pointer(counts), null, 0, pointer(out)) == lib.REFVIT_OK
    assert out.tolist() == [0] * 6


@pytest.mark.skipif(lib is None, reason="needs the C kernels")
def test_the_c_entries_check_sizes_themselves():
    null = ffi.NULL
    ternary = [lib.REFVIT_PORTABLE, 1, 1, 64, 8, null, null, null, null, 8, null]
    for index, value, status in (
        (0, lib.REFVIT_RVZBB + 1, lib.REFVIT_BAD_BACKEND),
        (0, -1, lib.REFVIT_BAD_BACKEND),
        (3, K_MAX + 1, lib.REFVIT_BAD_SIZE),
        (4, 0, lib.REFVIT_BAD_SIZE),
        (4, 9, lib.REFVIT_BAD_SIZE),
        (9, 7, lib.REFVIT_BAD_SIZE),
    ):
        arguments = [*ternary[:index], value, *ternary[index + 1 :]]
        assert lib.refvit_ternary_matmul(*arguments) == status
    assert lib.refvit_ternary_dot(lib.REFVIT_PORTABLE, 1, 1, K_MAX + 1, *[null] * 5) == lib.REFVIT_BAD_SIZE
    assert lib.refvit_ternary_dot(9, 1, 1, 1, *[null] * 5) == lib.REFVIT_BAD_BACKEND
    assert lib.refvit_int8_dot(lib.REFVIT_PORTABLE, 1, 1, 1, K_MAX, null, null, 0, *[null] * 3) == lib.REFVIT_BAD_SIZE
    assert lib.refvit_int8_dot(9, 1, 1, 1, 1, null, null, 0, *[null] * 3) == lib.REFVIT_BAD_BACKEND
    assert lib.refvit_pack_planes(9, 1, 1, null, null) == lib.REFVIT_BAD_BACKEND


@pytest.mark.skipif(lib is None, reason="needs the C kernels")
def test_the_c_entries_of_float_rows_check_backends_and_sizes_themselves():
    null = ffi.NULL
    arguments = {
        "symmetric_scale": (1, 1, 8, null, null),
        "minmax_scale": (1, 1, 8, null, null, null),
        "quantize_rows": (1, 1, -127, 127, null, null, null, null),
        "rescale": (1, 1, null, null, null, null, null),
        "layernorm": (1, 1, null, null, null, 0.0, null),
        "softmax": (1, 1, null, null),
        "gelu": (1, null, null),
        "exp": (1, null, null),
        "erf": (1, null, null),
        "gelu_codes": (1, 1, 8, null, null, null, null),
        "softmax_codes": (1, 1, null, null, null),
        "matmul16": (1, 1, 1, 1, null, null, null),
    }
    for name, values in arguments.items():
        for backend in (-1, 9):
            assert getattr(lib, f"refvit_{name}")(backend, *values) == lib.REFVIT_BAD_BACKEND, name
    for bits in (1, 9):
        assert lib.refvit_symmetric_scale(0, 1, 1, bits, null, null) == lib.REFVIT_BAD_SIZE
        assert lib.refvit_minmax_scale(0, 1, 1, bits, null, null, null) == lib.REFVIT_BAD_SIZE
        assert lib.refvit_gelu_codes(0, 1, 1, bits, null, null, null, null) == lib.REFVIT_BAD_SIZE
    for low, high in ((-129, 127), (-128, 128), (1, 0)):
        assert lib.refvit_quantize_rows(0, 1, 1, low, high, null, null, null, null) == lib.REFVIT_BAD_SIZE
    assert lib.refvit_softmax(0, 1, 0, null, null) == lib.REFVIT_BAD_SIZE
    assert lib.refvit_softmax_codes(0, 1, 0, null, null, null) == lib.REFVIT_BAD_SIZE
    assert lib.refvit_layernorm(0, 1, 0, null, null, null, 0.0, null) == lib.REFVIT_BAD_SIZE
