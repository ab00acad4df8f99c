"""The C kernels, if they were built, and which of their variants runs: the backend.

Backends are C for one instruction set ("avx512" ... "portable"), or "numpy", the kernels' twins in NumPy. All give the
same bits. What a caller names comes first, then ``set_backend``, then REFVIT_BACKEND, then the best one usable here.
"""

import contextlib
import os

import numpy as np

from .errors import BadInputError, UsageError
from .threads import split_rows, threads

try:
    from ._kernels import ffi, lib
except ImportError:  # installed without a C compiler
    ffi = lib = None

NUMPY = -1
LEVELS = {  # as enum refvit_backend; of each CPU family the best first
    "avx512": 4, "avx512vnni": 3, "avxvnni": 2, "avx2": 1, "neondot": 6, "neon": 5, "rvzbb": 7, "portable": 0,
    "numpy": NUMPY
}  # fmt: skip
FEATURES = (  # as enum refvit_cpu
    "AVX2", "AVX512F", "AVX512BW", "AVX512VL", "AVX512VPOPCNTDQ", "FMA", "AVX512VNNI", "AVXVNNI", "NEON", "DOTPROD",
    "ZBB"
)  # fmt: skip
_AVX2 = ("AVX2", "FMA")
_AVX512 = (*_AVX2, "AVX512F", "AVX512BW", "AVX512VL", "AVX512VNNI")
NEEDS = {
    "avx512": (*_AVX512, "AVX512VPOPCNTDQ"), "avx512vnni": _AVX512, "avxvnni": (*_AVX2, "AVXVNNI"), "avx2": _AVX2,
    "neondot": ("NEON", "DOTPROD"), "neon": ("NEON",), "rvzbb": ("ZBB",), "portable": (), "numpy": ()
}  # fmt: skip
_C_LEVELS = lib.refvit_init() if lib else 0  # bits 1 << level
_USABLE = [name for name, level in LEVELS.items() if level == NUMPY or _C_LEVELS >> level & 1]
_chosen = None  # set by set_backend; else the environment or the machine decides
_CTYPES = {np.dtype(t): f"{t}_t[]" for t in ("int8", "int32", "uint64")} | {np.dtype("float32"): "float[]"}


def backends():
    """Names of the backends usable here, best first. Raises UsageError where REFVIT_BACKEND is none of them."""
    level_of()
    return list(_USABLE)


def check_backend(name):
    """Return ``name`` if it is a backend usable here. Raises UsageError otherwise."""
    if name not in _USABLE:
        raise UsageError("backend", "unknown or not usable here", "one of " + ", ".join(_USABLE), repr(name))
    return name


def info():
    """What runs here: {"backends": [{"name", "usable", "why"}], "default", "features", "threads"}."""
    bits = lib.refvit_cpu_features() if lib else 0
    features = [name for i, name in enumerate(FEATURES) if bits >> i & 1]
    rows = [{"name": n, "usable": n in _USABLE, "why": _why_not(n, features)} for n in LEVELS]
    default = next(name for name, level in LEVELS.items() if level == level_of())
    return {"backends": rows, "default": default, "features": features, "threads": threads()}


@contextlib.contextmanager
def default_environment():
    """The floating-point environment of N14 for the NumPy steps of inference; whatever the caller had set is put back.

    Without the C kernels this does nothing, for Python alone can neither see nor set it.
    """
    if lib is None:
        yield
        return
    saved = ffi.new("uint8_t[]", lib.REFVIT_ENVIRONMENT_BYTES)
    lib.refvit_environment_enter(saved)
    try:
        yield
    finally:
        lib.refvit_environment_leave(saved)


def set_backend(name):
    """Use a backend from now on, where a call names none. Raises UsageError as ``check_backend``."""
    global _chosen
    _chosen = check_backend(name)


@contextlib.contextmanager
def using_backend(name):
    """``set_backend`` for a while, as a context manager; None leaves everything as it is."""
    global _chosen
    before = _chosen
    if name is not None:
        set_backend(name)
    try:
        yield
    finally:
        _chosen = before


def level_of(backend=None):
    """Level of the backend named, or set, or forced by REFVIT_BACKEND, or best."""
    asked = backend, _chosen, os.environ.get("REFVIT_BACKEND")
    name = next((name for name in asked if name is not None), None)
    return LEVELS[_USABLE[0] if name is None else check_backend(name)]


def _why_not(name, features):
    """Why a backend is not usable, or None."""
    if name in _USABLE:
        return None
    if lib is None:
        return "the extension refvit._kernels is not built: it needs a C compiler when refvit is installed"
    return "this machine lacks " + ", ".join(f for f in NEEDS[name] if f not in features)


def pointer(x):
    """The memory of an array for C; ``x`` must outlive it."""
    return ffi.from_buffer(_CTYPES[x.dtype], x)


def run(where, rows, worth, part):
    """Run ``part(begin, end)`` over all rows, on several threads where that is worth it; raise what it reports."""
    raise_status(where, max(split_rows(rows, threads() if worth else 1, part)))


def raise_status(where, status):
    """The error that a status of refvit.h stands for."""
    if status == lib.REFVIT_NAN:
        raise BadInputError(where, "value", "numbers", "NaN")
    if status:
        raise UsageError(where, "sizes", "those of the header refvit.h", f"status {status}")
