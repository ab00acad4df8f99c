"""The three that judge a port by a kit and agree, refvit verify, check.py and check.c; and a small kit for them."""

import contextlib
import functools
import io
import json
import runpy
import shutil
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import pytest

from refvit.cli import main
from refvit.vectors.kit import Case, Tensor, Writer

KIT_FILES = Path(__file__).parents[1] / "refvit" / "data" / "kit"
STRICT = ["-std=c99", "-O1", "-g", *"-Wall -Wextra -Wpedantic -Wshadow -Wconversion -Werror".split()]
SANITIZERS = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
COMPILERS = [name for name in ("gcc", "clang") if shutil.which(name)]


def compiled(compiler, path, *flags):
    return subprocess.run(
        [compiler, *STRICT, *flags, "-o", path, KIT_FILES / "check.c"], capture_output=True, text=True
    )


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


def found_in(kit, outputs, *only):
    code, out, err = by_verify(kit, outputs, "--json", *only)
    assert code in (0, 1), err
    return json.loads(out)


f32 = np.float32
FLAGS = {"half_away": "ties are rounded away from zero", "reciprocal": "x is multiplied by 1 / s"}


def small_cases():
    """One of each expectation and dtype."""
    up = np.nextafter
    x = np.array([[1, -0.0, np.inf, 2.0**-149, 0, -3.5]], f32)
    middle = np.array([1, 0, -(2.0**-149), 7], f32)
    codes = np.array([[1, -3, 127, -128]], np.int8)
    words = np.array([2**64 - 1, 2**63, 0, 2**53 + 1], np.uint64)
    tie = Tensor("q", codes, codes - np.array([0, 1, 1, 0], np.int8), codes)
    bound = Tensor("dx", middle, up(middle, f32(-np.inf)), up(middle, f32(np.inf)))
    accepted = Tensor("accepted", np.zeros(1, np.uint8))
    rows = [
        ("exp/plain", "exact", ("N9",), (), [Tensor("x", x)], [Tensor("y", x)]),
        ("seeded/words", "exact", (), (), [], [Tensor("words", words), Tensor("elements", np.zeros((0, 3), f32))]),
        ("gelu_backward/a.b-c", "bound", ("N13",), ("reciprocal",), [Tensor("x", middle)], [bound]),
        ("norm_codes/tie", "near-tie", ("N4", "N9"), ("half_away", "reciprocal"), [Tensor("x", x)], [tie]),
        ("predict/index", "exact", ("N11",), (), [], [Tensor("index", np.array([-1, 2**31 - 1], np.int32))]),
        ("load/bad/file", "reject", ("N2",), (), [Tensor("file", np.arange(9, dtype=np.uint8))], [accepted]),
    ]
    for case_id, expectation, rules, flags, inputs, outputs in rows:
        comment = f'a "{expectation}" case'
        yield Case(
            case_id, case_id.split("/")[0], rules, flags, comment, expectation, {"n": 3}, tuple(inputs), tuple(outputs)
        )


def write_kit(path, cases):
    path.mkdir()
    writer = Writer(str(path))
    for case in cases:
        writer.add(case)
    writer.manifest(1, FLAGS)
    return path


def write_outputs(path, cases):
    for case in cases:
        (path / case.id).mkdir(parents=True)
        for tensor in case.outputs:
            (path / case.id / f"{tensor.name}.bin").write_bytes(raw(tensor.value))
    return path


def raw(value):
    return np.ascontiguousarray(value, value.dtype.newbyteorder("<")).tobytes()


@pytest.fixture
def kit(tmp_path):
    return write_kit(tmp_path / "kit", small_cases())


@pytest.fixture
def outputs(tmp_path):
    return write_outputs(tmp_path / "outputs", small_cases())
