"""Running error analysis: float64 values, each with a bound of how far a float32 computation of it may be off.

Rules (Higham, Accuracy and Stability of Numerical Algorithms, 2nd ed., sections 2.2, 3.1 and 3.3), u the unit roundoff:
an operation whose operands are off by e_a, e_b carries those errors on exactly, and its own rounding adds
u (|value| + error), or an underflow below 2^-149; a sum or dot product of n terms adds gamma_n = n u / (1 - n u) times
the sum of their sizes, for any order of summation, with or without fused multiply-add.
The value is the exact result, so a wrong formula shows as well: tests compare it with PyTorch's float64.
It is computed by + - * / and sqrt in a fixed order, exp and erf below included: float64 with the same bits everywhere.
"""

import math

import numpy as np

from ..exact import LN2_HI, LN2_LO, LOG2E

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
        carried = matmul(self.err, other.size) + matmul(abs(self.value), other.err)
        terms = self.value.shape[-1]
        own = gamma(terms) * matmul(self.size, other.size) + terms * TINY
        return Bounded(matmul(self.value, other.value), carried + own)

    def sum(self, axis, keepdims=False):
        value, err, size = (total(a, axis, keepdims) for a in (self.value, self.err, self.size))
        return Bounded(value, err + gamma(self.value.size // value.size) * size)

    def mean(self, axis, keepdims=False):
        y = self.sum(axis, keepdims)
        return y / Bounded(self.value.size // y.value.size)

    def interval(self):
        """The lowest and highest float32 result.  -> low, high

        err is at least U |result|, or of the terms' sizes; what float64 adds to it is less than a share of 2^-16.
        """
        reach = self.err * (1 + 2.0**-16)
        return downward(self.value - reach), -downward(-self.value - reach)


def total(a, axis, keepdims=False):
    """A sum, one element after the other."""
    axes = sorted(i % a.ndim for i in (axis if isinstance(axis, tuple) else (axis,)))
    last = np.moveaxis(a, axes, range(-len(axes), 0))
    y = np.add.accumulate(last.reshape(*last.shape[: a.ndim - len(axes)], -1), axis=-1)[..., -1]
    return np.expand_dims(y, tuple(axes)) if keepdims else y


def matmul(a, b):
    """A product of matrices, its terms added one after the other.  [..., M, K], [..., K, N] -> [..., M, N]"""
    y = a[..., :, :1] * b[..., :1, :]
    for k in range(1, a.shape[-1]):
        y += a[..., :, k : k + 1] * b[..., k : k + 1, :]
    return y


def downward(v):
    """float64 -> the largest float32 that is not above"""
    with np.errstate(over="ignore"):
        y = v.astype(np.float32)
    return np.where(y > v, np.nextafter(y, np.float32(-np.inf)), y)


def exp64(x):
    """e^x by x = n ln 2 + r and a Taylor series: |r| <= 0.35, so that its first missing term is below 2^-60."""
    x = np.clip(x, -800.0, 800.0)
    n = np.rint(x * LOG2E)
    r = (x - n * LN2_HI) - n * LN2_LO
    p = np.ones_like(r)
    for k in range(14, 0, -1):
        p = p * r / k + 1
    return np.ldexp(p, n.astype(np.int32))


def erf64(x):
    """erf(x) = 2 / sqrt(pi) exp(-x^2) sum of 2^n x^(2n+1) / (1 3 5 ... (2n+1)): no term is negative; 1 from 6 on."""
    a = np.minimum(np.abs(x), 6.0)
    term = y = a * (2 / math.sqrt(math.pi)) * exp64(-a * a)
    for n in range(1, 131):
        term = term * (2 * a * a / (2 * n + 1))
        y = y + term
    return np.copysign(y, x)


def rounded(value, err):
    return Bounded(value, err + U * (abs(value) + err) + TINY)


def constant(value):
    """A number that is not a float32 and gets rounded."""
    return rounded(np.float64(value), 0.0)


def sqrt(a):
    return rounded(np.sqrt(a.value), a.err / np.sqrt(a.value))


def exp(a):
    value = exp64(a.value)
    return Bounded(value, value * (exp64(a.err) * (1 + EXP) - 1) + TINY)


def erf(a):
    """|erf'| <= 2 / sqrt(pi)"""
    value = erf64(a.value)
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
    p = exp64(d.value)
    p /= total(p, -1, keepdims=True)
    r = exp64(d.err + x.err.max(-1, keepdims=True) * U) * (1 + EXP) - 1
    off = total(p * r, -1, keepdims=True) + gamma(p.shape[-1])
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


def scores(q, k, bias=None, mask=None):
    """q k^T / sqrt(D) + bias + mask"""
    product = (q @ k.moved(lambda a: a.swapaxes(-1, -2))) * constant(q.value.shape[-1] ** -0.5)
    product = product if bias is None else product + bias
    return product if mask is None else product + mask


def attention_weights(q, k, bias=None, mask=None):
    return softmax(scores(q, k, bias, mask))


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
