"""The page of a comparison: what is wrong first, and how the drift grows from layer to layer."""

from html import escape

import numpy as np

from . import charts
from .benchreport import table
from .operations import WORDS
from .report import chart_row, page
from .verdict import as_text, size_of

COLOURS = {"equal": charts.SERIES[2], "wrong by inheritance": charts.SERIES[0], "wrong": charts.SERIES[1]}
HEIGHT = charts.HEIGHT


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
    lines = "".join(f"<li>{escape(line.strip())}</li>" for line in as_text(result)[:-1])
    files = f"<p>REF {escape(result['reference'])}, OTHER {escape(result['other'])}</p>"
    headline = "Everything in REF was checked and is equal." if result["equal"] else "Not equal."
    return f"<p><strong>{headline}</strong></p>{files}<ul>{lines}</ul>"


def drift(result):
    """A chart of codes and accumulators, one of floats."""
    states = state_of(result)
    codes = [(i, 100 * r["share"], states[r["name"]]) for i, r in drawn(result, "step")]
    floats = [(i, float(np.log2(1 + (r["worst"] or 0))), states[r["name"]]) for i, r in drawn(result, "ulp")]
    count = len(result["tensors"])
    titles = ("Share of integers changed in each tensor", "Worst error in each float tensor")
    parts = [dots(titles[0], codes, count, "%"), dots(titles[1], floats, count, "log2(1 + ulp)")]
    legend = ", ".join(f'<span style="color:{colour}">●</span> {name}' for name, colour in COLOURS.items())
    note = "" if result["teacher"] else " Without a model, what differs counts as wrong."
    return f"<p>Each dot is a tensor of REF, from the input to the logits: {legend}.{note}</p>{chart_row(parts)}"


def drawn(result, unit):
    """(place in order, row) of the tensors that were compared, integers ("step") or floats ("ulp")."""
    integers = ("codes", "prob_codes", "product", "zero_point", "picture")
    for i, row in enumerate(result["tensors"]):
        if row["state"] != "missing" and row["share"] is not None and (row["kind"] in integers) == (unit == "step"):
            yield i, row


def state_of(result):
    """Name -> one of COLOURS."""
    inherited = set(result["teacher"]["inherited"]) if result["teacher"] else set()
    named = {r["name"]: "equal" if r["state"] == "equal" else "wrong" for r in result["tensors"]}
    return named | {name: "wrong by inheritance" for name in inherited}


def dots(title, points, count, y_label):
    """points: list of (place, value, state)"""
    top = max([value for _, value, _ in points], default=0) or 1
    body, x, y = charts.axes((0, max(count - 1, 1)), (0, top), "tensor in order of execution", y_label)
    for state, colour in COLOURS.items():
        body += "".join(charts.dot(x(i), y(v), colour) for i, v, s in points if s == state)
    return charts.svg(title, body)


def cause_table(causes):
    rows = [(c["name"], f"{100 * c['reproduces']:.4g} %", c["operations"], c["operation"], c["about"]) for c in causes]
    return table(("mistake", "values it gives", "operations it gives", "first at", "what it is"), rows)


def wrong_table(wrong):
    rows = [(r["name"], WORDS[r["kind"]], size_of(r), r["cause"] or "unknown") for r in wrong]
    return table(("tensor", "operation", "error", "cause"), rows)


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
        wrong = ", ".join(r["name"][len(name) + 1 :] or "itself" for r in rows if states[r["name"]] == "wrong" and r["state"] != "missing")
        cells.append((name, f"{equal} of {len(rows)}", missing, f"{100 * max(shares, default=0):.3g} %", max(ulps, default=0), wrong))
    return table(("layer", "equal", "missing", "integers changed", "worst ulp", "wrong"), cells)


def layer_of(name):
    """A tensor's layer: its name without the step."""
    layer, _, step = name.rpartition(".")
    return layer if step in ("s_in", "zp_in", "q_in", "acc", "out", "act", "score", "prob", "q_prob", "context") else name
