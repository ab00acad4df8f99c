"""The 8-bit quantizers against their rules, in exact fractions (N1, N4, N5, N6)."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from refvit import quant
from refvit.errors import BadInputError
from tests.strategies import any_float, finite, matrices

BITS = st.integers(2, 8)


def half_even(x):
    """Fraction -> nearest integer, ties to even."""
    return round(x)


def f32(x):
    """Fraction -> nearest float32, ties to even; only for values in the normal range."""
    x = Fraction(x)
    if x == 0:
        return Fraction(0)
    exponent = 0
    while abs(x) >= Fraction(2) ** (exponent + 1):
        exponent += 1
    while abs(x) < Fraction(2) ** exponent:
        exponent -= 1
    unit = Fraction(2) ** (exponent - 23)
    return round(x / unit) * unit


tame = st.integers(-(2**20), 2**20).map(lambda v: v / 1024.0)


@given(matrices(tame), BITS)
def test_symmetric_equals_exact_arithmetic(x, bits):
    q, s, zp = quant.quantize_rows(x, bits, "symmetric")
    top = 2 ** (bits - 1) - 1
    for row, codes, scale in zip(x.tolist(), q.tolist(), s.tolist()):
        amax = max(abs(Fraction(v)) for v in row)
        expected = f32(amax / top) or Fraction(1)
        assert Fraction(scale) == expected
        assert codes == [min(top, max(-top, half_even(f32(Fraction(v) / expected)))) for v in row]
    assert not zp.any()


@given(matrices(tame), BITS)
def test_minmax_equals_exact_arithmetic(x, bits):
    q, s, zp = quant.quantize_rows(x, bits, "minmax")
    low, high = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    for row, codes, scale, zero in zip(x.tolist(), q.tolist(), s.tolist(), zp.tolist()):
        lo, hi = min(0, *map(Fraction, row)), max(0, *map(Fraction, row))
        expected = f32(f32(hi - lo) / (2**bits - 1)) or Fraction(1)
        point = min(high, max(low, half_even(f32(low - f32(lo / expected)))))
        assert Fraction(scale) == expected and zero == point
        assert codes == [min(high, max(low, half_even(f32(Fraction(v) / expected)) + point)) for v in row]


@given(matrices(any_float), BITS, st.sampled_from(("symmetric", "minmax")))
def test_any_finite_or_infinite_row_gives_codes_in_range(x, bits, quantizer):
    q, s, zp = quant.quantize_rows(x, bits, quantizer)
    low, high = quant.code_range(bits, quantizer)
    assert q.min(initial=0) >= low or quantizer == "minmax"
    assert (q >= low).all() and (q <= high).all() and (zp >= low).all() and (zp <= high).all()
    assert np.isfinite(s).all() and (s >= np.float32(2.0**-126)).all()
    assert (q[x == np.inf] == high).all() and (q[x == -np.inf] == low).all()


@given(matrices(finite), BITS, st.sampled_from(("symmetric", "minmax")))
def test_dequantized_values_are_within_half_a_step(x, bits, quantizer):
    """|x - s (q - zp)| <= s / 2 unclipped; rounding x / s, s and lo / s in float32 moves a code's edge by at most
    2^-22 of the range, and min-max may clip one half step more at an end, where the zero point itself was rounded."""
    q, s, zp = quant.quantize_rows(x, bits, quantizer)
    error = np.abs(quant.dequantize_rows(q, s, zp).astype(np.float64) - x)
    steps = 0.5 if quantizer == "symmetric" else 1.0
    tiny = np.abs(x).max(axis=1) < 1e-30  # s = 1 there: everything becomes 0
    assert (error <= (steps + 2.0**-22 * 2**bits) * s[:, None].astype(np.float64))[~tiny].all()


def test_ties_go_to_even():
    x = np.array([[127.0, 0.5, 1.5, 2.5, -0.5, -1.5, -2.5]], np.float32)
    q, s, _ = quant.quantize_rows(x)
    assert s.tolist() == [1.0] and q.tolist() == [[127, 0, 2, 2, 0, -2, -2]]


def test_zero_and_tiny_rows_have_scale_one():
    x = np.array([[0.0, -0.0], [2.0**-140, 0.0]], np.float32)
    for quantizer, zero in (("symmetric", 0), ("minmax", -128)):
        q, s, zp = quant.quantize_rows(x, 8, quantizer)
        assert s.tolist() == [1.0, 1.0] and zp.tolist() == [zero, zero] and (q == zero).all()


def test_minmax_of_the_whole_float_range():
    top = np.finfo(np.float32).max
    q, s, zp = quant.quantize_rows(np.array([[top, -top, 0.0]], np.float32), 8, "minmax")
    assert np.isfinite(s).all() and q.tolist() == [[127, -128, zp[0]]]


def test_nan_is_an_error_that_says_where():
    with pytest.raises(BadInputError, match="row 1, column 2"):
        quant.quantize_rows(np.array([[0, 0, 0], [0, 0, np.nan]], np.float32))


@given(matrices(finite))
def test_weights_at_8_bit(w):
    codes, scale = quant.weight_int8(w)
    for row, c, s in zip(w, codes, scale):
        amax = np.abs(row).max()
        assert s == (np.float32(amax / np.float32(127)) if amax / np.float32(127) >= np.float32(2.0**-126) else 1.0)
        assert (c == np.clip(np.rint(row / s), -127, 127)).all()


@given(matrices(finite))
def test_layer_wise_weights_at_8_bit_share_the_largest_scale(w):
    codes, scale = quant.weight_int8(w, "layer")
    flat, one = quant.weight_int8(w.reshape(1, -1))
    assert (codes.ravel() == flat[0]).all() and (scale == one[0]).all() and scale.shape == (len(w),)


@given(matrices(finite), BITS, st.sampled_from(("symmetric", "minmax")))
def test_straight_through_mask_is_where_nothing_was_clipped(x, bits, quantizer):
    s = np.full(len(x), 3.0, np.float32)
    zp = np.full(len(x), 0 if quantizer == "symmetric" else 1, np.int32)
    low, high = quant.code_range(bits, quantizer)
    free = np.rint(x.astype(np.float32) / np.float32(3)) + zp[:, None]
    assert (quant.unclipped(x, s, zp, bits, quantizer) == ((free >= low) & (free <= high))).all()


@given(matrices(finite, rows=st.integers(2, 5)), st.sampled_from(("symmetric", "minmax")))
def test_a_row_does_not_depend_on_its_neighbours(x, quantizer):
    q, s, zp = quant.quantize_rows(x, 8, quantizer)
    for i in range(len(x)):
        alone = quant.quantize_rows(x[i : i + 1], 8, quantizer)
        assert (alone[0][0] == q[i]).all() and alone[1][0] == s[i] and alone[2][0] == zp[i]
