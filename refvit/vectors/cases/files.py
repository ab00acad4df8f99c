"""Packed files: those that a reader must accept, and those that it must reject (section 4)."""

import json

import numpy as np

from ...rules import SCALE_MIN
from .container import joined, opened, reordered, split, with_header
from .damage import CONTENTS, HEADERS, METADATA, SHA256
from .draft import draft
from .models import DEIT, DEIT3, DISTILLED, MINMAX, STATIC, SWIN_TINY
from .narrow import file_of, narrow

SMALL = dict(num_classes=3, img_size=8, patch_size=4, embed_dim=8, depth=1, num_heads=2, mlp_ratio=2.0)
SMALL_SWIN = dict(
    num_classes=3, img_size=16, embed_dim=4, depths=(1, 1), num_heads=(1, 2), window_size=2, mlp_ratio=1.0
)
ONE_CHANNEL = dict(num_classes=1, img_size=16, patch_size=16, embed_dim=1, depth=1, num_heads=1, mlp_ratio=1.0)
SOURCES = {
    "planes": (DEIT, SMALL, {}),
    "base3": (DEIT, SMALL, {}),
    "static": (DEIT, SMALL, STATIC),
    "static-minmax": (DEIT, SMALL, {**STATIC, **MINMAX}),
    "swin": (SWIN_TINY, SMALL_SWIN, {}),
    "thousand": (DEIT, {**SMALL, "num_classes": 1000}, {}),
}
GOOD = {
    **SOURCES,
    "minmax": (DEIT, SMALL, MINMAX),
    "image": (DEIT, SMALL, {"act_scale": "image", "act_bits": 3}),
    "w8": (DEIT, SMALL, {"weight_bits": 8}),
    "all-ternary": (DEIT, SMALL, {"patch_bits": 2, "head_bits": 2}),
    "float-attention": (DEIT, SMALL, {"attention": "float"}),
    "distilled": (DISTILLED, SMALL, {}),
    "deit3": (DEIT3, SMALL, {}),
    "longest": (DEIT, {**ONE_CHANNEL, "in_chans": 512}, {"patch_bits": 2}),
}


def cases(level):
    yield from accepted()
    yield from rejected()


def load(label, comment, data, rules="S4", expectation="exact"):
    return draft("load", label, comment, rules, {"file": np.frombuffer(data, np.uint8)}, None, expectation)


def source(name):
    """The bytes of a good file."""
    return file_of(narrow(*SOURCES[name][:2], **SOURCES[name][2]), "base3" if name == "base3" else "planes").tobytes()


def parts(name):
    """Its tensors and metadata, to be changed."""
    return opened(source(name))


def accepted():
    for label, (name, fields, switches) in GOOD.items():
        coding = "base3" if label == "base3" else "planes"
        data = file_of(narrow(name, fields, **switches), coding).tobytes()
        yield load(label, f"a good file: {label}", data, "N1 N2 N6 N7 S4")
    header, buffer = split(source("planes"))
    meta = {"__metadata__": header.pop("__metadata__")}
    padded = json.dumps({**meta, **header}).encode() + b" " * 37
    yield load("spaces", "spaces after the header's object", with_header(padded, buffer))
    yield load(
        "indented",
        "white space in the header; it does not begin with metadata",
        with_header({**header, **meta}, buffer, indent=1),
    )
    yield load(
        "unaligned",
        "a header whose length is no multiple of 8",
        with_header({**meta, **header}, buffer, separators=(",", ":")),
    )
    yield load("another-order", "tensors in another order in the buffer", reordered(header, meta, buffer))
    other = {"__metadata__": dict(reversed(meta["__metadata__"].items()))}
    yield load("metadata-in-another-order", "sha256 takes its keys sorted", with_header({**other, **header}, buffer))
    for label, comment, change in CHANGES:
        tensors, meta = parts("static-minmax")
        change(tensors, meta)
        yield load(label, comment, joined(tensors, meta), "N1 N6 S4")


CHANGES = (
    (
        "unknown-metadata",
        "an entry of metadata that nobody knows",
        lambda t, m: m.update(author="\u00e9\u00df", empty=""),
    ),
    ("labels", "names of the classes, not ASCII", lambda t, m: m.update(labels='["\u00e9", "b", "\\u0063"]')),
    (
        "alphas",
        "alpha may be negative, zero or subnormal",
        lambda t, m: t["head.weight.alpha"].put([0, 1, 2], [-1.5, 0, 2.0**-140]),
    ),
    (
        "zero-points",
        "the lowest zero point and the smallest scale",
        lambda t, m: (t["head.act.zero_point"].fill(-128), t["head.act.scale"].fill(SCALE_MIN)),
    ),
)


def rejected():
    for name, (label, comment, change) in ((n, row) for n, rows in HEADERS.items() for row in rows):
        yield load(f"reject-{label}", comment, change(source(name)), "S4", "reject")
    for name, (label, comment, rules, change) in ((n, row) for n, rows in CONTENTS.items() for row in rows):
        tensors, meta = parts(name)
        change(tensors, meta)
        yield load(f"reject-{label}", comment, joined(tensors, meta), rules, "reject")
    for label, comment, change in METADATA:
        tensors, meta = parts("planes")
        change(meta)
        yield load(f"reject-{label}", comment, joined(tensors, meta), "S4", "reject")
    for label, comment, change in SHA256:
        yield load(f"reject-sha256-{label}", comment, change(source("planes")), "S4", "reject")
    yield from too_long()


def too_long():
    for label, comment, channels, switches in (
        ("k-ternary", "K = 513 * 256 is beyond 2^17", 513, {"patch_bits": 2}),
        ("k-int8", "K = 2^17 with 8-bit weights", 512, {}),
        ("minmax-reach", "sum |code| 255 reaches 2^31", 260, MINMAX),
    ):
        tensors, meta = opened(file_of(narrow(DEIT, {**ONE_CHANNEL, "in_chans": 4}, **switches)).tobytes())
        k = channels * 256
        if "patch_bits" in switches:
            tensors["patch_embed.proj.weight.planes"] = np.zeros((2, 1, k // 64), np.uint64)
        else:
            tensors["patch_embed.proj.weight.int8"] = np.full((1, k), 127, np.int8)
        meta["config"] = json.dumps({**json.loads(meta["config"]), "in_chans": channels}, sort_keys=True)
        yield load(f"reject-{label}", comment, joined(tensors, meta), "N6 N7 S4", "reject")
