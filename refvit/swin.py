"""Swin Transformer, forward and backward (arXiv 2103.14030), as timm names it.

Shapes: B images, S side of the feature map, C width, M side of a window, W windows.
"""

from .layers import patches_backward, patches_forward
from .window import (
    bias_backward,
    bias_forward,
    from_windows,
    merge_patches,
    merge_patches_backward,
    shift_mask,
    to_windows,
)


def swin_forward(run, x):
    """run: Pass; x float32 [B, 3, H, W] -> logits [B, classes], cache"""
    config = run.config
    x, embed_cache = run.linear("patch_embed.proj", patches_forward(x, config.patch_size))
    x, embed_norm = run.layernorm("patch_embed.norm", x)
    side = config.stages[0][0]
    x = run.note("patch_embed", x.reshape(len(x), side, side, -1))
    caches = []
    for i, (_, _, _, _, depth) in enumerate(config.stages):
        merge_cache = None
        if i:
            x, merge_cache = merging_forward(run, f"layers.{i}.downsample", x)
        block_caches = []
        for j in range(depth):
            x, cache = block_forward(run, i, j, x)
            block_caches.append(cache if run.keep else None)
        caches.append((merge_cache, block_caches))
    x, norm_cache = run.layernorm("norm", x)
    x, pool_cache = run.global_pool(x)
    logits, head_cache = run.linear("head.fc", run.note("head.global_pool", x))
    return logits, (embed_cache, embed_norm, caches, norm_cache, pool_cache, head_cache)


def swin_backward(run, dlogits, cache):
    """-> dx [B, 3, H, W]; the gradients of the parameters are in run.grads"""
    embed_cache, embed_norm, caches, norm_cache, pool_cache, head_cache = cache
    dx = run.global_pool_backward(run.linear_backward(dlogits, head_cache), pool_cache)
    dx = run.layernorm_backward(dx, norm_cache)
    for i, (merge_cache, block_caches) in reversed(list(enumerate(caches))):
        for j, cache in reversed(list(enumerate(block_caches))):
            dx = block_backward(run, i, j, dx, cache)
        if i:
            dx = merging_backward(run, dx, merge_cache)
    dx = run.layernorm_backward(dx.reshape(len(dx), -1, dx.shape[-1]), embed_norm)
    dpatches = run.linear_backward(dx, embed_cache)
    return patches_backward(dpatches, run.config.patch_size, run.config.in_chans)


def block_forward(run, stage, block, x):
    """x + attn(norm1(x)) within (shifted) windows, then x + mlp(norm2(x)).  [B, S, S, C] -> [B, S, S, C]"""
    name = f"layers.{stage}.blocks.{block}"
    side, _, heads, m, _ = run.config.stages[stage]
    shift = run.config.shift(stage, block)
    h, norm1 = run.layernorm(f"{name}.norm1", x)
    bias = bias_forward(run.params[f"{name}.attn.relative_position_bias_table"], m)
    h, attn = run.attention(f"{name}.attn", to_windows(h, m, shift), heads, bias, shift_mask(side, m, shift))
    h, drop1 = run.drop_path(f"{name}.drop_path1", from_windows(h, m, shift, side))
    x = x + h
    h, norm2 = run.layernorm(f"{name}.norm2", x)
    h, mlp = run.mlp(f"{name}.mlp", h)
    h, drop2 = run.drop_path(f"{name}.drop_path2", h)
    return run.note(name, x + h), (norm1, attn, drop1, norm2, mlp, drop2)


def block_backward(run, stage, block, dx, cache):
    name = f"layers.{stage}.blocks.{block}"
    norm1, attn, drop1, norm2, mlp, drop2 = cache
    side, _, _, m, _ = run.config.stages[stage]
    shift = run.config.shift(stage, block)
    dx = run.add_injected(name, dx)
    dx = dx + run.layernorm_backward(run.mlp_backward(run.drop_path_backward(dx, drop2), mlp), norm2)
    dh = to_windows(run.drop_path_backward(dx, drop1), m, shift)
    dh, dbias = run.attention_backward(dh, attn)
    run.collect(f"{name}.attn.relative_position_bias_table", bias_backward(dbias, m))
    return dx + run.layernorm_backward(from_windows(dh, m, shift, side), norm1)


def merging_forward(run, name, x):
    """Four neighbours -> norm -> linear to half of their width.  [B, S, S, C] -> [B, S/2, S/2, 2 C]"""
    side = x.shape[1]
    x, norm = run.layernorm(f"{name}.norm", merge_patches(x))
    x, reduction = run.linear(f"{name}.reduction", x)
    return run.note(name, x), (norm, reduction, side)


def merging_backward(run, dy, cache):
    norm, reduction, side = cache
    dx = run.layernorm_backward(run.linear_backward(dy, reduction), norm)
    return merge_patches_backward(dx, side)
