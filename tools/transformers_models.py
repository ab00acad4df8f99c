"""The same parameters in Hugging Face's models: a second, independent reference beside torch_models.py.

Needs torch and transformers.
"""

import transformers

IN_BLOCK = {  # timm's name inside a block -> transformers'; q, k and v are split besides
    "norm1": "layernorm_before",
    "norm2": "layernorm_after",
    "attn.proj": "attention.o_proj",
    "attn.relative_position_bias_table": "attention.relative_position_bias.relative_position_bias_table",
}
OUTSIDE = {
    "cls_token": "embeddings.cls_token",
    "dist_token": "embeddings.distillation_token",
    "pos_embed": "embeddings.position_embeddings",
    "patch_embed.proj": "embeddings.patch_embeddings.projection",
    "patch_embed.norm": "embeddings.norm",
    "norm": "layernorm",
}


def supports(config):
    """transformers has no DeiT-III; its Swin no map below the window, and two norms whose epsilon is always 1e-5."""
    if config.family == "vit":
        return not config.layer_scale and not config.no_embed_class
    return min(side for side, *_ in config.stages) >= config.window_size and config.norm_eps == 1e-5


def build(config, params):
    """transformers' model with ``params``, torch tensors under timm's names, in their dtype."""
    model = {"vit": vit_model, "swin": swin_model}[config.family](config)
    state = {}
    for name, value in params.items():
        module, _, kind = name.rpartition(".")
        if module.endswith(".attn.qkv"):
            block = rename(config, module.removesuffix(".attn.qkv"))
            for part, third in zip("qkv", value.chunk(3)):
                state[f"{block}.attention.{part}_proj.{kind}"] = third
        elif kind in ("weight", "bias"):
            state[f"{rename(config, module)}.{kind}"] = value
        else:
            state[rename(config, name)] = value
    model.load_state_dict(state, strict=True)
    return model.to(next(iter(params.values())).dtype).eval()


def vit_model(config):
    settings = dict(
        image_size=config.img_size,
        patch_size=config.patch_size,
        num_channels=config.in_chans,
        num_labels=config.num_classes,
        hidden_size=config.embed_dim,
        num_hidden_layers=config.depth,
        num_attention_heads=config.num_heads,
        intermediate_size=config.hidden_dim,
        layer_norm_eps=config.norm_eps,
    )
    if config.distilled:
        return transformers.DeiTForImageClassificationWithTeacher(transformers.DeiTConfig(**settings))
    return transformers.ViTForImageClassification(transformers.ViTConfig(**settings))


def swin_model(config):
    settings = transformers.SwinConfig(
        image_size=config.img_size,
        patch_size=config.patch_size,
        num_channels=config.in_chans,
        num_labels=config.num_classes,
        embed_dim=config.embed_dim,
        depths=list(config.depths),
        num_heads=list(config.num_heads),
        window_size=config.window_size,
        mlp_ratio=config.mlp_ratio,
    )
    return transformers.SwinForImageClassification(settings)


def rename(config, path):
    """timm's path of a module or a lone parameter -> transformers'."""
    distilled = config.family == "vit" and config.distilled
    if path.startswith("head"):
        heads = {"head": "cls_classifier", "head_dist": "distillation_classifier"} if distilled else {}
        return heads.get(path, "classifier")
    base = "deit" if distilled else config.family
    if path in OUTSIDE:
        return f"{base}.{OUTSIDE[path]}"
    words = path.split(".")
    if words[0] == "blocks":
        stem, inside = f"{base}.layers.{words[1]}", words[2:]
    elif words[2] == "downsample":  # timm puts merging before a stage, transformers after the one before
        stem, inside = f"{base}.encoder.layers.{int(words[1]) - 1}.downsample", words[3:]
    else:
        stem, inside = f"{base}.encoder.layers.{words[1]}.blocks.{words[3]}", words[4:]
    inner = ".".join(inside)
    return ".".join(filter(None, (stem, IN_BLOCK.get(inner, inner))))


def trace(config, model, x, paths):
    """Logits, and the outputs of the modules at timm's ``paths``.  -> logits [B, classes], dict: path -> tensor"""
    outputs, handles = {}, []
    for path in paths:
        module = model.get_submodule(rename(config, path))
        handles.append(module.register_forward_hook(lambda _, __, out, path=path: outputs.update({path: first(out)})))
    logits = model(x).logits
    for handle in handles:
        handle.remove()
    return logits, outputs


def first(output):
    return output[0] if isinstance(output, tuple) else output
