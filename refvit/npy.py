"""NumPy's files of arrays, .npy and .npz, without pickles: an array of objects is refused by its header, unread."""

import math
import re
import zipfile
import zlib

import numpy as np

from .errors import BadInputError
from .files import file_size, open_input
from .safetensors import DIMENSIONS_MAX

HEADER_MAX = 10_000  # bytes
SHAPE_MAX = 400  # bytes
KINDS = "iuf"  # integers and floats
MAGIC, VERSIONS = b"\x93NUMPY", (b"\x01\x00", b"\x02\x00", b"\x03\x00")
HEADER = re.compile(
    rb"\{\s*(?:(?:'descr'\s*:\s*'(?P<descr>[<>|=]?[a-zA-Z]\d{0,3})'|'fortran_order'\s*:\s*(?P<fortran>True|False)|"
    rb"'shape'\s*:\s*\((?P<shape>\s*|\s*\d{1,18}\s*(?:,\s*\d{1,18}\s*)*,?\s*)\))\s*,?\s*){3}\}\s*"
)
ZIP_ERRORS = (
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    ValueError,
    NotImplementedError,
    RuntimeError,
    OSError,
    KeyError,
)


def read_npy(path, elements=None):
    """The array of a .npy file, or, where it has another number of elements than ``elements``, only its Header."""
    with open_input(path) as file:
        return read_array(path, file, file_size(file), elements)


class Header:
    """dtype and shape of an array that was not read."""

    def __init__(self, dtype, shape):
        self.dtype, self.shape = dtype, shape


class Archive:
    """A .npz file. Raises BadInputError where it is none; ``read`` does so for its members."""

    def __init__(self, path):
        self.path = path
        try:
            with open_input(path) as file, zipfile.ZipFile(file) as archive:
                infos = archive.infolist()
        except ZIP_ERRORS as error:
            raise self.damaged(error) from None
        files = [info for info in infos if not info.filename.endswith("/")]  # is_dir() fails on an empty name
        self.members = {info.filename.removesuffix(".npy"): info for info in files}
        if len(self.members) != len(files):
            raise BadInputError(path, "names of its arrays", "each once", "one twice")

    def read(self, name, elements):
        """As ``read_npy``."""
        info, where = self.members[name], f"{self.path}: {name}"
        try:
            with open_input(self.path) as file, zipfile.ZipFile(file) as archive, archive.open(info) as member:
                return read_array(where, member, info.file_size, elements)
        except BadInputError:
            raise
        except ZIP_ERRORS as error:
            raise self.damaged(error) from None

    def damaged(self, error):
        if isinstance(error, BadInputError):
            return error
        return BadInputError(self.path, f"damaged or not an .npz archive: {error!s:.200}")


def read_array(where, file, size, elements=None):
    """An array from an open file of ``size`` bytes."""
    dtype, shape, fortran = read_header(where, file)
    if dtype.kind not in KINDS:
        raise BadInputError(where, "dtype", "integers or floats, never pickled objects", dtype)
    count = math.prod(shape)
    if elements is not None and count != elements:
        return Header(dtype, shape)
    if not 0 <= count * dtype.itemsize <= size:
        raise BadInputError(where, "cut off", f"{count * dtype.itemsize} bytes of values", f"{size} in all")
    data = file.read(count * dtype.itemsize + 1)
    if len(data) != count * dtype.itemsize:
        raise BadInputError(where, "cut off, or bytes after the values", f"{count * dtype.itemsize} bytes", len(data))
    flat = np.frombuffer(data, dtype).astype(dtype.newbyteorder("="))
    return flat.reshape(shape[::-1]).T if fortran else flat.reshape(shape)


def read_header(where, file):
    """-> dtype, shape, whether the first index runs fastest

    6 bytes magic, 2 of the version, 2 (version 1) or 4 of the length, then the text of a dict: matched, not evaluated.
    """
    magic, version = file.read(6), file.read(2)
    length = int.from_bytes(file.read(2 if version == b"\x01\x00" else 4), "little")
    found = None
    if magic == MAGIC and version in VERSIONS and length <= HEADER_MAX:
        found = HEADER.fullmatch(file.read(length))
    if found is None or None in found.groupdict().values() or len(found["shape"]) > SHAPE_MAX:
        raise BadInputError(where, "not an .npy array of numbers or cut off", "a header as NumPy writes it", "another")
    shape = tuple(int(n) for n in found["shape"].split(b",") if n.strip())
    if len(shape) > DIMENSIONS_MAX or math.prod(max(n, 1) for n in shape) >= 2**60:
        raise BadInputError(where, "shape", f"{DIMENSIONS_MAX} axes and 2^60 elements at most", shape)
    try:
        return np.dtype(found["descr"].decode()), shape, found["fortran"] == b"True"
    except TypeError:
        raise BadInputError(where, "dtype", "one of NumPy's", repr(found["descr"])) from None
