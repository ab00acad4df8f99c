"""The gate of the kernels: what an array argument must be before its memory is handed to C."""

import operator

import numpy as np

from .errors import UsageError
from .quant import code_range


def array(where, value, dtype, shape):
    """``value``, C-contiguous and aligned (copied if it was not). None in ``shape`` stands for any length.

    Raises UsageError for another type, dtype or shape; nothing is converted.
    """
    ok = isinstance(value, np.ndarray) and value.dtype == dtype and value.ndim == len(shape)
    if not ok or any(want not in (None, got) for want, got in zip(shape, value.shape)):
        lengths = ", ".join("any" if n is None else str(n) for n in shape)
        raise UsageError(where, "array", f"{np.dtype(dtype)} of shape ({lengths})", kind(value))
    return contiguous(value)


def batches(where, x, w, dtype):
    """Two arrays [..., M, K] and [..., N, K] with equal leading axes, contiguous. Raises UsageError otherwise."""
    for name, value in (("first factor", x), ("second factor", w)):
        if not isinstance(value, np.ndarray) or value.dtype != dtype or value.ndim < 2:
            raise UsageError(where, name, f"{np.dtype(dtype)} of at least two axes", kind(value))
    if x.shape[:-2] != w.shape[:-2] or x.shape[-1] != w.shape[-1]:
        raise UsageError(where, "shapes", "equal leading axes and equal last axis", f"{x.shape} and {w.shape}")
    return contiguous(x), contiguous(w)


def integer(where, value, low, high):
    """``value`` as an int. Raises UsageError unless it is an integer from ``low`` to ``high``."""
    if not hasattr(value, "__index__") or isinstance(value, bool) or not low <= value <= high:
        raise UsageError(where, "integer", f"{low} to {high}", repr(value))
    return operator.index(value)


def code_bits(where, x, bits):
    """Raise UsageError unless the int8 codes ``x`` are two's complement numbers of ``bits`` bits."""
    low, high = -(1 << (bits - 1)), (1 << (bits - 1)) - 1
    if bits < 8 and x.size and (x.min() < low or x.max() > high):
        raise UsageError(where, f"codes of {bits} bits", f"{low} to {high}", f"{x.min()} to {x.max()}")


def static_scale(where, s, zp, rows, bits, quantizer):
    """Given scales [T], finite and above 0, and zero points [T] in the range of codes, zeros for "symmetric".

    Raises UsageError otherwise.
    """
    s = array(f"{where}: s", s, np.float32, (rows,))
    if not ((s > 0) & np.isfinite(s)).all():
        raise UsageError(where, "scale", "finite numbers above 0", s[~((s > 0) & np.isfinite(s))][0])
    if quantizer == "symmetric":
        return s, np.zeros(rows, np.int32)
    zp = array(f"{where}: zp", zp, np.int32, (rows,))
    low, high = code_range(bits, quantizer)
    if rows and (zp.min() < low or zp.max() > high):
        raise UsageError(where, "zero point", f"{low} to {high}", f"{zp.min()} to {zp.max()}")
    return s, zp


def contiguous(value):
    return np.require(value, requirements=("C", "A"))


def kind(value):
    """dtype and shape of an array, or the type of anything else, for messages."""
    return f"{value.dtype} of shape {value.shape}" if isinstance(value, np.ndarray) else type(value).__name__
