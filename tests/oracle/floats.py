"""binary32 by explicit rounding, and the machine's binary64 (SPEC section 1).

`nearest` is the definition. `f32` has the same result for a value already in binary64. That `f32(a + b)` is the
correctly rounded binary32 sum of f32 values, though a + b was rounded to binary64 first, holds for + - * / and sqrt,
because 53 >= 2 * 24 + 2 (Figueroa 1995). Subnormal results too: of + and - they are exact, a product is exact in
binary64, and a quotient that is no midpoint of two f32 values differs from each by more than 2^-49 of itself.
"""

from fractions import Fraction
from math import copysign, frexp, inf, isnan, ldexp, nan

MIN_NORMAL = 2.0**-126
GRID = 1.5 * 2.0**28  # its neighbours in binary64 are 2^-24 apart: adding it rounds a value in [0.5, 1] to 24 digits
SUBNORMAL_GRID = 1.5 * 2.0**-97  # neighbours 2^-149 apart


def nearest(v):
    """f32(v) of a Fraction: the multiple of the spacing at v that is nearest, ties to even; a zero is +0."""
    exponent = abs(v.numerator).bit_length() - v.denominator.bit_length()  # that of v, or one more
    if abs(v) < Fraction(2) ** exponent:
        exponent -= 1
    spacing = Fraction(2) ** max(exponent - 23, -149)
    rounded = round(v / spacing) * spacing
    return float(rounded) if abs(rounded) < 2**128 else copysign(inf, v)


def f32(v):
    """f32(v) of a float: two exact steps around one addition that rounds, ties to even."""
    if abs(v) < MIN_NORMAL:
        return copysign((abs(v) + SUBNORMAL_GRID) - SUBNORMAL_GRID, v)
    m, exponent = frexp(v)
    m = (m + GRID) - GRID
    if exponent >= 128 and (exponent > 128 or abs(m) == 1.0):
        return copysign(inf, v)
    return ldexp(m, exponent)


def divide(a, b):
    """f64(a / b) as IEEE-754 has it, also where b is zero."""
    if b:
        return a / b
    return nan if isnan(a) or a == 0 else copysign(inf, a) * copysign(1.0, b)


def from_bits(bits):
    """The value of a binary32 pattern."""
    fraction, exponent = bits & 0x7FFFFF, bits >> 23 & 0xFF
    if exponent == 0xFF:
        v = nan if fraction else inf
    else:
        v = ldexp(fraction + (0x800000 if exponent else 0), max(exponent, 1) - 150)
    return -v if bits >> 31 else v


def to_bits(v):
    """The binary32 pattern of an f32 value; an error for a value that was not rounded."""
    sign = 0x80000000 if copysign(1.0, v) < 0 else 0
    if isnan(v):
        return 0x7FC00000
    if abs(v) == inf:
        return sign | 0x7F800000
    exponent = max(frexp(v)[1] - 24, -149) if v else -149
    integer = ldexp(abs(v), -exponent)
    if integer != int(integer):
        raise ValueError(f"{v.hex()} is not a binary32 value")
    return sign | (exponent + 149 << 23) + int(integer)  # the leading digit of a normal number counts exponents by one


def has_nan(values):
    return any(map(isnan, values))
