"""Completion scripts: bash itself completes with one; every verb and option is in them; zsh takes one."""

import shutil
import subprocess

import pytest

from refvit.arguments import build_parser
from refvit.completion import script

TRY = """
try() { COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMPREPLY=(); _refvit; printf '%s\\n' "${COMPREPLY[@]}"; }
"""


@pytest.fixture(scope="module")
def parser():
    return build_parser()


def shell(name, text, folder):
    if shutil.which(name) is None:
        pytest.skip(f"{name} is not installed")
    command = [name, "-f" if name == "zsh" else "--norc", "-c", text]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0 and not done.stderr, done.stderr
    return done.stdout.splitlines()


@pytest.mark.parametrize("line, expected", [
    ("refvit c", ["classify", "calibrate", "compare", "completion"]),
    ("refvit pack --coding ''", ["planes", "base3"]),
    ("refvit pack --coding b", ["base3"]),
    ("refvit classify --backend n", ["numpy"]),
    ("refvit pack --weight", ["--weight-bits"]),
    ("refvit classify refvit_", ["refvit_cifar10"]),
    ("refvit classify x a", ["a picture.jpg"]),
    ("refvit info swin_t", ["swin_tiny_patch4_window7_224"]),
    ("refvit completion z", ["zsh"]),
    ("refvit nonsense x", [""]),
])  # fmt: skip
def test_bash_completes(parser, tmp_path, line, expected):
    (tmp_path / "a picture.jpg").touch()
    assert shell("bash", script(parser, "bash") + TRY + f"try {line}", tmp_path) == expected


def test_zsh_takes_the_script(parser, tmp_path):
    text = script(parser, "zsh").replace("compinit &&", f"compinit -u -d {tmp_path}/dump &&", 1)
    asked = "\n(emulate -L sh; COMP_WORDS=(refvit pack --coding ''); COMP_CWORD=3; _refvit; echo $COMPREPLY)"
    assert shell("zsh", text + asked, tmp_path)[-1].split() == ["planes"]


@pytest.mark.parametrize("name", ["bash", "zsh"])
def test_every_verb_and_option_is_there(parser, name):
    text = script(parser, name)
    for verb, its in parser.verbs.items():
        line = next(line for line in text.splitlines() if line.strip().startswith(f"{verb})"))
        for word in its.format_help().split():
            if word.startswith("--") and word.strip("-,[]").replace("-", "").isalpha():
                assert word.strip(",[]") in line, (verb, word)
