"""The float layers of a vision transformer: each forward beside its backward.

Pure functions on arrays; ``forward`` returns (y, cache), ``backward(dy, cache)`` the gradients; the gradient of x is
called dx. They keep the dtype of their input: float32 in use, float64 where gradients are checked. A function marked
``compiled`` is the definition; on float32 a kernel of fused.py runs in its place.
Shapes: B images, T tokens, K inputs, C outputs, W windows, H heads, D width of a head; "..." any leading axes.
"""

import math

import numpy as np

from . import fused, kernels
from .fused import compiled


def linear_forward(x, w, b=None):
    """y = x W^T + b.  x [..., K], w [C, K], b [C] or None -> y [..., C]"""
    y = x.reshape(-1, x.shape[-1]) @ w.T
    if b is not None:
        add_bias(y, b)
    return y.reshape(*x.shape[:-1], len(w)), (x, w, b is not None)


def linear_backward(dy, cache):
    """-> dx [..., K], dw [C, K], db [C] or None"""
    x, w, has_bias = cache
    rows = dy.reshape(-1, dy.shape[-1])
    dx = (rows @ w).reshape(x.shape)
    dw = rows.T @ x.reshape(-1, x.shape[-1])
    return dx, dw, rows.sum(axis=0) if has_bias else None


@compiled(fused.add_bias)
def add_bias(y, b):
    """y += b, in place.  y [N, C], b [C]"""
    y += b


@compiled(fused.layernorm_forward)
def layernorm_forward(x, weight, bias, eps):
    """y = (x - mean) / sqrt(var + eps) * weight + bias over the last axis, divisor K.  x [..., K] -> y [..., K]"""
    d = x - x.mean(axis=-1, keepdims=True)
    rstd = 1.0 / np.sqrt((d * d).mean(axis=-1, keepdims=True) + x.dtype.type(eps))
    xhat = d * rstd
    return xhat * weight + bias, (xhat, rstd, weight)


@compiled(fused.layernorm_backward)
def layernorm_backward(dy, cache):
    """-> dx [..., K], dweight [K], dbias [K]"""
    xhat, rstd, weight = cache
    axes = tuple(range(dy.ndim - 1))
    g = dy * weight  # y = xhat * weight + bias
    dx = rstd * (g - g.mean(axis=-1, keepdims=True) - xhat * (g * xhat).mean(axis=-1, keepdims=True))
    return dx, (dy * xhat).sum(axis=axes), dy.sum(axis=axes)


@compiled(fused.gelu_forward)
def gelu_forward(x):
    """y = x Phi(x), Phi(x) = (1 + erf(x / sqrt 2)) / 2.  [...] -> [...]"""
    cdf = 0.5 * (1.0 + _erf(x * math.sqrt(0.5)))
    slope = cdf + x * np.exp(-0.5 * x * x) * (1.0 / math.sqrt(2.0 * math.pi))
    return x * cdf, slope


@compiled(fused.gelu_backward)
def gelu_backward(dy, slope):
    """dy/dx = Phi(x) + x phi(x), phi the normal density: the slope that forward kept, which needs no x then"""
    return dy * slope


def _erf(x):
    return kernels.erf(x) if x.dtype == np.float32 else np.vectorize(math.erf, otypes=[np.float64])(x)


@compiled(fused.softmax_forward)
def softmax_forward(x):
    """p = exp(x - max) / sum over the last axis.  [..., K] -> [..., K]"""
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    p = e / e.sum(axis=-1, keepdims=True)
    return p, p


@compiled(fused.softmax_backward)
def softmax_backward(dp, p):
    """dx = p (dp - sum(dp p))"""
    return p * (dp - (dp * p).sum(axis=-1, keepdims=True))


@compiled(fused.scores_forward)
def scores_forward(q, k, bias=None, mask=None):
    """q k^T / sqrt(D) + bias + mask within each window and head.

    q, k [B, W, H, T, D]; bias [H, T, T] or None; mask [W, T, T] or None -> scores [B, W, H, T, T]
    """
    scale = q.dtype.type(1.0 / math.sqrt(q.shape[-1]))
    scores = (q @ k.swapaxes(-1, -2)) * scale
    if bias is not None:
        scores += bias
    if mask is not None:
        scores += mask[:, None]
    return scores, (q, k, scale, bias is not None)


@compiled(fused.scores_backward)
def scores_backward(dscores, cache):
    """-> dq, dk [B, W, H, T, D], dbias [H, T, T] or None"""
    q, k, scale, has_bias = cache
    dq = (dscores @ k) * scale
    dk = (dscores.swapaxes(-1, -2) @ q) * scale
    return dq, dk, dscores.sum(axis=(0, 1)) if has_bias else None


@compiled(fused.context_forward)
def context_forward(p, v):
    """Each token's mixture of values: p v.  p [B, W, H, T, T], v [B, W, H, T, D] -> [B, W, H, T, D]"""
    return p @ v, (p, v)


@compiled(fused.context_backward)
def context_backward(dy, cache):
    """-> dp [B, W, H, T, T], dv [B, W, H, T, D]"""
    p, v = cache
    return dy @ v.swapaxes(-1, -2), p.swapaxes(-1, -2) @ dy


def split_heads_forward(qkv, heads):
    """The three parts of a qkv row, by head.  [B, W, T, 3 H D] -> q, k, v [B, W, H, T, D]"""
    b, w, t, _ = qkv.shape
    return tuple(np.moveaxis(qkv.reshape(b, w, t, 3, heads, -1), (3, 4), (0, 3)))


def split_heads_backward(dq, dk, dv):
    """-> dqkv [B, W, T, 3 H D]"""
    b, w, _, t, _ = dq.shape
    return np.stack([part.swapaxes(2, 3) for part in (dq, dk, dv)], axis=3).reshape(b, w, t, -1)


def merge_heads_forward(y):
    """[B, W, H, T, D] -> [B, W, T, H D]"""
    b, w, _, t, _ = y.shape
    return y.swapaxes(2, 3).reshape(b, w, t, -1)


def merge_heads_backward(dy, heads):
    """[B, W, T, H D] -> [B, W, H, T, D]"""
    b, w, t, _ = dy.shape
    return dy.reshape(b, w, t, heads, -1).swapaxes(2, 3)


def patches_forward(x, patch_size):
    """Cut pictures into patches, each a row in the order of a convolution's weight: channel, row, column.

    [B, C, H, W] -> [B, (H / P) (W / P), C P P]
    """
    b, c, h, w = x.shape
    p = patch_size
    grid = x.reshape(b, c, h // p, p, w // p, p).transpose(0, 2, 4, 1, 3, 5)
    return grid.reshape(b, (h // p) * (w // p), c * p * p)


def patches_backward(dy, patch_size, in_chans):
    """[B, N, C P P] -> [B, C, H, W], the pictures square"""
    b, n, _ = dy.shape
    p, side = patch_size, math.isqrt(n)
    grid = dy.reshape(b, side, side, in_chans, p, p).transpose(0, 3, 1, 4, 2, 5)
    return grid.reshape(b, in_chans, side * p, side * p)
