"""The page of a training run: curves, the loss around the model of each stage, weights and thresholds of one layer."""

from pathlib import Path

from ..config import linear_roles, middle_layer
from ..errors import BadInputError, UsageError
from ..progress import Progress
from ..report import curves_section, page, surface_section, weights_section
from ..weights import load_model
from .dataset import open_dataset, subset
from .loader import Loader
from .losses import make_targets
from .recipe import read_recipe
from .run import read_log
from .surface import loss_surface


def run_page(folder, data, pictures, grid, reach, layer, progress):
    """HTML text.  data: path of the dataset, or None for a page without loss surfaces

    Raises BadInputError where the folder holds no finished stage, UsageError for odd numbers or an unknown layer.
    """
    folder = Path(folder)
    if grid < 3 or grid % 2 == 0:
        raise UsageError("report", "--grid", "an odd number of at least 3", grid)
    if not (folder / "recipe.json").exists():
        raise BadInputError(folder, "not the folder of a training run", "recipe.json in it", "none")
    recipe = read_recipe(folder / "recipe.json")
    models = stage_models(folder, recipe)
    ternary = [name for name, model in models.items() if model.quant is not None and model.quant.weight_bits == 2]
    weights = [ternary_weights(stage, models[stage], layer) for stage in ternary[-1:]]  # of the last such stage
    sections = [("Training", curves_section(read_log(folder / "log.jsonl")))]
    if data is not None:
        x, targets = some_pictures(next(iter(models.values())), data, pictures, recipe.data_seed)
        meter = Progress(progress, "loss surfaces", grid * grid * len(models))
        surfaces = {}
        for i, (name, model) in enumerate(models.items()):
            surfaces[name] = loss_surface(model, x, targets, grid, reach, recipe.seed, Offset(meter, i * grid * grid))
        sections.append(("Loss around each stage's model", surface_section(surfaces, reach)))
    return page(f"Run {folder.resolve().name}", sections + weights)


def ternary_weights(stage, model, layer):
    """The section of a layer, or of the middle one."""
    middle = middle_layer(model.config)
    layer = layer or middle
    if layer not in linear_roles(model.config):
        raise UsageError("report", "--layer", f"a linear layer, as {middle}", repr(layer))
    return f"Weights after stage {stage}", weights_section(layer, model.matrix(layer), model.quant)


def stage_models(folder, recipe):
    """The model that each finished stage left, with the stage's quantization.  -> dict: stage -> Model"""
    models = {}
    for stage in recipe.stages:
        path = folder / f"{stage.name}.safetensors"
        if path.exists():
            model = load_model(path)
            models[stage.name] = model if stage.quant is None else model.with_quant(stage.quant)
    if not models:
        raise BadInputError(folder, "no finished stage", f"{recipe.stages[0].name}.safetensors", "none")
    return models


def some_pictures(model, data, count, seed):
    """Test pictures, the same for all stages.  -> x float32 [B, 3, S, S], targets float32 [B, classes]"""
    dataset = open_dataset(data, "test", class_names=model.labels)
    dataset = subset(dataset, min(count, len(dataset)), seed)
    x, labels = next(iter(Loader(dataset, len(dataset), model.preprocess).epoch()))
    return x, make_targets(labels, model.config.num_classes)


class Offset:
    """A Progress that counts on from an offset."""

    def __init__(self, meter, offset):
        self.meter, self.offset = meter, offset

    def update(self, done):
        self.meter.update(self.offset + done)
