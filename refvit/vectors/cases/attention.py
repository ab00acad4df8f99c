"""Attention in integers and in floats (N10).  Letters: B pictures, W windows, H heads, T tokens, D width of a head."""

import numpy as np

from ...rules import MASK_VALUE, PROB_SCALE, f32
from ...window import bias_forward, shift_mask
from .draft import Draw, draft, floats

SHAPES = {
    "one-token": (1, 1, 1, 1, 4),
    "vit": (2, 1, 3, 17, 8),
    "swin": (1, 4, 2, 16, 6),
    "odd-width": (1, 1, 2, 5, 7),
    "wide": (1, 1, 1, 35, 50),
}


def cases(level):
    shapes = SHAPES if level == 1 else {**SHAPES, "deit": (1, 1, 3, 197, 64), "swin-7": (1, 4, 3, 49, 32)}
    for label, shape in shapes.items():
        yield from steps(label, *shape)
        yield from whole(label, *shape)
    yield from codes()
    yield from edges()


def bias_and_mask(draw, w, h, t):
    """Of Swin's windows where there are four of them."""
    if w != 4:
        return None, None
    m = int(t**0.5)
    return bias_forward(draw.normal((2 * m - 1) ** 2, h), m), shift_mask(2 * m, m, m // 2)


def steps(label, b, w, h, t, d):
    draw = Draw(f"attention {label}")
    bias, mask = bias_and_mask(draw, w, h, t)
    q, k, v = (draw.integers(-127, 127, b, w, h, t, d) for _ in range(3))
    s_q, s_k, s_v = (draw.scales(b, h) for _ in range(3))
    inputs = {"q": q, "k": k, "s_q": s_q, "s_k": s_k}
    yield draft("score", label, f"D = {d}", "N10", inputs)
    if bias is not None:
        yield draft("score", f"{label}-bias", "with the bias of positions", "N10", {**inputs, "bias": bias})
        yield draft("score", f"{label}-mask", "with bias and mask", "N10", {**inputs, "bias": bias, "mask": mask})
    p = draw.integers(0, 127, b, w, h, t, t)
    yield draft("context", label, "heads side by side", "N10", {"p": p, "v": v, "s_v": s_v})
    q, k, v = (draw.normal(b, w, h, t, d) for _ in range(3))
    yield draft("float_score", label, f"D = {d}", "N9 N10", {"q": q, "k": k, "bias": bias, "mask": mask})
    yield draft(
        "float_context",
        label,
        "16 partial sums over the tokens",
        "N9 N10",
        {"p": draw.uniform(0, 1, b, w, h, t, t), "v": v},
    )


def whole(label, b, w, h, t, d):
    for kind in ("int8", "float"):
        draw = Draw(f"attention {kind} {label}")
        bias, mask = bias_and_mask(draw, w, h, t)
        qkv = draw.normal(b, w, t, 3 * h * d) * (f32(1) + draw.uniform(0, 1, 3 * h * d))
        inputs = {"qkv": qkv, "bias": bias, "mask": mask}
        yield draft(
            "attention",
            f"{kind}-{label}",
            "from the output of qkv to the context",
            "N9 N10",
            inputs,
            {"heads": h, "attention": kind},
        )


def codes():
    def case(label, comment, p):
        return draft("prob_codes", label, comment, "N10", {"p": np.atleast_2d(p)})

    ties = (np.arange(0, 127) + 0.5).astype(f32) * PROB_SCALE
    below, above = np.nextafter(ties, f32(0)), np.nextafter(ties, f32(1))
    yield case("ties", "p / PROB_SCALE at m + 1/2, and its neighbours", np.stack([below, ties, above]))
    yield case(
        "ends",
        "0, 1, and what is smaller than half a code",
        floats(0, 1, 0.5, 2.0**-149, 0.003937, 0.0039371, 0.99999994),
    )
    yield case("range", "values from 0 to 1", Draw("prob codes").uniform(0, 1, 4, 500))


def edges():
    d = 4
    q = np.zeros((1, 1, 1, 3, d), np.int8)
    q[0, 0, 0, 1] = 127
    inputs = {"q": q, "k": -q, "s_q": floats(0.03)[None], "s_k": floats(0.02)[None]}
    bias = np.zeros((1, 3, 3), f32)
    mask = np.zeros((1, 3, 3), f32)
    mask[0, 0, 1] = mask[0, 1, 0] = MASK_VALUE
    yield draft("score", "negative-zero", "zeros times positive scales; without a bias nothing is added", "N10", inputs)
    signs = {**inputs, "s_q": floats(0.0)[None]}
    yield draft("score", "zero-scale", "-0 stays where no bias is added", "N10", signs)
    yield draft("score", "zero-bias", "a bias of 0 turns a score of -0 into +0", "N10", {**signs, "bias": bias})
    yield draft("score", "mask", "-100 is added, no more", "N10", {**inputs, "mask": mask})
    tiny = {**inputs, "s_q": floats(2.0**-75)[None], "s_k": floats(2.0**-80)[None]}
    yield draft("score", "subnormal", "subnormal scores", "N10 N14", tiny)
    p = np.zeros((1, 1, 1, 3, 3), np.int8)
    p[0, 0, 0] = [[127, 0, 0], [1, 2, 3], [0, 0, 0]]
    yield draft(
        "context", "subnormal", "subnormal mixtures", "N10 N14", {"p": p, "v": q, "s_v": floats(2.0**-140)[None]}
    )
    long = 600
    p, v = np.full((1, 1, 1, 1, long), 1, np.int8), np.full((1, 1, 1, long, 2), 127, np.int8)
    p = np.broadcast_to(p, (1, 1, 1, long, long)).copy()
    p[..., 0, :] = 127
    yield draft(
        "context",
        "beyond-16-bits",
        "accumulators that 16 bits do not hold",
        "N7 N10",
        {"p": p, "v": v, "s_v": floats(0.1)[None]},
    )
