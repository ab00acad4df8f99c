"""The C library as `make lib` builds it: a client in C, and the program refvit-run."""

import json
import math
import os
import platform
import re
import resource
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from refvit import create_model, pack
from refvit.backend import lib
from refvit.box import resolve
from refvit.cli import main
from refvit.config import QuantConfig
from refvit.labels import imagenet_names
from tests.test_engine import NARROW, PADDED_SWIN, SETTINGS, packed
from tests.toolchain import need
from tools.fuzz_seeds import VIT

ROOT = Path(__file__).parents[1]
TEXT_MAX, PEAK_MAX = 200_000, 20.0  # bytes of code of the library; MB of a DeiT-S with one thread
WRAPS = "-Wl,--wrap=malloc,--wrap=calloc,--wrap=realloc"
CC = os.environ.get("CC", "cc").split()  # as make takes it
FLAGS = ["-std=c99", "-O1", "-Wall", "-Wextra", "-Wpedantic", "-Werror"]

pytestmark = pytest.mark.skipif(
    lib is None or platform.system() != "Linux" or not all(map(shutil.which, ("make", CC[0], "objcopy"))),
    reason="needs Linux, make and the C compiler that built the kernels",
)


def make(folder, *arguments):
    command = ["make", "-s", f"-j{os.cpu_count()}", "-C", ROOT, "lib", f"BUILD={folder}", *arguments]
    process = subprocess.run(command, capture_output=True, text=True)
    assert process.returncode == 0 and process.stderr == "", process.stderr
    return folder


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    return make(tmp_path_factory.mktemp("lib"))


def compile_client(folder, name, *more, cc=CC):
    client = folder / name
    subprocess.run([*cc, *FLAGS, WRAPS, f"-I{folder}", "-o", client, ROOT / "tests" / "client.c", *more, "-lm", "-pthread"], check=True)
    return client


@pytest.fixture(scope="module")
def clients(built):
    """The client against the archive, fully static, and against the shared library."""
    static = compile_client(built, "static", "-static", built / "librefvit.a")
    shared = compile_client(built, "shared", f"-L{built}", f"-Wl,-rpath,{built}", "-lrefvit")
    return [static, shared]


def code_bytes(size, folder):
    """Code and constants of the library, as the program ``size`` of its CPU tells them."""
    lines = subprocess.run([size, folder / "lib" / "all.o"], capture_output=True, text=True, check=True).stdout.splitlines()
    return int(lines[1].split()[0])


def bits(client, how, model, pixels):
    process = subprocess.run([client, how, model, pixels], capture_output=True, text=True)
    assert process.returncode == 0, process.stderr
    return np.array([int(line, 16) for line in process.stdout.split()], np.uint32).view(np.float32)


def saved(folder, engine, coding):
    """Model and picture as files, and the logits that Python gives."""
    side = engine.config.img_size
    u8 = np.random.default_rng(4).integers(0, 256, (1, side, side, 3), dtype=np.uint8)
    engine.save(folder / "m", coding=coding, force=True)
    (folder / "p.rgb").write_bytes(u8.tobytes())
    return folder / "m", folder / "p.rgb", engine.predict(u8)[0]


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_a_client_in_c_has_the_bits_of_python(clients, tmp_path, settings):
    for name, fields in [*NARROW, PADDED_SWIN]:
        for coding, how in (("planes", "map"), ("base3", "read"), ("base3", "memory"), ("planes", "together")):
            model, pixels, expected = saved(tmp_path, packed(name, fields, settings), coding)
            for client in clients:
                assert bits(client, how, model, pixels).tobytes() == expected.tobytes(), (name, coding, how, client)


def test_without_threads(tmp_path):
    folder = make(tmp_path, "LIB_DEFINES=-DREFVIT_NO_THREADS")
    client = compile_client(folder, "client", "-DREFVIT_NO_THREADS", folder / "librefvit.a")
    assert "pthread" not in subprocess.run(["nm", "-u", folder / "librefvit.a"], capture_output=True, text=True, check=True).stdout
    for name, fields in NARROW:
        model, pixels, expected = saved(tmp_path, packed(name, fields, QuantConfig()), "base3")
        for how in ("memory", "together"):
            assert bits(client, how, model, pixels).tobytes() == expected.tobytes()
    environment = {k: v for k, v in os.environ.items() if k != "REFVIT_THREADS"}
    for options, code, threads in (([], 0, 1), (["--threads", "1"], 0, 1), (["--threads", "2"], 2, None)):
        command = [folder / "refvit-run", "--bench", "--json", *options, model, pixels]
        process = subprocess.run(command, capture_output=True, text=True, env=environment)
        assert process.returncode == code, process.stderr
        assert threads is None or json.loads(process.stdout)["threads"] == threads


CALLS = ("malloc", "calloc", "realloc", "free", "mmap", "munmap", "open", "close", "stat", "fstat", "fopen", "fclose",
         "pthread_create", "pthread_join", "pthread_mutex_init", "pthread_mutex_destroy", "pthread_cond_init",
         "pthread_cond_destroy")  # fmt: skip


def test_every_call_into_the_system_may_fail(built, tmp_path):
    """One after another, by the linker's --wrap: a typed status and nothing left behind, each time."""
    wraps = "-Wl," + ",".join(f"--wrap={name}" for name in CALLS)
    command = ["cc", *FLAGS, wraps, f"-I{built}", "-o", tmp_path / "faults", ROOT / "tests" / "faults.c", built / "librefvit.a"]
    subprocess.run([*command, "-lm", "-pthread"], check=True)
    model, _, _ = saved(tmp_path, packed(*NARROW[2], QuantConfig()), "base3")
    process = subprocess.run([tmp_path / "faults", model], capture_output=True, text=True)
    assert process.returncode == 0, process.stdout + process.stderr
    failed = dict(line.rsplit(" ", 1) for line in process.stdout.splitlines())
    assert len(failed) == 9 and min(map(int, failed.values())) > 0, failed
    assert int(failed["short reads"]) > model.stat().st_size // 1000 and int(failed["pool"]) == 6


def test_only_names_of_refvit_are_seen(built):
    for option, file in (("-g", "librefvit.a"), ("-D", "librefvit.so")):
        lines = subprocess.run(["nm", option, "--defined-only", built / file], capture_output=True, text=True, check=True).stdout
        names = [line.split()[2] for line in lines.splitlines() if len(line.split()) == 3]
        assert "refvit_run" in names and all(name.startswith("refvit_") for name in names)
        assert not any("train" in name for name in names)


def test_the_header_is_for_c_and_cxx(built, tmp_path):
    for compiler, standard, suffix in ((CC, "-std=c99", "c"), (["c++", *CC[1:]], "-std=c++11", "cc")):
        if shutil.which(compiler[0]):
            source = tmp_path / f"a.{suffix}"
            source.write_text('#include "refvit.h"\nint main(void) { return refvit_init() ? 0 : 1; }\n')
            flags = [standard, "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-ffast-math", f"-I{built}"]
            subprocess.run([*compiler, *flags, "-o", tmp_path / "a", source, built / "librefvit.a", "-lm", "-pthread"], check=True)
            assert subprocess.run([tmp_path / "a"]).returncode == 0


def test_the_code_stays_small(built):
    if "clang" in subprocess.run([CC[0], "--version"], capture_output=True, text=True).stdout or CC[1:]:
        pytest.skip("the limit is gcc's, without options of yours")
    assert code_bytes("size", built) <= TEXT_MAX


@pytest.fixture
def run(built):
    """run(*arguments) -> exit code, stdout, stderr"""

    def call(*arguments, **environment):
        command = [built / "refvit-run", *map(str, arguments)]
        process = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **environment})
        return process.returncode, process.stdout, process.stderr

    return call


@pytest.fixture(scope="module")
def boxed(tmp_path_factory):
    """The model in the box, and a picture that refvit preprocess made ready for it."""
    folder = tmp_path_factory.mktemp("boxed")
    Image.fromarray(np.random.default_rng(5).integers(0, 256, (50, 41, 3), dtype=np.uint8)).save(folder / "p.png")
    assert main(["preprocess", "refvit_cifar10", str(folder / "p.png"), "-o", str(folder / "p.ppm")]) == 0
    return resolve("refvit_cifar10"), folder / "p.ppm"


def test_the_program_says_what_classify_says(run, boxed, capsys):
    code, out, err = run("--json", "--top", "10", *boxed)
    assert code == 0 and err == ""
    capsys.readouterr()
    assert main(["classify", *map(str, boxed), "--json", "-k", "10"]) == 0
    ours, python = json.loads(out), json.loads(capsys.readouterr().out)
    for a, b in zip(ours["pictures"][0]["classes"], python["pictures"][0]["classes"], strict=True):
        assert math.isclose(a.pop("probability"), b.pop("probability"), rel_tol=1e-12)  # two exp, sums of ten
    assert ours == python
    code, out, err = run(*boxed)
    assert main(["classify", *map(str, boxed)]) == 0
    assert (code, out, err) == (0, capsys.readouterr().out, "")


def test_raw_pixels_are_a_picture_too(run, boxed, tmp_path):
    pixels = np.array(Image.open(boxed[1]))
    (tmp_path / "p.rgb").write_bytes(pixels.tobytes())
    (tmp_path / "comment.ppm").write_bytes(b"P6 # a comment\n32\t32\n# another\n255\n" + pixels.tobytes())
    expected = run(*boxed)[1].splitlines()[1:]
    for name in ("p.rgb", "comment.ppm"):
        for options in (["--read"], ["--threads", "1"]):
            assert run(*options, boxed[0], tmp_path / name)[1].splitlines()[1:] == expected


def test_names_of_imagenet_are_in_the_program(run, tmp_path):
    engine = packed("deit_tiny_patch16_224", dict(NARROW[2][1], num_classes=1000), QuantConfig())
    engine.labels = imagenet_names()
    model, pixels, logits = saved(tmp_path, engine, "planes")
    best = json.loads(run("--json", "--top", "1", model, pixels)[1])["pictures"][0]["classes"]
    assert [(c["index"], c["label"]) for c in best] == [(logits.argmax(), imagenet_names()[logits.argmax()])]


def test_peak_memory(run, tmp_path):
    """A whole DeiT-S, planes in the mapped file and base 3 decoded."""
    engine = pack(create_model("deit_small_patch16_224").with_quant(QuantConfig()))
    for coding in ("planes", "base3"):
        model, pixels, _ = saved(tmp_path, engine, coding)
        result = json.loads(run("--bench", "--json", "--threads", "1", model, pixels)[1])
        assert set(result) == {"ms", "mb", "threads", "kernel", "cpu"}
        assert result["mb"] <= PEAK_MAX


WRONG = [  # arguments (M model, P picture, F folder of wrong files), exit code, words of the message
    ("", 2, "MODEL PICTURE"),
    ("M", 2, "MODEL PICTURE"),
    ("M P P", 2, "unrecognized"),
    ("--fast M P", 2, "--fast"),
    ("--top 0 M P", 2, "--top; expected an integer of at least 1, got '0'"),
    ("--top two M P", 2, "'two'"),
    ("M P --threads", 2, "--threads"),
    ("F/none P", 3, "none: cannot be read: No such file"),
    ("F P", 3, "cannot be read"),
    ("P P", 3, "not a safetensors file"),
    ("F/cut P", 3, "cut: cut off"),
    ("F/flipped P", 3, "flipped: damaged: sha256"),
    ("F/empty P", 3, "empty: not a safetensors file"),
    ("F/tomorrow P", 4, "spec_version"),
    ("M F/none.ppm", 3, "none.ppm: cannot be read"),
    ("M F/empty", 3, "expected binary PPM (P6, 8 bits) or raw RGB of 32 x 32"),
    ("M F/small.ppm", 3, "of 31 x 32"),
    ("M F/long.ppm", 3, "try refvit preprocess"),
    ("M F/grey.ppm", 3, "not a picture"),
    ("M F/deep.ppm", 3, "not a picture"),
    ("M F", 3, "cannot be read: Is a directory"),
    ("F/one_channel P", 4, "expected 3 channels, got 1"),
    ("F/overflow P", 3, "NaN"),
]


@pytest.mark.parametrize("line, expected, words", WRONG)
def test_a_mistake_is_one_line(run, boxed, tmp_path, line, expected, words):
    packed("deit_tiny_patch16_224", VIT | {"img_size": 32, "in_chans": 1}, QuantConfig()).save(tmp_path / "one_channel")
    engine = packed("deit_tiny_patch16_224", VIT | {"img_size": 32}, QuantConfig())
    engine.params["pos_embed"][...] = 3e38
    engine.save(tmp_path / "overflow")
    data, pixels = Path(boxed[0]).read_bytes(), bytes(32 * 32 * 3)
    contents = {
        "cut": data[:-9], "flipped": data[:-9] + bytes([data[-9] ^ 1]) + data[-8:], "empty": b"",
        "tomorrow": data.replace(b'"spec_version":"1"', b'"spec_version":"2"'), "small.ppm": b"P6 31 32 255\n" + pixels[: 31 * 96],
        "long.ppm": b"P6 32 32 255\n" + pixels + b"\0", "grey.ppm": b"P5 32 32 255\n" + pixels[:1024],
        "deep.ppm": b"P6 32 32 65535\n" + pixels + pixels,
    }  # fmt: skip
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    places = {"M": boxed[0], "P": boxed[1], "F": tmp_path}
    arguments = [str(places[a[0]]) + a[1:] if a[:1] in places and a[1:2] in ("", "/") else a for a in line.split()]
    code, out, err = run(*arguments)
    assert code == expected and out == "", err
    assert err.startswith("refvit-run: error: ") and err.count("\n") == 1 and words in err, err


def test_the_environment_chooses_threads_and_kernels(run, boxed):
    expected = run(*boxed)[1]
    assert run(*boxed, REFVIT_BACKEND="portable", REFVIT_THREADS="3")[1] == expected
    for environment in ({"REFVIT_BACKEND": "abacus"}, {"REFVIT_THREADS": "many"}):
        code, _, err = run(*boxed, **environment)
        assert code == 2 and set(environment.values()).pop() in err


@pytest.mark.skipif(platform.machine() != "x86_64", reason="needs x86-64")
@pytest.mark.parametrize("cpu, backends", [("Nehalem", ()), ("SandyBridge", ()), ("Haswell", ("avx2",))])
def test_older_cpus_have_the_same_bits(built, run, boxed, cpu, backends):
    """Emulated: without AVX, without AVX2, without AVX-512."""
    need("qemu-x86_64")
    command = ["qemu-x86_64", "-cpu", cpu, built / "refvit-run", "--json", "--threads", "1", *boxed]
    assert subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True).stdout == run("--json", *boxed)[1]
    for backend in ("avx2", "avx512"):
        process = subprocess.run(command, capture_output=True, env={**os.environ, "REFVIT_BACKEND": backend})
        assert process.returncode == (0 if backend in backends else 2)


def test_the_time_is_a_line_too(run, boxed):
    code, out, err = run("--bench", "--threads", "1", *boxed)
    assert code == 0 and err == "" and re.fullmatch(r"\d+\.\d\d ms, \d+\.\d MB, threads 1, \w+, .+\n", out)


def test_a_full_disk_is_an_error(built, boxed):
    with open("/dev/full", "w") as full:
        process = subprocess.run([built / "refvit-run", *boxed], stdout=full, stderr=subprocess.PIPE, text=True)
    assert process.returncode == 3 and "output: cannot be written: No space left" in process.stderr


def test_too_little_memory_is_an_error(built, boxed, tmp_path):
    """For a picture of 154 MB, for the stacks of a thousand threads."""
    sizes = VIT | {"img_size": 7168, "patch_size": 128, "embed_dim": 1, "num_heads": 1}
    pack(create_model("deit_tiny_patch16_224", **sizes).with_quant(QuantConfig())).save(tmp_path / "m")
    for arguments, code, words in ((["1", tmp_path / "m", "none"], 3, "not enough memory"), (["1000", *boxed], 2, "as many as the system gives")):
        command = [built / "refvit-run", "--threads", *arguments]
        process = subprocess.run(command, capture_output=True, text=True, preexec_fn=little_memory)
        assert process.returncode == code and words in process.stderr


def little_memory():
    resource.setrlimit(resource.RLIMIT_AS, (100 << 20, 100 << 20))


def test_help_has_an_example(run):
    code, out, _ = run("--help")
    assert code == 0 and "refvit-run model" in out.split("example:")[1]
