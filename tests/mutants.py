"""Seeded bugs: a packed model's pass in NumPy with one of its steps computed as a careless port computes it.

Written apart from refvit/conformance/hypotheses.py, which has to find them. Each changes modules through pytest's monkeypatch.
"""

import math
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from refvit import bitplanes, exact, kernels, quant, swin, vit
from refvit.config import QuantConfig
from refvit.conformance import trace
from refvit.engine import IntegerPass, score_scale
from refvit.rules import PROB_SCALE
from refvit.window import from_windows, merge_patches, shift_mask, window_partition

f32 = np.float32


@dataclass(frozen=True)
class Mutant:
    """plant(patch) puts the bug in; first: the first operation that is wrong by itself; cause: its name, or None"""

    plant: object
    first: str
    cause: object
    family: str = "vit"
    quant: QuantConfig = QuantConfig()
    elsewhere: bool = False  # whether the bug makes other operations wrong as well, which its name does not cover


def quantizer(code):
    """code: x [T, K], s [T, 1] -> rounded"""

    def quantize(x, s, bits):
        q = (1 << (bits - 1)) - 1
        return np.clip(code(x, s[:, None]), -q, q).astype(np.int8)

    return lambda patch: patch(quant, "quantize_symmetric", quantize)


def away(v):
    return np.array([math.floor(abs(t) + 0.5) * (1 if t >= 0 else -1) for t in v.ravel().tolist()]).reshape(v.shape)


def clip_128(patch):
    def quantize(x, s, bits):
        q = (1 << (bits - 1)) - 1
        return np.clip(np.rint(x / s[:, None]), -q - 1, q).astype(np.int8)

    patch(quant, "quantize_symmetric", quantize)


def scale_reciprocal(patch):
    def scale(amax, bits):
        return amax * (f32(1) / f32((1 << (bits - 1)) - 1))

    patch(quant, "scale_from_amax", scale)


def rescaler(function):
    def rescale(acc, s, alpha, bias=None):
        y = function(acc.astype(f32), s[:, None], alpha)
        return y if bias is None else y + bias

    return lambda patch: patch(exact, "rescale", rescale)


def rescale_fma(patch):
    def rescale(acc, s, alpha, bias=None):
        a = acc.astype(f32) * s[:, None]
        bias = np.zeros_like(alpha) if bias is None else bias
        rows = [[fused(u, v, w) for u, v, w in zip(row, alpha.tolist(), bias.tolist())] for row in a.tolist()]
        return np.array(rows, f32)

    patch(exact, "rescale", rescale)


def fused(a, b, c):
    """a b + c, exactly, rounded to float32 by the two floats around it."""
    true = Fraction(a) * Fraction(b) + Fraction(c)
    near = f32(float(true))
    around = [near, np.nextafter(near, f32(np.inf)), np.nextafter(near, f32(-np.inf))]
    return min(around, key=lambda v: (abs(Fraction(float(v)) - true), int(v.view(np.uint32)) % 2))


def normed(finish):
    """finish: d, var [.., 1], eps, g, b -> y"""

    def layernorm(x, weight, bias, eps):
        k = f32(x.shape[-1])
        d = x - (exact.sum16(x) / k)[..., None]
        return finish(d, (exact.sum16(d * d) / k)[..., None], f32(eps), weight, bias)

    return lambda patch: patch(exact, "layernorm", layernorm)


def contracted(patch):
    """What a compiler makes of the portable C with contraction allowed: a fused loop of squares, a fused end."""

    def layernorm(x, weight, bias, eps):
        rows, k = x.reshape(-1, x.shape[-1]), f32(x.shape[-1])
        out = []
        for row in rows:
            d = row - exact.sum16(row) / k
            p = [f32(0)] * 16
            for i, v in enumerate(d.tolist()):
                p[i % 16] = fused(v, v, float(p[i % 16]))
            r = np.sqrt(exact.sum16(np.array(p, f32)) / k + f32(eps))
            out.append([fused(*row) for row in zip((d / r).tolist(), weight.tolist(), bias.tolist())])
        return np.array(out, f32).reshape(x.shape)

    patch(exact, "layernorm", layernorm)


def no_bias_for_padding(patch):
    def rescale(acc, s, alpha, bias=None):
        y = (acc.astype(f32) * s[:, None]) * alpha
        return y if bias is None else np.array([row + bias if a.any() else row for row, a in zip(y, acc)])

    patch(exact, "rescale", rescale)


def running(x):
    total = np.zeros(x.shape[:-1], f32)
    for i in range(x.shape[-1]):
        total = total + x[..., i]
    return total


def running_sum(patch):
    def layernorm(x, weight, bias, eps):
        k = f32(x.shape[-1])
        d = x - (running(x) / k)[..., None]
        return d / np.sqrt((running(d * d) / k) + f32(eps))[..., None] * weight + bias

    patch(exact, "layernorm", layernorm)


def running_sum_rsqrt(patch):
    def layernorm(x, weight, bias, eps):
        k = f32(x.shape[-1])
        d = x - (running(x) / k)[..., None]
        return d * (f32(1) / np.sqrt((running(d * d) / k) + f32(eps)))[..., None] * weight + bias

    patch(exact, "layernorm", layernorm)


def careless_softmax(patch):
    """expf, a running sum, and its inverse."""

    def softmax(x):
        e = np.exp((x - x.max(axis=-1, keepdims=True)).astype(f32))
        return e * (f32(1) / running(e))[..., None]

    patch(exact, "softmax", softmax)


def softmax_without_max(patch):
    def softmax(x):
        e = exact.exp(x)
        return e / exact.sum16(e)[..., None]

    patch(exact, "softmax", softmax)


def softmax_numpy(patch):
    def softmax(x):
        e = np.exp((x - x.max(axis=-1, keepdims=True)).astype(f32))
        return e / exact.sum16(e)[..., None]

    patch(exact, "softmax", softmax)


def gelu_tanh(patch):
    def gelu(x):
        cubed = [0.5 * t * (1 + math.tanh(math.sqrt(2 / math.pi) * (t + 0.044715 * t**3))) for t in x.ravel().tolist()]
        return np.array(cubed, f32).reshape(x.shape)

    patch(exact, "gelu", gelu)


def gelu_libm(patch):
    def gelu(x):
        e = np.array([math.erf(t) for t in (x * exact.INV_SQRT2).ravel().tolist()], f32).reshape(x.shape)
        return x * f32(0.5) * (f32(1) + e)

    patch(exact, "gelu", gelu)


def attention(scaled=None, probabilities=None, merged=None):
    """int8 attention with one step replaced."""

    def int8_attention(self, name, q, k, v, bias, mask):
        (q, s_q), (k, s_k), (v, s_v) = (self.quantize_heads(f"{name}.{p}", x) for p, x in zip("qkv", (q, k, v)))
        acc = (q.astype(np.int32) @ k.astype(np.int32).swapaxes(-1, -2)).astype(f32)
        r = score_scale(q)
        scores = scaled(acc, s_q, s_k, r) if scaled else ((acc * s_q) * s_k) * r
        p = self.probabilities(name, scores, bias, mask)
        codes = probabilities(p) if probabilities else np.rint(p / PROB_SCALE)
        codes = self.note(f"{name}.q_prob", codes.astype(np.int8))
        acc = (codes.astype(np.int32) @ v.astype(np.int32)).astype(f32)
        return merged(acc, s_v) if merged else (acc * PROB_SCALE) * s_v

    return lambda patch: patch(IntegerPass, "int8_attention", int8_attention)


def planes(change):
    """change: codes [N, K] -> codes as they are read"""
    right = bitplanes.unpack_planes
    return lambda patch: patch(bitplanes, "unpack_planes", lambda p, k: np.ascontiguousarray(change(right(p, k))))


def bits_reversed(codes):
    n, k = codes.shape
    words = -(-k // 64)
    out = np.zeros((n, words * 64), np.int8)
    for i in range(k):
        out[:, i // 64 * 64 + 63 - i % 64] = codes[:, i]
    return out[:, :k]


def zero_points(change):
    def linear(self, name, x):
        layer = self.linears[name]
        q, s, zp = self.quantize_input(layer, x)
        acc = (q.astype(np.int32) @ layer.codes().T.astype(np.int32)) + change(zp[:, None]) * layer.code_sums()
        y = exact.rescale(acc.astype(np.int32), s, layer.alpha, layer.bias)
        for step, value in (("zp_in", zp), ("q_in", q), ("s_in", s), ("acc", acc.astype(np.int32)), ("out", y)):
            self.note(f"{name}.{step}", value)
        return y.reshape(*x.shape[:-1], -1), None

    return lambda patch: patch(IntegerPass, "linear", linear)


def mask(value):
    def wrong(s, m, shift):
        right = shift_mask(s, m, shift)
        return None if right is None else np.where(right < 0, f32(value), f32(0))

    return lambda patch: patch(swin, "shift_mask", wrong)


def merge_rows(patch):
    def merge(x):
        c = x.shape[-1]
        y = merge_patches(x)
        return np.concatenate([y[..., :c], y[..., 2 * c : 3 * c], y[..., c : 2 * c], y[..., 3 * c :]], axis=-1)

    patch(swin, "merge_patches", merge)


def shift_back(patch):
    patch(swin, "to_windows", lambda x, m, z: window_partition(np.roll(x, (z, z), axis=(1, 2)), m))
    patch(swin, "from_windows", lambda w, m, z, s: from_windows(w, m, -z, s))


def bgr(patch):
    right = trace.normalise
    patch(trace, "normalise", lambda u8, p: right(np.ascontiguousarray(u8[..., ::-1]), p))


def lost_skip(patch):
    """The block's result is its second branch alone."""
    right = vit.block_forward

    def block(run, name, x):
        y, cache = right(run, name, x)
        branch = run.trace[f"{name}.mlp.fc2.out"].reshape(y.shape)
        return run.note(name, branch), cache

    patch(vit, "block_forward", block)


def one_accumulator(patch):
    """A bug that no table knows: 3 too much, once."""
    right = kernels.ternary_matmul

    def product(q, *args, **kwargs):
        acc = right(q, *args, **kwargs)
        acc[1, 2] += 3 * (acc.shape[1] == 96)
        return acc

    patch(kernels, "ternary_matmul", product)


MINMAX, STATIC, QKV = QuantConfig(act_quantizer="minmax"), QuantConfig(act_scale="static"), "blocks.0.attn.qkv"
ATTN, SWIN = "blocks.0.attn", "layers.0.blocks.0"
MUTANTS = {
    "half_away": Mutant(quantizer(lambda x, s: away(x / s)), f"{QKV}.q_in", "half_away"),
    "half_up": Mutant(quantizer(lambda x, s: np.floor(x / s + f32(0.5))), f"{QKV}.q_in", "half_up"),
    "reciprocal": Mutant(quantizer(lambda x, s: np.rint(x * (f32(1) / s))), f"{QKV}.q_in", "reciprocal"),
    "reciprocal_half_up": Mutant(
        quantizer(lambda x, s: np.floor(x * (f32(1) / s) + f32(0.5))), f"{QKV}.q_in", "half_up+reciprocal"
    ),
    "truncation": Mutant(quantizer(lambda x, s: np.trunc(x / s)), "patch_embed.proj.q_in", "truncation"),
    "clip_128": Mutant(clip_128, "blocks.0.mlp.fc1.q_in", "clip_128", quant=STATIC),
    "scale_reciprocal": Mutant(scale_reciprocal, f"{ATTN}.v.s_in", "scale_reciprocal"),
    "alpha_first": Mutant(rescaler(lambda a, s, c: (a * c) * s), "patch_embed.proj.out", "alpha_first"),
    "scales_first": Mutant(rescaler(lambda a, s, c: a * (s * c)), "patch_embed.proj.out", "scales_first"),
    "rescale_fma": Mutant(rescale_fma, "patch_embed.proj.out", "rescale_fma"),
    "eps_outside": Mutant(
        normed(lambda d, var, e, g, b: d / (np.sqrt(var) + e) * g + b), "blocks.0.norm1", "eps_outside"
    ),
    "eps": Mutant(normed(lambda d, var, e, g, b: d / np.sqrt(var + f32(1e-5)) * g + b), "blocks.0.norm1", "eps_1e-05"),
    "rsqrt": Mutant(
        normed(lambda d, v, e, g, b: d * (f32(1) / np.sqrt(v + e)) * g + b), "blocks.0.norm1", "inverse_sqrt"
    ),
    "contracted": Mutant(contracted, "blocks.0.norm1", "variance_and_gain_fma"),
    "padding": Mutant(no_bias_for_padding, f"{SWIN}.attn.qkv.out", "zero_rows_without_bias", "padded"),
    "running_sum": Mutant(running_sum, "blocks.0.norm1", "sum_sequential"),
    "running_sum_swin": Mutant(running_sum, "patch_embed.norm", "sum_sequential", "swin"),
    "running_sum_rsqrt": Mutant(running_sum_rsqrt, "blocks.0.norm1", "inverse_sqrt+sum_sequential"),
    "careless_softmax": Mutant(careless_softmax, f"{ATTN}.prob", "softmax_reciprocal+exp_numpy+sum_sequential"),
    "softmax_without_max": Mutant(softmax_without_max, f"{ATTN}.prob", "softmax_no_max"),
    "softmax_numpy": Mutant(softmax_numpy, f"{ATTN}.prob", "exp_numpy"),
    "gelu_tanh": Mutant(gelu_tanh, "blocks.0.mlp.act", "gelu_tanh_double"),
    "gelu_libm": Mutant(gelu_libm, "blocks.0.mlp.act", "erf_libm"),
    "score_scales_first": Mutant(
        attention(lambda a, q, k, r: (a * (q * k)) * r), f"{ATTN}.score", "score_scales_first"
    ),
    "score_factor": Mutant(
        attention(lambda a, q, k, r: a * ((q * k) * r)), f"{SWIN}.attn.score", "score_one_factor", "swin"
    ),
    "prob_128": Mutant(attention(probabilities=lambda p: np.rint(p * 128)), f"{ATTN}.q_prob", "prob_128"),
    "context": Mutant(attention(merged=lambda a, v: a * (PROB_SCALE * v)), f"{ATTN}.context", "context_one_factor"),
    "planes_swapped": Mutant(planes(np.negative), f"{QKV}.acc", "planes_swapped"),
    "bits_reversed": Mutant(planes(bits_reversed), f"{QKV}.acc", "bits_reversed"),
    "inputs_transposed": Mutant(planes(lambda c: c.T.ravel().reshape(c.shape)), f"{QKV}.acc", "written_transposed"),
    "zero_point_sign": Mutant(zero_points(lambda zp: zp), "patch_embed.proj.acc", "zp_sign", quant=MINMAX),
    "zero_point_missing": Mutant(zero_points(lambda zp: 0 * zp), "patch_embed.proj.acc", "zp_missing", quant=MINMAX),
    "mask_infinite": Mutant(mask(-np.inf), "layers.0.blocks.1.attn.score", "mask_infinite", "swin"),
    "mask_missing": Mutant(mask(0), "layers.0.blocks.1.attn.score", "mask_missing", "swin"),
    "merge_rows": Mutant(merge_rows, "layers.1.downsample.norm", "merge_rows", "swin"),
    "shift_back": Mutant(shift_back, "layers.0.blocks.1.attn.qkv.s_in", "shift_back", "swin", elsewhere=True),
    "bgr": Mutant(bgr, "patch_embed.proj.s_in", "bgr"),
    "lost_skip": Mutant(lost_skip, "blocks.0", "no_skip"),
    "one_accumulator": Mutant(one_accumulator, "blocks.0.mlp.fc1.acc", None),
}
