"""Operations with one slip, with the arguments that operations.py gives them: what hypotheses.py chooses from.

Functions that take a function make a wrong operation of a wrong step; those that return a dict make one for each kind
of operation (operations.TWINS).
"""

from functools import partial

import numpy as np

from ..engine import score_scale
from ..layers import merge_heads_forward
from ..quant import code_range, row_range
from ..rules import MASK_VALUE, PARTIAL_SUMS, PROB_SCALE, f32, qmax
from . import bugs, operations
from .operations import spread


def scale_by(divide):
    """Scales with another last step.  divide: amax or hi - lo, bits, quantizer -> s"""

    def scale(x, bits, quantizer, groups, static):
        lo, hi = row_range(x.reshape(groups, -1))
        width = np.maximum(-lo, hi) if quantizer == "symmetric" else hi - lo
        return np.repeat(divide(width, bits, quantizer), len(x) // groups)

    return scale


def levels(bits, quantizer):
    return f32(qmax(bits) if quantizer == "symmetric" else (1 << bits) - 1)


def one_more_level(width, bits, quantizer):
    return width / (levels(bits, quantizer) + f32(1))


def one_scale(x, bits, quantizer, groups, static):
    return operations.scale(x, bits, quantizer, 1, None)


def row_scales(x, bits, quantizer, groups, static):
    return operations.scale(x, bits, quantizer, len(x), None)


def dynamic_scale(x, bits, quantizer, groups, static):
    return operations.scale(x, bits, quantizer, groups, None)


def zero_point(x, s, bits, quantizer, groups, static, value=None, rounding=np.rint):
    """value: lo, hi, s, low, high -> before rounding"""
    low, high = code_range(bits, quantizer)
    lo, hi = (np.repeat(v, len(x) // groups) for v in row_range(x.reshape(groups, -1)))
    before = f32(low) - lo / s if value is None else value(lo, hi, s, f32(low), f32(high))
    return np.clip(rounding(before), low, high).astype(np.int32)


def zero_point_by(value):
    return partial(zero_point, value=value)


def codes(**changes):
    return partial(bugs.codes, **changes)


def clip_one_lower(x, s, zp, bits, quantizer):
    return bugs.codes(x, s, zp, bits, quantizer, low=-(1 << (bits - 1)))


def zp_before_rounding(x, s, zp, bits, quantizer):
    low, high = code_range(bits, quantizer)
    return np.clip(np.rint(x / s[:, None] + zp[:, None].astype(f32)), low, high).astype(np.int8)


def product_with(weight_of):
    return lambda q, zp, weight: operations.product(q, zp, weight_of(weight))


def product_of(correct):
    """correct: zp, sums of the weights -> what is added"""

    def product(q, zp, weight):
        acc = operations.integer_product(q, weight)
        return (acc + correct(zp[:, None].astype(np.int64), weight.sum(axis=1, dtype=np.int64))).astype(np.int32)

    return product


def int16_product(saturate):
    def product(q, zp, weight):
        acc = operations.product(q, zp, weight)
        return np.clip(acc, -(1 << 15), (1 << 15) - 1) if saturate else acc.astype(np.int16).astype(np.int32)

    return product


def unsigned_product(q, zp, weight):
    return operations.product(q.view(np.uint8), zp, weight)


def rescale_by(scaled):
    """scaled: f32(acc), s [R, 1], alpha [N] -> before the bias"""

    def rescale(acc, s, alpha, bias):
        y = scaled(acc.astype(f32), s[:, None], alpha)
        return y if bias is None else y + bias

    return rescale


def rescale_fma(combined):
    def rescale(acc, s, alpha, bias):
        acc, s, bias = acc.astype(f32), s[:, None], f32(0) if bias is None else bias
        return bugs.fma(acc, s * alpha, bias) if combined else bugs.fma(acc * s, alpha, bias)

    return rescale


def rescale_fma_alpha_first(acc, s, alpha, bias):
    return bugs.fma(acc.astype(f32) * alpha, s[:, None], f32(0) if bias is None else bias)


def rescale_double(acc, s, alpha, bias):
    y = acc * s[:, None].astype(np.float64) * alpha
    return (y if bias is None else y + bias).astype(f32)


def bias_before_alpha(acc, s, alpha, bias):
    return (acc.astype(f32) * s[:, None] + (f32(0) if bias is None else bias)) * alpha


def integer_bias(acc, s, alpha, bias):
    with np.errstate(all="ignore"):
        added = np.rint((0 if bias is None else bias) / (s[:, None] * alpha))
    return ((acc + np.nan_to_num(added)).astype(f32) * s[:, None]) * alpha


def score_by(scaled, add=operations.add_bias):
    """scaled: f32(acc), s_q, s_k, R -> before bias and mask"""

    def score(q, k, s_q, s_k, bias, mask):
        acc = operations.integer_product(q, k).astype(f32)
        return add(scaled(acc, spread(s_q), spread(s_k), score_scale(q)), bias, mask)

    return score


def in_order(acc, s_q, s_k, r):
    return ((acc * s_q) * s_k) * r


def score_by_root(q, k, s_q, s_k, bias, mask):
    root = f32(np.sqrt(q.shape[-1]))
    return score_by(lambda acc, s_q, s_k, r: ((acc * s_q) * s_k) / root)(q, k, s_q, s_k, bias, mask)


def scaled_last(acc_bias):
    """Bias and mask are added before the factor 1 / sqrt(D)."""

    def score(q, k, s_q, s_k, bias, mask):
        acc = operations.integer_product(q, k).astype(f32)
        return acc_bias((acc * spread(s_q)) * spread(s_k), bias, mask) * score_scale(q)

    return score


def both(add):
    """A mistake in bias or mask, in scores of either kind of attention."""

    def float_score(q, k, bias, mask):
        return add(operations.float_score(q, k, None, None), bias, mask)

    return {"score": score_by(in_order, add), "float_score": float_score}


def mask_value(value):
    def add(scores, bias, mask):
        changed = None if mask is None else np.where(mask == MASK_VALUE, f32(value), mask)
        return operations.add_bias(scores, bias, changed)

    return both(add)


def together(scores, bias, mask):
    return scores if bias is None else scores + (bias if mask is None else bias + mask[:, None])


def transposed_bias(scores, bias, mask):
    return operations.add_bias(scores, None if bias is None else bias.swapaxes(-1, -2), mask)


def context_by(scaled):
    """scaled: f32(acc), s_v -> the mixture"""

    def context(p, v, s_v):
        acc = operations.integer_product(p, v.swapaxes(-1, -2)).astype(f32)
        return merge_heads_forward(scaled(acc, spread(s_v)))

    return context


def heads_inside(p, v, s_v):
    y = (operations.integer_product(p, v.swapaxes(-1, -2)).astype(f32) * PROB_SCALE) * spread(s_v)
    return y.transpose(0, 1, 3, 4, 2).reshape(*y.shape[:2], y.shape[3], -1)


def prob_codes(rounding=np.rint, value=lambda p: p / PROB_SCALE, high=127):
    return lambda p: np.clip(rounding(value(p)), 0, high).astype(np.uint8).view(np.int8)


def rounded(rounding):
    """A way to round, wherever codes are made."""
    zero = partial(zero_point, rounding=rounding)
    return {"codes": codes(rounding=rounding), "prob_codes": prob_codes(rounding), "zero_point": zero}


def summed(total):
    """A way to sum, wherever 16 partial sums are the rule."""

    products = partial(bugs.sum_of_products, total=total)

    def float_score(q, k, bias, mask):
        return operations.add_bias(products(q, k) * score_scale(q), bias, mask)

    return {
        "layernorm": partial(bugs.layernorm, total=total),
        "softmax": partial(bugs.softmax, total=total),
        "pool": lambda x: total(x.swapaxes(1, 2)) / f32(x.shape[1]),
        "float_score": float_score,
        "float_context": lambda p, v: merge_heads_forward(products(p, v.swapaxes(-1, -2))),
    }


def layernorm(**parts):
    return {"layernorm": partial(bugs.layernorm, **parts)}


def other_eps(eps):
    return layernorm(other_eps=eps)


def softmax(**parts):
    return {"softmax": partial(bugs.softmax, **parts)}


def folded_layernorm(x, weight, bias, eps):
    """d (g / r) + b"""
    how = {"normalise": lambda d, var, e: d * (weight / np.sqrt(var + e)), "finish": lambda y, g, b: y + b}
    return bugs.layernorm(x, weight, bias, eps, **how)


def one_pass_variance(x, d, mean, total):
    return (total(x * x) / f32(x.shape[-1]))[..., None] - mean * mean


def fused_variance(x, d, mean, total):
    """The 16 partial sums take their squares by fused multiply-adds."""
    n = d.shape[-1]
    d = np.concatenate([d, np.zeros((*d.shape[:-1], -n % PARTIAL_SUMS), f32)], axis=-1)
    partial_sums = np.zeros((*d.shape[:-1], PARTIAL_SUMS), f32)
    for start in range(0, n, PARTIAL_SUMS):
        part = d[..., start : start + PARTIAL_SUMS]
        partial_sums = bugs.fma(part, part, partial_sums)
    return (total(partial_sums) / f32(n))[..., None]


def inverse(d, var, eps):
    return d * (f32(1) / np.sqrt(var + eps))


def bias_only_where_used(acc, s, alpha, bias):
    y = operations.rescale(acc, s, alpha, bias)
    return np.where((acc == 0).all(axis=1)[:, None], f32(0), y)


def sample_variance(x, d, mean, total):
    return (total(d * d) / f32(x.shape[-1] - 1))[..., None]


def sum_branches(skip, branches):
    return skip + operations.residual(branches[0], branches[1:])
