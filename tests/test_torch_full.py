"""Full-size models against PyTorch itself: skipped where torch or transformers is not installed.

Every tensor of the trace must deviate from PyTorch's float64 at most 4 times as much as PyTorch's own float32 does.
"""

import os
from pathlib import Path

import numpy as np
import pytest

from refvit import safetensors
from refvit.model import Model
from refvit.preprocess import crop, normalise
from refvit.registry import model_config
from refvit.vectors.bounded import U

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from tools import torch_models, transformers_models  # noqa: E402 (after the skips: they import torch)
from tools.random_weights import random_params  # noqa: E402

DATA = Path(os.environ.get("REFVIT_DATA", Path(__file__).parents[2] / "shared" / "data"))
TIMES = 4
PICTURES = 2
NAMES = (
    "deit_tiny_patch16_224",
    "deit_small_distilled_patch16_224",
    "deit3_small_patch16_224",
    "swin_tiny_patch4_window7_224",
)


def torch_trace(config, params, x, dtype):
    """dict: name in refvit's trace, or "logits" -> array"""
    tensors, trace = {name: torch.tensor(value, dtype=dtype) for name, value in params.items()}, {}
    with torch.no_grad():
        trace["logits"] = torch_models.forward(config, tensors, torch.tensor(x, dtype=dtype), trace)
    return {path: value.numpy() for path, value in trace.items()}


def transformers_logits(config, params, x):
    tensors = {name: torch.tensor(value, dtype=torch.float64) for name, value in params.items()}
    model = transformers_models.build(config, tensors)
    with torch.no_grad():
        return model(torch.tensor(x, dtype=torch.float64)).logits.numpy()


def check_trace(config, params, x):
    """Two roundings, of the last sum and the bias, are allowed besides: no float32 computation is without them."""
    exact, theirs = (torch_trace(config, params, x, dtype) for dtype in (torch.float64, torch.float32))
    if transformers_models.supports(config):
        logits, others = exact["logits"], transformers_logits(config, params, x)
        np.testing.assert_allclose(others, logits, rtol=0, atol=2.0**-40 * np.abs(logits).max())
    ours, worst = {}, (0.0, "")
    ours["logits"] = Model(config, params).forward(x, trace=ours)[0]
    assert set(exact) == {path for path in ours if not path.endswith(".in")}
    for path, expected in exact.items():
        deviation = np.abs(ours[path].reshape(expected.shape) - expected).max()
        allowed = TIMES * np.abs(theirs[path] - expected).max() + 2 * U * np.abs(expected).max()
        worst = max(worst, (deviation / allowed, path))
        assert deviation <= allowed, f"{config.name} {path}: {deviation}, allowed {allowed}"
    print(f"{config.name}: {len(exact)} tensors, at worst {worst[0]:.2f} of what is allowed, at {worst[1]}")


@pytest.mark.parametrize("name", NAMES)
def test_full_size_with_random_weights(name):
    rng = np.random.Generator(np.random.PCG64(NAMES.index(name)))
    config = model_config(name)
    params = random_params(config, rng)
    x = rng.normal(size=(PICTURES, 3, config.img_size, config.img_size)).astype(np.float32)
    check_trace(config, params, x)


@pytest.mark.skipif(not (DATA / "deit_tiny_patch16_224.safetensors").exists(), reason="no data folder")
def test_real_deit_tiny_on_real_pictures():
    config = model_config("deit_tiny_patch16_224")
    tensors, _ = safetensors.read(DATA / f"{config.name}.safetensors")
    params = {name: tensors[name] for name in config.param_shapes()}
    files = sorted((DATA / "imagenet-samples" / "val").glob("*/*"))[:PICTURES]
    model = Model(config, params)
    check_trace(config, params, normalised(model, files))


def normalised(model, files):
    """float32 [B, 3, H, W]"""
    return np.concatenate([normalise(crop(path, model.preprocess), model.preprocess) for path in files])
