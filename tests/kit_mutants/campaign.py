"""The campaign: each mutant answers the whole kit, and verify judges it."""

import contextlib
from collections import Counter
from dataclasses import asdict, dataclass

from refvit.backend import backends, using_backend
from refvit.vectors.answers import answer
from refvit.vectors.findings import causes_json
from refvit.vectors.kit import EXPECTATIONS
from refvit.vectors.kitfile import read_kit
from refvit.vectors.verify import MISSING, RIGHT, WRONG, Port, Verification, judge

from . import legal
from .plant import planted, replaced


@dataclass(frozen=True)
class Outcome:
    """What verify says of a mutant.

    caught     whether a case is wrong, or missing because the mutant stopped there
    first      id of the first such case, in the kit's order, and its state
    expected   the operation of which it should be
    cause      the likely mistake that verify names there, or None
    """

    mutant: str
    caught: bool
    first: object
    state: str
    expected: str
    cause: object

    @property
    def named(self):
        return self.caught and self.first.partition("/")[0] == self.expected


class Loaded:
    """A kit in memory, so that many outputs can be judged; with ``expectations``, its cases of these alone."""

    def __init__(self, path, expectations=EXPECTATIONS):
        self.kit = read_kit(path)
        self.cases = [(row, self.kit.case(row)) for row in self.kit.rows if row["expectation"] in expectations]


def answers(loaded, backend="numpy"):
    """dict: "ID/NAME" -> array, of the engine as it is now; a case at which it stops has none."""
    found = {}
    with using_backend(backend):
        for _, case in loaded.cases:
            with contextlib.suppress(Exception):
                found |= {f"{case.id}/{name}": value for name, value in answer(case).items()}
    return found


def first_wrong(loaded, found):
    """-> row, case and state of the first case that is not right, as verify judges each output; or None"""
    port = Port("mutant", found, lambda name, ref: found[name])
    for row, case in loaded.cases:
        tensors, errors = port.outputs(case)
        states = {judge(tensor, tensors, errors)[0] for tensor in case.outputs}
        if states != {RIGHT}:
            return row, case, WRONG if WRONG in states else MISSING
    return None


def cause_of(loaded, found, operation, first):
    """The mistake that gives all values of the first wrong case, as verify names it; or None"""
    port = Port("mutant", found, lambda name, ref: found[name])
    same = [(row, case) for row, case in loaded.cases if row["operation"] == operation]
    if operation == "model":  # each is compared by itself, and takes long
        same = [(row, case) for row, case in same if row is first]
    results = [port.judged(case, row) for row, case in same]
    wrong = next(result for result in results if result.state == WRONG)
    causes = causes_json(Verification(loaded.kit, results, [], {}), wrong)
    return next((cause["name"] for cause in causes if cause["reproduces"] == 1), None)


def tried(loaded, mutant, causes=True):
    """-> Outcome"""
    with planted(mutant):
        found = answers(loaded)
    wrong = first_wrong(loaded, found)
    if wrong is None:
        return Outcome(mutant.name, False, None, RIGHT, mutant.operation, None)
    row, _, state = wrong
    cause = cause_of(loaded, found, row["operation"], row) if causes and state == WRONG else None
    return Outcome(mutant.name, True, row["id"], state, mutant.operation, cause)


def alarms(path):
    """The legal variants at which the kit at ``path`` raises an alarm.  -> dict: what it is -> id of the first case"""
    whole, bounded, found = Loaded(path), Loaded(path, ("bound", "near-tie")), {}
    for what, edit in legal.EXACT.items():
        with planted(edit):
            found[what] = first_wrong(whole, answers(whole))
    for what, functions in legal.BOUNDED.items():
        with contextlib.ExitStack() as stack:
            for place, function in functions.items():
                stack.enter_context(replaced(place, function))
            found[what] = first_wrong(bounded, answers(bounded))
    for what, edit in legal.PRODUCTS.items() if backends()[0] != "numpy" else ():
        with planted(edit):
            found[what] = first_wrong(whole, answers(whole, None))
    return {what: wrong and wrong[0]["id"] for what, wrong in found.items()}


def as_json(outcomes, variants):
    """variants: of ``alarms``"""
    counts = Counter(caught=0, named=0, cause=0, stopped=0)
    for outcome in outcomes:
        counts.update(caught=outcome.caught, named=outcome.named)
        counts.update(cause=outcome.cause is not None, stopped=outcome.state == MISSING)
    rows = [asdict(outcome) | {"named": outcome.named} for outcome in outcomes]
    raised = {what: first for what, first in variants.items() if first is not None}
    return {"mutants": len(outcomes), **counts, "variants": len(variants), "alarms": raised, "rows": rows}
