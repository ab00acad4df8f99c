"""What a model is: frozen configurations, exact parameter shapes under timm's names.

A configuration checks its own fields when it is made and raises UsageError for the first that cannot be.
"""

import dataclasses
from dataclasses import dataclass

from .errors import UsageError


@dataclass(frozen=True)
class ViTConfig:
    """ViT, DeiT and DeiT-III; field names are timm's.

    ``distilled`` adds a distillation token and a second head (DeiT, arXiv 2012.12877); ``layer_scale`` a learned
    gain per channel on each branch, ``no_embed_class`` position embeddings for patches alone (both DeiT-III,
    arXiv 2204.07118).
    """

    name: str
    img_size: int = 224
    patch_size: int = 16
    in_chans: int = 3
    num_classes: int = 1000
    embed_dim: int = 768
    depth: int = 12
    num_heads: int = 12
    mlp_ratio: float = 4.0
    distilled: bool = False
    layer_scale: bool = False
    no_embed_class: bool = False
    norm_eps: float = 1e-6

    family = "vit"

    def __post_init__(self):
        _check_types(self)
        _check_common(self, depths=(self.depth,), heads=(self.num_heads,))

    @property
    def num_patches(self):
        return (self.img_size // self.patch_size) ** 2

    @property
    def prefix_tokens(self):
        """Names of the tokens in front of the patches, in order; each has a head of ``head_names``."""
        return ("cls_token", "dist_token") if self.distilled else ("cls_token",)

    @property
    def head_names(self):
        return ("head", "head_dist") if self.distilled else ("head",)

    @property
    def num_prefix_tokens(self):
        return len(self.prefix_tokens)

    @property
    def num_tokens(self):
        return self.num_prefix_tokens + self.num_patches

    @property
    def hidden_dim(self):
        return int(self.embed_dim * self.mlp_ratio)

    def param_shapes(self):
        """timm name -> shape, in the order of execution."""
        d, h = self.embed_dim, self.hidden_dim
        positions = self.num_patches if self.no_embed_class else self.num_tokens
        shapes = {token: (1, 1, d) for token in self.prefix_tokens}
        shapes["pos_embed"] = (1, positions, d)
        shapes["patch_embed.proj.weight"] = (d, self.in_chans, self.patch_size, self.patch_size)
        shapes["patch_embed.proj.bias"] = (d,)
        for i in range(self.depth):
            block = _block_shapes(f"blocks.{i}", d, h)
            if self.layer_scale:
                block[f"blocks.{i}.ls1.gamma"] = block[f"blocks.{i}.ls2.gamma"] = (d,)
            shapes.update(block)
        shapes.update({"norm.weight": (d,), "norm.bias": (d,)})
        for head in self.head_names:
            shapes.update(_linear_shapes(head, self.num_classes, d))
        return shapes


@dataclass(frozen=True)
class SwinConfig:
    """Swin Transformer (arXiv 2103.14030); field names are timm's.

    A stage whose feature map is no larger than the window has one window of the map's size and no shift.
    """

    name: str
    img_size: int = 224
    patch_size: int = 4
    in_chans: int = 3
    num_classes: int = 1000
    embed_dim: int = 96
    depths: tuple = (2, 2, 6, 2)
    num_heads: tuple = (3, 6, 12, 24)
    window_size: int = 7
    mlp_ratio: float = 4.0
    norm_eps: float = 1e-5

    family = "swin"

    def __post_init__(self):
        for field in ("depths", "num_heads"):
            if isinstance(getattr(self, field), list):
                object.__setattr__(self, field, tuple(getattr(self, field)))
        _check_types(self)
        if len(self.depths) != len(self.num_heads):
            raise UsageError(self.name, "one head count a stage", len(self.depths), len(self.num_heads))
        if not 1 <= self.window_size <= _LIMITS["img_size"]:
            raise UsageError(self.name, "window_size", "at least 1", self.window_size)
        if len(self.depths) > 8:
            raise UsageError(self.name, "stages", "at most 8", len(self.depths))
        _check_common(self, depths=self.depths, heads=self.num_heads)
        if self.window_tables > WINDOW_TABLES_MAX:
            expected = f"at most {WINDOW_TABLES_MAX} entries"
            raise UsageError(self.name, "masks and biases of the windows", expected, self.window_tables)

    @property
    def window_tables(self):
        """Entries of what is derived for the windows: biases of every block, masks, and places of the tokens."""
        total = 0
        for side, _, heads, m, depth in self.stages:
            windows = (-(-side // m)) ** 2
            total += m**4 * (heads * depth + windows) + 2 * windows * m**2
        return total

    @property
    def stages(self):
        """(resolution, width, heads, window, depth) of each stage; odd maps are padded before they are halved."""
        size, rows = self.img_size // self.patch_size, []
        for i, (depth, heads) in enumerate(zip(self.depths, self.num_heads)):
            size = (size + 1) // 2 if i else size
            rows.append((size, self.embed_dim << i, heads, min(size, self.window_size), depth))
        return rows

    def shift(self, stage, block):
        """Every second block shifts its windows by half a window, unless one window is the whole map."""
        size, _, _, window, _ = self.stages[stage]
        return window // 2 if block % 2 and size > self.window_size else 0

    def param_shapes(self):
        """timm name -> shape, in the order of execution."""
        d = self.embed_dim
        shapes = {
            "patch_embed.proj.weight": (d, self.in_chans, self.patch_size, self.patch_size),
            "patch_embed.proj.bias": (d,),
            "patch_embed.norm.weight": (d,),
            "patch_embed.norm.bias": (d,),
        }
        for i, (_, d, heads, window, depth) in enumerate(self.stages):
            if i:
                shapes[f"layers.{i}.downsample.norm.weight"] = (2 * d,)
                shapes[f"layers.{i}.downsample.norm.bias"] = (2 * d,)
                shapes[f"layers.{i}.downsample.reduction.weight"] = (d, 2 * d)
            for j in range(depth):
                name = f"layers.{i}.blocks.{j}"
                shapes[f"{name}.attn.relative_position_bias_table"] = ((2 * window - 1) ** 2, heads)
                shapes.update(_block_shapes(name, d, int(d * self.mlp_ratio)))
        shapes.update({"norm.weight": (d,), "norm.bias": (d,)})
        shapes.update(_linear_shapes("head.fc", self.num_classes, d))
        return shapes


@dataclass(frozen=True)
class QuantConfig:
    """Every switch of quantization (the complete list); 32 bits mean float32.

    weight_bits   2 (ternary), 8 or 32 for the linears of the blocks and of patch merging; 32 leaves every weight float
    act_bits      2..8 or 32: inputs of those linears (patch embedding and head take 8 bits, or 32 where this is 32)
    granularity   "channel": a threshold and scale per output row (TerViT), "layer": one for the matrix
    threshold     Delta = threshold * mean|W| (TWN: 0.7), or "optimal": the exact least-squares threshold
    scale         "masked_mean": mean of |W| above Delta (TWN), "absolute_mean": mean of all |W|
    act_quantizer "symmetric" or "minmax" (both in TerViT's comparison)
    act_scale     "token", "image" or "static" (calibrated)
    attention     "int8": q, k, v and probabilities at 8 bit, "float": in float32
    patch_bits, head_bits   weight bits of the patch embedding and of the head: 2, 8 or 32 (8: second-hand, TerViT)
    ste_clip      None: the straight-through gradient is the identity; c: zero where |w| > c (TernaryBERT)
    """

    weight_bits: int = 2
    act_bits: int = 8
    granularity: str = "channel"
    threshold: object = 0.7
    scale: str = "masked_mean"
    act_quantizer: str = "symmetric"
    act_scale: str = "token"
    attention: str = "int8"
    patch_bits: int = 8
    head_bits: int = 8
    ste_clip: object = None

    def __post_init__(self):
        for field, allowed in _QUANT_CHOICES.items():
            value = getattr(self, field)
            if type(value) not in (int, str) or value not in allowed:
                raise UsageError("QuantConfig", field, f"one of {allowed}", repr(value))
        if self.threshold != "optimal":
            check_threshold(self.threshold)
        clip = self.ste_clip
        if clip is not None and (isinstance(clip, bool) or not isinstance(clip, (int, float)) or not clip > 0):
            raise UsageError("QuantConfig", "ste_clip", "None or a number above 0", repr(self.ste_clip))

    def layer_bits(self, role):
        """(weight bits, activation bits) of a linear by its role: "patch", "block" or "head"."""
        if role == "block":
            return self.weight_bits, self.act_bits
        bits = self.patch_bits if role == "patch" else self.head_bits
        return (32 if self.weight_bits == 32 else bits), (32 if self.act_bits == 32 else 8)


_QUANT_CHOICES = {
    "weight_bits": (2, 8, 32),
    "act_bits": (2, 3, 4, 5, 6, 7, 8, 32),
    "granularity": ("channel", "layer"),
    "scale": ("masked_mean", "absolute_mean"),
    "act_quantizer": ("symmetric", "minmax"),
    "act_scale": ("token", "image", "static"),
    "attention": ("int8", "float"),
    "patch_bits": (2, 8, 32),
    "head_bits": (2, 8, 32),
}


def check_threshold(threshold):
    """Raise UsageError unless ``threshold`` is a finite number >= 0."""
    ok = isinstance(threshold, (int, float)) and not isinstance(threshold, bool) and 0 <= threshold < float("inf")
    if not ok:
        raise UsageError("ternarize", "threshold", 'a number >= 0 or "optimal"', repr(threshold))


def linear_roles(config):
    """Name of each linear layer (without ``.weight``) -> its role, "patch", "block" or "head", in order."""
    roles = {}
    for name, shape in config.param_shapes().items():
        if name.endswith(".weight") and len(shape) > 1:
            layer = name[: -len(".weight")]
            roles[layer] = "patch" if layer == "patch_embed.proj" else "head" if layer.startswith("head") else "block"
    return roles


def middle_layer(config):
    """The first linear layer of the MLP in the middle block."""
    names = [name for name in linear_roles(config) if name.endswith(".mlp.fc1")]
    return names[len(names) // 2]


def param_count(config):
    """Number of parameters of a model."""
    total = 0
    for shape in config.param_shapes().values():
        size = 1
        for n in shape:
            size *= n
        total += size
    return total


def _linear_shapes(name, out, inp):
    return {f"{name}.weight": (out, inp), f"{name}.bias": (out,)}


def _block_shapes(name, d, hidden):
    return {
        f"{name}.norm1.weight": (d,),
        f"{name}.norm1.bias": (d,),
        **_linear_shapes(f"{name}.attn.qkv", 3 * d, d),
        **_linear_shapes(f"{name}.attn.proj", d, d),
        f"{name}.norm2.weight": (d,),
        f"{name}.norm2.bias": (d,),
        **_linear_shapes(f"{name}.mlp.fc1", hidden, d),
        **_linear_shapes(f"{name}.mlp.fc2", d, hidden),
    }


WINDOW_TABLES_MAX = 1 << 25  # our choice: 134 MB; Swin-B at 384 pixels has 10 million, a file could ask for 2^60
_LIMITS = {  # our choice; they keep a hostile file from asking for endless work
    "img_size": 8192,
    "patch_size": 1024,
    "in_chans": 1024,
    "num_classes": 1 << 20,
    "embed_dim": 1 << 16,
}
_DEPTH_LIMIT = 1024
_MLP_RATIO_LIMIT = 64


def _check_types(config):
    """Each field must have its declared type; an int will do for a float."""
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        accepted = (int, float) if field.type is float else (field.type,)
        if type(value) not in accepted:
            raise UsageError("configuration", field.name, field.type.__name__, repr(value))


def _check_common(config, depths, heads):
    """The sizes must be positive and divide one another where the architecture needs it."""
    for field, limit in _LIMITS.items():
        if not 1 <= getattr(config, field) <= limit:
            raise UsageError(config.name, field, f"1 to {limit}", getattr(config, field))
    if not all(type(n) is int and n >= 1 for n in (*depths, *heads)) or not 1 <= sum(depths) <= _DEPTH_LIMIT:
        raise UsageError(config.name, "depths and heads", f"integers >= 1, depth up to {_DEPTH_LIMIT}", (depths, heads))
    if config.img_size % config.patch_size:
        raise UsageError(config.name, "img_size", f"a multiple of patch_size {config.patch_size}", config.img_size)
    for i, n in enumerate(heads):
        if (config.embed_dim << i) % n:
            raise UsageError(config.name, "num_heads", f"a divisor of {config.embed_dim << i}", n)
    if not 0 < config.norm_eps < 1:
        raise UsageError(config.name, "norm_eps", "between 0 and 1", config.norm_eps)
    if not 1 <= config.embed_dim * config.mlp_ratio <= config.embed_dim * _MLP_RATIO_LIMIT:
        expected = f"a hidden width >= 1, ratio <= {_MLP_RATIO_LIMIT}"
        raise UsageError(config.name, "mlp_ratio", expected, config.mlp_ratio)


def config_to_dict(config):
    """The configuration as plain JSON values, the family included."""
    return {"family": config.family, **dataclasses.asdict(config)}


def config_from_dict(fields):
    """The inverse of ``config_to_dict``, strict. Raises UsageError for anything odd."""
    families = {"vit": ViTConfig, "swin": SwinConfig}
    family = fields.get("family") if isinstance(fields, dict) else None
    if not isinstance(family, str) or family not in families:
        raise UsageError("configuration", "family", '"vit" or "swin"', repr(family))
    return dataclass_from_dict(families[family], {k: v for k, v in fields.items() if k != "family"})


def dataclass_from_dict(cls, fields):
    """An instance with exactly these fields. Raises UsageError for missing, unknown or odd ones."""
    names = {f.name for f in dataclasses.fields(cls)}
    if not isinstance(fields, dict) or set(fields) != names:
        odd = sorted(names ^ set(fields)) if isinstance(fields, dict) else type(fields).__name__
        raise UsageError(cls.__name__, "fields", "exactly " + ", ".join(sorted(names)), f"difference {odd}")
    return cls(**fields)
