"""THE algorithm: ternarize the weights of a vision transformer (TerViT, arXiv 2201.08050).

A weight matrix W [N, K] is split into its N output channels, the rows, each with its own threshold and scale (TerViT,
claim 1). Row c is replaced by alpha_c * T_c, T_c in {-1, 0, +1}^K, so that the squared error stays small (TWN, arXiv
1605.04711):

    minimise over alpha, T   ||W_c - alpha T||^2                 (TWN Eq. 1)

    T     = sign(W) where |W| > Delta, else 0                    (TWN Eq. 3)
    alpha = mean of |W| over |W| > Delta                         (TWN Eq. 5: the optimum for a given Delta)
    Delta = argmax (sum of |W| over |W| > Delta)^2 / count       (TWN Eq. 6: the optimum for that alpha)
          ~ 0.7 mean |W|                                         (TWN's rule of thumb, the default here)

Training keeps latent float weights W and lets the gradient pass straight through the quantizer (backward below).
Activations, and the weights of the first and the last layer, have 8 bits: see quant.py.

Shapes: N output channels, K inputs. Rounding: rule N3; every sum is exact before it is rounded once.
"""

import math

import numpy as np

from .config import check_threshold
from .errors import BadInputError, UsageError
from .rules import TWN_THRESHOLD, f32


def ternarize(w, granularity="channel", threshold=TWN_THRESHOLD, scale="masked_mean"):
    """Ternary codes and scales of a weight matrix (N3).

    w            float [N, K]; rounded to float32 first
    granularity  "channel": a threshold and a scale for each row (TerViT); "layer": one for the whole matrix (TWN)
    threshold    Delta = threshold * mean|W|, or "optimal": the exact least-squares threshold
    scale        "masked_mean": mean of |W| above Delta (TWN); "absolute_mean": mean of all |W|
    Returns codes int8 [N, K] in {-1, 0, +1} and alpha float32 [N]; a row of zeros has alpha = 0.
    Raises BadInputError for NaN or inf in w or a wrong shape, UsageError for an unknown switch.
    """
    w = _checked(w, granularity, threshold, scale)
    rows = w if granularity == "channel" else w.reshape(1, -1)
    magnitude = np.abs(rows)
    mean = exact_row_sums(magnitude) / max(rows.shape[1], 1)

    delta = row_deltas(magnitude, mean, threshold)
    mask = magnitude > delta[:, None]
    codes = np.where(mask, np.sign(rows), 0).astype(np.int8)  # T = sign(W) where |W| > Delta, else 0

    if scale == "masked_mean":
        count = mask.sum(axis=1)
        alpha = exact_row_sums(magnitude * mask) / np.maximum(count, 1)
    else:
        alpha = mean
    return codes.reshape(w.shape), np.broadcast_to(alpha.astype(np.float32), len(w)).copy()


def row_deltas(magnitude, mean, threshold):
    """Delta of each row.  |W| [N, K], its mean float64 [N] -> float32 [N]"""
    if threshold == "optimal":
        return optimal_delta(magnitude)
    with np.errstate(over="ignore"):
        return (threshold * mean).astype(np.float32)  # Delta = 0.7 mean|W|


def dequantize(codes, alpha):
    """alpha_c * T_c.  codes int8 [N, K], alpha float32 [N] -> float32 [N, K]"""
    return codes.astype(np.float32) * alpha[:, None]


def relative_error(w, codes, alpha, axis=None):
    """||W - alpha T||^2 / ||W||^2, 0 where W is: of the matrix, or, with axis 1, of each row.

    w float32 [N, K], codes int8 [N, K], alpha float32 [N] -> float64, a number or [N]
    """
    difference = w.astype(np.float64) - codes * alpha[:, None].astype(np.float64)
    error, square = ((v * v).sum(axis=axis) for v in (difference, w.astype(np.float64)))
    return error / np.where(square > 0, square, 1.0)


def straight_through_backward(dy, w, ste_clip=None):
    """The backward of dequantize(*ternarize(w)): dL/dW = dL/d(alpha T), zero where |W| > ste_clip (N13).

    dy, w float32 of one shape; ste_clip None (the identity) or a positive number (TernaryBERT's, 2009.12812). Returns
    float32, the shape of w.
    """
    return dy if ste_clip is None else dy * (np.abs(w) <= f32(ste_clip))


def optimal_delta(magnitude):
    """The threshold of least squared error of each row, exactly.  |W| [N, K] -> float32 [N]

    With alpha the masked mean, the error is sum(W^2) - S_k^2 / k, where S_k is the sum of the k largest |W|: so
    maximise S_k^2 / k over k. Equal magnitudes go in or out together; of equally good k the smallest wins.
    """
    n, k = magnitude.shape
    if k == 0:
        return np.zeros(n, np.float32)
    ordered = -np.sort(-magnitude, axis=1)
    next_smaller = np.concatenate([ordered[:, 1:], np.zeros((n, 1), np.float32)], axis=1)
    prefix = np.cumsum(ordered, axis=1, dtype=np.float64)
    gain = prefix * prefix / np.arange(1, k + 1)
    gain[ordered == next_smaller] = -1.0  # between equals there is no threshold
    best = gain.argmax(axis=1)
    return next_smaller[np.arange(n), best]  # of a row of zeros: 0


def exact_row_sums(magnitude):
    """Sum of each row of non-negative float32, exact, rounded once to float64: equal to math.fsum.  [N, K] -> [N]

    A float64 sum is exact when all terms are multiples of some u and the total stays below 2^53 u; u is the spacing
    of the smallest non-zero term. Rows where that does not hold go through math.fsum.
    """
    n, k = magnitude.shape
    if magnitude.size == 0:
        return np.zeros(n)
    smallest = np.where(magnitude > 0, magnitude, np.inf).min(axis=1)
    with np.errstate(invalid="ignore", over="ignore"):
        unit = np.spacing(smallest).astype(np.float64)
    provably_exact = magnitude.max(axis=1).astype(np.float64) * k <= unit * 2.0**53
    sums = magnitude.sum(axis=1, dtype=np.float64)
    for row in np.flatnonzero(~provably_exact & (magnitude > 0).any(axis=1)):
        sums[row] = math.fsum(magnitude[row].tolist())
    return sums


def _checked(w, granularity, threshold, scale):
    """w as float32 [N, K], after every argument was looked at."""
    if granularity not in ("channel", "layer"):
        raise UsageError("ternarize", "granularity", '"channel" or "layer"', repr(granularity))
    if scale not in ("masked_mean", "absolute_mean"):
        raise UsageError("ternarize", "scale", '"masked_mean" or "absolute_mean"', repr(scale))
    if threshold != "optimal":
        check_threshold(threshold)
    w = np.asarray(w)
    if w.ndim != 2 or w.dtype.kind != "f":
        raise BadInputError("ternarize", "weights", "a float array [N, K]", f"{w.dtype} {list(w.shape)}")
    with np.errstate(over="ignore"):
        w = w.astype(np.float32)
    if not np.isfinite(w).all():
        index = tuple(int(i) for i in np.argwhere(~np.isfinite(w))[0])
        raise BadInputError("ternarize", f"weights at {index}", "a finite float32", w[index])
    return w
