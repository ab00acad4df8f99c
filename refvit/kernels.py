"""The kernels of inference, one by one; forward.py (a whole model) and fused.py (training) call C besides.

Each function checks its arrays once, before any C call, and runs on a backend (backend.py): C or its NumPy twin, which
is the specification. All give the same bits (N7: integers; N8, N9: floats).
C runs without the GIL, on threads that share the output's rows.
Wrong arguments raise UsageError, a NaN or planes that break N2 BadInputError.
Letters: T, M rows, N, C output channels, K elements of a row or dot product.
"""

import numpy as np

from . import bitplanes, exact, gate, quant
from .backend import NUMPY, backends, ffi, level_of, lib, pointer, raise_status, run  # noqa: F401 (backends is public)
from .errors import BadInputError, UsageError
from .rules import K_MAX, PROB_SCALE
from .threads import set_threads, threads  # noqa: F401 (part of this module's surface)

FAMILIES = ("popcount", "dot")  # of ternary products, as refvit_family numbers them
DOT_ALIGN = 64  # bytes to which the dot products want rows padded
SMALL_PRODUCT = 1 << 24  # multiplications below which a second thread costs more than it saves
SMALL_ROWS = 1 << 16  # the same for elements of float rows


def pack_planes(codes, backend=None):
    """int8 [N, K] in {-1, 0, 1} -> uint64 [2, N, ceil(K / 64)] (N2). Raises BadInputError for anything else."""
    level = level_of(backend)
    bitplanes.check_codes(codes)
    if level == NUMPY:
        return bitplanes.pack_planes(codes)
    codes, (n, k) = gate.contiguous(codes), codes.shape
    planes = np.empty((2, n, bitplanes.words_of(k)), np.uint64)
    raise_status("pack_planes", lib.refvit_pack_planes(level, n, k, pointer(codes), pointer(planes)))
    return planes


def decode_base3(stream, shape, backend=None):
    """The planes of a file's base-3 stream (N2).  uint8 [ceil(N K / 5)], (N, K) -> uint64 [2, N, ceil(K / 64)]

    Raises BadInputError as ``bitplanes.decode_base3``.
    """
    n, k = shape
    length = bitplanes.base3_bytes(n * k)
    stream_ok = isinstance(stream, np.ndarray) and stream.dtype == np.uint8 and stream.shape == (length,)
    if level_of(backend) != NUMPY and stream_ok:
        planes = np.empty((2, n, bitplanes.words_of(k)), np.uint64)
        stream_bytes = ffi.from_buffer("uint8_t[]", gate.contiguous(stream))
        if lib.refvit_decode_base3(n, k, stream_bytes, pointer(planes)) == lib.REFVIT_OK:
            return planes
    return bitplanes.pack_planes(bitplanes.decode_base3(stream, shape))  # the twin; it says what is wrong


def ternary_matmul(x, planes, k, backend=None, bits=8, family=None):
    """x times the ternary codes, exactly (N7).  int8 [M, K], uint64 [2, N, ceil(K / 64)] -> int32 [M, N]

    ``bits``: x holds two's complement codes of 1 to 8 bits, -2^(bits-1) .. 2^(bits-1) - 1. K is at most 2^17.
    ``family``: "popcount", "dot", or None for the faster one, by the table of csrc/products/family.c.
    """
    level, where = level_of(backend), "ternary_matmul"
    k, bits = gate.integer(f"{where}: k", k, 0, K_MAX), gate.integer(f"{where}: bits", bits, 1, 8)
    x = gate.array(f"{where}: x", x, np.int8, (None, k))
    planes = gate.array(f"{where}: planes", planes, np.uint64, (2, None, bitplanes.words_of(k)))
    gate.code_bits(f"{where}: x", x, bits)
    if level == NUMPY:
        return _exact_product(x, bitplanes.unpack_planes(planes, k))
    counts = neg_counts(planes, k)
    if family_of(level, len(x), bits, family) == "popcount":
        return ternary_popcount(level, x, planes, bits, counts)
    return ternary_dot(level, x, planes)


def neg_counts(planes, k):
    """Negative codes of each channel, for popcount products.  uint64 [2, N, ceil(K / 64)], contiguous -> int32 [N]

    In C. Raises BadInputError as ``bitplanes.check_planes``.
    """
    counts = np.empty(planes.shape[1], np.int32)
    if lib.refvit_check_planes(len(counts), k, pointer(planes), pointer(counts)):
        bitplanes.check_planes(planes, k)
    return counts


def family_of(level, rows, bits, family=None):
    """The family of products, "popcount" or "dot", that is asked for or measured to be the faster one."""
    if family is None:
        return FAMILIES[lib.refvit_family(level, rows, bits)]
    if family not in FAMILIES:
        raise UsageError("ternary_matmul", "family", "one of " + ", ".join(FAMILIES), repr(family))
    return family


def ternary_popcount(level, x, planes, bits, counts):
    """``ternary_matmul`` by popcounts in C, of arrays that are checked; ``counts`` are the planes' ``neg_counts``."""
    (m, k), (_, n, words) = x.shape, planes.shape
    work, out = np.empty((m, words, bits), np.uint64), np.empty((m, n), np.int32)

    def part(a, b):
        return lib.refvit_ternary_matmul(
            level, b - a, n, k, bits, pointer(x[a:b]), pointer(planes), pointer(counts), pointer(work[a:b]),
            work[a:b].size, pointer(out[a:b])
        )  # fmt: skip

    run("ternary_matmul", m, m * n * k >= SMALL_PRODUCT, part)
    return out


def ternary_dot(level, x, planes):
    """``ternary_matmul`` by dot products in C, of arrays that are checked."""
    (m, k), n = x.shape, planes.shape[1]
    x, out = _padded(x), np.empty((m, n), np.int32)

    def part(a, b):
        init, panel = _dot_room(b - a, k)
        return lib.refvit_ternary_dot(
            level, b - a, n, k, pointer(x[a:b]), pointer(planes), pointer(init), panel, pointer(out[a:b])
        )

    run("ternary_matmul", m, m * n * k >= SMALL_PRODUCT, part)
    return out


def _padded(x):
    """Rows filled up with zeros to a multiple of 64 bytes."""
    pad = -x.shape[-1] % DOT_ALIGN
    return np.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, pad)]) if pad else x


def _dot_room(rows, k):
    """What a product of ``rows`` rows works in: a number for each row, and a panel."""
    padded = -(-k // DOT_ALIGN) * DOT_ALIGN
    return np.empty(rows, np.int32), ffi.new("uint8_t[]", max(1, padded * lib.REFVIT_PANEL_COLS))


def int8_matmul(x, w, backend=None, by_inputs=False):
    """Dot products along K, exactly (N7).  int8 [..., M, K], int8 [..., N, K] -> int32 [..., M, N]

    by_inputs: w is [..., K, N]. Leading axes are equal. K is below 2^17: there a product of nothing but -128 would be
    2^31.
    """
    level, where = level_of(backend), "int8_matmul"
    x, rows = gate.batches(where, x, _transposed(w) if by_inputs else w, np.int8)
    k = gate.integer(f"{where}: K", x.shape[-1], 0, K_MAX - 1)
    if level == NUMPY:
        return _exact_product(x, rows)
    w = gate.contiguous(w).reshape(rows.shape) if by_inputs else rows

    def entry(batch, m, n, _, x, w, out):
        init, panel = _dot_room(m, k)
        return lib.refvit_int8_dot(level, batch, m, n, k, x, w, by_inputs, pointer(init), panel, out)

    return _batched(where, _padded(x), w, np.int32, entry)


def matmul16(a, b, backend=None):
    """Dot products along K, each product rounded, summed by 16 partial sums (N9).

    float32 [..., M, K], float32 [..., N, K] -> float32 [..., M, N]; leading axes are equal.
    """
    level, where = level_of(backend), "matmul16"
    a, b = gate.batches(where, a, b, np.float32)
    if level == NUMPY:
        return _twin(where, exact.matmul16, a, b)
    return _batched(where, a, b, np.float32, lambda *args: lib.refvit_matmul16(level, *args))


def quantize_rows(x, bits=8, quantizer="symmetric", s=None, zp=None, backend=None):
    """Codes of each row with its own scale, or with the given ones (static) (N4, N5, N6).

    x float32 [T, K], bits 2..8, quantizer "symmetric" or "minmax"; s float32 [T] and for "minmax" zp int32 [T], or
    None. Infinite values saturate. Returns q int8 [T, K], s float32 [T], zp int32 [T] (zeros for "symmetric").
    """
    level, where = level_of(backend), "quantize_rows"
    bits = gate.integer(f"{where}: bits", bits, 2, 8)
    if quantizer not in ("symmetric", "minmax"):
        raise UsageError(where, "quantizer", '"symmetric" or "minmax"', repr(quantizer))
    x = gate.array(f"{where}: x", x, np.float32, (None, None))
    if s is not None:
        s, zp = gate.static_scale(where, s, zp, len(x), bits, quantizer)
    if level == NUMPY:
        return quant.quantize_rows(x, bits, quantizer, s, zp)
    return _quantize(level, x, bits, quantizer, s, zp)


def _quantize(level, x, bits, quantizer, s, zp):
    rows, k = x.shape
    low, high = quant.code_range(bits, quantizer)
    given, q = s is not None, np.empty((rows, k), np.int8)
    if not given:
        s, zp = np.empty(rows, np.float32), np.zeros(rows, np.int32)

    def part(a, b):
        count, xs, ss, zps = b - a, pointer(x[a:b]), pointer(s[a:b]), pointer(zp[a:b])
        if not given and quantizer == "symmetric":
            lib.refvit_symmetric_scale(level, count, k, bits, xs, ss)
        elif not given:
            lib.refvit_minmax_scale(level, count, k, bits, xs, ss, zps)
        return lib.refvit_quantize_rows(level, count, k, low, high, xs, ss, zps, pointer(q[a:b]))

    run("quantize_rows", rows, x.size >= SMALL_ROWS, part)
    return q, s, zp


def rescale(acc, s, alpha, bias=None, backend=None):
    """f32(f32(f32(acc) * s) * alpha), then + bias (N8).  int32 [T, C], [T], [C], [C] or None -> float32 [T, C]"""
    level, where = level_of(backend), "rescale"
    acc = gate.array(f"{where}: acc", acc, np.int32, (None, None))
    rows, n = acc.shape
    s = gate.array(f"{where}: s", s, np.float32, (rows,))
    alpha = gate.array(f"{where}: alpha", alpha, np.float32, (n,))
    bias = None if bias is None else gate.array(f"{where}: bias", bias, np.float32, (n,))
    if level == NUMPY:
        return _twin(where, exact.rescale, acc, s, alpha, bias)
    y, offset = np.empty((rows, n), np.float32), ffi.NULL if bias is None else pointer(bias)

    def part(a, b):
        return lib.refvit_rescale(
            level, b - a, n, pointer(acc[a:b]), pointer(s[a:b]), pointer(alpha), offset, pointer(y[a:b])
        )

    run(where, rows, y.size >= SMALL_ROWS, part)
    return y


def layernorm(x, weight, bias, eps, backend=None):
    """((x - mean) / sqrt(var + eps)) * weight + bias of each row (N9).  [T, K], [K], [K] -> [T, K], all float32"""
    level, where = level_of(backend), "layernorm"
    x = _rows(f"{where}: x", x)
    rows, k = x.shape
    weight = gate.array(f"{where}: weight", weight, np.float32, (k,))
    bias = gate.array(f"{where}: bias", bias, np.float32, (k,))
    if level == NUMPY:
        return _twin(where, exact.layernorm, x, weight, bias, eps)
    y = np.empty_like(x)

    def part(a, b):
        return lib.refvit_layernorm(
            level, b - a, k, pointer(x[a:b]), pointer(weight), pointer(bias), eps, pointer(y[a:b])
        )

    run(where, rows, x.size >= SMALL_ROWS, part)
    return y


def softmax(x, backend=None):
    """exp(x - max) / sum of each row (N9).  float32 [T, K] -> float32 [T, K]"""
    level, x = level_of(backend), _rows("softmax: x", x)
    if level == NUMPY:
        return _twin("softmax", exact.softmax, x)
    y, k = np.empty_like(x), x.shape[1]
    run("softmax", len(x), x.size >= SMALL_ROWS,
         lambda a, b: lib.refvit_softmax(level, b - a, k, pointer(x[a:b]), pointer(y[a:b])))  # fmt: skip
    return y


def gelu(x, backend=None):
    """(x / 2) (1 + erf(x / sqrt 2)) of each element (N9).  float32 [...] -> float32 [...]"""
    return _elementwise("gelu", x, backend)


def exp(x, backend=None):
    """e^x of each element (N9).  float32 [...] -> float32 [...]"""
    return _elementwise("exp", x, backend)


def erf(x, backend=None):
    """erf(x) of each element (N9).  float32 [...] -> float32 [...]"""
    return _elementwise("erf", x, backend)


def gelu_codes(x, bits=8, backend=None):
    """Symmetric codes and scale of each row of gelu(x) (N9, N4).  float32 [T, K] -> int8 [T, K], float32 [T]"""
    level, where = level_of(backend), "gelu_codes"
    bits, x = gate.integer(f"{where}: bits", bits, 2, 8), gate.array(f"{where}: x", x, np.float32, (None, None))
    if level == NUMPY:
        _reject_nan(where, x)
        q, s, _ = quant.quantize_rows(_twin(where, exact.gelu, x), bits)
        return q, s
    (rows, k), room = x.shape, np.empty((4, x.shape[1]), np.float32)
    q, s = np.empty(x.shape, np.int8), np.empty(rows, np.float32)
    raise_status(where, lib.refvit_gelu_codes(level, rows, k, bits, *map(pointer, (x, room, q, s))))
    return q, s


def softmax_codes(x, backend=None):
    """Codes of the probabilities softmax(x) of each row, scale 1 / 127 (N10).  float32 [T, K] -> int8 [T, K]"""
    level, x = level_of(backend), _rows("softmax_codes: x", x)
    if level == NUMPY:
        return np.rint(_twin("softmax_codes", exact.softmax, x) / PROB_SCALE).astype(np.int8)
    (rows, k), room, q = x.shape, np.empty((4, x.shape[1]), np.float32), np.empty(x.shape, np.int8)
    raise_status("softmax_codes", lib.refvit_softmax_codes(level, rows, k, *map(pointer, (x, room, q))))
    return q


def _elementwise(name, x, backend):
    level = level_of(backend)
    if not isinstance(x, np.ndarray) or x.dtype != np.float32:
        raise UsageError(name, "array", "float32", gate.kind(x))
    if level == NUMPY:
        _reject_nan(name, x)
        return _twin(name, getattr(exact, name), x)
    x = gate.contiguous(x)
    y, entry = np.empty_like(x), getattr(lib, f"refvit_{name}")
    xs, ys = x.reshape(-1), y.reshape(-1)
    run(name, x.size, x.size >= SMALL_ROWS, lambda a, b: entry(level, b - a, pointer(xs[a:b]), pointer(ys[a:b])))
    return y


def _batched(where, x, w, dtype, entry):
    """A product [B, M, K], x perhaps padded, [B, N, K] -> [B, M, N] in C, split over B or, for one batch, over M."""
    (*leading, m, padded), (n, k) = x.shape, w.shape[-2:]
    out = np.empty((*leading, m, n), dtype)
    if out.size == 0:
        return out
    batch = out.size // (m * n)
    xs, ws, ys = x.reshape(batch, m, padded), w.reshape(batch, n, k), out.reshape(batch, m, n)

    def part(a, b):
        if batch > 1:
            return entry(b - a, m, n, k, pointer(xs[a:b]), pointer(ws[a:b]), pointer(ys[a:b]))
        return entry(batch, b - a, n, k, pointer(xs[:, a:b]), pointer(ws), pointer(ys[:, a:b]))

    run(where, batch if batch > 1 else m, out.size * k >= SMALL_PRODUCT, part)
    return out


def _transposed(w):
    return w.swapaxes(-1, -2) if isinstance(w, np.ndarray) and w.ndim > 1 else w  # the gate rejects it


def _exact_product(x, w):
    """The twin of the integer products: float64 sums of integers are exact below 2^53."""
    return (x.astype(np.float64) @ w.astype(np.float64).swapaxes(-1, -2)).astype(np.int32)


def _rows(where, x):
    x = gate.array(where, x, np.float32, (None, None))
    gate.integer(f"{where}: K", x.shape[1], 1, 1 << 62)
    return x


def _twin(where, function, *args):
    """A function of exact.py; as in C, a NaN that comes out is an error and overflow is not reported."""
    with np.errstate(all="ignore"):
        y = function(*args)
    _reject_nan(where, y)
    return y


def _reject_nan(where, y):
    if np.isnan(y).any():
        raise BadInputError(where, "value", "numbers", "NaN")
