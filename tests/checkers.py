"""The three that judge a port by a kit: refvit verify, check.py and check.c, which must agree."""

import contextlib
import functools
import io
import runpy
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

from refvit.cli import main

KIT_FILES = Path(__file__).parents[1] / "refvit" / "data" / "kit"
STRICT = ["-std=c99", "-O1", "-g", *"-Wall -Wextra -Wpedantic -Wshadow -Wconversion -Werror".split()]
SANITIZERS = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
COMPILERS = [name for name in ("gcc", "clang") if shutil.which(name)]


def compiled(compiler, path, *flags):
    return subprocess.run([compiler, *STRICT, *flags, "-o", path, KIT_FILES / "check.c"], capture_output=True, text=True)


@functools.lru_cache(maxsize=None)
def check_c():
    """The checker in C, with sanitizers where the compiler has them; None without a compiler."""
    path = str(Path(tempfile.mkdtemp()) / "check")
    for compiler in COMPILERS:
        for flags in (SANITIZERS, []):
            if compiled(compiler, path, *flags).returncode == 0:
                return path
    return None


def by_c(*arguments):
    """-> exit code, stdout, stderr"""
    if check_c() is None:
        pytest.skip("needs gcc or clang")
    process = subprocess.run([check_c(), *map(str, arguments)], capture_output=True, text=True, timeout=60)
    return process.returncode, process.stdout, process.stderr


def captured(function, *arguments):
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = function([str(a) for a in arguments])
    return code, out.getvalue(), err.getvalue()


CHECK_PY = runpy.run_path(str(KIT_FILES / "check.py"))


def by_python(*arguments):
    return captured(CHECK_PY["main"], *arguments)


def by_verify(*arguments):
    return captured(main, "verify", *arguments)


def agreed(kit, outputs, *prefixes):
    """The exit code of all three, and what the checkers print."""
    only = [text for prefix in prefixes for text in ("--only", prefix)]
    patterns = [text for prefix in prefixes for text in ("--only", f"{prefix}*")]
    c, python, full = by_c(kit, outputs, *only), by_python(kit, outputs, *only), by_verify(kit, outputs, *patterns)
    assert c[0] == python[0] == full[0], (c, python, full)
    assert c[1] == python[1] or c[0] > 1, (c, python)
    if full[0] == 3:
        assert full[2].startswith("refvit: error: ") and c[2].startswith("check: ") and python[2].startswith("check: ")
    return full[0], python[1]
