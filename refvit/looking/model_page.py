"""The page of a model: what it sees, its bytes, its layers, the weights of one of them, times, and its training."""

import dataclasses
from html import escape

import numpy as np

from .. import charts
from ..architecture import shown_name
from ..commands import top_classes
from ..config import middle_layer, param_count
from ..engine import pack
from ..errors import BadInputError
from ..progress import Progress
from ..report import chart_row, curves_section, legend, page, table, weights_section
from .attention import attention_maps
from .explain import check_layer
from .facts import PARTS, byte_rows, layer_facts
from .images import PLANES_MAX, code_picture, figure, overlay, plane_picture
from .steps import GAUSSIAN_ERROR
from .timing import layer_times, picture_ms
from .watch import watch

KEPT = ("*.prob", "*.s_in", "*.zp_in", "*.q_in")  # of the trace
SPREAD = {"largest": charts.SERIES[1], "smallest": charts.SERIES[2], "median": charts.SERIES[0]}
TIMES = {"at the limit": charts.SERIES[1], "measured": charts.SERIES[0]}
ONE = {"": charts.SERIES[0]}
FROM_PACKED = (
    "A packed file holds no float weights, so thresholds and errors are not known here; give --weights CHECKPOINT, the "
    "float checkpoint that it was made from."
)
FROM_FLOATS = "Float weights, packed for this page as they are; without training, ternary ones lose most accuracy."
FROM_BOTH = "A packed file, beside the float weights that it was made from."


@dataclasses.dataclass(frozen=True)
class Subject:
    """What a page is about.

    title    of the page
    engine   the packed model; floats: Model it was made from, or None; note: where the two come from
    pixels   uint8 [S, S, 3] that it looks at; picture: what to call them
    log      records of a training run's log.jsonl, or None
    """

    title: str
    engine: object
    floats: object
    note: str
    pixels: np.ndarray
    picture: str
    log: object


def model_page(subject, layer, progress):
    """HTML text.  layer: whose weights are shown, or None: in the middle; progress: text stream or None"""
    engine, floats = subject.engine, subject.floats
    layer = check_layer(engine.config, layer or middle_layer(engine.config))
    count = len(engine.linears)
    seen = watch(engine, subject.pixels, KEPT, Progress(progress, "look", count))
    facts = layer_facts(engine, floats, seen, Progress(progress, "compare", count))
    codes = {name: seen.trace[f"{name}.q_in"] for name in engine.linears}
    times, backend = layer_times(engine, codes, Progress(progress, "time", count))
    sections = [
        ("Model", about(engine, subject.note)),
        ("What it sees", sight(engine, seen, subject.picture)),
        ("Bytes", byte_section(engine)),
        ("Layers", layer_charts(facts) + layer_table(facts, times)),
        (f"Weights of {layer}", one_layer(engine, floats, layer)),
        ("Time of each layer", time_section(times, backend, picture_ms(engine, subject.pixels))),
    ]
    if subject.log is not None:
        sections.append(("Training", curves_section(subject.log)))
    return page(subject.title, sections)


def check_weights(path, floats, engine):
    """Raise BadInputError where these are not the float weights that a packed model was made from."""
    if floats.config != engine.config:
        raise BadInputError(path, "not the weights of this packed file", engine.config.name, floats.config.name)
    quant = dataclasses.replace(engine.quant, act_scale="token")  # static ranges are not of the weights
    for name, linear in pack(floats.with_quant(quant)).linears.items():
        if not np.array_equal(linear.weight, engine.linears[name].weight):
            what = "not what the packed file was made from"
            raise BadInputError(f"{path}: {name}.weight", what, "its codes", "others")


def about(engine, note):
    config, quant = engine.config, engine.quant
    rows = [
        ("name", shown_name(config)),
        ("parameters", f"{param_count(config):,}"),
        ("weights and activations", f"W{quant.weight_bits}A{quant.act_bits}, {quant.act_quantizer}"),
        ("scales", f"of weights by {quant.granularity}, of activations by {quant.act_scale}"),
        ("pictures", f"{config.img_size} x {config.img_size}, {config.num_classes} classes"),
    ]
    return definitions(rows) + f"<p>{note}</p>"


def definitions(rows):
    return "<dl>" + "".join(f"<dt>{escape(k)}</dt><dd>{escape(v)}</dd>" for k, v in rows) + "</dl>"


def sight(engine, seen, picture):
    """The picture, what it is taken for, and maps of attention over it."""
    best = top_classes(seen.logits, min(5, len(seen.logits)), engine.labels)
    cells = [(c["label"] or str(c["index"]), f"{100 * c['probability']:.2f} %", f"{c['logit']:.3f}") for c in best]
    maps = attention_maps(engine.config, seen.trace)
    figures = [figure(seen.pixels, picture)]
    figures += [figure(overlay(seen.pixels, values), f"{title}: {span(values)}") for title, values in maps.items()]
    swin = "the attention that each token receives in the last block of a stage; 1 is the average"
    vit = "attention rollout: what reaches the class token from each patch"
    text = f"Tinted: {swin if engine.config.family == 'swin' else vit}. Dark is the least, yellow the most."
    return table(("class", "probability", "logit"), cells) + f"<p>{text}</p>" + gallery(figures)


def span(values):
    return f"{values.min():.3g} to {values.max():.3g}"


def gallery(figures):
    return f'<div class="gallery">{"".join(figures)}</div>'


def byte_section(engine):
    """Bars of the whole model, and the numbers."""
    forms = byte_rows(engine)
    first = sum(forms["float32"])
    cells = [
        (form, *(f"{n:,}" for n in sizes), f"{sum(sizes):,}", f"{100 * sum(sizes) / first:.1f} %")
        for form, sizes in forms.items()
    ]
    bars = {form: [n / 1e6 for n in sizes] for form, sizes in forms.items()}
    return (
        chart_row([charts.stacked("Megabytes of the model by part", bars, PARTS, "MB")])
        + table(("form", *PARTS, "all", "of float32"), cells)
        + "<p>Other: biases, norms, tokens, position tables, in float32.</p>"
    )  # fmt: skip


def layer_charts(facts):
    """Dots over the layers: zeros, error, scales, ranges, clipping."""
    places = {fact.name: i for i, fact in enumerate(facts)}
    ternary = [fact for fact in facts if fact.bits == 2]
    parts = []
    if ternary:
        zeros = [(fact.name, 100 * fact.zeros, "") for fact in ternary]
        parts.append(charts.dots("Zeros among the ternary codes", zeros, places, "%", ONE))
    errors = [(fact.name, fact.error, "") for fact in facts if fact.error is not None]
    if errors:
        parts.append(charts.dots("Relative squared error of the weights", errors, places, "error", ONE))
    parts.append(charts.dots("Scales of the output channels", spreads(facts, "alpha"), places, "scale", SPREAD))
    parts.append(charts.dots("Largest |input| of a token", spreads(facts, "amax"), places, "value", SPREAD))
    clipped = [(fact.name, 100 * fact.clipped, "") for fact in facts]
    if any(value for _, value, _ in clipped):
        parts.append(charts.dots("Inputs that the quantizer clips", clipped, places, "%", ONE))
        note = ""
    else:
        note = " No input is clipped: each scale reaches to the largest value."
    known = f" A Gaussian row that TWN's rule makes ternary has the error {GAUSSIAN_ERROR}." if errors else ""
    return f"<p>Each dot is a layer; {legend(SPREAD)}.{known}{note}</p>" + chart_row(parts)


def spreads(facts, field):
    """(name, value, which) of the largest, smallest and median of an array of each layer."""
    pick = {"largest": np.max, "smallest": np.min, "median": np.median}
    return [(fact.name, float(of(getattr(fact, field))), which) for fact in facts for which, of in pick.items()]


def layer_table(facts, times):
    weights = ("layer", "shape", "bits", "bytes", "zeros", "scale", "error")
    inputs = ("max input", "clipped", "ms", "of limit")
    cells = [(*weight_cells(fact), *input_cells(fact, *times[fact.name])) for fact in facts]
    title = f"All {len(facts)} layers: medians of the scales, one thread's times"
    return f"<details><summary>{title}</summary>{table((*weights, *inputs), cells)}</details>"


def weight_cells(fact):
    form = " x ".join(map(str, fact.shape)), f"W{fact.bits}A{fact.act_bits}", f"{fact.nbytes:,}"
    error = "" if fact.error is None else f"{fact.error:.2g}"
    return fact.name, *form, f"{100 * fact.zeros:.1f} %", f"{np.median(fact.alpha):.3g}", error


def input_cells(fact, ms, limit):
    return f"{fact.amax.max():.3g}", f"{100 * fact.clipped:.2g} %", f"{ms:.3f}", share(ms, limit)


def share(ms, limit):
    """How much of what the machine can do at most; "" where that is not known."""
    return "" if limit is None else f"{100 * limit / ms:.0f} %"


def one_layer(engine, floats, layer):
    """Distribution and thresholds, or what a packed file has of them, and the codes drawn."""
    linear = engine.linears[layer]
    codes = linear.codes()
    if floats is not None and linear.bits == 2:
        text = weights_section(layer, floats.matrix(layer), engine.quant)
    else:
        zeros = 100 * (codes == 0).mean(axis=1)
        parts = [charts.histogram("Scale of each channel", linear.alpha, "scale", "channels")]
        parts += [charts.histogram("Zeros of each channel", zeros, "%", "channels")] if linear.bits == 2 else []
        text = chart_row(parts)
    return text + code_figures(linear, codes)


def code_figures(linear, codes):
    """The codes, and the two planes of ternary ones."""
    shown = tuple(min(a, b) for a, b in zip(codes.shape, PLANES_MAX))
    part = "all" if shown == codes.shape else f"the first {shown[0]} x {shown[1]}"
    text = f"<p>Rows are output channels, columns are inputs; {part} of {codes.shape[0]} x {codes.shape[1]} codes.</p>"
    if linear.bits != 2:
        return text + gallery([figure(code_picture(codes), "codes: blue above 0, orange below")])
    return text + gallery([
        figure(code_picture(codes), "codes: +1 blue, -1 orange, 0 grey"),
        figure(plane_picture(codes > 0), "plane of +1: set bits dark"),
        figure(plane_picture(codes < 0), "plane of -1: set bits dark"),
    ])  # fmt: skip


def time_section(times, backend, whole):
    """Dots of measured times and of the limits, and how the sum compares with the whole."""
    places = {name: i for i, name in enumerate(times)}
    points = [(name, ms, "measured") for name, (ms, _) in times.items()]
    points += [(name, limit, "at the limit") for name, (_, limit) in times.items() if limit is not None]
    total, least = sum(ms for ms, _ in times.values()), [limit for _, limit in times.values() if limit is not None]
    text = f"Products of codes on backend {backend}, one thread: {total:.2f} ms together"
    if least:
        text += f", {sum(least):.2f} ms at the measured limit of the instructions ({share(total, sum(least))} of it)"
    text += f". The whole way of a picture takes {whole:.2f} ms. {legend(TIMES)}."
    return f"<p>{text}</p>" + chart_row([charts.dots("Milliseconds of each layer", points, places, "ms", TIMES)])
