"""What a reader of packed files must reject (SPEC.md, section 4): each way, with all else right, the sha256 included.

HEADERS, CONTENTS  dict: good file that is damaged -> rows of label, comment, (rules,) function that damages
METADATA, SHA256   rows for the file "planes"
"""

import json

import numpy as np

from .container import resealed, split, with_header

QKV, HEAD = "blocks.0.attn.qkv", "head"


def header(change):
    """A change of the header's object, in place."""

    def damage(data):
        entries, buffer = split(data)
        change(entries)
        return with_header(entries, buffer)

    return damage


def text(change):
    """A change of the header's bytes."""

    def damage(data):
        length = int.from_bytes(data[:8], "little")
        return with_header(change(data[8 : 8 + length]), data[8 + length :])

    return damage


def length(change):
    """A change of the header's length."""
    return lambda data: change(int.from_bytes(data[:8], "little")).to_bytes(8, "little") + data[8:]


def entry(**fields):
    """Other fields of the entry of norm.weight; None: none."""

    def change(entries):
        entries["norm.weight"] |= fields
        for name in [name for name, value in fields.items() if value is None]:
            del entries["norm.weight"][name]

    return header(change)


def moved(by, insert=b""):
    """The offsets of norm.weight moved, and of the tensors after it if bytes are inserted before it."""

    def damage(data):
        entries, buffer = split(data)
        begin, end = entries["norm.weight"]["data_offsets"]
        for name, other in entries.items():
            if name == "norm.weight" or (insert and name != "__metadata__" and other["data_offsets"][0] >= end):
                other["data_offsets"] = [offset + by for offset in other["data_offsets"]]
        return with_header(entries, buffer[:begin] + insert + buffer[begin:])

    return damage


def tail(data):
    """The shape of a tensor at the end of the buffer made larger than what is left."""
    entries, buffer = split(data)
    last = max((e for n, e in entries.items() if n != "__metadata__"), key=lambda e: e["data_offsets"][1])
    last["shape"][0] += 1
    last["data_offsets"][1] += int(np.prod(last["shape"][1:]))
    return with_header(entries, buffer)


def overlap(data):
    """norm.weight begins within norm.bias; there is no hole."""
    entries, buffer = split(data)
    begin, _ = entries["norm.weight"]["data_offsets"]
    for name, other in entries.items():
        if name != "__metadata__" and other["data_offsets"][0] >= begin:
            other["data_offsets"] = [offset - 4 for offset in other["data_offsets"]]
    return resealed(entries, buffer[: begin - 4] + buffer[begin:])


def border(data):
    """The border between norm.bias and norm.weight moved by one value."""
    entries, buffer = split(data)
    entries["norm.bias"]["data_offsets"][1] += 4
    entries["norm.weight"]["data_offsets"][0] += 4
    return resealed(entries, buffer)


def number(data):
    entries, buffer = split(data)
    entries["__metadata__"]["n"] = 1
    return resealed(entries, buffer)


HEADERS = {
    "planes": (
        ("empty", "no bytes at all", lambda data: b""),
        ("7-bytes", "too short for the length of a header", lambda data: data[:7]),
        ("8-bytes", "only the length of a header", lambda data: data[:8]),
        ("cut-in-header", "the file ends in its header", lambda data: data[:100]),
        ("cut-before-buffer", "the file ends after its header", lambda data: data[: -len(split(data)[1])]),
        ("cut-last-byte", "the last byte is missing", lambda data: data[:-1]),
        ("bytes-after", "a byte after the last tensor", lambda data: data + b"\0"),
        ("length-short", "the header's length is 8 too small", length(lambda n: n - 8)),
        ("length-long", "the header's length is 8 too large", length(lambda n: n + 8)),
        ("length-endless", "the header's length is 2^63", length(lambda n: 1 << 63)),
        ("header-list", "the header is a list", text(lambda t: b"[" + t + b"]")),
        ("header-begins-with-space", "the header's first byte is a space", text(lambda t: b" " + t)),
        ("header-no-end", "the header's object does not end", text(lambda t: t.rstrip(b" }"))),
        ("header-twice", "two objects in the header", text(lambda t: t.rstrip() + b"{}")),
        ("header-not-utf-8", "a byte that is not UTF-8", text(lambda t: t.replace(b"symmetric", b"symm\xfftric"))),
        ("header-key-twice", "a tensor's key twice", text(lambda t: t.replace(b'"norm.weight"', b'"norm.bias"'))),
        ("metadata-twice", "the key __metadata__ twice", text(lambda t: b'{"__metadata__":{},' + t[1:])),
        ("header-newline", "a line feed after the header's object", text(lambda t: t.rstrip() + b"\n")),
        ("header-nan", "NaN, which is not JSON", text(lambda t: t.replace(b"{", b'{"x":NaN,', 1))),
        ("header-comma", "a comma after the last entry", text(lambda t: t.rstrip()[:-1] + b",}")),
        ("entry-list", "an entry that is a list", header(lambda h: h.update({"norm.weight": ["F32", [8]]}))),
        ("entry-without-offsets", "an entry without data_offsets", entry(data_offsets=None)),
        ("entry-with-more", "an entry with an unknown key", entry(order="C")),
        ("dtype-unknown", "an unknown dtype", entry(dtype="F33")),
        ("dtype-wide", "a dtype whose bytes do not agree with the offsets", entry(dtype="F64")),
        ("shape-negative", "a negative size", entry(shape=[-8])),
        ("shape-fraction", "a size with a fraction", entry(shape=[8.5])),
        ("shape-large", "a shape that does not agree with the offsets", entry(shape=[9])),
        ("shape-text", "a shape that is a text", entry(shape="8")),
        ("offsets-three", "three offsets", entry(data_offsets=[0, 4, 32])),
        ("offsets-text", "offsets as texts", entry(data_offsets=["0", "32"])),
        ("overlap", "two tensors that overlap, and no hole", overlap),
        ("overlap-and-hole", "two tensors that overlap, and a hole after them", moved(-4)),
        ("border", "two tensors whose bytes are not those of their shapes, though there is no hole", border),
        ("hole", "a hole between two tensors", moved(4, b"\0\0\0\0")),
        ("beyond-the-end", "a tensor beyond the end of the file", tail),
        ("metadata-number", "an entry of metadata that is a number", number),
        ("metadata-list", "metadata that is a list", header(lambda h: h.update(__metadata__=[]))),
        ("no-metadata", "no metadata", header(lambda h: h.pop("__metadata__"))),
    )
}  # fmt: skip


def put(name, index, value):
    """One value of a tensor changed."""
    return lambda tensors, meta: tensors[name].__setitem__(index, value)


def add(name, value):
    return lambda tensors, meta: tensors.update({name: value})


def zeros(*shape):
    return np.zeros(shape, np.float32)


def drop(name):
    return lambda tensors, meta: tensors.pop(name)


def cast(name, change):
    """Another array in place of a tensor."""
    return lambda tensors, meta: tensors.update({name: change(tensors[name])})


def set_bits(name, planes, row, word, bit):
    def change(tensors, meta):
        for plane in planes:
            tensors[name][plane, row, word] |= np.uint64(1) << np.uint64(bit)

    return change


PLANES, BASE3, STATIC = f"{QKV}.weight.planes", f"{QKV}.weight.base3", f"{HEAD}.act"


def wide_mlp(tensors, meta):
    """mlp_ratio 65, and tensors that have it."""
    changed("config", mlp_ratio=65.0)(meta)
    for name, n, words in (("fc1", 8 * 65, 1), ("fc2", 8, -(-8 * 65 // 64))):
        layer = f"blocks.0.mlp.{name}"
        tensors[f"{layer}.weight.planes"] = np.zeros((2, n, words), np.uint64)
        tensors[f"{layer}.weight.alpha"] = tensors[f"{layer}.bias"] = zeros(n)


CONTENTS = {
    "planes": (
        *((f"missing-{name}", f"{name} is missing", "S4", drop(name)) for name in
          ("cls_token", "pos_embed", "norm.bias", f"{QKV}.bias", f"{QKV}.weight.alpha", PLANES, f"{HEAD}.weight.int8")),
        ("unexpected", "a tensor that no model has", "S4", add("extra", zeros(1))),
        ("unexpected-dist-token", "a distillation token that does not belong", "S4", add("dist_token", zeros(1, 1, 8))),
        ("unexpected-gamma", "LayerScale in a model without it", "S4", add("blocks.0.ls1.gamma", zeros(8))),
        ("unexpected-block", "a block more than depth", "S4", add("blocks.1.norm1.weight", zeros(8))),
        ("unexpected-scale", "a static scale with act_scale token", "S4", add(f"{STATIC}.scale", zeros(1))),
        ("both-codings", "both codings of one layer", "S4", add(BASE3, np.full(39, 121, np.uint8))),
        ("head-in-planes", "planes where codes of 8 bits belong", "S4", lambda t, m: (
            t.pop(f"{HEAD}.weight.int8"), t.update({f"{HEAD}.weight.planes": np.zeros((2, 3, 1), np.uint64)}))),
        ("dtype-f64", "a tensor of F64", "S4", cast("pos_embed", lambda v: v.astype(np.float64))),
        ("dtype-f16", "a tensor of F16", "S4", cast("norm.weight", lambda v: v.astype(np.float16))),
        ("dtype-u8", "8-bit codes as U8", "S4", cast(f"{HEAD}.weight.int8", lambda v: v.view(np.uint8))),
        ("dtype-i64", "planes as I64", "S4", cast(PLANES, lambda v: v.view(np.int64))),
        ("shape-transposed", "8-bit codes as [K, N]", "S4", cast(f"{HEAD}.weight.int8", lambda v: v.T)),
        ("shape-flat", "a token without its axes of 1", "S4", cast("cls_token", lambda v: v.reshape(-1))),
        ("shape-short", "a position too few", "S4", cast("pos_embed", lambda v: v[:, 1:])),
        ("shape-alpha", "one alpha for the layer", "S4", cast(f"{QKV}.weight.alpha", lambda v: v[:1])),
        ("nan-alpha", "a NaN in alpha", "S4", put(f"{QKV}.weight.alpha", 3, np.nan)),
        ("infinite-bias", "an infinity in a bias", "S4", put(f"{QKV}.bias", 0, np.inf)),
        ("infinite-norm", "-infinity in a norm", "S4", put("norm.weight", 7, -np.inf)),
        ("nan-position", "a NaN in pos_embed", "S4", put("pos_embed", (0, 4, 7), np.nan)),
        ("both-planes", "a code with both bits set", "N2 S4", set_bits(PLANES, (0, 1), 5, 0, 3)),
        ("dirty-padding", "a set bit at k >= K in the plane of +1", "N2 S4", set_bits(PLANES, (0,), 23, 0, 8)),
        ("dirty-padding-last", "the last bit of a word set, of -1", "N2 S4", set_bits(PLANES, (1,), 0, 0, 63)),
        ("wide-mlp", "mlp_ratio of 65, in the tensors too", "S4", wide_mlp),
        ("code-minus-128", "a code of -128", "N1 S4", put(f"{HEAD}.weight.int8", (2, 7), -128)),
    ),
    "base3": (
        ("base3-243", "a byte of 243", "N2 S4", put(BASE3, 0, 243)),
        ("base3-255", "a byte of 255", "N2 S4", put(BASE3, 38, 255)),
        ("base3-tail-0", "digits 0 after the last code", "N2 S4", put(BASE3, 38, 1 + 3)),
        ("base3-tail-2", "a digit 2 after the last code", "N2 S4", put(BASE3, 38, 1 + 3 + 9 + 27 + 162)),
        ("base3-short", "a byte too few", "N2 S4", cast(BASE3, lambda v: v[:-1])),
        ("base3-long", "a byte too many", "N2 S4", cast(BASE3, lambda v: np.append(v, np.uint8(121)))),
    ),
    "static": (
        ("static-missing", "a static scale is missing", "N6 S4", drop(f"{STATIC}.scale")),
        ("static-no-zero-point", "a static zero point is missing", "N6 S4", drop(f"{STATIC}.zero_point")),
        ("static-small", "a static scale below 2^-126", "N5 N6 S4", put(f"{STATIC}.scale", 0, 2.0**-127)),
        ("static-zero", "a static scale of 0", "N6 S4", put(f"{STATIC}.scale", 0, 0)),
        ("static-negative", "a negative static scale", "N6 S4", put(f"{STATIC}.scale", 0, -0.5)),
        ("static-nan", "a NaN as static scale", "N6 S4", put(f"{STATIC}.scale", 0, np.nan)),
        ("static-two", "two static scales", "N6 S4", cast(f"{STATIC}.scale", lambda v: np.repeat(v, 2))),
        ("static-i64", "a zero point of I64", "N6 S4", cast(f"{STATIC}.zero_point", lambda v: v.astype(np.int64))),
        ("static-symmetric-zp", "a symmetric zero point of 1", "N6 S4", put(f"{STATIC}.zero_point", 0, 1)),
    ),
    "static-minmax": (
        ("static-zp-128", "a zero point of 128", "N6 S4", put(f"{STATIC}.zero_point", 0, 128)),
        ("static-zp-minus-129", "a zero point of -129", "N6 S4", put(f"{STATIC}.zero_point", 0, -129)),
    ),
    "thousand": (
        ("labels-other-set", "an unknown set of labels for 1000 classes", "S4",
         lambda t, m: m.update(labels='"imagenet22k"')),
    ),
    "swin": (
        ("config-ratio-true", "true as mlp_ratio, which is 1", "S4", lambda t, m: changed("config", mlp_ratio=True)(m)),
        ("swin-reduction-bias", "a bias of a merging", "S4", add("layers.1.downsample.reduction.bias", zeros(8))),
        ("swin-table", "a position table of another window", "S4",
         cast("layers.0.blocks.0.attn.relative_position_bias_table", lambda v: np.resize(v, (25, 1)))),
    ),
}  # fmt: skip


def changed(key, without=None, **fields):
    """Other fields of a JSON object in the metadata, or one field less."""

    def change(meta):
        value = {**json.loads(meta[key]), **fields}
        value.pop(without, None)
        meta[key] = json.dumps(value, sort_keys=True)

    return change


def becomes(key, value):
    return lambda meta: meta.update({key: value})


METADATA = (
    *((f"no-{key}", f"no metadata {key}", lambda meta, key=key: meta.pop(key)) for key in
      ("spec_version", "config", "quant", "preprocess", "labels")),
    ("format", "a format of another name", becomes("format", "refvit-trace")),
    ("no-format", "no metadata format", lambda meta: meta.pop("format")),
    ("spec-version-2", "another spec_version", becomes("spec_version", "2")),
    ("spec-version-text", "spec_version as a text", becomes("spec_version", '"1"')),
    ("spec-version-fraction", "spec_version as 1.0", becomes("spec_version", "1.0")),
    ("config-not-json", "a configuration that is not JSON", becomes("config", "{")),
    ("config-list", "a configuration that is a list", becomes("config", "[]")),
    ("config-deep", "a configuration nested without end", becomes("config", "[" * 100_000)),
    ("config-family", "an unknown family", changed("config", family="cnn")),
    ("config-missing", "a configuration without depth", changed("config", without="depth")),
    ("config-more", "an unknown field of the configuration", changed("config", speed=1)),
    ("config-text", "depth as a text", changed("config", depth="1")),
    ("config-depth-2", "a depth that the tensors do not have", changed("config", depth=2)),
    ("config-depth-0", "depth 0", changed("config", depth=0)),
    ("config-endless", "a depth of 10^12", changed("config", depth=10**12)),
    ("config-long-integer", "an integer of 5000 digits", lambda meta: meta.update(
        config=meta["config"].replace('"depth": 1', '"depth": 1' + "0" * 5000))),
    ("config-patch", "img_size is no multiple of patch_size", changed("config", patch_size=3)),
    ("config-remainder", "img_size is no multiple of patch_size, which the tensors do not show", lambda meta: (
        changed("config", img_size=9)(meta), changed("preprocess", img_size=9, resize=10)(meta))),
    ("config-heads", "heads that do not divide the width", changed("config", num_heads=3)),
    ("config-eps-0", "norm_eps of 0", changed("config", norm_eps=0.0)),
    ("config-eps-1", "norm_eps of 1", changed("config", norm_eps=1.0)),
    ("config-ratio", "mlp_ratio of 65", changed("config", mlp_ratio=65.0)),
    ("config-distilled", "distilled as 0 instead of false", changed("config", distilled=0)),
    ("quant-key-twice", "a key twice", lambda meta: meta.update(quant=meta["quant"][:-1] + ', "act_bits": 8}')),
    ("quant-nan", "NaN, which is not JSON", lambda meta: meta.update(quant=meta["quant"].replace("null", "NaN"))),
    ("quant-infinity", "Infinity, which is not JSON",
     lambda meta: meta.update(quant=meta["quant"].replace("null", "Infinity"))),
    ("quant-long-integer", "an integer of 21 digits, elsewhere a number", changed("quant", threshold=10**20)),
    ("quant-missing", "quant without attention", changed("quant", without="attention")),
    ("quant-more", "an unknown field of quant", changed("quant", rounding="even")),
    ("quant-weight-bits", "weights of 3 bits", changed("quant", weight_bits=3)),
    ("quant-float", "float weights", changed("quant", weight_bits=32)),
    ("quant-act-bits-9", "activations of 9 bits", changed("quant", act_bits=9)),
    ("quant-act-bits-1", "activations of 1 bit", changed("quant", act_bits=1)),
    ("quant-act-bits-true", "true as a number of bits", changed("quant", act_bits=True)),
    ("quant-act-bits-fraction", "8.0 as a number of bits", changed("quant", act_bits=8.0)),
    ("quant-act-float", "float activations", changed("quant", act_bits=32)),
    ("quant-quantizer", "an unknown quantizer", changed("quant", act_quantizer="affine")),
    ("quant-scale", "an unknown act_scale", changed("quant", act_scale="batch")),
    ("quant-attention", "an unknown attention", changed("quant", attention="int4")),
    ("preprocess-mode", "an unknown mode", changed("preprocess", mode="stretch")),
    ("preprocess-size", "img_size is not that of config", changed("preprocess", img_size=4)),
    ("preprocess-std", "std of 0", changed("preprocess", std=[0.5, 0, 0.5])),
    ("preprocess-std-negative", "a negative std", changed("preprocess", std=[0.5, -0.5, 0.5])),
    ("preprocess-mean", "two means", changed("preprocess", mean=[0.5, 0.5])),
    ("preprocess-missing", "preprocess without resize", changed("preprocess", without="resize")),
    ("labels-count", "labels of another number of classes", becomes("labels", '["cat"]')),
    ("labels-numbers", "labels that are numbers", becomes("labels", "[1, 2, 3]")),
    ("labels-set", "an unknown set of labels", becomes("labels", '"imagenet22k"')),
)  # fmt: skip


def sha256(change):
    """Another text as sha256."""
    return header(lambda h: h["__metadata__"].update(sha256=change(h["__metadata__"]["sha256"])))


def other_sign(data):
    """The first value of norm.bias with the other sign."""
    entries, buffer = split(data)
    last = entries["norm.bias"]["data_offsets"][0] + 3
    return with_header(entries, buffer[:last] + bytes([buffer[last] ^ 0x80]) + buffer[last + 1 :])


SHA256 = (
    ("missing", "no sha256", header(lambda h: h["__metadata__"].pop("sha256"))),
    ("other", "another sha256", sha256(lambda digest: digest[1:] + digest[0])),
    ("upper-case", "a sha256 in upper case", sha256(str.upper)),
    ("short", "a sha256 of 63 digits", sha256(lambda digest: digest[:-1])),
    ("flipped-bit", "the last bit of the buffer is another", lambda data: data[:-1] + bytes([data[-1] ^ 1])),
    ("sign", "a value of norm.bias has another sign", other_sign),
    ("metadata", "the file's name of its model is another", text(lambda t: t.replace(b"deit_tiny", b"deit_tinY"))),
    ("unknown-metadata", "an entry more, not hashed", header(lambda h: h["__metadata__"].update(author="me"))),
)  # fmt: skip
