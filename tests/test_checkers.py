"""The kit's own checkers and verify agree: on what is right, wrong or missing, and that no damaged kit passes."""

import ast
import functools
import json
import operator
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refvit.vectors import kitfile
from refvit.vectors.kit import DTYPES, EXPECTATIONS, Case, Tensor
from tests.checkers import (  # noqa: F401 (fixtures)
    CHECK_PY,
    COMPILERS,
    KIT_FILES,
    agreed,
    by_c,
    by_python,
    by_verify,
    compiled,
    found_in,
    kit,
    outputs,
    small_cases,
    write_kit,
    write_outputs,
)
from tests.test_cli import keys_in_readme

f32 = np.float32
CROSS = shutil.which("s390x-linux-gnu-gcc"), shutil.which("qemu-s390x")
BIG_ENDIAN = CROSS if all(CROSS) else None
PIECES = (b"", b'"', b"[", b"]", b"{", b"}", b"\\", b"9", b",", b"\0", b"\xff", b"-", b"null")  # put into a manifest


@pytest.mark.parametrize("compiler", COMPILERS)
def test_the_checker_in_c_compiles_without_warnings(compiler, tmp_path):
    process = compiled(compiler, tmp_path / "check")
    assert process.returncode == 0, process.stderr
    assert len((KIT_FILES / "check.c").read_text().splitlines()) <= 300


@pytest.mark.skipif(BIG_ENDIAN is None, reason="needs s390x-linux-gnu-gcc and qemu-s390x")
def test_the_checker_in_c_works_on_a_big_endian_machine(kit, outputs, tmp_path):
    compiler, machine = BIG_ENDIAN
    assert compiled(compiler, tmp_path / "check", "-static").returncode == 0
    for case in ["", *(case.id for case in small_cases())]:
        if case:
            (path,) = [p for p in (outputs / case).iterdir() if p.stat().st_size][:1]
            path.write_bytes(bytes([255, *path.read_bytes()[1:]]))
        process = subprocess.run([machine, tmp_path / "check", kit, outputs], capture_output=True, text=True)
        assert (process.returncode, process.stdout) == by_python(kit, outputs)[:2]


def test_the_checker_in_python_needs_nothing():
    tree = ast.parse((KIT_FILES / "check.py").read_text(), feature_version=(3, 8))
    imports = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imports |= {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert imports <= sys.stdlib_module_names


def test_right_outputs_pass(kit, outputs):
    assert agreed(kit, outputs) == (0, "cases: 6 right, 0 wrong, 0 missing\n")
    result = found_in(kit, outputs)
    assert set(result) == set(keys_in_readme("verify"))
    assert result["passed"] and result["first"] is None and result["counts"]["right"] == 6


# case, output, index of a value, what it becomes, whether that is right
VALUES = [
    ("exp/plain", "y", 0, np.nextafter(f32(1), f32(2)), False),
    ("exp/plain", "y", 1, f32(0), False),
    ("exp/plain", "y", 3, f32(0), False),
    ("exp/plain", "y", 4, f32(-0.0), False),
    ("exp/plain", "y", 2, f32(np.nan), False),
    ("seeded/words", "words", 0, np.uint64(2**64 - 2), False),
    ("seeded/words", "words", 3, np.uint64(2**53), False),
    ("gelu_backward/a.b-c", "dx", 0, np.nextafter(f32(1), f32(2)), True),
    ("gelu_backward/a.b-c", "dx", 0, f32(1 + 2.0**-22), False),
    ("gelu_backward/a.b-c", "dx", 1, f32(-0.0), True),
    ("gelu_backward/a.b-c", "dx", 2, f32(-(2.0**-148)), True),
    ("gelu_backward/a.b-c", "dx", 2, f32(-0.0), True),
    ("gelu_backward/a.b-c", "dx", 2, f32(2.0**-149), False),
    ("gelu_backward/a.b-c", "dx", 3, f32(np.nan), False),
    ("gelu_backward/a.b-c", "dx", 3, -f32(np.nan), False),
    ("gelu_backward/a.b-c", "dx", 3, f32(np.inf), False),
    ("norm_codes/tie", "q", 1, np.int8(-4), True),
    ("norm_codes/tie", "q", 1, np.int8(-5), False),
    ("norm_codes/tie", "q", 1, np.int8(-2), False),
    ("norm_codes/tie", "q", 0, np.int8(0), False),
    ("predict/index", "index", 0, np.int32(0), False),
    ("load/bad/file", "accepted", 0, np.uint8(1), False),
]


@pytest.mark.parametrize("case_id, name, index, value, right", VALUES)
def test_a_changed_value_is_judged_alike(kit, outputs, case_id, name, index, value, right):
    path = outputs / case_id / f"{name}.bin"
    changed = np.frombuffer(path.read_bytes(), value.dtype.newbyteorder("<")).copy()
    changed[index] = value
    path.write_bytes(changed.tobytes())
    code, text = agreed(kit, outputs)
    assert code == (0 if right else 1)
    result = found_in(kit, outputs)
    if not right:
        first = result["first"]
        assert (first["id"], first["output"]) == (case_id, name) and first["index"][-1] == index
        assert text.startswith(
            f"first wrong: {case_id}, output {name}, index {first['index']}: expected {first['expected']}"
        )
        assert result["counts"]["wrong"] == 1 and first["nans"] == int(value != value)
        assert first["worst"] > 0 or first["nans"] or value == 0


@pytest.mark.parametrize("length", [0, 1, -1, 1000])
def test_a_file_of_another_length_is_wrong(kit, outputs, length):
    path = outputs / "norm_codes/tie/q.bin"
    data = path.read_bytes()
    path.write_bytes(data[:length] if length < 2 else data + bytes(length))
    code, text = agreed(kit, outputs)
    assert code == 1 and text.startswith("first wrong: norm_codes/tie, output q: a file of another length")
    first = found_in(kit, outputs)["first"]
    assert first["id"] == "norm_codes/tie" and "bytes" in first["what"] and first["index"] is None


def test_what_is_missing_is_not_passed_over(kit, outputs):
    (outputs / "seeded/words/elements.bin").unlink()
    code, text = agreed(kit, outputs)
    assert (
        code == 1 and "first missing: seeded/words, output elements" in text and "5 right, 0 wrong, 1 missing" in text
    )
    shutil.rmtree(outputs / "exp")
    (outputs / "predict/index/index.bin").write_bytes(bytes(8))
    (outputs / "predict/index/indices.bin").write_bytes(bytes(8))
    code, text = agreed(kit, outputs)
    assert code == 1 and text.startswith(
        "first missing: exp/plain, output y\nfirst wrong: predict/index, output index, index [0]"
    )
    result = found_in(kit, outputs)
    assert result["counts"] == {
        "cases": 6,
        "right": 3,
        "wrong": 1,
        "missing": 2,
        "left_out": 0,
        "extra": 1,
        "not_checked": 3,
    }
    assert result["extra"] == ["predict/index/indices"] and result["first"]["missing_before"] == 2
    text = by_verify(kit, outputs)[1]
    assert (
        "missing: 2: exp/plain, seeded/words" in text
        and "only in OUTPUTS, not checked: 1: predict/index/indices" in text
    )


def test_refusing_and_answering_at_the_wrong_place_are_named(kit, outputs):
    shutil.move(outputs / "exp/plain/y.bin", outputs / "exp/plain/accepted.bin")
    shutil.move(outputs / "load/bad/file/accepted.bin", outputs / "load/bad/file/weight.bin")
    assert agreed(kit, outputs)[0] == 1
    text = by_verify(kit, outputs)[1]
    assert "\nrefused, but to be answered: 1: exp/plain\n" in text
    assert "\nanswered, but to be refused: 1: load/bad/file\n" in text


def test_nothing_there_is_all_missing(kit, tmp_path):
    (tmp_path / "none").mkdir()
    assert agreed(kit, tmp_path / "none")[0] == 1


def test_only_counts_what_it_leaves_out(kit, outputs):
    (outputs / "exp/plain/y.bin").unlink()
    (kit / "tensors" / os.listdir(kit / "tensors")[0]).touch()
    assert agreed(kit, outputs, "norm", "load/bad") == (
        0, "cases: 2 right, 0 wrong, 0 missing; NOT CHECKED: 4 left out by --only\n"
    )  # fmt: skip
    assert agreed(kit, outputs, "exp")[0] == 1
    result = found_in(kit, outputs, "--only", "norm*")
    assert result["counts"]["left_out"] == 5 and result["counts"]["not_checked"] == 5 and not result["extra"]
    text = by_verify(kit, outputs, "--only", "norm*")[1]
    assert "NOT CHECKED: 5 cases, left out by --only" in text and text.endswith("PASSED AS FAR AS IT WAS CHECKED\n")
    assert agreed(kit, outputs, "softmax")[0] == 2


@pytest.mark.parametrize("arguments", [(), ("kit",), ("kit", "outputs", "--only"), ("kit", "outputs", "-v", "x")])
def test_wrong_arguments_of_the_checkers(arguments):
    assert by_c(*arguments)[0] == by_python(*arguments)[0] == 2


def edited(kit, change):
    """The manifest after ``change``, a function of its object or of its text."""
    path = kit / "manifest.json"
    if isinstance(change, bytes):
        path.write_bytes(change)
        return
    found = json.loads(path.read_text())
    result = change(found)
    path.write_text(result if isinstance(result, str) else json.dumps(found))


def at(*keys, value):
    """Puts a value at a place of the manifest."""

    def change(found):
        inside(found, keys[:-1])[keys[-1]] = value

    return change


def without(*keys):
    def change(found):
        del inside(found, keys[:-1])[keys[-1]]

    return change


def inside(found, keys):
    """What is at a place of the manifest."""
    return functools.reduce(operator.getitem, keys, found)


OUTPUT = ("cases", 2, "outputs", 0)
DAMAGES = {
    "empty": b"",
    "not json": b"kit",
    "cut off": lambda m: json.dumps(m)[:-9],
    "more": lambda m: json.dumps(m) + "{}",
    "a list": b"[]",
    "zero byte": lambda m: json.dumps(m) + "\0",
    "not ascii": lambda m: json.dumps(m).replace("case", "c\u00e4se"),
    "comma": lambda m: json.dumps(m).replace("]", ",]", 1),
    "nested": lambda m: '{"a": ' + "[" * 100_000 + "]" * 100_000 + "}",
    "twice": lambda m: '{"format": "refvit-kit", ' + json.dumps(m)[1:],
    "float": lambda m: json.dumps(m).replace(": 1,", ": 1.0,", 1),
    "colon": lambda m: json.dumps(m).replace(":", " ", 1),
    "constant": at("cases", 0, "parameters", "n", value=float("nan")),
    "control": lambda m: json.dumps(m).replace("case", "ca\nse"),
    "format": at("format", value="refvit-trace"),
    "kit version": at("kit_version", value=2),
    "spec version": at("spec_version", value=12),
    "version text": at("kit_version", value="1"),
    "no version": without("spec_version"),
    "no cases": at("cases", value=[]),
    "cases": at("cases", value={}),
    "a case": at("cases", 1, value=7),
    "no id": without("cases", 0, "id"),
    "expectation": at("cases", 0, "expectation", value="about"),
    "no outputs": at("cases", 0, "outputs", value=[]),
    "inputs": at("cases", 0, "inputs", value=None),
    "a tensor": at("cases", 0, "inputs", value=["x"]),
    "dtype": at(*OUTPUT, "dtype", value="float64"),
    "dtype list": at(*OUTPUT, "dtype", value=["int8"]),
    "other dtype": at(*OUTPUT, "dtype", value="int8"),
    "bounded words": at(*OUTPUT, "dtype", value="uint64"),
    "shape": at(*OUTPUT, "shape", value=[5]),
    "no axes": at(*OUTPUT, "shape", value=[]),
    "negative": at(*OUTPUT, "shape", value=[-4]),
    "text size": at(*OUTPUT, "shape", value=["4"]),
    "large": at(*OUTPUT, "shape", value=[2**29, 2]),
    "larger": at(*OUTPUT, "shape", value=[2**40, 2**40]),
    "huge": at(*OUTPUT, "shape", value=[10**30]),
    "empty and huge": at(*OUTPUT, "shape", value=[0, 2**60, 2**60]),
    "axes": at(*OUTPUT, "shape", value=[1] * 8 + [4]),
    "sha": at(*OUTPUT, "sha256", value="0" * 64),
    "no sha": without(*OUTPUT, "sha256"),
    "input sha": at("cases", 0, "inputs", 0, "sha256", value="f" * 64),
    "no low": without(*OUTPUT, "low"),
    "low": at(*OUTPUT, "low", value=[]),
    "high sha": at(*OUTPUT, "high", "sha256", value=""),
    "name": at(*OUTPUT, "name", value="a/b"),
    "no name": at(*OUTPUT, "name", value=""),
    "upper case": at("cases", 0, "id", value="exp/Plain"),
    **{
        f"path {path!r:.20}": at(*OUTPUT, "file", value=path)
        for path in (
            "../kit/tensors/x",
            "/etc/passwd",
            "tensors/../../x",
            "tensors//x",
            "",
            ".",
            "..",
            "tensors/",
            "a\\b",
            "c:x",
            "%2e",
            "x" * 201,
            "~",
            "a\0b",
        )
    },
    **{
        f"id {name}": at("cases", 0, "id", value=name)
        for name in ("../exp", "exp/../../x", "/exp", "exp//a", "exp/.a", "exp/" + "a" * 200)
    },
    "missing file": at(*OUTPUT, "file", value="tensors/none.bin"),
    "a folder": at(*OUTPUT, "file", value="tensors"),
}
CLOSER = {  # what check.c leaves to check.py
    "same id": lambda m: m["cases"].append(m["cases"][0]),
    "same output": lambda m: m["cases"][0]["outputs"].append(m["cases"][0]["outputs"][0]),
    "unknown rule": at("cases", 0, "rules", value=["N99"]),
    "unknown flag": at("cases", 0, "flags", value=["x"]),
    "no rules": without("rules"),
    "no parameters": without("cases", 0, "parameters"),
    "operation": at("cases", 0, "operation", value="erf"),
    "parameter": at("cases", 0, "parameters", "n", value=[[1]]),
    "escape": lambda m: json.dumps(m).replace("case", "ca\\qse"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_kit_is_refused(kit, outputs, damage):
    edited(kit, DAMAGES[damage])
    code, _ = agreed(kit, outputs)
    assert code == 3


@pytest.mark.parametrize("damage", CLOSER)
def test_check_py_and_verify_look_closer(kit, outputs, damage):
    edited(kit, CLOSER[damage])
    assert by_verify(kit, outputs)[0] == by_python(kit, outputs)[0] == 3
    assert by_c(kit, outputs)[0] in (0, 1, 3)


def test_values_in_the_manifest_are_those_of_the_file(kit, outputs):
    edited(kit, at("cases", 0, "outputs", 0, "values", 1, value="0x0p+0"))
    code, _, err = by_verify(kit, outputs)
    assert code == 3 and "values" in err


@pytest.mark.parametrize("change", [lambda d: d[:-1], lambda d: d + b"\0", lambda d: bytes([d[0] ^ 1]) + d[1:]])
def test_a_damaged_tensor_is_refused(kit, outputs, change):
    for path in (kit / "tensors").iterdir():
        data = path.read_bytes()
        if data:
            path.write_bytes(change(data))
            assert agreed(kit, outputs)[0] == 3, path
            path.write_bytes(data)
            assert agreed(kit, outputs)[0] == 0


def test_the_kits_own_values_are_right(tmp_path, outputs):
    """NaN, or out of bounds: no port could be right."""
    nan, outside = Tensor("y", np.array([np.nan], f32)), Tensor("y", *(np.array([v], f32) for v in (1, 2, 3)))
    for i, value in enumerate((nan, outside)):
        expectation = "exact" if value.low is None else "bound"
        kit = write_kit(tmp_path / f"kit{i}", [Case("exp/a", "exp", ("N9",), (), "c", expectation, {}, (), (value,))])
        assert agreed(kit, outputs)[0] == 3
    for checked in (by_verify, by_python, by_c):
        assert checked(tmp_path / "none", outputs)[0] == 3


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_no_manifest_crashes_a_checker(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("fuzz")
    kit, outputs = write_kit(folder / "kit", small_cases()), write_outputs(folder / "outputs", small_cases())
    text = bytearray((kit / "manifest.json").read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(text) - 1))
        piece = data.draw(st.sampled_from(PIECES))
        text[place : place + data.draw(st.integers(0, 2))] = piece
    (kit / "manifest.json").write_bytes(text)
    codes = by_c(kit, outputs)[0], by_python(kit, outputs)[0], by_verify(kit, outputs)[0]
    assert set(codes) <= {0, 1, 3}, codes
    shutil.rmtree(folder)


def test_the_schema_asks_for_what_the_readers_ask_for(kit, outputs):
    """Every key that the schema requires is missed by verify; a kit has only keys that the schema knows."""
    schema = json.loads((KIT_FILES / "manifest.schema.json").read_text())
    manifest = json.loads((kit / "manifest.json").read_text())
    places = {
        "": (),
        "case": ("cases", 2),
        "tensor": ("cases", 2, "outputs", 0),
        "file": ("cases", 2, "outputs", 0, "low"),
    }
    for part, place in places.items():
        rules = schema["$defs"][part] if part else schema
        assert set(rules["required"]) <= set(inside(manifest, place)) <= set(rules["properties"])
        for key in rules["required"]:
            edited(kit, without(*place, key))
            assert by_verify(kit, outputs)[0] == 3, (part, key)
            edited(kit, json.dumps(manifest).encode())
    case, tensor = schema["$defs"]["case"]["properties"], schema["$defs"]["tensor"]["properties"]
    assert case["expectation"]["enum"] == list(EXPECTATIONS) and tensor["dtype"]["enum"] == list(DTYPES)
    assert schema["$defs"]["path"]["pattern"] == f"^{kitfile.PATH.pattern}$" == f"^{CHECK_PY['PATH'].pattern}$"
