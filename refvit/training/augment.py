"""Augmentation: pure functions of pictures and an explicit numpy Generator.

Order, as in timm: crop -> flip -> colour jitter (uint8 pictures) -> normalise -> random erasing -> mixup or cutmix
(float32 batch). The draws of a batch come from one generator, picture after picture, in that order.
Shapes: B pictures, H rows, W columns, S edge of the model's input, C classes.
"""

import math
from dataclasses import dataclass

import numpy as np
from PIL import Image

from ..errors import BadInputError, UsageError
from .losses import make_targets

GREY = np.array([0.2989, 0.587, 0.114], np.float32)  # torchvision's weights of R, G, B
CROP_ATTEMPTS = ERASE_ATTEMPTS = 10  # torchvision's and timm's
ERASE_AREA = (0.02, 1 / 3)  # of the picture; this and the next are timm's, which DeiT uses
ERASE_ASPECT = (0.3, 1 / 0.3)


@dataclass(frozen=True)
class Augment:
    """The switches; defaults are DeiT's (arXiv 2012.12877, table 9, and its released main.py).

    crop          "resized": random resized crop, bicubic; "padded": random crop of the picture with ``padding`` zero
                  pixels around it (DeiT's for pictures of 32x32)
    scale, ratio  of the resized crop: area as a part of the picture's, width / height
    flip          probability of a horizontal flip
    color_jitter  brightness, contrast and saturation factors in [1 - c, 1 + c]; DeiT's 0.4, which its RandAugment
                  (not built here) displaces there
    erasing       probability of random erasing, by noise of deviation 1 a pixel ("pixel" mode)
    mixup, cutmix alpha of Beta(alpha, alpha), 0: off
    mix_prob      probability that a batch is mixed; switch_prob: that by cutmix, where both are on
    smoothing     of the targets
    """

    crop: str = "resized"
    scale: tuple = (0.08, 1.0)
    ratio: tuple = (3 / 4, 4 / 3)
    padding: int = 4
    flip: float = 0.5
    color_jitter: float = 0.4
    erasing: float = 0.25
    mixup: float = 0.8
    cutmix: float = 1.0
    mix_prob: float = 1.0
    switch_prob: float = 0.5
    smoothing: float = 0.1

    def __post_init__(self):
        if self.crop not in ("resized", "padded"):
            raise UsageError("augment", "crop", '"resized" or "padded"', repr(self.crop))
        for field, low, high in (("scale", 1e-6, 1.0), ("ratio", 0.01, 100.0)):
            _check_range(field, getattr(self, field), low, high)
        if type(self.padding) is not int or not 0 <= self.padding <= 1024:
            raise UsageError("augment", "padding", "an integer in 0..1024", repr(self.padding))
        for field in ("flip", "erasing", "mix_prob", "switch_prob", "smoothing"):
            _check_number(field, getattr(self, field), 1.0)
        for field, high in (("color_jitter", 1.0), ("mixup", 100.0), ("cutmix", 100.0)):
            _check_number(field, getattr(self, field), high)


def train_pictures(pictures, size, cfg, rng):
    """Crop, flip and colour jitter.  sequence of uint8 [H, W, 3], or uint8 [B, H, W, 3] -> uint8 [B, S, S, 3]"""
    crops = [_crop(picture, size, cfg, rng) for picture in pictures]
    batch = random_flip(np.stack(crops), cfg.flip, rng)
    return color_jitter(batch, cfg.color_jitter, rng) if cfg.color_jitter else batch


def train_batch(x, labels, num_classes, cfg, rng):
    """Random erasing, then mixup or cutmix; x is changed in place.

    x float32 [B, 3, S, S] normalised, labels int64 [B] -> x, targets float32 [B, C]
    """
    random_erasing(x, cfg.erasing, rng)
    lam = mix(x, cfg, rng)
    return x, mixup_target(labels, num_classes, lam, cfg.smoothing)


def resized_crop_box(height, width, scale, ratio, rng):
    """(top, left, height, width) of torchvision's RandomResizedCrop.

    Area uniform in ``scale``, aspect ratio log-uniform in ``ratio``; after ten boxes that do not fit the largest
    centred one with the nearest ratio.
    """
    for _ in range(CROP_ATTEMPTS):
        area = height * width * rng.uniform(*scale)
        aspect = math.exp(rng.uniform(math.log(ratio[0]), math.log(ratio[1])))
        w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < w <= width and 0 < h <= height:
            return int(rng.integers(height - h + 1)), int(rng.integers(width - w + 1)), h, w
    w = min(width, max(1, round(height * ratio[1])))
    h = min(height, max(1, round(width / ratio[0])))
    return (height - h) // 2, (width - w) // 2, h, w


def random_resized_crop(picture, size, scale, ratio, rng):
    """uint8 [H, W, 3] -> uint8 [S, S, 3], Pillow's bicubic, which averages where it shrinks."""
    top, left, height, width = resized_crop_box(*picture.shape[:2], scale, ratio, rng)
    box = np.ascontiguousarray(picture[top : top + height, left : left + width])
    return np.asarray(Image.fromarray(box).resize((size, size), Image.Resampling.BICUBIC))


def padded_crop(picture, size, padding, rng):
    """A window of the picture with ``padding`` zero pixels around it.  uint8 [H, W, 3] -> uint8 [S, S, 3]"""
    height, width = picture.shape[:2]
    if min(height, width) + 2 * padding < size:
        raise BadInputError("augment", "picture for a padded crop", f"at least {size - 2 * padding} pixels an edge",
                            f"{width} x {height}", 'crop "resized"')
    places = height + 2 * padding - size + 1, width + 2 * padding - size + 1
    top, left = (int(at) - padding for at in rng.integers(places))
    out = np.zeros((size, size, 3), np.uint8)
    # the part of the window that lies in the picture; empty where it lies in the padding alone
    rows, cols = (slice(max(at, 0), max(at, 0, min(at + size, edge))) for at, edge in ((top, height), (left, width)))
    out[rows.start - top : rows.stop - top, cols.start - left : cols.stop - left] = picture[rows, cols]
    return out


def random_flip(batch, probability, rng):
    """Mirror left and right.  [B, H, W, 3] -> the same array"""
    chosen = rng.random(len(batch)) < probability
    batch[chosen] = batch[chosen, :, ::-1]
    return batch


def color_jitter(batch, strength, rng):
    """Brightness, contrast and saturation by factors f in [1 - strength, 1 + strength], in random order a picture.

    torchvision's formulas, on a scale of 0..255: clip(f x + (1 - f) other), other being 0, the mean of the picture's
    grey, or the grey of each pixel. In float32, rounded once at the end.  uint8 [B, H, W, 3] -> uint8, the same shape
    """
    order = rng.permuted(np.tile(np.arange(3), (len(batch), 1)), axis=1)
    factors = rng.uniform(1 - strength, 1 + strength, (len(batch), 3)).astype(np.float32)
    x = batch.astype(np.float32)
    for turn in range(3):
        for kind in range(3):
            chosen = np.flatnonzero(order[:, turn] == kind)
            if len(chosen):
                x[chosen] = _blend(x[chosen], kind, factors[chosen, kind].reshape(-1, 1, 1, 1))
    return np.rint(x).astype(np.uint8)


def random_erasing(x, probability, rng):
    """One box of each chosen picture becomes normal noise (Random Erasing, arXiv 1708.04896, timm's "pixel" mode).

    float32 [B, 3, H, W], normalised; in place
    """
    height, width = x.shape[2:]
    for i in np.flatnonzero(rng.random(len(x)) < probability):
        for _ in range(ERASE_ATTEMPTS):
            area = height * width * rng.uniform(*ERASE_AREA)
            aspect = math.exp(rng.uniform(*map(math.log, ERASE_ASPECT)))
            h, w = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
            if h < height and w < width:
                top, left = rng.integers(height - h + 1), rng.integers(width - w + 1)
                x[i, :, top : top + h, left : left + w] = rng.standard_normal((3, h, w), np.float32)
                break


def mix(x, cfg, rng):
    """Mixup (arXiv 1710.09412) or cutmix (arXiv 1905.04899) of each picture with that of the reversed batch.

    timm's "batch" mode: one lambda for all.  float32 [B, 3, H, W], in place -> lambda, the part of a picture that is
    its own (1 where nothing was mixed). In the middle of an odd batch a picture meets itself.
    """
    if not (cfg.mixup or cfg.cutmix) or rng.random() >= cfg.mix_prob:
        return 1.0
    use_cutmix = cfg.cutmix > 0 and (not cfg.mixup or rng.random() < cfg.switch_prob)
    if use_cutmix:
        return cutmix(x, rng.beta(cfg.cutmix, cfg.cutmix), rng)
    lam = rng.beta(cfg.mixup, cfg.mixup)
    other = x[::-1] * np.float32(1 - lam)
    x *= np.float32(lam)
    x += other
    return lam


def cutmix(x, lam, rng):
    """A box of about (1 - lam) of the area, its centre uniform, from the reversed batch; in place -> exact lambda."""
    height, width = x.shape[2:]
    cut_h, cut_w = int(height * math.sqrt(1 - lam)), int(width * math.sqrt(1 - lam))
    y, x0 = int(rng.integers(height)), int(rng.integers(width))
    top, bottom = max(y - cut_h // 2, 0), min(y + cut_h // 2, height)
    left, right = max(x0 - cut_w // 2, 0), min(x0 + cut_w // 2, width)
    x[:, :, top:bottom, left:right] = x[::-1, :, top:bottom, left:right].copy()
    return 1 - (bottom - top) * (right - left) / (height * width)


def mixup_target(labels, num_classes, lam, smoothing):
    """lam y + (1 - lam) y of the reversed batch; y are the smoothed targets of the labels.

    int64 [B] -> float32 [B, C]; rows sum to 1 up to rounding
    """
    y = make_targets(labels, num_classes, smoothing)
    return y if lam == 1 else y * np.float32(lam) + y[::-1] * np.float32(1 - lam)


def _crop(picture, size, cfg, rng):
    if cfg.crop == "padded":
        return padded_crop(picture, size, cfg.padding, rng)
    return random_resized_crop(picture, size, cfg.scale, cfg.ratio, rng)


def _blend(x, kind, f):
    """kind 0: brightness, 1: contrast, 2: saturation.  x float32 [n, H, W, 3], f [n, 1, 1, 1]"""
    if kind == 0:
        return np.clip(f * x, 0, 255)
    other = (GREY[0] * x[..., 0] + GREY[1] * x[..., 1] + GREY[2] * x[..., 2])[..., None]
    if kind == 1:
        other = other.mean(axis=(1, 2, 3), keepdims=True)
    return np.clip(f * x + (1 - f) * other, 0, 255)


def _check_number(field, value, high, low=0.0):
    if type(value) not in (int, float) or not low <= value <= high:
        raise UsageError("augment", field, f"a number from {low} to {high}", repr(value))


def _check_range(field, value, low, high):
    if type(value) not in (tuple, list) or len(value) != 2:
        raise UsageError("augment", field, "two numbers, low and high", repr(value))
    _check_number(field, value[1], high, low)
    _check_number(field, value[0], value[1], low)
