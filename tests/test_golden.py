"""The float models against PyTorch, on narrow models with random non-trivial weights (made by tools/make_golden.py).

Three questions: does each operation do the right thing to its input, within what float32 rounding can do (bounds
derived in refvit/vectors/bounded.py); is every intermediate tensor as accurate as PyTorch's float32; are the
gradients the exact ones.
"""

import json
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest

from refvit import safetensors
from refvit.config import SwinConfig, ViTConfig
from refvit.model import Model
from refvit.vectors.bounded import Bounded, U
from tests.bounded_modules import steps

FOLDER = Path(__file__).parent / "golden"
NAMES = sorted(path.stem for path in FOLDER.glob("*.safetensors") if path.stem != "ops")
TIMES = 4  # a run may deviate from float64 at most so many times as PyTorch's float32 does
F64 = 2.0**-29  # unit roundoff of float64 over that of float32: deviations of the same computation scale with it


class Golden:
    def __init__(self, name):
        tensors, metadata = safetensors.read(FOLDER / f"{name}.safetensors")
        about = json.loads(metadata["golden"])
        config = SwinConfig if "window_size" in about["config"] else ViTConfig
        self.config = config(**about["config"])
        self.x, self.dy, self.dev32, self.grad_dev32 = tensors["x"], tensors["dy"], about["dev32"], about["grad_dev32"]
        params, f64, self.grads = (self.group(tensors, prefix) for prefix in ("param", "f64", "grad"))
        self.params = {key: params[key] for key in self.config.param_shapes()}
        self.outputs32 = self.run(np.float32)
        # PyTorch has [B W, ..] where refvit has [B, W, ..]; some are of the first picture only
        self.f64 = {key: value.reshape(-1, *self.outputs32[0][key].shape[1:]) for key, value in f64.items()}

    def steps(self):
        return steps(self.config, {key: Bounded(v) for key, v in self.params.items()})

    @staticmethod
    def group(tensors, prefix):
        return {key[len(prefix) + 1 :]: v for key, v in tensors.items() if key.startswith(prefix + "/")}

    def run(self, dtype):
        """refvit's intermediate tensors and its gradients, computed in ``dtype``.  -> two dicts"""
        model = Model(self.config, {key: v.astype(dtype) for key, v in self.params.items()})
        trace = {}
        logits, cache = model.forward(self.x.astype(dtype), trace=trace)
        dx, grads = model.backward(self.dy.astype(dtype), cache)
        return {**trace, "logits": logits}, {**grads, "x": dx}


@lru_cache(maxsize=None)
def golden(name):
    return Golden(name)


def largest(a):
    return float(np.abs(a).max())


@pytest.mark.parametrize("name", NAMES)
def test_pytorch_gives_every_tensor_of_a_trace(name):
    """But the inputs of linear layers, which are other tensors, moved."""
    g = golden(name)
    assert set(g.f64) == {path for path in g.outputs32[0] if not path.endswith(".in")}


@pytest.mark.parametrize("name", NAMES)
def test_reference_of_the_bounds_is_pytorch(name):
    """From PyTorch's float64 operands of a step, bounded arithmetic gives PyTorch's float64 result."""
    g = golden(name)
    known = {"x": Bounded(g.x)}
    for path, operands, step in g.steps():
        known[path] = step(*(known[operand] for operand in operands))
        if path in g.f64:
            expected = g.f64[path]
            deviation = largest(known[path].value[: len(expected)] - expected)
            assert deviation <= 2.0**-40 * largest(expected), f"{name} {path}"  # 2^12 ulps of float64
            if len(expected) == len(g.x):
                known[path] = Bounded(expected)


@pytest.mark.parametrize("name", NAMES)
def test_each_step_is_within_its_bound(name):
    """From refvit's own float32 operands of each step, so that the errors of those before it do not count."""
    g = golden(name)
    known = {"x": g.x, **g.outputs32[0]}
    for path, operands, step in g.steps():
        bound = step(*(Bounded(known[operand]) for operand in operands))
        if path == "tokens":  # between two modules, so no trace has it
            known[path] = bound.value.astype(np.float32)
            continue
        assert known[path].dtype == np.float32 and known[path].shape == bound.value.shape, f"{name} {path}"
        assert bound.err.max() <= 1e-4 * largest(bound.value), f"{name} {path}: too wide to see a mistake"
        worst = float((np.abs(known[path] - bound.value) / bound.err).max())
        assert worst <= 1, f"{name} {path}: {worst} times its bound"


@pytest.mark.parametrize("name", NAMES)
def test_every_output_is_as_accurate_as_pytorch(name):
    """End to end, at every tensor of the trace and the logits.

    What is added to PyTorch's deviation are the two roundings of the last operation, a sum and a bias or a residual:
    no float32 computation is without them, however lucky PyTorch's was.
    """
    g = golden(name)
    outputs, _ = g.outputs32
    for path, expected in g.f64.items():
        allowed = TIMES * g.dev32[path] + 2 * U * largest(expected)
        deviation = largest(outputs[path][: len(expected)] - expected)
        assert deviation <= allowed, f"{name} {path}: {deviation}, allowed {allowed}"


@pytest.mark.parametrize("name", NAMES)
def test_gradients_in_float64_are_those_of_autograd(name):
    """PyTorch's float32 shows how much rounding this model's gradients gather; float64 gathers 2^-29 of it.

    One more time is allowed for PyTorch's own float64.
    """
    g = golden(name)
    _, grads = g.run(np.float64)
    check_gradients(g, grads, (TIMES + 1) * F64)


@pytest.mark.parametrize("name", NAMES)
def test_gradients_in_float32_are_as_accurate_as_pytorch(name):
    g = golden(name)
    _, grads = g.outputs32
    assert all(grad.dtype == np.float32 for grad in grads.values())
    check_gradients(g, grads, TIMES)


def check_gradients(g, grads, times):
    """Every tensor, relative to its largest gradient, against the worst of PyTorch's float32: one of few elements can
    be exact by luck, the worst of all is not."""
    assert grads.keys() == g.grads.keys()
    worst = max(g.grad_dev32[key] / largest(v) for key, v in g.grads.items())
    for key, expected in g.grads.items():
        deviation = largest(grads[key] - expected) / largest(expected)
        assert deviation <= times * worst, f"{g.config.name} {key}: {deviation}, PyTorch's float32 {worst}"
