"""What others' ternary models quantize to is what the switches here give (vectors of tools/make_published_vectors.py).

Theirs is float32 PyTorch. Everywhere u = 2^-24, and a sum of n terms in any order is off by at most n u of itself; here
sums are exact and rounded once. So both thresholds and scales differ by a few u and, for theirs, n u; a code can differ
only where its number lies that close to the threshold or tie.
"""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

import refvit
from refvit import bitnet, quant, safetensors
from refvit.config import QuantConfig
from refvit.errors import BadInputError, UnsupportedError
from refvit.exact import rescale
from refvit.ternary import ternarize

FOLDER = Path(__file__).parent / "vectors" / "published"
VECTORS = safetensors.read(FOLDER / "quantizers.safetensors")[0]
U = 2.0**-24
EPS = 1e-5  # BitNet's
BITNET = {"quant_method": "bitnet"}
WEIGHTS, ACTIVATIONS = ("w", "small", "ties"), ("x", "grid")


def mean_of(w):
    return np.abs(w.astype(np.float64)).mean()


@pytest.mark.parametrize("granularity", ["layer", "channel"])
@pytest.mark.parametrize("name", WEIGHTS)
def test_ternarybert_weights(name, granularity):
    """Its threshold has n u from the sum, and 3 u from / n, 0.7 and * 0.7; its alpha n u and u from the division.

    It clips weights to 2.5 first, which these do not reach, and has NaN for a row of zeros, where refvit has 0.
    """
    w, theirs = VECTORS[name], VECTORS[f"{name}/twn/{granularity}"]
    codes, alpha = ternarize(w, granularity, 0.7, "masked_mean")
    n = w.size if granularity == "layer" else w.shape[1]
    delta = 0.7 * np.abs(w.astype(np.float64)).mean(axis=None if granularity == "layer" else 1, keepdims=True)
    assert not (np.abs(np.abs(w) - delta) <= (n + 5) * U * delta).any()  # so every code must be equal
    assert (codes == np.sign(theirs)).all()
    assert (np.abs(np.abs(theirs) - alpha[:, None]) <= (n + 2) * U * alpha[:, None])[codes != 0].all()


THRESHOLDS = {  # of W / gamma, as transformers has it, and of W / (gamma + eps), as the paper writes it
    "absmean": lambda gamma: 0.5 * max(gamma, EPS) / gamma,
    "paper": lambda gamma: 0.5 * (gamma + EPS) / gamma,
}


@pytest.mark.parametrize("variant", THRESHOLDS)
@pytest.mark.parametrize("name", WEIGHTS)
def test_bitnet_weights(name, variant):
    """rint(w / gamma) is not 0 where |w| > gamma / 2, strictly, as half rounds to 0, the even neighbour: threshold 0.5.

    That is so for gamma >= eps, where transformers has no other scale. eps itself moves the threshold of a matrix: by a
    factor of (gamma + eps) / gamma in the paper's formula, 1.0003 for weights of gamma = 0.03.
    Theirs: n u from the sum, and u from each of / n, 1 / gamma (or + eps) and the product.
    """
    w, theirs = VECTORS[name], VECTORS[f"{name}/{variant}/codes"]
    gamma = mean_of(w)
    threshold = THRESHOLDS[variant](gamma)
    codes, alpha = ternarize(w, "layer", threshold, "absolute_mean")
    near = np.abs(np.abs(w) - threshold * gamma) <= (w.size + 4) * U * threshold * gamma
    exact = name == "ties" and variant == "absmean"  # 192 weights are exactly gamma / 2, a power of two: no rounding
    assert near.sum() == (192 if exact else 0)
    assert (codes == theirs).all()
    if variant == "absmean" and gamma >= EPS:
        assert threshold == 0.5
        assert (np.abs(alpha * VECTORS[f"{name}/absmean/scale"].astype(np.float64) - 1) <= (w.size + 4) * U).all()


@pytest.mark.parametrize("kind", ["bitnet", "symmetric"])
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_symmetric_activations(name, kind):
    """BitNet has a scale for each token; TernaryBERT's released code one for the tensor, so "image" for one picture.

    Theirs is rint(x (127 / amax)), here it is rint(x / (amax / 127)): two roundings each, so v = 127 x / amax is off by
    2 u |v|, a second-order term besides. TernaryBERT clips to 2.5 first, which these do not exceed. -128 cannot occur.
    """
    x, theirs = VECTORS[name], VECTORS[f"{name}/{kind}/codes"]
    rows = x if kind == "bitnet" else x.reshape(1, -1)
    q, s, _ = quant.quantize_rows(rows, 8, "symmetric")
    v = 127 * rows / np.abs(rows).max(axis=1, keepdims=True).astype(np.float64)
    differ = q.reshape(x.shape) != theirs
    assert near_tie(v, 2.01 * U * np.abs(v)).reshape(x.shape)[differ].all() and theirs.min() >= -127
    assert (np.abs(s * VECTORS[f"{name}/{kind}/scale"].astype(np.float64) - 1) <= 2.01 * U).all()


def test_minmax_activations():
    """TernaryBERT's grid starts at the minimum, refvit's has a code for zero (N4): rint((x - lo) / s) against
    rint(x / s) + rint(-lo / s). Two roundings for one: codes differ by at most one, and not at all where zero lies on
    their grid, as in "grid", but next to a tie. No switch makes the two grids one.
    """
    moved = 0
    for name in ACTIVATIONS:
        x, theirs = VECTORS[name], VECTORS[f"{name}/minmax/codes"].astype(int)
        q, s, zp = quant.quantize_rows(x, 8, "minmax")
        steps = q.astype(int) + 128
        assert np.abs(steps - theirs).max() <= 1
        moved += (steps != theirs).sum()
        if name == "grid":  # s is a power of two: here there is no rounding, theirs has 4, and 1e-8 in the width
            v = (x.astype(np.float64) - x.min(axis=1, keepdims=True)) / s[:, None]
            assert near_tie(v, (4.01 * U + 1e-8 / np.ptp(x, axis=1).min()) * v)[steps != theirs].all()
            assert (zp == -128 + 51).all()
    assert moved  # the two grids are not the same


def near_tie(v, distance):
    return np.abs(v - np.floor(v) - 0.5) <= distance


# --- checkpoints in BitNet's layout ---


def layers_of(engine):
    """HF name -> (codes [N, K], alpha [N], bias [N])"""
    found = {}
    for ours, theirs in (("attn.proj", "attention.o_proj"), ("mlp.fc1", "mlp.fc1"), ("mlp.fc2", "mlp.fc2")):
        linear = engine.linears[f"blocks.0.{ours}"]
        found[f"vit.layers.0.{theirs}"] = linear.codes(), linear.alpha, linear.bias
    qkv = engine.linears["blocks.0.attn.qkv"]
    for part, *values in zip("qkv", *(np.split(a, 3) for a in (qkv.codes(), qkv.alpha, qkv.bias))):
        found[f"vit.layers.0.attention.{part}_proj"] = tuple(values)
    return found


@pytest.mark.parametrize("linear_class", bitnet.LINEAR_CLASSES)
def test_a_bitnet_checkpoint_keeps_its_codes_and_scales(linear_class):
    """And each layer's output: the same codes, whose sum both have exactly or, in autobitlinear, off by K roundings;
    the scales, products and the bias add at most 10 more."""
    folder = FOLDER / linear_class
    stored, layers = (safetensors.read(folder / f"{name}.safetensors")[0] for name in ("model", "layers"))
    engine = refvit.pack(refvit.load_model(folder / "model.safetensors").with_quant(QuantConfig(attention="float")))
    for name, (codes, alpha, bias) in layers_of(engine).items():
        scale = stored[f"{name}.weight_scale"]
        assert (codes == bitnet.decode(stored[f"{name}.weight"])).all()
        assert (alpha == (scale if linear_class == "autobitlinear" else np.float32(1) / scale)).all()
        x, y = layers[f"{name}/x"], layers[f"{name}/y"]
        q, s, _ = quant.quantize_rows(x, 8, "symmetric")
        ours = rescale(q.astype(np.int32) @ codes.T.astype(np.int32), s, alpha, bias)
        reach = np.abs(q.astype(np.float64)) @ np.abs(codes.T) * s[:, None] * alpha + np.abs(bias)
        assert (np.abs(ours - y) <= (codes.shape[1] + 10) * U * reach).all(), name


def test_rows_of_a_byte_are_a_quarter_apart():
    packed = np.array([[0b10_01_00_10], [0b00_10_01_01]], np.uint8)
    assert bitnet.decode(packed)[:, 0].tolist() == [1, 0, -1, 0, 0, 1, 1, -1]


@pytest.mark.parametrize(
    "config, tensors, error, words",
    [
        ({"quantization_config": None}, {}, BadInputError, "weight_scale.*config.json"),
        ({"quantization_config": BITNET | {"linear_class": "x"}}, {}, BadInputError, "linear_class"),
        ({"quantization_config": BITNET | {"use_rms_norm": True}}, {}, UnsupportedError, "use_rms_norm"),
        ({}, {"mlp.fc1.weight": np.full((4, 8), 3, np.uint8)}, BadInputError, "fc1.weight.*row 0, column 0"),
        ({}, {"mlp.fc1.weight": np.zeros((4, 8), np.float32)}, BadInputError, r"fc1.weight.*uint8 \[N / 4, K\]"),
        ({}, {"mlp.fc1.weight": np.zeros((3, 8), np.uint8)}, BadInputError, "mlp.fc1.*shape"),
        ({}, {"mlp.fc1.weight_scale": np.zeros(1, np.float32)}, BadInputError, "fc1.weight_scale.*scale"),
        ({}, {"mlp.fc1.weight_scale": np.full(1, np.nan, np.float32)}, BadInputError, "fc1.weight_scale.*scale"),
        ({}, {"mlp.fc1.weight_scale": np.ones(16, np.float32)}, BadInputError, "fc1.weight_scale.*scale"),
        ({}, {"mlp.fc3.weight_scale": np.ones(1, np.float32)}, BadInputError, "fc3.weight.*none"),
    ],
)
def test_what_a_bitnet_checkpoint_may_not_be(tmp_path, config, tensors, error, words):
    folder = tmp_path / "bitlinear"
    shutil.copytree(FOLDER / "bitlinear", folder)
    said = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(said | config))
    path = folder / "model.safetensors"
    changed = safetensors.read(path)[0] | {f"vit.layers.0.{name}": value for name, value in tensors.items()}
    safetensors.write(path, changed, force=True)
    with pytest.raises(error, match=words):
        refvit.load_model(path)
