"""How fast single products are: the matrix shapes of DeiT and Swin, on every backend, at every number of bits."""

import itertools
import time
from statistics import median

import numpy as np

from .. import kernels
from ..backend import LEVELS, NUMPY, lib
from .bench import spread

PRODUCTS = [  # (M, K, N): rows, inputs, outputs
    *((m, k, n) for m in (197, 1) for d in (192, 384, 768) for k, n in ((d, 3 * d), (d, d), (d, 4 * d), (4 * d, d))),
    *((3136, k, n) for k, n in ((96, 288), (96, 96), (96, 384), (384, 96))),  # Swin's first stage
]
BITS = (8, 4, 2, 1)
TURN, FEW, RUNS = 0.01, 3, 1000  # a turn is so many seconds of timed runs, but at least and at most so many runs
LIMIT_LOOPS, LIMIT_TURNS = 1 << 20, 5  # some milliseconds a turn; the fastest one counts
NONZERO = 0.55  # of ternary codes, about what TWN's threshold leaves of a Gaussian


def families(backend, bits):
    """(family, bits) of the ternary products to time: dot products take 8-bit codes, whatever they hold."""
    if LEVELS[backend] == NUMPY:
        return [(None, b) for b in bits]
    return [*(("popcount", b) for b in bits), ("dot", 8)]


def plan(products, bits, backends):
    """Every case to time.  -> list of rows without times"""
    rows = []
    for (m, k, n), backend in itertools.product(products, backends):
        shape = {"backend": backend, "m": m, "k": k, "n": n}
        rows += [{"product": "ternary", "family": f, "bits": b, **shape} for f, b in families(backend, bits)]
        rows.append({"product": "int8", "family": None, "bits": 8, **shape})
    return rows


def limits(backends):
    """What one core can do at most by the instructions of each family, where that is known (csrc/products/limit.c).

    -> [{"backend", "family", "gops"}], popcounts for activations of 1 bit, dot products for 8
    """
    found = []
    for backend, (number, family) in itertools.product(backends, enumerate(kernels.FAMILIES)):
        gops = max(limit_turn(LEVELS[backend], number) for _ in range(LIMIT_TURNS)) if LEVELS[backend] != NUMPY else 0.0
        if gops:
            found.append({"backend": backend, "family": family, "gops": gops})
    return found


def limit_turn(level, family):
    """GOP/s"""
    start = time.perf_counter()
    operations = lib.refvit_limit(level, family, LIMIT_LOOPS)
    return operations / (time.perf_counter() - start) / 1e9


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
    """The one call that is timed, of arrays that are checked, as a model's are when it is loaded.  -> function"""
    level, bits = LEVELS[row["backend"]], row["bits"]
    if row["product"] == "int8":
        return lambda: kernels.int8_matmul(x, weight, row["backend"])
    if row["family"] == "dot":
        return lambda: kernels.ternary_dot(level, x, weight)
    if row["family"] == "popcount":
        counts = kernels.neg_counts(weight, row["k"])
        return lambda: kernels.ternary_popcount(level, x, weight, bits, counts)
    return lambda: kernels.ternary_matmul(x, weight, row["k"], row["backend"], bits)


def turn(row):
    """-> seconds"""
    return seconds(product(row, *operands(row)))


def seconds(call):
    """A run to be warm, then the median of some."""
    call()
    times = []
    while len(times) < FEW or (sum(times) < TURN and len(times) < RUNS):
        start = time.perf_counter()
        call()
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
