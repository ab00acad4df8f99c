"""Training: straight-through masks, exactly; gradients within bounds (N13)."""

import numpy as np

from ...quant import minmax_scale, symmetric_scale
from ...rules import f32, qmax
from .. import bounded
from ..bounded import Bounded
from .draft import Draw, around, draft, floats


def cases(level):
    rows = 4 if level == 1 else 64
    yield from masks()
    yield from gradients(rows)


def act_mask(label, comment, x, s, zp, bits, quantizer):
    inputs = {"x": np.atleast_2d(x), "s": np.asarray(s, f32), "zp": np.asarray(zp, np.int32)}
    return draft("act_mask", label, comment, "N13", inputs, {"bits": bits, "quantizer": quantizer})


def masks():
    for bits in (2, 5, 8):
        high, steps = qmax(bits), (-0.5, -0.25, 0, 0.25, 0.5)
        edges = floats(*(v + d for v in (-high - 1, -high, high, high + 1) for d in steps), 0, 1e30, -np.inf)
        about = "the gradient passes where the code before the clip is in its range"
        yield act_mask(f"symmetric-{bits}", about, edges, [1], [0], bits, "symmetric")
        yield act_mask(f"minmax-{bits}", "the same with a zero point", edges, [1], [1], bits, "minmax")
    x, about = Draw("act mask").normal(6, 40), "scales of the rows themselves clip nothing"
    yield act_mask("dynamic-symmetric", about, x, symmetric_scale(x, 8), np.zeros(6), 8, "symmetric")
    about = "rounding of the zero point may push an end out of range"
    yield act_mask("dynamic-minmax", about, x, *minmax_scale(x, 4), 4, "minmax")
    s, ends = Draw("act mask ends").uniform(0.01, 0.02, 64), np.arange(-131, 132, dtype=f32) + f32(0.5)
    for quantizer, zp in (("symmetric", 0), ("minmax", 3)):
        about = "x / s at ties or beside them: a product with 1 / s gives another mask"
        x, zps = (ends * s[:, None])[:, np.r_[:8, -8:0]], np.full(64, zp)
        yield act_mask(f"division-{quantizer}", about, x, s, zps, 8, quantizer)
    for clip in ("0x1p-1", "0x1.99999ap-4"):
        yield weight_mask(clip, "|w| = c passes", [0, 1, -1, 0.3, *around(clip), *-around(clip)], clip)
    about = "c is rounded to f32 before it is compared"
    yield weight_mask("decimal", about, [0.1, *around("0x1.99999ap-4")], "0x1.999999999999ap-4")


def weight_mask(label, comment, w, clip):
    return draft("weight_mask", label, comment, "N13", {"w": floats(*w)[None]}, {"ste_clip": clip})


def gradients(rows):
    def case(operation, label, comment, inputs, names, bounds, parameters=None):
        intervals = {name: bound.interval() for name, bound in zip(names, bounds, strict=True)}
        return draft(operation, label, comment, "N13", inputs, parameters, "bound", intervals)

    for k in (1, 16, 33, 96):
        draw = Draw(f"layernorm backward {k}")
        x, weight, dy = draw.normal(rows, k), draw.normal(k) + f32(1), draw.normal(rows, k)
        bound = bounded.layernorm_gradients(*(Bounded(v) for v in (dy, x, weight)), 0.5)
        inputs = {"x": x, "weight": weight, "dy": dy}
        yield case("layernorm_backward", str(k), f"K = {k}", inputs, ("dx", "dweight", "dbias"), bound, {"eps": "0.5"})
    for k in (2, 17, 65):
        draw = Draw(f"softmax backward {k}")
        x, dy = draw.normal(rows, k, std=2), draw.normal(rows, k)
        bound = bounded.softmax_gradient(Bounded(dy), bounded.softmax(Bounded(x)))
        yield case("softmax_backward", str(k), f"K = {k}", {"x": x, "dy": dy}, ("dx",), [bound])
    draw = Draw("gelu backward")
    x, dy = np.concatenate([draw.normal(300, std=2), floats(0, 1, -1, 5, -5)]), draw.normal(305)
    bound, about = bounded.gelu_gradient(Bounded(dy), Bounded(x)), "Phi(x) + x phi(x), of the erf form"
    yield case("gelu_backward", "usual", about, {"x": x, "dy": dy}, ("dx",), [bound])
    for n, k in ((1, 1), (5, 7), (24, 24), (9, 65)):
        draw = Draw(f"linear backward {n} {k}")
        inputs = {"x": draw.normal(rows, k), "w": draw.normal(n, k), "dy": draw.normal(rows, n)}
        bound = bounded.linear_gradients(Bounded(inputs["dy"]), Bounded(inputs["x"]), Bounded(inputs["w"]))
        yield case("linear_backward", f"{n}-{k}", f"[{n}, {k}]", inputs, ("dx", "dw", "db"), bound)
