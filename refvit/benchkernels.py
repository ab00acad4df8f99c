"""How fast single products are: the matrix shapes of DeiT and Swin, on every backend, at every number of bits."""

import itertools
import time
from statistics import median

import numpy as np

from . import kernels
from .bench import spread

PRODUCTS = [  # (M, K, N): rows, inputs, outputs
    *((m, k, n) for m in (197, 1) for d in (192, 384, 768) for k, n in ((d, 3 * d), (d, d), (d, 4 * d), (4 * d, d))),
    *((3136, k, n) for k, n in ((96, 288), (96, 96), (96, 384), (384, 96))),  # Swin's first stage
]
BITS = (8, 4, 2, 1)
TURN, FEW, RUNS = 0.01, 3, 1000  # a turn is so many seconds of timed runs, but at least and at most so many runs
NONZERO = 0.55  # of ternary codes, about what TWN's threshold leaves of a Gaussian


def families(backend):  # noqa: ARG001 (for the day when a backend has more than one)
    """What ``ternary_matmul`` of a backend can be told to multiply by: names, or None where there is no choice."""
    return (None,)


def plan(products, bits, backends):
    """Every case to time.  -> list of rows without times"""
    rows = []
    for (m, k, n), backend in itertools.product(products, backends):
        shape = {"backend": backend, "m": m, "k": k, "n": n}
        rows += [{"product": "ternary", "family": f, "bits": b, **shape} for f in families(backend) for b in bits]
        rows.append({"product": "int8", "family": None, "bits": 8, **shape})
    return rows


def operands(row):
    """Random codes of a case.  -> x int8 [M, K], weight: planes or int8 [N, K]"""
    rng = np.random.default_rng(0)
    half = 1 << row["bits"] - 1
    x = rng.integers(-half, half, (row["m"], row["k"]), np.int8)
    if row["product"] == "int8":
        return x, rng.integers(-127, 128, (row["n"], row["k"]), np.int8)
    codes = rng.choice(np.array([-1, 0, 1], np.int8), (row["n"], row["k"]), p=[NONZERO / 2, 1 - NONZERO, NONZERO / 2])
    return x, kernels.pack_planes(codes)


def product(row, x, weight):
    """The one call that is timed."""
    if row["product"] == "int8":
        return kernels.int8_matmul(x, weight, row["backend"])
    named = {} if row["family"] is None else {"family": row["family"]}
    return kernels.ternary_matmul(x, weight, row["k"], row["backend"], bits=row["bits"], **named)


def turn(row):
    """A run to be warm, then the median of some.  -> seconds"""
    x, weight = operands(row)
    product(row, x, weight)
    times = []
    while len(times) < FEW or (sum(times) < TURN and len(times) < RUNS):
        start = time.perf_counter()
        product(row, x, weight)
        times.append(time.perf_counter() - start)
    return median(times)


def measure(rows, threads, rounds, tick, times):
    """Time all rows round by round; ``times``, a list for each row, receives milliseconds."""
    kernels.set_threads(threads)
    for _ in range(rounds):
        for row, its in zip(rows, times):
            its.append(1e3 * turn(row))
            tick()


def result(row, threads, times):
    """A row with its times and GOP/s: a multiplication and an addition are two operations."""
    operations = 2.0 * row["m"] * row["k"] * row["n"]
    return {**row, "threads": threads, **spread("ms", times), "gops": operations / median(times) / 1e6, "rounds": times}
