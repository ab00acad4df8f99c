"""NumPy's files of arrays, .npy and .npz, without pickles: an array of objects is refused by its header, unread."""

import contextlib
import math
import zipfile
import zlib

import numpy as np

from .errors import BadInputError
from .files import file_size, open_input

HEADER_MAX = 10_000  # characters, NumPy's own limit for headers that are not trusted
KINDS = "iuf"  # integers and floats
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
        self.members = {info.filename.removesuffix(".npy"): info for info in infos if not info.is_dir()}
        if len(self.members) != len([info for info in infos if not info.is_dir()]):
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
    """-> dtype, shape, whether the first index runs fastest"""
    readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    with contextlib.suppress(ValueError, EOFError, SyntaxError, TypeError, RecursionError, MemoryError, OverflowError):
        version = np.lib.format.read_magic(file)
        if version in readers:
            shape, fortran, dtype = readers[version](file, max_header_size=HEADER_MAX)
            if all(type(n) is int and n >= 0 for n in shape) and len(shape) <= 32:
                return dtype, shape, fortran
    raise BadInputError(
        where, "not an .npy array or cut off", "a header of NumPy's format 1.0 or 2.0", "something else"
    )
