"""Mistakes in operations of the kit that no trace has: what hypotheses.py is for the others.

OWN: name -> (sentence, dict: operation -> function of its inputs and parameters: the wrong outputs, one array where the
operation has one). Names and sentences that hypotheses.py or variants.py has as well are theirs.
"""

from functools import partial

import numpy as np

from .. import bitplanes, exact, quant, window
from ..conformance import bugs
from ..conformance.hypotheses import TABLE
from ..conformance.variants import MISTAKES
from ..model import INIT_STD, bell
from ..rules import f32
from .answers import preprocess_of, weight_int8
from .ternary_slips import base3_decode, base3_encode, ternarize

SENTENCES = {h.name: h.about for h in TABLE} | MISTAKES


def mistake(about, **operations):
    return about, operations


def known(name, **operations):
    return {name: (SENTENCES[name], operations)}


def summed(total):
    return lambda x: total(x) if x.size else exact.sum16(x)


def other_granularity(function):
    def wrong(granularity, **arguments):
        return function(granularity="layer" if granularity == "channel" else "channel", **arguments)

    return wrong


def read_and_written(name, change):
    """Planes with their codes changed, in either direction."""

    def decode(planes, k):
        return {"accepted": np.ones(1, np.uint8), "codes": change(bitplanes.unpack_planes(planes, k))}

    return known(
        name,
        planes_encode=lambda codes: bitplanes.pack_planes(np.ascontiguousarray(change(codes))),
        planes_decode=decode,
    )


def mask_of(value):
    return lambda **how: np.where(
        window.shift_mask(how["side"], how["window_size"], how["shift"]) < 0, f32(value), f32(0)
    )


def back(change):
    """windows_back of changed windows or another shift."""
    return lambda windows, window_size, shift, side: change(windows, window_size, shift, side)


def columns_back(windows, m, shift, side):
    n = window.padded_size(side, m) // m
    turned = windows.reshape(len(windows), n, n, *windows.shape[2:]).swapaxes(1, 2).reshape(windows.shape)
    return window.from_windows(turned, m, shift, side)


def pixels_double(u8, mean, std):
    how = preprocess_of(u8, mean, std)
    mean, std = (np.array(values)[:, None, None] for values in (how.mean, how.std))
    return ((np.moveaxis(u8, -1, 0).astype(f32) / f32(255) - mean) / std).astype(f32)


def patch_columns(x, patch_size):
    """Patches column by column."""
    c, side, _ = x.shape
    n, p = side // patch_size, patch_size
    return x.reshape(c, n, p, n, p).transpose(3, 1, 0, 2, 4).reshape(n * n, -1)


def channels_last(x, patch_size):
    c, side, _ = x.shape
    n, p = side // patch_size, patch_size
    return x.reshape(c, n, p, n, p).transpose(1, 3, 2, 4, 0).reshape(n * n, -1)


def seed_of_32_bits(seed, count):
    words = np.random.PCG64(int(seed) % 2**32).random_raw(count)
    return {"words": words, "elements": bell(np.random.PCG64(int(seed) % 2**32), count) * f32(INIT_STD)}


def seeded_in_float32(seed, count):
    words = np.random.PCG64(int(seed)).random_raw(count)
    centred = 2 * words.astype("<u8").view("<u2").reshape(count, 4).astype(np.int32).sum(axis=1) - 262140
    return {
        "words": words,
        "elements": centred.astype(f32) / f32(float.fromhex("0x1.279a74586f649p+16")) * f32(INIT_STD),
    }


def mask_before_rounding(x, s, zp, bits, quantizer):
    low, high = quant.code_range(bits, quantizer)
    v = x / s[:, None] + zp[:, None].astype(f32)
    return ((v >= low) & (v <= high)).astype(np.uint8)


def layernorm_without_means(x, weight, dy, eps):
    d = x - x.mean(axis=1, keepdims=True)
    rstd = f32(1) / np.sqrt((d * d).mean(axis=1, keepdims=True) + f32(eps))
    return {"dx": rstd * dy * weight, "dweight": (dy * d * rstd).sum(axis=0), "dbias": dy.sum(axis=0)}


def softmax_without_sum(x, dy):
    return exact.softmax(x) * dy


def averaged(x, w, dy):
    return {"dx": dy @ w, "dw": dy.T @ x / f32(len(x)), "db": dy.mean(axis=0)}


OWN = {
    **known("exp_libm", exp=bugs.exp_double),
    **known("exp_by_exp2", exp=bugs.exp_by_exp2),
    **known("erf_libm", erf=bugs.erf_double),
    "exp_narrow": mistake(
        "exp is 0 below -87.34, where results are subnormal",
        exp=lambda x: np.where(x < f32(-87.33655), f32(0), exact.exp(x)),
    ),
    "erf_narrow": mistake("erf is 1 from 3.5 on", erf=lambda x: np.where(np.abs(x) >= 3.5, np.sign(x), exact.erf(x))),
    "sign_of_zero": mistake(
        "-0 becomes +0",
        erf=lambda x: exact.erf(x) + f32(0),
        gelu=lambda x: exact.gelu(x) + f32(0),
        residual=lambda skip, branch, gamma=None: skip + (branch if gamma is None else branch * gamma) + f32(0),
    ),
    **{f"sum_{n}": (SENTENCES[f"sum_{n}"], {"sum16": summed(f)}) for n, (_, f) in bugs.SUMS.items()},
    "seed_of_32_bits": mistake("only the lowest 32 bits of a seed count", seeded=seed_of_32_bits),
    "seeded_in_float32": mistake("elements are divided by the deviation in float32", seeded=seeded_in_float32),
    "pixels_double": mistake("mean and std are applied in float64, rounded once", pixels=pixels_double),
    **known("channels_last", patches=channels_last),
    "patch_columns": mistake("patches are taken column by column", patches=patch_columns),
    "not_strict": mistake("|w| >= Delta instead of |w| > Delta", ternarize=partial(ternarize, above=np.greater_equal)),
    "delta_not_rounded": mistake("Delta is not rounded to float32", ternarize=partial(ternarize, rounded=False)),
    "delta_of_float32_sum": mistake(
        "mean|W| is made of a float32 sum", ternarize=partial(ternarize, sums=bugs.sequential)
    ),
    "alpha_of_all": mistake(
        "alpha is the mean of all |w|, not of those above Delta", ternarize=partial(ternarize, all_count=True)
    ),
    "optimal_largest": mistake(
        "of equally good thresholds the largest k wins", ternarize=partial(ternarize, last=True)
    ),
    "granularity_exchanged": mistake(
        "one scale where each channel has its own, or the reverse",
        ternarize=other_granularity(ternarize),
        weight_int8=other_granularity(weight_int8),
    ),
    **read_and_written("planes_swapped", np.negative),
    **read_and_written("plane_pos_only", lambda codes: np.maximum(codes, 0)),
    **read_and_written("plane_neg_only", lambda codes: np.minimum(codes, 0)),
    **read_and_written("bits_reversed", bugs.reversed_in(64)),
    **read_and_written("bits_of_bytes_reversed", bugs.reversed_in(8)),
    **read_and_written("bytes_swapped", bugs.swapped_bytes),
    **read_and_written("inputs_reversed", lambda codes: codes[:, ::-1]),
    **read_and_written("written_transposed", bugs.written_transposed),
    **read_and_written("tail_missing", bugs.without_tail),
    **known(
        "rows_at_bytes", base3_encode=partial(base3_encode, rows=True), base3_decode=partial(base3_decode, rows=True)
    ),
    "digits_reversed": mistake(
        "the first code of a byte counts 81, the last 1",
        base3_encode=partial(base3_encode, reverse=True),
        base3_decode=partial(base3_decode, reverse=True),
    ),
    "digits_of_zero": mistake(
        "digits 0, 1, 2 stand for 0, 1, -1",
        base3_encode=partial(base3_encode, shift=0),
        base3_decode=partial(base3_decode, shift=0),
    ),
    "tail_of_zeros": mistake("missing codes at the end count as digits 0", base3_encode=partial(base3_encode, tail=0)),
    "residual_fma": mistake(
        "gamma and the sum are one fused multiply-add",
        residual=lambda skip, branch, gamma=None: skip + branch if gamma is None else bugs.fma(branch, gamma, skip),
    ),
    "gamma_missing": mistake("gamma is not applied", residual=lambda skip, branch, gamma=None: skip + branch),
    "last_of_equals": mistake(
        "of equal logits the highest index",
        predict=lambda logits: (logits.shape[1] - 1 - np.argmax(logits[:, ::-1], axis=1)).astype(np.int32),
    ),
    **known("shift_back", windows_back=back(lambda w, m, shift, side: window.from_windows(w, m, -shift, side))),
    **known("no_shift", windows_back=back(lambda w, m, shift, side: window.from_windows(w, m, 0, side))),
    **known("window_columns", windows_back=back(columns_back)),
    **known("mask_infinite", shift_mask=mask_of(-np.inf)),
    **known("mask_large", shift_mask=mask_of(-1e9)),
    **known("mask_missing", shift_mask=mask_of(0)),
    **known(
        "position_bias_transposed",
        position_bias=lambda table, window_size: window.bias_forward(table, window_size).swapaxes(1, 2),
    ),
    "table_heads_first": mistake(
        "the table of positions is read as [heads, positions]",
        position_bias=lambda table, window_size: window.bias_forward(table.reshape(table.shape[::-1]).T, window_size),
    ),
    "mask_everywhere": mistake(
        "the gradient passes everywhere",
        act_mask=lambda x, **how: np.ones(x.shape, np.uint8),
        weight_mask=lambda w, ste_clip: np.ones(w.shape, np.uint8),
    ),
    "mask_before_rounding": mistake(
        "the mask is taken of x / s + zp before it is rounded", act_mask=mask_before_rounding
    ),
    "mask_strict": mistake(
        "|w| < c instead of |w| <= c",
        weight_mask=lambda w, ste_clip: (np.abs(w) < f32(float.fromhex(ste_clip))).astype(np.uint8),
    ),
    "clip_in_double": mistake(
        "c is not rounded to float32",
        weight_mask=lambda w, ste_clip: (np.abs(w.astype(np.float64)) <= float.fromhex(ste_clip)).astype(np.uint8),
    ),
    "gradient_without_means": mistake(
        "the two means in the gradient of LayerNorm are missing", layernorm_backward=layernorm_without_means
    ),
    "gradient_without_sum": mistake(
        "the sum in the gradient of softmax is missing", softmax_backward=softmax_without_sum
    ),
    "gradients_averaged": mistake(
        "gradients of parameters are averaged over rows, not summed", linear_backward=averaged
    ),
    **known("relu", gelu_backward=lambda x, dy: dy * (x > 0)),
}
