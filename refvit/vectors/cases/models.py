"""Whole models: every traced tensor of a picture."""

import numpy as np

from ...box import resolve
from ...files import read_bytes
from .draft import draft
from .narrow import SWIN, VIT, file_of, narrow, picture

RULES = "N1 N2 N4 N5 N6 N7 N8 N9 N10 N11 N12 N14 S3 S4"
DEIT, DISTILLED, DEIT3 = "deit_tiny_patch16_224", "deit_tiny_distilled_patch16_224", "deit3_small_patch16_224"
SWIN_TINY = "swin_tiny_patch4_window7_224"
PADDED, ODD = SWIN | {"img_size": 36}, SWIN | {"img_size": 28, "window_size": 3}
WINDOW = SWIN | {"img_size": 16, "window_size": 7}
SHALLOW = VIT | {"depth": 1}
W8 = {"weight_bits": 8}
STATIC, MINMAX = {"act_scale": "static"}, {"act_quantizer": "minmax"}
MODELS = (
    ("deit", "a class token; W2A8", DEIT, VIT, {}),
    ("deit-w8", "8-bit weights", DEIT, SHALLOW, W8),
    ("deit-w8-layer", "8-bit weights, one scale for each matrix", DEIT, SHALLOW, {**W8, "granularity": "layer"}),
    ("deit-ternary", "patch embedding and head ternary too, thresholds optimal", DEIT, SHALLOW,
     {"patch_bits": 2, "head_bits": 2, "threshold": "optimal"}),
    ("deit-a2", "2-bit activations", DEIT, SHALLOW, {"act_bits": 2}),
    ("deit-minmax", "min-max quantizer", DEIT, VIT, MINMAX),
    ("deit-minmax-a4", "min-max quantizer of 4 bits, one scale for each picture", DEIT, SHALLOW,
     {**MINMAX, "act_bits": 4, "act_scale": "image"}),
    ("deit-image", "one scale for each picture", DEIT, SHALLOW, {"act_scale": "image"}),
    ("deit-static", "static scales, some values clipped", DEIT, SHALLOW, STATIC),
    ("deit-static-minmax", "static scales and zero points", DEIT, SHALLOW, {**STATIC, **MINMAX}),
    ("deit-float-attention", "attention in floats", DEIT, SHALLOW, {"attention": "float"}),
    ("deit-wide", "66 tokens, K = 70: neither is a multiple of anything", DEIT,
     VIT | {"img_size": 24, "patch_size": 3, "embed_dim": 70, "num_heads": 7, "depth": 1, "mlp_ratio": 1.5}, {}),
    ("distilled", "a distillation token and two heads", DISTILLED, VIT, {}),
    ("distilled-minmax", "two heads, min-max quantizer", DISTILLED, SHALLOW, MINMAX),
    ("deit3", "LayerScale, position embeddings for patches alone", DEIT3, VIT, {}),
    ("deit3-image", "LayerScale, one scale for each picture", DEIT3, SHALLOW, {"act_scale": "image"}),
    ("swin", "windows, shifted in every second block; merging", SWIN_TINY, SWIN, {}),
    ("swin-minmax", "windows, min-max quantizer", SWIN_TINY, SWIN, MINMAX),
    ("swin-padded", "maps of 9 and 5 in windows of 4: padded after the norm", SWIN_TINY, PADDED, {}),
    ("swin-padded-minmax", "padding tokens have a zero point", SWIN_TINY, PADDED, {**MINMAX, "act_scale": "image"}),
    ("swin-odd", "a map of 7 is padded for windows of 3 and for merging", SWIN_TINY, ODD, {}),
    ("swin-one-window", "windows as large as the map: no shift", SWIN_TINY, WINDOW, {}),
    ("swin-static", "static scales, 8-bit weights", SWIN_TINY, SWIN, {**STATIC, **W8}),
    ("swin-float-attention", "attention in floats with bias and mask", SWIN_TINY, SWIN, {"attention": "float"}),
)  # fmt: skip
LARGE_VIT = dict(num_classes=100, depth=2)
LARGE = (
    ("deit-192", "full-size rows: 197 tokens, 192 channels", DEIT, LARGE_VIT, {}),
    ("distilled-192", "198 tokens, two heads", DISTILLED, LARGE_VIT | {"depth": 1}, {}),
    ("deit3-384", "384 channels, LayerScale", DEIT3, LARGE_VIT | {"depth": 1}, MINMAX),
    ("swin-96", "full-size windows of 49 tokens, 96 and 192 channels", SWIN_TINY,
     dict(num_classes=100, img_size=56, depths=(2, 1), num_heads=(3, 6)), {}),
    ("swin-96-padded", "maps of 15 and 8 in windows of 7", SWIN_TINY,
     dict(num_classes=100, img_size=60, depths=(2, 1), num_heads=(3, 6)), {}),
)  # fmt: skip
BOXED, PICTURES = "refvit_cifar10", 3


def cases(level):
    for label, comment, name, fields, switches in MODELS if level == 1 else (*MODELS, *LARGE):
        yield model(label, comment, file_of(narrow(name, fields, **switches)), picture(fields.get("img_size", 224), 1))
    flat = np.full((16, 16, 3), 128, np.uint8)
    yield model("deit-flat", "a picture of one colour: all patches are equal", file_of(narrow(DEIT, VIT)), flat)
    yield model("deit-base3", "ternary weights as a base-3 stream", file_of(narrow(DEIT, VIT), "base3"), picture(16, 1))
    if level == 2:
        file = np.frombuffer(read_bytes(resolve(BOXED)), np.uint8)
        for seed in range(PICTURES):
            yield model(f"{BOXED}-{seed}", "the model in the box", file, picture(32, seed))


def model(label, comment, file, pixels):
    return draft("model", label, comment, RULES, {"file": file, "pixels": pixels})
