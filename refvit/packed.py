"""From a trained model to integers: packed linear layers (rules N1, N2, N6), and back to float weights.

A packed model holds, for each linear layer, codes and scales; biases, norms, tokens and tables stay float32 (N1).
"""

from dataclasses import dataclass

import numpy as np

from . import kernels, quant, ternary
from .bitplanes import unpack_planes
from .config import linear_roles
from .errors import BadInputError, UsageError
from .rules import K_MAX


@dataclass(frozen=True)
class PackedLinear:
    """One linear layer in integers.

    bits      2: weight is bit-planes uint64 [2, N, ceil(K / 64)]; 8: weight is int8 [N, K]
    alpha     float32 [N]: scale per output channel
    bias      float32 [N] or None
    act_bits  bits of its input
    static    (s float32 [1], zp int32 [1]) of its input, or None for dynamic scales
    """

    name: str
    bits: int
    weight: np.ndarray
    alpha: np.ndarray
    bias: object
    k: int
    act_bits: int
    static: object = None

    def codes(self):
        """int8 [N, K]"""
        return unpack_planes(self.weight, self.k) if self.bits == 2 else self.weight

    def code_sums(self):
        """sum(w) of each output channel, for the correction of zero points (N6).  -> int32 [N]"""
        return self.codes().sum(axis=1, dtype=np.int32)


def pack_linears(model, progress=None):
    """Quantize every linear of a fake-quant model for good (N1: inference never re-thresholds).  -> dict by layer name

    Raises UsageError where the model has no integers to pack (32 bits) or static scales without ranges.
    """
    if model.quant is None:
        raise UsageError("pack", "model", "a quantized model", "a float one", "model.with_quant(QuantConfig())")
    check_attention(model.config, model.quant)
    linears = {}
    for name, role in linear_roles(model.config).items():
        bits, act_bits = packed_bits(model.quant, name, role)
        linear = pack_linear(name, model.matrix(name), model.params.get(f"{name}.bias"), bits, act_bits, model)
        check_linear(linear, model.quant)
        linears[name] = linear
        if progress is not None:
            progress.update(len(linears))
    return linears


def packed_bits(quant_config, name, role):
    """(weight bits, activation bits) of a layer; UsageError where they are not integers' (32)."""
    bits, act_bits = quant_config.layer_bits(role)
    if 32 in (bits, act_bits):
        raise UsageError(name, "bits of weights and activations", "2 or 8, and 2 to 8", (bits, act_bits))
    return bits, act_bits


def pack_linear(name, w, bias, bits, act_bits, model):
    """One layer.  w float32 [N, K]"""
    q = model.quant
    check_finite(f"{name}.weight", w)
    if bias is not None:
        check_finite(f"{name}.bias", bias)
        bias = bias.copy()
    if bits == 2:
        codes, alpha = ternary.ternarize(w, q.granularity, q.threshold, q.scale)
        weight = kernels.pack_planes(codes)
    else:
        weight, alpha = quant.weight_int8(w, q.granularity)
    static = None
    if q.act_scale == "static":
        static = quant.static_scale(model.ranges, name, act_bits, q.act_quantizer)
    return PackedLinear(name, bits, weight, alpha, bias, w.shape[1], act_bits, static)


def check_finite(name, value):
    """Raise BadInputError for a NaN or an infinity: no packed file holds one."""
    if not np.isfinite(value).all():
        raise BadInputError(name, "values", "finite float32", "NaN or inf")


def check_linear(linear, quant_config):
    """The bounds under which int32 accumulators are exact (N6, N7)."""
    k_max = K_MAX if linear.bits == 2 else K_MAX - 1  # 2^17 products of -128 and -128 would be 2^31
    if linear.k > k_max:
        raise BadInputError(linear.name, "inputs of a dot product", f"at most {k_max}", linear.k)
    if quant_config.act_quantizer == "minmax":
        reach = np.abs(linear.codes().astype(np.int64)).sum(axis=1).max(initial=0) * ((1 << linear.act_bits) - 1)
        if reach >= 1 << 31:
            raise BadInputError(linear.name, "|acc - zp sum(w)|", "below 2^31", int(reach))


def check_attention(config, quant_config):
    """The same for contexts: sums over the tokens of a window (N7)."""
    if config.family == "vit":
        tokens = config.num_tokens
    else:
        tokens = max(window for _, _, _, window, _ in config.stages) ** 2
    if quant_config.attention == "int8" and tokens >= K_MAX:
        raise BadInputError(config.name, "tokens of a window", f"below {K_MAX}", tokens)


def float_weight(linear, shape):
    """The float weights that the codes stand for: alpha_c * code.  -> float32 of ``shape``"""
    return ternary.dequantize(linear.codes(), linear.alpha).reshape(shape)
