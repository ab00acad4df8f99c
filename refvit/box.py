"""The models in the box: packed files that ship with the package, in data/, and are called by their names.

    data/NAME.refvit.safetensors  the packed file
    data/NAME.json                what ``refvit eval NAME FOLDER --json`` said of it
"""

import json
import os
from pathlib import Path

DATA = Path(__file__).parent / "data"
SUFFIX = ".refvit.safetensors"


def boxed_names():
    """Names of the models in the box, sorted."""
    return sorted(path.name.removesuffix(SUFFIX) for path in DATA.glob(f"*{SUFFIX}"))


def resolve(path):
    """The packed file of that name in the box; what is there as a file, or is no such name, is returned as it is."""
    path = os.fspath(path)
    return os.fspath(DATA / f"{path}{SUFFIX}") if path in boxed_names() and not os.path.exists(path) else path


def by_name(text):
    """A text for people: the models in the box by their names, as they were typed, instead of their paths."""
    for name in boxed_names():
        text = text.replace(os.fspath(DATA / f"{name}{SUFFIX}"), name)
    return text


def measured(name):
    """The accuracy of a model in the box, with the keys of ``refvit eval --json``."""
    return json.loads((DATA / f"{name}.json").read_text(encoding="utf-8"))
