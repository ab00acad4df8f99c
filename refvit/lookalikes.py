"""What a file is that is not what it should be: the usual mix-ups, told by their first bytes."""

from .errors import BadInputError

BEGIN = 512  # bytes that are looked at
PAGE = "downloading the file itself, not the page about it"
CONVERT = "converting it to PNG"
KINDS = (  # first bytes, what they are of, what helps
    (b"version https://git-lfs", "a git-lfs pointer, not the file itself", "git lfs pull"),
    (b"<!doctype html", "a web page", PAGE),
    (b"<html", "a web page", PAGE),
    (b"<svg", "an SVG drawing", CONVERT),
    (b"<?xml", "XML", None),
    (b"GIF8", "a GIF", CONVERT),
    (b"BM", "a BMP picture", CONVERT),
    (b"II*\0", "a TIFF picture", CONVERT),
    (b"MM\0*", "a TIFF picture", CONVERT),
    (b"%PDF", "a PDF document", CONVERT),
    (b"\xff\xd8\xff", "a JPEG picture", None),
    (b"\x89PNG", "a PNG picture", None),
    (b"\x93NUMPY", "a NumPy array", None),
    (b"\x1f\x8b", "a gzip archive", "unpacking it first"),
    (b"\x80\2}", "a bare pickle", "saving its tensors with torch.save, or as safetensors"),
    (b"\x80\3}", "a bare pickle", "saving its tensors with torch.save, or as safetensors"),
    (b"\x80\4\x95", "a bare pickle", "saving its tensors with torch.save, or as safetensors"),
    (b"\x80\5\x95", "a bare pickle", "saving its tensors with torch.save, or as safetensors"),
)


def refuse_lookalike(where, file, what, expected):
    """Raise BadInputError "WHAT; expected EXPECTED, got a web page; try ..." where that is recognised; else do nothing.

    file  binary and seekable; it is read from its start
    """
    file.seek(0)
    begin = file.read(BEGIN)
    if not begin:
        raise BadInputError(where, what, expected, "an empty file")
    lowered = begin.lstrip().lower()
    for start, kind, hint in KINDS:
        if begin.startswith(start) or (start[:1] == b"<" and lowered.startswith(start)):
            raise BadInputError(where, what, expected, kind, hint)
    if is_heic(begin):
        raise BadInputError(where, what, expected, "a HEIC or AVIF picture", CONVERT)
    if all(byte in b"\t\n\r\f" or byte >= 32 and byte != 127 for byte in begin):
        raise BadInputError(where, what, expected, "text")


def is_heic(begin):
    """Of the family of formats whose first box is "ftyp", as phones write them."""
    return begin[4:8] == b"ftyp" and begin[8:12] in (b"heic", b"heix", b"mif1", b"avif")
