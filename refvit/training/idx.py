"""MNIST's file format, also of Fashion-MNIST: two zero bytes, a type, the number of dimensions, sizes, values.

http://yann.lecun.com/exdb/mnist: sizes are big-endian 32-bit; type 8 is unsigned bytes, the only one here.
"""

import math

import numpy as np

from ..archive import read_content
from ..errors import BadInputError

UBYTE = 8


def read_idx(path, dimensions):
    """A file, gzip or not -> uint8 array of as many dimensions. Raises BadInputError for anything else."""
    data = read_content(path)
    magic = bytes([0, 0, UBYTE, dimensions])
    if data[:4] != magic:
        raise BadInputError(path, "magic number of an idx file", magic.hex(), data[:4].hex() or "an empty file")
    header = 4 + 4 * dimensions
    if len(data) < header:
        raise BadInputError(path, "ends early", f"a header of {header} bytes", len(data))
    shape = [int(n) for n in np.frombuffer(data, ">u4", dimensions, 4)]
    if len(data) != header + math.prod(shape):
        raise BadInputError(path, f"bytes of an idx file of shape {shape}", header + math.prod(shape), len(data))
    return np.frombuffer(data, np.uint8, offset=header).reshape(shape)
