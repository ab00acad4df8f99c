"""How ports get the order of the data wrong before an operation: pixels into patches, maps into windows, merging.

Each function returns a dict: name (in ``MISTAKES``) -> function that makes the wrong input.
"""

import numpy as np

from ..layers import patches_forward
from ..preprocess import normalise
from ..rules import f32
from ..window import merge_patches, pad_to_multiple, to_windows, window_partition

MISTAKES = {
    "bgr": "the channels are B, G, R instead of R, G, B",
    "channels_last": "the inputs of a patch are in the order row, column, channel instead of channel, row, column",
    "transposed_picture": "rows and columns of the picture are exchanged",
    "not_normalised": "mean and std are not applied: only u8 / 255",
    "reciprocal_pixels": "pixels are multiplied by 1 / 255 and 1 / std instead of divided",
    "folded_pixels": "u8 * (1 / (255 std)) - mean / std instead of the three steps of N12",
    "no_shift": "the windows of a shifted block are not shifted",
    "shift_back": "the map is rolled in the opposite direction",
    "roll_before_padding": "the map is rolled before it is padded",
    "padding_before_norm": "the map is padded before the norm, so that padding tokens hold the norm's bias",
    "window_columns": "windows are taken column by column",
    "token_columns": "the tokens of a window are taken column by column",
    "merge_rows": "merging concatenates (0,0), (0,1), (1,0), (1,1) instead of (0,0), (1,0), (0,1), (1,1)",
    "no_skip": "the sum with the skipped input is missing",
    "branch_twice": "the branch is added twice",
}


def patch_variants(engine, pixels):
    """Inputs of the patch embedding.  pixels uint8 [S, S, 3]"""
    config, preprocess = engine.config, engine.preprocess
    mean, std = (np.array(v, f32)[:, None, None] for v in (preprocess.mean, preprocess.std))
    u8 = np.moveaxis(pixels, -1, 0)[None].astype(f32)
    x = normalise(pixels, preprocess)

    def patches(x):
        return patches_forward(x, config.patch_size)

    def channels_last():
        rows = patches(x)
        return rows.reshape(*rows.shape[:-1], config.in_chans, -1).swapaxes(-1, -2)

    return {
        "bgr": lambda: patches(normalise(np.ascontiguousarray(pixels[..., ::-1]), preprocess)),
        "channels_last": channels_last,
        "transposed_picture": lambda: patches(x.swapaxes(2, 3)),
        "not_normalised": lambda: patches(u8 / f32(255)),
        "reciprocal_pixels": lambda: patches((u8 * (f32(1) / f32(255)) - mean) * (f32(1) / std)),
        "folded_pixels": lambda: patches(u8 * (f32(1) / (f32(255) * std)) - mean / std),
    }


def window_variants(config, name, x, norm_bias):
    """Inputs of qkv in a Swin block.  name "layers.I.blocks.J.attn", x [B, S, S, C]: its norm's output"""
    _, i, _, j, _ = name.split(".")
    side, _, _, m, _ = config.stages[int(i)]
    shift = config.shift(int(i), int(j))
    ways = {
        "window_columns": lambda: window_columns(x, m, shift),
        "token_columns": lambda: token_columns(to_windows(x, m, shift), m),
    }
    if shift:
        ways["no_shift"] = lambda: to_windows(x, m, 0)
        ways["shift_back"] = lambda: to_windows(x, m, -shift)
    if side % m:
        ways["padding_before_norm"] = lambda: to_windows(x - norm_bias, m, shift) + norm_bias
        ways["roll_before_padding"] = lambda: to_windows(np.roll(x, (-shift, -shift), axis=(1, 2)), m, 0)
    return ways


def window_columns(x, m, shift):
    """Windows in column-major order."""
    padded = np.roll(pad_to_multiple(x, m), (-shift, -shift), axis=(1, 2))
    n = padded.shape[1] // m
    windows = window_partition(padded, m)
    return windows.reshape(len(x), n, n, *windows.shape[2:]).swapaxes(1, 2)


def token_columns(windows, m):
    """Tokens of each window in column-major order."""
    return windows.reshape(*windows.shape[:2], m, m, -1).swapaxes(2, 3)


def merging_variants(x):
    """Inputs of a merging's norm.  x [B, S, S, C]"""

    def merge_rows():
        rows = merge_patches(x)
        return rows.reshape(*rows.shape[:-1], 2, 2, -1).swapaxes(-2, -3)

    return {"merge_rows": merge_rows}
