"""Windows of the Swin Transformer (arXiv 2103.14030): partition, shift, mask, position index, merging.

All but the padding are permutations, so each backward is the inverse permutation.
Shapes: B images, S side of the (square) feature map, M side of a window, W windows an image, C channels.
"""

import numpy as np

from .rules import MASK_VALUE, f32


def window_partition(x, m):
    """[B, S, S, C] -> [B, W, M M, C], windows in row-major order"""
    b, s, _, c = x.shape
    n = s // m
    return x.reshape(b, n, m, n, m, c).swapaxes(2, 3).reshape(b, n * n, m * m, c)


def window_reverse(windows, m, s):
    """The inverse of ``window_partition``.  [B, W, M M, C] -> [B, S, S, C]"""
    b, _, _, c = windows.shape
    n = s // m
    return windows.reshape(b, n, n, m, m, c).swapaxes(2, 3).reshape(b, s, s, c)


def to_windows(x, m, shift):
    """Pad bottom and right with zeros to a multiple of M, roll by -shift, partition.  [B, S, S, C] -> [B, W, M M, C]

    The backward of ``from_windows``.
    """
    return window_partition(np.roll(pad_to_multiple(x, m), (-shift, -shift), axis=(1, 2)), m)


def from_windows(windows, m, shift, s):
    """Undo ``to_windows``: reverse, roll back, crop the padding.  [B, W, M M, C] -> [B, S, S, C]

    The backward of ``to_windows``.
    """
    padded = padded_size(s, m)
    return np.roll(window_reverse(windows, m, padded), (shift, shift), axis=(1, 2))[:, :s, :s]


def padded_size(s, m):
    """S rounded up to a multiple of M"""
    return -(-s // m) * m


def pad_to_multiple(x, m):
    """Zeros at the bottom and on the right.  [B, S, S, C] -> [B, S', S', C], S' a multiple of M"""
    pad = padded_size(x.shape[1], m) - x.shape[1]
    return np.pad(x, ((0, 0), (0, pad), (0, pad), (0, 0))) if pad else x


def shift_mask(s, m, shift):
    """-100 between tokens of a window from different regions of the shifted map (N10).  -> float32 [W, MM, MM]

    The regions along each axis: up to the last window, the part of it that stays, the part that was rolled in.
    None without a shift.
    """
    if shift == 0:
        return None
    s = padded_size(s, m)
    axis = np.zeros(s, np.int64)
    axis[s - m : s - shift] = 1
    axis[s - shift :] = 2
    region = (3 * axis[:, None] + axis[None, :])[None, :, :, None]
    region = window_partition(region, m)[0, :, :, 0]
    return np.where(region[:, :, None] != region[:, None, :], MASK_VALUE, f32(0.0))


def relative_position_index(m):
    """Row of the bias table for each pair of tokens: (dy + M - 1) (2M - 1) + (dx + M - 1).  -> int64 [M M, M M]"""
    y, x = np.divmod(np.arange(m * m), m)
    dy = y[:, None] - y[None, :] + m - 1
    dx = x[:, None] - x[None, :] + m - 1
    return dy * (2 * m - 1) + dx


def bias_forward(table, m):
    """Relative position bias of each head.  table [(2M - 1)^2, H] -> [H, M M, M M]"""
    return np.ascontiguousarray(table[relative_position_index(m)].transpose(2, 0, 1))


def bias_backward(dbias, m):
    """Each table row collects its pairs.  [H, M M, M M] -> [(2M - 1)^2, H]"""
    dtable = np.zeros(((2 * m - 1) ** 2, len(dbias)), dbias.dtype)
    np.add.at(dtable, relative_position_index(m), dbias.transpose(1, 2, 0))
    return dtable


def merge_patches(x):
    """Four neighbours become one row: (0,0), (1,0), (0,1), (1,1) as (row, column); odd maps are padded with zeros.

    [B, S, S, C] -> [B, ceil(S/2), ceil(S/2), 4 C]
    """
    x = pad_to_multiple(x, 2)
    b, s, _, c = x.shape
    return x.reshape(b, s // 2, 2, s // 2, 2, c).transpose(0, 1, 3, 4, 2, 5).reshape(b, s // 2, s // 2, 4 * c)


def merge_patches_backward(dy, s):
    """[B, ceil(S/2), ceil(S/2), 4 C] -> [B, S, S, C]"""
    b, half, _, c = dy.shape
    x = dy.reshape(b, half, half, 2, 2, c // 4).transpose(0, 1, 4, 2, 3, 5).reshape(b, 2 * half, 2 * half, c // 4)
    return x[:, :s, :s]
