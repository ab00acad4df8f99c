"""The page of a comparison: what is wrong first, and how the drift grows from layer to layer."""

from html import escape

import numpy as np

from .. import charts
from ..report import chart_row, legend, page, table
from .operations import WORDS
from .verdict import cause_lines, count_lines, first_lines, size_of, teacher_lines

COLOURS = {"equal": charts.SERIES[2], "wrong by inheritance": charts.SERIES[0], "wrong": charts.SERIES[1]}

STEPS = ("s_in", "zp_in", "q_in", "acc", "out", "act", "score", "prob", "q_prob", "context")


def compare_page(result):
    """HTML text of the JSON object of a comparison."""
    sections = [("Verdict", verdict(result)), ("Drift in order of execution", drift(result))]
    if result["causes"]:
        sections.append(("Likely causes", cause_table(result["causes"])))
    if result["teacher"] and result["teacher"]["wrong"]:
        sections.append(("Operations wrong by themselves", wrong_table(result["teacher"]["wrong"])))
    sections.append(("Layers", layer_table(result)))
    return page("Comparison with the reference", sections)


def verdict(result):
    lines = [*first_lines(result), *count_lines(result)]
    if result["teacher"]:
        lines += [teacher_lines(result["teacher"])[0], *cause_lines(result)]
    items = "".join(f"<li>{escape(line.strip())}</li>" for line in lines)
    files = f"<p>REF {escape(result['reference'])}, OTHER {escape(result['other'])}</p>"
    headline = "Everything in REF was checked and is equal." if result["equal"] else "Not equal."
    return f"<p><strong>{headline}</strong></p>{files}<ul>{items}</ul>"


def drift(result):
    """Charts of integers, of floats, and of what each operation adds by itself."""
    states, wrong = state_of(result), result["teacher"]["wrong"] if result["teacher"] else ()
    places = {row["name"]: i for i, row in enumerate(result["tensors"])}
    shares = [(r["name"], 100 * r["share"], states[r["name"]]) for r in drawn(result, "step")]
    ulps = [(r["name"], doublings(r), states[r["name"]]) for r in drawn(result, "ulp")]
    own = [(r["name"], doublings(r), "wrong") for r in wrong if r["unit"] == "ulp" and r["name"] in places]
    parts = [
        charts.dots("Integers changed in each tensor", shares, places, "% of the values", COLOURS),
        charts.dots("Worst error in each float tensor", ulps, places, "log2(1 + ulp)", COLOURS),
    ]
    if result["teacher"]:
        title = "Worst error that a float operation adds itself"
        parts.append(charts.dots(title, own, places, "log2(1 + ulp)", COLOURS))
    note = "" if result["teacher"] else " Without a model, all that differs counts as wrong."
    return f"<p>Each dot is a tensor, from the input to the logits: {legend(COLOURS)}.{note}</p>{chart_row(parts)}"


def doublings(row):
    return float(np.log2(1 + (row["worst"] or 0)))


def drawn(result, unit):
    """Rows of the tensors that were compared, integers ("step") or floats ("ulp")."""
    integers = ("codes", "prob_codes", "product", "zero_point", "picture")
    for row in result["tensors"]:
        if row["state"] != "missing" and row["share"] is not None and (row["kind"] in integers) == (unit == "step"):
            yield row


def state_of(result):
    """Name -> one of COLOURS, or "missing"."""
    inherited = set(result["teacher"]["inherited"]) if result["teacher"] else set()
    named = {r["name"]: {"differs": "wrong"}.get(r["state"], r["state"]) for r in result["tensors"]}
    return named | {name: "wrong by inheritance" for name in inherited}


def cause_table(causes):
    columns = ("operations", "explains", "share", "operation")
    rows = [c | {"share": percent(c["reproduces"])} for c in causes]
    rows = [(f"{row['name']}: {row['about']}", *(row[column] for column in columns)) for row in rows]
    return table(("mistake", "operations it gives", "of them new", "values it gives", "first at"), rows)


def percent(share):
    return f"{100 * share:.4g} %"


def wrong_table(wrong):
    rows = [(r["name"], r["cause"] or "unknown", WORDS[r["kind"]], size_of(r)) for r in wrong]
    return table(("tensor", "cause", "operation", "error"), rows)


def layer_table(result):
    """A row for each layer: how many of its tensors are equal, the largest share of integers changed, the worst ulp."""
    layers, states = {}, state_of(result)
    for row in result["tensors"]:
        layers.setdefault(layer_of(row["name"]), []).append(row)
    cells = []
    for name, rows in layers.items():
        shares = [r["share"] for r in rows if r["unit"] == "step"]
        ulps = [r["worst"] for r in rows if r["unit"] == "ulp"]
        equal = sum(r["state"] == "equal" for r in rows)
        missing = sum(r["state"] == "missing" for r in rows)
        wrong = [r["name"][len(name) + 1 :] or "itself" for r in rows if states[r["name"]] == "wrong"]
        worst = percent(max(shares, default=0)), max(ulps, default=0)
        cells.append((name, f"{equal} of {len(rows)}", missing, *worst, ", ".join(wrong)))
    return table(("layer", "equal", "missing", "integers changed", "worst ulp", "wrong"), cells)


def layer_of(name):
    """A tensor's layer: its name without the step."""
    layer, _, step = name.rpartition(".")
    return layer if step in STEPS else name
