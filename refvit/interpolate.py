"""Position embeddings and relative-position tables for another picture size: bicubic resampling of a square grid.

Keys' cubic convolution with a = -0.75, half-pixel centres, borders repeated, no antialiasing: what PyTorch's
``F.interpolate(mode="bicubic", align_corners=False)`` computes, here in float64 and rounded once.
Shapes: S source edge, T target edge, D width, H heads.
"""

import math

import numpy as np

A = -0.75  # of the kernel (PyTorch's choice; Keys 1981 has -0.5)


def resample_pos_embed(pos_embed, num_prefix, target):
    """float [1, num_prefix + S^2, D] -> float32 [1, num_prefix + target^2, D]; prefix tokens are kept."""
    prefix, grid = pos_embed[:, :num_prefix], pos_embed[0, num_prefix:]
    resampled = resample_square(grid, target)
    return np.concatenate([prefix.astype(np.float32), resampled[None]], axis=1)


def resample_square(rows, target):
    """Rows of a square grid, row-major, to another edge.  float [S^2, C] -> float32 [target^2, C]"""
    source = math.isqrt(len(rows))
    weights = bicubic_matrix(source, target)
    grid = rows.astype(np.float64).reshape(source, source, -1)
    grid = np.einsum("ti,ijc->tjc", weights, grid)
    grid = np.einsum("tj,ijc->itc", weights, grid)
    return grid.reshape(target * target, -1).astype(np.float32)


def bicubic_matrix(source, target):
    """Weights of the source points for each target point.  -> float64 [target, source]

    Target point t lies at x = (t + 1/2) S / T - 1/2; the four nearest source points count by their distance.
    """
    x = (np.arange(target) + 0.5) * source / target - 0.5
    first = np.floor(x).astype(int) - 1
    matrix = np.zeros((target, source))
    for tap in range(4):
        point = first + tap
        np.add.at(matrix, (np.arange(target), np.clip(point, 0, source - 1)), cubic(np.abs(x - point)))
    return matrix


def cubic(distance):
    """Keys' kernel, Eq. 15 of "Cubic convolution interpolation for digital image processing" (1981).  [n] -> [n]"""
    d = distance
    near = ((A + 2) * d - (A + 3)) * d * d + 1  # d <= 1
    far = ((A * d - 5 * A) * d + 8 * A) * d - 4 * A  # 1 < d < 2
    return np.where(d <= 1, near, np.where(d < 2, far, 0.0))
