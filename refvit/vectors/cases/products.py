"""Integer products, rescaling, and linear layers as a whole (N4 to N8)."""

import numpy as np

from ...bitplanes import pack_planes
from ...rules import K_MAX, f32, qmax
from .draft import Draw, draft, floats

SIZES = ((1, 1, 1), (1, 3, 5), (3, 4, 63), (2, 5, 64), (5, 2, 65), (4, 3, 127), (1, 9, 128), (7, 3, 130), (17, 6, 192))


def cases(level):
    more = SIZES if level == 1 else (*SIZES, (197, 768, 192), (50, 96, 769))
    yield from ternary_products(more)
    yield from int8_products(more)
    yield from rescaling(1 if level == 1 else 8)
    yield from linears(more[len(SIZES) - 1 :])


def zeros(rows):
    return np.zeros(rows, np.int32)


def ternary(label, comment, q, weight, zp=None, bits=8, rules="N7", expectation="exact"):
    inputs = {"q": q, "zp": zeros(len(q)) if zp is None else zp, "planes": pack_planes(weight)}
    return draft("ternary_product", label, comment, rules, inputs, {"k": weight.shape[1], "bits": bits}, expectation)


def ternary_products(sizes):
    for m, n, k in sizes:
        draw, about = Draw(f"ternary {m} {n} {k}"), f"{m} rows, {n} outputs, K = {k}"
        yield ternary(f"{m}-{n}-{k}", about, draw.integers(-127, 127, m, k), draw.ternary(n, k))
    for bits in range(1, 9):
        draw, low = Draw(f"ternary bits {bits}"), -(1 << (bits - 1))
        q = draw.integers(low, qmax(bits), 5, 100)
        q[0] = low
        yield ternary(f"bits-{bits}", f"codes of {bits} bits, {low} included", q, draw.ternary(4, 100), bits=bits)
    draw = Draw("ternary zero points")
    q, zp = draw.integers(-128, 127, 6, 70), np.array([-128, 127, 0, -1, 5, -77], np.int32)
    yield ternary("zero-points", "the accumulator is corrected by zp sum(w)", q, draw.ternary(5, 70), zp, rules="N6 N7")
    yield from ternary_layouts()
    yield from ternary_limits()
    yield from ternary_rejected()


def ternary_layouts():
    weight = np.stack([np.ones(70), -np.ones(70), np.zeros(70), np.resize([1, -1], 70)]).astype(np.int8)
    q = Draw("whole rows").integers(-127, 127, 3, 70)
    yield ternary("whole-rows", "rows of nothing but 1, -1, 0, and in turns", q, weight)
    unit, q = np.eye(130, dtype=np.int8), Draw("each bit").integers(-127, 127, 2, 130)
    about = "each input has its bit: column k of word k / 64, from the lowest bit on"
    yield ternary("each-bit", about, q, np.concatenate([unit, -unit]), rules="N2 N7")
    draw, about = Draw("ternary square"), "N = K, so that a transposed matrix has the same shape"
    yield ternary("square", about, draw.integers(-127, 127, 3, 64), draw.ternary(64, 64))


def ternary_limits():
    q = np.full((2, 4096), -128, np.int8)
    q[1] = 127
    weight = np.stack([np.ones(4096), -np.ones(4096)]).astype(np.int8)
    yield ternary("beyond-16-bits", "accumulators that 16 bits do not hold", q, weight)
    yield ternary("no-rows", "no rows at all", np.zeros((0, 9), np.int8), Draw("no rows").ternary(3, 9))
    long = np.ones((1, K_MAX), np.int8)
    yield ternary("longest", "K = 2^17, the longest dot product", long * np.int8(-128), long)


def ternary_rejected():
    long = np.zeros((1, K_MAX + 1), np.int8)
    yield ternary("too-long", "K = 2^17 + 1 is rejected", long, long, expectation="reject")
    for label, about, planes, row, word, bit in (
        ("both-planes", "a code with both bits set is rejected", (0, 1), 1, 0, 7),
        ("dirty-padding", "a set bit at k >= K is rejected", (0,), 2, 1, 1),
    ):
        q, weight = Draw(label).integers(-9, 9, 2, 65), Draw(label).ternary(3, 65)
        case = ternary(label, about, q, weight, rules="N2", expectation="reject")
        for plane in planes:
            case.arrays["planes"][plane, row, word] |= np.uint64(1 << bit)
        yield case


def int8(label, comment, q, weight, zp=None, rules="N7", expectation="exact"):
    inputs = {"q": q, "zp": zeros(len(q)) if zp is None else zp, "weight": weight}
    return draft("int8_product", label, comment, rules, inputs, {"bits": 8}, expectation)


def int8_products(sizes):
    for m, n, k in sizes:
        draw = Draw(f"int8 {m} {n} {k}")
        q, weight = draw.integers(-127, 127, m, k), draw.integers(-127, 127, n, k)
        yield int8(f"{m}-{n}-{k}", f"{m} rows, {n} outputs, K = {k}", q, weight)
    draw, about = Draw("int8 zero points"), "the accumulator is corrected by zp sum(w)"
    q, zp = draw.integers(-128, 127, 5, 70), np.array([-128, 127, 0, -1, 9], np.int32)
    yield int8("zero-points", about, q, draw.integers(-127, 127, 4, 70), zp, "N6 N7")
    q, weight = np.array([[-128] * 99, [127] * 99], np.int8), np.array([[-127] * 99, [127] * 99], np.int8)
    yield int8("extremes", "-128 and 127: pairs of products exceed 16 bits", q, weight)
    draw, about = Draw("int8 square"), "N = K, so that a transposed matrix has the same shape"
    yield int8("square", about, draw.integers(-127, 127, 3, 64), draw.integers(-127, 127, 64, 64))
    long = np.full((1, K_MAX - 1), 127, np.int8)
    yield int8("longest", "K = 2^17 - 1, the longest dot product of two 8-bit factors", long, long)
    long = np.zeros((1, K_MAX), np.int8)
    yield int8("too-long", "K = 2^17 is rejected for two 8-bit factors", long, long, expectation="reject")


def rescale(label, comment, acc, s, alpha, bias=None, rules="N8", expectation="exact"):
    acc = np.atleast_2d(np.asarray(acc, np.int32))
    inputs = {"acc": acc, "s": np.asarray(s, f32), "alpha": np.asarray(alpha, f32), "bias": bias}
    return draft("rescale", label, comment, rules, inputs, expectation=expectation)


def rescaling(more):
    rows, n = 6 * more, 21
    large = [2**31 - 1, -(2**31), 2**25 + 2, 2**25 + 6, 2**30 + 33, 2**25 + 3]
    for name in ("plain", "bias"):
        draw = Draw(f"rescale {name}")
        bias = draw.normal(n, std=0.5) if name == "bias" else None
        acc, s, alpha = draw.integers(-30000, 30000, rows, n, dtype=np.int32), draw.scales(rows), draw.scales(n)
        yield rescale(name, "every product, and the sum, is rounded by itself", acc, s, alpha, bias)
        acc = np.where(np.arange(rows)[:, None] == 2, 0, acc)
        yield rescale(f"{name}-zeros", "a row of zeros", acc, s, alpha, bias)
        acc = np.concatenate([2**24 + np.arange(-4, 11), large])
        about = "f32(acc) is rounded, ties to even, beyond 2^24"
        yield rescale(f"{name}-beyond-2-24", about, [acc, -acc - 1], s[:2], alpha, bias)
    yield from rescaling_edges()


def rescaling_edges():
    draw = Draw("rescale cancelling")
    acc, s, alpha = draw.integers(1000, 30000, 4, 16, dtype=np.int32), draw.scales(4), draw.scales(16)
    about = "the bias cancels the product: a fused multiply-add leaves its rounding error"
    yield rescale("cancelling-bias", about, acc, s, alpha, -((acc[0].astype(f32) * s[0]) * alpha), "N8 N14")
    acc, s = [[1, 3, 77], [-5, 9, 2**20], [0, -1, 1]], floats(2.0**-100, 2.0**-120, 2.0**-126)
    alpha = floats(2.0**-30, 2.0**-25, 2.0**-23)
    yield rescale("subnormal", "subnormal products are kept", acc, s, alpha, None, "N8 N14")
    acc, s, alpha = [[1, 3, 77], [-5, 9, 101]], floats(2.0**-140, 2.0**-149), floats(2.0**100, 3e38, 2.0**60)
    about = "acc s is subnormal before a large alpha makes it normal again"
    yield rescale("small-factor", about, acc, s, alpha, None, "N8 N14")
    acc, alpha, bias = [[5, 0, -5], [-7, 0, 7]], floats(0, -1.5, -0.0), floats(0, 0, -0.0)
    yield rescale("signs", "alpha may be zero or negative; -0 + 0 is +0", acc, floats(0.5, 0.25), alpha, bias, "N1 N8")
    large, s = [[2**30, -(2**30), 1]], floats(3e38)
    yield rescale("overflow", "overflow to infinity is a result", large, s, floats(9, 9, 1))
    about, zero = "infinity times alpha = 0 gives NaN, an error", floats(0, 0, 0)
    yield rescale("infinite-times-zero", about, large, s, zero, expectation="reject")
    about, alpha, bias = "infinity and a bias of -infinity give NaN, an error", floats(9, 9, 9), floats(-np.inf, 0, 0)
    yield rescale("infinities-cancel", about, large, s, alpha, bias, expectation="reject")


def linear(label, comment, x, alpha, how, rules="N4 N6 N7 N8", expectation="exact", **weights):
    parameters = {"k": x.shape[1], **how}
    return draft("linear", label, comment, rules, {"x": x, **weights, "alpha": alpha}, parameters, expectation)


def linears(sizes):
    for quantizer in ("symmetric", "minmax"):
        for bits in (8, 5, 2):
            for groups in (6, 2):
                draw = Draw(f"linear {quantizer} {bits} {groups}")
                x = draw.normal(6, 70) + f32(0.4)
                x[3] = 0
                how = {"bits": bits, "quantizer": quantizer, "groups": groups}
                about = f"{quantizer}, {bits} bits, {groups} scales for 6 rows, one of zeros"
                alpha, bias, planes = draw.scales(9), draw.normal(9), pack_planes(draw.ternary(9, 70))
                yield linear(f"ternary-{quantizer}-{bits}-{groups}", about, x, alpha, how, planes=planes, bias=bias)
        draw = Draw(f"linear 8 {quantizer}")
        x, how = draw.normal(4, 33), {"bits": 8, "quantizer": quantizer, "groups": 4}
        weight, alpha = draw.integers(-127, 127, 7, 33), draw.scales(7)
        yield linear(f"int8-{quantizer}", "8-bit weights, no bias", x, alpha, how, weight=weight)
        weight = np.full((2, 300), 127, np.int8) * np.array([[1], [-1]], np.int8)
        about, long = "a sum of codes that 16 bits do not hold", {**how, "groups": 2}
        yield linear(f"int8-{quantizer}-sum", about, draw.normal(2, 300), floats(1, 1), long, weight=weight)
        static = {"s": floats(2.0**-6), "zp": np.array([0 if quantizer == "symmetric" else -20], np.int32)}
        static |= {"planes": pack_planes(draw.ternary(7, 33)), "bias": draw.normal(7)}
        yield linear(f"static-{quantizer}", "a static scale, some values are clipped", x, alpha, how, **static)
    for m, n, k in sizes:
        draw, how = Draw(f"linear {m} {n} {k}"), {"bits": 8, "quantizer": "symmetric", "groups": m}
        x, alpha, bias, planes = draw.normal(m, k), draw.scales(n), draw.normal(n), pack_planes(draw.ternary(n, k))
        yield linear(f"{m}-{n}-{k}", "as in a network", x, alpha, how, planes=planes, bias=bias)
    long, how = np.full((1, K_MAX - 1), 127, np.int8), {"bits": 8, "quantizer": "symmetric", "groups": 1}
    about = "K = 2^17 - 1 with 8-bit weights is accepted"
    yield linear("longest", about, long.astype(f32), floats(2.0**-30), how, weight=long)
    yield from linears_rejected()


def linears_rejected():
    x, how = np.zeros((2, 4), f32), {"bits": 8, "quantizer": "symmetric", "groups": 2}
    x[1, 2] = np.nan
    weight = np.ones((1, 4), np.int8)
    yield linear("nan", "a NaN in the input is an error", x, floats(1), how, "N5", "reject", weight=weight)
    k, how = 2**31 // (255 * 127) + 1, {"bits": 8, "quantizer": "minmax", "groups": 1}
    x, weight, about = (
        np.zeros((1, k), f32),
        np.full((1, k), 127, np.int8),
        "sum |code| (2^b - 1) reaches 2^31: rejected",
    )
    yield linear("minmax-too-long", about, x, floats(1), how, "N6", "reject", weight=weight)
    about, weight = "the same where the sum of the codes is 0", weight * np.resize(np.array([1, -1], np.int8), k)
    yield linear("minmax-too-long-signs", about, x, floats(1), how, "N6", "reject", weight=weight)
