"""Fused kernels of training: they stand in for the NumPy functions of layers.py, passes.py and optim.py on float32.

``compiled`` is the one idiom: the NumPy function stays the readable definition, is called for float64 (checks of
gradients), without a C compiler and under REFVIT_BACKEND=numpy, and is reachable as ``function.numpy``. Both take and
give the same arrays, caches too. The float kernels differ from NumPy by rounding; quantizers and optimizers do not (N3,
N4). Sums over rows are divided in a fixed way, so that no result depends on the number of threads.
Shapes as in layers.py.
"""

import functools
import math

import numpy as np

from . import kernels
from .gate import contiguous
from .kernels import ffi, lib, pointer, run
from .rules import f32

BLOCK = 64  # rows whose gradients of a LayerNorm's parameters are summed first


def compiled(kernel):
    """Decorator of a NumPy function: ``kernel`` runs in its place where C does, unless it returns NotImplemented."""

    def replace(twin):
        @functools.wraps(twin)
        def call(x, *args):
            if lib is not None and x.dtype == np.float32 and x.size and kernels.level_of() != kernels.NUMPY:
                result = kernel(x, *args)
                if result is not NotImplemented:
                    return result
            return twin(x, *args)

        call.numpy = twin
        return call

    return replace


def gelu_forward(x):
    x = contiguous(x)
    y, slope = np.empty_like(x), np.empty_like(x)
    _elements("gelu", lib.refvit_train_gelu, x, y, slope)
    return y, slope


def gelu_backward(dy, slope):
    dy, dx = contiguous(dy), np.empty_like(slope)
    _elements("gelu", lib.refvit_train_multiply, dy, slope, dx)
    return dx


def add_bias(y, b):
    rows = y.reshape(-1, y.shape[-1])
    if not y.flags.c_contiguous:
        return NotImplemented
    level, k, bs = kernels.level_of(), len(b), pointer(contiguous(b))
    _split("add_bias", rows, lambda a, b: lib.refvit_train_add_bias(level, b - a, k, bs, pointer(rows[a:b])))


def softmax_forward(x):
    x = contiguous(x)
    p = np.empty_like(x)
    _rows("softmax", lib.refvit_train_softmax, x, p)
    return p, p


def softmax_backward(dp, p):
    dp, dx = contiguous(dp), np.empty_like(p)
    _rows("softmax", lib.refvit_train_softmax_backward, dp, p, dx)
    return dx


def layernorm_forward(x, weight, bias, eps):
    x, level, k = contiguous(x), kernels.level_of(), x.shape[-1]
    y, xhat, rstd = np.empty_like(x), np.empty_like(x), np.empty((*x.shape[:-1], 1), np.float32)
    xs, ys, hats, scales = (a.reshape(-1, a.shape[-1]) for a in (x, y, xhat, rstd))
    w, b = pointer(contiguous(weight)), pointer(contiguous(bias))

    def part(i, j):
        return lib.refvit_train_layernorm(
            level, j - i, k, pointer(xs[i:j]), w, b, eps, pointer(ys[i:j]), pointer(hats[i:j]), pointer(scales[i:j])
        )

    _split("layernorm", xs, part)
    return y, (xhat, rstd, weight)


def layernorm_backward(dy, cache):
    xhat, rstd, weight = cache
    dy, level, k = contiguous(dy), kernels.level_of(), dy.shape[-1]
    dx, w = np.empty_like(dy), pointer(contiguous(weight))
    dys, hats, scales, dxs = (a.reshape(-1, a.shape[-1]) for a in (dy, xhat, rstd, dx))
    blocks = -(-len(dys) // BLOCK)
    sums = np.empty((blocks, 2, k), np.float32)

    def part(a, b):
        i, j = a * BLOCK, min(b * BLOCK, len(dys))
        return lib.refvit_train_layernorm_backward(
            level, j - i, BLOCK, k, pointer(dys[i:j]), pointer(hats[i:j]), pointer(scales[i:j]), w, pointer(dxs[i:j]),
            pointer(sums[a:b])
        )  # fmt: skip

    run("layernorm", blocks, dys.size >= kernels.SMALL_ROWS, part)
    return dx, *sums.sum(axis=0)


def scores_forward(q, k, bias, mask):
    scale = 1.0 / math.sqrt(q.shape[-1])
    scores = np.empty((*q.shape[:-1], k.shape[-2]), np.float32)
    _products(scores, q, k.swapaxes(-1, -2), scale, bias, mask)
    return scores, (q, k, f32(scale), bias is not None)


def scores_backward(dscores, cache):
    q, k, scale, has_bias = cache
    dq, dk = _by_token(q.shape), _by_token(k.shape)
    _products(dq, dscores, k, scale)
    _products(dk, dscores.swapaxes(-1, -2), q, scale)
    return dq, dk, dscores.sum(axis=(0, 1)) if has_bias else None


def context_forward(p, v):
    y = _by_token(v.shape)
    _products(y, p, v)
    return y, (p, v)


def context_backward(dy, cache):
    p, v = cache
    dp, dv = np.empty_like(p), _by_token(v.shape)
    _products(dp, dy, v.swapaxes(-1, -2))
    _products(dv, p.swapaxes(-1, -2), dy)
    return dp, dv


def fake_quantize(rows, bits, quantizer, s, zp):
    rows = contiguous(rows)
    count, k = rows.shape
    y, passes = np.empty_like(rows), np.empty(rows.shape, np.bool_)
    strides = (k, 0, 0)
    return _fake_quantize(rows, strides, (count, 1, 1, k), bits, quantizer, s, zp, y, strides, passes)


def quantize_heads(x):
    b, w, h, t, d = x.shape
    outer, _, head, token, _ = strides = [stride // 4 for stride in x.strides]
    if strides[4] != 1 or min(strides) < 0 or (w > 1 and strides[1] != t * token):
        return NotImplemented
    y, passes = np.empty((b, w, t, h, d), np.float32), np.empty((b, w, t, h, d), np.bool_)
    y_strides = (w * t * h * d, d, h * d)
    result = _fake_quantize(
        x, (outer, head, token), (b, h, w * t, d), 8, "symmetric", None, None, y, y_strides, passes
    )
    return result if result is NotImplemented else tuple(a if a is None else a.swapaxes(2, 3) for a in result)


def round_probabilities(p, s):
    p = contiguous(p)
    y, flat = np.empty_like(p), p.reshape(-1)
    level, ys = kernels.level_of(), y.reshape(-1)
    _split(
        "round", flat, lambda a, b: lib.refvit_train_round_to(level, b - a, pointer(flat[a:b]), s, pointer(ys[a:b]))
    )
    return y


def ternary_values(w, granularity, threshold, scale):
    if threshold == "optimal":
        return NotImplemented
    w = contiguous(w)
    rows = w if granularity == "channel" else w.reshape(1, -1)
    y, level, k = np.empty_like(rows), kernels.level_of(), rows.shape[1]

    def part(a, b):
        return lib.refvit_train_ternary(
            level, b - a, k, pointer(rows[a:b]), threshold, scale == "absolute_mean", pointer(y[a:b])
        )

    status = max(kernels.split_rows(len(rows), _parts(rows), part))
    return NotImplemented if status else y.reshape(w.shape)


def adamw_update(p, g, m, v, t, lr, weight_decay, betas, eps):
    arrays = (g, p, m, v)
    if not all(a.flags.c_contiguous and a.dtype == np.float32 for a in arrays):
        return NotImplemented
    beta1, beta2 = betas
    root, rate = math.sqrt(1.0 - beta2**t), lr / (1.0 - beta1**t)
    scalars = [1.0 - lr * weight_decay, beta1, 1.0 - beta1, beta2, 1.0 - beta2, rate, root, eps]
    flat, level = [a.reshape(-1) for a in arrays], kernels.level_of()
    _split("adamw", flat[0], lambda a, b: lib.refvit_train_adamw(level, b - a, scalars, *(pointer(x[a:b]) for x in flat)))


def _fake_quantize(x, x_strides, shape, bits, quantizer, s, zp, y, y_strides, passes):
    """-> y, passes or None where nothing was clipped; NotImplemented for NaN, for the twin's message"""
    outer, inner = shape[:2]
    level, clipped = kernels.level_of(), np.empty((outer, inner), np.int32)

    def part(a, b):
        scale, zero = (ffi.NULL, ffi.NULL) if s is None else (pointer(s[a:b]), pointer(zp[a:b]))
        return lib.refvit_train_fake_quantize(
            level, (b - a, *shape[1:]), x_strides, _at(x, a * x_strides[0]), bits, quantizer == "minmax", scale, zero,
            y_strides, _at(y, a * y_strides[0]), ffi.cast("uint8_t *", passes.ctypes.data + a * y_strides[0]),
            pointer(clipped[a:b])
        )  # fmt: skip

    if max(kernels.split_rows(outer, _parts(x), part)):
        return NotImplemented
    return y, passes if clipped.any() else None


def _products(out, a, b, scale=1.0, bias=None, mask=None):
    """out = scale * a b (+ bias + mask).  out [B, W, H, M, N], a [B, W, H, M, K], b [B, W, H, K, N]"""
    (batch, windows, heads, m, n), k, level = out.shape, a.shape[-1], kernels.level_of()
    (a, a_strides), (b, b_strides), (out, out_strides) = (_strided(x) for x in (a, b, out))
    bias, mask = (None if x is None else contiguous(x.astype(np.float32, copy=False)) for x in (bias, mask))
    bias_at, mask_at = (ffi.NULL if x is None else pointer(x) for x in (bias, mask))

    def part(i, j):
        return lib.refvit_train_products(
            level, (j - i, heads, m, n, k), _at(a, i * a_strides[0]), a_strides, _at(b, i * b_strides[0]), b_strides,
            scale, bias_at, mask_at, i, 0 if mask is None else len(mask), _at(out, i * out_strides[0]), out_strides
        )  # fmt: skip

    run("products", batch * windows, out.size * k >= kernels.SMALL_ROWS, part)


def _strided(x):
    """x [B, W, H, M, N], and its strides in floats as those of [B W, H, M, N]; a copy where it has no such strides."""
    strides = [stride // 4 for stride in x.strides]
    one_axis = 1 in x.shape[:2] or strides[0] == x.shape[1] * strides[1]
    if min(strides) < 0 or not one_axis:
        x = np.ascontiguousarray(x)
        strides = [stride // 4 for stride in x.strides]
    return x, (strides[0] if x.shape[1] == 1 else strides[1], *strides[2:])


def _by_token(shape):
    """An empty [B, W, H, T, D] whose memory has the tokens of all heads together, as the linear layers want them."""
    b, w, h, t, d = shape
    return np.empty((b, w, t, h, d), np.float32).swapaxes(2, 3)


def _at(x, offset):
    return ffi.cast("float *", x.ctypes.data + 4 * offset)


def _elements(where, entry, *arrays):
    flat, level = [a.reshape(-1) for a in arrays], kernels.level_of()
    _split(where, flat[0], lambda a, b: entry(level, b - a, *(pointer(x[a:b]) for x in flat)))


def _rows(where, entry, *arrays):
    k, level = arrays[0].shape[-1], kernels.level_of()
    rows = [a.reshape(-1, k) for a in arrays]
    _split(where, rows[0], lambda a, b: entry(level, b - a, k, *(pointer(x[a:b]) for x in rows)))


def _split(where, rows, part):
    run(where, len(rows), rows.size >= kernels.SMALL_ROWS, part)


def _parts(x):
    return kernels.threads() if x.size >= kernels.SMALL_ROWS else 1
