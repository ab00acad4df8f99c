"""The likely causes of a wrong tensor: which mistake, or which two or three together, make its values.

Mistakes of one operation go together where they are functools.partial of the same function with other arguments.
"""

from dataclasses import dataclass
from functools import partial
from itertools import combinations

from .difference import changes
from .hypotheses import TABLE
from .variants import MISTAKES

NEAREST = 3  # hypotheses that are named where none reproduces everything


@dataclass(frozen=True)
class Cause:
    """A hypothesis that gives a share of the other's values, more than the right operation does."""

    name: str
    about: str
    reproduces: float


def ways(step):
    """Every mistake that applies to a step.  -> (name, sentence, function: () -> value)"""
    for h in TABLE:
        if step.kind in h.kinds:
            yield h.name, h.about, lambda h=h: step.value(h.kinds[step.kind])
    for name, make in step.variants.items():
        yield name, MISTAKES[name], lambda make=make: step.value(x=make().reshape(step.inputs["x"].shape))


def together(step, count):
    """Every ``count`` mistakes in different parts of a step, as ``ways``."""
    partials = [(h, h.kinds[step.kind]) for h in TABLE if isinstance(h.kinds.get(step.kind), partial)]
    for chosen in combinations(partials, count):
        functions, parts = {f.func for _, f in chosen}, [key for _, f in chosen for key in f.keywords]
        if len(functions) == 1 and len(set(parts)) == len(parts):
            both = partial(functions.pop(), **{k: v for _, f in chosen for k, v in f.keywords.items()})
            name, about = "+".join(h.name for h, _ in chosen), "; and ".join(h.about for h, _ in chosen)
            yield name, about, lambda both=both: step.value(both)


SEARCHES = (ways, partial(together, count=2), partial(together, count=3))


def causes(step, own, got):
    """What makes ``got`` of a step whose right value is ``own``: mistakes that give every value of it, or the nearest.

    -> list of Cause, the best first; more mistakes together only where fewer do not give every value.
    """
    found = []
    for search in SEARCHES:
        found += tested(search(step), own, got)
        if any(cause.reproduces == 1 for cause in found):
            break
    return best(found)


def best(found):
    """The mistakes that give every value, or the nearest."""
    exact = [cause for cause in found if cause.reproduces == 1]
    return exact or sorted(found, key=lambda cause: -cause.reproduces)[:NEAREST]


def again(step, own, got, names):
    """The mistakes among ``names`` that give every value."""
    chosen = (way for search in SEARCHES for way in search(step) if way[0] in names)
    return [cause for cause in tested(chosen, own, got) if cause.reproduces == 1]


def tested(found, own, got):
    """Those of a search that give more of the values than the right operation does."""
    causes_, base = [], share(own, got)
    for name, about, make in found:
        value = make()
        same = share(value, got) if value.dtype == got.dtype else 0.0
        if same > base:
            causes_.append(Cause(name, about, same))
    return causes_


def share(value, got):
    """Share of values that are the same."""
    return 1 - float(changes(value, got).mean()) if value.shape == got.shape else 0.0
