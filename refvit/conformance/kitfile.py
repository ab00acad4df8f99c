"""Reading a kit (tests/vectors/KIT.md)."""

import hashlib
import os

import numpy as np

from ..errors import BadInputError
from ..files import read_bytes
from ..safetensors import parse_json
from .kit import MANIFEST, Case, Tensor


def read_kit(path):
    """-> list of Case, in the kit's order. Raises BadInputError where a file is missing or not the manifest's."""
    where = os.path.join(path, MANIFEST)
    manifest = parse_json(where, read_bytes(where))
    return [case_of(path, row) for row in manifest["cases"]]


def case_of(path, row):
    tensors = {key: tuple(tensor_of(path, entry) for entry in row[key]) for key in ("inputs", "outputs")}
    return Case(**{**row, **tensors, "rules": tuple(row["rules"]), "flags": tuple(row["flags"])})


def tensor_of(path, entry):
    low, high = (array_of(path, entry, entry[key]) if key in entry else None for key in ("low", "high"))
    return Tensor(entry["name"], array_of(path, entry, entry), low, high)


def array_of(path, entry, place):
    where = os.path.join(path, place["file"])
    data = read_bytes(where)
    digest = hashlib.sha256(data).hexdigest()
    if digest != place["sha256"]:
        raise BadInputError(where, "damaged: sha256", place["sha256"], digest)
    dtype = np.dtype(entry["dtype"])
    return np.frombuffer(data, dtype.newbyteorder("<")).astype(dtype).reshape(entry["shape"])
