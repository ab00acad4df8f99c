"""Full-size models against PyTorch itself: skipped where torch or transformers is not installed.

The logits must deviate from PyTorch's float64 at most 4 times as much as PyTorch's own float32 does.
"""

import os
from pathlib import Path

import numpy as np
import pytest

from refvit import safetensors
from refvit.config import model_config
from refvit.model import Model
from refvit.preprocess import crop, normalise
from refvit.conformance.bounded import U

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


def torch_logits(config, params, x, dtype):
    tensors = {name: torch.tensor(value, dtype=dtype) for name, value in params.items()}
    with torch.no_grad():
        return torch_models.forward(config, tensors, torch.tensor(x, dtype=dtype)).numpy()


def transformers_logits(config, params, x):
    tensors = {name: torch.tensor(value, dtype=torch.float64) for name, value in params.items()}
    model = transformers_models.build(config, tensors)
    with torch.no_grad():
        return model(torch.tensor(x, dtype=torch.float64)).logits.numpy()


def check_logits(config, params, x):
    """Two roundings, of the last sum and the bias, are allowed besides: no float32 computation is without them."""
    exact = torch_logits(config, params, x, torch.float64)
    if transformers_models.supports(config):
        scale = np.abs(exact).max()
        np.testing.assert_allclose(transformers_logits(config, params, x), exact, rtol=0, atol=2.0**-40 * scale)
    theirs = float(np.abs(torch_logits(config, params, x, torch.float32) - exact).max())
    ours = float(np.abs(Model(config, params)(x) - exact).max())
    print(f"{config.name}: largest logit {np.abs(exact).max():.2f}, deviation {ours:.2e}, PyTorch's {theirs:.2e}")
    assert ours <= TIMES * theirs + 2 * U * np.abs(exact).max(), f"{config.name}: {ours}, PyTorch's float32 {theirs}"


@pytest.mark.parametrize("name", NAMES)
def test_full_size_with_random_weights(name):
    rng = np.random.Generator(np.random.PCG64(NAMES.index(name)))
    config = model_config(name)
    params = random_params(config, rng)
    x = rng.normal(size=(PICTURES, 3, config.img_size, config.img_size)).astype(np.float32)
    check_logits(config, params, x)


@pytest.mark.skipif(not (DATA / "deit_tiny_patch16_224.safetensors").exists(), reason="no data folder")
def test_real_deit_tiny_on_real_pictures():
    config = model_config("deit_tiny_patch16_224")
    tensors, _ = safetensors.read(DATA / f"{config.name}.safetensors")
    params = {name: tensors[name] for name in config.param_shapes()}
    files = sorted((DATA / "imagenet-samples" / "val").glob("*/*"))[:PICTURES]
    model = Model(config, params)
    check_logits(config, params, normalised(model, files))


def normalised(model, files):
    """float32 [B, 3, H, W]"""
    return np.concatenate([normalise(crop(path, model.preprocess), model.preprocess) for path in files])
