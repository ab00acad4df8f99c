"""The packed file: one safetensors file with planes, scales, the rest, and everything a reader must know (N2).

Tensors of a linear layer NAME of N outputs and K inputs:
    NAME.weight.planes  U64 [2, N, ceil(K/64)]   bit-planes pos and neg      (coding "planes")
    NAME.weight.base3   U8  [ceil(N K / 5)]      five ternary digits a byte  (coding "base3")
    NAME.weight.int8    I8  [N, K]               codes of an 8-bit layer
    NAME.weight.alpha   F32 [N]                  scale of each output channel
    NAME.bias           F32 [N]
    NAME.act.scale      F32 [1], NAME.act.zero_point I32 [1]                 (static activation scales)
All other tensors have timm's names and are F32. Metadata: format; each a JSON text: spec_version, config, quant,
preprocess, labels; sha256: hexadecimal, of the other entries in the order of their keys, each as key, zero byte, text,
zero byte in UTF-8, followed by the tensors' bytes in the order of ``safetensors.in_file_order``.
"""

import dataclasses
import hashlib
import json
import math

import numpy as np

from . import bitplanes, kernels, safetensors
from .config import QuantConfig, config_from_dict, config_to_dict, dataclass_from_dict, linear_roles
from .engine import Engine
from .errors import BadInputError, RefvitError, UnsupportedError, UsageError, located
from .labels import check_labels, stored_labels
from .packed import PackedLinear, check_attention, check_linear, packed_bits
from .preprocess import PreprocessConfig
from .quant import code_range
from .rules import SCALE_MIN, SPEC_VERSION

FORMAT = "refvit-packed"


def save_packed(engine, path, coding="planes", force=False):
    """Write ``engine`` to ``path``; coding "planes" or "base3" for ternary weights (N2)."""
    if coding not in ("planes", "base3"):
        raise UsageError("pack", "coding", '"planes" or "base3"', repr(coding))
    tensors, meta = packed_tensors(engine, coding), metadata(engine)
    safetensors.write(path, tensors, {**meta, "sha256": content_sha256(tensors, meta)}, force=force)


def packed_tensors(engine, coding):
    """Every tensor of the file, by name."""
    tensors = dict(engine.params)
    for linear in engine.linears.values():
        tensors.update(linear_tensors(linear, coding))
    return tensors


def engine_sha256(engine):
    """The content hash of the file that ``engine`` makes with the coding "planes": the same for both codings."""
    return content_sha256(packed_tensors(engine, "planes"), metadata(engine))


def content_sha256(tensors, meta):
    """What tells a changed bit anywhere in the file."""
    digest = hashlib.sha256()
    for key in sorted(set(meta) - {"sha256"}):
        digest.update(f"{key}\0{meta[key]}\0".encode())
    for array in safetensors.in_file_order(tensors).values():
        digest.update(array.tobytes())
    return digest.hexdigest()


def linear_tensors(linear, coding):
    """The tensors of one layer, by name."""
    kind = "int8" if linear.bits == 8 else coding
    weight = bitplanes.encode_base3(linear.codes()) if kind == "base3" else linear.weight
    tensors = {f"{linear.name}.weight.{kind}": weight, f"{linear.name}.weight.alpha": linear.alpha}
    if linear.bias is not None:
        tensors[f"{linear.name}.bias"] = linear.bias
    if linear.static is not None:
        tensors[f"{linear.name}.act.scale"], tensors[f"{linear.name}.act.zero_point"] = linear.static
    return tensors


def metadata(engine):
    """What a reader must know, as the safetensors metadata."""
    entries = {
        "spec_version": SPEC_VERSION,
        "config": config_to_dict(engine.config),
        "quant": dataclasses.asdict(engine.quant),
        "preprocess": engine.preprocess.to_dict(),
        "labels": stored_labels(engine.labels),
    }
    return {"format": FORMAT, **{k: json.dumps(v, sort_keys=True) for k, v in entries.items()}}


def load_packed(path):
    """Read a packed file.  -> Engine. Raises BadInputError naming the file and what is wrong."""
    tensors, meta = safetensors.read(path, widen=False)
    try:
        engine = engine_from(dict(tensors), meta)
    except UnsupportedError as error:
        raise UnsupportedError(path, str(error)) from None
    except RefvitError as error:
        raise BadInputError(path, str(error)) from None
    got = content_sha256(tensors, meta)
    if meta.get("sha256") != got:
        raise BadInputError(path, "damaged: sha256 of its content", meta.get("sha256"), got)
    return engine


def engine_from(tensors, meta):
    """Engine from the tensors and the metadata of a packed file; every tensor must be used."""
    if meta.get("format") != FORMAT:
        raise BadInputError("metadata", "format", FORMAT, meta.get("format"))
    version = parse(meta, "spec_version")
    if type(version) is not int or version != SPEC_VERSION:
        raise UnsupportedError("metadata", "spec_version", SPEC_VERSION, version)
    config = config_from_dict(parse(meta, "config"))
    quant = dataclass_from_dict(QuantConfig, parse(meta, "quant"))
    check_attention(config, quant)
    linears = {n: take_linear(tensors, n, role, config, quant) for n, role in linear_roles(config).items()}
    params = {}
    for name, shape in config.param_shapes().items():
        if name.rpartition(".")[0] not in linears:
            params[name] = take(tensors, name, np.float32, shape)
    if tensors:
        raise BadInputError(sorted(tensors)[0], "tensor", "only tensors of the model", f"{len(tensors)} more")
    preprocess = PreprocessConfig.from_dict(parse(meta, "preprocess"))
    if preprocess.img_size != config.img_size:
        raise BadInputError("metadata", "preprocess img_size", config.img_size, preprocess.img_size)
    labels = check_labels(parse(meta, "labels"), config.num_classes)
    return Engine(config, quant, linears, params, preprocess, labels)


def take_linear(tensors, name, role, config, quant):
    """One layer out of ``tensors``, its codes checked (N2)."""
    shapes = config.param_shapes()
    n, *inputs = shapes[f"{name}.weight"]
    k = math.prod(inputs)
    bits, act_bits = packed_bits(quant, name, role)
    weight = take_weight(tensors, f"{name}.weight", bits, n, k)
    alpha = take(tensors, f"{name}.weight.alpha", np.float32, (n,))
    bias = take(tensors, f"{name}.bias", np.float32, (n,)) if f"{name}.bias" in shapes else None
    static = None
    if quant.act_scale == "static":
        static = take_static(tensors, name, act_bits, quant.act_quantizer)
    linear = PackedLinear(name, bits, weight, alpha, bias, k, act_bits, static)
    check_linear(linear, quant)
    return linear


def take_weight(tensors, name, bits, n, k):
    """Planes or int8 codes of a layer."""
    if bits == 8:
        codes = take(tensors, f"{name}.int8", np.int8, (n, k))
        if (codes == -128).any():
            raise BadInputError(name, "8-bit codes", "-127 to 127 (N1)", -128)
        return codes
    if f"{name}.base3" in tensors:
        stream = take(tensors, f"{name}.base3", np.uint8, (bitplanes.base3_bytes(n * k),))
        with located(name):
            return kernels.decode_base3(stream, (n, k))
    planes = take(tensors, f"{name}.planes", np.uint64, (2, n, bitplanes.words_of(k)))
    with located(name):
        bitplanes.check_planes(planes, k)
    return planes


def take_static(tensors, name, act_bits, quantizer):
    """Static scale and zero point of a layer's input (N6)."""
    s = take(tensors, f"{name}.act.scale", np.float32, (1,))
    zp = take(tensors, f"{name}.act.zero_point", np.int32, (1,))
    low, high = (0, 0) if quantizer == "symmetric" else code_range(act_bits, quantizer)
    if s[0] < SCALE_MIN or not low <= zp[0] <= high:
        got = float(s[0]), int(zp[0])
        raise BadInputError(name, "static scale, zero point", f"s > 0, {low} <= zp <= {high}", got)
    return s, zp


def take(tensors, name, dtype, shape):
    """Remove one tensor from ``tensors``; its dtype, shape and finiteness are checked."""
    if name not in tensors:
        raise BadInputError(name, "tensor", f"{np.dtype(dtype)} {list(shape)}", "none")
    value = tensors.pop(name)
    if value.dtype != dtype or value.shape != shape:
        raise BadInputError(name, "tensor", f"{np.dtype(dtype)} {list(shape)}", f"{value.dtype} {list(value.shape)}")
    if value.dtype.kind == "f" and not np.isfinite(value).all():
        raise BadInputError(name, "values", "finite", "NaN or inf")
    return value


def parse(meta, key):
    """One JSON entry of the metadata."""
    if key not in meta:
        raise BadInputError("metadata", "entry", key, "none")
    return safetensors.parse_json(f"metadata {key!r}", meta[key].encode())
