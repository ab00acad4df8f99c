"""Running error analysis: float64 values, each with a bound of how far a float32 computation of it may be off.

Rules (Higham, Accuracy and Stability of Numerical Algorithms, 2nd ed., sections 2.2, 3.1 and 3.3), u the unit roundoff:
an operation whose operands are off by e_a, e_b carries those errors on exactly, and its own rounding adds
u (|value| + error), or an underflow below 2^-149; a sum or dot product of n terms adds gamma_n = n u / (1 - n u) times
the sum of their sizes, for any order of summation, with or without fused multiply-add.
The value is the exact result, so a wrong formula shows as well: tests compare it with PyTorch's float64.
"""

import math

import numpy as np

U = 2.0**-24  # unit roundoff of float32
TINY = 2.0**-149  # smallest positive float32
EXP = 8 * U  # relative error of exp in float32: 4 ulp, the weakest promise among the libraries NumPy uses
ERF = 2 * U  # of erf: one ulp, as it is computed in float64 and rounded once (N9)


def gamma(n):
    return n * U / (1.0 - n * U)


class Bounded:
    """``value`` float64 array and ``err``, of the same shape: |float32 result - value| <= err."""

    def __init__(self, value, err=0.0):
        self.value = np.asarray(value, np.float64)
        self.err = np.broadcast_to(np.asarray(err, np.float64), self.value.shape)

    def moved(self, move):
        """``move`` only moves elements or inserts zeros (reshape, transpose, windows)."""
        return Bounded(move(self.value), move(self.err))

    def __getitem__(self, index):
        return self.moved(lambda a: a[index])

    @property
    def size(self):
        return abs(self.value) + self.err

    def __add__(self, other):
        return rounded(self.value + other.value, self.err + other.err)

    def __sub__(self, other):
        return rounded(self.value - other.value, self.err + other.err)

    def __mul__(self, other):
        return rounded(self.value * other.value, self.err * other.size + abs(self.value) * other.err)

    def __truediv__(self, other):
        value = self.value / other.value
        return rounded(value, (self.err + abs(value) * other.err) / (abs(other.value) - other.err))

    def __matmul__(self, other):
        carried = self.err @ other.size + abs(self.value) @ other.err
        terms = self.value.shape[-1]
        return Bounded(self.value @ other.value, carried + gamma(terms) * (self.size @ other.size) + terms * TINY)

    def sum(self, axis, keepdims=False):
        value = self.value.sum(axis=axis, keepdims=keepdims)
        terms = self.value.size // value.size
        total = self.size.sum(axis=axis, keepdims=keepdims)
        return Bounded(value, self.err.sum(axis=axis, keepdims=keepdims) + gamma(terms) * total)

    def mean(self, axis, keepdims=False):
        total = self.sum(axis, keepdims)
        return total / Bounded(self.value.size // total.value.size)


def rounded(value, err):
    return Bounded(value, err + U * (abs(value) + err) + TINY)


def constant(value):
    """A number that is not a float32 and gets rounded."""
    return rounded(np.float64(value), 0.0)


def sqrt(a):
    return rounded(np.sqrt(a.value), a.err / np.sqrt(a.value))


def exp(a):
    value = np.exp(a.value)
    return Bounded(value, value * (np.exp(a.err) * (1 + EXP) - 1) + TINY)


def erf(a):
    """|erf'| <= 2 / sqrt(pi)"""
    value = np.vectorize(math.erf, otypes=[np.float64])(a.value)
    return Bounded(value, a.err * 2 / math.sqrt(math.pi) + ERF * np.minimum(abs(value) + a.err, 1.0) + TINY)


def linear(x, w, b=None):
    y = x @ w.moved(np.transpose)
    return y if b is None else y + b


def linear_gradients(dy, x, w):
    """-> dx, dw, db"""
    rows, inputs = (a.moved(lambda v: v.reshape(-1, v.shape[-1])) for a in (dy, x))
    return dy @ w, rows.moved(np.transpose) @ inputs, rows.sum(0)


def normalised(x, eps):
    """-> (x - mean) / sqrt(var + eps), 1 / sqrt(var + eps)"""
    d = x - x.mean(-1, keepdims=True)
    rstd = Bounded(1.0) / sqrt((d * d).mean(-1, keepdims=True) + constant(eps))
    return d * rstd, rstd


def layernorm(x, weight, bias, eps):
    return normalised(x, eps)[0] * weight + bias


def layernorm_gradients(dy, x, weight, eps):
    """-> dx, dweight, dbias"""
    xhat, rstd = normalised(x, eps)
    g = dy * weight
    dx = rstd * (g - g.mean(-1, keepdims=True) - xhat * (g * xhat).mean(-1, keepdims=True))
    axes = tuple(range(x.value.ndim - 1))
    return dx, (dy * xhat).sum(axes), dy.sum(axes)


def softmax(x):
    """exp(d) / sum exp(d), d = x - m.

    The result is the same for every m, so the rounded maximum counts as exact. With eta the error of d, each exp is
    off by a factor of at most r = exp(eta) (1 + EXP); the sum by the mean of r, weighted by the results.
    """
    d = rounded(x.value - x.value.max(-1, keepdims=True), x.err)
    p = np.exp(d.value)
    p /= p.sum(-1, keepdims=True)
    r = np.exp(d.err + x.err.max(-1, keepdims=True) * U) * (1 + EXP) - 1
    off = (p * r).sum(-1, keepdims=True) + gamma(p.shape[-1])
    return Bounded(p, p * ((1 + r) * (1 + U) / (1 - off) - 1) + 2 * TINY)


def softmax_gradient(dp, p):
    return p * (dp - (dp * p).sum(-1, keepdims=True))


def normal_cdf(x):
    return Bounded(0.5) * (Bounded(1.0) + erf(x * constant(math.sqrt(0.5))))


def gelu(x):
    return x * normal_cdf(x)


def gelu_gradient(dy, x):
    density = exp(Bounded(-0.5) * x * x) * constant(1.0 / math.sqrt(2.0 * math.pi))
    return dy * (normal_cdf(x) + x * density)


def attention_weights(q, k, bias=None, mask=None):
    """softmax(q k^T / sqrt(D) + bias + mask)"""
    scores = (q @ k.moved(lambda a: a.swapaxes(-1, -2))) * constant(q.value.shape[-1] ** -0.5)
    scores = scores if bias is None else scores + bias
    return softmax(scores if mask is None else scores + mask)


def attention(q, k, v, bias=None, mask=None):
    return attention_weights(q, k, bias, mask) @ v


def attention_gradients(dy, q, k, v, bias=None, mask=None):
    """-> dq, dk, dv, dbias (summed over images and windows, the first two axes)"""

    def transposed(a):
        return a.moved(lambda v: v.swapaxes(-1, -2))

    p = attention_weights(q, k, bias, mask)
    dscores = softmax_gradient(dy @ transposed(v), p)
    scale = constant(q.value.shape[-1] ** -0.5)
    return (dscores @ k) * scale, (transposed(dscores) @ q) * scale, transposed(p) @ dy, dscores.sum((0, 1))
