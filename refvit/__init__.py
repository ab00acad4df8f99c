"""refvit: TerViT (arXiv 2201.08050) in NumPy and C. Start reading at ternary.py."""

import importlib
import os

# Read when NumPy is loaded: idle threads of its OpenBLAS sleep at once, instead of spinning where kernels could run.
os.environ.setdefault("OPENBLAS_THREAD_TIMEOUT", "4")

__version__ = "0.1.0"

_HOMES = {  # public name -> its module; loaded when first asked for, so that the command line can be interrupted
    "MODELS": "registry",
    "BadInputError": "errors",
    "Engine": "engine",
    "Model": "model",
    "QuantConfig": "config",
    "RefvitError": "errors",
    "SwinConfig": "config",
    "UnsupportedError": "errors",
    "UsageError": "errors",
    "ViTConfig": "config",
    "create_model": "model",
    "dequantize": "ternary",
    "load_model": "weights",
    "pack": "engine",
    "pack_planes": "bitplanes",
    "ternarize": "ternary",
}
_MODULES = ("config", "kernels")

__all__ = [*_HOMES, "kernels"]


def __getattr__(name):
    if name in _MODULES:
        return importlib.import_module(f".{name}", __name__)
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(importlib.import_module(f".{_HOMES[name]}", __name__), name)
    return value
