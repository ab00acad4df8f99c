"""One output of a linear layer worked out by hand: every number between a weight row and an activation vector.

Each number comes from the function that the engine uses for it, applied to one row: so they have the engine's bits.
K inputs; words are ceil(K / 64).
"""

import math
from dataclasses import dataclass

import numpy as np

from .. import kernels, quant, ternary
from ..bitplanes import pack_planes
from ..errors import BadInputError
from ..exact import rescale
from ..rules import TWN_THRESHOLD, f32

EXAMPLE_W = (0.9, -0.2, 0.05, -1.1, 0.4, 0.0, 0.75, -0.6)
EXAMPLE_X = (1.5, -0.3, 2.0, 0.25, -1.0, 0.8, -2.54, 0.1)
EXAMPLE_BIAS = 0.1
INPUTS_MAX = 1 << 16  # at all bits and zero points the sums stay within int32 (N6, N7)


@dataclass(frozen=True)
class WeightRow:
    """A row of weights as the engine has it, and where it comes from.

    bits    2 or 8; codes int8 [K], alpha float32
    w       float32 [K], or None where only a packed file is there; of it, at 2 bits:
    total   float64, exact sum of |w| rounded once;  mean float64;  delta float32;  kept_sum: total above delta;
    threshold, scale  the rules of delta and alpha (N3)
    """

    bits: int
    codes: np.ndarray
    alpha: np.float32
    w: object = None
    total: object = None
    mean: object = None
    delta: object = None
    kept_sum: object = None
    threshold: object = None
    scale: object = None


@dataclass(frozen=True)
class Activations:
    """x float32 [K] and its codes q int8 [K] with scale s float32 and zero point zp int; ``own``: s is of x alone."""

    x: np.ndarray
    bits: int
    quantizer: str
    q: np.ndarray
    s: np.float32
    zp: int
    own: bool


@dataclass(frozen=True)
class Worked:
    """What follows from a WeightRow and Activations.

    planes    uint64 [2, words] of the weight codes, or None at 8 bits
    bits      list of (bit, its weight, plane of x uint64 [words], popcount(x & pos), popcount(x & neg)), or None
    acc       int before the correction by the zero point, corrected after it; code_sum: sum of the weight codes
    steps     float32: f32(acc), times s, times alpha (N8); out float32, with the bias (float32 or None)
    exact     float64, the float products w x + b (None without w) and (alpha codes) x + b, each rounded once
    """

    weights: WeightRow
    activations: Activations
    planes: object
    bits: object
    acc: int
    code_sum: int
    corrected: int
    steps: tuple
    bias: object
    out: np.float32
    exact: tuple


def quantized_row(w, bits=2, threshold=TWN_THRESHOLD, scale="masked_mean"):
    """Float weights -> WeightRow (N1, N3).  w float32 [K]. Raises BadInputError as ``ternarize``."""
    rows = w[None]
    if bits == 8:
        codes, alpha = quant.weight_int8(rows)
        return WeightRow(8, codes[0], alpha[0], w)
    codes, alpha = ternary.ternarize(rows, "channel", threshold, scale)
    magnitude = np.abs(rows)
    total = ternary.exact_row_sums(magnitude)
    mean = total / max(len(w), 1)
    delta = ternary.row_deltas(magnitude, mean, threshold)[0]
    kept_sum = ternary.exact_row_sums(magnitude * (codes != 0))[0]
    sums = float(total[0]), float(mean[0]), delta, float(kept_sum)
    return WeightRow(2, codes[0], alpha[0], w, *sums, threshold, scale)


def quantized_input(x, bits=8, quantizer="symmetric", s=None, zp=None):
    """-> Activations (N4).  x float32 [K]; s float32 and zp where they are not x's own: static, or of an image (N6)"""
    own = s is None
    given = (None, None) if own else (np.array([s], f32), np.array([zp], np.int32))
    q, s, zp = kernels.quantize_rows(np.ascontiguousarray(x[None]), bits, quantizer, *given)
    return Activations(x, bits, quantizer, q[0], s[0], int(zp[0]), own)


def work(weights, activations, bias=None):
    """-> Worked.  bias float32 or None. Raises BadInputError where lengths differ, K is too long or x infinite."""
    k = len(weights.codes)
    if len(activations.q) != k:
        raise BadInputError("explain", "activations", f"{k}, as there are weights", len(activations.q))
    if not np.isfinite(activations.x).all():
        raise BadInputError("explain", "activations", "finite numbers", "NaN or inf")
    if not 1 <= k <= INPUTS_MAX:
        raise BadInputError("explain", "inputs of a dot product", f"1 to {INPUTS_MAX}", k)
    q, planes, bits = activations.q[None], None, None
    if weights.bits == 2:
        packed = kernels.pack_planes(weights.codes[None])
        acc = kernels.ternary_matmul(q, packed, k, bits=activations.bits)
        planes = packed[:, 0]
        bits = bit_counts(activations, planes)
    else:
        acc = kernels.int8_matmul(q, weights.codes[None])
    code_sum = int(weights.codes.sum(dtype=np.int32))
    corrected = acc - np.int32(activations.zp * code_sum)
    with np.errstate(over="ignore"):
        scaled = corrected[0, 0].astype(f32) * activations.s
        steps = (corrected[0, 0].astype(f32), scaled, scaled * weights.alpha)
    s, alpha = np.array([activations.s]), np.array([weights.alpha])
    out = rescale(corrected, s, alpha, None if bias is None else np.array([bias], f32))[0, 0]
    exact = (weights.w, weights.alpha.astype(float) * weights.codes)
    exact = tuple(None if w is None else float_product(w, activations.x, bias) for w in exact)
    sums = int(acc[0, 0]), code_sum, int(corrected[0, 0])
    return Worked(weights, activations, planes, bits, *sums, steps, bias, out, exact)


def bit_counts(activations, planes):
    """The two's complement bits of the codes, each as a plane, and how many of them meet a +1 and a -1 (N7)."""
    pos, neg = planes
    rows = []
    for bit in range(activations.bits):
        weight = -(1 << bit) if bit == activations.bits - 1 else 1 << bit
        plane = pack_planes((activations.q >> bit & 1)[None].astype(np.int8))[0, 0]
        rows.append((bit, weight, plane, popcount(plane & pos), popcount(plane & neg)))
    return rows


def popcount(words):
    return sum(int(word).bit_count() for word in words)


def float_product(w, x, bias):
    """w x + bias; each product is rounded to float64 (exact of float32 factors), the sum once."""
    products = w.astype(np.float64) * x.astype(np.float64)
    return math.fsum([*products.tolist(), 0.0 if bias is None else float(bias)])


def error_of(row):
    """What its codes cost a WeightRow: ``ternary.relative_error``, which fits 8 bits as well.  -> float"""
    return float(ternary.relative_error(row.w[None], row.codes[None], np.array([row.alpha])))


def as_json(worked, source):
    """JSON-ready; float32 as the nearest decimal of float64, which reads back to the same bits."""
    row, act = worked.weights, worked.activations
    weights = None
    if row.w is not None:
        sums = {"sum": row.total, "mean": row.mean, "delta": optional(row.delta), "kept_sum": row.kept_sum}
        weights = {"values": floats(row.w), **sums, "relative_error": error_of(row)}
    planes = None if worked.planes is None else {n: hexadecimal(p) for n, p in zip(("pos", "neg"), worked.planes)}
    names = ("bit", "weight", "plane", "pos", "neg")
    return {
        "source": source,
        "inputs": len(row.codes),
        "weight_bits": row.bits,
        "weights": weights,
        "codes": row.codes.tolist(),
        "alpha": float(row.alpha),
        "planes": planes,
        "activations": {"values": floats(act.x), "bits": act.bits, "quantizer": act.quantizer, "scale": float(act.s),
                        "zero_point": act.zp, "codes": act.q.tolist()},
        "popcounts": worked.bits and [dict(zip(names, (b, w, hexadecimal(p), *n))) for b, w, p, *n in worked.bits],
        "accumulator": worked.acc,
        "code_sum": worked.code_sum,
        "corrected": worked.corrected,
        "rescale": dict(zip(("float_acc", "times_s", "times_alpha"), floats(worked.steps))),
        "bias": optional(worked.bias),
        "output": float(worked.out),
        "float_product": worked.exact[0],
        "dequantized_product": worked.exact[1],
    }  # fmt: skip


def floats(values):
    return [float(v) for v in values]


def optional(value):
    return None if value is None else float(value)


def hexadecimal(words):
    return [f"{int(word):016x}" for word in words]
