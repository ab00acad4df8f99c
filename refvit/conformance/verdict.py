"""What a comparison says: as JSON and as lines of text."""

from .compare import DIFFERS, EQUAL, INHERITED, MISSING, RIGHT, UNJUDGED, WRONG, tie_distance
from .difference import Difference, hexadecimal
from .operations import WORDS

LISTED = 12  # names in a line of text; JSON has all


def as_json(found, reference, other, out=None):
    """The object that --json prints; README lists its keys."""
    counts = {"in_reference": len(found.rows), **{state: len(found.of(state)) for state in (EQUAL, DIFFERS, MISSING)}}
    rows = causes_json(found)
    not_checked = counts[MISSING] + len(found.foreign.extra) + found.left_out
    return {
        "equal": found.equal, "reference": str(reference), "other": str(other), "out": out,
        "counts": counts | {"extra": len(found.foreign.extra), "left_out": found.left_out, "not_checked": not_checked},
        "first": first_json(found),
        "missing": [row.name for row in found.of(MISSING)],
        "extra": found.foreign.extra,
        "converted": [{"name": name, "dtype": dtype} for name, dtype in found.foreign.converted.items()],
        "tensors": [{"name": r.name, "kind": r.kind, "state": r.state, **numbers(r.what)} for r in found.rows],
        "teacher": teacher_json(found, rows),
        "causes": rows,
    }  # fmt: skip


def numbers(what):
    """share, worst, mean, unit, nans of a Difference; zeros where there is none, null for another shape."""
    if isinstance(what, Difference):
        return {"share": what.share, "worst": what.worst, "mean": what.mean, "unit": what.unit, "nans": what.nans}
    return {"share": None if what else 0.0, "worst": None, "mean": None, "unit": None, "nans": None}


def first_json(found):
    """The first tensor of REF that is not equal, or null."""
    row = next((row for row in found.rows if row.state == DIFFERS), None)
    if row is None:
        return None
    place = found.rows.index(row)
    equal_before = sum(r.state == EQUAL for r in found.rows[:place])
    what = row.what if isinstance(row.what, Difference) else None
    before = before_of(found, row)
    return {
        "name": row.name, "kind": row.kind, "what": WORDS[row.kind] if what else row.what,
        "index": what and list(what.index),
        "expected": what and hexadecimal(what.expected), "got": what and hexadecimal(what.got),
        "expected_decimal": what and decimal(what.expected), "got_decimal": what and decimal(what.got),
        "before_rounding": None if before is None else hexadecimal(before),
        "tie_distance": None if before is None else tie_distance(before),
        **numbers(row.what), "equal_before": equal_before, "missing_before": place - equal_before,
    }  # fmt: skip


def before_of(found, row):
    """The value before rounding, where the operation was judged at the same place."""
    for verdict in found.judged(WRONG):
        if verdict.name == row.name and isinstance(verdict.what, Difference) and isinstance(row.what, Difference):
            return verdict.before if verdict.what.index == row.what.index else None
    return None


def decimal(value):
    """A number as text, because JSON has neither NaN nor infinity."""
    return str(value.item())


def teacher_json(found, rows):
    """What was judged by itself, or null without a model.  rows: of ``causes_json``"""
    if found.verdicts is None:
        return None
    names = [row["name"] for row in rows]
    wrong = [
        {"name": v.name, "kind": v.kind, **numbers(v.what), "missing_inputs": v.missing_inputs,
         "cause": min(exact_names(v), key=names.index, default=None)}
        for v in found.judged(WRONG)
    ]  # fmt: skip
    counts = {state: len(found.judged(state)) for state in (RIGHT, UNJUDGED)}
    return {"judged": len(found.verdicts) - counts[UNJUDGED], **counts, "wrong": wrong,
            "inherited": [v.name for v in found.judged(INHERITED)]}  # fmt: skip


def exact_names(verdict):
    """The hypotheses that give every value of an operation."""
    return [cause.name for cause in verdict.causes if cause.reproduces == 1]


def causes_json(found):
    """Every hypothesis that fitted or came near: where first, its share there, how many operations it gives exactly.

    ``explains`` counts those of them that no row before it gives: rows with none are not needed.
    """
    rows, left = {}, {}
    for verdict in found.judged(WRONG):
        for cause in verdict.causes:
            row = {"name": cause.name, "about": cause.about, "operation": verdict.name, "reproduces": cause.reproduces}
            rows.setdefault(cause.name, row)
            left.setdefault(cause.name, set()).update({verdict.name} if cause.reproduces == 1 else ())
    counts, ordered = {name: len(names) for name, names in left.items()}, []
    while left:  # the one that explains most of the rest comes next
        name = max(left, key=lambda n: (len(left[n]), counts[n], rows[n]["reproduces"]))
        explained = left.pop(name)
        ordered.append(rows[name] | {"operations": counts[name], "explains": len(explained)})
        left = {n: names - explained for n, names in left.items()}
    return ordered


def as_text(result):
    """Lines of text from the JSON object."""
    lines = [*first_lines(result), *count_lines(result)]
    if result["teacher"] is not None:
        lines += [*teacher_lines(result["teacher"]), *cause_lines(result)]
    elif not result["equal"]:
        lines.append("which operations are wrong by themselves, and likely causes: with --model MODEL")
    lines.append("EQUAL" if result["equal"] else "NOT EQUAL")
    return lines


def first_lines(result):
    first = result["first"]
    if first is None:
        return ["no tensor differs" if not result["missing"] else "no tensor that is there differs"]
    lines = [f"first difference: {first['name']}, {first['what']}"]
    if first["index"] is not None:
        lines.append(f"  at {first['index']}: expected {both_forms(first, 'expected')}, got {both_forms(first, 'got')}")
        lines.append(f"  {size_of(first)}")
    lines += rounding_lines(first)
    lines.append(f"  before it: {first['equal_before']} tensors equal, {first['missing_before']} missing")
    return lines


def rounding_lines(first):
    """The value before rounding, of codes."""
    before = first["before_rounding"]
    if before is None:
        return []
    return [f"  before rounding {before} ({float.fromhex(before):.9g}), {first['tie_distance']:.3g} from a tie"]


def both_forms(first, which):
    """A float in hexadecimal and decimal, an integer once."""
    return f"{first[which]} ({first[f'{which}_decimal']})" if first["unit"] == "ulp" else first[which]


def size_of(row):
    """A difference in words."""
    if row["worst"] is None:
        return "another shape"
    nans = f", {row['nans']} NaN" if row["nans"] else ""
    unit = "ulp" if row["unit"] == "ulp" else "steps"
    one = "step" if unit == "steps" and row["worst"] == 1 else unit
    worst = f"worst {row['worst']} {one}, mean {row['mean']:.3g} {unit}"
    return f"{100 * row['share']:.3g} % of the values changed; {worst}{nans}"


def count_lines(result):
    c = result["counts"]
    lines = [f"tensors of REF: {c['in_reference']}; {c['equal']} equal, {c['differs']} differ, {c['missing']} missing"]
    for what, names in (("missing in OTHER", result["missing"]), ("only in OTHER, not checked", result["extra"])):
        if names:
            lines.append(f"{what}: {listed(names)}")
    if c["left_out"]:
        lines.append(f"not checked, because REF leaves them out: {c['left_out']} tensors of the model")
    return lines + converted_lines(result)


def converted_lines(result):
    names = [f"{row['name']} ({row['dtype']})" for row in result["converted"]]
    return [f"taken over from another dtype without loss: {listed(names)}"] if names else []


def listed(names):
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return f"{len(names)}: {', '.join(names[:LISTED])}{more}"


def teacher_lines(teacher):
    wrong, inherited = teacher["wrong"], teacher["inherited"]
    lines = [
        f"judged by their own inputs: {teacher['judged']} operations; {teacher['right']} right, {len(wrong)} wrong "
        f"by themselves, {len(inherited)} wrong by inheritance; {teacher['unjudged']} not judged"
    ]
    for row in wrong[:LISTED]:
        cause = row["cause"] or "unknown"
        lines.append(f"  wrong: {row['name']}, {WORDS[row['kind']]}: {size_of(row)}; cause: {cause}")
        if row["missing_inputs"]:
            lines.append(f"    or what leads to it, for OTHER lacks {', '.join(row['missing_inputs'])}")
    if len(wrong) > LISTED:
        lines.append(f"  and {len(wrong) - LISTED} more")
    if inherited:
        lines.append(f"wrong by inheritance: {listed(inherited)}")
    return lines


def cause_lines(result):
    """Hypotheses that give operations exactly, those that are not needed in one line; else the nearest ones."""
    wrong, causes = result["teacher"]["wrong"], result["causes"]
    lines = [
        f"likely cause: {row['name']}: {row['about']}; gives every value of {row['operations']} of the wrong operations"
        for row in causes
        if row["explains"]
    ]
    also = [f"{row['name']} ({row['operations']})" for row in causes if row["operations"] and not row["explains"]]
    if also:
        lines.append(f"the same operations are given, as far as the number goes, by {', '.join(also)}")
    unknown = [row["name"] for row in wrong if row["cause"] is None]
    if unknown:
        lines.append(f"no known mistake gives all values of {listed(unknown)}")
        for row in causes:
            if not row["operations"]:
                share = f"{100 * row['reproduces']:.4g} % of the values"
                lines.append(f"  near: {row['name']} at {row['operation']}: {share}")
    return lines
