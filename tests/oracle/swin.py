"""Section 3, Swin: windows, mask, position bias, merging, pool. A map is x[r][c], a token any list of numbers."""

from .attention import MASK
from .floats import f32
from .rows import sum16


def padded_side(side, m):
    return m * -(-side // m)


def to_windows(x, m, shift):
    """Map [S][S] -> windows [W][M M], padded at the bottom and right, then rolled."""
    side, padded = len(x), padded_side(len(x), m)
    nothing = [0.0] * len(x[0][0])

    def rolled(r, c):
        r, c = (r + shift) % padded, (c + shift) % padded
        return x[r][c] if r < side and c < side else nothing

    return [[rolled(r, c) for r, c in window] for window in window_positions(padded, m)]


def window_positions(padded, m):
    """The (row, column) of each token of each window in the rolled map."""
    steps = range(0, padded, m)
    return [[(r, c) for r in range(top, top + m) for c in range(left, left + m)] for top in steps for left in steps]


def from_windows(windows, m, shift, side):
    """Windows [W][M M] -> map [S][S], rolled back and cropped."""
    padded = padded_side(side, m)
    found = {}
    for window, positions in zip(windows, window_positions(padded, m)):
        for token, (r, c) in zip(window, positions):
            found[(r + shift) % padded, (c + shift) % padded] = token
    return [[found[r, c] for c in range(side)] for r in range(side)]


def shift_mask(side, m, shift):
    """[W][T][T]: MASK between tokens of different regions."""
    padded = padded_side(side, m)

    def region(p):
        return 0 if p < padded - m else 1 if p < padded - shift else 2

    regions = [[(region(r), region(c)) for r, c in window] for window in window_positions(padded, m)]
    return [[[0.0 if a == b else MASK for b in window] for a in window] for window in regions]


def position_bias(table, m):
    """Table [(2M-1)^2][H] -> [H][T][T]."""
    positions = [(y, x) for y in range(m) for x in range(m)]

    def index(i, j):
        return (i[0] - j[0] + m - 1) * (2 * m - 1) + (i[1] - j[1] + m - 1)

    return [[[table[index(i, j)][h] for j in positions] for i in positions] for h in range(len(table[0]))]


def merge(x):
    """Map [S][S] of C -> [ceil(S/2)][ceil(S/2)] of 4 C."""
    side, half = len(x), -(-len(x) // 2)
    nothing = [0.0] * len(x[0][0])

    def token(r, c):
        return x[r][c] if r < side and c < side else nothing

    corners = ((0, 0), (1, 0), (0, 1), (1, 1))
    return [
        [[v for dr, dc in corners for v in token(2 * r + dr, 2 * c + dc)] for c in range(half)] for r in range(half)
    ]


def pool(tokens):
    """Mean over the tokens [T] of each channel."""
    return [f32(sum16(channel) / float(len(tokens))) for channel in zip(*tokens)]
