"""The arguments of training's verbs."""

from ..options import THREADS_HELP, add_verb, count, natural
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
