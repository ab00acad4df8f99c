"""The packed file: there and back to the bit, and every kind of damage is one clear error (N2)."""

import json

import numpy as np
import pytest

from refvit import create_model, load_model, pack, pack_planes, safetensors
from refvit.config import QuantConfig
from refvit.errors import BadInputError, RefvitError, UsageError
from refvit.packed import PackedLinear, check_linear
from refvit.rules import K_MAX
from tests.test_engine import NARROW, SETTINGS, packed, pictures
from tests.test_model import NARROW_SWIN, NARROW_VIT

QKV = "blocks.0.attn.qkv"


@pytest.mark.parametrize("coding", ["planes", "base3"])
@pytest.mark.parametrize("settings", SETTINGS, ids=str)
@pytest.mark.parametrize("name, fields", NARROW)
def test_there_and_back(tmp_path, name, fields, settings, coding):
    engine = packed(name, fields, settings)
    engine.labels = [f"class {i}" for i in range(5)]
    path = tmp_path / "m.refvit.safetensors"
    engine.save(path, coding=coding)
    again = load_model(path)
    assert (again.config, again.quant, again.preprocess) == (engine.config, engine.quant, engine.preprocess)
    assert again.labels == engine.labels
    assert again(pictures()).tobytes() == engine(pictures()).tobytes()


def test_the_same_model_is_the_same_bytes(tmp_path):
    for n in "ab":
        packed("swin_tiny_patch4_window7_224", NARROW_SWIN, QuantConfig()).save(tmp_path / n)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_nothing_is_overwritten(tmp_path):
    engine = packed("deit_tiny_patch16_224", NARROW_VIT, QuantConfig())
    path = tmp_path / "m"
    path.write_bytes(b"mine")
    with pytest.raises(UsageError, match="exists"):
        engine.save(path)
    assert path.read_bytes() == b"mine"
    engine.save(path, force=True)
    assert load_model(path).config == engine.config


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    """coding -> (tensors, metadata) of a narrow packed model."""
    result = {}
    for coding in ("planes", "base3"):
        path = tmp_path_factory.mktemp("m") / coding
        packed("deit_tiny_patch16_224", NARROW_VIT, QuantConfig()).save(path, coding=coding)
        result[coding] = safetensors.read(path)
    return result


def change(array, index, value):
    array = array.copy()
    array[index] = value
    return array


def json_change(meta, key, **fields):
    return {**meta, key: json.dumps({**json.loads(meta[key]), **fields})}


DAMAGE = {
    "both planes set": ("planes", lambda t, m: t.update({f"{QKV}.weight.planes": t[f"{QKV}.weight.planes"] | 1}), QKV),
    "dirty padding": (
        "planes",
        lambda t, m: t.update({f"{QKV}.weight.planes": change(t[f"{QKV}.weight.planes"], (0, 0, -1), 1 << 63)}),
        QKV,
    ),
    "base3 above 242": ("base3", lambda t, m: t.update({f"{QKV}.weight.base3": change(t[f"{QKV}.weight.base3"], 0, 243)}), QKV),
    "base3 short": ("base3", lambda t, m: t.update({f"{QKV}.weight.base3": t[f"{QKV}.weight.base3"][:-1]}), QKV),
    "code -128": ("planes", lambda t, m: t.update({"head.weight.int8": change(t["head.weight.int8"], (0, 0), -128)}), "got -128"),
    "version 1.0": ("planes", lambda t, m: m.update(spec_version="1.0"), "spec_version"),
    "key twice": ("planes", lambda t, m: m.update(quant=m["quant"][:-1] + ', "act_bits": 8}'), "act_bits"),
    "NaN scale": ("planes", lambda t, m: t.update({f"{QKV}.weight.alpha": change(t[f"{QKV}.weight.alpha"], 3, np.nan)}), QKV),
    "inf bias": ("planes", lambda t, m: t.update({f"{QKV}.bias": change(t[f"{QKV}.bias"], 3, np.inf)}), QKV),
    "missing scale": ("planes", lambda t, m: t.pop(f"{QKV}.weight.alpha"), QKV),
    "missing planes": ("planes", lambda t, m: t.pop(f"{QKV}.weight.planes"), QKV),
    "extra tensor": ("planes", lambda t, m: t.update(extra=np.zeros(1, np.float32)), "extra"),
    "wrong dtype": ("planes", lambda t, m: t.update(pos_embed=t["pos_embed"].astype(np.float64)), "pos_embed"),
    "wrong shape": ("planes", lambda t, m: t.update(pos_embed=t["pos_embed"][:, 1:]), "pos_embed"),
    "no config": ("planes", lambda t, m: m.pop("config"), "config"),
    "config not JSON": ("planes", lambda t, m: m.update(config="{"), "config"),
    "deep JSON": ("planes", lambda t, m: m.update(config="[" * 100_000), "config"),
    "another depth": ("planes", lambda t, m: m.update(json_change(m, "config", depth=3)), "blocks.2"),
    "endless depth": ("planes", lambda t, m: m.update(json_change(m, "config", depth=10**12)), "depth"),
    "depth as text": ("planes", lambda t, m: m.update(json_change(m, "config", depth="2")), "depth"),
    "unknown field": ("planes", lambda t, m: m.update(json_change(m, "config", speed=1)), "speed"),
    "unknown family": ("planes", lambda t, m: m.update(json_change(m, "config", family="cnn")), "family"),
    "patch 3": ("planes", lambda t, m: m.update(json_change(m, "config", patch_size=3)), "img_size"),
    "odd bits": ("planes", lambda t, m: m.update(json_change(m, "quant", act_bits=9)), "act_bits"),
    "float bits": ("planes", lambda t, m: m.update(json_change(m, "quant", weight_bits=32)), "bits"),
    "spec of tomorrow": ("planes", lambda t, m: m.update(spec_version="2"), "spec_version"),
    "labels of another model": ("planes", lambda t, m: m.update(labels='["cat"]'), "labels"),
    "zero std": ("planes", lambda t, m: m.update(json_change(m, "preprocess", std=[0, 0, 0])), "std"),
    "other size": ("planes", lambda t, m: m.update(json_change(m, "preprocess", img_size=24)), "img_size"),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_damage_is_one_clear_error(tmp_path, parts, kind):
    coding, damage, word = DAMAGE[kind]
    tensors, meta = dict(parts[coding][0]), dict(parts[coding][1])
    damage(tensors, meta)
    path = tmp_path / "damaged"
    safetensors.write(path, tensors, meta)
    with pytest.raises(RefvitError) as caught:
        load_model(path)
    assert word in str(caught.value) and str(path) in str(caught.value)


def test_every_truncation_is_refused(tmp_path, parts):
    path = tmp_path / "m"
    safetensors.write(path, *parts["planes"])
    data = path.read_bytes()
    for length in [*range(0, 64), *range(64, len(data), 997), len(data) - 1]:
        path.write_bytes(data[:length])
        with pytest.raises(BadInputError, match="m"):
            load_model(path)


def test_every_flipped_byte_is_refused(tmp_path):
    """Metadata, names, planes, scales, biases: the hash sees what nothing else would."""
    path = tmp_path / "m"
    packed("deit_tiny_patch16_224", NARROW_VIT, QuantConfig()).save(path)
    data = path.read_bytes()
    for i in [*range(0, 3000, 7), *range(3000, len(data), 211), len(data) - 1]:
        path.write_bytes(data[:i] + bytes([data[i] ^ (1 << i % 8)]) + data[i + 1 :])
        with pytest.raises(RefvitError):
            load_model(path)


def test_no_file_is_written_that_would_be_refused():
    model = create_model("deit_tiny_patch16_224", **NARROW_VIT)
    for name in ("norm.weight", "blocks.0.attn.qkv.bias", "pos_embed", "head.weight"):
        kept = model.params[name].copy()
        model.params[name].flat[1] = np.nan
        with pytest.raises(BadInputError, match=name):
            pack(model.with_quant(QuantConfig()))
        model.params[name][...] = kept


@pytest.mark.parametrize("switch", ["weight_bits", "act_bits", "patch_bits", "head_bits"])
def test_floats_are_not_packed(switch):
    model = create_model("deit_tiny_patch16_224", **NARROW_VIT)
    with pytest.raises(UsageError, match="bits"):
        pack(model.with_quant(QuantConfig(**{switch: 32})))


@pytest.mark.parametrize("bits, act_bits, quantizer, codes, fits", [
    (2, 8, "symmetric", np.zeros(K_MAX, np.int8), True),
    (2, 8, "symmetric", np.zeros(K_MAX + 1, np.int8), False),
    (8, 8, "symmetric", np.full(K_MAX - 1, 127, np.int8), True),
    (8, 8, "symmetric", np.full(K_MAX, 127, np.int8), False),
    (8, 8, "minmax", np.r_[np.full(66311, -127), 7].astype(np.int8), True),  # 255 x 8421504 is 127 below 2^31
    (8, 8, "minmax", np.r_[np.full(66311, 127), -8].astype(np.int8), False),
    (8, 7, "minmax", np.full(K_MAX - 1, 127, np.int8), True),
    (2, 8, "minmax", np.resize([-1, 1], K_MAX).astype(np.int8), True),
])  # fmt: skip
def test_accumulators_that_may_leave_int32_are_refused(bits, act_bits, quantizer, codes, fits):
    """N6, N7."""
    codes = codes[None]
    weight = pack_planes(codes) if bits == 2 else codes
    linear = PackedLinear("layer", bits, weight, np.ones(1, np.float32), None, codes.size, act_bits)
    if fits:
        check_linear(linear, QuantConfig(act_quantizer=quantizer))
    else:
        with pytest.raises(BadInputError, match="layer"):
            check_linear(linear, QuantConfig(act_quantizer=quantizer))
