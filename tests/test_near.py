"""tools/near.c on a sample of all floats: the bounds by which codes are certified hold, and broken ones are found."""

import os
import platform
import shutil
import subprocess

import pytest

from tests.test_exhaustive import CC, FLAGS, ROOT

EVERY = "1009"  # of the 2^32 patterns of floats
VARIANTS = {"AVX2": ["-DNEAR_AVX2"], "AVX-512": []}

pytestmark = pytest.mark.skipif(
    CC is None or os.name != "posix" or platform.machine() != "x86_64", reason="needs a C compiler and an x86-64 CPU"
)


def run(folder, variant, right="", wrong=""):
    """The process of near.c where a text of csrc/rows/codes_vector.h is replaced."""
    for name in ("csrc", "tools"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("*.py", "__pycache__", "recipes"))
    header = folder / "csrc" / "rows" / "codes_vector.h"
    source = header.read_text(encoding="utf-8")
    assert right in source
    header.write_text(source.replace(right, wrong) if right else source, encoding="utf-8")
    program = folder / "near"
    subprocess.run([CC, *FLAGS, *VARIANTS[variant], "-o", program, folder / "tools" / "near.c", "-lm"], check=True)
    process = subprocess.run([program, EVERY], capture_output=True, text=True)
    if "lacks" in process.stdout:
        pytest.skip(process.stdout.strip())
    return process


@pytest.mark.parametrize("variant", VARIANTS)
def test_sampled_bounds_hold(tmp_path, variant):
    process = run(tmp_path, variant)
    assert process.returncode == 0, process.stdout
    gelu, exp = process.stdout.splitlines()
    assert gelu.startswith(f"gelu_near, {variant}: 4240030 inputs")
    assert exp.startswith(f"exp_near, {variant}: 1107813 inputs")


@pytest.mark.parametrize(
    "right, wrong, function",
    (
        ("exp_near_table[4]", "exp_near_table[5]", "exp"),
        ("f_max(f_set(EXP_FLAT), x.v[i])", "f_max(x.v[i], f_set(EXP_FLAT))", "exp"),  # a NaN becomes EXP_FLAT
        ("gelu_near_table[3]", "gelu_near_table[4]", "gelu"),
    ),
)
def test_a_broken_bound_is_found(tmp_path, right, wrong, function):
    process = run(tmp_path, "AVX2", right, wrong)
    lines = process.stdout.splitlines()
    wrong_functions = [before.split("_")[0] for before, line in zip(lines, lines[1:]) if "WRONG" in line]
    assert (process.returncode, wrong_functions) == (1, [function])
