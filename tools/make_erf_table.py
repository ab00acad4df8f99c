"""Fit the erf table of rule N9 and write it as hexadecimal floats: refvit/erf_table.py and csrc/rows/erf_table.h.

On the i-th quarter of [0, 4), erf(x) / x is interpolated at Chebyshev nodes by a polynomial of degree 7 in
t = 4 x - i - 1/2. The committed table is the definition; this script tells where it came from.
Usage: python tools/make_erf_table.py
"""

from math import erf
from pathlib import Path

import numpy as np
from numpy.polynomial import chebyshev

INTERVALS, DEGREE = 16, 7
ROOT = Path(__file__).parents[1]


def fit(i):
    """Coefficients of t^0 .. t^7 on the interval x in [i/4, (i+1)/4]."""

    def ratio(u):  # u in [-1, 1], t = u / 2
        x = (u / 2 + i + 0.5) / 4
        return np.array([erf(v) / v for v in x])

    series = chebyshev.chebinterpolate(ratio, DEGREE)
    return [float(c) * 2.0**k for k, c in enumerate(chebyshev.cheb2poly(series))]


def main():
    rows = [fit(i) for i in range(INTERVALS)]
    text = ",\n".join("    (" + ",\n     ".join(f'"{c.hex()}"' for c in row) + ")" for row in rows)
    (ROOT / "refvit" / "erf_table.py").write_text(
        '"""Rule N9: erf(x) = x P_i(t), i = floor(4 x), t = 4 x - i - 1/2; '
        "rows i = 0..15, coefficients of t^0..t^7.\n\n"
        'Made by tools/make_erf_table.py, equal to csrc/rows/erf_table.h.\n"""\n\nimport numpy as np\n\n'
        f"_HEX = (\n{text},\n)\n\n"
        "ERF_TABLE = np.array([[float.fromhex(c) for c in row] for row in _HEX])  # [16, 8] float64\n"
    )
    text = ",\n".join("    {" + ",\n     ".join(c.hex() for c in row) + "}" for row in rows)
    (ROOT / "csrc" / "rows" / "erf_table.h").write_text(
        "/* Rule N9: erf(x) = x P_i(t), i = floor(4 x), t = 4 x - i - 1/2; coefficients of t^0..t^7.\n"
        "   Made by tools/make_erf_table.py, equal to refvit/erf_table.py. */\n"
        "#ifndef REFVIT_ERF_TABLE_H\n#define REFVIT_ERF_TABLE_H\n\n"
        f"static const double refvit_erf_table[{INTERVALS}][{DEGREE + 1}] = {{\n{text}}};\n\n#endif\n"
    )


if __name__ == "__main__":
    main()
