"""The arguments of training's verbs."""

from ..options import THREADS_HELP, add_output, add_verb, count, natural, positive
from . import commands


def add_train(verbs):
    about = "Train in stages, float -> W8A8 -> W2A8, each from the latent weights of the one before."
    example = "refvit train tools/recipes/cifar10_vit.json cifar10/ -o run/"
    verb = add_verb(verbs, "train", commands.train, about, example)
    recipe_help = "a JSON file, see refvit/training/recipe.py; with --resume it is not read"
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


def add_report(verbs):
    about = (
        "A page to look at. Of a training run: curves, the loss around each stage's model, weights and thresholds. "
        "Of a benchmark: times, ratios, kernels."
    )
    example = "refvit report run/ -o page.html --data cifar10/"
    verb = add_verb(verbs, "report", commands.report, about, example)
    run_help = "folder of a training run with a finished stage, or a file of refvit bench --json"
    verb.add_argument("run_folder", metavar="RUN", help=run_help)
    add_output(verb, "the page, one self-contained HTML file")
    verb.add_argument("--data", metavar="DATA", help="the dataset, for the loss surfaces; without it they are left out")
    verb.add_argument("--pictures", type=count, metavar="N", help="of the loss surfaces (default 256)")
    verb.add_argument("--grid", type=count, metavar="N", help="points along each direction, odd (default 11)")
    verb.add_argument("--reach", type=positive, metavar="R", help="of the directions (default 1)")
    layer_help = "whose weights are shown (default: the first fc1 in the middle)"
    verb.add_argument("--layer", metavar="NAME", help=layer_help)
