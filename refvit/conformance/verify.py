"""The outputs of a port against a kit: which cases are right, wrong or missing, and what the first wrong one says.

Of each operation the first wrong case is looked at closely: its first wrong output, and which mistake would make it. A
whole model is compared as a trace is (compare.py), each operation judged by the port's own inputs to it.
"""

import dataclasses
import fnmatch
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from ..backend import default_environment
from ..errors import BadInputError, UsageError
from .answers import engine_of
from .casesteps import MALFORMED, steps_of
from .causes import best, causes, tested
from .compare import compare, value_before
from .difference import Difference, difference
from .foreign import Foreign, opened
from .own import OWN
from .trace import PIXELS, Trace

RIGHT, WRONG, MISSING, LEFT_OUT = "right", "wrong", "missing", "left_out"
MODEL = "model"


@dataclass(frozen=True)
class Close:
    """A wrong output, seen closely.

    low, high    the bounds at the first wrong value, or None
    before       its value before rounding, or None
    causes       list of causes.Cause
    comparison   of a whole model: compare.Comparison, else None
    """

    low: object = None
    high: object = None
    before: object = None
    causes: list = field(default_factory=list)
    comparison: object = None


@dataclass(frozen=True)
class Result:
    """A case, judged.

    row      of the manifest
    state    RIGHT, WRONG (an output is), MISSING (an output is, and none wrong) or LEFT_OUT
    output   name of the first output that is wrong, or missing, else None
    what     Difference, or a sentence, or None
    close    Close, of the first wrong case of an operation and of every wrong model, else None
    """

    row: dict
    state: str
    output: object = None
    what: object = None
    close: object = None


@dataclass(frozen=True)
class Verification:
    """results: of all cases, in order; extra: names of OUTPUTS that no case has; converted: dict: name -> dtype"""

    kit: object
    results: list
    extra: list
    converted: dict

    def of(self, state):
        return [result for result in self.results if result.state == state]

    @property
    def passed(self):
        """Whether everything that was asked for was there and right."""
        return not self.of(WRONG) and not self.of(MISSING)


def verify(kit, path, only=None, progress=None):
    """kit: Kit; path: of OUTPUTS; only: list of shell patterns of ids, or None -> Verification

    Raises UsageError where no id fits, BadInputError where a file of the kit is damaged or OUTPUTS cannot be read.
    """
    chosen = [only is None or any(fnmatch.fnmatchcase(row["id"], pattern) for pattern in only) for row in kit.rows]
    if not any(chosen):
        raise UsageError("verify", "--only", "a pattern that fits a case, as 'softmax/*'", " ".join(only))
    names, read = opened(path)
    port, results = Port(path, names, read), []
    for row, is_chosen in zip(kit.rows, chosen):
        results.append(port.judged(kit.case(row), row) if is_chosen else Result(row, LEFT_OUT))
        if progress is not None:
            progress.update(len(results), row["operation"])
    known = {f"{row['id']}/{entry['name']}" for row in kit.rows for entry in row["outputs"]}
    return Verification(kit, results, sorted(set(names) - known), port.converted)


class Port:
    """The outputs of a port.  converted: dict: name -> dtype that they had, where the kit's holds the same values"""

    def __init__(self, path, names, read):
        self.path, self.names, self.read = path, names, read
        self.converted, self.seen = {}, set()

    def judged(self, case, row):
        """-> Result"""
        found, errors = self.outputs(case)
        judged = [(tensor, *judge(tensor, found, errors)) for tensor in case.outputs]
        for state in (WRONG, MISSING):
            for tensor, its_state, what in judged:
                if its_state == state:
                    return Result(row, state, tensor.name, what, self.close(case, tensor, found, what, state))
        return Result(row, RIGHT)

    def outputs(self, case):
        """-> Foreign, and dict: name -> what is wrong with a tensor that cannot be read"""
        found = Foreign(path=self.path, read=lambda name, ref: self.read(f"{case.id}/{name}", ref))
        errors = {}
        for tensor in case.outputs:
            if f"{case.id}/{tensor.name}" in self.names:
                try:
                    found.enter(tensor.name, tensor.value)
                except BadInputError as error:
                    errors[tensor.name] = str(error)
        self.converted |= {f"{case.id}/{name}": dtype for name, dtype in found.converted.items()}
        return found, errors

    def close(self, case, tensor, found, what, state):
        """What there is to say of the first wrong case of an operation, and of every wrong model."""
        if state == MISSING or (case.operation in self.seen and case.operation != MODEL):
            return None
        self.seen.add(case.operation)
        index, bounds = what.index if isinstance(what, Difference) else None, (None, None)
        if index is not None and tensor.low is not None:
            bounds = tensor.low[index], tensor.high[index]
        try:
            return Close(*bounds, **looked_into(case, tensor, found, index))
        except MALFORMED:  # a kit whose inputs are not those of the operation: nothing is known of its mistakes
            return Close(*bounds)


def judge(tensor, found, errors):
    """-> state of an output, and its Difference or a sentence"""
    name = tensor.name
    if name in errors:
        return WRONG, errors[name]
    if name in found.headers:
        header, ref = found.headers[name], tensor.value
        return WRONG, f"expected {ref.dtype} {list(ref.shape)}, got {header.dtype} {list(header.shape)}"
    if name not in found.tensors:
        return MISSING, None
    what = difference(tensor.value, found.tensors[name], tensor.low, tensor.high)
    return (RIGHT, None) if what is None else (WRONG, what)


def looked_into(case, tensor, found, index):
    """What mistake it may be.  tensor: the first wrong output; index: in it, or None -> fields of Close, a dict"""
    if case.operation == MODEL:
        return {"comparison": compared(case, found)}
    if index is None:
        return {}
    step, got = steps_of(case).get(tensor.name), found.tensors[tensor.name]
    with default_environment(), np.errstate(all="ignore"):
        likely = tested(own_ways(case, tensor.name), tensor.value, got)
        if step is None:
            return {"causes": best(likely)}
        return {"before": value_before(step, index), "causes": best(causes(step, step.value(), got) + likely)}


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
