"""The tensors of another implementation: safetensors, .npz, or a folder of .npy and raw .bin files named as in REF.

Nothing is unpickled. A raw .bin holds REF's dtype and shape, row-major and little-endian. Other dtypes are taken over
where REF's dtype holds the same values.
"""

import os
from dataclasses import dataclass, field

import numpy as np

from .. import safetensors
from ..errors import BadInputError
from ..files import file_size, open_input, read_exactly
from ..npy import KINDS, Archive, Header, read_npy

ZIP_MAGIC, NPY_MAGIC = b"PK", b"\x93NUMPY"


@dataclass
class Foreign:
    """What was read of OTHER.

    tensors    dict: name -> array of REF's dtype and shape, or as it was found where that cannot be
    headers    dict: name -> Header (dtype, shape) of tensors of another shape, which are not compared
    converted  dict: name -> dtype it had, where REF's dtype holds the same values
    extra      names that REF does not have
    path, read where it was read from; function: name, array of the expected dtype and shape -> array or Header
    """

    tensors: dict = field(default_factory=dict)
    headers: dict = field(default_factory=dict)
    converted: dict = field(default_factory=dict)
    extra: list = field(default_factory=list)
    path: str = ""
    read: object = None

    def enter(self, name, ref):
        """Read a tensor and take it over, as far as it is like ``ref``."""
        take(self, f"{self.path}: {name}", name, self.read(name, ref), ref)

    def late(self, name, ref):
        """The same for one that REF leaves out, once it is known what it must be."""
        if name in self.extra:
            self.extra.remove(name)
            self.enter(name, ref)


def read_foreign(path, reference):
    """reference: dict: name -> array of REF.  -> Foreign. Raises BadInputError where nothing can be compared."""
    names, read = opened(path)
    found = Foreign(extra=sorted(set(names) - set(reference)), path=path, read=read)
    for name in reference:
        if name in names:
            found.enter(name, reference[name])
    if not found.tensors and not found.headers:
        got = f"{len(names)} others" if names else "none"
        raise BadInputError(path, "tensors", "names of REF, as " + next(iter(reference)), got)
    return found


def opened(path):
    """-> names, function: name, REF's array -> array or Header"""
    if os.path.isdir(path):
        return folder(path)
    with open_input(path) as file:
        magic = file.read(6)
    if magic == NPY_MAGIC:
        raise BadInputError(path, "OTHER", "safetensors, .npz or a folder", "a single .npy file")
    if magic.startswith(ZIP_MAGIC):
        archive = Archive(path)
        return archive.members, lambda name, ref: archive.read(name, ref.size)
    tensors, _ = safetensors.read(path)
    return tensors, lambda name, ref: tensors[name]


def folder(path):
    """A folder of NAME.npy and NAME.bin; a NAME with / lies in folders below."""
    names = {}
    for file in sorted(files_below(path)):
        name, suffix = os.path.splitext(file)
        if suffix in (".npy", ".bin") and names.setdefault(name, file) != file:
            raise BadInputError(path, f"tensor {name}", "one file", f"{names[name]} and {file}")

    def read(name, ref):
        where = os.path.join(path, names[name])
        return read_npy(where, ref.size) if where.endswith(".npy") else read_raw(where, ref)

    return names, read


def files_below(path):
    """Names of all files under a folder, with / between the folders."""

    def fail(error):
        raise BadInputError(path, f"cannot be listed: {error.strerror}")

    for place, _, files in os.walk(path, onerror=fail):
        for file in files:
            yield os.path.relpath(os.path.join(place, file), path).replace(os.sep, "/")


def read_raw(path, ref):
    """Bare bytes."""
    with open_input(path) as file:
        size = file_size(file)
        if size != ref.nbytes:
            each = f", {size // ref.size} for each value" if size and ref.size and size % ref.size == 0 else ""
            raise BadInputError(path, "length", f"{ref.nbytes} bytes of {ref.dtype} {list(ref.shape)}", f"{size}{each}")
        data = read_exactly(path, file, size)
    return np.frombuffer(data, ref.dtype.newbyteorder("<")).astype(ref.dtype).reshape(ref.shape)


def take(found, where, name, value, ref):
    """Enter one tensor."""
    if value.dtype.kind not in KINDS:
        raise BadInputError(where, "dtype", "integers or floats", value.dtype)
    if isinstance(value, Header) or value.shape != ref.shape:
        found.headers[name] = Header(value.dtype, value.shape)
        return
    same = as_dtype(value, ref.dtype)
    found.tensors[name] = value if same is None else same
    if same is not None and value.dtype != ref.dtype:
        found.converted[name] = value.dtype.name


def as_dtype(value, dtype):
    """The same values in another dtype, or None where it does not hold them."""
    if value.dtype == dtype:
        return value
    if dtype.kind in "iu":
        info = np.iinfo(dtype)
        if value.size and not (np.isfinite(value).all() and value.min() >= info.min and value.max() <= info.max):
            return None
    with np.errstate(all="ignore"):
        new = value.astype(dtype)
        return new if np.array_equal(new.astype(value.dtype), value, equal_nan=value.dtype.kind == "f") else None
