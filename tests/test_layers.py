"""Gradients of every layer and of whole narrow models against float64 central differences, on every element (N13).

The central difference of step h is off by h^2 / 6 |f'''| + 2^-52 |f| / h; with h = 1e-5, upstream gradients and
values of order 1, both are below 1e-9 for these layers, and a little more for a chain of blocks.
"""

import numpy as np
import pytest

from refvit import layers, window
from refvit.config import SwinConfig, ViTConfig
from refvit.model import Model

STEP = 1e-5


def numeric_gradient(function, x, dy):
    """d sum(function() * dy) / dx by central differences; ``function`` reads the array x in place."""
    gradient = np.zeros_like(x)
    for i in np.ndindex(x.shape):
        kept = x[i]
        x[i] = kept + STEP
        above = (function() * dy).sum()
        x[i] = kept - STEP
        below = (function() * dy).sum()
        x[i] = kept
        gradient[i] = (above - below) / (2 * STEP)
    return gradient


def assert_gradients(function, arrays, gradients, dy, bound):
    for name, x in arrays.items():
        difference = np.abs(numeric_gradient(function, x, dy) - gradients[name]).max(initial=0)
        assert difference < bound * (1 + np.abs(gradients[name]).max(initial=0)), name


def random(*shape):
    return np.random.default_rng(sum(shape) + 17 * len(shape)).standard_normal(shape)


def test_linear():
    x, w, b = random(2, 3, 4), random(5, 4), random(5)
    y, cache = layers.linear_forward(x, w, b)
    dy = random(*y.shape)
    gradients = dict(zip("xwb", layers.linear_backward(dy, cache)))
    assert_gradients(lambda: layers.linear_forward(x, w, b)[0], {"x": x, "w": w, "b": b}, gradients, dy, 1e-8)


def test_layernorm():
    x, g, b = random(2, 3, 7), random(7), random(7)
    y, cache = layers.layernorm_forward(x, g, b, 1e-6)
    dy = random(*y.shape)
    gradients = dict(zip("xgb", layers.layernorm_backward(dy, cache)))
    assert_gradients(lambda: layers.layernorm_forward(x, g, b, 1e-6)[0], {"x": x, "g": g, "b": b}, gradients, dy, 1e-8)


@pytest.mark.parametrize("name", ["gelu", "softmax"])
def test_elementwise_and_rows(name):
    forward, backward = getattr(layers, f"{name}_forward"), getattr(layers, f"{name}_backward")
    x = 2 * random(3, 5)
    y, cache = forward(x)
    dy = random(3, 5)
    assert_gradients(lambda: forward(x)[0], {"x": x}, {"x": backward(dy, cache)}, dy, 1e-8)


def test_attention_with_bias_and_mask():
    q, k, v = random(2, 2, 2, 4, 3), random(2, 2, 2, 4, 3)[::-1].copy(), random(2, 2, 2, 4, 3) ** 2
    bias, mask = random(2, 4, 4), window.shift_mask(4, 2, 1)[:2].astype(np.float64)
    scores, cache = layers.scores_forward(q, k, bias, mask)
    dy = random(*scores.shape)
    gradients = dict(zip(("q", "k", "bias"), layers.scores_backward(dy, cache)))
    arrays = {"q": q, "k": k, "bias": bias}
    assert_gradients(lambda: layers.scores_forward(q, k, bias, mask)[0], arrays, gradients, dy, 1e-8)
    p = random(*scores.shape)
    y, cache = layers.context_forward(p, v)
    dy = random(*y.shape)
    gradients = dict(zip("pv", layers.context_backward(dy, cache)))
    assert_gradients(lambda: layers.context_forward(p, v)[0], {"p": p, "v": v}, gradients, dy, 1e-8)


def test_permutations_are_inverse_to_their_backward():
    """<f(x), y> = <x, f'(y)> for every linear map with backward f'."""
    x, qkv = random(2, 3, 6, 6), random(2, 3, 4, 3 * 2 * 5)
    patches = layers.patches_forward(x, 2)
    assert (layers.patches_backward(patches, 2, 3) == x).all()
    parts = layers.split_heads_forward(qkv, 2)
    assert (layers.split_heads_backward(*parts) == qkv).all()
    merged = layers.merge_heads_forward(parts[0])
    assert (layers.merge_heads_backward(merged, 2) == parts[0]).all()


TINY = [
    ViTConfig("plain", img_size=4, patch_size=2, num_classes=3, embed_dim=6, depth=2, num_heads=2, mlp_ratio=2.0),
    ViTConfig("distilled", img_size=4, patch_size=2, num_classes=3, embed_dim=4, depth=1, num_heads=2, distilled=True),
    ViTConfig("deit3", 4, 2, 3, 3, 4, 1, 2, layer_scale=True, no_embed_class=True),
    SwinConfig("swin", 8, 2, 1, 3, 4, (2, 1), (1, 2), window_size=2, mlp_ratio=2.0),
    SwinConfig("padded", 5, 1, 1, 3, 4, (2, 1), (1, 2), window_size=3, mlp_ratio=2.0),
]


@pytest.mark.parametrize("config", TINY, ids=lambda c: c.name)
def test_whole_models(config):
    """Every parameter and the pictures, every element; shifted windows, tables, both heads, LayerScale, padding.

    With stochastic depth, and with losses on each block's output, attention scores and a ViT's heads besides the one on
    the logits.
    """
    rng = np.random.default_rng(5)
    params = {n: rng.standard_normal(s) * 0.5 + n.endswith("norm.weight") for n, s in config.param_shapes().items()}
    model = Model(config, params)
    x = rng.standard_normal((2, config.in_chans, config.img_size, config.img_size))
    trace = {}
    model.forward(x, trace=trace)
    blocks, heads = [n for n in trace if n[-2:] in (".0", ".1")], [n for n in ("head", "head_dist") if n in trace]
    inject = {n: rng.standard_normal(trace[n].shape) for n in (*blocks, *[f"{b}.attn.score" for b in blocks], *heads)}
    drops = {f"{n}.drop_path{i}": np.array([0.0, 1.25])[:: 2 * i - 3] for n in blocks for i in (1, 2)}
    logits, cache = model.forward(x, drops=drops)
    dy = rng.standard_normal(logits.shape)
    dx, gradients = model.backward(dy, cache, inject)
    assert list(gradients) == list(params) and blocks and len(heads) == ("swin" != config.family) + ("dist_token" in params)

    def loss():
        seen = {}
        y, _ = model.forward(x, trace=seen, drops=drops)
        return (y * dy).sum() + sum((seen[n] * g).sum() for n, g in inject.items())

    assert_gradients(loss, {**params, "x": x}, {**gradients, "x": dx}, 1.0, 1e-6)
