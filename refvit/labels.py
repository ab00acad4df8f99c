"""Names of classes: those of a file, and ImageNet's 1000 with their WordNet ids, in the order of the class index."""

import functools
from importlib import resources

from .errors import BadInputError

IMAGENET = "imagenet1k"  # stands for its names in a file


def imagenet_wnids():
    """1000 WordNet ids, as "n01440764"; the position is the class index (ILSVRC 2012)."""
    return list(_table()[0])


def imagenet_names():
    """1000 names: the words of each synset, comma-separated. "crane" is there twice: a bird (134), a machine (517)."""
    return list(_table()[1])


def stored_labels(labels):
    """As a file has them: the name of a known set, a list of names, or None."""
    return IMAGENET if labels == imagenet_names() else labels


def check_labels(stored, num_classes):
    """The inverse of ``stored_labels``. Raises BadInputError unless they are names of so many classes."""
    labels = imagenet_names() if stored == IMAGENET else stored
    if labels is None or (isinstance(labels, list) and all(_is_text(n) for n in labels)):
        if labels is None or len(labels) == num_classes:
            return labels
    raise BadInputError("metadata", "labels", f"{num_classes} names, a known set or null", f"{str(labels)[:40]!r}")


def _is_text(value):
    """Whether it is a string of Unicode characters; JSON's escapes can spell half of a surrogate pair."""
    return isinstance(value, str) and not any("\ud800" <= c <= "\udfff" for c in value)


@functools.lru_cache(maxsize=None)
def _table():
    text = resources.files("refvit").joinpath("data/imagenet1k.txt").read_text(encoding="utf-8")
    return tuple(zip(*(line.split("\t") for line in text.splitlines())))
