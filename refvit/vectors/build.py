"""Making a kit: each case with the outputs of the NumPy reference, and the flags of the bugs that it finds."""

import os
import shutil
from dataclasses import replace

from ..backend import using_backend
from ..box import DATA
from ..progress import Progress
from .answers import REFUSED, answer
from .cases import drafts
from .flags import ABOUT, flags_of
from .kit import Tensor, Writer, new_folder

EXTRAS = ("manifest.schema.json", "check.py", "check.c")  # of data/kit/


def build(path, level=1, force=False, stream=None):
    """Write a kit.  -> Writer, of what was written

    level   1, or 2 for larger models and more cases
    stream  text stream for progress, or None
    Raises UsageError where ``path`` exists, unless it is a kit and ``force`` is given.
    """
    with new_folder(path, force) as folder, using_backend("numpy"):
        writer, todo = Writer(folder), list(drafts(level))
        progress = Progress(stream, "case", len(todo))
        for done, draft in enumerate(todo, 1):
            writer.add(completed(draft))
            progress.update(done, draft.operation)
        used = {flag for row in writer.rows for flag in row["flags"]}
        writer.manifest(level, {name: about for name, about in ABOUT.items() if name in used})
        for name in EXTRAS:
            if (DATA / "kit" / name).is_file():
                shutil.copyfile(DATA / "kit" / name, os.path.join(folder, name))
    return writer


def completed(draft):
    """A draft with its outputs and flags."""
    outputs = answer(draft)
    refused = outputs is REFUSED
    if refused != (draft.expectation == "reject"):
        raise AssertionError(f"{draft.id}: {'refused' if refused else 'accepted'}, expected {draft.expectation}")
    case = replace(draft, outputs=tuple(tensors(draft, outputs)))
    return replace(case, flags=flags_of(case))


def tensors(draft, outputs):
    """The outputs, with the bounds that the draft has."""
    bounds = {tensor.name: (tensor.low, tensor.high) for tensor in draft.outputs}
    for name, value in outputs.items():
        low, high = bounds.get(name, (None, None))
        if low is not None and not ((low <= value) & (value <= high)).all():
            raise AssertionError(f"{draft.id}: {name} of the reference is out of its bounds")
        yield Tensor(name, value, low, high)
