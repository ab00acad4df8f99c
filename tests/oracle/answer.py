"""Answer a kit: compute every case of its manifest."""

import argparse
import json
from fnmatch import fnmatchcase
from pathlib import Path

from . import tensors
from .errors import Refused
from .operations import OPERATIONS

REFUSED = {"accepted": tensors.Tensor("uint8", [1], [0])}


def read_inputs(kit, case):
    return {
        entry["name"]: tensors.from_bytes(entry["dtype"], entry["shape"], (kit / entry["file"]).read_bytes())
        for entry in case["inputs"]
    }


def refused_or(operation, parameters, inputs):
    """What the operation gives, name -> Tensor, or that it refuses."""
    try:
        return operation(parameters, inputs)
    except Refused:
        return REFUSED


def answer(kit, case):
    """The outputs of one case."""
    return refused_or(OPERATIONS[case["operation"]], case["parameters"], read_inputs(kit, case))


def write(folder, outputs):
    folder.mkdir(parents=True, exist_ok=True)
    for name, tensor in outputs.items():
        (folder / f"{name}.bin").write_bytes(tensors.to_bytes(tensor))


def answer_kit(kit, outputs, pattern="*"):
    """Answer the cases whose id matches."""
    for case in json.loads((kit / "manifest.json").read_text(encoding="utf-8"))["cases"]:
        if fnmatchcase(case["id"], pattern):
            write(outputs / case["id"], answer(kit, case))


def main():
    parser = argparse.ArgumentParser(prog="python -m tests.oracle", description=__doc__)
    parser.add_argument("kit", type=Path)
    parser.add_argument("outputs", type=Path)
    parser.add_argument("--only", default="*", metavar="PATTERN", help="ids as in shells, e.g. 'softmax/*'")
    arguments = parser.parse_args()
    answer_kit(arguments.kit, arguments.outputs, arguments.only)
    print(f"{arguments.outputs}: answered; to judge: refvit verify {arguments.kit} {arguments.outputs}")
