"""The kit of test vectors: its cases, and the folder they are written to, as tests/vectors/KIT.md describes it."""

import contextlib
import hashlib
import json
import os
from dataclasses import dataclass, field

import numpy as np

from ..conformance.difference import hexadecimal
from ..errors import BadInputError, UsageError
from ..leftovers import put_back, replace_folder, temporary
from ..rules import SPEC_VERSION

FORMAT, KIT_VERSION, MANIFEST = "refvit-kit", 1, "manifest.json"
EXPECTATIONS = ("exact", "bound", "near-tie", "reject")
DTYPES = ("uint8", "int8", "int32", "uint64", "float32")
VALUES_MAX = 16  # elements of a tensor whose values stand in the manifest
RULES = {
    "N1": "codes and scales of weights",
    "N2": "bytes of ternary codes",
    "N3": "ternarization",
    "N4": "codes of activations",
    "N5": "zeros, small and infinite values, NaN",
    "N6": "what a scale covers",
    "N7": "integer products",
    "N8": "rescaling",
    "N9": "LayerNorm, softmax, GELU, exp, erf, float products",
    "N10": "attention",
    "N11": "residuals, two heads, the predicted class",
    "N12": "from bytes to the first tensor",
    "N13": "backward",
    "N14": "floating-point environment",
    "S3": "section 3: the forward pass, step by step",
    "S4": "section 4: the packed file",
    "S5": "section 5: seeded models",
}


@dataclass(frozen=True)
class Tensor:
    """One input or output.

    name   as KIT.md names it, or a traced tensor's name
    value  array of one of DTYPES, at least one axis; of an output, what is right, or one of several right answers
    low, high  arrays of the same dtype and shape, both included, of outputs of "bound" and "near-tie" cases; else None
    """

    name: str
    value: np.ndarray
    low: object = None
    high: object = None


@dataclass(frozen=True)
class Case:
    """One operation on given inputs, and what is right.

    id           "OPERATION/LABEL"
    operation    of KIT.md, section 4
    rules        tuple of keys of RULES
    flags        tuple of names of bugs that change the outputs
    comment      one sentence: why the case is there
    expectation  one of EXPECTATIONS
    parameters   dict: name -> int, str or list of these, as in the manifest
    inputs, outputs  tuples of Tensor
    """

    id: str
    operation: str
    rules: tuple
    flags: tuple
    comment: str
    expectation: str
    parameters: dict = field(default_factory=dict)
    inputs: tuple = ()
    outputs: tuple = ()

    @property
    def arrays(self):
        """The inputs.  -> dict: name -> array"""
        return {tensor.name: tensor.value for tensor in self.inputs}


def check_target(path, force=False):
    """Raise UsageError where a kit cannot be written: something is there, no kit or without ``force``."""
    if not os.path.lexists(path):
        return
    if not force:
        raise UsageError(path, "already exists", hint="--force to overwrite it")
    if not os.path.isfile(os.path.join(path, MANIFEST)):
        raise UsageError(path, "is not overwritten", f"a kit, with {MANIFEST}", "something else")


@contextlib.contextmanager
def new_folder(path, force=False):
    """A folder that appears at ``path`` only when complete, as a context manager -> where to write.

    An old kit there is replaced with ``force``; one that a killed process had moved aside is put back first.
    Raises UsageError as ``check_target``, BadInputError where it cannot be written.
    """
    path = os.path.abspath(path)
    put_back(path)
    check_target(path, force)
    try:
        with temporary(path, os.mkdir) as unfinished:
            yield unfinished
            check_target(path, force)  # it may have appeared meanwhile
            replace_folder(path, unfinished)
    except OSError as error:
        raise BadInputError(path, f"cannot be written: {error.strerror or error}") from None


class Writer:
    """Writes cases into a folder as they come, each tensor once, and the manifest at the end."""

    def __init__(self, folder):
        self.folder, self.rows, self.bytes = folder, [], 0
        os.mkdir(os.path.join(folder, "tensors"))

    def add(self, case):
        row = {"id": case.id, "operation": case.operation, "rules": list(case.rules), "flags": list(case.flags)}
        row |= {"comment": case.comment, "expectation": case.expectation, "parameters": case.parameters}
        row |= {"inputs": [self.entry(t) for t in case.inputs], "outputs": [self.entry(t) for t in case.outputs]}
        self.rows.append(row)

    def entry(self, tensor):
        """A tensor as the manifest has it."""
        value = tensor.value
        entry = {"name": tensor.name, "dtype": value.dtype.name, "shape": list(value.shape), **self.file(value)}
        if value.size <= VALUES_MAX:
            entry["values"] = [hexadecimal(v) for v in value.reshape(-1)]
        if tensor.low is not None:
            entry |= {"low": self.file(tensor.low), "high": self.file(tensor.high)}
        return entry

    def file(self, value):
        """Write the bytes of an array, unless a file has them.  -> {"file", "sha256"}"""
        data = np.ascontiguousarray(value, value.dtype.newbyteorder("<")).tobytes()
        digest = hashlib.sha256(data).hexdigest()
        name = f"tensors/{digest[:20]}.bin"
        if not os.path.exists(os.path.join(self.folder, name)):
            self.write(name, data)
        return {"file": name, "sha256": digest}

    def manifest(self, level, flags):
        """flags: dict: name -> sentence"""
        head = {"format": FORMAT, "kit_version": KIT_VERSION, "spec_version": SPEC_VERSION, "level": level}
        head |= {"rules": RULES, "flags": flags}
        cases = ",\n".join(json.dumps(row, separators=(",", ":")) for row in self.rows)
        text = json.dumps(head, indent=1)[:-2] + f',\n "cases": [\n{cases}\n]\n}}\n'
        self.write(MANIFEST, text.encode())

    def write(self, name, data):
        with open(os.path.join(self.folder, name), "xb") as file:
            file.write(data)
        self.bytes += len(data)
