"""Time of each linear layer's product on one core, beside the least that the instructions allow (limit.c)."""

import contextlib

import numpy as np

from .. import backend, kernels
from ..benchmark.products import limits, seconds
from ..threads import set_threads, threads


@contextlib.contextmanager
def one_thread():
    """What one core does; the limits are of one core."""
    before = threads()
    set_threads(1)
    try:
        yield
    finally:
        set_threads(before)


def layer_times(engine, codes, progress):
    """Milliseconds of every layer's product, and of the limit.  codes: dict: layer -> int8 [T, K]

    progress: Progress over the layers  -> dict: layer -> (ms, ms at the limit or None), and the backend's name
    """
    name = engine.backend or backend.info()["default"]
    gops = {row["family"]: row["gops"] for row in limits([name])}
    found = {}
    with one_thread():
        for linear in engine.linears.values():
            x = codes[linear.name]
            found[linear.name] = 1e3 * seconds(product(linear, x, name)), limit_ms(linear, len(x), name, gops)
            progress.update(len(found))
    return found, name


def product(linear, x, name):
    if linear.bits == 8:
        return lambda: kernels.int8_matmul(x, linear.weight, name)
    return lambda: kernels.ternary_matmul(x, linear.weight, linear.k, name, bits=linear.act_bits)


def limit_ms(linear, rows, name, gops):
    """Operations / measured limit of the family that multiplies; None where that is not known."""
    family, level = "dot", backend.LEVELS[name]
    if linear.bits == 2 and level != backend.NUMPY:
        family = kernels.family_of(level, rows, linear.act_bits)
    if family not in gops:
        return None
    passes = linear.act_bits if family == "popcount" else 1  # the limit of popcounts is that of 1 bit
    return 2.0 * rows * linear.k * len(linear.alpha) * passes / gops[family] / 1e6


def picture_ms(engine, pixels):
    """Milliseconds of the whole way of a picture on one core."""
    with one_thread():
        return 1e3 * seconds(lambda: engine.predict(np.ascontiguousarray(pixels[None])))
