"""Files of ranges: they go with the weights they were seen on, and with no others."""

import dataclasses
import re

import numpy as np
import pytest

from refvit import safetensors
from refvit.calibrate import WEIGHT_SWITCHES, calibrate, load_ranges, save_ranges
from refvit.config import QuantConfig, linear_roles
from refvit.errors import BadInputError, UsageError
from refvit.model import create_model
from tests.test_model import NARROW_VIT

STATIC = QuantConfig(act_scale="static")
OTHERS = {"weight_bits": 8, "granularity": "layer", "threshold": "optimal", "scale": "absolute_mean", "patch_bits": 2,
          "head_bits": 2}  # fmt: skip


@pytest.fixture(scope="module")
def model():
    return create_model("deit_tiny_patch16_224", **NARROW_VIT)


@pytest.fixture
def ranges(model, tmp_path):
    """A file of ranges of W2A8, and what is in it."""
    values = {layer: (2.0, -1.0, 2.0) for layer in linear_roles(model.config)}
    save_ranges(tmp_path / "r.st", values, model.with_quant(QuantConfig()), 100.0, 3)
    return tmp_path / "r.st", values


def test_ranges_come_back(model, ranges):
    assert load_ranges(ranges[0], model.with_quant(STATIC)) == ranges[1]
    assert load_ranges(ranges[0], model.with_quant(dataclasses.replace(STATIC, act_bits=4))) == ranges[1]


@pytest.mark.parametrize("switch", OTHERS)
def test_ranges_of_weights_quantized_otherwise_are_refused(model, ranges, switch):
    assert set(OTHERS) == set(WEIGHT_SWITCHES)
    other = model.with_quant(dataclasses.replace(STATIC, **{switch: OTHERS[switch]}))
    wanted = f"r.st: {switch} of the calibrated model; expected {OTHERS[switch]}, got {getattr(STATIC, switch)}; try"
    with pytest.raises(BadInputError, match=re.escape(wanted)):
        load_ranges(ranges[0], other)


def test_ranges_of_other_models_are_refused(model, ranges):
    for name, seed, word in (("deit_tiny_patch16_224", 1, "weights_sha256"), ("vit_tiny_patch16_224", 0, "model")):
        other = create_model(name, seed=seed, **NARROW_VIT).with_quant(STATIC)
        with pytest.raises(BadInputError, match=f"r.st: {word} of the calibrated model"):
            load_ranges(ranges[0], other)


@pytest.mark.parametrize("change, word", [
    (lambda t, m: m.pop("weight_bits"), "weight_bits"),
    (lambda t, m: m.pop("format"), "format"),
    (lambda t, m: t.pop("head"), "head"),
    (lambda t, m: t.update(head=np.ones(2, np.float32)), "head"),
    (lambda t, m: t.update(head=np.array([1, 1, 1], np.float32)), "head"),
    (lambda t, m: t.update(head=np.array([np.nan, 0, 1], np.float32)), "head"),
])  # fmt: skip
def test_damaged_ranges_are_refused(model, ranges, change, word):
    tensors, meta = safetensors.read(ranges[0])
    change(tensors, meta)
    safetensors.write(ranges[0], tensors, meta, force=True)
    with pytest.raises(BadInputError, match=f"r.st.*{word}"):
        load_ranges(ranges[0], model.with_quant(STATIC))


def test_the_widest_picture_counts(model):
    x = np.random.default_rng(0).normal(size=(3, 3, 32, 32)).astype(np.float32)
    one_by_one = [calibrate(model, [x[i : i + 1]]) for i in range(3)]
    together = calibrate(model, [x[:2], x[2:]])
    for layer, (amax, lo, hi) in together.items():
        assert amax == max(r[layer][0] for r in one_by_one) == max(-lo, hi)
        assert lo == min(r[layer][1] for r in one_by_one) and hi == max(r[layer][2] for r in one_by_one)
    for percentile in (50.0, 100.1, float("nan")):
        with pytest.raises(UsageError, match="percentile"):
            calibrate(model, [x], percentile)
