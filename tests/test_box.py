"""Models that ship with the package: found by their names in Python and on the command line."""

import json
import os
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import refvit
from refvit import box, evaluate, kernels, safetensors, weights
from refvit.cli import main
from refvit.training.recipe import read_recipe
from tests.test_model import NARROW_VIT

NAME = "refvit_cifar10"
CLASSES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
RECIPES = Path(__file__).parents[1] / "tools" / "recipes"
ARCHIVE = Path(os.environ.get("REFVIT_DATA", Path(__file__).parents[2] / "shared" / "data")) / "cifar10.tar.gz"


@pytest.fixture
def shelf(tmp_path, monkeypatch):
    """A box with one model, "narrow", and an empty folder to work in."""
    monkeypatch.setattr(box, "DATA", tmp_path / "data")
    (tmp_path / "data").mkdir()
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    model = refvit.create_model("deit_tiny_patch16_224", **NARROW_VIT)
    refvit.pack(model.with_quant(refvit.QuantConfig())).save(box.DATA / "narrow.refvit.safetensors")
    return box.DATA / "narrow.refvit.safetensors"


def test_a_name_means_the_file_in_the_box(shelf, capsys):
    assert box.boxed_names() == ["narrow"]
    assert isinstance(refvit.load_model("narrow"), refvit.Engine)
    assert main(["info", "narrow", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["file"]["path"] == str(shelf)
    assert main(["unpack", "narrow", "-o", "narrow.safetensors"]) == 0
    assert main(["info", "narrow", "--seed", "1"]) == 2


def test_an_error_calls_it_as_it_was_typed(shelf, capsys):
    assert main(["info", "narrow", "--img-size", "64"]) == 2
    assert capsys.readouterr().err.startswith("refvit: error: narrow: img_size of a packed file;")


def test_a_file_of_that_name_goes_first(shelf):
    model = refvit.create_model("deit_tiny_patch16_224", **NARROW_VIT)
    weights.save_model(model, "narrow")
    assert box.resolve("narrow") == "narrow" and isinstance(refvit.load_model("narrow"), refvit.Model)


@pytest.mark.parametrize("path", ["other", "", "../data/narrow", "narrow.refvit.safetensors"])
def test_other_names_are_paths(shelf, path):
    assert box.resolve(path) == path
    with pytest.raises(refvit.BadInputError):
        refvit.load_model(path)


def test_a_name_that_is_nearly_right_is_told(shelf, capsys):
    assert main(["info", "narow"]) == 3
    assert "try narrow" in capsys.readouterr().err
    assert os.listdir() == []


def test_the_model_in_the_box_is_ternary_and_small():
    engine, path = refvit.load_model(NAME), box.resolve(NAME)
    assert engine.labels == CLASSES and engine.config.num_classes == 10 and engine.config.img_size == 32
    assert (engine.quant.weight_bits, engine.quant.act_bits, engine.quant.granularity) == (2, 8, "channel")
    assert any(n.endswith(".base3") for n in safetensors.read(path)[0]) and os.path.getsize(path) <= 500_000


def test_the_model_in_the_box_is_the_same_on_every_backend():
    engine, pixels = refvit.load_model(NAME), np.random.default_rng(3).integers(0, 256, (3, 32, 32, 3), np.uint8)
    logits = {}
    for engine.backend in kernels.backends():
        logits[engine.backend] = engine.predict(pixels).tobytes()
    assert len(set(logits.values())) == 1, list(logits)


def test_the_command_line_knows_the_model_in_the_box(tmp_path, capsys):
    Image.new("RGB", (48, 40), (90, 150, 220)).save(tmp_path / "sky.png")
    assert main(["classify", NAME, str(tmp_path / "sky.png"), "-k", "10", "--json"]) == 0
    classes = json.loads(capsys.readouterr().out)["pictures"][0]["classes"]
    assert sorted(c["label"] for c in classes) == CLASSES
    assert main(["info", NAME]) == 0
    assert capsys.readouterr().out.startswith("vit_d128_l7_h4_patch4_32  packed ")


def test_the_log_of_the_model_in_the_box_is_of_its_recipe_and_accuracy():
    """Fake-quantized in training and in integers, the accuracies may differ by a picture at a rounding: 1 %."""
    log = [json.loads(line) for line in (RECIPES / "cifar10_box.log.jsonl").read_text().splitlines()]
    stages, epochs = read_recipe(RECIPES / "cifar10_box.json").stages, [line for line in log if line["kind"] == "epoch"]
    assert [(e["stage"], e["epoch"]) for e in epochs] == [(s.name, i + 1) for s in stages for i in range(s.epochs)]
    result = box.measured(NAME)
    assert result["top1"] == result["correct1"] / result["images"] and result["images"] == 2000
    assert abs(epochs[-1]["top1"] - result["top1"]) <= 0.01


@pytest.mark.skipif(not ARCHIVE.exists(), reason="no CIFAR-10 here")
def test_the_accuracy_of_the_model_in_the_box_is_what_is_said(tmp_path):
    """Decoding JPEG lies outside the promise of equal bits (N12): another decoder may turn a few of 2,000."""
    with tarfile.open(ARCHIVE) as archive:
        for member in archive:
            path = tmp_path / "test" / Path(member.name).parent.name / Path(member.name).name
            if member.isfile() and "test" in Path(member.name).parts:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(archive.extractfile(member).read())
    result = evaluate.run(refvit.load_model(NAME), tmp_path / "test")
    assert result["images"] == 2000 and abs(result["correct1"] - box.measured(NAME)["correct1"]) <= 10


def test_the_benchmark_knows_the_model_in_the_box(capsys):
    assert main(["bench", NAME, "--threads", "1", "--rounds", "1"]) == 0
    line = capsys.readouterr().out.splitlines()[1]
    assert line.startswith(f"{NAME} ") and "W2A8" in line


def test_a_wrong_backend_is_told_before_the_model_is_read(monkeypatch, capsys):
    monkeypatch.setenv("REFVIT_BACKEND", "sse9")
    assert main(["info", NAME]) == 2 and "refvit: error: backend: unknown" in capsys.readouterr().err
