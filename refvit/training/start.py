"""What a training run starts from: data, preprocessing, and the first weights."""

import dataclasses

from ..errors import UsageError
from ..model import Model, create_model, new_params
from ..preprocess import make_preprocess
from ..weights import load_model
from .dataset import open_dataset, split_off, subset


def open_data(recipe, path):
    """-> training, held-out (or None) and test dataset.

    The held-out pictures leave the training set first; ``pictures`` of the rest are trained on.
    """
    train = open_dataset(path, "train", num_classes=recipe.model.get("num_classes"))
    test = open_dataset(path, "test", class_names=train.class_names)
    held_out = None
    if recipe.held_out:
        train, held_out = split_off(train, recipe.held_out, recipe.data_seed)
    if recipe.pictures is not None:
        train = subset(train, recipe.pictures, recipe.data_seed)
    if len(train) < recipe.batch_size * recipe.accumulate:
        raise UsageError("recipe", "batch_size x accumulate", f"at most {len(train)} pictures", recipe.batch_size)
    return train, held_out, test


def initial_model(recipe, dataset):
    """New seeded weights, or those of the checkpoint ``recipe.init``; the classes are the dataset's."""
    fields = {**recipe.model, "num_classes": dataset.num_classes}
    name = fields.pop("name")
    if recipe.init is None:
        model = create_model(name, seed=recipe.seed, **fields)
    else:
        model = load_model(recipe.init, name=name, img_size=fields.get("img_size"))
        model = with_classes(model, fields.pop("num_classes"), recipe.seed)
        check_fields(recipe, model, fields)
    model.labels = dataset.class_names
    model.preprocess = preprocessing(recipe, model.preprocess)
    return model


def preprocessing(recipe, preprocess):
    """The model's own, with what the recipe says otherwise."""
    if recipe.crop_pct is not None:
        preprocess = make_preprocess("timm", preprocess.img_size, recipe.crop_pct, preprocess.mean, preprocess.std)
    changes = {k: v for k, v in (("mean", recipe.mean), ("std", recipe.std)) if v is not None}
    return dataclasses.replace(preprocess, **changes)


def with_classes(model, num_classes, seed):
    """The model with another number of classes: new seeded heads where that number differs."""
    if model.config.num_classes == num_classes:
        return model
    config = dataclasses.replace(model.config, num_classes=num_classes)
    new = new_params(config, seed)
    params = {n: new[n] if n.startswith("head") else p for n, p in model.params.items()}
    return Model(config, params, preprocess=model.preprocess)


def check_fields(recipe, model, fields):
    """The checkpoint must be the model that the recipe names."""
    for field, value in fields.items():
        got = getattr(model.config, field)
        if got != (tuple(value) if isinstance(value, list) else value):
            raise UsageError(recipe.init, field, value, got)
