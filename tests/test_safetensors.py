import io
import json
import string

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from refvit import safetensors
from refvit.errors import BadInputError, UsageError

F32 = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
DTYPES = [np.dtype(code) for code in sorted(set(safetensors.DTYPES.values()))]
names = st.text(st.characters(exclude_categories=["Cs"]), max_size=12).filter(lambda name: name != "__metadata__")
arrays = st.sampled_from(DTYPES).flatmap(lambda d: hnp.arrays(d, hnp.array_shapes(min_dims=0, max_dims=3, min_side=0)))


def file_bytes(header, buffer=b"", length=None):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return (len(text) if length is None else length).to_bytes(8, "little") + text + buffer


def read(tmp_path, data):
    path = tmp_path / "a.safetensors"
    path.write_bytes(data)
    return safetensors.read(path)


def encoded(tensors, metadata=None):
    file = io.BytesIO()
    safetensors.write(file, tensors, metadata)
    return file.getvalue()


def assert_same(got, expected):
    assert set(got) == set(expected)
    for name, array in expected.items():
        assert got[name].dtype == array.dtype.newbyteorder("=") and got[name].shape == array.shape
        assert got[name].tobytes() == array.astype(got[name].dtype).tobytes()


@given(st.dictionaries(names, arrays, max_size=5), st.dictionaries(names, st.text(string.printable), max_size=3))
def test_what_is_written_is_read(tmp_path_factory, tensors, metadata):
    got, got_metadata = read(tmp_path_factory.mktemp("roundtrip"), encoded(tensors, metadata))
    assert_same(got, tensors)
    assert got_metadata == metadata


def test_bytes_are_those_of_the_specification():
    tensors = {"b": np.array([1, 2], np.uint8), "a": np.array([[1.5]], np.float32)}
    header = (
        b'{"__metadata__":{"k":"v"},"a":{"dtype":"F32","shape":[1,1],"data_offsets":[0,4]},'
        b'"b":{"dtype":"U8","shape":[2],"data_offsets":[4,6]}}'
    )
    header += b" " * (-len(header) % 8)
    expected = len(header).to_bytes(8, "little") + header + b"\x00\x00\xc0\x3f\x01\x02"
    assert encoded(tensors, {"k": "v"}) == expected


def test_order_of_the_dicts_does_not_show():
    a, b = np.zeros(3, np.float32), np.ones(2, np.int64)
    assert encoded({"a": a, "b": b}, {"x": "1", "y": "2"}) == encoded({"b": b, "a": a}, {"y": "2", "x": "1"})


def test_big_endian_and_strided_arrays_are_stored_as_any_other():
    array = np.arange(12, dtype=np.float32).reshape(3, 4)
    assert encoded({"a": array.astype(">f4")}) == encoded({"a": array})
    assert encoded({"a": array.T[::2]}) == encoded({"a": np.ascontiguousarray(array.T[::2])})


def test_arrays_are_views_where_aligned(tmp_path):
    tensors = {"bytes": np.arange(3, dtype=np.uint8), "x": np.ones(5), "y": np.ones(5, np.float32)}
    got, _ = read(tmp_path, encoded(tensors))
    assert not any(array.flags.owndata for array in got.values())
    assert all(array.flags.aligned for array in got.values())


def test_unaligned_tensors_of_other_writers_are_read(tmp_path):
    header = {"a": {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]}, "b": {**F32, "data_offsets": [1, 9]}}
    got, _ = read(tmp_path, file_bytes(header, b"\x07" + np.array([1, 2], "<f4").tobytes()))
    assert got["b"].tolist() == [1, 2] and got["b"].flags.aligned


def test_bfloat16_is_widened_exactly(tmp_path):
    header = {"a": {"dtype": "BF16", "shape": [4], "data_offsets": [0, 8]}}
    bits = np.array([0x3F80, 0xC2F7, 0x0001, 0x7F80], "<u2")
    got, _ = read(tmp_path, file_bytes(header, bits.tobytes()))
    assert got["a"].dtype == np.float32
    assert got["a"].tolist() == [1.0, -123.5, 2.0**-133, np.inf]


def test_metadata_is_read_without_the_tensors(tmp_path):
    path = tmp_path / "a.safetensors"
    safetensors.write(path, {"a": np.zeros(2)}, {"k": "v"})
    assert safetensors.read_metadata(path) == {"k": "v"}


def test_every_truncation_is_refused(tmp_path):
    data = encoded({"a": np.arange(3, dtype=np.int16), "b": np.float32(2)}, {"k": "v"})
    for length in range(len(data)):
        with pytest.raises(BadInputError):
            read(tmp_path, data[:length])


def test_bytes_after_the_end_are_refused(tmp_path):
    with pytest.raises(BadInputError, match="after the last tensor"):
        read(tmp_path, encoded({"a": np.zeros(2)}) + b"\0")


def test_every_changed_byte_of_the_header_is_refused_or_harmless(tmp_path):
    data = encoded({"a": np.arange(2, dtype=np.int16)}, {"k": "v"})
    accepted = 0
    for position in range(8 + int.from_bytes(data[:8], "little")):
        for change in [1 << bit for bit in range(8)] + [ord("0"), ord('"'), 0xFF]:
            changed = bytearray(data)
            changed[position] ^= change
            try:
                tensors, metadata = read(tmp_path, bytes(changed))
            except BadInputError:
                continue
            accepted += 1
            assert sum(a.nbytes for a in tensors.values()) in (4, 8)  # I16, or BF16 widened
            assert len(tensors) + len(metadata) in (1, 2)
    assert accepted > 0  # another name or dtype of two bytes is as valid


BAD_HEADERS = {
    "not an object": b"[]",
    "leading space": b' {"a": 1}',
    "trailing newline": b"{}\n",
    "not JSON": b"{a}",
    "not UTF-8": b'{"\xff": 1}',
    "lone surrogate": b'{"\\ud800": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}}',
    "duplicate tensor": b'{"a": {"dtype": "U8", "shape": [0], "data_offsets": [0, 0]},'
    b'"a": {"dtype": "U8", "shape": [0], "data_offsets": [0, 0]}}',
    "duplicate field": b'{"a": {"dtype": "U8", "dtype": "U8", "shape": [0], "data_offsets": [0, 0]}}',
    "duplicate metadata": b'{"__metadata__": {"a": "1", "a": "2"}}',
    "nested deeply": b'{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "endless integer": b'{"a": {"dtype": "U8", "shape": [' + b"1" * 10_000 + b'], "data_offsets": [0, 8]}}',
    "NaN": b'{"a": NaN}',
    "metadata not text": {"__metadata__": {"a": 1}},
    "metadata not an object": {"__metadata__": "a"},
    "entry not an object": {"a": [1]},
    "field missing": {"a": {"dtype": "F32", "shape": [2]}},
    "field unknown": {"a": {**F32, "x": 1}},
    "dtype unknown": {"a": {**F32, "dtype": "F31"}},
    "dtype not text": {"a": {**F32, "dtype": ["F32"]}},
    "shape negative": {"a": {**F32, "shape": [-2]}},
    "shape of fractions": {"a": {**F32, "shape": [2.0]}},
    "shape of booleans": {"a": {**F32, "shape": [2, True]}},
    "shape not a list": {"a": {**F32, "shape": 2}},
    "shape of 33 dimensions": {"a": {**F32, "shape": [2] + [1] * 32}},
    "shape too large": {"a": {**F32, "shape": [3]}},
    "shape overflows to the right size": {"a": {**F32, "shape": [2**62 + 2]}},
    "shape overflows beside zero": {"a": {**F32, "shape": [2**62, 2**62, 0], "data_offsets": [0, 0]}, "b": F32},
    "offsets backwards": {"a": {**F32, "data_offsets": [8, 0]}},
    "three offsets": {"a": {**F32, "data_offsets": [0, 8, 8]}},
    "offsets of fractions": {"a": {**F32, "data_offsets": [0.0, 8.0]}},
    "offsets not a list": {"a": {**F32, "data_offsets": 8}},
    "one offset": {"a": {**F32, "data_offsets": [8]}},
    "offset negative": {"a": {**F32, "data_offsets": [-8, 0]}},
    "offset beyond the file": {"a": {**F32, "shape": [4], "data_offsets": [0, 16]}},
    "hole before": {"a": {**F32, "shape": [1], "data_offsets": [4, 8]}},
    "hole after": {"a": {**F32, "shape": [1], "data_offsets": [0, 4]}},
    "overlap": {"a": F32, "b": F32},
    "BOOL of 2": {"a": {"dtype": "BOOL", "shape": [8], "data_offsets": [0, 8]}},
}


@pytest.mark.parametrize("case", BAD_HEADERS)
def test_bad_header_is_one_error(tmp_path, case):
    with pytest.raises(BadInputError, match="a.safetensors"):
        read(tmp_path, file_bytes(BAD_HEADERS[case], b"\2" * 8))


@pytest.mark.parametrize("length", [0, 3, 2**20, 10_000_001, 2**63, 2**64 - 1])
def test_header_length_is_checked_before_it_is_believed(tmp_path, length):
    with pytest.raises(BadInputError):
        read(tmp_path, file_bytes({"a": F32}, b"\0" * 8, length))


def test_a_header_that_ends_after_the_file_is_refused(tmp_path):
    with pytest.raises(BadInputError, match="cut off"):
        read(tmp_path, file_bytes(b"{}", b"", 6))


def test_header_above_the_cap_is_refused_though_the_file_holds_it(tmp_path):
    with pytest.raises(BadInputError, match="header too long"):
        read(tmp_path, file_bytes(b"{}" + b" " * safetensors.HEADER_MAX))


def test_sizes_beside_a_zero_are_bounded(tmp_path):
    """NumPy counts the bytes as if there were elements: eight times 2^60 would be too many."""
    shape = [0, 2**60 - 1]
    tensor = {"dtype": "F64", "shape": shape, "data_offsets": [0, 0]}
    assert read(tmp_path, file_bytes({"a": tensor}))[0]["a"].shape == tuple(shape)
    for shape in ([0, 2**60], [2**59, 0, 2], [0, 2**63]):
        with pytest.raises(BadInputError, match="2\\^60"):
            read(tmp_path, file_bytes({"a": {**tensor, "shape": shape, "dtype": "U8"}}))


def test_file_without_tensors_is_valid(tmp_path):
    assert read(tmp_path, file_bytes({})) == ({}, {})


@pytest.mark.parametrize(
    "tensors",
    [
        {"a": np.zeros(2, np.complex64)},
        {"a": np.array(["text"])},
        {"a": np.array([None])},
        {"__metadata__": np.zeros(2)},
        {"\ud800": np.zeros(2)},
        {1: np.zeros(2)},
    ],
)
def test_what_the_format_lacks_is_not_written(tmp_path, tensors):
    with pytest.raises(UsageError):
        safetensors.write(tmp_path / "a", tensors)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("metadata", [{"a": 1}, {1: "a"}, {"a": "\ud800"}])
def test_metadata_that_is_not_text_is_not_written(tmp_path, metadata):
    with pytest.raises(UsageError, match="metadata"):
        safetensors.write(tmp_path / "a", {}, metadata)
