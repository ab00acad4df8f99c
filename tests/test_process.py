"""The command line as a process: streams that are closed, full or broken, interruption; make and the demonstration."""

import json
import os
import re
import runpy
import stat
import subprocess
import sys
from pathlib import Path

import pytest

import refvit
from refvit.cli import main
from refvit.model import create_model
from refvit.weights import save_model
from tests.test_model import NARROW_VIT

ROOT = Path(__file__).parents[1]
NO_SPACE = "refvit: error: output: cannot be written: No space left on device\n"
needs_full = pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs the device /dev/full")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("process") / "model.safetensors"
    save_model(create_model("deit_tiny_patch16_224", **NARROW_VIT), path)
    return path


def shell(line):
    """Run a line of shell in which REFVIT is the program."""
    line = line.replace("REFVIT", f"'{sys.executable}' -m refvit")
    env = {k: v for k, v in os.environ.items() if k != "PYTHONUNBUFFERED"}  # what is held back fails at the end
    return subprocess.run(line, shell=True, capture_output=True, text=True, cwd=ROOT, env=env)


def test_a_closed_pipe_is_no_error():
    done = shell("REFVIT backends | head -c 1")
    assert len(done.stdout) == 1 and done.stderr == ""


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("arguments", ["backends", "info deit_tiny_patch16_224 --json"])  # less and more than is held
def test_a_pipe_that_nobody_reads_is_no_error(arguments, unbuffered):
    read, write = os.pipe()
    os.close(read)
    env = {**os.environ, "PYTHONUNBUFFERED": unbuffered}
    command = [sys.executable, "-m", "refvit", *arguments.split()]
    done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, text=True, cwd=ROOT, env=env)
    os.close(write)
    assert done.returncode == 0 and "error" not in done.stderr


def test_a_closed_stdout_is_refused():
    done = shell("REFVIT backends >&-")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("refvit: error: stdout: is closed") and done.stderr.count("\n") == 1


@needs_full
@pytest.mark.parametrize("arguments", ["backends", "--help"])
def test_a_full_stdout_is_one_line(arguments):
    done = shell(f"REFVIT {arguments} > /dev/full")
    assert (done.returncode, done.stderr) == (3, NO_SPACE)


@needs_full
def test_a_full_stderr_keeps_the_exit_code(model):
    assert shell("REFVIT backends 2> /dev/full").returncode == 0
    assert shell("REFVIT classify 2> /dev/full").returncode == 2
    assert shell(f"REFVIT info '{model}' 2> /dev/full").returncode == 3


def test_without_stderr_notes_are_dropped(model):
    done = shell(f"REFVIT info '{model}' --json 2>&-")
    assert done.returncode == 0 and json.loads(done.stdout)["kind"] == "float32"


def test_a_broken_stderr_is_no_success(model):
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "refvit", "info", str(model)]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=write, cwd=ROOT)
    os.close(write)
    assert done.returncode == 3


def test_a_folder_called_refvit_does_not_hide_the_package(tmp_path):
    """As it is where Python is started beside a clone."""
    (tmp_path / "refvit").mkdir()
    subprocess.run([sys.executable, "-c", "import refvit; refvit.load_model"], cwd=tmp_path, check=True)


class Interruption:
    """A finder that is interrupted when a module is looked for."""

    def find_spec(self, name, path=None, target=None):
        raise KeyboardInterrupt


def test_an_interruption_of_the_imports_is_one_line(monkeypatch, capsys):
    monkeypatch.delitem(sys.modules, "refvit.arguments", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Interruption()])
    assert main(["backends"]) == 130
    assert capsys.readouterr() == ("", "refvit: error: interrupted\n")


@pytest.mark.parametrize("compiled", [True, False])
def test_setup_tells_when_the_kernels_were_not_compiled(tmp_path, compiled):
    """With a stand-in for python3 whose virtual environment's python can do everything, or all but the kernels."""
    inner = '#!/bin/sh\ncase "$*" in *_kernels*) exit %d;; esac\n' % (not compiled)
    python = tmp_path / "python3"
    python.write_text(
        f"#!/bin/sh\n[ \"$1\" = -m ] || exit 0\nmkdir -p \"$3/bin\"\ncp '{tmp_path}/inner' \"$3/bin/python\"\n"
    )
    (tmp_path / "inner").write_text(inner)
    for script in (python, tmp_path / "inner"):
        script.chmod(script.stat().st_mode | stat.S_IXUSR)
    command = ["make", "-C", str(ROOT), "setup", f"PYTHON={python}", f"VENV={tmp_path}/venv", "CC=/bin/false"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert ("the C kernels were not compiled (CC=/bin/false)" in done.stderr) is not compiled


def test_make_test_gives_the_reasons_of_skips():
    done = subprocess.run(["make", "-C", str(ROOT), "-n", "test"], capture_output=True, text=True)
    assert "pytest -q -rs tests" in done.stdout


@pytest.fixture
def demo(monkeypatch):
    """The functions of the demonstration, by name."""
    monkeypatch.syspath_prepend(ROOT / "tools")
    return runpy.run_path(str(ROOT / "tools" / "demo.py"))


def test_the_demonstration_does_not_praise_a_single_backend(demo):
    verdict = demo["verdict"]
    assert verdict({"avx2": "a", "numpy": "a"}) == "the same bits on avx2, numpy"
    assert verdict({"numpy": "a"}) == "only numpy can be used here: nothing to compare"
    assert verdict({"avx2": "a", "numpy": "b"}) == "BACKENDS DIFFER"


def test_the_demonstration_lists_folders_as_the_program_does(demo, tmp_path):
    picture_paths = demo["picture_paths"]
    for name in ("b.png", "._a.JPEG", "notes.txt"):
        (tmp_path / name).write_bytes(b"")
    assert picture_paths([str(tmp_path), "one.gif"]) == [str(tmp_path / "b.png"), "one.gif"]
    with pytest.raises(refvit.BadInputError, match="no pictures"):
        picture_paths([(tmp_path / "empty").mkdir() or str(tmp_path / "empty")])


def test_the_demonstration_says_what_the_model_in_the_box_sees(demo, capsys):
    model = refvit.load_model("refvit_cifar10")
    assert demo["show_boxed"](model, *demo["rendered"](model))
    out = capsys.readouterr().out
    assert "% of 2,000 test pictures" in out
    assert re.findall(r"drawn (\w+) +\d+ %  [a-z]+\n", out) == list(demo["scenes"]())
