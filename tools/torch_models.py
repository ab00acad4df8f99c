"""The float models in plain PyTorch, written from the definitions: what refvit's forward and backward are held to.

Needs torch. Parameters come as a dict under timm's names; they and the input share one dtype, float32 or float64.
Shapes: B images, T tokens, S side of a feature map, M side of a window, W windows of an image, H heads, C width.
"""

import torch
import torch.nn.functional as F


def forward(config, params, x, trace=None):
    """x [B, C, H, W] -> logits [B, classes]; ``trace``, a dict, receives every intermediate tensor, by refvit's names.

    Its windows are part of the batch, [B W, ..], where refvit has [B, W, ..].
    """
    return (vit if config.family == "vit" else swin)(config, params, x, trace)


def note(trace, path, value):
    if trace is not None:
        trace[path] = value
    return value


def vit(config, p, x, trace):
    x = F.conv2d(x, p["patch_embed.proj.weight"], p["patch_embed.proj.bias"], stride=config.patch_size)
    x = note(trace, "patch_embed", note(trace, "patch_embed.proj", x.flatten(2).transpose(1, 2)))
    prefix = [p[name].expand(len(x), -1, -1) for name in ("cls_token", "dist_token") if name in p]
    if config.no_embed_class:
        x = torch.cat([*prefix, x + p["pos_embed"]], dim=1)
    else:
        x = torch.cat([*prefix, x], dim=1) + p["pos_embed"]
    for i in range(config.depth):
        x = note(trace, f"blocks.{i}", vit_block(config, p, f"blocks.{i}", x, trace))
    x = norm(config, p, "norm", x, trace)
    logits = linear(p, "head", x[:, 0], trace)
    return (logits + linear(p, "head_dist", x[:, 1], trace)) / 2 if config.distilled else logits


def vit_block(config, p, name, x, trace):
    h = norm(config, p, f"{name}.norm1", x, trace)
    x = x + scaled(p, f"{name}.ls1", attention(p, f"{name}.attn", h, config.num_heads, trace=trace))
    h = norm(config, p, f"{name}.norm2", x, trace)
    return x + scaled(p, f"{name}.ls2", mlp(p, f"{name}.mlp", h, trace))


def swin(config, p, x, trace):
    x = F.conv2d(x, p["patch_embed.proj.weight"], p["patch_embed.proj.bias"], stride=config.patch_size)
    x = note(trace, "patch_embed.proj", x.permute(0, 2, 3, 1))
    x = note(trace, "patch_embed", norm(config, p, "patch_embed.norm", x, trace))
    for i, depth in enumerate(config.depths):
        if i:
            x = merging(config, p, f"layers.{i}.downsample", x, trace)
        for j in range(depth):
            name = f"layers.{i}.blocks.{j}"
            x = note(trace, name, swin_block(config, p, name, x, config.num_heads[i], j % 2 == 1, trace))
    x = norm(config, p, "norm", x, trace)
    return linear(p, "head.fc", note(trace, "head.global_pool", x.mean(dim=(1, 2))), trace)


def swin_block(config, p, name, x, heads, shifted, trace):
    side = x.shape[1]
    m = min(config.window_size, side)
    shift = config.window_size // 2 if shifted and side > config.window_size else 0
    windows = to_windows(norm(config, p, f"{name}.norm1", x, trace), m, shift)
    bias = position_bias(p[f"{name}.attn.relative_position_bias_table"], m)
    if shift:
        bias = bias + shift_mask(side, m, shift, x.dtype).repeat(len(x), 1, 1)[:, None]
    x = x + from_windows(attention(p, f"{name}.attn", windows, heads, bias, trace), m, shift, side)
    return x + mlp(p, f"{name}.mlp", norm(config, p, f"{name}.norm2", x, trace), trace)


def merging(config, p, name, x, trace):
    x = norm(config, p, f"{name}.norm", merge_patches(x), trace)
    return note(trace, name, linear(p, f"{name}.reduction", x, trace))


def attention(p, name, x, heads, bias=None, trace=None):
    """Softmax attention over the tokens of each row of the batch.  x [B, T, C], bias [.., H, T, T] -> [B, T, C]"""
    b, t, c = x.shape
    q, k, v = linear(p, f"{name}.qkv", x, trace).reshape(b, t, 3, heads, c // heads).permute(2, 0, 3, 1, 4)
    scores = q @ k.transpose(-2, -1) * (c // heads) ** -0.5
    if bias is not None:
        scores = scores + bias
    probabilities = note(trace, f"{name}.prob", F.softmax(note(trace, f"{name}.score", scores), dim=-1))
    x = note(trace, f"{name}.context", (probabilities @ v).transpose(1, 2).reshape(b, t, c))
    return linear(p, f"{name}.proj", x, trace)


def mlp(p, name, x, trace=None):
    x = note(trace, f"{name}.act", F.gelu(linear(p, f"{name}.fc1", x, trace)))
    return linear(p, f"{name}.fc2", x, trace)


def linear(p, name, x, trace=None):
    return note(trace, name, F.linear(x, p[f"{name}.weight"], p.get(f"{name}.bias")))


def norm(config, p, name, x, trace=None):
    weight, bias = p[f"{name}.weight"], p[f"{name}.bias"]
    return note(trace, name, F.layer_norm(x, x.shape[-1:], weight, bias, config.norm_eps))


def scaled(p, name, x):
    return x * p[f"{name}.gamma"] if f"{name}.gamma" in p else x


def to_windows(x, m, shift):
    """Pad bottom and right with zeros, roll, cut.  [B, S, S, C] -> [B W, M M, C]"""
    pad = -x.shape[1] % m
    x = torch.roll(F.pad(x, (0, 0, 0, pad, 0, pad)), (-shift, -shift), dims=(1, 2))
    rows = [x[:, i : i + m, j : j + m].flatten(1, 2) for i in range(0, x.shape[1], m) for j in range(0, x.shape[2], m)]
    return torch.stack(rows, dim=1).flatten(0, 1)


def from_windows(windows, m, shift, side):
    """The inverse of ``to_windows``.  [B W, M M, C] -> [B, S, S, C]"""
    n = -(-side // m)
    grid = windows.reshape(-1, n, n, m, m, windows.shape[-1])
    x = torch.cat([torch.cat(list(row.unbind(1)), dim=2) for row in grid.unbind(1)], dim=1)
    return torch.roll(x, (shift, shift), dims=(1, 2))[:, :side, :side]


def shift_mask(side, m, shift, dtype):
    """-100 between tokens that were not neighbours before the roll.  -> [W, M M, M M]"""
    padded = side + -side % m
    region = torch.zeros(1, padded, padded, 1)
    spans = (slice(0, -m), slice(-m, -shift), slice(-shift, None))
    for i, rows in enumerate(spans):
        for j, columns in enumerate(spans):
            region[:, rows, columns] = 3 * i + j
    region = to_windows(region, m, 0)[:, :, 0]
    return torch.where(region[:, :, None] == region[:, None, :], 0.0, -100.0).to(dtype)


def position_bias(table, m):
    """Row of the table for the offset between each pair of tokens.  [(2M - 1)^2, H] -> [H, M M, M M]"""
    return table[position_index(m)].permute(2, 0, 1)


def position_index(m):
    y, x = torch.meshgrid(torch.arange(m), torch.arange(m), indexing="ij")
    y, x = y.flatten(), x.flatten()
    return (y[:, None] - y[None, :] + m - 1) * (2 * m - 1) + (x[:, None] - x[None, :] + m - 1)


def merge_patches(x):
    """[B, S, S, C] -> [B, ceil(S/2), ceil(S/2), 4 C], odd maps padded with zeros"""
    odd = x.shape[1] % 2
    x = F.pad(x, (0, 0, 0, odd, 0, odd))
    return torch.cat([x[:, 0::2, 0::2], x[:, 1::2, 0::2], x[:, 0::2, 1::2], x[:, 1::2, 1::2]], dim=-1)
