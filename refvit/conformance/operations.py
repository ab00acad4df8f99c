"""Each traced operation as a function of its own inputs: the NumPy twin by which another implementation is judged.

The arguments' names are those of ``judge.py``, which collects them, and of ``hypotheses.py``, which computes the same
operations as a port gets them wrong. ``x`` is float32, ``q`` codes, ``s`` scales, ``zp`` zero points.
Letters: R rows, K inputs, N outputs of a linear layer; B pictures, W windows, H heads, T tokens, D width of a head.
"""

import numpy as np

from .. import exact
from ..engine import score_scale
from ..exact import gelu, layernorm, matmul16, rescale, softmax
from ..layers import merge_heads_forward
from ..quant import code_range, row_amax, row_range, scale_from_amax, scale_from_range
from ..rules import PROB_SCALE, f32

WORDS = {
    "picture": "input pixels",
    "scale": "scale of the codes (N4, N5, N6)",
    "zero_point": "zero point of the codes (N4)",
    "codes": "rounding to codes (N4)",
    "product": "integer product (N7)",
    "rescale": "rescaling and bias (N8)",
    "layernorm": "LayerNorm (N9), or a sum before it that has no trace (N11)",
    "gelu": "GELU (N9)",
    "score": "attention scores (N10)",
    "float_score": "attention scores in float (N10)",
    "softmax": "softmax (N9)",
    "prob_codes": "codes of the probabilities (N10)",
    "context": "mixture of the values (N10)",
    "float_context": "mixture of the values in float (N10)",
    "residual": "residual sum (N11)",
    "pool": "mean over the map (N9)",
    "copy": "the tensor before it, perhaps in another shape",
    "logits": "logits (N11)",
}


SUFFIXES = {
    "s_in": "scale", "zp_in": "zero_point", "q_in": "codes", "acc": "product", "out": "rescale", "act": "gelu",
    "score": "score", "prob": "softmax", "q_prob": "prob_codes", "context": "context", "patch_embed": "copy",
    "downsample": "copy", "global_pool": "pool", "pixels": "picture", "logits": "logits",
}  # fmt: skip


def kind_of(name, attention="int8"):
    """The kind of operation that a traced tensor comes from."""
    step = name.rpartition(".")[2]
    if attention == "float" and step in ("score", "context"):
        return f"float_{step}"
    return SUFFIXES.get(step, "layernorm" if step.startswith("norm") else "residual")


def scale(x, bits, quantizer, groups, static):
    """One scale for each of ``groups`` equal runs of rows, repeated for every row.  x [R, K] -> [R]"""
    if static is not None:
        return np.repeat(static[0], len(x))
    flat = x.reshape(groups, -1)
    if quantizer == "symmetric":
        s = scale_from_amax(row_amax(flat), bits)
    else:
        s, _ = scale_from_range(*row_range(flat), bits)
    return np.repeat(s, len(x) // groups)


def zero_point(x, s, bits, quantizer, groups, static):
    """clip(rint(low - lo / s)).  x [R, K], s [R] -> int32 [R]"""
    if static is not None:
        return np.repeat(static[1], len(x))
    low, high = code_range(bits, quantizer)
    lo, _ = row_range(x.reshape(groups, -1))
    return np.clip(np.rint(f32(low) - np.repeat(lo, len(x) // groups) / s), low, high).astype(np.int32)


def codes(x, s, zp, bits, quantizer):
    """clip(rint(x / s) + zp).  x [R, K], s [R], zp [R] -> int8 [R, K]"""
    low, high = code_range(bits, quantizer)
    return np.clip(np.rint(before_rounding(x, s)) + zp[:, None].astype(f32), low, high).astype(np.int8)


def before_rounding(x, s):
    """x / s"""
    return x / s[:, None]


def integer_product(a, b):
    """[..., M, K], [..., N, K] -> int64 [..., M, N]; float64 sums of integers are exact below 2^53."""
    return (a.astype(np.float64) @ b.astype(np.float64).swapaxes(-1, -2)).astype(np.int64)


def product(q, zp, weight):
    """q w^T less zp sum(w).  q [R, K], zp [R], weight int8 [N, K] -> int32 [R, N]"""
    acc = integer_product(q, weight) - zp[:, None].astype(np.int64) * weight.sum(axis=1, dtype=np.int64)
    return acc.astype(np.int32)


def spread(s):
    """[B, H] -> [B, 1, H, 1, 1], to multiply scores or mixtures [B, W, H, T, ...]"""
    return s[:, None, :, None, None]


def add_bias(scores, bias, mask):
    """scores + bias, then + mask, where there are any.  [B, W, H, T, T]"""
    scores = scores if bias is None else scores + bias
    return scores if mask is None else scores + mask[:, None]


def score(q, k, s_q, s_k, bias=None, mask=None, multiply=integer_product):
    """(((acc s_q) s_k) R) + bias + mask.  q, k int8 [B, W, H, T, D], s [B, H] -> [B, W, H, T, T]"""
    acc = multiply(q, k).astype(f32)
    return add_bias(((acc * spread(s_q)) * spread(s_k)) * score_scale(q), bias, mask)


def float_score(q, k, bias=None, mask=None, multiply=matmul16):
    """The same from float32 q and k."""
    return add_bias(multiply(q, k) * score_scale(q), bias, mask)


def prob_codes(p):
    """rint(p / PROB_SCALE).  -> int8"""
    return np.rint(p / PROB_SCALE).astype(np.int8)


def context(p, v, s_v, multiply=integer_product):
    """(acc PROB_SCALE) s_v, heads side by side.  p int8 [B, W, H, T, T], v int8 [B, W, H, T, D] -> [B, W, T, H D]"""
    acc = multiply(p, v.swapaxes(-1, -2)).astype(f32)
    return merge_heads_forward((acc * PROB_SCALE) * spread(s_v))


def float_context(p, v, multiply=matmul16):
    """The same from float32 probabilities and values."""
    return merge_heads_forward(multiply(p, v.swapaxes(-1, -2)))


def residual(skip, branches):
    """skip + branch, one after the other."""
    for branch in branches:
        skip = skip + branch
    return skip


def pool(x):
    """Mean of the tokens.  [B, T, C] -> [B, C]"""
    return exact.sum16(x.swapaxes(1, 2)) / f32(x.shape[1])


def copy(x):
    return x


def picture(x):
    return x


def logits(heads):
    """The head's output, or half of the sum of both."""
    return heads[0] if len(heads) == 1 else (heads[0] + heads[1]) * f32(0.5)


TWINS = {
    f.__name__: f
    for f in (
        scale, zero_point, codes, product, rescale, layernorm, gelu, score, float_score, softmax, prob_codes, context,
        float_context, residual, pool, copy, picture, logits
    )
}  # fmt: skip
