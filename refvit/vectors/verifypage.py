"""The page of a verification: operations and rules as a table, the first wrong case, the drift of whole models."""

from collections import Counter
from html import escape

from ..conformance.page import cause_table, drift, layer_table
from ..conformance.verdict import as_json as comparison_json
from ..report import page, table
from .findings import STATES, as_text, first_lines
from .verify import LEFT_OUT, MISSING, RIGHT, WRONG

MARKS = {RIGHT: "\u2713", WRONG: "\u2717", MISSING: "?", LEFT_OUT: "\u2013"}
WORDS = {RIGHT: "right", WRONG: "wrong", MISSING: "missing", LEFT_OUT: "not checked"}
CELLS = """
.cells { font-size: .8rem; }
.cells td, .cells th { text-align: center; font-weight: 500; padding: .1rem .2rem; border: 1px solid var(--bg); }
.cells tr > :first-child { text-align: left; position: sticky; left: 0; background: var(--bg); }
.right { background: #2f855a40; } .wrong { background: #e53e3e80; } .missing { background: #d69e2e66; }
.left_out { background: #71809633; }
"""


def verify_page(found, result):
    """HTML text.  found: Verification; result: its JSON object"""
    operations = rows_table(result["operations"], ("name",), ("first_wrong", "cause"))
    sections = [
        ("Verdict", verdict(result)), ("Operations and rules", grid(result)), ("Operations", operations),
        ("Rules", rows_table(result["rules"], ("id", "title"), ("first_wrong",))),
    ]  # fmt: skip
    models = [judged for judged in found.results if judged.close is not None and judged.close.comparison is not None]
    if models:
        sections.append(("Whole models, layer by layer", "".join(model(m, m is models[0]) for m in models)))
    return page("Verification against the kit", sections)


def verdict(result):
    headline = "Everything that was checked is right." if result["passed"] else "Not everything is right."
    files = f"<p>KIT {escape(result['kit'])}, level {result['level']}; OUTPUTS {escape(result['outputs'])}</p>"
    lines, first = as_text(result), first_lines(result)
    others = items(line for line in lines[len(first) : -1] if not line.startswith(("operation ", "rule ", "rules ")))
    return f"<p><strong>{headline}</strong></p>{files}{items(first)}{others}"


def items(lines):
    return "<ul>" + "".join(f"<li>{escape(line.strip())}</li>" for line in lines) + "</ul>"


def grid(result):
    """Operations in the kit's order by rules: the worst state, and how many cases have it of how many."""
    rules, cells = [rule["id"] for rule in result["rules"]], {}
    for case in result["cases"]:
        for rule in case["rules"]:
            cells.setdefault((case["operation"], rule), Counter())[case["state"]] += 1
    head = "".join(f'<th title="{escape(rule["title"])}">{escape(rule["id"])}</th>' for rule in result["rules"])
    body = ""
    for row in result["operations"]:
        tds = "".join(cell(cells.get((row["name"], rule))) for rule in rules)
        body += f"<tr><td>{escape(row['name'])}</td>{tds}</tr>"
    legend = ", ".join(f'<span class="{state}">\u00a0{MARKS[state]}\u00a0</span> {WORDS[state]}' for state in STATES)
    head = f"<tr><th>operation</th>{head}</tr>"
    return f'<style>{CELLS}</style><p>{legend}; with the number of cases.</p>' + (
        f'<div class="wide"><table class="cells">{head}{body}</table></div>'
    )  # fmt: skip


def cell(states):
    """A rule of an operation; empty where no case tests it."""
    if states is None:
        return "<td></td>"
    state = next(state for state in (WRONG, MISSING, LEFT_OUT, RIGHT) if states[state])
    about = ", ".join(f"{states[s]} {WORDS[s]}" for s in STATES if states[s])
    return f'<td class="{state}" title="{about}">{MARKS[state]}\u202f{states[state]}</td>'


def model(judged, is_open):
    """Drift and causes, as the page of a comparison has them."""
    result = comparison_json(judged.close.comparison, "", "")
    causes = f"<h3>Likely causes</h3>{cause_table(result['causes'])}" if result["causes"] else ""
    head = f"<details{' open' if is_open else ''}><summary>{escape(judged.row['id'])}: drift, causes, layers</summary>"
    return f"{head}{drift(result)}{causes}<h3>Layers</h3>{layer_table(result)}</details>"


def rows_table(rows, names, last):
    """A table of counts.  names: keys of the first column; last: of the last ones"""
    columns = ("cases", *STATES)
    heads = (names[-1], *(c.replace("_", " ") for c in (*columns, *last)))
    cells = (
        (": ".join(row[n] for n in names), *(row[c] for c in columns), *(row[c] or "" for c in last)) for row in rows
    )
    return table(heads, cells)
