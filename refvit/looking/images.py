"""Pictures within a page: PNG as data, so that the page needs no other file."""

import base64
import io
from html import escape

import numpy as np
from PIL import Image

from ..charts import heat_rgb

PLUS, ZERO, MINUS = (47, 120, 196), (226, 232, 240), (200, 89, 26)  # colours of the codes +1, 0, -1
TINT = 0.55  # share of the map's colour in an overlay
SIDE_MIN = 256  # pixels of the page: smaller pictures are shown several times as large
PLANES_MAX = (384, 768)  # rows and columns that are drawn of a layer


def figure(array, caption):
    """HTML of a picture with its caption; small ones are enlarged, their pixels stay squares.  uint8 [H, W, 3]"""
    file = io.BytesIO()
    Image.fromarray(array).save(file, "PNG", optimize=True)
    data = base64.b64encode(file.getvalue()).decode()
    times = max(1, SIDE_MIN // max(array.shape))
    size = f'width="{times * array.shape[1]}" height="{times * array.shape[0]}" alt="{escape(caption)}"'
    image = f'<img class="sharp" {size} src="data:image/png;base64,{data}">'
    return f"<figure>{image}<figcaption>{escape(caption)}</figcaption></figure>"


def overlay(pixels, values):
    """A picture tinted by a map, from its lowest to its highest value.  [H, W, 3], float [S, S] -> uint8 [H, W, 3]"""
    low, span = values.min(), np.ptp(values) or 1.0
    grey = Image.fromarray(np.rint(255 * (values - low) / span).astype(np.uint8))
    height, width, _ = pixels.shape
    heat = heat_rgb(np.array(grey.resize((width, height), Image.Resampling.BICUBIC)) / 255)
    return np.rint((1 - TINT) * pixels + TINT * heat).astype(np.uint8)


def code_picture(codes):
    """A pixel for each ternary code, or shades of 8-bit ones; a row is an output channel.  [N, K] -> uint8 [N, K, 3]"""
    codes = codes[: PLANES_MAX[0], : PLANES_MAX[1]]
    share = codes.astype(np.float64)[..., None] / max(int(np.abs(codes.astype(int)).max(initial=0)), 1)
    ends = np.where(share > 0, np.array(PLUS, float), np.array(MINUS, float))
    return np.rint(np.array(ZERO, float) * (1 - abs(share)) + ends * abs(share)).astype(np.uint8)


def plane_picture(bits):
    """A plane: set bits dark.  bool [N, K] -> uint8 [N, K, 3]"""
    bits = bits[: PLANES_MAX[0], : PLANES_MAX[1], None]
    return np.where(bits, np.uint8(40), np.uint8(235)) * np.ones(3, np.uint8)
