import dataclasses

import pytest

from refvit import safetensors
from refvit.errors import BadInputError, UnsupportedError
from refvit.preprocess import PreprocessConfig, default_preprocess
from refvit.registry import model_config
from refvit.sidecar import Sidecar, read_sidecar
from refvit.weights import load_model

from .checkpoints import SWIN, VIT, hugging_face, random_params
from .sidecars import hf_config, timm_config, write_json

HALF = (0.5, 0.5, 0.5)


def sidecar(tmp_path, config, processor=None):
    write_json(tmp_path / "config.json", config)
    if processor is not None:
        write_json(tmp_path / "preprocessor_config.json", processor)
    return read_sidecar(tmp_path / "model.safetensors")


def load(tmp_path, config, values, **arguments):
    write_json(tmp_path / "config.json", values)
    safetensors.write(tmp_path / "a.safetensors", hugging_face(random_params(config)), force=True)
    return load_model(tmp_path / "a.safetensors", **arguments)


def test_hugging_face_config_is_honoured(tmp_path):
    model = load(tmp_path, VIT, hf_config(VIT, layer_norm_eps=1e-6, num_attention_heads=6))
    assert (model.config.norm_eps, model.config.num_heads) == (1e-6, 6)
    assert model.labels == [f"class {i}" for i in range(5)]
    assert model.preprocess == default_preprocess(model.config)


def test_defaults_of_hugging_face_depend_on_the_family(tmp_path):
    assert load(tmp_path, VIT, hf_config(VIT)).config.norm_eps == 1e-12
    model = load(tmp_path, SWIN, hf_config(SWIN))
    assert (model.config.norm_eps, model.config.img_size) == (1e-5, 32)


def test_labels_are_in_the_order_of_the_classes(tmp_path):
    names = {str(i): f"name {i}" for i in sorted(range(12), key=str)}
    assert sidecar(tmp_path, hf_config(VIT, id2label=names)).labels == [f"name {i}" for i in range(12)]


@pytest.mark.parametrize(
    "change, pattern",
    [
        ({"layer_norm_eps": "1e-6"}, "layer_norm_eps; expected a float"),
        ({"layer_norm_eps": -1}, "norm_eps"),
        ({"num_attention_heads": 5}, "heads"),
        ({"num_attention_heads": 3.0}, "num_attention_heads; expected a int"),
        ({"image_size": [24, 32]}, "image_size; expected the edge of a square"),
        ({"image_size": 32}, "config.json: img_size; expected 24 .*got 32"),
        ({"id2label": {"0": "a"}}, "classes; expected 5 .*got 1"),
        ({"id2label": {str(i): 0 for i in range(5)}}, "id2label"),
        ({"id2label": {str(i + 1): "a" for i in range(5)}}, "id2label"),
        ({"model_type": ["vit"]}, "model_type; expected a str"),
    ],
)
def test_odd_values_are_named(tmp_path, change, pattern):
    with pytest.raises(BadInputError, match=pattern):
        load(tmp_path, VIT, hf_config(VIT, **change))


def test_what_no_model_here_does_is_unsupported(tmp_path):
    with pytest.raises(UnsupportedError, match="hidden_act; expected gelu, got relu"):
        sidecar(tmp_path, hf_config(VIT, hidden_act="relu"))
    with pytest.raises(UnsupportedError, match="layer_norm_eps"):
        sidecar(tmp_path, hf_config(SWIN, layer_norm_eps=1e-6))


@pytest.mark.parametrize("text", ["", "[]", "{", '{"model_type": "vit", "model_type": "vit"}', "[" * 100_000, "\xff"])
def test_damaged_json_is_named(tmp_path, text):
    (tmp_path / "config.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(BadInputError, match="config.json"):
        read_sidecar(tmp_path / "model.safetensors")


@pytest.mark.parametrize("config", [{}, {"model_type": "bert", "image_size": "?"}, {"name": "something"}])
def test_files_of_another_style_are_passed_over(tmp_path, config):
    assert sidecar(tmp_path, config) == Sidecar()


SQUARE = {"height": 32, "width": 32}
PROCESSORS = [
    ({"size": 24}, ("squash", 24, 24)),
    ({"size": {"height": 24, "width": 24}}, ("squash", 24, 24)),
    ({"size": 32, "do_center_crop": True, "crop_size": 24}, ("squash", 24, 32)),
    ({"size": SQUARE, "do_center_crop": True, "crop_size": {"height": 24, "width": 24}}, ("squash", 24, 32)),
    ({"size": {"shortest_edge": 32}, "do_center_crop": True, "crop_size": 24}, ("facebook", 24, 32)),
    ({"size": {"shortest_edge": 28}, "crop_pct": 0.875}, ("facebook", 28, 32)),
    ({"size": {"shortest_edge": 384}, "crop_pct": 0.875}, ("squash", 384, 384)),
]


@pytest.mark.parametrize("processor, expected", PROCESSORS)
def test_hugging_face_processors(tmp_path, processor, expected):
    values = {"image_mean": [0.1, 0.2, 0.3], "image_std": [0.4, 0.5, 0.6], "resample": 3, **processor}
    got = sidecar(tmp_path, hf_config(VIT), values)
    assert got.preprocess == PreprocessConfig(*expected, (0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    assert got.notes == ()


def test_processors_without_normalisation_and_of_another_filter(tmp_path):
    got = sidecar(tmp_path, hf_config(VIT), {"size": 24, "do_normalize": False, "resample": 2})
    assert (got.preprocess.mean, got.preprocess.std) == ((0, 0, 0), (1, 1, 1))
    assert "bicubic" in got.notes[0]
    assert sidecar(tmp_path, hf_config(VIT), {"size": 24}).preprocess.mean == HALF


@pytest.mark.parametrize(
    "change",
    [{"size": 0}, {"size": "224"}, {"size": {}}, {"size": [1, 2]}, {"image_mean": [1]}, {"image_std": [0, 0, 0]},
     {"crop_pct": "a"}, {"crop_pct": 0.0}, {"size": 16, "do_center_crop": True, "crop_size": 24}],
)  # fmt: skip
def test_odd_processors_are_named(tmp_path, change):
    with pytest.raises(BadInputError, match="preprocessor_config.json"):
        sidecar(tmp_path, hf_config(VIT), {"size": 224, **change})


def test_preprocessing_follows_another_img_size(tmp_path):
    write_json(tmp_path / "preprocessor_config.json", {"size": 32, "do_center_crop": True, "crop_size": 24})
    preprocess = load(tmp_path, VIT, hf_config(VIT), img_size=48).preprocess
    assert (preprocess.img_size, preprocess.resize) == (48, 64)


def test_timms_config_is_honoured(tmp_path):
    got = sidecar(tmp_path, timm_config("vit_tiny_patch16_224.augreg_in21k"))
    assert (got.hints.name, got.num_classes, got.hints.img_size) == ("vit_tiny_patch16_224", 1000, 224)
    assert got.preprocess == PreprocessConfig("timm", 224, 248, HALF, (0.25, 0.25, 0.25))
    changes = {"crop_mode": "squash", "crop_pct": 1, "interpolation": "bilinear"}
    squash = sidecar(tmp_path, timm_config("vit_tiny_patch16_224", **changes))
    assert (squash.preprocess.mode, squash.preprocess.resize, len(squash.notes)) == ("squash", 224, 1)


def test_timms_architecture_must_match_the_file(tmp_path):
    config = dataclasses.replace(model_config("deit_tiny_patch16_224"), depth=1)
    path = tmp_path / "a.safetensors"
    safetensors.write(path, random_params(config))
    write_json(tmp_path / "config.json", timm_config("vit_tiny_patch16_224"))
    with pytest.raises(BadInputError, match="does not hold vit_tiny_patch16_224: depth; expected 12, got 1"):
        load_model(path)
    write_json(tmp_path / "config.json", timm_config("vit_of_another_kind"))
    assert load_model(path).config.depth == 1
    write_json(tmp_path / "config.json", {**timm_config("vit_of_another_kind"), "num_classes": 10})
    with pytest.raises(BadInputError, match="config.json: classes; expected 1000"):
        load_model(path)
