"""Ternarization and base 3 with one slip, with the inputs and parameters that the kit gives them; own.py chooses."""

import numpy as np

from .. import ternary
from ..bitplanes import decode_base3
from ..conformance.bugs import padded_stream
from ..rules import BASE3_DIGITS, f32


def ternarize(w, granularity, threshold, scale, above=np.greater, rounded=True, sums=None, all_count=False, last=False):
    """above: the comparison with Delta; sums: of |w|; all_count: alpha over all; last: of equal gains the last"""
    magnitude = np.abs(w if granularity == "channel" else w.reshape(1, -1))
    k = magnitude.shape[1]
    mean = (ternary.exact_row_sums if sums is None else sums)(magnitude) / np.float64(k)
    delta = optimal(magnitude, last) if threshold == "optimal" else float(threshold) * mean
    if rounded:
        delta = delta.astype(f32)
    mask = above(magnitude.astype(delta.dtype), delta[:, None])
    alpha = mean
    if scale == "masked_mean" and not all_count:
        alpha = ternary.exact_row_sums(magnitude * mask) / np.maximum(mask.sum(axis=1), 1)
    codes = (np.sign(w) * mask.reshape(w.shape)).astype(np.int8)
    return {"codes": codes, "alpha": np.broadcast_to(alpha.astype(f32), len(w)).copy()}


def optimal(magnitude, last):
    """As ternary.optimal_delta, where of equal gains the last one may win."""
    if not last:
        return ternary.optimal_delta(magnitude)
    ordered = -np.sort(-magnitude, axis=1)
    smaller = np.concatenate([ordered[:, 1:], np.zeros((len(ordered), 1), f32)], axis=1)
    prefix = np.add.accumulate(ordered.astype(np.float64), axis=1)
    gain = np.where(ordered == smaller, -1.0, prefix * prefix / np.arange(1, ordered.shape[1] + 1))
    best = ordered.shape[1] - 1 - gain[:, ::-1].argmax(axis=1)
    return smaller[np.arange(len(ordered)), best]


def base3_encode(codes, rows=False, reverse=False, shift=1, tail=1):
    """rows: each row begins at a byte; reverse: the first code counts most; shift: of a code to its digit"""
    digits = (codes + shift) % 3
    if rows:
        digits = np.pad(digits, ((0, 0), (0, -codes.shape[1] % BASE3_DIGITS)), constant_values=tail)
    digits = digits.reshape(-1)
    digits = np.pad(digits, (0, -len(digits) % BASE3_DIGITS), constant_values=tail).reshape(-1, BASE3_DIGITS)
    return ((digits[:, ::-1] if reverse else digits) @ 3 ** np.arange(BASE3_DIGITS)).astype(np.uint8)


def base3_decode(stream, n, k, rows=False, reverse=False, shift=1):
    codes = decode_base3(stream, (n, k))
    if rows:
        codes = padded_stream(codes)
    if reverse:
        all_codes = np.pad(codes.reshape(-1), (0, -codes.size % BASE3_DIGITS)).reshape(-1, BASE3_DIGITS)
        codes = all_codes[:, ::-1].reshape(-1)[: n * k].reshape(n, k)
    if shift == 0:
        codes = np.array([1, -1, 0], np.int8)[codes]  # what stands for 0, 1, -1
    return {"accepted": np.ones(1, np.uint8), "codes": np.ascontiguousarray(codes)}
