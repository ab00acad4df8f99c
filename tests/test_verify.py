"""verify and the kit's own checkers: what is right, wrong or missing; which mistake it is; no damaged kit passes."""

import json
import os
import shutil

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refvit import safetensors
from refvit.backend import using_backend
from refvit.conformance import kitfile
from refvit.conformance.answers import answer
from refvit.conformance.build import build
from refvit.conformance.casesteps import STEPS, steps_of
from refvit.conformance.difference import difference
from refvit.conformance.findings import as_json
from refvit.conformance.hypotheses import TABLE
from refvit.conformance.kit import DTYPES, EXPECTATIONS, Case, Tensor, Writer
from refvit.conformance.kitfile import read_kit
from refvit.conformance.run import run as run_kit
from refvit.conformance.verify import verify
from tests.checkers import CHECK_PY, COMPILERS, KIT_FILES, agreed, by_c, by_python, by_verify, compiled
from tests.mutants import MUTANTS
from tests.test_cli import check_keys, keys_in_readme

f32 = np.float32
FLAGS = {"half_away": "ties are rounded away from zero", "reciprocal": "x is multiplied by 1 / s"}


def small_cases():
    """One of each expectation and dtype."""
    up = np.nextafter
    x = np.array([[1, -0.0, np.inf, 2.0**-149, 0, -3.5]], f32)
    middle = np.array([1, 0, -2.0**-149, 7], f32)
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
        yield Case(case_id, case_id.split("/")[0], rules, flags, comment, expectation, {"n": 3}, tuple(inputs), tuple(outputs))


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


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The kit of level 1, and this refvit's outputs."""
    folder = tmp_path_factory.mktemp("whole")
    build(folder / "kit")
    run_kit(list(read_kit(folder / "kit")), folder / "outputs")
    return folder


def found_in(kit, outputs, *only):
    code, out, err = by_verify(kit, outputs, "--json", *only)
    assert code in (0, 1), err
    return json.loads(out)


@pytest.mark.parametrize("compiler", COMPILERS)
def test_the_checker_in_c_compiles_without_warnings(compiler, tmp_path):
    process = compiled(compiler, tmp_path / "check")
    assert process.returncode == 0, process.stderr
    assert len((KIT_FILES / "check.c").read_text().splitlines()) <= 300


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
        assert text.startswith(f"first wrong: {case_id}, output {name}, index {first['index']}: expected {first['expected']}")
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
    assert code == 1 and "first missing: seeded/words, output elements" in text and "5 right, 0 wrong, 1 missing" in text
    shutil.rmtree(outputs / "exp")
    (outputs / "predict/index/index.bin").write_bytes(bytes(8))
    (outputs / "predict/index/indices.bin").write_bytes(bytes(8))
    code, text = agreed(kit, outputs)
    assert code == 1 and text.startswith("first missing: exp/plain, output y\nfirst wrong: predict/index, output index, index [0]")
    result = found_in(kit, outputs)
    assert result["counts"] == {"cases": 6, "right": 3, "wrong": 1, "missing": 2, "left_out": 0, "extra": 1, "not_checked": 3}
    assert result["extra"] == ["predict/index/indices"] and result["first"]["missing_before"] == 2
    text = by_verify(kit, outputs)[1]
    assert "missing: 2: exp/plain, seeded/words" in text and "only in OUTPUTS, not checked: 1: predict/index/indices" in text


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


def test_outputs_in_one_file(kit, tmp_path):
    tensors = {f"{case.id}/{t.name}": t.value for case in small_cases() for t in case.outputs}
    safetensors.write(tmp_path / "o.st", tensors)
    np.savez(tmp_path / "o.npz", **{name: t.astype(np.int64) if t.dtype == np.int8 else t for name, t in tensors.items()})
    for name, value in tensors.items():
        (tmp_path / "npy" / name).parent.mkdir(parents=True, exist_ok=True)
        np.save(tmp_path / "npy" / f"{name}.npy", value)
    for name, converted in (("o.st", []), ("o.npz", ["norm_codes/tie/q"]), ("npy", [])):
        result = found_in(kit, tmp_path / name)
        assert result["passed"] and [row["name"] for row in result["converted"]] == converted
    np.savez(tmp_path / "bad.npz", **{**tensors, "norm_codes/tie/q": np.array([[1, -3, 127, -129]]), "predict/index/index": np.zeros(3)})
    cases = {row["id"]: row for row in found_in(kit, tmp_path / "bad.npz")["cases"]}
    assert cases["norm_codes/tie"]["worst"] == 1 and cases["predict/index"]["state"] == "wrong"
    assert cases["predict/index"]["share"] is None


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
    """Puts a value at a place of the manifest; without a value, takes it out."""

    def change(found):
        for key in keys[:-1]:
            found = found[key]
        found[keys[-1]] = value

    return change


def without(*keys):
    def change(found):
        for key in keys[:-1]:
            found = found[key]
        del found[keys[-1]]

    return change


OUTPUT = ("cases", 2, "outputs", 0)
DAMAGES = {
    "empty": b"", "not json": b"kit", "cut off": lambda m: json.dumps(m)[:-9], "more": lambda m: json.dumps(m) + "{}",
    "a list": b"[]", "zero byte": lambda m: json.dumps(m) + "\0", "not ascii": lambda m: json.dumps(m).replace("case", "c\u00e4se"),
    "comma": lambda m: json.dumps(m).replace("]", ",]", 1), "nested": lambda m: '{"a": ' + "[" * 100_000 + "]" * 100_000 + "}",
    "twice": lambda m: '{"format": "refvit-kit", ' + json.dumps(m)[1:], "float": lambda m: json.dumps(m).replace(": 1,", ": 1.0,", 1),
    "colon": lambda m: json.dumps(m).replace(":", " ", 1), "constant": at("cases", 0, "parameters", "n", value=float("nan")),
    "control": lambda m: json.dumps(m).replace("case", "ca\nse"),
    "format": at("format", value="refvit-trace"), "kit version": at("kit_version", value=2), "spec version": at("spec_version", value=12),
    "version text": at("kit_version", value="1"), "no version": without("spec_version"), "no cases": at("cases", value=[]),
    "cases": at("cases", value={}), "a case": at("cases", 1, value=7), "no id": without("cases", 0, "id"),
    "expectation": at("cases", 0, "expectation", value="about"), "no outputs": at("cases", 0, "outputs", value=[]),
    "inputs": at("cases", 0, "inputs", value=None), "a tensor": at("cases", 0, "inputs", value=["x"]),
    "dtype": at(*OUTPUT, "dtype", value="float64"), "dtype list": at(*OUTPUT, "dtype", value=["int8"]),
    "other dtype": at(*OUTPUT, "dtype", value="int8"), "bounded words": at(*OUTPUT, "dtype", value="uint64"),
    "shape": at(*OUTPUT, "shape", value=[5]), "no axes": at(*OUTPUT, "shape", value=[]), "negative": at(*OUTPUT, "shape", value=[-4]),
    "text size": at(*OUTPUT, "shape", value=["4"]), "large": at(*OUTPUT, "shape", value=[2**29, 2]), "larger": at(*OUTPUT, "shape", value=[2**40, 2**40]),
    "huge": at(*OUTPUT, "shape", value=[10**30]), "empty and huge": at(*OUTPUT, "shape", value=[0, 2**60, 2**60]),
    "axes": at(*OUTPUT, "shape", value=[1] * 8 + [4]), "sha": at(*OUTPUT, "sha256", value="0" * 64), "no sha": without(*OUTPUT, "sha256"),
    "input sha": at("cases", 0, "inputs", 0, "sha256", value="f" * 64), "no low": without(*OUTPUT, "low"),
    "low": at(*OUTPUT, "low", value=[]), "high sha": at(*OUTPUT, "high", "sha256", value=""),
    "name": at(*OUTPUT, "name", value="a/b"), "no name": at(*OUTPUT, "name", value=""), "upper case": at("cases", 0, "id", value="exp/Plain"),
    **{f"path {path!r:.20}": at(*OUTPUT, "file", value=path) for path in (
        "../kit/tensors/x", "/etc/passwd", "tensors/../../x", "tensors//x", "", ".", "..", "tensors/", "a\\b", "c:x", "%2e", "x" * 201, "~", "a\0b"
    )},
    **{f"id {name}": at("cases", 0, "id", value=name) for name in ("../exp", "exp/../../x", "/exp", "exp//a", "exp/.a", "exp/" + "a" * 200)},
    "missing file": at(*OUTPUT, "file", value="tensors/none.bin"), "a folder": at(*OUTPUT, "file", value="tensors"),
}  # fmt: skip
CLOSER = {  # what check.c leaves to check.py
    "same id": lambda m: m["cases"].append(m["cases"][0]), "same output": lambda m: m["cases"][0]["outputs"].append(m["cases"][0]["outputs"][0]),
    "unknown rule": at("cases", 0, "rules", value=["N99"]), "unknown flag": at("cases", 0, "flags", value=["x"]),
    "no rules": without("rules"), "no parameters": without("cases", 0, "parameters"), "operation": at("cases", 0, "operation", value="erf"),
    "parameter": at("cases", 0, "parameters", "n", value=[[1]]), "escape": lambda m: json.dumps(m).replace("case", "ca\\qse"),
}  # fmt: skip


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
    for i, value in enumerate((Tensor("y", np.array([np.nan], f32)), Tensor("y", *(np.array([v], f32) for v in (1, 2, 3))))):
        expectation = "exact" if value.low is None else "bound"
        kit = write_kit(tmp_path / f"kit{i}", [Case("exp/a", "exp", ("N9",), (), "c", expectation, {}, (), (value,))])
        assert agreed(kit, outputs)[0] == 3
    assert by_verify(tmp_path / "none", outputs)[0] == by_python(tmp_path / "none", outputs)[0] == by_c(tmp_path / "none", outputs)[0] == 3


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_no_manifest_crashes_a_checker(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("fuzz")
    kit, outputs = write_kit(folder / "kit", small_cases()), write_outputs(folder / "outputs", small_cases())
    text = bytearray((kit / "manifest.json").read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(text) - 1))
        piece = data.draw(st.sampled_from([b"", b'"', b"[", b"]", b"{", b"}", b"\\", b"9", b",", b"\0", b"\xff", b"-", b"null"]))
        text[place : place + data.draw(st.integers(0, 2))] = piece
    (kit / "manifest.json").write_bytes(text)
    codes = by_c(kit, outputs)[0], by_python(kit, outputs)[0], by_verify(kit, outputs)[0]
    assert set(codes) <= {0, 1, 3}, codes
    shutil.rmtree(folder)


def test_the_whole_kit_passes(whole):
    code, text = agreed(whole / "kit", whole / "outputs")
    assert code == 0 and ", 0 wrong, 0 missing" in text
    result = found_in(whole / "kit", whole / "outputs")
    assert {case["state"] for case in result["cases"]} == {"right"}
    assert {rule["id"] for rule in result["rules"]} >= {f"N{i}" for i in range(1, 15)}


def judged_steps(whole):
    """case, right output, Step: of all outputs of the kit that have known mistakes."""
    for case in read_kit(whole / "kit"):
        if case.expectation != "reject" and case.operation in STEPS:
            steps = steps_of(case)
            yield from ((case, tensor, steps[tensor.name]) for tensor in case.outputs if tensor.name in steps)


def test_every_known_operation_is_judged_by_its_own_inputs(whole):
    operations = set()
    for case, right, step in judged_steps(whole):
        with np.errstate(all="ignore"):
            assert difference(right.value, step.value(), right.low, right.high) is None, (case.id, right.name)
        operations.add(case.operation)
    assert operations == set(STEPS)


def first_wrong_by(mistake, steps):
    """The first case that a mistake changes, the output, and what it becomes; None where there is none."""
    for case, right, step in steps:
        if step.kind in mistake.kinds:
            with np.errstate(all="ignore"):
                wrong = step.value(mistake.kinds[step.kind])
            if difference(right.value, wrong, right.low, right.high) is not None:
                return case, right.name, wrong
    return None


def test_each_known_mistake_is_named(whole, tmp_path):
    """A case with a mistake's output is wrong there, and the mistake among its causes; but for two that need a model."""
    kit, steps, unseen = read_kit(whole / "kit"), list(judged_steps(whole)), set()
    for mistake in TABLE:
        found = first_wrong_by(mistake, steps)
        if found is None:
            unseen.add(mistake.name)
            continue
        case, name, wrong = found
        tensors = {f"{case.id}/{t.name}": t.value for t in case.outputs} | {f"{case.id}/{name}": wrong}
        safetensors.write(tmp_path / "o.st", tensors, force=True)
        first = as_json(verify(kit, str(tmp_path / "o.st"), [case.id]), "kit", "outputs")["first"]
        causes = [cause["name"] for cause in first["causes"] if cause["reproduces"] == 1]
        assert mistake.name in causes and (first["id"], first["output"]) == (case.id, name), (mistake.name, case.id)
    assert unseen == {"branches_first", "first_branch_missing"}


@pytest.mark.parametrize("name", ["alpha_first", "running_sum", "merge_rows", "mask_infinite", "one_accumulator"])
def test_a_bug_in_a_model_is_found_at_its_operation(whole, tmp_path, monkeypatch, name):
    mutant, kit = MUTANTS[name], read_kit(whole / "kit")
    only = ["model/deit", "model/swin"]
    cases = [case for case in kit if case.id in only]
    with monkeypatch.context() as patched, using_backend("numpy"):
        mutant.plant(patched.setattr)
        tensors = {f"{case.id}/{name}": value for case in cases for name, value in answer(case).items()}
    safetensors.write(tmp_path / "o.st", tensors)
    code, out, err = by_verify(whole / "kit", tmp_path / "o.st", "-o", tmp_path / "page.html", "--json", *sum((["--only", o] for o in only), []))
    result = json.loads(out)
    check_keys(result, keys_in_readme("verify"), "verify")
    first, page = result["first"], (tmp_path / "page.html").read_text()
    assert code == 1 and first["id"] == {"vit": "model/deit"}.get(mutant.family, "model/swin") and first["output"] == mutant.first
    exact = [cause["name"] for cause in first["causes"] if cause["reproduces"] == 1]
    assert mutant.cause in exact if mutant.cause else not exact
    assert f"Drift of {first['id']}" in page and "http" not in page
    by_name = {row["name"]: row for row in result["operations"]}
    assert by_name["model"]["wrong"] >= 1 and by_name["exp"]["left_out"] == by_name["exp"]["cases"]


def test_flags_of_cases_that_are_right_are_no_candidates(kit, outputs):
    """Both wrong cases have one flag; the other flag's cases include the right one."""
    (outputs / "norm_codes/tie/q.bin").write_bytes(bytes(4))
    flags = {flag["name"]: flag for flag in found_in(kit, outputs)["first"]["flags"]}
    assert flags["half_away"]["right"] == 0 and flags["reciprocal"]["right"] == 1
    text = by_verify(kit, outputs)[1]
    assert "perhaps half_away: ties are rounded away from zero" in text and "perhaps reciprocal" not in text


def test_the_page_is_written_once(kit, outputs, tmp_path):
    page = tmp_path / "page.html"
    assert by_verify(kit, outputs, "-o", page)[0] == 0 and "Everything that was checked is right" in page.read_text()
    code, _, err = by_verify(kit, outputs, "-o", page)
    assert code == 2 and "--force" in err
    assert by_verify(kit, outputs, "-o", page, "--force")[0] == 0


def test_outputs_that_cannot_be_read(kit, tmp_path):
    assert by_verify(kit, tmp_path / "none")[0] == 3
    (tmp_path / "x.npz").write_bytes(b"PK nothing")
    assert by_verify(kit, tmp_path / "x.npz")[0] == 3


def test_the_schema_asks_for_what_the_readers_ask_for(kit, outputs):
    """Every key that the schema requires is missed by verify; a kit has only keys that the schema knows."""
    schema = json.loads((KIT_FILES / "manifest.schema.json").read_text())
    manifest = json.loads((kit / "manifest.json").read_text())
    parts = {"": manifest, "case": manifest["cases"][2], "tensor": manifest["cases"][2]["outputs"][0], "file": manifest["cases"][2]["outputs"][0]["low"]}
    places = {"": (), "case": ("cases", 2), "tensor": ("cases", 2, "outputs", 0), "file": ("cases", 2, "outputs", 0, "low")}
    for part, value in parts.items():
        rules = schema["$defs"][part] if part else schema
        assert set(rules["required"]) <= set(value) <= set(rules["properties"])
        for key in rules["required"]:
            edited(kit, without(*places[part], key))
            assert by_verify(kit, outputs)[0] == 3, (part, key)
            edited(kit, json.dumps(manifest).encode())
    case, tensor = schema["$defs"]["case"]["properties"], schema["$defs"]["tensor"]["properties"]
    assert case["expectation"]["enum"] == list(EXPECTATIONS) and tensor["dtype"]["enum"] == list(DTYPES)
    assert schema["$defs"]["path"]["pattern"] == f"^{kitfile.PATH.pattern}$" == f"^{CHECK_PY['PATH'].pattern}$"
