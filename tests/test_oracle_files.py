"""Packed files, whole and damaged, and whole models of random sizes: refvit and the oracle of tests/oracle agree."""

import copy
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refvit.conformance.trace import trace
from refvit.errors import RefvitError
from refvit.modelfile import load_packed
from refvit.vectors.cases.container import joined, opened, split, with_header
from refvit.vectors.cases.narrow import SWIN, VIT, file_of, narrow, picture
from tests.oracle import models, packedfile, tensors
from tests.oracle.errors import Refused
from tests.test_oracle import EVERYTHING

DEIT, DISTILLED, DEIT3 = "deit_tiny_patch16_224", "deit_tiny_distilled_patch16_224", "deit3_small_patch16_224"
SWIN_TINY = "swin_tiny_patch4_window7_224"
SMALL = VIT | {"depth": 1, "embed_dim": 6, "mlp_ratio": 1.5}
FILES = [
    file_of(narrow(DEIT, SMALL)).tobytes(),
    file_of(narrow(DEIT3, SMALL, act_scale="static", act_quantizer="minmax"), "base3").tobytes(),
    file_of(narrow(SWIN_TINY, SWIN | {"depths": (1, 1)}, weight_bits=8, act_scale="static")).tobytes(),
]

odd_values = st.one_of(
    st.sampled_from([None, True, False, 0, 1, -1, 2, 8, 9, 32, 1.0, 0.5, 1e-60, 1e39, 1e400, 2**16, 2**63, 10**19]),
    st.sampled_from(["", "2", "vit", "swin", "token", "static", "minmax", "channel", "optimal", "imagenet1k", "é"]),
    st.just("\ud800"),
    st.sampled_from([[], {}, [1, 1], [2, 2], [2, 2, 6, 2], [1] * 9, [0.5] * 3, [1e-44, 1, 1], [3, True], ["a"] * 5]),
    st.integers(-2, 100),
    st.floats(),
)


def places(value, path=()):
    """Paths to everything inside a JSON value."""
    yield path
    if isinstance(value, (dict, list)):
        for key in value if isinstance(value, dict) else range(len(value)):
            yield from places(value[key], (*path, key))


def at(value, path):
    for key in path:
        value = value[key]
    return value


def changed(draw, value):
    """A JSON value with something inside replaced, removed, added or turned into a neighbouring type."""
    value = copy.deepcopy(value)
    *path, last = draw(st.sampled_from([p for p in places(value) if p]))
    inner = at(value, path)
    how = draw(st.sampled_from(["replace", "replace", "replace", "remove", "add", "nudge"]))
    if how == "remove":
        del inner[last]
    elif how == "add" and isinstance(inner, dict):
        inner[draw(st.sampled_from(["extra", "name", "norm_eps"]))] = draw(odd_values)
    elif how == "nudge" and isinstance(inner[last], (int, float)):
        inner[last] += draw(st.sampled_from([-1, 1, 0.0, 0.5]))
    else:
        inner[last] = draw(odd_values)
    return value


def with_metadata(draw, data):
    """One JSON text of the metadata changed, the sha256 right."""
    found, meta = opened(data)
    key = draw(st.sampled_from(["config", "quant", "preprocess", "labels", "spec_version"]))
    value = changed(draw, {"whole": json.loads(meta[key])})
    meta[key] = json.dumps(value.get("whole", "gone"), ensure_ascii=draw(st.booleans()))
    try:
        return joined(found, meta)
    except UnicodeEncodeError:
        return data


def with_tensor(draw, data):
    """One element of one tensor changed, or one tensor renamed, reshaped, of another type; the sha256 right."""
    found, meta = opened(data)
    name = draw(st.sampled_from(sorted(found)))
    value, how = found[name], draw(st.sampled_from(["bits", "bits", "bits", "rename", "reshape", "type", "copy"]))
    if how == "bits":
        raw = bytearray(value.tobytes())
        raw[draw(st.integers(0, len(raw) - 1))] ^= draw(st.integers(1, 255))
        found[name] = np.frombuffer(bytes(raw), value.dtype).reshape(value.shape)
    elif how == "reshape":
        found[name] = value.reshape(draw(st.sampled_from([(-1,), (*value.shape, 1), (1, *value.shape)])))
    elif how == "type":
        found[name] = value.view(draw(st.sampled_from(["u1", "i1"])) if value.itemsize == 1 else f"i{value.itemsize}")
    else:
        found[name + draw(st.sampled_from([".extra", "."]))] = value if how == "copy" else found.pop(name)
    return joined(found, meta)


def with_layout(draw, data):
    """The header changed, whatever that does to the rest."""
    header, buffer = split(data)
    text = json.dumps(changed(draw, header))
    if draw(st.booleans()):
        text = draw(st.sampled_from([" {}", "{}\n", "{}  ", "{}\0", "[{}]", "{}{}", "\ufeff{}"])).replace("{}", text)
    return with_header(text.encode("utf-8", "surrogatepass"), buffer)


def with_bytes(draw, data):
    """Bytes flipped, cut off or added."""
    where = draw(st.integers(0, 200) | st.integers(0, len(data) - 1))
    how = draw(st.sampled_from(["flip", "cut", "add"]))
    if how == "cut":
        return data[:where]
    if how == "add":
        return data[:where] + bytes([draw(st.integers(0, 255))]) + data[where:]
    return data[:where] + bytes([data[where] ^ draw(st.integers(1, 255))]) + data[where + 1 :]


@st.composite
def damaged(draw):
    change = draw(st.sampled_from([with_metadata, with_metadata, with_tensor, with_layout, with_bytes]))
    return change(draw, draw(st.sampled_from(FILES)))


def accepted(load, data, refusal):
    try:
        load(data)
    except refusal:
        return False
    return True


@settings(max_examples=10000 if EVERYTHING else 300, deadline=None)
@given(damaged())
def test_both_readers_refuse_the_same_files(tmp_path_factory, data):
    path = tmp_path_factory.getbasetemp() / "damaged.safetensors"
    path.write_bytes(data)
    assert accepted(load_packed, path, RefvitError) == accepted(packedfile.load, data, Refused)


@pytest.mark.parametrize("key", ["spec_version", "config", "quant", "preprocess"])
def test_true_is_no_number(tmp_path, key):
    found, meta = opened(FILES[0])
    value = {key: json.loads(meta[key])}
    numbers = [path for path in places(value) if path[-1:] == ("ste_clip",) or type(at(value, path)) in (int, float)]
    assert numbers
    for *path, last in numbers:
        wrong = copy.deepcopy(value)
        at(wrong, path)[last] = True
        data = joined(found, meta | {key: json.dumps(wrong[key])})
        file = tmp_path / "-".join(map(str, [*path, last]))
        file.write_bytes(data)
        assert not accepted(load_packed, file, RefvitError) and not accepted(packedfile.load, data, Refused), file.name


# Whole models


@st.composite
def model_files(draw):
    """A narrow model of any family, and the bytes of its file."""
    pick = lambda *choices: draw(st.sampled_from(choices))  # noqa: E731
    quant = {
        "weight_bits": pick(2, 8), "act_bits": draw(st.integers(2, 8)),
        "patch_bits": pick(2, 8), "head_bits": pick(2, 8),
        "act_quantizer": pick("symmetric", "minmax"), "act_scale": pick("token", "image", "static"),
        "attention": pick("int8", "int8", "float"), "granularity": pick("channel", "layer"),
        "threshold": pick(0.7, "optimal"), "scale": pick("masked_mean", "absolute_mean"),
    }  # fmt: skip
    size = {"num_classes": draw(st.integers(1, 6)), "patch_size": pick(2, 3, 4), "mlp_ratio": pick(1.0, 1.3, 4.0)}
    size["img_size"] = size["patch_size"] * draw(st.integers(1, 7))
    if draw(st.booleans()):
        heads = draw(st.integers(1, 3))
        name = pick(DEIT, DISTILLED, DEIT3)
        size |= {"depth": draw(st.integers(1, 2)), "num_heads": heads, "embed_dim": heads * draw(st.integers(1, 7))}
    else:
        name, heads = SWIN_TINY, [draw(st.integers(1, 3)), *pick([], [1], [2], [3, 4])]
        depths = tuple(draw(st.integers(1, 2)) for _ in heads)
        size |= {"depths": depths, "num_heads": tuple(heads), "embed_dim": 6, "window_size": draw(st.integers(1, 5))}
    engine = narrow(name, size, draw(st.integers(0, 99)), **quant)
    pixels = picture(size["img_size"], draw(st.integers(0, 99)))
    return engine, file_of(engine, pick("planes", "base3")).tobytes(), pixels


@settings(max_examples=600 if EVERYTHING else 60, deadline=None)
@given(model_files())
def test_every_traced_tensor_of_a_model(case):
    engine, data, pixels = case
    expected = trace(engine, pixels).tensors
    got = models.trace(packedfile.load(data), pixels.tolist())
    assert set(got) == set(expected)
    for name, value in expected.items():
        shown = got[name].dtype, got[name].shape, tensors.to_bytes(got[name])
        assert shown == (str(value.dtype), list(value.shape), value.tobytes()), name
    assert engine.predict(pixels[None]).tobytes() == tensors.to_bytes(got["logits"])
