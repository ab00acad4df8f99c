"""The likely causes of a wrong tensor: which mistake, or which two together, make its values.

Two mistakes of one operation go together where both are functools.partial of the same function with other arguments.
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


def pairs(step):
    """Every two mistakes in different parts of a step, as ``ways``."""
    for a, b in combinations([h for h in TABLE if isinstance(h.kinds.get(step.kind), partial)], 2):
        f, g = a.kinds[step.kind], b.kinds[step.kind]
        if f.func is g.func and not set(f.keywords) & set(g.keywords):
            both = partial(f.func, **f.keywords, **g.keywords)
            yield f"{a.name}+{b.name}", f"{a.about}; and {b.about}", lambda both=both: step.value(both)


def causes(step, own, got):
    """What makes ``got`` of a step whose right value is ``own``: mistakes that give every value of it, or the nearest.

    -> list of Cause, the best first; two mistakes together only where no single one gives every value.
    """
    found = tested(ways(step), own, got)
    if not any(cause.reproduces == 1 for cause in found):
        found += tested(pairs(step), own, got)
    exact = [cause for cause in found if cause.reproduces == 1]
    return exact or sorted(found, key=lambda cause: -cause.reproduces)[:NEAREST]


def again(step, own, got, names):
    """The mistakes among ``names`` that give every value."""
    chosen = (way for search in (ways, pairs) for way in search(step) if way[0] in names)
    return [cause for cause in tested(chosen, own, got) if cause.reproduces == 1]


def tested(found, own, got):
    """Those of ``ways`` or ``pairs`` that give more of the values than the right operation does."""
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
