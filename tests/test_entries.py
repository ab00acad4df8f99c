"""Every entry of C refuses backends that do not run here and sizes that it cannot work with, before it looks at memory."""

import re
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from refvit.backend import LEVELS, backends, ffi, lib

pytestmark = pytest.mark.skipif(lib is None, reason="needs the C kernels")

ACCUMULATORS = 12  # of csrc/products/limit.c
CSRC = Path(__file__).parents[1] / "csrc"
HEADERS = "".join((CSRC / name).read_text(encoding="utf-8") for name in ("refvit.h", "training.h"))
ENTRIES = [name for name in re.findall(r"^int (refvit_\w+)\(int backend,", HEADERS, re.MULTILINE) if name != "refvit_family"]


def call(name, **given):
    """The entry's status: numbers are 8 and arrays are full of 8, but for what is ``given`` by position as ``_1=0``."""
    function = getattr(lib, name)
    values = []
    for i, kind in enumerate(ffi.typeof(function).args):
        value = given.get(f"_{i}", 8)
        values.append(ffi.new("size_t[64]", [value] * 64) if kind.kind == "pointer" else value)
    return function(*(ffi.cast(kind, v) if kind.kind == "pointer" else v for kind, v in zip(ffi.typeof(function).args, values)))


@pytest.mark.parametrize("name", ENTRIES)
@pytest.mark.parametrize("backend", [-1, lib.REFVIT_AVX512 + 1, 64] if lib else [])
def test_an_unknown_backend_is_refused(name, backend):
    assert call(name, _0=backend) == lib.REFVIT_BAD_BACKEND


def test_the_entries_were_found():
    assert len(ENTRIES) > 25 and "refvit_train_adamw" in ENTRIES


@pytest.mark.parametrize("name, given", [
    ("refvit_train_softmax", {"_2": 0}),
    ("refvit_train_layernorm", {"_2": 0}),
    ("refvit_train_layernorm_backward", {"_2": 0}),
    ("refvit_train_layernorm_backward", {"_3": 0}),
    ("refvit_train_fake_quantize", {"_4": 1}),
    ("refvit_train_fake_quantize", {"_4": 9}),
    ("refvit_train_ternary", {"_2": 0}),
    ("refvit_train_products", {"_1": 0}),
    ("refvit_train_products", {"_10": 0}),
    ("refvit_gelu_codes", {"_3": 1}),
    ("refvit_gelu_codes", {"_3": 9}),
    ("refvit_softmax_codes", {"_2": 0}),
])  # fmt: skip
def test_sizes_that_make_no_sense_are_refused(name, given):
    assert call(name, _0=0, **given) == lib.REFVIT_BAD_SIZE


def test_no_limit_is_known_of_what_does_not_run():
    assert lib.refvit_limit(lib.REFVIT_PORTABLE, 1, 1) == lib.refvit_limit(-1, 0, 1) == lib.refvit_limit(64, 1, 1) == 0.0


@pytest.mark.parametrize("backend, family, operations", [
    ("avx512", 0, 1024), ("avx512", 1, 128), ("avx512vnni", 1, 128), ("avxvnni", 1, 64), ("avx2", 1, 64), ("avx2", 0, 0),
])  # fmt: skip
def test_a_limit_counts_the_operations_of_its_instructions(backend, family, operations):
    """Multiply-adds count twice: 64 (32) int8 products of an instruction, or 512 bits that are masked and counted."""
    if backend not in backends():
        pytest.skip(f"needs {backend}")
    assert lib.refvit_limit(LEVELS[backend], family, 5) == 5 * ACCUMULATORS * operations


def test_texts_of_every_status_and_backend_differ():
    statuses = [ffi.string(lib.refvit_status_text(status)) for status in range(lib.REFVIT_NO_MEMORY + 1)]
    assert len(set(statuses)) == lib.REFVIT_NO_MEMORY + 1 and b"unknown" not in statuses
    assert ffi.string(lib.refvit_status_text(-1)) == ffi.string(lib.refvit_status_text(99)) == b"unknown"
    for name, level in LEVELS.items():
        assert ffi.string(lib.refvit_backend_name(level)).decode() == (name if level >= 0 else "unknown")


NO_THREADS = """
from refvit.backend import ffi, lib
assert lib.refvit_pool_new(3000) == ffi.NULL
pool = lib.refvit_pool_new(2)
assert pool != ffi.NULL
lib.refvit_pool_free(pool)
"""


def test_a_pool_that_gets_no_threads_ends_those_it_has():
    """Address space for a few stacks only: the first pool is refused, and leaves room for the second."""

    def bound():
        resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))

    done = subprocess.run([sys.executable, "-c", NO_THREADS], preexec_fn=bound, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_pool_larger_than_memory_is_refused():
    assert lib.refvit_pool_new(1 << 50) == ffi.NULL
    lib.refvit_pool_free(ffi.NULL)
