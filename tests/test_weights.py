import dataclasses
import os
from pathlib import Path

import numpy as np
import pytest

from refvit import safetensors
from refvit.architecture import Hints, recognise
from refvit.errors import BadInputError, UsageError
from refvit.interpolate import resample_pos_embed, resample_square
from refvit.labels import imagenet_names
from refvit.model import Model
from refvit.preprocess import default_preprocess, make_preprocess
from refvit.registry import MODELS, model_config
from refvit.weights import load_model, save_model

from .checkpoints import SWIN, VIT, hugging_face, microsoft, random_params
from .sidecars import hf_config, write_json
from .torch_files import saved_bytes

DATA = Path(os.environ.get("REFVIT_DATA", Path(__file__).parents[2] / "shared" / "data"))
TINY = model_config("deit_tiny_patch16_224", num_classes=3, img_size=32, depth=1)  # of a registered width


def stored(tmp_path, tensors, metadata=None, config=None):
    """A checkpoint file, with Hugging Face's config.json beside it where its configuration is given."""
    path = tmp_path / "model.safetensors"
    safetensors.write(path, tensors, metadata, force=True)
    if config is not None:
        write_json(tmp_path / "config.json", hf_config(config))
    return path


def assert_params(model, expected):
    assert list(model.params) == list(model.config.param_shapes())
    for name, array in model.params.items():
        assert array.dtype == np.float32 and array.flags.c_contiguous and array.flags.writeable, name
        assert np.array_equal(array, expected[name]), name


@pytest.mark.parametrize("modules", [False, True], ids=["files", "modules"])
@pytest.mark.parametrize("config", [VIT, SWIN], ids=["vit", "swin"])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_hugging_face_names(tmp_path, config, modules, prefix):
    params = random_params(config)
    tensors = {prefix + name: array for name, array in hugging_face(params, modules).items()}
    model = load_model(stored(tmp_path, tensors, config=config))
    assert_params(model, params)
    expected = dataclasses.replace(config, name=model.config.name, norm_eps={"vit": 1e-12, "swin": 1e-5}[config.family])
    assert model.config == expected


@pytest.mark.parametrize("modules", [False, True], ids=["files", "modules"])
def test_hugging_face_names_with_teacher(tmp_path, modules):
    config = dataclasses.replace(VIT, distilled=True)
    params = random_params(config)
    tensors = hugging_face(params, modules, ("cls_classifier", "distillation_classifier"))
    assert_params(load_model(stored(tmp_path, tensors, config=config)), params)


def test_one_classifier_with_a_distillation_token_gives_its_logits(tmp_path):
    config = dataclasses.replace(VIT, distilled=True)
    params = random_params(config)
    tensors = {n: a for n, a in hugging_face(params, classifiers=("classifier", "second")).items() if "second" not in n}
    model = load_model(stored(tmp_path, tensors, config=config))
    zeros = {f"head_dist.{part}": np.zeros_like(params[f"head.{part}"]) for part in ("weight", "bias")}
    both = Model(model.config, {**params, **zeros})
    x = np.random.default_rng(0).standard_normal((2, 3, 24, 24), np.float32)
    assert np.array_equal(model(x), 2 * both(x))  # of two heads the mean counts


def test_tensors_no_classifier_uses_are_known(tmp_path, capsys):
    params, extra = random_params(VIT), np.zeros((1, 1, 12), np.float32)
    tensors = hugging_face(params) | {"vit.pooler.dense.weight": extra, "vit.embeddings.mask_token": extra}
    assert_params(load_model(stored(tmp_path, tensors, config=VIT)), params)
    assert "32 tensors used, 0 missing, 0 unexpected; 2 known and unused" in capsys.readouterr().err


def test_microsofts_names(tmp_path, capsys):
    params = random_params(SWIN)
    assert_params(load_model(stored(tmp_path, microsoft(params)), img_size=32), params)
    assert "0 unexpected; 2 known and unused" in capsys.readouterr().err


def test_timms_swin_names(tmp_path):
    params = random_params(SWIN)
    assert_params(load_model(stored(tmp_path, params), img_size=32), params)


def test_facebooks_layer_scale_names(tmp_path):
    config = dataclasses.replace(TINY, layer_scale=True, no_embed_class=True)
    params = random_params(config)
    tensors = {n.replace(".ls1.gamma", ".gamma_1").replace(".ls2.gamma", ".gamma_2"): a for n, a in params.items()}
    model = load_model(stored(tmp_path, tensors))
    assert_params(model, params)
    assert model.config.layer_scale and model.config.no_embed_class and model.config.norm_eps == 1e-6


def test_two_names_for_one_parameter_are_refused(tmp_path):
    tensors = hugging_face(random_params(VIT))
    tensors["vit.layers.0.attention.o_proj.bias"] = np.zeros(12, np.float32)
    with pytest.raises(BadInputError, match="both 'blocks.0.attn.proj.bias'"):
        load_model(stored(tmp_path, tensors, config=VIT))


def test_registered_models_are_recognised():
    for name, config in MODELS.items():
        shapes = config.param_shapes()
        hints = Hints(prefix="vit_") if name.startswith("vit_") else Hints()
        assert recognise("file", shapes, hints) == config
        assert recognise("file", shapes, Hints(name=name)) == config


def test_other_sizes_of_a_registered_width_get_a_name_of_their_own(tmp_path):
    model = load_model(stored(tmp_path, random_params(TINY)))
    assert model.config == dataclasses.replace(TINY, name="vit_d192_l1_h3_patch16_32")


def test_heads_of_an_unusual_width_must_be_told(tmp_path):
    with pytest.raises(BadInputError, match="number of heads of a ViT of width 12.*num_attention_heads"):
        load_model(stored(tmp_path, random_params(VIT)))


def test_name_must_match(tmp_path):
    path = stored(tmp_path, random_params(TINY))
    for name, pattern in [
        ("deit_small_patch16_224", "embed_dim; expected 384, got 192"),
        ("deit_tiny_patch16_224", "depth; expected 12, got 1"),
        ("swin_tiny_patch4_window7_224", "expected swin, got vit"),
    ]:
        with pytest.raises(BadInputError, match=f"does not hold {name}.*{pattern}"):
            load_model(path, name)
    with pytest.raises(UsageError, match="'deit_tiny'.*try .*deit_tiny_patch16_224"):
        load_model(path, "deit_tiny")


@pytest.mark.parametrize("wrappers, chosen", [
    (["model"], "model"),
    (["state_dict"], "state_dict"),
    (["model", "model_ema", "optimizer"], "model_ema"),
    (["state_dict", "state_dict_ema", "epoch"], "state_dict_ema"),
])  # fmt: skip
def test_training_checkpoints_are_unwrapped_averaged_weights_first(tmp_path, wrappers, chosen):
    content = {key: {"module." + n: a for n, a in random_params(TINY, i).items()} for i, key in enumerate(wrappers)}
    path = tmp_path / "checkpoint.pth"
    path.write_bytes(saved_bytes({"args": None, "epoch": 3, **content}))
    assert_params(load_model(path), random_params(TINY, wrappers.index(chosen)))


def test_files_are_told_apart_by_content(tmp_path):
    params = random_params(TINY)
    (tmp_path / "a.safetensors").write_bytes(saved_bytes(params))
    assert_params(load_model(tmp_path / "a.safetensors"), params)
    for name in ("a.pth", "a.bin", "a.model"):
        (tmp_path / name).write_bytes(b"hello, this is text")
        with pytest.raises(BadInputError, match=name):
            load_model(tmp_path / name)


@pytest.mark.parametrize("length", [0x4B50, 0x0280 + 0x10000])
def test_header_lengths_that_look_like_a_zip_or_a_pickle_are_lengths(tmp_path, length):
    params = random_params(TINY)
    data = stored(tmp_path, params).read_bytes()
    header = data[8 : 8 + int.from_bytes(data[:8], "little")]
    path = tmp_path / "padded.safetensors"
    path.write_bytes(length.to_bytes(8, "little") + header.ljust(length) + data[8 + len(header) :])
    assert path.read_bytes()[:2] in (b"PK", b"\x80\x02")
    assert_params(load_model(path), params)


def test_checkpoints_without_tensors_are_refused(tmp_path):
    for content in ({}, {"model": {}}, {"epoch": 1}, {"model": {"model": {"x": "y"}}}):
        (tmp_path / "a.pth").write_bytes(saved_bytes(content))
        with pytest.raises(BadInputError, match="no tensors"):
            load_model(tmp_path / "a.pth")


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_other_float_types_are_converted_and_told(tmp_path, capsys, dtype):
    params = {n: a.astype(dtype) for n, a in random_params(TINY).items()}
    model = load_model(stored(tmp_path, params))
    assert_params(model, {n: a.astype(np.float32) for n, a in params.items()})
    assert f"{np.dtype(dtype)} converted to float32" in capsys.readouterr().err


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e39])
def test_values_that_are_not_finite_are_named(tmp_path, value):
    params = random_params(TINY)
    params["blocks.0.mlp.fc1.weight"] = params["blocks.0.mlp.fc1.weight"].astype(np.float64)
    params["blocks.0.mlp.fc1.weight"][2, 5] = value
    with pytest.raises(BadInputError, match=r"blocks.0.mlp.fc1.weight: value at \(2, 5\); expected a finite float32"):
        load_model(stored(tmp_path, params))


def test_integers_are_no_weights(tmp_path):
    params = random_params(TINY)
    params["norm.bias"] = params["norm.bias"].astype(np.int8)
    with pytest.raises(BadInputError, match="norm.bias: dtype; expected a float type, got int8"):
        load_model(stored(tmp_path, params))


def test_missing_and_unexpected_tensors_are_named_with_the_nearest(tmp_path, capsys):
    params = random_params(TINY)
    params["blocks.0.norm1.weigth"] = params.pop("blocks.0.norm1.weight")
    path = stored(tmp_path, params)
    with pytest.raises(BadInputError) as caught:
        load_model(path)
    assert "1 tensors missing: blocks.0.norm1.weight (nearest: 'blocks.0.norm1.weigth')" in str(caught.value)
    assert "1 tensors unexpected: 'blocks.0.norm1.weigth' (nearest: 'blocks.0.norm1.weight')" in str(caught.value)
    assert "19 tensors used, 1 missing, 1 unexpected" in capsys.readouterr().err


def test_many_odd_tensors_are_counted(tmp_path):
    params = {**random_params(TINY), **{f"extra.{i}": np.zeros(1, np.float32) for i in range(8)}}
    with pytest.raises(BadInputError, match="8 tensors unexpected: 'extra.0'.*'extra.4'.* and 3 more$"):
        load_model(stored(tmp_path, params))


@pytest.mark.parametrize("name", list(TINY.param_shapes()))
def test_each_missing_tensor_is_named(tmp_path, name):
    params = random_params(TINY)
    del params[name]
    with pytest.raises(BadInputError, match=f"missing: {name}"):
        load_model(stored(tmp_path, params))


@pytest.mark.parametrize("name", list(SWIN.param_shapes())[::7])
def test_missing_tensors_of_a_swin_are_named(tmp_path, name):
    params = random_params(SWIN)
    del params[name]
    with pytest.raises(BadInputError, match=f"missing: {name}"):
        load_model(stored(tmp_path, params), img_size=32)


@pytest.mark.parametrize("name", list(TINY.param_shapes()))
@pytest.mark.parametrize("change", [lambda a: a[None], lambda a: a[..., :-1], lambda a: a[:0], lambda a: a.ravel()[0]])
def test_each_wrong_shape_is_one_error(tmp_path, name, change):
    params = random_params(TINY)
    params[name] = change(params[name])
    with pytest.raises(BadInputError, match="expected"):
        load_model(stored(tmp_path, params))


def test_wrong_shape_tells_expected_and_got(tmp_path):
    tensors = hugging_face(random_params(VIT))
    tensors["vit.encoder.layer.1.output.dense.bias"] = np.zeros(13, np.float32)
    pattern = r"blocks.1.mlp.fc2.bias \(from 'vit.encoder.layer.1.output.dense.bias'\): shape; expected \[12\], got"
    with pytest.raises(BadInputError, match=pattern):
        load_model(stored(tmp_path, tensors, config=VIT))


def test_other_models_are_refused(tmp_path):
    with pytest.raises(BadInputError, match="not a ViT, DeiT or Swin classifier"):
        load_model(stored(tmp_path, {"conv1.weight": np.zeros((8, 3, 7, 7), np.float32)}))


def test_positions_are_resampled_on_request_alone(tmp_path, capsys):
    params = random_params(TINY)
    path = stored(tmp_path, params)
    model = load_model(path, img_size=64)
    expected = {**params, "pos_embed": resample_pos_embed(params["pos_embed"], 1, 4)}
    assert_params(model, expected)
    assert model.config.img_size == model.preprocess.img_size == 64
    assert "1 of positions resampled to another size" in capsys.readouterr().err
    with pytest.raises(UsageError, match="multiple of patch_size"):
        load_model(path, img_size=65)


def test_relative_position_tables_are_resampled_where_the_window_changes(tmp_path):
    params = random_params(SWIN)  # maps of 16 and 8, windows of 4
    model = load_model(stored(tmp_path, params), img_size=12)  # maps of 6 and 3: the second window shrinks
    table = "layers.{}.blocks.1.attn.relative_position_bias_table"
    assert np.array_equal(model.params[table.format(0)], params[table.format(0)])
    assert np.array_equal(model.params[table.format(1)], resample_square(params[table.format(1)], 5))


def test_swins_that_fit_are_not_resampled(tmp_path, capsys):
    load_model(stored(tmp_path, random_params(SWIN)), img_size=64)
    assert "resampled" not in capsys.readouterr().err


def test_small_swins_tell_of_img_size(tmp_path):
    params = random_params(dataclasses.replace(SWIN, img_size=12))
    with pytest.raises(BadInputError, match=r"relative_position_bias_table: shape; .*try img_size"):
        load_model(stored(tmp_path, params))
    assert_params(load_model(stored(tmp_path, params), img_size=12), params)


def test_name_of_another_size_needs_img_size(tmp_path):
    params = random_params(model_config("deit_tiny_patch16_224"))
    path = stored(tmp_path, params)
    with pytest.raises(BadInputError, match="expected 384, got 224; try img_size"):
        load_model(path, "deit_tiny_patch16_384")
    assert load_model(path, "deit_tiny_patch16_384", img_size=384).config == model_config("deit_tiny_patch16_384")
    assert load_model(path, "vit_tiny_patch16_224").config == model_config("vit_tiny_patch16_224")
    assert load_model(path).config == model_config("deit_tiny_patch16_224")


@pytest.mark.parametrize("config", [VIT, SWIN], ids=["vit", "swin"])
def test_saved_models_come_back_whole(tmp_path, config):
    labels = ["a", "b", "c", "d", "é"]
    preprocess = make_preprocess("squash", config.img_size, 0.5)
    model = Model(config, random_params(config), preprocess=preprocess, labels=labels)
    save_model(model, tmp_path / "a.safetensors")
    got = load_model(tmp_path / "a.safetensors")
    assert_params(got, model.params)
    assert (got.config, got.preprocess, got.labels) == (config, preprocess, labels)
    with pytest.raises(UsageError, match="already exists"):
        save_model(model, tmp_path / "a.safetensors")
    with pytest.raises(BadInputError, match="does not hold"):
        load_model(tmp_path / "a.safetensors", "deit_tiny_patch16_224")


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"config": 1, "preprocess": {}, "labels": null}', "[" * 100_000])
def test_damaged_metadata_of_ours_is_refused(tmp_path, text):
    with pytest.raises(BadInputError, match="model.safetensors"):
        load_model(stored(tmp_path, random_params(TINY), {"refvit": text}))


def test_metadata_of_others_is_passed_over(tmp_path):
    params = random_params(TINY)
    metadata = {"format": "pt", "config": "anything", "labels": "[1]"}
    model = load_model(stored(tmp_path, params, metadata))
    assert model.preprocess == default_preprocess(model.config) and model.labels is None


def test_every_truncation_of_a_checkpoint_is_refused(tmp_path):
    data = stored(tmp_path, random_params(TINY)).read_bytes()
    path = tmp_path / "cut.safetensors"
    for length in [*range(0, 3000, 37), *range(len(data) - 5, len(data))]:
        path.write_bytes(data[:length])
        with pytest.raises(BadInputError, match="cut.safetensors"):
            load_model(path)


def test_missing_files_and_folders_are_one_error(tmp_path):
    for path in (tmp_path / "missing.safetensors", tmp_path / "missing.pth", tmp_path):
        with pytest.raises(BadInputError, match="cannot be read"):
            load_model(path)


@pytest.mark.skipif(not (DATA / "deit_tiny_patch16_224.safetensors").exists(), reason="no data")
def test_the_published_deit_is_read_as_it_is(capsys):
    path = DATA / "deit_tiny_patch16_224.safetensors"
    model = load_model(path)
    assert_params(model, safetensors.read(path)[0])
    assert model.config == model_config("deit_tiny_patch16_224")
    assert "152 tensors used, 0 missing, 0 unexpected\n" in capsys.readouterr().err


def test_a_checkpoint_of_1000_classes_has_imagenets_names(tmp_path):
    """Unless it says otherwise: one that save_model wrote says all it knows."""
    model = load_model(stored(tmp_path, random_params(dataclasses.replace(TINY, num_classes=1000))))
    assert model.labels == imagenet_names()
    model.labels = None
    save_model(model, tmp_path / "nameless.safetensors")
    assert load_model(tmp_path / "nameless.safetensors").labels is None
    assert load_model(stored(tmp_path, random_params(TINY))).labels is None
