"""Time one training step (forward, cross-entropy, backward, AdamW) beside PyTorch's eager float32.

    python tools/bench_train.py [--torch-python PATH] [--threads 1 2] [--rounds 9] [--json FILE]

The models are DeiT-Ti at 224x224, batch 8, and a ViT of the size of CIFAR (32x32, patch 4, width 128, depth 6, 4 heads,
batch 64): refvit in float32, refvit at W2A8, and PyTorch in float32. Each runs in a process of its own; the steps of
all three take turns, so that whatever else the machine does meets them alike. Printed are the medians, their ratios
and each process' peak of resident memory. The ratios "by round" are medians of the ratio within a round.

The peer needs a Python with torch, numpy, cffi and pillow (refvit's configurations are read there too), named by
--torch-python; without it only refvit is timed. Its model is tools/torch_models.py: plain PyTorch functions, the fused
layer_norm, gelu, softmax and cross_entropy among them, and torch.optim.AdamW.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

ROOT = Path(__file__).parents[1]
CIFAR = {"img_size": 32, "patch_size": 4, "embed_dim": 128, "depth": 6, "num_heads": 4, "num_classes": 10}
MODELS = {"deit_tiny_224": ({}, 8), "vit_cifar": (CIFAR, 64)}  # fields other than DeiT-Ti's, batch
LR, WARM_UP = 1e-4, 2


def setting(name):
    """-> model, pictures float32 [B, 3, S, S], labels int64 [B]"""
    import numpy as np

    from refvit.model import create_model

    fields, batch = MODELS[name]
    model = create_model("deit_tiny_patch16_224", **fields)
    rng = np.random.default_rng(0)
    x = rng.standard_normal((batch, 3, model.config.img_size, model.config.img_size), dtype=np.float32)
    return model, x, rng.integers(0, model.config.num_classes, batch)


def refvit_step(name, quantized):
    """One step of refvit as a function."""
    from refvit import fused
    from refvit.config import QuantConfig
    from refvit.training import losses
    from refvit.training.optim import Optimizer

    fused.keep_memory()
    model, x, labels = setting(name)
    targets = losses.make_targets(labels, model.config.num_classes)
    optimizer = Optimizer(model.params)
    run = model.with_quant(QuantConfig()) if quantized else model

    def step():
        logits, cache = run.forward(x)
        _, loss_cache = losses.cross_entropy_forward(logits, targets)
        _, grads = run.backward(losses.cross_entropy_backward(1.0, loss_cache), cache)
        optimizer.step(grads, LR, 0.05)

    return step


def torch_step(name, threads):
    """One step of PyTorch as a function."""
    import torch

    from tools.torch_models import forward

    torch.set_num_threads(threads)
    model, x, labels = setting(name)
    params = {n: torch.nn.Parameter(torch.tensor(p)) for n, p in model.params.items()}
    optimizer = torch.optim.AdamW(params.values(), lr=LR, weight_decay=0.05)
    x, labels = torch.tensor(x), torch.tensor(labels)

    def step():
        loss = torch.nn.functional.cross_entropy(forward(model.config, params, x), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def work(kind, name, threads):
    """A child: for each line on stdin one step and its seconds; at the end the peak of memory in MB."""
    step = torch_step(name, threads) if kind == "torch" else refvit_step(name, kind == "W2A8")
    for _ in sys.stdin:
        start = time.perf_counter()
        step()
        print(time.perf_counter() - start, flush=True)
    unit = 1 << 20 if sys.platform == "darwin" else 1 << 10
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit, flush=True)


class Child:
    def __init__(self, python, kind, name, threads):
        variables = ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS", "REFVIT_THREADS")
        env = {**os.environ, **dict.fromkeys(variables, str(threads)), "PYTHONPATH": str(ROOT)}
        command = [python, __file__, "--child", kind, name, str(threads)]
        self.process = subprocess.Popen(command, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def step(self):
        """-> seconds"""
        print(file=self.process.stdin, flush=True)
        return float(self.process.stdout.readline())

    def finish(self):
        """-> peak of resident memory in MB"""
        self.process.stdin.close()
        peak = float(self.process.stdout.read())
        self.process.wait()
        return peak


def measure(name, threads, rounds, torch_python):
    """All processes on one model.  -> dict: kind -> {"seconds", "peak_mb"}, and the ratios"""
    pythons = {"float": sys.executable, "W2A8": sys.executable, "torch": torch_python}
    children = {kind: Child(python, kind, name, threads) for kind, python in pythons.items() if python}
    times = [{kind: child.step() for kind, child in children.items()} for _ in range(WARM_UP + rounds)][WARM_UP:]
    result = {"model": name, "threads": threads}
    for kind, child in children.items():
        result[kind] = {"seconds": median(t[kind] for t in times), "peak_mb": child.finish()}
    for above, below in (("float", "torch"), ("W2A8", "float")):
        if below in children:
            result[f"{above}/{below}"] = result[above]["seconds"] / result[below]["seconds"]
            result[f"{above}/{below} by round"] = median(t[above] / t[below] for t in times)
    return result


def table(results):
    columns = ("float", "W2A8", "torch")
    heads = " ".join(f"{c + ' ms':>9} {'MB':>5}" for c in columns)
    yield f"{'model':14} {'threads':>7} {heads}  ratios (by round)"
    for r in results:
        have = [r.get(c, {"seconds": float("nan"), "peak_mb": float("nan")}) for c in columns]
        cells = " ".join(f"{h['seconds'] * 1e3:9.0f} {h['peak_mb']:5.0f}" for h in have)
        ratios = [f"{n} {r[n]:.2f} ({r[n + ' by round']:.2f})" for n in ("float/torch", "W2A8/float") if n in r]
        yield f"{r['model']:14} {r['threads']:7} {cells}  {', '.join(ratios)}"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--torch-python", help="Python that has torch; without it PyTorch is not timed")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--rounds", type=int, default=9, help="timed steps of each")
    parser.add_argument("--json", help="write the results to this file")
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        kind, name, threads = args.child
        return work(kind, name, int(threads))
    results = [measure(n, t, args.rounds, args.torch_python) for n in args.models for t in args.threads]
    print("\n".join(table(results)))
    if args.json:
        Path(args.json).write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
