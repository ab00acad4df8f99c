"""Pages to look at: one self-contained HTML file, charts inside, readable in light and dark and on a phone."""

import re
from html import escape

import numpy as np

from . import charts
from .ternary import relative_error, ternarize

WORD = re.compile(r"[^\W\d]{4}")  # longer than units

STYLE = """
:root { color-scheme: light dark; --fg: #1a202c; --bg: #ffffff; --soft: #718096; }
@media (prefers-color-scheme: dark) { :root { --fg: #e2e8f0; --bg: #171923; --soft: #a0aec0; } }
body { color: var(--fg); background: var(--bg); font: 16px/1.5 system-ui, sans-serif; margin: 1rem auto; max-width: 900px;
       padding: 0 1rem; }
.charts { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 400px), 1fr)); gap: 1rem; }
svg { width: 100%; height: auto; } svg text { font: 11px system-ui, sans-serif; fill: currentColor; }
svg g[style] text { fill: inherit; } svg text.title { font-weight: 600; font-size: 12px; }
.axis { stroke: var(--soft); fill: none; } .mark { fill: none; stroke-dasharray: 4 3; stroke-width: 1.5; }
table { border-collapse: collapse; } td, th { padding: .2rem .8rem .2rem 0; text-align: right; }
td:first-child, th:first-child, .words { text-align: left; } .wide { overflow-x: auto; }
.wide td, .wide th { white-space: nowrap; vertical-align: top; } .wide td.words { white-space: normal; }
.wide table { width: max-content; max-width: 54rem; } details table { font-size: .85rem; }
.gallery { display: flex; flex-wrap: wrap; gap: 1rem; align-items: start; }
figure { margin: 0; max-width: 100%; width: min-content; } figure img { display: block; max-width: 100%; height: auto; }
figcaption { color: var(--soft); font-size: .85rem; min-width: 12rem; } .sharp { image-rendering: pixelated; }
dl { display: grid; grid-template-columns: fit-content(40%) minmax(0, 1fr); gap: .1rem 1rem; }
dt { color: var(--soft); } dd { margin: 0; } h1, h2, p, dd, figcaption { overflow-wrap: anywhere; }
"""


def page(title, sections):
    """A whole HTML file.  sections: list of (heading, html)"""
    body = "".join(f"<section><h2>{escape(heading)}</h2>{html}</section>" for heading, html in sections)
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head>"
        f"<body><h1>{escape(title)}</h1>{body}</body></html>\n"
    )


def chart_row(charts_):
    return f'<div class="charts">{"".join(charts_)}</div>'


def legend(colours):
    """A coloured dot and its meaning for each.  colours: dict: meaning -> colour"""
    return ", ".join(f'<span style="color:{colour}">\u25cf</span> {escape(name)}' for name, colour in colours.items())


def table(heads, rows):
    """Columns with words in them are on the left, numbers on the right."""
    rows = [[str(cell) for cell in row] for row in rows]
    words = [any(WORD.search(row[i]) for row in rows) for i in range(len(heads))]

    def line(tag, cells):
        return "".join(f"<{tag}{' class=words' * w}>{escape(c)}</{tag}>" for c, w in zip(cells, words))

    body = "".join(f"<tr>{line('td', row)}</tr>" for row in rows)
    return f'<div class="wide"><table><tr>{line("th", heads)}</tr>{body}</table></div>'


def curves_section(lines):
    """Loss of every logged step and accuracy of every epoch, the stages one after the other.  lines: of log.jsonl"""
    losses, accuracy, before = {}, {}, 0
    for line in lines:
        if line["kind"] == "step":
            add_point(losses, line["stage"], before + line["update"], line["loss"])
        elif line["kind"] == "epoch":
            add_point(accuracy, line["stage"], before + line["update"], 100 * line["top1"])
        elif line["kind"] == "stage":
            before += line["update"]
    parts = [charts.curves("Training loss", losses, "update", "loss")] if losses else []
    parts += [charts.curves("Top-1 on the test pictures", accuracy, "update", "%")] if accuracy else []
    return chart_row(parts)


def add_point(series, name, x, y):
    xs, ys = series.setdefault(name, ([], []))
    xs.append(x)
    ys.append(y)


def surface_section(surfaces, reach):
    """Loss surfaces, all in the same colours.  surfaces: dict: stage -> grid"""
    low = min(float(grid.min()) for grid in surfaces.values())
    high = float(np.median([grid.max() for grid in surfaces.values()]))
    maps = [charts.heat_map(f"Loss around {stage}", grid, reach, low, high) for stage, grid in surfaces.items()]
    return (
        "<p>Mean cross-entropy along two random filter-normalised directions; quantized models are moved by their latent "
        f"weights. The same colours in each; above {high:.3g} all is one colour.</p>" + chart_row(maps)
    )


def weights_section(name, w, quant, channels=3):
    """Latent weights of a layer, thresholds of some channels, and what ternarizing costs.  w float32 [N, K]"""
    codes, alpha = ternarize(w, quant.granularity, quant.threshold, quant.scale)
    delta = channel_thresholds(w, codes)
    chosen = np.argsort(delta)[np.linspace(0, len(delta) - 1, channels).astype(int)]
    marks = [(f"channel {c}: \u00b1{delta[c]:.4f}", (-delta[c], delta[c])) for c in chosen]
    error = relative_error(w, codes, alpha, axis=1)
    parts = [
        charts.histogram("Latent weights, thresholds of three channels", w, "weight", "weights", marks),
        charts.histogram("Threshold of each channel", delta, "threshold", "channels"),
        charts.histogram("Relative squared error of each channel", error, "error", "channels"),
    ]
    zeros = f"{name}: {(codes == 0).mean():.1%} of the codes are 0; mean relative squared error {error.mean():.3f}."
    return f"<p>{escape(zeros)}</p>" + chart_row(parts)


def channel_thresholds(w, codes):
    """The largest |w| that became 0 in each channel: its threshold, up to the gap to the next weight.  [N, K] -> [N]"""
    return np.where(codes == 0, np.abs(w), np.float32(0)).max(axis=1)
