"""A port in C that was written from SPEC.md and KIT.md alone: all right by the kit, its seeded mistakes named."""

import shutil
import subprocess
from pathlib import Path

import pytest

from refvit.vectors.findings import as_text
from tests.checkers import COMPILERS, found_in

SOURCE = Path(__file__).parent / "port" / "cases.c"
FLAGS = "-std=c99 -O2 -ffp-contract=off -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Werror".split()
LEFT_OUT = {  # of training, and those that make, check or unpack files
    "ternarize", "weight_int8", "planes_encode", "planes_decode", "base3_encode", "base3_decode", "static_scale",
    "seeded", "load", "act_mask", "weight_mask", "layernorm_backward", "softmax_backward", "gelu_backward",
    "linear_backward", "norm_codes", "gelu_codes", "softmax_codes",
}  # fmt: skip

pytestmark = pytest.mark.skipif(not COMPILERS, reason="needs gcc or clang")


def judged(kit, folder, *switches, compiler=None):
    """The port, compiled with -D switches, answers the kit -> what verify says of it."""
    command = [compiler or COMPILERS[0], *FLAGS, *switches, "-o", folder / "port", SOURCE, "-lm"]
    subprocess.run(command, check=True)
    subprocess.run([folder / "port", kit, folder / "outputs"], check=True)
    return found_in(kit, folder / "outputs")


@pytest.mark.parametrize("compiler", ["gcc", "clang"])
def test_every_operation_that_the_port_has_is_right(built_kit, tmp_path, compiler):
    if shutil.which(compiler) is None:
        pytest.skip(f"needs {compiler}")
    result = judged(built_kit, tmp_path, compiler=compiler)
    assert result["first"] is None and result["extra"] == []
    assert {row["name"] for row in result["operations"] if row["missing"]} == LEFT_OUT
    assert {row["name"] for row in result["operations"] if row["right"]}.isdisjoint(LEFT_OUT)


@pytest.mark.parametrize(
    "switch, operation, others, cause",
    [
        ("-DBUG_RECIPROCAL", "codes", {"model"}, "reciprocal"),
        ("-DBUG_ROUND", "zero_point", {"codes", "prob_codes"}, "half_away"),
    ],
)
def test_a_mistake_is_named_where_it_is_made(built_kit, tmp_path, switch, operation, others, cause):
    result = judged(built_kit, tmp_path, switch)
    assert result["first"]["operation"] == operation and result["first"]["causes"][0]["name"] == cause
    wrong = {row["name"]: row["cause"] for row in result["operations"] if row["wrong"]}
    assert wrong == dict.fromkeys({operation} | others, cause)
    rules = [line for line in as_text(result) if "in whole models alone" in line]
    assert any("N8" in line for line in rules) == ("model" in others)
    assert not any("N4" in line for line in rules)
