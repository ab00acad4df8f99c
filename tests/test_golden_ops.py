"""Each float operation and its gradient against PyTorch's float64, within bounds of what float32 rounding can do.

The bounds come from refvit/vectors/bounded.py, evaluated on the very operands of the test.
"""

from pathlib import Path

import numpy as np
import pytest

from refvit import layers, safetensors, window
from refvit.vectors import bounded
from refvit.vectors.bounded import Bounded

TENSORS, _ = safetensors.read(Path(__file__).parent / "golden" / "ops.safetensors")
WINDOWS = sorted({name.split("/")[0] for name in TENSORS if name.startswith("window_")})
EPS = 0.5  # of the golden LayerNorm
F64_ROOM = 2.0**-40  # relative: 2^12 ulps of float64, in which PyTorch and the bound's own value are computed


def vectors(operation):
    return {name.split("/")[1]: array for name, array in TENSORS.items() if name.split("/")[0] == operation}


def check(name, got, bound, golden):
    """The bound's value must be PyTorch's, and the float32 result within the bound; it must say something, too."""
    scale = abs(golden).max()
    np.testing.assert_allclose(bound.value, golden, rtol=F64_ROOM, atol=F64_ROOM * scale, err_msg=name)
    assert got.dtype == np.float32 and got.shape == golden.shape, name
    assert bound.err.max() <= 1e-3 * scale, f"{name}: the bound is too wide to see a mistake"
    worst = (abs(got - bound.value) / (bound.err + F64_ROOM * scale)).max()
    assert worst <= 1, f"{name}: {worst} times its bound"


def check_operation(v, names, outputs, bounds):
    """``names``: y and the gradients, all that the vectors hold, in the order of ``outputs`` and ``bounds``."""
    assert set(names.split()) == {n for n in v if n == "y" or (n[0] == "d" and n != "dy")}
    for name, got, bound in zip(names.split(), outputs, bounds, strict=True):
        check(name, got, bound, v[name])


def test_linear():
    v = vectors("linear")
    x, w, b, dy = (Bounded(v[n]) for n in ("x", "w", "b", "dy"))
    y, cache = layers.linear_forward(v["x"], v["w"], v["b"])
    grads = layers.linear_backward(v["dy"], cache)
    bounds = [bounded.linear(x, w, b), *bounded.linear_gradients(dy, x, w)]
    check_operation(v, "y dx dw db", [y, *grads], bounds)


def test_layernorm():
    v = vectors("layernorm")
    x, w, b, dy = (Bounded(v[n]) for n in ("x", "w", "b", "dy"))
    y, cache = layers.layernorm_forward(v["x"], v["w"], v["b"], EPS)
    grads = layers.layernorm_backward(v["dy"], cache)
    bounds = [bounded.layernorm(x, w, b, EPS), *bounded.layernorm_gradients(dy, x, w, EPS)]
    check_operation(v, "y dx dw db", [y, *grads], bounds)


def test_softmax():
    v = vectors("softmax")
    p = bounded.softmax(Bounded(v["x"]))
    y, cache = layers.softmax_forward(v["x"])
    dx = layers.softmax_backward(v["dy"], cache)
    check_operation(v, "y dx", [y, dx], [p, bounded.softmax_gradient(Bounded(v["dy"]), p)])


def test_gelu():
    v = vectors("gelu")
    x, dy = Bounded(v["x"]), Bounded(v["dy"])
    y, cache = layers.gelu_forward(v["x"])
    dx = layers.gelu_backward(v["dy"], cache)
    check_operation(v, "y dx", [y, dx], [bounded.gelu(x), bounded.gelu_gradient(dy, x)])


def attention(dy, q, k, v, bias=None, mask=None):
    """softmax(scores) v and its gradients -> y, dq, dk, dv, dbias"""
    scores, scores_cache = layers.scores_forward(q, k, bias, mask)
    p, softmax_cache = layers.softmax_forward(scores)
    y, context_cache = layers.context_forward(p, v)
    dp, dv = layers.context_backward(dy, context_cache)
    dq, dk, dbias = layers.scores_backward(layers.softmax_backward(dp, softmax_cache), scores_cache)
    return y, dq, dk, dv, dbias


def test_attention():
    v = vectors("attention")
    q, k, val, dy = (Bounded(v[n]) for n in ("q", "k", "v", "dy"))
    y, *grads, dbias = attention(v["dy"], v["q"], v["k"], v["v"])
    assert dbias is None
    *bounds, _ = bounded.attention_gradients(dy, q, k, val)
    check_operation(v, "y dq dk dv", [y, *grads], [bounded.attention(q, k, val), *bounds])


def test_attention_with_bias_and_mask():
    v = vectors("attention_masked")
    mask = window.shift_mask(6, 3, 1)
    operands = [Bounded(v[n]) for n in ("q", "k", "v", "bias")] + [Bounded(mask[:, None])]
    y, *grads = attention(v["dy"], v["q"], v["k"], v["v"], v["bias"], mask)
    bounds = [bounded.attention(*operands), *bounded.attention_gradients(Bounded(v["dy"]), *operands)]
    check_operation(v, "y dq dk dv dbias", [y, *grads], bounds)


def test_merge_patches_moves_exactly():
    v = vectors("merge_patches")
    np.testing.assert_array_equal(window.merge_patches(v["x"]), v["y"])
    np.testing.assert_array_equal(window.merge_patches_backward(v["dy"], v["x"].shape[1]), v["dx"])


@pytest.mark.parametrize("case", WINDOWS)
def test_windows_move_exactly(case):
    v = vectors(case)
    side, m, shift = map(int, case.split("_")[1:])
    tokens = np.arange(1, side * side + 1, dtype=np.int16).reshape(1, side, side, 1)
    windows = window.to_windows(tokens, m, shift)
    np.testing.assert_array_equal(windows[0, :, :, 0], v["windows"])
    np.testing.assert_array_equal(window.from_windows(windows, m, shift, side), tokens)
    np.testing.assert_array_equal(window.relative_position_index(m), v["index"])


@pytest.mark.parametrize("case", [c for c in WINDOWS if f"{c}/masked" in TENSORS])
def test_shift_mask_hides_exactly_the_strangers(case):
    side, m, shift = map(int, case.split("_")[1:])
    expected = np.where(vectors(case)["masked"], np.float32(-100), np.float32(0))
    np.testing.assert_array_equal(window.shift_mask(side, m, shift), expected)
