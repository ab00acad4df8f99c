"""Fit the polynomials by which the codes of GELU and softmax are found in float32: csrc/rows/near_tables.h.

e^r for |r| <= ln 2 / 2 is interpolated at Chebyshev nodes by a polynomial of degree 5. Around |x| = i / STEPS,
i = 0..15, erf(|x| / sqrt 2) is interpolated by one of degree 4 in t = STEPS |x| - i, |t| <= 1/2; beyond the last
interval it is 1, but for less than 2^-23. tools/near.c measures what that makes of the functions.
Usage: python tools/make_near_tables.py
"""

import re
import textwrap
from math import erf, log, sqrt
from pathlib import Path

import numpy as np
from numpy.polynomial import chebyshev

INTERVALS, STEPS, FLAT = 16, 2.875, 5.375
GELU_DEGREE, EXP_DEGREE = 4, 5
ROOT = Path(__file__).parents[1]


def fit(function, radius, degree):
    """Coefficients of the powers of v, |v| <= radius.  -> float32 [degree + 1]"""
    series = chebyshev.chebinterpolate(lambda u: np.array([function(radius * v) for v in u]), degree)
    return np.array([c / radius**k for k, c in enumerate(chebyshev.cheb2poly(series))], np.float32)


def erf_from(i):
    return lambda t: erf((i + t) / STEPS / sqrt(2.0))


def row(values, indent=""):
    text = ", ".join(re.sub("0*p", "p", float(v).hex()) + "f" for v in values)
    return textwrap.fill("{" + text + "}", 118, initial_indent=indent, subsequent_indent=indent + " ")


def main():
    columns = np.transpose([fit(erf_from(i), 0.5, GELU_DEGREE) for i in range(INTERVALS)])
    powers = row(fit(np.exp, log(2.0) / 2, EXP_DEGREE), "    ")
    lines = (
        "/* e^r for |r| <= ln 2 / 2: coefficients of r^0 .. r^5. erf(|x| / sqrt 2): of t^0 .. t^4, each for i = 0..15,",
        "   where t = GELU_STEPS |x| - i, |t| <= 1/2; 1 from GELU_FLAT on. Made by tools/make_near_tables.py. */",
        "#ifndef REFVIT_NEAR_TABLES_H\n#define REFVIT_NEAR_TABLES_H\n",
        f"#define GELU_STEPS {STEPS}f\n#define GELU_FLAT {FLAT}f\n",
        f"static const float exp_near_table[{EXP_DEGREE + 1}] =\n{powers};\n",
        f"static const float gelu_near_table[{GELU_DEGREE + 1}][{INTERVALS}] = {{",
        ",\n".join(row(column, "    ") for column in columns) + "};\n\n#endif\n",
    )
    (ROOT / "csrc" / "rows" / "near_tables.h").write_text("\n".join(lines))


if __name__ == "__main__":
    main()
