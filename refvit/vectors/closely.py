"""What mistake a wrong case may come from: those of its operation's steps and of own.py, tried on its inputs."""

import dataclasses
from collections import Counter
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from ..backend import default_environment
from ..conformance.causes import again, best, causes, tested
from ..conformance.compare import compare, value_before
from ..conformance.difference import Difference
from ..conformance.trace import PIXELS, Trace
from .answers import engine_of
from .casesteps import steps_of
from .own import OWN

MODEL = "model"


@dataclass(frozen=True)
class Close:
    """A wrong output, seen closely.

    low, high    the bounds at the first wrong value, or None
    before       its value before rounding, or None
    causes       list of causes.Cause
    gives        for the names of causes: how many wrong cases of the operation they give entirely
    comparison   of a whole model: compare.Comparison, else None
    """

    low: object = None
    high: object = None
    before: object = None
    causes: list = field(default_factory=list)
    gives: Counter = field(default_factory=Counter)
    comparison: object = None


def seen_closely(case, tensor, found, what):
    """The first wrong output of a case.  what: its Difference or a sentence; found: Foreign -> Close"""
    if case.operation == MODEL:
        return Close(comparison=compared(case, found))
    if not isinstance(what, Difference):
        return Close()
    bounds = (None, None) if tensor.low is None else (tensor.low[what.index], tensor.high[what.index])
    step = steps_of(case).get(tensor.name)
    with default_environment(), np.errstate(all="ignore"):
        before = None if step is None else value_before(step, what.index)
    found_causes = likely(case, tensor, found, what)
    gives = Counter({cause.name: int(cause.reproduces == 1) for cause in found_causes})
    return Close(*bounds, before, found_causes, gives)


def likely(case, tensor, found, what, names=None):
    """The mistakes that may make a wrong output; with ``names``, only those of them that give every value."""
    if not isinstance(what, Difference):
        return []
    step, got = steps_of(case).get(tensor.name), found.tensors[tensor.name]
    own = (way for way in own_ways(case, tensor.name) if names is None or way[0] in names)
    with default_environment(), np.errstate(all="ignore"):
        ours = tested(own, tensor.value, got)
        if step is not None and names is None:
            ours += causes(step, step.value(), got)
        elif step is not None:
            ours += again(step, step.value(), got, names)
    return best(ours) if names is None else [cause for cause in ours if cause.reproduces == 1]


def own_ways(case, output):
    """The mistakes of own.py that apply to an output of a case, as ``causes.ways``."""
    empty = not all(tensor.value.size for tensor in case.outputs)
    for name, (about, operations) in OWN.items():
        if case.operation in operations and not empty:
            yield name, about, partial(wrong_output, operations[case.operation], case, output)


def wrong_output(mistake, case, output):
    outputs = mistake(**case.arrays, **case.parameters)
    return np.asarray(outputs[output] if isinstance(outputs, dict) else outputs)


def compared(case, found):
    """A whole model, tensor by tensor.  -> Comparison"""
    engine, pixels = engine_of(case.arrays["file"]), {PIXELS: case.arrays[PIXELS]}
    tensors = pixels | {tensor.name: tensor.value for tensor in case.outputs}
    reference = Trace(tensors, {"quant": dataclasses.asdict(engine.quant), "left_out": 0})
    return compare(reference, dataclasses.replace(found, tensors=pixels | found.tensors), engine)
