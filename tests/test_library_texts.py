"""Numbers, UTF-8 and escapes of a packed file's JSON are read by the loader in C as by Python."""

import hashlib
import json
from fractions import Fraction

import numpy as np
import pytest

from refvit.backend import ffi, lib
from tests.clibrary import CModel, memory_size
from tests.mutations import Raw, file_of, parts_of, resealed, text_of
from tests.test_library_limits import EIGHT, STATIC, accepts, integers_only, objections, with_entry
from tests.test_library_loader import agree, tiny  # noqa: F401

pytestmark = pytest.mark.skipif(lib is None, reason="needs the C kernels")


@pytest.mark.parametrize("after", "le.1")
def test_texts_end_where_they_end(tiny, tmp_path, after):  # noqa: F811
    """Decoded ones lie in the caller's memory, and whatever was there before comes after them."""
    data = tiny[EIGHT]
    for entry, text, accepted in (("labels", '"nu\\u006c"', False), ("spec_version", '"\\u0031"', True)):
        header, buffer = parts_of(data)
        header["__metadata__"][entry] = Raw(text)
        changed = resealed(file_of(header, buffer), tmp_path / "m")
        memory = np.full(memory_size(data) + 4096, ord(after), np.uint8)
        assert (CModel(changed, memory).text == "") == accepted == agree(changed, tmp_path / "m")


DIGITS = "1234567890123456789012345678901234567890"
TEXTS = ("0", "-0", "0.5", "-0.5", "5e-1", "50e-2", "0.05e1", "0.0005E+3", "0.5e0", "0.5e-0", "0.5E00", "500000000000e-12", "0." + "0" * 900 + "5e900",
         "5" + "0" * 900 + "e-901", "0.1", "0.3", "16777217", "16777219", "1." + DIGITS, DIGITS + "e-39", "-" + DIGITS + ".5e-37", "1e38", "1e-38",
         "10e-46", "123e10", "1e0000000010", "1e-0000000010", "3.402823e38", "1.00000005960464477539062500000000000000000001")  # fmt: skip


@pytest.mark.parametrize("text", TEXTS)
def test_decimal_texts_are_read_as_by_python(tiny, tmp_path, text):  # noqa: F811
    start = json.loads(parts_of(tiny[EIGHT])[0]["__metadata__"]["preprocess"])
    data = resealed(with_entry(tiny[EIGHT], preprocess=text_of(start | {"mean": [Raw(text), 0, 0], "std": [1, 1, 1]})), tmp_path / "m")
    assert CModel(data).info.mean[0] == np.float32(float(text))


HALF = Fraction(1, 2**1075)  # of the smallest double: a tie, which goes to zero
HALF_TEXT = "0." + str(HALF.numerator * 10**1075 // HALF.denominator).rjust(1075, "0")
LARGEST = 2**1024 - 2**970  # half-way from the largest double to the next power of two: a tie, which goes to infinity


@pytest.mark.parametrize("field, text, accepted", [
    ("ste_clip", HALF_TEXT, False),
    ("ste_clip", HALF_TEXT + "0" * 2000, False),
    ("ste_clip", HALF_TEXT + "0" * 2000 + "1", True),
    ("ste_clip", HALF_TEXT[:-1] + "6", True),
    ("ste_clip", HALF_TEXT[:-1] + "4", False),
    ("ste_clip", HALF_TEXT.replace("0." + "0" * 323, "0.") + "e-323", False),
    ("ste_clip", HALF_TEXT.replace("0." + "0" * 323, "0.") + "0" * 900 + "1e-323", True),
    ("threshold", str(LARGEST), False),
    ("threshold", str(LARGEST - 1) + ".9", True),
    ("threshold", str(LARGEST - 1) + "9" * 900 + "e-900", True),
    ("threshold", "1" + "0" * 5000 + "e-5000", True),
    ("threshold", "1e1" + "0" * 30, False),
    ("ste_clip", "1e-1" + "0" * 30, False),
    ("threshold", "0e1" + "0" * 30, True),
])  # fmt: skip
def test_numbers_of_any_length_are_rounded_once(tiny, field, text, accepted):  # noqa: F811
    quant = json.loads(parts_of(tiny[STATIC])[0]["__metadata__"]["quant"])
    changed = text_of(quant | {field: Raw(text)})
    assert accepts(integers_only, changed) == accepted
    assert objections(with_entry(tiny[STATIC], quant=changed), "quant") != accepted


def with_label(data, raw):
    """The first label is other bytes, as they are; the hash of the content is right."""
    length = int.from_bytes(data[:8], "little")
    header = data[8 : 8 + length].replace(b'[\\"a\\"', b'[\\"' + raw + b'\\"').rstrip()
    meta = json.loads(header.decode("latin-1"))["__metadata__"]
    digest = hashlib.sha256()
    for key in sorted(set(meta) - {"sha256"}):
        digest.update(f"{key}\0{meta[key]}\0".encode("latin-1"))
    digest.update(data[8 + length :])
    header = header.replace(meta["sha256"].encode(), digest.hexdigest().encode())
    return len(header).to_bytes(8, "little") + header + data[8 + length :]


GOOD_UTF8 = ("41 7f", "c2 80", "df bf", "e0 a0 80", "ed 9f bf", "ee 80 80", "ef bf bf", "f0 90 80 80", "f4 8f bf bf")
BAD_UTF8 = ("80", "bf", "c0 80", "c1 bf", "c2", "c2 41", "c2 c2 80", "e0 80 80", "e0 9f bf", "e1 80", "e1 80 41", "e1 41 80", "ed a0 80", "ed bf bf",
            "f0 80 80 80", "f0 8f bf bf", "f1 80 80", "f1 80 80 41", "f1 41 80 80", "f4 90 80 80", "f5 80 80 80", "f8 88 80 80 80", "fc 84 80 80 80 80", "80 80 80 80 80 80", "a5 80", "f8 90 80 80", "fe", "ff")  # fmt: skip


@pytest.mark.parametrize("text", [*GOOD_UTF8, *BAD_UTF8])
def test_bytes_that_are_not_utf8_are_refused(tiny, tmp_path, text):  # noqa: F811
    data = with_label(tiny[EIGHT], bytes.fromhex(text))
    assert agree(data, tmp_path / "m") == (text in GOOD_UTF8)
    assert ("UTF-8" in CModel(data).text) == (text in BAD_UTF8)


def test_a_character_does_not_go_on_after_the_header():
    for head, rest in ((b'{"\xc3', b'\xa9": 1}'), (b'{"\xe1\x80', b"\x80")):
        assert "UTF-8" in CModel(len(head).to_bytes(8, "little") + head + rest).text


ESCAPES = {  # as they stand in JSON; None: refused
    r"\ud800\udc00": "\U00010000", r"\uDBFF\uDFFF": "\U0010ffff", r"\ud7ff\ue000": "\ud7ff\ue000", r"\uffff\u0000": "\uffff\0", r"\u00e9x": "\u00e9x",
    r"\u07ff\u0800\u007f\u0080": "\u07ff\u0800\x7f\x80", r"\"\\\/\b\f\n\r\t": '"\\/\b\f\n\r\t', r"\uabcdE\uABCDe\u0019": "\uabcdE\uabcde\x19",
    r"\udc00\udc00": None, r"\udfff": None, r"\ud800": None, r"\ud800\ud800": None, r"\ud800\ue000": None, r"\ud800x\udc00": None,
    r"\ud800\n\udc00": None, r"\ud800\udbff": None, r"\ud800\udc0": None, r"\u12": None, r"\u00eg": None, r"\u 123": None, r"\x41": None, r"\U0041": None,
    "\x1f": None, "\t": None, r"\u00:0": None, r"\u00/0": None, r"\u00@a": None, r"\u00`a": None, r"\u00Ga": None,
}  # fmt: skip


@pytest.mark.parametrize("escape", ESCAPES)
def test_escapes_are_those_of_python(tiny, tmp_path, escape):  # noqa: F811
    labels = f'["{escape}", "b", "c{escape}"]'
    data = resealed(with_entry(tiny[EIGHT], labels=labels), tmp_path / "m")
    model = CModel(data)
    assert objections(data, "labels") == (ESCAPES[escape] is None) != agree(data, tmp_path / "m")
    if ESCAPES[escape] is not None:
        plain = ESCAPES[escape].encode().split(b"\0")[0]
        assert [ffi.string(lib.refvit_label(model.handle, i)) for i in range(3)] == [plain, b"b", b"c" + plain]
