"""The safetensors file format, strictly (https://github.com/huggingface/safetensors, section "Format").

    8 bytes      N, the length of the header, little-endian
    N bytes      JSON object in UTF-8, first byte "{", padded with spaces:
                 {"__metadata__": {str: str}, NAME: {"dtype": "F32", "shape": [...], "data_offsets": [begin, end]}, ...}
    the rest     the buffer; the tensors lie in it row-major and little-endian, without holes or overlaps
"""

import contextlib
import json
import math
import os

import numpy as np

from .errors import BadInputError, UsageError
from .files import atomic_write, file_size, open_input, read_exactly
from .lookalikes import refuse_lookalike

DTYPES = {
    "BOOL": "|b1", "U8": "|u1", "I8": "|i1", "U16": "<u2", "I16": "<i2", "F16": "<f2", "BF16": "<u2",
    "U32": "<u4", "I32": "<i4", "F32": "<f4", "U64": "<u8", "I64": "<i8", "F64": "<f8",
}  # fmt: skip
NAMES = {np.dtype(code): name for name, code in DTYPES.items() if name != "BF16"}
HEADER_MAX = 10_000_000  # bytes; our choice: the format allows ten times as much, a thousand tensors need a fiftieth
DIMENSIONS_MAX = 32  # of NumPy 1.26
DIGITS_MAX = 19  # of an integer in the header: enough for 2^63, and longer ones take quadratic time to parse


def read(path, widen=True):
    """Tensors and metadata of a file.

    Returns (dict: name -> array of the file's dtype, native byte order; dict: str -> str). BF16 is widened to float32,
    or, without ``widen``, left as the uint16 of its bits.
    Arrays are read-only views on one buffer where their offset is aligned. Raises BadInputError for anything that is
    not a valid file; memory is bounded by the file's size before the content is believed.
    """
    with open_input(path) as file:
        header, size = _read_header(path, file)
        metadata = _checked_metadata(path, header.pop("__metadata__", {}))
        entries = {name: _checked_entry(path, name, entry) for name, entry in header.items()}
        _check_contiguous(path, entries, size)
        buffer = read_exactly(path, file, size)
    return {name: _tensor(path, name, buffer, widen, *entry) for name, entry in entries.items()}, metadata


def read_metadata(path):
    """The metadata alone, without the tensors.  -> dict: str -> str"""
    with open_input(path) as file:
        header, _ = _read_header(path, file)
    return _checked_metadata(path, header.pop("__metadata__", {}))


def write(target, tensors, metadata=None, force=False):
    """Write a file, the same bytes for the same content on any machine.

    target    a path (written atomically, see files.atomic_write) or a binary file object
    tensors   dict: name -> array; order in the file: by size of element, largest first, then by name
    metadata  dict: str -> str, or None
    Raises UsageError for a dtype or name the format does not have, and what ``atomic_write`` raises.
    """
    arrays = in_file_order(tensors)
    header = _header_text(arrays, metadata or {})
    is_path = isinstance(target, (str, os.PathLike))
    with atomic_write(target, force) if is_path else contextlib.nullcontext(target) as file:
        file.write(len(header).to_bytes(8, "little") + header)
        for array in arrays.values():
            file.write(array.tobytes())


def in_file_order(tensors):
    """The arrays as they are written: little-endian, C-contiguous, larger elements first, then by name."""
    arrays = {name: _writable(name, array) for name, array in tensors.items()}
    return dict(sorted(arrays.items(), key=lambda item: (-item[1].itemsize, item[0])))


def bfloat16_to_float32(bits):
    """bfloat16 is the upper half of a float32.  uint16 [...] -> float32 [...]"""
    return (bits.astype(np.uint32) << 16).view(np.float32)


def parse_json(where, text):
    """JSON from an untrusted file: no duplicate keys, NaN, endless integers or deep nesting, else BadInputError."""
    try:
        return json.loads(
            text.decode("utf-8"), object_pairs_hook=_unique, parse_int=_short_int, parse_constant=_no_constant
        )
    except (ValueError, RecursionError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else error
        raise BadInputError(where, f"not valid JSON: {reason}") from None


def _read_header(path, file):
    """(JSON object, number of bytes after it) of an open file."""
    total = file_size(file)
    length = int.from_bytes(file.read(8), "little")
    if length > total - 8:
        refuse_lookalike(path, file, "not a safetensors file", "tensors")
        raise BadInputError(path, "not a safetensors file or cut off", "8 bytes and a header", f"{total} bytes in all")
    if length > HEADER_MAX:
        refuse_lookalike(path, file, "not a safetensors file", "tensors")
        raise BadInputError(path, "header too long", f"at most {HEADER_MAX} bytes", length)
    text = file.read(length)
    if text[:1] != b"{" or text.rstrip(b" ")[-1:] != b"}":
        refuse_lookalike(path, file, "not a safetensors file", "tensors")
        raise BadInputError(path, "not a safetensors file", 'a header "{...}"', repr(text[:16]))
    return parse_json(f"{path}: header", text), total - 8 - length


def _unique(pairs):
    """An object as a dict; a key twice, or text that is not Unicode, is refused."""
    result = {}
    for key, value in pairs:
        for text in (key, value) if isinstance(value, str) else (key,):
            text.encode()  # a lone surrogate raises UnicodeEncodeError, a ValueError
        if key in result:
            raise ValueError(f"duplicate key {key!r}")
        result[key] = value
    return result


def _short_int(digits):
    if len(digits) > DIGITS_MAX:
        raise ValueError(f"an integer of {len(digits)} digits")
    return int(digits)


def _no_constant(name):
    raise ValueError(f"{name} is not JSON")


def _checked_metadata(path, metadata):
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise BadInputError(path, "__metadata__", "an object of strings", repr(metadata)[:80])
    return metadata


def _checked_entry(path, name, entry):
    """(dtype name, shape, begin, end) of one tensor; its size must be that of its shape."""
    where = f"{path}: tensor {name!r}"
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise BadInputError(where, "entry", "dtype, shape and data_offsets", repr(entry)[:80])
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in DTYPES:
        raise BadInputError(where, "dtype", "one of " + ", ".join(DTYPES), repr(dtype)[:80])
    if not _are_sizes(shape) or not _are_sizes(offsets) or len(offsets) != 2 or len(shape) > DIMENSIONS_MAX:
        raise BadInputError(where, "shape and data_offsets", "lists of sizes", f"{shape!r:.80} and {offsets!r:.80}")
    if math.prod(max(n, 1) for n in shape) >= 2**60:  # with 8 bytes an element, NumPy could not count them
        raise BadInputError(where, "shape", "below 2^60 elements", shape)
    expected, got = math.prod(shape) * np.dtype(DTYPES[dtype]).itemsize, offsets[1] - offsets[0]
    if expected != got:
        raise BadInputError(where, f"bytes of {dtype} {shape}", expected, got)
    return dtype, shape, *offsets


def _are_sizes(values):
    return isinstance(values, list) and all(type(v) is int and v >= 0 for v in values)


def _check_contiguous(path, entries, size):
    """The tensors must cover the buffer exactly, one after the other."""
    position = 0
    for name, (_, _, begin, end) in sorted(entries.items(), key=lambda item: item[1][2:]):
        if begin != position:
            raise BadInputError(f"{path}: tensor {name!r}", "hole or overlap", f"begin {position}", begin)
        position = end
    if position != size:
        what, hint = ("cut off", "downloading it again") if size < position else ("bytes after the last tensor", None)
        raise BadInputError(path, what, f"{position} bytes of tensors", size, hint)


def _tensor(path, name, buffer, widen, dtype, shape, begin, end):
    array = np.frombuffer(buffer, DTYPES[dtype], math.prod(shape), begin) if end > begin else np.empty(0, DTYPES[dtype])
    if dtype == "BOOL" and array.view(np.uint8).max(initial=0) > 1:
        raise BadInputError(f"{path}: tensor {name!r}", "bytes of BOOL", "0 or 1", array.view(np.uint8).max())
    if dtype == "BF16" and widen:
        array = bfloat16_to_float32(array)
    native = array.astype(array.dtype.newbyteorder("="), copy=not array.flags.aligned)
    return native.reshape(shape)


def _header_text(arrays, metadata):
    """The header's bytes, padded with spaces so that the buffer starts at a multiple of 8."""
    for text in [*metadata, *metadata.values()]:
        _check_text("metadata", text)
    header, end = {"__metadata__": dict(sorted(metadata.items()))} if metadata else {}, 0
    for name, array in arrays.items():
        begin, end = end, end + array.nbytes
        header[name] = {"dtype": NAMES[array.dtype], "shape": list(array.shape), "data_offsets": [begin, end]}
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    if len(text) > HEADER_MAX:
        raise UsageError("safetensors", "header", f"at most {HEADER_MAX} bytes", len(text))
    return text


def _writable(name, array):
    """The array, row-major and little-endian."""
    _check_text("tensor name", name)
    array = np.asarray(array, order="C")
    little = array.dtype.newbyteorder("<")
    if little not in NAMES or name == "__metadata__":
        raise UsageError(f"tensor {name!r}", "cannot be stored", "a number array and a plain name", array.dtype)
    return array.astype(little, copy=False)


def _check_text(what, text):
    try:
        text.encode()
    except (AttributeError, UnicodeEncodeError):
        raise UsageError("safetensors", what, "Unicode text", repr(text)) from None
