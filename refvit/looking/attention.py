"""Where a model looks: attention rollout of a ViT, the attention that tokens receive within the windows of a Swin.

Shapes: B = 1 image, W windows, H heads, T tokens, S side of the map.
"""

import numpy as np

from ..window import from_windows


def attention_maps(config, trace):
    """Maps to lay over the picture.  trace: dict with the ``prob`` of every block  -> dict: title -> float [S, S]"""
    if config.family == "swin":
        return swin_maps(config, trace)
    return {"rollout to the class token": rollout(config, trace)}


def rollout(config, trace):
    """Attention rollout (arXiv 2005.00928): the product over the blocks of (mean of the heads + identity) / 2.

    -> what the class token has of each patch, float64 [S, S]
    """
    mixed = np.eye(config.num_tokens)
    for i in range(config.depth):
        heads = trace[f"blocks.{i}.attn.prob"][0, 0].astype(np.float64)  # [H, T, T]
        mixed = (heads.mean(axis=0) + np.eye(len(mixed))) / 2 @ mixed
    side = config.img_size // config.patch_size
    return mixed[0, config.num_prefix_tokens :].reshape(side, side)


def swin_maps(config, trace):
    """Of the last block of each stage: the attention that each token receives, mean over heads and queries, times T."""
    maps = {}
    for i, (side, _, _, m, depth) in enumerate(config.stages):
        prob = trace[f"layers.{i}.blocks.{depth - 1}.attn.prob"][0].astype(np.float64)  # [W, H, T, T]
        received = prob.mean(axis=(1, 2)) * prob.shape[-1]
        padded = from_windows(received[None, ..., None], m, config.shift(i, depth - 1), side)
        maps[f"stage {i}: {side} x {side}, windows of {m}"] = padded[0, ..., 0]
    return maps
