"""The command line: arguments, and errors as one line with an exit code.

Results go to stdout, progress and notes to stderr. Exit codes: 0 ok, 1 a comparison failed, 2 usage, 3 bad input file,
4 not supported here, 130 interrupted.
"""

import argparse
import os
import sys

from . import __version__, commands
from .errors import RefvitError

EXIT_USAGE, EXIT_INPUT, EXIT_INTERRUPTED = 2, 3, 130


class Parser(argparse.ArgumentParser):
    """argparse with this program's wording of errors."""

    def error(self, message):
        print(f"refvit: error: {message}; try {self.prog} --help", file=sys.stderr)
        sys.exit(EXIT_USAGE)


def main(argv=None):
    """Run one command; returns the exit code."""
    try:
        args = build_parser().parse_args(argv)
        code = args.run(args) or 0
        sys.stdout.flush()
        return code
    except RefvitError as error:
        return fail(str(error), error.exit_code)
    except KeyboardInterrupt:
        return fail("interrupted", EXIT_INTERRUPTED)
    except MemoryError:
        return fail("not enough memory", EXIT_INPUT)
    except BrokenPipeError:  # the reader of our output went away
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def fail(message, code):
    print(f"refvit: error: {' '.join(message.split())}", file=sys.stderr)
    return code


def build_parser():
    parser = Parser(prog="refvit", description="TerViT in NumPy and C: ternary vision transformers, the same bits everywhere.")
    parser.add_argument("--version", action="version", version=f"refvit {__version__}")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB", parser_class=Parser)
    for name in ("classify", "eval", "calibrate", "pack", "unpack", "info", "preprocess", "backends", "train", "report"):
        globals()[f"add_{name}"](verbs)
    return parser


def add_verb(verbs, name, run, about, example):
    verb = verbs.add_parser(
        name, help=about, description=about, epilog=f"example:\n  {example}", formatter_class=argparse.RawDescriptionHelpFormatter
    )
    verb.set_defaults(run=run)
    verb.add_argument("--json", action="store_true", help="print one JSON object on stdout")
    return verb


def add_model(verb, **kwargs):
    """The model argument and what goes with it."""
    verb.add_argument("model", metavar="MODEL", help="a checkpoint, a packed file, or a registered name (seeded weights)", **kwargs)
    verb.add_argument("--name", help="timm's name of the model, where the checkpoint leaves it open")
    verb.add_argument("--img-size", type=int, metavar="N", help="side of the pictures; position tables are interpolated to it")
    verb.add_argument("--seed", type=int, default=0, metavar="N", help="of a registered name's weights (default 0)")


def add_compute(verb):
    verb.add_argument("--threads", type=int, metavar="N", help="threads of the kernels (default: REFVIT_THREADS, or all cores)")
    verb.add_argument("--backend", metavar="NAME", help="kernels to use (default: REFVIT_BACKEND, or the best; see refvit backends)")


def add_output(verb, what):
    verb.add_argument("-o", "--out", required=True, metavar="FILE", help=what)
    verb.add_argument("--force", action="store_true", help="overwrite FILE")


def add_quant(verb):
    """Every switch of QuantConfig that packing knows."""
    verb.add_argument("--weight-bits", type=int, choices=(2, 8), default=2, help="2: ternary; 8 (default 2)")
    verb.add_argument("--act-bits", type=int, choices=range(2, 9), default=8, metavar="N", help="2 to 8 (default 8)")
    verb.add_argument("--granularity", choices=("channel", "layer"), default="channel", help="a scale per output channel, or one")
    verb.add_argument("--threshold", default="0.7", metavar="T", help='Delta = T mean|W|, or "optimal" (default 0.7)')
    verb.add_argument("--scale", choices=("masked_mean", "absolute_mean"), default="masked_mean", help="alpha")
    verb.add_argument("--act-quantizer", choices=("symmetric", "minmax"), default="symmetric")
    verb.add_argument("--act-scale", choices=("token", "image", "static"), default="token", help="static needs --calibration")
    verb.add_argument("--attention", choices=("int8", "float"), default="int8")
    verb.add_argument("--patch-bits", type=int, choices=(2, 8), default=8, help="weights of the patch embedding")
    verb.add_argument("--head-bits", type=int, choices=(2, 8), default=8, help="weights of the head")
    verb.add_argument("--calibration", metavar="FILE", help="ranges written by refvit calibrate")


def add_classify(verbs):
    verb = add_verb(verbs, "classify", commands.classify, "Name what pictures show.", "refvit classify model.safetensors cat.jpg")
    add_model(verb)
    verb.add_argument("pictures", nargs="+", metavar="PICTURE", help="JPEG, PNG, PPM or WebP")
    verb.add_argument("-k", type=int, default=5, metavar="K", help="how many classes to name (default 5)")
    add_compute(verb)


def add_eval(verbs):
    about = "Top-1 and Top-5 on a folder of class folders; interrupted runs go on, shards merge."
    verb = add_verb(verbs, "eval", commands.evaluate, about, "refvit eval model.safetensors imagenet/val --out run.jsonl")
    add_model(verb, nargs="?")
    verb.add_argument("folder", nargs="?", metavar="FOLDER", help="a folder for each class, pictures inside")
    verb.add_argument("--out", metavar="FILE", help="JSON lines, one a picture; an existing FILE of this run is continued")
    verb.add_argument("--limit", type=int, metavar="N", help="only N pictures, evenly spaced over the folder")
    verb.add_argument("--shard", default="1/1", metavar="I/N", help="every N-th picture, from the I-th (1 to N)")
    verb.add_argument("--merge", nargs="+", metavar="FILE", help="merge the JSON lines of all shards instead of running")
    verb.add_argument("--class-order", metavar="FILE", help="folder names in the order of the classes, one a line")
    verb.add_argument("--batch-size", type=int, default=8, metavar="N")
    add_compute(verb)


def add_calibrate(verbs):
    about = "Write the ranges of every layer's input on pictures, for static activation scales."
    example = "refvit calibrate deit.safetensors pictures/ -o ranges.safetensors"
    verb = add_verb(verbs, "calibrate", commands.calibrate, about, example)
    add_model(verb)
    verb.add_argument("folder", metavar="FOLDER", help="pictures, in any sub-folders")
    add_output(verb, "the ranges, as safetensors")
    verb.add_argument("--percentile", type=float, default=100.0, metavar="P", help="of each picture's values; 100: the maximum")
    verb.add_argument("--limit", type=int, metavar="N", help="only N pictures, evenly spaced over the folder")
    verb.add_argument("--weight-bits", type=int, choices=(2, 8, 32), default=2, help="weights of the model that is watched")


def add_pack(verbs):
    about = "Quantize a float checkpoint and write one packed file."
    verb = add_verb(verbs, "pack", commands.pack, about, "refvit pack deit.safetensors -o deit.refvit.safetensors --weight-bits 2")
    add_model(verb)
    add_output(verb, "the packed file")
    add_quant(verb)
    verb.add_argument("--coding", choices=("planes", "base3"), default="planes", help="of ternary weights in the file")


def add_unpack(verbs):
    about = "Turn a packed file into float weights (scale times code) under timm's names."
    verb = add_verb(verbs, "unpack", commands.unpack, about, "refvit unpack deit.refvit.safetensors -o deit.safetensors")
    verb.add_argument("model", metavar="PACKED", help="a packed file")
    add_output(verb, "the float checkpoint, as safetensors")


def add_info(verbs):
    about = "Per-layer bits, bytes, sparsity and hashes of a model, and its totals."
    verb = add_verb(verbs, "info", commands.info, about, "refvit info model.refvit.safetensors")
    add_model(verb)


def add_preprocess(verbs):
    about = "Resize and crop pictures as a model expects them, and write the integer pixels."
    verb = add_verb(verbs, "preprocess", commands.preprocess, about, "refvit preprocess deit_tiny_patch16_224 cat.jpg -o cat.png")
    add_model(verb)
    verb.add_argument("pictures", nargs="+", metavar="PICTURE")
    add_output(verb, ".png (one picture), or .safetensors: pixels U8 [B, H, W, 3] and x F32 [B, 3, H, W]")


def add_backends(verbs):
    add_verb(verbs, "backends", commands.backends, "List the kernels usable on this machine, best first.", "refvit backends")


def add_train(verbs):
    about = "Train in stages, float -> W8A8 -> W2A8, each from the latent weights of the one before."
    verb = add_verb(verbs, "train", commands.train, about, "refvit train tools/recipes/cifar10_vit.json cifar10/ -o run/")
    verb.add_argument("recipe", metavar="RECIPE", help="a JSON file, see refvit/recipe.py; with --resume it is not read")
    verb.add_argument("data", metavar="DATA", help="a folder or archive of pictures, CIFAR-10, or MNIST files")
    verb.add_argument("-o", "--out", required=True, metavar="RUN", help="folder of the run, new or empty")
    verb.add_argument("--stages", metavar="A,B", help="only these stages of the recipe, as float,w2a8 for direct ternary")
    verb.add_argument("--init", metavar="FILE", help="checkpoint to start from, instead of the recipe's")
    verb.add_argument("--seed", type=int, metavar="N", help="instead of the recipe's")
    verb.add_argument("--resume", action="store_true", help="go on with RUN where its checkpoint stands")
    verb.add_argument("--threads", type=int, metavar="N", help="threads of the kernels (default: REFVIT_THREADS, or all cores)")


def add_report(verbs):
    about = "A page to look at: training curves, the loss around each stage's model, weights and thresholds."
    verb = add_verb(verbs, "report", commands.report, about, "refvit report run/ -o page.html --data cifar10/")
    verb.add_argument("run_folder", metavar="RUN", help="folder of a finished training run")
    add_output(verb, "the page, one self-contained HTML file")
    verb.add_argument("--data", metavar="DATA", help="the dataset, for the loss surfaces; without it they are left out")
    verb.add_argument("--pictures", type=int, default=256, metavar="N", help="of the loss surfaces (default 256)")
    verb.add_argument("--grid", type=int, default=11, metavar="N", help="points along each direction (default 11)")
    verb.add_argument("--reach", type=float, default=1.0, metavar="R", help="of the directions (default 1)")
    verb.add_argument("--layer", metavar="NAME", help="whose weights are shown (default: the first fc1 in the middle)")
