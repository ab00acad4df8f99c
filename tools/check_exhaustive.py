"""Check the double-double reference of tools/exhaustive.c against integer arithmetic of more than 60 digits.

Inputs: 100,000 pseudo-random ones for each function, half of them even over the bit patterns (all exponents), half even
over the values, and the worst that the full pass has kept. Checked: the reference is within its bound, the stated error
in ulp is the true one, exp and erf are off by less than 1 ulp, and the results taken as known where exp and erf
saturate are right. Exit 1 if anything is not so.
Usage: python tools/check_exhaustive.py build/exhaustive build/worst.txt
"""

import argparse
import json
import math
import random
import struct
import subprocess
import sys
from functools import lru_cache

BITS = 400  # after the binary point: 2^-150 keeps 250 bits, 75 digits
ONE = 1 << BITS
RANGES = {  # where there is a reference; each from 0 outwards, so that the bit patterns rise
    "exp": ((0.0, 89.0), (-0.0, -104.0)),
    "erf": ((0.0, 4.0), (-0.0, -4.0)),
    "gelu_positive": ((0.0, 6.0),),
    "gelu_negative": ((-0.0, -1.0),),
    "gelu_tail": ((-1.0, -6.0),),
}
JUDGED = ("exp", "erf")
BOUND = {name: 92 if name in JUDGED else 60 for name in RANGES}  # relative error of the reference below 2^-BOUND


def float_of(pattern):
    return struct.unpack("<f", struct.pack("<I", pattern))[0]


def pattern_of(x):
    return struct.unpack("<I", struct.pack("<f", x))[0]


def fixed(x):
    """The float x times 2^BITS; exact for multiples of 2^-BITS."""
    numerator, denominator = x.as_integer_ratio()
    return (numerator << BITS) // denominator


def exp_fixed(a):
    """e^a = (e^(|a| / 2^16))^(2^16), or one over it; the inner power by its Taylor series."""
    step = abs(a) >> 16
    term = total = ONE
    n = 0
    while term:
        n += 1
        term = (term * step >> BITS) // n
        total += term
    for _ in range(16):
        total = total * total >> BITS
    return total if a >= 0 else ONE * ONE // total


def bell_fixed(square, divisor=1):
    """Sum of (-s)^n / (n! (2n + 1)), s = square / divisor: the integral of e^(-t^2) from 0 to sqrt(s), over sqrt(s)."""
    term, total, n = ONE, ONE, 0
    while term:
        n += 1
        term = (term * square >> BITS) // (n * divisor)
        total += (-term if n % 2 else term) // (2 * n + 1)
    return total


def inverse_arctangent(n):
    term, total, k = ONE // n, ONE // n, 1
    while term:
        term //= -n * n
        k += 2
        total += term // k
    return total


@lru_cache(maxsize=None)
def root_of_pi_times(factor):
    pi = 4 * (4 * inverse_arctangent(5) - inverse_arctangent(239))  # Machin
    return math.isqrt(factor * pi << BITS)


def erf_fixed(a):
    return 2 * a * bell_fixed(a * a >> BITS) // root_of_pi_times(1)


def gelu_fixed(a):
    """x Phi(x), Phi(x) = 1/2 + x / sqrt(2 pi) times the sum at s = x^2 / 2"""
    return a * (ONE // 2 + a * bell_fixed(a * a >> BITS, 2) // root_of_pi_times(2)) >> BITS


def true_value(name, x):
    return {"exp": exp_fixed, "erf": erf_fixed}.get(name, gelu_fixed)(fixed(x))


def ulps(y, true):
    """|y - true| in float32 ulp(true); from 2^128 on both count as 2^128."""
    limit = ONE << 128
    true = min(true, limit)
    y = limit if math.isinf(y) else fixed(y)
    exponent = abs(true).bit_length() - 1 - BITS
    return abs(y - true) / (1 << BITS + max(exponent - 23, -149))


def check_line(line, summary):
    """One line of ``exhaustive --evaluate``: name, input, result, both halves of the reference, error in ulp."""
    name, pattern, result, hi, lo, error = line.split()
    true = true_value(name, float_of(int(pattern, 16)))
    off = abs(fixed(float.fromhex(hi)) + fixed(float.fromhex(lo)) - true)
    error, true_error = float(error), ulps(float_of(int(result, 16)), true)
    entry = summary.setdefault(name, {"inputs": 0, "failures": 0, "reference_off": 0.0, "worst_ulp": 0.0})
    entry["inputs"] += 1
    entry["reference_off"] = max(entry["reference_off"], off / abs(true) if true else 0.0)
    entry["worst_ulp"] = max(entry["worst_ulp"], true_error)
    stated_wrong = abs(error - true_error) > 1e-9 * max(1, true_error)
    if off << BOUND[name] > abs(true) or stated_wrong or (name in JUDGED and true_error >= 1):
        entry["failures"] += 1
        print(f"FAILED: {line.strip()}: true error {true_error!r} ulp", file=sys.stderr)


def random_inputs(name, count):
    """Lines NAME PATTERN, the same in each run."""
    rng = random.Random(name)
    for i in range(count):
        first, last = RANGES[name][i // 2 % len(RANGES[name])]
        even_over_patterns = rng.randrange(pattern_of(first), pattern_of(last))
        yield f"{name} {even_over_patterns if i % 2 else pattern_of(rng.uniform(first, last)):08x}"


def evaluate(program, lines):
    run = subprocess.run([program, "--evaluate"], input="\n".join(lines), capture_output=True, text=True, check=True)
    results = run.stdout.splitlines()
    if len(results) != len(lines):
        raise ValueError(f"{program}: expected {len(lines)} results, got {len(results)}: some inputs are not in range")
    return results


def ends_are_known():
    """exp(-104) rounds to 0, exp(89) to infinity, erf(4) to 1."""
    return (
        exp_fixed(fixed(-104.0)) < ONE >> 150
        and exp_fixed(fixed(89.0)) > ONE << 128
        and ONE - erf_fixed(fixed(4.0)) < ONE >> 25
    )


def check(program, lines):
    summary = {}
    for line in evaluate(program, lines):
        check_line(line, summary)
    return summary


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("program", help="the compiled tools/exhaustive.c")
    parser.add_argument("worst", help="the file that its --worst wrote")
    parser.add_argument("--count", type=int, default=100_000, help="pseudo-random inputs for each function")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    with open(args.worst, encoding="utf-8") as file:
        worst = file.read().splitlines()
    summary = check(args.program, [line for name in RANGES for line in random_inputs(name, args.count)] + worst)
    good = ends_are_known() and all(not entry["failures"] for entry in summary.values())
    if args.json:
        print(json.dumps({"good": good, **summary}, indent=2))
    else:
        for name, entry in summary.items():
            print(
                f"{name}: {entry['inputs']} inputs, reference off by at most 2^{math.log2(entry['reference_off']):.1f} "
                f"(bound 2^-{BOUND[name]}), worst error {entry['worst_ulp']:.9f} ulp, {entry['failures']} failures"
            )
        print("ends of the ranges: " + ("as known" if ends_are_known() else "WRONG"))
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
