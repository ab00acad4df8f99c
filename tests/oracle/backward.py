"""N13: the gradients in binary64, rounded to f32 at the end; they are judged by bounds, not by bits."""

from math import erfc, exp, fsum, pi, sqrt

from .floats import f32


def rounded(rows):
    return [[f32(v) for v in row] for row in rows]


def column_sums(rows):
    return [fsum(column) for column in zip(*rows)]


def layernorm_row(x, weight, dy, eps):
    """dx and the normalised x of one row."""
    n = len(x)
    mean = fsum(x) / n
    r = sqrt(fsum((v - mean) ** 2 for v in x) / n + eps)
    y = [(v - mean) / r for v in x]
    g = [d * w for d, w in zip(dy, weight)]
    shift, slope = fsum(g) / n, fsum(a * b for a, b in zip(g, y)) / n
    return [(a - shift - b * slope) / r for a, b in zip(g, y)], y


def layernorm(x, weight, dy, eps):
    """dx [R][K], dweight [K], dbias [K]."""
    pairs = [layernorm_row(row, weight, d, eps) for row, d in zip(x, dy)]
    dweight = column_sums([[a * b for a, b in zip(d, y)] for d, (_, y) in zip(dy, pairs)])
    return rounded([dx for dx, _ in pairs]), *rounded([dweight, column_sums(dy)])


def softmax_row(x, dy):
    m = max(x)
    e = [exp(v - m) for v in x]
    z = fsum(e)
    p = [v / z for v in e]
    dot = fsum(a * b for a, b in zip(dy, p))
    return [a * (d - dot) for a, d in zip(p, dy)]


def softmax(x, dy):
    return rounded([softmax_row(*rows) for rows in zip(x, dy)])


def gelu(x, dy):
    """The derivative of x Phi(x) is Phi(x) + x phi(x), Phi and phi those of the normal distribution."""
    return [f32(d * (erfc(-v / sqrt(2)) / 2 + v * exp(-v * v / 2) / sqrt(2 * pi))) for v, d in zip(x, dy)]


def product(a, b):
    """[R][K], [K][N] -> [R][N]."""
    columns = list(zip(*b))
    return rounded([[fsum(v * w for v, w in zip(row, column)) for column in columns] for row in a])


def linear(x, w, dy):
    """dx [R][K], dw [N][K], db [N]."""
    (db,) = rounded([column_sums(dy)])
    return product(dy, w), product(list(zip(*dy)), x), db
