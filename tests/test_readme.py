"""Every block of the README is run as it stands there, in a folder that holds the files it names."""

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import refvit
from refvit import QuantConfig, create_model, pack, safetensors
from refvit.conformance.commands import picture
from refvit.conformance.trace import trace, write_trace
from refvit.weights import save_model
from tests.drawings import drawing
from tests.test_model import NARROW_VIT
from tests.test_train import RECIPE

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
SHELL = [block for block in re.findall(r"(?m)(?:^    \S.*\n)+", TEXT) if re.match(r"    (refvit|make lib)", block)]
PYTHON = re.findall(r"(?s)```python\n(.*?)```", TEXT)
C = re.findall(r"(?s)```c\n(.*?)```", TEXT)
LINKED = ("Makefile", "csrc", "refvit", "tests", "tools/refvit_run.c")  # what `make lib` and the oracle need
CLASSES = NARROW_VIT["num_classes"]
PROGRAM = """
#include <stdio.h>
#include <stdlib.h>
#include "refvit.h"
int main(void)
{
    static uint8_t pixels[%d];
%s
    return status;
}
"""


def tree(folder, block):
    """The files that a block names, but those that it writes itself."""
    written = set(re.findall(r"(?:-o |--out |save\(\")([\w./]+)", block))
    for name, make in FILES.items():
        if name in block and name not in written:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            make(folder / name)
    for name in LINKED:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).symlink_to(ROOT / name)
    return folder


def checkpoint(path):
    save_model(create_model("deit_tiny_patch16_224", **NARROW_VIT), path)


def packed(path):
    model = create_model("deit_tiny_patch16_224", **NARROW_VIT)
    pack(model.with_quant(QuantConfig())).save(path)


def drawn(path):
    Image.fromarray(drawing(64, 64)).save(path)


def ppm(path):
    side = NARROW_VIT["img_size"]
    Image.fromarray(drawing(side, side)).save(path)


def traced(path):
    """What a port dumps, or refvit itself."""
    packed(path.with_name("its_model"))
    drawn(path.with_name("its_picture.jpg"))
    engine = refvit.load_model(path.with_name("its_model"))
    found = trace(engine, picture(path.with_name("its_picture.jpg"), engine))
    if path.suffix == ".npz":
        np.savez(path, **found.tensors)
    else:
        write_trace(path, found)


def class_folders(path, classes=CLASSES, side=40):
    for split in ("train", "test") if path.name == "cifar10" else ("",):
        for c in range(classes):
            (path / split / f"class{c}").mkdir(parents=True)
            for i in range(8):
                Image.fromarray(drawing(side, side, seed=8 * c + i)).save(path / split / f"class{c}" / f"{i}.png")


def recipe(path):
    path.write_text(json.dumps({**RECIPE, "workers": 0}))


FILES = {
    "model.safetensors": checkpoint,
    "model.refvit.safetensors": packed,
    "cat.jpg": drawn,
    "ship.jpg": drawn,
    "ref.safetensors": traced,
    "port.npz": traced,
    "imagenet/val": class_folders,
    "cifar10/": lambda path: class_folders(path, 3, 8),
    "tools/recipes/cifar10_vit.json": recipe,
    "RECIPE": recipe,
}


def run(folder, *command):
    """Run with refvit and this Python first on PATH."""
    scripts = sysconfig.get_path("scripts")
    environment = os.environ | {"PATH": f"{scripts}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, f"{command}: {done.returncode}\n{done.stdout[-2000:]}{done.stderr[-2000:]}"
    return done.stdout


def test_there_are_blocks():
    verbs = {line.split()[1] for block in SHELL for line in block.splitlines() if line.split()[0] == "refvit"}
    assert {"classify", "train", "pack", "verify", "preprocess"} <= verbs and PYTHON and C


@pytest.mark.parametrize("block", SHELL, ids=lambda block: " ".join(block.split()[:2]))
def test_commands(tmp_path, block):
    if "make lib" in block and not shutil.which("cc"):
        pytest.skip("needs a C compiler")
    tree(tmp_path, block)
    for line in block.splitlines():
        run(tmp_path, "sh", "-c", line)


@pytest.mark.parametrize("block", PYTHON)
def test_python(tmp_path, block):
    tree(tmp_path, block)
    start = (
        f"import numpy as np\npixels = np.zeros((2, {NARROW_VIT['img_size']}, {NARROW_VIT['img_size']}, 3), np.uint8)\n"
    )
    shape = run(tmp_path, sys.executable, "-c", start + block + "print(logits.shape)\n")
    assert shape.strip() == f"(2, {CLASSES})"
    assert safetensors.read(tmp_path / "model.refvit.safetensors")[1]["format"] == "refvit-packed"


@pytest.mark.parametrize("block", C)
def test_c(tmp_path, block):
    if not shutil.which("cc"):
        pytest.skip("needs a C compiler")
    tree(tmp_path, block)
    (tmp_path / "program.c").write_text(PROGRAM % (NARROW_VIT["img_size"] ** 2 * 3, block))
    run(tmp_path, "make", "lib", f"BUILD={tmp_path / 'build'}")
    flags = ["-std=c11", "-Wall", "-Wextra", "-Werror", "-Ibuild"]  # aligned_alloc is of C11
    run(tmp_path, "cc", *flags, "-o", "program", "program.c", "build/librefvit.a", "-lm", "-pthread")
    assert run(tmp_path, "./program") == ""
