"""The study of TerViT's two claims on CIFAR-10: progressive against direct, channel-wise against layer-wise scales.

For a ViT and a Swin of CIFAR size and each seed: one float stage; from its weights, for each granularity, W8A8 and then
W2A8 (progressive), and W2A8 with the epochs of both (direct). So both ways to W2A8 train for the same epochs from the
same float weights. Every result is measured on the test pictures and on training pictures that were left out.
Finished parts are kept: an interrupted study goes on. Needs nothing beyond refvit.

    python tools/study.py cifar10.tar.gz -o study/            # trains, then prints the tables
    python tools/study.py cifar10.tar.gz -o study/ --tables   # prints the tables of what is finished
"""

import argparse
import itertools
import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

FAMILIES = {
    "vit": {"name": "deit_tiny_patch16_224", "img_size": 32, "patch_size": 4, "embed_dim": 64, "depth": 4,
            "num_heads": 2, "mlp_ratio": 2.0},
    "swin": {"name": "swin_tiny_patch4_window7_224", "img_size": 32, "patch_size": 4, "embed_dim": 48,
             "depths": [2, 2], "num_heads": [2, 4], "window_size": 4, "mlp_ratio": 2.0},
}  # fmt: skip
GRANULARITIES = ("channel", "layer")
BASE = {
    "batch_size": 64,
    "crop_pct": 1.0,
    "mean": [0.4914, 0.4822, 0.4465],
    "std": [0.2470, 0.2435, 0.2616],
    "augment": {"crop": "padded", "color_jitter": 0.0, "erasing": 0.0, "mixup": 0.0, "cutmix": 0.0, "smoothing": 0.1},
    "workers": 0,
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data")
    parser.add_argument("-o", "--out", required=True, type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--pictures", type=int, default=10_000, help="to train on (default 10,000)")
    parser.add_argument("--held-out", type=int, default=20_000, help="training pictures measured on (default 20,000)")
    parser.add_argument("--epochs", type=int, nargs=3, default=(12, 3, 6), metavar=("FLOAT", "W8A8", "W2A8"))
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time, one thread each (default 2)")
    parser.add_argument("--tables", action="store_true", help="only print the tables of what is finished")
    args = parser.parse_args()
    if not args.tables:
        chains = list(itertools.product(range(args.seeds), FAMILIES))
        with ThreadPoolExecutor(args.jobs) as pool:
            for _ in pool.map(lambda chain: train_chain(args, *chain), chains):
                pass
    print(tables(args))


def train_chain(args, seed, family):
    """All runs of one seed and family, one after the other."""
    e_float, e_8, e_2 = args.epochs
    train(args, f"{family}-{seed}-float", family, seed, None, [stage("float", e_float, 1e-3, warmup_epochs=1)])
    start = args.out / f"{family}-{seed}-float" / "float.safetensors"
    for g in GRANULARITIES:
        w8, w2 = ({"weight_bits": b, "granularity": g} for b in (8, 2))
        stages = [stage("w8a8", e_8, 5e-4, quant=w8), stage("w2a8", e_2, 5e-4, quant=w2)]
        train(args, f"{family}-{seed}-progressive-{g}", family, seed, start, stages)
        train(args, f"{family}-{seed}-direct-{g}", family, seed, start, [stage("w2a8", e_8 + e_2, 5e-4, quant=w2)])


def stage(name, epochs, lr, **fields):
    return {"name": name, "epochs": epochs, "lr": lr, **fields}


def train(args, name, family, seed, init, stages):
    """One run by the command line, resumed where it was interrupted, skipped where it is finished."""
    folder = args.out / name
    if (folder / f"{stages[-1]['name']}.safetensors").exists():
        return
    recipe = {**BASE, "model": FAMILIES[family], "seed": seed, "stages": stages, "pictures": args.pictures,
              "held_out": args.held_out, "init": None if init is None else str(init)}  # fmt: skip
    args.out.mkdir(parents=True, exist_ok=True)
    path = args.out / f"{name}.json"
    path.write_text(json.dumps(recipe, indent=2) + "\n")
    resume = ["--resume"] if (folder / "last.safetensors").exists() else []
    command = [sys.executable, "-m", "refvit", "train", str(path), args.data, "-o", str(folder), *resume]
    one_thread = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "REFVIT_THREADS": "1"}
    started = time.time()
    subprocess.run(command, check=True, env={**os.environ, **one_thread}, stderr=subprocess.DEVNULL)
    print(f"{name}: {time.time() - started:.0f} s", file=sys.stderr)


def results(args):
    """(family, seed, way, granularity) -> (Top-1 on the test pictures, Top-1 on the left-out ones), in percent."""
    found = {}
    for seed, family in itertools.product(range(args.seeds), FAMILIES):
        for run in args.out.glob(f"{family}-{seed}-*/log.jsonl"):
            _, _, way, *granularity = run.parent.name.split("-")
            for line in map(json.loads, run.read_text().splitlines()):
                if line["kind"] == "epoch" and "top1_held_out" in line:
                    kind = way if line["stage"] != "w8a8" else "w8a8"
                    scores = 100 * line["top1"], 100 * line["top1_held_out"]
                    for g in granularity or GRANULARITIES:
                        found[family, seed, kind, g] = scores
    return found


def tables(args):
    """Accuracies, and paired differences by seed, as Markdown."""
    found = results(args)
    rows = ["| model | stage | scales | Top-1 test | Top-1 left out |", "|---|---|---|---|---|"]
    for family, way, g in itertools.product(FAMILIES, ("float", "w8a8", "direct", "progressive"), GRANULARITIES):
        scores = [found[family, s, way, g] for s in range(args.seeds) if (family, s, way, g) in found]
        if scores and not (way == "float" and g == "layer"):
            test, left_out = zip(*scores)
            shown = "-" if way == "float" else g
            rows.append(f"| {family} | {way} | {shown} | {spread(test)} | {spread(left_out)} |")
    rows += ["", "| model | paired difference on left-out pictures | mean | of each seed |", "|---|---|---|---|"]
    for family in FAMILIES:
        for g in GRANULARITIES:
            rows.append(difference(found, family, f"progressive - direct, {g}", ("progressive", g), ("direct", g), args))
        for way in ("w8a8", "direct", "progressive"):
            rows.append(difference(found, family, f"channel - layer, {way}", (way, "channel"), (way, "layer"), args))
    return "\n".join(row for row in rows if row is not None)


def difference(found, family, title, a, b, args):
    pairs = [(found.get((family, s, *a)), found.get((family, s, *b))) for s in range(args.seeds)]
    d = [x[1] - y[1] for x, y in pairs if x and y]
    return f"| {family} | {title} | {spread(d, '+')} | {', '.join(f'{v:+.2f}' for v in d)} |" if d else None


def spread(values, sign=""):
    """Mean and standard deviation."""
    deviation = np.std(values, ddof=1) if len(values) > 1 else float("nan")
    return f"{np.mean(values):{sign}.2f} ± {deviation:.2f}"


if __name__ == "__main__":
    main()
