"""The page of a benchmark: times of a picture, ratios to the peers, and kernels under the limits of the machine."""

from html import escape

from .. import charts, safetensors
from ..errors import BadInputError
from ..files import read_bytes
from ..report import chart_row, page, table

COLOURS = {"refvit": charts.SERIES[0], "openvino": charts.SERIES[1], "onnxruntime": charts.SERIES[2]}
OTHER = charts.SERIES[3]
EXPLAINED = (
    "A multiplication and an addition are two operations. Each dot is the shape of one product, the line goes through "
    "the fastest ones. Dot products do not depend on the bits."
)


def bench_page(path):
    """HTML text of what ``refvit bench --json`` printed. Raises BadInputError for anything else."""
    try:
        found = safetensors.parse_json("JSON", read_bytes(path))
        sections = [("Machine", machine_section(found))]
        if found["results"]:
            sections.append(("Time of a picture", times_section(found["results"])))
            sections.append(("Times and ratios", details(found["results"], found["ratios"])))
        if found["kernels"]:
            sections.append(("Single products", kernels_section(found["kernels"], found["limits"])))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise BadInputError(path, "not of refvit bench", "what refvit bench --json prints", repr(error)) from None
    return page("Benchmark", sections)


def machine_section(found):
    """What was measured on, and what to know of the numbers."""
    machine = found["machine"]
    amx = {True: "with AMX", False: "without AMX", None: "AMX unknown"}[machine["amx"]]
    lines = [f"{machine['cpu']}, cores: {machine['cores']}, {amx}: {' '.join(machine['features'])}."]
    lines.append(f"Python {machine['python']}, NumPy {machine['numpy']}, {found['rounds']} rounds.")
    if machine["environment"]:
        lines.append("Environment: " + ", ".join(f"{k}={v}" for k, v in machine["environment"].items()) + ".")
    lines += [f"{note[0].upper()}{note[1:]}." for note in found["notes"]]
    lines += [f"{p['engine']} {p['form']} is left out: {p['why']}." for p in found["peers"] if p["why"] is not None]
    if not found["complete"]:
        lines.append("The measurement was interrupted.")
    return "".join(f"<p>{escape(line)}</p>" for line in lines)


def times_section(results):
    """A chart of bars for each model, batch and number of threads."""
    groups = {}
    for row in results:
        times = [row[f"ms_per_picture{which}"] for which in ("", "_low", "_high")]
        groups.setdefault(setting(row), []).append((label(row), *times, COLOURS.get(row["engine"], OTHER)))
    return "<p>Medians; the thin line goes from the lowest to the highest.</p>" + chart_row(
        charts.bars(title, rows, "ms") for title, rows in groups.items()
    )


def setting(row):
    return f"{row['model']}, batch {row['batch']}, {row['threads']} thread{'s' if row['threads'] > 1 else ''}"


def details(results, ratios):
    """A table for each setting, with a column for each form of refvit: its time / the time of the engine of the row."""
    groups, computes = {}, {}
    for row in results:
        groups.setdefault(setting(row), []).append(row)
        computes[f"{label(row)} {row['version']}: {row['kernel']}."] = None
    found = {(setting(r), r["ours"], r["other"]): f"{r['ratio']:.2f} ({span(r, 'ratio')})" for r in ratios}
    parts = [f"<ul>{''.join(f'<li>{escape(line)}</li>' for line in computes)}</ul>"]
    for title, rows in groups.items():
        ours = [form for form in map(label, rows) if any(key[:2] == (title, form) for key in found)]
        cells = [(*detail(r), *(found.get((title, form, label(r)), "") for form in ours)) for r in rows]
        heads = ("engine", "ms", "pictures/s", "peak MB", *(f"{form} / it" for form in ours))
        parts.append(f"<h3>{escape(title)}</h3>{table(heads, cells)}")
    return "".join(parts)


def detail(row):
    peak = "?" if row["peak_mb"] is None else f"{row['peak_mb']:.0f}"
    return label(row), f"{row['ms_per_picture']:.2f}", f"{row['pictures_per_second']:.1f}", peak


def label(row):
    return f"{row['engine']} {row['form']}"


def span(row, name):
    return f"{row[f'{name}_low']:.2f} to {row[f'{name}_high']:.2f}"


def kernels_section(kernels, limits):
    """A roofline of each backend, for one row and for many, and all numbers."""
    parts = []
    for threads, backend in dict.fromkeys((row["threads"], row["backend"]) for row in kernels):
        for title, single in (("many rows", False), ("one row", True)):
            rows = [r for r in kernels if (r["threads"], r["backend"], r["m"] == 1) == (threads, backend, single)]
            if rows:
                heading = f"{backend}, {title}, threads: {threads}"
                parts.append(charts.roofline(heading, series(rows), limit_lines(limits, backend)))
    return f"<p>{EXPLAINED}</p>{chart_row(parts)}{kernel_table(kernels)}"


def series(rows):
    """What ``charts.roofline`` draws: kind of product -> GOP/s by bits."""
    found = {}
    for row in rows:
        name = "8-bit weights" if row["product"] == "int8" else row["family"] or "ternary"
        bits = row["bits"] if row["product"] == "ternary" and row["family"] != "dot" else None
        found.setdefault(name, {}).setdefault(bits, []).append(row["gops"])
    return found


def limit_lines(limits, backend):
    """The measured limits of a backend: popcounts work bit by bit, dot products do not."""
    gops = {row["family"]: row["gops"] for row in limits if row["backend"] == backend}
    lines = [("limit of popcounts", lambda bits: gops["popcount"] / bits)] if "popcount" in gops else []
    return lines + ([("limit of dot products", lambda bits: gops["dot"])] if "dot" in gops else [])


def kernel_table(kernels):
    """GOP/s of every product, a column for each kind of it."""
    cells, columns = {}, {}
    for row in kernels:
        shape = f"{row['m']} x {row['k']} x {row['n']}, {row['backend']}, threads: {row['threads']}"
        column = f"{row['product']}{' ' + row['family'] if row['family'] else ''} {row['bits']} bits"
        cells.setdefault(shape, {})[column] = f"{row['gops']:.1f}"
        columns[column] = None
    rows = [(shape, *(its.get(c, "") for c in columns)) for shape, its in cells.items()]
    return table(("GOP/s: rows x inputs x outputs", *columns), rows)
