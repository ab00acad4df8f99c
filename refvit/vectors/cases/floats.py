"""LayerNorm and softmax (N9), float functions within derived bounds, and codes of them near ties.

Bounds and their derivation are those of bounded.py: any order of sums, fused or not, a library's exp or erf.
"""

import numpy as np

from ... import exact
from ...quant import quantize_symmetric, symmetric_scale
from ...rules import PROB_SCALE, f32
from .. import bounded
from ..bounded import Bounded
from .draft import Draw, draft, floats
from .primitives import HARD_EXP

WIDTHS = (1, 2, 15, 16, 17, 33, 96)


def cases(level):
    rows = 4 if level == 1 else 64
    yield from layernorms(rows)
    yield from softmaxes(rows)
    yield from within_bounds(rows)
    yield from near_ties(rows)


def layernorm(label, comment, x, weight=None, bias=None, eps="1e-06", rules="N9", expectation="exact"):
    x = np.atleast_2d(np.asarray(x, f32))
    draw = Draw(f"layernorm {label}")
    weight = draw.normal(x.shape[1]) + f32(1) if weight is None else weight
    bias = draw.normal(x.shape[1]) if bias is None else bias
    return draft(
        "layernorm", label, comment, rules, {"x": x, "weight": weight, "bias": bias}, {"eps": eps}, expectation
    )


def layernorms(rows):
    for k in WIDTHS:
        yield layernorm(f"k-{k}", f"rows of {k}", Draw(f"layernorm {k}").normal(rows, k) + f32(0.3))
    wide, about = (
        Draw("layernorm wide").normal(2 * rows, 384),
        "as in a network: products and sums are rounded one by one",
    )
    yield layernorm("wide", about, wide, rules="N9 N14")
    for eps in ("1e-05", "1e-06", "0.001"):
        x = Draw(f"eps {eps}").normal(rows, 24, std=2.0**-10)
        yield layernorm(f"eps-{eps}", f"eps = {eps} is not small beside the variance", x, eps=eps)
    constant = np.repeat(floats(0, 1, -3, 0.1, 1e30, 2.0**-149)[:, None], 7, axis=1)
    yield layernorm("constant", "rows of one value: d = 0, or the rounding error of the mean", constant)
    offset = Draw("offset").normal(rows, 40) + f32(1000)
    yield layernorm("offset", "a large mean: mean(x^2) - mean^2 would cancel", offset)
    plain, ones, zeros = Draw("plain").normal(rows, 32), np.ones(32, f32), np.zeros(32, f32)
    yield layernorm("plain", "gain 1 and bias 0: the quotient itself", plain, ones, zeros)
    x, gain = Draw("cancelling bias").normal(1, 32), Draw("gain").normal(32) + f32(1)
    about = "the bias cancels: a fused multiply-add leaves the rounding error of the product"
    yield layernorm(
        "cancelling-bias", about, x, gain, -(exact.layernorm(x, ones, zeros, 1e-6)[0] * gain), rules="N9 N14"
    )
    yield from layernorm_extremes()


def layernorm_extremes():
    about = "the sum of squares is infinite: d / r = 0, so y = b"
    yield layernorm("variance-overflows", about, floats(1e20, -1e20, 3e19, 5), rules="N9 N5")
    draw = Draw("layernorm subnormal")
    x, gain, bias = draw.patterns(3, 20, high=3), draw.patterns(20, low=1, high=30), draw.patterns(20, high=2)
    yield layernorm("subnormal", "values, gains and results below 2^-126", x, gain, bias, rules="N9 N14")
    for label, values in (
        ("nan", (1, np.nan, 2)),
        ("infinite", (1, np.inf, 2)),
        ("minus-infinity", (-np.inf, 1, 2)),
        ("sum-overflows", (3e38, 3e38, 3e38)),
    ):
        yield layernorm(label, "gives NaN, an error", floats(*values), expectation="reject")


def softmax(label, comment, x, rules="N9", expectation="exact"):
    return draft("softmax", label, comment, rules, {"x": np.atleast_2d(np.asarray(x, f32))}, None, expectation)


def softmaxes(rows):
    for k in WIDTHS:
        yield softmax(f"k-{k}", f"rows of {k}", Draw(f"softmax {k}").normal(rows, k, std=3))
    yield softmax("wide", "as in a network", Draw("softmax wide").normal(2 * rows, 197, std=2))
    yield softmax(
        "equal",
        "equal values, also large ones: the maximum is subtracted",
        np.repeat(floats(0, 5, -7, 200, -1e30), 7).reshape(5, 7),
    )
    yield softmax(
        "minus-infinity", "-infinity gives 0", [floats(0, -np.inf, 1, 2), floats(-np.inf, -np.inf, -np.inf, 3)], "N9 N5"
    )
    yield softmax(
        "masked",
        "a mask of -100: probabilities of 1e-44 are subnormal, and kept",
        Draw("softmax masked").normal(rows, 16) + f32(-100) * (np.arange(16) % 3 == 0).astype(f32),
        "N9 N10 N14",
    )
    far = -np.arange(0, 112, dtype=f32)
    yield softmax(
        "far", "down to -111 below the maximum: subnormal probabilities, then 0", [far, far + f32(90)], "N9 N14"
    )
    hard = HARD_EXP[HARD_EXP < 0]
    yield softmax("hard", "here a library's exp gives another value", np.stack([np.zeros_like(hard), hard], axis=1))
    for label, values in {"nan": (1, np.nan), "plus-infinity": (1, np.inf), "nothing": (-np.inf, -np.inf)}.items():
        yield softmax(label, "gives NaN, an error", floats(*values), expectation="reject")


def within(operation, label, comment, inputs, bound, parameters=None, rules="N9"):
    """A case whose result may be anything within bounds.  bound: Bounded"""
    name = {"float_score": "score", "float_context": "context"}.get(operation, "y")
    return draft(operation, label, comment, rules, inputs, parameters, "bound", {name: bound.interval()})


def within_bounds(rows):
    x = Draw("exp bound").uniform(-80, 80, 300)
    yield within("exp", "bound", "any exp of at most 4 ulp", {"x": x}, bounded.exp(Bounded(x)))
    x = Draw("erf bound").uniform(-4.5, 4.5, 300)
    yield within("erf", "bound", "any erf of at most 1 ulp", {"x": x}, bounded.erf(Bounded(x)))
    x = Draw("gelu bound").normal(300, std=2)
    yield within("gelu", "bound", "any GELU in its erf form, not the tanh form", {"x": x}, bounded.gelu(Bounded(x)))
    x = Draw("sum bound").normal(rows, 197)
    yield within("sum16", "bound", "any order of the sum", {"x": x}, Bounded(x).sum(-1))
    x, about = Draw("softmax bound").normal(rows, 65, std=3), "any order of the sum, any exp of at most 4 ulp"
    yield within("softmax", "bound", about, {"x": x}, bounded.softmax(Bounded(x)))
    draw, about = Draw("layernorm bound"), "any order of sums, fused or not, also the inverse of the deviation"
    x, weight, bias = draw.normal(rows, 96) + f32(0.5), draw.normal(96) + f32(1), draw.normal(96)
    bound = bounded.layernorm(*(Bounded(v) for v in (x, weight, bias)), 1e-6)
    yield within("layernorm", "bound", about, {"x": x, "weight": weight, "bias": bias}, bound, {"eps": "1e-06"})
    draw, about = Draw("attention bound"), "any order of the sums, fused or not"
    q, k, v = (draw.normal(1, 2, 3, 9, 8) for _ in range(3))
    p, bias = draw.uniform(0, 0.3, 1, 2, 3, 9, 9), draw.normal(3, 9, 9)
    scores = (Bounded(q) @ Bounded(k.swapaxes(-1, -2))) * bounded.constant(8**-0.5) + Bounded(bias)
    yield within("float_score", "bound", about, {"q": q, "k": k, "bias": bias}, scores, None, "N10")
    mixed = (Bounded(p) @ Bounded(v)).moved(lambda a: a.swapaxes(2, 3).reshape(1, 2, 9, 24))
    yield within("float_context", "bound", about, {"p": p, "v": v}, mixed, None, "N10")


def near_tie(operation, label, comment, rules, inputs, bound, s, parameters=None):
    """Codes are monotone in the value: those of a bound's lowest and highest value are the bounds of the code."""
    low, high = (quantize_symmetric(value, s, 8) for value in bound.interval())
    return draft(operation, label, comment, rules, inputs, parameters, "near-tie", {"q": (low, high)})


def near_ties(rows):
    yield from norm_codes(Draw("norm codes"), 8 * rows, "1e-06")
    halves = (np.arange(0, 127) + 0.5).astype(f32)
    usual = Draw("gelu codes").normal(4 * rows, 64, std=2)
    ties = bisected(exact.gelu, np.append(f32(1), halves / f32(127)), 0.0, 4.0)[None]
    for label, x, about in (("usual", usual, "codes of a GELU"), ("ties", ties, "values that lie at ties")):
        s = symmetric_scale(exact.gelu(x), 8)
        yield near_tie("gelu_codes", label, about, "N4 N9", {"x": x, "s": s}, bounded.gelu(Bounded(x)), s, {"bits": 8})
    usual = Draw("softmax codes").normal(8 * rows, 17, std=3)
    ties = beside_zero(bisected(lambda d: exact.softmax(beside_zero(d))[:, 0], halves[:126] * PROB_SCALE, -8.0, 8.0))
    for label, x, about in (
        ("usual", usual, "codes of probabilities"),
        ("ties", ties, "probabilities that lie at ties"),
    ):
        s = np.full(len(x), PROB_SCALE)
        yield near_tie("softmax_codes", label, about, "N9 N10", {"x": x}, bounded.softmax(Bounded(x)), s)


def norm_codes(draw, rows, eps):
    x, weight, bias = draw.normal(rows, 48), draw.normal(48) + f32(1), draw.normal(48)
    y, at = exact.layernorm(x, weight, bias, float(eps)), np.arange(rows)
    bound = bounded.layernorm(*(Bounded(v) for v in (x, weight, bias)), float(eps))
    at_ties = np.abs(y[at, at % 48]) / (f32(0.5) + (at % 100).astype(f32))
    for label, s, about in (
        ("usual", symmetric_scale(y, 8), "codes of a LayerNorm, each row by its scale"),
        ("ties", at_ties, "a value of each row lies at a tie"),
    ):
        inputs = {"x": x, "weight": weight, "bias": bias, "s": s}
        yield near_tie("norm_codes", label, about, "N4 N9", inputs, bound, s, {"bits": 8, "eps": eps})


def beside_zero(d):
    """Rows [d, 0]"""
    return np.stack([d, np.zeros_like(d)], axis=1)


def bisected(function, targets, low, high):
    """Where a growing function reaches the targets, as float32."""
    low, high = np.full(len(targets), low, f32), np.full(len(targets), high, f32)
    for _ in range(60):
        middle = (low + high) * f32(0.5)
        above = function(middle) >= targets
        low, high = np.where(above, low, middle), np.where(above, middle, high)
    return high
