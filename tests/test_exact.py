"""The exactly ordered float operations: order of sums, accuracy of exp and erf, special values (N8, N9)."""

import math
from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from refvit import exact
from refvit.erf_table import ERF_TABLE
from tests.strategies import finite, matrices

ROOT = Path(__file__).parents[1]


def sum16_word_for_word(row):
    partial = [np.float32(0)] * 16
    for i, value in enumerate(row):
        partial[i % 16] = np.float32(partial[i % 16] + value)
    for half in (8, 4, 2, 1):
        partial = [np.float32(partial[i] + partial[i + half]) for i in range(half)]
    return partial[0]


@given(matrices(finite, cols=st.integers(0, 70)))
def test_sum16_is_the_stated_order(x):
    assert exact.sum16(x).tolist() == [sum16_word_for_word(row) for row in x]


def ulps(y, reference):
    """|y - reference| in units of the last place of the correctly rounded float32."""
    spacing = np.spacing(np.abs(reference).astype(np.float32)).astype(np.float64)
    return np.abs(y.astype(np.float64) - reference) / spacing


def test_exp_is_within_0_51_ulp():
    """Rounding once costs half an ulp; the float64 part is off by far less than 0.01 ulp (2^-31)."""
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.uniform(-104, 88.7, 100_000), rng.uniform(-1, 1, 50_000)]).astype(np.float32)
    assert ulps(exact.exp(x), np.array([math.exp(float(v)) for v in x])).max() < 0.51


def test_erf_is_within_0_51_ulp():
    rng = np.random.default_rng(1)
    spread = np.concatenate([rng.uniform(-4.5, 4.5, 100_000), 10.0 ** rng.uniform(-37, 1, 50_000)])
    edges = np.concatenate([np.arange(-17, 18) / 4, np.nextafter(np.float32(4), [0, 9]), [np.finfo(np.float32).tiny]])
    x = np.concatenate([spread, edges]).astype(np.float32)
    assert ulps(exact.erf(x), np.array([math.erf(float(v)) for v in x])).max() < 0.51


def test_exp_at_its_ends():
    x = np.array([-np.inf, -1e30, -104, -103.9, 0, -0.0, 88.72283, 88.7229, 1e30, np.inf], np.float32)
    expected = np.array([0, 0, 0, 2.0**-149, 1, 1, 3.4027985e38, np.inf, np.inf, np.inf], np.float32)
    assert exact.exp(x)[[0, 1, 2, 3, 4, 5, 7, 8, 9]].tolist() == expected[[0, 1, 2, 3, 4, 5, 7, 8, 9]].tolist()
    assert np.isfinite(exact.exp(x)[6])


def test_erf_is_odd_and_saturates():
    x = np.array([0.0, 4, 5, np.inf], np.float32)
    assert exact.erf(x).tolist() == [0.0, 1.0, 1.0, 1.0]
    assert exact.erf(-x).tolist() == [0.0, -1.0, -1.0, -1.0] and np.signbit(exact.erf(-x)[0])


def test_python_and_c_hold_the_same_erf_table():
    text = (ROOT / "csrc" / "rows" / "erf_table.h").read_text()
    body = text[text.index("{") :]
    numbers = [float.fromhex(t.strip(" {};\n")) for t in body.split("#endif")[0].split(",")]
    assert numbers == ERF_TABLE.ravel().tolist()


@given(matrices(finite, cols=st.integers(1, 70)))
def test_layernorm_step_by_step(x):
    k = x.shape[1]
    g = np.linspace(-2, 2, k, dtype=np.float32)
    b = np.linspace(1, -1, k, dtype=np.float32)
    y = exact.layernorm(x, g, b, 1e-6)
    for row, out in zip(x, y):
        mean = np.float32(sum16_word_for_word(row) / np.float32(k))
        d = [np.float32(v - mean) for v in row]
        var = np.float32(sum16_word_for_word([np.float32(v * v) for v in d]) / np.float32(k))
        root = np.float32(np.sqrt(np.float32(var + np.float32(1e-6))))
        assert out.tolist() == [np.float32(np.float32(np.float32(v / root) * w) + c) for v, w, c in zip(d, g, b)]


@given(matrices(st.floats(-50, 50, width=32), cols=st.integers(1, 70)))
def test_softmax_rows_are_probabilities(x):
    """Each p is off by at most some 2^-22 relative (exp, sum of 16 chains, division): K of them by K 2^-22 in all."""
    p = exact.softmax(x)
    assert (p >= 0).all() and (p <= 1).all()
    assert np.abs(p.astype(np.float64).sum(axis=1) - 1).max() <= x.shape[1] * 2.0**-22


def test_rescale_rounds_each_step():
    """2^24 + 1 is not a float32; the product with s is rounded before alpha multiplies it; then the bias is added."""
    acc = np.array([[2**24 + 1, 2**31 - 1, -(2**24) - 3]], np.int32)
    s, alpha, bias = np.float32([0.1]), np.float32([0.3, 1e-3, 7.0]), np.float32([1e-3, 1e5, -0.5])
    y = exact.rescale(acc, s, alpha, bias)
    for i in range(3):
        step = np.float32(np.float32(float(acc[0, i])) * s[0])
        assert y[0, i] == np.float32(np.float32(step * alpha[i]) + bias[i])


def test_matmul16_is_sum16_of_products():
    rng = np.random.default_rng(2)
    a, b = rng.standard_normal((2, 3, 37)).astype(np.float32)
    assert exact.matmul16(a, b).tolist() == [[sum16_word_for_word(x * y) for y in b] for x in a]
