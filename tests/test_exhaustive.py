"""tools/exhaustive.c on a sample: errors of exp and erf (N9), its reference against 60 digits, planted faults found."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tools import check_exhaustive

ROOT = Path(__file__).parents[1]
CC = next(filter(None, map(shutil.which, ("cc", "gcc", "clang"))), None)
FLAGS = ["-std=c99", "-O1", "-fno-fast-math", "-ffp-contract=off", "-pthread", f"-I{ROOT / 'csrc' / 'rows'}"]
SAMPLE = ["--every", "40009", "--json"]  # 107,520 inputs
JUDGED = check_exhaustive.JUDGED

pytestmark = pytest.mark.skipif(CC is None or os.name != "posix", reason="needs a C compiler and POSIX threads")


def compiled(folder, kernels=ROOT / "csrc" / "rows" / "exact.c"):
    program = folder / "exhaustive"
    subprocess.run([CC, *FLAGS, "-o", program, ROOT / "tools" / "exhaustive.c", kernels, "-lm"], check=True)
    return str(program)


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    return compiled(tmp_path_factory.mktemp("exhaustive"))


def run(program, *args):
    return subprocess.run([program, *args], capture_output=True, text=True)


def test_sampled_errors_are_just_above_half_an_ulp(program):
    process = run(program, *SAMPLE)
    assert process.returncode == 0
    for name in JUDGED:
        result = json.loads(process.stdout)[name]
        assert result["inputs"] == 107_520 and 0.49 < result["worst_ulp"] < 0.50011
        assert not (result["not_monotone"] or result["undecided"] or result["wrong_known"])


def test_threads_do_not_matter(program, tmp_path):
    outputs = [run(program, *SAMPLE, "--threads", n, "--worst", tmp_path / n).stdout for n in ("1", "3")]
    assert outputs[0] == outputs[1]
    assert (tmp_path / "1").read_bytes() == (tmp_path / "3").read_bytes()


def edges(name):
    """Patterns at both sides of where something changes, as far as there is a reference."""
    for first, last in check_exhaustive.RANGES[name]:
        low, high = map(check_exhaustive.pattern_of, (first, last))
        places = [2.0**-126, 2.0**-24, 1 / 512, 1 / 4, 1.0, 3.75, 87.33654, 88.72283, 103.97207]
        middle = [(low & 1 << 31) | check_exhaustive.pattern_of(place) for place in places]
        for pattern in [low, low + 1, *(m + i for m in middle for i in (-1, 0, 1)), high - 1]:
            if low <= pattern < high:
                yield f"{name} {pattern:08x}"


def test_reference_is_within_its_bound(program):
    lines = [line for name in JUDGED for line in (*check_exhaustive.random_inputs(name, 1000), *edges(name))]
    summary = check_exhaustive.check(program, lines)
    assert all(not summary[name]["failures"] and summary[name]["worst_ulp"] < 0.50011 for name in JUDGED)
    assert check_exhaustive.ends_are_known()


def test_integer_arithmetic_has_50_published_digits():
    e = 271828182845904523536028747135266249775724709369995
    erf_of_1 = 84270079294971486934122063508260925929606699796630
    assert check_exhaustive.exp_fixed(check_exhaustive.ONE) * 10**50 >> check_exhaustive.BITS == e
    assert check_exhaustive.erf_fixed(check_exhaustive.ONE) * 10**50 >> check_exhaustive.BITS == erf_of_1


@pytest.mark.parametrize(
    "line",
    (
        "exp 3f800000 402df854 0x1.5bf0a8b145769p+1 0x1.4d57ee2b20138p-53 0.346233087267",  # lo off by 2^-89
        "exp 3f800000 402df855 0x1.5bf0a8b145769p+1 0x1.4d57ee2b10138p-53 1.346233087267",  # 1 ulp or more
        "exp 3f800000 402df854 0x1.5bf0a8b145769p+1 0x1.4d57ee2b10138p-53 0.346234087267",  # another error stated
    ),
)
def test_a_wrong_line_is_a_failure(line):
    summary = {}
    check_exhaustive.check_line(line, summary)
    assert summary["exp"]["failures"] == 1


FAULTS = (  # up to two at a time, in exp and in erf: text of csrc/rows/exact.c, text instead, what counts it
    (
        ("1.0 / 6.0", "1.0 / 6.001", "not_correctly_rounded"),
        ("return x != x ? x : copysignf(1.0f, x)", "return copysignf(1.0f, x)", "wrong_known"),
    ),
    (
        ("x > EXP_HIGH ? EXP_HIGH", "x > EXP_HIGH ? 88.0", "wrong_known"),
        ("(double)x);\n}", "(double)x) + (a > 1.0 ? 0.0f : 0x1p-20f);\n}", "not_monotone"),
    ),
    (("p = p * r + 0.5;", "p = p * r + (x > 1.0 && x < 2.0 ? NAN : 0.5);", "not_correctly_rounded"),),
)


@pytest.mark.parametrize("faults", FAULTS)
def test_planted_faults_are_found(tmp_path, faults):
    source = (ROOT / "csrc" / "rows" / "exact.c").read_text(encoding="utf-8")
    for right, wrong, _ in faults:
        assert right in source
        source = source.replace(right, wrong)
    faulty = tmp_path / "faulty.c"
    faulty.write_text(source, encoding="utf-8")
    process = run(compiled(tmp_path, faulty), "--every", "16384", "--json")
    assert process.returncode == 1
    for name, (_, _, finding) in zip(JUDGED, faults):
        assert json.loads(process.stdout)[name][finding] > 0
