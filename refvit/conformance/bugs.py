"""Operations as ports get them wrong: pieces that hypotheses.py puts together. Arguments as in operations.py."""

import math

import numpy as np

from .. import exact
from ..quant import code_range
from ..rules import f32

# Ways to round


def half_away(v):
    whole = np.trunc(v)
    return np.where(np.abs(v - whole) >= 0.5, whole + np.copysign(1, v), whole)


def half_up(v):
    return np.floor(v + f32(0.5))


# Ways to sum along the last axis: none is sum16


def sequential(x):
    return np.cumsum(x, axis=-1, dtype=f32)[..., -1]


def pairwise(x):
    """Neighbours are added, then neighbours of these sums, and so on."""
    while x.shape[-1] > 1:
        odd = x[..., -1:] if x.shape[-1] % 2 else x[..., :0]
        x = np.concatenate([x[..., 0 : x.shape[-1] - 1 : 2] + x[..., 1::2], odd], axis=-1)
    return x[..., 0]


def numpy_sum(x):
    return np.ascontiguousarray(x).sum(axis=-1, dtype=f32)


def double(x):
    return x.sum(axis=-1, dtype=np.float64).astype(f32)


def lanes(count):
    """``count`` partial sums, then a tree."""

    def total(x):
        pad = -x.shape[-1] % count
        x = np.concatenate([x, np.zeros((*x.shape[:-1], pad), f32)], axis=-1)
        partial = np.zeros((*x.shape[:-1], count), f32)
        for start in range(0, x.shape[-1], count):
            partial = partial + x[..., start : start + count]
        while count_of(partial) > 1:
            half = count_of(partial) // 2
            partial = partial[..., :half] + partial[..., half:]
        return partial[..., 0]

    return total


def count_of(x):
    return x.shape[-1]


SUMS = {
    "sequential": ("one running sum", sequential),
    "pairwise": ("neighbours added pairwise", pairwise),
    "numpy_sum": ("the sum of numpy.sum", numpy_sum),
    "double": ("a float64 sum, rounded once", double),
    "lanes4": ("4 partial sums", lanes(4)),
    "lanes8": ("8 partial sums", lanes(8)),
    "lanes32": ("32 partial sums", lanes(32)),
}


def fma(a, b, c):
    """a b + c, rounded once.  float32 -> float32

    The product is exact in float64. Its sum with c is rounded to odd there, so that rounding it again to float32 gives
    what a single rounding gives (Boldo and Melquiond, 2008).
    """
    p, c = np.broadcast_arrays(a.astype(np.float64) * b.astype(np.float64), np.asarray(c, np.float64))
    total = p + c
    back = total - p
    error = (p - (total - back)) + (c - back)
    even = np.ascontiguousarray(total).view(np.uint64) % np.uint64(2) == 0
    odd = np.where((error != 0) & even, np.nextafter(total, np.copysign(np.inf, error)), total)
    return odd.astype(f32)


def sum_of_products(a, b, total):
    """Dot products along K, summed by ``total``.  [..., M, K], [..., N, K] -> [..., M, N]"""
    return np.stack([total(a * row) for row in np.moveaxis(b, -2, 0)[..., None, :]], axis=-1)


# Codes


def codes(x, s, zp, bits, quantizer, rounding=np.rint, divide=None, low=None, sign=1):
    """clip(round(x / s) + zp)"""
    lowest, highest = code_range(bits, quantizer)
    v = x / s[:, None] if divide is None else divide(x, s[:, None])
    q = rounding(v) + sign * zp[:, None].astype(f32)
    return np.clip(q, lowest if low is None else low, highest).astype(np.int8)


def by_reciprocal(x, s):
    return x * (f32(1) / s)


def in_double(x, s):
    return x.astype(np.float64) / s.astype(np.float64)


def wrapped(x, s, zp, bits, quantizer):
    """No clip: the low bits of the integer are kept, as a cast does."""
    q = (np.rint(x / s[:, None]) + zp[:, None]).astype(np.int64)
    return ((q + (1 << (bits - 1))) % (1 << bits) - (1 << (bits - 1))).astype(np.int8)


# Weights


def reversed_in(size):
    """The codes of each run of ``size`` inputs in reversed order, as with the bits of a word."""

    def change(weight):
        n, k = weight.shape
        padded = np.pad(weight, ((0, 0), (0, -k % 64)))
        return padded.reshape(n, -1, size)[:, :, ::-1].reshape(n, -1)[:, :k]

    return change


def swapped_bytes(weight):
    """Words of 64 codes read with the wrong byte order."""
    n, k = weight.shape
    padded = np.pad(weight, ((0, 0), (0, -k % 64)))
    return padded.reshape(n, -1, 8, 8)[:, :, ::-1].reshape(n, -1)[:, :k]


def written_transposed(weight):
    return np.ascontiguousarray(weight.T).reshape(weight.shape)


def transposed(weight):
    return np.ascontiguousarray(weight.reshape(weight.shape[::-1]).T)


def without_tail(weight):
    """Inputs after the last whole word of 64 are left out."""
    kept = weight.copy()
    kept[:, weight.shape[1] // 64 * 64 :] = 0
    return kept


def padded_stream(weight):
    """A base-3 stream read as if each row began at a whole byte: rows are shifted against each other."""
    n, k = weight.shape
    step = -(-k // 5) * 5
    stream = np.concatenate([weight.reshape(-1), np.zeros(n * (step - k), weight.dtype)])
    return stream.reshape(n, step)[:, :k]


# Float functions


def layernorm(x, weight, bias, eps, total=exact.sum16, variance=None, normalise=None, finish=None, other_eps=None):
    """((x - mean) / sqrt(var + eps)) * weight + bias with one of its parts replaced."""
    k, eps = f32(x.shape[-1]), eps if other_eps is None else other_eps
    mean = (total(x) / k)[..., None]
    d = x - mean
    var = (total(d * d) / k)[..., None] if variance is None else variance(x, d, mean, total)
    y = d / np.sqrt(var + f32(eps)) if normalise is None else normalise(d, var, f32(eps))
    return y * weight + bias if finish is None else finish(y, weight, bias)


def layernorm_double(x, weight, bias, eps):
    """All of it in float64, rounded once."""
    x = x.astype(np.float64)
    d = x - x.mean(axis=-1, keepdims=True)
    return (d / np.sqrt((d * d).mean(axis=-1, keepdims=True) + eps) * weight + bias).astype(f32)


def softmax(x, total=exact.sum16, exp=exact.exp, shift=True, divide=np.divide):
    e = exp(x - x.max(axis=-1, keepdims=True) if shift else x)
    return divide(e, total(e)[..., None])


def softmax_double(x):
    e = np.exp(x.astype(np.float64) - x.max(axis=-1, keepdims=True))
    return (e / e.sum(axis=-1, keepdims=True)).astype(f32)


def exp_double(x):
    return np.exp(x.astype(np.float64)).astype(f32)


def exp_by_exp2(x):
    """A good exp2 of the float32 product x log2 e"""
    return np.exp2((x * f32(math.log2(math.e))).astype(np.float64)).astype(f32)


def erf_double(x):
    """erf of the C library in float64, rounded once."""
    values, places = np.unique(x, return_inverse=True)
    return np.array([math.erf(v) for v in values.tolist()], f32)[places].reshape(x.shape)


def gelu(x, erf=exact.erf):
    return (x * f32(0.5)) * (f32(1) + erf(x * exact.INV_SQRT2))


def gelu_tanh(x):
    """0.5 x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3)))"""
    inner = f32(math.sqrt(2 / math.pi)) * (x + f32(0.044715) * x * x * x)
    return f32(0.5) * x * (f32(1) + np.tanh(inner))


def gelu_tanh_double(x):
    v = x.astype(np.float64)
    return (0.5 * v * (1 + np.tanh(math.sqrt(2 / math.pi) * (v + 0.044715 * v**3)))).astype(f32)


def gelu_sigmoid(x):
    return x / (f32(1) + np.exp(f32(-1.702) * x))


def gelu_double(x):
    """All of it in float64, rounded once."""
    values, places = np.unique(x, return_inverse=True)
    return np.array([0.5 * v * (1 + math.erf(v / math.sqrt(2))) for v in values.tolist()], f32)[places].reshape(x.shape)
