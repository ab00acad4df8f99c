"""The loader in C gives the verdict of the one in Python on every file, and its models the same bits."""

import random

import numpy as np
import pytest

from refvit import load_model, safetensors
from refvit.backend import ffi, lib
from refvit.config import QuantConfig, SwinConfig
from refvit.engine import Engine
from refvit.errors import BadInputError, RefvitError
from refvit.modelfile import content_sha256
from refvit.packed import check_attention
from tests.clibrary import CModel, memory_size
from tests.mutations import MUTATIONS, file_of, parts_of, resealed
from tests.test_engine import NARROW, PADDED_SWIN, SETTINGS, TWO_CHUNKS, packed, pictures
from tools.fuzz_seeds import SWIN, VIT

pytestmark = pytest.mark.skipif(lib is None, reason="needs the C kernels")

TINY = [
    ("deit_tiny_distilled_patch16_224", VIT, QuantConfig(act_scale="static", act_quantizer="minmax"), "planes"),
    ("deit3_small_patch16_224", VIT, QuantConfig(attention="float", patch_bits=2), "base3"),
    ("swin_tiny_patch4_window7_224", SWIN, QuantConfig(act_bits=5, act_scale="image"), "planes"),
    ("deit_tiny_patch16_224", VIT, QuantConfig(weight_bits=8, act_quantizer="minmax"), "planes"),
]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """The bytes of each tiny model's file."""
    files = []
    for name, fields, settings, coding in TINY:
        engine = packed(name, fields, settings)
        engine.labels = ["a", "\u00e9 \"quoted\"", "\U0001f600"]
        path = tmp_path_factory.mktemp("tiny") / "m"
        engine.save(path, coding=coding)
        files.append(path.read_bytes())
    return files


def agree(data, path):
    """Assert that both loaders accept these bytes, and to the same bits, or that both refuse them.  -> whether they accept"""
    path.write_bytes(data)
    try:
        engine, reason = load_model(path), ""
        accepted = isinstance(engine, Engine)
    except RefvitError as error:
        accepted, reason = False, str(error)
    model = CModel(data)
    assert (model.status == lib.REFVIT_OK) == accepted, (model.text, reason, data)
    assert accepted == (model.text == "")
    if accepted:
        size = engine.config.img_size
        x = np.random.default_rng(0).standard_normal((1, engine.config.in_chans, size, size)).astype(np.float32)
        logits = model.run(x)
        if logits is None:
            with pytest.raises(BadInputError, match="NaN"):
                engine(x)
        else:
            assert logits.tobytes() == engine(x).tobytes()
    return accepted


@pytest.mark.parametrize("coding", ["planes", "base3"])
@pytest.mark.parametrize("settings", SETTINGS, ids=str)
@pytest.mark.parametrize("name, fields", [*NARROW, PADDED_SWIN, TWO_CHUNKS])
def test_good_files_have_the_bits_of_the_steps(tmp_path, name, fields, settings, coding):
    engine = packed(name, fields, settings)
    engine.save(tmp_path / "m", coding=coding)
    model = CModel((tmp_path / "m").read_bytes())
    assert model.text == ""
    x = pictures(2, engine.config.img_size)
    for backend in range(31):
        if lib.refvit_init() >> backend & 1:
            assert model.run(x, threads=2, backend=backend).tobytes() == engine.step_by_step(x).tobytes()


def test_what_a_model_says_of_itself(tiny):
    model = CModel(tiny[1])
    info = model.info
    assert ffi.string(info.name) == b"deit3_small_patch16_224" and ffi.string(info.mode) == b"timm"
    assert (info.img_size, info.channels, info.classes, info.resize) == (4, 3, 3, 4)
    assert (info.weight_bits, info.act_bits, info.patch_bits, info.head_bits, info.float_attention) == (2, 8, 2, 8, 1)
    assert list(info.mean) == [np.float32(v) for v in (0.485, 0.456, 0.406)]
    labels = [ffi.string(lib.refvit_label(model.handle, i)).decode() for i in range(3)]
    assert labels == ["a", "\u00e9 \"quoted\"", "\U0001f600"]
    assert lib.refvit_label(model.handle, 3) == ffi.NULL and info.label_set == ffi.NULL


def test_pixels_are_normalised_as_in_python(tiny, tmp_path):
    (tmp_path / "m").write_bytes(tiny[0])
    engine = load_model(tmp_path / "m")
    u8 = np.random.default_rng(2).integers(0, 256, (3, 4, 4, 3), dtype=np.uint8)
    assert CModel(tiny[0]).run(u8).tobytes() == engine.predict(u8).tobytes()


@pytest.mark.parametrize("which", range(len(TINY)))
def test_every_truncation_is_refused(tmp_path, tiny, which):
    data = tiny[which]
    for length in range(len(data)):
        assert CModel(data[:length]).status == lib.REFVIT_BAD_FILE
    for length in [*range(40), *range(40, len(data), 97), len(data) - 1]:
        assert not agree(data[:length], tmp_path / "m")


@pytest.mark.parametrize("which", range(len(TINY)))
def test_a_changed_byte_of_the_header_is_judged_alike(tmp_path, tiny, which):
    data, rng = tiny[which], random.Random(which)
    for i in range(8 + int.from_bytes(data[:8], "little")):
        changed = data[:i] + bytes([data[i] ^ 1 << rng.randrange(8)]) + data[i + 1 :]
        agree(changed if i % 2 else resealed(changed, tmp_path / "m"), tmp_path / "m")


@pytest.mark.parametrize("which", range(len(TINY)))
@pytest.mark.parametrize("kind", MUTATIONS)
def test_mutations_are_judged_alike(tmp_path, tiny, kind, which):
    rng = random.Random(f"{kind} {which}")
    verdicts = [agree(resealed(MUTATIONS[kind](rng, tiny[which]), tmp_path / "m"), tmp_path / "m") for _ in range(400)]
    assert 0 < sum(verdicts) < len(verdicts)


def test_a_false_hash_is_refused(tmp_path, tiny):
    header, buffer = parts_of(tiny[0])
    for change in (str.upper, lambda sha: sha[:-1], lambda sha: "0" + sha[1:] if sha[0] != "0" else "1" + sha[1:]):
        meta = dict(header["__metadata__"], sha256=change(header["__metadata__"]["sha256"]))
        assert not agree(file_of({**header, "__metadata__": meta}, buffer), tmp_path / "m")
    del header["__metadata__"]["sha256"]
    assert not agree(file_of(header, buffer), tmp_path / "m")


def test_bfloat16_is_not_f32(tmp_path, tiny):
    """Half as many bytes that would widen to the right tensor."""
    (tmp_path / "m").write_bytes(tiny[3])
    tensors, meta = safetensors.read(tmp_path / "m")
    meta = {**meta, "sha256": content_sha256(tensors, meta)}
    header, buffer = parts_of(tiny[3])
    end, entry = len(buffer), header["norm.weight"]
    header["__metadata__"] = meta
    begin = entry["data_offsets"][0]
    for other in header.values():
        if "data_offsets" in other and other["data_offsets"][0] > begin:
            other["data_offsets"] = [at - 8 for at in other["data_offsets"]]
    entry.update(dtype="BF16", data_offsets=[begin, begin + 8])
    buffer = buffer[:begin] + b"".join(buffer[i + 2 : i + 4] for i in range(begin, begin + 16, 4)) + buffer[begin + 16 : end]
    assert not agree(file_of(header, buffer), tmp_path / "m")


def test_an_endless_window_is_refused(tmp_path):
    engine = packed("deit_tiny_patch16_224", dict(VIT, img_size=364, patch_size=1, embed_dim=1, num_heads=1), QuantConfig(attention="float"))
    path = tmp_path / "m"
    engine.save(path)
    data = path.read_bytes()
    assert CModel(data).text == ""
    changed = resealed(data.replace(b'attention\\": \\"float\\"', b'attention\\": \\"int8\\" '), path)
    assert changed != data and not agree(changed, path)
    with pytest.raises(BadInputError, match="tokens"):
        check_attention(engine.config, QuantConfig())
    large = dict(img_size=51, patch_size=1, window_size=51, embed_dim=1, depths=(1,), num_heads=(1,))
    check_attention(SwinConfig("large", **large), QuantConfig())


def test_the_callers_memory_is_enough_when_it_is_as_large_as_asked(tiny):
    """Whatever was in it before."""
    for data in tiny:
        size = memory_size(data)
        for offset in (0, 1, 63):
            before = np.random.default_rng(offset).integers(0, 256, size + offset + 64, dtype=np.uint8)
            block = before.copy()
            model = CModel(data, block[offset : offset + size])
            assert model.text == ""
            x = pictures(1, model.info.img_size)
            assert model.run(x).tobytes() == CModel(data).run(x).tobytes()
            assert (block[:offset] == before[:offset]).all() and (block[offset + size :] == before[offset + size :]).all()
        for less in range(0, size, 61):
            block = np.full(size, 0xA5, np.uint8)
            status = CModel(data, block[:less]).status if less else lib.REFVIT_NO_MEMORY
            assert status in (lib.REFVIT_NO_MEMORY, lib.REFVIT_OK) and (block[less:] == 0xA5).all()
            assert status == lib.REFVIT_NO_MEMORY or less > size - 64
        assert memory_size(data[:-1]) is None
