"""What each verb of the command line does. A command returns its exit code, or None for 0."""

import contextlib
import dataclasses
import difflib
import json
import os
import sys

import numpy as np
from PIL import Image

from . import backend, completion, safetensors
from . import calibrate as calibration
from . import evaluate as evaluation
from .architecture import shown_name
from .box import boxed_names
from .config import QuantConfig, config_to_dict, linear_roles
from .engine import Engine
from .engine import pack as pack_model
from .errors import BadInputError, UsageError
from .export import export as write_export
from .files import atomic_write, check_writable
from .imagefolder import find_pictures, listing
from .info import file_sha256, model_info
from .model import create_model
from .preprocess import crop, default_preprocess, normalise
from .progress import Progress
from .registry import MODELS, model_config
from .threads import set_threads
from .weights import load_model, save_model

MERGE_EXCLUDES = (
    "name", "img_size", "seed", "out", "limit", "shard", "class_order", "batch_size", "threads", "backend"
)  # fmt: skip
SPELLED = {"run_folder": "--run", "picture": "PICTURE"}  # arguments that are not called as their attribute is
EXIT_DIFFERENT = 1
ACT_SWITCHES = ("act_bits", "act_quantizer", "act_scale", "attention")


def classify(args):
    """Top-k classes of each picture."""
    check_pictures(args.pictures)
    model = open_model(args)
    results = []
    meter = Progress(sys.stderr if args.json and len(args.pictures) > 1 else None, "classify", len(args.pictures))
    for path in counted(args.pictures, meter):
        logits = model.predict(crop(path, model.preprocess)[None])[0]
        results.append({"picture": path, "classes": top_classes(logits, args.k, model.labels)})
        if not args.json:
            print_classes(results[-1])
    if args.json:
        print_json({"model": model.config.name, "pictures": results})


def check_pictures(paths):
    """Raise BadInputError for the first that is a folder, before any work."""
    for path in filter(os.path.isdir, paths):
        raise BadInputError(path, "cannot be read", "a picture", "a folder", os.path.join(path, "*"))


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
        refuse(args, "with --merge", MERGE_EXCLUDES)
        result = evaluation.merge(args.merge)
    else:
        result = evaluate_folder(args)
    if args.json:
        print_json(result)
    else:
        print(f"Top-1 {100 * result['top1']:.2f} %  Top-5 {100 * result['top5']:.2f} %  {result['images']} pictures")


@contextlib.contextmanager
def going_on(how):
    """An interruption inside says how the run is continued."""
    try:
        yield
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"interrupted; try {how}, which goes on") from None


def evaluate_folder(args):
    """The numbers of one run."""
    if not args.folder:
        got = "MODEL alone" if args.model else "none"
        raise UsageError("eval", "arguments", "MODEL FOLDER, or --merge FILE...", got)
    shard = (1, 1) if args.shard is None else evaluation.parse_shard(args.shard)
    listing(args.folder)  # before the model, which takes longer
    model = open_model(args)
    with going_on("the same command again") if args.out else contextlib.nullcontext():
        return evaluation.run(
            model,
            args.folder,
            order_file=args.class_order,
            out=args.out,
            model_id=model_id(args, model),
            limit=args.limit,
            shard=shard,
            batch_size=args.batch_size or 8,
            progress=sys.stderr,
        )


def model_id(args, model):
    """What names a model in the file of an evaluation: its configuration, its bits, and the hash of its file."""
    quant = None if model.quant is None else dataclasses.asdict(model.quant)
    where = {"sha256": file_sha256(args.model)} if os.path.exists(args.model) else {"seed": args.seed or 0}
    return {"config": config_to_dict(model.config), "quant": quant, **where}


def check_out(args, *inputs):
    """What cannot be written is told before the work; nor does --force let a verb replace what it reads."""
    for path in inputs:
        if os.path.exists(args.out) and path is not None and os.path.exists(path) and os.path.samefile(args.out, path):
            raise UsageError(args.verb, "--out", "another file than what is read", args.out)
    check_writable(args.out, args.force)


def check_exists(path):
    """Raise BadInputError for a path that is not there, before anything is made or read."""
    if not os.path.exists(path):
        raise BadInputError(path, "cannot be read: no such file or folder")


def calibrate(args):
    """Ranges of the layers' inputs on a folder of pictures."""
    check_out(args, args.model)
    calibration.check_percentile(args.percentile)
    quant = QuantConfig(**switches(args, calibration.WEIGHT_SWITCHES))
    paths = evaluation.spread(find_pictures(args.folder), args.limit)
    model = open_float_model(args).with_quant(quant)
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
    check_out(args, args.model, args.calibration)
    quant = QuantConfig(**switches(args, calibration.WEIGHT_SWITCHES + ACT_SWITCHES))
    if quant.act_scale != "static":
        refuse(args, "without --act-scale static", ("calibration",))
    elif args.calibration is None:
        raise UsageError("pack", "--act-scale static", "--calibration FILE", "none", "refvit calibrate")
    model = open_float_model(args).with_quant(quant)
    if args.calibration is not None:
        model = model.with_quant(quant, calibration.load_ranges(args.calibration, model))
    meter = Progress(sys.stderr, "pack", len(linear_roles(model.config)))
    pack_model(model, progress=meter).save(args.out, coding=args.coding, force=args.force)
    size = os.path.getsize(args.out)
    summary = {"out": args.out, "bytes": size, "model": model.config.name, "coding": args.coding}
    form = f"W{quant.weight_bits}A{quant.act_bits}"
    print_summary(args, summary, f"{args.out}: {shown_name(model.config)}, {form}, {size:,} bytes")


def switches(args, names):
    """The arguments that are fields of QuantConfig."""
    return {name: getattr(args, name) for name in names}


def unpack(args):
    """Packed file -> float checkpoint."""
    check_out(args, args.model)
    engine = load_packed_only(args)
    save_model(engine.unpack(), args.out, force=args.force)
    size = os.path.getsize(args.out)
    summary = {"out": args.out, "bytes": size, "model": engine.config.name}
    print_summary(args, summary, f"{args.out}: {size:,} bytes")


def export(args):
    """Packed file -> arrays for C, hardware description, or anything that reads bytes."""
    engine = load_packed_only(args)
    files = write_export(engine, args.out, args.kind, args.force)
    size = sum(os.path.getsize(os.path.join(args.out, name)) for name in files)
    summary = {"out": args.out, "model": engine.config.name, "kind": args.kind, "files": len(files), "bytes": size}
    print_summary(args, summary, f"{args.out}: {shown_name(engine.config)}, {len(files)} files, {size:,} bytes")


def load_packed_only(args):
    engine = load_model(args.model)
    if not isinstance(engine, Engine):
        raise BadInputError(args.model, f"nothing to {args.verb}", "a packed file", "a float checkpoint")
    return engine


def info(args):
    """Per-layer bits, bytes, sparsity, hashes; totals."""
    path = args.model if os.path.exists(args.model) else None
    model = open_model(args)
    result = model_info(model, path)
    if args.json:
        return print_json(result)
    print(f"{shown_name(model.config)}  {result['kind']}  {result['parameters']:,} parameters")
    print(f"{'layer':34} {'shape':>18} {'bits':>6} {'bytes':>10} {'zeros':>7}  sha256")
    for row in result["layers"]:
        bits = f"W{row['weight_bits']}A{row['act_bits']}"
        shape = " x ".join(map(str, row["shape"]))
        print(f"{row['name']:34} {shape:>18} {bits:>6} {row['bytes']:10,} {row['sparsity']:7.3f}  {row['sha256'][:16]}")
    for group in ("bytes", "accountings"):
        for name, count in result.get(group, {}).items():
            print(f"{group:12} {name:18} {count:>13,}  {count / 1e6:9.3f} MB  {result['meanings'][name]}")
    if "file" in result:
        print(f"file         {result['file']['bytes']:,} bytes  sha256 {result['file']['sha256']}")


def preprocess(args):
    """Pictures -> integer pixels, and the normalised input."""
    suffix = os.path.splitext(args.out.lower())[1]
    if suffix not in (".png", ".ppm", ".npy", ".safetensors"):
        raise UsageError("preprocess", "--out", "a name that ends in .png, .ppm, .npy or .safetensors", args.out)
    if suffix != ".safetensors" and len(args.pictures) != 1:
        raise UsageError("preprocess", f"a {suffix} holds", "one picture", len(args.pictures), "-o FILE.safetensors")
    check_out(args, args.model, *args.pictures)
    check_pictures(args.pictures)
    config = preprocessing_of(args)
    meter = Progress(sys.stderr if len(args.pictures) > 1 else None, "preprocess", len(args.pictures))
    pixels = np.stack([crop(path, config) for path in counted(args.pictures, meter)])
    if suffix == ".safetensors":
        tensors = {"pixels": pixels, "x": normalise(pixels, config)}
        safetensors.write(args.out, tensors, {"preprocess": json.dumps(config.to_dict())}, force=args.force)
    else:
        with atomic_write(args.out, args.force) as file:
            np.save(file, pixels[0]) if suffix == ".npy" else Image.fromarray(pixels[0]).save(file, suffix[1:])
    summary = {"out": args.out, "pictures": len(pixels), "preprocess": config.to_dict()}
    size = f"{config.img_size} x {config.img_size}"
    print_summary(args, summary, f"{args.out}: {len(pixels)} x {size}, mode {config.mode}")


def preprocessing_of(args):
    """Of a file's model, or a registered name's (no weights are made for that)."""
    return default_preprocess(named_config(args)) if is_name(args) else open_model(args).preprocess


def backends(args):
    """The kernels of this machine."""
    result = backend.info()
    if args.json:
        return print_json(result)
    for row in result["backends"]:
        print(f"{row['name']:10} {'usable' if row['usable'] else 'not usable: ' + row['why']}")
    print(f"threads {result['threads']}; CPU features: {' '.join(result['features']) or 'none known'}")


def print_completion(parser, args):
    """The script of a shell."""
    text = completion.script(parser, args.shell)
    print(json.dumps({"shell": args.shell, "script": text}) if args.json else text, end="\n" if args.json else "")


def open_model(args):
    """The model an argument names: a file, or a registered name with seeded weights. Backend and threads are set."""
    if getattr(args, "threads", None) is not None:
        set_threads(args.threads)
    if getattr(args, "backend", None) is not None:
        backend.set_backend(args.backend)
    backend.backends()  # a wrong REFVIT_BACKEND is told before a file is read
    if not is_name(args):
        return load_model(args.model, name=args.name, img_size=args.img_size)
    config, seed = named_config(args), args.seed or 0
    print(f"refvit: {args.model} with seeded random weights (seed {seed})", file=sys.stderr)
    return create_model(args.model, seed=seed, img_size=config.img_size)


def is_name(args):
    """Whether MODEL is a registered name, else it is a file. Options that mean nothing for it are refused."""
    if os.path.exists(args.model):
        refuse(args, "with a file", ("seed",))
        return False
    if args.model not in MODELS:
        near = difflib.get_close_matches(args.model, [*boxed_names(), *MODELS], 3, 0.45)  # "swin_tiny" reaches 0.49
        raise BadInputError(args.model, "no such file, and no registered name", hint=", ".join(near) or None)
    refuse(args, "with a registered name", ("name",))
    return True


def named_config(args):
    """Configuration of a registered name."""
    return model_config(args.model, **({} if args.img_size is None else {"img_size": args.img_size}))


def open_float_model(args):
    model = open_model(args)
    if isinstance(model, Engine):
        what = f"refvit {args.verb} starts from float weights"
        raise BadInputError(args.model, what, "a float checkpoint", "a packed file", "refvit unpack first")
    return model


def refuse(args, when, options):
    """Raise UsageError for the first of these options that is given: it would silently do nothing."""
    for option in options:
        if getattr(args, option) is not None:
            name = SPELLED.get(option, f"--{option.replace('_', '-')}")
            raise UsageError(args.verb, f"{name} means nothing {when}")


def print_summary(args, summary, text):
    print(json.dumps(summary) if args.json else text)


def print_json(result):
    print(json.dumps(result))


def tell(args, result, lines, page, fine):
    """Print a verdict and write its page, a function's text, where one is wanted.  -> exit code"""
    if args.out is not None:
        with atomic_write(args.out, args.force) as file:
            file.write(page().encode())
    if args.json:
        print_json(result)
    else:
        print("\n".join(lines))
    return 0 if fine else EXIT_DIFFERENT
