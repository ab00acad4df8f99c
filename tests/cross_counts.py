"""A program: instructions that the C kernels take on each CPU of cross_cpus.py, counted by an emulator.

    python -m tests.cross_counts [--functions] [CPU ...]

A board is not needed to compare two variants of a kernel: the emulator counts what is executed, though not how long
that takes. Prints a table for each CPU: instructions for a multiplication or a value of each kernel at the sizes of
DeiT-S, and millions for a picture through ternary DeiT-Ti of 224 and narrow models; a column for each backend.
--functions adds the functions that a picture through DeiT-Ti spends most in.
"""

import argparse
import subprocess
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np

import refvit
from refvit.backend import LEVELS
from tests.cross_cpus import CPUS, SOURCES, program
from tests.model_source import write_models
from tests.test_engine import NARROW, packed

KERNELS = (
    "popcount, 8 bits", "popcount, 4 bits", "popcount, 2 bits", "ternary dot", "8-bit dot", "symmetric scale",
    "quantize", "rescale", "layernorm", "softmax to codes", "GELU to codes"
)  # fmt: skip
NARROW_MODELS = ("deit_tiny_patch16_224", "swin_tiny_patch4_window7_224")
MODELS = ("DeiT-Ti", "narrow DeiT", "narrow Swin")
TOP = 12


def write_cases(folder):
    """models.h with MODELS, all W2A8."""
    settings = refvit.QuantConfig()
    engines = [refvit.pack(refvit.create_model("deit_tiny_patch16_224").with_quant(settings))]
    engines += [packed(name, dict(NARROW)[name], settings) for name in NARROW_MODELS]
    sides = [engine.config.img_size for engine in engines]
    pictures = [np.random.default_rng(0).integers(0, 256, (1, side, side, 3), dtype=np.uint8) for side in sides]
    write_models(folder / "models.h", zip(engines, pictures))


def build_plugin(folder):
    plugin = folder / "libcount.so"
    subprocess.run(["gcc", "-O2", "-shared", "-fPIC", "-o", plugin, SOURCES / "count.c"], check=True)
    return plugin


def executed(cpu, plugin, path, *arguments):
    """Run a program.  -> Counter {function: instructions}, what it printed"""
    with tempfile.NamedTemporaryFile() as file:
        command = [*cpu.emulator, "-plugin", f"{plugin},out={file.name}", path, *map(str, arguments)]
        printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        lines = (line.split() for line in Path(file.name).read_text(encoding="utf-8").splitlines())
        return Counter({name: int(count) for count, name in lines}), printed


def work(cpu, plugin, path, backend, case):
    """Instructions of one case alone.  -> Counter, its multiplications or values"""
    ready, _ = executed(cpu, plugin, path, LEVELS[backend], case)
    done, printed = executed(cpu, plugin, path, LEVELS[backend], case, 1)
    return done - ready, int(printed)


def print_row(label, numbers, digits):
    print(f"{label:20}" + "".join(f"{n:12.{digits}f}" for n in numbers), flush=True)


def print_cpu(name, cpu, plugin, path, functions):
    backends = ("portable", *cpu.backends)
    print(f"\n{name:20}" + "".join(f"{backend:>12}" for backend in backends))
    for case, label in enumerate(KERNELS):
        found = [work(cpu, plugin, path, backend, case) for backend in backends]
        print_row(label, [counts.total() / size for counts, size in found], 2)
    for case, label in enumerate(MODELS, len(KERNELS)):
        found = [work(cpu, plugin, path, backend, case)[0] for backend in backends]
        print_row(f"{label}, millions", [counts.total() / 1e6 for counts in found], 1)
        for backend, counts in zip(backends, found if functions and label == MODELS[0] else ()):
            for function, count in counts.most_common(TOP):
                print(f"    {backend:10} {count / 1e6:10.1f} {function}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--functions", action="store_true")
    parser.add_argument("cpus", nargs="*", metavar="CPU", help=", ".join(CPUS))
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_cases(folder)
        plugin = build_plugin(folder)
        print("instructions for a multiplication or a value of a kernel; for a picture through a model")
        for name in args.cpus or CPUS:
            print_cpu(name, CPUS[name], plugin, program(CPUS[name].build, folder, ("measure.c",)), args.functions)


if __name__ == "__main__":
    main()
