"""Which bugs change the outputs of a case of the kit: the mistakes of hypotheses.py and own.py, tried on it.

A mistake in one step of a longer operation is tried on the right inputs of that step.
"""

from types import SimpleNamespace

import numpy as np

from .. import bitplanes, layers, window
from ..config import QuantConfig
from ..errors import RefvitError
from ..preprocess import PreprocessConfig
from .answers import ANSWERS, engine_of, layer_of, one_layer, pixels
from .causes import ways
from .difference import changes
from .judge import Judge, Step, judge, same
from .own import OWN, SENTENCES
from .variants import merging_variants, patch_variants, window_variants

MACHINE = ("exp_numpy", "sum_numpy_sum")  # what these give depends on NumPy's version and the CPU
GENERAL = {
    "not_refused": "wrong input is accepted",
    "flush_to_zero": "subnormal results are flushed to zero",
    "denormals_are_zero": "subnormal inputs count as zero",
}
ABOUT = SENTENCES | {name: about for name, (about, _) in OWN.items()} | GENERAL
LEAST = np.finfo(np.float32).smallest_normal


def flags_of(case):
    """Names of the bugs that give another output of a case, which has its outputs."""
    if case.expectation == "reject":
        return ("not_refused",)
    if not all(tensor.value.size for tensor in case.outputs):
        return ()
    found = set()

    def attempt(name, shows):
        if name not in found and name not in MACHINE and shows():
            found.add(name)

    def visit(step):
        own = step.value()
        for name, _, make in ways(step):
            attempt(name, lambda make=make: seen(case, own, make()))
        return own

    with np.errstate(all="ignore"):
        for name, (_, operations) in OWN.items():
            if case.operation in operations:
                wrong = operations[case.operation]
                attempt(name, lambda wrong=wrong: differs(case, wrong(**case.arrays, **case.parameters)))
        if case.expectation == "exact":
            attempt("flush_to_zero", lambda: any(flushed(t.value) is not t.value for t in case.outputs))
            attempt("denormals_are_zero", lambda: with_flushed_inputs(case))
        if case.operation in STEPS and case.expectation != "near-tie":
            STEPS[case.operation](visit, **case.arrays, **case.parameters)
    return tuple(name for name in ABOUT if name in found)


def seen(case, own, value):
    """Whether a step's wrong value is seen."""
    return differs(case, value) if case.expectation == "bound" else not equal(own, value)


def differs(case, outputs):
    """Whether outputs are wrong; the one output of a case may be given by itself."""
    outputs = outputs if isinstance(outputs, dict) else {case.outputs[0].name: outputs}
    return any(not right(tensor, outputs[tensor.name]) for tensor in case.outputs)


def right(tensor, value):
    if tensor.low is None:
        return equal(tensor.value, value)
    return bool(((tensor.low <= value) & (value <= tensor.high)).all())


def equal(own, value):
    value = np.asarray(value)
    return own.dtype == value.dtype and own.shape == value.shape and not changes(own, value).any()


def flushed(value):
    """With zeros for subnormals; the same array where there are none."""
    if value.dtype != np.float32:
        return value
    tiny = (value != 0) & (np.abs(value) < LEAST)
    return np.where(tiny, np.copysign(np.float32(0), value), value) if tiny.any() else value


def with_flushed_inputs(case):
    inputs = {name: flushed(value) for name, value in case.arrays.items()}
    if all(inputs[name] is value for name, value in case.arrays.items()):
        return False
    try:
        return differs(case, ANSWERS[case.operation](**inputs, **case.parameters))
    except RefvitError:
        return True


# The steps of an operation, shown to ``visit`` as judge.py does


def twin(kind, **fixed):
    """An operation of one step."""
    return lambda visit, **inputs: visit(Step(kind, kind, {**inputs, **fixed}, same))


def moved(visit, x, variants):
    """Data in another order.  x: in the right one; variants: as in variants.py"""
    visit(Step("", "copy", {"x": x}, same, (), variants))


def pixel_steps(visit, u8, mean, std):
    side = len(u8)
    preprocess = PreprocessConfig("squash", side, side, *([float(v) for v in values] for values in (mean, std)))
    engine = SimpleNamespace(config=SimpleNamespace(patch_size=side, in_chans=3), preprocess=preprocess)
    variants = patch_variants(engine, u8)
    del variants["channels_last"]  # of patches
    moved(visit, pixels(u8, mean, std), variants)


def window_steps(visit, x, window_size, shift):
    config = SimpleNamespace(stages=[(x.shape[1], 0, 0, window_size, 1)], shift=lambda stage, block: shift)
    variants = window_variants(config, "layers.0.blocks.0.attn", x, np.float32(0))
    moved(visit, window.to_windows(x, window_size, shift), variants)


def static_steps(visit, range, bits, quantizer):
    amax, lo, hi = range
    x = np.array([[amax, -amax] if quantizer == "symmetric" else [lo, hi]])
    how = {"x": x, "bits": bits, "quantizer": quantizer, "groups": 1, "static": None}
    s = twin("scale")(visit, **how)
    if quantizer == "minmax":
        twin("zero_point")(visit, **how, s=s)


def product_steps(visit, q, zp, bits, planes=None, weight=None, k=None):
    weight = bitplanes.unpack_planes(planes, k) if weight is None else weight
    twin("product")(visit, q=q, zp=zp, weight=weight)


def linear_steps(visit, x, groups, **layer):
    Judge(layer_of(**layer), visit, None).linear_of("y", x.reshape(groups, -1, layer["k"]), {})


def attention_steps(visit, qkv, heads, attention, bias=None, mask=None):
    run = Judge(one_layer(QuantConfig(attention=attention)), visit, None)
    mix = run.mix_float if attention == "float" else run.mix_codes
    mix("y", *layers.split_heads_forward(qkv, heads), bias, mask)


def norm_steps(visit, eps, **inputs):
    twin("layernorm")(visit, eps=float(eps), **inputs)


def with_bias(kind):
    return lambda visit, bias=None, **inputs: twin(kind)(visit, bias=bias, **inputs)


def with_bias_and_mask(kind):
    return lambda visit, bias=None, mask=None, **inputs: twin(kind)(visit, bias=bias, mask=mask, **inputs)


def residual_steps(visit, skip, branch, gamma=None):
    twin("residual")(visit, skip=skip, branches=[branch if gamma is None else branch * gamma])


STEPS = {
    **{kind: twin(kind) for kind in ("gelu", "codes", "softmax", "prob_codes", "context", "float_context", "pool")},
    "pixels": pixel_steps,
    "scale": twin("scale", static=None),
    "zero_point": twin("zero_point", static=None, quantizer="minmax"),
    "static_scale": static_steps,
    "ternary_product": product_steps,
    "int8_product": product_steps,
    "rescale": with_bias("rescale"),
    "linear": linear_steps,
    "layernorm": norm_steps,
    "score": with_bias_and_mask("score"),
    "float_score": with_bias_and_mask("float_score"),
    "attention": attention_steps,
    "residual": residual_steps,
    "logits": lambda visit, head, head_dist: twin("logits")(visit, heads=[head, head_dist]),
    "windows": window_steps,
    "merging": lambda visit, x: moved(visit, window.merge_patches(x), merging_variants(x)),
    "model": lambda visit, file, pixels: judge(engine_of(file), pixels, visit),
}  # fmt: skip
