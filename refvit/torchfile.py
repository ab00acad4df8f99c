"""Files of torch.save (.pth, .pt, .bin), without torch and without running their pickle.

A zip archive, its members stored uncompressed (torch's own notes: torch/serialization.py):

    NAME/data.pkl    a pickle of the saved object; tensors refer to storages by key, see pickles.py
    NAME/data/KEY    the bytes of one storage
    NAME/byteorder   "little" or "big"; little where absent
"""

import math
import struct
import zipfile

import numpy as np

from . import pickles
from .errors import BadInputError, UnsupportedError
from .files import file_size, open_input
from .lookalikes import refuse_lookalike
from .safetensors import DIMENSIONS_MAX, bfloat16_to_float32

BFLOAT16 = "bfloat16"  # NumPy has none
STORAGES = {
    "FloatStorage": "f4", "DoubleStorage": "f8", "HalfStorage": "f2", "BFloat16Storage": BFLOAT16, "BoolStorage": "b1",
    "ByteStorage": "u1", "CharStorage": "i1", "ShortStorage": "i2", "IntStorage": "i4", "LongStorage": "i8",
    "UntypedStorage": "u1",
}  # fmt: skip
DTYPES = {
    "float32": "f4", "float64": "f8", "float16": "f2", "bfloat16": BFLOAT16, "bool": "b1",
    "uint8": "u1", "int8": "i1", "int16": "i2", "int32": "i4", "int64": "i8",
    "uint16": "u2", "uint32": "u4", "uint64": "u8",
}  # fmt: skip
SHARING_MAX = 16  # all tensors together against the file: tied weights repeat a storage a few times, bombs endlessly
LEGACY_MAGIC = bytes.fromhex("80028a0a6cfc9c46f9206aa850192e")  # the file format before torch 1.6
TAR_MAGIC = slice(257, 262)  # "ustar", the format before torch 0.2


def read(path):
    """The saved dict, its tensors as arrays: bfloat16 widened to float32, views on their storage where possible.

    Shared storages, strides and offsets are honoured; argparse.Namespace becomes an inert placeholder.
    Raises UnsupportedError for files of torch before 1.6 and TorchScript, BadInputError for a pickle that names
    anything else than tensors and plain containers, and for damaged files.
    """
    with open_input(path) as file:
        _refuse_legacy(path, file.read(512))
        try:
            with zipfile.ZipFile(file) as archive:
                value = _Archive(path, archive, file_size(file)).load()
        except (BadInputError, UnsupportedError):
            raise
        except zipfile.BadZipFile as error:
            refuse_lookalike(path, file, "not a file of torch.save", "tensors")
            raise BadInputError(path, f"damaged or cut off: {error}", hint="downloading it again") from None
        except (struct.error, ValueError, RuntimeError, LookupError, OverflowError, EOFError) as e:
            raise BadInputError(path, f"damaged or not a zip file of torch.save: {e}") from None
    if not isinstance(value, dict):
        raise BadInputError(path, "content", "a dict of tensors", type(value).__name__)
    return value


def _refuse_legacy(path, head):
    if head.startswith(LEGACY_MAGIC) or head[TAR_MAGIC] == b"ustar":
        raise UnsupportedError(
            path,
            "a file of torch before 1.6",
            "the zip format",
            "the legacy format",
            "torch.save(torch.load(FILE, weights_only=True), NEW_FILE), or saving it as safetensors",
        )


class _Archive:
    """One zip archive: checks its members, and rebuilds tensors from its storages."""

    def __init__(self, path, archive, size):
        self.path, self.archive, self.budget = path, archive, SHARING_MAX * size
        self.storages = {}
        self.members = _checked_members(path, archive, size)
        pickle_names = [name for name in self.members if name.endswith("/data.pkl") and name.count("/") == 1]
        if len(pickle_names) != 1:
            raise BadInputError(path, "not a file of torch.save", "one data.pkl", f"{len(pickle_names)}")
        self.prefix = pickle_names[0][: -len("data.pkl")]
        if self.prefix + "constants.pkl" in self.members:
            raise UnsupportedError(path, "a TorchScript program", hint="saving its state_dict() instead")
        self.order = self._byte_order()

    def load(self):
        """The object that was saved."""
        names = {
            "collections OrderedDict": lambda: {},
            "argparse Namespace": lambda: pickles.Inert(),
            "torch._utils _rebuild_tensor_v2": self.rebuild_tensor,
            "torch._utils _rebuild_tensor_v3": self.rebuild_tensor_of_dtype,
            "torch._utils _rebuild_parameter": lambda tensor, requires_grad, hooks: tensor,
            **{f"torch {name}": dtype for name, dtype in {**STORAGES, **DTYPES}.items()},
            "torch.storage UntypedStorage": STORAGES["UntypedStorage"],
        }
        return pickles.load(self.path, self._member("data.pkl"), names, self.storage)

    def storage(self, reference):
        """The persistent reference ("storage", type, key, device, number of elements).  -> (bytes, dtype)"""
        kind, dtype, key, _, count = reference
        if kind != "storage" or dtype not in STORAGES.values() or type(key) is not str or not _is_size(count):
            raise BadInputError(self.path, "reference to a storage", "type, key and number of elements", "others")
        if key not in self.storages:
            self.storages[key] = self._member("data/" + key)
        expected = count * _numpy_dtype(dtype, self.order).itemsize
        if len(self.storages[key]) != expected:
            raise BadInputError(self.path, f"bytes of storage {key!r}", expected, len(self.storages[key]))
        return self.storages[key], dtype

    def rebuild_tensor(self, storage, offset, size, stride, requires_grad, hooks, metadata=None):
        """torch._utils._rebuild_tensor_v2: a strided view of a storage, counted in elements."""
        data, dtype = storage
        if metadata and any(metadata.values()):
            raise BadInputError(self.path, "tensor metadata", "none set", "conjugate or negative bits")
        elements = np.frombuffer(data, _numpy_dtype(dtype, self.order))
        view = strided_view(self.path, elements, offset, size, stride)
        self.budget -= view.size * (4 if dtype == BFLOAT16 else view.itemsize)
        if self.budget < 0:
            raise BadInputError(self.path, "tensors", f"at most {SHARING_MAX} times the size of the file", "more")
        view = view.astype(view.dtype.newbyteorder("="), copy=False)
        return bfloat16_to_float32(view) if dtype == BFLOAT16 else view

    def rebuild_tensor_of_dtype(self, storage, offset, size, stride, requires_grad, hooks, dtype, metadata=None):
        """torch._utils._rebuild_tensor_v3: as above on an untyped storage."""
        if dtype not in DTYPES.values():
            raise BadInputError(self.path, "dtype", "one of " + ", ".join(DTYPES), "another")
        return self.rebuild_tensor((storage[0], dtype), offset, size, stride, requires_grad, hooks, metadata)

    def _byte_order(self):
        order = self._member("byteorder") if self.prefix + "byteorder" in self.members else b"little"
        if order not in (b"little", b"big"):
            raise BadInputError(self.path, "byteorder", "little or big", repr(order[:20]))
        return "<" if order == b"little" else ">"

    def _member(self, name):
        if self.prefix + name not in self.members:
            raise BadInputError(self.path, f"member {name!r} of the archive", "present", "missing")
        return self.archive.read(self.prefix + name)


def strided_view(where, elements, offset, size, stride):
    """The tensor that lies in ``elements`` [n] at ``offset`` with ``stride`` per dimension; bounds are checked."""
    if not all(map(_is_size, (offset, *size, *stride))) or len(size) != len(stride) or len(size) > DIMENSIONS_MAX:
        raise BadInputError(where, "tensor", "offset, size and stride in elements", "others")
    if math.prod(size) == 0:
        return elements[:0].reshape(size)
    last = offset + sum((n - 1) * step for n, step in zip(size, stride))
    if last >= len(elements):
        raise BadInputError(where, f"tensor of shape {list(size)}", f"within {len(elements)} elements", last + 1)
    steps = [step * elements.itemsize if n > 1 else 0 for n, step in zip(size, stride)]
    return np.lib.stride_tricks.as_strided(elements[offset:], size, steps, writeable=False)


def _is_size(n):
    return type(n) is int and 0 <= n < 2**60  # eight bytes each can be counted


def _numpy_dtype(dtype, order):
    return np.dtype(order + ("u2" if dtype == BFLOAT16 else dtype))


def _checked_members(path, archive, size):
    """Names of the members, all stored as torch.save does: so that together they cannot exceed the file."""
    names, total = set(), 0
    for member in archive.infolist():
        if member.compress_type != zipfile.ZIP_STORED or member.file_size != member.compress_size:
            raise BadInputError(path, f"member {member.filename!r}", "stored as torch.save does", "compressed")
        if member.filename in names:
            raise BadInputError(path, f"member {member.filename!r}", "once", "twice")
        names.add(member.filename)
        total += member.file_size
    if total > size:
        raise BadInputError(path, "members of the archive", f"at most the file's {size} bytes", total)
    return names
