"""Which bugs change the outputs of a case of the kit: the mistakes of hypotheses.py and own.py, tried on it.

A mistake in one step of a longer operation is tried on the right inputs of that step.
"""

import numpy as np

from ..conformance.causes import ways
from ..conformance.difference import changes, within
from ..conformance.judge import judge
from ..errors import RefvitError
from .answers import ANSWERS, engine_of
from .casesteps import steps_of
from .own import OWN, SENTENCES

MACHINE = ("exp_numpy", "sum_numpy_sum")  # what these give depends on NumPy's version and the CPU
GENERAL = {
    "not_refused": "wrong input is accepted",
    "flush_to_zero": "subnormal results are flushed to zero",
    "denormals_are_zero": "subnormal inputs count as zero",
}
ABOUT = SENTENCES | {name: about for name, (about, _) in OWN.items()} | GENERAL
LEAST = np.finfo(np.float32).smallest_normal


def flags_of(case):
    """Names of the bugs that give a wrong output of a case, which has its outputs."""
    if case.expectation == "reject":
        return ("not_refused",)
    if not all(tensor.value.size for tensor in case.outputs):
        return ()
    found, tensors = set(), {tensor.name: tensor for tensor in case.outputs}

    def attempt(name, shows):
        if name not in found and name not in MACHINE and shows():
            found.add(name)

    def visit(step):
        if step.name in tensors:
            for name, _, make in ways(step):
                attempt(name, lambda make=make: not right(tensors[step.name], make()))
        return step.value()

    with np.errstate(all="ignore"):
        for name, (_, operations) in OWN.items():
            if case.operation in operations:
                wrong = operations[case.operation]
                attempt(name, lambda wrong=wrong: differs(case, wrong(**case.arrays, **case.parameters)))
        if case.expectation == "exact":
            attempt("flush_to_zero", lambda: any(flushed(t.value) is not t.value for t in case.outputs))
            attempt("denormals_are_zero", lambda: with_flushed_inputs(case))
        if case.operation == "model":
            judge(engine_of(case.arrays["file"]), case.arrays["pixels"], visit)
        for step in steps_of(case).values():
            visit(step)
    return tuple(name for name in ABOUT if name in found)


def differs(case, outputs):
    """Whether outputs are wrong; the one output of a case may be given by itself."""
    outputs = outputs if isinstance(outputs, dict) else {case.outputs[0].name: outputs}
    return any(not right(tensor, outputs[tensor.name]) for tensor in case.outputs)


def right(tensor, value):
    """Whether a value of an output is right."""
    value, expected = np.asarray(value), tensor.value
    if value.dtype != expected.dtype or value.shape != expected.shape:
        return False
    return not changes(expected, value).any() if tensor.low is None else within(value, tensor.low, tensor.high).all()


def flushed(value):
    """With zeros for subnormals; the same array where there are none."""
    if value.dtype != np.float32:
        return value
    tiny = (value != 0) & (np.abs(value) < LEAST)
    return np.where(tiny, np.copysign(np.float32(0), value), value) if tiny.any() else value


def with_flushed_inputs(case):
    inputs = {name: flushed(value) for name, value in case.arrays.items()}
    if all(inputs[name] is value for name, value in case.arrays.items()):
        return False
    try:
        return differs(case, ANSWERS[case.operation](**inputs, **case.parameters))
    except RefvitError:
        return True
