"""Picture -> the model's input: resize, centre crop, normalise (N12). The configuration travels with the model.

Three habits in the wild, all bicubic and all with a centre crop of ``img_size``:
    facebook  shortest edge to img_size / 0.875 (224: 256), as DeiT's evaluation
    timm      shortest edge to img_size / crop_pct (224 and 0.9: 248)
    squash    both edges to img_size / 0.875, whatever the aspect ratio, as Hugging Face's DeiT
Shapes: B pictures, H rows, W columns.
"""

import dataclasses
from dataclasses import dataclass

import numpy as np
from PIL import Image

from .errors import BadInputError, UsageError, blamed
from .pictures import MAX_PIXELS, load_rgb, picture_name

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
HALF = (0.5, 0.5, 0.5)
CROP_PCT = {"facebook": 0.875, "timm": 0.9, "squash": 0.875}  # crop / edge, each mode's usual one
MAX_EDGE = 8192  # our choice: of the resized picture's shortest edge
F32_MAX = float(np.finfo(np.float32).max)
f32 = np.float32


@dataclass(frozen=True)
class PreprocessConfig:
    """How pictures become inputs. Raises UsageError for values that cannot be.

    mode      "facebook", "timm" or "squash"
    img_size  edge of the centre crop, pixels
    resize    edge after resizing, pixels, at least img_size so that the crop needs no padding
    mean, std of each channel R, G, B, in units of the full scale; used as float32
    """

    mode: str = "facebook"
    img_size: int = 224
    resize: int = 256
    mean: tuple = IMAGENET_MEAN
    std: tuple = IMAGENET_STD

    def __post_init__(self):
        if self.mode not in tuple(CROP_PCT):
            raise UsageError("preprocess", "mode", f"one of {', '.join(CROP_PCT)}", repr(self.mode))
        if not _is_int(self.img_size) or not 1 <= self.img_size <= MAX_EDGE:
            raise UsageError("preprocess", "img_size", f"an integer in 1..{MAX_EDGE}", repr(self.img_size))
        if not _is_int(self.resize) or not self.img_size <= self.resize <= MAX_EDGE:
            raise UsageError("preprocess", "resize", f"an integer in {self.img_size}..{MAX_EDGE}", repr(self.resize))
        for field in ("mean", "std"):
            object.__setattr__(self, field, _channels(field, getattr(self, field)))
        if not np.isfinite(pixel_values(self)).all():
            raise UsageError("preprocess", "std", "numbers that keep (pixel - mean) / std finite", self.std)

    def to_dict(self):
        """The same as JSON values."""
        return {**dataclasses.asdict(self), "mean": list(self.mean), "std": list(self.std)}

    @classmethod
    def from_dict(cls, values, where="preprocess"):
        """The inverse of ``to_dict``. Raises BadInputError, naming the file ``where``, unless it is exactly that."""
        fields = [f.name for f in dataclasses.fields(cls)]
        if not isinstance(values, dict) or set(values) != set(fields):
            got = list(values) if isinstance(values, dict) else repr(values)
            raise BadInputError(where, "preprocessing", f"an object with the keys {fields}", got)
        with blamed(f"{where}: preprocessing"):
            return cls(**values)


def make_preprocess(mode, img_size, crop_pct=None, mean=IMAGENET_MEAN, std=IMAGENET_STD):
    """Configuration whose ``resize`` is floor(img_size / crop_pct), as both DeiT and timm round it.

    ``crop_pct`` in (0, 1]; None takes the mode's usual one. Raises UsageError.
    """
    if mode not in tuple(CROP_PCT):
        raise UsageError("preprocess", "mode", f"one of {', '.join(CROP_PCT)}", repr(mode))
    crop_pct = CROP_PCT[mode] if crop_pct is None else crop_pct
    if not _is_number(crop_pct) or not 0 < crop_pct <= 1:
        raise UsageError("preprocess", "crop_pct", "a number above 0, at most 1", repr(crop_pct))
    if not _is_int(img_size) or not img_size <= MAX_EDGE * crop_pct:
        raise UsageError("preprocess", "img_size", f"an integer of at most {MAX_EDGE} x crop_pct", repr(img_size))
    return PreprocessConfig(mode, img_size, int(img_size / crop_pct), mean, std)


def default_preprocess(config):
    """What the published weights of a model were evaluated with, by its name; unknown names are taken as DeiT's."""
    name, size = config.name, config.img_size
    mean, std = (HALF, HALF) if name.startswith("vit_") else (IMAGENET_MEAN, IMAGENET_STD)
    if name.startswith("deit3_") or name.endswith("_384"):
        return make_preprocess("timm", size, 1.0, mean, std)
    mode = "timm" if name.startswith(("vit_", "swin_")) else "facebook"
    return make_preprocess(mode, size, None, mean, std)


def resized_size(size, cfg):
    """(width, height) of a picture -> after resizing, rounded as torchvision does.

    The long edge is truncated: int(resize * long / short); integer division gives the same without float.
    """
    if cfg.mode == "squash":
        return cfg.resize, cfg.resize
    short = min(size)
    return tuple(cfg.resize * edge // short for edge in size)


def crop(picture, cfg):
    """Decode, resize, centre crop: a path, bytes or file object -> uint8 (img_size, img_size, 3) RGB.

    The crop starts at int(round((edge - img_size) / 2)), half to even, as torchvision's. Raises as ``load_rgb``, and
    BadInputError for a picture so narrow that it would exceed MAX_PIXELS while it is resized.
    """
    image = load_rgb(picture)
    width, height = resized_size(image.size, cfg)
    if width * max(height, image.height) > MAX_PIXELS:
        raise BadInputError(picture_name(picture), "too narrow to resize", f"at most {MAX_PIXELS} pixels on the way",
                            f"{image.width} x {image.height} to {width} x {height}")
    # Two passes, columns before rows, each rounded and clipped: Pillow before 13 does so in one call, 13 may swap them
    image = image.resize((width, image.height), Image.Resampling.BICUBIC)
    image = image.resize((width, height), Image.Resampling.BICUBIC)
    left, top = (round((edge - cfg.img_size) / 2) for edge in (width, height))
    return np.array(image.crop((left, top, left + cfg.img_size, top + cfg.img_size)))


def normalise(u8, cfg):
    """pixel = f32(f32(f32(f32(u8) / 255) - mean) / std) (N12).

    uint8 (H, W, 3) or (B, H, W, 3) RGB -> float32 (1 or B, 3, H, W). Raises BadInputError for another array.
    """
    u8 = check_pixels(u8)
    return np.stack([values[u8[..., i]] for i, values in enumerate(pixel_values(cfg))], axis=1)


def check_pixels(u8):
    """``u8`` as (B, H, W, 3). Raises BadInputError unless it is uint8 (H, W, 3) or (B, H, W, 3)."""
    if not isinstance(u8, np.ndarray) or u8.dtype != np.uint8 or u8.ndim not in (3, 4) or u8.shape[-1] != 3:
        got = f"{u8.dtype} {u8.shape}" if isinstance(u8, np.ndarray) else type(u8).__name__
        raise BadInputError("normalise", "pixels", "uint8 (B, H, W, 3) or (H, W, 3)", got)
    return u8.reshape(-1, *u8.shape[-3:])


def pixel_values(cfg):
    """What each value of a pixel becomes in each channel (N12).  -> float32 (3, 256)"""
    levels = np.arange(256, dtype=f32) / f32(255)
    with np.errstate(all="ignore"):  # a std that is too small is refused by the configuration
        mean, std = (np.array(values, dtype=f32)[:, None] for values in (cfg.mean, cfg.std))
        return (levels - mean) / std


def _channels(field, values):
    if not isinstance(values, (list, tuple)) or len(values) != 3 or not all(_is_number(v) for v in values):
        raise UsageError("preprocess", field, "three numbers", repr(values))
    if field == "std" and min(values) <= 0:
        raise UsageError("preprocess", field, "numbers above 0", repr(values))
    return tuple(float(v) for v in values)


def _is_int(value):
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value):
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) <= F32_MAX
