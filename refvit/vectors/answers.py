"""How refvit itself answers the operations of the kit (tests/vectors/KIT.md, section 4), on the backend that is set.

An answer is a function of a case's inputs and parameters by name -> dict: name of the output -> array. Each takes
the kernel where there is one, so that a kit checks an installation; on the backend "numpy" these are the twins, which
made the kit. Letters as in KIT.md.
"""

import os
import tempfile
from functools import partial
from types import SimpleNamespace

import numpy as np

from .. import bitplanes, kernels, layers, passes, quant, ternary, window
from ..backend import default_environment
from ..config import QuantConfig
from ..conformance import operations
from ..conformance.trace import LOGITS, PIXELS, in_order
from ..conformance.trace import trace as trace_model
from ..engine import IntegerPass
from ..errors import RefvitError
from ..evaluate import top_k
from ..model import INIT_STD, bell
from ..modelfile import load_packed
from ..packed import PackedLinear, check_finite, check_linear
from ..preprocess import PreprocessConfig, normalise
from ..rules import f32

ACCEPTED = "accepted"
REFUSED = {ACCEPTED: np.zeros(1, np.uint8)}


def answer(case):
    """The outputs of a case.  -> dict: name -> array; REFUSED where the input is refused"""
    try:
        with default_environment(), np.errstate(all="ignore"):
            outputs = ANSWERS[case.operation](**case.arrays, **case.parameters)
    except RefvitError:
        return REFUSED
    return {name: np.ascontiguousarray(value) for name, value in outputs.items()}


def accepted(outputs):
    return {ACCEPTED: np.ones(1, np.uint8), **outputs}


def one(name, function):
    """The answer of a function with one result."""
    return lambda **arguments: {name: function(**arguments)}


# Primitives and pictures


def sum16(x):
    """A product with ones, for which there is a kernel."""
    return kernels.matmul16(x, np.ones((1, x.shape[1]), f32))[:, 0]


def seeded(seed, count):
    elements = bell(np.random.PCG64(int(seed)), count) * f32(INIT_STD)
    return {"words": np.random.PCG64(int(seed)).random_raw(count), "elements": elements}


def preprocess_of(u8, mean, std):
    """mean, std: decimal texts"""
    side = len(u8)
    return PreprocessConfig("squash", side, side, *([float(v) for v in values] for values in (mean, std)))


def pixels(u8, mean, std):
    return normalise(u8, preprocess_of(u8, mean, std))[0]


def patches(x, patch_size):
    return layers.patches_forward(x[None], patch_size)[0]


# Weights


def ternarize(w, granularity, threshold, scale):
    threshold = threshold if threshold == "optimal" else float(threshold)
    codes, alpha = ternary.ternarize(w, granularity, threshold, scale)
    return {"codes": codes, "alpha": alpha}


def weight_int8(w, granularity):
    check_finite("w", w)
    codes, alpha = quant.weight_int8(w, granularity)
    return {"codes": codes, "alpha": alpha}


def planes_decode(planes, k):
    """A product with the unit matrix, for which there is a kernel."""
    return accepted({"codes": kernels.ternary_matmul(np.eye(k, dtype=np.int8), planes, k).T.astype(np.int8)})


def base3_decode(stream, n, k):
    return accepted({"codes": bitplanes.unpack_planes(kernels.decode_base3(stream, (n, k)), k)})


# Activations and products


def quantized(x, bits, quantizer, groups):
    """Scales and zero points, one for each of ``groups`` runs of rows, repeated for every row."""
    _, s, zp = kernels.quantize_rows(x.reshape(groups, -1), bits, quantizer)
    return (np.repeat(v, len(x) // groups) for v in (s, zp))


def scale(x, bits, quantizer, groups):
    s, _ = quantized(x, bits, quantizer, groups)
    return s


def zero_point(x, s, bits, groups):
    """``s`` is the scale of x: the kernel makes it again."""
    _, zp = quantized(x, bits, "minmax", groups)
    return zp


def static_scale(range, bits, quantizer):
    s, zp = quant.static_scale({"": range}, "", bits, quantizer)
    return {"s": s, "zp": zp}


def codes(x, s, zp, bits, quantizer):
    return kernels.quantize_rows(x, bits, quantizer, s, zp)[0]


def ternary_product(q, zp, planes, k, bits):
    acc = kernels.ternary_matmul(q, planes, k, bits=bits)
    return acc - zp[:, None] * bitplanes.unpack_planes(planes, k).sum(axis=1, dtype=np.int32)


def int8_product(q, zp, weight, bits):
    return kernels.int8_matmul(q, weight) - zp[:, None] * weight.sum(axis=1, dtype=np.int32)


def one_layer(quant_config, **linears):
    """What a pass needs of an engine."""
    return SimpleNamespace(config=None, params={}, quant=quant_config, linears=linears, backend=None)


def layer_of(alpha, k, bits, quantizer, planes=None, weight=None, bias=None, s=None, zp=None):
    """-> the engine of one layer "y" with the scales of pictures: of static ones, or of one for each group"""
    static = None if s is None else (s, zp)
    kind, matrix = (8, weight) if planes is None else (2, planes)
    layer = PackedLinear("y", kind, matrix, alpha, bias, k, bits, static)
    quant_config = QuantConfig(act_quantizer=quantizer, act_scale="image")
    check_linear(layer, quant_config)
    return one_layer(quant_config, y=layer)


def linear(x, groups, **layer):
    trace = {}
    IntegerPass(layer_of(**layer), trace).linear("y", x.reshape(groups, -1, layer["k"]))
    return traced(trace)


def traced(trace):
    """The tensors of a trace of "y" in order of execution, without that name."""
    return {name.removeprefix("y."): trace[name] for name in in_order(trace)}


# Float operations and attention


def layernorm(x, weight, bias, eps):
    return kernels.layernorm(x, weight, bias, float(eps))


def int8_products(a, b):
    """As operations.integer_product, by the kernel."""
    return kernels.int8_matmul(np.ascontiguousarray(a), np.ascontiguousarray(b))


def attention(qkv, heads, attention, bias=None, mask=None):
    trace = {}
    run = IntegerPass(one_layer(QuantConfig(attention=attention)), trace)
    mix = run.float_attention if attention == "float" else run.int8_attention
    y = mix("y", *layers.split_heads_forward(qkv, heads), bias, mask)
    return {**traced(trace), "context": layers.merge_heads_forward(y)}


def residual(skip, branch, gamma=None):
    return skip + (branch if gamma is None else branch * gamma)


def predict(logits):
    return top_k(logits, 1)[:, 0].astype(np.int32)


def windows(x, window_size, shift):
    return window.to_windows(x, window_size, shift)


def windows_back(windows, window_size, shift, side):
    return window.from_windows(windows, window_size, shift, side)


# Backward, and codes of float functions


def act_mask(x, s, zp, bits, quantizer):
    _, passed = passes.fake_quantize(x, bits, quantizer, s, zp)
    return np.ones(x.shape, np.uint8) if passed is None else passed.astype(np.uint8)


def weight_mask(w, ste_clip):
    return (ternary.straight_through_backward(np.ones_like(w), w, float.fromhex(ste_clip)) != 0).astype(np.uint8)


def layernorm_backward(x, weight, dy, eps):
    _, cache = layers.layernorm_forward(x, weight, np.zeros_like(weight), float(eps))
    return dict(zip(("dx", "dweight", "dbias"), layers.layernorm_backward(dy, cache)))


def softmax_backward(x, dy):
    return layers.softmax_backward(dy, layers.softmax_forward(x)[1])


def gelu_backward(x, dy):
    return layers.gelu_backward(dy, layers.gelu_forward(x)[1])


def linear_backward(x, w, dy):
    return dict(zip(("dx", "dw", "db"), layers.linear_backward(dy, (x, w, True))))


def norm_codes(x, weight, bias, s, bits, eps):
    y = layernorm(x, weight, bias, eps)
    return kernels.quantize_rows(y, bits, "symmetric", s, np.zeros(len(x), np.int32))[0]


def gelu_codes(x, s, bits):
    """``s`` is the scale of the GELU of x: the kernel makes it again."""
    return kernels.gelu_codes(x, bits)[0]


# Files and models


def engine_of(file):
    """A packed model from the bytes of its file."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "packed")
        with open(path, "wb") as target:
            target.write(file.tobytes())
        return load_packed(path)


def load(file):
    engine = engine_of(file)
    outputs = {}
    for linear in engine.linears.values():
        outputs |= {f"{linear.name}.codes": linear.codes(), f"{linear.name}.alpha": linear.alpha}
        if linear.bias is not None:
            outputs[f"{linear.name}.bias"] = linear.bias
        if linear.static is not None:
            outputs |= dict(zip((f"{linear.name}.act.scale", f"{linear.name}.act.zero_point"), linear.static))
    return accepted({**outputs, **engine.params})


def model(file, pixels):
    """Every step by itself; the logits by the whole way at once, where C has one."""
    engine = engine_of(file)
    tensors = trace_model(engine, pixels).tensors
    del tensors[PIXELS]
    return {**tensors, LOGITS: engine.predict(pixels[None])}


ANSWERS = {
    "exp": one("y", kernels.exp),
    "erf": one("y", kernels.erf),
    "gelu": one("y", kernels.gelu),
    "sum16": one("y", sum16),
    "pixels": one("x", pixels),
    "patches": one("rows", patches),
    "ternarize": ternarize,
    "weight_int8": weight_int8,
    "planes_encode": one("planes", kernels.pack_planes),
    "planes_decode": planes_decode,
    "base3_encode": one("stream", bitplanes.encode_base3),
    "base3_decode": base3_decode,
    "scale": one("s", scale),
    "zero_point": one("zp", zero_point),
    "static_scale": static_scale,
    "codes": one("q", codes),
    "ternary_product": one("acc", ternary_product),
    "int8_product": one("acc", int8_product),
    "rescale": one("y", kernels.rescale),
    "linear": linear,
    "layernorm": one("y", layernorm),
    "softmax": one("y", kernels.softmax),
    "score": one("score", partial(operations.score, multiply=int8_products)),
    "prob_codes": one("q", operations.prob_codes),
    "context": one("context", partial(operations.context, multiply=int8_products)),
    "float_score": one("score", partial(operations.float_score, multiply=kernels.matmul16)),
    "float_context": one("context", partial(operations.float_context, multiply=kernels.matmul16)),
    "attention": attention,
    "residual": one("y", residual),
    "logits": one("y", lambda head, head_dist: operations.logits([head, head_dist])),
    "predict": one("index", predict),
    "windows": one("windows", windows),
    "windows_back": one("x", windows_back),
    "shift_mask": one("mask", lambda side, window_size, shift: window.shift_mask(side, window_size, shift)),
    "position_bias": one("bias", lambda table, window_size: window.bias_forward(table, window_size)),
    "merging": one("y", window.merge_patches),
    "pool": one("y", operations.pool),
    "seeded": seeded,
    "act_mask": one("mask", act_mask),
    "weight_mask": one("mask", weight_mask),
    "layernorm_backward": layernorm_backward,
    "softmax_backward": one("dx", softmax_backward),
    "gelu_backward": one("dx", gelu_backward),
    "linear_backward": linear_backward,
    "norm_codes": one("q", norm_codes),
    "gelu_codes": one("q", gelu_codes),
    "softmax_codes": one("q", kernels.softmax_codes),
    "load": load,
    "model": model,
}  # fmt: skip
