"""Fit the polynomial of the fused GELU in csrc/train_rows.h and print its coefficients as hexadecimal floats.

Phi(-a) exp(a^2 / 2) = t P(t), t = 1 / (1 + a / 4), a >= 0: P, of degree 8, is interpolated at Chebyshev nodes of
a in [0, 6]. Beyond, exp(-a^2 / 2) is below 2^-25, so that what P lacks there does not show in float32.
Usage: python tools/make_tail_polynomial.py
"""

from math import erfc, exp, sqrt

import numpy as np
from numpy.polynomial import Chebyshev, Polynomial

DEGREE, LARGEST = 8, 6.0


def quotient(t):
    """Phi(-a) exp(a^2 / 2) / t"""
    a = (1.0 / t - 1.0) * 4.0
    return 0.5 * erfc(a / sqrt(2.0)) * exp(a * a / 2.0) / t


def main():
    domain = [1.0 / (1.0 + LARGEST / 4.0), 1.0]
    fit = Chebyshev.interpolate(lambda t: np.array([quotient(v) for v in t]), DEGREE, domain=domain)
    for power, c in enumerate(fit.convert(kind=Polynomial).coef):
        print(f"t^{power}: {float(np.float32(c)).hex()}f")


if __name__ == "__main__":
    main()
