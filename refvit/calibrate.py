"""Static activation scales: the range of every linear layer's input, seen on pictures (N6).

The ranges, not the scales, are kept: from them rule N4 gives the scale of both quantizers at any number of bits. They
hold for the weights that were watched, so a file of ranges names these and goes with no others.
"""

import numpy as np

from . import safetensors
from .config import linear_roles
from .errors import BadInputError, UsageError
from .modelfile import content_sha256

FORMAT = "refvit-calibration"
WEIGHT_SWITCHES = ("weight_bits", "granularity", "threshold", "scale", "patch_bits", "head_bits")  # of QuantConfig


def calibrate(model, batches, percentile=100.0):
    """Ranges of a (fake-quantized or float) model's layer inputs.

    batches     iterable of normalised pictures, float32 [B, 3, H, W]
    percentile  of each picture's |x|, and of its two tails; 100 is the maximum. The largest over all pictures counts
    Returns dict: layer -> (amax, lo, hi), lo <= 0 <= hi. Raises UsageError where there is no picture.
    """
    check_percentile(percentile)
    ranges = {}
    for x in batches:
        for picture in x:
            seen = Inputs(linear_roles(model.config))
            model.forward(picture[None], trace=seen)
            for layer, values in seen.items():
                new = picture_range(values, percentile)
                amax, lo, hi = ranges.get(layer, (0.0, 0.0, 0.0))
                ranges[layer] = (max(amax, new[0]), min(lo, new[1]), max(hi, new[2]))
    if not ranges:
        raise UsageError("calibrate", "pictures", "at least one", "none")
    return ranges


def check_percentile(percentile):
    """Raise UsageError unless 50 < percentile <= 100."""
    if not 50.0 < percentile <= 100.0:
        raise UsageError("calibrate", "percentile", "above 50, at most 100", percentile)


class Inputs(dict):
    """A trace that keeps the inputs of linear layers and drops the rest."""

    def __init__(self, layers):
        super().__init__()
        self.layers = layers

    def __setitem__(self, path, value):
        layer, _, step = path.rpartition(".")
        if step == "in" and layer in self.layers:
            super().__setitem__(layer, value)


def picture_range(x, percentile):
    """(amax, lo, hi) of one picture's values; percentiles by the nearest rank above.  -> float, float, float"""

    def rank(values, p):
        return float(np.percentile(values, p, method="inverted_cdf"))

    return rank(np.abs(x), percentile), min(rank(x, 100.0 - percentile), 0.0), max(rank(x, percentile), 0.0)


def save_ranges(path, ranges, model, percentile, images, force=False):
    """Write ranges as safetensors: one F32 [3] tensor (amax, lo, hi) for each layer; metadata as ``watched``."""
    tensors = {layer: np.array(r, np.float32) for layer, r in ranges.items()}
    meta = {"format": FORMAT, **watched(model), "percentile": repr(percentile), "images": str(images)}
    safetensors.write(path, tensors, meta, force=force)


def watched(model):
    """The weights that ranges depend on: the model's name, a hash of the float weights, how they are quantized."""
    quant = {switch: str(getattr(model.quant, switch, "float")) for switch in WEIGHT_SWITCHES}
    return {"model": model.config.name, "weights_sha256": content_sha256(model.params, {}), **quant}


def load_ranges(path, model):
    """The inverse of ``save_ranges``, for the (fake-quantized) model that was watched.

    Raises BadInputError naming the file for ranges of other weights or layers, and for odd values.
    """
    tensors, meta = safetensors.read(path)
    if meta.get("format") != FORMAT:
        raise BadInputError(path, "format", FORMAT, repr(meta.get("format")), "the output of refvit calibrate")
    for key, value in watched(model).items():
        if meta.get(key) != value:
            hint = "refvit calibrate with the same checkpoint and switches"
            raise BadInputError(path, f"{key} of the calibrated model", value, meta.get(key), hint)
    layers = linear_roles(model.config)
    odd = sorted(set(tensors) ^ set(layers))
    if odd:
        expected = f"the {len(layers)} linear layers of {model.config.name}"
        raise BadInputError(path, "layers", expected, f"difference at {odd[0]}")
    for layer in layers:
        r = tensors[layer]
        ok = r.dtype == np.float32 and r.shape == (3,) and np.isfinite(r).all() and r[0] >= 0 and r[1] <= 0 <= r[2]
        if not ok:
            raise BadInputError(path, layer, "F32 [3]: amax >= 0, lo <= 0 <= hi", f"{r.dtype} {list(r.shape)}")
    return {layer: tuple(tensors[layer].tolist()) for layer in layers}
