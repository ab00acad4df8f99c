"""How two tensors differ: bit for bit, and by how much. Floats are measured in ulp, integers in steps."""

import re
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Difference:
    """count values of size differ, the first at index; worst and mean in ``unit``, NaN left out and counted in nans."""

    index: tuple
    expected: object
    got: object
    count: int
    size: int
    unit: str
    worst: int
    mean: float
    nans: int

    @property
    def share(self):
        return self.count / self.size


def difference(expected, got, low=None, high=None):
    """None where both hold the same bits (or, in another dtype, the same values).  Arrays of one shape -> Difference

    low, high  where given, all values between them are right, and the others' distances are to the nearer bound
    """
    changed = changes(expected, got) if low is None else ~within(got, low, high)
    if not changed.any():
        return None
    with np.errstate(invalid="ignore"):  # a NaN, which is counted by itself
        nearest = expected if low is None else np.clip(got, low, high).astype(expected.dtype)
    index = np.unravel_index(int(np.argmax(changed)), changed.shape)
    nan = np.isnan(got) if got.dtype.kind == "f" else np.zeros(got.shape, bool)
    distance = np.where(nan, 0, distances(nearest, got))
    count = max(1, int((~nan).sum()))
    unit = "ulp" if expected.dtype.kind == "f" else "step"
    return Difference(
        tuple(int(i) for i in index), expected[index], got[index], int(changed.sum()), changed.size, unit,
        int(distance.max()), float(distance.sum() / count), int(nan.sum())
    )  # fmt: skip


def within(value, low, high):
    """Where low <= value <= high; a NaN is not."""
    return (low <= value) & (value <= high)


def changes(expected, got):
    """Where two arrays differ; -0 is not +0, and every NaN is a change."""
    if expected.dtype == got.dtype:
        return expected.view(bits_of(expected)) != got.view(bits_of(got))
    return expected.astype(np.float64) != got.astype(np.float64)


def distances(expected, got):
    """ulp between float32 values (what lies between them), or steps between integers.  -> float64"""
    if expected.dtype == got.dtype == np.uint64:  # float64 holds the differences well, not the numbers
        return (np.maximum(expected, got) - np.minimum(expected, got)).astype(np.float64)
    if expected.dtype.kind != "f":
        return np.abs(np.nan_to_num(got.astype(np.float64)) - expected.astype(np.float64))
    with np.errstate(over="ignore", invalid="ignore"):
        return np.abs(ordinal(got.astype(np.float32)) - ordinal(expected)).astype(np.float64)


def ordinal(x):
    """Consecutive float32 values as consecutive integers, both zeros 0.  -> int64"""
    bits = np.ascontiguousarray(x).view(np.int32).astype(np.int64)
    return np.where(bits < 0, -(bits & 0x7FFFFFFF), bits)


def bits_of(x):
    return np.dtype(f"u{x.dtype.itemsize}")


def hexadecimal(value):
    """A number's exact text: floats as C99 writes them, integers in decimal."""
    if np.asarray(value).dtype.kind != "f":
        return str(int(value))
    return re.sub(r"\.?0+p", "p", float(value).hex())
