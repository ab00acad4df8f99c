"""Legal variants: what a port may do otherwise, at which the kit must not raise an alarm.

EXACT      give every bit of the engine
BOUNDED    floats of other sums and libraries: right where the kit has bounds, not where it has bits
PRODUCTS   families of ternary products in C
"""

import math

import numpy as np

from refvit.rules import f32

from .plant import Mutant


def edit(place, old, new):
    """As a mutant that no operation shows."""
    return Mutant(place, old, new, "none")


PRODUCT = "(x.astype(np.float64) @ w.astype(np.float64).swapaxes(-1, -2))"
EXACT = {
    "blocks of 7 inputs in int32, the last first": edit(
        "kernels:_exact_product", PRODUCT,
        "sum((x[..., a : a + 7].astype(np.int32) @ w[..., a : a + 7].astype(np.int32).swapaxes(-1, -2) "
        "for a in reversed(range(0, x.shape[-1], 7))), np.zeros((*x.shape[:-1], w.shape[-2]), np.int32))"),
    "one product for each bit of the codes": edit(
        "kernels:_exact_product", PRODUCT,
        "sum((1 - 2 * (i == 7)) * 2.0**i * ((x.view(np.uint8) >> i & 1).astype(np.float64) "
        "@ w.astype(np.float64).swapaxes(-1, -2)) for i in range(8))"),
    "zero points subtracted before the product": edit(
        "engine:IntegerPass.linear", "acc -= zp[:, None] * layer.code_sums()",
        "acc = ((q.astype(np.int64) - zp[:, None]) @ layer.codes().T.astype(np.int64)).astype(np.int32)"),
    "zero points subtracted before the product, of planes": edit(
        "vectors.answers:ternary_product",
        "acc - zp[:, None] * bitplanes.unpack_planes(planes, k).sum(axis=1, dtype=np.int32)",
        "(q.astype(np.int32) - zp[:, None]) @ bitplanes.unpack_planes(planes, k).T.astype(np.int32)"),
    "clip before rounding": edit(
        "quant:quantize_symmetric", "np.rint(x / s[:, None])",
        "np.rint(np.clip(x / s[:, None], -qmax(bits), qmax(bits)))"),
    "clip before rounding, with a zero point": edit(
        "quant:quantize_minmax", "np.rint(x / s[:, None])",
        "np.rint(np.clip(x / s[:, None], *(v - zp[:, None].astype(f32) for v in code_range(bits, \"minmax\"))))"),
    "amax of the smallest and the largest value": edit(
        "quant:row_amax", "np.where(np.isfinite(x), np.abs(x), f32(0.0)).max(axis=1, initial=f32(0.0))",
        "np.maximum(*(np.abs(v) for v in row_range(x)))"),
    "16 partial sums as four vectors of 4": edit(
        "exact:sum16", "partial + x[..., start : start + PARTIAL_SUMS]",
        "np.concatenate([partial[..., i : i + 4] + x[..., start + i : start + i + 4] "
        "for i in (0, 4, 8, 12)], axis=-1)"),
    "the mean divided in float64, which rounds to the same float32": edit(
        "exact:layernorm", "(sum16(x) / k)", "(sum16(x) / np.float64(k)).astype(f32)"),
    "a square root in float64, which rounds to the same float32": edit(
        "exact:layernorm", "np.sqrt(var + f32(eps))", "np.sqrt((var + f32(eps)).astype(np.float64)).astype(f32)"),
    "accumulators to float64 first, which holds them": edit(
        "exact:rescale", "acc.astype(np.float32)", "acc.astype(np.float64).astype(np.float32)"),
    "the power of two of exp in two factors": edit(
        "exact:exp", "np.ldexp(p, n.astype(np.int32))", "(p * 2.0 ** (n // 2) * 2.0 ** (n - n // 2))"),
    "every sum of a ternarized row by math.fsum": edit(
        "ternary:exact_row_sums", "~provably_exact & (magnitude > 0).any(axis=1)", "np.ones(n, bool)"),
    "base-3 bytes by division": edit(
        "bitplanes:decode_base3", "_BYTE_CODES[stream]", "(stream[:, None] // _POWERS % 3 - 1).astype(np.int8)"),
    "pixels one by one, without a table": edit(
        "preprocess:normalise", "values[u8[..., i]]",
        "(u8[..., i].astype(f32) / f32(255) - f32(cfg.mean[i])) / f32(cfg.std[i])"),
    "halves of GELU, for halving is exact": edit(
        "exact:gelu", "(x * f32(0.5)) * (f32(1.0) + erf(x * INV_SQRT2))",
        "x * (f32(0.5) + f32(0.5) * erf(x * INV_SQRT2))"),
    "no clip of a zero point, which lies in the range by itself": edit(
        "quant:scale_from_range", "np.clip(np.rint(f32(low) - lo / s), low, high)", "np.rint(f32(low) - lo / s)"),
    "thresholds between equals, where S^2 / k has no maximum": edit(
        "ternary:optimal_delta", "gain[ordered == next_smaller] = -1.0", "pass"),
    "regions of a mask that no window shares are not told apart": edit(
        "window:shift_mask", "axis[s - m : s - shift] = 1", "pass"),
    "a file with both codings refused for the one left over": edit(
        "modelfile:take_weight", "if f\"{name}.base3\" in tensors:", "if f\"{name}.planes\" not in tensors:"),
    "a header beyond the file refused for the buffer that is then missing": edit(
        "safetensors:_read_header", "length > total - 8:", "length > total:"),
}  # fmt: skip


def layernorm(x, weight, bias, eps):
    """NumPy's sums, the inverse square root."""
    d = x - x.mean(axis=-1, keepdims=True, dtype=f32)
    return d * (f32(1) / np.sqrt((d * d).mean(axis=-1, keepdims=True, dtype=f32) + f32(eps))) * weight + bias


def layernorm64(x, weight, bias, eps):
    x = x.astype(np.float64)
    d = x - x.mean(axis=-1, keepdims=True)
    return (d / np.sqrt((d * d).mean(axis=-1, keepdims=True) + eps) * weight + bias).astype(f32)


def softmax(x):
    e = np.exp((x - x.max(axis=-1, keepdims=True)).astype(np.float64)).astype(f32)
    return e / e.sum(axis=-1, keepdims=True, dtype=f32)


def softmax64(x):
    e = np.exp(x.astype(np.float64) - x.max(axis=-1, keepdims=True))
    return (e / e.sum(axis=-1, keepdims=True)).astype(f32)


def erf(x):
    return np.array([math.erf(v) for v in x.reshape(-1).tolist()], f32).reshape(x.shape)


def matmul(a, b):
    return (a @ b.swapaxes(-1, -2)).astype(f32)


ONE_BY_ONE = {
    "LayerNorm by numpy.mean": {"exact:layernorm": layernorm},
    "LayerNorm in float64": {"exact:layernorm": layernorm64},
    "softmax of numpy.exp and numpy.sum": {"exact:softmax": softmax},
    "softmax in float64": {"exact:softmax": softmax64},
    "GELU of math.erf": {"exact:erf": erf},
    "products of floats by BLAS": {"exact:matmul16": matmul},
}
ALL = {"exact:layernorm": layernorm, "exact:softmax": softmax, "exact:erf": erf, "exact:matmul16": matmul}
BOUNDED = {**ONE_BY_ONE, "all of these": ALL}

FAMILY = "FAMILIES[lib.refvit_family(level, rows, bits)]"
PRODUCTS = {family: edit("kernels:family_of", FAMILY, f'"{family}"') for family in ("popcount", "dot")}
