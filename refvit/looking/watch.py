"""A packed model on one picture, watched: every intermediate tensor, and the float input of each linear layer."""

from dataclasses import dataclass

import numpy as np

from ..backend import default_environment
from ..conformance.trace import Kept
from ..engine import IntegerPass
from ..model import FORWARD
from ..preprocess import crop, normalise


@dataclass(frozen=True)
class Watched:
    """pixels uint8 [S, S, 3]; trace as of Engine.forward; inputs dict: layer -> float32 [T, K]; logits [classes]"""

    pixels: np.ndarray
    trace: dict
    inputs: dict
    logits: np.ndarray


class InputsPass(IntegerPass):
    """Keeps what goes into each linear layer, before it is quantized."""

    def __init__(self, engine, trace):
        super().__init__(engine, trace)
        self.inputs = {}

    def linear(self, name, x):
        self.inputs[name] = x.reshape(-1, x.shape[-1])
        return super().linear(name, x)


def watch(engine, pixels, only=None, progress=None):
    """The pass of a picture.  pixels uint8 [S, S, 3] -> Watched

    only      shell patterns of the tensors to keep of the trace, or None: all
    progress  Progress over the linear layers, or None
    """
    run = InputsPass(engine, Kept(only, progress))
    with default_environment(), np.errstate(over="ignore", invalid="ignore"):
        logits = FORWARD[engine.config.family](run, normalise(pixels, engine.preprocess))[0]
    return Watched(pixels, run.trace, run.inputs, logits[0])


def pixels_of(picture, engine):
    """Pixels of a picture's file, else of a drawing: a disc before a gradient (our choice).  -> uint8 [S, S, 3]"""
    return drawing(engine.config.img_size) if picture is None else crop(picture, engine.preprocess)


def drawing(side):
    """uint8 [S, S, 3], of integers alone"""
    y, x = np.mgrid[:side, :side]
    red, green, blue = 255 * x // side, 255 * y // side, 255 * (2 * side - x - y) // (2 * side)
    pixels = np.stack([red, green, blue], axis=-1)
    pixels[(2 * x - side) ** 2 + (2 * y - side) ** 2 < side**2 // 4] = (230, 190, 40)
    return pixels.astype(np.uint8)
