"""Which model do these tensors belong to? Read off names (timm's) and shapes."""

import dataclasses
import math
import re
from dataclasses import dataclass

from .config import SwinConfig, ViTConfig
from .errors import BadInputError, blamed
from .names import nearest
from .registry import MODELS, model_config

STAGES_MAX = 16  # each halves the map
NOT_SHAPE = ("img_size", "in_chans", "num_classes", "norm_eps")  # may be others than those of the registered model


@dataclass(frozen=True)
class Hints:
    """What shapes cannot say; each may be None.

    name        timm's name, of the call or of config.json
    prefix      of the registered name where several have the same shapes: "vit_" rather than "deit_"
    num_heads   of a ViT
    img_size    of a Swin
    norm_eps    of every LayerNorm
    """

    name: object = None
    prefix: object = None
    num_heads: object = None
    img_size: object = None
    norm_eps: object = None


def recognise(where, shapes, hints=Hints()):
    """Configuration of a checkpoint.

    shapes  dict: timm name -> shape (tuple)
    Returns ViTConfig or SwinConfig, with the registered name where one fits; img_size is the file's own. Raises
    BadInputError where the tensors are of no such model or not of the named one, UsageError for a name that is not
    registered.
    """
    family = _family(where, shapes)
    fields = _vit_fields(where, shapes) if family == "vit" else _swin_fields(where, shapes)
    if hints.name is not None:
        config = _named(where, hints.name, family, fields)
    else:
        config = _unnamed(where, family, fields, hints)
    changes = {"norm_eps": hints.norm_eps, "img_size": hints.img_size if family == "swin" else None}
    changes = {field: value for field, value in changes.items() if value is not None}
    with blamed(where):
        return dataclasses.replace(config, num_classes=fields["num_classes"], **changes)


def _family(where, shapes):
    if any(re.match(r"layers\.\d+\.blocks\.", name) for name in shapes):
        return "swin"
    if any(re.match(r"blocks\.\d+\.attn\.", name) for name in shapes):
        return "vit"
    some = ", ".join(repr(name)[:60] for name in list(shapes)[:3]) or "no tensors"
    raise BadInputError(where, "not a ViT, DeiT or Swin classifier", "blocks.N.attn... or layers.N.blocks...", some)


def _vit_fields(where, shapes):
    width, chans, patch = _patch_embed(where, shapes)
    distilled = "dist_token" in shapes
    _, tokens, _ = _shape(where, shapes, "pos_embed", 3)
    prefix = 2 if distilled else 1
    no_embed_class = not _is_square(tokens - prefix)
    if no_embed_class and not _is_square(tokens):
        raise BadInputError(f"{where}: pos_embed", "tokens", f"a square number, or it and {prefix} more", tokens)
    depth = _count(shapes, r"blocks\.(\d{1,6})\.")
    hidden, _ = _shape(where, shapes, "blocks.0.mlp.fc1.weight", 2)
    classes, _ = _shape(where, shapes, "head.weight", 2)
    return {
        "img_size": math.isqrt(tokens if no_embed_class else tokens - prefix) * patch,
        "patch_size": patch,
        "in_chans": chans,
        "num_classes": classes,
        "embed_dim": width,
        "depth": depth,
        "mlp_ratio": _ratio(hidden, width),
        "distilled": distilled,
        "layer_scale": "blocks.0.ls1.gamma" in shapes,
        "no_embed_class": no_embed_class,
    }


def _swin_fields(where, shapes):
    width, chans, patch = _patch_embed(where, shapes)
    stages = range(_count(shapes, r"layers\.(\d{1,6})\.blocks\."))
    if len(stages) > STAGES_MAX:
        raise BadInputError(where, "stages of a Swin", f"at most {STAGES_MAX}", len(stages))
    tables = [f"layers.{i}.blocks.0.attn.relative_position_bias_table" for i in stages]
    rows, heads = zip(*(_shape(where, shapes, table, 2) for table in tables))
    for table, n in zip(tables, rows):
        if not _is_square(n) or n % 2 == 0:
            raise BadInputError(f"{where}: {table}", "rows", "(2 window - 1)^2", n)
    hidden, _ = _shape(where, shapes, "layers.0.blocks.0.mlp.fc1.weight", 2)
    classes, _ = _shape(where, shapes, "head.fc.weight", 2)
    return {
        "patch_size": patch,
        "in_chans": chans,
        "num_classes": classes,
        "embed_dim": width,
        "depths": tuple(_count(shapes, rf"layers\.{i}\.blocks\.(\d{{1,6}})\.") for i in stages),
        "num_heads": heads,
        "window_size": (math.isqrt(max(rows)) + 1) // 2,
        "mlp_ratio": _ratio(hidden, width),
    }


def _named(where, name, family, fields):
    """The registered model of this name, which the file must hold."""
    config = model_config(name)
    if config.family != family:
        raise BadInputError(where, f"does not hold {name}", config.family, family)
    for field, value in fields.items():
        wanted = getattr(config, field)
        if field not in ("num_classes", "img_size") and wanted != value:
            raise BadInputError(where, f"does not hold {name}: {field}", wanted, value)
    return dataclasses.replace(config, img_size=fields.get("img_size", config.img_size))


def _unnamed(where, family, fields, hints):
    """A registered model of the same shapes, else the same shapes under a name that tells them."""
    heads = fields.get("num_heads", hints.num_heads)
    found = {}
    for name, config in MODELS.items():
        if config.family == family and heads in (None, config.num_heads):
            if all(getattr(config, field) == value for field, value in fields.items() if field != "num_classes"):
                found[name] = config
    if found:
        order = [hints.prefix or "", "deit"]
        return found[min(found, key=lambda name: [not name.startswith(p) for p in order])]
    if family == "vit":
        fields = {**fields, "num_heads": heads or _usual_heads(where, fields["embed_dim"])}
    kind, start = (ViTConfig, {}) if family == "vit" else (SwinConfig, {"img_size": hints.img_size or 224})
    with blamed(where):
        config = kind(name=family, **{**start, **fields})
    return dataclasses.replace(config, name=_descriptive_name(config))


def shown_name(config):
    """Its registered name where it is that model, whatever its classes and pictures; else one that tells its shape."""
    registered = MODELS.get(config.name)
    if registered is None or registered.family == config.family and all(
        getattr(registered, field.name) == getattr(config, field.name)
        for field in dataclasses.fields(config)
        if field.name not in NOT_SHAPE
    ):
        return config.name
    return _descriptive_name(config)


def _descriptive_name(config):
    depths, heads = (("depth", "num_heads") if config.family == "vit" else ("depths", "num_heads"))
    depths, heads = ("-".join(str(n) for n in _tuple(getattr(config, f))) for f in (depths, heads))
    window = f"_window{config.window_size}" if config.family == "swin" else ""
    return f"{config.family}_d{config.embed_dim}_l{depths}_h{heads}_patch{config.patch_size}{window}_{config.img_size}"


def _usual_heads(where, width):
    """The number of heads leaves no trace in a ViT's shapes: it is a convention of the registered models."""
    usual = {config.embed_dim: config.num_heads for config in MODELS.values() if config.family == "vit"}
    if width not in usual:
        raise BadInputError(
            where,
            f"number of heads of a ViT of width {width}",
            f"one of the widths {sorted(usual)}",
            width,
            "a config.json beside the file with num_attention_heads",
        )
    return usual[width]


def _patch_embed(where, shapes):
    """(width, channels, patch size)"""
    name = "patch_embed.proj.weight"
    width, chans, rows, columns = _shape(where, shapes, name, 4)
    if rows != columns:
        raise BadInputError(f"{where}: {name}", "patch", "square", f"{rows} x {columns}")
    return width, chans, rows


def _shape(where, shapes, name, dimensions):
    """Shape of a tensor that must be there, of so many dimensions, none of them empty."""
    if name not in shapes:
        raise BadInputError(where, f"tensor missing: {name}{nearest(name, shapes)}")
    if len(shapes[name]) != dimensions or min(shapes[name]) < 1:
        raise BadInputError(f"{where}: {name}", "shape", f"{dimensions} dimensions >= 1", list(shapes[name]))
    return shapes[name]


def _count(shapes, pattern):
    """1 + the highest index that a name has; an index above the number of tensors is no sign of a deeper model."""
    found = (re.match(pattern, name) for name in shapes)
    return 1 + max((int(m[1]) for m in found if m and int(m[1]) < len(shapes)), default=0)


def _ratio(hidden, width):
    """mlp_ratio such that int(width * mlp_ratio) is ``hidden``."""
    ratio = hidden / width
    return ratio if int(width * ratio) == hidden else math.nextafter(ratio, math.inf)


def _is_square(n):
    return n > 0 and math.isqrt(n) ** 2 == n


def _tuple(value):
    return value if isinstance(value, tuple) else (value,)
