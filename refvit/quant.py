"""8-bit weights and b-bit activations (rules N1, N4, N5, N6): codes, scales, and their straight-through backward.

TerViT compares two quantizers of activations, symmetric and min-max; both stand here. A quantizer works on the rows
of a matrix [T, K]; what a row is (a token, a whole image) is the caller's choice (N6), never the batch.
Rounding is half to even, the clip comes before the cast.
"""

import numpy as np

from .errors import BadInputError, UsageError
from .rules import SCALE_MIN, f32, qmax


def weight_int8(w, granularity="channel"):
    """Symmetric 8-bit codes with a scale per output channel (N1), or "layer": the same scale for all of them.

    float32 [N, K] -> int8 [N, K], float32 [N]
    """
    rows = w if granularity == "channel" else w.reshape(1, -1)
    s = np.broadcast_to(symmetric_scale(rows, 8), len(w)).copy()
    return quantize_symmetric(w, s, 8), s


def code_range(bits, quantizer):
    """(lowest, highest) code of a quantizer (N4)."""
    return (-qmax(bits), qmax(bits)) if quantizer == "symmetric" else (-(1 << (bits - 1)), qmax(bits))


def symmetric_scale(x, bits):
    """s = f32(amax / qmax), amax over the finite values of each row (N4, N5).  [T, K] -> float32 [T]"""
    return scale_from_amax(row_amax(x), bits)


def scale_from_amax(amax, bits):
    """s = f32(amax / qmax), 1 where that is below the smallest normal float32 (N5).  [T] -> [T]"""
    s = amax / f32(qmax(bits))
    return np.where(s < SCALE_MIN, f32(1.0), s)


def minmax_scale(x, bits):
    """Scale and zero point of each row (N4).  [T, K] -> s float32 [T], zp int32 [T]"""
    return scale_from_range(*row_range(x), bits)


def scale_from_range(lo, hi, bits):
    """s = f32(f32(hi - lo) / (2^b - 1)), zp = clip(rint(-2^(b-1) - f32(lo / s))) (N4).  lo <= 0 <= hi, [T] -> [T], [T]

    Where hi - lo overflows, s = f32(f32(hi / (2^b - 1)) - f32(lo / (2^b - 1))).
    """
    levels = f32((1 << bits) - 1)
    with np.errstate(over="ignore"):
        width = hi - lo
        s = np.where(np.isinf(width), hi / levels - lo / levels, width / levels)
    s = np.where(s < SCALE_MIN, f32(1.0), s)
    low, high = code_range(bits, "minmax")
    zp = np.clip(np.rint(f32(low) - lo / s), low, high)
    return s, zp.astype(np.int32)


def static_scale(ranges, name, bits, quantizer):
    """The calibrated scale and zero point of a layer's input (N6).  -> s float32 [1], zp int32 [1]"""
    if not ranges or name not in ranges:
        what = "no calibrated range for a static scale"
        raise UsageError(name, what, "a calibration file", "none", "refvit calibrate")
    amax, lo, hi = (np.array([v], f32) for v in ranges[name])
    if quantizer == "symmetric":
        return scale_from_amax(amax, bits), np.zeros(1, np.int32)
    return scale_from_range(lo, hi, bits)


def quantize_symmetric(x, s, bits):
    """q = clip(rint(f32(x / s)), -qmax, qmax) (N4).  x [T, K], s [T] -> int8 [T, K]"""
    with np.errstate(over="ignore"):
        q = np.rint(x / s[:, None])
    return np.clip(q, -qmax(bits), qmax(bits)).astype(np.int8)


def quantize_minmax(x, s, zp, bits):
    """q = clip(rint(f32(x / s)) + zp, -2^(b-1), 2^(b-1) - 1) (N4).  x [T, K], s [T], zp [T] -> int8 [T, K]"""
    with np.errstate(over="ignore"):
        q = np.rint(x / s[:, None]) + zp[:, None].astype(np.float32)
    return np.clip(q, *code_range(bits, "minmax")).astype(np.int8)


def quantize_rows(x, bits=8, quantizer="symmetric", s=None, zp=None):
    """Codes of each row with its own scale, or with the given ones (static, N6).

    x float32 [T, K]; s float32 [T] and, for "minmax", zp int32 [T], or None. Infinite values saturate (N5).
    Returns q int8 [T, K], s float32 [T], zp int32 [T] (zeros for "symmetric"). Raises BadInputError for NaN.
    """
    if np.isnan(x).any():
        row, col = np.argwhere(np.isnan(x))[0]
        raise BadInputError("quantizer", f"value at row {row}, column {col}", "no NaN", "NaN")
    if quantizer == "symmetric":
        s = symmetric_scale(x, bits) if s is None else s
        return quantize_symmetric(x, s, bits), s, np.zeros(len(x), np.int32)
    if s is None:
        s, zp = minmax_scale(x, bits)
    return quantize_minmax(x, s, zp, bits), s, zp


def dequantize_rows(q, s, zp):
    """(q - zp) * s.  int8 [T, K], float32 [T], int32 [T] -> float32 [T, K]"""
    return (q.astype(np.int32) - zp[:, None]).astype(np.float32) * s[:, None]


def unclipped(x, s, zp, bits, quantizer):
    """Where the straight-through gradient passes: the code was not clipped (N13).  -> bool [T, K]"""
    with np.errstate(over="ignore"):
        q = np.rint(x / s[:, None]) + zp[:, None].astype(np.float32)
    low, high = code_range(bits, quantizer)
    return (q >= low) & (q <= high)


def row_amax(x):
    """max |x| over the finite values of each row, 0 where there is none (N5).  [T, K] -> float32 [T]"""
    return np.where(np.isfinite(x), np.abs(x), f32(0.0)).max(axis=1, initial=f32(0.0))


def row_range(x):
    """(min(x, 0), max(x, 0)) over the finite values of each row (N4, N5).  [T, K] -> float32 [T], [T]"""
    finite = np.where(np.isfinite(x), x, f32(0.0))
    return finite.min(axis=1, initial=f32(0.0)), finite.max(axis=1, initial=f32(0.0))
