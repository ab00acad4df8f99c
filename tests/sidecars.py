"""config.json as Hugging Face and timm write it."""

import json


def write_json(path, values):
    path.write_text(json.dumps(values), encoding="utf-8")


def hf_config(config, **changes):
    """Hugging Face's for a ViTConfig or SwinConfig."""
    labels = {str(i): f"class {i}" for i in range(config.num_classes)}
    values = {"image_size": config.img_size, "patch_size": config.patch_size, "id2label": labels, "hidden_act": "gelu"}
    if config.family == "swin":
        values |= {"model_type": "swin", "num_heads": list(config.num_heads), "depths": list(config.depths)}
    else:
        values |= {"model_type": "deit" if config.distilled else "vit", "num_attention_heads": config.num_heads}
    return values | changes


def timm_config(architecture, **changes):
    """timm's, as its files on the hub have it."""
    cfg = {"input_size": [3, 224, 224], "interpolation": "bicubic", "crop_pct": 0.9, "crop_mode": "center",
           "mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25], **changes}  # fmt: skip
    return {"architecture": architecture, "num_classes": 1000, "pretrained_cfg": cfg}
