"""Reading a kit (tests/vectors/KIT.md): all of the manifest is checked first, tensors when their case is asked for."""

import hashlib
import math
import os
import re
from collections import Counter
from dataclasses import dataclass

import numpy as np

from ..conformance.difference import within
from ..errors import BadInputError
from ..files import read_bytes
from ..rules import SPEC_VERSION
from ..safetensors import parse_json
from .kit import DTYPES, EXPECTATIONS, FORMAT, KIT_VERSION, MANIFEST, VALUES_MAX, Case, Tensor

PATH = re.compile(r"[a-z0-9_-][a-z0-9_.-]*(/[a-z0-9_-][a-z0-9_.-]*)*")  # stays inside its folder
PATH_MAX, AXES_MAX, BYTES_MAX, MANIFEST_MAX = 200, 8, 2**30, 2**26
BOUNDED = ("bound", "near-tie")
TEXTS = ("id", "operation", "comment", "expectation")


@dataclass(frozen=True)
class Kit:
    """A kit whose manifest is right.  rows: its cases as the manifest has them; iterating gives each Case, in order"""

    path: str
    level: int
    rules: dict
    flags: dict
    rows: list

    def __len__(self):
        return len(self.rows)

    def __iter__(self):
        return map(self.case, self.rows)

    def case(self, row):
        """-> Case. Raises BadInputError where a file is missing or not the manifest's."""
        bounded = {"inputs": False, "outputs": row["expectation"] in BOUNDED}
        tensors = {key: tuple(self.tensor(row["id"], e, b) for e in row[key]) for key, b in bounded.items()}
        for tensor in tensors["outputs"]:
            check_output(row["id"], tensor)
        fields = {key: row[key] for key in (*TEXTS, "parameters")}
        return Case(**fields, **tensors, rules=tuple(row["rules"]), flags=tuple(row["flags"]))

    def tensor(self, where, entry, bounded):
        value = self.array(entry, entry)
        if "values" in entry and not same_values(value, entry["values"]):
            raise BadInputError(f"{where}: {entry['name']}", "values", "those of its file", f"{entry['values']!s:.80}")
        bounds = (self.array(entry, entry[key]) for key in ("low", "high")) if bounded else ()
        return Tensor(entry["name"], value, *bounds)

    def array(self, entry, place):
        """The array of a file of the kit, little-endian there."""
        where, dtype = os.path.join(self.path, place["file"]), np.dtype(entry["dtype"])
        size = math.prod(entry["shape"]) * dtype.itemsize
        data = read_bytes(where, size)
        if len(data) != size:
            raise BadInputError(where, "cut off", f"{size} bytes of {dtype} {entry['shape']}", len(data))
        digest = hashlib.sha256(data).hexdigest()
        if digest != place["sha256"]:
            raise BadInputError(where, "damaged: sha256", place["sha256"], digest)
        return np.frombuffer(data, dtype.newbyteorder("<")).astype(dtype).reshape(entry["shape"])


def check_output(where, tensor):
    """What is right must be a number, and within its bounds."""
    value = tensor.value
    wrong = np.isnan(value).any() if tensor.low is None else not within(value, tensor.low, tensor.high).all()
    if wrong:
        raise BadInputError(f"{where}: {tensor.name}", "output", "numbers, within their bounds", "others")


def same_values(value, texts):
    """Whether texts as C99 writes them are the elements of an array, to the sign of a zero."""
    parse = float.fromhex if value.dtype.kind == "f" else int
    try:
        read = np.array([parse(text) for text in texts], value.dtype).reshape(value.shape)
    except (ValueError, TypeError, OverflowError):
        return False
    return read.tobytes() == value.tobytes()


def read_kit(path):
    """-> Kit. Raises BadInputError for what is not a kit of this version, or breaks KIT.md."""
    where = os.path.join(path, MANIFEST)
    if os.path.exists(path) and not os.path.exists(where):
        raise BadInputError(path, "not a kit", f"a folder with {MANIFEST}", "none in it", "refvit vectors build")
    data = read_bytes(where, MANIFEST_MAX)
    if not data.isascii():
        raise BadInputError(where, "text", "ASCII", "other bytes")
    found = checked(where, parse_json(where, data), dict, "an object")
    if found.get("format") != FORMAT:
        raise BadInputError(
            where, "not a kit", f"format {FORMAT}", f"{found.get('format')!r:.80}", "refvit vectors build"
        )
    for key, version in (("kit_version", KIT_VERSION), ("spec_version", SPEC_VERSION)):
        if type(found.get(key)) is not int or found[key] != version:
            raise BadInputError(where, key, version, f"{found.get(key)!r:.80}")
    rules, flags = (titles(where, found, key) for key in ("rules", "flags"))
    rows = checked(f"{where}: cases", found.get("cases"), list, "a list, not empty")
    for i, row in enumerate(rows):
        check_row(f"{where}: case {i}", row, rules, flags)
    check_distinct(f"{where}: cases", [row["id"] for row in rows])
    return Kit(str(path), checked(f"{where}: level", found.get("level"), int, "1 or 2"), rules, flags, rows)


def checked(where, value, kind, expected):
    """A value of a kind; a list or a number must not be empty or 0."""
    if type(value) is not kind or (kind is not dict and not value):
        raise BadInputError(where, "wrong or missing", expected, f"{value!r:.80}")
    return value


def titles(where, found, key):
    table = checked(f"{where}: {key}", found.get(key), dict, "an object of texts")
    for title in table.values():
        checked(f"{where}: {key}", title, str, "texts")
    return table


def check_row(where, row, rules, flags):
    """All of a case but its files."""
    checked(where, row, dict, "an object")
    for key in TEXTS:
        checked(f"{where}: {key}", row.get(key), str, "a text")
    if not is_path(row["id"]) or not row["id"].startswith(f"{row['operation']}/"):
        raise BadInputError(where, "id", "OPERATION/LABEL of a-z 0-9 _ - . /", f"{row['id']!r:.80}")
    where = f"{where}, {row['id']}"
    if row["expectation"] not in EXPECTATIONS:
        raise BadInputError(where, "expectation", " ".join(EXPECTATIONS), f"{row['expectation']!r:.80}")
    parameters = checked(f"{where}: parameters", row.get("parameters"), dict, "an object")
    for value in parameters.values():
        if not all(type(v) in (int, str) for v in (value if isinstance(value, list) else [value])):
            raise BadInputError(where, "parameters", "integers, texts, lists of them", f"{value!r:.80}")
    for key, table in (("rules", rules), ("flags", flags)):
        names = row.get(key)
        if not isinstance(names, list) or not all(isinstance(name, str) and name in table for name in names):
            raise BadInputError(where, key, f"a list of keys of the manifest's {key}", f"{names!r:.80}")
    for key in ("inputs", "outputs"):
        if not isinstance(row.get(key), list) or (key == "outputs" and not row[key]):
            raise BadInputError(where, key, "a list of tensors", f"{row.get(key)!r:.80}")
        for entry in row[key]:
            check_tensor(f"{where}: {key}", entry, key == "outputs" and row["expectation"] in BOUNDED)
        check_distinct(f"{where}: {key}", [entry["name"] for entry in row[key]])


def check_tensor(where, entry, bounded):
    """A tensor of the manifest, and that it stays inside the folder."""
    name, dtype, shape = (checked(where, entry, dict, "an object").get(key) for key in ("name", "dtype", "shape"))
    if not is_path(name) or "/" in name:
        raise BadInputError(where, "name", "a-z 0-9 _ - .", f"{name!r:.80}")
    where = f"{where}: {name}"
    if dtype not in DTYPES or (bounded and dtype == "uint64"):
        raise BadInputError(where, "dtype", " ".join(DTYPES), f"{dtype!r:.80}")
    sizes = isinstance(shape, list) and all(type(n) is int and n >= 0 for n in shape)
    room = BYTES_MAX // np.dtype(dtype).itemsize
    if not sizes or not 1 <= len(shape) <= AXES_MAX or math.prod(max(n, 1) for n in shape) > room:
        raise BadInputError(where, "shape", f"1 to {AXES_MAX} sizes, at most {BYTES_MAX} bytes", f"{shape!r:.80}")
    if "values" in entry and (not isinstance(entry["values"], list) or len(entry["values"]) > VALUES_MAX):
        raise BadInputError(where, "values", f"a list of at most {VALUES_MAX}", f"{entry['values']!r:.80}")
    for key in ("", "low", "high") if bounded else ("",):
        place = checked(f"{where}: {key}", entry.get(key) if key else entry, dict, "a file and its sha256")
        if not is_path(place.get("file")):
            raise BadInputError(
                where, "file", "a path inside the kit, of a-z 0-9 _ - . /", f"{place.get('file')!r:.80}"
            )
        checked(f"{where}: sha256", place.get("sha256"), str, "a text")


def is_path(text):
    return isinstance(text, str) and len(text) <= PATH_MAX and PATH.fullmatch(text) is not None


def check_distinct(where, names):
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise BadInputError(where, "names", "each once", f"{twice[0]} again")
