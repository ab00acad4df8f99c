"""The outputs of a port against a kit: which cases are right, wrong or missing, and what the first wrong one says.

Of each operation the first wrong case is looked at closely: its first wrong output, and which mistake would make it. A
whole model is compared as a trace is (compare.py), each operation judged by the port's own inputs to it.
"""

import fnmatch
from dataclasses import dataclass

from ..conformance.difference import difference
from ..conformance.foreign import Foreign, opened
from ..errors import BadInputError, UsageError
from .casesteps import MALFORMED
from .closely import MODEL, Close, likely, seen_closely

RIGHT, WRONG, MISSING, LEFT_OUT = "right", "wrong", "missing", "left_out"


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
        self.converted, self.seen = {}, {}

    def judged(self, case, row):
        """-> Result"""
        found, errors = self.outputs(case)
        judged = [(tensor, *judge(tensor, found, errors)) for tensor in case.outputs]
        for state in (WRONG, MISSING):
            for tensor, its_state, what in judged:
                if its_state == state:
                    close = self.close(case, tensor, found, what) if state == WRONG else None
                    return Result(row, state, tensor.name, what, close)
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

    def close(self, case, tensor, found, what):
        """What is to be said of the first wrong case of an operation, and of every wrong model; others add to that."""
        before = self.seen.get(case.operation)
        try:
            if before is None or case.operation == MODEL:
                self.seen[case.operation] = close = seen_closely(case, tensor, found, what)
                return close
            before.gives.update(cause.name for cause in likely(case, tensor, found, what, list(before.gives)))
        except MALFORMED:  # a kit whose inputs are not those of the operation: nothing is known of its mistakes
            return Close()
        return None


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
