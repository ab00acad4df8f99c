"""A model: configuration and parameters, called on pictures. The float side; the integer side is engine.py."""

import numpy as np

from .architecture import shown_name
from .config import QuantConfig, param_count
from .errors import BadInputError, UsageError
from .passes import Pass
from .preprocess import default_preprocess, normalise
from .registry import model_config
from .swin import swin_backward, swin_forward
from .vit import vit_backward, vit_forward

FORWARD = {"vit": vit_forward, "swin": swin_forward}
BACKWARD = {"vit": vit_backward, "swin": swin_backward}
INIT_STD = 0.02  # of weights, tokens, positions and tables (timm's)


class Model:
    """A float or, with ``quant``, fake-quantized model.

    config      ViTConfig or SwinConfig
    params      dict: timm name -> float32 array, in the order and shapes of ``config.param_shapes()``
    quant       QuantConfig or None (float)
    ranges      dict: layer -> (amax, lo, hi) of its input for static activation scales, or None
    preprocess  PreprocessConfig: what the model expects of a picture
    labels      list of class names, or None
    """

    def __init__(self, config, params, quant=None, ranges=None, preprocess=None, labels=None):
        self.config, self.params, self.quant, self.ranges = config, params, quant, ranges
        self.preprocess = preprocess or default_preprocess(config)
        self.labels = labels
        check_params(config, params)

    def __repr__(self):
        return f"Model({shown_name(self.config)!r}, {param_count(self.config):,} parameters, quant={self.quant})"

    def __call__(self, x):
        """Logits of normalised pictures.  x float32 [B, 3, H, W] -> float32 [B, classes]"""
        with np.errstate(over="ignore", invalid="ignore"):
            return FORWARD[self.config.family](Pass(self, keep=False), check_pictures(self.config, x))[0]

    def forward(self, x, trace=None, drops=None):
        """As a call, but returns (logits, cache).

        trace  dict that receives every module's output under its path
        drops  dict: path of a branch, as "blocks.0.drop_path1" -> its factor for each picture [B] (stochastic depth)
        """
        run = Pass(self, trace, drops=drops)
        with np.errstate(over="ignore", invalid="ignore"):
            logits, cache = FORWARD[self.config.family](run, check_pictures(self.config, x))
        return logits, (run, cache)

    def backward(self, dy, cache, inject=None):
        """Gradients for an upstream gradient.  dy [B, classes] -> dx [B, 3, H, W], grads: dict with the keys of params

        inject  dict: path of a traced block output, attention score or head of a ViT -> gradient of the loss there,
                added to dy's
        """
        run, cache = cache
        run.grads, run.inject = {}, inject or {}
        classes = self.config.num_classes
        if np.ndim(dy) != 2 or dy.shape[1] != classes:
            raise UsageError(self.config.name, "dy", f"[B, {classes}]", list(np.shape(dy)))
        dx = BACKWARD[self.config.family](run, dy, cache)
        return dx, {name: run.grads[name] for name in self.params}

    def matrix(self, layer):
        """The weights of a linear layer, a view.  -> float32 [N, K]"""
        w = self.params[f"{layer}.weight"]
        return w.reshape(len(w), -1)

    def predict(self, u8):
        """Logits of pictures after resize and crop.  uint8 RGB [B, H, W, 3] -> float32 [B, classes]"""
        return self(normalise(u8, self.preprocess))

    def with_quant(self, quant, ranges=None):
        """The same parameters (not a copy), fake-quantized: quantization-aware training and its inference."""
        if not isinstance(quant, QuantConfig):
            raise UsageError("with_quant", "argument", "a QuantConfig", type(quant).__name__)
        return Model(self.config, self.params, quant, ranges or self.ranges, self.preprocess, self.labels)


def create_model(name, num_classes=1000, seed=0, **overrides):
    """A model by timm's name with seeded weights; further configuration fields by keyword (img_size, depth, ...).

    Weights, tokens, positions and bias tables are drawn with standard deviation 0.02, biases are zero, norms one.
    The draw is exact arithmetic on the generator's words, so a seed means the same model on every machine.
    Raises UsageError for an unknown name or field.
    """
    config = model_config(name, num_classes=num_classes, **overrides)
    return Model(config, new_params(config, seed))


def new_params(config, seed):
    """Seeded parameters of a new model.  -> dict: timm name -> float32 array"""
    if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)) or seed < 0:
        raise UsageError(config.name, "seed", "an integer of at least 0", repr(seed))
    words = np.random.PCG64(seed)
    return {n: initial_value(n, shape, words) for n, shape in config.param_shapes().items()}


def initial_value(name, shape, words):
    """One parameter of a new model."""
    if name.endswith(".bias"):
        return np.zeros(shape, np.float32)
    if len(shape) == 1:
        return np.full(shape, 0.1 if name.endswith(".gamma") else 1.0, np.float32)
    return (bell(words, int(np.prod(shape))) * np.float32(INIT_STD)).reshape(shape)


def bell(words, count):
    """Nearly normal numbers of mean 0 and deviation 1: the sum of four 16-bit uniform integers, exactly.  -> [count]"""
    quarters = words.random_raw(count).astype("<u8").view("<u2").reshape(count, 4).astype(np.int32)
    centred = 2 * quarters.sum(axis=1, dtype=np.int32) - 4 * 65535
    deviation = 2.0 * np.sqrt(4 * (65536.0**2 - 1) / 12)
    return (centred / deviation).astype(np.float32)


def check_params(config, params):
    """Names, shapes and order must be the configuration's; the first difference is named."""
    expected = config.param_shapes()
    if list(params) != list(expected):
        odd = sorted(set(params) ^ set(expected)) or [a for a, b in zip(params, expected) if a != b]
        raise BadInputError(config.name, "parameter names", f"{len(expected)} in order", f"difference at {odd[0]}")
    for name, shape in expected.items():
        if tuple(params[name].shape) != shape:
            raise BadInputError(config.name, name, f"shape {list(shape)}", f"{list(params[name].shape)}")


def check_pictures(config, x):
    """x as a float array [B, C, S, S] of the configured size."""
    x = np.asarray(x)
    expected = (config.in_chans, config.img_size, config.img_size)
    if x.ndim != 4 or x.shape[1:] != expected or x.dtype.kind != "f" or not len(x):
        shape = f"float [B >= 1, {', '.join(map(str, expected))}]"
        raise BadInputError(config.name, "pictures", shape, f"{x.dtype} {list(x.shape)}")
    return x if x.dtype == np.float64 else np.ascontiguousarray(x, np.float32)
