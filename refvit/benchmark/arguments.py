"""The arguments of the benchmark."""

import argparse

from ..box import resolve
from ..options import BACKEND_HELP, add_verb, count
from . import commands


def add_bench(verbs):
    about = "Time of a picture, and peak memory, of models beside their peers; or GOP/s of single kernels."
    example = (
        "refvit bench deit_small_patch16_224 --threads 1 --json > bench.json; refvit report bench.json -o page.html"
    )
    verb = add_verb(verbs, "bench", commands.bench, about, example)
    models_help = "checkpoints, packed files, or registered names (default: DeiT-Ti, -S, -B and Swin-T, -S)"
    verb.add_argument("models", nargs="*", metavar="MODEL", type=resolve, help=models_help)
    verb.add_argument("--batch", type=count, nargs="+", metavar="N", help="pictures in one call (default 1)")
    threads_help = (
        "numbers of threads (default: one, and REFVIT_THREADS or all cores); NumPy's BLAS is told as well, by "
    )
    verb.add_argument("--threads", type=count, nargs="+", metavar="N", help=threads_help + "OPENBLAS_NUM_THREADS")
    verb.add_argument("--weight-bits", type=int, choices=(2, 8), nargs="+", help="2: ternary; 8 (default: both)")
    acts_help = "1 to 8 (default 8; of kernels 8 4 2 1)"
    verb.add_argument("--act-bits", type=int, choices=range(1, 9), nargs="+", metavar="N", help=acts_help)
    verb.add_argument("--rounds", type=count, default=5, metavar="N", help="turns of each setting (default 5)")
    verb.add_argument("--backend", metavar="NAME", help=BACKEND_HELP + "; of kernels: default all")
    verb.add_argument("--peers", action="store_true", help="PyTorch, ONNX Runtime and OpenVINO as well")
    verb.add_argument("--peer-python", metavar="PYTHON", help="the Python that has them (default: this one)")
    verb.add_argument(
        "--peer-script", metavar="FILE", help="their worker (default: tools/bench_peers.py of the sources)"
    )
    add_kernel_bench(verb)


def add_kernel_bench(verb):
    """What only the benchmark of kernels takes."""
    verb.add_argument("--kernels", action="store_true", help="single products on every usable backend, not models")
    product_help = "rows, inputs, outputs of a product (default: those of DeiT and Swin)"
    verb.add_argument("--products", type=product, nargs="+", metavar="MxKxN", help=product_help)


def product(text):
    """M x K x N as three integers."""
    parts = text.split("x")
    if len(parts) != 3:
        raise argparse.ArgumentTypeError(f"expected MxKxN, as 197x192x576, got {text!r}")
    return tuple(count(part) for part in parts)
