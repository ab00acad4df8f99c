"""Comparison: seeded bugs are found where they are and named; equal is equal; no damaged input passes."""

import functools
import json
import math

import numpy as np
import pytest

from refvit import exact, pack
from refvit.calibrate import calibrate
from refvit.conformance import bugs
from refvit.conformance.causes import together, ways
from refvit.conformance.compare import compare
from refvit.conformance.difference import difference, hexadecimal
from refvit.conformance.foreign import Foreign, as_dtype
from refvit.conformance.hypotheses import TABLE
from refvit.conformance.judge import judge
from refvit.conformance.operations import TWINS, WORDS
from refvit.conformance.trace import trace
from refvit.conformance.variants import MISTAKES
from refvit.conformance.verdict import as_json, as_text
from tests.mutants import MUTANTS, fused
from tests.test_engine import PADDED_SWIN, SETTINGS, packed, pictures, shaken
from tests.test_model import NARROW, NARROW_SWIN, NARROW_VIT

FAMILIES = {
    "padded": PADDED_SWIN,
    "vit": ("deit_tiny_patch16_224", NARROW_VIT),
    "swin": ("swin_tiny_patch4_window7_224", NARROW_SWIN),
}
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
    name, fields = FAMILIES[family]
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


def pixels(size=32):
    return np.random.default_rng(1).integers(0, 256, (size, size, 3), dtype=np.uint8)


@pytest.mark.parametrize("name", MUTANTS)
def test_a_seeded_bug_is_found_and_named(monkeypatch, name):
    """The first operation that is wrong by itself is the bug's; its hypothesis explains it and every other wrong one."""
    mutant = MUTANTS[name]
    engine = engine_of(mutant.family, mutant.quant)
    picture = pixels(engine.config.img_size)
    reference = trace(engine, picture)
    with monkeypatch.context() as patched:
        mutant.plant(patched.setattr)
        other = trace(engine, picture)
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


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
@pytest.mark.parametrize("name, fields", [*NARROW, PADDED_SWIN])
def test_the_engine_is_right_at_every_step(name, fields, settings):
    """All traced tensors are judged, in the order of the file, under the kinds that their names tell."""
    engine = packed(name, fields, settings)
    reference = trace(engine, pixels(size=engine.config.img_size))
    found = compare(reference, Foreign(dict(reference.tensors)), engine)
    assert found.equal and len(found.judged("right")) == len(reference.tensors)
    assert [(v.name, v.kind) for v in found.verdicts] == [(row.name, row.kind) for row in found.rows]


@functools.lru_cache(maxsize=None)
def tried():
    """Name of each mistake that was computed -> in how many operations of narrow models it changes something."""
    seen = {}

    def visit(step):
        own = step.value()
        few = (
            together(step, 2)
            if step.name.startswith(("blocks.0.norm1", "blocks.0.attn.qkv", "blocks.0.attn.prob"))
            else ()
        )
        for name, _, make in (*ways(step), *few):
            value = make()
            assert value.dtype == own.dtype and value.shape == own.shape, (name, step.name)
            seen[name] = seen.get(name, 0) + (difference(own, value) is not None)
        return own

    for name, fields in [*NARROW, PADDED_SWIN]:
        for settings in (SETTINGS[i] for i in (0, 3, 4, 6, 7)):
            engine = packed(name, fields, settings)
            judge(engine, pixels(size=engine.config.img_size), visit)
    return seen


def test_every_mistake_is_one():
    """Each can be computed, and all but a few rare ones change something even in narrow models of random weights."""
    names = [h.name for h in TABLE] + list(MISTAKES)
    assert {name for name in tried() if "+" not in name} == set(names)
    assert len({h.name for h in TABLE}) == len(TABLE)
    rare = {
        "reciprocal",
        "clip_128",
        "division_in_double",
        "exp_libm",
        "erf_libm",
        "prob_times_127",
        "zp_before_rounding",
    }
    assert {name for name, count in tried().items() if not count and "+" not in name} <= rare
    assert all(set(h.kinds) <= set(TWINS) for h in TABLE) and set(TWINS) == set(WORDS)


def test_what_an_operation_needs_comes_before_it():
    for family in FAMILIES:
        before = []

        def visit(step):
            assert step.name == "pixels" or (step.needs and set(step.needs) <= set(before)), step.name
            before.append(step.name)
            return step.value()

        engine = engine_of(family, SETTINGS[0])
        judge(engine, pixels(engine.config.img_size), visit)


@pytest.mark.parametrize("family", ["vit", "swin"])
def test_a_missing_tensor_is_named_by_what_needs_it(family):
    """Every tensor but one: if that one was wrong, what is computed from it cannot be blamed alone."""
    engine = engine_of(family, SETTINGS[0])
    reference = trace(engine, pixels())
    block = {"vit": "blocks.1", "swin": "layers.1.blocks.1"}[family]
    for name in [n for n in reference.tensors if n.startswith(block) or n.startswith("head")]:
        tensors = {n: t for n, t in reference.tensors.items() if n != name}
        wrong = {n: t + t.dtype.type(1) if name in needs_of(engine, n) else t for n, t in tensors.items()}
        found = compare(reference, Foreign(wrong), engine)
        assert not found.equal and [v.name for v in found.judged("unjudged")] == [name]
        users = [v for v in found.judged("wrong") if name in needs_of(engine, v.name)]
        assert users and all(v.missing_inputs == [name] for v in users), name


@functools.lru_cache(maxsize=None)
def needs_of(engine, name):
    found = {}

    def visit(step):
        found[step.name] = step.needs
        return step.value()

    judge(engine, pixels(), visit)
    return found[name]


def test_fused_multiply_add_is_rounded_once():
    rng = np.random.default_rng(0)
    a, b = (rng.standard_normal(3000).astype(f32) for _ in range(2))
    c = (-(a * b) * rng.choice([1, 2.0**-30, 2.0**24, 1 + 2.0**-20], 3000)).astype(f32)
    assert bugs.fma(a, b, c).tolist() == [float(fused(*row)) for row in zip(a.tolist(), b.tolist(), c.tolist())]


def test_ulp_and_steps():
    one, up = f32(1), np.nextafter(f32(1), f32(2))
    found = difference(np.array([one, 0, -0.0, 2], f32), np.array([up, -0.0, -0.0, np.nan], f32))
    assert (found.index, found.count, found.worst, found.mean, found.nans) == ((0,), 3, 1, 1 / 3, 1)
    assert hexadecimal(found.got) == "0x1.000002p+0" and hexadecimal(f32(0)) == "0x0p+0"
    assert difference(np.array([np.inf, -1], f32), np.array([np.inf, -1], f32)) is None
    around = difference(np.array([1e-45], f32), np.array([-1e-45], f32))
    assert around.worst == 2
    steps = difference(np.array([[1, 2], [3, -128]], np.int8), np.array([[1, 2], [3, 127]], np.int8))
    assert (steps.index, steps.worst, steps.unit, hexadecimal(steps.expected)) == ((1, 1), 255, "step", "-128")


@pytest.mark.parametrize("value, dtype, same", [
    (np.array([1, -128], np.int64), np.int8, True), (np.array([1, 128], np.int64), np.int8, False),
    (np.array([2**64 - 1], np.uint64), np.int32, False), (np.array([1.0, 2.0]), np.int32, True),
    (np.array([1.5]), np.int32, False), (np.array([np.nan]), np.int8, False), (np.array([np.inf]), np.int32, False),
    (np.array([0.1]), f32, False), (np.array([np.nan, np.inf]), f32, True), (np.array([1e300]), f32, False),
    (np.array([1.5], np.float16), f32, True), (np.array([2**24 + 1], np.int32), f32, False),
    (np.array([], np.int64), np.int8, True),
])  # fmt: skip
def test_lossless_means_every_value(value, dtype, same):
    assert (as_dtype(value, np.dtype(dtype)) is not None) == same
