"""The bytes of packed files, taken apart and put together again, right or wrong in one way."""

import io
import json
import math

import numpy as np

from ... import safetensors
from ...modelfile import content_sha256


def opened(data):
    header, buffer = split(data)
    meta = header.pop("__metadata__")
    tensors = {}
    for tensor, entry in header.items():
        values = np.frombuffer(buffer[slice(*entry["data_offsets"])], safetensors.DTYPES[entry["dtype"]])
        tensors[tensor] = values.reshape(entry["shape"]).copy()
    return tensors, meta


def joined(tensors, meta):
    """A file of what may be wrong, its sha256 right."""
    file = io.BytesIO()
    safetensors.write(file, tensors, {**meta, "sha256": content_sha256(tensors, meta)})
    return file.getvalue()


def split(data):
    """-> header as an object, buffer"""
    length = int.from_bytes(data[:8], "little")
    return json.loads(data[8 : 8 + length]), data[8 + length :]


def with_header(header, buffer, **layout):
    """A file of another header: an object, or its bytes."""
    text = header if isinstance(header, bytes) else json.dumps(header, ensure_ascii=False, **layout).encode()
    return len(text).to_bytes(8, "little") + text + buffer


def resealed(header, buffer):
    """The same, its sha256 that of what a reader finds who believes shapes and beginnings alone."""
    tensors = {}
    for name, entry in header.items():
        if name != "__metadata__":
            dtype, begin = safetensors.DTYPES[entry["dtype"]], entry["data_offsets"][0]
            tensors[name] = np.frombuffer(buffer, dtype, math.prod(entry["shape"]), begin)
    header["__metadata__"]["sha256"] = content_sha256(tensors, header["__metadata__"])
    return with_header(header, buffer)


def reordered(header, meta, buffer):
    """The tensors of a file from the last to the first."""
    entries, data = {}, b""
    for name, entry in reversed(header.items()):
        piece = buffer[slice(*entry["data_offsets"])]
        entries[name] = {**entry, "data_offsets": [len(data), len(data) + len(piece)]}
        data += piece
    return with_header({**meta, **entries}, data)
