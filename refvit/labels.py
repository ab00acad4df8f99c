"""The 1000 classes of ImageNet: WordNet ids and their words, in the order of the class index."""

import functools
from importlib import resources


def imagenet_wnids():
    """1000 WordNet ids, as "n01440764"; the position is the class index (ILSVRC 2012)."""
    return list(_table()[0])


def imagenet_names():
    """1000 names: the words of each synset, comma-separated. "crane" is there twice: a bird (134), a machine (517)."""
    return list(_table()[1])


@functools.lru_cache(maxsize=None)
def _table():
    text = resources.files("refvit").joinpath("data/imagenet1k.txt").read_text(encoding="utf-8")
    return tuple(zip(*(line.split("\t") for line in text.splitlines())))
