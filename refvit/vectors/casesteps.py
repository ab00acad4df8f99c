"""The cases of a kit as operations that can be judged: which Step makes each output, from what is right before it.

Letters as in tests/vectors/KIT.md. Mistakes of operations that are not here are in own.py.
"""

from types import SimpleNamespace

import numpy as np

from .. import exact, layers
from ..bitplanes import unpack_planes
from ..config import QuantConfig
from ..conformance.judge import Judge, Step, same
from ..conformance.variants import merging_variants, patch_variants, window_variants
from .answers import layer_of, one_layer, preprocess_of

MALFORMED = (KeyError, TypeError, ValueError, IndexError, AttributeError, ArithmeticError)
LAYER = "y"  # the name that the layer or attention of a case goes by


def steps_of(case):
    """-> dict: name of an output -> Step. Raises one of MALFORMED where the inputs are not those of the operation."""
    right = {tensor.name: tensor.value for tensor in case.outputs}
    return STEPS[case.operation](right, **case.arrays, **case.parameters) if case.operation in STEPS else {}


def step(output, kind, **inputs):
    return {output: Step(output, kind, inputs, same)}


def plain(output, kind):
    """A Step of the case's own inputs."""
    return lambda right, **inputs: step(output, kind, **inputs)


def ordered(output, right, variants):
    """Data in an order, which may be another.  variants: as in variants.py"""
    return {output: Step(output, "copy", {"x": right[output]}, same, (), variants)}


def pixels(right, u8, mean, std):
    """As one patch, that is the whole picture."""
    engine = SimpleNamespace(
        config=SimpleNamespace(patch_size=len(u8), in_chans=3), preprocess=preprocess_of(u8, mean, std)
    )
    variants = patch_variants(engine, u8)
    del variants["channels_last"]  # within a patch
    return ordered("x", right, variants)


def windows(right, x, window_size, shift):
    stage = SimpleNamespace(stages=[(x.shape[1], 0, 0, window_size, 1)], shift=lambda stage, block: shift)
    return ordered("windows", right, window_variants(stage, "layers.0.blocks.0.attn", x, np.float32(0)))


def merging(right, x):
    return ordered("y", right, merging_variants(x))


def no_zero_points(x):
    return np.zeros(len(x), np.int32)


def scale(right, x, bits, quantizer, groups):
    return step("s", "scale", x=x, bits=bits, quantizer=quantizer, groups=groups, static=None)


def zero_point(right, x, s, bits, groups):
    return step("zp", "zero_point", x=x, s=s, bits=bits, quantizer="minmax", groups=groups, static=None)


def static_scale(right, range, bits, quantizer):
    """As of a row that holds nothing but its range."""
    x = (range[:1] if quantizer == "symmetric" else range[1:])[None]
    how = {"x": x, "bits": bits, "quantizer": quantizer, "groups": 1, "static": None}
    zero_points = step("zp", "zero_point", s=right["s"], **how) if quantizer == "minmax" else {}
    return step("s", "scale", **how) | zero_points


def weight_int8(right, w, granularity):
    """As symmetric codes of 8 bits."""
    how = {"x": w, "bits": 8, "quantizer": "symmetric"}
    scales = step("alpha", "scale", groups=len(w) if granularity == "channel" else 1, static=None, **how)
    return step("codes", "codes", s=right["alpha"], zp=no_zero_points(w), **how) | scales


def ternary_product(right, q, zp, planes, k, bits):
    return step("acc", "product", q=q, zp=zp, weight=unpack_planes(planes, k))


def int8_product(right, q, zp, weight, bits):
    return step("acc", "product", q=q, zp=zp, weight=weight)


def rescale(right, acc, s, alpha, bias=None):
    return step("y", "rescale", acc=acc, s=s, alpha=alpha, bias=bias)


def layernorm(right, x, weight, bias, eps):
    return step("y", "layernorm", x=x, weight=weight, bias=bias, eps=float(eps))


def score(kind):
    return lambda right, bias=None, mask=None, **inputs: step("score", kind, bias=bias, mask=mask, **inputs)


def residual(right, skip, branch, gamma=None):
    return step("y", "residual", skip=skip, branches=[branch if gamma is None else branch * gamma])


def logits(right, head, head_dist):
    return step("y", "logits", heads=[head, head_dist])


def norm_codes(right, x, weight, bias, s, bits, eps):
    return codes_of(exact.layernorm(x, weight, bias, float(eps)), s, bits)


def gelu_codes(right, x, s, bits):
    return codes_of(exact.gelu(x), s, bits)


def codes_of(x, s, bits):
    return step("q", "codes", x=x, s=s, zp=no_zero_points(x), bits=bits, quantizer="symmetric")


def softmax_codes(right, x):
    return step("q", "prob_codes", p=exact.softmax(x))


class Collected(dict):
    """Receives the steps of a judge; each goes on with what is right."""

    def __init__(self, right):
        super().__init__()
        self.right = right

    def __call__(self, step):
        name = step.name.removeprefix(f"{LAYER}.")
        self[name] = step
        return self.right[name]


def linear(right, x, groups, **layer):
    found = Collected(right)
    Judge(layer_of(**layer), found, None).linear(LAYER, x.reshape(groups, -1, layer["k"]))
    return found


def attention(right, qkv, heads, attention, bias=None, mask=None):
    found = Collected(right)
    judge = Judge(one_layer(QuantConfig(attention=attention)), found, None)
    mix = judge.mix_float if attention == "float" else judge.mix_codes
    mix(LAYER, *layers.split_heads_forward(qkv, heads), bias, mask)
    return found


STEPS = {
    "gelu": plain("y", "gelu"), "softmax": plain("y", "softmax"), "pool": plain("y", "pool"),
    "codes": plain("q", "codes"), "prob_codes": plain("q", "prob_codes"), "context": plain("context", "context"),
    "float_context": plain("context", "float_context"), "score": score("score"), "float_score": score("float_score"),
    **{f.__name__: f for f in (
        pixels, windows, merging, scale, zero_point, static_scale, weight_int8, ternary_product, int8_product, rescale,
        layernorm, residual, logits, norm_codes, gelu_codes, softmax_codes, linear, attention
    )},
}  # fmt: skip
