"""Fused kernels of training: they stand in for the NumPy functions of layers.py, passes.py and optim.py on float32.

``compiled`` is the one idiom. The NumPy function stays the definition, and what runs on float64 (where gradients are
checked), without a C compiler, and under REFVIT_BACKEND=numpy; it is reachable as ``function.numpy``. Both take and
give the same arrays, caches too. The float layers differ from NumPy by rounding; quantizers (N3, N4), optimizers and
norms have its bits. Sums over rows are divided in a fixed way, so that no result depends on the number of threads.
Here a function has the name, arguments and shapes of its twin; NotImplemented leaves arguments that the kernel does not
take to the twin: other dtypes, shapes that would broadcast, values that are an error.
"""

import functools
import math

import numpy as np

from . import kernels
from .backend import NUMPY, ffi, level_of, lib, pointer, run
from .gate import contiguous
from .rules import PROB_SCALE, f32
from .threads import split_rows, threads

BLOCK = 64  # rows whose gradients of a LayerNorm's parameters are summed first


def compiled(kernel):
    """Decorator of a NumPy function: ``kernel`` runs in its place where C does, unless it returns NotImplemented."""

    def replace(twin):
        @functools.wraps(twin)
        def call(x, *args, **switches):
            if lib is not None and x.dtype == np.float32 and x.size and level_of() != NUMPY:
                result = kernel(x, *args, **switches)
                if result is not NotImplemented:
                    return result
            return twin(x, *args, **switches)

        call.numpy = twin
        return call

    return replace


def keep_memory():
    """Keep freed memory for the next arrays of this process; for a process that trains.

    A step frees and asks for hundreds of megabytes, and clearing the pages anew is up to a fifth of its time. Without
    effect where the C library has no such setting.
    """
    if lib is not None:
        lib.refvit_keep_memory()


def add_bias(y, b):
    if not (y.flags.c_contiguous and _are((b, y.shape[-1:]))):
        return NotImplemented
    _each_row("add_bias", lib.refvit_train_add_bias, [b], [y])


def gelu_forward(x):
    x = contiguous(x)
    y, slope = np.empty_like(x), np.empty_like(x)
    flat, level = [a.reshape(-1) for a in (x, y, slope)], level_of()

    def part(a, b):
        return lib.refvit_train_gelu(level, b - a, *_pointers(flat, a, b))

    status = max(split_rows(x.size, _parts(x), part))
    return NotImplemented if status else (y, slope)


def gelu_backward(dy, slope):
    if not _are((slope, dy.shape)):
        return NotImplemented
    dx = np.empty(dy.shape, np.float32)
    _each("gelu", lib.refvit_train_multiply, contiguous(dy), contiguous(slope), dx)
    return dx


def softmax_forward(x):
    x = contiguous(x)
    p = np.empty_like(x)
    _each_row("softmax", lib.refvit_train_softmax, [], [x, p])
    return p, p


def softmax_backward(dp, p):
    if not _are((p, dp.shape)):
        return NotImplemented
    dx = np.empty(dp.shape, np.float32)
    _each_row("softmax", lib.refvit_train_softmax_backward, [], [contiguous(dp), contiguous(p), dx])
    return dx


def layernorm_forward(x, weight, bias, eps):
    if not _are((weight, x.shape[-1:]), (bias, x.shape[-1:])):
        return NotImplemented
    x = contiguous(x)
    y, xhat, rstd = np.empty_like(x), np.empty_like(x), np.empty((*x.shape[:-1], 1), np.float32)
    level, k, params = level_of(), x.shape[-1], [pointer(contiguous(a)) for a in (weight, bias)]
    xs, *outs = (_rows(a) for a in (x, y, xhat, rstd))

    def part(a, b):
        return lib.refvit_train_layernorm(level, b - a, k, pointer(xs[a:b]), *params, eps, *_pointers(outs, a, b))

    _split("layernorm", xs, part)
    return y, (xhat, rstd, weight)


def layernorm_backward(dy, cache):
    xhat, rstd, weight = cache
    if not _are((xhat, dy.shape), (rstd, (*dy.shape[:-1], 1)), (weight, dy.shape[-1:])):
        return NotImplemented
    dx = np.empty(dy.shape, np.float32)
    rows = [_rows(contiguous(a)) for a in (dy, xhat, rstd)]
    (count, k), dxs, level, weights = rows[0].shape, _rows(dx), level_of(), pointer(contiguous(weight))
    sums = np.empty((-(-count // BLOCK), 2, k), np.float32)

    def part(a, b):
        i, j = a * BLOCK, min(b * BLOCK, count)
        return lib.refvit_train_layernorm_backward(
            level, j - i, BLOCK, k, *_pointers(rows, i, j), weights, pointer(dxs[i:j]), pointer(sums[a:b])
        )

    run("layernorm", len(sums), dx.size >= kernels.SMALL_ROWS, part)
    return dx, *sums.sum(axis=0)


def scores_forward(q, k, bias=None, mask=None):
    b, w, h, t, d = q.shape
    added = [(a, s) for a, s in ((bias, (h, t, t)), (mask, (w, t, t))) if a is not None]
    if not _are((k, q.shape), *added):
        return NotImplemented
    scale, scores = 1.0 / math.sqrt(d), np.empty((b, w, h, t, t), np.float32)
    _products(scores, q, k.swapaxes(-1, -2), scale, bias, mask)
    return scores, (q, k, f32(scale), bias is not None)


def scores_backward(dscores, cache):
    q, k, scale, has_bias = cache
    b, w, h, t, _ = q.shape
    if dscores.shape != (b, w, h, t, t) or not _are((q, q.shape), (k, q.shape)):
        return NotImplemented
    dq, dk = _by_token(q.shape), _by_token(q.shape)
    _products(dq, dscores, k, scale)
    _products(dk, dscores.swapaxes(-1, -2), q, scale)
    return dq, dk, dscores.sum(axis=(0, 1)) if has_bias else None


def context_forward(p, v):
    b, w, h, t, _ = v.shape
    if p.shape != (b, w, h, t, t) or not _are((v, v.shape)):
        return NotImplemented
    y = _by_token(v.shape)
    _products(y, p, v)
    return y, (p, v)


def context_backward(dy, cache):
    p, v = cache
    if dy.shape != v.shape or not _are((p, (*v.shape[:4], v.shape[3])), (v, v.shape)):
        return NotImplemented
    dp, dv = np.empty(p.shape, np.float32), _by_token(v.shape)
    _products(dp, dy, v.swapaxes(-1, -2))
    _products(dv, p.swapaxes(-1, -2), dy)
    return dp, dv


def ternary_values(w, granularity, threshold, scale):
    if threshold == "optimal":
        return NotImplemented
    rows = contiguous(w) if granularity == "channel" else contiguous(w).reshape(1, -1)
    y, level, k = np.empty_like(rows), level_of(), rows.shape[1]

    def part(a, b):
        return lib.refvit_train_ternary(
            level, b - a, k, pointer(rows[a:b]), threshold, scale == "absolute_mean", pointer(y[a:b])
        )

    status = max(split_rows(len(rows), _parts(rows), part))
    return NotImplemented if status else y.reshape(w.shape)


def int8_values(w, granularity):
    rows = w if granularity == "channel" else w.reshape(1, -1)
    result = fake_quantize(rows, 8, "symmetric")
    return result if result is NotImplemented else result[0].reshape(w.shape)


def fake_quantize(rows, bits, quantizer, s=None, zp=None):
    count, k = rows.shape
    y, passes = np.empty((count, k), np.float32), np.empty((count, k), np.bool_)
    return _fake_quantize(contiguous(rows), (count, 1, 1, k), (k, 0, 0), (bits, quantizer, s, zp), (k, 0, 0), y, passes)


def quantize_heads(x):
    b, w, h, t, d = x.shape
    outer, window, head, token, element = (stride // x.itemsize for stride in x.strides)
    if element != 1 or min(outer, window, head, token) < 0 or (w > 1 and window != t * token):
        return NotImplemented
    y, passes = np.empty((b, w, t, h, d), np.float32), np.empty((b, w, t, h, d), np.bool_)
    y_strides, how = (w * t * h * d, d, h * d), (8, "symmetric", None, None)
    result = _fake_quantize(x, (b, h, w * t, d), (outer, head, token), how, y_strides, y, passes)
    return result if result is NotImplemented else tuple(a if a is None else a.swapaxes(2, 3) for a in result)


def _fake_quantize(x, shape, strides, how, y_strides, y, passes):
    """-> y, passes or None where nothing was clipped; NotImplemented for NaN, which the twin reports"""
    bits, quantizer, s, zp = how
    level, clipped = level_of(), np.empty(shape[:2], np.int32)

    def part(a, b):
        given = (ffi.NULL, ffi.NULL) if s is None else (pointer(s[a:b]), pointer(zp[a:b]))
        to = ffi.cast("uint8_t *", passes.ctypes.data + a * y_strides[0])
        return lib.refvit_train_fake_quantize(
            level, (b - a, *shape[1:]), strides, _at(x, a * strides[0]), bits, quantizer == "minmax", *given,
            y_strides, _at(y, a * y_strides[0]), to, pointer(clipped[a:b])
        )  # fmt: skip

    if max(split_rows(shape[0], _parts(x), part)):
        return NotImplemented
    return y, passes if clipped.any() else None


def quantize_probabilities(p):
    p = contiguous(p)
    y, level = np.empty_like(p), level_of()
    ps, ys = p.reshape(-1), y.reshape(-1)

    def part(a, b):
        return lib.refvit_train_round_to(level, b - a, pointer(ps[a:b]), PROB_SCALE, pointer(ys[a:b]))

    _split("quantize_probabilities", ps, part)
    return y


def adamw_update(p, g, m, v, t, lr, weight_decay, betas, eps):
    if not (_are((g, p.shape), (m, p.shape), (v, p.shape)) and _contiguous(g, p, m, v)):
        return NotImplemented
    rate, rest = _adam_scalars(t, betas, eps)
    scalars = [1.0 - lr * weight_decay, *rest[:4], lr / rate, *rest[4:]]
    _each("adamw", lambda level, n, *at: lib.refvit_train_adamw(level, n, scalars, *at), g, p, m, v)


def lamb_direction(p, g, m, v, t, weight_decay, betas, eps):
    if not (_are((g, p.shape), (m, p.shape), (v, p.shape)) and _contiguous(g, p, m, v)):
        return NotImplemented
    first, rest = _adam_scalars(t, betas, eps)
    scalars, u = [weight_decay, *rest[:4], first, *rest[4:]], np.empty_like(p)
    _each("lamb", lambda level, n, *at: lib.refvit_train_lamb(level, n, scalars, *at), g, p, m, v, u)
    return u


def sum_of_squares(x):
    total = ffi.new("double *")
    lib.refvit_train_sum_of_squares(level_of(), x.size, pointer(contiguous(x)), total)
    return total[0]


def _adam_scalars(t, betas, eps):
    """1 - beta1^t, and beta1, 1 - beta1, beta2, 1 - beta2, sqrt(1 - beta2^t), eps"""
    beta1, beta2 = betas
    return 1.0 - beta1**t, (beta1, 1.0 - beta1, beta2, 1.0 - beta2, math.sqrt(1.0 - beta2**t), eps)


def _products(out, a, b, scale=1.0, bias=None, mask=None):
    """out = scale * a b (+ bias + mask).  out [B, W, H, M, N], a [B, W, H, M, K], b [B, W, H, K, N]"""
    (batch, windows, heads, m, n), k, level = out.shape, a.shape[-1], level_of()
    (a, a_strides), (b, b_strides), (out, out_strides) = (_strided(x) for x in (a, b, out))
    bias, mask = (None if x is None else contiguous(x) for x in (bias, mask))
    bias_at, mask_at = (ffi.NULL if x is None else pointer(x) for x in (bias, mask))

    def part(i, j):
        return lib.refvit_train_products(
            level, (j - i, heads, m, n, k), _at(a, i * a_strides[0]), a_strides, _at(b, i * b_strides[0]), b_strides,
            scale, bias_at, mask_at, i, windows, _at(out, i * out_strides[0]), out_strides
        )  # fmt: skip

    run("products", batch * windows, out.size * k >= kernels.SMALL_ROWS, part)


def _strided(x):
    """x [B, W, H, M, N], copied unless its strides are also those of [B W, H, M, N], and these in floats"""
    one_axis = 1 in x.shape[:2] or x.strides[0] == x.shape[1] * x.strides[1]
    if not one_axis or min(x.strides) < 0:
        x = np.ascontiguousarray(x)
    strides = [stride // x.itemsize for stride in x.strides]
    return x, (strides[0] if x.shape[1] == 1 else strides[1], *strides[2:])


def _by_token(shape):
    """An empty [B, W, H, T, D] whose memory has the heads of a token side by side, as the linear layers want them"""
    b, w, h, t, d = shape
    return np.empty((b, w, t, h, d), np.float32).swapaxes(2, 3)


def _are(*expected):
    """Whether each (array, shape) is float32 of that shape."""
    return all(array.dtype == np.float32 and array.shape == shape for array, shape in expected)


def _contiguous(*arrays):
    return all(a.flags.c_contiguous for a in arrays)


def _rows(x):
    return x.reshape(-1, x.shape[-1])


def _at(x, offset):
    return ffi.cast("float *", x.ctypes.data + x.itemsize * offset)


def _pointers(arrays, a, b):
    return [pointer(x[a:b]) for x in arrays]


def _each(where, entry, *arrays):
    """``entry`` on all elements of contiguous arrays of one shape."""
    flat, level = [a.reshape(-1) for a in arrays], level_of()
    _split(where, flat[0], lambda a, b: entry(level, b - a, *_pointers(flat, a, b)))


def _each_row(where, entry, shared, arrays):
    """``entry`` on all rows of contiguous arrays; ``shared``: arrays [K] that every row needs."""
    level, k, fixed = level_of(), arrays[0].shape[-1], [pointer(contiguous(x)) for x in shared]
    rows = [_rows(a) for a in arrays]
    _split(where, rows[0], lambda a, b: entry(level, b - a, k, *fixed, *_pointers(rows, a, b)))


def _split(where, rows, part):
    run(where, len(rows), rows.size >= kernels.SMALL_ROWS, part)


def _parts(x):
    return threads() if x.size >= kernels.SMALL_ROWS else 1
