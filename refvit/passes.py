"""One pass through a model: the layers with the model's parameters, fake-quantized as its QuantConfig says.

Fake quantization (QAT): values are rounded to what the codes stand for, but stay float32, and the gradient passes
straight through the rounding (N13). Without a QuantConfig the same calls are the plain float layers.
Each method's backward stands beside it and collects the gradients of parameters in ``grads``.
"""

import numpy as np

from . import fused, layers, quant, ternary
from .config import linear_roles
from .errors import located
from .fused import compiled
from .rules import PROB_SCALE


class Pass:
    """The layers of one forward and backward pass.

    params  dict: timm name -> array; quant QuantConfig or None
    grads   dict: timm name -> gradient, which backward fills
    ranges  dict: layer -> (amax, lo, hi) of its input, for static scales, or None
    trace   dict that receives the output of every module under timm's module path, or None
    keep    whether a block's cache is kept for backward
    drops   dict: path of a branch -> float [B], 0 for the pictures that skip it, 1 / (1 - rate) for the others
            (stochastic depth, arXiv 1603.09382); branches not named are always taken
    inject  dict: path of a traced hidden state, score or head -> gradient that backward adds there (distillation)
    """

    def __init__(self, model, trace=None, keep=True, drops=None):
        self.params, self.config, self.quant = model.params, model.config, model.quant
        self.ranges, self.trace, self.keep, self.drops = model.ranges, trace, keep, drops or {}
        self.grads, self.inject = {}, {}
        self.roles = linear_roles(model.config)

    def note(self, path, value):
        if self.trace is not None:
            self.trace[path] = value
        return value

    def add_injected(self, path, dx):
        return dx + self.inject[path] if path in self.inject else dx

    def collect(self, name, grad):
        self.grads[name] = self.grads[name] + grad if name in self.grads else grad

    def linear(self, name, x):
        """Linear layer of quantized weights and input.  [..., K] -> [..., C]"""
        w = self.params[f"{name}.weight"]
        matrix = w.reshape(len(w), -1)
        weight_bits, act_bits = (32, 32) if self.quant is None else self.quant.layer_bits(self.roles[name])
        self.note(f"{name}.in", x)
        with located(name):
            xq, passes = self.quantize_input(name, x, act_bits)
        y, cache = layers.linear_forward(xq, self.quantize_weight(matrix, weight_bits), self.params.get(f"{name}.bias"))
        return self.note(name, y), (name, w, passes, weight_bits, cache)

    def linear_backward(self, dy, cache):
        name, w, passes, weight_bits, cache = cache
        dx, dw, db = layers.linear_backward(dy, cache)
        if weight_bits < 32:
            dw = ternary.straight_through_backward(dw, w.reshape(dw.shape), self.quant.ste_clip)
        self.collect(f"{name}.weight", dw.reshape(w.shape))
        if db is not None:
            self.collect(f"{name}.bias", db)
        return dx if passes is None else dx * passes

    def quantize_weight(self, w, bits):
        """The values that the weight codes stand for.  [C, K] -> [C, K]"""
        if bits == 32:
            return w
        if bits == 8:
            return int8_values(w, self.quant.granularity)
        return ternary_values(w, self.quant.granularity, self.quant.threshold, self.quant.scale)

    def quantize_input(self, name, x, bits):
        """The values that the codes of a layer's input stand for, and where the gradient passes (N4, N6)."""
        if bits == 32:
            return x, None
        rows = x.reshape(len(x), -1) if self.quant.act_scale == "image" else x.reshape(-1, x.shape[-1])
        s = zp = None
        if self.quant.act_scale == "static":
            static = quant.static_scale(self.ranges, name, bits, self.quant.act_quantizer)
            s, zp = (np.repeat(v, len(rows)) for v in static)
        y, passes = fake_quantize(rows, bits, self.quant.act_quantizer, s, zp)
        return y.reshape(x.shape), None if passes is None else passes.reshape(x.shape)

    def layernorm(self, name, x):
        """[..., K] -> [..., K]"""
        weight, bias = self.params[f"{name}.weight"], self.params[f"{name}.bias"]
        y, cache = layers.layernorm_forward(x, weight, bias, self.config.norm_eps)
        return self.note(name, y), (name, cache)

    def layernorm_backward(self, dy, cache):
        name, cache = cache
        dx, dweight, dbias = layers.layernorm_backward(dy, cache)
        self.collect(f"{name}.weight", dweight)
        self.collect(f"{name}.bias", dbias)
        return dx

    def attention(self, name, x, heads, bias=None, mask=None):
        """Multi-head self-attention within windows.  x [B, W, T, C], bias [H, T, T], mask [W, T, T] -> [B, W, T, C]"""
        qkv, qkv_cache = self.linear(f"{name}.qkv", x)
        q, k, v = layers.split_heads_forward(qkv, heads)
        rounds = self.quant is not None and self.quant.attention == "int8" and self.quant.act_bits < 32
        passes = None
        if rounds:
            (q, *pass_q), (k, *pass_k), (v, *pass_v) = (quantize_heads(part) for part in (q, k, v))
            passes = (*pass_q, *pass_k, *pass_v)
        scores, scores_cache = layers.scores_forward(q, k, bias, mask)
        p, softmax_cache = layers.softmax_forward(self.note(f"{name}.score", scores))
        p = self.note(f"{name}.prob", p)
        y, context_cache = layers.context_forward(quantize_probabilities(p) if rounds else p, v)
        y = self.note(f"{name}.context", layers.merge_heads_forward(y))
        y, proj_cache = self.linear(f"{name}.proj", y)
        return y, (name, heads, passes, qkv_cache, scores_cache, softmax_cache, context_cache, proj_cache)

    def attention_backward(self, dy, cache):
        """-> dx [B, W, T, C], dbias [H, T, T] or None"""
        name, heads, passes, qkv_cache, scores_cache, softmax_cache, context_cache, proj_cache = cache
        dy = layers.merge_heads_backward(self.linear_backward(dy, proj_cache), heads)
        dp, dv = layers.context_backward(dy, context_cache)
        dscores = self.add_injected(f"{name}.score", layers.softmax_backward(dp, softmax_cache))
        dq, dk, dbias = layers.scores_backward(dscores, scores_cache)
        if passes is not None:
            dq, dk, dv = (d if p is None else d * p for d, p in zip((dq, dk, dv), passes))
        return self.linear_backward(layers.split_heads_backward(dq, dk, dv), qkv_cache), dbias

    def mlp(self, name, x):
        """fc2(gelu(fc1(x))).  [..., C] -> [..., C]"""
        h, fc1_cache = self.linear(f"{name}.fc1", x)
        with located(f"{name}.act"):
            h, gelu_cache = layers.gelu_forward(h)
        h = self.note(f"{name}.act", h)
        y, fc2_cache = self.linear(f"{name}.fc2", h)
        return y, (fc1_cache, gelu_cache, fc2_cache)

    def mlp_backward(self, dy, cache):
        fc1_cache, gelu_cache, fc2_cache = cache
        dh = self.linear_backward(dy, fc2_cache)
        return self.linear_backward(layers.gelu_backward(dh, gelu_cache), fc1_cache)

    def drop_path(self, path, x):
        """Stochastic depth: x times a factor for each picture.  [B, ...] -> [B, ...]"""
        if path not in self.drops:
            return x, None
        factor = self.drops[path].reshape(-1, *[1] * (x.ndim - 1)).astype(x.dtype)
        return x * factor, factor

    def drop_path_backward(self, dy, factor):
        return dy if factor is None else dy * factor

    def global_pool(self, x):
        """Mean over the map.  [B, S, S, C] -> [B, C]"""
        return x.mean(axis=(1, 2)), x.shape

    def global_pool_backward(self, dy, shape):
        return np.broadcast_to(dy[:, None, None] / (shape[1] * shape[2]), shape)

    def layer_scale(self, name, x):
        """gamma * x, where the model has LayerScale (DeiT-III); else x.  [..., C] -> [..., C]"""
        gamma = self.params.get(f"{name}.gamma")
        return (x, None) if gamma is None else (x * gamma, (name, x, gamma))

    def layer_scale_backward(self, dy, cache):
        if cache is None:
            return dy
        name, x, gamma = cache
        self.collect(f"{name}.gamma", (dy * x).sum(axis=tuple(range(dy.ndim - 1))))
        return dy * gamma


@compiled(fused.ternary_values)
def ternary_values(w, granularity, threshold, scale):
    """The values that ternary codes stand for (N3).  [C, K] -> [C, K]"""
    return ternary.dequantize(*ternary.ternarize(w, granularity, threshold, scale))


@compiled(fused.int8_values)
def int8_values(w, granularity):
    """The values that 8-bit codes stand for (N1).  [C, K] -> [C, K]"""
    return ternary.dequantize(*quant.weight_int8(w, granularity))


@compiled(fused.fake_quantize)
def fake_quantize(rows, bits, quantizer, s=None, zp=None):
    """Quantize and dequantize rows (N4) -> values, and where none was clipped (None: all over).  [T, K] -> [T, K]"""
    q, s, zp = quant.quantize_rows(rows, bits, quantizer, s, zp)
    return quant.dequantize_rows(q, s, zp), quant.unclipped(rows, s, zp, bits, quantizer)


@compiled(fused.quantize_heads)
def quantize_heads(x):
    """q, k or v at 8 bit with one scale for each image and head, over all windows (N10).  [B, W, H, T, D]"""
    b, w, h, t, d = x.shape
    by_head = x.swapaxes(1, 2)
    parts = fake_quantize(by_head.reshape(b * h, -1), 8, "symmetric")
    return tuple(None if part is None else part.reshape(b, h, w, t, d).swapaxes(1, 2) for part in parts)


@compiled(fused.quantize_probabilities)
def quantize_probabilities(p):
    """Probabilities with the fixed scale 1 / 127 (N10); none is clipped, so the gradient passes everywhere."""
    return np.rint(p / PROB_SCALE) * PROB_SCALE
