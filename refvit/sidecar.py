"""What stands beside a checkpoint: config.json (Hugging Face's or timm's) and preprocessor_config.json."""

import os
from dataclasses import dataclass

from .architecture import Hints
from .bitnet import LINEAR_CLASSES
from .errors import BadInputError, UnsupportedError, blamed
from .files import read_bytes
from .preprocess import HALF, IMAGENET_MEAN, IMAGENET_STD, PreprocessConfig, make_preprocess
from .registry import MODELS
from .safetensors import parse_json

SIZE_MAX = 10_000_000  # bytes of a JSON file; our choice
NORM_EPS = {"vit": 1e-12, "deit": 1e-12, "swin": 1e-5}  # transformers' defaults of layer_norm_eps
SQUASH_FROM = 384  # pixels; transformers' processors with a crop_pct resize to this and more without a crop
BICUBIC = 3  # Pillow's number of the filter


@dataclass(frozen=True)
class Sidecar:
    """What the files beside a checkpoint say; a field is None where they do not.

    path         of config.json, for errors
    config       ViTConfig or SwinConfig, where nothing needs to be recognised
    hints        for architecture.recognise
    img_size     of the pictures the weights were made for
    num_classes  of the classifier
    labels       list of class names
    preprocess   PreprocessConfig
    linear_class what packs the linear layers as BitNet does (bitnet.py)
    notes        what cannot be honoured, for the user
    """

    path: str = ""
    config: object = None
    hints: Hints = Hints()
    img_size: object = None
    num_classes: object = None
    labels: object = None
    preprocess: object = None
    linear_class: object = None
    notes: tuple = ()


def read_sidecar(path):
    """Sidecar of the checkpoint ``path``; files of another style are passed over.

    Raises BadInputError for one that is no JSON or has an odd value, UnsupportedError for what no model here does.
    """
    folder = os.path.dirname(path)
    config = _read_json(os.path.join(folder, "config.json"))
    if config.get("model_type", str) in NORM_EPS:
        return _hugging_face(config, _read_json(os.path.join(folder, "preprocessor_config.json")))
    if config.get("architecture", str) is not None:
        return _timm(config)
    return Sidecar()


def _hugging_face(config, processor):
    kind, activation = config.get("model_type", str), config.get("hidden_act", str)
    if activation not in (None, "gelu"):
        raise UnsupportedError(config.path, "hidden_act", "gelu", activation)
    eps = config.get("layer_norm_eps", float, NORM_EPS[kind])
    if kind == "swin" and eps != NORM_EPS[kind]:
        raise UnsupportedError(config.path, "layer_norm_eps of a Swin", f"{NORM_EPS[kind]}, as in patch merging", eps)
    labels, img_size = _labels(config), config.edge("image_size", 224)
    notes = () if processor.get("resample", int, BICUBIC) == BICUBIC else ("bicubic in place of its resampling",)
    return Sidecar(
        path=config.path,
        hints=Hints(
            prefix="vit_" if kind == "vit" else None,
            num_heads=None if kind == "swin" else config.get("num_attention_heads", int),
            img_size=img_size,
            norm_eps=eps,
        ),
        img_size=img_size,
        num_classes=labels and len(labels),
        labels=labels,
        preprocess=_hugging_face_preprocess(processor) if processor.values else None,
        linear_class=_linear_class(config),
        notes=notes,
    )


def _linear_class(config):
    """Of quantization_config, where that is BitNet's."""
    quant = _Json(f"{config.path}: quantization_config", config.get("quantization_config", dict, {}))
    if quant.get("quant_method", str) != "bitnet":
        return None
    if quant.get("use_rms_norm", bool, False):
        raise UnsupportedError(quant.path, "use_rms_norm", "linear layers without a norm of their own", True)
    linear_class = quant.get("linear_class", str, LINEAR_CLASSES[0])
    if linear_class not in LINEAR_CLASSES:
        raise BadInputError(quant.path, "linear_class", " or ".join(LINEAR_CLASSES), repr(linear_class))
    return linear_class


def _labels(config):
    """id2label, a dict "0", "1", ... -> name, as a list."""
    names = config.get("id2label", dict)
    if names is None:
        return None
    if set(names) != {str(i) for i in range(len(names))} or not all(isinstance(n, str) for n in names.values()):
        raise BadInputError(config.path, "id2label", 'names for "0", "1", ...', f"{list(names)[:3]} ...")
    return [names[str(i)] for i in range(len(names))]


def _hugging_face_preprocess(processor):
    """``size`` alone: squash to it; with a centre crop: squash, or shortest edge, and crop; or a crop_pct."""
    size = processor.values.get("size")
    mode = "facebook" if isinstance(size, dict) and "shortest_edge" in size else "squash"
    resize = img_size = processor.edge("size", 224)
    if "crop_pct" in processor.values and img_size >= SQUASH_FROM:
        mode = "squash"
    elif "crop_pct" in processor.values:
        resize = int(img_size / max(processor.get("crop_pct", float), 1e-3))
    elif processor.get("do_center_crop", bool):
        img_size = processor.edge("crop_size", resize)
    mean, std = (0.0,) * 3, (1.0,) * 3
    if processor.get("do_normalize", bool, True):
        mean, std = processor.get("image_mean", list, HALF), processor.get("image_std", list, HALF)
    with blamed(processor.path):
        return PreprocessConfig(mode, img_size, resize, mean, std)


def _timm(config):
    """config.json of timm: the architecture, and its pretrained_cfg (older files have these keys at the top)."""
    cfg = _Json(config.path, {**config.values, **config.get("pretrained_cfg", dict, {})})
    name = config.get("architecture", str).split(".")[0]
    size = cfg.get("input_size", list)
    notes = () if cfg.get("interpolation", str, "bicubic") == "bicubic" else ("bicubic in place of its interpolation",)
    preprocess, img_size = None, None
    if size is not None:
        img_size = _Json(config.path, {"input_size": size[-2:]}).edge("input_size", None)
        mode = "squash" if cfg.get("crop_mode", str) == "squash" else "timm"
        mean, std = cfg.get("mean", list, IMAGENET_MEAN), cfg.get("std", list, IMAGENET_STD)
        with blamed(cfg.path):
            preprocess = make_preprocess(mode, img_size, cfg.get("crop_pct", float, 0.9), mean, std)
    return Sidecar(
        path=config.path,
        hints=Hints(name=name if name in MODELS else None, img_size=img_size),
        num_classes=config.get("num_classes", int),
        preprocess=preprocess,
        notes=notes,
    )


@dataclass(frozen=True)
class _Json:
    """A JSON object whose values are checked as they are taken."""

    path: str
    values: dict

    def get(self, key, kind, default=None):
        """The value, ``default`` where it is absent or null; BadInputError where it is of another type."""
        value = self.values.get(key)
        if value is None:
            return default
        if kind is float and type(value) is int:
            value = float(value)
        if type(value) is not kind:
            raise BadInputError(self.path, key, f"a {kind.__name__}", f"{value!r:.80}")
        return value

    def edge(self, key, default):
        """Pixels of a square, written as 224, [224, 224], {"height": 224, "width": 224} or {"shortest_edge": 224}."""
        value = self.values.get(key)
        value = default if value is None else value
        edges = list(value.values()) if isinstance(value, dict) else value if isinstance(value, list) else [value]
        if not edges or any(type(n) is not int or n < 1 or n != edges[0] for n in edges):
            raise BadInputError(self.path, key, "the edge of a square, in pixels", f"{value!r:.80}")
        return edges[0]


def _read_json(path):
    """A JSON object, empty where there is no such file."""
    if not os.path.exists(path):
        return _Json(path, {})
    values = parse_json(path, read_bytes(path, SIZE_MAX))
    if not isinstance(values, dict):
        raise BadInputError(path, "content", "a JSON object", type(values).__name__)
    return _Json(path, values)
