"""What may be wrong: a table of typical mistakes of ports, and the test which of them makes a wrong tensor's values.

A row: name, a sentence, and for each kind of operation (operations.TWINS) that it applies to, the operation with it.
"""

from dataclasses import dataclass

import numpy as np

from . import bugs, exact, slips
from .difference import changes
from .operations import add_bias
from .rules import PROB_SCALE, f32
from .variants import MISTAKES

NEAREST = 3  # hypotheses that are named where none reproduces everything


@dataclass(frozen=True)
class Hypothesis:
    name: str
    about: str
    kinds: dict


@dataclass(frozen=True)
class Cause:
    """A hypothesis that gives a share of the other's values, more than the right operation does."""

    name: str
    about: str
    reproduces: float


ROUNDING = [
    Hypothesis("half_away", "ties are rounded away from zero, as C's round", slips.rounded(bugs.half_away)),
    Hypothesis("half_up", "floor(v + 0.5) instead of ties to even", slips.rounded(bugs.half_up)),
    Hypothesis("truncation", "the fraction is cut off by the conversion to an integer", slips.rounded(np.trunc)),
    Hypothesis("floor", "codes are rounded down", slips.rounded(np.floor)),
]
SCALES = [
    Hypothesis("scale_reciprocal", "amax is multiplied by 1 / Q instead of divided by Q",
               {"scale": slips.scale_by(lambda w, *how: w * (f32(1) / slips.levels(*how)))}),
    Hypothesis("scale_one_level_more", "amax / 128 instead of amax / 127 (or 2^b for 2^b - 1)",
               {"scale": slips.scale_by(slips.one_more_level)}),
    Hypothesis("scale_eps", "a small number, 1e-5, is the least scale",
               {"scale": slips.scale_by(lambda w, *how: np.maximum(w / slips.levels(*how), f32(1e-5)))}),
    Hypothesis("scale_of_zero", "the scale of zeros and of tiny values is not replaced by 1",
               {"scale": slips.scale_by(lambda w, *how: w / slips.levels(*how))}),
    Hypothesis("scale_for_all", "one scale covers all rows", {"scale": slips.one_scale}),
    Hypothesis("scale_for_each_row", "each row has its own scale", {"scale": slips.row_scales}),
    Hypothesis("scale_dynamic", "the scale is computed although the file has a static one", {"scale": slips.dynamic_scale}),
]  # fmt: skip
ZERO_POINTS = [
    Hypothesis("zp_sign", "the zero point has the wrong sign: low + lo / s",
               {"zero_point": slips.zero_point_by(lambda lo, hi, s, low, high: low + lo / s),
                "codes": slips.codes(sign=-1), "product": slips.product_of(lambda zp, sums: zp * sums)}),
    Hypothesis("zp_from_high", "the zero point is taken from the highest value: high - hi / s",
               {"zero_point": slips.zero_point_by(lambda lo, hi, s, low, high: high - hi / s)}),
    Hypothesis("zp_reciprocal", "lo is multiplied by 1 / s instead of divided by s",
               {"zero_point": slips.zero_point_by(lambda lo, hi, s, low, high: low - lo * (f32(1) / s))}),
    Hypothesis("zp_missing", "the zero point is not used",
               {"codes": slips.codes(sign=0), "product": slips.product_of(lambda zp, sums: 0 * zp)}),
    Hypothesis("zp_before_rounding", "the zero point is added before rounding: rint(x / s + zp)",
               {"codes": slips.zp_before_rounding}),
]  # fmt: skip
CODES = [
    Hypothesis("reciprocal", "x is multiplied by 1 / s instead of divided by s", {"codes": slips.codes(divide=bugs.by_reciprocal)}),
    Hypothesis("reciprocal_half_away", "x * (1 / s), and ties away from zero",
               {"codes": slips.codes(divide=bugs.by_reciprocal, rounding=bugs.half_away)}),
    Hypothesis("reciprocal_half_up", "floor(x * (1 / s) + 0.5)",
               {"codes": slips.codes(divide=bugs.by_reciprocal, rounding=bugs.half_up)}),
    Hypothesis("division_in_double", "x / s is not rounded to float32 before it is rounded to a code",
               {"codes": slips.codes(divide=bugs.in_double)}),
    Hypothesis("clip_128", "codes are clipped at -128 instead of -127 (at -2^(b-1))", {"codes": slips.clip_one_lower}),
    Hypothesis("no_clip", "codes wrap around instead of being clipped", {"codes": bugs.wrapped}),
    Hypothesis("prob_times_127", "probabilities are multiplied by 127 instead of divided by f32(1 / 127)",
               {"prob_codes": slips.prob_codes(value=lambda p: p * f32(127))}),
    Hypothesis("prob_255", "probabilities have the scale 1 / 255", {"prob_codes": slips.prob_codes(value=lambda p: p * f32(255), high=255)}),
    Hypothesis("prob_128", "probabilities have the scale 1 / 128", {"prob_codes": slips.prob_codes(value=lambda p: p * f32(128))}),
]  # fmt: skip
PRODUCTS = [
    Hypothesis("planes_swapped", "the planes of +1 and -1 are exchanged", {"product": slips.product_with(np.negative)}),
    Hypothesis("plane_pos_only", "the plane of -1 is not used", {"product": slips.product_with(lambda w: np.maximum(w, 0))}),
    Hypothesis("plane_neg_only", "the plane of +1 is not used", {"product": slips.product_with(lambda w: np.minimum(w, 0))}),
    Hypothesis("bits_reversed", "bits of a word are read from the highest", {"product": slips.product_with(bugs.reversed_in(64))}),
    Hypothesis("bits_of_bytes_reversed", "bits of a byte are read from the highest", {"product": slips.product_with(bugs.reversed_in(8))}),
    Hypothesis("bytes_swapped", "words are read with the wrong byte order", {"product": slips.product_with(bugs.swapped_bytes)}),
    Hypothesis("inputs_reversed", "the inputs of a row are in reversed order", {"product": slips.product_with(lambda w: w[:, ::-1])}),
    Hypothesis("transposed", "the matrix [N, K] is read as [K, N]", {"product": slips.product_with(bugs.transposed)}),
    Hypothesis("written_transposed", "the matrix was written as [K, N]", {"product": slips.product_with(bugs.written_transposed)}),
    Hypothesis("tail_missing", "inputs after the last whole word of 64 are left out", {"product": slips.product_with(bugs.without_tail)}),
    Hypothesis("rows_at_bytes", "a base-3 stream is read as if each row began at a whole byte", {"product": slips.product_with(bugs.padded_stream)}),
    Hypothesis("unsigned_codes", "input codes are read as unsigned", {"product": slips.unsigned_product}),
    Hypothesis("wraps_at_16_bits", "the accumulator has 16 bits and wraps around", {"product": slips.int16_product(False)}),
    Hypothesis("saturates_at_16_bits", "the accumulator has 16 bits and saturates", {"product": slips.int16_product(True)}),
]  # fmt: skip
RESCALING = [
    Hypothesis("alpha_first", "(acc * alpha) * s instead of (acc * s) * alpha",
               {"rescale": slips.rescale_by(lambda acc, s, alpha: (acc * alpha) * s)}),
    Hypothesis("scales_first", "acc * (s * alpha) instead of (acc * s) * alpha",
               {"rescale": slips.rescale_by(lambda acc, s, alpha: acc * (s * alpha))}),
    Hypothesis("rescale_fma", "alpha and bias are applied by one fused multiply-add", {"rescale": slips.rescale_fma(False)}),
    Hypothesis("rescale_fma_scales_first", "fma(acc, s * alpha, bias)", {"rescale": slips.rescale_fma(True)}),
    Hypothesis("rescale_double", "rescaled in float64 and rounded once", {"rescale": slips.rescale_double}),
    Hypothesis("bias_missing", "the bias is not added", {"rescale": lambda acc, s, alpha, bias: exact.rescale(acc, s, alpha)}),
    Hypothesis("bias_in_acc", "the bias is rounded to an integer and added to the accumulator", {"rescale": slips.integer_bias}),
    Hypothesis("no_alpha", "alpha is not applied", {"rescale": slips.rescale_by(lambda acc, s, alpha: acc * s)}),
    Hypothesis("no_s", "the input's scale is not applied", {"rescale": slips.rescale_by(lambda acc, s, alpha: acc * alpha)}),
]  # fmt: skip
FLOATS = [
    Hypothesis("eps_outside", "sqrt(var) + eps instead of sqrt(var + eps)",
               slips.layernorm(normalise=lambda d, var, eps: d / (np.sqrt(var) + eps))),
    *(Hypothesis(f"eps_{e:.0e}", f"eps is {e:.0e}", slips.other_eps(e)) for e in (1e-5, 1e-6, 1e-12, 0.0)),
    Hypothesis("inverse_sqrt", "d is multiplied by 1 / sqrt(var + eps) instead of divided",
               slips.layernorm(normalise=lambda d, var, eps: d * (f32(1) / np.sqrt(var + eps)))),
    Hypothesis("layernorm_fma", "gain and bias are applied by one fused multiply-add", slips.layernorm(finish=bugs.fma)),
    Hypothesis("layernorm_folded", "the gain is divided by the deviation first: d * (g / r) + b", {"layernorm": slips.folded_layernorm}),
    Hypothesis("one_pass_variance", "the variance is mean(x^2) - mean^2", slips.layernorm(variance=slips.one_pass_variance)),
    Hypothesis("sample_variance", "the variance has the divisor n - 1", slips.layernorm(variance=slips.sample_variance)),
    Hypothesis("layernorm_double", "LayerNorm in float64, rounded once", {"layernorm": bugs.layernorm_double}),
    Hypothesis("gelu_tanh", "the tanh form of GELU, in float32", {"gelu": bugs.gelu_tanh}),
    Hypothesis("gelu_tanh_double", "the tanh form of GELU, in float64", {"gelu": bugs.gelu_tanh_double}),
    Hypothesis("gelu_sigmoid", "x sigmoid(1.702 x) instead of GELU", {"gelu": bugs.gelu_sigmoid}),
    Hypothesis("erf_libm", "erf of a mathematical library, correctly rounded or nearly so", {"gelu": lambda x: bugs.gelu(x, bugs.erf_double)}),
    Hypothesis("gelu_double", "GELU in float64, rounded once", {"gelu": bugs.gelu_double}),
    Hypothesis("gelu_division", "x is divided by sqrt(2) instead of multiplied by its inverse",
               {"gelu": lambda x: (x * f32(0.5)) * (f32(1) + exact.erf(x / f32(np.sqrt(2))))}),
    Hypothesis("relu", "ReLU instead of GELU", {"gelu": lambda x: np.maximum(x, f32(0))}),
    Hypothesis("softmax_no_max", "the maximum is not subtracted", slips.softmax(shift=False)),
    Hypothesis("softmax_reciprocal", "e is multiplied by 1 / z instead of divided by z",
               slips.softmax(divide=lambda e, z: e * (f32(1) / z))),
    Hypothesis("exp_libm", "exp of a mathematical library, correctly rounded or nearly so", slips.softmax(exp=bugs.exp_double)),
    Hypothesis("exp_numpy", "exp of numpy in float32", slips.softmax(exp=np.exp)),
    Hypothesis("exp_by_exp2", "exp(x) as exp2(x log2 e) in float32", slips.softmax(exp=bugs.exp_by_exp2)),
    Hypothesis("softmax_double", "softmax in float64, rounded once", {"softmax": bugs.softmax_double}),
    *(Hypothesis(f"sum_{n}", f"{about} instead of the 16 partial sums", slips.summed(f)) for n, (about, f) in bugs.SUMS.items()),
]  # fmt: skip
ATTENTION = [
    Hypothesis("score_scales_first", "acc * (s_q * s_k) instead of (acc * s_q) * s_k",
               {"score": slips.score_by(lambda acc, s_q, s_k, r: (acc * (s_q * s_k)) * r)}),
    Hypothesis("score_one_factor", "acc * ((s_q * s_k) / sqrt(D)): one factor made beforehand",
               {"score": slips.score_by(lambda acc, s_q, s_k, r: acc * ((s_q * s_k) * r))}),
    Hypothesis("score_k_first", "(acc * s_k) * s_q instead of (acc * s_q) * s_k",
               {"score": slips.score_by(lambda acc, s_q, s_k, r: ((acc * s_k) * s_q) * r)}),
    Hypothesis("score_r_first", "1 / sqrt(D) is applied before the scales",
               {"score": slips.score_by(lambda acc, s_q, s_k, r: ((acc * r) * s_q) * s_k)}),
    Hypothesis("score_r_in_q", "1 / sqrt(D) is a part of the scale of q: (acc * (s_q / sqrt(D))) * s_k",
               {"score": slips.score_by(lambda acc, s_q, s_k, r: (acc * (s_q * r)) * s_k)}),
    Hypothesis("score_division", "scores are divided by sqrt(D) instead of multiplied by f32(1 / sqrt(D))",
               {"score": slips.score_by_root}),
    Hypothesis("score_no_r", "the factor 1 / sqrt(D) is missing", {"score": slips.score_by(lambda acc, s_q, s_k, r: (acc * s_q) * s_k)}),
    Hypothesis("bias_before_r", "bias and mask are added before the factor 1 / sqrt(D)", {"score": slips.scaled_last(add_bias)}),
    Hypothesis("mask_infinite", "the mask is -infinity instead of -100", slips.mask_value(-np.inf)),
    Hypothesis("mask_large", "the mask is -1e9 instead of -100", slips.mask_value(-1e9)),
    Hypothesis("mask_lowest", "the mask is the lowest float32 instead of -100", slips.mask_value(np.finfo(f32).min)),
    Hypothesis("mask_missing", "the mask is not added", slips.both(lambda scores, bias, mask: add_bias(scores, bias, None))),
    Hypothesis("position_bias_missing", "the bias of positions is not added", slips.both(lambda scores, bias, mask: add_bias(scores, None, mask))),
    Hypothesis("position_bias_transposed", "the bias of positions has i and j exchanged", slips.both(slips.transposed_bias)),
    Hypothesis("bias_and_mask_together", "scores + (bias + mask) instead of (scores + bias) + mask", slips.both(slips.together)),
    Hypothesis("context_v_first", "(acc * s_v) * PROB_SCALE instead of (acc * PROB_SCALE) * s_v",
               {"context": slips.context_by(lambda acc, s_v: (acc * s_v) * PROB_SCALE)}),
    Hypothesis("context_one_factor", "acc * (PROB_SCALE * s_v)", {"context": slips.context_by(lambda acc, s_v: acc * (PROB_SCALE * s_v))}),
    Hypothesis("context_division", "divided by 127 instead of multiplied by f32(1 / 127)",
               {"context": slips.context_by(lambda acc, s_v: (acc / f32(127)) * s_v)}),
    Hypothesis("heads_inside", "the context has the order d H + h instead of h D + d", {"context": slips.heads_inside}),
]  # fmt: skip
SUMS = [
    Hypothesis("branches_first", "x + (attention + MLP) instead of (x + attention) + MLP", {"residual": slips.sum_branches}),
    Hypothesis("no_skip", MISTAKES["no_skip"], {"residual": lambda skip, branches: branches[-1]}),
    Hypothesis("first_branch_missing", "the attention's branch is missing in the sum", {"residual": lambda skip, branches: skip + branches[-1]}),
    Hypothesis("pool_reciprocal", "the sum is multiplied by 1 / n instead of divided by n",
               {"pool": lambda x: exact.sum16(x.swapaxes(1, 2)) * (f32(1) / f32(x.shape[1]))}),
    Hypothesis("one_head", "only the first head of a distilled model counts", {"logits": lambda heads: heads[0]}),
    Hypothesis("other_head", "only the second head of a distilled model counts", {"logits": lambda heads: heads[-1]}),
    Hypothesis("heads_added", "the heads of a distilled model are added, not averaged", {"logits": lambda heads: sum(heads)}),
]  # fmt: skip
TABLE = [*ROUNDING, *SCALES, *ZERO_POINTS, *CODES, *PRODUCTS, *RESCALING, *FLOATS, *ATTENTION, *SUMS]


def ways(step):
    """Every mistake that applies to a step.  -> (name, sentence, function: () -> value)"""
    for h in TABLE:
        if step.kind in h.kinds:
            yield h.name, h.about, lambda h=h: step.value(h.kinds[step.kind])
    for name, make in step.variants.items():
        yield name, MISTAKES[name], lambda make=make: step.value(x=make().reshape(step.inputs["x"].shape))


def causes(step, own, got, only=None):
    """What makes ``got`` of a step whose right value is ``own``: all mistakes that give every value of it, or the nearest.

    only  names of the hypotheses to be tested, or None: all.  -> list of Cause, the best first
    """
    found, base = [], share(own, got)
    for name, about, make in ways(step):
        if only is None or name in only:
            value = make()
            same = share(value, got) if value.dtype == got.dtype else 0.0
            if same > base:
                found.append(Cause(name, about, same))
    found.sort(key=lambda cause: -cause.reproduces)
    exact_ones = [cause for cause in found if cause.reproduces == 1]
    return exact_ones or found[:NEAREST]


def share(value, got):
    """Share of values that are the same."""
    return 1 - float(changes(value, got).mean()) if value.shape == got.shape else 0.0
