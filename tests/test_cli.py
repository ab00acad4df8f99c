"""The command line as a user meets it: results, JSON keys, exit codes, and one line for every mistake."""

import json
import os
import pickle
import re
import struct
import subprocess
import sys
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from refvit import safetensors
from refvit.cli import main
from refvit.model import create_model
from refvit.weights import save_model
from tests.test_model import NARROW_VIT

ROOT = Path(__file__).parents[1]
SWITCHES = ["--act-quantizer", "minmax", "--act-scale", "static", "--calibration"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A narrow model of five classes and a folder of five classes with two drawn pictures each."""
    root = tmp_path_factory.mktemp("cli")
    save_model(create_model("deit_tiny_patch16_224", **NARROW_VIT), root / "model.safetensors")
    for c in range(5):
        (root / "val" / f"class{c}").mkdir(parents=True)
        for i in range(2):
            image = Image.new("RGB", (40 + 8 * c, 50), (50 * c, 100 * i, 90))
            ImageDraw.Draw(image).ellipse((5, 5, 30, 20 + c), fill=(200, 10 * c, 30))
            image.save(root / "val" / f"class{c}" / f"{i}.png")
    return root


@pytest.fixture
def run(capsys, monkeypatch):
    """run(*arguments) -> exit code, stdout, stderr."""
    monkeypatch.delenv("REFVIT_BACKEND", raising=False)

    def call(*arguments):
        try:
            code = main([str(a) for a in arguments])
        except SystemExit as stop:
            code = stop.code
        out, err = capsys.readouterr()
        return code, out, err

    return call


def keys_in_readme(verb):
    """The top-level keys that README lists for a verb."""
    row = next(line for line in (ROOT / "README.md").read_text().splitlines() if re.match(rf"\| .*`{verb}`", line))
    cell = re.sub(r"\[.*\]|\(.*?\)", "", row.split("|")[2])
    return set(re.findall(r"`(\w+)`", cell))


def test_the_whole_way(run, folder, tmp_path):
    """pack, info, classify, eval, calibrate, static pack, unpack, preprocess; every JSON has the keys README states."""
    model, packed, ranges = folder / "model.safetensors", tmp_path / "p.st", tmp_path / "r.st"
    picture = folder / "val" / "class1" / "0.png"
    calls = {
        "pack": ("pack", model, "-o", packed),
        "info": ("info", packed),
        "classify": ("classify", packed, picture, picture, "-k", "3"),
        "eval": ("eval", packed, folder / "val"),
        "calibrate": ("calibrate", model, folder / "val", "-o", ranges),
        "static": ("pack", model, "-o", tmp_path / "s.st", *SWITCHES, ranges),
        "unpack": ("unpack", packed, "-o", tmp_path / "u.safetensors"),
        "preprocess": ("preprocess", packed, picture, "-o", tmp_path / "x.safetensors"),
        "backends": ("backends",),
    }
    for verb, arguments in calls.items():
        code, out, err = run(*arguments, "--json")
        assert code == 0, err
        result = json.loads(out)
        assert keys_in_readme("pack" if verb == "static" else verb) <= set(result), verb
        code, out, err = run(*arguments, *(["--force"] if "-o" in arguments else []))
        assert code == 0 and out.strip(), (verb, err)
    assert result["default"] == result["backends"][0]["name"] or not result["backends"][0]["usable"]
    code, out, _ = run("classify", tmp_path / "s.st", picture, "-k", "2", "--json")
    assert code == 0 and len(json.loads(out)["pictures"][0]["classes"]) == 2
    tensors, _ = safetensors.read(tmp_path / "x.safetensors")
    assert tensors["pixels"].shape == (1, 32, 32, 3) and tensors["x"].shape == (1, 3, 32, 32)
    assert run("preprocess", packed, picture, "-o", tmp_path / "x.png")[0] == 0
    assert (np.array(Image.open(tmp_path / "x.png")) == tensors["pixels"][0]).all()


def test_shards_merge_to_the_whole(run, folder, tmp_path):
    model, val = folder / "model.safetensors", folder / "val"
    whole = json.loads(run("eval", model, val, "--json")[1])
    parts = [tmp_path / f"part{i}.jsonl" for i in (1, 2, 3)]
    for i, part in enumerate(parts, 1):
        assert run("eval", model, val, "--shard", f"{i}/3", "--out", part)[0] == 0
    merged = json.loads(run("eval", "--merge", *parts, "--json")[1])
    assert merged["images"] == whole["images"] == 10 and merged["top1"] == whole["top1"]
    code, _, err = run("eval", "--merge", *parts[:2])
    assert code == 3 and "3" in err


def test_backend_and_threads_are_chosen(run, folder):
    picture, results = folder / "val" / "class1" / "0.png", set()
    for backend in ("portable", "numpy"):
        code, out, err = run("classify", folder / "model.safetensors", picture, "--json", "--backend", backend)
        assert code == 0, err
        results.add(out)
    assert len(results) == 1


def big_png():
    """A valid header of 50,000 x 50,000 pixels, and hardly any data."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 50_000, 50_000, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")


class Harmful:
    def __reduce__(self):
        return os.system, ("touch harmed",)


def wrong_files(folder, tmp):
    """name -> path of a file that is wrong in one way."""
    good = (folder / "model.safetensors").read_bytes()
    tensors, meta = safetensors.read(folder / "model.safetensors")
    picture = (folder / "val" / "class1" / "0.png").read_bytes()
    contents = {
        "truncated.safetensors": good[: len(good) // 2],
        "flipped.safetensors": good[:20] + bytes([good[20] ^ 0xFF]) + good[21:],
        "empty.safetensors": b"",
        "text.jpg": b"this is not a picture\n",
        "truncated.png": picture[: len(picture) // 2],
        "flipped.png": picture[:60] + bytes([picture[60] ^ 0xFF]) + picture[61:],
        "big.png": big_png(),
        "bare.pth": pickle.dumps({"model": Harmful()}),
    }
    for name, data in contents.items():
        (tmp / name).write_bytes(data)
    with zipfile.ZipFile(tmp / "harmful.pth", "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps({"model": Harmful()}, protocol=2))
        archive.writestr("archive/version", "3\n")
    changed = {n: t.copy() for n, t in tensors.items()}
    changed["norm.weight"][3] = np.nan
    safetensors.write(tmp / "nan.safetensors", changed, meta)
    short = {**tensors, "head.weight": tensors["head.weight"][:, :-1]}
    safetensors.write(tmp / "shape.safetensors", short, meta)
    return tmp


WRONG = [  # arguments (M model, P picture, F folder of wrong files, V val), exit code, word of the message
    ("classify F/truncated.safetensors P", 3, "truncated.safetensors"),
    ("classify F/flipped.safetensors P", 3, "flipped.safetensors"),
    ("classify F/empty.safetensors P", 3, "empty.safetensors"),
    ("classify F/harmful.pth P", 3, "system"),
    ("classify F/bare.pth P", 3, "bare.pth"),
    ("classify F/nan.safetensors P", 3, "norm.weight"),
    ("classify F/shape.safetensors P", 3, "head.weight"),
    ("classify F/missing.safetensors P", 3, "missing.safetensors"),
    ("classify V P", 3, "folder"),
    ("classify P P", 3, ".png"),
    ("classify M F/text.jpg", 3, "text.jpg"),
    ("classify M F/truncated.png", 3, "truncated.png"),
    ("classify M F/flipped.png", 3, "flipped.png"),
    ("classify M F/big.png", 3, "pixels"),
    ("classify M F/none.png", 3, "none.png"),
    ("classify M P --backend gpu", 2, "gpu"),
    ("classify M P --threads 0", 2, "threads"),
    ("classify M P -k 0", 2, "-k"),
    ("classify M", 2, "PICTURE"),
    ("classify deit_tiny_patch16_22 P", 3, "deit_tiny_patch16_22"),
    ("classify M P --name deit_base_patch16_224", 3, "deit_base_patch16_224"),
    ("classify M P --img-size 33", 2, "33"),
    ("dream M", 2, "dream"),
    ("eval M", 2, "FOLDER"),
    ("eval M F/none", 3, "none"),
    ("eval M V --shard 3/2", 2, "shard"),
    ("eval M V --limit 0", 2, "limit"),
    ("pack M -o F/none/x.st", 3, "none"),
    ("pack M -o V", 3, "val"),
    ("pack M -o P", 2, "exists"),
    ("pack M -o F/new.st --act-scale static", 2, "calibration"),
    ("pack M -o F/new.st --act-scale static --calibration M", 3, "model.safetensors"),
    ("pack M -o F/new.st --threshold low", 2, "low"),
    ("pack M -o F/new.st --weight-bits 3", 2, "weight-bits"),
    ("unpack M -o F/new.st", 3, "packed"),
    ("info F/text.jpg", 3, "text.jpg"),
    ("calibrate M F/none -o F/new.st", 3, "none"),
    ("calibrate M V -o F/new.st --percentile 10", 2, "percentile"),
    ("preprocess M P -o F/x.bmp", 2, "x.bmp"),
    ("preprocess M P P -o F/x.png", 2, "one picture"),
]


@pytest.mark.parametrize("line, expected, word", WRONG, ids=[w[0] for w in WRONG])
def test_a_mistake_is_one_line(run, folder, tmp_path, monkeypatch, line, expected, word):
    monkeypatch.chdir(tmp_path)
    places = {"M": folder / "model.safetensors", "P": folder / "val" / "class1" / "0.png", "V": folder / "val"}
    places["F"] = wrong_files(folder, tmp_path)
    before = {p: p.read_bytes() for p in [*folder.rglob("*.*"), *tmp_path.iterdir()] if p.is_file()}
    arguments = [str(places[a[0]]) + a[1:] if a[0] in places and a[1:2] in ("", "/") else a for a in line.split()]
    code, out, err = run(*arguments)
    assert code == expected, err
    lines = [text for text in err.splitlines() if not text.startswith("refvit: /")]
    assert len(lines) == 1 and lines[0].startswith("refvit: error: ") and word in lines[0], err
    assert out == "" and "Traceback" not in err
    assert before == {p: p.read_bytes() for p in [*folder.rglob("*.*"), *tmp_path.iterdir()] if p.is_file()}


def test_a_pixel_is_a_picture(run, folder, tmp_path):
    Image.new("RGB", (1, 1), (9, 8, 7)).save(tmp_path / "pixel.png")
    assert run("classify", folder / "model.safetensors", tmp_path / "pixel.png")[0] == 0


def test_an_unknown_backend_in_the_environment(run, folder, tmp_path, monkeypatch):
    monkeypatch.setenv("REFVIT_BACKEND", "abacus")
    for arguments in (("backends",), ("pack", folder / "model.safetensors", "-o", tmp_path / "x")):
        code, _, err = run(*arguments)
        assert code == 2 and "abacus" in err and "portable" in err


@pytest.mark.parametrize("verb", ["classify", "eval", "calibrate", "pack", "unpack", "info", "preprocess", "backends"])
def test_help_has_an_example(run, verb):
    code, out, _ = run(verb, "--help")
    assert code == 0 and f"refvit {verb}" in out.split("example:")[1]


def test_python_m_refvit_and_a_closed_pipe():
    command = f"{sys.executable} -m refvit backends | head -c 1"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, cwd=ROOT)
    assert len(done.stdout) == 1 and done.stderr == ""
