"""The words around worked.py's numbers: plain text of at most 120 columns, a rule and a function for every step."""

from dataclasses import dataclass

import numpy as np

from ..quant import code_range
from ..rules import qmax
from .worked import error_of, hexadecimal

SHOWN, ROOM = 8, 98  # of a vector: elements, and columns for them
WORDS = 3  # of a plane
COLUMNS = 64  # of the picture of bits
WIDTH = 100  # of a heading
GAUSSIAN_ERROR = 0.192  # relative squared error of a Gaussian row by TWN's rule: quadrature, 2 (tail) at 0.7 mean|W|


@dataclass(frozen=True)
class Step:
    """One step: its title, the rule, the function ("FILE: NAME") that does it, and the lines of its arithmetic."""

    title: str
    rule: str
    where: str
    lines: list


def as_text(worked, headline):
    """All steps, numbered.  -> list of lines"""
    lines = [headline, ""]
    for i, step in enumerate(steps(worked), 1):
        place = f"{step.rule}  {step.where}"
        lines.append(f"{i:2}. {step.title}  {place:>{max(0, WIDTH - 6 - len(step.title))}}")
        lines += [*(f"      {line}" for line in step.lines), ""]
    return lines[:-1]


def steps(worked):
    """-> list of Step"""
    found = weight_steps(worked) if worked.weights.bits == 2 else int8_weight_steps(worked)
    found += activation_steps(worked.activations)
    found += popcount_steps(worked) if worked.weights.bits == 2 else [int8_product(worked)]
    if worked.activations.quantizer == "minmax":
        found.append(zero_point(worked))
    return [*found, rescaling(worked), errors(worked)]


def weight_steps(worked):
    row = worked.weights
    names = ("pos", "neg")
    planes = [f"{n} = {words(p)}" for n, p in zip(names, worked.planes)]
    note = ["bit j of word w is input 64 w + j, the least significant bit first; in hexadecimal it is the last digit"]
    packing = Step("Two planes of bits: +1 and -1", "N2", "bitplanes.py: pack_planes", planes + note)
    if row.w is None:
        return [given_codes(row), packing]
    return [*ternarizing(row), packing]


def given_codes(row):
    """Where the weights come from a packed file."""
    lines = [
        "a packed file holds no float weights: mean, threshold and scale (N3) were worked out when it was packed",
        *table({"T": signed(row.codes)}),
        f"alpha = {row.alpha!s}   {count_line(row.codes)}",
    ]
    return Step("Ternary codes and scale, as the file has them", "N1", "packed.py: PackedLinear", lines)


def ternarizing(row):
    """Mean, threshold, codes, scale."""
    k, kept = len(row.w), int((row.codes != 0).sum())
    total = f"exact sum of |w| / K = {row.total!r} / {k} = {row.mean!r}"
    optimal = row.threshold == "optimal"
    rule = "of least squared error" if optimal else f"f32({row.threshold} * mean)"
    mean = table({"w": row.w, "|w|": np.abs(row.w)}) + [total]
    codes = table({"|w|": np.abs(row.w), "T": signed(row.codes)}) + [count_line(row.codes)]
    if row.scale == "absolute_mean":
        scale = f"alpha = f32(mean) = {row.alpha!s}"
    else:
        scale = f"f32({row.kept_sum!r} / {max(kept, 1)}) = {row.alpha!s}"
        scale = f"alpha = f32(exact sum of |w| above Delta / count) = {scale}"
    where = "ternary.py: optimal_delta" if optimal else "ternary.py: row_deltas"
    return [
        Step("Mean of |w|", "N3", "ternary.py: exact_row_sums", mean),
        Step("Threshold Delta", "N3", where, [f"Delta = {rule} = {row.delta!s}"]),
        Step("Codes: T = sign(w) where |w| > Delta, else 0", "N3", "ternary.py: ternarize", codes),
        Step("Scale alpha", "N3", "ternary.py: ternarize", [scale]),
    ]


def count_line(codes):
    plus, minus = int((codes > 0).sum()), int((codes < 0).sum())
    return f"{plus} are +1, {minus} are -1, {len(codes) - plus - minus} are 0"


def int8_weight_steps(worked):
    row = worked.weights
    if row.w is None:
        lines = ["a packed file holds no float weights: the codes were worked out when it was packed"]
        lines += [*table({"q_w": row.codes}), f"s_w = {row.alpha!s}"]
        return [Step("8-bit codes and scale, as the file has them", "N1", "packed.py: PackedLinear", lines)]
    amax = np.abs(row.w).max()
    scale = f"s_w = f32(max |w| / 127) = f32({amax!s} / 127) = {row.alpha!s}"
    lines = table({"w": row.w, "q_w": row.codes}) + ["q_w = clip(rint(f32(w / s_w)), -127, 127), half to even"]
    return [
        Step("Scale of the weights", "N1", "quant.py: symmetric_scale", [scale]),
        Step("8-bit codes of the weights", "N1", "quant.py: quantize_symmetric", lines),
    ]  # fmt: skip


def activation_steps(act):
    """Scale (and zero point), codes."""
    low, high = code_range(act.bits, act.quantizer)
    if not act.own:
        lines = [f"s = {act.s!s}" + (f", zero point {act.zp}" if act.quantizer == "minmax" else "")]
        where = "engine.py: IntegerPass.quantize_input"
        scale = Step("Scale of the activations, not of this row alone", "N6", where, lines)
    elif act.quantizer == "symmetric":
        amax, top = np.abs(act.x).max(), qmax(act.bits)
        lines = [f"s = f32(max |x| / {top}) = f32({amax!s} / {top}) = {act.s!s}"]
        scale = Step("Scale of the activations", "N4, N5", "quant.py: symmetric_scale", lines)
    else:
        lo, hi, levels = min(act.x.min(), np.float32(0)), max(act.x.max(), np.float32(0)), (1 << act.bits) - 1
        lines = [f"lo = min(x, 0) = {lo!s}, hi = max(x, 0) = {hi!s}", f"s = f32(f32(hi - lo) / {levels}) = {act.s!s}",
                 f"zero point = clip(rint({low} - f32(lo / s)), {low}, {high}) = {act.zp}"]  # fmt: skip
        scale = Step("Scale and zero point of the activations", "N4, N5", "quant.py: minmax_scale", lines)
    shift = " + zero point" if act.quantizer == "minmax" else ""
    with np.errstate(over="ignore"):
        lines = table({"x": act.x, "x / s": act.x / act.s, "q": act.q})
    lines.append(f"q = clip(rint(f32(x / s)){shift}, {low}, {high}), half to even")
    return [scale, Step("Codes of the activations", "N4", f"quant.py: quantize_{act.quantizer}", lines)]


def popcount_steps(worked):
    """The planes of x, a picture of the first word, and what the popcounts add up to."""
    k, top = len(worked.weights.codes), worked.activations.bits - 1
    shown = min(k, COLUMNS)
    lines = [f"inputs 0 to {shown - 1}{f' of {k}' if k > shown else ''}, from left to right"]
    for name, plane in (("T pos", worked.planes[0]), ("T neg", worked.planes[1])):
        lines.append(f"{name:>6}      {drawn(plane, shown)}  {words(plane[:1])}")
    for bit, weight, plane, _, _ in worked.bits:
        lines.append(f"{f'x {bit}':>6} {weight:4} {drawn(plane, shown)}  {words(plane[:1])}")
    lines.append(f"bit {top} counts {-(1 << top)}: two's complement")
    planes = Step("Bits of the activation codes beside the planes of T", "N2, N7", "bitplanes.py: pack_planes", lines)
    return [planes, counts(worked)]


def counts(worked):
    lines = ["bit  weight  popcount(x & pos)  popcount(x & neg)  difference  weight * difference"]
    for bit, weight, _, pos, neg in worked.bits:
        lines.append(f"{bit:3}  {weight:6}  {pos:17}  {neg:17}  {pos - neg:10}  {weight * (pos - neg):19}")
    lines.append(f"{'their sum is the accumulator, exact in int32:':>61}  {worked.acc:19}")
    note = "C needs one popcount a bit, or multiplies (csrc/products/): the same integer"
    lines.append(note)
    over = f" over all {len(worked.planes[0])} words" if len(worked.planes[0]) > 1 else ""
    return Step(f"Popcounts{over}, and the accumulator", "N7", "kernels.py: ternary_matmul", lines)


def int8_product(worked):
    q, w = (values.astype(np.int32) for values in (worked.activations.q, worked.weights.codes))
    lines = table({"q": q, "q_w": w, "q * q_w": q * w})
    lines.append(f"their sum over all {len(q)} is the accumulator, exact in int32: {worked.acc}")
    return Step("Products, and the accumulator", "N7", "kernels.py: int8_matmul", lines)


def zero_point(worked):
    zp, total = worked.activations.zp, worked.code_sum
    line = f"acc - zero point * (sum of the weight codes) = {worked.acc} - {zp} * {total} = {worked.corrected}"
    return Step("Correction of the zero point", "N6", "engine.py: IntegerPass.linear", [line])


def rescaling(worked):
    """The steps of N8; float32 as its shortest decimal."""
    acc, scaled, out = worked.steps
    alpha = "alpha" if worked.weights.bits == 2 else "s_w"
    rows = [
        ("f32(acc)", "", acc),
        ("f32(that * s)", f"{acc!s} * {worked.activations.s!s}", scaled),
        (f"f32(that * {alpha})", f"{scaled!s} * {worked.weights.alpha!s}", out),
    ]
    if worked.bias is not None:
        rows.append(("f32(that + bias)", f"{out!s} + {worked.bias!s}", worked.out))
    lines = [f"{name:17} = {f'f32({product}) = ' if product else ''}{value!s}" for name, product, value in rows]
    title = "Back to float, each step rounded" + ("" if worked.bias is None else ", and the bias")
    return Step(title, "N8", "exact.py: rescale", lines)


def errors(worked):
    """How far the output is from the products of floats."""
    row, (exact, dequantized) = worked.weights, worked.exact
    out = float(worked.out)
    scale = "alpha T" if row.bits == 2 else "s_w q_w"
    bias = "" if worked.bias is None else " + bias"
    lines = [f"output             {worked.out!s}"]
    own = f"error of the activation codes {out - dequantized:+.3g}"
    lines.append(f"{f'({scale}) x{bias}':18} {dequantized:.9g}   {own}")
    if exact is not None:
        both = f"error of the weight codes {dequantized - exact:+.3g}, of both {out - exact:+.3g}"
        lines.append(f"{f'w x{bias}':18} {exact:.9g}   {both}")
        rule = f" (a Gaussian row: {GAUSSIAN_ERROR})" if (row.threshold, row.scale) == (0.7, "masked_mean") else ""
        lines.append(f"||w - {scale}||^2 / ||w||^2 = {error_of(row):.3g}{rule}")
    return Step("Error against the float product", "-", "looking/worked.py: float_product", lines)


def table(rows):
    """Elements of vectors of one length, below each other; of long ones the first and the last.  -> list of lines"""
    k, label = len(next(iter(rows.values()))), max(map(len, rows))
    ends = [*range(min(k, SHOWN)), *range(max(k - SHOWN, 0), k)]
    widest = max(len(str(values[i])) for values in rows.values() for i in ends)
    fit = min(SHOWN, (ROOM - label) // (widest + 2))
    whole = k <= fit
    places = range(k) if whole else [*range(fit // 2), None, *range(k - (fit - 1) // 2, k)]
    cells = {name: ["..." if i is None else str(values[i]) for i in places] for name, values in rows.items()}
    widths = [max(len(column) for column in columns) for columns in zip(*cells.values())]
    lines = [f"{n:<{label}}  " + "  ".join(f"{c:>{w}}" for c, w in zip(row, widths)) for n, row in cells.items()]
    return lines if whole else [*lines[:-1], f"{lines[-1]}   ({k} in all)"]


def signed(codes):
    return [f"{c:+d}" if c else "0" for c in codes.tolist()]


def words(plane):
    """Words in hexadecimal, of many the first and the last."""
    shown = hexadecimal(plane)
    if len(shown) > WORDS:
        shown = [*shown[: WORDS - 1], "...", f"{shown[-1]}  ({len(plane)} words)"]
    return " ".join(shown)


def drawn(plane, count):
    """The first ``count`` bits of a plane, the lowest first."""
    return "".join(".1"[int(plane[0]) >> j & 1] for j in range(count))
