"""Answering a kit with this refvit, as a port would."""

import fnmatch
import os

import numpy as np

from ..backend import using_backend
from ..errors import UsageError
from .answers import REFUSED, answer
from .kit import new_folder


def chosen(cases, pattern):
    """Those whose id fits a shell pattern; None: all. Raises UsageError where none does."""
    fitting = [case for case in cases if pattern is None or fnmatch.fnmatchcase(case.id, pattern)]
    if not fitting:
        raise UsageError("vectors run", "--only", "a pattern that fits a case, as 'softmax/*'", pattern)
    return fitting


def run(cases, path, backend=None, progress=None):
    """Write the answers of cases to a new folder, as ID/NAME.bin.  -> how many were refused"""
    refused = 0
    with new_folder(path) as folder, using_backend(backend):
        for done, case in enumerate(cases, 1):
            outputs = answer(case)
            refused += outputs is REFUSED
            write(os.path.join(folder, case.id), outputs)
            if progress is not None:
                progress.update(done, case.operation)
    return refused


def write(folder, outputs):
    os.makedirs(folder)
    for name, value in outputs.items():
        with open(os.path.join(folder, f"{name}.bin"), "xb") as file:
            file.write(np.ascontiguousarray(value, value.dtype.newbyteorder("<")).tobytes())
