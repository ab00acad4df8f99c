"""Windows, shifts, masks, tables and merging, against their definitions element by element."""

import numpy as np
import pytest

from refvit import window
from refvit.rules import MASK_VALUE

SIZES = [(6, 3, 0), (6, 3, 1), (7, 3, 1), (8, 4, 2), (4, 4, 0), (9, 2, 1)]  # side, window, shift


@pytest.mark.parametrize("s, m, shift", SIZES)
def test_windows_go_there_and_back(s, m, shift):
    x = np.random.default_rng(0).standard_normal((2, s, s, 3))
    windows = window.to_windows(x, m, shift)
    assert windows.shape[1] == (window.padded_size(s, m) // m) ** 2
    assert (window.from_windows(windows, m, shift, s) == x).all()


@pytest.mark.parametrize("s, m, shift", SIZES)
def test_each_token_is_where_the_shift_puts_it(s, m, shift):
    """Token (i, j) of window (a, b) is pixel ((a m + i + shift) mod S', ...) of the padded map."""
    x = np.random.default_rng(0).standard_normal((1, s, s, 1))
    padded = window.padded_size(s, m)
    windows = window.to_windows(x, m, shift)
    for a, b, i, j in np.ndindex(padded // m, padded // m, m, m):
        row, col = (a * m + i + shift) % padded, (b * m + j + shift) % padded
        expected = x[0, row, col, 0] if row < s and col < s else 0.0
        assert windows[0, a * (padded // m) + b, i * m + j, 0] == expected


@pytest.mark.parametrize("s, m, shift", [size for size in SIZES if size[2]])
def test_mask_separates_what_the_roll_brought_together(s, m, shift):
    """Two tokens of a window see each other iff neither axis wrapped around between them."""
    padded = window.padded_size(s, m)
    mask = window.shift_mask(s, m, shift)
    n = padded // m
    for w, p, q in np.ndindex(n * n, m * m, m * m):
        together = True
        for axis in (0, 1):
            start = (w // n if axis == 0 else w % n) * m
            ip, iq = (p // m, q // m) if axis == 0 else (p % m, q % m)
            together &= (start + ip + shift < padded) == (start + iq + shift < padded)
        assert mask[w, p, q] == (0 if together else MASK_VALUE)


def test_no_shift_has_no_mask():
    assert window.shift_mask(8, 4, 0) is None


@pytest.mark.parametrize("m", [1, 2, 7])
def test_position_index_depends_on_the_offset_alone(m):
    index = window.relative_position_index(m)
    assert index.min() == 0 and index.max() == (2 * m - 1) ** 2 - 1
    for p, q in np.ndindex(m * m, m * m):
        dy, dx = p // m - q // m, p % m - q % m
        assert index[p, q] == (dy + m - 1) * (2 * m - 1) + dx + m - 1


@pytest.mark.parametrize("s", [4, 5])
def test_merging_puts_four_neighbours_in_a_row(s):
    x = np.random.default_rng(0).standard_normal((2, s, s, 3))
    y = window.merge_patches(x)
    half = (s + 1) // 2
    assert y.shape == (2, half, half, 12)
    for i, j in np.ndindex(half, half):
        for part, (dy, dx) in enumerate(((0, 0), (1, 0), (0, 1), (1, 1))):
            row, col = 2 * i + dy, 2 * j + dx
            expected = x[:, row, col] if row < s and col < s else 0.0
            assert (y[:, i, j, 3 * part : 3 * part + 3] == expected).all()
    assert (window.merge_patches_backward(y, s) == x).all()
