"""Section 4: JSON without duplicates, the metadata of a packed file and its limits."""

import json
from math import inf, isfinite

from .errors import Refused
from .pixels import pixel_values


def check(condition, what):
    if not condition:
        raise Refused(what)


def without_duplicates(pairs):
    check(len(dict(pairs)) == len(pairs), "a key of JSON comes twice")
    return dict(pairs)


def no_constant(text):
    raise Refused(f"{text} in JSON")


def short_integer(digits):
    check(len(digits) <= 19, "an integer of more than 19 digits in JSON")
    return int(digits)


def read_json(text):
    """text is a str; one with lone surrogates is refused."""
    try:
        hooks = {"object_pairs_hook": without_duplicates, "parse_constant": no_constant, "parse_int": short_integer}
        value = json.loads(text, **hooks)
        json.dumps(value, ensure_ascii=False).encode()
        return value
    except (ValueError, RecursionError) as error:
        raise Refused(f"not JSON: {error}") from None


def integer(low, high):
    return lambda v: type(v) is int and low <= v <= high


def number(low, high):
    return lambda v: type(v) in (int, float) and low <= v <= high


def text(v):
    return type(v) is str


def flag(v):
    return type(v) is bool


def one_of(*choices):
    return lambda v: any(type(v) is type(choice) and v == choice for choice in choices)


def list_of(kind, length=None):
    return lambda v: type(v) is list and len(v) == (length or len(v)) and all(map(kind, v))


TINIEST, LARGEST = 2.0**-1074, float.fromhex("0x1.fffffffffffffp+1023")
F32_LARGEST = float.fromhex("0x1.fffffep+127")
COMMON = {
    "family": one_of("vit", "swin"),
    "name": text,
    "img_size": integer(1, 8192),
    "patch_size": integer(1, 1024),
    "in_chans": integer(1, 1024),
    "num_classes": integer(1, 2**20),
    "embed_dim": integer(1, 2**16),
    "mlp_ratio": number(0, 64),
    "norm_eps": number(TINIEST, 1 - 2.0**-53),
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
    "threshold": lambda v: v == "optimal" or number(0, LARGEST)(v),
    "scale": one_of("masked_mean", "absolute_mean"),
    "ste_clip": lambda v: v is None or number(TINIEST, inf)(v),
}
PREPROCESS = {
    "mode": one_of("facebook", "timm", "squash"),
    "img_size": integer(1, 8192),
    "resize": integer(1, 8192),
    "mean": list_of(number(-F32_LARGEST, F32_LARGEST), 3),
    "std": list_of(number(TINIEST, F32_LARGEST), 3),
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
        check(1 <= len(config["depths"]) == len(config["num_heads"]) <= 8, "up to 8 stages, each with heads")
        check(sum(config["depths"]) <= 1024, "too many blocks")
        check(window_tables(config) <= 2**25, "too many entries of masks and biases")
    heads = [config["num_heads"]] if vit else config["num_heads"]
    for i, h in enumerate(heads):
        check(config["embed_dim"] * 2**i % h == 0, "heads must divide the width")
    check(config["embed_dim"] * config["mlp_ratio"] >= 1, "the MLP has no width")


def window_tables(config):
    """Sum over the stages of T^2 (heads * depth + W) + 2 W T."""
    side, total = config["img_size"] // config["patch_size"], 0
    for depth, heads in zip(config["depths"], config["num_heads"]):
        m = min(side, config["window_size"])
        windows = ((side + m - 1) // m) ** 2
        total += m**4 * (heads * depth + windows) + 2 * windows * m**2
        side = (side + 1) // 2
    return total


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
    check(preprocess["img_size"] == config["img_size"] <= preprocess["resize"], "sizes of pictures")
    values = pixel_values(preprocess["mean"], preprocess["std"])
    check(all(isfinite(v) for channel in values for v in channel), "pixels that are not finite")
    check_labels(labels, config["num_classes"])
    return config, quant, preprocess
