"""The arguments of the verbs that build kits of test vectors, and judge by them."""

from ..options import Parser, add_compute, add_verb
from . import commands


def add_vectors(verbs):
    about = "Test vectors of the numeric rules (tests/vectors/KIT.md): build a kit, or answer one with this refvit."
    verb = verbs.add_parser("vectors", help=about, description=about)
    verb.example = "refvit vectors build -o kit"
    actions = verb.add_subparsers(dest="action", required=True, metavar="ACTION", parser_class=Parser)
    add_build(actions)
    add_run(actions)


def add_build(actions):
    about = "Write a kit of test vectors: a new folder, the same bytes on every machine."
    verb = add_verb(actions, "build", commands.build_vectors, about, "refvit vectors build -o kit")
    verb.add_argument("-o", "--out", required=True, metavar="KIT", help="the folder, which must not be there yet")
    level_help = "1: at most 20 MB; 2: larger models and more cases (default 1)"
    verb.add_argument("--level", type=int, choices=(1, 2), default=1, help=level_help)
    verb.add_argument("--force", action="store_true", help="replace KIT if it is a kit")


def add_run(actions):
    about = "Answer a kit with this refvit, each operation by the kernels of a backend: a check of an installation."
    verb = add_verb(actions, "run", commands.run_vectors, about, "refvit vectors run kit -o outputs --backend portable")
    verb.add_argument("kit", metavar="KIT", help="written by refvit vectors build")
    verb.add_argument("-o", "--out", required=True, metavar="OUTPUTS", help="a new folder, for ID/NAME.bin")
    verb.add_argument("--only", metavar="PATTERN", help="only cases whose ids fit, as 'softmax/*'")
    add_compute(verb)


def add_verify(verbs):
    about = (
        "Hold the outputs of another implementation against a kit of test vectors: the first case that is wrong, the "
        "likely mistake, and which operations and rules are right. Exit code 0: every case was checked and is right; "
        "with --only, every case that fits."
    )
    verb = add_verb(verbs, "verify", commands.verify, about, "refvit verify kit outputs -o page.html")
    verb.add_argument("kit", metavar="KIT", help="written by refvit vectors build")
    outputs_help = "a folder of ID/NAME.bin (raw) or ID/NAME.npy, or one .safetensors or .npz with names ID/NAME"
    verb.add_argument("outputs", metavar="OUTPUTS", help=outputs_help)
    only_help = "only cases whose ids fit, as 'softmax/*'; may be given several times"
    verb.add_argument("--only", action="append", metavar="PATTERN", help=only_help)
    verb.add_argument("-o", "--out", metavar="FILE", help="a page of the results, one self-contained HTML file")
    verb.add_argument("--force", action="store_true", help="overwrite FILE")
