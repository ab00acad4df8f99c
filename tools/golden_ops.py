"""Golden vectors of single operations, in PyTorch's float64: input, output, upstream gradient, gradients.

Needs torch. Names read OPERATION/TENSOR; an input's gradient is OPERATION/d + its name. Window vectors are integers.
"""

import numpy as np
import torch
import torch.nn.functional as F
import torch_models

WINDOWS = ((8, 4, 2), (10, 4, 2), (11, 3, 1), (5, 4, 0), (7, 7, 0))  # side of the map, side of a window, shift
LAYERNORM_EPS = 0.5  # large, so that another one shows


def golden_ops(rng):
    """-> dict: name -> array"""
    tensors = {}
    for name, (function, inputs) in differentiable(rng).items():
        tensors.update({f"{name}/{key}": value for key, value in with_gradients(function, inputs, rng).items()})
    for side, m, shift in WINDOWS:
        tensors.update({f"window_{side}_{m}_{shift}/{key}": v for key, v in window_vectors(side, m, shift).items()})
    return tensors


def differentiable(rng):
    """name -> (function, its float32 inputs)"""

    def draw(*shape, scale=1.0, shift=0.0):
        return rng.normal(shift, scale, shape).astype(np.float32)

    heads = {name: draw(2, 4, 2, 9, 5) for name in "qkv"}  # [B, W, H, T, D]
    bias = draw(2, 9, 9)
    mask = torch_models.shift_mask(6, 3, 1, torch.float64)
    spread = np.linspace(-9.0, 9.0, 145, dtype=np.float32)  # both tails of the error function, and zero
    return {
        "linear": (F.linear, {"x": draw(2, 5, 48), "w": draw(20, 48, scale=0.2), "b": draw(20)}),
        "layernorm": (
            lambda x, w, b: F.layer_norm(x, x.shape[-1:], w, b, LAYERNORM_EPS),
            {"x": draw(2, 7, 40, scale=2.0, shift=3.0), "w": draw(40, shift=1.0), "b": draw(40)},
        ),
        "softmax": (lambda x: F.softmax(x, dim=-1), {"x": draw(4, 6, 33, scale=5.0)}),
        "gelu": (F.gelu, {"x": spread}),
        "attention": (lambda q, k, v: F.scaled_dot_product_attention(q, k, v), heads),
        "attention_masked": (lambda q, k, v, bias: masked_attention(q, k, v, bias, mask), {**heads, "bias": bias}),
        "merge_patches": (torch_models.merge_patches, {"x": draw(2, 5, 5, 3)}),
    }


def masked_attention(q, k, v, bias, mask):
    """q, k, v [B, W, H, T, D], bias [H, T, T], mask [W, T, T] -> [B, W, H, T, D]"""
    scores = (bias + mask[:, None]).expand(len(q), -1, -1, -1, -1)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=scores)


def with_gradients(function, inputs, rng):
    """Inputs, output y, upstream gradient dy, and the gradient d + name of each input."""
    leaves = {name: torch.tensor(v, dtype=torch.float64, requires_grad=True) for name, v in inputs.items()}
    y = function(*leaves.values())
    dy = rng.normal(size=tuple(y.shape)).astype(np.float32)
    y.backward(torch.tensor(dy, dtype=torch.float64))
    grads = {f"d{name}": v.grad.numpy() for name, v in leaves.items()}
    return {**inputs, "y": y.detach().numpy(), "dy": dy, **grads}


def window_vectors(side, m, shift):
    """Where each token of a map goes, numbered from 1 (0 is padding); masked pairs; rows of the bias table."""
    tokens = torch.arange(1, side * side + 1).reshape(1, side, side, 1)
    vectors = {
        "windows": torch_models.to_windows(tokens, m, shift).squeeze(-1),  # [W, M M]
        "index": torch_models.position_index(m),
    }
    if shift:
        vectors["masked"] = torch_models.shift_mask(side, m, shift, torch.float32) != 0  # [W, M M, M M]
    return {name: value.numpy().astype(np.int16) for name, value in vectors.items()}
