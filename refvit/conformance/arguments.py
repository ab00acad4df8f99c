"""The arguments of the verbs that judge other implementations."""

import argparse

from ..options import PACKED_HELP, Parser, add_compute, add_model, add_output, add_verb
from . import commands


def add_trace(verbs):
    about = (
        "Write every intermediate tensor of a packed model on one picture, for comparison with another implementation."
    )
    example = "refvit trace refvit_cifar10 ship.jpg -o ref.safetensors --only 'blocks.0.*' --only logits"
    verb = add_verb(verbs, "trace", commands.trace, about, example)
    add_model(verb, PACKED_HELP)
    pixels_help = "a picture; or what refvit preprocess made of one, as .npy (uint8 [H, W, 3]) or .safetensors"
    verb.add_argument("picture", metavar="PICTURE", help=pixels_help)
    add_output(verb, "the tensors, as safetensors; their order of execution is in the metadata")
    only_help = (
        "keep only the pixels and tensors whose names fit, as 'blocks.3.*' or '*.acc'; may be given several times"
    )
    verb.add_argument("--only", action="append", metavar="PATTERN", help=only_help)
    add_compute(verb)


def add_compare(verbs):
    about = (
        "Hold another implementation's tensors against a trace, bit for bit: the first that is wrong, which operations "
        "are wrong by themselves, and the likely mistake. Exit code 0: everything in REF was checked and is equal."
    )
    example = "refvit compare ref.safetensors port.npz --model model.refvit.safetensors -o page.html"
    verb = add_verb(verbs, "compare", commands.compare, about, example)
    verb.add_argument("reference", metavar="REF", help="written by refvit trace")
    other_help = (
        "safetensors, .npz, or a folder of NAME.npy or raw NAME.bin (REF's dtype, little-endian), named as in REF"
    )
    verb.add_argument("other", metavar="OTHER", help=other_help)
    verb.add_argument(
        "--model", metavar="MODEL", help="the packed model of REF: judge each operation by its own inputs"
    )
    teacher_help = "judge each operation by the inputs that OTHER had for it (default: with --model)"
    verb.add_argument("--teacher", action=argparse.BooleanOptionalAction, help=teacher_help)
    verb.add_argument("-o", "--out", metavar="FILE", help="a page of the comparison, one self-contained HTML file")
    verb.add_argument("--force", action="store_true", help="overwrite FILE")


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
