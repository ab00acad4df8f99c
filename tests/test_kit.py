"""The kit of test vectors: the same bytes again, complete, and answered rightly by every backend."""

import json
import math
import re
from collections import Counter, defaultdict
from dataclasses import replace

import numpy as np
import pytest

from refvit import backend, ternary
from refvit.bitplanes import encode_base3
from refvit.conformance.hypotheses import TABLE
from refvit.conformance.variants import MISTAKES
from refvit.errors import RefvitError, UsageError
from refvit.vectors import bounded, flags, own, ternary_slips
from refvit.vectors.answers import REFUSED, answer, engine_of
from refvit.vectors.build import build
from refvit.vectors.cases import drafts
from refvit.vectors.cases.damage import SHA256
from refvit.vectors.casesteps import steps_of
from refvit.vectors.kit import EXPECTATIONS, RULES, new_folder
from refvit.vectors.kitfile import read_kit
from tests.test_cli import check_keys, folder, keys_in_readme, run  # noqa: F401 (fixtures)

SIZE_MAX = 20_000_000  # bytes of a kit of level 1
ONLY_IN_MODELS = "needs two branches, which only a whole block has"
NO_STATIC = "the operation has no static scale; linear has"
ONE_RANGE = "the operation has one range"
NOT_CAUGHT = {  # (mistake, operation): why no case of the operation can catch it
    ("branches_first", "residual"): ONLY_IN_MODELS,
    ("first_branch_missing", "residual"): ONLY_IN_MODELS,
    ("scale_dynamic", "scale"): NO_STATIC,
    ("scale_dynamic", "static_scale"): NO_STATIC,
    ("scale_for_all", "static_scale"): ONE_RANGE,
    ("scale_for_each_row", "static_scale"): ONE_RANGE,
    ("zp_reciprocal", "static_scale"): "zero_point has the cases at ties",
}
SEVERAL_STEPS = ("linear", "attention", "weight_int8", "norm_codes", "gelu_codes", "softmax_codes")


@pytest.fixture(scope="module")
def cases(built_kit):
    return list(read_kit(built_kit))


@pytest.fixture(scope="module")
def caught(cases):
    """flag -> operations with a case that it changes"""
    found = defaultdict(set)
    for case in cases:
        for flag in case.flags:
            found[flag].add(case.operation)
    return found


def contents(path):
    return {str(file.relative_to(path)): file.read_bytes() for file in path.rglob("*") if file.is_file()}


def test_the_same_bytes_again(built_kit, tmp_path, monkeypatch):
    """Whatever backend is asked for: a kit is made by the NumPy reference."""
    monkeypatch.setenv("REFVIT_BACKEND", backend.backends()[0])
    build(tmp_path / "again")
    assert contents(tmp_path / "again") == contents(built_kit)


def test_its_size_and_its_manifest(built_kit, cases):
    assert sum(len(data) for data in contents(built_kit).values()) <= SIZE_MAX
    manifest = json.loads((built_kit / "manifest.json").read_text())
    assert (manifest["format"], manifest["kit_version"], manifest["level"]) == ("refvit-kit", 1, 1)
    assert manifest["rules"] == RULES and len({case.id for case in cases}) == len(cases)
    named = {name for row in manifest["cases"] for t in row["inputs"] + row["outputs"] for name in files_of(t)}
    assert {f"tensors/{file.name}" for file in (built_kit / "tensors").iterdir()} == named
    for case in cases:
        assert re.fullmatch(r"[a-z0-9_]+/[a-z0-9_.-]+", case.id) and case.expectation in EXPECTATIONS
        assert case.comment and set(case.rules) <= set(RULES) and set(case.flags) <= set(manifest["flags"])
    assert set(manifest["flags"]) == {flag for case in cases for flag in case.flags}


def files_of(tensor):
    return [tensor["file"], *(tensor[key]["file"] for key in ("low", "high") if key in tensor)]


def test_every_rule_has_its_cases(cases):
    counts = Counter(rule for case in cases for rule in case.rules)
    assert all(counts[rule] >= 3 for rule in RULES), counts
    expectations = Counter(case.expectation for case in cases)
    assert all(expectations[kind] >= 3 for kind in EXPECTATIONS), expectations


def test_every_known_mistake_is_caught(cases, caught):
    """By a case of each operation of one step in which it can be made."""
    right = [case for case in cases if case.expectation != "reject" and case.operation not in SEVERAL_STEPS]
    kinds = {(case.operation, step.kind) for case in right for step in steps_of(case).values()}
    for h in TABLE:
        for operation in (o for o, kind in kinds if kind in h.kinds):
            missing = operation not in caught[h.name] and h.name not in flags.MACHINE
            assert missing == ((h.name, operation) in NOT_CAUGHT), (h.name, operation)
    assert not [name for name in MISTAKES if not caught[name]]


def test_every_mistake_of_the_kit_s_own_operations_is_caught(caught):
    for name, (_, operations) in own.OWN.items():
        missing = set(operations) - caught[name]
        assert name in flags.MACHINE or not missing, (name, missing)


@pytest.mark.parametrize("name", backend.backends())
def test_every_backend_answers_rightly(cases, name):
    with backend.using_backend(name):
        for case in cases:
            outputs = answer(case)
            assert list(outputs) == [tensor.name for tensor in case.outputs], case.id
            assert not flags.differs(case, outputs), case.id
            assert (outputs is REFUSED) == (case.expectation == "reject"), case.id


def test_near_ties_are_near_ties(cases):
    for case in (c for c in cases if c.id in ("norm_codes/ties", "gelu_codes/ties", "softmax_codes/ties")):
        width = case.outputs[0].high.astype(int) - case.outputs[0].low
        assert width.max() == 1 and np.count_nonzero(width) >= 32, case.id


def test_wrong_files_are_wrong_in_one_way(cases):
    """Their sha256 is right, unless it is what is wrong: another error comes before it."""
    rejected = [case for case in cases if case.operation == "load" and case.expectation == "reject"]
    assert len(rejected) >= 60
    for case in rejected:
        with pytest.raises(RefvitError) as caught:
            engine_of(case.arrays["file"])
        of_sha256 = case.id.startswith("load/reject-sha256-")
        assert ("sha256 of its content" in str(caught.value)) == of_sha256, (case.id, str(caught.value))
    assert sum(case.id.startswith("load/reject-sha256-") for case in rejected) == len(SHA256)


def test_slips_without_a_slip_are_the_operations():
    """So that a flag is about its slip alone."""
    w = np.random.default_rng(0).standard_normal((5, 33)).astype(np.float32)
    for granularity in ("channel", "layer"):
        for threshold in ("0.7", "optimal"):
            for scale in ("masked_mean", "absolute_mean"):
                got = ternary_slips.ternarize(w, granularity, threshold, scale)
                number = threshold if threshold == "optimal" else float(threshold)
                codes, alpha = ternary.ternarize(w, granularity, number, scale)
                assert (got["codes"] == codes).all() and (got["alpha"] == alpha).all()
    stream = encode_base3(codes)
    assert (ternary_slips.base3_encode(codes) == stream).all()
    assert (ternary_slips.base3_decode(stream, *codes.shape)["codes"] == codes).all()


def test_float64_functions_of_the_bounds():
    """They are as exact as the bounds take them to be: a share of 2^-16 of an ulp of float32."""
    x = np.linspace(-100, 88, 20001)
    np.testing.assert_allclose(bounded.exp64(x), np.exp(x), rtol=2.0**-44)
    x = np.concatenate([np.linspace(-6.5, 6.5, 20001), 10.0 ** np.linspace(-40, 0, 100)])
    np.testing.assert_allclose(bounded.erf64(x), [math.erf(v) for v in x], rtol=2.0**-44)


def test_an_interval_holds_its_floats():
    value = np.array([1.0, -1.0, 3e38, 2.0**-149, 0.0])
    low, high = bounded.Bounded(value, abs(value) * 2.0**-30).interval()
    assert low.dtype == np.float32 and (low < value)[:4].all() and (high > value)[:4].all()
    assert (np.nextafter(low, np.float32(np.inf)) >= value.astype(np.float32)).all()


def test_level_2_has_more_and_the_same():
    small, large = ({case.id: case for case in drafts(level)} for level in (1, 2))
    assert set(small) < set(large) and len([i for i in large if i.startswith("model/refvit_cifar10")]) >= 3


def test_an_interrupted_kit_leaves_nothing(tmp_path):
    with pytest.raises(KeyboardInterrupt), new_folder(tmp_path / "kit") as temporary:
        (tmp_path / temporary / "part").write_text("x")
        raise KeyboardInterrupt
    assert not list(tmp_path.iterdir())


def test_only_a_kit_is_replaced(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "file").write_text("mine")
    for force in (False, True):
        with pytest.raises(UsageError, match="mine"), new_folder(tmp_path / "mine", force):
            pass
    assert (tmp_path / "mine" / "file").read_text() == "mine"


def test_the_verb_builds_and_answers(run, built_kit, cases, tmp_path):  # noqa: F811
    code, out, err = run("vectors", "build", "-o", built_kit, "--json")
    assert code == 2 and "already exists" in err
    code, out, err = run(
        "vectors", "run", built_kit, "-o", tmp_path / "o", "--backend", "portable", "--only", "softmax*", "--json"
    )
    assert code == 0, err
    result = json.loads(out)
    check_keys(result, keys_in_readme("vectors run"), "vectors run")
    chosen = [case for case in cases if case.id.startswith("softmax")]
    assert result["cases"] == len(chosen)
    assert len(contents(tmp_path / "o")) == sum(len(case.outputs) for case in chosen)
    for case in chosen:
        for tensor in case.outputs:
            got = (tmp_path / "o" / case.id / f"{tensor.name}.bin").read_bytes()
            assert tensor.low is not None or got == tensor.value.tobytes(), case.id


@pytest.mark.parametrize(
    "arguments, code, word",
    (
        (("build",), 2, "--out"),
        (("build", "-o", "T/new", "--level", "3"), 2, "--level"),
        (("build", "-o", "T/none/new"), 3, "new"),
        (("build", "-o", "T"), 2, "exists"),
        (("run", "K", "-o", "T"), 2, "exists"),
        (("run", "T", "-o", "T/o"), 3, "manifest.json"),
        (("run", "K", "-o", "T/o", "--only", "nothing"), 2, "--only"),
        (("run", "K", "-o", "T/o", "--backend", "abacus"), 2, "abacus"),
        ((), 2, "ACTION"),
    ),
)
def test_a_mistake_is_one_line(run, built_kit, tmp_path, arguments, code, word):  # noqa: F811
    places = {"T": tmp_path, "K": built_kit}
    filled = [str(places[a[0]]) + a[1:] if a[0] in places and a[1:2] in ("", "/") else a for a in arguments]
    got, out, err = run("vectors", *filled)
    assert got == code and out == "" and word in err and len(err.splitlines()) == 1, err
    assert not list(tmp_path.iterdir())


def test_build_says_what_it_wrote(run, tmp_path, monkeypatch):  # noqa: F811
    few = list(drafts(1))[:3]
    monkeypatch.setattr("refvit.vectors.build.drafts", lambda level: few)
    code, out, err = run("vectors", "build", "-o", tmp_path / "k", "--json")
    assert code == 0, err
    check_keys(json.loads(out), keys_in_readme("vectors build"), "vectors build")
    assert json.loads(out)["cases"] == 3 and "case 3/3" in err
    assert run("vectors", "build", "-o", tmp_path / "k", "--force")[0] == 0


@pytest.mark.parametrize("action", ("build", "run"))
def test_help_has_an_example(run, action):  # noqa: F811
    code, out, _ = run("vectors", action, "--help")
    assert code == 0 and f"refvit vectors {action}" in out.split("example:")[1]


def test_a_wrong_answer_differs(cases):
    """What the tests above rely on."""
    case = next(c for c in cases if c.id == "exp/range")
    tensor = case.outputs[0]
    wrong = tensor.value.copy()
    wrong[3] = np.nextafter(wrong[3], np.float32(0))
    assert flags.differs(case, {"y": wrong}) and not flags.differs(case, {"y": tensor.value})
    bound = replace(case, outputs=(replace(tensor, low=tensor.value, high=tensor.value),))
    assert flags.differs(bound, {"y": wrong}) and not flags.differs(bound, {"y": tensor.value})
