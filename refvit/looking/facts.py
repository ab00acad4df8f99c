"""What there is to know of each linear layer of a packed model, and of its bytes; all numbers, no words."""

from dataclasses import dataclass

import numpy as np

from ..bitplanes import base3_bytes
from ..config import linear_roles
from ..quant import unclipped
from ..ternary import relative_error

PARTS = ("patch embedding", "blocks", "head", "scales", "other")


@dataclass(frozen=True)
class LayerFacts:
    """One linear layer and what a picture sent into it.

    zeros    share of the codes;  alpha float32 [N]
    error    ||W - alpha T||^2 / ||W||^2, or None without float weights
    amax     float32 [T]: largest |input| of each token;  clipped: share of the inputs whose code was clipped
    rows     T, of the input
    """

    name: str
    shape: tuple
    bits: int
    act_bits: int
    nbytes: int
    zeros: float
    alpha: np.ndarray
    error: object
    amax: np.ndarray
    clipped: float

    @property
    def rows(self):
        return len(self.amax)


def layer_facts(engine, floats, seen, progress=None):
    """floats: Model or None; seen: Watched; progress: Progress over the layers or None  -> list of LayerFacts"""
    found = []
    for linear in engine.linears.values():
        found.append(facts_of(engine, linear, floats, seen))
        if progress is not None:
            progress.update(len(found))
    return found


def facts_of(engine, linear, floats, seen):
    codes, x, name = linear.codes(), seen.inputs[linear.name], linear.name
    error = None if floats is None else float(relative_error(floats.matrix(name), codes, linear.alpha))
    s, zp = seen.trace[f"{name}.s_in"], seen.trace.get(f"{name}.zp_in", np.zeros(len(x), np.int32))
    passes = unclipped(x, s, zp, linear.act_bits, engine.quant.act_quantizer)
    return LayerFacts(
        name, codes.shape, linear.bits, linear.act_bits, linear.weight.nbytes, float((codes == 0).mean()), linear.alpha,
        error, np.abs(x).max(axis=1), float(1 - passes.mean()),
    )  # fmt: skip


def byte_rows(engine):
    """Bytes of the parts (PARTS) of the model in several forms.  -> dict: form -> list of int

    A ternary model is also counted as a base-3 file has it (N2).
    """
    roles = linear_roles(engine.config)
    kinds = [linear_part(roles[linear.name]) for linear in engine.linears.values()]
    elements = [len(linear.alpha) * linear.k for linear in engine.linears.values()]
    ternary = [linear.bits == 2 for linear in engine.linears.values()]
    stored = [linear.weight.nbytes for linear in engine.linears.values()]
    base3 = [base3_bytes(n) if t else n for n, t in zip(elements, ternary)]
    forms = {"float32": [4 * n for n in elements], "8-bit weights": elements}
    if any(ternary):
        forms |= {"ternary, planes": stored, "ternary, base 3": base3}
    scales = sum(linear.alpha.nbytes for linear in engine.linears.values())
    biases = sum(linear.bias.nbytes for linear in engine.linears.values() if linear.bias is not None)
    rest = biases + sum(value.nbytes for value in engine.params.values())
    return {
        form: [sum(n for n, kind in zip(sizes, kinds) if kind == part) for part in PARTS[:3]]
        + [0 if form == "float32" else scales, rest]
        for form, sizes in forms.items()
    }


def linear_part(role):
    return {"patch": PARTS[0], "block": PARTS[1], "head": PARTS[2]}[role]
