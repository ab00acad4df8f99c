"""A picture file -> upright 8-bit RGB, whatever its format stores; damage of any kind is one BadInputError.

Nothing here is bound to the bit: JPEG decoders differ by a level or so (N12).
"""

import contextlib
import io
import os
import threading
import warnings

import numpy as np
from PIL import Image, UnidentifiedImageError

from .errors import BadInputError, RefvitError, UnsupportedError
from .files import open_input
from .lookalikes import refuse_lookalike

FORMATS = ("JPEG", "PNG", "PPM", "WEBP")  # Pillow's names; PPM includes PGM and PBM
PICTURES = "JPEG, PNG, PPM or WebP content"
MAX_PIXELS = 100_000_000  # our choice: checked against the header, before memory is taken; 400 MB in Pillow
ORIENTATION = 0x0112  # EXIF tag: where the first row and column of the stored picture belong
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

_filter_lock = threading.Lock()


def load_rgb(picture, max_pixels=MAX_PIXELS):
    """Decode a picture: a path, bytes or a binary file object -> PIL.Image of mode RGB, upright.

    JPEG, PNG, PPM/PGM/PBM or WebP, recognised by content; of an animation the first frame. EXIF orientation is
    applied (an unreadable EXIF block counts as none). Transparency is composited on white (our choice). Of 16-bit
    PNG and grey samples the high byte is kept; Pillow rounds 16-bit PPM colour to 8 bits. CMYK is converted as Pillow
    does, without colour profiles.
    Raises BadInputError for anything that is not such a picture, is damaged, or has more than ``max_pixels`` pixels;
    UnsupportedError for float samples and for a transparent colour of a 16-bit picture.
    """
    name = picture_name(picture)
    if isinstance(picture, (str, os.PathLike)):
        with open_input(picture) as file:
            return _load(file, name, max_pixels)
    if isinstance(picture, (bytes, bytearray, memoryview)):
        return _load(io.BytesIO(picture), name, max_pixels)
    return _load(picture, name, max_pixels)


def picture_name(picture):
    """What errors call it: the path, the file object's name, or "picture"."""
    if isinstance(picture, (str, os.PathLike)):
        return os.fspath(picture)
    return str(getattr(picture, "name", "picture"))


def _load(file, name, max_pixels):
    try:
        with _no_warnings():
            image = Image.open(file, formats=FORMATS)
        if image.width * image.height > max_pixels:
            raise _too_large(name, max_pixels, f"{image.width} x {image.height}")
        image.load()
        return _upright(_to_rgb(image, name), image)
    except RefvitError:
        raise
    except UnidentifiedImageError:
        refuse_lookalike(name, file, "not a picture", PICTURES)
        raise BadInputError(name, "not a picture, or its header is damaged", PICTURES, "something else") from None
    except Image.DecompressionBombError:  # Pillow's own cap comes first where a header is beyond it
        raise _too_large(name, max_pixels, f"more than {2 * Image.MAX_IMAGE_PIXELS}") from None
    except Exception as error:  # Pillow raises SyntaxError, struct.error, OSError, ValueError, ... on damaged files
        raise BadInputError(name, f"damaged picture: {error or type(error).__name__}") from None


def _too_large(name, max_pixels, got):
    return BadInputError(name, "too many pixels", f"at most {max_pixels}", got)


def _to_rgb(image, name):
    """Any mode that the four formats decode to -> RGB."""
    transparent = image.info.get("transparency")  # PNG: a palette's alpha, or the colour that is transparent
    if image.mode == "F":
        raise UnsupportedError(name, "float samples", "8- or 16-bit samples", "a float PPM")
    if image.mode.startswith("I"):
        if transparent is not None:
            raise UnsupportedError(name, "a transparent level in a 16-bit picture", "an alpha channel", transparent)
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)).convert("RGB")
    if isinstance(transparent, tuple) and max(transparent) > 255:
        raise UnsupportedError(name, "a transparent colour in a 16-bit picture", "an alpha channel", transparent)
    if transparent is None and image.mode not in ("LA", "PA", "RGBA"):
        return image.convert("RGB")
    image = image.convert("RGBA")
    white = Image.new("RGB", image.size, "white")
    white.paste(image, mask=image)  # the mask is the alpha channel
    return white


def _upright(rgb, source):
    """Apply the source's orientation. Not ImageOps.exif_transpose: it also rewrites EXIF, and fails on odd blocks."""
    try:
        with _no_warnings():
            method = UPRIGHT.get(source.getexif().get(ORIENTATION))
    except Exception:  # as above: whatever a damaged block makes Pillow raise
        method = None
    return rgb if method is None else rgb.transpose(method)


@contextlib.contextmanager
def _no_warnings():
    """Pillow warns of what is an error here, or harmless. The filters are the process's, hence the lock."""
    with _filter_lock, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
