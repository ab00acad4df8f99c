"""What the verbs of this room do; as in commands.py, a command returns its exit code, or None for 0."""

import os
import sys

import numpy as np

from ..box import resolve
from ..commands import check_out, open_model, print_summary, tell
from ..engine import Engine
from ..errors import BadInputError, UsageError
from ..files import open_input
from ..modelfile import engine_sha256
from ..npy import Header, read_npy
from ..preprocess import crop
from ..progress import Progress
from ..safetensors import read
from ..weights import load_model
from .compare import compare as compare_tensors
from .foreign import read_foreign
from .page import compare_page
from .trace import check_pixels, read_trace, write_trace
from .trace import trace as trace_model
from .verdict import as_json, as_text


def trace(args):
    """Every intermediate tensor of a packed model on one picture."""
    check_out(args, args.model, args.picture)
    engine = packed(args.model, open_model(args))
    pixels = picture(args.picture, engine)
    found = trace_model(engine, pixels, args.only, Progress(sys.stderr, "trace", len(engine.linears)))
    write_trace(args.out, found, args.force)
    left_out, size = found.about["left_out"], os.path.getsize(args.out)
    summary = {"out": args.out, "bytes": size, "model": engine.config.name, "tensors": len(found.tensors)}
    summary |= {"left_out": left_out, "model_sha256": found.about["model_sha256"]}
    print_summary(args, summary, f"{args.out}: {len(found.tensors)} tensors, {left_out} left out, {size:,} bytes")


def packed(path, model):
    if not isinstance(model, Engine):
        hint = "refvit pack first"
        raise BadInputError(path, "only packed models have a trace", "a packed file", "a float checkpoint", hint)
    return model


def picture(path, engine):
    """Pixels of a picture, resized and cropped, or those that .npy or refvit preprocess's .safetensors hold.

    -> uint8 [S, S, 3]
    """
    with open_input(path) as file:
        magic = file.read(9)
    if magic.startswith(b"\x93NUMPY"):
        pixels = read_npy(path)
    elif magic[8:] == b"{":
        pixels = read(path)[0].get("pixels", Header(np.dtype("uint8"), ()))
    else:
        return crop(path, engine.preprocess)
    if len(pixels.shape) == 4 and len(pixels) == 1:
        pixels = pixels[0]
    try:
        check_pixels(engine.config, pixels)
    except BadInputError as error:
        raise BadInputError(path, str(error)) from None
    return np.ascontiguousarray(pixels)


def compare(args):
    """REF beside OTHER, tensor by tensor."""
    if args.teacher and args.model is None:
        raise UsageError("compare", "--teacher", "--model MODEL", "none")
    if args.teacher is False and args.model is not None:
        raise UsageError("compare", "--model means nothing with --no-teacher")
    if args.out is not None:
        check_out(args, args.reference, args.other, args.model)
    reference = read_trace(args.reference)
    foreign = read_foreign(args.other, reference.tensors)
    engine = None if args.model is None else judge_of(args.model, args.reference, reference)
    meter = None if engine is None else Progress(sys.stderr, "judge", steps(reference))
    found = compare_tensors(reference, foreign, engine, meter)
    result = as_json(found, args.reference, args.other, args.out)
    return tell(args, result, as_text(result), lambda: compare_page(result), found.equal)


def steps(reference):
    """How many operations will be judged."""
    return len(reference.tensors) + reference.about["left_out"]


def judge_of(path, reference_path, reference):
    """The model of REF. Raises BadInputError where REF is of another one."""
    engine = packed(path, load_model(resolve(path)))
    expected, got = reference.about["model_sha256"], engine_sha256(engine)
    if expected != got:
        what = f"not the model that {reference_path} is of; its sha256"
        raise BadInputError(path, what, f"{expected[:16]}...", f"{got[:16]}...")
    return engine
