"""What a model weighs: bits, bytes, sparsity and hash of each layer, totals, and the paper's accounting.

Bytes are counted at 10^6 a megabyte, as the paper does (TerViT, claim 3: Swin-S in 13.1 MB).
"""

import hashlib
import math
import os

import numpy as np

from .bitplanes import base3_bytes
from .config import linear_roles, param_count
from .files import open_input

MEANINGS = {  # of what is counted, a phrase each
    "ternary_planes": "ternary weights in memory: two bit-planes, rows padded to 64 bits",
    "base3_codes": "the same weights in a base-3 file: 1.6 bit each",
    "int8_codes": "8-bit weights",
    "scales": "float32, one for each output channel of the linear layers",
    "biases": "float32, of the linear layers",
    "float_parameters": "float32: norms, tokens, position tables, gains",
    "float32": "every parameter in float32",
    "paper": "block and patch-merging weights at 2 bit, all else at 8 bit, no scales: 13.1 MB for Swin-S",
    "complete": "the same weights at 1.6 bit, patch embedding and head weights at 8 bit, all else and scales float32",
}


def model_info(model, path=None):
    """A JSON-ready description of a Model or an Engine: config, per-layer rows, totals by group."""
    packed = hasattr(model, "linears")
    info = {
        "model": model.config.name,
        "kind": "packed" if packed else "float32",
        "parameters": param_count(model.config),
        "layers": packed_rows(model) if packed else float_rows(model),
        "accountings": accountings(model.config),
    }
    if packed:
        info["bytes"] = byte_groups(model)
    info["meanings"] = {name: MEANINGS[name] for name in (*info.get("bytes", {}), *info["accountings"])}
    if path is not None:
        info["file"] = {"path": str(path), "bytes": os.path.getsize(path), "sha256": file_sha256(path)}
    return info


def file_sha256(path):
    """Hash of a file's bytes, in hexadecimal."""
    digest = hashlib.sha256()
    with open_input(path) as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def packed_rows(engine):
    linears = engine.linears.values()
    return [layer_row(n.name, n.codes(), (n.bits, n.act_bits), n.weight.nbytes) for n in linears]


def float_rows(model):
    weights = {name: model.params[f"{name}.weight"] for name in linear_roles(model.config)}
    return [layer_row(name, np.asarray(w, "<f4"), (32, 32), w.nbytes) for name, w in weights.items()]


def layer_row(name, values, bits, nbytes):
    """Of a linear layer: shape, bits of weights and activations, bytes, share of zeros, hash of codes or floats."""
    return {
        "name": name,
        "shape": list(values.shape),
        "weight_bits": bits[0],
        "act_bits": bits[1],
        "bytes": int(nbytes),
        "sparsity": float((values == 0).mean()) if values.size else 0.0,
        "sha256": hashlib.sha256(values.tobytes()).hexdigest(),
    }


def byte_groups(engine):
    """Bytes of a packed model in memory, by group; base3_codes is what the ternary codes take in a base-3 file."""
    ternary = [linear for linear in engine.linears.values() if linear.bits == 2]
    linears = engine.linears.values()
    return {
        "ternary_planes": sum(linear.weight.nbytes for linear in ternary),
        "base3_codes": sum(base3_bytes(len(linear.alpha) * linear.k) for linear in ternary),
        "int8_codes": sum(linear.weight.nbytes for linear in linears if linear.bits == 8),
        "scales": sum(linear.alpha.nbytes for linear in linears),
        "biases": sum(linear.bias.nbytes for linear in linears if linear.bias is not None),
        "float_parameters": sum(value.nbytes for value in engine.params.values()),
    }


def accountings(config):
    """Bytes of the model at W2A8 under stated ways of counting.

    paper     linears of the blocks and of patch merging at 2 bit, every other parameter at 8 bit, scales not counted:
              the simplest accounting that gives the paper's 13.1 MB for Swin-S
    complete  the same linears at 1.6 bit (base 3), patch embedding and head weights at 8 bit, all else, scales too,
              float32
    """
    shapes, roles = config.param_shapes(), linear_roles(config)
    block = [math.prod(shapes[f"{n}.weight"]) for n, role in roles.items() if role == "block"]
    edge = sum(math.prod(shapes[f"{n}.weight"]) for n, role in roles.items() if role != "block")
    scales = sum(shapes[f"{n}.weight"][0] for n in roles)
    rest = param_count(config) - sum(block)
    return {
        "float32": 4 * param_count(config),
        "paper": -(-sum(block) // 4) + rest,
        "complete": sum(map(base3_bytes, block)) + edge + 4 * (rest - edge + scales),
    }
