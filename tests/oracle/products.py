"""N6 to N8: the scales of a linear layer's input, the integer product, rescaling."""

from dataclasses import dataclass
from operator import mul

from .codes import encode, range_of, scale_and_zero_point
from .errors import Refused
from .floats import f32, has_nan

K_MAX = 2**17


@dataclass
class Linear:
    codes: list  # [N][K]
    alpha: list  # [N]
    bias: list | None  # [N]
    bits: int  # of the input
    static: tuple | None  # scale and zero point of the input


def dot(a, b):
    return sum(map(mul, a, b))


def check_length(k, ternary):
    """N7: refuse a length whose product could leave int32."""
    if k > K_MAX or (k == K_MAX and not ternary):
        raise Refused(f"a product of length {k}")


def check_correction(codes, bits, quantizer):
    """N6: refuse codes with which the correction of a zero point could leave int32."""
    if quantizer == "minmax" and max(sum(map(abs, row)) for row in codes) * (2**bits - 1) >= 2**31:
        raise Refused("the zero point's correction could leave int32")


def product(q, zp, codes):
    """acc [R][N], the correction of the zero points included."""
    sums = [sum(row) for row in codes]
    return [[dot(row, weights) - z * total for weights, total in zip(codes, sums)] for row, z in zip(q, zp)]


def rescale(acc, s, alpha, bias):
    y = [[f32(f32(f32(float(v)) * scale) * a) for v, a in zip(row, alpha)] for row, scale in zip(acc, s)]
    if bias is not None:
        y = [[f32(v + b) for v, b in zip(row, bias)] for row in y]
    if any(map(has_nan, y)):
        raise Refused("rescaling gives NaN")
    return y


def runs(rows, groups):
    """The rows in so many equal runs."""
    step = len(rows) // groups
    return [rows[i * step : (i + 1) * step] for i in range(groups)]


def group_ranges(rows, groups):
    """amax, lo, hi of each group of rows, once for each row."""
    return [bounds for run in runs(rows, groups) for bounds in [range_of([v for r in run for v in r])] * len(run)]


def quantize(rows, bits, quantizer, groups, static=None):
    """s [R], zp [R], q [R][K] of a linear layer's input."""
    pairs = [static] * len(rows)
    if static is None:
        pairs = [scale_and_zero_point(bounds, bits, quantizer) for bounds in group_ranges(rows, groups)]
    s, zp = [p[0] for p in pairs], [p[1] for p in pairs]
    return s, zp, [encode(row, *pair, bits, quantizer) for row, pair in zip(rows, pairs)]


def linear(layer, rows, quantizer, groups):
    """The traces of a linear layer, by the last part of their names, as nested lists."""
    s, zp, q = quantize(rows, layer.bits, quantizer, groups, layer.static)
    acc = product(q, zp, layer.codes)
    traces = {"zp_in": zp} if quantizer == "minmax" else {}
    return traces | {"s_in": s, "q_in": q, "acc": acc, "out": rescale(acc, s, layer.alpha, layer.bias)}
