"""The models that have a name: timm's names, and their configurations."""

import dataclasses
import difflib

from .config import SwinConfig, ViTConfig
from .errors import UsageError

_VIT_SIZES = {"tiny": (192, 3), "small": (384, 6), "base": (768, 12)}  # embed_dim, num_heads
_SWIN_SIZES = {  # embed_dim, depths, num_heads
    "tiny": (96, (2, 2, 6, 2), (3, 6, 12, 24)),
    "small": (96, (2, 2, 18, 2), (3, 6, 12, 24)),
    "base": (128, (2, 2, 18, 2), (4, 8, 16, 32)),
}


def _registry():
    models = {}
    for size, (dim, heads) in _VIT_SIZES.items():
        for img in (224, 384):
            for name, switches in (
                (f"vit_{size}_patch16_{img}", {}),
                (f"deit_{size}_patch16_{img}", {}),
                (f"deit_{size}_distilled_patch16_{img}", {"distilled": True}),
                (f"deit3_{size}_patch16_{img}", {"layer_scale": True, "no_embed_class": True}),
            ):
                models[name] = ViTConfig(name, img_size=img, embed_dim=dim, num_heads=heads, **switches)
    for size, (dim, depths, heads) in _SWIN_SIZES.items():
        name = f"swin_{size}_patch4_window7_224"
        models[name] = SwinConfig(name, embed_dim=dim, depths=depths, num_heads=heads)
    return models


MODELS = _registry()  # timm name -> configuration


def model_config(name, **overrides):
    """Configuration of a registered model, fields replaced by keyword. UsageError for unknown names and fields."""
    if name not in MODELS:
        near = difflib.get_close_matches(str(name), MODELS, 3, 0)
        raise UsageError("model name", "unknown", "a registered name", repr(name), ", ".join(near))
    fields = {f.name for f in dataclasses.fields(MODELS[name])}
    for key in overrides:
        if key not in fields:
            raise UsageError(name, f"unknown field {key!r}", "one of " + ", ".join(sorted(fields)), key)
    return dataclasses.replace(MODELS[name], **overrides)
