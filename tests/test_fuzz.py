"""Hostile files: a result or one RefvitError, in Python; a status and no finding of the sanitizers, in C. make fuzz goes on."""

import os
import random
import subprocess
import time
import zipfile
from pathlib import Path

import pytest

from refvit.backend import lib
from refvit.config import WINDOW_TABLES_MAX, SwinConfig
from refvit.npy import Archive
from refvit.errors import BadInputError, RefvitError, UsageError
from refvit.model import create_model
from refvit.weights import load_model
from tests.clibrary import CModel
from tests.toolchain import LIBRARY, need
from tools import fuzz, fuzz_seeds

ROOT = Path(__file__).parents[1]
FILES = {kind: 150 for kind in fuzz.KINDS} | {"torch": 60, "packed": 100}
SANITIZE = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all")

pytestmark = pytest.mark.skipif(os.name != "posix", reason="needs the limits of POSIX")


@pytest.mark.parametrize("kind", fuzz.KINDS)
def test_mutated_files_are_read_or_refused(kind):
    verdicts = [verdict for _, verdict in fuzz.campaign(kind, seed=0, files=FILES[kind])]
    assert set(verdicts) <= {"read", "refused"}, [v for v in verdicts if v not in ("read", "refused")][0]
    assert "refused" in verdicts


@pytest.mark.parametrize("kind", fuzz.KINDS)
def test_files_cut_off_are_read_or_refused(tmp_path, kind):
    for seed in fuzz.KINDS[kind][0](tmp_path)[:2]:
        for length in [*range(16), *random.Random(kind).sample(range(len(seed)), 40)]:
            verdict = fuzz.judge(kind, seed[:length], tmp_path)
            assert verdict in ("read", "refused"), f"{length}: {verdict}"


def test_good_files_are_read(tmp_path):
    for kind, (seeds, *_) in fuzz.KINDS.items():
        assert fuzz.judge(kind, seeds(tmp_path)[0], tmp_path) == "read", kind


def test_the_same_seed_makes_the_same_files():
    first, second = ([data for data, _ in fuzz.campaign("torch", 7, files=8)] for _ in range(2))
    assert first == second


def test_what_must_not_be_is_told(tmp_path, monkeypatch):
    """Another exception, endless work, memory without end."""
    monkeypatch.setattr(fuzz, "SECONDS_MAX", 0.2)
    bad = {"KeyError": lambda path: {}["a"], "Hang": lambda path: time.sleep(60), "MemoryError": lambda path: bytes(2 * fuzz.MEMORY_MAX)}
    for name, read in bad.items():
        monkeypatch.setitem(fuzz.KINDS, "npy", (None, ".npy", read, None))
        assert name in fuzz.judge("npy", b"", tmp_path)


@pytest.mark.skipif(lib is None, reason="needs the C kernels")
def test_files_that_did_harm_are_refused_by_both_loaders(tmp_path):
    engine, coding = fuzz_seeds.packed("swin")
    engine.save(tmp_path / "swin", coding=coding)
    for path in fuzz_seeds.write_hostile(tmp_path, (tmp_path / "swin").read_bytes()):
        assert CModel(path.read_bytes()).status == lib.REFVIT_BAD_FILE, path
        with pytest.raises(BadInputError):
            load_model(path)


def test_windows_have_a_limit_that_published_models_keep():
    large = dict(img_size=384, window_size=12, embed_dim=192, num_heads=(6, 12, 24, 48), depths=(2, 2, 18, 2))
    assert 12e6 < SwinConfig("swin_large", **large).window_tables < WINDOW_TABLES_MAX
    with pytest.raises(UsageError, match="masks and biases"):
        create_model("swin_tiny_patch4_window7_224", img_size=8192)


def test_a_member_without_a_name_is_refused_or_read(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr(zipfile.ZipInfo(""), b"")
    archive = Archive(tmp_path / "a.npz")
    with pytest.raises(RefvitError):
        archive.read("", 1)


@pytest.mark.parametrize("compiler", ["gcc", "clang"])
def test_the_c_library_under_sanitizers(tmp_path, compiler):
    need(compiler)
    probe = subprocess.run([compiler, *SANITIZE, "-x", "c", "-", "-o", tmp_path / "probe"], input="int main(void) { return 0; }",
                           text=True, capture_output=True)  # fmt: skip
    if probe.returncode or subprocess.run([tmp_path / "probe"], capture_output=True).returncode:
        pytest.skip(f"{compiler} has no sanitizers here")
    sources = [*LIBRARY, ROOT / "tools" / "fuzz.c", ROOT / "tools" / "fuzz_mutate.c"]
    flags = ["-std=c99", "-O0", "-fno-fast-math", "-ffp-contract=off", "-DFUZZ_MAIN", f"-I{ROOT / 'csrc'}", *SANITIZE]
    subprocess.run([compiler, *flags, "-o", tmp_path / "fuzz", *sources, "-lm", "-pthread"], check=True)
    seeds = fuzz_seeds.write_packed(tmp_path / "seeds")
    seeds += fuzz_seeds.write_hostile(tmp_path, (tmp_path / "seeds" / "swin").read_bytes())
    found = subprocess.run([tmp_path / "fuzz", "4000", "1", *seeds], capture_output=True, text=True, cwd=tmp_path)
    assert found.returncode == 0 and found.stdout == "4000 files\n", found.stderr
