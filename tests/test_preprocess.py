"""Preprocessing: geometry as torchvision's, stored crops, normalisation to the bit (N12), strict configurations."""

import json
import os
import random
from pathlib import Path

import numpy as np
import PIL
import pytest

from refvit.errors import BadInputError, UsageError
from refvit.preprocess import (
    HALF,
    IMAGENET_MEAN,
    IMAGENET_STD,
    PreprocessConfig,
    crop,
    default_preprocess,
    make_preprocess,
    normalise,
    resized_size,
)
from refvit.registry import MODELS, model_config
from tests.drawings import drawing, stored

VECTORS = Path(__file__).parent / "vectors" / "preprocess"
STORED = json.loads((VECTORS / "vectors.json").read_text())
DATA = Path(os.environ.get("REFVIT_DATA", Path(__file__).parents[2] / "shared" / "data"))
SAMPLES = DATA / "imagenet-samples" / "val"
BICUBIC_GAIN = 1.3  # largest sum of |weights| of an output pixel: 1.25 half-way between two pixels, more at borders
JPEG_LEVELS = 6  # see test_stored_crops


@pytest.mark.parametrize("size,resize,expected", [
    ((500, 375), 256, (341, 256)),  # 341.33
    ((375, 500), 248, (248, 330)),  # 330.67: truncated, not rounded
    ((300, 300), 256, (256, 256)),
    ((1, 3), 256, (256, 768)),
    ((32, 33), 35, (35, 36)),
])  # torchvision: Resize(resize)
def test_the_long_edge_is_truncated(size, resize, expected):
    assert resized_size(size, PreprocessConfig("facebook", 32, resize)) == expected
    assert resized_size(size, PreprocessConfig("squash", 32, resize)) == (resize, resize)


def test_integer_division_is_torchvisions_float_division():
    rng = random.Random(4)
    for _ in range(20_000):
        short, extra, edge = rng.randrange(1, 3000), rng.randrange(0, 3000), rng.randrange(1, 600)
        assert edge * (short + extra) // short == int(edge * (short + extra) / short)


@pytest.mark.parametrize("width,left", [(341, 58), (343, 60), (248, 12), (225, 0), (227, 2)])  # 58.5, 59.5, 12, .5, 1.5
def test_the_crop_offset_rounds_half_to_even(width, left):
    """A picture that resizing leaves alone; its columns are numbered."""
    columns = np.zeros((224, width, 3), np.uint8)
    columns[..., 0], columns[..., 1] = np.arange(width) % 256, np.arange(width) // 256
    got = crop(stored(columns, "PNG"), PreprocessConfig("timm", 224, 224))
    np.testing.assert_array_equal(got, columns[:, left : left + 224])


@pytest.mark.parametrize("mode,size,crop_pct,resize", [
    ("facebook", 224, None, 256), ("facebook", 384, None, 438), ("timm", 224, None, 248), ("timm", 384, 1.0, 384),
    ("squash", 224, None, 256), ("timm", 32, None, 35),
])
def test_the_resized_edge_of_each_mode(mode, size, crop_pct, resize):
    assert make_preprocess(mode, size, crop_pct).resize == resize


def bicubic_weights(source, target):  # [target, source]
    """Keys' kernel with a = -0.5, widened by the scale when shrinking, each row normalised."""
    scale = source / target
    width = max(scale, 1.0)
    x = np.abs((np.arange(source) + 0.5 - (np.arange(target)[:, None] + 0.5) * scale) / width)
    w = np.where(x < 1, 1.5 * x**3 - 2.5 * x**2 + 1, np.where(x < 2, -0.5 * (x**3 - 5 * x**2 + 8 * x - 4), 0))
    return w / w.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("size", [(97, 61), (20, 45), (45, 20), (5, 9)])
@pytest.mark.parametrize("mode", ["facebook", "squash"])
def test_resizing_is_bicubic_with_rows_after_columns(size, mode):
    """Against float64. Pillow rounds to a level after each of the two passes; the second amplifies the first's half."""
    array, cfg = drawing(size[1], size[0]), PreprocessConfig(mode, 32, 32)
    width, height = resized_size(size, cfg)
    across, down = bicubic_weights(size[0], width), bicubic_weights(size[1], height)
    rows = np.clip(np.einsum("xw,hwc->hxc", across, array), 0, 255)
    full = np.clip(np.einsum("yh,hxc->yxc", down, rows), 0, 255)
    left, top = round((width - 32) / 2), round((height - 32) / 2)
    bound = 0.5 * np.abs(down).sum(axis=1).max() + 0.5 + 0.01  # 0.01: Pillow's weights have 22 bits
    assert np.abs(crop(stored(array, "PNG"), cfg) - full[top : top + 32, left : left + 32]).max() <= bound
    assert np.abs(down).sum(axis=1).max() <= BICUBIC_GAIN


@pytest.mark.parametrize("case", STORED["cases"], ids=lambda case: case["expected"])
def test_stored_crops(case):
    """Equal with the Pillow that made them, within a level with another.

    JPEG (no chroma subsampling): two decoders differ by a level in each of Y, Cb, Cr, so by at most 1 + 1.772 in B,
    3 after rounding; each of the two passes of resizing multiplies by up to BICUBIC_GAIN and rounds:
    ceil(3 * 1.3) = 4, ceil(4 * 1.3) = 6.
    """
    got = crop(VECTORS / case["picture"], PreprocessConfig.from_dict(case["preprocess"]))
    expected = np.load(VECTORS / case["expected"], allow_pickle=False)
    assert got.dtype == np.uint8 and got.shape == expected.shape
    lossless = 0 if PIL.__version__ == STORED["pillow"] else 1
    bound = JPEG_LEVELS if case["picture"].endswith(".jpg") else lossless
    assert np.abs(got.astype(int) - expected).max() <= bound


def test_one_pixel_is_enlarged():
    got = crop(stored(np.full((1, 1, 3), (9, 8, 7), np.uint8), "PNG"), PreprocessConfig())
    assert got.shape == (224, 224, 3) and (got == (9, 8, 7)).all()


@pytest.mark.parametrize("mode,width,height", [("timm", 2000, 1), ("timm", 1, 2000), ("squash", 1, 400_000)])
def test_a_needle_is_refused_before_it_fills_memory(mode, width, height):
    with pytest.raises(BadInputError, match="too narrow"):
        crop(stored(np.zeros((height, width, 3), np.uint8), "PPM"), PreprocessConfig(mode))


# Normalisation


@pytest.mark.parametrize("case", STORED["n12"])
def test_every_level_of_every_channel_to_the_bit(case):
    cfg = PreprocessConfig(mean=case["mean"], std=case["std"])
    u8 = np.repeat(np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1), 3, axis=3)
    got = normalise(u8, cfg)
    assert got.dtype == np.float32 and got.shape == (1, 3, 16, 16)
    expected = np.stack([np.frombuffer(bytes.fromhex(row), ">u4") for row in case["bits"]])
    np.testing.assert_array_equal(got.reshape(3, 256).view(np.uint32), expected)


def test_axes_of_normalised_pixels():
    u8 = drawing(6, 5).reshape(1, 6, 5, 3)
    u8 = np.concatenate([u8, u8[:, ::-1]])
    got = normalise(u8, PreprocessConfig(mean=(0, 0, 0), std=(1, 1, 1)))
    np.testing.assert_array_equal(got, u8.transpose(0, 3, 1, 2).astype(np.float32) / np.float32(255))
    np.testing.assert_array_equal(normalise(u8[1], PreprocessConfig())[0], normalise(u8, PreprocessConfig())[1])


@pytest.mark.parametrize("bad", [
    np.zeros((4, 4, 3), np.float32), np.zeros((4, 4), np.uint8), np.zeros((1, 3, 4, 4), np.uint8), [[1, 2, 3]],
])
def test_other_arrays_are_refused(bad):
    with pytest.raises(BadInputError, match="uint8"):
        normalise(bad, PreprocessConfig())


# Configuration


@pytest.mark.parametrize("name,expected", [
    ("deit_tiny_patch16_224", ("facebook", 256, IMAGENET_MEAN, IMAGENET_STD)),
    ("deit_base_distilled_patch16_384", ("timm", 384, IMAGENET_MEAN, IMAGENET_STD)),
    ("deit3_small_patch16_224", ("timm", 224, IMAGENET_MEAN, IMAGENET_STD)),
    ("vit_base_patch16_224", ("timm", 248, HALF, HALF)),
    ("vit_base_patch16_384", ("timm", 384, HALF, HALF)),
    ("swin_small_patch4_window7_224", ("timm", 248, IMAGENET_MEAN, IMAGENET_STD)),
])
def test_defaults_by_model_name(name, expected):
    cfg = default_preprocess(MODELS[name])
    assert (cfg.mode, cfg.resize, cfg.mean, cfg.std) == expected
    assert cfg.img_size == MODELS[name].img_size


def test_every_model_has_a_default_and_it_survives_json():
    for config in (*MODELS.values(), model_config("deit_tiny_patch16_224", img_size=32)):
        cfg = default_preprocess(config)
        assert PreprocessConfig.from_dict(json.loads(json.dumps(cfg.to_dict()))) == cfg


@pytest.mark.parametrize("change", [
    {"mode": "other"}, {"mode": ["timm"]}, {"img_size": 0}, {"img_size": "224"}, {"img_size": True},
    {"img_size": 10**9},
    {"resize": 223}, {"resize": 1e9}, {"mean": [0, 0]}, {"mean": None}, {"mean": [0, 0, "x"]}, {"std": [1, 0, 1]},
    {"std": [1, 1, -1]}, {"std": [1, 1, float("nan")]}, {"std": [1, 1, 1e-60]}, {"std": [1, 1, 1e-44]},
    {"mean": [0, 0, 10**400]}, {"extra": 1},
])
def test_bad_configurations_are_refused_naming_the_file(change):
    with pytest.raises(BadInputError, match="model.json"):
        PreprocessConfig.from_dict({**PreprocessConfig().to_dict(), **change}, "model.json")


@pytest.mark.parametrize("values", [None, [], {}, {"mode": "timm"}])
def test_incomplete_configurations_are_refused(values):
    with pytest.raises(BadInputError, match="keys"):
        PreprocessConfig.from_dict(values)


@pytest.mark.parametrize("args", [
    ("other", 224), ("timm", 224, 0), ("timm", 224, 1.1), ("timm", 224, 1e-9), ("timm", None),
])
def test_wrong_arguments_are_usage_errors(args):
    with pytest.raises(UsageError):
        make_preprocess(*args)


@pytest.mark.skipif(not SAMPLES.is_dir(), reason="the sample pictures are not here")
def test_real_pictures_decode():
    for path in sorted(SAMPLES.glob("*/*"))[::10]:
        got = crop(path, PreprocessConfig())
        assert got.shape == (224, 224, 3) and got.std() > 5
