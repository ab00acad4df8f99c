"""Ternary codes as bit-planes and as a base-3 stream (rule N2).

Planes [2, N, W], W = ceil(K / 64): bit j of word w stands for column 64 w + j, plane 0 for +1, plane 1 for -1. In
memory the words are native integers; in a file they are little-endian. N rows (output channels), K columns.
"""

import numpy as np

from .errors import BadInputError
from .rules import BASE3_DIGITS, BASE3_MAX, WORD_BITS

_POWERS = 3 ** np.arange(BASE3_DIGITS)  # digit i of a byte counts 3^i
_BYTE_CODES = (np.arange(BASE3_MAX + 1)[:, None] // _POWERS % 3 - 1).astype(np.int8)  # [243, 5]


def words_of(k):
    """Words of a row of ``k`` codes."""
    return -(-k // WORD_BITS)


def base3_bytes(count):
    """Bytes of a base-3 stream of ``count`` codes."""
    return -(-count // BASE3_DIGITS)


def pack_planes(codes):
    """int8 [N, K] in {-1, 0, 1} -> uint64 [2, N, ceil(K / 64)]. Raises BadInputError for other values."""
    check_codes(codes)
    n, k = codes.shape
    bits = np.zeros((2, n, words_of(k) * WORD_BITS), bool)
    bits[0, :, :k], bits[1, :, :k] = codes > 0, codes < 0
    return np.packbits(bits, axis=-1, bitorder="little").view("<u8").astype(np.uint64)


def unpack_planes(planes, k):
    """uint64 [2, N, ceil(K / 64)] -> int8 [N, K]. Raises BadInputError as ``check_planes``."""
    check_planes(planes, k)
    bits = np.unpackbits(_bytes(planes), axis=-1, count=k, bitorder="little").view(np.int8)
    return bits[0] - bits[1]


def check_planes(planes, k):
    """Raise BadInputError unless the planes fit ``k`` columns, no code has both signs and the padding is zero."""
    w = words_of(k)
    ok = isinstance(planes, np.ndarray) and planes.dtype == np.uint64 and planes.ndim == 3
    if not ok or planes.shape[0] != 2 or planes.shape[2] != w:
        raise BadInputError("bit-planes", "array", f"uint64 (2, N, {w}) for {k} columns", _kind(planes))
    both = planes[0] & planes[1]
    if both.any():
        row, column = _first_bit(both)
        raise BadInputError("bit-planes", f"row {row}, column {column}", "one plane set at most", "both")
    if k % WORD_BITS:
        dirty = (planes[0] | planes[1])[:, -1:] >> np.uint64(k % WORD_BITS)
        if dirty.any():
            row, column = _first_bit(dirty)
            raise BadInputError("bit-planes", f"padding at row {row}, column {k + column}", "zero bits", "a set bit")


def check_codes(codes):
    """Raise BadInputError unless ``codes`` is an int8 matrix of -1, 0 and 1."""
    if not isinstance(codes, np.ndarray) or codes.dtype != np.int8 or codes.ndim != 2:
        raise BadInputError("ternary codes", "array", "int8 (N, K)", _kind(codes))
    if codes.size and (codes.min() < -1 or codes.max() > 1):
        row, column = np.argwhere((codes < -1) | (codes > 1))[0]
        raise BadInputError("ternary codes", f"row {row}, column {column}", "-1, 0 or 1", codes[row, column])


def encode_base3(codes):
    """int8 [N, K] -> uint8 [ceil(N K / 5)]: byte = sum of (c_i + 1) 3^i over five codes, row-major.

    Rows are not padded; the last byte is filled up with digits 1 (code 0). Raises BadInputError for other values.
    """
    check_codes(codes)
    digits = np.ones((base3_bytes(codes.size), BASE3_DIGITS), np.uint8)
    digits.flat[: codes.size] = codes.ravel() + 1
    return (digits @ _POWERS.astype(np.uint8)).astype(np.uint8)


def decode_base3(stream, shape):
    """uint8 [ceil(N K / 5)], (N, K) -> int8 [N, K]. Raises BadInputError for a wrong length, byte or tail digit."""
    n, k = shape
    length = base3_bytes(n * k)
    ok = isinstance(stream, np.ndarray) and stream.dtype == np.uint8 and stream.ndim == 1
    if not ok or len(stream) != length:
        raise BadInputError("base-3 stream", "array", f"uint8 ({length},) for {n} x {k} codes", _kind(stream))
    if (stream > BASE3_MAX).any():
        i = int(np.argmax(stream > BASE3_MAX))
        raise BadInputError("base-3 stream", f"byte {i}", f"at most {BASE3_MAX}", stream[i])
    codes = _BYTE_CODES[stream].reshape(-1)
    if codes[n * k :].any():
        raise BadInputError("base-3 stream", "last byte", "digits 1 after the last code", stream[-1])
    return codes[: n * k].reshape(n, k)


def _bytes(planes):
    """The words as little-endian bytes.  uint64 [..., W] -> uint8 [..., 8 W]"""
    return np.ascontiguousarray(planes, "<u8").view(np.uint8)


def _first_bit(words):
    """(row, column) of the first set bit of a plane [N, W]."""
    return (int(i) for i in np.argwhere(np.unpackbits(_bytes(words), axis=-1, bitorder="little"))[0])


def _kind(value):
    return f"{value.dtype} {value.shape}" if isinstance(value, np.ndarray) else type(value).__name__
