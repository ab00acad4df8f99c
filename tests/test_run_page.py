"""The page of a training run: what a run has is on it, what it has not is said."""

import json
import shutil

import pytest

from refvit.cli import main
from refvit.training.recipe import recipe_from_dict
from refvit.training.run import Run
from refvit.training.train import train
from tests.test_start import RECIPE, data

__all__ = ["data"]  # the fixture

STAGES = [{"name": "float", "epochs": 1, "lr": 1e-3}, {"name": "w2a8", "epochs": 1, "lr": 1e-3, "quant": {"weight_bits": 2}}]
SURFACES, WEIGHTS = "Loss around each stage", "Weights after stage w2a8"


@pytest.fixture(scope="module")
def finished(data, tmp_path_factory):
    out = tmp_path_factory.mktemp("page") / "run"
    recipe = recipe_from_dict({**RECIPE, "stages": STAGES})
    (out.parent / "recipe.json").write_text(json.dumps(recipe.to_dict()))
    assert train(Run(out, recipe, data))["stage"] == "w2a8"
    return out


def report(folder, tmp_path, *more):
    return main(["report", str(folder), "-o", str(tmp_path / "page.html"), "--force", *map(str, more)])


def test_a_page_has_what_the_run_has(finished, data, tmp_path, capsys):
    assert report(finished, tmp_path, "--data", data, "--grid", 3, "--pictures", 4) == 0
    text = (tmp_path / "page.html").read_text()
    assert "Run run" in text and SURFACES in text and WEIGHTS in text and "blocks.0.mlp.fc1" in text
    assert "18/18" in capsys.readouterr().err  # a loss for each of 3 x 3 points and two stages
    assert report(finished, tmp_path, "--layer", "blocks.0.attn.qkv") == 0
    text = (tmp_path / "page.html").read_text()
    assert SURFACES not in text and WEIGHTS in text and "blocks.0.attn.qkv" in text


def test_a_run_that_has_only_begun(finished, tmp_path, capsys):
    folder = tmp_path / "run"
    shutil.copytree(finished, folder)
    (folder / "w2a8.safetensors").unlink()
    assert report(folder, tmp_path) == 0
    text = (tmp_path / "page.html").read_text()
    assert "Training" in text and WEIGHTS not in text
    (folder / "float.safetensors").unlink()
    assert report(folder, tmp_path) == 3
    assert "no finished stage; expected float.safetensors" in capsys.readouterr().err


@pytest.mark.parametrize("more, words", [
    (["--grid", 4], "an odd number of at least 3, got 4"),
    (["--grid", 1], "an odd number of at least 3, got 1"),
    (["--layer", "blocks.9"], "a linear layer, as blocks.0.mlp.fc1, got 'blocks.9'"),
])  # fmt: skip
def test_a_mistake_is_one_line(finished, data, tmp_path, capsys, more, words):
    assert report(finished, tmp_path, "--data", data, *more) == 2
    errors = [line for line in capsys.readouterr().err.splitlines() if "error" in line]
    assert len(errors) == 1 and words in errors[0] and not (tmp_path / "page.html").exists()


def test_a_damaged_log_names_its_line(finished, tmp_path, capsys):
    folder = tmp_path / "run"
    shutil.copytree(finished, folder)
    with open(folder / "log.jsonl", "a") as log:
        log.write('{"kind": "epoch", "kind": 3\n')
    assert report(folder, tmp_path) == 3
    lines = len((finished / "log.jsonl").read_text().splitlines())
    assert f"log.jsonl: line {lines + 1}" in capsys.readouterr().err
