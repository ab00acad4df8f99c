"""ViT, DeiT and DeiT-III, forward and backward (arXiv 2010.11929, 2012.12877, 2204.07118), as timm names them.

Shapes: B images, N patches, T tokens (N and the prefix: class token, distillation token), C width.
"""

import numpy as np

from .layers import patches_backward, patches_forward


def vit_forward(run, x):
    """run: Pass; x float32 [B, 3, H, W] -> logits [B, classes], cache"""
    config = run.config
    patches = patches_forward(x, config.patch_size)
    x, embed_cache = run.linear("patch_embed.proj", patches)
    x = add_tokens_forward(run, run.note("patch_embed", x))
    caches = []
    for i in range(config.depth):
        x, cache = block_forward(run, f"blocks.{i}", x)
        caches.append(cache if run.keep else None)
    x, norm_cache = run.layernorm("norm", x)
    logits, head_caches = heads_forward(run, x)
    return logits, (embed_cache, caches, norm_cache, head_caches, x.shape)


def vit_backward(run, dlogits, cache):
    """-> dx [B, 3, H, W]; the gradients of the parameters are in run.grads"""
    embed_cache, caches, norm_cache, head_caches, shape = cache
    dx = heads_backward(run, dlogits, head_caches, shape)
    dx = run.layernorm_backward(dx, norm_cache)
    for cache in reversed(caches):
        dx = block_backward(run, dx, cache)
    dpatches = run.linear_backward(add_tokens_backward(run, dx), embed_cache)
    return patches_backward(dpatches, run.config.patch_size, run.config.in_chans)


def add_tokens_forward(run, x):
    """Put the class token (and the distillation token) in front and add the position embedding.  [B, N, C] -> [B, T, C]

    DeiT-III (no_embed_class) has position embeddings for the patches alone.
    """
    prefix = [np.broadcast_to(run.params[t], (len(x), *run.params[t].shape[1:])) for t in run.config.prefix_tokens]
    pos_embed = run.params["pos_embed"]
    if run.config.no_embed_class:
        return np.concatenate([*prefix, x + pos_embed], axis=1)
    return np.concatenate([*prefix, x], axis=1) + pos_embed


def add_tokens_backward(run, dx):
    """[B, T, C] -> [B, N, C]"""
    tokens = run.config.prefix_tokens
    dpatches = dx[:, len(tokens) :]
    run.collect("pos_embed", (dpatches if run.config.no_embed_class else dx).sum(axis=0, keepdims=True))
    for i, token in enumerate(tokens):
        run.collect(token, dx[:, i : i + 1].sum(axis=0, keepdims=True))
    return dpatches


def block_forward(run, name, x):
    """x + ls1(attn(norm1(x))), then x + ls2(mlp(norm2(x))).  [B, T, C] -> [B, T, C]"""
    h, norm1 = run.layernorm(f"{name}.norm1", x)
    h, attn = run.attention(f"{name}.attn", h[:, None], run.config.num_heads)  # one window
    h, ls1 = run.layer_scale(f"{name}.ls1", h[:, 0])
    h, drop1 = run.drop_path(f"{name}.drop_path1", h)
    x = x + h
    h, norm2 = run.layernorm(f"{name}.norm2", x)
    h, mlp = run.mlp(f"{name}.mlp", h)
    h, ls2 = run.layer_scale(f"{name}.ls2", h)
    h, drop2 = run.drop_path(f"{name}.drop_path2", h)
    return run.note(name, x + h), (name, norm1, attn, ls1, drop1, norm2, mlp, ls2, drop2)


def block_backward(run, dx, cache):
    name, norm1, attn, ls1, drop1, norm2, mlp, ls2, drop2 = cache
    dx = run.add_injected(name, dx)
    dh = run.layer_scale_backward(run.drop_path_backward(dx, drop2), ls2)
    dx = dx + run.layernorm_backward(run.mlp_backward(dh, mlp), norm2)
    dh = run.layer_scale_backward(run.drop_path_backward(dx, drop1), ls1)
    dh, _ = run.attention_backward(dh[:, None], attn)
    return dx + run.layernorm_backward(dh[:, 0], norm1)


def heads_forward(run, x):
    """The head on the class token; with distillation the mean of both heads (N11).  [B, T, C] -> [B, classes]"""
    logits, head_cache = run.linear("head", x[:, 0])
    if not run.config.distilled:
        return logits, (head_cache,)
    logits_dist, dist_cache = run.linear("head_dist", x[:, 1])
    return (logits + logits_dist) * 0.5, (head_cache, dist_cache)


def heads_backward(run, dlogits, caches, shape):
    """-> gradient of the normed tokens [B, T, C]"""
    dx = np.zeros(shape, dlogits.dtype)
    for i, (name, cache) in enumerate(zip(run.config.head_names, caches)):
        dx[:, i] = run.linear_backward(run.add_injected(name, dlogits / len(caches)), cache)
    return dx
