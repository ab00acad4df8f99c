"""refvit: TerViT (arXiv 2201.08050) in NumPy and C. Start reading at ternary.py."""

from . import kernels
from .bitplanes import pack_planes
from .config import MODELS, QuantConfig, SwinConfig, ViTConfig
from .engine import Engine, pack
from .errors import BadInputError, RefvitError, UnsupportedError, UsageError
from .model import Model, create_model
from .ternary import dequantize, ternarize
from .weights import load_model

__version__ = "0.1.0"

__all__ = [
    "MODELS",
    "BadInputError",
    "Engine",
    "Model",
    "QuantConfig",
    "RefvitError",
    "SwinConfig",
    "UnsupportedError",
    "UsageError",
    "ViTConfig",
    "create_model",
    "dequantize",
    "kernels",
    "load_model",
    "pack",
    "pack_planes",
    "ternarize",
]
