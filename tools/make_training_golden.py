"""Make tests/golden/training/*.safetensors: losses and their gradients, and steps of AdamW, in PyTorch's float64.

    python3 -m venv torchvenv && torchvenv/bin/pip install torch==2.13.0 safetensors numpy
    PYTHONPATH=. torchvenv/bin/python tools/make_training_golden.py

losses.safetensors holds
    logits, targets, teacher, labels, x, y    float32 inputs (labels int64)
    PART, PART/grad                           float64 value, and gradient of logits (of x for "mse")
adamw.safetensors holds, for each parameter NAME,
    NAME/start, NAME/grad                     float32 parameter and gradients [steps, ...]
    NAME/p, NAME/m, NAME/v                    float64 parameter after each step [steps, ...], moments at the end
    lr                                        float64 learning rates [steps]
distilled.safetensors holds DeiT's loss of a narrow model with two heads, trained by a teacher,
    param/NAME, x, targets, teacher           float32 parameters, pictures, targets and the teacher's logits
    hard, soft                                float64 value of the loss
    hard/NAME, soft/NAME                      float64 gradient of each parameter
and the metadata entry "golden" of each is a JSON object: the hyper-parameters, the model's configuration.
"""

import dataclasses
import json
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
import torch_models
from random_weights import random_params
from safetensors.numpy import save

from refvit.config import ViTConfig

OUT = Path(__file__).parents[1] / "tests" / "golden" / "training"
SETTINGS = {"temperature": 3.0, "smoothing": 0.1, "betas": [0.9, 0.98], "eps": 1e-3, "weight_decay": 0.3}
DISTILLED = ViTConfig(
    "distilled", img_size=8, patch_size=4, num_classes=5, embed_dim=8, depth=2, num_heads=2, mlp_ratio=2.0, distilled=True
)
TEACHING = {"temperature": SETTINGS["temperature"], "alpha": 0.3, "config": dataclasses.asdict(DISTILLED)}
STEPS = 5
SHAPES = {"blocks.0.mlp.fc1.weight": (4, 3), "norm.weight": (6,)}  # with weight decay, and without


def main():
    rng = np.random.Generator(np.random.PCG64(11))
    OUT.mkdir(exist_ok=True)
    for make, settings in ((golden_losses, SETTINGS), (golden_adamw, SETTINGS), (golden_distilled, TEACHING)):
        path = OUT / f"{make.__name__.removeprefix('golden_')}.safetensors"
        arrays = {key: np.asarray(value, order="C") for key, value in make(rng).items()}
        path.write_bytes(save(arrays, metadata={"golden": json.dumps(settings)}))
        print(f"{path.name}: {len(arrays)} tensors, {path.stat().st_size} bytes")


def golden_losses(rng):
    """-> dict: name -> array"""
    inputs = {
        "logits": rng.normal(0.0, 3.0, (5, 7)).astype(np.float32),
        "targets": rng.dirichlet(np.ones(7), 5).astype(np.float32),
        "teacher": rng.normal(0.0, 3.0, (5, 7)).astype(np.float32),
        "labels": rng.integers(0, 7, 5),
        "x": rng.normal(size=(2, 3, 4)).astype(np.float32),
        "y": rng.normal(size=(2, 3, 4)).astype(np.float32),
    }
    targets, teacher, y = (torch.tensor(inputs[n], dtype=torch.float64) for n in ("targets", "teacher", "y"))
    labels, t = torch.tensor(inputs["labels"]), SETTINGS["temperature"]
    functions = {
        "cross_entropy": ("logits", lambda z: F.cross_entropy(z, targets)),
        "smoothed": ("logits", lambda z: F.cross_entropy(z, labels, label_smoothing=SETTINGS["smoothing"])),
        "soft": ("logits", lambda z: t * t * kl_div(z / t, teacher / t)),
        "hard": ("logits", lambda z: F.cross_entropy(z, teacher.argmax(dim=-1))),
        "mse": ("x", lambda x: F.mse_loss(x, y)),
    }
    arrays = dict(inputs)
    for part, (name, function) in functions.items():
        leaf = torch.tensor(inputs[name], dtype=torch.float64, requires_grad=True)
        loss = function(leaf)
        loss.backward()
        arrays[part], arrays[f"{part}/grad"] = np.array(loss.item()), leaf.grad.numpy()
    return arrays


def kl_div(student, teacher):
    log_probabilities = (F.log_softmax(z, dim=-1) for z in (student, teacher))
    return F.kl_div(*log_probabilities, reduction="batchmean", log_target=True)


def golden_distilled(rng):
    """DeiT's loss (arXiv 2012.12877, Eq. 2 and 3, and its code): class head and targets, distillation head and teacher.

    -> dict: name -> array
    """
    classes, side = DISTILLED.num_classes, DISTILLED.img_size
    params = random_params(DISTILLED, rng)
    inputs = {
        "x": rng.normal(size=(3, 3, side, side)).astype(np.float32),
        "targets": rng.dirichlet(np.ones(classes), 3).astype(np.float32),
        "teacher": rng.normal(0.0, 3.0, (3, classes)).astype(np.float32),
    }
    x, targets, teacher = (torch.tensor(v, dtype=torch.float64) for v in inputs.values())
    alpha, t = TEACHING["alpha"], TEACHING["temperature"]
    functions = {
        "hard": lambda z: F.cross_entropy(z, teacher.argmax(dim=-1)),
        "soft": lambda z: t * t * kl_div(z / t, teacher / t),
    }
    arrays = {**inputs, **{f"param/{name}": value for name, value in params.items()}}
    for part, function in functions.items():
        leaves = {n: torch.tensor(v, dtype=torch.float64, requires_grad=True) for n, v in params.items()}
        heads = {}
        torch_models.forward(DISTILLED, leaves, x, heads)
        loss = (1 - alpha) * F.cross_entropy(heads["head"], targets) + alpha * function(heads["head_dist"])
        loss.backward()
        arrays[part] = np.array(loss.item())
        arrays.update({f"{part}/{name}": leaf.grad.numpy() for name, leaf in leaves.items()})
    return arrays


def golden_adamw(rng):
    """-> dict: name -> array"""
    rates = np.linspace(0.1, 0.02, STEPS)
    starts = {name: rng.normal(size=shape).astype(np.float32) for name, shape in SHAPES.items()}
    grads = {name: rng.normal(size=(STEPS, *shape)).astype(np.float32) for name, shape in SHAPES.items()}
    leaves = {name: torch.tensor(p, dtype=torch.float64, requires_grad=True) for name, p in starts.items()}
    decays = {name: SETTINGS["weight_decay"] if len(shape) > 1 else 0.0 for name, shape in SHAPES.items()}
    groups = [{"params": [leaves[name]], "weight_decay": decays[name]} for name in SHAPES]
    optimizer = torch.optim.AdamW(groups, betas=tuple(SETTINGS["betas"]), eps=SETTINGS["eps"])
    after = {name: [] for name in SHAPES}
    for step, rate in enumerate(rates):
        for group, (name, leaf) in zip(optimizer.param_groups, leaves.items()):
            group["lr"], leaf.grad = float(rate), torch.tensor(grads[name][step], dtype=torch.float64)
        optimizer.step()
        for name, leaf in leaves.items():
            after[name].append(leaf.detach().numpy().copy())
    arrays = {"lr": rates}
    for name, leaf in leaves.items():
        state = optimizer.state[leaf]
        arrays.update({f"{name}/start": starts[name], f"{name}/grad": grads[name], f"{name}/p": np.stack(after[name])})
        arrays.update({f"{name}/m": state["exp_avg"].numpy(), f"{name}/v": state["exp_avg_sq"].numpy()})
    return arrays


if __name__ == "__main__":
    main()
