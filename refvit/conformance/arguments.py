"""The arguments of the verbs that compare traces."""

import argparse

from ..options import PACKED_HELP, add_compute, add_model, add_output, add_verb
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
