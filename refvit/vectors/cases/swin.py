"""Windows, shift, mask, positions, merging, pool of Swin (section 3, N10)."""

import numpy as np

from ...rules import f32
from ...window import to_windows
from .draft import Draw, draft

WINDOWS = (
    (8, 4, 0),
    (8, 4, 2),
    (9, 4, 0),
    (9, 4, 2),
    (5, 3, 1),
    (7, 7, 0),
    (7, 4, 2),
    (12, 5, 2),
    (6, 2, 1),
    (1, 1, 0),
    (3, 5, 0),
)
SHIFTED = ((8, 4, 2), (9, 4, 2), (5, 3, 1), (7, 4, 2), (6, 2, 1), (12, 5, 2))


def cases(level):
    yield from windows(3 if level == 1 else 16)
    yield from merging()
    yield from pools(1 if level == 1 else 8)


def about(side, m, shift):
    padded = -(-side // m) * m
    parts = [f"side {side}, windows of {m}"]
    parts += [f"padded to {padded}"] if padded > side else []
    return ", ".join(parts + ([f"shifted by {shift}"] if shift else []))


def windows(channels):
    for side, m, shift in WINDOWS:
        x = Draw(f"windows {side} {m} {shift}").normal(2, side, side, channels)
        label, how = f"{side}-{m}-{shift}", {"window_size": m, "shift": shift}
        yield draft("windows", label, about(side, m, shift), "S3", {"x": x}, how)
        cut = to_windows(x, m, shift)
        cut = Draw(f"windows back {side} {m} {shift}").normal(*cut.shape)
        yield draft("windows_back", label, about(side, m, shift), "S3", {"windows": cut}, {**how, "side": side})
    for side, m, shift in SHIFTED:
        how = {"side": side, "window_size": m, "shift": shift}
        yield draft("shift_mask", f"{side}-{m}-{shift}", about(side, m, shift), "N10 S3", {}, how)
    for m in (1, 2, 3, 4, 7):
        table = Draw(f"positions {m}").normal((2 * m - 1) ** 2, 3)
        yield draft("position_bias", str(m), f"windows of {m}", "N10 S3", {"table": table}, {"window_size": m})


def merging():
    for side in (2, 4, 5, 1, 7):
        comment = f"a map of side {side}" + (", padded with zeros at the bottom and on the right" if side % 2 else "")
        yield draft("merging", str(side), comment, "S3", {"x": Draw(f"merging {side}").normal(2, side, side, 3)})


def pools(more):
    for tokens in (1, 4, 15, 16, 17, 49):
        x = Draw(f"pool {tokens}").normal(2 * more, tokens, 5) + f32(0.3)
        yield draft("pool", str(tokens), f"the mean of {tokens} tokens", "N9 S3", {"x": x})
    large = np.ones((1, 40, 2), f32)
    large[0, 3], large[0, 20] = 2.0**24, -(2.0**24)
    yield draft("pool", "order", "the order of the sum matters", "N9 S3", {"x": large})
