"""tests/vectors/SPEC.md: complete, of the code's constants, and every place it names exists."""

import re
import runpy
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest

from refvit import exact, rules
from refvit.bitplanes import encode_base3, pack_planes
from refvit.erf_table import ERF_TABLE
from refvit.model import INIT_STD, bell
from refvit.ternary import TWN_THRESHOLD

ROOT = Path(__file__).parents[1]
SPEC = (ROOT / "tests/vectors/SPEC.md").read_text(encoding="utf-8")
PLACES = sorted(set(re.findall(r"`((?:refvit|csrc|tests)/[\w/]+\.(?:py|c|h))(?::(\w+))?`", SPEC)))
RULES = [f"N{i}" for i in range(1, 15)]


def section(rule):
    """Text of a rule, from its heading to the next."""
    return re.search(rf"^### {rule} .*?(?=^##)", SPEC, re.MULTILINE | re.DOTALL).group()


def hex_cells(line):
    """The hexadecimal floats of one line, those between backquotes."""
    return [float.fromhex(cell) for cell in re.findall(r"`(-?0x[^`]*)`", line)]


@lru_cache(maxsize=None)
def source(path):
    return (ROOT / path).read_text(encoding="utf-8")


@pytest.mark.parametrize("rule", RULES)
def test_every_rule_names_its_code_and_its_tests(rule):
    text = section(rule)
    assert re.search(r"^Code: `(refvit|csrc)/", text, re.MULTILINE)
    assert re.search(r"`tests/test_\w+\.py:test_\w+`", text)


def test_rules_come_once_and_in_order():
    assert re.findall(r"^### (N\d+) ", SPEC, re.MULTILINE) == RULES


@pytest.mark.parametrize("path, name", PLACES)
def test_named_places_exist(path, name):
    assert (ROOT / path).is_file()
    definition = rf"^( *def|class) {name}\b" if path.endswith(".py") else rf"^[\w ]*\b{name}\("
    assert not name or re.search(definition, source(path), re.MULTILINE), f"{name} is not defined in {path}"


def test_the_table_from_rule_to_code_is_up_to_date():
    made = runpy.run_path(str(ROOT / "tools" / "rules_table.py"))
    assert made["TARGET"].read_text(encoding="utf-8") == made["table"](), "make rules"


def test_coefficients_of_exp():
    rows = [row for row in map(hex_cells, section("N9").splitlines()) if len(row) == 2]
    assert [*(row[0] for row in rows), *(row[1] for row in rows)] == list(exact.EXP_COEFFICIENTS)


def test_table_of_erf():
    rows = [row for row in map(hex_cells, section("N9").splitlines()) if len(row) == 8]
    np.testing.assert_array_equal(rows, ERF_TABLE)


def test_constants():
    values = dict(re.findall(r"^\| ([A-Z0-9_, ]+) \| ([^|]+?) \|", SPEC.split("## 2.")[0], re.MULTILINE))
    assert hex_cells(values["SCALE_MIN"]) == [rules.SCALE_MIN]
    assert values["K_MAX"] == f"{rules.K_MAX} = 2^17"
    assert values["MASK"] == f"{rules.MASK_VALUE:.0f} (f32)"
    assert hex_cells(values["PROB_SCALE"]) == [rules.PROB_SCALE]
    assert hex_cells(values["INV_SQRT2"]) == [exact.INV_SQRT2]
    assert hex_cells(values["LOG2E"]) == [exact.LOG2E]
    assert hex_cells(values["LN2_HI, LN2_LO"]) == [exact.LN2_HI, exact.LN2_LO]
    assert values["EXP_LOW, EXP_HIGH"] == f"{exact.EXP_LOW:.0f}, {exact.EXP_HIGH:.0f} (f64)"
    assert hex_cells(values["TWN"]) == [TWN_THRESHOLD]
    assert re.search(r"^# .* version (\d+)$", SPEC, re.MULTILINE).group(1) == str(rules.SPEC_VERSION)


def test_example_of_both_codings():
    codes = np.array([[1, 0, -1], [-1, 1, 0]], np.int8)
    planes, base3 = (re.search(rf"{word}, \d+ bytes:((?: +[0-9a-f]{{2}}\b)+)", SPEC) for word in ("planes", "base3"))
    assert bytes.fromhex(planes.group(1)) == pack_planes(codes).astype("<u8").tobytes()
    assert bytes.fromhex(base3.group(1)) == encode_base3(codes).tobytes()


def test_score_scales():
    scales = [np.float32(1 / np.sqrt(d)) for d in (8, 32, 64)]
    assert hex_cells(SPEC[SPEC.index("R = f32(f64(1") :].split("\n- ")[0]) == scales


def test_seeded_words():
    check = SPEC[SPEC.index("Check, seed 0") :].split("\n\n")[0]
    words = [int(word, 16) for word in re.findall(r"`([0-9a-f]{16})`", check)]
    assert words == np.random.PCG64(0).random_raw(len(words)).tolist()
    assert hex_cells(check) == (bell(np.random.PCG64(0), 3) * np.float32(INIT_STD)).tolist()
    deviation, std = map(float.fromhex, re.findall(r"0x1\.\w+p[+-]\d+", re.search("element = f32.*", SPEC).group()))
    assert (deviation, std) == (2 * np.sqrt(4 * (65536.0**2 - 1) / 12), np.float32(INIT_STD))
