"""The arguments of explain."""

from ..options import add_compute, add_model, add_verb, natural, number, threshold
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
    verb.add_argument("--weight-bits", type=int, choices=(2, 8), help="of float weights: 2 (default) or 8")
    verb.add_argument("--threshold", type=threshold, metavar="T", help='Delta = T mean|W|, or "optimal" (default 0.7)')
    verb.add_argument("--scale", choices=("masked_mean", "absolute_mean"), help="alpha")
    verb.add_argument("--act-bits", type=int, choices=range(2, 9), metavar="N", help="2 to 8 (default 8)")
    verb.add_argument("--act-quantizer", choices=("symmetric", "minmax"))
    add_compute(verb)
