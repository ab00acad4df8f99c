"""The arguments of every verb. What is wrong in an argument alone is found here, before any work."""

import argparse
import math

from . import __version__, bench_commands, commands, conformance_commands, training_commands
from .box import resolve
from .errors import UsageError

MODEL_HELP = "a checkpoint, a packed file, refvit_cifar10 (in the box), or a registered name (seeded weights)"
THREADS_HELP = (
    "threads of the kernels (default: REFVIT_THREADS, or all cores); for NumPy's matrix products set the environment "
    "variable of its BLAS, as OPENBLAS_NUM_THREADS"
)
BACKEND_HELP = "kernels to use (default: REFVIT_BACKEND, or the best; see refvit backends)"


class Parser(argparse.ArgumentParser):
    """argparse with this program's errors."""

    def error(self, message):
        raise UsageError(None, message, hint=f"{self.prog} --help")


def build_parser():
    about = "TerViT in NumPy and C: ternary vision transformers, the same bits everywhere."
    parser = Parser(prog="refvit", description=about)
    parser.add_argument("--version", action="version", version=f"refvit {__version__}")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB", parser_class=Parser)
    for add in (
        add_classify, add_eval, add_calibrate, add_pack, add_unpack, add_info, add_preprocess, add_backends,
        add_train, add_bench, add_report, add_trace, add_compare,
    ):  # fmt: skip
        add(verbs)
    return parser


def count(text):
    """An integer of at least 1."""
    return integer(text, 1)


def natural(text):
    """An integer of at least 0."""
    return integer(text, 0)


def integer(text, low):
    if not (text.isascii() and text.isdigit() and len(text) < 19 and int(text) >= low):
        raise argparse.ArgumentTypeError(f"expected an integer of at least {low}, got {text!r}")
    return int(text)


def positive(text):
    """A finite number above 0."""
    value = number(text)
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"expected a number above 0, got {text!r}")
    return value


def threshold(text):
    """A number, or "optimal"; which numbers, QuantConfig knows."""
    return text if text == "optimal" else number(text, 'a number or "optimal"')


def number(text, expected="a number"):
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected {expected}, got {text!r}") from None


def add_verb(verbs, name, run, about, example):
    epilog, layout = f"example:\n  {example}", argparse.RawDescriptionHelpFormatter
    verb = verbs.add_parser(name, help=about, description=about, epilog=epilog, formatter_class=layout)
    verb.set_defaults(run=run)
    verb.add_argument("--json", action="store_true", help="print one JSON object on stdout")
    return verb


def add_model(verb, **kwargs):
    """The model argument and what goes with it."""
    verb.add_argument("model", metavar="MODEL", type=resolve, help=MODEL_HELP, **kwargs)
    verb.add_argument("--name", help="timm's name of the model, where the checkpoint leaves it open")
    size_help = "side of the pictures; position tables are interpolated to it"
    verb.add_argument("--img-size", type=count, metavar="N", help=size_help)
    verb.add_argument("--seed", type=natural, metavar="N", help="of a registered name's weights (default 0)")


def add_compute(verb):
    verb.add_argument("--threads", type=count, metavar="N", help=THREADS_HELP)
    verb.add_argument("--backend", metavar="NAME", help=BACKEND_HELP)


def add_output(verb, what):
    verb.add_argument("-o", "--out", required=True, metavar="FILE", help=what)
    verb.add_argument("--force", action="store_true", help="overwrite FILE")


def add_weight_quant(verb):
    """The switches of QuantConfig that say what the weights become."""
    verb.add_argument("--weight-bits", type=int, choices=(2, 8), default=2, help="2: ternary; 8 (default 2)")
    granularity_help = "a scale per output channel, or one"
    verb.add_argument("--granularity", choices=("channel", "layer"), default="channel", help=granularity_help)
    threshold_help = 'Delta = T mean|W|, or "optimal" (default 0.7)'
    verb.add_argument("--threshold", type=threshold, default=0.7, metavar="T", help=threshold_help)
    verb.add_argument("--scale", choices=("masked_mean", "absolute_mean"), default="masked_mean", help="alpha")
    verb.add_argument("--patch-bits", type=int, choices=(2, 8), default=8, help="weights of the patch embedding")
    verb.add_argument("--head-bits", type=int, choices=(2, 8), default=8, help="weights of the head")


def add_act_quant(verb):
    """The switches of QuantConfig that say what activations become."""
    verb.add_argument("--act-bits", type=int, choices=range(2, 9), default=8, metavar="N", help="2 to 8 (default 8)")
    verb.add_argument("--act-quantizer", choices=("symmetric", "minmax"), default="symmetric")
    static_help = "static needs --calibration"
    verb.add_argument("--act-scale", choices=("token", "image", "static"), default="token", help=static_help)
    verb.add_argument("--attention", choices=("int8", "float"), default="int8")
    verb.add_argument("--calibration", metavar="FILE", help="ranges written by refvit calibrate, for static scales")


def add_classify(verbs):
    example = "refvit classify model.safetensors cat.jpg"
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
    add_model(verb)
    verb.add_argument("folder", metavar="FOLDER", help="pictures, in any sub-folders")
    add_output(verb, "the ranges, as safetensors")
    percentile_help = "of each picture's values; 100: the maximum (default 100)"
    verb.add_argument("--percentile", type=number, default=100.0, metavar="P", help=percentile_help)
    verb.add_argument("--limit", type=count, metavar="N", help="only N pictures, evenly spaced over the folder")
    add_weight_quant(verb)


def add_pack(verbs):
    about = "Quantize a float checkpoint and write one packed file."
    example = "refvit pack deit.safetensors -o deit.refvit.safetensors --weight-bits 2"
    verb = add_verb(verbs, "pack", commands.pack, about, example)
    add_model(verb)
    add_output(verb, "the packed file")
    add_weight_quant(verb)
    add_act_quant(verb)
    coding_help = "of ternary weights in the file (default planes)"
    verb.add_argument("--coding", choices=("planes", "base3"), default="planes", help=coding_help)


def add_unpack(verbs):
    about = "Turn a packed file into float weights (scale times code) under timm's names."
    example = "refvit unpack deit.refvit.safetensors -o deit.safetensors"
    verb = add_verb(verbs, "unpack", commands.unpack, about, example)
    verb.add_argument("model", metavar="PACKED", help="a packed file")
    add_output(verb, "the float checkpoint, as safetensors")


def add_info(verbs):
    about = "Per-layer bits, bytes, sparsity and hashes of a model, and its totals."
    verb = add_verb(verbs, "info", commands.info, about, "refvit info model.refvit.safetensors")
    add_model(verb)


def add_preprocess(verbs):
    about = "Resize and crop pictures as a model expects them, and write the integer pixels."
    example = "refvit preprocess deit_tiny_patch16_224 cat.jpg -o cat.png"
    verb = add_verb(verbs, "preprocess", commands.preprocess, about, example)
    add_model(verb)
    verb.add_argument("pictures", nargs="+", metavar="PICTURE")
    add_output(verb, ".png or .npy (one picture: uint8 [H, W, 3]), or .safetensors: pixels U8 [B, H, W, 3] and x F32 [B, 3, H, W]")


def add_backends(verbs):
    about = "List the kernels usable on this machine, best first."
    add_verb(verbs, "backends", commands.backends, about, "refvit backends")


def add_train(verbs):
    about = "Train in stages, float -> W8A8 -> W2A8, each from the latent weights of the one before."
    example = "refvit train tools/recipes/cifar10_vit.json cifar10/ -o run/"
    verb = add_verb(verbs, "train", training_commands.train, about, example)
    recipe_help = "a JSON file, see refvit/recipe.py; with --resume it is not read"
    verb.add_argument("recipe", metavar="RECIPE", help=recipe_help)
    verb.add_argument("data", metavar="DATA", help="a folder or archive of pictures, CIFAR-10, or MNIST files")
    verb.add_argument("-o", "--out", required=True, metavar="RUN", help="folder of the run, new or empty")
    stages_help = "only these stages of the recipe, as float,w2a8 for direct ternary"
    verb.add_argument("--stages", metavar="A,B", help=stages_help)
    verb.add_argument("--init", metavar="FILE", help="checkpoint to start from, instead of the recipe's")
    verb.add_argument("--updates", type=count, metavar="N", help="save and stop after N updates; --resume goes on")
    verb.add_argument("--seed", type=natural, metavar="N", help="instead of the recipe's")
    verb.add_argument("--resume", action="store_true", help="go on with RUN where its checkpoint stands")
    verb.add_argument("--threads", type=count, metavar="N", help=THREADS_HELP)


def add_bench(verbs):
    about = "Time of a picture, and peak memory, of models beside their peers; or GOP/s of single kernels."
    example = "refvit bench deit_small_patch16_224 --threads 1 --json > bench.json; refvit report bench.json -o page.html"
    verb = add_verb(verbs, "bench", bench_commands.bench, about, example)
    models_help = "checkpoints, packed files, or registered names (default: DeiT-Ti, -S, -B and Swin-T, -S)"
    verb.add_argument("models", nargs="*", metavar="MODEL", type=resolve, help=models_help)
    verb.add_argument("--batch", type=count, nargs="+", metavar="N", help="pictures in one call (default 1)")
    threads_help = "numbers of threads (default: one, and REFVIT_THREADS or all cores); NumPy's BLAS is told as well, by "
    verb.add_argument("--threads", type=count, nargs="+", metavar="N", help=threads_help + "OPENBLAS_NUM_THREADS")
    verb.add_argument("--weight-bits", type=int, choices=(2, 8), nargs="+", help="2: ternary; 8 (default: both)")
    acts_help = "1 to 8 (default 8; of kernels 8 4 2 1)"
    verb.add_argument("--act-bits", type=int, choices=range(1, 9), nargs="+", metavar="N", help=acts_help)
    verb.add_argument("--rounds", type=count, default=5, metavar="N", help="turns of each setting (default 5)")
    verb.add_argument("--backend", metavar="NAME", help=BACKEND_HELP + "; of kernels: default all")
    verb.add_argument("--peers", action="store_true", help="PyTorch, ONNX Runtime and OpenVINO as well")
    verb.add_argument("--peer-python", metavar="PYTHON", help="the Python that has them (default: this one)")
    verb.add_argument("--peer-script", metavar="FILE", help="their worker (default: tools/bench_peers.py of the sources)")
    add_kernel_bench(verb)


def add_kernel_bench(verb):
    """What only the benchmark of kernels takes."""
    verb.add_argument("--kernels", action="store_true", help="single products on every usable backend, not models")
    product_help = "rows, inputs, outputs of a product (default: those of DeiT and Swin)"
    verb.add_argument("--products", type=product, nargs="+", metavar="MxKxN", help=product_help)


def product(text):
    """M x K x N as three integers."""
    parts = text.split("x")
    if len(parts) != 3:
        raise argparse.ArgumentTypeError(f"expected MxKxN, as 197x192x576, got {text!r}")
    return tuple(count(part) for part in parts)


def add_report(verbs):
    about = (
        "A page to look at. Of a training run: curves, the loss around each stage's model, weights and thresholds. "
        "Of a benchmark: times, ratios, kernels."
    )
    example = "refvit report run/ -o page.html --data cifar10/"
    verb = add_verb(verbs, "report", training_commands.report, about, example)
    run_help = "folder of a training run with a finished stage, or a file of refvit bench --json"
    verb.add_argument("run_folder", metavar="RUN", help=run_help)
    add_output(verb, "the page, one self-contained HTML file")
    verb.add_argument("--data", metavar="DATA", help="the dataset, for the loss surfaces; without it they are left out")
    verb.add_argument("--pictures", type=count, metavar="N", help="of the loss surfaces (default 256)")
    verb.add_argument("--grid", type=count, metavar="N", help="points along each direction, odd (default 11)")
    verb.add_argument("--reach", type=positive, metavar="R", help="of the directions (default 1)")
    layer_help = "whose weights are shown (default: the first fc1 in the middle)"
    verb.add_argument("--layer", metavar="NAME", help=layer_help)


def add_trace(verbs):
    about = "Write every intermediate tensor of a packed model on one picture, for comparison with another implementation."
    example = "refvit trace model.refvit.safetensors cat.jpg -o ref.safetensors --only 'blocks.0.*' --only logits"
    verb = add_verb(verbs, "trace", conformance_commands.trace, about, example)
    add_model(verb)
    pixels_help = "a picture; or what refvit preprocess made of one, as .npy (uint8 [H, W, 3]) or .safetensors"
    verb.add_argument("picture", metavar="PICTURE", help=pixels_help)
    add_output(verb, "the tensors, as safetensors; their order of execution is in the metadata")
    only_help = "keep only the pixels and tensors whose names fit, as 'blocks.3.*' or '*.acc'; may be given several times"
    verb.add_argument("--only", action="append", metavar="PATTERN", help=only_help)
    add_compute(verb)


def add_compare(verbs):
    about = (
        "Hold another implementation's tensors against a trace, bit for bit: the first that is wrong, which operations are "
        "wrong by themselves, and the likely mistake. Exit code 0: everything in REF was checked and is equal."
    )
    example = "refvit compare ref.safetensors port.npz --model model.refvit.safetensors -o page.html"
    verb = add_verb(verbs, "compare", conformance_commands.compare, about, example)
    verb.add_argument("reference", metavar="REF", help="written by refvit trace")
    other_help = "safetensors, .npz, or a folder of NAME.npy or raw NAME.bin (REF's dtype, little-endian), named as in REF"
    verb.add_argument("other", metavar="OTHER", help=other_help)
    verb.add_argument("--model", metavar="MODEL", help="the packed model of REF: judge each operation by its own inputs")
    teacher_help = "judge each operation by the inputs that OTHER had for it (default: with --model)"
    verb.add_argument("--teacher", action=argparse.BooleanOptionalAction, help=teacher_help)
    verb.add_argument("-o", "--out", metavar="FILE", help="a page of the comparison, one self-contained HTML file")
    verb.add_argument("--force", action="store_true", help="overwrite FILE")
