"""What may be wrong: a table of typical mistakes of ports.

A row: name, a sentence, and for each kind of operation (operations.TWINS) that it applies to, the operation with it.
Mistakes in the order of the data are in variants.py; what fits is found by causes.py.
"""

from dataclasses import dataclass

import numpy as np

from .. import exact
from ..rules import PROB_SCALE, f32
from . import bugs
from .operations import add_bias
from .slips import (
    bias_before_alpha,
    bias_only_where_used,
    both,
    clip_one_lower,
    codes,
    context_by,
    dynamic_scale,
    folded_layernorm,
    fused_variance,
    heads_inside,
    int16_product,
    integer_bias,
    inverse,
    layernorm,
    levels,
    mask_value,
    one_more_level,
    one_pass_variance,
    one_scale,
    other_eps,
    prob_codes,
    product_of,
    product_with,
    rescale_by,
    rescale_double,
    rescale_fma,
    rescale_fma_alpha_first,
    rounded,
    row_scales,
    sample_variance,
    scale_by,
    scaled_last,
    score_by,
    score_by_root,
    softmax,
    sum_branches,
    summed,
    together,
    transposed_bias,
    unsigned_product,
    zero_point_by,
    zp_before_rounding,
)
from .variants import MISTAKES


@dataclass(frozen=True)
class Hypothesis:
    name: str
    about: str
    kinds: dict


def mistake(name, about, **kinds):
    return Hypothesis(name, about, kinds)


ROUNDING = [
    mistake("half_away", "ties are rounded away from zero, as C's round", **rounded(bugs.half_away)),
    mistake("half_up", "floor(v + 0.5) instead of ties to even", **rounded(bugs.half_up)),
    mistake("truncation", "the fraction is cut off by the conversion to an integer", **rounded(np.trunc)),
    mistake("floor", "codes are rounded down", **rounded(np.floor)),
]
SCALES = [
    mistake(
        "scale_reciprocal",
        "amax is multiplied by 1 / Q instead of divided by Q",
        scale=scale_by(lambda w, *how: w * (f32(1) / levels(*how))),
    ),
    mistake(
        "scale_one_level_more", "amax / 128 instead of amax / 127 (or 2^b for 2^b - 1)", scale=scale_by(one_more_level)
    ),
    mistake(
        "scale_eps",
        "a small number, 1e-5, is the least scale",
        scale=scale_by(lambda w, *how: np.maximum(w / levels(*how), f32(1e-05))),
    ),
    mistake(
        "scale_of_zero",
        "the scale of zeros and of tiny values is not replaced by 1",
        scale=scale_by(lambda w, *how: w / levels(*how)),
    ),
    mistake("scale_for_all", "one scale covers all rows", scale=one_scale),
    mistake("scale_for_each_row", "each row has its own scale", scale=row_scales),
    mistake("scale_dynamic", "the scale is computed although the file has a static one", scale=dynamic_scale),
]
ZERO_POINTS = [
    mistake(
        "zp_sign",
        "the zero point has the wrong sign: low + lo / s",
        zero_point=zero_point_by(lambda lo, hi, s, low, high: low + lo / s),
        codes=codes(sign=-1),
        product=product_of(lambda zp, sums: zp * sums),
    ),
    mistake(
        "zp_from_high",
        "the zero point is taken from the highest value: high - hi / s",
        zero_point=zero_point_by(lambda lo, hi, s, low, high: high - hi / s),
    ),
    mistake(
        "zp_reciprocal",
        "lo is multiplied by 1 / s instead of divided by s",
        zero_point=zero_point_by(lambda lo, hi, s, low, high: low - lo * (f32(1) / s)),
    ),
    mistake(
        "zp_missing", "the zero point is not used", codes=codes(sign=0), product=product_of(lambda zp, sums: 0 * zp)
    ),
    mistake(
        "zp_before_rounding", "the zero point is added before rounding: rint(x / s + zp)", codes=zp_before_rounding
    ),
]
CODES = [
    mistake("reciprocal", "x is multiplied by 1 / s instead of divided by s", codes=codes(divide=bugs.by_reciprocal)),
    mistake(
        "division_in_double",
        "x / s is not rounded to float32 before it is rounded to a code",
        codes=codes(divide=bugs.in_double),
    ),
    mistake("clip_128", "codes are clipped at -128 instead of -127 (at -2^(b-1))", codes=clip_one_lower),
    mistake("no_clip", "codes wrap around instead of being clipped", codes=bugs.wrapped),
    mistake(
        "prob_times_127",
        "probabilities are multiplied by 127 instead of divided by f32(1 / 127)",
        prob_codes=prob_codes(value=lambda p: p * f32(127)),
    ),
    mistake(
        "prob_255",
        "probabilities have the scale 1 / 255",
        prob_codes=prob_codes(value=lambda p: p * f32(255), high=255),
    ),
    mistake("prob_128", "probabilities have the scale 1 / 128", prob_codes=prob_codes(value=lambda p: p * f32(128))),
]
PRODUCTS = [
    mistake("planes_swapped", "the planes of +1 and -1 are exchanged", product=product_with(np.negative)),
    mistake("plane_pos_only", "the plane of -1 is not used", product=product_with(lambda w: np.maximum(w, 0))),
    mistake("plane_neg_only", "the plane of +1 is not used", product=product_with(lambda w: np.minimum(w, 0))),
    mistake("bits_reversed", "bits of a word are read from the highest", product=product_with(bugs.reversed_in(64))),
    mistake(
        "bits_of_bytes_reversed", "bits of a byte are read from the highest", product=product_with(bugs.reversed_in(8))
    ),
    mistake("bytes_swapped", "words are read with the wrong byte order", product=product_with(bugs.swapped_bytes)),
    mistake("inputs_reversed", "the inputs of a row are in reversed order", product=product_with(lambda w: w[:, ::-1])),
    mistake("transposed", "the matrix [N, K] is read as [K, N]", product=product_with(bugs.transposed)),
    mistake("written_transposed", "the matrix was written as [K, N]", product=product_with(bugs.written_transposed)),
    mistake(
        "tail_missing", "inputs after the last whole word of 64 are left out", product=product_with(bugs.without_tail)
    ),
    mistake(
        "rows_at_bytes",
        "a base-3 stream is read as if each row began at a whole byte",
        product=product_with(bugs.padded_stream),
    ),
    mistake("unsigned_codes", "input codes are read as unsigned", product=unsigned_product),
    mistake("wraps_at_16_bits", "the accumulator has 16 bits and wraps around", product=int16_product(False)),
    mistake("saturates_at_16_bits", "the accumulator has 16 bits and saturates", product=int16_product(True)),
]
RESCALING = [
    mistake(
        "alpha_first",
        "(acc * alpha) * s instead of (acc * s) * alpha",
        rescale=rescale_by(lambda acc, s, alpha: acc * alpha * s),
    ),
    mistake(
        "scales_first",
        "acc * (s * alpha) instead of (acc * s) * alpha",
        rescale=rescale_by(lambda acc, s, alpha: acc * (s * alpha)),
    ),
    mistake("rescale_fma", "alpha and bias are applied by one fused multiply-add", rescale=rescale_fma(False)),
    mistake("rescale_fma_alpha_first", "fma(acc * alpha, s, bias)", rescale=rescale_fma_alpha_first),
    mistake("rescale_fma_scales_first", "fma(acc, s * alpha, bias)", rescale=rescale_fma(True)),
    mistake("rescale_double", "rescaled in float64 and rounded once", rescale=rescale_double),
    mistake("bias_missing", "the bias is not added", rescale=lambda acc, s, alpha, bias: exact.rescale(acc, s, alpha)),
    mistake(
        "zero_rows_without_bias", "rows of zeros, as of padding, give 0, not the bias", rescale=bias_only_where_used
    ),
    mistake("bias_in_acc", "the bias is rounded to an integer and added to the accumulator", rescale=integer_bias),
    mistake("bias_before_alpha", "(acc * s + bias) * alpha", rescale=bias_before_alpha),
    mistake("no_alpha", "alpha is not applied", rescale=rescale_by(lambda acc, s, alpha: acc * s)),
    mistake("no_s", "the input's scale is not applied", rescale=rescale_by(lambda acc, s, alpha: acc * alpha)),
]
FLOATS = [
    mistake(
        "eps_outside",
        "sqrt(var) + eps instead of sqrt(var + eps)",
        **layernorm(normalise=lambda d, var, eps: d / (np.sqrt(var) + eps)),
    ),
    *(mistake(f"eps_{e:g}", f"eps is {e:g}", **other_eps(e)) for e in (1e-05, 1e-06, 1e-12, 0.0)),
    mistake(
        "inverse_sqrt",
        "d is multiplied by 1 / sqrt(var + eps) instead of divided",
        **layernorm(normalise=inverse),
    ),
    mistake(
        "inverse_sqrt_fma",
        "d is multiplied by 1 / sqrt(var + eps), gain and bias are fused",
        **layernorm(normalise=inverse, finish=bugs.fma),
    ),
    mistake("variance_fma", "squares are summed by fused multiply-adds", **layernorm(variance=fused_variance)),
    mistake(
        "variance_and_gain_fma",
        "fused multiply-adds in the variance, and for gain and bias",
        **layernorm(variance=fused_variance, finish=bugs.fma),
    ),
    mistake("layernorm_fma", "gain and bias are applied by one fused multiply-add", **layernorm(finish=bugs.fma)),
    mistake(
        "layernorm_folded", "the gain is divided by the deviation first: d * (g / r) + b", layernorm=folded_layernorm
    ),
    mistake("one_pass_variance", "the variance is mean(x^2) - mean^2", **layernorm(variance=one_pass_variance)),
    mistake("sample_variance", "the variance has the divisor n - 1", **layernorm(variance=sample_variance)),
    mistake("layernorm_double", "LayerNorm in float64, rounded once", layernorm=bugs.layernorm_double),
    mistake("gelu_tanh", "the tanh form of GELU, in float32", gelu=bugs.gelu_tanh),
    mistake("gelu_tanh_double", "the tanh form of GELU, in float64", gelu=bugs.gelu_tanh_double),
    mistake("gelu_sigmoid", "x sigmoid(1.702 x) instead of GELU", gelu=bugs.gelu_sigmoid),
    mistake(
        "erf_libm",
        "erf of a mathematical library, correctly rounded or nearly so",
        gelu=lambda x: bugs.gelu(x, bugs.erf_double),
    ),
    mistake("gelu_double", "GELU in float64, rounded once", gelu=bugs.gelu_double),
    mistake(
        "gelu_division",
        "x is divided by sqrt(2) instead of multiplied by its inverse",
        gelu=lambda x: x * f32(0.5) * (f32(1) + exact.erf(x / f32(np.sqrt(2)))),
    ),
    mistake("relu", "ReLU instead of GELU", gelu=lambda x: np.maximum(x, f32(0))),
    mistake("softmax_no_max", "the maximum is not subtracted", **softmax(shift=False)),
    mistake(
        "softmax_reciprocal",
        "e is multiplied by 1 / z instead of divided by z",
        **softmax(divide=lambda e, z: e * (f32(1) / z)),
    ),
    mistake(
        "exp_libm", "exp of a mathematical library, correctly rounded or nearly so", **softmax(exp=bugs.exp_double)
    ),
    mistake("exp_numpy", "exp of numpy in float32", **softmax(exp=np.exp)),
    mistake("exp_by_exp2", "exp(x) as exp2(x log2 e) in float32", **softmax(exp=bugs.exp_by_exp2)),
    mistake("softmax_double", "softmax in float64, rounded once", softmax=bugs.softmax_double),
    *(
        mistake(f"sum_{n}", f"{about} instead of the 16 partial sums", **summed(f))
        for n, (about, f) in bugs.SUMS.items()
    ),
]
ATTENTION = [
    mistake(
        "score_scales_first",
        "acc * (s_q * s_k) instead of (acc * s_q) * s_k",
        score=score_by(lambda acc, s_q, s_k, r: acc * (s_q * s_k) * r),
    ),
    mistake(
        "score_one_factor",
        "acc * ((s_q * s_k) / sqrt(D)): one factor made beforehand",
        score=score_by(lambda acc, s_q, s_k, r: acc * (s_q * s_k * r)),
    ),
    mistake(
        "score_k_first",
        "(acc * s_k) * s_q instead of (acc * s_q) * s_k",
        score=score_by(lambda acc, s_q, s_k, r: acc * s_k * s_q * r),
    ),
    mistake(
        "score_r_first",
        "1 / sqrt(D) is applied before the scales",
        score=score_by(lambda acc, s_q, s_k, r: acc * r * s_q * s_k),
    ),
    mistake(
        "score_r_in_q",
        "1 / sqrt(D) is a part of the scale of q: (acc * (s_q / sqrt(D))) * s_k",
        score=score_by(lambda acc, s_q, s_k, r: acc * (s_q * r) * s_k),
    ),
    mistake(
        "score_division", "scores are divided by sqrt(D) instead of multiplied by f32(1 / sqrt(D))", score=score_by_root
    ),
    mistake(
        "score_no_r", "the factor 1 / sqrt(D) is missing", score=score_by(lambda acc, s_q, s_k, r: acc * s_q * s_k)
    ),
    mistake("bias_before_r", "bias and mask are added before the factor 1 / sqrt(D)", score=scaled_last(add_bias)),
    mistake("mask_infinite", "the mask is -infinity instead of -100", **mask_value(-np.inf)),
    mistake("mask_large", "the mask is -1e9 instead of -100", **mask_value(-1000000000.0)),
    mistake("mask_lowest", "the mask is the lowest float32 instead of -100", **mask_value(np.finfo(f32).min)),
    mistake("mask_missing", "the mask is not added", **both(lambda scores, bias, mask: add_bias(scores, bias, None))),
    mistake(
        "position_bias_missing",
        "the bias of positions is not added",
        **both(lambda scores, bias, mask: add_bias(scores, None, mask)),
    ),
    mistake("position_bias_transposed", "the bias of positions has i and j exchanged", **both(transposed_bias)),
    mistake("bias_and_mask_together", "scores + (bias + mask) instead of (scores + bias) + mask", **both(together)),
    mistake(
        "context_v_first",
        "(acc * s_v) * PROB_SCALE instead of (acc * PROB_SCALE) * s_v",
        context=context_by(lambda acc, s_v: acc * s_v * PROB_SCALE),
    ),
    mistake(
        "context_one_factor", "acc * (PROB_SCALE * s_v)", context=context_by(lambda acc, s_v: acc * (PROB_SCALE * s_v))
    ),
    mistake(
        "context_division",
        "divided by 127 instead of multiplied by f32(1 / 127)",
        context=context_by(lambda acc, s_v: acc / f32(127) * s_v),
    ),
    mistake("heads_inside", "the context has the order d H + h instead of h D + d", context=heads_inside),
]
SUMS = [
    mistake("branches_first", "x + (attention + MLP) instead of (x + attention) + MLP", residual=sum_branches),
    mistake("no_skip", MISTAKES["no_skip"], residual=lambda skip, branches: branches[-1]),
    mistake(
        "first_branch_missing",
        "the attention's branch is missing in the sum",
        residual=lambda skip, branches: skip + branches[-1],
    ),
    mistake(
        "pool_reciprocal",
        "the sum is multiplied by 1 / n instead of divided by n",
        pool=lambda x: exact.sum16(x.swapaxes(1, 2)) * (f32(1) / f32(x.shape[1])),
    ),
    mistake("one_head", "only the first head of a distilled model counts", logits=lambda heads: heads[0]),
    mistake("other_head", "only the second head of a distilled model counts", logits=lambda heads: heads[-1]),
    mistake("heads_added", "the heads of a distilled model are added, not averaged", logits=lambda heads: sum(heads)),
]
TABLE = [*ROUNDING, *SCALES, *ZERO_POINTS, *CODES, *PRODUCTS, *RESCALING, *FLOATS, *ATTENTION, *SUMS]
