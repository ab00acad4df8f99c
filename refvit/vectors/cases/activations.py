"""Scales, zero points and codes of activations (N4, N5, N6)."""

from functools import partial

import numpy as np

from ...quant import code_range, minmax_scale, symmetric_scale
from ...rules import f32, qmax
from .draft import Draw, draft, floats

QUANTIZERS = ("symmetric", "minmax")
TINY, LEAST = 2.0**-149, 2.0**-126


def cases(level):
    yield from scales(8 if level == 1 else 64)
    yield from zero_points()
    yield from static_scales()
    yield from codes(8 if level == 1 else 64)


def scale(label, comment, x, rules="N4", bits=8, quantizer="symmetric", groups=None, expectation="exact"):
    x = np.atleast_2d(np.asarray(x, f32))
    how = {"bits": bits, "quantizer": quantizer, "groups": len(x) if groups is None else groups}
    return draft("scale", label, comment, rules, {"x": x}, how, expectation)


def scales(rows):
    for quantizer in QUANTIZERS:
        for bits in range(2, 9):
            x = Draw(f"scale {quantizer} {bits}").normal(rows, 37, std=bits)
            yield scale(f"{quantizer}-{bits}", f"{bits} bits", x, "N4", bits, quantizer)
        yield from scales_of(partial(scale, quantizer=quantizer), quantizer)
    wide = [floats(3e38, -3e38, 1), floats("0x1.fffffep+127", "-0x1.fffffep+127", 0), floats(2e38, -1.5e38, 7)]
    about = "hi - lo overflows: both are divided first"
    yield scale("minmax-overflow", about, wide, "N4 N5", quantizer="minmax")
    column = floats(1, 2.5, 3.3, 5.1, 6.7, 7.9, 9.3, 11.3)[:, None]
    yield scale("symmetric-reciprocal", "amax / 127 is not amax * (1 / 127) in these rows", column)


def scales_of(case, name):
    """Cases of both quantizers."""
    least = f32(127 if name == "symmetric" else 255) * f32(LEAST)
    small = np.zeros((9, 3), f32)
    small[:, 1] = np.concatenate([near(least), near(least * f32(0.5)), floats(0, TINY, LEAST)])
    about = "scales around 2^-126, below which s is 1; zeros and subnormals"
    yield case(f"{name}-smallest", about, small, "N4 N5 N14")
    x = Draw(f"infinite {name}").normal(5, 6)
    x[0, 2], x[1, 0], x[2] = np.inf, -np.inf, [np.inf, -np.inf, 1, -2, 0, 3]
    x[3], x[4] = np.inf, [-np.inf, np.inf, 0, 0, TINY, -TINY]
    yield case(f"{name}-infinite", "infinities do not count; a row of nothing else has s = 1", x, "N4 N5")
    x = Draw(f"groups {name}").normal(12, 10) * (f32(1) + np.arange(12, dtype=f32))[:, None]
    for groups in (1, 3, 4):
        about = f"{groups} scales for 12 rows: each covers a run of rows"
        yield case(f"{name}-groups-{groups}", about, x, "N4 N6", groups=groups)
    yield case(f"{name}-nan", "a NaN is an error", floats(1, np.nan, 2), "N5", expectation="reject")
    yield case(f"{name}-one-value", "K = 1", Draw("one").normal(9, 1))
    x = Draw(f"signs {name}").uniform(1, 3, 2, 9) * floats(1, -1)[:, None]
    yield case(f"{name}-one-sign", "rows of one sign: 0 belongs to the range", x)


def near(value):
    """A float32 and its neighbours."""
    return np.array([np.nextafter(value, f32(0)), value, np.nextafter(value, f32(1))], f32)


def zero_points():
    def case(label, comment, x, bits=8, groups=None, rules="N4"):
        x = np.atleast_2d(np.asarray(x, f32))
        groups = len(x) if groups is None else groups
        s, _ = minmax_scale(x.reshape(groups, -1), bits)
        inputs = {"x": x, "s": np.repeat(s, len(x) // groups)}
        return draft("zero_point", label, comment, rules, inputs, {"bits": bits, "groups": groups})

    for bits in range(2, 9):
        yield case(f"bits-{bits}", f"{bits} bits", Draw(f"zero point {bits}").normal(24, 9) + f32(0.3), bits)
    ends = [floats(1, 2, 3), floats(-1, -2, -3), floats(0, 0, 0), floats(5, 0, 0), floats(-5, 0, 0)]
    yield case("ends", "only positive, only negative, zeros: the lowest and the highest zero point", ends)
    ties = [floats(-(m + 0.5), 255 - (m + 0.5), 0) for m in range(0, 12)]
    yield case("ties", "lo / s = -(m + 1/2), s = 1: ties go to even", ties)
    x = Draw("zero point quotients").uniform(-1, 1, 500, 2)
    yield case("quotients", "lo / s and its difference from -128 are rounded, each once", x)
    about = "lo / s is not lo * (1 / s): the zero point differs"
    yield case("division", about, beside_ties(lambda lo, s: np.rint(f32(-128) - lo * (f32(1) / s))))
    about = "-128 is subtracted before the rounding to an integer, not after it"
    yield case("difference", about, beside_ties(lambda lo, s: f32(-128) - np.rint(lo / s)))
    tiny = [floats(TINY, -TINY), floats(LEAST, -LEAST)]
    yield case("tiny", "s is 1 before zp is computed, for subnormals", tiny, rules="N4 N5 N14")
    yield case("infinite", "infinities do not count", [floats(np.inf, -2, 3), floats(-np.inf, 4, -1)], rules="N4 N5")
    yield case("overflow", "hi - lo overflows", [floats(3e38, -3e38), floats(3e38, -1e38)], rules="N4 N5")
    x = Draw("zero point groups").normal(8, 5) * (f32(1) + np.arange(8, dtype=f32))[:, None]
    yield case("groups", "two zero points for 8 rows", x, groups=2, rules="N4 N6")


def beside_ties(other):
    """Rows [lo, hi] with lo / s at or beside m + 1/2, where another rule, lo, s -> zp, gives another zero point."""
    draw = Draw("quotients at ties")
    s, m = draw.uniform(0.01, 0.02, 4000), draw.integers(0, 126, 4000) + 0.5
    rows = np.stack([-m * s, (255 - m) * s], axis=1).astype(f32)
    s, zp = minmax_scale(rows, 8)
    return rows[np.clip(other(rows[:, 0], s), -128, 127) != zp][:16]


def static_scales():
    ranges = {
        "usual": (3.3, -2.1, 3.3),
        "positive": (6.0, 0.0, 6.0),
        "negative": (4.7, -4.7, 0.0),
        "zero": (0.0, 0.0, 0.0),
        "tiny": (LEAST, -LEAST, TINY),
        "overflow": (3e38, -3e38, 3e38),
        "tie": (252.5, -2.5, 252.5),
        "tie-down": (253.5, -1.5, 253.5),
    }
    for label, values in ranges.items():
        for quantizer in QUANTIZERS:
            for bits in (8, 4) if label == "usual" else (8,):
                name, about = f"{quantizer}-{label}-{bits}", f"{label} range; a symmetric zero point is 0"
                how = {"bits": bits, "quantizer": quantizer}
                yield draft("static_scale", name, about, "N4 N5 N6", {"range": floats(*values)}, how)


def code_case(label, comment, x, s, zp=None, rules="N4", bits=8, quantizer="symmetric", expectation="exact"):
    x = np.atleast_2d(np.asarray(x, f32))
    s = np.broadcast_to(np.asarray(s, f32), len(x)).copy()
    zp = np.zeros(len(x), np.int32) if zp is None else np.broadcast_to(np.asarray(zp, np.int32), len(x)).copy()
    how = {"bits": bits, "quantizer": quantizer}
    return draft("codes", label, comment, rules, {"x": x, "s": s, "zp": zp}, how, expectation)


def codes(rows):
    for quantizer in QUANTIZERS:
        for bits in range(2, 9):
            case = partial(code_case, bits=bits, quantizer=quantizer)
            x = Draw(f"codes {quantizer} {bits}").normal(rows, 67, std=3)
            s, zp = (symmetric_scale(x, bits), None) if quantizer == "symmetric" else minmax_scale(x, bits)
            yield case(f"{quantizer}-{bits}", f"{bits} bits", x, s, zp)
            high = qmax(bits)
            edges = floats(*(v + d for v in (-high - 1, -high, high, high + 1) for d in (-0.5, 0, 0.5)), 1e30, -1e30)
            zp = None if quantizer == "symmetric" else code_range(bits, quantizer)[bits % 2]
            about = f"the ends of the codes of {bits} bits, and beyond them"
            yield case(f"{quantizer}-{bits}-ends", about, edges, 1, zp)
        yield from codes_of(
            partial(code_case, quantizer=quantizer), quantizer, None if quantizer == "symmetric" else -7
        )
    about = "x / s lies at a tie or beside it, and x * (1 / s), or a float64 quotient, gives another code"
    yield code_case("division", about, *reciprocals())
    yield code_case("minmax-division", f"the same with a zero point: {about}", *reciprocals(), 5, quantizer="minmax")
    halves = np.arange(-140, 141, dtype=f32)[None] + f32(0.5)
    for zp in (-128, 127, -1):
        about = "the zero point is added after rounding: ties are those of x / s"
        yield code_case(f"minmax-zp-{zp}".replace("--", "-minus-"), about, halves, 1, zp, quantizer="minmax")
    about = "0.49999997, where floor(v + 0.5) gives 1"
    yield code_case("half-below", about, floats(0.49999997, -0.49999997, 8388609), 1)


def codes_of(case, name, zp):
    """Cases of both quantizers."""
    ties = floats(*(m + 0.5 for m in range(-20, 20)))
    about = "x / s = m + 1/2: ties go to even, on both sides of 0"
    yield case(f"{name}-ties", about, [ties, ties * f32(0.375)], floats(1, 0.375), zp)
    about = "infinities saturate; so does a quotient that overflows"
    yield case(f"{name}-infinite", about, floats(np.inf, -np.inf, 3e38, -3e38), 2.0**-10, zp, "N4 N5")
    tiny = [floats(TINY, -TINY, LEAST, -LEAST, 0, -0.0)] * 2
    about = "subnormals with s = 1 and with the smallest s"
    yield case(f"{name}-subnormal", about, tiny, floats(1, LEAST), zp, "N4 N5 N14")
    yield case(f"{name}-nan", "a NaN is an error", floats(np.nan, 0), 1, zp, "N5", expectation="reject")


def reciprocals():
    """Values that lie at (m + 1/2) s, rounded, for many s, where a product with 1 / s or a float64 quotient fails."""
    s = Draw("reciprocals").uniform(0.01, 0.02, 64)
    x = ((np.arange(-64, 64) + 0.5)[None, :] * s[:, None]).astype(f32)
    return x, s
