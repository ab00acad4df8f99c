"""Good files of every kind that refvit reads, small: what tools/fuzz.py and tools/fuzz.c mutate."""

import json
import sys
from pathlib import Path

import numpy as np

import refvit
from refvit.calibrate import calibrate
from refvit.config import QuantConfig
from tests.mutations import file_of, parts_of, resealed

VIT = dict(num_classes=3, img_size=4, patch_size=2, embed_dim=4, depth=1, num_heads=2, mlp_ratio=1.5)
SWIN = dict(num_classes=3, img_size=12, patch_size=2, embed_dim=4, depths=(1, 2), num_heads=(1, 2), window_size=2)
PACKED = {  # name: (model, sizes, quantization, coding)
    "planes": ("deit_tiny_patch16_224", VIT, QuantConfig(), "planes"),
    "base3": ("deit3_small_patch16_224", VIT, QuantConfig(attention="float", patch_bits=2, head_bits=2), "base3"),
    "minmax": ("deit_tiny_patch16_224", VIT, QuantConfig(weight_bits=8, act_quantizer="minmax"), "planes"),
    "static": ("deit_tiny_distilled_patch16_224", VIT, QuantConfig(act_scale="static", act_quantizer="minmax"), "planes"),
    "image": ("deit_tiny_patch16_224", VIT | {"in_chans": 1}, QuantConfig(act_scale="image", act_bits=2), "base3"),
    "swin": ("swin_tiny_patch4_window7_224", SWIN, QuantConfig(act_bits=5), "planes"),
    "swin_float": ("swin_tiny_patch4_window7_224", SWIN, QuantConfig(attention="float", act_scale="image"), "base3"),
}


def float_model(name, sizes):
    """A tiny model with no parameter left at zero or one."""
    model, rng = refvit.create_model(name, **sizes), np.random.default_rng(0)
    for value in model.params.values():
        value += rng.standard_normal(value.shape).astype(np.float32) * np.float32(0.3)
    model.labels = ["a", '\u00e9 "quoted"', "\U0001f600"]
    return model


def packed(kind):
    """An engine of PACKED, and the coding of its file."""
    name, sizes, settings, coding = PACKED[kind]
    model, ranges = float_model(name, sizes), None
    if settings.act_scale == "static":
        size = model.config.img_size
        ranges = calibrate(model, [np.random.default_rng(0).standard_normal((2, 3, size, size)).astype(np.float32)])
    return refvit.pack(model.with_quant(settings, ranges)), coding


def write_packed(folder):
    """The file of every kind of PACKED, in a folder.  -> paths"""
    folder.mkdir(parents=True, exist_ok=True)
    for kind in PACKED:
        engine, coding = packed(kind)
        engine.save(folder / kind, coding=coding, force=True)
    return [folder / kind for kind in PACKED]


def write_hostile(folder, swin):
    """Files that once did harm, made of a packed Swin's bytes, in a folder.  -> paths"""
    folder.mkdir(parents=True, exist_ok=True)
    header, buffer = parts_of(swin)
    meta = header["__metadata__"]
    without = {key: value for key, value in meta.items() if key != "spec_version"}  # the text of an entry that is missing
    config, preprocess = (json.loads(meta[key]) for key in ("config", "preprocess"))
    huge = {**meta, "config": json.dumps({**config, "img_size": 8192}),  # masks and places of 4 million windows
            "preprocess": json.dumps({**preprocess, "img_size": 8192, "resize": 8192})}  # fmt: skip
    paths = []
    for name, entries in (("no_version", without), ("many_windows", huge)):
        paths.append(folder / name)
        paths[-1].write_bytes(resealed(file_of({**header, "__metadata__": entries}, buffer), folder / name))
    return paths


if __name__ == "__main__":  # FOLDER: the seeds of tools/fuzz.c
    folder = Path(sys.argv[1])
    packed_files = {path.name: path for path in write_packed(folder / "packed")}
    write_hostile(folder / "hostile", packed_files["swin"].read_bytes())
