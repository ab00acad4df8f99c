"""The C library and refvit-run on other CPUs, as `make lib` crosses them, emulated: the bits of this machine from the same
files.

REFVIT_CROSS=all tries every kind of model on each CPU, as `make cross-full` does. A compiler or emulator that is absent
is a reason to skip, unless REFVIT_REQUIRE names it (see tests/toolchain.py).
"""

import json
import subprocess
import sys
from dataclasses import replace
from functools import lru_cache

import numpy as np
import pytest

from refvit import load_model
from refvit.backend import lib
from refvit.box import resolve
from refvit.config import QuantConfig
from tests.cross_cpus import BUILDS, CPUS, PENTIUM_2, SOURCES, run
from tests.test_cross import ALL
from tests.test_engine import NARROW, PADDED_SWIN, SETTINGS, packed
from tests.test_library import TEXT_MAX, code_bytes, compile_client, make, saved
from tests.toolchain import need

ABROAD = [name for name in BUILDS if name != "here"]
CODINGS = ("planes", "base3")
PI_3 = "processor\t: 0\nBogoMIPS\t: 38.40\nCPU implementer\t: 0x41\nCPU part\t: 0xd03\n"

pytestmark = pytest.mark.skipif(sys.platform != "linux" or lib is None, reason="needs Linux, and the compiled kernels")


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    """library(build) -> the folder where make lib made it"""

    @lru_cache(maxsize=None)
    def made(name):
        build = BUILDS[name]
        need("make")
        need(build.compiler)
        sources = [str(SOURCES / source) for source in build.more_sources]
        cc, ldflags = " ".join(compiler(build)), " ".join(["-static", *sources, *build.link])
        return make(tmp_path_factory.mktemp("lib"), f"CC={cc}", f"LDFLAGS={ldflags}")

    return made


def compiler(build):
    return [build.compiler, *build.options]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Models and pictures as files, and the logits that this machine gives."""
    kinds = [packed(*PADDED_SWIN, QuantConfig())]
    if ALL:
        kinds += [packed(*model, settings) for model in NARROW for settings in SETTINGS]
    cases = [(load_model(resolve("refvit_cifar10")), "planes"), *((engine, coding) for engine in kinds for coding in CODINGS)]
    return [saved(tmp_path_factory.mktemp("model"), *case) for case in cases]


def answer(process):
    assert process.returncode == 0, process.stderr or f"ended by signal {-process.returncode}"
    return process.stdout


def logits_of(text):
    """What refvit-run --json says of all classes.  -> float32 [classes]"""
    classes = sorted(json.loads(text)["pictures"][0]["classes"], key=lambda c: c["index"])
    return np.array([c["logit"] for c in classes], np.float32)


@pytest.mark.parametrize("name", CPUS)
def test_refvit_run_has_the_same_bits(library, files, name):
    cpu = CPUS[name]
    program = library(cpu.build) / "refvit-run"
    for model, pixels, expected in files:
        text = answer(run(cpu, program, "--json", "--top", len(expected), model, pixels))
        assert logits_of(text).tobytes() == expected.tobytes(), model
    told = json.loads(answer(run(cpu, program, "--bench", "--json", *files[-1][:2])))
    assert told["kernel"] == ("portable", *cpu.backends)[-1]


@pytest.mark.parametrize("name", ("cortex-a7", "s390x"))
def test_a_client_has_them_from_memory_of_its_own(library, files, name):
    """The model is counted before: it opens in that much and allocates nothing."""
    cpu = CPUS[name]
    folder = library(cpu.build)
    client = compile_client(folder, "client", "-static", folder / "librefvit.a", cc=compiler(BUILDS[cpu.build]))
    for model, pixels, expected in files:
        for how in ("map", "memory"):
            words = answer(run(cpu, client, how, model, pixels)).split()
            assert np.array([int(word, 16) for word in words], np.uint32).tobytes() == expected.view(np.uint32).tobytes(), model


def test_a_cpu_without_sse2_is_refused(library, files):
    folder, model = library("i686"), files[0][0]
    client = compile_client(folder, "client", "-static", folder / "librefvit.a", cc=compiler(BUILDS["i686"]))
    process = run(PENTIUM_2, folder / "refvit-run", model, model)
    assert process.returncode == 4 and process.stderr == "refvit-run: error: not supported here: a CPU without SSE2\n"
    for how in ("map", "read", "memory"):
        process = run(PENTIUM_2, client, how, model, model)
        assert process.returncode == 1 and process.stderr == f"{model}: not supported here: a CPU without SSE2\n", how


@pytest.mark.parametrize("name", ABROAD)
def test_the_code_stays_small(library, name):
    folder = library(name)
    command = [*compiler(BUILDS[name]), "-print-prog-name=size"]
    size = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    assert 0 < code_bytes(size, folder) <= TEXT_MAX


def test_one_line_tells_what_an_owner_wants(library, files, tmp_path):
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc" / "cpuinfo").write_text(PI_3)
    emulator = (*CPUS["cortex-a53"].emulator, "-L", tmp_path)  # where that has a file, it is taken instead
    cpu = replace(CPUS["cortex-a53"], emulator=emulator)
    line = answer(run(cpu, library(cpu.build) / "refvit-run", "--bench", "--threads", "3", *files[-1][:2]))
    ms, mb, *rest = line.rstrip("\n").split(", ")
    assert float(ms.removesuffix(" ms")) > 0 and float(mb.removesuffix(" MB")) > 0
    assert rest == ["threads 3", "neon", "aarch64", "CPU part 0xd03"]
