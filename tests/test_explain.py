"""refvit explain: the numbers are the engine's bits, the words name functions that exist."""

import dataclasses
import json
import re
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

import refvit
from refvit import exact, kernels
from refvit.calibrate import calibrate
from refvit.cli import main
from refvit.config import QuantConfig, linear_roles
from refvit.looking import explain, worked
from refvit.looking.steps import as_text, steps
from refvit.looking.watch import drawing, watch
from refvit.model import create_model
from refvit.weights import save_model
from tests.test_cli import check_keys, keys_in_readme
from tests.test_model import NARROW_SWIN, NARROW_VIT

PACKAGE = Path(refvit.__file__).parent
QUANTS = [QuantConfig(), QuantConfig(weight_bits=8), QuantConfig(act_quantizer="minmax", act_bits=4),
          QuantConfig(act_scale="image"), QuantConfig(act_scale="image", act_quantizer="minmax"),
          QuantConfig(act_scale="static"), QuantConfig(act_scale="static", act_quantizer="minmax"),
          QuantConfig(threshold="optimal"), QuantConfig(scale="absolute_mean", act_bits=2, patch_bits=2)]  # fmt: skip


MODELS = [("deit3_small_patch16_224", NARROW_VIT), ("swin_tiny_patch4_window7_224", NARROW_SWIN)]


@pytest.fixture(scope="module", params=MODELS, ids=["vit", "swin"])
def model(request):
    name, fields = request.param
    return create_model(name, **fields)


@pytest.mark.parametrize("quant", QUANTS, ids=str)
def test_accumulator_and_output_are_the_engines(model, quant):
    ranges = calibrate(model, [np.random.default_rng(0).standard_normal((1, 3, 32, 32), np.float32)])
    engine = refvit.pack(model.with_quant(quant, ranges))
    seen, rng = watch(engine, drawing(32)), np.random.default_rng(1)
    assert seen.logits.tobytes() == engine.predict(drawing(32)[None])[0].tobytes()
    for layer in linear_roles(model.config):
        tokens, rows = seen.trace[f"{layer}.acc"].shape
        place = explain.Place(layer, int(rng.integers(rows)), int(rng.integers(tokens)))
        for source in (engine, model) if quant.act_scale != "static" else (engine,):
            found, _ = explain.of_model(source, place, quant)
            at = place.token, place.row
            assert found.corrected == seen.trace[f"{layer}.acc"][at], (layer, at)
            assert found.out.tobytes() == seen.trace[f"{layer}.out"][at].tobytes(), (layer, at)
            assert (found.activations.q == seen.trace[f"{layer}.q_in"][place.token]).all(), (layer, at)
            assert (found.weights.codes == engine.linears[layer].codes()[place.row]).all(), (layer, at)
            check_text(found)


def check_text(found):
    """Narrow lines; every step names a rule and a function that exist."""
    lines = as_text(found, "headline")
    assert max(map(len, lines)) <= 120, max(lines, key=len)
    assert str(found.acc) in " ".join(lines) and str(found.out) in " ".join(lines)
    for step in steps(found):
        assert re.fullmatch(r"N\d+(, N\d+)*|-", step.rule) and step.lines
        file, name = step.where.split(": ")
        module = __import__("refvit." + file.removesuffix(".py").replace("/", "."), fromlist=["x"])
        for part in name.split("."):
            module = getattr(module, part)
        assert (PACKAGE / file).exists()


@pytest.mark.parametrize("k", [1, 63, 64, 65, 300])
@pytest.mark.parametrize("bits", [2, 5, 8])
def test_popcounts_add_up_to_the_kernels_integer(k, bits):
    rng = np.random.default_rng(k * bits)
    w, x = rng.standard_normal((2, k)).astype(np.float32)
    found = worked.work(worked.quantized_row(w), worked.quantized_input(x, bits), np.float32(0.5))
    assert sum(weight * (pos - neg) for _, weight, _, pos, neg in found.bits) == found.acc
    codes, alpha = refvit.ternarize(w[None])
    acc = kernels.ternary_matmul(found.activations.q[None], refvit.pack_planes(codes), k, bits=bits)
    s, bias = np.array([found.activations.s]), np.array([0.5], np.float32)
    assert found.acc == acc[0, 0] and found.out == exact.rescale(acc, s, alpha, bias)[0, 0]
    assert found.steps[2] + np.float32(0.5) == found.out
    check_text(found)


def test_float_products_are_rounded_once():
    rng = np.random.default_rng(3)
    w, x = rng.standard_normal((2, 500)).astype(np.float32)
    found = worked.work(worked.quantized_row(w), worked.quantized_input(x))
    products = (Fraction(a) * Fraction(b) for a, b in zip(w.tolist(), x.tolist()))
    assert found.exact[0] == float(sum(products))
    assert worked.error_of(found.weights) == pytest.approx(0.192, abs=0.03)  # of a Gaussian row


@pytest.fixture
def run(capsys):
    def call(*arguments):
        code = main([str(a) for a in ("explain", *arguments)])
        return code, *capsys.readouterr()

    return call


def test_the_built_in_example_needs_no_argument(run):
    code, out, err = run()
    assert code == 0 and err == "" and "Zero" not in out
    result = json.loads(run("--json")[1])
    check_keys(result, keys_in_readme("explain"), "explain")
    assert result["accumulator"] == -119 and f"sum is the accumulator, exact in int32: {-119:>20}" in out
    assert np.float32(result["output"]) == np.float32(-1.6849998)
    assert result["planes"] == {"pos": ["0000000000000051"], "neg": ["0000000000000088"]}


def test_the_model_in_the_box_starts_at_the_codes(run):
    code, out, err = run("refvit_cifar10", "blocks.3.mlp.fc1", "--row", 5, "--token", 1)
    assert code == 0 and "no float weights" in out and "N3  ternary.py" not in out, err
    assert json.loads(run("refvit_cifar10", "--json")[1])["weights"] is None


def test_numbers_and_files_are_the_same(run, tmp_path):
    w, x = np.array([[0.5, -1, 2], [3, 0, -0.1]]), np.array([1, 2, -3], np.float32)
    np.save(tmp_path / "w.npy", w)
    np.save(tmp_path / "x.npy", x)
    code, out, err = run("--weights", tmp_path / "w.npy", "--input", tmp_path / "x.npy", "--row", 1, "--act-bits", 4)
    assert code == 0, err
    assert out == run("--weights", "3 0 -0.1", "--input", "1, 2, -3", "--act-bits", 4)[1]
    assert "w x " in out and "bias" not in out


@pytest.mark.parametrize("line, expected, word", [
    ("M blocks.0.mlp.fc3", 2, "try blocks.0.mlp.fc"),
    ("M blocks.0.mlp.fc1 --row 48", 2, "--row: out of range; expected 0 to 47, got 48"),
    ("M blocks.0.mlp.fc1 --token 99", 2, "--token: out of range"),
    ("M head --token 1", 2, "expected 0 to 0, got 1"),
    ("M --weights 1", 2, "--weights means nothing with a model"),
    ("M blocks.0.mlp.fc1 none.png", 3, "none.png"),
    ("refvit_cifar10 --act-bits 4", 2, "--act-bits means nothing with a packed file"),
    ("--backend numpy", 2, "--backend means nothing without a model"),
    ("--weights 1,2", 2, "--input; expected 2 numbers"),
    ("--weights 1,2 --input 1", 3, "expected 2, as there are weights, got 1"),
    ("--weights=one", 2, "--weights: value; expected numbers"),
    ("--weights=", 3, "--weights: numbers"),
    ("--weights=nan", 3, "NaN or inf"),
    ("--weights=1e39", 3, "NaN or inf"),
    ("--weights none.npy", 3, "none.npy: cannot be read"),
    ("--bias x", 2, "--bias"),
])  # fmt: skip
def test_mistakes(run, tmp_path, line, expected, word):
    save_model(create_model("deit_tiny_patch16_224", **{**NARROW_VIT, "mlp_ratio": 2.0}), tmp_path / "m.safetensors")
    code, out, err = run(*(str(tmp_path / "m.safetensors") if a == "M" else a for a in line.split()))
    assert (code, out) == (expected, "") and word in err.splitlines()[-1], err


def test_every_field_of_the_place_is_used():
    assert {f.name for f in dataclasses.fields(explain.Place)} == {"layer", "row", "token", "picture"}
