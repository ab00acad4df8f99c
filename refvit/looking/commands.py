"""What the verbs explain and report do; as in the other commands.py, a command returns its exit code, or None for 0."""

import os
import sys

from ..architecture import shown_name
from ..benchmark.page import bench_page
from ..commands import check_exists, check_out, open_model, print_json, print_summary, refuse
from ..config import QuantConfig, linear_roles
from ..engine import Engine, pack
from ..files import atomic_write, open_input
from ..progress import Progress
from ..training.page import run_page
from ..training.run import read_log
from ..weights import load_model
from . import explain as explaining
from .model_page import FROM_BOTH, FROM_FLOATS, FROM_PACKED, Subject, check_weights, model_page
from .steps import as_text
from .watch import pixels_of
from .worked import as_json

QUANT_OPTIONS = ("weight_bits", "threshold", "scale", "act_bits", "act_quantizer")
MODEL_OPTIONS = ("name", "img_size", "seed", "threads", "backend")
MODEL_PAGE = ("picture", "weights", "run_folder", *MODEL_OPTIONS, *QUANT_OPTIONS)
RUN_PAGE = ("data", "pictures", "grid", "reach")


def explain(args):
    """One output, step by step."""
    place = explaining.Place(args.layer, args.row, args.token, args.picture)
    quant = chosen_quant(args)
    if args.model is None:
        refuse(args, "without a model", MODEL_OPTIONS)
        worked, source = explaining.of_numbers(args.weights, args.input, args.bias, place, quant)
    else:
        refuse(args, "with a model", ("weights", "input", "bias"))
        model = open_either(args)
        worked, source = explaining.of_model(model, place, quant)
    if args.json:
        return print_json(as_json(worked, source))
    print("\n".join(as_text(worked, headline(worked, source, args.model and shown_name(model.config)))))


def chosen_quant(args):
    return QuantConfig(**{name: value for name in QUANT_OPTIONS if (value := getattr(args, name)) is not None})


def open_either(args):
    """A float model, or a packed one, which has its own quantization."""
    model = open_model(args)
    if isinstance(model, Engine):
        refuse(args, "with a packed file", QUANT_OPTIONS)
    return model


def headline(worked, source, model):
    """What is explained, in a line.  model: what to call it, or None"""
    sizes = f"K = {len(worked.weights.codes)} inputs, W{worked.weights.bits}A{worked.activations.bits}"
    if model is None:
        return f"One row of weights w and one vector of activations x: {sizes}"
    place = f"{source['layer']}, row {source['row']}, token {source['token']}"
    return f"{model}: {place}: {sizes}; {picture_name(source['picture'])}"


def report(args):
    """A page of a training run, of a benchmark, or of a model."""
    check_out(args, args.model, args.picture, args.weights)
    if os.path.isdir(args.model):
        text = run_report(args)
    elif os.path.isfile(args.model) and is_text(args.model):
        refuse(args, "with the file of a benchmark", (*MODEL_PAGE, *RUN_PAGE, "layer"))
        text = bench_page(args.model)
    else:
        refuse(args, "with a model", RUN_PAGE)
        text = model_report(args)
    with atomic_write(args.out, args.force) as file:
        file.write(text.encode())
    print_summary(args, {"out": args.out, "bytes": len(text.encode())}, f"{args.out}: {len(text.encode()):,} bytes")


def is_text(path):
    """Whether a file is JSON rather than weights: those have a zero byte among the first, or begin with PK."""
    with open_input(path) as file:
        begin = file.read(8)
    return b"\0" not in begin and not begin.startswith(b"PK")


def run_report(args):
    refuse(args, "with the folder of a run", MODEL_PAGE)
    if args.data is None:
        refuse(args, "without --data", RUN_PAGE)
    else:
        check_exists(args.data)
    sizes = args.pictures or 256, args.grid or 11, args.reach or 1.0
    return run_page(args.model, args.data, *sizes, args.layer, sys.stderr)


def model_report(args):
    """The packed model, float weights where there are any, what it sees, and the log of its training."""
    log = None if args.run_folder is None else read_log(os.path.join(args.run_folder, "log.jsonl"))
    engine, floats, note = packed_and_floats(args)
    pixels = pixels_of(args.picture, engine)
    title = os.path.basename(args.model).removesuffix(".safetensors").removesuffix(".refvit")
    subject = Subject(title, engine, floats, note, pixels, picture_name(args.picture), log)
    return model_page(subject, args.layer, sys.stderr)


def picture_name(path):
    return "a drawing, as no PICTURE was given" if path is None else os.path.basename(path)


def packed_and_floats(args):
    """-> Engine, its float Model or None, where they come from"""
    model = open_either(args)
    if not isinstance(model, Engine):
        refuse(args, "with float weights", ("weights",))
        meter = Progress(sys.stderr, "pack", len(linear_roles(model.config)))
        return pack(model.with_quant(chosen_quant(args)), progress=meter), model, FROM_FLOATS
    if args.weights is None:
        return model, None, FROM_PACKED
    floats = load_model(args.weights)
    check_weights(args.weights, floats, model)
    return model, floats, FROM_BOTH
