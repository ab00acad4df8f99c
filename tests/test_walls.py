"""C kernels touch nothing beyond the end of their arrays, neither to read nor to write."""

import numpy as np
import pytest

from refvit import bitplanes, kernels
from refvit.backend import LEVELS, ffi, lib, pointer
from tests.walls import before_a_wall

pytestmark = pytest.mark.skipif(lib is None, reason="needs the C kernels")
each_backend = pytest.mark.parametrize("backend", [name for name in kernels.backends() if name != "numpy"])


@pytest.mark.parametrize("m, n, k, bits", [(1, 1, 1, 1), (3, 5, 64, 8), (8, 16, 65, 2), (9, 17, 130, 8), (2, 64, 63, 5)])
@each_backend
def test_products(backend, m, n, k, bits):
    rng, level, words, padded = np.random.default_rng(0), LEVELS[backend], -(-k // 64), -(-k // 64) * 64
    codes = before_a_wall(rng.integers(-1, 2, (n, k), dtype=np.int8))
    x = before_a_wall(rng.integers(-(1 << bits - 1), 1 << bits - 1, (m, k), dtype=np.int8))
    rows = before_a_wall(np.pad(x, [(0, 0), (0, padded - k)]))
    planes, work = (before_a_wall(np.full(shape, 2**64 - 1, np.uint64)) for shape in ((2, n, words), (m, words, bits)))
    counts, init, out = (before_a_wall(np.full(shape, 7, np.int32)) for shape in (n, m, (m, n)))
    panel = before_a_wall(np.empty(padded * lib.REFVIT_PANEL_COLS, np.uint8))
    expected = x.astype(np.int32) @ codes.T.astype(np.int32)
    assert lib.refvit_pack_planes(level, n, k, pointer(codes), pointer(planes)) == lib.REFVIT_OK
    assert (planes == bitplanes.pack_planes(codes)).all()
    assert lib.refvit_check_planes(n, k, pointer(planes), pointer(counts)) == lib.REFVIT_OK
    assert counts.tolist() == (codes < 0).sum(axis=1).tolist()
    rest = (pointer(init), ffi.from_buffer("uint8_t[]", panel), pointer(out))
    for product in (
        lambda: lib.refvit_ternary_matmul(level, m, n, k, bits, pointer(x), pointer(planes), pointer(counts), pointer(work), work.size, rest[2]),
        lambda: lib.refvit_ternary_dot(level, m, n, k, pointer(rows), pointer(planes), *rest),
        lambda: lib.refvit_int8_dot(level, 1, m, n, k, pointer(rows), pointer(codes), 0, *rest),
        lambda: lib.refvit_int8_dot(level, 1, m, n, k, pointer(rows), pointer(before_a_wall(codes.T)), 1, *rest),
    ):
        out[...] = 7
        assert product() == lib.REFVIT_OK and (out == expected).all()


@each_backend
@pytest.mark.parametrize("rows, k", ((1, 1), (3, 7), (4, 16), (2, 33), (5, 65)))
def test_rows(backend, rows, k):
    level, shape = LEVELS[backend], (rows, k)
    x, y, room = (before_a_wall(np.linspace(-3, 3, n * k, dtype=np.float32)) for n in (rows, rows, 4))
    q, acc = before_a_wall(np.zeros(shape, np.int8)), before_a_wall(np.arange(rows * k, dtype=np.int32))
    s, zp = before_a_wall(np.ones(rows, np.float32)), before_a_wall(np.zeros(rows, np.int32))
    ones, square = before_a_wall(np.ones(k, np.float32)), before_a_wall(np.zeros((rows, rows), np.float32))
    for name, numbers, arrays in (
        ("symmetric_scale", (8,), (x, s)), ("minmax_scale", (8,), (x, s, zp)), ("quantize_rows", (-127, 127), (x, s, zp, q)),
        ("rescale", (), (acc, s, ones, ones, y)), ("softmax", (), (x, y)), ("gelu_codes", (8,), (x, room, q, s)),
        ("softmax_codes", (), (x, room, q)),
    ):  # fmt: skip
        assert getattr(lib, f"refvit_{name}")(level, *shape, *numbers, *map(pointer, arrays)) == lib.REFVIT_OK, name
    assert lib.refvit_layernorm(level, *shape, *map(pointer, (x, ones, ones)), 1e-6, pointer(y)) == lib.REFVIT_OK
    assert lib.refvit_matmul16(level, 1, rows, rows, k, *map(pointer, (x, x, square))) == lib.REFVIT_OK
    for name in ("gelu", "exp", "erf"):
        assert getattr(lib, f"refvit_{name}")(level, rows * k, pointer(x), pointer(y)) == lib.REFVIT_OK, name


@pytest.mark.parametrize("n, k", [(1, 1), (2, 5), (3, 64), (5, 65), (7, 130)])
def test_decoding_base3(n, k):
    codes = np.random.default_rng(0).integers(-1, 2, (n, k), dtype=np.int8)
    stream, expected = before_a_wall(bitplanes.encode_base3(codes)), bitplanes.pack_planes(codes)
    planes = before_a_wall(np.zeros_like(expected))
    assert lib.refvit_decode_base3(n, k, ffi.from_buffer("uint8_t[]", stream), pointer(planes)) == lib.REFVIT_OK
    assert (planes == expected).all()
