"""The likeliest mistakes, and the whole sentence that each is answered with."""

import pickle

import numpy as np
import pytest
from PIL import Image

from refvit import backend, files, safetensors
from refvit.cli import main
from refvit.config import QuantConfig
from refvit.engine import pack
from refvit.model import create_model
from refvit.weights import save_model
from tests.test_cli import Harmful
from tests.test_model import NARROW_VIT

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 22883992\n"
PAGE = b"\n<!DOCTYPE html>\n<html><head><title>Not found</title></head></html>\n"
PICTURES = "JPEG, PNG, PPM or WebP content"
AGAIN = "try downloading it again"
PAGE_HINT = "got a web page; try downloading the file itself, not the page about it"
LFS_HINT = "got a git-lfs pointer, not the file itself; try git lfs pull"
BACKENDS = ", ".join(backend.backends())
FILES = {
    "lfs.safetensors": POINTER, "lfs.pth": POINTER, "lfs.jpg": POINTER, "page.jpg": PAGE, "page.pth": PAGE,
    "page.safetensors": PAGE, "notes.txt": b"to do: everything\n", "zero.safetensors": b"", "a.gif": b"GIF89a\1\0\1\0",
    "cut.pth": b"PK\3\4" + bytes(3000), "bare.pth": pickle.dumps({"model": Harmful()}, protocol=4),
    "tar.safetensors": b"\x1f\x8b" + bytes(40000),
    "photo.heic": b"\0\0\0\x18ftypheic\0\0\0\0", "zip.safetensors": b"\x1f\x8b\x08" + bytes(90),
}  # fmt: skip

MISTAKES = [  # what is typed, exit code, the sentence
    # no file, a folder, an empty file, no permission: see below for the last
    ("info none.safetensors", 3, "none.safetensors: no such file, and no registered name"),
    ("classify m.st none.jpg", 3, "none.jpg: cannot be read: No such file or directory"),
    ("info empty", 3, "empty: cannot be read; expected a file, got a folder"),
    ("info zero.safetensors", 3, "zero.safetensors: not a safetensors file; expected tensors, got an empty file"),
    ("eval m.st empty", 3, "empty: no class folders; expected one folder of pictures a class, got none"),
    # something else than it should be
    ("info notes.txt", 3, "notes.txt: not a safetensors file; expected tensors, got text"),
    ("info p.png", 3, "p.png: not a safetensors file; expected tensors, got a PNG picture"),
    ("info lfs.safetensors", 3, f"lfs.safetensors: not a safetensors file; expected tensors, {LFS_HINT}"),
    ("info lfs.pth", 3, f"lfs.pth: not a file of torch.save; expected tensors, {LFS_HINT}"),
    ("info page.safetensors", 3, f"page.safetensors: not a safetensors file; expected tensors, {PAGE_HINT}"),
    ("info page.pth", 3, f"page.pth: not a file of torch.save; expected tensors, {PAGE_HINT}"),
    ("info zip.safetensors", 3, "zip.safetensors: not a safetensors file; expected tensors, got a gzip archive; "
                                "try unpacking it first"),
    ("info bare.pth", 3, "bare.pth: not a file of torch.save; expected tensors, got a bare pickle; "
                         "try saving its tensors with torch.save, or as safetensors"),
    ("classify m.st page.jpg", 3, f"page.jpg: not a picture; expected {PICTURES}, {PAGE_HINT}"),
    ("classify m.st lfs.jpg", 3, f"lfs.jpg: not a picture; expected {PICTURES}, {LFS_HINT}"),
    ("classify m.st a.gif", 3, f"a.gif: not a picture; expected {PICTURES}, got a GIF; try converting it to PNG"),
    ("classify m.st photo.heic", 3, f"photo.heic: not a picture; expected {PICTURES}, got a HEIC or AVIF picture; "
                                    "try converting it to PNG"),
    ("classify m.st notes.txt", 3, f"notes.txt: not a picture; expected {PICTURES}, got text"),
    ("info tar.safetensors", 3, "tar.safetensors: not a safetensors file; expected tensors, got a gzip archive; "
                                "try unpacking it first"),
    ("info ref.st", 3, "ref.st: not a model; expected a checkpoint or a packed file, got the tensors of refvit trace"),
    ("info models", 3, "models: cannot be read; expected a file, got a folder; try models/a.safetensors, models/b.pth"),
    ("classify m.st val", 3, "val: cannot be read; expected a picture, got a folder; try val/*"),
    ("eval m.st p.png", 3, "p.png: cannot be listed; expected a folder, got a file; try unpacking it first"),
    ("eval m.st data", 3, "data: class folders; expected names of classes, or exactly 5 folders, got 1: val; try data/val"),
    ("verify val empty", 3, "val: not a kit; expected a folder with manifest.json, got none in it; "
                            "try refvit vectors build"),
    ("report empty -o new", 3, "empty: not the folder of a training run; expected recipe.json in it, got none"),
    ("explain --weights 1", 2, "explain: --input; expected 1 numbers, got none: those of the example are 8"),
    # cut off
    ("info cut.safetensors", 3, f"cut.safetensors: cut off; expected SIZE bytes of tensors, got HALF; {AGAIN}"),
    ("info cut.pth", 3, f"cut.pth: damaged or cut off: File is not a zip file; {AGAIN}"),
    # float and packed
    ("unpack m.st -o new", 3, "m.st: nothing to unpack; expected a packed file, got a float checkpoint"),
    ("trace m.st p.png -o new", 3, "m.st: only packed models have a trace; expected a packed file, "
                                   "got a float checkpoint; try refvit pack first"),
    ("pack q.st -o new", 3, "q.st: refvit pack starts from float weights; expected a float checkpoint, "
                            "got a packed file; try refvit unpack first"),
    # typing
    ("clasify m.st p.png", 2, "VERB: unknown; expected one of VERBS, got 'clasify'; try classify"),
    ("helpme", 2, "VERB: unknown; expected one of VERBS, got 'helpme'; try refvit --help"),
    ("info refvit_cifar", 3, "refvit_cifar: no such file, and no registered name; try refvit_cifar10"),
    ("classify m.st p.png --jsn", 2, "unexpected argument '--jsn'; try --json"),
    ("report m.st p.png p.png p.png -o new", 2, "unexpected argument 'p.png' and 1 more; try refvit report --help"),
    ("pack m.st -o new --coding base", 2, "--coding: unknown; expected one of planes, base3, got 'base'; try base3"),
    ("pack m.st", 2, "the following arguments are required: -o/--out; try refvit pack --help"),
    ("classify m.st", 2, "the following arguments are required: PICTURE; try refvit classify --help"),
    ("eval m.st", 2, "eval: arguments; expected MODEL FOLDER, or --merge FILE..., got MODEL alone"),
    ("classify m.st p.png --threads 0", 2, "argument --threads: expected an integer of at least 1, got '0'; "
                                           "try refvit classify --help"),
    ("classify m.st p.png --backend gpu", 2, f"backend: unknown or not usable here; expected one of {BACKENDS}, "
                                             "got 'gpu'"),
    # what goes with what
    ("pack m.st -o notes.txt", 2, "notes.txt: already exists; try --force to overwrite it"),
    ("pack m.st -o m.st --force", 2, "pack: --out; expected another file than what is read, got m.st"),
    ("report q.st p.png -o p.png --force", 2, "report: --out; expected another file than what is read, got p.png"),
    ("unpack q.st -o ./q.st --force", 2, "unpack: --out; expected another file than what is read, got ./q.st"),
    ("preprocess m.st p.png -o p.png --force", 2, "preprocess: --out; expected another file than what is read, got p.png"),
    ("pack m.st -o none/new", 3, "none/new: cannot be written: No such file or directory"),
    ("eval m.st val", 3, "val: class folders; expected names of classes, or exactly 5 folders, "
                         "got 2: cat, dog; try --class-order FILE, one folder name a line"),
    ("classify m.st p.png --img-size 33", 2, "deit_tiny_patch16_224: img_size; expected a multiple of patch_size 8, "
                                             "got 33"),
    ("classify q.st p.png --img-size 64", 2, "q.st: img_size of a packed file; expected 32, got 64; "
                                             "try the float checkpoint"),
    ("train none.json val -o new", 3, "none.json: cannot be read: No such file or directory"),
]  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("mistakes")
    model = create_model("deit_tiny_patch16_224", **NARROW_VIT)
    save_model(model, root / "m.st")
    pack(model.with_quant(QuantConfig())).save(root / "q.st")
    whole = (root / "m.st").read_bytes()
    (root / "cut.safetensors").write_bytes(whole[: len(whole) // 2])
    for name, content in FILES.items():
        (root / name).write_bytes(content)
    Image.new("RGB", (40, 50), (90, 120, 30)).save(root / "p.png")
    safetensors.write(root / "ref.st", {"x": np.zeros(3, np.float32)}, {"format": "refvit-trace"})
    for name in ("empty", "models", "data/val/cat"):
        (root / name).mkdir(parents=True)
    for name in ("a.safetensors", "b.pth", "c.txt"):
        (root / "models" / name).touch()
    for name in ("cat", "dog"):
        (root / "val" / name).mkdir(parents=True)
        Image.new("RGB", (40, 50)).save(root / "val" / name / "0.png")
    return root


def said(line, capsys):
    """-> exit code, the sentence"""
    code = main(line.split())
    out, err = capsys.readouterr()
    last = err.splitlines()[-1]
    assert out == "" and last.startswith("refvit: error: ") and "Traceback" not in err
    return code, last.removeprefix("refvit: error: ")


@pytest.mark.parametrize("line, expected, sentence", MISTAKES, ids=[m[0] for m in MISTAKES])
def test_a_mistake_is_answered_with_a_sentence(folder, monkeypatch, capsys, line, expected, sentence):
    monkeypatch.chdir(folder)
    if "SIZE" in sentence:
        whole = sum(tensor.nbytes for tensor in safetensors.read(folder / "m.st")[0].values())
        size = (folder / "m.st").stat().st_size
        sentence = sentence.replace("SIZE", str(whole)).replace("HALF", str(size // 2 - (size - whole)))
    code, text = said(line, capsys)
    if "VERBS" in sentence:
        start, end = sentence.split("VERBS")
        assert text.startswith(start) and text.endswith(end) and "explain, completion" in text
    else:
        assert text == sentence
    assert code == expected and not (folder / "new").exists()


def test_no_permission(folder, monkeypatch, capsys):
    def refuse(*args):
        raise PermissionError(13, "Permission denied")

    monkeypatch.chdir(folder)
    monkeypatch.setattr(files, "open", refuse, raising=False)
    assert said("info m.st", capsys) == (3, "m.st: cannot be read: Permission denied")
    assert said("pack m.st -o new", capsys) == (3, "new: cannot be written: Permission denied")


def test_no_compiler_is_a_note(monkeypatch, capsys):
    monkeypatch.setattr(backend, "lib", None)
    monkeypatch.setattr(backend, "_USABLE", ["numpy"])
    assert main(["explain"]) == 0
    assert "no C kernels, for want of a compiler" in capsys.readouterr().err
