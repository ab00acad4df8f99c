"""How the cases are written down: an operation, a label, a sentence, inputs; and exact draws for larger inputs."""

import zlib

import numpy as np

from ...model import bell
from ...rules import f32
from ..kit import Case, Tensor


def draft(operation, label, comment, rules, inputs, parameters=None, expectation="exact", bounds=None):
    """A case whose right outputs are not known yet.

    rules   text: ids with a space between them, as "N4 N5"
    inputs  dict: name -> array; None: left out
    bounds  dict: name of an output -> (low, high), for "bound" and "near-tie"
    """
    tensors = tuple(Tensor(name, value) for name, value in inputs.items() if value is not None)
    outputs = tuple(Tensor(name, low, low, high) for name, (low, high) in (bounds or {}).items())
    case_id, ids = f"{operation}/{label}", tuple(rules.split())
    return Case(case_id, operation, ids, (), comment, expectation, parameters or {}, tensors, outputs)


def floats(*values):
    """float32 [n] of numbers and of texts as C99 writes them."""
    return np.array([float.fromhex(v) if isinstance(v, str) else v for v in values], f32)


def around(*values):
    """Each float32 with its two neighbours.  -> [3 n]"""
    x = floats(*values)
    return np.stack([np.nextafter(x, f32(-np.inf)), x, np.nextafter(x, f32(np.inf))], axis=1).reshape(-1)


class Draw:
    """Numbers from PCG64, seeded by a label, by integer arithmetic and single roundings: the same everywhere."""

    def __init__(self, label):
        self.generator = np.random.PCG64(zlib.crc32(label.encode()))

    def words(self, *shape):
        return self.generator.random_raw(int(np.prod(shape))).reshape(shape)

    def integers(self, low, high, *shape, dtype=np.int8):
        """low..high, both included"""
        return (low + (self.words(*shape) >> np.uint64(33)).astype(np.int64) % (high - low + 1)).astype(dtype)

    def normal(self, *shape, std=1.0):
        """Nearly normal (SPEC.md, section 5), times a float32."""
        return (bell(self.generator, int(np.prod(shape))) * f32(std)).reshape(shape)

    def uniform(self, low, high, *shape):
        """Multiples of (high - low) / 2^24"""
        steps = (self.words(*shape) >> np.uint64(40)).astype(np.float64)
        return (low + steps * ((high - low) * 2.0**-24)).astype(f32)

    def patterns(self, *shape, low=0, high=0xFF):
        """float32 of random bits: any sign and fraction, exponents of low..high - 1."""
        bits = self.words(*shape)
        exponent = np.uint64(low) + (bits >> np.uint64(32)) % np.uint64(high - low)
        return ((bits & np.uint64(0x807FFFFF)) | exponent << np.uint64(23)).astype(np.uint32).view(f32)

    def ternary(self, n, k):
        return self.integers(-1, 1, n, k)

    def scales(self, *shape):
        """Positive, around 2^-6"""
        return np.abs(self.normal(*shape)) * f32(2.0**-6) + f32(2.0**-9)
