"""What the verbs of training do; as in commands.py, a command returns its exit code, or None for 0."""

import dataclasses
import os
import sys

from .. import kernels
from ..commands import check_exists, going_on, print_summary, refuse
from ..errors import UsageError
from . import losses
from . import train as training
from .recipe import read_recipe
from .run import Run


def train(args):
    """Train a recipe's stages, or go on with a run."""
    if args.threads is not None:
        kernels.set_threads(args.threads)
    check_exists(args.data)
    if args.resume:
        refuse(args, "with --resume", ("stages", "init", "seed"))
    recipe = None if args.resume else chosen_recipe(args)
    run = Run(args.out, recipe, args.data, progress=sys.stderr, updates=args.updates)
    if run.finished:
        print(f"refvit: {args.out}: all stages are finished, nothing is left to do", file=sys.stderr)
    with going_on(f"refvit train - {args.data} -o {args.out} --resume"):
        result = training.train(run)
    print_summary(args, {"run": args.out, **result}, f"{args.out}: {training.describe(result)}")


def chosen_recipe(args):
    """The recipe with what the command line says otherwise; the checkpoints it needs are there."""
    recipe = read_recipe(args.recipe)
    changes = {k: v for k, v in (("seed", args.seed), ("init", args.init)) if v is not None}
    recipe = dataclasses.replace(recipe, **changes)
    if args.stages is not None:
        recipe = recipe.only(args.stages.split(","))
    if recipe.init is not None:
        check_exists(recipe.init)
    check_teacher(recipe)
    return recipe


def check_teacher(recipe):
    """A stage that distils needs an earlier stage or a file: said now, not when that stage begins."""
    earlier = []
    for stage in recipe.stages:
        distils = stage.loss.distill != "none" or losses.needs_trace(stage.loss)
        if distils and recipe.teacher not in earlier and not os.path.isfile(recipe.teacher or ""):
            expected = "an earlier stage of this run, or a checkpoint"
            raise UsageError(f"stage {stage.name}", "teacher", expected, repr(recipe.teacher))
        earlier.append(stage.name)
