"""Both families step by step in bounded arithmetic: the exact result of a step, and how far float32 may be off.

Parameters are a dict of timm's names to Bounded. Moving elements is refvit's own; the golden windows test that exactly,
and the values here are compared with PyTorch's.
"""

import numpy as np

from refvit.layers import patches_forward
from refvit.vectors import bounded
from refvit.vectors.bounded import Bounded
from refvit.window import bias_forward, from_windows, merge_patches, shift_mask, to_windows


def steps(config, p):
    """(path of the result, paths of the operands, function on Bounded) of each step, in order.

    Paths are those of a trace; "x" are the pictures. A step is one to four operations, so that bounds stay narrow.
    """
    return (vit_steps if config.family == "vit" else swin_steps)(config, p)


def vit_steps(config, p):
    yield "patch_embed", ["x"], lambda x: patch_embed(config, p, x)
    yield "tokens", ["patch_embed"], lambda x: add_tokens(config, p, x)
    source = "tokens"
    for i in range(config.depth):
        to_rows, from_rows = (lambda a: a[:, None]), (lambda a: a[:, 0])  # one window
        yield from block_steps(config, p, f"blocks.{i}", source, config.num_heads, to_rows, from_rows)
        source = f"blocks.{i}"
    yield "norm", [source], lambda x: norm(config, p, "norm", x)
    yield "logits", ["norm"], lambda x: vit_heads(config, p, x)


def swin_steps(config, p):
    side = config.stages[0][0]
    yield "patch_embed.proj", ["x"], lambda x: patch_embed(config, p, x)
    yield "patch_embed", ["patch_embed.proj"], lambda x: norm(config, p, "patch_embed.norm", x).moved(
        lambda a: a.reshape(len(a), side, side, -1)
    )
    source = "patch_embed"
    for i, depth in enumerate(config.depths):
        if i:
            yield from merging_steps(config, p, f"layers.{i}.downsample", source)
            source = f"layers.{i}.downsample"
        for j in range(depth):
            yield from swin_block_steps(config, p, i, j, source)
            source = f"layers.{i}.blocks.{j}"
    yield "norm", [source], lambda x: norm(config, p, "norm", x)
    yield "head.global_pool", ["norm"], lambda x: x.mean((1, 2))
    yield "logits", ["head.global_pool"], lambda x: linear(p, "head.fc", x)


def merging_steps(config, p, name, source):
    yield f"{name}.norm", [source], lambda x: norm(config, p, f"{name}.norm", x.moved(merge_patches))
    yield name, [f"{name}.norm"], lambda x: linear(p, f"{name}.reduction", x)


def swin_block_steps(config, p, stage, block, source):
    name, shift = f"layers.{stage}.blocks.{block}", config.shift(stage, block)
    side, _, heads, m, _ = config.stages[stage]
    return block_steps(
        config,
        p,
        name,
        source,
        heads,
        lambda a: to_windows(a, m, shift),
        lambda a: from_windows(a, m, shift, side),
        p[f"{name}.attn.relative_position_bias_table"].moved(lambda a: bias_forward(a, m)),
        Bounded(shift_mask(side, m, shift)[:, None]) if shift else None,
    )


def block_steps(config, p, name, source, heads, to_rows, from_rows, bias=None, mask=None):
    """x + ls1(attention(norm1(x))), then x + ls2(mlp(norm2(x))); ``to_rows`` cuts tokens into [B, W, T, C]."""
    qkv, score, prob, context, proj = (f"{name}.attn.{part}" for part in ("qkv", "score", "prob", "context", "proj"))
    fc1, act, fc2 = (f"{name}.mlp.{part}" for part in ("fc1", "act", "fc2"))

    def attended(x, h):
        return x + layer_scale(p, f"{name}.ls1", h.moved(from_rows))

    yield f"{name}.norm1", [source], lambda x: norm(config, p, f"{name}.norm1", x)
    yield qkv, [f"{name}.norm1"], lambda x: linear(p, qkv, x.moved(to_rows))
    yield score, [qkv], lambda x: bounded.scores(*split_heads(x, heads)[:2], bias, mask)
    yield prob, [score], bounded.softmax
    yield context, [prob, qkv], lambda p, x: merge_heads(p @ split_heads(x, heads)[2])
    yield proj, [context], lambda x: linear(p, proj, x)
    yield f"{name}.norm2", [source, proj], lambda x, h: norm(config, p, f"{name}.norm2", attended(x, h))
    yield fc1, [f"{name}.norm2"], lambda x: linear(p, fc1, x)
    yield act, [fc1], bounded.gelu
    yield fc2, [act], lambda x: linear(p, fc2, x)
    yield name, [source, proj, fc2], lambda x, h, y: attended(x, h) + layer_scale(p, f"{name}.ls2", y)


def patch_embed(config, p, x):
    return linear(p, "patch_embed.proj", x.moved(lambda a: patches_forward(a, config.patch_size)))


def add_tokens(config, p, x):
    """In float32 a concatenation and one addition."""
    prefix = [p[name] for name in ("cls_token", "dist_token") if name in p]
    if config.no_embed_class:
        return concatenate([*prefix, x + p["pos_embed"]])
    return concatenate([*prefix, x]) + p["pos_embed"]


def concatenate(parts):
    """Tokens [1, 1, C], repeated for every picture of the last part, then that part."""
    batch = len(parts[-1].value)
    values = [a.value if len(a.value) == batch else a.value.repeat(batch, axis=0) for a in parts]
    errors = [a.err if len(a.err) == batch else a.err.repeat(batch, axis=0) for a in parts]
    return Bounded(np.concatenate(values, axis=1), np.concatenate(errors, axis=1))


def vit_heads(config, p, x):
    logits = linear(p, "head", x[:, 0])
    return (logits + linear(p, "head_dist", x[:, 1])) * Bounded(0.5) if config.distilled else logits


def split_heads(qkv, heads):
    """[B, W, T, 3 C] -> q, k, v [B, W, H, T, D]"""
    b, w, t, _ = qkv.value.shape
    parts = qkv.moved(lambda a: a.reshape(b, w, t, 3, heads, -1).swapaxes(2, 4))  # [B, W, H, 3, T, D]
    return tuple(parts[:, :, :, i] for i in range(3))


def merge_heads(y):
    """[B, W, H, T, D] -> [B, W, T, H D]"""
    b, w, _, t, _ = y.value.shape
    return y.moved(lambda a: a.swapaxes(2, 3).reshape(b, w, t, -1))


def linear(p, name, x):
    w = p[f"{name}.weight"].moved(lambda a: a.reshape(len(a), -1))
    return bounded.linear(x, w, p.get(f"{name}.bias"))


def norm(config, p, name, x):
    return bounded.layernorm(x, p[f"{name}.weight"], p[f"{name}.bias"], config.norm_eps)


def layer_scale(p, name, x):
    return x * p[f"{name}.gamma"] if f"{name}.gamma" in p else x
