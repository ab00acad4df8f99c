"""Charts as SVG text, for self-contained pages: curves, bars, dots over layers, a heat map, a histogram, a roofline.

Colours follow the page's theme.
"""

from html import escape

import numpy as np

WIDTH, HEIGHT, LEFT, BOTTOM, TOP = 420, 260, 58, 36, 28  # pixels
SERIES = ("#2f78c4", "#c8591a", "#2f8f5b", "#8a63d2")  # of enough contrast on white and on black
PARTS = (*SERIES, "#718096")  # of a whole
# viridis at nine points, interpolated linearly (matplotlib's map, CC0)
HEAT = ("440154", "472d7b", "3b528b", "2c728e", "21918c", "28ae80", "5ec962", "addc30", "fde725")


def svg(title, body, width=WIDTH, height=HEIGHT):
    """A chart with its title, which is also what a screen reader says."""
    return (
        f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{escape(title)}">'
        f'<text x="{LEFT}" y="16" class="title">{escape(title)}</text>{body}</svg>'
    )


def text(x, y, value, anchor="middle"):
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(str(value))}</text>'


def rect(x, y, width, height, fill):
    return f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" fill="{fill}"/>'


def scale(low, high, start, end):
    """The linear map [low, high] -> [start, end]."""
    span = (high - low) or 1.0
    return lambda v: start + (v - low) / span * (end - start)


def ticks(low, high, count=5):
    """Round numbers within [low, high]."""
    raw = (high - low) / count or 1.0
    step = 10.0 ** np.floor(np.log10(raw))
    step *= next(m for m in (1, 2, 5, 10) if m * step >= raw)
    first = np.ceil(low / step)
    return [float(i * step) for i in np.arange(first, np.floor(high / step + 1e-9) + 1)]


def axes(x_range, y_range, x_label, y_label):
    """Frame, ticks and labels.  -> svg text, x map, y map"""
    x = scale(*x_range, LEFT, WIDTH - 12)
    y = scale(*y_range, HEIGHT - BOTTOM, TOP)
    parts = [frame(x_label, y_label)]
    parts += [text(x(t), HEIGHT - BOTTOM + 14, f"{t:g}") for t in ticks(*x_range)]
    parts += [text(LEFT - 5, y(t) + 4, f"{t:g}", "end") for t in ticks(*y_range)]
    return "".join(parts), x, y


def frame(x_label, y_label):
    """The two axes and their labels."""
    lines = f'<path class="axis" d="M{LEFT} {TOP}V{HEIGHT - BOTTOM}H{WIDTH - 12}"/>'
    side = f'<g transform="translate(12 {HEIGHT / 2}) rotate(-90)">{text(0, 0, y_label)}</g>'
    return lines + text((LEFT + WIDTH) / 2, HEIGHT - 6, x_label) + side


def curves(title, series, x_label, y_label):
    """Lines.  series: dict label -> (xs, ys)"""
    xs = np.concatenate([np.asarray(s[0], float) for s in series.values()])
    ys = np.concatenate([np.asarray(s[1], float) for s in series.values()])
    room = 0.07 * len(series) * (ys.max() - ys.min())  # for the legend
    body, x, y = axes((xs.min(), xs.max()), (ys.min(), ys.max() + room), x_label, y_label)
    for i, (label, (px, py)) in enumerate(series.items()):
        colour = SERIES[i % len(SERIES)]
        points = " ".join(f"{x(a):.1f},{y(b):.1f}" for a, b in zip(px, py))
        body += f'<polyline points="{points}" stroke="{colour}" fill="none" stroke-width="1.6"/>'
        body += dot(x(px[0]), y(py[0]), colour) if len(px) == 1 else ""  # of a point alone a line shows nothing
        body += legend(i, label, colour)
    return svg(title, body)


def histogram(title, values, x_label, y_label, marks=()):
    """Counts in 80 bins, and vertical lines.  marks: list of (label, [values])"""
    counts, edges = np.histogram(values, bins=80)
    top = counts.max() * (1 + 0.08 * len(marks))  # room for the legend
    body, x, y = axes((edges[0], edges[-1]), (0, top), x_label, y_label)
    for count, left, right in zip(counts, edges, edges[1:]):
        body += rect(x(left), y(count), x(right) - x(left), y(0) - y(count), SERIES[0])
    for i, (label, places) in enumerate(marks):
        colour = SERIES[1 + i % (len(SERIES) - 1)]
        lines = "".join(f"M{x(v):.1f} {TOP}V{HEIGHT - BOTTOM}" for v in places)
        body += f'<path class="mark" stroke="{colour}" d="{lines}"/>' + legend(i, label, colour)
    return svg(title, body)


def legend(i, label, colour):
    """The i-th line of a legend at the upper right."""
    return f'<g style="fill:{colour}">{text(WIDTH - 16, TOP + 14 * i + 8, label, "end")}</g>'


def heat_map(title, grid, reach, low, high):
    """A square grid of values, coloured between ``low`` and ``high``, with its colour bar; a dot marks the centre."""
    size, side = len(grid), HEIGHT - TOP - BOTTOM
    cell, bar = side / size, LEFT + side + 20
    span = (high - low) or 1.0
    body = ""
    for i, j in np.ndindex(grid.shape):
        colour = heat((grid[i, j] - low) / span)
        body += rect(LEFT + j * cell, TOP + i * cell, cell + 0.4, cell + 0.4, colour)  # 0.4: no seams between cells
    for k in range(40):
        body += rect(bar, TOP + side * (39 - k) / 40, 14, side / 40 + 0.4, heat(k / 39))
    body += f'<circle cx="{LEFT + side / 2:.1f}" cy="{TOP + side / 2:.1f}" r="3" fill="white" stroke="black"/>'
    body += text(LEFT, HEIGHT - 20, f"{-reach:g}") + text(LEFT + side, HEIGHT - 20, f"{reach:g}")
    body += text(bar + 18, TOP + 8, f"{high:.3g}", "start") + text(bar + 18, TOP + side, f"{low:.3g}", "start")
    centre = grid[size // 2, size // 2]
    summary = f"loss: centre {centre:.3f}, smallest {grid.min():.3f}, largest {grid.max():.3f}"
    return svg(title, body + text(LEFT, HEIGHT - 4, summary, "start"))


def heat(t):
    """Colour of t in [0, 1], as text."""
    return "#" + "".join(f"{round(v):02x}" for v in heat_rgb(t))


def heat_rgb(t):
    """Red, green and blue, 0 to 255, of values in [0, 1].  float [...] -> float [..., 3]"""
    points = np.array([[int(colour[i : i + 2], 16) for i in (0, 2, 4)] for colour in HEAT])
    places = np.linspace(0, 1, len(points))
    return np.stack([np.interp(t, places, channel) for channel in points.T], axis=-1)


def bars(title, rows, unit):
    """Horizontal bars, a whisker from the lowest to the highest.  rows: list of (label, value, low, high, colour)"""
    left, step = 118, 24
    x = scale(0, max(high for _, _, _, high, _ in rows) * 1.28, left, WIDTH)  # room for the numbers
    body = ""
    for i, (label, value, low, high, colour) in enumerate(rows):
        y = TOP + step * i
        body += rect(left, y, x(value) - left, step - 8, colour) + text(left - 6, y + 12, label, "end")
        body += f'<path class="axis" d="M{x(low):.1f} {y + 8}H{x(high):.1f}"/>'
        body += text(x(high) + 6, y + 12, f"{value:.4g} {unit}", "start")
    return svg(title, body, height=TOP + step * len(rows) + 6)


def stacked(title, rows, parts, unit):
    """Horizontal bars of parts, one after the other.  rows: dict: label -> value of each of ``parts``"""
    left, step, columns = 100, 24, 2
    x = scale(0, max(sum(values) for values in rows.values()) * 1.3, left, WIDTH)  # room for the numbers
    body = ""
    for i, (label, values) in enumerate(rows.items()):
        y, ends = TOP + step * i, np.cumsum([0, *values])
        body += text(left - 6, y + 12, label, "end")
        for colour, start, end in zip(PARTS, ends, ends[1:]):
            body += rect(x(start), y, x(end) - x(start), step - 8, colour)
        body += text(x(ends[-1]) + 6, y + 12, f"{ends[-1]:.4g} {unit}", "start")
    below = TOP + step * len(rows) + 6
    for i, (part, colour) in enumerate(zip(parts, PARTS)):
        across, y = LEFT + 190 * (i % columns), below + 16 * (i // columns)
        body += rect(across, y, 10, 10, colour) + text(across + 16, y + 9, part, "start")
    return svg(title, body, height=below + 16 * -(-len(parts) // columns) + 4)


def roofline(title, series, limits):
    """GOP/s over bits of activations, both logarithmic: fewer bits to the right.

    series  dict: label -> {bits, or None where they do not matter: [GOP/s of each product]}
    limits  list of (label, function: bits -> GOP/s), drawn dashed
    """
    values = [v for points in series.values() for vs in points.values() for v in vs]
    values += [limit(b) for _, limit in limits for b in (8, 1)]
    body, x, y = log_axes(min(values), max(values))
    for label, limit in limits:
        path = f"M{x(8):.1f} {y(limit(8)):.1f}L{x(1):.1f} {y(limit(1)):.1f}"
        body += f'<path class="mark" stroke="currentColor" d="{path}"/>' + text(x(1) - 4, y(limit(1)) - 5, label, "end")
    for i, (label, points) in enumerate(series.items()):
        colour, aside = SERIES[i % len(SERIES)], 5 * i  # or the dots of one would hide those of another
        every = {b: vs for bits, vs in points.items() for b in ((8, 1) if bits is None else (bits,))}
        best = " ".join(f"{x(b):.1f},{y(max(vs)):.1f}" for b, vs in sorted(every.items()))
        body += f'<polyline points="{best}" stroke="{colour}" fill="none" stroke-width="1.6"/>'
        body += "".join(dot(x(b or 8) + aside, y(v), colour) for b, vs in points.items() for v in vs)
        body += f'<g style="fill:{colour}">{text(LEFT + 120 * i, HEIGHT + 12, label, "start")}</g>'
    return svg(title, body, height=HEIGHT + 20)


def dots(title, points, places, y_label, colours):
    """A dot for each value over the layers of a model.

    points   list of (name, value, state)
    places   dict: name -> place in order, of all that have a place on the axis
    colours  dict: state -> colour; the last is drawn on top
    """
    top = max([value for _, value, _ in points], default=0) or 1
    x = scale(0, max(len(places) - 1, 1), LEFT + 4, WIDTH - 16)
    y = scale(0, 1.05 * top, HEIGHT - BOTTOM, TOP)
    body = frame("block", y_label) + block_marks(places, x)
    body += "".join(text(LEFT - 5, y(t) + 4, f"{t:g}", "end") for t in ticks(0, top))
    for name, value, state in sorted(points, key=lambda point: list(colours).index(point[2])):
        circle = dot(x(places[name]), y(value), colours[state])
        body += f"<g>{circle}<title>{escape(f'{name}: {value:.3g}')}</title></g>"
    return svg(title, body)


def block_marks(places, x):
    """Where blocks begin; at most twelve of them are named."""
    starts = {}
    for name, place in places.items():
        numbers = [part for part in name.split(".") if part.isdigit()]
        if numbers and "blocks." in name:
            starts.setdefault(".".join(numbers[:2] if name.startswith("layers") else numbers[:1]), place)
    bottom, step = HEIGHT - BOTTOM, -(-len(starts) // 12) or 1
    lines = "".join(f"M{x(place):.1f} {bottom}v4" for place in starts.values())
    labels = (text(x(place), bottom + 15, label) for label, place in list(starts.items())[::step])
    return f'<path class="axis" d="{lines}"/>{"".join(labels)}'


def dot(x, y, colour):
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.2" fill="{colour}"/>'


def log_axes(low, high):
    """Axes of a roofline.  -> svg text, map of bits, map of GOP/s"""
    place = scale(-3.3, 0.3, LEFT, WIDTH - 12)
    height = scale(np.log10(low) - 0.1, np.log10(high) + 0.15, HEIGHT - BOTTOM, TOP)
    decades = range(int(np.floor(np.log10(low))), int(np.ceil(np.log10(high))) + 1)
    marks = [m * 10.0**d for d in decades for m in (1, 2, 5) if low * 0.8 <= m * 10.0**d <= high * 1.4]
    parts = [frame("bits of activations", "GOP/s")]
    parts += [text(place(-np.log2(b)), HEIGHT - BOTTOM + 14, b) for b in (8, 4, 2, 1)]
    parts += [text(LEFT - 5, height(np.log10(v)) + 4, f"{v:g}", "end") for v in marks]
    return "".join(parts), lambda b: place(-np.log2(b)), lambda v: height(np.log10(v))
