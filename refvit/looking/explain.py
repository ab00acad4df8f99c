"""Where the weight row and the activation vector of ``refvit explain`` come from: a model, files, or numbers."""

import difflib
import os
from dataclasses import dataclass

import numpy as np

from ..architecture import shown_name
from ..config import QuantConfig, linear_roles, middle_layer
from ..engine import Engine, pack
from ..errors import BadInputError, UsageError
from ..npy import read_npy
from ..rules import f32
from .watch import pixels_of, watch
from .worked import EXAMPLE_BIAS, EXAMPLE_W, EXAMPLE_X, WeightRow, quantized_input, quantized_row, work


@dataclass(frozen=True)
class Place:
    """Which output of a model: layer (None: in the middle), row of its weights, token (row of its input), picture."""

    layer: object = None
    row: int = 0
    token: int = 0
    picture: object = None


def of_model(model, place, quant=QuantConfig()):
    """One output of a model.  model: Engine, or Model, which is packed by ``quant``  -> Worked, source (dict)

    Raises UsageError for a layer, row or token that is not there.
    """
    layer = check_layer(model.config, place.layer or middle_layer(model.config))
    engine = model if isinstance(model, Engine) else pack(model.with_quant(quant))
    linear = engine.linears[layer]
    row = within(f"{layer}: --row", place.row, len(linear.alpha))
    seen = watch(engine, pixels_of(place.picture, engine), [f"{layer}.*"])
    token = within(f"{layer}: --token", place.token, len(seen.inputs[layer]))
    if isinstance(model, Engine):
        weights = WeightRow(linear.bits, linear.codes()[row], linear.alpha[row])
    else:
        weights = quantized_row(model.matrix(layer)[row], linear.bits, quant.threshold, quant.scale)
    given = ()
    if engine.quant.act_scale != "token":
        zps = seen.trace.get(f"{layer}.zp_in")
        given = seen.trace[f"{layer}.s_in"][token], 0 if zps is None else zps[token]
    x = quantized_input(seen.inputs[layer][token], linear.act_bits, engine.quant.act_quantizer, *given)
    bias = None if linear.bias is None else linear.bias[row]
    source = {"model": model.config.name, "layer": layer, "row": row, "token": token, "picture": place.picture}
    return work(weights, x, bias), source


def check_layer(config, layer):
    """The name of a linear layer is returned. Raises UsageError for another."""
    roles = linear_roles(config)
    if layer not in roles:
        near = difflib.get_close_matches(layer, roles, 3, 0.4)
        hint = ", ".join(near or (middle_layer(config),))
        raise UsageError(layer, f"no linear layer of {shown_name(config)}", hint=hint)
    return layer


def within(what, index, count):
    if index >= count:
        raise UsageError(what, "out of range", f"0 to {count - 1}", index)
    return index


def of_numbers(w, x, bias, place, quant=QuantConfig()):
    """As ``of_model`` of given numbers; each None: those of the built-in example.

    w, x  text: numbers, or the name of an .npy file: a vector, or a matrix of which a row counts
    """
    example = w is None and x is None
    weights = read_row("--weights", w, EXAMPLE_W, place.row)
    activations = read_row("--input", x, EXAMPLE_X, place.token)
    for option, text, other in (("--input", x, weights), ("--weights", w, activations)):
        if text is None and len(weights) != len(activations):
            raise UsageError("explain", option, f"{len(other)} numbers", "none: those of the example are 8")
    bias = EXAMPLE_BIAS if example and bias is None else bias
    worked = work(
        quantized_row(weights, quant.weight_bits, quant.threshold, quant.scale),
        quantized_input(activations, quant.act_bits, quant.act_quantizer),
        None if bias is None else f32(bias),
    )
    return worked, {"model": None, "layer": None, "row": place.row, "token": place.token, "picture": None}


def read_row(option, text, example, index):
    """-> float32 [K]. Raises UsageError for what is neither numbers nor a file, BadInputError for a wrong file."""
    if text is None:
        return np.array(example, f32)
    if os.path.isfile(text) or text.endswith(".npy"):
        values, where = read_npy(text), text
    else:
        try:
            values, where = np.array([float(part) for part in text.replace(",", " ").split()]), option
        except ValueError:
            raise UsageError(option, "value", "numbers, as '0.5 -1 2', or an .npy file", repr(text)) from None
    if values.ndim not in (1, 2) or not values.size:
        raise BadInputError(where, "numbers", "a vector, or a matrix of rows", f"shape {list(values.shape)}")
    rows = np.atleast_2d(values)
    row = rows[within(f"{where}: row", index, len(rows))]
    with np.errstate(over="ignore"):
        row = row.astype(f32)
    if not np.isfinite(row).all():
        raise BadInputError(where, "numbers", "finite float32", "NaN or inf")
    return row
