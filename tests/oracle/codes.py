"""N1, N3 to N5, N13: what is made into codes, with which scale; the straight-through masks."""

from math import inf, isfinite, isinf, ldexp

from .errors import Refused
from .floats import MIN_NORMAL, f32, has_nan

SCALE_MIN = MIN_NORMAL
TWN = float.fromhex("0x1.6666666666666p-1")
UNIT = 149  # every finite f32 is a multiple of 2^-149


def code_range(bits, quantizer):
    """The least and the greatest code (N4)."""
    high = 2 ** (bits - 1) - 1
    return (-high, high) if quantizer == "symmetric" else (-high - 1, high)


def range_of(x):
    """amax, lo, hi over the finite values of x (N5)."""
    if has_nan(x):
        raise Refused("NaN in the input of a quantizer")
    finite = [0.0, *filter(isfinite, x)]
    return max(map(abs, finite)), min(finite), max(finite)


def scale_of(amax, lo, hi, bits, quantizer):
    if quantizer == "symmetric":
        s = f32(amax / (2 ** (bits - 1) - 1))
    else:
        levels = 2**bits - 1
        s = f32(f32(hi - lo) / levels)
        if isinf(s):
            s = f32(f32(hi / levels) - f32(lo / levels))
    return 1.0 if s < SCALE_MIN else s


def rint_clip(v, low, high):
    """clip(rint(v), low, high) with integer bounds; v may be infinite."""
    return round(min(max(v, low), high))


def zero_point(lo, s, bits):
    low, high = code_range(bits, "minmax")
    return rint_clip(f32(low - f32(lo / s)), low, high)


def scale_and_zero_point(bounds, bits, quantizer):
    """s and zp of a range (amax, lo, hi)."""
    s = scale_of(*bounds, bits, quantizer)
    return s, 0 if quantizer == "symmetric" else zero_point(bounds[1], s, bits)


def encode(x, s, zp, bits, quantizer):
    """Codes of the values x. rint(x / s) + zp is clipped before zp is added, which changes nothing (N4)."""
    if has_nan(x):
        raise Refused("NaN in the input of a quantizer")
    low, high = code_range(bits, quantizer)
    return [rint_clip(f32(v / s), low - zp, high - zp) + zp for v in x]


def activation_mask(x, s, zp, bits, quantizer):
    """N13: 1 where the code was not clipped."""
    if has_nan(x):
        raise Refused("NaN in the input of a quantizer")
    low, high = code_range(bits, quantizer)
    quotients = [f32(v / s) for v in x]
    return [int(isfinite(v) and low <= round(v) + zp <= high) for v in quotients]


def latent_mask(w, ste_clip):
    """N13: 1 where the gradient passes to a latent weight; ste_clip is a float or None."""
    bound = inf if ste_clip is None else f32(ste_clip)
    return [int(abs(v) <= bound) for v in w]


def finite_weights(w):
    if not all(isfinite(v) for row in w for v in row):
        raise Refused("NaN or infinity in weights")


def by_granularity(quantize_row, w, granularity):
    """Codes [N, K] and alpha [N]: quantize_row for each row of w, or once for the whole matrix."""
    finite_weights(w)
    if granularity == "channel":
        pairs = [quantize_row(row) for row in w]
        return [codes for codes, _ in pairs], [alpha for _, alpha in pairs]
    codes, alpha = quantize_row([v for row in w for v in row])
    k = len(w[0])
    return [codes[i * k : (i + 1) * k] for i in range(len(w))], [alpha] * len(w)


def weight_int8(w, granularity):
    def quantize_row(row):
        amax = max(map(abs, row), default=0.0)
        alpha = scale_of(amax, 0.0, 0.0, 8, "symmetric")
        return [rint_clip(f32(v / alpha), -127, 127) for v in row], alpha

    return by_granularity(quantize_row, w, granularity)


def exact_sum(values):
    """f64 of the exact sum of f32 values: integers in units of 2^-149, one rounding in the division."""
    return sum(int(ldexp(v, UNIT)) for v in values) / 2**UNIT


def optimal_delta(m):
    d = sorted(m, reverse=True) + [0.0]
    best, delta, prefix = -1.0, 0.0, 0.0
    for k in range(1, len(d)):
        prefix = prefix + d[k - 1]
        gain = (prefix * prefix) / k
        if d[k - 1] != d[k] and gain > best:
            best, delta = gain, d[k]
    return delta


def ternarize(w, granularity, threshold, scale):
    """N3; threshold is a float or "optimal"."""

    def quantize_row(row):
        m = [abs(v) for v in row]
        mean = exact_sum(m) / max(len(m), 1)
        delta = optimal_delta(m) if threshold == "optimal" else f32(threshold * mean)
        codes = [(1 if v > 0 else -1) if abs(v) > delta else 0 for v in row]
        kept = [v for v in m if v > delta]
        alpha = f32(exact_sum(kept) / max(len(kept), 1)) if scale == "masked_mean" else f32(mean)
        return codes, alpha

    return by_granularity(quantize_row, w, granularity)
