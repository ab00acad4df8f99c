"""Fit the polynomial of the fused GELU in csrc/training/train_rows.h and print its coefficients as hexadecimal floats.

Phi(-a) exp(a^2 / 2) = 1/2 + s P(s), s = a / (a + 4), a >= 0: P, of degree 8, is interpolated at Chebyshev nodes of a in
[0, 6]. Beyond, exp(-a^2 / 2) is below 2^-25, so that what P lacks there does not show in float32.
Usage: python tools/make_tail_polynomial.py
"""

from math import erfc, exp, sqrt

import numpy as np
from numpy.polynomial import Chebyshev, Polynomial

DEGREE, LARGEST = 8, 6.0


def quotient(s):
    """(Phi(-a) exp(a^2 / 2) - 1/2) / s"""
    a = 4.0 * s / (1.0 - s)
    return (0.5 * erfc(a / sqrt(2.0)) * exp(a * a / 2.0) - 0.5) / s


def main():
    domain = [0.0, LARGEST / (LARGEST + 4.0)]
    fit = Chebyshev.interpolate(lambda s: np.array([quotient(v) for v in s]), DEGREE, domain=domain)
    for power, c in enumerate(fit.convert(kind=Polynomial).coef):
        print(f"s^{power}: {float(np.float32(c)).hex()}f")


if __name__ == "__main__":
    main()
