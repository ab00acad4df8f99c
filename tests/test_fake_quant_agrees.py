"""Fake quantization against the integer engine, operation by operation; how is told in tests/teacher_forced.py."""

import itertools
import os
from pathlib import Path

import pytest

import refvit
from refvit import pack
from refvit.calibrate import calibrate
from refvit.config import QuantConfig
from refvit.preprocess import crop, normalise
from tests.teacher_forced import agree
from tests.test_engine import PADDED_SWIN, pictures, shaken
from tests.test_model import NARROW

DATA = Path(os.environ.get("REFVIT_DATA", Path(__file__).parents[2] / "shared" / "data"))
WEIGHTS, PICTURES = DATA / "deit_tiny_patch16_224.safetensors", DATA / "imagenet-samples" / "val"

QUANTIZERS, SCALES, ATTENTIONS = ("symmetric", "minmax"), ("token", "image", "static"), ("int8", "float")
ACTIVATIONS = list(itertools.product((8, 4, 2), QUANTIZERS, SCALES, ATTENTIONS))
WEIGHT_SETTINGS = [
    {"weight_bits": 2},
    {"weight_bits": 8},
    {"granularity": "layer", "threshold": 0.5, "scale": "absolute_mean", "patch_bits": 2, "head_bits": 2},
]


def settings(activations, weights):
    bits, quantizer, scale, attention = activations
    return QuantConfig(act_bits=bits, act_quantizer=quantizer, act_scale=scale, attention=attention, **weights)


def check(model, x, quant):
    """-> Counter"""
    ranges = calibrate(model, [x]) if quant.act_scale == "static" else None
    model = model.with_quant(quant, ranges)
    counts = agree(model, pack(model), x)
    print(model.config.name, quant, dict(counts))
    return counts


@pytest.mark.parametrize("activations", ACTIVATIONS, ids=str)
@pytest.mark.parametrize("name, fields", [*NARROW, PADDED_SWIN])
def test_every_operation_agrees(name, fields, activations):
    model = shaken(name, fields)
    for weights in WEIGHT_SETTINGS:
        counts = check(model, pictures(size=model.config.img_size), settings(activations, weights))
        assert counts["codes"] and counts["values"]


@pytest.mark.skipif(not (WEIGHTS.exists() and PICTURES.exists()), reason="no real weights and pictures here")
@pytest.mark.parametrize("bits", [2, 8])
def test_real_deit_tiny_agrees(bits):
    model = refvit.load_model(WEIGHTS)
    picture = min(PICTURES.glob("*/*"))
    x = normalise(crop(picture, model.preprocess), model.preprocess)
    check(model, x, QuantConfig(weight_bits=bits))
