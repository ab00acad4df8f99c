"""Typed arrays and their bytes; nested lists and flat ones."""

import sys
from array import array
from dataclasses import dataclass
from math import prod

from .floats import from_bits, to_bits

TYPECODES = {"uint8": "B", "int8": "b", "int32": "i", "uint64": "Q", "float32": "I"}


@dataclass
class Tensor:
    dtype: str  # a key of TYPECODES
    shape: list
    values: list  # flat, row-major

    def nested(self):
        return nest(self.values, self.shape)


def from_bytes(dtype, shape, raw):
    """The tensor that these little-endian bytes hold."""
    numbers = array(TYPECODES[dtype], raw)
    if sys.byteorder == "big":
        numbers.byteswap()
    values = [from_bits(bits) for bits in numbers] if dtype == "float32" else numbers.tolist()
    if len(values) != prod(shape):
        raise ValueError(f"{len(values)} elements for the shape {shape}")
    return Tensor(dtype, list(shape), values)


def to_bytes(tensor):
    values = map(to_bits, tensor.values) if tensor.dtype == "float32" else tensor.values
    numbers = array(TYPECODES[tensor.dtype], values)
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers.tobytes()


def nest(values, shape):
    """A flat list as lists of lists of this shape."""
    if len(shape) < 2:
        return list(values)
    step = prod(shape[1:])
    return [nest(values[i * step : (i + 1) * step], shape[1:]) for i in range(shape[0])]


def flatten(x, levels):
    """Lists of lists as one list, `levels` levels removed."""
    for _ in range(levels):
        x = [v for part in x for v in part]
    return x


def shape_of(x):
    """Shape of nested lists with no empty axis but the last."""
    shape = []
    while isinstance(x, list):
        shape.append(len(x))
        x = x[0] if x else None
    return shape


def tensor(dtype, x):
    """A tensor of nested lists."""
    shape = shape_of(x)
    return Tensor(dtype, shape, flatten(x, len(shape) - 1))


def matrix(dtype, rows, columns):
    """A tensor of rows, which may be none."""
    return Tensor(dtype, [len(rows), columns], flatten(rows, 1))


def floats(x):
    return tensor("float32", x)
