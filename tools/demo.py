"""The demonstration behind ``make demo``: float, 8-bit and packed ternary models, NumPy and C side by side.

Without arguments it runs a seeded DeiT-Ti and a seeded narrow Swin on pictures that it draws. The weights are random,
so the classes mean nothing; what it shows is that every backend gives the same bits, and what size and time each
form takes. With --weights and --images it classifies real pictures.
"""

import argparse
import hashlib
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

import refvit
from refvit.imagefolder import find_pictures
from refvit.preprocess import crop

FORMS = (("W8A8", refvit.QuantConfig(weight_bits=8)), ("W2A8", refvit.QuantConfig(weight_bits=2)))
RUNS = 5  # of each timing; the median is printed


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--weights", help="a checkpoint; otherwise seeded random weights")
    parser.add_argument("--images", nargs="+", help="pictures or folders of pictures; otherwise drawn ones")
    args = parser.parse_args()
    try:
        if args.weights:
            models = [refvit.load_model(args.weights)]
        else:
            models = [
                refvit.create_model("deit_tiny_patch16_224", seed=0),
                refvit.create_model("swin_tiny_patch4_window7_224", seed=0, embed_dim=48, depths=(2, 2, 2, 2)),
            ]
        same = [show(model, args.images) for model in models]
    except refvit.RefvitError as error:
        print(f"demo: error: {error}", file=sys.stderr)
        return error.exit_code
    return 0 if all(same) else 1


def show(model, images):
    """One model through its three forms; returns whether all backends agreed."""
    paths = picture_paths(images) if images else None
    pixels = np.stack([crop(p, model.preprocess) for p in paths] if paths else drawn(model.config.img_size))
    names = [Path(p).name for p in paths] if paths else ["circle", "stripes"]
    print(f"\n{model.config.name}, {refvit.config.param_count(model.config):,} parameters, {len(pixels)} pictures")
    print(f"  {'form':6} {'backend':10} {'bytes':>12} {'ms/picture':>11}  SHA-256 of the logits")
    if isinstance(model, refvit.Engine):
        forms = [("packed", model)]
    else:
        row("float", "numpy", 4 * refvit.config.param_count(model.config), *timed(model, pixels))
        forms = [(form, refvit.pack(model.with_quant(quant))) for form, quant in FORMS]
    agreed = all([show_backends(form, engine, pixels) for form, engine in forms])
    if images:
        for form, one in [*forms] if isinstance(model, refvit.Engine) else [("float", model), *forms]:
            show_classes(form, one, names, pixels)
    return agreed


def show_backends(form, engine, pixels):
    """The same engine on every backend of this machine; True if all give one hash."""
    size, hashes = saved_size(engine), {}
    for backend in refvit.kernels.backends():
        engine.backend = backend
        ms, hashes[backend] = timed(engine, pixels, 1 if backend == "numpy" else RUNS)
        row(form, backend, size, ms, hashes[backend])
    engine.backend = None
    print(f"  {form}: {verdict(hashes)}")
    return len(set(hashes.values())) == 1


def verdict(hashes):
    """What the hashes of the backends, a dict by name, show."""
    if len(hashes) == 1:
        return f"only {', '.join(hashes)} can be used here: nothing to compare"
    return f"the same bits on {', '.join(hashes)}" if len(set(hashes.values())) == 1 else "BACKENDS DIFFER"


def show_classes(form, model, names, pixels):
    """The best class of each picture."""
    print(f"  {form}:")
    for name, logits in zip(names, model.predict(pixels)):
        best = int(logits.argmax())
        print(f"    {name:30} {best:4d} {model.labels[best] if model.labels else ''}")


def row(form, backend, size, ms, digest):
    print(f"  {form:6} {backend:10} {size:12,} {ms:11.1f}  {digest[:32]}")


def timed(model, pixels, runs=RUNS):
    """Median milliseconds a picture, and the hash of the logits."""
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        logits = model.predict(pixels)
        times.append((time.perf_counter() - start) * 1000 / len(pixels))
    return statistics.median(times), hashlib.sha256(logits.tobytes()).hexdigest()


def saved_size(engine):
    """Bytes of the packed file, ternary weights base-3 coded."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "model.refvit.safetensors")
        engine.save(path, coding="base3")
        return os.path.getsize(path)


def picture_paths(images):
    """Pictures, and the pictures in folders."""
    return [path for name in images for path in (find_pictures(name) if os.path.isdir(name) else [name])]


def drawn(size):
    """Two pictures, uint8 [S, S, 3] each: a circle and stripes."""
    circle, stripes = Image.new("RGB", (size, size), "white"), Image.new("RGB", (size, size), "navy")
    ImageDraw.Draw(circle).ellipse((size // 4, size // 4, 3 * size // 4, 3 * size // 4), fill="red")
    for x in range(0, size, 16):
        ImageDraw.Draw(stripes).rectangle((x, 0, x + 7, size), fill="gold")
    return [np.array(circle), np.array(stripes)]


if __name__ == "__main__":
    sys.exit(main())
