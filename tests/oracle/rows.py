"""sum16 and N9: exp, erf, GELU, LayerNorm, softmax. Constants and coefficients are read from the tables of SPEC.md."""

import re
from math import copysign, isnan, ldexp, sqrt
from pathlib import Path

from .errors import Refused
from .floats import divide, f32, has_nan

SPEC = (Path(__file__).parents[1] / "vectors" / "SPEC.md").read_text(encoding="utf-8")


def cells_of(line):
    return [float.fromhex(text) for text in re.findall(r"`(-?0x[^`]*)`", line)]


def constants(name):
    """The hexadecimal floats in the row of SPEC.md's table of constants that starts with this name."""
    return cells_of(re.search(rf"^\| {name} \|.*", SPEC, re.MULTILINE).group())


def table(columns):
    """The rows of N9 with so many hexadecimal floats each."""
    text = SPEC[SPEC.index("### N9 ") : SPEC.index("### N10 ")]
    return [row for row in map(cells_of, text.splitlines()) if len(row) == columns]


(LOG2E,) = constants("LOG2E")
LN2_HI, LN2_LO = constants("LN2_HI, LN2_LO")
(INV_SQRT2,) = constants("INV_SQRT2")
EXP_LOW, EXP_HIGH = -104.0, 89.0
EXP = [row[0] for row in table(2)] + [row[1] for row in table(2)]  # c[0..9]
ERF = table(8)


def sum16(x):
    p = [0.0] * 16
    for i, v in enumerate(x):
        p[i % 16] = f32(p[i % 16] + v)
    for h in (8, 4, 2, 1):
        for j in range(h):
            p[j] = f32(p[j] + p[j + h])
    return p[0]


def exp(x):
    if isnan(x):
        return x
    v = min(max(x, EXP_LOW), EXP_HIGH)
    n = round(v * LOG2E)
    r = (v - n * LN2_HI) - n * LN2_LO
    p = EXP[9]
    for c in reversed(EXP[:9]):
        p = p * r + c
    return f32(ldexp(p, n))


def erf(x):
    a = abs(x)
    if isnan(x):
        return x
    if a >= 4:
        return copysign(1.0, x)
    y = a * 4
    i = int(y)
    t = (y - i) - 0.5
    p = ERF[i][7]
    for c in reversed(ERF[i][:7]):
        p = p * t + c
    return copysign(f32(a * p), x)


def gelu(x):
    y = f32(f32(x * 0.5) * f32(1.0 + erf(f32(x * INV_SQRT2))))
    if isnan(y):
        raise Refused("GELU gives NaN")
    return y


def layernorm(x, weight, bias, eps):
    """One row [K]; eps is f32."""
    n = float(len(x))
    mean = f32(sum16(x) / n)
    d = [f32(v - mean) for v in x]
    var = f32(sum16([f32(v * v) for v in d]) / n)
    r = f32(sqrt(f32(var + eps)))
    y = [f32(f32(f32(divide(v, r)) * g) + b) for v, g, b in zip(d, weight, bias)]
    if has_nan(y):
        raise Refused("LayerNorm gives NaN")
    return y


def softmax(x):
    """One row [K]."""
    m = max(x)
    e = [exp(f32(v - m)) for v in x]
    z = sum16(e)
    y = [f32(divide(v, z)) for v in e]
    if has_nan(y):
        raise Refused("softmax gives NaN")
    return y


def float_product(a, b):
    """The product of two rows, for attention "float"."""
    y = sum16([f32(v * w) for v, w in zip(a, b)])
    if isnan(y):
        raise Refused("a product gives NaN")
    return y
