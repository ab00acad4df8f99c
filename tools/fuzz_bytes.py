"""Mutations of files that know what the bytes mean: numbers, zip members, pickle opcodes, JSON values, PNG chunks.

Each takes (rng, data) and returns other bytes; the same rng gives the same bytes. What relies on a structure raises
whatever it likes where an earlier mutation has broken that: ``attempt`` takes a plain one then.
"""

import io
import json
import pickletools
import struct
import warnings
import zipfile
import zlib

from tests.mutations import ODD, Pairs, text_of

NUMBERS = (0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x10000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 2**40, 2**62, 2**63, 2**64 - 1)
HEADS = (b"PK\x03\x04", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0", b"GIF89a", b"RIFF\x10\0\0\0WEBP", b"P6 9999 9999 255\n", b"\x93NUMPY\1\0",
         b"\x80\2}", b"<!doctype html>", b"version https://git-lfs", b"{", b"II*\0", b"\x1f\x8b\x08")  # fmt: skip
OPCODES = [opcode.code.encode("latin-1") for opcode in pickletools.opcodes]
ARGUMENTS = (b"", b"\0", b"\1", b"\xff\xff\xff\xff", b"\xff\xff\xff\x7f", b"\0" * 8, b"\xff" * 8, b"torch\nFloatStorage\n", b"os\nsystem\n",
             b"argparse\nNamespace\n", b"99999999999999999999\n", b"I01\n", b"1e400\n")  # fmt: skip


def flip(rng, data):
    """One to eight bits."""
    out = bytearray(data)
    for _ in range(rng.randint(1, 8) if data else 0):
        out[rng.randrange(len(out))] ^= 1 << rng.randrange(8)
    return bytes(out)


def flip_head(rng, data):
    """A byte near the beginning is any."""
    at = rng.randrange(min(len(data), 64) or 1)
    return data[:at] + rng.randbytes(1) + data[at + 1 :]


def number(rng, data):
    """An integer of 1 to 8 bytes is an extreme one."""
    size, order = rng.choice([1, 2, 4, 8]), rng.choice(["little", "big"])
    at = rng.randrange(max(len(data) - size, 0) + 1)
    return data[:at] + (rng.choice(NUMBERS) % 256**size).to_bytes(size, order) + data[at + size :]


def truncate(rng, data):
    return data[: rng.randrange(len(data) + 1)]


def piece(rng, data):
    """A piece is left out, repeated or moved."""
    begin, to = rng.randrange(len(data) + 1), rng.randrange(len(data) + 1)
    end = begin + rng.choice([1, 2, 4, 8, 30, 46, 256])
    return rng.choice([data[:begin] + data[end:], data[:to] + data[begin:end] + data[to:], data[:end] + data[begin:end] * 50 + data[end:]])


def polyglot(rng, data):
    """Another format's first bytes before, in place of the first, or after; or zeros."""
    head = rng.choice(HEADS)
    return rng.choice([head + data, head + data[len(head) :], data + head, data + bytes(rng.choice([1, 7, 512, 70_000])), data + data])


PLAIN = (flip, flip_head, number, truncate, piece, polyglot)


def plain(rng, data):
    return rng.choice(PLAIN)(rng, data)


def attempt(mutation, rng, *arguments):
    """The mutation of arguments, the first of which are the bytes; a plain one where it cannot be."""
    try:
        return mutation(rng, *arguments)
    except Exception:
        return plain(rng, arguments[0])


def zip_member(rng, data, change):
    """A zip archive written anew: one member changed, compressed, renamed, there twice, left out, or a bomb."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = [(name, archive.read(name)) for name in archive.namelist()]
    i = rng.randrange(len(members) or 1)
    name, content = members[i] if members else ("a", b"")
    kind = rng.choice(["content", "content", "content", "name", "twice", "drop", "bomb", "nested", "deflated"])
    if kind == "content":
        content = change(rng, content)
    elif kind == "name":
        name = rng.choice(["../" + name, "/" + name, name + "/", name.upper(), "", "\u00e9", name + "\0x", "constants.pkl", "a/b/data.pkl"])
    elif kind == "bomb":
        content = bytes(rng.choice([10**6, 2 * 10**7]))
    elif kind == "nested":
        content = data
    members[i : i + 1] = {"twice": [(name, content)] * 2, "drop": []}.get(kind, [(name, content)])
    compression = zipfile.ZIP_DEFLATED if kind in ("bomb", "deflated") or rng.random() < 0.1 else zipfile.ZIP_STORED
    out = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(out, "w", compression) as archive:
        warnings.simplefilter("ignore")  # of names that are there twice
        for name, content in members:
            archive.writestr(zipfile.ZipInfo(name), content, compression)
    return out.getvalue()


def zip_field(rng, data):
    """A field of a local header, the directory or its end is an extreme number: sizes, CRC, offsets, method."""
    starts = [i for magic in (b"PK\3\4", b"PK\1\2", b"PK\5\6") for i in places(data, magic)]
    at, size = rng.choice(starts) + rng.randrange(4, 46), rng.choice([2, 4])
    return data[:at] + (rng.choice(NUMBERS) % 256**size).to_bytes(size, "little") + data[at + size :]


def places(data, text):
    """Where it occurs, up to a thousand times."""
    found, at = [], data.find(text)
    while at >= 0 and len(found) < 1000:
        found.append(at)
        at = data.find(text, at + 1)
    return found


def pickle(rng, data):
    """An opcode left out, repeated, moved or replaced by any with any argument."""
    starts = [position for _, _, position in pickletools.genops(data)] + [len(data)]
    i = rng.randrange(len(starts) - 1)
    begin, end, to = starts[i], starts[i + 1], rng.choice(starts)
    other = rng.choice(OPCODES) + rng.choice(ARGUMENTS)
    kind = rng.randrange(6)
    if kind == 0:
        return data[:begin] + data[end:]
    if kind == 1:
        return data[:to] + data[begin:end] + data[to:]
    if kind == 2:
        return data[:begin] + data[begin:end] * rng.choice([2, 300]) + data[end:]
    if kind == 3:
        return data[:begin] + other + data[end:]
    if kind == 4:
        return data[:begin] + other + data[begin:]
    return data[:begin] + number(rng, data[begin:end]) + data[end:]


def json_value(rng, data):
    """A value anywhere in a document is another, a member is left out or there twice."""
    return text_of(changed(rng, json.loads(data)), rng.choice(["", " "])).encode("utf-8", "surrogatepass")


def changed(rng, value):
    """The same with one change at any depth."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    members = [*inner]
    if not members or rng.random() < 0.05:
        return rng.choice(ODD)
    key, old = rng.choice(members)
    if rng.random() < 0.1:
        members.append(rng.choice(members))
    elif rng.random() < 0.1:
        members.remove((key, old))
    else:
        members = [(k, changed(rng, v) if k == key else v) for k, v in members]
    return Pairs(members) if isinstance(value, dict) else [v for _, v in members]


def png_chunk(rng, data):
    """A chunk of a PNG changed, left out or repeated; the checksums are right again."""
    chunks, at = [], 8
    while at + 8 <= len(data):
        length = struct.unpack(">I", data[at : at + 4])[0]
        chunks.append((data[at + 4 : at + 8], data[at + 8 : at + 8 + length]))
        at += 12 + length
    i = rng.randrange(len(chunks) or 1)
    if chunks:
        kind, content = chunks[i]
        content = rng.choice([flip, number, piece, truncate])(rng, content)
        kind = rng.choice([kind, kind, b"PLTE", b"tRNS", b"acTL", b"fdAT", b"iCCP", b"zTXt", b"eXIf"])
        chunks[i : i + 1] = rng.choice([[(kind, content)], [(kind, content)], [], [chunks[i]] * 3])
    return data[:8] + b"".join(struct.pack(">I", len(c)) + k + c + struct.pack(">I", zlib.crc32(k + c)) for k, c in chunks)


def digits(rng, data):
    """A decimal number near the beginning (of PPM, of .npy) is another."""
    spans = [i for i in range(min(len(data), 200)) if data[i : i + 1].isdigit()]
    at = rng.choice(spans)
    return data[:at] + str(rng.choice([*NUMBERS, -1, 10**19, "1e9"])).encode() + data[at + rng.randrange(2) :]
