"""The arguments of every verb. What is wrong in an argument alone is found here, before any work."""

from functools import partial

from . import __version__, commands
from .benchmark import arguments as benchmark
from .completion import SHELLS
from .conformance import arguments as conformance
from .looking import arguments as looking
from .options import (
    FLOAT_HELP,
    PACKED_HELP,
    Parser,
    add_act_quant,
    add_compute,
    add_model,
    add_output,
    add_verb,
    add_weight_quant,
    count,
    number,
)
from .training import arguments as training
from .vectors import arguments as vectors


def build_parser():
    about = "TerViT in NumPy and C: ternary vision transformers, the same bits everywhere."
    parser = Parser(prog="refvit", description=about)
    parser.add_argument("--version", action="version", version=f"refvit {__version__}")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB", parser_class=Parser)
    for add in (
        add_classify, add_eval, add_calibrate, add_pack, add_unpack, add_export, add_info, add_preprocess, add_backends,
        training.add_train, benchmark.add_bench, looking.add_report, conformance.add_trace, conformance.add_compare,
        vectors.add_vectors, vectors.add_verify, looking.add_explain,
    ):  # fmt: skip
        add(verbs)
    add_completion(verbs, parser)
    parser.verbs = verbs.choices
    return parser


def add_completion(verbs, parser):
    about = "Print a script that teaches a shell to complete refvit's verbs, options and model names."
    run = partial(commands.print_completion, parser)
    verb = add_verb(verbs, "completion", run, about, "source <(refvit completion bash)")
    verb.add_argument("shell", choices=SHELLS)


def add_classify(verbs):
    example = "refvit classify refvit_cifar10 ship.jpg"
    verb = add_verb(verbs, "classify", commands.classify, "Name what pictures show.", example)
    add_model(verb)
    verb.add_argument("pictures", nargs="+", metavar="PICTURE", help="JPEG, PNG, PPM or WebP")
    verb.add_argument("-k", type=count, default=5, metavar="K", help="how many classes to name (default 5)")
    add_compute(verb)


def add_eval(verbs):
    about = "Top-1 and Top-5 on a folder of class folders; interrupted runs go on, shards merge."
    example = "refvit eval model.safetensors imagenet/val --out run.jsonl"
    verb = add_verb(verbs, "eval", commands.evaluate, about, example)
    add_model(verb, nargs="?")
    verb.add_argument("folder", nargs="?", metavar="FOLDER", help="a folder for each class, pictures inside")
    out_help = "JSON lines, one a picture; an existing FILE of this run is continued"
    verb.add_argument("--out", metavar="FILE", help=out_help)
    verb.add_argument("--limit", type=count, metavar="N", help="only N pictures, evenly spaced over the folder")
    verb.add_argument("--shard", metavar="I/N", help="every N-th picture, from the I-th, 1 to N (default 1/1)")
    merge_help = "merge the JSON lines of all shards instead of running; no other option but --json goes with it"
    verb.add_argument("--merge", nargs="+", metavar="FILE", help=merge_help)
    verb.add_argument("--class-order", metavar="FILE", help="folder names in the order of the classes, one a line")
    verb.add_argument("--batch-size", type=count, metavar="N", help="pictures in one call of the model (default 8)")
    add_compute(verb)


def add_calibrate(verbs):
    about = "Write the ranges of every layer's input on pictures, for static activation scales of the same weights."
    example = "refvit calibrate deit.safetensors pictures/ -o ranges.safetensors"
    verb = add_verb(verbs, "calibrate", commands.calibrate, about, example)
    add_model(verb, FLOAT_HELP)
    verb.add_argument("folder", metavar="FOLDER", help="pictures, in any sub-folders")
    add_output(verb, "the ranges, as safetensors")
    percentile_help = "of each picture's values; 100: the maximum (default 100)"
    verb.add_argument("--percentile", type=number, default=100.0, metavar="P", help=percentile_help)
    verb.add_argument("--limit", type=count, metavar="N", help="only N pictures, evenly spaced over the folder")
    add_weight_quant(verb)


def add_pack(verbs):
    about = "Quantize a float checkpoint and write one packed file."
    example = "refvit pack deit_tiny_patch16_224 -o deit.refvit.safetensors --weight-bits 2"
    verb = add_verb(verbs, "pack", commands.pack, about, example)
    add_model(verb, FLOAT_HELP)
    add_output(verb, "the packed file")
    add_weight_quant(verb)
    add_act_quant(verb)
    coding_help = "of ternary weights in the file (default planes)"
    verb.add_argument("--coding", choices=("planes", "base3"), default="planes", help=coding_help)


def add_unpack(verbs):
    about = "Turn a packed file into float weights (scale times code) under timm's names."
    example = "refvit unpack refvit_cifar10 -o cifar10.safetensors"
    verb = add_verb(verbs, "unpack", commands.unpack, about, example)
    verb.add_argument("model", metavar="PACKED", help=PACKED_HELP)
    add_output(verb, "the float checkpoint, as safetensors")


def add_export(verbs):
    about = "Write the tensors of a packed model for microcontrollers and FPGAs, and an index of them."
    example = "refvit export refvit_cifar10 -o arrays/ --c-array"
    verb = add_verb(verbs, "export", commands.export, about, example)
    verb.add_argument("model", metavar="PACKED", help=PACKED_HELP)
    verb.add_argument("-o", "--out", required=True, metavar="FOLDER", help="new or empty")
    verb.add_argument("--force", action="store_true", help="overwrite files of the same names in FOLDER")
    kinds = verb.add_mutually_exclusive_group(required=True)
    kind_help = {
        "c-array": "model.h and model.c, in C99",
        "hex": "a file for each tensor, as Verilog's $readmemh reads it: a value a line",
        "bin": "a file for each tensor, its bytes, little-endian",
    }
    for kind, text in kind_help.items():
        kinds.add_argument(f"--{kind}", dest="kind", action="store_const", const=kind, help=text)


def add_info(verbs):
    about = "Per-layer bits, bytes, sparsity and hashes of a model, and its totals."
    verb = add_verb(verbs, "info", commands.info, about, "refvit info refvit_cifar10")
    add_model(verb)


def add_preprocess(verbs):
    about = "Resize and crop pictures as a model expects them, and write the integer pixels."
    example = "refvit preprocess deit_tiny_patch16_224 cat.jpg -o cat.png"
    verb = add_verb(verbs, "preprocess", commands.preprocess, about, example)
    add_model(verb)
    verb.add_argument("pictures", nargs="+", metavar="PICTURE")
    add_output(
        verb,
        ".png, .ppm or .npy (one picture: uint8 [H, W, 3]), or .safetensors: pixels U8 [B, H, W, 3], x F32 [B, 3, H, W]",
    )


def add_backends(verbs):
    about = "List the kernels usable on this machine, best first."
    add_verb(verbs, "backends", commands.backends, about, "refvit backends")
