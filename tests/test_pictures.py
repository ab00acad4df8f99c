"""Decoding: every way to store the same pixels, and damage of every kind."""

import io
import random
import struct
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image

from refvit.errors import BadInputError, RefvitError, UnsupportedError
from refvit.pictures import load_rgb
from tests.drawings import drawing, stored


def png_chunk(name, data):
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(width, height, depth, colour, rows, extra=b""):
    """A PNG that Pillow itself cannot write; ``rows``: bytes without filter bytes."""
    step = len(rows) // height
    data = b"".join(b"\0" + rows[i * step : (i + 1) * step] for i in range(height))
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return (b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + extra + png_chunk(b"IDAT", zlib.compress(data))
            + png_chunk(b"IEND", b""))


def pixels(picture):
    image = load_rgb(picture)
    assert image.mode == "RGB"
    return np.asarray(image)


def on_white(rgba):
    """Composite in exact fractions of 255, rounded; Pillow may be one level off."""
    alpha = rgba[..., 3:].astype(np.float64) / 255
    return rgba[..., :3] * alpha + 255 * (1 - alpha)


@pytest.mark.parametrize("kind,options", [("PNG", {}), ("PPM", {}), ("WEBP", {"lossless": True})])
def test_lossless_formats_give_the_drawn_pixels(kind, options):
    data = stored(drawing(), kind, **options)
    np.testing.assert_array_equal(pixels(data), drawing())
    np.testing.assert_array_equal(pixels(io.BytesIO(data)), drawing())


@pytest.mark.parametrize("kind", ["PNG", "PPM", "JPEG"])
def test_grey_becomes_three_equal_channels(kind):
    got = pixels(stored(np.full((9, 7), 77, np.uint8), kind))
    np.testing.assert_array_equal(got, np.full((9, 7, 3), 77))


def test_one_bit_picture_is_black_and_white():
    bits = drawing()[..., 0] > 127
    got = pixels(stored(Image.fromarray(bits), "PPM"))
    np.testing.assert_array_equal(got, np.repeat(bits[..., None] * np.uint8(255), 3, axis=2))


@pytest.mark.parametrize("kind,options", [("PNG", {}), ("WEBP", {"lossless": True, "exact": True})])
def test_alpha_is_composited_on_white(kind, options):
    rgba = drawing(channels=4)
    assert np.abs(pixels(stored(rgba, kind, **options)) - on_white(rgba)).max() <= 1
    rgba[..., 3] = 0
    assert (pixels(stored(rgba, kind, **options)) == 255).all()


def test_grey_with_alpha_is_composited_on_white():
    la = drawing(channels=2)
    rgba = la[..., [0, 0, 0, 1]]
    assert np.abs(pixels(stored(la, "PNG")) - on_white(rgba)).max() <= 1


@pytest.mark.parametrize("alpha", [None, [255, 0, 100, 30]])
def test_palette_with_and_without_transparency(alpha):
    index = drawing()[..., 0] % 4
    palette = np.array([[10, 20, 30], [200, 0, 5], [0, 90, 255], [7, 7, 7]], np.uint8)
    image = Image.fromarray(index, "P")
    image.putpalette(palette.tobytes())
    data = stored(image, "PNG", **({"transparency": bytes(alpha)} if alpha else {}))
    rgba = np.dstack([palette[index], np.array(alpha or [255] * 4)[index]])
    assert np.abs(pixels(data) - on_white(rgba)).max() <= (1 if alpha else 0)


def test_a_transparent_colour_is_white():
    rgb = drawing()
    rgb[3, 4] = 1, 2, 3
    expected = np.where((rgb == (1, 2, 3)).all(axis=2, keepdims=True), 255, rgb)
    np.testing.assert_array_equal(pixels(stored(rgb, "PNG", transparency=(1, 2, 3))), expected)


def test_cmyk_is_converted():
    got = pixels(stored(Image.new("CMYK", (16, 16), (255, 0, 0, 0)), "JPEG", quality=100))
    assert np.abs(got.astype(int) - (0, 255, 255)).max() <= 3  # each channel is one flat JPEG plane


def test_16_bit_samples_keep_the_high_byte():
    deep = np.random.default_rng(2).integers(0, 65536, (5, 6, 3)).astype(">u2")
    grey, high = deep[..., 0], (deep >> 8).astype(np.uint8)
    np.testing.assert_array_equal(pixels(png(6, 5, 16, 0, grey.tobytes()))[..., 1], high[..., 0])
    np.testing.assert_array_equal(pixels(png(6, 5, 16, 2, deep.tobytes())), high)
    np.testing.assert_array_equal(pixels(b"P5 6 5 65535\n" + grey.tobytes())[..., 2], high[..., 0])


def test_16_bit_ppm_colour_is_rounded():
    deep = np.random.default_rng(3).integers(0, 65536, (5, 6, 3)).astype(">u2")
    np.testing.assert_array_equal(pixels(b"P6 6 5 65535\n" + deep.tobytes()), np.rint(deep / 257))


@pytest.mark.parametrize("colour,key", [(0, (300,)), (2, (300, 5, 6))])
def test_16_bit_transparent_colours_are_not_supported(colour, key):
    data = png(2, 2, 16, colour, bytes(8 * len(key)), png_chunk(b"tRNS", struct.pack(f">{len(key)}H", *key)))
    with pytest.raises(UnsupportedError, match="16-bit"):
        load_rgb(data)


def test_float_samples_are_not_supported():
    with pytest.raises(UnsupportedError, match="float"):
        load_rgb(b"Pf\n2 2\n-1.0\n" + bytes(16))


@pytest.mark.parametrize("kind,options", [("PNG", {}), ("WEBP", {"lossless": True}), ("JPEG", {"quality": 100})])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(kind, options, orientation):
    """EXIF 2.3, tag 274: on which sides row 0 and column 0 of the stored picture are seen."""
    seen = np.full((16, 24, 3), 100, np.uint8)
    seen[:8, :8] = 250  # upper left
    seen[:8, 16:] = 10  # upper right
    stored_as = {
        1: seen, 2: seen[:, ::-1], 3: seen[::-1, ::-1], 4: seen[::-1],
        5: seen.swapaxes(0, 1), 6: np.rot90(seen, 1), 7: seen[::-1, ::-1].swapaxes(0, 1), 8: np.rot90(seen, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    got = pixels(stored(np.ascontiguousarray(stored_as), kind, exif=exif, **options))
    assert got.shape == seen.shape
    assert np.abs(got.astype(int) - seen).max() <= 2  # JPEG: blocks of one colour


@pytest.mark.parametrize("exif", [
    b"Exif\0\0garbage", b"Exif\0\0MM\0*\0\0\0\x08\xff\xff", b"Exif\0\0II*\0\xff\xff\xff\xff",
])
def test_a_damaged_exif_block_counts_as_none(exif):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert pixels(stored(drawing(), "JPEG", exif=exif)).shape == (24, 20, 3)


def test_a_giant_header_is_refused_before_decoding():
    for edge in (50_000, 12_000):  # beyond Pillow's own cap, and between ours and Pillow's, where Pillow would warn
        data = png(edge, edge, 8, 2, b"")
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            with pytest.raises(BadInputError, match="too many pixels; expected at most 100000000"):
                load_rgb(data)


@pytest.mark.parametrize("data", [b"", b"not a picture", b"GIF89a" + bytes(30), b"%PDF-1.4", b"P6 0 0 255\n", b"P6 1"])
def test_other_content_is_one_error_naming_the_file(tmp_path, data):
    path = tmp_path / "text.jpg"
    path.write_bytes(data)
    with pytest.raises(BadInputError, match="text.jpg"):
        load_rgb(path)


def test_missing_files_and_folders_are_one_error(tmp_path):
    for path in (tmp_path / "none.png", tmp_path):
        with pytest.raises(BadInputError, match=path.name):
            load_rgb(path)


FILES = {
    "jpeg": stored(drawing(), "JPEG"),
    "png": stored(drawing(), "PNG"),
    "apng": stored(drawing(), "PNG", save_all=True, append_images=[Image.fromarray(drawing()[::-1])]),
    "palette": stored(Image.fromarray(drawing()).quantize(16), "PNG", transparency=3),
    "ppm": stored(drawing(), "PPM"),
    "plain": b"P3 3 2 255\n" + b"1 2 3 " * 6,
    "webp": stored(drawing(), "WEBP"),
    "lossless": stored(drawing(channels=4), "WEBP", lossless=True),
}


@pytest.mark.parametrize("kind", FILES)
def test_half_a_file_is_one_error(kind):
    data = FILES[kind]
    with pytest.raises(BadInputError):
        load_rgb(data[: len(data) // 2])


@pytest.mark.parametrize("kind", FILES)
def test_damage_is_an_error_of_ours_or_a_picture_and_never_a_warning(kind):
    data, rng = FILES[kind], random.Random(0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(150):
            damaged = bytearray(data[: rng.randrange(len(data)) if rng.random() < 0.3 else None])
            for _ in range(rng.randrange(1, 4)):
                if damaged:
                    damaged[rng.randrange(len(damaged))] ^= 1 << rng.randrange(8)
            try:
                load_rgb(bytes(damaged))
            except RefvitError:
                pass
