"""What a verification says: as JSON and as lines of text."""

from collections import Counter

from ..conformance.compare import tie_distance
from ..conformance.difference import Difference, hexadecimal
from ..conformance.verdict import as_json as comparison_json
from ..conformance.verdict import both_forms, converted_lines, decimal, listed, numbers, rounding_lines, size_of
from .closely import MODEL
from .verify import LEFT_OUT, MISSING, RIGHT, WRONG

STATES = (RIGHT, WRONG, MISSING, LEFT_OUT)
CAUSES = 3  # likely causes in a line of text
RULES = 5  # rules with their titles


def as_json(found, kit, outputs, out=None):
    """The object that --json prints; README lists its keys."""
    states = Counter(result.state for result in found.results)
    counts = {"cases": len(found.results)} | {state: states[state] for state in STATES} | {"extra": len(found.extra)}
    counts["not_checked"] = counts[MISSING] + counts[LEFT_OUT] + counts["extra"]
    return {
        "passed": found.passed, "kit": str(kit), "outputs": str(outputs), "out": out, "level": found.kit.level,
        "counts": counts,
        "first": first_json(found),
        "operations": operations_json(found),
        "rules": rules_json(found),
        "cases": [case_json(result) for result in found.results],
        "extra": found.extra,
        "converted": [{"name": name, "dtype": dtype} for name, dtype in found.converted.items()],
    }  # fmt: skip


def case_json(result):
    row = result.row
    about = {key: row[key] for key in ("id", "operation", "rules")}
    return about | {"state": result.state, "output": result.output, **numbers(result.what)}


def first_json(found):
    """The first wrong case, or null."""
    result = first_wrong(found.results)
    if result is None:
        return None
    row, close = result.row, result.close
    what = result.what if isinstance(result.what, Difference) else None
    before = Counter(r.state for r in found.results[: found.results.index(result)])
    return {
        **{key: row[key] for key in ("id", "operation", "comment", "expectation")}, "output": result.output,
        "what": None if what else result.what, "index": what and list(what.index), **texts(what, close),
        **numbers(result.what),
        "rules": [{"id": rule, "title": found.kit.rules[rule]} for rule in row["rules"]],
        "flags": flags_json(found, row), "causes": causes_json(found, result),
        "right_before": before[RIGHT], "missing_before": before[MISSING], "left_out_before": before[LEFT_OUT],
    }  # fmt: skip


def texts(what, close):
    """The first wrong value and what belongs to it, as texts."""
    values = {"expected": what and what.expected, "low": close.low, "high": close.high, "got": what and what.got}
    found = {name: None if value is None else hexadecimal(value) for name, value in values.items()}
    found |= {f"{name}_decimal": value if value is None else decimal(value) for name, value in values.items()}
    found["before_rounding"] = None if close.before is None else hexadecimal(close.before)
    return found | {"tie_distance": None if close.before is None else tie_distance(close.before)}


def flags_json(found, row):
    """Bugs that would change a case, and how many cases of its operation that they change are wrong, and right."""
    rows = []
    for name in row["flags"]:
        count = {state: flagged(found, row["operation"], state)[name] for state in (WRONG, RIGHT)}
        rows.append({"name": name, "about": found.kit.flags[name], **count})
    return sorted(rows, key=lambda row: (row["right"], -row["wrong"]))


def flagged(found, operation, state):
    """How many cases of an operation are in a state, for each flag."""
    results = (result for result in found.of(state) if result.row["operation"] == operation)
    return Counter(flag for result in results for flag in result.row["flags"])


def causes_json(found, result):
    """The likely mistakes; of those that fit alike, first what gives most other wrong cases."""
    close = result.close
    if close.comparison is not None:
        rows = comparison_json(close.comparison, "", "")["causes"]
        return [
            {key: row[key] for key in ("name", "about", "reproduces")} | {"gives": row["operations"]} for row in rows
        ]
    against = flagged(found, result.row["operation"], RIGHT)
    rows = [
        {"name": c.name, "about": c.about, "reproduces": c.reproduces, "gives": close.gives[c.name]}
        for c in close.causes
    ]
    return sorted(rows, key=lambda row: (-row["reproduces"], -row["gives"], against[row["name"]]))


def tally(results):
    states = Counter(result.state for result in results)
    return {"cases": sum(states.values())} | {state: states[state] for state in STATES}


def first_wrong(results):
    return next((result for result in results if result.state == WRONG), None)


def operations_json(found):
    """A row for each operation, in the kit's order."""
    rows = []
    for name in dict.fromkeys(result.row["operation"] for result in found.results):
        results = [result for result in found.results if result.row["operation"] == name]
        wrong = first_wrong(results)
        exact = [] if wrong is None else [c["name"] for c in causes_json(found, wrong) if c["reproduces"] == 1]
        first = {"first_wrong": wrong and wrong.row["id"], "cause": exact[0] if exact else None}
        rows.append({"name": name, **tally(results), **first})
    return rows


def rules_json(found):
    """A row for each rule that a case tests, in the manifest's order."""
    rows = []
    for rule, title in found.kit.rules.items():
        results = [result for result in found.results if rule in result.row["rules"]]
        if results:
            wrong = first_wrong(results)
            rows.append({"id": rule, "title": title, **tally(results), "first_wrong": wrong and wrong.row["id"]})
    return rows


def as_text(result):
    """Lines of text from the JSON object."""
    lines = [*first_lines(result), *missing_lines(result), *tables(result)]
    counts = result["counts"]
    lines.append(
        f"cases: {counts['cases']}; {counts['right']} right, {counts['wrong']} wrong, {counts['missing']} missing"
    )
    if counts["left_out"]:
        lines.append(f"NOT CHECKED: {counts['left_out']} cases, left out by --only")
    refused = {row["id"] for rows in misjudged(result).values() for row in rows}
    extra = [name for name in result["extra"] if name.rpartition("/")[0] not in refused]
    if extra:
        lines.append(f"only in OUTPUTS, not checked: {listed(extra)}")
    lines += converted_lines(result)
    all_of_it = "" if not counts["left_out"] else " AS FAR AS IT WAS CHECKED"
    lines.append(f"PASSED{all_of_it}" if result["passed"] else "NOT PASSED")
    return lines


def first_lines(result):
    """The first wrong case in words."""
    first = result["first"]
    if first is None:
        return [no_wrong_case(result)]
    lines = [f"first wrong case: {first['id']}: {first['comment']}"]
    if first["index"] is None:
        lines.append(f"  output {first['output']}: {first['what']}")
    else:
        lines += value_lines(first)
    lines += rule_lines(first["rules"])
    if first["flags"] and first["index"] is not None and first["operation"] != MODEL:  # a model has most of the flags
        lines.append(f"  flags: {listed([flag['name'] for flag in first['flags']])}")
    lines += cause_lines(first)
    before = f"{first['right_before']} cases right, {first['missing_before']} missing"
    lines.append(f"  before it: {before}, {first['left_out_before']} left out")
    return lines


def no_wrong_case(result):
    """The line where none is: what is missing may be wrong."""
    if not missing(result):
        return "no case is wrong"
    first = missing(result)[0]
    return f"no case that is there is wrong; first missing: {first['id']}, output {first['output']}"


def rule_lines(rules):
    """Rules that the first wrong case tests; of a whole model, which tests nearly all, their ids alone."""
    if len(rules) > RULES:
        return [f"  rules: {', '.join(rule['id'] for rule in rules)}"]
    return [f"  rule {rule['id']}: {rule['title']}" for rule in rules]


def value_lines(first):
    """The first wrong value of an output."""
    bounds = "" if first["low"] is None else f" ({both_forms(first, 'low')} to {both_forms(first, 'high')} is right)"
    values = f"expected {both_forms(first, 'expected')}{bounds}, got {both_forms(first, 'got')}"
    place = f"  output {first['output']} at {first['index']}: {values}"
    return [place] if first["expectation"] == "reject" else [place, f"  {size_of(first)}", *rounding_lines(first)]


def cause_lines(first):
    """Mistakes that give every value; else the nearest, and those of the case's flags that the other cases allow."""
    if first["expectation"] == "reject":
        return ["  this input must be refused"]
    if first["index"] is None:  # another shape or dtype: no values to explain
        return []
    exact = [cause for cause in first["causes"] if cause["reproduces"] == 1]
    lines = [
        f"  likely cause: {cause['name']}: {cause['about']}; gives every value{more(cause)}" for cause in exact[:CAUSES]
    ]
    if not exact:
        for cause in first["causes"][:CAUSES]:
            share = f"{100 * cause['reproduces']:.4g} % of the values"
            lines.append(f"  near: {cause['name']}: {cause['about']}; gives {share}")
        if first["operation"] == MODEL:  # its flags are mistakes in any of its steps
            return [*lines, "  refvit trace and compare --model judge each step of a model by itself"]
        possible = [flag for flag in first["flags"] if not flag["right"]]
        for flag in possible:
            lines.append(f"  perhaps {flag['name']}: {flag['about']}; all {flag['wrong']} are wrong")
        if first["flags"] and not possible:
            lines.append(
                "  each bug that is known to change this case would change cases of the operation that are right"
            )
    return lines


def more(cause):
    """How many other wrong cases of the operation, or operations of the model, a cause gives."""
    return f", and {cause['gives'] - 1} others like it" if cause["gives"] > 1 else ""


def missing_lines(result):
    """Cases without an output; which of them were refused, and which answered although they must be refused."""
    kinds = {"missing": missing(result), **misjudged(result)}
    lines = [f"{kind}: {listed([row['id'] for row in rows])}" for kind, rows in kinds.items() if rows]
    if nothing_is_there(result):
        some = missing(result)[0]
        lines.append(f"OUTPUTS has nothing of the kit; expected ID/NAME.bin, as {some['id']}/{some['output']}.bin")
    return lines


def missing(result):
    return [row for row in result["cases"] if row["state"] == MISSING]


def nothing_is_there(result):
    """Whether OUTPUTS is likely the wrong folder: a table of all that is missing would say no more."""
    counts = result["counts"]
    return counts["missing"] == counts["cases"] - counts["left_out"]


def misjudged(result):
    """Cases without the output that they must have, because the port refused or answered them."""
    answers = {name.rpartition("/")[0] for name in result["extra"]}
    return {
        "refused, but to be answered": [r for r in missing(result) if f"{r['id']}/accepted" in result["extra"]],
        "answered, but to be refused": [r for r in missing(result) if r["output"] == "accepted" and r["id"] in answers],
    }


def tables(result):
    """Operations and rules that are not all right."""
    if nothing_is_there(result):
        return []
    lines, in_models = [], []
    for what, key in (("operation", "operations"), ("rule", "rules")):
        for row in result[key]:
            models_alone = key == "rules" and only_in_models(result, row["id"])
            if models_alone and not row["missing"]:
                in_models.append(row)
            elif row["wrong"] or row["missing"]:
                name = row["name"] if key == "operations" else f"{row['id']}, {row['title']}"
                counts = ", ".join(f"{row[state]} {state.replace('_', ' ')}" for state in STATES if row[state])
                first = f"; first {row['first_wrong']}" if row["first_wrong"] else ""
                cause = f", likely cause: {row['cause']}" if row.get("cause") else ""
                models = ", in whole models alone" if models_alone else ""
                lines.append(f"{what} {name}: {counts}{first}{models}{cause}")
    if in_models:
        ids = ", ".join(row["id"] for row in in_models)
        lines.append(f"rules {ids}: wrong in whole models alone; first {in_models[0]['first_wrong']}")
    return lines


def only_in_models(result, rule):
    """Whether whole models alone, which test nearly all rules, are wrong under a rule."""
    return {c["operation"] for c in result["cases"] if c["state"] == WRONG and rule in c["rules"]} == {MODEL}
