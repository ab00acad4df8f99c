"""Narrow models and their parameters under everybody's names."""

import numpy as np

from refvit.config import SwinConfig, ViTConfig

VIT = ViTConfig("vit", img_size=24, patch_size=8, num_classes=5, embed_dim=12, depth=2, num_heads=3, mlp_ratio=2.0)
SWIN = SwinConfig("swin", img_size=32, patch_size=2, num_classes=5, embed_dim=8, depths=(2, 2), num_heads=(2, 4),
                  window_size=4)  # fmt: skip


def random_params(config, seed=0):
    rng = np.random.default_rng(seed)
    return {name: rng.standard_normal(shape, np.float32) for name, shape in config.param_shapes().items()}


def hugging_face(params, modules=False, classifiers=("classifier", "")):
    """Names of Hugging Face's files, or of transformers 5's modules; prefix and classifiers by the family."""
    swin = "patch_embed.norm.weight" in params
    prefix = "swin." if swin else "deit." if "dist_token" in params else "vit."
    renamed = {}
    for name, array in params.items():
        if name.startswith("head_dist."):
            renamed[name.replace("head_dist", classifiers[1])] = array
        elif name.startswith("head."):
            renamed[classifiers[0] + "." + name.split(".")[-1]] = array
        elif ".qkv." in name:
            for part, rows in zip(("query", "key", "value"), np.split(array, 3)):
                new = "attention.{}_proj".format(part[0]) if modules else _attention(swin) + part
                renamed[prefix + _layer(name, modules).replace("attn.qkv", new)] = rows
        else:
            renamed[prefix + _rename(name, swin, modules)] = array
    return renamed


def _attention(swin):
    return "attention.self." if swin else "attention.attention."


def _layer(name, modules):
    stage, dot, rest = name.partition(".downsample.")
    if dot:  # timm: the start of a stage; Hugging Face: the end of the one before
        return f"encoder.layers.{int(stage.split('.')[1]) - 1}.downsample.{rest}"
    if name.startswith("layers."):
        return "encoder." + name
    return name.replace("blocks.", "layers." if modules else "encoder.layer.")


def _rename(name, swin, modules):
    table = "relative_position_bias_table"
    common = {
        "cls_token": "embeddings.cls_token",
        "dist_token": "embeddings.distillation_token",
        "pos_embed": "embeddings.position_embeddings",
        "patch_embed.proj.": "embeddings.patch_embeddings.projection.",
        "patch_embed.norm.": "embeddings.norm.",
        ".norm1.": ".layernorm_before.",
        ".norm2.": ".layernorm_after.",
        f"attn.{table}": f"attention.relative_position_bias.{table}" if modules else f"attention.self.{table}",
        "attn.proj.": "attention.o_proj." if modules else "attention.output.dense.",
        "mlp.fc1.": "mlp.fc1." if modules else "intermediate.dense.",
        "mlp.fc2.": "mlp.fc2." if modules else "output.dense.",
    }
    if name.startswith("norm."):
        return "layernorm." + name[len("norm.") :]
    name = _layer(name, modules)
    for old, new in common.items():
        name = name.replace(old, new)
    return name


def microsoft(params):
    """Names of Microsoft's Swin, with the buffers its files hold."""
    renamed = {}
    for name, array in params.items():
        stage, dot, rest = name.partition(".downsample.")
        if dot:
            name = f"layers.{int(stage.split('.')[1]) - 1}.downsample.{rest}"
        renamed[name.replace("head.fc.", "head.")] = array
    block = "layers.0.blocks.1"
    renamed[f"{block}.attn.relative_position_index"] = np.zeros((16, 16), np.int64)
    renamed[f"{block}.attn_mask"] = np.zeros((4, 16, 16), np.float32)
    return renamed
