"""Another implementation's tensors against a trace: where they differ first, what is wrong by itself, and likely why.

Two questions. Does every tensor of REF hold the same bits? And, where the model is given: does each operation, from
the inputs that OTHER itself had for it, give what the rules say (judge.py)? An operation that does not is wrong by
itself; a tensor that does and yet differs from REF is wrong by inheritance.
"""

from dataclasses import dataclass, field

import numpy as np

from ..errors import BadInputError
from ..rules import PROB_SCALE
from .causes import again, causes
from .difference import difference
from .judge import judge
from .operations import before_rounding, kind_of
from .trace import PIXELS, check_pixels

SEARCHES = 3  # operations of one kind for which all hypotheses are tested; later ones only get those that fitted
EQUAL, DIFFERS, MISSING = "equal", "differs", "missing"
RIGHT, WRONG, INHERITED, UNJUDGED = "right", "wrong", "inherited", "unjudged"


@dataclass(frozen=True)
class Row:
    """A tensor of REF.  state: EQUAL, DIFFERS or MISSING; what: Difference, or a sentence (shape, dtype), or None"""

    name: str
    kind: str
    state: str
    what: object = None


@dataclass
class Verdict:
    """An operation judged by itself.

    before          the first wrong code's value before rounding
    missing_inputs  tensors it was computed from that OTHER does not hold: ours stood for them, so that what makes them
                    in OTHER may be wrong instead
    """

    name: str
    kind: str
    state: str
    what: object = None
    before: object = None
    causes: list = field(default_factory=list)
    missing_inputs: list = field(default_factory=list)


@dataclass(frozen=True)
class Comparison:
    """rows: of REF, in order; verdicts: in order, or None without a model; foreign: what OTHER is; left_out: a count"""

    rows: list
    verdicts: object
    foreign: object
    left_out: int

    def of(self, state):
        return [row for row in self.rows if row.state == state]

    def judged(self, state):
        return [v for v in self.verdicts or () if v.state == state]

    @property
    def equal(self):
        return len(self.of(EQUAL)) == len(self.rows) and not self.judged(WRONG)


def compare(reference, foreign, engine=None, progress=None):
    """reference: Trace; foreign: Foreign; engine: to judge each operation by itself -> Comparison"""
    attention = reference.about["quant"]["attention"]
    rows = [row_of(name, kind_of(name, attention), ref, foreign) for name, ref in reference.tensors.items()]
    verdicts = None if engine is None else Bench(reference, foreign, engine, progress).verdicts
    return Comparison(rows, verdicts, foreign, reference.about["left_out"])


def row_of(name, kind, ref, foreign):
    """One tensor of REF beside OTHER's."""
    if name in foreign.headers:
        header = foreign.headers[name]
        return Row(name, kind, DIFFERS, f"expected shape {list(ref.shape)}, got {list(header.shape)} of {header.dtype}")
    if name not in foreign.tensors:
        return Row(name, kind, MISSING)
    found = difference(ref, foreign.tensors[name])
    return Row(name, kind, EQUAL if found is None else DIFFERS, found)


class Bench:
    """Judges every operation of a model by what OTHER holds. Where it holds nothing usable, ours goes on instead."""

    def __init__(self, reference, foreign, engine, progress=None):
        self.reference, self.foreign, self.progress = reference.tensors, foreign, progress
        self.verdicts, self.fitted, self.searches, self.ours = [], {}, {}, set()
        judge(engine, self.pixels(engine.config), self.visit)

    def pixels(self, config):
        """REF's, or where it has none OTHER's."""
        found = self.reference.get(PIXELS, self.foreign.tensors.get(PIXELS))
        if found is None:
            raise BadInputError(
                PIXELS, "to judge each operation", "the picture in REF or OTHER", "none", "--no-teacher"
            )
        check_pixels(config, found)
        return found

    def visit(self, step):
        own = step.value()
        self.foreign.late(step.name, own)
        got = self.foreign.tensors.get(step.name)
        self.verdicts.append(self.verdict(step, own, got))
        if self.progress is not None:
            self.progress.update(len(self.verdicts), step.name)
        usable = got is not None and got.dtype == own.dtype and not (got.dtype.kind == "f" and np.isnan(got).any())
        if not usable and step.name != PIXELS:
            self.ours.add(step.name)
        return got if usable else own

    def verdict(self, step, own, got):
        header = self.foreign.headers.get(step.name)
        if got is None:
            what = None if header is None else f"expected shape {list(own.shape)}, got {list(header.shape)}"
            return Verdict(step.name, step.kind, UNJUDGED if header is None else WRONG, what)
        if got.shape != own.shape:
            raise BadInputError(step.name, "shape in REF", list(own.shape), list(got.shape))
        found = difference(own, got)
        if found is not None:
            return self.wrong(step, own, got, found)
        ref = self.reference.get(step.name)
        inherits = ref is not None and difference(ref, got) is not None
        return Verdict(step.name, step.kind, INHERITED if inherits else RIGHT)

    def wrong(self, step, own, got, found):
        before, likely = value_before(step, found.index), self.search(step, own, got)
        return Verdict(step.name, step.kind, WRONG, found, before, likely, [n for n in step.needs if n in self.ours])

    def search(self, step, own, got):
        """The likely causes: first what fitted this kind of operation before, then everything."""
        fitted = self.fitted.setdefault(step.kind, [])
        found = again(step, own, got, fitted)
        if not found and self.searches.get(step.kind, 0) < SEARCHES:
            self.searches[step.kind] = self.searches.get(step.kind, 0) + 1
            found = causes(step, own, got)
            fitted += [cause.name for cause in found if cause.reproduces == 1]
        return found


def value_before(step, index):
    """What was rounded to the code at ``index``, the zero point not added; None for other operations."""
    if step.kind == "codes":
        return step.value(lambda x, s, zp, bits, quantizer: before_rounding(x, s))[index]
    if step.kind == "prob_codes":
        return step.value(lambda p: p / PROB_SCALE)[index]
    return None


def tie_distance(before):
    """How far a value is from the middle between two integers."""
    return abs(float(before) - np.floor(float(before)) - 0.5)
