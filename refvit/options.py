"""What the arguments of verbs have in common: types, and options that go together."""

import argparse
import difflib
import math
import re

from .box import resolve
from .errors import UsageError

MODEL_HELP = "a checkpoint, a packed file, refvit_cifar10 (in the box), or a registered name (seeded weights)"
FLOAT_HELP = "a float checkpoint, or a registered name (seeded weights)"
PACKED_HELP = "a packed file, or refvit_cifar10 (in the box)"
THREADS_HELP = (
    "threads of the kernels (default: REFVIT_THREADS, or all cores); for NumPy's matrix products set the environment "
    "variable of its BLAS, as OPENBLAS_NUM_THREADS"
)
BACKEND_HELP = "kernels to use (default: REFVIT_BACKEND, or the best; see refvit backends)"
CHOICE = re.compile(r"argument (?P<name>\S+): invalid choice: '?(?P<got>.*?)'? \(choose from (?P<choices>.*)\)", re.S)


class Parser(argparse.ArgumentParser):
    """argparse with this program's errors; help begins with an example."""

    example = None

    def format_help(self):
        text = super().format_help()
        return text if self.example is None else f"example:\n  {self.example}\n\n{text}"

    def parse_known_args(self, args=None, namespace=None):
        """As argparse's, but what a verb does not know is its own error: its help says what it knows."""
        found, unknown = super().parse_known_args(args, namespace)
        if unknown:
            options = [option for action in self._actions for option in action.option_strings]
            near = difflib.get_close_matches(unknown[0].split("=")[0], options, 1)
            more = f" and {len(unknown) - 1} more" if len(unknown) > 1 else ""
            hint = near[0] if near else self.help_hint
            raise UsageError(None, f"unexpected argument {unknown[0]!r}{more}", hint=hint)
        return found, unknown

    def error(self, message):
        wrong = CHOICE.fullmatch(message)
        if wrong:
            choices = re.findall(r"[\w.-]+", wrong["choices"])
            near = difflib.get_close_matches(wrong["got"], choices, 1)
            if not near and wrong["name"] == "VERB":
                near = [self.help_hint]
            raise UsageError(wrong["name"], "unknown", f"one of {', '.join(choices)}", repr(wrong["got"]), *near)
        raise UsageError(None, message, hint=self.help_hint)

    @property
    def help_hint(self):
        return f"{self.prog} --help"


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
    verb = verbs.add_parser(name, help=about, description=about)
    verb.set_defaults(run=run)
    verb.example = example
    verb.add_argument("--json", action="store_true", help="print one JSON object on stdout")
    return verb


def add_model(verb, what=MODEL_HELP, **kwargs):
    """The model argument and what goes with it."""
    verb.add_argument("model", metavar="MODEL", type=resolve, help=what, **kwargs)
    add_model_options(verb)


def add_model_options(verb):
    """What is to know of a model besides its file."""
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
    bits_help = "2: ternary, for weights that were trained so; 8: for any (default 2)"
    verb.add_argument("--weight-bits", type=int, choices=(2, 8), default=2, help=bits_help)
    granularity_help = "a scale per output channel, or one (default channel)"
    verb.add_argument("--granularity", choices=("channel", "layer"), default="channel", help=granularity_help)
    threshold_help = 'Delta = T mean|W|, or "optimal" (default 0.7)'
    verb.add_argument("--threshold", type=threshold, default=0.7, metavar="T", help=threshold_help)
    scales = ("masked_mean", "absolute_mean")
    verb.add_argument("--scale", choices=scales, default=scales[0], help=f"alpha (default {scales[0]})")
    verb.add_argument("--patch-bits", type=int, choices=(2, 8), default=8, help="of the patch embedding (default 8)")
    verb.add_argument("--head-bits", type=int, choices=(2, 8), default=8, help="weights of the head (default 8)")


def add_act_quant(verb):
    """The switches of QuantConfig that say what activations become."""
    verb.add_argument("--act-bits", type=int, choices=range(2, 9), default=8, metavar="N", help="2 to 8 (default 8)")
    verb.add_argument("--act-quantizer", choices=("symmetric", "minmax"), default="symmetric",
                      help="default symmetric")
    static_help = "what has a scale of its own; static needs --calibration (default token)"
    verb.add_argument("--act-scale", choices=("token", "image", "static"), default="token", help=static_help)
    verb.add_argument("--attention", choices=("int8", "float"), default="int8", help="default int8")
    verb.add_argument("--calibration", metavar="FILE", help="ranges written by refvit calibrate, for static scales")
