"""A trace: every intermediate tensor of a packed model on one picture, under stable names, in order of execution.

A file is safetensors. Its metadata, each entry but format a JSON text: format; spec_version; model_sha256, the content
hash of the packed model with ternary weights as planes; config; quant; order: the names in order of execution (tensors
lie in the file as safetensors.py orders them); left_out: how many tensors of the model the file does not hold.
"""

import dataclasses
import fnmatch
import json

import numpy as np

from .. import safetensors
from ..config import QuantConfig, config_to_dict, dataclass_from_dict
from ..errors import BadInputError, UsageError, blamed
from ..modelfile import engine_sha256
from ..preprocess import normalise
from ..rules import SPEC_VERSION

FORMAT = "refvit-trace"
PIXELS, LOGITS = "pixels", "logits"
DTYPES = ("uint8", "int8", "int32", "float32")


@dataclasses.dataclass(frozen=True)
class Trace:
    """tensors: dict: name -> array, in order of execution; about: what the metadata says, parsed"""

    tensors: dict
    about: dict


class Kept(dict):
    """Receives the tensors of a pass; keeps the pixels and those whose names fit a pattern, counts the others."""

    def __init__(self, patterns=None, progress=None):
        self.patterns, self.progress = patterns, progress
        self.fitted, self.left_out, self.layers = 0, 0, 0

    def __setitem__(self, name, value):
        fits = self.patterns is None or any(fnmatch.fnmatchcase(name, p) for p in self.patterns)
        self.fitted += fits
        if fits or name == PIXELS:
            super().__setitem__(name, value)
        else:
            self.left_out += 1
        if self.progress is not None and name.endswith(".acc"):
            self.layers += 1
            self.progress.update(self.layers)


def trace(engine, pixels, only=None, progress=None):
    """The tensors of one pass.  pixels uint8 [S, S, 3] -> Trace

    only      list of shell patterns of names, or None: everything
    progress  Progress over the model's linear layers, or None
    Raises BadInputError for other pixels than the model takes, UsageError where no name fits.
    """
    check_pixels(engine.config, pixels)
    kept = Kept(only, progress)
    kept[PIXELS] = pixels
    kept[LOGITS] = engine.step_by_step(normalise(pixels, engine.preprocess), kept)
    if not kept.fitted:
        raise UsageError("trace", "--only", "a pattern that fits a tensor, as 'blocks.0.*'", " ".join(only))
    tensors = {name: kept[name] for name in in_order(kept)}
    return Trace(tensors, {**describe(engine), "order": list(tensors), "left_out": kept.left_out})


def check_pixels(config, pixels):
    shape = (config.img_size, config.img_size, 3)
    if pixels.dtype != np.uint8 or pixels.shape != shape:
        got = f"{pixels.dtype} {list(pixels.shape)}"
        raise BadInputError(PIXELS, "picture after resize and crop", f"uint8 {list(shape)}", got)


def in_order(names):
    """Names in order of execution: a scale and zero point come before the codes made with them, the logits last."""
    place = {"s_in": 0, "zp_in": 1, "q_in": 2}
    ordered = []
    for name in names:
        layer, _, step = name.rpartition(".")
        at = len(ordered)
        while step in place and at and place.get(step_of(ordered[at - 1], layer), -1) > place[step]:
            at -= 1
        ordered.insert(at, name)
    return sorted(ordered, key=lambda name: (name != PIXELS) + (name == LOGITS))


def step_of(name, layer):
    """The step of a name of this layer, else None."""
    return name[len(layer) + 1 :] if name.startswith(f"{layer}.") else None


def describe(engine):
    """What a reader must know of the model."""
    return {
        "spec_version": SPEC_VERSION,
        "model_sha256": engine_sha256(engine),
        "config": config_to_dict(engine.config),
        "quant": dataclasses.asdict(engine.quant),
    }


def write_trace(path, found, force=False):
    meta = {"format": FORMAT, **{k: json.dumps(v, sort_keys=True) for k, v in found.about.items()}}
    safetensors.write(path, found.tensors, meta, force=force)


def read_trace(path):
    """-> Trace. Raises BadInputError for a file that ``write_trace`` did not write, or that holds a NaN."""
    tensors, meta = safetensors.read(path)
    if meta.get("format") != FORMAT:
        raise BadInputError(path, "not a trace", f"format {FORMAT}", repr(meta.get("format")), "refvit trace")
    keys = ("spec_version", "model_sha256", "config", "quant", "order", "left_out")
    missing = [key for key in keys if key not in meta]
    if missing:
        raise BadInputError(path, "metadata", missing[0], "none")
    about = {key: safetensors.parse_json(f"{path}: {key}", meta[key].encode()) for key in keys}
    if about["spec_version"] != SPEC_VERSION:
        raise BadInputError(path, "spec_version", SPEC_VERSION, about["spec_version"])
    with blamed(path):
        dataclass_from_dict(QuantConfig, about["quant"])
    check_order(path, about, tensors)
    for name, value in tensors.items():
        if value.dtype.name not in DTYPES or (value.dtype.kind == "f" and np.isnan(value).any()):
            raise BadInputError(f"{path}: {name}", "tensor", f"{', '.join(DTYPES)} without NaN", value.dtype)
    return Trace({name: tensors[name] for name in about["order"]}, about)


def check_order(path, about, tensors):
    order, left_out = about["order"], about["left_out"]
    if not isinstance(order, list) or not all(isinstance(n, str) for n in order) or sorted(order) != sorted(tensors):
        raise BadInputError(path, "order", "the names of all tensors", f"{str(order)[:80]}")
    if type(left_out) is not int or left_out < 0 or not order:
        raise BadInputError(path, "left_out, tensors", "a count, and at least one", f"{left_out!r:.80}, {len(order)}")
