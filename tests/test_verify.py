"""verify: which case is wrong first and which mistake it is, outputs in files of every kind, the page."""

import json
from dataclasses import replace

import numpy as np
import pytest

from refvit import safetensors
from refvit.backend import using_backend
from refvit.conformance.difference import difference
from refvit.conformance.hypotheses import TABLE
from refvit.vectors.answers import answer
from refvit.vectors.casesteps import STEPS, steps_of
from refvit.vectors.closely import wrong_output
from refvit.vectors.findings import as_json
from refvit.vectors.kitfile import read_kit
from refvit.vectors.own import OWN
from refvit.vectors.run import run
from refvit.vectors.verify import verify
from tests.checkers import (  # noqa: F401 (fixtures)
    agreed,
    by_verify,
    found_in,
    kit,
    outputs,
    small_cases,
    write_kit,
    write_outputs,
)
from tests.mutants import MUTANTS
from tests.test_cli import check_keys, keys_in_readme


@pytest.fixture(scope="module")
def whole_kit(built_kit):
    return read_kit(built_kit)


def test_outputs_in_one_file(kit, tmp_path):
    tensors = {f"{case.id}/{t.name}": t.value for case in small_cases() for t in case.outputs}
    safetensors.write(tmp_path / "o.st", tensors)
    np.savez(
        tmp_path / "o.npz", **{name: t.astype(np.int64) if t.dtype == np.int8 else t for name, t in tensors.items()}
    )
    for name, value in tensors.items():
        (tmp_path / "npy" / name).parent.mkdir(parents=True, exist_ok=True)
        np.save(tmp_path / "npy" / f"{name}.npy", value)
    for name, converted in (("o.st", []), ("o.npz", ["norm_codes/tie/q"]), ("npy", [])):
        result = found_in(kit, tmp_path / name)
        assert result["passed"] and [row["name"] for row in result["converted"]] == converted
    np.savez(
        tmp_path / "bad.npz",
        **{**tensors, "norm_codes/tie/q": np.array([[1, -3, 127, -129]]), "predict/index/index": np.zeros(3)},
    )
    cases = {row["id"]: row for row in found_in(kit, tmp_path / "bad.npz")["cases"]}
    assert cases["norm_codes/tie"]["worst"] == 1 and cases["predict/index"]["state"] == "wrong"
    assert cases["predict/index"]["share"] is None


def test_the_whole_kit_passes(built_kit, whole_kit, tmp_path):
    run(list(whole_kit), tmp_path / "outputs")
    code, text = agreed(built_kit, tmp_path / "outputs")
    assert code == 0 and ", 0 wrong, 0 missing" in text
    result = found_in(built_kit, tmp_path / "outputs")
    assert {case["state"] for case in result["cases"]} == {"right"}
    assert {rule["id"] for rule in result["rules"]} >= {f"N{i}" for i in range(1, 15)}


def judged_steps(whole_kit):
    """case, right output, Step: of all outputs of the kit that have known mistakes."""
    for case in whole_kit:
        if case.expectation != "reject" and case.operation in STEPS:
            steps = steps_of(case)
            yield from ((case, tensor, steps[tensor.name]) for tensor in case.outputs if tensor.name in steps)


def test_every_known_operation_is_judged_by_its_own_inputs(whole_kit):
    operations = set()
    for case, right, step in judged_steps(whole_kit):
        with np.errstate(all="ignore"):
            assert difference(right.value, step.value(), right.low, right.high) is None, (case.id, right.name)
        operations.add(case.operation)
    assert operations == set(STEPS)


def first_wrong_by(function, steps):
    """The first case that a mistake changes, the output, and what it becomes.  function: case, step -> value or None"""
    for case, right, step in steps:
        with np.errstate(all="ignore"):
            wrong = function(case, step)
        if wrong is not None and not same(right, wrong):
            return case, right.name, wrong
    return None


def same(right, wrong):
    return wrong.shape == right.value.shape and difference(right.value, wrong, right.low, right.high) is None


def in_a_step(mistake):
    return lambda case, step: step.value(mistake.kinds[step.kind]) if step.kind in mistake.kinds else None


def check_named(whole_kit, tmp_path, name, found):
    """A case with a mistake's output is wrong there, and the mistake is among its causes."""
    case, output, wrong = found
    tensors = {f"{case.id}/{t.name}": t.value for t in case.outputs} | {f"{case.id}/{output}": wrong}
    safetensors.write(tmp_path / "o.st", tensors, force=True)
    first = as_json(verify(whole_kit, str(tmp_path / "o.st"), [case.id]), "kit", "outputs")["first"]
    causes = [cause["name"] for cause in first["causes"] if cause["reproduces"] == 1]
    assert name in causes and (first["id"], first["output"]) == (case.id, output), (name, case.id)


def test_each_known_mistake_is_named(whole_kit, tmp_path):
    """But for two that need the two branches of a model."""
    steps, unseen = list(judged_steps(whole_kit)), set()
    for mistake in TABLE:
        found = first_wrong_by(in_a_step(mistake), steps)
        if found is None:
            unseen.add(mistake.name)
        else:
            check_named(whole_kit, tmp_path, mistake.name, found)
    assert unseen == {"branches_first", "first_branch_missing"}


@pytest.mark.parametrize("name", OWN)
def test_each_mistake_of_other_operations_is_named(whole_kit, tmp_path, name):
    for operation, mistake in OWN[name][1].items():
        rows = [row for row in whole_kit.rows if row["operation"] == operation and row["expectation"] != "reject"]
        cases = [case for case in map(whole_kit.case, rows) if all(tensor.value.size for tensor in case.outputs)]
        outputs = [(case, tensor) for case in cases for tensor in case.outputs]
        with np.errstate(all="ignore"):
            found = [(case, tensor.name, wrong_output(mistake, case, tensor.name)) for case, tensor in outputs]
        found = [
            f for f, (_, tensor) in zip(found, outputs) if f[2].shape == tensor.value.shape and not same(tensor, f[2])
        ]
        assert found, operation
        check_named(whole_kit, tmp_path, name, found[0])


@pytest.mark.parametrize("name", ["alpha_first", "running_sum", "merge_rows", "mask_infinite", "one_accumulator"])
def test_a_bug_in_a_model_is_found_at_its_operation(built_kit, whole_kit, tmp_path, monkeypatch, name):
    mutant = MUTANTS[name]
    only = ["model/deit", "model/swin"]
    cases = [case for case in whole_kit if case.id in only]
    with monkeypatch.context() as patched, using_backend("numpy"):
        mutant.plant(patched.setattr)
        tensors = {f"{case.id}/{name}": value for case in cases for name, value in answer(case).items()}
    safetensors.write(tmp_path / "o.st", tensors)
    code, out, err = by_verify(
        built_kit,
        tmp_path / "o.st",
        "-o",
        tmp_path / "page.html",
        "--json",
        *sum((["--only", o] for o in only), []),
    )
    result = json.loads(out)
    check_keys(result, keys_in_readme("verify"), "verify")
    first, page = result["first"], (tmp_path / "page.html").read_text()
    assert (
        code == 1
        and first["id"] == {"vit": "model/deit"}.get(mutant.family, "model/swin")
        and first["output"] == mutant.first
    )
    exact = [cause["name"] for cause in first["causes"] if cause["reproduces"] == 1]
    assert mutant.cause in exact if mutant.cause else not exact
    assert ("judge each step of a model by itself" in page) == (not mutant.cause)
    assert f"{first['id']}: drift" in page and "http" not in page
    by_name = {row["name"]: row for row in result["operations"]}
    assert by_name["model"]["wrong"] >= 1 and by_name["exp"]["left_out"] == by_name["exp"]["cases"]


def test_flags_of_cases_that_are_right_are_no_candidates(tmp_path):
    """Two cases of one operation: one has two flags and is wrong, the other has one of them and is right."""
    cases = list(small_cases())
    cases.append(replace(cases[3], id="norm_codes/other", flags=("reciprocal",)))
    kit, outputs = write_kit(tmp_path / "kit", cases), write_outputs(tmp_path / "outputs", cases)
    (outputs / "norm_codes/tie/q.bin").write_bytes(bytes(4))
    flags = {flag["name"]: flag for flag in found_in(kit, outputs)["first"]["flags"]}
    assert flags["half_away"]["right"] == 0 and flags["reciprocal"]["right"] == 1
    text = by_verify(kit, outputs)[1]
    assert "perhaps half_away: ties are rounded away from zero" in text and "perhaps reciprocal" not in text


def test_an_input_that_must_be_refused_needs_no_cause(kit, outputs):
    (outputs / "load/bad/file/accepted.bin").write_bytes(b"\1")
    assert "this input must be refused" in by_verify(kit, outputs)[1]


def test_what_is_missing_is_not_called_right(kit, outputs):
    (outputs / "norm_codes/tie/q.bin").unlink()
    lines = by_verify(kit, outputs)[1].splitlines()
    assert lines[0] == "no case that is there is wrong; first missing: norm_codes/tie, output q"


@pytest.mark.parametrize("only", [[], ["--only", "norm_codes/*"]])
def test_a_wrong_folder_is_told_as_such(kit, tmp_path, only):
    (tmp_path / "empty").mkdir()
    code, text, _ = by_verify(kit, tmp_path / "empty", *only)
    some = "norm_codes/tie/q" if only else "exp/plain/y"
    assert code == 1 and f"OUTPUTS has nothing of the kit; expected ID/NAME.bin, as {some}.bin" in text
    assert "operation " not in text and "rule " not in text


def test_another_dtype_is_seen_by_its_length_and_no_values_are_explained(kit, outputs):
    (outputs / "norm_codes/tie/q.bin").write_bytes(bytes(16))
    text = by_verify(kit, outputs)[1]
    assert "q.bin: length; expected 4 bytes of int8 [1, 4], got 16, 4 for each value" in text
    assert "flags" not in text and "each bug" not in text


def test_a_refusal_is_told_once(kit, outputs):
    """With an answer in place of a refusal, and a refusal in place of an answer, nothing else is left unchecked."""
    (outputs / "load/bad/file/accepted.bin").rename(outputs / "load/bad/file/logits.bin")
    (outputs / "exp/plain/y.bin").rename(outputs / "exp/plain/accepted.bin")
    text = by_verify(kit, outputs)[1]
    assert "answered, but to be refused: 1: load/bad/file" in text and "refused, but to be answered: 1: exp/plain" in text
    assert "only in OUTPUTS" not in text


def test_of_a_whole_model_neither_flags_nor_a_line_for_each_rule(tmp_path):
    cases = [replace(case, id=case.id.replace("norm_codes/", "model/"), operation="model")
             if case.operation == "norm_codes" else case for case in small_cases()]  # fmt: skip
    kit, outputs = write_kit(tmp_path / "kit", cases), write_outputs(tmp_path / "outputs", cases)
    (outputs / "model/tie/q.bin").write_bytes(bytes(4))
    assert "half_away" not in agreed(kit, outputs)[1]
    text = by_verify(kit, outputs)[1]
    assert "flags" not in text and "rules N4, N9: wrong in whole models alone; first model/tie" in text


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


UNDECIDED = ["scale_of_zero", "bytes_swapped", "tail_missing", "rescale_fma_alpha_first", "inverse_sqrt_fma",
             "sample_variance", "score_one_factor", "score_k_first"]  # fmt: skip


@pytest.mark.parametrize("name", UNDECIDED)
def test_other_cases_decide_between_mistakes_that_fit_alike(whole_kit, tmp_path, name):
    """Each first wrong case fits another mistake as well, which other cases rule out."""
    tensors = {f"{case.id}/{t.name}": t.value for case in whole_kit for t in case.outputs}
    (mistake,) = (h for h in TABLE if h.name == name)
    for case, right, step in judged_steps(whole_kit):
        if step.kind in mistake.kinds:
            with np.errstate(all="ignore"):
                tensors[f"{case.id}/{right.name}"] = step.value(mistake.kinds[step.kind])
    safetensors.write(tmp_path / "o.st", tensors)
    first = as_json(verify(whole_kit, str(tmp_path / "o.st"), ["[!m]*"]), "kit", "outputs")["first"]
    assert [cause["reproduces"] for cause in first["causes"][:2]] == [1, 1] and first["causes"][0]["name"] == name
