"""A process in which one engine runs alone, told by another when to run; see bench.py for the other side.

The protocol, one line each: the worker says what it is (JSON) when it is built and warm; for every line that it gets it
runs once and answers the seconds; at the end of its input it says its peak of memory (JSON) and ends. Whatever else
the engine prints goes to stderr. Peers speak it as well (tools/bench_peers.py).
"""

import json
import os
import signal
import sys
import time

MANY_ROWS = 197  # tokens of a picture in DeiT


def serve(build):
    """Answer on stdin and stdout.  build: function -> step (a function that runs once), dict of facts"""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes of a terminal; the parent ends us
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    step, facts = build()
    step()
    say(answers, facts)
    for _ in sys.stdin:
        start = time.perf_counter()
        step()
        say(answers, time.perf_counter() - start)
    from .machine import peak_mb

    say(answers, {"peak_mb": peak_mb()})


def say(stream, value):
    print(json.dumps(value), file=stream, flush=True)


def engine(model, batch, threads, backend):
    """A packed file's engine on random pictures.  -> step, facts"""
    import numpy as np

    from .. import __version__
    from ..backend import set_backend
    from ..threads import set_threads
    from ..weights import load_model

    set_threads(threads)
    if backend is not None:
        set_backend(backend)
    packed = load_model(model)
    side = packed.config.img_size
    pixels = np.random.default_rng(0).integers(0, 256, (batch, side, side, 3), np.uint8)
    return lambda: packed.predict(pixels), {"version": __version__, "kernel": kernel_name(packed.quant.act_bits)}


def kernel_name(act_bits):
    """What multiplies the ternary layers here: backend and family, for as many rows as a picture has."""
    from ..backend import LEVELS, NUMPY, level_of
    from ..kernels import family_of

    chosen = level_of()
    name = next(name for name, level in LEVELS.items() if level == chosen)
    return name if chosen == NUMPY else f"{name} {family_of(chosen, MANY_ROWS, act_bits)}"


if __name__ == "__main__":
    serve(lambda: engine(**json.loads(sys.argv[1])))
