"""The n-th operation on files fails, for every n: one typed error, the old content, nothing temporary left."""

import errno
import itertools
import json
import os
import shutil

import numpy as np
import pytest

from refvit import files, safetensors
from refvit.cli import main
from refvit.config import QuantConfig
from refvit.errors import BadInputError, RefvitError
from refvit.export import export
from refvit.model import create_model
from refvit.training.recipe import read_recipe
from refvit.training.run import Run
from refvit.training.train import train as train_stages
from refvit.vectors import kit
from refvit.weights import load_model, save_model
from tests.disk import Disk
from tests.test_engine import NARROW_VIT, packed
from tests.test_train import RECIPE, data  # noqa: F401
from tests.torch_files import saved_bytes

MOST = 3000  # operations of a job; none comes near


@pytest.fixture(scope="module")
def engine():
    return packed("deit_tiny_patch16_224", NARROW_VIT, QuantConfig())


def below(folder):
    """{path: content} of all that is below a folder, hidden or not; None for a folder."""
    return {str(p.relative_to(folder)): None if p.is_dir() else p.read_bytes() for p in folder.rglob("*")}


def write_file(path, engine):
    with files.atomic_write(path, force=True) as file:
        file.write(b"new" * 10000)


def write_tensors(path, engine):
    safetensors.write(path, {"x": np.arange(20000.0)}, {"a": "b"}, force=True)


def write_model(path, engine):
    engine.save(path, force=True)


def write_kit(path, engine):
    with kit.new_folder(path, force=True) as folder:
        writer = kit.Writer(folder)
        writer.file(np.arange(5000.0, dtype=np.float32))
        writer.manifest(1, {})


def fail_each(disk, job, full):
    """Do ``job`` with the first, second, ... operation failing until none does -> the errors; yields after each."""
    for n in itertools.islice(itertools.count(1), MOST):
        disk.arm(n, full)
        error = None
        try:
            job()
        except RefvitError as found:
            error = found
        failed = disk.failed
        disk.arm(None)
        yield error, failed
        if not failed:
            assert n > 1 and error is None
            return
    raise AssertionError("it never succeeds")


@pytest.mark.parametrize("exists", [True, False])
@pytest.mark.parametrize("code, full", [(errno.EIO, False), (errno.ENOSPC, True)])
@pytest.mark.parametrize("write", [write_file, write_tensors, write_model, write_kit])
def test_a_failed_write_leaves_the_old_or_the_new(tmp_path, monkeypatch, engine, write, code, full, exists):
    folder = tmp_path / "folder"
    folder.mkdir()
    write(folder / "a", engine)
    new, errors = below(folder), 0
    old = {name: content and content[:-1] + b"!" for name, content in new.items()} if exists else {}
    restore(folder, old)
    for error, failed in fail_each(Disk(monkeypatch, folder, code), lambda: write(folder / "a", engine), full):
        found = below(folder)
        kept = {name: content for name, content in found.items() if ".tmp" not in name}
        assert kept in ((old, new) if failed else (new,)), error
        assert error is None or type(error) is BadInputError and os.strerror(code) in str(error)
        assert kept == (found if error else new), "a temporary file is left"
        errors += error is not None
        write(folder / "a", engine)
        assert below(folder) == new
        restore(folder, old)
    assert errors > 3


def restore(folder, contents):
    """Make the folder hold just that."""
    shutil.rmtree(folder)
    folder.mkdir()
    for name, content in sorted(contents.items()):
        (folder / name).mkdir() if content is None else (folder / name).write_bytes(content)


def test_a_failed_verb_ends_with_its_code(tmp_path, monkeypatch, engine, capsys):
    engine.save(tmp_path / "in")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "m").write_bytes(b"old")
    disk = Disk(monkeypatch, tmp_path / "out", errno.ENOSPC)
    codes = []
    for n in range(1, MOST):
        disk.arm(n, full=True)
        codes.append(main(["unpack", str(tmp_path / "in"), "-o", str(tmp_path / "out" / "m"), "--force"]))
        if not disk.failed:
            break
        lines = capsys.readouterr().err.splitlines()
        assert codes[-1] == 0 or codes[-1] == 3 and len([line for line in lines if "error:" in line]) == 1
        assert codes[-1] == 0 or os.listdir(tmp_path / "out") == ["m"]
    assert codes[-1] == 0 and codes.count(3) > 3


def test_a_failed_export_has_no_half_file(tmp_path, monkeypatch, engine):
    export(engine, tmp_path / "whole", "c-array")
    whole, folder = below(tmp_path / "whole"), tmp_path / "folder"
    for error, failed in fail_each(Disk(monkeypatch, folder, errno.EIO), lambda: export(engine, folder, "c-array"), False):
        found = below(folder) if folder.exists() else {}
        assert failed or found == whole
        assert error is None or type(error) is BadInputError
        assert all(whole[name] == content for name, content in found.items())
        shutil.rmtree(folder, ignore_errors=True)


def test_a_failed_checkpoint_is_the_old_or_the_new_one(tmp_path, monkeypatch, data):  # noqa: F811
    (tmp_path / "r.json").write_text(json.dumps({**RECIPE, "workers": 0, "stages": RECIPE["stages"][:1]}))
    train_stages(Run(tmp_path / "start", read_recipe(tmp_path / "r.json"), data, updates=2))
    shutil.copytree(tmp_path / "start", tmp_path / "whole")
    train_stages(Run(tmp_path / "whole", None, data, updates=1))
    out = tmp_path / "out"

    def job():
        train_stages(Run(out, None, data, updates=1))

    shutil.copytree(tmp_path / "start", out)
    states = {(tmp_path / name / "last.safetensors").read_bytes() for name in ("start", "whole")}
    errors = 0
    for error, _ in fail_each(Disk(monkeypatch, out, errno.ENOSPC), job, True):
        assert (out / "last.safetensors").read_bytes() in states
        assert error is None or type(error) is BadInputError and not list(out.glob(".*"))
        errors += error is not None
        shutil.rmtree(out)
        shutil.copytree(tmp_path / "start", out)
    assert errors > 3 and len(states) == 2


def save_packed(path, engine):
    engine.save(path)


def save_safetensors(path, engine):
    save_model(create_model("deit_tiny_patch16_224", **NARROW_VIT), path)


def save_torch(path, engine):
    model = create_model("deit_tiny_patch16_224", **NARROW_VIT | {"embed_dim": 192})  # as wide as the published one
    path.write_bytes(saved_bytes(model.params))


@pytest.mark.parametrize(
    "save, suffix", [(save_packed, ".safetensors"), (save_safetensors, ".safetensors"), (save_torch, ".pth")]
)
def test_a_failed_read_of_a_model_is_one_error(tmp_path, monkeypatch, engine, save, suffix):
    path = tmp_path / f"m{suffix}"
    save(path, engine)
    errors = 0
    for error, failed in fail_each(Disk(monkeypatch, tmp_path, errno.EIO, reads=True), lambda: load_model(path), False):
        assert type(error) is BadInputError and error_is_of(path, error) if failed else error is None, error
        errors += failed
    assert errors > 1


def error_is_of(path, error):
    """Where zipfile finds no end of an archive, it does not say that a read failed."""
    return str(path) in str(error) and (os.strerror(errno.EIO) in str(error) or "not a zip file" in str(error))


@pytest.mark.parametrize("verb", ["classify", "eval"])
def test_a_verb_whose_read_fails_ends_with_its_code(tmp_path, monkeypatch, engine, capsys, data, verb):  # noqa: F811
    """Every read of model, picture and of the file that an evaluation goes on with, which stays as it was."""
    shutil.copytree(data / "test", tmp_path / "pictures")
    path, out = tmp_path / "m", tmp_path / "out.jsonl"
    engine.save(path)
    pictures = [tmp_path / "pictures", "--class-order", tmp_path / "order", "--out", out]
    (tmp_path / "order").write_text("\n".join(f"class{c}" for c in range(5)))
    line = [verb, path, *(pictures if verb == "eval" else [tmp_path / "pictures" / "class0" / "00.png"])]
    assert main([*map(str, line)]) == 0
    kept = out.read_bytes() if verb == "eval" else None
    disk = Disk(monkeypatch, tmp_path, errno.EIO, reads=True)
    codes = []
    for n in range(1, MOST):
        capsys.readouterr()
        disk.arm(n)
        codes.append(main([*map(str, line)]))
        if not disk.failed:
            break
        lines = [text for text in capsys.readouterr().err.splitlines() if "error:" in text]
        assert codes[-1] == 3 and len(lines) == 1 and os.strerror(errno.EIO) in lines[0]
        assert kept is None or out.read_bytes() == kept
    assert codes[-1] == 0 and codes.count(3) > 3
