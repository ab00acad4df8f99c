"""Make tests/vectors/preprocess: small drawn pictures, their crops as integers, and N12's values in hexadecimal.

    python tools/make_preprocess_vectors.py

The crops are Pillow's, whose version is stored with them. N12's values are not: they are rounded from exact fractions.
"""

import json
from fractions import Fraction
from pathlib import Path

import numpy as np
import PIL
from PIL import Image

from refvit.preprocess import HALF, IMAGENET_MEAN, IMAGENET_STD, crop, make_preprocess

OUT = Path(__file__).parents[1] / "tests" / "vectors" / "preprocess"
EDGE = 32
CASES = (  # picture, mode, crop_pct
    ("gradient.png", "facebook", None),
    ("gradient.png", "timm", None),
    ("gradient.png", "timm", 1.0),
    ("gradient.png", "squash", None),
    ("rings.ppm", "facebook", None),
    ("small.webp", "timm", None),
    ("clear_palette.png", "facebook", None),
    ("alpha.webp", "squash", None),
    ("grey16.png", "timm", None),
    ("sideways.jpg", "facebook", None),
)


def gradient(width, height):  # uint8 [height, width, 3]
    y, x = np.mgrid[:height, :width]
    return np.stack([255 * x // (width - 1), 255 * y // (height - 1), (x * y * 7) % 256], axis=-1).astype(np.uint8)


def rings(width, height):  # uint8 [height, width, 3]
    """Hard-edged rings, where bicubic overshoots and is clipped."""
    y, x = np.mgrid[:height, :width]
    radius2 = (2 * x - width) ** 2 + (2 * y - height) ** 2
    return np.stack([np.where(radius2 // step % 2, 255, 0) for step in (300, 700, 1500)], axis=-1).astype(np.uint8)


def draw():
    """Each picture of CASES, drawn by integer arithmetic and saved."""
    Image.fromarray(gradient(97, 61)).save(OUT / "gradient.png")
    Image.fromarray(rings(41, 67)).save(OUT / "rings.ppm")
    Image.fromarray(gradient(9, 5)).save(OUT / "small.webp", lossless=True, exact=True)
    palette = Image.fromarray(gradient(60, 50)[..., 0] // 32, "P")
    palette.putpalette([level for i in range(8) for level in (32 * i, 255 - 32 * i, 128)])
    palette.save(OUT / "clear_palette.png", transparency=bytes(range(0, 256, 32)))
    alpha = np.dstack([rings(50, 45), gradient(50, 45)[..., 0]])
    Image.fromarray(alpha).save(OUT / "alpha.webp", lossless=True, exact=True)
    y, x = np.mgrid[:40, :50]
    Image.fromarray((x * 1311 + y * 7).astype(np.uint16)).save(OUT / "grey16.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(gradient(70, 48)).save(OUT / "sideways.jpg", quality=95, subsampling=0, exif=exif)


def round_f32(value):
    """A fraction -> the nearest float32, ties to even; for numbers of normal size."""
    if value == 0:
        return np.float32(0)
    exponent = 0
    while abs(value) >= Fraction(2) ** (exponent + 1):
        exponent += 1
    while abs(value) < Fraction(2) ** exponent:
        exponent -= 1
    unit = Fraction(2) ** (exponent - 23)
    return np.float32(float(round(value / unit) * unit))  # round() of a fraction is half to even, float() exact here


def n12(mean, std):
    """The 256 values of each channel as hexadecimal float32 bits."""
    rows = []
    for m, s in zip(mean, std):
        m, s = (Fraction(float(round_f32(Fraction(v)))) for v in (m, s))
        row = [round_f32(Fraction(float(round_f32(Fraction(float(round_f32(Fraction(u, 255)))) - m))) / s)
               for u in range(256)]
        rows.append(np.array(row, dtype="<f4").view("<u4"))
    return ["".join(f"{bits:08x}" for bits in row) for row in rows]


def main():
    OUT.mkdir(parents=True, exist_ok=True)
    draw()
    cases = []
    for picture, mode, crop_pct in CASES:
        cfg = make_preprocess(mode, EDGE, crop_pct)
        expected = f"{picture.split('.')[0]}.{mode}{cfg.resize}.npy"
        np.save(OUT / expected, crop(OUT / picture, cfg))
        cases.append({"picture": picture, "preprocess": cfg.to_dict(), "expected": expected})
    values = {
        "pillow": PIL.__version__,
        "cases": cases,
        "n12": [
            {"mean": mean, "std": std, "bits": n12(mean, std)}
            for mean, std in ((IMAGENET_MEAN, IMAGENET_STD), (HALF, HALF))
        ],
    }
    (OUT / "vectors.json").write_text(json.dumps(values, indent=1) + "\n")


if __name__ == "__main__":
    main()
