"""The demonstration behind ``make demo``: float, 8-bit and packed ternary models, NumPy and C side by side.

Without arguments it runs a seeded DeiT-Ti and a seeded narrow Swin, whose weights are random, to show that every
backend gives the same bits, and what size and time each form takes; then the ternary model that ships with refvit says
what it sees in drawn scenes. With --images it looks at those pictures; with --weights another model does.
"""

import argparse
import hashlib
import io
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw
from scenes import scenes

import refvit
from refvit.architecture import shown_name
from refvit.box import measured
from refvit.commands import top_classes
from refvit.imagefolder import find_pictures
from refvit.preprocess import crop

BOXED = "refvit_cifar10"
FORMS = (("W8A8", refvit.QuantConfig(weight_bits=8)), ("W2A8", refvit.QuantConfig(weight_bits=2)))
RUNS = 3  # of each timing; the median is printed


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--weights", help="a checkpoint; otherwise seeded random weights and the model in the box")
    parser.add_argument("--images", nargs="+", help="pictures or folders of pictures; otherwise drawn ones")
    args = parser.parse_args()
    try:
        if args.weights:
            same = [show_weights(args.weights, args.images)]
        else:
            model = refvit.load_model(BOXED)
            names, pixels = opened(args.images, model) if args.images else rendered(model)  # first: the rest takes a minute
            same = [*show_random(), show_boxed(model, names, pixels)]
    except refvit.RefvitError as error:
        print(f"demo: error: {error}", file=sys.stderr)
        return error.exit_code
    return 0 if all(same) else 1


def show_random():
    """Models of random weights, in every form; whether all backends agreed, for each."""
    for model in (
        refvit.create_model("deit_tiny_patch16_224", seed=0),
        refvit.create_model("swin_tiny_patch4_window7_224", seed=0, embed_dim=48, depths=(2, 2, 2, 2)),
    ):
        yield show(model, drawn(model.config.img_size))


def show_weights(path, images):
    """A checkpoint, in every form, on pictures or drawn ones."""
    model = refvit.load_model(path)
    if images is None:
        return show(model, drawn(model.config.img_size))
    names, pixels = opened(images, model)
    return show(model, pixels, names)


def show_boxed(model, names, pixels):
    """The model in the box, on pictures or drawn scenes."""
    result = measured(BOXED)
    print(f"\n{BOXED}, the model in the box, knows {', '.join(model.labels)};")
    print(f"it is right on {100 * result['top1']:.1f} % of {result['images']:,} test pictures of CIFAR-10")
    return show(model, pixels, names)


def show(model, pixels, names=None):
    """One model through its forms, and what it sees where pictures have names; returns whether all backends agreed."""
    print(f"\n{shown_name(model.config)}, {refvit.config.param_count(model.config):,} parameters, {len(pixels)} pictures")
    print(f"  {'form':6} {'backend':10} {'bytes':>12} {'ms/picture':>11}  SHA-256 of the logits")
    if isinstance(model, refvit.Engine):
        floats, forms = [], [("packed", model)]
    else:
        row("float", "numpy", 4 * refvit.config.param_count(model.config), *timed(model, pixels))
        floats, forms = [("float", model)], [(form, refvit.pack(model.with_quant(quant))) for form, quant in FORMS]
    agreed = all([show_backends(form, engine, pixels) for form, engine in forms])
    for form, one in [*floats, *forms] if names else []:
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
    print(f"  {form} sees:")
    for name, logits in zip(names, model.predict(pixels)):
        best = top_classes(logits, 1, model.labels)[0]
        print(f"    {name:30} {100 * best['probability']:3.0f} %  {best['label'] or best['index']}")


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


def opened(images, model):
    """-> names of the pictures, pixels uint8 [B, S, S, 3]"""
    paths = picture_paths(images)
    return [Path(path).name for path in paths], np.stack([crop(path, model.preprocess) for path in paths])


def picture_paths(images):
    """Pictures, and the pictures in folders."""
    return [path for name in images for path in (find_pictures(name) if os.path.isdir(name) else [name])]


def rendered(model):
    """The drawn scenes, through PNG files in memory.  -> what is drawn, pixels uint8 [B, S, S, 3]"""
    names, pixels = [], []
    for name, image in scenes().items():
        file = io.BytesIO()
        image.save(file, "PNG")
        names.append(f"drawn {name}")
        pixels.append(crop(file.getvalue(), model.preprocess))
    return names, np.stack(pixels)


def drawn(size):
    """A circle and stripes, uint8 [2, S, S, 3]."""
    circle, stripes = Image.new("RGB", (size, size), "white"), Image.new("RGB", (size, size), "navy")
    ImageDraw.Draw(circle).ellipse((size // 4, size // 4, 3 * size // 4, 3 * size // 4), fill="red")
    for x in range(0, size, 16):
        ImageDraw.Draw(stripes).rectangle((x, 0, x + 7, size), fill="gold")
    return np.stack([np.array(circle), np.array(stripes)])


if __name__ == "__main__":
    sys.exit(main())
