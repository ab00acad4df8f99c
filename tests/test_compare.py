"""Comparison: seeded bugs are found where they are and named; equal is equal; no damaged input passes."""

import functools
import json
import math

import numpy as np
import pytest

from refvit import exact, pack
from refvit.calibrate import calibrate
from refvit.compare import compare
from refvit.difference import difference
from refvit.foreign import Foreign, as_dtype
from refvit.trace import trace
from refvit.verdict import as_json, as_text
from tests.mutants import MUTANTS
from tests.test_engine import SETTINGS, pictures, shaken
from tests.test_model import NARROW_SWIN, NARROW_VIT

NAMES = {"vit": ("deit_tiny_patch16_224", NARROW_VIT), "swin": ("swin_tiny_patch4_window7_224", NARROW_SWIN)}
f32 = np.float32


def near_ties():
    """Numbers below 100 that the scale 100 / 127 brings to a tie, or past it by a reciprocal."""
    s = f32(100) / f32(127)
    ties = ((np.arange(120) + 0.5) * s).astype(f32)
    found = np.concatenate([ties, np.nextafter(ties, f32(0)), np.nextafter(ties, f32(200))])
    other = found[np.rint(found / s) != np.rint(found * (f32(1) / s))]
    exact = found[np.abs(found / s - np.floor(found / s)) == 0.5]
    return np.concatenate([exact[:5], other[:5]])


def odd_arguments():
    """Arguments of GELU for which a correctly rounded erf gives another result."""
    x = np.random.default_rng(0).uniform(-3, -1, 400_000).astype(f32)
    e = np.array([math.erf(t) for t in (x * exact.INV_SQRT2).tolist()], f32)
    return x[(x * f32(0.5)) * (f32(1) + e) != exact.gelu(x)][:4]


@functools.lru_cache(maxsize=None)
def engine_of(family, quant):
    """A narrow model whose first norm gives some values on and near ties, and whose first GELU meets odd arguments."""
    name, fields = NAMES[family]
    model = shaken(name, fields)
    if family == "vit":
        values = near_ties()
        values = np.concatenate([[f32(100)], values, -values[:8]])[:19]
        model.params["blocks.0.norm1.weight"][: len(values)] = 0
        model.params["blocks.0.norm1.bias"][: len(values)] = values
        odd = odd_arguments()
        model.params["blocks.0.mlp.fc1.weight"][: len(odd)] = 0
        model.params["blocks.0.mlp.fc1.bias"][: len(odd)] = odd
    ranges = None
    if quant.act_scale == "static":
        ranges = {k: tuple(v * f32(0.6) for v in r) for k, r in calibrate(model, [pictures()]).items()}
    return pack(model.with_quant(quant, ranges), backend="numpy")


def pixels(seed=1):
    return np.random.default_rng(seed).integers(0, 256, (32, 32, 3), dtype=np.uint8)


@pytest.mark.parametrize("name", MUTANTS)
def test_a_seeded_bug_is_found_and_named(monkeypatch, name):
    """The first operation that is wrong by itself is the bug's; its hypothesis explains it and every other wrong one."""
    mutant = MUTANTS[name]
    engine = engine_of(mutant.family, mutant.quant)
    reference = trace(engine, pixels())
    with monkeypatch.context() as patched:
        mutant.plant(patched.setattr)
        other = trace(engine, pixels())
    found = compare(reference, Foreign(dict(other.tensors)), engine)
    wrong, result = found.judged("wrong"), as_json(found, "ref", "other")
    assert not found.equal and wrong[0].name == mutant.first == result["first"]["name"], wrong[:3]
    assert result["first"]["missing_before"] == 0
    causes = {row["name"]: row["operations"] for row in result["causes"] if row["operations"]}
    if mutant.cause is None:
        assert not causes
    else:
        assert causes[mutant.cause] == max(causes.values())
        assert mutant.elsewhere or causes[mutant.cause] == len(wrong), (causes, [v.name for v in wrong])
    text = "\n".join(as_text(result))
    assert (mutant.cause or "no known mistake") in text and json.loads(json.dumps(result)) == result
