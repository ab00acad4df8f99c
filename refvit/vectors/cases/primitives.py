"""exp, erf, GELU, the 16 partial sums, seeded words (N9, section 5)."""

import numpy as np

from ...rules import f32
from .draft import Draw, around, draft, floats

LN2 = float.fromhex("0x1.62e42fefa39efp-1")
HARD_EXP = floats(  # a correctly rounded exp is another float32
    "0x1.a58278p+2",
    "-0x1.1acadp+4",
    "-0x1.2cb8d6p+3",
    "-0x1.9b6722p+3",
    "-0x1.874c9p+1",
    "-0x1.0016a6p+0",
    "-0x1.4bb8ap+2",
    "-0x1.5ce4d4p-2",
    "-0x1.5bf7bap+6",
    "-0x1.590682p+6",
)
HARD_ERF = floats(
    "-0x1.875fbp+0",
    "-0x1.2fdb26p-1",
    "-0x1.41d0e4p-4",
    "-0x1.7e3f68p-5",
    "-0x1.35ed28p-6",
    "-0x1.a8c7d6p-13",
    "-0x1.04216ap-19",
    "0x1.3cdcdcp-20",
    "0x1.759976p-18",
    "0x1.92020cp-15",
    "0x1.87d238p-10",
    "0x1.a32daep-7",
)
HARD_GELU = floats("-0x1.3356cp+1", "-0x1.71b40ep-1")  # with a correctly rounded erf another float32


def cases(level):
    more = 1 if level == 1 else 100  # enough for several threads
    yield from exponential(more)
    yield from error_function(more)
    yield from gaussian(more)
    yield from sums(more)
    yield from seeds()


def exponential(more):
    def case(label, comment, x, rules="N9"):
        return draft("exp", label, comment, rules, {"x": x})

    edges = floats(-np.inf, -1e30, -104, -103.97, 0, -0.0, 88.72, 89, 1e30, np.inf)
    yield case(
        "clamps",
        "the clamps of the argument, and where results become 0, subnormal, infinite",
        np.concatenate([edges, around(-104, "-0x1.9fe368p+6", "-0x1.5d589ep+6", "0x1.62e42ep+6", 89)]),
    )
    ties = floats(*((m + 0.5) * LN2 for m in range(-150, 128)))
    yield case("reduction", "n changes here: x is next to (n + 1/2) ln 2", around(*ties.tolist()))
    yield case("subnormal", "subnormal results are kept", Draw("exp subnormal").uniform(-103.97, -87.34, 200), "N9 N14")
    yield case(
        "small",
        "x of less than half an ulp of 1, down to subnormals",
        around(2.0**-25, -(2.0**-25), 2.0**-24, -(2.0**-24), 2.0**-126, 2.0**-149, -(2.0**-149)),
    )
    yield case(
        "hard", "the polynomial of N9 is not correctly rounded here: a library's exp gives another value", HARD_EXP
    )
    yield case("range", "all of the range", Draw("exp range").uniform(-104, 89, 1000 * more))


def error_function(more):
    def case(label, comment, x):
        return draft("erf", label, comment, "N9", {"x": x})

    borders = [i / 4 for i in range(1, 17)]
    yield case(
        "borders",
        "the borders of the table, and 4, from which on the result is 1",
        around(*borders, *(-b for b in borders)),
    )
    yield case(
        "zeros",
        "the sign of zero and of infinity stays, subnormal values too",
        floats(0, -0.0, np.inf, -np.inf, 2.0**-149, -(2.0**-149), 2.0**-130, 1e-30, 3e38),
    )
    yield case("hard", "the polynomial is not correctly rounded here: a library's erf gives another value", HARD_ERF)
    yield case(
        "small", "where erf is nearly 2 x / sqrt(pi), down to subnormals", Draw("erf small").patterns(300, high=126)
    )
    yield case("range", "all of the range", Draw("erf range").uniform(-4.5, 4.5, 1000 * more))


def gaussian(more):
    def case(label, comment, x, rules="N9", expectation="exact"):
        return draft("gelu", label, comment, rules, {"x": x}, expectation=expectation)

    yield case(
        "special",
        "zeros, +infinity, large values, and subnormal ones",
        floats(0, -0.0, np.inf, 3e38, -3e38, 2.0**-149, -(2.0**-149), 2.0**-126, -(2.0**-126)),
        "N9 N14",
    )
    yield case(
        "cancellation",
        "1 + erf cancels: below about -5.5 the result is -0",
        Draw("gelu cancellation").uniform(-8, -1, 400),
    )
    yield case("hard", "a correctly rounded erf would give another value", HARD_GELU)
    yield case("range", "values as in a network", Draw("gelu range").normal(1000 * more, std=2))
    yield case("minus-infinity", "-infinity gives NaN, an error", floats(1, -np.inf), expectation="reject")
    yield case("nan", "a NaN is an error", floats(np.nan, 1), expectation="reject")


def sums(more):
    def case(label, comment, x, rules="N9"):
        return draft("sum16", label, comment, rules, {"x": np.asarray(x, f32)})

    for n in (0, 1, 2, 15, 16, 17, 31, 33, 100):
        yield case(f"n-{n}", f"{n} values", Draw(f"sum {n}").normal(3, n))
    one = np.ones((1, 40), f32)
    yield case(
        "order",
        "a large value, ones, and its negative: every order of adding loses other ones",
        np.concatenate([one * f32(2.0**24), one, -one * f32(2.0**24), one], axis=1),
    )
    tree = np.zeros((16, 16), f32)
    for row in range(16):
        tree[row, row], tree[row, (row + 8) % 16], tree[row, (row + 4) % 16] = 2.0**24, 1, 1
    yield case("tree", "one partial sum is 2^24 and two are 1: only the tree 8, 4, 2, 1 gives these sums", tree)
    yield case("zeros", "the sum of -0 is +0, for it starts at +0", -np.zeros((2, 20), f32))
    yield case("subnormal", "a sum of subnormals", Draw("sum subnormal").patterns(4, 50, high=1), "N9 N14")
    big = np.full((1, 18), 3e38, f32)
    big[0, 1], big[0, 17] = -3e38, 3e38
    yield case("overflow", "a partial sum may become infinite", np.abs(big))
    yield case("wide", "as long as rows of a network", Draw("sum wide").normal(8 * more, 768) + f32(0.25))


def seeds():
    for seed in (0, 1, 20260, 2**32, 2**64 + 3, 2**130 + 5):
        about = (
            "of one digit" if seed < 2**32 else "of several 32-bit digits" if seed < 2**128 else "of more than 4 digits"
        )
        yield draft("seeded", str(seed), f"a seed {about}", "S5", {}, {"seed": str(seed), "count": 100})
