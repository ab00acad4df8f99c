"""Hostile files of every kind against the readers in Python: a result, or one RefvitError; anything else is a failure.

    python -m tools.fuzz [--kinds packed,torch] [--seconds N | --files N] [--seed N] [--failures FOLDER]

Failures are other exceptions, more than SECONDS_MAX for a file, more than MEMORY_MAX beside what the process had (there
MemoryError is raised), and packed files on which the loader in C has another verdict. The same seed makes the same files.
"""

import argparse
import hashlib
import io
import json
import random
import resource
import signal
import sys
import tempfile
import time
import traceback
from contextlib import contextmanager, redirect_stderr, suppress
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from refvit import safetensors, torchfile
from refvit.backend import lib
from refvit.conformance.foreign import read_foreign
from refvit.conformance.trace import read_trace, trace, write_trace
from refvit.engine import Engine
from refvit.errors import RefvitError
from refvit.npy import read_npy
from refvit.pictures import load_rgb
from refvit.training.recipe import read_recipe
from refvit.vectors.kitfile import read_kit
from refvit.weights import load_model, save_model
from tests.clibrary import CModel
from tests.mutations import MUTATIONS, resealed
from tests.torch_files import saved_bytes
from tools import fuzz_bytes, fuzz_seeds

SECONDS_MAX = 20  # of a file; the slowest, a picture of MAX_PIXELS, takes a few
FAILURES_MAX = 20  # of a kind: its files are kept
MEMORY_MAX = 2 << 30  # bytes; pictures of MAX_PIXELS take 4 bytes a pixel in each of up to three copies
ARRAYS = {"a": np.arange(12, dtype=np.float32).reshape(3, 4), "b": np.arange(5, dtype=np.int8)}


def packed_seeds(folder):
    return [path.read_bytes() for path in fuzz_seeds.write_packed(folder / "packed")]


def checkpoint_seeds(folder):
    paths = [folder / name for name in ("saved", "published")]
    model = fuzz_seeds.float_model("swin_tiny_patch4_window7_224", fuzz_seeds.SWIN)
    save_model(model, paths[0])
    safetensors.write(paths[1], model.params)  # its sizes must be recognised
    return [path.read_bytes() for path in paths]


def torch_seeds(folder):
    params = fuzz_seeds.float_model("deit_tiny_patch16_224", fuzz_seeds.VIT).params
    return [saved_bytes(params), saved_bytes({"model": params, "epoch": 3}, protocol=4)]


def npy_seeds(folder):
    return [written(np.save, ARRAYS["a"]), written(np.save, ARRAYS["a"].T.astype(">f8"))]


def npz_seeds(folder):
    return [written(np.savez, **ARRAYS), written(np.savez_compressed, **ARRAYS)]


def written(save, *arrays, **named):
    file = io.BytesIO()
    save(file, *arrays, **named)
    return file.getvalue()


def trace_seeds(folder):
    engine, _ = fuzz_seeds.packed("planes")
    write_trace(folder / "trace", trace(engine, np.zeros((4, 4, 3), np.uint8)), force=True)
    return [(folder / "trace").read_bytes()]


def kit_seeds(folder):
    values = np.array([1, 0], "<f4").tobytes()
    (folder / "a.bin").write_bytes(values)
    place = {"file": "a.bin", "sha256": hashlib.sha256(values).hexdigest()}
    tensor = {"name": "x", "dtype": "float32", "shape": [2], "values": ["0x1p+0", "0x0p+0"], **place}
    row = {"id": "gelu/a", "operation": "gelu", "comment": "c", "expectation": "exact", "parameters": {"n": [1, "a"]}, "rules": ["N9"],
           "flags": ["f"], "inputs": [tensor], "outputs": [tensor]}  # fmt: skip
    bound = {**row, "id": "gelu/b", "expectation": "bound", "outputs": [{**tensor, "low": place, "high": place}]}
    kit = {"format": "refvit-kit", "kit_version": 1, "spec_version": 1, "level": 1, "rules": {"N9": "a"}, "flags": {"f": "b"}}
    return [json.dumps({**kit, "cases": [row, bound]}).encode()]


def recipe_seeds(folder):
    return [path.read_bytes() for path in sorted(Path(__file__).with_name("recipes").glob("*.json"))]


def picture_seeds(folder):
    rng = np.random.default_rng(0)
    rgb = Image.fromarray(rng.integers(0, 256, (9, 13, 3), dtype=np.uint8))
    images = [rgb, rgb.convert("L"), rgb.convert("P"), rgb.convert("RGBA"), rgb.convert("1")]
    seeds = [written(partial(image.save, format="PNG")) for image in images]
    seeds += [written(rgb.save, **options) for options in (
        {"format": "JPEG"}, {"format": "JPEG", "progressive": True}, {"format": "PPM"}, {"format": "WEBP"}, {"format": "GIF"},
        {"format": "WEBP", "lossless": True}, {"format": "WEBP", "save_all": True, "append_images": images[:1]}, {"format": "TIFF"},
    )]  # fmt: skip
    return seeds + [b"P5 3 2 65535\n" + bytes(12), b"P1 2 2 0 1 1 0", b"P3 1 1 255 1 2 3", b"Pf 2 2 -1.0\n" + bytes(16)]


def read_packed(path):
    """Both loaders; they must agree."""
    model = CModel(path.read_bytes()) if lib is not None else None
    try:
        accepted, error = isinstance(load_model(path), Engine), None
    except RefvitError as refusal:
        accepted, error = False, refusal
    if model is not None and (model.status == lib.REFVIT_OK) != accepted:
        raise AssertionError(f"the loader in C says {model.text!r}, the one in Python {error}")
    if error is not None:
        raise error


def read_torch(path):
    """The tensors; then as a model, which most are not."""
    torchfile.read(path)
    with suppress(RefvitError):
        load_model(path)


def read_manifest(path):
    path.rename(path.with_name("manifest.json"))
    for case in read_kit(path.parent):
        str(case)


def mutate_packed(rng, data, path):
    return resealed(rng.choice([*MUTATIONS.values(), fuzz_bytes.plain])(rng, data), path)


def of(*mutations):
    """A kind's mutations, one of which is taken; any may be a plain one of bytes."""
    return lambda rng, data, path: rng.choice([*mutations, fuzz_bytes.plain])(rng, data)


ZIP = (fuzz_bytes.zip_field, partial(fuzz_bytes.zip_member, change=fuzz_bytes.plain))
KINDS = {  # name: (good files, the suffix, the reader, the mutation)
    "packed": (packed_seeds, ".safetensors", read_packed, mutate_packed),
    "checkpoint": (checkpoint_seeds, ".safetensors", load_model, of(*[m for n, m in MUTATIONS.items() if n in ("tensor_mutation", "byte_mutation")])),
    "torch": (torch_seeds, ".pth", read_torch, of(*ZIP, *[partial(fuzz_bytes.zip_member, change=fuzz_bytes.pickle)] * 3)),
    "npy": (npy_seeds, ".npy", read_npy, of(fuzz_bytes.digits)),
    "npz": (npz_seeds, ".npz", partial(read_foreign, reference=ARRAYS), of(*ZIP, partial(fuzz_bytes.zip_member, change=fuzz_bytes.digits))),
    "trace": (trace_seeds, ".safetensors", read_trace, of(*[m for n, m in MUTATIONS.items() if n in ("tensor_mutation", "byte_mutation")])),
    "kit": (kit_seeds, ".json", read_manifest, of(*[fuzz_bytes.json_value] * 4)),
    "recipe": (recipe_seeds, ".json", read_recipe, of(*[fuzz_bytes.json_value] * 4)),
    "picture": (picture_seeds, ".img", load_rgb, of(fuzz_bytes.png_chunk, fuzz_bytes.digits)),
}  # fmt: skip


class Hang(Exception):
    """A file took too long."""


@contextmanager
def limited():
    """At most SECONDS_MAX and MEMORY_MAX more than now."""

    def late(signum, frame):
        raise Hang(f"more than {SECONDS_MAX} s")

    with open("/proc/self/statm") as file:
        now = int(file.read().split()[0]) * resource.getpagesize()
    before = resource.getrlimit(resource.RLIMIT_AS)
    handler = signal.signal(signal.SIGALRM, late)
    resource.setrlimit(resource.RLIMIT_AS, (now + MEMORY_MAX, before[1]))
    signal.setitimer(signal.ITIMER_REAL, SECONDS_MAX)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        resource.setrlimit(resource.RLIMIT_AS, before)
        signal.signal(signal.SIGALRM, handler)


def judge(kind, data, folder):
    """"read", "refused", or the traceback of what must not be."""
    _, suffix, read, _ = KINDS[kind]
    path = folder / f"m{suffix}"
    path.write_bytes(data)
    try:
        with limited(), redirect_stderr(io.StringIO()):  # load_model has a line for each checkpoint
            read(path)
        return "read"
    except RefvitError:
        return "refused"
    except (Exception, SystemExit):  # what is found is the aim
        return traceback.format_exc()


def campaign(kind, seed, seconds=None, files=None):
    """Mutated files of a kind, one to three mutations each.  -> yields (bytes, verdict) until either is used up"""
    with tempfile.TemporaryDirectory() as name:
        folder, end, done = Path(name), None if seconds is None else time.monotonic() + seconds, 0
        make, suffix, _, mutate = KINDS[kind]
        seeds, rng = make(folder), random.Random(f"{kind} {seed}")
        while (files is None or done < files) and (end is None or time.monotonic() < end):
            data = rng.choice(seeds)
            for _ in range(rng.randint(1, 3)):
                data = fuzz_bytes.attempt(mutate, rng, data, folder / f"m{suffix}")
            yield data, judge(kind, data, folder)
            done += 1


def main():
    parser = argparse.ArgumentParser(prog="tools.fuzz", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kinds", default=",".join(KINDS), help="of files; default: %(default)s")
    parser.add_argument("--seconds", type=float, help="for all kinds together")
    parser.add_argument("--files", type=int, help="of all kinds together")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--failures", type=Path, default=Path("build/fuzz/python"), help="folder that failing files go to")
    args = parser.parse_args()
    kinds, all_failed = args.kinds.split(","), 0
    for kind in kinds:
        counts, share, failed = {"read": 0, "refused": 0}, [n and n / len(kinds) for n in (args.seconds, args.files)], 0
        for data, verdict in campaign(kind, args.seed, *share):
            if verdict in counts:
                counts[verdict] += 1
            else:
                failed += 1
                args.failures.mkdir(parents=True, exist_ok=True)
                (args.failures / f"{kind}-{failed}{KINDS[kind][1]}").write_bytes(data)
                print(f"{kind}-{failed}: {verdict}")
                if failed == FAILURES_MAX:
                    break
        print(f"{kind}: {counts['read']} read, {counts['refused']} refused, {failed} failed", flush=True)
        all_failed += failed
    return all_failed > 0


if __name__ == "__main__":
    sys.exit(main())
