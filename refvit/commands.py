"""What each verb of the command line does. A command returns its exit code, or None for 0."""

import dataclasses
import json
import os
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from . import calibrate as calibration
from . import evaluate as evaluation
from . import kernels, safetensors
from . import train as training
from .config import MODELS, QuantConfig, config_to_dict, model_config
from .engine import Engine, pack as pack_model
from .errors import BadInputError, UsageError
from .files import atomic_write
from .imagefolder import EXTENSIONS
from .info import file_sha256, model_info
from .model import create_model
from .preprocess import crop, default_preprocess, normalise
from .progress import Progress
from .recipe import read_recipe
from .run import Run
from .runreport import run_page
from .weights import load_model, save_model


def classify(args):
    """Top-k classes of each picture."""
    if args.k < 1:
        raise UsageError("classify", "-k", "at least 1", args.k)
    model = open_model(args)
    results = []
    for path in args.pictures:
        logits = model.predict(crop(path, model.preprocess)[None])[0]
        results.append({"picture": path, "classes": top_classes(logits, args.k, model.labels)})
        if not args.json:
            print_classes(results[-1])
    if args.json:
        print_json({"model": model.config.name, "pictures": results})


def top_classes(logits, k, labels):
    """The k largest logits, the lowest index first among equals (N11), with softmax probabilities."""
    e = np.exp((logits - logits.max()).astype(np.float64))
    p = e / e.sum()
    order = evaluation.top_k(logits[None], k)[0]
    return [
        {"index": int(i), "label": labels[i] if labels else None, "logit": float(logits[i]), "probability": float(p[i])}
        for i in order
    ]


def print_classes(result):
    print(result["picture"])
    for c in result["classes"]:
        print(f"  {100 * c['probability']:6.2f} %  {c['index']:5d}  {c['label'] or ''}".rstrip())


def evaluate(args):
    """Top-1 and Top-5 of a folder, or of merged shards."""
    if args.merge:
        if args.model:
            raise UsageError("eval", "--merge", "no MODEL and FOLDER", args.model)
        result = evaluation.merge(args.merge)
    else:
        if not args.folder:
            raise UsageError("eval", "arguments", "MODEL FOLDER, or --merge FILE...", args.model or "none")
        model = open_model(args)
        result = evaluation.run(
            model,
            args.folder,
            order_file=args.class_order,
            out=args.out,
            model_id=model_id(args, model),
            limit=args.limit,
            shard=evaluation.parse_shard(args.shard),
            batch_size=args.batch_size,
            progress=sys.stderr,
        )
    if args.json:
        print_json(result)
    else:
        print(f"Top-1 {100 * result['top1']:.2f} %  Top-5 {100 * result['top5']:.2f} %  {result['images']} pictures")


def model_id(args, model):
    """What names a model in the file of an evaluation: its configuration, its bits, and the hash of its file."""
    quant = None if model.quant is None else dataclasses.asdict(model.quant)
    where = {"seed": args.seed} if not os.path.exists(args.model) else {"sha256": file_sha256(args.model)}
    return {"config": config_to_dict(model.config), "quant": quant, **where}


def calibrate(args):
    """Ranges of the layers' inputs on a folder of pictures."""
    model = open_float_model(args, "calibrate")
    if args.weight_bits < 32:
        model = model.with_quant(QuantConfig(weight_bits=args.weight_bits))
    paths = sorted(p for p in Path(args.folder).rglob("*") if p.suffix.lower() in EXTENSIONS)
    if not paths:
        raise BadInputError(args.folder, "pictures", "at least one " + " ".join(EXTENSIONS), "none")
    paths = evaluation.spread(paths, args.limit)
    meter = Progress(sys.stderr, "calibrate", len(paths))
    batches = (normalise(crop(p, model.preprocess), model.preprocess) for p in counted(paths, meter))
    ranges = calibration.calibrate(model, batches, args.percentile)
    calibration.save_ranges(args.out, ranges, model, args.percentile, len(paths), args.force)
    summary = {"layers": len(ranges), "pictures": len(paths), "percentile": args.percentile, "out": args.out}
    print_summary(args, summary, f"{args.out}: ranges of {len(ranges)} layers from {len(paths)} pictures")


def counted(paths, meter):
    """The paths, each reported when the one after it is asked for."""
    for i, path in enumerate(paths, 1):
        yield path
        meter.update(i)


def pack(args):
    """Float checkpoint -> packed file."""
    model = open_float_model(args, "pack")
    quant = QuantConfig(
        threshold=args.threshold if args.threshold == "optimal" else parse_threshold(args.threshold),
        **{field: getattr(args, field) for field in PACK_FIELDS},
    )
    if quant.act_scale == "static" and not args.calibration:
        raise UsageError("pack", "--act-scale static", "--calibration FILE", "none", "refvit calibrate")
    ranges = calibration.load_ranges(args.calibration, model.config) if args.calibration else None
    engine = pack_model(model.with_quant(quant, ranges))
    engine.save(args.out, coding=args.coding, force=args.force)
    size = os.path.getsize(args.out)
    summary = {"out": args.out, "bytes": size, "model": model.config.name, "coding": args.coding}
    print_summary(args, summary, f"{args.out}: {model.config.name}, W{quant.weight_bits}A{quant.act_bits}, {size:,} bytes")


PACK_FIELDS = (
    "weight_bits",
    "act_bits",
    "granularity",
    "scale",
    "act_quantizer",
    "act_scale",
    "attention",
    "patch_bits",
    "head_bits",
)


def parse_threshold(text):
    try:
        return float(text)
    except ValueError:
        raise UsageError("pack", "--threshold", 'a number or "optimal"', repr(text)) from None


def unpack(args):
    """Packed file -> float checkpoint."""
    engine = load_model(args.model)
    if not isinstance(engine, Engine):
        raise BadInputError(args.model, "format", "a packed file", "a float checkpoint")
    save_model(engine.unpack(), args.out, force=args.force)
    size = os.path.getsize(args.out)
    print_summary(args, {"out": args.out, "bytes": size, "model": engine.config.name}, f"{args.out}: {size:,} bytes")


def info(args):
    """Per-layer bits, bytes, sparsity, hashes; totals."""
    path = args.model if os.path.exists(args.model) else None
    result = model_info(open_model(args), path)
    if args.json:
        return print_json(result)
    print(f"{result['model']}  {result['kind']}  {result['parameters']:,} parameters")
    print(f"{'layer':34} {'shape':>18} {'bits':>6} {'bytes':>10} {'zeros':>7}  sha256")
    for row in result["layers"]:
        bits = f"W{row['weight_bits']}A{row['act_bits']}"
        shape = " x ".join(map(str, row["shape"]))
        print(f"{row['name']:34} {shape:>18} {bits:>6} {row['bytes']:10,} {row['sparsity']:7.3f}  {row['sha256'][:16]}")
    for group in ("bytes", "accountings"):
        for name, count in result.get(group, {}).items():
            print(f"{group:12} {name:18} {count:>13,}  {count / 1e6:9.3f} MB")
    if "file" in result:
        print(f"file         {result['file']['bytes']:,} bytes  sha256 {result['file']['sha256']}")


def preprocess(args):
    """Pictures -> integer pixels, and the normalised input."""
    config = preprocessing_of(args)
    pixels = np.stack([crop(path, config) for path in args.pictures])
    if args.out.lower().endswith(".png"):
        if len(pixels) != 1:
            raise UsageError("preprocess", "a .png holds", "one picture", len(pixels), "-o FILE.safetensors")
        with atomic_write(args.out, args.force) as file:
            Image.fromarray(pixels[0]).save(file, "PNG")
    elif args.out.lower().endswith(".safetensors"):
        tensors = {"pixels": pixels, "x": normalise(pixels, config)}
        safetensors.write(args.out, tensors, {"preprocess": json.dumps(config.to_dict())}, force=args.force)
    else:
        raise UsageError("preprocess", "--out", "a name that ends in .png or .safetensors", args.out)
    summary = {"out": args.out, "pictures": len(pixels), "preprocess": config.to_dict()}
    print_summary(args, summary, f"{args.out}: {len(pixels)} x {config.img_size} x {config.img_size}, mode {config.mode}")


def preprocessing_of(args):
    """Of a file's model, or a registered name's (no weights are made for that)."""
    if args.model in MODELS and not os.path.exists(args.model):
        size = {} if args.img_size is None else {"img_size": args.img_size}
        return default_preprocess(model_config(args.model, **size))
    return open_model(args).preprocess


def backends(args):
    """The kernels of this machine."""
    result = kernels.info()
    if args.json:
        return print_json(result)
    for row in result["backends"]:
        print(f"{row['name']:10} {'usable' if row['usable'] else 'not usable: ' + row['why']}")
    print(f"threads {result['threads']}; CPU features: {' '.join(result['features']) or 'none known'}")


def open_model(args):
    """The model an argument names: a file, or a registered name with seeded weights. Backend and threads are set."""
    if getattr(args, "threads", None) is not None:
        kernels.set_threads(args.threads)
    if getattr(args, "backend", None) is not None:
        kernels.check_backend(args.backend)
        os.environ["REFVIT_BACKEND"] = args.backend
    if args.model in MODELS and not os.path.exists(args.model):
        size = {} if args.img_size is None else {"img_size": args.img_size}
        print(f"refvit: {args.model} with seeded random weights (seed {args.seed})", file=sys.stderr)
        return create_model(args.model, seed=args.seed, **size)
    return load_model(args.model, name=args.name, img_size=args.img_size)


def open_float_model(args, verb):
    model = open_model(args)
    if isinstance(model, Engine):
        raise BadInputError(args.model, verb, "a float checkpoint", "a packed file", "refvit unpack first")
    return model


def print_summary(args, summary, text):
    print(json.dumps(summary) if args.json else text)


def print_json(result):
    print(json.dumps(result))


def train(args):
    """Train a recipe's stages, or go on with a run."""
    if args.threads is not None:
        kernels.set_threads(args.threads)
    recipe = None
    if not args.resume:
        recipe = read_recipe(args.recipe)
        changes = {k: v for k, v in (("seed", args.seed), ("init", args.init)) if v is not None}
        recipe = dataclasses.replace(recipe, **changes)
        if args.stages:
            recipe = recipe.only(args.stages.split(","))
    run = Run(args.out, recipe, args.data, progress=sys.stderr)
    result = training.train(run)
    print_summary(args, {"run": args.out, **result}, f"{args.out}: {training.describe(result)}")


def report(args):
    """The page of a training run."""
    text = run_page(args.run_folder, args.data, args.pictures, args.grid, args.reach, args.layer, sys.stderr)
    with atomic_write(args.out, args.force) as file:
        file.write(text.encode())
    print_summary(args, {"out": args.out, "bytes": len(text.encode())}, f"{args.out}: {len(text.encode()):,} bytes")
