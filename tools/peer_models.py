"""DeiT and Swin as a PyTorch module that can be exported: static shapes, windows by views, tables and masks made once.

What the peers of ``refvit bench --peers`` run and export; torch_models.py, which is plainer, holds it to the truth.
Needs torch. Shapes: B images, T tokens, S side of a feature map, M side of a window, W windows, H heads, C width.
"""

import torch
import torch.nn.functional as F

from tools.torch_models import attention, linear, mlp, position_bias, scaled, shift_mask


class PeerModel(torch.nn.Module):
    """x [B, 3, H, W] -> logits [B, classes].  params: dict, timm name -> float32 tensor"""

    def __init__(self, config, params):
        super().__init__()
        self.config, self.names = config, list(params)
        self.tensors = torch.nn.ParameterList(torch.nn.Parameter(p, requires_grad=False) for p in params.values())
        self.biases = torch.nn.ParameterDict()
        if config.family == "swin":
            self.make_biases(params)

    def make_biases(self, params):
        """Position bias and mask of each block, added once.  [1 or W, H, M M, M M]"""
        for i, (side, _, _, m, depth) in enumerate(self.config.stages):
            for j in range(depth):
                table = params[f"layers.{i}.blocks.{j}.attn.relative_position_bias_table"]
                bias, shift = position_bias(table, m)[None], self.config.shift(i, j)
                if shift:
                    bias = bias + shift_mask(side, m, shift, bias.dtype)[:, None]
                self.biases[f"{i}_{j}"] = torch.nn.Parameter(bias, requires_grad=False)

    def forward(self, x):
        p = dict(zip(self.names, self.tensors))
        return (self.vit if self.config.family == "vit" else self.swin)(p, x)

    def vit(self, p, x):
        config = self.config
        x = F.conv2d(x, p["patch_embed.proj.weight"], p["patch_embed.proj.bias"], stride=config.patch_size)
        x = x.flatten(2).transpose(1, 2)
        prefix = [p[name].expand(len(x), -1, -1) for name in ("cls_token", "dist_token") if name in p]
        x = torch.cat([*prefix, x + p["pos_embed"]] if config.no_embed_class else [*prefix, x], dim=1)
        x = x if config.no_embed_class else x + p["pos_embed"]
        for i in range(config.depth):
            name = f"blocks.{i}"
            h = attention(p, f"{name}.attn", norm(config, p, f"{name}.norm1", x), config.num_heads)
            x = x + scaled(p, f"{name}.ls1", h)
            x = x + scaled(p, f"{name}.ls2", mlp(p, f"{name}.mlp", norm(config, p, f"{name}.norm2", x)))
        x = norm(config, p, "norm", x)
        logits = linear(p, "head", x[:, 0])
        return (logits + linear(p, "head_dist", x[:, 1])) / 2 if config.distilled else logits

    def swin(self, p, x):
        config = self.config
        x = F.conv2d(x, p["patch_embed.proj.weight"], p["patch_embed.proj.bias"], stride=config.patch_size)
        x = norm(config, p, "patch_embed.norm", x.permute(0, 2, 3, 1))
        for i, (side, _, heads, m, depth) in enumerate(config.stages):
            x = merging(config, p, f"layers.{i}.downsample", x, config.stages[i - 1][0]) if i else x
            for j in range(depth):
                name, shift = f"layers.{i}.blocks.{j}", config.shift(i, j)
                windows = to_windows(norm(config, p, f"{name}.norm1", x), m, shift, side)
                windows = attention(p, f"{name}.attn", windows, heads, self.tiled_bias(i, j, x, windows))
                x = x + from_windows(windows, m, shift, side)
                x = x + mlp(p, f"{name}.mlp", norm(config, p, f"{name}.norm2", x))
        return linear(p, "head.fc", norm(config, p, "norm", x).mean(dim=(1, 2)))

    def tiled_bias(self, stage, block, x, windows):
        """-> [B W, H, M M, M M], or with one row for all windows"""
        bias = self.biases[f"{stage}_{block}"]
        return bias if len(bias) == 1 else bias.repeat(x.shape[0], 1, 1, 1)


def norm(config, p, name, x):
    weight = p[f"{name}.weight"]
    return F.layer_norm(x, weight.shape, weight, p[f"{name}.bias"], config.norm_eps)


def merging(config, p, name, x, side):
    """Four neighbours -> norm -> linear to half of their width.  [B, S, S, C] -> [B, ceil(S/2), ceil(S/2), 2 C]"""
    x = F.pad(x, (0, 0, 0, 1, 0, 1)) if side % 2 else x
    x = torch.cat([x[:, 0::2, 0::2], x[:, 1::2, 0::2], x[:, 0::2, 1::2], x[:, 1::2, 1::2]], dim=-1)
    return linear(p, f"{name}.reduction", norm(config, p, f"{name}.norm", x))


def to_windows(x, m, shift, side):
    """Pad bottom and right with zeros, roll, cut.  [B, S, S, C] -> [B W, M M, C]"""
    pad, n = -side % m, -(-side // m)
    x = F.pad(x, (0, 0, 0, pad, 0, pad)) if pad else x
    x = torch.roll(x, (-shift, -shift), dims=(1, 2)) if shift else x
    x = x.reshape(-1, n, m, n, m, x.shape[-1])
    return x.transpose(2, 3).reshape(-1, m * m, x.shape[-1])


def from_windows(windows, m, shift, side):
    """The inverse of ``to_windows``.  [B W, M M, C] -> [B, S, S, C]"""
    n = -(-side // m)
    x = windows.reshape(-1, n, n, m, m, windows.shape[-1]).transpose(2, 3)
    x = x.reshape(-1, n * m, n * m, windows.shape[-1])
    x = torch.roll(x, (shift, shift), dims=(1, 2)) if shift else x
    return x if n * m == side else x[:, :side, :side]
