"""Narrow packed models with drawn parameters, and the bytes of their files."""

import io

import numpy as np

from ...config import QuantConfig
from ...conformance.trace import trace
from ...engine import pack
from ...model import create_model
from ...rules import f32
from .draft import Draw

VIT = dict(num_classes=5, img_size=16, patch_size=4, embed_dim=24, depth=2, num_heads=3)
SWIN = dict(num_classes=5, img_size=32, embed_dim=12, depths=(2, 2), num_heads=(2, 4), window_size=4)


def narrow(name, fields, seed=0, **switches):
    """A packed model.  name: timm's; switches: those of QuantConfig. Static scales clip some values."""
    model, quant = shaken(name, fields, seed), QuantConfig(**switches)
    ranges = None
    if quant.act_scale == "static":
        dynamic = pack(model.with_quant(QuantConfig(**{**switches, "act_scale": "token"})))
        ranges = ranges_of(dynamic, quant.act_quantizer)
    return pack(model.with_quant(quant, ranges))


def shaken(name, fields, seed):
    """A model without parameters that are all 0 or 1, its values by exact draws."""
    model, draw = create_model(name, seed=seed, **fields), Draw(f"{name} {seed}")
    for param, value in model.params.items():
        if value.ndim == 1 or "table" in param:
            value += draw.normal(*value.shape, std=0.3)
        elif param.endswith("weight"):
            value *= f32(4)
    return model


def ranges_of(engine, quantizer):
    """layer -> (amax, lo, hi) of its input, from the scales of one picture, a little too narrow."""
    steps, ranges = trace(engine, picture(engine.config.img_size, 0)).tensors, {}
    for name, layer in engine.linears.items():
        s = steps[f"{name}.s_in"].max()
        if quantizer == "symmetric":
            amax = s * f32(100)
            ranges[name] = (amax, -amax, amax)
        else:
            ranges[name] = (s * f32(200), s * f32(-90), s * f32(130))
    return ranges


def picture(side, seed):
    return Draw(f"picture {side} {seed}").integers(0, 255, side, side, 3, dtype=np.uint8)


def file_of(engine, coding="planes"):
    """The bytes of a packed file.  -> uint8 [n]"""
    file = io.BytesIO()
    engine.save(file, coding)
    return np.frombuffer(file.getvalue(), np.uint8)
