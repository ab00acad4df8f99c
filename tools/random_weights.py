"""Random non-trivial weights: no bias is zero, no norm is the identity, no table is flat.

Matrices keep the variance of their input; everything else is of the size of an activation, so that dropping, moving or
transposing any of it changes the logits at once.
"""

import numpy as np


def random_params(config, rng):
    """timm name -> float32 array, drawn in the order of ``config.param_shapes()`` from a numpy Generator."""
    return {name: random_param(name, shape, rng) for name, shape in config.param_shapes().items()}


def random_param(name, shape, rng):
    if name.endswith(".weight") and len(shape) > 1:
        value = rng.normal(0.0, 1.0 / np.sqrt(np.prod(shape[1:])), shape)
    elif name.endswith(".weight"):
        value = rng.uniform(0.5, 1.5, shape)  # gain of a norm
    elif name.endswith(".relative_position_bias_table"):
        value = rng.normal(0.0, 1.0, shape)
    else:
        value = rng.normal(0.0, 0.5, shape)  # bias, token, position, LayerScale
    return value.astype(np.float32)
