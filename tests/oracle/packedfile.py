"""Section 4: reading a packed file, with every rejection."""

import hashlib
from dataclasses import dataclass
from math import isfinite, prod

from . import tensors
from .architecture import bits_of, linear_layers, parameters
from .codes import SCALE_MIN, code_range
from .errors import Refused
from .metadata import check, read_json, read_metadata
from .packing import base3_decode, planes_decode
from .products import Linear, check_correction, check_length

DTYPES = {"U64": ("uint64", 8), "F32": ("float32", 4), "I32": ("int32", 4), "I8": ("int8", 1), "U8": ("uint8", 1)}
HEADER_LIMIT = 10_000_000


@dataclass
class Model:
    config: dict
    quant: dict
    preprocess: dict
    linears: dict  # name -> Linear
    tensors: dict  # name -> Tensor: those that are no codes and no alpha


def split(raw):
    """Header and buffer of a safetensors file."""
    check(len(raw) >= 8, "no room for a length")
    length = int.from_bytes(raw[:8], "little")
    check(length <= HEADER_LIMIT and 8 + length <= len(raw), "the header is longer than the file or its limit")
    text = raw[8 : 8 + length]
    check(text[:1] == b"{" and text.rstrip(b" ")[-1:] == b"}", "the header must be { ... } and spaces")
    try:
        header = read_json(text.decode("utf-8"))
    except UnicodeDecodeError:
        raise Refused("the header is not UTF-8") from None
    check(type(header) is dict, "the header is not an object")
    return header, raw[8 + length :]


def natural(v):
    return type(v) is int and v >= 0


def check_entry(name, entry, size):
    """One tensor's entry of the header."""
    check(type(entry) is dict and set(entry) == {"dtype", "shape", "data_offsets"}, f"{name}: not a tensor")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    check(type(dtype) is str and dtype in DTYPES, f"{name}: dtype {dtype}")
    check(type(shape) is list and all(map(natural, shape)), f"{name}: shape {shape}")
    check(type(offsets) is list and len(offsets) == 2 and all(map(natural, offsets)), f"{name}: offsets {offsets}")
    begin, end = offsets
    check(begin <= end <= size, f"{name}: outside the file")
    check(end - begin == prod(shape) * DTYPES[dtype][1], f"{name}: shape and bytes disagree")


def read_safetensors(raw):
    """Metadata, and name -> (dtype, shape, bytes)."""
    header, buffer = split(raw)
    metadata = header.pop("__metadata__", {})
    check(type(metadata) is dict and all(type(v) is str for v in metadata.values()), "metadata must be strings")
    for name, entry in header.items():
        check_entry(name, entry, len(buffer))
    reached = 0
    for begin, end in sorted(tuple(entry["data_offsets"]) for entry in header.values()):
        check(begin == reached, "a hole or an overlap")
        reached = end
    check(reached == len(buffer), "bytes after the last tensor")
    return metadata, {
        name: (entry["dtype"], entry["shape"], buffer[slice(*entry["data_offsets"])]) for name, entry in header.items()
    }


def content_hash(metadata, found):
    digest = hashlib.sha256()
    try:
        for key in sorted(metadata.keys() - {"sha256"}):
            digest.update(key.encode() + b"\0" + metadata[key].encode() + b"\0")
    except UnicodeEncodeError:
        raise Refused("metadata that UTF-8 cannot write") from None
    for name in sorted(found, key=lambda name: (-DTYPES[found[name][0]][1], name)):
        digest.update(found[name][2])
    return digest.hexdigest()


def take(found, name, dtype, shape):
    """The tensor of this name; it leaves `found`."""
    check(name in found, f"{name} is missing")
    got_dtype, got_shape, raw = found.pop(name)
    check((got_dtype, got_shape) == (dtype, shape), f"{name}: {got_dtype} {got_shape} for {dtype} {shape}")
    tensor = tensors.from_bytes(DTYPES[dtype][0], shape, raw)
    check(dtype != "F32" or all(map(isfinite, tensor.values)), f"{name}: NaN or infinity")
    return tensor


def take_codes(found, name, n, k, ternary):
    """Codes [N][K] in whichever coding is there."""
    if not ternary:
        codes = take(found, f"{name}.weight.int8", "I8", [n, k])
        check(-128 not in codes.values, f"{name}: a code of -128")
        return codes.nested()
    if f"{name}.weight.base3" in found:
        return base3_decode(take(found, f"{name}.weight.base3", "U8", [-(-n * k // 5)]).values, n, k)
    return planes_decode(take(found, f"{name}.weight.planes", "U64", [2, n, -(-k // 64)]).nested(), k)


def take_static(found, name, quant, bits, others):
    """Scale and zero point of the layer's input, or None."""
    if quant["act_scale"] != "static":
        return None
    scale, zero_point = f"{name}.act.scale", f"{name}.act.zero_point"
    others[scale] = take(found, scale, "F32", [1])
    others[zero_point] = take(found, zero_point, "I32", [1])
    (s,), (zp,) = others[scale].values, others[zero_point].values
    low, high = (0, 0) if quant["act_quantizer"] == "symmetric" else code_range(bits, "minmax")
    check(s >= SCALE_MIN and low <= zp <= high, f"{name}: scale {s}, zero point {zp}")
    return s, zp


def take_linear(found, name, shape, quant, others):
    weight_bits, bits = bits_of(name, quant)
    n, k = shape
    codes = take_codes(found, name, n, k, weight_bits == 2)
    check_length(k, weight_bits == 2)
    check_correction(codes, bits, quant["act_quantizer"])
    alpha = take(found, f"{name}.weight.alpha", "F32", [n]).values
    bias = None
    if not name.endswith(".reduction"):
        others[f"{name}.bias"] = take(found, f"{name}.bias", "F32", [n])
        bias = others[f"{name}.bias"].values
    return Linear(codes, alpha, bias, bits, take_static(found, name, quant, bits, others))


def load(raw):
    """The model of a packed file's bytes; Refused where section 4 rejects them."""
    metadata, found = read_safetensors(raw)
    config, quant, preprocess = read_metadata(metadata)
    check(metadata["sha256"] == content_hash(metadata, found), "another sha256")
    others = {}
    layers = linear_layers(config)
    linears = {name: take_linear(found, name, shape, quant, others) for name, shape in layers.items()}
    done = {f"{name}.{part}" for name in layers for part in ("weight", "bias")}
    for name, shape in parameters(config):
        if name not in done:
            others[name] = take(found, name, "F32", shape)
    check(not found, f"unexpected tensors: {sorted(found)}")
    return Model(config, quant, preprocess, linears, others)
