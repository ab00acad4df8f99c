"""The arguments of explain and report."""

from ..box import resolve
from ..options import (
    MODEL_HELP,
    add_compute,
    add_model,
    add_model_options,
    add_output,
    add_verb,
    count,
    natural,
    number,
    positive,
    threshold,
)
from . import commands


def add_explain(verbs):
    about = (
        "One output of a linear layer, worked through step by step: mean, threshold, codes, bit-planes, popcounts, "
        "accumulator, rescale, error; of a model, of given numbers, or of a built-in example."
    )
    example = "refvit explain refvit_cifar10 blocks.3.mlp.fc1 --row 5 --token 1"
    verb = add_verb(verbs, "explain", commands.explain, about, example)
    add_model(verb, nargs="?")
    verb.add_argument("layer", nargs="?", metavar="LAYER", help="a linear layer (default: the first fc1 in the middle)")
    verb.add_argument("picture", nargs="?", metavar="PICTURE", help="what the model looks at (default: a drawing)")
    row_help = "row of the weights, from 0: the output channel (default 0)"
    verb.add_argument("--row", type=natural, default=0, metavar="N", help=row_help)
    token_help = "row of the layer's input, from 0; in Swin's attention by windows (default 0)"
    verb.add_argument("--token", type=natural, default=0, metavar="N", help=token_help)
    numbers_help = "instead of a model: numbers, as '0.9 -0.2 1', or an .npy file of a vector or rows"
    verb.add_argument("--weights", metavar="NUMBERS", help=numbers_help)
    verb.add_argument("--input", metavar="NUMBERS", help="as --weights, the activations")
    verb.add_argument("--bias", type=number, metavar="B", help="added at the end (default: none)")
    add_float_quant(verb)
    add_compute(verb)


def add_float_quant(verb):
    """What float weights become; a packed file has its own."""
    verb.add_argument("--weight-bits", type=int, choices=(2, 8), help="of float weights: 2 (default) or 8")
    verb.add_argument("--threshold", type=threshold, metavar="T", help='Delta = T mean|W|, or "optimal" (default 0.7)')
    verb.add_argument("--scale", choices=("masked_mean", "absolute_mean"), help="alpha")
    verb.add_argument("--act-bits", type=int, choices=range(2, 9), metavar="N", help="2 to 8 (default 8)")
    verb.add_argument("--act-quantizer", choices=("symmetric", "minmax"))


def add_report(verbs):
    about = (
        "A page to look at. Of a model: its layers, bytes, bit-planes, attention over a picture, ranges, times. Of a "
        "training run: curves, the loss around each stage's model, weights and thresholds. Of a benchmark: times, "
        "ratios, kernels."
    )
    verb = add_verb(verbs, "report", commands.report, about, "refvit report refvit_cifar10 -o page.html")
    what_help = MODEL_HELP + "; or the folder of a training run; or a file of refvit bench --json"
    verb.add_argument("model", metavar="WHAT", type=resolve, help=what_help)
    verb.add_argument("picture", nargs="?", metavar="PICTURE", help="what a model looks at (default: a drawing)")
    add_output(verb, "the page, one self-contained HTML file")
    layer_help = "whose weights are shown, of a model or a run (default: the first fc1 in the middle)"
    verb.add_argument("--layer", metavar="NAME", help=layer_help)
    add_model_report(verb)
    add_run_report(verb)


def add_model_report(verb):
    """What only the page of a model takes."""
    group = verb.add_argument_group("of a model")
    weights_help = "the float checkpoint that a packed file was made from: for its thresholds and errors"
    group.add_argument("--weights", metavar="CHECKPOINT", help=weights_help)
    group.add_argument("--run", dest="run_folder", metavar="RUN", help="folder of its training run: for the curves")
    add_model_options(group)
    add_float_quant(group)
    add_compute(group)


def add_run_report(verb):
    """What only the page of a training run takes."""
    group = verb.add_argument_group("of a training run")
    data_help = "the dataset, for the loss surfaces; without it they are left out"
    group.add_argument("--data", metavar="DATA", help=data_help)
    group.add_argument("--pictures", type=count, metavar="N", help="of the loss surfaces (default 256)")
    group.add_argument("--grid", type=count, metavar="N", help="points along each direction, odd (default 11)")
    group.add_argument("--reach", type=positive, metavar="R", help="of the directions (default 1)")
