"""Kernels compiled by gcc and clang, without and with optimization, on every backend, have the bits of NumPy.

REFVIT_COMPILERS=all tries every level with both and looks for data races, as `make compilers` does. A compiler that is
absent is a reason to skip, unless REFVIT_REQUIRE names it (see tests/toolchain.py).
"""

import itertools
import os
import shutil
import subprocess
import sys
import sysconfig

import numpy as np
import pytest

from refvit import kernels
from refvit.config import QuantConfig
from tests.test_engine import NARROW, PADDED_SWIN, packed
from tests.test_library import WRAPS, saved
from tests.toolchain import BUILDER, FLAGS, LIBRARY, ROOT, SOURCES, compile_all, need

ALL = os.environ.get("REFVIT_COMPILERS") == "all"
LEVELS = {"gcc": ("-O0", "-O2"), "clang": ("-O0", "-O3")}
if ALL:
    LEVELS = dict.fromkeys(LEVELS, ("-O0", "-O2", "-O3"))
PYTEST_ON_KERNELS = """
import sys
from tests.fingerprint import load_kernels
load_kernels(sys.argv[1])
import pytest
sys.exit(pytest.main(sys.argv[2:]))
"""
RACES = ["-q", "tests/test_concurrency.py", "tests/test_engine.py", "-k", "concurrency or in_c_has"]

pytestmark = pytest.mark.skipif(os.name != "posix", reason="needs a compiler with the options of gcc")


def build(compiler, level, folder, *more):
    """The extension as setup.py builds it, but for compiler, level and ``more`` options.  -> its path"""
    flags = [level if flag == "-O3" else flag for flag in FLAGS]
    assert level in flags
    flags += [*more, "-fPIC", *(f"-I{path}" for path in (ROOT / "csrc", sysconfig.get_paths()["include"]))]
    BUILDER["ffibuilder"].emit_c_code(str(folder / "wrapper.c"))
    objects = compile_all([compiler, *flags], [folder / "wrapper.c", *SOURCES], folder)
    extension = folder / "_kernels.so"
    subprocess.run([compiler, *more, "-shared", "-o", extension, *objects, "-lm", "-lpthread"], check=True)
    return extension


def fingerprints(*arguments):
    """{(backend, threads): SHA-256}"""
    command = [sys.executable, "-m", "tests.fingerprint", *map(str, arguments)]
    process = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert process.returncode == 0, process.stderr
    return {tuple(line.split()[:2]): line.split()[2] for line in process.stdout.splitlines()}


@pytest.fixture(scope="module")
def expected():
    return fingerprints("numpy")["numpy", "1"]


@pytest.mark.parametrize("compiler, level", [(compiler, level) for compiler in LEVELS for level in LEVELS[compiler]])
def test_compiler_and_level_do_not_matter(tmp_path, expected, compiler, level):
    need(compiler)
    found = fingerprints("--kernels", build(compiler, level, tmp_path))
    usable = kernels.backends()[:-1] or ["portable"]  # the installed kernels may be missing
    assert set(found) >= set(itertools.product(usable, ("1", "3")))
    assert found == dict.fromkeys(found, expected)


@pytest.mark.parametrize("compiler", LEVELS if ALL else [next(filter(shutil.which, LEVELS), "gcc")])
def test_models_do_not_race(tmp_path, compiler):
    """ThreadSanitizer watches threads that open, run and close models, the first to use the library, and share one."""
    need(compiler)
    sanitize = ["-g", "-fsanitize=thread"]
    build_probe = [compiler, *sanitize, "-x", "c", "-", "-o", tmp_path / "probe"]
    built = subprocess.run(build_probe, input=b"int main(void) { return 0; }", capture_output=True).returncode == 0
    if not built or subprocess.run([tmp_path / "probe"], capture_output=True).returncode:
        pytest.skip(f"{compiler} has no ThreadSanitizer here")
    flags = ["-std=c99", "-O1", "-fno-fast-math", "-ffp-contract=off", f"-I{ROOT / 'csrc'}", *sanitize]
    objects = compile_all([compiler, *flags], [*LIBRARY, ROOT / "tests" / "client.c"], tmp_path)
    subprocess.run([compiler, *sanitize, WRAPS, "-o", tmp_path / "client", *objects, "-lm", "-pthread"], check=True)
    for name, fields in (NARROW[0], PADDED_SWIN):
        model, pixels, expected = saved(tmp_path, packed(name, fields, QuantConfig()), "base3")
        found = subprocess.run([tmp_path / "client", "together", model, pixels], capture_output=True, text=True)
        assert found.returncode == 0, found.stderr
        assert [int(line, 16) for line in found.stdout.split()] == expected.view(np.uint32).tolist()


@pytest.mark.skipif(not ALL, reason="takes long: make compilers")
def test_threads_do_not_race(tmp_path):
    """ThreadSanitizer watches runs of every backend on 1 to 3 threads, and several callers at once."""
    need("gcc")
    found = subprocess.run(["gcc", "-print-file-name=libtsan.so"], capture_output=True, text=True).stdout.strip()
    environment = os.environ | {"LD_PRELOAD": found, "TSAN_OPTIONS": "exitcode=66"}
    if subprocess.run([sys.executable, "-c", "pass"], env=environment, capture_output=True).returncode:
        pytest.skip("ThreadSanitizer does not run here")
    extension = build("gcc", "-O2", tmp_path, "-g", "-fsanitize=thread")
    command = [sys.executable, "-c", PYTEST_ON_KERNELS, extension, *RACES]
    process = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert process.returncode == 0 and " passed" in process.stdout, process.stdout + process.stderr
