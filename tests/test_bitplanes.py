"""Bit-planes and the base-3 stream against naive loops (N2), and what they reject."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refvit import bitplanes, kernels
from refvit.errors import BadInputError
from tests import strategies


def naive_planes(codes):
    n, k = codes.shape
    planes = np.zeros((2, n, (k + 63) // 64), np.uint64)
    for row in range(n):
        for column in range(k):
            code = int(codes[row, column])
            if code:
                planes[0 if code > 0 else 1, row, column // 64] |= np.uint64(1 << column % 64)
    return planes


def naive_base3(codes):
    flat = [int(c) for c in codes.reshape(-1)]
    flat += [0] * (-len(flat) % 5)
    return [sum((c + 1) * 3**i for i, c in enumerate(flat[j : j + 5])) for j in range(0, len(flat), 5)]


@settings(max_examples=60, deadline=None)
@given(strategies.codes())
def test_planes_equal_a_naive_loop_and_unpack_to_the_codes(codes):
    planes = bitplanes.pack_planes(codes)
    assert planes.dtype == np.uint64
    np.testing.assert_array_equal(planes, naive_planes(codes))
    unpacked = bitplanes.unpack_planes(planes, codes.shape[1])
    assert unpacked.dtype == np.int8
    np.testing.assert_array_equal(unpacked, codes)


@settings(max_examples=60, deadline=None)
@given(strategies.codes())
def test_base3_equals_a_naive_loop_and_decodes_to_the_codes(codes):
    stream = bitplanes.encode_base3(codes)
    assert stream.dtype == np.uint8 and stream.tolist() == naive_base3(codes)
    decoded = bitplanes.decode_base3(stream, codes.shape)
    assert decoded.dtype == np.int8
    np.testing.assert_array_equal(decoded, codes)


@pytest.mark.parametrize("backend", kernels.backends())
@settings(max_examples=60, deadline=None)
@given(strategies.codes(), st.data())
def test_kernels_decode_base3_to_planes(backend, codes, data):
    stream = bitplanes.encode_base3(codes)
    np.testing.assert_array_equal(kernels.decode_base3(stream, codes.shape, backend), bitplanes.pack_planes(codes))
    if len(stream):
        bad = stream.copy()
        bad[data.draw(st.integers(0, len(bad) - 1))] = data.draw(st.integers(243, 255))
        with pytest.raises(BadInputError, match="at most 242"):
            kernels.decode_base3(bad, codes.shape, backend)
    if codes.size % 5:
        bad = stream.copy()
        bad[-1] -= 81
        with pytest.raises(BadInputError, match="last byte"):
            kernels.decode_base3(bad, codes.shape, backend)


def test_every_byte_of_base3_decodes_to_its_digits():
    digits = bitplanes.decode_base3(np.arange(243, dtype=np.uint8), (243, 5))
    np.testing.assert_array_equal((digits + 1) @ 3 ** np.arange(5), np.arange(243))


def test_codes_may_lie_anywhere_in_memory():
    codes = np.random.default_rng(0).integers(-1, 2, (70, 6)).astype(np.int8)
    np.testing.assert_array_equal(bitplanes.pack_planes(codes.T), naive_planes(codes.T))
    assert bitplanes.encode_base3(codes.T).tolist() == naive_base3(codes.T)
    planes = bitplanes.pack_planes(codes)
    np.testing.assert_array_equal(bitplanes.unpack_planes(np.asfortranarray(planes), 6), codes)


@pytest.mark.parametrize("value", (-128, -2, 2, 127))
@pytest.mark.parametrize("function", (bitplanes.pack_planes, bitplanes.encode_base3))
def test_other_values_are_rejected_by_row_and_column(function, value):
    codes = np.zeros((3, 70), np.int8)
    codes[0, :2], codes[1, 66] = (-1, 1), value
    with pytest.raises(BadInputError, match=f"row 1, column 66.*{value}"):
        function(codes)


@pytest.mark.parametrize("codes", (np.zeros((2, 3)), np.zeros(3, np.int8), [[0, 1]], None))
@pytest.mark.parametrize("function", (bitplanes.pack_planes, bitplanes.encode_base3))
def test_other_arrays_are_rejected(function, codes):
    with pytest.raises(BadInputError, match="expected int8"):
        function(codes)


def test_both_planes_set_is_rejected():
    planes = np.zeros((2, 3, 2), np.uint64)
    planes[:, 2, 1] = 1 << 5
    with pytest.raises(BadInputError, match="row 2, column 69"):
        bitplanes.unpack_planes(planes, 128)


@pytest.mark.parametrize("plane", (0, 1))
def test_dirty_padding_is_rejected(plane):
    planes = np.zeros((2, 3, 2), np.uint64)
    planes[plane, 1, 1] = 1 << 40
    assert bitplanes.unpack_planes(planes, 105)[1, 104] == 1 - 2 * plane
    with pytest.raises(BadInputError, match="padding at row 1, column 104"):
        bitplanes.unpack_planes(planes, 104)


@pytest.mark.parametrize(
    "planes",
    (np.zeros((2, 3, 1), np.uint64), np.zeros((3, 3, 2), np.uint64), np.zeros((2, 6), np.uint64),
     np.zeros((2, 3, 2), np.int64), None),
)  # fmt: skip
def test_wrong_planes_are_rejected(planes):
    with pytest.raises(BadInputError, match="expected uint64"):
        bitplanes.unpack_planes(planes, 65)


def test_bytes_above_242_are_rejected():
    with pytest.raises(BadInputError, match="byte 1; expected at most 242, got 243"):
        bitplanes.decode_base3(np.array([0, 243], np.uint8), (2, 5))


@pytest.mark.parametrize("tail", (0, 2))
def test_tail_digits_other_than_1_are_rejected(tail):
    stream = np.array([1 + 3 + 9 + 27 + 81 * tail], np.uint8)
    bitplanes.decode_base3(stream, (1, 5))
    with pytest.raises(BadInputError, match="last byte"):
        bitplanes.decode_base3(stream, (1, 4))


@pytest.mark.parametrize("stream", (np.zeros(1, np.uint8), np.zeros(3, np.uint8), np.zeros((1, 2), np.uint8),
                                    np.zeros(2, np.int8), b"\0\0"))  # fmt: skip
def test_streams_of_another_length_or_type_are_rejected(stream):
    with pytest.raises(BadInputError, match=r"expected uint8 \(2,\)"):
        bitplanes.decode_base3(stream, (2, 5))
