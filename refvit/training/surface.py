"""The loss around a trained model, along two random directions (Li et al., arXiv 1712.09913, section 4).

The directions are filter-normalised: each row of a weight matrix gets a random row of its own length; biases, norms,
tokens and tables stay. A quantized model is moved by its latent weights and then quantized, as in training.
"""

import numpy as np

from ..config import linear_roles
from ..model import Model
from .losses import cross_entropy_forward


def direction(model, rng):
    """A random direction, each row as long as the weight row it moves.  -> dict: name -> float32 array"""
    result = {}
    for layer in linear_roles(model.config):
        rows = model.matrix(layer)
        d = rng.standard_normal(rows.shape, np.float32)
        lengths = np.linalg.norm(rows, axis=1) / np.maximum(np.linalg.norm(d, axis=1), np.float32(1e-30))
        result[f"{layer}.weight"] = (d * lengths[:, None]).reshape(model.params[f"{layer}.weight"].shape)
    return result


def loss_surface(model, x, targets, size=11, reach=1.0, seed=0, meter=None):
    """Mean cross-entropy at (a, b) for a, b in [-reach, reach], ``size`` values each.  -> float64 [size, size]

    model    Model, float or fake-quantized
    x        normalised pictures float32 [B, 3, H, W]; targets float32 [B, classes]
    seed     of the two directions; the same seed gives the same directions for models of one shape
    meter    Progress, or None
    """
    rng = np.random.Generator(np.random.PCG64([seed, 0x5F]))
    along, across = direction(model, rng), direction(model, rng)
    steps = np.linspace(-reach, reach, size, dtype=np.float32)
    losses = np.empty((size, size))
    for i, a in enumerate(steps):
        for j, b in enumerate(steps):
            moved = {n: p + a * along[n] + b * across[n] if n in along else p for n, p in model.params.items()}
            logits = Model(model.config, moved, model.quant, preprocess=model.preprocess)(x)
            losses[i, j] = cross_entropy_forward(logits, targets)[0]
        if meter is not None:
            meter.update((i + 1) * size)
    return losses
