"""Files at the limits, or nearly right: the loader in C draws every line where Python draws it, and says what is wrong."""

import json
import subprocess

import numpy as np
import pytest

from refvit import create_model, pack
from refvit.backend import ffi, lib
from refvit.config import QuantConfig, config_from_dict, dataclass_from_dict
from refvit.errors import RefvitError
from refvit.modelfile import check_labels
from refvit.packed import packed_bits
from refvit.preprocess import PreprocessConfig
from refvit.safetensors import DTYPES, HEADER_MAX, parse_json
from tests.clibrary import CModel, memory_size
from tests.mutations import Pairs, Raw, file_of, parts_of, resealed, text_of
from tests.test_engine import packed
from tests.test_library import CC
from tests.test_library_loader import agree, tiny  # noqa: F401
from tests.toolchain import ROOT, need
from tests.walls import before_a_wall
from tools.fuzz_seeds import VIT

pytestmark = pytest.mark.skipif(lib is None, reason="needs the C kernels")

STATIC, BASE3, SWIN, EIGHT = range(4)  # of tiny


def with_entry(data, **entries):
    """The file with other texts in its metadata."""
    header, buffer = parts_of(data)
    header["__metadata__"].update(entries)
    return file_of(header, buffer)


def objections(data, entry):
    """Whether the loader in C objects to what an entry of the metadata says."""
    return CModel(data).text.startswith(f"metadata: {entry}")


def accepts(reader, text):
    try:
        reader(parse_json("entry", text.encode()))
    except RefvitError:
        return False
    return True


def integers_only(fields):
    """No packed file has 32 bits."""
    quant = dataclass_from_dict(QuantConfig, fields)
    for role in ("patch", "block", "head"):
        packed_bits(quant, "layer", role)


READERS = {"config": config_from_dict, "quant": integers_only, "preprocess": PreprocessConfig.from_dict}
SIZES = (-(2**63), -1, 0, 1, 2, 3, 4, 5, 7, 8, 9, 16, 32, 64, 255, 1023, 1024, 1025, 8191, 8192, 8193, 65535, 65536, 65537, 131072,
         2**20 - 1, 2**20, 2**20 + 1, 2**31, 2**32 + 1, 2**63 - 1, 1.0, True, None, "1", [1])  # fmt: skip
NUMBERS = (*SIZES, 0.0, -0.0, 5e-324, 1e-45, 1e-7, 0.1, 0.2499, 0.25, 0.5, 0.9999999999999999, 63.999, 64.0, 64.00001, 3.4e38, 3.5e38,
           -3.4e38, -3.5e38, 1.7976931348623157e308, Raw("1e309"), Raw("-1e309"), "optimal", "other")  # fmt: skip
TRIPLES = [[0.5] * n for n in range(5)] + [[0.5, v, 0.5] for v in NUMBERS] + [[v, 0.25, v] for v in (1e-40, 1e-46, 1e-38, 3e38)]
LISTS = ([], [1], [1, 1], [2, 2], [1, 0], [0, 1], [1, 3], [3, 1], [1, -1], [4, 8], [4, 16], [8, 8], [1.0, 1], [1023, 1], [1, 1023], [1024, 1],
         [1] * 8, [1] * 9, 1, None)  # fmt: skip
VALUES = {
    "config": {"depths": LISTS, "num_heads": (*LISTS, 1, 2, 3, 4), "mlp_ratio": NUMBERS, "norm_eps": NUMBERS, "name": ("", 1, None, "x"),
               "family": ("vit", "swin", "cnn", 1, "vi"), "distilled": (True, False, 1, "true"), "layer_scale": (True, False, None)},
    "quant": {"threshold": NUMBERS, "ste_clip": NUMBERS, "act_scale": ("token", "image", "static", "images", 1),
              "act_quantizer": ("symmetric", "minmax", "sym"), "attention": ("int8", "float", ""), "granularity": ("channel", "layer", "row"),
              "scale": ("masked_mean", "absolute_mean", "mean")},
    "preprocess": {"mode": ("facebook", "timm", "squash", "crop", 1), "mean": TRIPLES, "std": TRIPLES},
}  # fmt: skip


@pytest.mark.parametrize("which", range(4))
@pytest.mark.parametrize("entry", READERS)
def test_every_field_has_the_limits_of_python(tiny, entry, which):  # noqa: F811
    """Each alone; then missing, twice and misspelt."""
    data = with_entry(tiny[which], labels="null")
    start = json.loads(parts_of(data)[0]["__metadata__"][entry])
    for field in start:
        texts = [text_of(start | {field: value}) for value in VALUES[entry].get(field, SIZES)]
        others = [(k, v) for k, v in start.items() if k != field]
        texts += [text_of(Pairs(more + others)) for more in ([], [(field, start[field])] * 2, [(field + "s", start[field])])]
        verdicts = [accepts(READERS[entry], text) for text in texts]
        for text, accepted in zip(texts, verdicts):
            if entry == "preprocess" and accepted:
                accepted = json.loads(text)["img_size"] == json.loads(parts_of(data)[0]["__metadata__"]["config"])["img_size"]
            assert objections(with_entry(data, **{entry: text}), entry) != accepted, text
        assert not all(verdicts)


def test_sizes_that_bound_one_another(tiny):  # noqa: F811
    for which, changes, accepted in (
        (STATIC, {"img_size": 8192, "patch_size": 1024}, True),
        (STATIC, {"img_size": 2050, "patch_size": 1025}, False),
        (STATIC, {"img_size": 6, "patch_size": 4}, False),
        (STATIC, {"embed_dim": 65536, "num_heads": 65536}, True),
        (STATIC, {"embed_dim": 131072, "num_heads": 1}, False),
        (STATIC, {"embed_dim": 6, "num_heads": 4}, False),
        (STATIC, {"embed_dim": 3, "num_heads": 3, "mlp_ratio": 1 / 3}, True),
        (STATIC, {"embed_dim": 3, "num_heads": 3, "mlp_ratio": 0.33}, False),
        (SWIN, {"depths": [512, 512], "num_heads": [1, 8]}, True),
        (SWIN, {"depths": [512, 513], "num_heads": [1, 8]}, False),
        (SWIN, {"depths": [1, 1], "num_heads": [1, 16]}, False),
        (SWIN, {"depths": [1] * 8, "num_heads": [1] * 7}, False),
        # entries of the windows' tables: 2^25 exactly, then a block more
        (SWIN, {"img_size": 3344, "patch_size": 1, "window_size": 1, "embed_dim": 256, "depths": [29], "num_heads": [256]}, True),
        (SWIN, {"img_size": 3344, "patch_size": 1, "window_size": 1, "embed_dim": 256, "depths": [30], "num_heads": [256]}, False),
        (SWIN, {"img_size": 2363, "patch_size": 1, "window_size": 2, "depths": [733], "num_heads": [2]}, True),
        (SWIN, {"img_size": 2363, "patch_size": 1, "window_size": 2, "depths": [734], "num_heads": [2]}, False),
        (SWIN, {"img_size": 126, "patch_size": 2, "window_size": 63, "depths": [1], "num_heads": [1]}, True),
        (SWIN, {"img_size": 128, "patch_size": 2, "window_size": 64, "depths": [1], "num_heads": [1]}, False),
    ):
        config = json.loads(parts_of(tiny[which])[0]["__metadata__"]["config"]) | changes
        assert accepts(config_from_dict, json.dumps(config)) == accepted, changes
        assert objections(with_entry(tiny[which], config=json.dumps(config)), "config") != accepted, changes


@pytest.mark.parametrize("classes", [3, 1000])
def test_labels_are_judged_alike(tiny, classes):  # noqa: F811
    meta = parts_of(tiny[STATIC])[0]["__metadata__"]
    config = json.dumps(json.loads(meta["config"]) | {"num_classes": classes})
    names = ["a"] * (classes - 1)
    for text in ("null", "nul", "nulll", " null ", "null\0", "null null", '"imagenet1k"', '"imagenet1k" 1', '"imagenet21k"', "true", "1", "{}",
                 '["\\u12', *map(json.dumps, (names, [*names, "b"], [*names, "b", "c"], [*names, 1], [*names, None], [*names, ["b"]], []))):  # fmt: skip
        accepted = accepts(lambda labels: check_labels(labels, classes), text)
        assert objections(with_entry(tiny[STATIC], config=config, labels=text), "labels") != accepted, text


def test_what_a_refusal_says(tiny):  # noqa: F811
    header, buffer = parts_of(tiny[STATIC])
    entry = header["norm.weight"]
    checkpoint = {f"{i}": {"dtype": name, "shape": [3], "data_offsets": [0, 0]} for i, name in enumerate(DTYPES)}
    end = 0
    for member in checkpoint.values():
        size = 3 * np.dtype(DTYPES[member["dtype"]]).itemsize
        member["data_offsets"], end = [end, end + size], end + size
    long = Raw('"n~\u00e9\x7f' + 300 * "x" + '"')
    for data, words in (
        (b"", "expected 8 bytes and a header"),
        (bytes(7), "got 7 bytes"),
        (bytes(8), "expected a header"),
        (file_of({}, b""), "try refvit pack"),
        (file_of(checkpoint, bytes(end)), "try refvit pack"),  # of any dtype
        (file_of(Raw("{}"), b"", padding=HEADER_MAX - 2), "try refvit pack"),
        (file_of(Raw("{}"), b"", padding=HEADER_MAX - 1), f"a header of at most {HEADER_MAX}"),
        (tiny[STATIC] + b"\0", "bytes after the last tensor"),
        (file_of(header | {long: entry | {"dtype": "F31"}}, buffer), "not in agreement: tensor 'n~???xxxxx"),
        (file_of(header | {long: {**entry, "data_offsets": [len(buffer), len(buffer) + 16]}}, buffer + bytes(16)), "of this model: 'n~???xxxxx"),
    ):
        text = CModel(data).text
        assert words in text and len(text) < lib.REFVIT_MESSAGE_BYTES and text.isascii() and text.isprintable(), text


def test_an_entry_that_is_missing_is_named(tiny):  # noqa: F811
    header, buffer = parts_of(tiny[STATIC])
    for key in header["__metadata__"]:
        rest = {k: v for k, v in header["__metadata__"].items() if k != key}
        words = {"format": "try refvit pack", "sha256": "sha256"}.get(key, f"metadata: {key}")
        assert words in CModel(file_of({**header, "__metadata__": rest}, buffer)).text


def test_calls_that_mean_nothing(tmp_path):
    packed("deit_tiny_patch16_224", VIT | {"in_chans": 1}, QuantConfig()).save(tmp_path / "m")
    model, null = CModel((tmp_path / "m").read_bytes()), ffi.NULL
    assert lib.refvit_run_pixels(model.handle, null, 1, null, null, null, 0) == lib.REFVIT_BAD_SIZE
    lib.refvit_close(null)


def test_a_key_twice_is_refused(tiny):  # noqa: F811
    header, buffer = parts_of(tiny[STATIC])
    for key, value in header["__metadata__"].items():
        twice = Pairs([*header["__metadata__"].items(), (key, value)])
        assert "a key twice" in CModel(file_of({**header, "__metadata__": twice}, buffer)).text
    assert "one object" in CModel(file_of(Pairs([*header.items(), ("__metadata__", {})]), buffer)).text


@pytest.mark.parametrize("which", range(4))
def test_a_tensor_of_another_shape_is_named(tiny, which):  # noqa: F811
    """As many bytes, so that the hash is right."""
    header, buffer = parts_of(tiny[which])
    for name, entry in header.items():
        shape = entry.get("shape", [])
        for other in {(*shape[::-1],), (1, *shape), (*shape, 1), (int(np.prod(shape)),)} - {(*shape,)} if shape else ():
            assert name in CModel(file_of({**header, name: {**entry, "shape": [*other]}}, buffer)).text


def changed(data, name, index, value, dtype):
    """One element of a tensor is another."""
    header, buffer = parts_of(data)
    at = header[name]["data_offsets"][0] + index * np.dtype(dtype).itemsize
    value = np.array([value], dtype).tobytes()
    return file_of(header, buffer[:at] + value + buffer[at + len(value) :])


QKV, MAX = "blocks.0.attn.qkv", np.finfo(np.float32).max


@pytest.mark.parametrize("which, name, index, value, dtype, accepted", [
    (STATIC, f"{QKV}.act.scale", 0, np.nan, "f4", False),
    (STATIC, f"{QKV}.act.scale", 0, np.inf, "f4", False),
    (STATIC, f"{QKV}.act.scale", 0, 2.0**-126, "f4", True),
    (STATIC, f"{QKV}.act.scale", 0, np.nextafter(np.float32(2.0**-126), np.float32(0)), "f4", False),
    (STATIC, f"{QKV}.act.scale", 0, -1, "f4", False),
    (STATIC, f"{QKV}.act.zero_point", 0, -128, "i4", True),
    (STATIC, f"{QKV}.act.zero_point", 0, -129, "i4", False),
    (STATIC, f"{QKV}.act.zero_point", 0, 127, "i4", True),
    (STATIC, f"{QKV}.act.zero_point", 0, 128, "i4", False),
    (STATIC, f"{QKV}.bias", 11, MAX, "f4", True),
    (STATIC, f"{QKV}.bias", 11, -MAX, "f4", True),
    (STATIC, f"{QKV}.bias", 11, -np.inf, "f4", False),
    (STATIC, "head.weight.int8", 11, -127, "i1", True),
    (STATIC, "head.weight.int8", 11, -128, "i1", False),
    (STATIC, "head.weight.int8", 0, -128, "i1", False),
    (STATIC, "head.weight.int8", 0, np.nan, "f4", True),  # four codes, after the last float
    (STATIC, f"{QKV}.weight.planes", 11, 16, "u8", False),
    (STATIC, f"{QKV}.weight.planes", 12, 16, "u8", False),
    (BASE3, f"{QKV}.weight.base3", 0, 242, "u1", True),
    (BASE3, f"{QKV}.weight.base3", 0, 243, "u1", False),
    (BASE3, f"{QKV}.weight.base3", 9, 0, "u1", False),
])  # fmt: skip
def test_values_at_their_limits(tiny, tmp_path, which, name, index, value, dtype, accepted):  # noqa: F811
    data = resealed(changed(tiny[which], name, index, value, dtype), tmp_path / "m")
    assert agree(data, tmp_path / "m") == accepted
    assert accepted or name.partition(".weight.")[0].partition(".act.")[0] in CModel(data).text


@pytest.mark.parametrize("zero_point", [-1, 0, 1])
def test_a_zero_point_of_symmetric_codes_is_zero(tiny, tmp_path, zero_point):  # noqa: F811
    header, buffer = parts_of(tiny[STATIC])
    quant = json.loads(header["__metadata__"]["quant"]) | {"act_quantizer": "symmetric"}
    data = with_entry(tiny[STATIC], quant=json.dumps(quant))
    for name in header:
        if name.endswith("zero_point"):
            data = changed(data, name, 0, zero_point if name.startswith("head.") else 0, "i4")
    assert agree(resealed(data, tmp_path / "m"), tmp_path / "m") == (zero_point == 0)


@pytest.mark.parametrize("bits, channels, accepted", [(8, 127, True), (8, 128, False), (2, 128, True), (2, 129, False)])
def test_the_longest_dot_product(tiny, bits, channels, accepted):  # noqa: F811
    """Patches of 2^17 inputs: too many at 8 bits (N7)."""
    meta = parts_of(tiny[STATIC])[0]["__metadata__"]
    config = json.loads(meta["config"]) | {"img_size": 32, "patch_size": 32, "in_chans": channels}
    quant, preprocess = json.loads(meta["quant"]) | {"patch_bits": bits}, json.loads(meta["preprocess"]) | {"img_size": 32, "resize": 32}
    texts = {key: json.dumps(value) for key, value in (("config", config), ("quant", quant), ("preprocess", preprocess))}
    assert ("inputs of a dot product" in CModel(with_entry(tiny[STATIC], **texts)).text) != accepted


@pytest.mark.parametrize("side, accepted", [(8, True), (9, False)])
def test_zero_points_times_many_codes(tmp_path, side, accepted):
    """1024 side^2 codes of 127 times 255: on either side of 2^31 (N6)."""
    sizes = VIT | {"img_size": side, "patch_size": side, "in_chans": 1024, "embed_dim": 1, "num_heads": 1, "mlp_ratio": 1}
    model, path = create_model("deit_tiny_patch16_224", **sizes), tmp_path / "m"
    model.params["patch_embed.proj.weight"][...] = 1
    pack(model.with_quant(QuantConfig())).save(path)
    quant = json.loads(parts_of(path.read_bytes())[0]["__metadata__"]["quant"]) | {"act_quantizer": "minmax"}
    data = resealed(with_entry(path.read_bytes(), quant=json.dumps(quant)), path)
    assert agree(data, path) == accepted
    assert ("acc - zp sum(w)" in CModel(data).text) != accepted


def bytes_at(data, offset):
    """The same bytes, so far behind a multiple of 64."""
    room = np.empty(len(data) + 128, np.uint8)
    start = -room.ctypes.data % 64 + offset
    room[start : start + len(data)] = np.frombuffer(data, np.uint8)
    return room[start : start + len(data)]


@pytest.mark.parametrize("which", range(4))
def test_only_tensors_that_are_not_aligned_are_copied(tiny, which):  # noqa: F811
    elements = {"U64": 8, "F32": 4, "I32": 4}
    for offset in (1, 4):
        copied = [e for e in parts_of(tiny[which])[0].values() if elements.get(e.get("dtype"), 1) > offset]
        expected = sum(-(-int(np.prod(e["shape"])) * elements[e["dtype"]] // 64) * 64 for e in copied)
        assert memory_size(bytes_at(tiny[which], offset)) == memory_size(bytes_at(tiny[which], 0)) + expected


@pytest.mark.parametrize("which", range(4))
def test_nothing_is_read_or_written_beyond_the_end(tiny, which):  # noqa: F811
    """File and memory end where a page begins that nobody may touch."""
    data = tiny[which]
    file = before_a_wall(np.frombuffer(data, np.uint8))
    memory = before_a_wall(np.random.default_rng(0).integers(0, 256, memory_size(file), dtype=np.uint8))
    assert CModel(file, memory).text == ""
    for length in range(1, len(data), 7):
        file[-length:] = np.frombuffer(data[:length], np.uint8)
        assert CModel(file[-length:]).status == lib.REFVIT_BAD_FILE


def test_sizes_that_no_model_of_a_test_has(tmp_path):
    need(CC[0])
    sources = [ROOT / "tests" / "sizes.c", *(ROOT / "csrc" / name for name in ("loader/tensors.c", "loader/windows.c", "forward/units.c"))]
    flags = ["-std=c99", "-O1", "-Wall", "-Wextra", "-Werror", "-ffunction-sections", "-Wl,--gc-sections"]
    subprocess.run([*CC, *flags, "-o", tmp_path / "sizes", *sources], cwd=tmp_path, check=True)
    process = subprocess.run([tmp_path / "sizes"], capture_output=True, text=True)
    assert process.returncode == 0, process.stdout
