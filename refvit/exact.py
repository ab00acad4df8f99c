"""Float operations of the inference profile, in the exact order of roundings (rules N8 and N9).

Only + - * / and sqrt, which IEEE-754 rounds correctly, and rounding to integer: so the same bits on every machine.
This file is the specification; the C kernels are equal to it bit for bit. Everything is float32 unless a line says
float64. T rows (tokens), K elements of a row.
"""

import numpy as np

from .erf_table import ERF_TABLE
from .rules import PARTIAL_SUMS, f32

LOG2E = float.fromhex("0x1.71547652b82fep+0")
LN2_HI = float.fromhex("0x1.62e42feep-1")  # 32 bits, so that n * LN2_HI is exact for |n| < 2^21
LN2_LO = float.fromhex("0x1.a39ef35793c76p-33")
EXP_COEFFICIENTS = (1.0, 1.0, 1 / 2, 1 / 6, 1 / 24, 1 / 120, 1 / 720, 1 / 5040, 1 / 40320, 1 / 362880)  # 1 / k!
EXP_LOW, EXP_HIGH = -104.0, 89.0  # exp is 0 below and infinite above, in float32
INV_SQRT2 = f32(float.fromhex("0x1.6a09e6p-1"))


def sum16(x):
    """Sum over the last axis by 16 partial sums, then a tree 8, 4, 2, 1 (N9).  [..., K] -> [...]"""
    pad = -x.shape[-1] % PARTIAL_SUMS
    x = np.concatenate([x, np.zeros((*x.shape[:-1], pad), np.float32)], axis=-1)
    partial = np.zeros((*x.shape[:-1], PARTIAL_SUMS), np.float32)
    for start in range(0, x.shape[-1], PARTIAL_SUMS):
        partial = partial + x[..., start : start + PARTIAL_SUMS]
    for half in (8, 4, 2, 1):
        partial = partial[..., :half] + partial[..., half : 2 * half]
    return partial[..., 0]


def exp(x):
    """e^x in float64 by x = n ln 2 + r and the Taylor series of degree 9, rounded once (N9).  float32 -> float32"""
    x = np.clip(x.astype(np.float64), EXP_LOW, EXP_HIGH)
    n = np.rint(x * LOG2E)
    r = (x - n * LN2_HI) - n * LN2_LO
    p = np.full_like(r, EXP_COEFFICIENTS[-1])
    for c in EXP_COEFFICIENTS[-2::-1]:
        p = p * r + c
    with np.errstate(over="ignore", under="ignore"):
        return np.ldexp(p, n.astype(np.int32)).astype(np.float32)


def erf(x):
    """erf(x) = x P_i(t) in float64, i = floor(4 |x|), t = 4 |x| - i - 1/2, rounded once; 1 from |x| = 4 on (N9)."""
    a = np.abs(x.astype(np.float64))
    y = np.minimum(a, 4.0) * 4.0
    i = np.minimum(y, 15.0).astype(np.intp)
    t = y - i - 0.5
    p = ERF_TABLE[i, 7]
    for k in range(6, -1, -1):
        p = p * t + ERF_TABLE[i, k]
    with np.errstate(under="ignore"):
        return np.copysign(np.where(a < 4.0, np.minimum(a, 4.0) * p, 1.0), x).astype(np.float32)


def gelu(x):
    """(x / 2) (1 + erf(x / sqrt 2)) (N9)."""
    return (x * f32(0.5)) * (f32(1.0) + erf(x * INV_SQRT2))


def softmax(x):
    """exp(x - max) / sum over the last axis (N9).  [..., K] -> [..., K]"""
    e = exp(x - x.max(axis=-1, keepdims=True))
    return e / sum16(e)[..., None]


def layernorm(x, weight, bias, eps):
    """((x - mean) / sqrt(var + eps)) * weight + bias over the last axis, two passes, divisor K (N9).  [..., K]"""
    k = f32(x.shape[-1])
    d = x - (sum16(x) / k)[..., None]
    var = sum16(d * d) / k
    return (d / np.sqrt(var + f32(eps))[..., None]) * weight + bias


def rescale(acc, s, alpha, bias=None):
    """f32(f32(f32(acc) * s) * alpha), then + bias (N8).  acc [T, C] int32, s [T], alpha [C], bias [C] or None"""
    with np.errstate(over="ignore"):
        y = (acc.astype(np.float32) * s[:, None]) * alpha
        return y if bias is None else y + bias


def matmul16(a, b):
    """Float products along K, rounded, then summed by ``sum16``.  [..., M, K], [..., N, K] -> [..., M, N]"""
    rows = np.moveaxis(b, -2, 0)[..., None, :]
    return np.stack([sum16(a * row) for row in rows], axis=-1) if len(rows) else np.zeros((*a.shape[:-1], 0), f32)
