"""What the tests that run compilers share.

REFVIT_REQUIRE names programs whose absence is a failure and no reason to skip ("gcc,clang"), or is "all".
"""

import os
import runpy
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
BUILDER = runpy.run_path(str(ROOT / "csrc" / "build_kernels.py"))
FLAGS, SOURCES, LIBRARY = (BUILDER[name] for name in ("FLAGS", "SOURCES", "LIBRARY"))


def need(program):
    """Skip the test, or fail it, where ``program`` is not installed."""
    required = os.environ.get("REFVIT_REQUIRE", "").split(",")
    if shutil.which(program) is None:
        if program in required or "all" in required:
            pytest.fail(f"REFVIT_REQUIRE asks for {program}, which is not installed")
        pytest.skip(f"needs {program}")


def compile_all(command, sources, folder):
    """Object files of C sources, made in ``folder`` by the compiler and options of ``command``.  -> their paths"""

    def compiled(source):
        output = folder / f"{source.stem}.o"
        subprocess.run([*command, "-c", "-o", output, source], check=True)
        return output

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(compiled, sources))
