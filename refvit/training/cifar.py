"""CIFAR-10 as its authors distribute it: the python version (pickles) and the binary version (fixed records).

A picture is 3072 bytes: 1024 of red, 1024 of green, 1024 of blue, each 32 rows of 32. The pickles are interpreted by
the allow-list reader of pickles.py and never executed.
Shapes: N pictures.
"""

import numpy as np

from .. import pickles
from ..errors import BadInputError

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
FILES = {"train": [f"data_batch_{i}" for i in range(1, 6)], "test": ["test_batch"]}
SIDE = 32
PIXELS = 3 * SIDE * SIDE  # bytes of a picture
SIZE_MAX = 1 << 26  # bytes of a file; the real ones have 31 MB
TEXT = ("BINSTRING", "SHORT_BINSTRING", "BINBYTES", "SHORT_BINBYTES")


def read_binary(where, data):
    """Records of a label byte and a picture -> (uint8 [N, 32, 32, 3], int64 [N]). Raises BadInputError."""
    if not data or len(data) % (1 + PIXELS):
        raise BadInputError(where, "bytes of a CIFAR-10 file", f"a multiple of {1 + PIXELS}", len(data))
    records = np.frombuffer(data, np.uint8).reshape(-1, 1 + PIXELS)
    return _checked(where, records[:, 1:], records[:, 0])


def read_python(where, data):
    """A pickled dict with "data", uint8 [N, 3072], and "labels" -> as ``read_binary``. Raises BadInputError."""
    if len(data) > SIZE_MAX:
        raise BadInputError(where, "CIFAR-10 file too large", f"at most {SIZE_MAX} bytes", len(data))
    value = pickles.run(_Machine(where, NAMES, None), data)
    pixels, labels = (value.get(key) if isinstance(value, dict) else None for key in ("data", "labels"))
    if not isinstance(pixels, _Array) or not isinstance(labels, list):
        raise BadInputError(where, "content of a CIFAR-10 pickle", 'a dict with arrays "data" and "labels"', "others")
    if not all(type(label) is int and 0 <= label < len(CLASSES) for label in labels):
        raise BadInputError(where, "labels", f"integers below {len(CLASSES)}", "others")
    return _checked(where, pixels.rows(where), labels)


def _checked(where, pixels, labels):
    labels = np.array(labels, dtype=np.int64)
    if len(labels) != len(pixels):
        raise BadInputError(where, "labels", f"one for each of {len(pixels)} pictures", len(labels))
    if labels.max() >= len(CLASSES):
        raise BadInputError(where, "label", f"below {len(CLASSES)}", labels.max())
    return np.ascontiguousarray(pixels.reshape(-1, 3, SIDE, SIDE).transpose(0, 2, 3, 1)), labels


class _Array(pickles.Inert):
    """A pickled numpy array: only its state is kept, (version, shape, dtype, is Fortran order, bytes as text)."""

    state = None

    def rows(self, where):
        """uint8 [N, 3072]"""
        known = isinstance(self.state, tuple) and len(self.state) == 5
        _, shape, dtype, fortran, text = self.state if known else (None,) * 5
        if not isinstance(dtype, _Dtype) or dtype.name != "u1" or fortran is not False or type(text) is not str:
            raise BadInputError(where, '"data"', "an array of bytes, rows first", "another")
        if not isinstance(shape, tuple) or not text or shape != (len(text) // PIXELS, PIXELS) or len(text) % PIXELS:
            raise BadInputError(where, 'shape of "data"', f"[N, {PIXELS}] for {len(text)} bytes", f"{shape!r:.99}")
        return np.frombuffer(text.encode("latin-1"), np.uint8).reshape(shape)


class _Dtype(pickles.Inert):
    def __init__(self, name):
        self.name = name


NAMES = {
    **{f"numpy.{core}.multiarray _reconstruct": lambda kind, shape, code: _Array() for core in ("core", "_core")},
    "numpy ndarray": None,
    "numpy dtype": lambda name, align, copy: _Dtype(name),
    "_codecs encode": lambda text, coding: text,  # how Python 3 writes bytes for Python 2
}


class _Machine(pickles.Machine):
    """Besides what torch writes: byte strings, kept as latin-1 text, and the state of arrays."""

    def execute(self, name, argument):
        if name in TEXT:
            self.stack.append(argument if isinstance(argument, str) else argument.decode("latin-1"))
        elif name == "BUILD":
            (state,) = self.take(1)
            if isinstance(self.top(pickles.Inert), _Array):
                self.stack[-1].state = state
        else:
            super().execute(name, argument)
