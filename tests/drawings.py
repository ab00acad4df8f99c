"""Pictures for tests, and their files."""

import io

import numpy as np
from PIL import Image


def drawing(height=24, width=20, channels=3, seed=1):  # uint8 [height, width, channels]
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels), dtype=np.uint8)


def stored(array, kind, **options):
    """Bytes of a picture file."""
    file = io.BytesIO()
    image = array if isinstance(array, Image.Image) else Image.fromarray(array)
    image.save(file, kind, **options)
    return file.getvalue()
