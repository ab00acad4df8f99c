"""Checkpoint file -> Model, whoever wrote it; Model -> checkpoint file."""

import dataclasses
import json
import math
import os
import sys

import numpy as np

from . import bitnet, safetensors, torchfile
from .architecture import recognise
from .box import resolve
from .config import config_from_dict, config_to_dict
from .errors import BadInputError, UsageError, blamed
from .files import open_input
from .interpolate import resample_pos_embed, resample_square
from .labels import check_labels, imagenet_names, stored_labels
from .model import Model
from .modelfile import FORMAT, load_packed
from .names import nearest, to_timm
from .preprocess import PreprocessConfig, default_preprocess
from .registry import model_config
from .sidecar import NORM_EPS, Sidecar, read_sidecar

TORCH_SUFFIXES = (".pth", ".pt", ".bin")
TORCH_STARTS = (b"PK\3\4", torchfile.LEGACY_MAGIC[:4])  # as a safetensors header's length, far above the cap
WRAPPERS = ("model_ema", "state_dict_ema", "state_dict", "model")  # averaged weights first, as timm prefers them
KEY = "refvit"  # of the metadata of float checkpoints written here
NAMED = 5  # so many tensors, or files, are named in an error
NO_MODELS = {  # other files that are written here
    "refvit-calibration": "the ranges of refvit calibrate",
    "refvit-trace": "the tensors of refvit trace",
    "refvit-run": "the state of a training run",
}


def load_model(path, name=None, img_size=None):
    """A model from a checkpoint, or an Engine from a packed file.

    path      .safetensors, or .pth/.pt/.bin as torch.save writes it; parameter names of timm, facebook, Microsoft or
              Hugging Face (names.py), linear layers packed as BitNet's included (bitnet.py); a config.json beside it
              is honoured (sidecar.py); or the name of a model that ships with the package (box.py)
    name      timm's name that the checkpoint must be of; None: recognised from names and shapes (architecture.py)
    img_size  another picture size, pixels: position embeddings and relative-position tables are resampled to it
              (interpolate.py); None: the checkpoint's own
    Returns a float Model, its parameters C-contiguous float32; one line on stderr tells what was used. A published
    checkpoint of 1000 classes without names of its own gets ImageNet's (our choice). Raises
    BadInputError unless every parameter is there, of its shape and finite, and nothing else is; UsageError for an
    unknown name or an impossible img_size; UnsupportedError for what config.json asks and no model here does.
    """
    path = resolve(path)
    if os.path.isdir(path):
        raise BadInputError(path, "cannot be read", "a file", "a folder", _checkpoints_in(path))
    is_torch = _is_torch(path)
    metadata = {} if is_torch else safetensors.read_metadata(path)
    if metadata.get("format") == FORMAT:
        return _load_packed(path, name, img_size)
    if metadata.get("format") in NO_MODELS:
        raise BadInputError(path, "not a model", "a checkpoint or a packed file", NO_MODELS[metadata["format"]])
    sidecar = _saved(path, metadata[KEY]) if KEY in metadata else read_sidecar(path)
    tensors = _state_dict(path, torchfile.read(path)) if is_torch else safetensors.read(path)[0]
    tensors = bitnet.unpacked(path, tensors, sidecar.linear_class)
    tensors, sources, unused, hugging_face = to_timm(path, tensors)

    config = sidecar.config or _recognised(path, tensors, sidecar, name, hugging_face)
    _check_agreement(path, config, sidecar, name, img_size)
    target = config if img_size is None else dataclasses.replace(config, img_size=img_size)
    preprocess = _preprocess(sidecar, target)

    edges = _edges_to_resample(tensors, config, target) if img_size is not None else {}
    _check_match(path, target.param_shapes(), tensors, sources, _notes(unused, edges, sidecar))
    tensors.update({n: _resampled(tensors[n], n, config, edge) for n, edge in edges.items()})
    params = {n: _parameter(path, n, sources[n], tensors[n], s) for n, s in target.param_shapes().items()}
    labels = sidecar.labels
    if labels is None and sidecar.config is None and target.num_classes == len(imagenet_names()):
        labels = imagenet_names()
    return Model(target, params, preprocess=preprocess, labels=labels)


def save_model(model, path, force=False):
    """Write a float model as safetensors under timm's names, all that ``load_model`` needs in the metadata.

    Raises UsageError where ``path`` exists and ``force`` is not given, BadInputError where it cannot be written.
    """
    saved = {
        "config": config_to_dict(model.config),
        "preprocess": model.preprocess.to_dict(),
        "labels": stored_labels(model.labels),
    }
    metadata = {"format": "pt", KEY: json.dumps(saved, sort_keys=True)}  # "pt": what other readers ask for
    safetensors.write(path, model.params, metadata, force)


def _is_torch(path):
    """By the content, or, where that says nothing, by the file's suffix."""
    with open_input(path) as file:
        start = file.read(4)
    return start in TORCH_STARTS or path.lower().endswith(TORCH_SUFFIXES)


def _checkpoints_in(folder):
    """The files of a folder that may be meant, or None."""
    names = sorted(n for n in os.listdir(folder) if n.endswith((".safetensors", *TORCH_SUFFIXES)))
    return ", ".join(os.path.join(folder, n) for n in names[:NAMED]) or None


def _load_packed(path, name, img_size):
    engine = load_packed(path)
    if name not in (None, engine.config.name):
        raise BadInputError(path, f"does not hold {name}", name, engine.config.name)
    if img_size not in (None, engine.config.img_size):
        raise UsageError(path, "img_size of a packed file", engine.config.img_size, img_size, "the float checkpoint")
    return engine


def _state_dict(path, value):
    """The tensors of a training checkpoint, out of the first wrapper that is there.  -> dict: name -> array"""
    for _ in WRAPPERS:
        key = next((k for k in WRAPPERS if isinstance(value.get(k), dict)), None)
        value = value if key is None else value[key]
    tensors = {k: v for k, v in value.items() if isinstance(k, str) and isinstance(v, np.ndarray)}
    if not tensors:
        keys = ", ".join(repr(k)[:60] for k in list(value)[:NAMED])
        raise BadInputError(path, "no tensors", "a dict of them, or one under " + " or ".join(WRAPPERS), keys or "{}")
    return tensors


def _saved(path, text):
    """What ``save_model`` wrote into the metadata, as if it stood beside the file."""
    saved = safetensors.parse_json(f"{path}: metadata", text.encode())
    if not isinstance(saved, dict) or set(saved) != {"config", "preprocess", "labels"}:
        raise BadInputError(path, f"metadata {KEY!r}", "config, preprocess and labels", f"{saved!r:.80}")
    with blamed(path):
        config = config_from_dict(saved["config"])
        labels = check_labels(saved["labels"], config.num_classes)
        preprocess = PreprocessConfig.from_dict(saved["preprocess"])
    return Sidecar(path=path, config=config, labels=labels, preprocess=preprocess)


def _recognised(path, tensors, sidecar, name, hugging_face):
    """The configuration of the checkpoint as it is."""
    shapes, hints = {n: a.shape for n, a in tensors.items()}, sidecar.hints
    if hugging_face and hints.norm_eps is None:
        hints = dataclasses.replace(hints, norm_eps=NORM_EPS["swin" if "patch_embed.norm.weight" in shapes else "vit"])
    return recognise(path, shapes, hints if name is None else dataclasses.replace(hints, name=name))


def _check_agreement(path, config, sidecar, name, img_size):
    """The file, what stands beside it and the caller must mean the same model."""
    if sidecar.num_classes not in (None, config.num_classes):
        raise BadInputError(sidecar.path, "classes", f"{config.num_classes} as in {path}", sidecar.num_classes)
    if name is not None and sidecar.config is not None and name != config.name:
        raise BadInputError(path, "does not hold this model", name, config.name)
    hint = "img_size (--img-size) to resample position embeddings"
    if img_size is None and sidecar.img_size not in (None, config.img_size):
        raise BadInputError(sidecar.path, "img_size", f"{config.img_size} as in {path}", sidecar.img_size, hint)
    if img_size is None and name is not None and config.family == "vit":
        named = model_config(name).img_size if sidecar.config is None else config.img_size
        if named != config.img_size:
            raise BadInputError(path, f"img_size of {name}", named, config.img_size, hint)


def _preprocess(sidecar, config):
    """What the files say, else the default; scaled where another picture size is asked for."""
    said = sidecar.preprocess
    if said is None:
        return default_preprocess(config)
    resize = said.resize * config.img_size // said.img_size
    return dataclasses.replace(said, img_size=config.img_size, resize=resize)


def _notes(unused, edges, sidecar):
    """What else the user should know."""
    notes = [f"{len(unused)} known and unused"] if unused else []
    if edges:
        notes.append(f"{len(edges)} of positions resampled to another size")
    return notes + list(sidecar.notes)


def _check_match(path, expected, tensors, sources, notes):
    """Tell on stderr what is used; raise BadInputError unless the names are exactly the expected ones."""
    missing = [n for n in expected if n not in tensors]
    unexpected = [n for n in tensors if n not in expected]
    counts = f"{len(expected) - len(missing)} tensors used, {len(missing)} missing, {len(unexpected)} unexpected"
    odd = sorted({str(a.dtype) for n, a in tensors.items() if n in expected and a.dtype != np.float32})
    notes = [*notes, f"{', '.join(odd)} converted to float32"] if odd else notes
    print(f"refvit: {path}: {'; '.join([counts, *notes])}", file=sys.stderr)
    parts = []
    if missing:
        others = [sources[n] for n in unexpected]
        parts.append(f"{len(missing)} tensors missing: {_listed(missing, lambda n: n + nearest(n, others))}")
    if unexpected:
        named = _listed(unexpected, lambda n: f"{sources[n][:200]!r}" + nearest(n, expected))
        parts.append(f"{len(unexpected)} tensors unexpected: {named}")
    if parts:
        raise BadInputError(path, "; ".join(parts))


def _listed(names, describe):
    """The first few of them, and how many more there are."""
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(describe(n) for n in names[:NAMED]) + more


def _edges_to_resample(tensors, config, target):
    """Name -> new edge of each position grid or table that is whole but of another size than the target's."""
    edges = {}
    for name, shape in target.param_shapes().items():
        array = tensors.get(name)
        if array is None or array.dtype.kind != "f" or array.shape == shape:
            continue
        if name == "pos_embed" and array.shape == config.param_shapes()[name]:
            edges[name] = target.img_size // target.patch_size
        elif name.endswith("relative_position_bias_table") and array.ndim == 2 and array.shape[1] == shape[1]:
            if len(array) and math.isqrt(len(array)) ** 2 == len(array):
                edges[name] = math.isqrt(shape[0])
    return edges


def _resampled(array, name, config, edge):
    if name != "pos_embed":
        return resample_square(array, edge)
    return resample_pos_embed(array, 0 if config.no_embed_class else config.num_prefix_tokens, edge)


def _parameter(path, name, source, array, shape):
    """One parameter as float32, C-contiguous, its own memory."""
    where = f"{path}: {name}" if source == name else f"{path}: {name} (from {source!r})"
    if array.shape != shape:
        hint = "img_size (--img-size)" if name.endswith(("pos_embed", "relative_position_bias_table")) else None
        raise BadInputError(where, "shape", list(shape), list(array.shape), hint)
    if array.dtype.kind != "f":
        raise BadInputError(where, "dtype", "a float type", array.dtype)
    with np.errstate(over="ignore"):  # a float64 beyond float32 becomes inf and is refused below
        result = np.array(array, np.float32, order="C")
    if not np.isfinite(result).all():
        index = tuple(int(i) for i in np.unravel_index(np.isfinite(result).argmin(), shape))
        raise BadInputError(where, f"value at {index}", "a finite float32", array[index])
    return result
