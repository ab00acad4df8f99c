"""Checkpoints whose linear layers are packed as transformers' BitNet integration packs them (arXiv 2402.17764).

    NAME.weight        uint8 [N / 4, K]: bits 2 i and 2 i + 1 of byte [r, k] are the code of row r + i N / 4, plus 1
    NAME.weight_scale  float [1]: one scale for the matrix

What the scale means is in config.json: a "bitlinear" divides its output by it and then adds the bias, an
"autobitlinear" adds the bias and then multiplies. N rows (output channels), K columns.
"""

import numpy as np

from .errors import BadInputError
from .rules import SCALE_MIN
from .ternary import dequantize

LINEAR_CLASSES = ("bitlinear", "autobitlinear")
PER_BYTE = 4
SCALE = ".weight_scale"


def decode(packed):
    """uint8 [N / 4, K] -> int8 [N, K]. Raises BadInputError for two bits that are no code."""
    codes = np.concatenate([packed >> 2 * i & 3 for i in range(PER_BYTE)]).astype(np.int8) - 1
    if (codes > 1).any():
        row, column = np.argwhere(codes > 1)[0]
        raise BadInputError("BitNet codes", f"row {row}, column {column}", "bits 0, 1 or 2", 3)
    return codes


def unpacked(path, tensors, linear_class):
    """The checkpoint with float weights alpha * code, and biases that are added as they are.

    tensors       dict: name -> array, names as in the file
    linear_class  of config.json, or None where there is none
    Packing the result again gives the same codes and scales, since the masked mean of such rows is alpha. Raises
    BadInputError naming the tensor for a bad shape, code or scale, and where linear_class is needed and None.
    """
    scales = [name for name in tensors if name.endswith(SCALE)]
    if scales and linear_class is None:
        expected = 'a config.json beside it with quantization_config: quant_method "bitnet", linear_class'
        raise BadInputError(f"{path}: {scales[0]}", "meaning of the scale", expected, "none")
    result = {name: value for name, value in tensors.items() if name not in scales}
    for name in scales:
        layer = name.removesuffix(SCALE)
        codes, alpha = checked(path, layer, tensors)
        alpha = alpha if linear_class == "autobitlinear" else np.float32(1.0) / alpha
        result[f"{layer}.weight"] = dequantize(codes, np.full(len(codes), alpha, np.float32))
        if linear_class == "autobitlinear" and f"{layer}.bias" in tensors:
            result[f"{layer}.bias"] = tensors[f"{layer}.bias"].astype(np.float32) * alpha
    return result


def checked(path, layer, tensors):
    """-> codes int8 [N, K], scale float32"""
    packed, scale = tensors.get(f"{layer}.weight"), tensors[f"{layer}{SCALE}"]
    if packed is None or packed.dtype != np.uint8 or packed.ndim != 2:
        got = "none" if packed is None else f"{packed.dtype} {list(packed.shape)}"
        raise BadInputError(f"{path}: {layer}.weight", "packed weight", "uint8 [N / 4, K]", got)
    if scale.size != 1 or scale.dtype.kind != "f" or not SCALE_MIN <= scale.item() <= np.finfo(np.float32).max:
        got = f"{scale.dtype} {list(scale.shape)} {scale.reshape(-1)[:1]}"
        raise BadInputError(f"{path}: {layer}{SCALE}", "scale", f"one number of at least {SCALE_MIN}", got)
    try:
        return decode(packed), np.float32(scale.item())
    except BadInputError as error:
        raise BadInputError(f"{path}: {layer}.weight", str(error)) from None
