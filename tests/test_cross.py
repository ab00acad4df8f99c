"""The C kernels on other CPUs, cross-compiled and emulated: the bits of NumPy and of this machine on each of them.

REFVIT_CROSS=all tries many more shapes, as `make cross-full` does. A compiler or emulator that is absent is a reason to
skip, unless REFVIT_REQUIRE names it (see tests/toolchain.py).
"""

import hashlib
import os
import sys

import numpy as np
import pytest

from refvit import kernels
from tests.cross_cpus import CPUS, PENTIUM_2, Cpu, program, run
from tests.fingerprint import engines
from tests.test_engine import NARROW, SETTINGS, packed

ALL = os.environ.get("REFVIT_CROSS") == "all"
CHECK = ("check.c", "products.c", "rows.c", "models.c")
ROUNDS = 1000 if ALL else 100
HERE = Cpu("here", (), ())

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="needs qemu-user, which is for Linux"),
    pytest.mark.skipif("portable" not in kernels.backends(), reason="needs the compiled kernels"),
]


@pytest.fixture(scope="module")
def cases():
    """Narrow models of each family and with each setting, and two pictures for each."""
    rng = np.random.default_rng(0)
    models = [*engines(), *(packed(name, fields, quant) for name, fields in NARROW[2:] for quant in SETTINGS)]
    return [(e, rng.integers(0, 256, (2, e.config.img_size, e.config.img_size, 3), dtype=np.uint8)) for e in models]


@pytest.fixture(scope="module")
def folder(tmp_path_factory, cases):
    from tests.model_source import write_models

    path = tmp_path_factory.mktemp("cross")
    write_models(path / "models.h", cases)
    return path


@pytest.fixture(scope="module")
def models_sha(cases):
    """What the program hashes of a model, on one thread and on three: the status 0 and the logits, here NumPy's."""
    digest = hashlib.sha256()
    for engine, u8 in cases:
        engine.backend = "numpy"
        digest.update(2 * (bytes(4) + engine.predict(u8).astype("<f4").tobytes()))
    return digest.hexdigest()


@pytest.fixture(scope="module")
def kernels_sha(folder):
    """What the program gives on this machine, whose kernels other tests hold to NumPy."""
    return results(HERE, folder)["kernels"]


def results(cpu, folder):
    """What the program prints.  -> {first word of a line: the rest}"""
    process = run(cpu, program(cpu.build, folder, CHECK), ROUNDS)
    assert process.returncode == 0, process.stderr or f"ended by signal {-process.returncode}"
    return dict(line.split(" ", 1) for line in process.stdout.splitlines())


@pytest.mark.parametrize("name", CPUS)
def test_a_cpu_has_the_same_bits(folder, kernels_sha, models_sha, name):
    cpu = CPUS[name]
    expected = {"backends": " ".join(("portable", *cpu.backends)), "kernels": kernels_sha, "models": models_sha}
    assert results(cpu, folder) == expected


def test_a_cpu_without_sse2_is_not_supported(folder):
    process = run(PENTIUM_2, program(PENTIUM_2.build, folder, CHECK))
    assert process.returncode == 4 and "not supported" in process.stderr and "status 2" in process.stderr
