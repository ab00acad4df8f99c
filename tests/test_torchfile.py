import collections
import os
import pickle
import time
import zipfile

import numpy as np
import pytest

from refvit import torchfile
from refvit.errors import BadInputError, UnsupportedError

from .torch_files import Name, Reduction, Reference, archive_bytes, pickled, saved_bytes, tensor

EIGHT = np.arange(8, dtype="<f4")
FLOATS = Reference("torch FloatStorage", "0", 8)


def read(tmp_path, data):
    path = tmp_path / "a.pth"
    path.write_bytes(data)
    return torchfile.read(path)


def read_value(tmp_path, value, storages=None, **members):
    return read(tmp_path, archive_bytes(pickled(value), storages or {"0": EIGHT.tobytes()}, **members))


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("dtype", ["f4", "f8", "f2", "u1", "i1", "i2", "i4", "i8", "b1"])
def test_tensors_and_plain_values_come_back(tmp_path, dtype, protocol):
    array = (np.arange(6).reshape(2, 3) % 2).astype(dtype)
    other = {"epoch": 3, "lr": 0.5, "big": -(2**70), "none": None, "flags": [True, False, ("a",) * 4], "é": {}}
    got = read(tmp_path, saved_bytes({"model": {"w": array, "s": np.array(1, dtype)}, **other}, protocol))
    model = got.pop("model")
    assert got == other
    assert model["w"].dtype == array.dtype and model["w"].tolist() == array.tolist()
    assert model["s"].shape == () and model["s"] == 1


def test_strides_offsets_and_shared_storages(tmp_path):
    value = {
        "all": tensor(FLOATS, 0, (2, 4), (4, 1)),
        "transposed": tensor(FLOATS, 0, (4, 2), (1, 4)),
        "part": tensor(FLOATS, 1, (2, 2), (4, 2)),
        "empty": tensor(FLOATS, 8, (0, 3), (3, 1)),
        "repeated": tensor(FLOATS, 7, (3,), (0,)),
    }
    got = read_value(tmp_path, value)
    grid = EIGHT.reshape(2, 4)
    expected = {"all": grid, "transposed": grid.T, "part": grid[:, 1::2], "repeated": np.full(3, 7)}
    assert got["empty"].shape == (0, 3)
    for name, array in expected.items():
        assert got[name].tolist() == array.tolist(), name
    assert np.shares_memory(got["all"], got["transposed"])


def test_bfloat16_parameters_and_untyped_storages(tmp_path):
    bits = np.array([0x3F80, 0xC2F7], "<u2").tobytes()
    untyped = Reference("torch.storage UntypedStorage", "0", 4)
    value = {
        "p": Reduction("torch._utils _rebuild_parameter", tensor(bfloat16(), 0, (2,), (1,)), True, {}),
        "u": tensor(untyped, 0, (2,), (1,), "torch._utils _rebuild_tensor_v3", Name("torch uint16")),
        "b": tensor(untyped, 0, (2,), (1,), "torch._utils _rebuild_tensor_v3", Name("torch bfloat16")),
    }
    got = read_value(tmp_path, value, {"0": bits})
    assert got["p"].dtype == np.float32 and got["p"].tolist() == [1.0, -123.5] == got["b"].tolist()
    assert got["u"].dtype == np.uint16 and got["u"].tolist() == [0x3F80, 0xC2F7]


def bfloat16():
    return Reference("torch BFloat16Storage", "0", 2)


def test_byteorder_record_is_honoured(tmp_path):
    value = {"a": tensor(FLOATS, 0, (8,), (1,))}
    got = read_value(tmp_path, value, {"0": EIGHT.astype(">f4").tobytes()}, byteorder=b"big")
    assert got["a"].tolist() == EIGHT.tolist()
    with pytest.raises(BadInputError, match="byteorder"):
        read_value(tmp_path, value, byteorder=b"middle")


def test_namespace_is_inert_and_attributes_of_dicts_are_dropped(tmp_path):
    class WithState(Reduction):
        def __init__(self, name, state):
            self.value = (Name(name), (), state)

    value = {"args": WithState("argparse Namespace", {"lr": 1}), "d": WithState("collections OrderedDict", {"x": 1})}
    got = read_value(tmp_path, value)
    assert got["d"] == {} and not hasattr(got["args"], "lr")


HOSTILE_CALLS = {
    "os system": ("touch ran",),
    "posix system": ("touch ran",),
    "builtins eval": ("open('ran', 'w')",),
    "builtins getattr": ({}, "clear"),
    "torch.hub load": ("a", "b"),
    "subprocess Popen": (["touch", "ran"],),
    "refvit.files atomic_write": ("ran",),
}


@pytest.mark.parametrize("name", HOSTILE_CALLS)
@pytest.mark.parametrize("protocol", [2, 4])
def test_code_is_named_and_never_run(tmp_path, monkeypatch, name, protocol):
    monkeypatch.chdir(tmp_path)
    data = pickled({"a": Reduction(name, *HOSTILE_CALLS[name])}, protocol)
    with pytest.raises(BadInputError, match=name.replace(" ", r"\.")):
        read(tmp_path, archive_bytes(data, {}))
    assert os.listdir(tmp_path) == ["a.pth"]


def test_code_named_on_the_stack_is_refused_too(tmp_path):
    data = b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x04exit\x85R."
    with pytest.raises(BadInputError, match=r"os\.system"):
        read(tmp_path, archive_bytes(data, {}))


@pytest.mark.parametrize(
    "opcodes",
    [
        b"cos\nsystem\n.",  # named only
        b"(S'exit'\nios\nsystem\n.",  # INST
        b"\x8c\x01a)R.",  # a call of text
        b"})R.",  # a call of a dict
        b"\x82\x01.",  # EXT1
        b"}}b\x8c\x01a)\x81.",  # NEWOBJ of text
        b"P1\n.",  # PERSID
        b"R.", b"u.", b"t.", b"\x85.", b".", b"", b"}", b"h\x07.", b"}(\x8c\x01au.", b"]]s.", b"(}.", b"q\x01.",
        b"}}NsN.", b"}]Ns.", b"}(NNNu.", b"X\xff\xff\xff\xff", b"\x8e" + b"\xff" * 8, b"N)\x93.", b"NQ.", b"\x94.",
    ],
)  # fmt: skip
def test_malformed_pickles_are_one_error(tmp_path, opcodes):
    with pytest.raises(BadInputError, match="a.pth"):
        read(tmp_path, archive_bytes(b"\x80\x02" + opcodes, {}))


def doubled(steps):
    """A tuple of 2^steps leaves in steps objects."""
    value = (1,)
    for _ in range(steps):
        value = (value, value)
    return value


@pytest.mark.parametrize("place", ["value", "key", "size", "reference", "count", "metadata", "callable", "dtype"])
def test_exponential_structures_take_no_time(tmp_path, place):
    big = doubled(100)
    value = {
        "value": {"a": big},
        "size": {"a": tensor(FLOATS, 0, big, big)},
        "reference": {"a": tensor(Reference("torch FloatStorage", big, 8), 0, (8,), (1,))},
        "count": {"a": tensor(Reference("torch FloatStorage", "0", big), 0, (8,), (1,))},
        "metadata": {"a": tensor(FLOATS, 0, (8,), (1,), "torch._utils _rebuild_tensor_v2", {"neg": big})},
        "dtype": {"a": tensor(FLOATS, 0, (8,), (1,), "torch._utils _rebuild_tensor_v3", big)},
    }.get(place)
    data = pickled(value if value else big)[:-1]
    data = {"key": b"\x80\x02}" + data[2:] + b"Ns.", "callable": data + b")R."}.get(place, data + b".")
    start = time.monotonic()
    if place == "value":
        assert "a" in read(tmp_path, archive_bytes(data, {"0": EIGHT.tobytes()}))
    else:
        with pytest.raises(BadInputError):
            read(tmp_path, archive_bytes(data, {"0": EIGHT.tobytes()}))
    assert time.monotonic() - start < 5


def test_deep_nesting_does_not_recurse(tmp_path):
    got = read(tmp_path, archive_bytes(b"\x80\x02}\x8c\x01a" + b")" + b"\x85" * 300_000 + b"s.", {}))
    assert len(got["a"]) == 1


def test_endless_pickles_are_refused(tmp_path):
    with pytest.raises(BadInputError, match="opcodes"):
        read(tmp_path, archive_bytes(b"\x80\x02" + b"N" * 1_000_001 + b".", {}))
    with pytest.raises(BadInputError, match="too large"):
        read(tmp_path, archive_bytes(b"N" * 16_000_001, {}))


@pytest.mark.parametrize(
    "arguments",
    [
        (0, (9,), (1,)), (1, (8,), (1,)), (0, (2, 2), (7, 1)), (8, (), ()), (-1, (2,), (1,)), (0, (-1,), (1,)),
        (0, (2,), (-1,)), (0, (2,), (1, 1)), (0, (2.0,), (1,)), (0, (True,), (1,)), (0, 2, 1), (0, (2**61,), (0,)),
        (0, (2**40, 2**40), (0, 0)), (0, (1,) * 33, (1,) * 33), (0, (0, 2**59, 2**59), (1, 1, 1)), (2**64, (1,), (1,)),
    ],
)  # fmt: skip
def test_tensors_outside_of_their_storage_are_refused(tmp_path, arguments):
    with pytest.raises(BadInputError, match="a.pth"):
        read_value(tmp_path, {"a": tensor(FLOATS, *arguments)})


@pytest.mark.parametrize(
    "reference",
    [
        Reference("torch FloatStorage", "1", 8),
        Reference("torch FloatStorage", "0", 9),
        Reference("torch DoubleStorage", "0", 8),
        Reference("torch FloatStorage", "../data.pkl", 8),
        Reference("torch FloatStorage", 0, 8),
        Reference("torch FloatStorage", "0", -8),
        Reference("torch FloatStorage", "0", 8, marker="module"),
        Reference("torch float32", "0", 8.0),
        Reference("torch._utils _rebuild_parameter", "0", 8),
        Reference(None, "0", 8),
    ],
)
def test_bad_references_to_storages_are_refused(tmp_path, reference):
    with pytest.raises(BadInputError, match="a.pth"):
        read_value(tmp_path, {"a": tensor(reference, 0, (8,), (1,))})


def test_storages_without_a_numpy_type_are_named(tmp_path):
    with pytest.raises(BadInputError, match=r"torch\.ComplexFloatStorage"):
        read_value(tmp_path, {"a": tensor(Reference("torch ComplexFloatStorage", "0", 8), 0, (8,), (1,))})


def test_tensors_may_not_multiply_the_file(tmp_path):
    with pytest.raises(BadInputError, match="times the size of the file"):
        read_value(tmp_path, {"a": tensor(FLOATS, 0, (2**30, 2**20), (0, 0))})
    many = {str(i): tensor(FLOATS, 0, (8, 2**10), (1, 0)) for i in range(100)}
    with pytest.raises(BadInputError, match="times the size of the file"):
        read_value(tmp_path, many)


def test_compressed_members_are_refused_before_they_are_unpacked(tmp_path):
    value = pickled({"a": tensor(Reference("torch ByteStorage", "0", 2**26), 0, (2**26,), (1,))})
    data = archive_bytes(value, {"0": bytes(2**26)}, compression=zipfile.ZIP_DEFLATED)
    assert len(data) < 2**17
    with pytest.raises(BadInputError, match="got compressed"):
        read(tmp_path, data)


def test_members_may_not_overlap(tmp_path):
    data = archive_bytes(pickled({}), {"0": bytes(10_000)})
    start = data.index(b"PK\x01\x02")
    end = data.index(b"PK\x05\x06")
    directory = data[start:end]
    last = directory[directory.rindex(b"PK\x01\x02") :]
    copies = b"".join(last.replace(b"data/0", f"data/{i}".encode()) for i in range(1, 10))
    size = len(directory + copies)
    count = directory.count(b"PK\x01\x02") + 9
    tail = data[end : end + 8] + count.to_bytes(2, "little") * 2 + size.to_bytes(4, "little") + data[end + 16 :]
    with pytest.raises(BadInputError, match="members of the archive"):
        read(tmp_path, data[:end] + copies + tail)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_archives_that_are_not_torchs_are_refused(tmp_path):
    with pytest.raises(BadInputError, match="one data.pkl"):
        read(tmp_path, archive_bytes(b"", {}, prefix="a/b"))
    with pytest.raises(BadInputError, match="expected once, got twice"):
        path = tmp_path / "a.pth"
        path.write_bytes(archive_bytes(pickled({}), {}))
        with zipfile.ZipFile(path, "a") as archive:
            archive.writestr("archive/version", b"4")
        torchfile.read(path)
    with pytest.raises(UnsupportedError, match="TorchScript"):
        read_value(tmp_path, {}, **{"constants.pkl": b""})
    with pytest.raises(BadInputError, match="a dict of tensors, got list"):
        read_value(tmp_path, [1])


def test_old_files_are_recognised(tmp_path):
    legacy = pickle.dumps(0x1950A86A20F9469CFC6C, 2) + pickle.dumps(1001, 2)
    for data in (legacy, b"sys\0".ljust(257, b"\0") + b"ustar\0".ljust(255, b"\0")):
        with pytest.raises(UnsupportedError, match="torch before 1.6"):
            read(tmp_path, data)


def test_other_files_are_refused(tmp_path):
    for data in (b"", b"PK", b"\x80\x02}.", b"hello" * 100, b"PK\x05\x06" + bytes(18)):
        with pytest.raises(BadInputError, match="a.pth"):
            read(tmp_path, data)


def small_file():
    return saved_bytes({"a": np.arange(3, dtype=np.float32), "b": np.array([1], np.int8)})


def test_every_truncation_is_refused(tmp_path):
    data = small_file()
    for length in range(0, len(data)):
        with pytest.raises((BadInputError, UnsupportedError)):
            read(tmp_path, data[:length])


def test_every_flipped_byte_is_refused_or_harmless(tmp_path):
    data, refused = small_file(), 0
    expected = read(tmp_path, data)
    for position in range(len(data)):
        changed = bytearray(data)
        changed[position] ^= 1 << position % 8
        try:
            got = read(tmp_path, bytes(changed))
        except (BadInputError, UnsupportedError):
            refused += 1
            continue
        assert {k: (v.dtype, v.tolist()) for k, v in got.items()} == {
            k: (v.dtype, v.tolist()) for k, v in expected.items()
        }, position
    assert refused > len(data) // 3  # the rest are times, modes and versions


def test_dict_of_the_same_key_twice_keeps_the_last(tmp_path):
    got = read(tmp_path, archive_bytes(b"\x80\x02}(\x8c\x01aK\x01\x8c\x01aK\x02u.", {}))
    assert got == {"a": 2}


def test_ordered_dicts_keep_their_order(tmp_path):
    value = collections.OrderedDict((name, i) for i, name in enumerate("zyxabc"))
    assert list(read_value(tmp_path, value)) == list("zyxabc")
