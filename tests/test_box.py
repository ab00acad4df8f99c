"""Models that ship with the package: found by their names in Python and on the command line."""

import json
import os

import pytest

import refvit
from refvit import box, weights
from refvit.cli import main
from tests.test_model import NARROW_VIT


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
