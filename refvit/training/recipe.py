"""What a training run does, as a JSON file: model, stages, optimizer, augmentation, data. All of it frozen.

A recipe is one JSON object with the fields of ``Recipe``; what is left out takes the default. TerViT's progressive
training is three stages, float -> W8A8 -> W2A8, each starting from the latent weights of the one before
(arXiv 2201.08050); everything the paper does not tell (see the README) is a field here.
"""

import dataclasses
import json
from dataclasses import dataclass

from ..config import QuantConfig
from ..errors import BadInputError, UsageError
from ..files import read_bytes
from ..registry import model_config
from .augment import Augment
from .losses import LossConfig

SIZE_MAX = 1 << 20  # bytes of a recipe; our choice


@dataclass(frozen=True)
class Stage:
    """One stage of training.

    quant   QuantConfig, or None for float
    epochs  whole passes over the training pictures
    lr      peak learning rate; warmup_epochs of linear rise to it, then a cosine down to min_lr
    loss    LossConfig: distillation and the weights of its parts
    """

    name: str
    epochs: int
    lr: float
    quant: object = None
    warmup_epochs: int = 0
    min_lr: float = 0.0
    weight_decay: float = 0.05
    loss: LossConfig = LossConfig()

    def __post_init__(self):
        if not isinstance(self.name, str) or not self.name.isidentifier():
            raise UsageError("stage", "name", "letters, digits and _", repr(self.name))
        for field, low in (("epochs", 1), ("warmup_epochs", 0)):
            check_int(f"stage {self.name}", field, getattr(self, field), low)
        if self.warmup_epochs > self.epochs:
            raise UsageError(f"stage {self.name}", "warmup_epochs", f"at most epochs {self.epochs}", self.warmup_epochs)
        for field in ("lr", "min_lr", "weight_decay"):
            check_number(f"stage {self.name}", field, getattr(self, field), 0.0)
        if self.quant is not None and self.quant.act_scale == "static":
            raise UsageError(f"stage {self.name}", "act_scale", '"token" or "image" in training', '"static"')


@dataclass(frozen=True)
class Recipe:
    """A whole run.

    model       {"name": timm's name, further fields of its configuration}; num_classes comes from the
                data, but must be said (1000) where folders are wnids and some of ImageNet's classes are missing
    stages      tuple of Stage
    seed        of everything: weights, order, augmentation, stochastic depth
    init        checkpoint that the first stage starts from (another number of classes gets a new head), or None
    teacher     for distillation: a checkpoint, the name of an earlier stage of this recipe, or None
    optimizer   "adamw" or "lamb"; betas, eps, clip_norm (global, or None)
    batch_size  pictures of one forward; accumulate of them make one update
    ema_decay   of the averaged weights that are evaluated and passed on, or None
    drop_path   rate of stochastic depth of the last block, rising linearly from 0 at the first
    mean, std   normalisation of pixels, or None for the model's
    crop_pct    of the resized picture that evaluation crops (1.0 for small pictures), or None for the model's
    data_seed   of which pictures are held out and trained on; runs of several seeds share it
    pictures    size of the class-balanced subset of the training pictures, or None for all
    held_out    training pictures left out of training; each stage is measured on them at its end
    workers     processes that load and augment
    note        text for the reader: where the values come from
    """

    model: dict
    stages: tuple
    seed: int = 0
    init: object = None
    teacher: object = None
    optimizer: str = "adamw"
    betas: tuple = (0.9, 0.999)
    eps: float = 1e-8
    clip_norm: object = None
    batch_size: int = 64
    accumulate: int = 1
    ema_decay: object = None
    drop_path: float = 0.0
    augment: Augment = Augment()
    mean: object = None
    std: object = None
    crop_pct: object = None
    data_seed: int = 0
    pictures: object = None
    held_out: int = 0
    workers: int = 1
    note: str = ""

    def __post_init__(self):
        if not isinstance(self.model, dict) or "name" not in self.model:
            raise UsageError("recipe", "model", 'an object with a "name"', repr(self.model))
        model_config(**self.model)
        names = [stage.name for stage in self.stages]
        if not names or len(set(names)) != len(names):
            raise UsageError("recipe", "stages", "at least one, names all different", names)
        if self.optimizer not in ("adamw", "lamb"):
            raise UsageError("recipe", "optimizer", '"adamw" or "lamb"', repr(self.optimizer))
        least = {"seed": 0, "data_seed": 0, "batch_size": 1, "accumulate": 1, "held_out": 0, "workers": 0}
        for field, low in least.items():
            check_int("recipe", field, getattr(self, field), low)
        if not isinstance(self.note, str):
            raise UsageError("recipe", "note", "text", repr(self.note))
        if self.pictures is not None:
            check_int("recipe", "pictures", self.pictures, 1)
        check_number("recipe", "drop_path", self.drop_path, 0.0, 0.999)
        for field, low, high in (("clip_norm", 1e-30, 1e30), ("ema_decay", 0.0, 1.0)):
            if getattr(self, field) is not None:
                check_number("recipe", field, getattr(self, field), low, high)

    def to_dict(self):
        """The same as JSON values, every field."""
        return dataclasses.asdict(self)

    def only(self, names):
        """The same with some of its stages. Raises UsageError for an unknown name."""
        known = {stage.name: stage for stage in self.stages}
        for name in names:
            if name not in known:
                raise UsageError("recipe", "stage", f"one of {', '.join(known)}", repr(name))
        return dataclasses.replace(self, stages=tuple(known[name] for name in names))


def read_recipe(path):
    """Recipe from a JSON file. Raises BadInputError naming the file and the field."""
    text = read_bytes(path, SIZE_MAX)
    try:
        fields = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadInputError(path, f"not JSON: {error}") from None
    try:
        return recipe_from_dict(fields)
    except (UsageError, TypeError) as error:
        raise BadInputError(path, str(error)) from None


def recipe_from_dict(fields):
    """Recipe from JSON values. Raises UsageError."""
    stages = fields.get("stages") if isinstance(fields, dict) else None
    if not isinstance(stages, (list, tuple)):
        raise UsageError("recipe", "stages", "a list of objects", "none" if stages is None else repr(stages))
    stages = tuple(build(Stage, s, "stage", quant=QuantConfig, loss=LossConfig) for s in stages)
    return build(Recipe, {**fields, "stages": stages}, "recipe", augment=Augment)


def build(cls, fields, where, **nested):
    """A dataclass from JSON values; the fields in ``nested`` are objects of those classes, lists become tuples."""
    if not isinstance(fields, dict):
        raise UsageError(where, "value", "an object", repr(fields))
    known = {f.name: f for f in dataclasses.fields(cls)}
    for name in fields:
        if name not in known:
            raise UsageError(where, f"unknown field {name!r}", "one of " + ", ".join(known), repr(name))
    missing = [n for n, f in known.items() if f.default is dataclasses.MISSING and n not in fields]
    if missing:
        raise UsageError(where, "field", missing[0], "none")
    values = {n: tuple(v) if isinstance(v, list) else v for n, v in fields.items()}
    for name, inner in nested.items():
        if values.get(name) is not None:
            values[name] = build(inner, values[name], f"{where}: {name}")
    return cls(**values)


def check_int(where, field, value, low):
    if type(value) is not int or value < low:
        raise UsageError(where, field, f"an integer of at least {low}", repr(value))


def check_number(where, field, value, low, high=float("inf")):
    if type(value) not in (int, float) or not low <= value <= high or value == float("inf"):
        raise UsageError(where, field, f"a number from {low} to {high}", repr(value))
