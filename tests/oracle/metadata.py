"""Section 4: JSON without duplicates, the metadata of a packed file and its limits."""

import json
from math import isfinite

from .errors import Refused


def check(condition, what):
    if not condition:
        raise Refused(what)


def without_duplicates(pairs):
    check(len(dict(pairs)) == len(pairs), "a key of JSON comes twice")
    return dict(pairs)


def no_constant(text):
    raise Refused(f"{text} in JSON")


def read_json(text):
    try:
        return json.loads(text, object_pairs_hook=without_duplicates, parse_constant=no_constant)
    except (ValueError, RecursionError) as error:
        raise Refused(f"not JSON: {error}") from None


def integer(low, high):
    return lambda v: type(v) is int and low <= v <= high


def number(v):
    return type(v) in (int, float) and abs(v) < 2**1000 and isfinite(v)


def text(v):
    return type(v) is str


def flag(v):
    return type(v) is bool


def one_of(*choices):
    return lambda v: any(type(v) is type(choice) and v == choice for choice in choices)


def list_of(kind, length=None):
    return lambda v: type(v) is list and len(v) == (length or len(v)) and all(map(kind, v))


COMMON = {
    "family": one_of("vit", "swin"),
    "name": text,
    "img_size": integer(1, 8192),
    "patch_size": integer(1, 1024),
    "in_chans": integer(1, 1024),
    "num_classes": integer(1, 2**20),
    "embed_dim": integer(1, 2**16),
    "mlp_ratio": lambda v: number(v) and 0 < v <= 64,
    "norm_eps": lambda v: number(v) and 0 < v < 1,
}
VIT = COMMON | {
    "depth": integer(1, 1024),
    "num_heads": integer(1, 2**16),
    "distilled": flag,
    "layer_scale": flag,
    "no_embed_class": flag,
}
SWIN = COMMON | {
    "depths": list_of(integer(1, 1024)),
    "num_heads": list_of(integer(1, 2**16)),
    "window_size": integer(1, 8192),
}
QUANT = {
    "weight_bits": one_of(2, 8),
    "act_bits": integer(2, 8),
    "act_quantizer": one_of("symmetric", "minmax"),
    "act_scale": one_of("token", "image", "static"),
    "attention": one_of("int8", "float"),
    "patch_bits": one_of(2, 8),
    "head_bits": one_of(2, 8),
    "granularity": one_of("channel", "layer"),
    "threshold": lambda v: v == "optimal" or number(v),
    "scale": one_of("masked_mean", "absolute_mean"),
    "ste_clip": lambda v: v is None or number(v),
}
PREPROCESS = {
    "mode": one_of("facebook", "timm", "squash"),
    "img_size": integer(1, 8192),
    "resize": number,
    "mean": list_of(number, 3),
    "std": list_of(number, 3),
}


def check_object(v, fields, what):
    check(type(v) is dict and set(v) == set(fields), f"{what} must have the keys {sorted(fields)}")
    for key, kind in fields.items():
        check(kind(v[key]), f"{what}: {key} is {v[key]!r}")


def check_config(config):
    check(type(config) is dict, "config must be an object")
    vit = config.get("family") == "vit"
    check_object(config, VIT if vit else SWIN, "config")
    check(config["img_size"] % config["patch_size"] == 0, "img_size must be a multiple of patch_size")
    if not vit:
        check(len(config["depths"]) == len(config["num_heads"]) >= 1, "a stage has a depth and a number of heads")
        check(sum(config["depths"]) <= 1024, "too many blocks")
    heads = [config["num_heads"]] if vit else config["num_heads"]
    for i, h in enumerate(heads):
        check(config["embed_dim"] * 2**i % h == 0, "heads must divide the width")
    check(int(config["embed_dim"] * config["mlp_ratio"]) >= 1, "the MLP has no width")


def check_labels(labels, classes):
    names = list_of(text, classes)
    check(labels is None or (labels == "imagenet1k" and classes == 1000) or names(labels), "labels")


def read_metadata(metadata):
    """config, quant, preprocess of the checked metadata (its sha256 is not checked here)."""
    keys = ("format", "spec_version", "config", "quant", "preprocess", "labels", "sha256")
    check(all(key in metadata for key in keys), "metadata is missing")
    check(metadata["format"] == "refvit-packed", "another format")
    version, config, quant, preprocess, labels = (read_json(metadata[key]) for key in keys[1:6])
    check(type(version) is int and version == 1, "another spec_version")
    check_config(config)
    check_object(quant, QUANT, "quant")
    check_object(preprocess, PREPROCESS, "preprocess")
    check(preprocess["img_size"] == config["img_size"], "two values of img_size")
    check_labels(labels, config["num_classes"])
    return config, quant, preprocess
