"""Make tests/golden/*.safetensors: what PyTorch computes, for narrow models and for single operations.

    python3 -m venv torchvenv && torchvenv/bin/pip install torch==2.13.0 transformers safetensors numpy cffi pillow
    PYTHONPATH=. torchvenv/bin/python tools/make_golden.py

PyTorch is the CPU build. Every model is computed by tools/torch_models.py and, where transformers has the architecture,
compared in float64 with transformers' own modules, block by block. Weights and inputs come from seeded generators; the
deviations of float32 may differ between machines, as matrix libraries do.

A model's file holds
    param/NAME   float32 parameters, timm's names     x            float32 pictures
    f64/PATH     every intermediate tensor, float64, under the name in refvit's trace, and the logits, PATH "logits";
                 what is inside a block of the first picture only
    dy           float32 upstream gradient            grad/NAME    float64 gradients, of the pictures too (NAME "x")
and the metadata entry "golden", a JSON object: "config", and how far PyTorch's float32 deviates from its float64, name
-> the tensor's largest deviation: "dev32" of the intermediate tensors, "grad_dev32" of the gradients.
"""

import dataclasses
import json
from pathlib import Path

import golden_ops
import numpy as np
import torch
import torch_models
import transformers_models
from random_weights import random_params
from safetensors.numpy import save

from refvit.config import SwinConfig, ViTConfig

OUT = Path(__file__).parents[1] / "tests" / "golden"
BATCH = 2
MODELS = (
    ViTConfig("vit", img_size=32, patch_size=8, num_classes=10, embed_dim=24, depth=3, num_heads=3),
    ViTConfig(
        "deit_distilled", img_size=40, patch_size=8, num_classes=7, embed_dim=24, depth=2, num_heads=2, mlp_ratio=3.0,
        distilled=True, norm_eps=1e-3,
    ),
    ViTConfig(
        "deit3", img_size=24, patch_size=4, num_classes=12, embed_dim=24, depth=2, num_heads=4, layer_scale=True,
        no_embed_class=True,
    ),
    # maps 8, 4: shifted windows, then one window that is the whole map
    SwinConfig("swin", img_size=32, num_classes=9, embed_dim=12, depths=(2, 2), num_heads=(2, 3), window_size=4),
    # maps 10, 5 in windows of 4: both padded, with and without a shift
    SwinConfig("swin_padded", img_size=30, patch_size=3, num_classes=6, embed_dim=12, depths=(2, 2), num_heads=(3, 2),
               window_size=4, mlp_ratio=2.0),
    # maps 11, 6, 3 in windows of 3: padded, an odd map merged, divisible, whole
    SwinConfig("swin_odd", img_size=22, patch_size=2, num_classes=5, embed_dim=8, depths=(2, 2, 1), num_heads=(2, 2, 4),
               window_size=3),
    # maps 6, 3: both smaller than the window
    SwinConfig("swin_small_map", img_size=24, num_classes=8, embed_dim=12, depths=(2, 1), num_heads=(1, 2),
               norm_eps=1e-3),
)


def main():
    torch.set_num_threads(1)  # one order of summation
    for seed, config in enumerate(MODELS):
        write(config.name, *golden_model(config, np.random.Generator(np.random.PCG64(seed))))
    write("ops", golden_ops.golden_ops(np.random.Generator(np.random.PCG64(len(MODELS)))), {})


def write(name, tensors, about):
    path = OUT / f"{name}.safetensors"
    arrays = {key: np.ascontiguousarray(value) for key, value in tensors.items()}
    path.write_bytes(save(arrays, metadata={"golden": json.dumps(about)}))
    print(f"{path.name}: {len(arrays)} tensors, {path.stat().st_size} bytes")


def golden_model(config, rng):
    """-> tensors of the file, its metadata"""
    params = random_params(config, rng)
    x = rng.normal(size=(BATCH, config.in_chans, config.img_size, config.img_size)).astype(np.float32)
    dy = rng.normal(size=(BATCH, config.num_classes)).astype(np.float32)
    trace32, grads32 = run(config, params, x, dy, torch.float32)
    trace64, grads64 = run(config, params, x, dy, torch.float64)
    if transformers_models.supports(config):
        check_with_transformers(config, params, x, trace64)
    tensors = {"x": x, "dy": dy}
    kept = {name: value[: len(value) // BATCH] if inside_block(name) else value for name, value in trace64.items()}
    for prefix, part in (("param", params), ("f64", kept), ("grad", grads64)):
        tensors.update({f"{prefix}/{name}": value for name, value in part.items()})
    about = {"dev32": deviations(trace32, trace64), "grad_dev32": deviations(grads32, grads64)}
    return tensors, {"config": dataclasses.asdict(config), **about}


def inside_block(path):
    return path.split(".")[-2:-1] in (["attn"], ["mlp"]) or path.endswith(("norm1", "norm2"))


def deviations(a, b):
    return {name: float(np.abs(a[name] - b[name]).max()) for name in b}


def run(config, params, x, dy, dtype):
    """Intermediate tensors and logits; gradients of parameters and of the pictures ("x").  -> two dicts of arrays"""
    leaves = {name: torch.tensor(value, dtype=dtype, requires_grad=True) for name, value in (*params.items(), ("x", x))}
    trace = {}
    trace["logits"] = torch_models.forward(config, leaves, leaves["x"], trace)
    trace["logits"].backward(torch.tensor(dy, dtype=dtype))
    return {k: v.detach().numpy() for k, v in trace.items()}, {k: v.grad.numpy() for k, v in leaves.items()}


def check_with_transformers(config, params, x, expected):
    """Both references in float64 must differ by rounding alone: 1e-12 is thousands of ulps of values of size 1."""
    model = transformers_models.build(config, {k: torch.tensor(v, dtype=torch.float64) for k, v in params.items()})
    paths = [p for p in expected if p.endswith(("norm", "norm1", "norm2", "downsample")) or p.split(".")[-1].isdigit()]
    with torch.no_grad():
        logits, outputs = transformers_models.trace(config, model, torch.tensor(x, dtype=torch.float64), paths)
    for path, value in {"logits": logits, **outputs}.items():
        deviation = np.abs(value.numpy().reshape(expected[path].shape) - expected[path]).max()
        if not deviation <= 1e-12:
            raise SystemExit(f"{config.name}: {path} deviates from transformers by {deviation}")
    print(f"{config.name}: {len(outputs) + 1} outputs agree with transformers")


if __name__ == "__main__":
    main()
