"""The command line as a user meets it: results, JSON keys, exit codes, and one line for every mistake."""

import json
import os
import pickle
import re
import shlex
import struct
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from refvit import backend, safetensors, threads
from refvit.arguments import build_parser
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
    monkeypatch.setattr(backend, "_chosen", None)  # what --backend and --threads set is taken back
    monkeypatch.setattr(threads, "_count", None)

    def call(*arguments):
        code = main([str(a) for a in arguments])
        out, err = capsys.readouterr()
        return code, out, err

    return call


def keys_in_readme(verb):
    """What README lists for a verb, as nested dicts: name -> the keys of the objects it holds, {} for plain values."""
    row = next(line for line in (ROOT / "README.md").read_text().splitlines() if line.startswith(f"| `{verb}` |"))
    levels = [{}]
    for name, bracket in re.findall(r"`(\w+)`|([\[\]])", row.split("|")[2]):
        if name:
            levels[-1][name] = {}
        elif bracket == "[":
            levels.append(levels[-1][list(levels[-1])[-1]])
        else:
            levels.pop()
    return levels[0]


def check_keys(result, expected, where):
    """All objects of a result have exactly the expected keys."""
    for one in result if isinstance(result, list) else [result]:
        assert set(one) == set(expected), where
        for name, inner in expected.items():
            if inner:
                check_keys(one[name], inner, f"{where}: {name}")


def test_the_whole_way(run, folder, tmp_path):
    """pack, info, classify, eval, calibrate, static pack, unpack ...; every JSON has exactly the keys README states."""
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
        "export": ("export", packed, "-o", tmp_path / "arrays", "--bin"),
        "preprocess": ("preprocess", packed, picture, "-o", tmp_path / "x.safetensors"),
        "completion": ("completion", "bash"),
        "backends": ("backends",),
    }
    for verb, arguments in calls.items():
        code, out, err = run(*arguments, "--json")
        assert code == 0, err
        result = json.loads(out)
        check_keys(result, keys_in_readme(arguments[0]), verb)
        code, out, err = run(*arguments, *(["--force"] if "-o" in arguments else []))
        assert code == 0 and out.strip(), (verb, err)
    assert result["default"] == result["backends"][0]["name"] or not result["backends"][0]["usable"]
    code, out, _ = run("classify", tmp_path / "s.st", picture, "-k", "2", "--json")
    assert code == 0 and len(json.loads(out)["pictures"][0]["classes"]) == 2
    tensors, _ = safetensors.read(tmp_path / "x.safetensors")
    assert tensors["pixels"].shape == (1, 32, 32, 3) and tensors["x"].shape == (1, 3, 32, 32)
    assert run("preprocess", packed, picture, "-o", tmp_path / "x.png")[0] == 0
    assert run("preprocess", packed, picture, "-o", tmp_path / "x.ppm")[0] == 0
    for name in ("x.png", "x.ppm"):
        assert (np.array(Image.open(tmp_path / name)) == tensors["pixels"][0]).all()


def test_training_has_the_keys_that_readme_states(run, folder, tmp_path):
    (tmp_path / "data").mkdir()
    for split in ("train", "test"):
        (tmp_path / "data" / split).symlink_to(folder / "val")
    recipe = {"model": {"name": "deit_tiny_patch16_224", **NARROW_VIT}, "batch_size": 2, "held_out": 5, "workers": 0,
              "stages": [{"name": "float", "epochs": 1, "lr": 1e-4}]}  # fmt: skip
    (tmp_path / "recipe.json").write_text(json.dumps(recipe))
    code, out, err = run("train", tmp_path / "recipe.json", tmp_path / "data", "-o", tmp_path / "run", "--json")
    assert code == 0, err
    check_keys(json.loads(out), keys_in_readme("train"), "train")
    code, out, err = run("report", tmp_path / "run", "-o", tmp_path / "page.html", "--json")
    assert code == 0, err
    check_keys(json.loads(out), keys_in_readme("report"), "report")


def test_info_says_what_each_count_means(run, folder, tmp_path):
    model, packed = folder / "model.safetensors", tmp_path / "p.st"
    assert run("pack", model, "-o", packed)[0] == 0
    for path, groups in ((model, ["accountings"]), (packed, ["bytes", "accountings"])):
        result = json.loads(run("info", path, "--json")[1])
        assert set(result["meanings"]) == {name for group in groups for name in result[group]}
        out = run("info", path)[1]
        assert all(f"MB  {phrase}\n" in out for phrase in result["meanings"].values())


def test_shards_merge_to_the_whole(run, folder, tmp_path):
    model, val = folder / "model.safetensors", folder / "val"
    whole = json.loads(run("eval", model, val, "--json")[1])
    parts = [tmp_path / f"part{i}.jsonl" for i in (1, 2, 3)]
    for i, part in enumerate(parts, 1):
        assert run("eval", model, val, "--shard", f"{i}/3", "--out", part)[0] == 0
    merged = json.loads(run("eval", "--merge", *parts, "--json")[1])
    assert merged == {key: value for key, value in whole.items() if key != "seconds"} and merged["images"] == 10
    code, _, err = run("eval", "--merge", *parts[:2])
    assert code == 3 and "3" in err


@pytest.mark.parametrize("option", ["--name=deit", "--img-size=32", "--seed=0", "--out=x", "--limit=3", "--shard=1/1",
                                    "--class-order=x", "--batch-size=8", "--threads=1", "--backend=numpy"])  # fmt: skip
def test_a_merge_takes_no_option_of_a_run(run, option):
    code, out, err = run("eval", option, "--merge", "a.jsonl", "b.jsonl")
    assert (code, out, err) == (2, "", f"refvit: error: eval: {option.split('=')[0]} means nothing with --merge\n")


def test_backend_and_threads_are_chosen(run, folder, tmp_path):
    picture, results = folder / "val" / "class1" / "0.png", set()
    assert run("pack", folder / "model.safetensors", "-o", tmp_path / "p.st")[0] == 0
    for backend in ("portable", "numpy"):
        code, out, err = run("classify", tmp_path / "p.st", picture, "--json", "--backend", backend)
        assert code == 0, err
        results.add(out)
    assert len(results) == 1


def test_a_file_name_of_any_bytes_can_be_printed(run, folder, tmp_path):
    name = tmp_path / "caf\udce9.png"
    name.write_bytes((folder / "val" / "class1" / "0.png").read_bytes())
    code, out, err = run("classify", folder / "model.safetensors", name)
    assert code == 0 and "caf\\udce9.png" in out, err
    code, out, err = run("classify", folder / "model.safetensors", name, "--json")
    assert json.loads(out)["pictures"][0]["picture"] == str(name)


def big_png():
    """A valid header of 50,000 x 50,000 pixels, and hardly any data."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 50_000, 50_000, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(b"\0" * 100)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*c) for c in chunks)


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
    stages = [{"name": "w2a8", "epochs": 1, "lr": 1, "loss": {"distill": "soft"}}]
    recipe = {"model": {"name": "deit_tiny_patch16_224"}, "stages": stages, "teacher": "flaot"}
    (tmp / "empty").mkdir()
    (tmp / "teacher.json").write_text(json.dumps(recipe))
    return tmp


WRONG = [  # arguments (M model, P picture, F folder of wrong files, V val, R recipe), exit code, word of the message
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
    ("classify deit_tiny P", 3, "try deit_tiny_patch16_"),
    ("info swin_tiny", 3, "try swin_tiny_patch4_window7_224"),
    ("info deit_tiny_patch16_224 --name deit_tiny_patch16_224", 2, "--name"),
    ("preprocess deit_tiny_patch16_224 P -o F/x.png --name x", 2, "--name"),
    ("classify M P --seed 0", 2, "--seed"),
    ("info deit_tiny_patch16_224 --seed -1", 2, "--seed"),
    ("classify M P -k two", 2, "-k: expected an integer of at least 1, got 'two'"),
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
    ("export M -o F/new --bin", 3, "packed"),
    ("export F/absent -o F/new", 2, "--c-array"),
    ("export F/absent -o F/new --bin --hex", 2, "--hex"),
    ("export F/none -o F/new --hex", 3, "none"),
    ("info F/text.jpg", 3, "text.jpg"),
    ("calibrate M F/none -o F/new.st", 3, "none"),
    ("calibrate M V -o F/new.st --percentile 10", 2, "percentile"),
    ("preprocess M P -o F/x.bmp", 2, "x.bmp"),
    ("preprocess M P P -o F/x.png", 2, "one picture"),
    ("eval M V --limit -5", 2, "--limit: expected an integer of at least 1, got '-5'"),
    ("eval M V --batch-size 0", 2, "--batch-size"),
    ("pack M -o F/new.st --calibration M", 2, "--calibration means nothing without --act-scale static"),
    ("calibrate M V -o F/new.st --limit 0", 2, "--limit"),
    ("train F/none.json V -o F/run", 3, "none.json: cannot be read"),
    ("train F/text.jpg V -o F/run", 3, "text.jpg"),
    ("train R F/none -o F/run", 3, "none: cannot be read"),
    ("train R V -o F/run --seed -1", 2, "--seed"),
    ("train R V -o F/run --threads 0", 2, "--threads"),
    ("train R V -o F/run --stages float,fast", 2, "fast"),
    ("train R V -o F/run --stages=", 2, "stage"),
    ("train R V -o F/run --init F/none.st", 3, "none.st"),
    ("train F/teacher.json V -o F/run", 2, "flaot"),
    ("train - V -o V --resume --seed 3", 2, "--seed means nothing with --resume"),
    ("train - V -o V --resume --stages float", 2, "--stages means nothing"),
    ("train - V -o V --resume --init M", 2, "--init means nothing"),
    ("report F/none -o F/page.html", 3, "none"),
    ("report F/none -o P", 2, "exists"),
    ("report V -o F/page.html --data F/nodata", 3, "nodata"),
    ("report V -o F/page.html --data V --grid 4", 2, "--grid"),
    ("report V -o F/page.html --data V --grid 0", 2, "--grid"),
    ("report V -o F/page.html --data V --reach nan", 2, "--reach"),
    ("report V -o F/page.html --data V --pictures 0", 2, "--pictures"),
    ("report V -o F/page.html --reach 2", 2, "--reach means nothing without --data"),
]
BEFORE_THE_MODEL = [  # as above; here the model is missing as well
    ("eval F/absent V --shard 3/2", 2, "shard"),
    ("eval F/absent V --limit 0", 2, "--limit"),
    ("eval F/absent F/none", 3, "none: cannot be listed"),
    ("pack F/absent -o P", 2, "exists"),
    ("pack F/absent -o F/none/x.st", 3, "none/x.st: cannot be written"),
    ("pack F/absent -o F/new.st --threshold -1", 2, "threshold"),
    ("pack F/absent -o F/new.st --act-scale static", 2, "--calibration"),
    ("calibrate F/absent V -o P", 2, "exists"),
    ("calibrate F/absent V -o F/new.st --percentile nan", 2, "percentile"),
    ("calibrate F/absent F/none -o F/new.st", 3, "none: cannot be listed: No such file or directory"),
    ("calibrate F/absent F/empty -o F/new.st", 3, "empty: no pictures"),
    ("unpack F/absent -o P", 2, "exists"),
    ("preprocess F/absent P -o P", 2, "another file"),
    ("preprocess F/absent P -o F/x.bmp", 2, "x.bmp"),
]


@pytest.mark.parametrize("line, expected, word", WRONG + BEFORE_THE_MODEL)
def test_a_mistake_is_one_line(run, folder, tmp_path, monkeypatch, line, expected, word):
    monkeypatch.chdir(tmp_path)
    places = {"M": folder / "model.safetensors", "P": folder / "val" / "class1" / "0.png", "V": folder / "val"}
    places |= {"F": wrong_files(folder, tmp_path), "R": ROOT / "tools" / "recipes" / "cifar10_vit.json"}
    before = {p: p.read_bytes() for p in [*folder.rglob("*.*"), *tmp_path.iterdir()] if p.is_file()}
    arguments = [str(places[a[0]]) + a[1:] if a[0] in places and a[1:2] in ("", "/") else a for a in line.split()]
    code, out, err = run(*arguments)
    assert code == expected, err
    lines = [text for text in err.splitlines() if not text.startswith("refvit: /")]
    assert len(lines) == 1 and lines[0].startswith("refvit: error: ") and word in lines[0], err
    assert out == "" and "Traceback" not in err and "absent" not in err
    assert not (tmp_path / "run").exists()
    assert before == {p: p.read_bytes() for p in [*folder.rglob("*.*"), *tmp_path.iterdir()] if p.is_file()}


def test_ranges_of_ternary_weights_are_not_those_of_8_bit_ones(run, folder, tmp_path):
    model, ranges = folder / "model.safetensors", tmp_path / "r.st"
    assert run("calibrate", model, folder / "val", "-o", ranges, "--limit", "2")[0] == 0
    code, _, err = run("pack", model, "-o", tmp_path / "p.st", *SWITCHES, ranges, "--weight-bits", "8")
    assert code == 3 and "r.st: weight_bits of the calibrated model; expected 8, got 2" in err


def test_a_pixel_is_a_picture(run, folder, tmp_path):
    Image.new("RGB", (1, 1), (9, 8, 7)).save(tmp_path / "pixel.png")
    assert run("classify", folder / "model.safetensors", tmp_path / "pixel.png")[0] == 0


def test_an_unknown_backend_in_the_environment(run, folder, tmp_path, monkeypatch):
    monkeypatch.setenv("REFVIT_BACKEND", "abacus")
    for arguments in (("backends",), ("pack", folder / "model.safetensors", "-o", tmp_path / "x")):
        code, _, err = run(*arguments)
        assert code == 2 and "abacus" in err and "portable" in err


PARSER = build_parser()


@pytest.mark.parametrize("verb", PARSER.verbs)
def test_help_begins_with_an_example_that_parses(run, verb):
    code, out, _ = run(verb, "--help")
    assert code == 0 and out.startswith(f"example:\n  {PARSER.verbs[verb].example}\n\nusage: refvit {verb}")
    assert ("--threads" in out) == ("OPENBLAS_NUM_THREADS" in out)
    for line in PARSER.verbs[verb].example.removeprefix("source <(").removesuffix(")").split("; "):
        program, *arguments = shlex.split(line.split(" > ")[0])
        assert program == "refvit" and PARSER.parse_args(arguments).verb == arguments[0]


def test_json_is_one_object_whatever_is_said_besides(run, folder):
    picture = folder / "val" / "class1" / "0.png"
    code, out, err = run("classify", folder / "model.safetensors", picture, picture, "--json")
    assert code == 0 and len(json.loads(out)["pictures"]) == 2 and "classify 2/2" in err
