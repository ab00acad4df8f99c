"""A run's first model, data and settings, without a run."""

import dataclasses

import numpy as np
import pytest
from PIL import Image

from refvit import create_model
from refvit.errors import BadInputError, UsageError
from refvit.training.recipe import read_recipe, recipe_from_dict
from refvit.training.start import initial_model, open_data
from refvit.weights import save_model

MODEL = {"name": "deit_tiny_patch16_224", "img_size": 8, "patch_size": 4, "embed_dim": 12, "depth": 1, "num_heads": 2}
RECIPE = {"model": MODEL, "stages": [{"name": "float", "epochs": 1, "lr": 1e-3}], "batch_size": 2, "workers": 0}


def recipe(**changes):
    return recipe_from_dict({**RECIPE, **changes})


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Three classes of plain pictures: 6 each to train on, 2 to test."""
    root = tmp_path_factory.mktemp("data")
    for split, count in (("train", 6), ("test", 2)):
        for c in range(3):
            (root / split / f"class{c}").mkdir(parents=True)
            for i in range(count):
                Image.fromarray(np.full((8, 8, 3), 40 * c + i, np.uint8)).save(root / split / f"class{c}" / f"{i}.png")
    return root


def test_held_out_pictures_leave_first(data):
    train, held_out, test = open_data(recipe(held_out=6, pictures=9), data)
    assert (len(train), len(held_out), len(test)) == (9, 6, 6)
    seen = [{train.get(i)[0].tobytes() for i in range(9)}, {held_out.get(i)[0].tobytes() for i in range(6)}]
    assert len(seen[0]) == 9 and len(seen[1]) == 6 and not seen[0] & seen[1]
    train, held_out, _ = open_data(recipe(), data)
    assert len(train) == 18 and held_out is None


def test_a_batch_larger_than_the_data_is_an_error(data):
    with pytest.raises(UsageError, match="at most 18 pictures"):
        open_data(recipe(batch_size=7, accumulate=3), data)


def test_new_weights_are_those_of_the_seed_and_take_the_classes_of_the_data(data):
    train, _, _ = open_data(recipe(), data)
    model = initial_model(recipe(seed=5), train)
    fields = {k: v for k, v in MODEL.items() if k != "name"}
    expected = create_model(MODEL["name"], seed=5, num_classes=3, **fields)
    assert model.labels == ["class0", "class1", "class2"] and set(model.params) == set(expected.params)
    assert all((model.params[n] == expected.params[n]).all() for n in expected.params)


def test_a_checkpoint_of_other_classes_gets_a_new_head_alone(data, tmp_path):
    train, _, _ = open_data(recipe(), data)
    fields = {k: v for k, v in MODEL.items() if k != "name"}
    for classes in (3, 7):
        before = create_model(MODEL["name"], seed=1, num_classes=classes, **fields)
        save_model(before, tmp_path / f"{classes}.safetensors")
        model = initial_model(recipe(seed=2, init=str(tmp_path / f"{classes}.safetensors")), train)
        other = {n for n in model.params if not np.array_equal(model.params[n], before.params[n])}
        assert other == (set() if classes == 3 else {"head.weight", "head.bias"})  # a new bias is 0, but of another length
        assert model.config.num_classes == 3 and model.params["head.weight"].shape == (3, 12)


def test_a_checkpoint_of_another_model_is_refused(data, tmp_path):
    train, _, _ = open_data(recipe(), data)
    fields = {k: v for k, v in MODEL.items() if k != "name"}
    save_model(create_model(MODEL["name"], num_classes=3, **fields), tmp_path / "m.safetensors")
    with pytest.raises(UsageError, match="depth.*2.*1"):
        initial_model(recipe(init=str(tmp_path / "m.safetensors"), model={**MODEL, "depth": 2}), train)


def test_preprocessing_is_the_models_but_for_what_the_recipe_says(data):
    train, _, _ = open_data(recipe(), data)
    default = initial_model(recipe(), train).preprocess
    changed = initial_model(recipe(crop_pct=0.5, mean=[0.1, 0.2, 0.3]), train).preprocess
    assert changed.resize == 16 and tuple(changed.mean) == (0.1, 0.2, 0.3) and changed.std == default.std
    assert dataclasses.replace(changed, resize=default.resize, mean=default.mean, mode=default.mode) == default


@pytest.mark.parametrize("change, words", [
    ({"stages": [{"name": "a b", "epochs": 1, "lr": 1}]}, "letters, digits"),
    ({"stages": [{"name": "a", "epochs": 1, "lr": 1, "warmup_epochs": 2}]}, "warmup_epochs"),
    ({"stages": [{"name": "a", "epochs": 1, "lr": "fast"}]}, "lr"),
    ({"stages": [{"name": "a", "epochs": 1, "lr": float("inf")}]}, "lr"),
    ({"stages": [{"name": "a", "epochs": 1, "lr": 1}] * 2}, "all different"),
    ({"stages": {"name": "a"}}, "a list of objects"),
    ({"stages": [3]}, "an object"),
    ({"model": {}}, '"name"'),
    ({"model": 3}, '"name"'),
    ({"note": 3}, "text"),
    ({"pictures": 0}, "pictures"),
    ({"workers": True}, "workers"),
    ({"clip_norm": 0}, "clip_norm"),
    ({"ema_decay": 1.5}, "ema_decay"),
])  # fmt: skip
def test_a_wrong_recipe_names_the_field(change, words):
    with pytest.raises(UsageError, match=words):
        recipe(**change)


def test_some_stages_in_the_order_that_is_asked_for():
    whole = recipe(stages=[{"name": name, "epochs": 1, "lr": 1} for name in "abc"])
    assert [stage.name for stage in whole.only(["c", "a"]).stages] == ["c", "a"]
    with pytest.raises(UsageError, match="one of a, b, c"):
        whole.only(["d"])


@pytest.mark.parametrize("text", ["{", "[" * 100_000, "[]", "3", '{"stages": [], "model": {"name": 3}}'])
def test_a_recipe_that_is_no_recipe_names_its_file(tmp_path, text):
    (tmp_path / "r.json").write_text(text)
    with pytest.raises(BadInputError, match="r.json"):
        read_recipe(tmp_path / "r.json")
