"""Files as torch.save writes them, without torch: a pickler that names torch's functions, and the zip archive."""

import collections
import io
import pickle
import zipfile

import numpy as np

STORAGE = {"f4": "Float", "f8": "Double", "f2": "Half", "b1": "Bool", "u1": "Byte", "i1": "Char", "i2": "Short",
           "i4": "Int", "i8": "Long"}  # fmt: skip


class Name:
    """What is pickled as a GLOBAL; callable, as the pickler asks of the first value of a reduction."""

    def __init__(self, name):
        self.name = name

    def __call__(self):
        raise AssertionError("only pickled, never called")


class Reference:
    """A persistent reference, by default to a storage."""

    def __init__(self, kind, key, count, marker="storage"):
        self.value = (marker, Name(kind) if isinstance(kind, str) else kind, key, "cpu", count)


class Reduction:
    """A call of a named function."""

    def __init__(self, name, *arguments):
        self.value = (Name(name), arguments)


class TorchPickler(pickle._Pickler):
    def save(self, obj, save_persistent_id=True):
        if isinstance(obj, Name):
            self.write(pickle.GLOBAL + obj.name.replace(" ", "\n").encode() + b"\n")
        else:
            super().save(obj, save_persistent_id)

    def persistent_id(self, obj):
        return obj.value if isinstance(obj, Reference) else None

    def reducer_override(self, obj):
        return obj.value if isinstance(obj, Reduction) else NotImplemented


def pickled(value, protocol=2):
    file = io.BytesIO()
    TorchPickler(file, protocol).dump(value)
    return file.getvalue()


def tensor(reference, offset, size, stride, function="torch._utils _rebuild_tensor_v2", *extra):
    return Reduction(function, reference, offset, size, stride, False, collections.OrderedDict(), *extra)


def archive_bytes(data_pkl, storages, prefix="archive", compression=zipfile.ZIP_STORED, **members):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        archive.writestr(f"{prefix}/data.pkl", data_pkl)
        for name, data in {"byteorder": b"little", "version": b"3\n", **members}.items():
            archive.writestr(f"{prefix}/{name}", data)
        for key, data in storages.items():
            archive.writestr(f"{prefix}/data/{key}", data)
    return file.getvalue()


def saved_bytes(value, protocol=2):
    """torch.save of nested dicts whose arrays become tensors, each with a storage of its own."""
    storages = {}

    def convert(value):
        if isinstance(value, dict):
            return collections.OrderedDict((k, convert(v)) for k, v in value.items())
        if not isinstance(value, np.ndarray):
            return value
        key, array = str(len(storages)), np.asarray(value, order="C")
        storages[key] = array.astype(array.dtype.newbyteorder("<")).tobytes()
        reference = Reference(f"torch {STORAGE[array.dtype.str[1:]]}Storage", key, array.size)
        strides = tuple(step // array.itemsize for step in array.strides)
        return tensor(reference, 0, value.shape, strides)

    return archive_bytes(pickled(convert(value), protocol), storages)
