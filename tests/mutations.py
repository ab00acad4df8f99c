"""Packed files that are broken in one place or another: what a loader must judge as the other one does."""

import json

from refvit import safetensors
from refvit.errors import RefvitError
from refvit.modelfile import content_sha256


class Raw(str):
    """Text that stands in a JSON document as it is."""


# values for any place; the first ones are not JSON
ODD = [Raw(text) for text in (
    "NaN", "Infinity", "-Infinity", "01", "+1", "1.", ".5", "1e", "-", "0x10", "'a'", "[1,]", "", "nul", '"\\x41"', '"\\ud800"',
    '"\\udc00\\ud800"', '"\t"', '"a', "-0", "-0.0", "1e400", "-1e400", "1e-400", "1E+2", "0", "1", "2", "8", "-1", "16", "16.0", "1e0",
    "4.000000000000000000000000000000000000000000000001", "0.1", "9" * 19, "9" * 20, "-" + "9" * 18, "-" + "9" * 19, "true",
    "false", "null", '""', '"token"', '"im\\u0061ge"', '"static"', '"minmax"', '"float"', '"optimal"', '"imagenet1k"', '"\\u0000"',
    '"\\ud83d\\ude00"', "[]", "[1]", "[1, 1]", "[0.5, 0.5, 0.5]", "[0.5, 0.5, 1e-45]", "[0.5, 0.5, 1e-60]", "[1, 2, 3, 4]", "{}",
    '{"a": 1}', '["a", "b", "c", "d", "e"]', '["a", "b", "c", "d", "\\ud800"]', "[" * 40 + "]" * 40, "3.4e38", "3.5e38",
)]  # fmt: skip


def parts_of(data):
    """(header as a dict, buffer) of a file's bytes."""
    length = int.from_bytes(data[:8], "little")
    return json.loads(data[8 : 8 + length]), data[8 + length :]


def text_of(value, space=""):
    """JSON text; Raw stands as it is, pairs instead of a dict may repeat a key."""
    if isinstance(value, Raw):
        return str(value)
    if isinstance(value, dict):
        value = Pairs(value.items())
    if isinstance(value, Pairs):
        return "{" + f",{space}".join(f"{text_of(k)}:{space}{text_of(v, space)}" for k, v in value) + "}"
    if isinstance(value, list):
        return "[" + f",{space}".join(text_of(v, space) for v in value) + "]"
    return json.dumps(value)


class Pairs(list):
    """Members of an object."""


def file_of(header, buffer, space="", padding=None):
    text = text_of(header, space).encode("utf-8", "surrogatepass")
    text += b" " * (-len(text) % 8 if padding is None else padding)
    return len(text).to_bytes(8, "little") + text + buffer


def resealed(data, path):
    """The same with the hash of its content put right, where it can be read at all."""
    path.write_bytes(data)
    try:
        tensors, meta = safetensors.read(path, widen=False)
        return data.replace(meta["sha256"].encode(), content_sha256(tensors, meta).encode(), 1)
    except (RefvitError, KeyError, UnicodeError):
        return data


def metadata_mutation(rng, data):
    """One value, key or member of the metadata is another."""
    header, buffer = parts_of(data)
    meta = header["__metadata__"]
    entry = rng.choice(["config", "quant", "preprocess", "labels", "spec_version", "format", "more"])
    if entry in ("config", "quant", "preprocess") and rng.random() < 0.9:
        fields = Pairs(json.loads(meta[entry]).items())
        i, kind = rng.randrange(len(fields)), rng.random()
        if kind < 0.7:
            fields[i] = (fields[i][0], near_value(rng, fields[i][1]))
        elif kind < 0.8:
            del fields[i]
        elif kind < 0.9:
            fields.insert(rng.randrange(len(fields)), (rng.choice([fields[i][0], "more"]), fields[i][1]))
        else:
            key = fields[i][0]
            fields[i] = (Raw(f'"\\u{ord(key[0]):04x}{key[1:]}"'), fields[i][1])
        text = text_of(fields, rng.choice(["", " ", "\n\t"]))
        meta[entry] = rng.choice(["", " ", "\n"]) + text + rng.choice(["", "\r ", "x", ","] if rng.random() < 0.2 else [""])
    else:
        meta[entry] = rng.choice(ODD) if rng.random() < 0.3 else str(rng.choice(ODD))
    return file_of(header, buffer, rng.choice(["", " "]))


def near_value(rng, value):
    """Another value, often of the same kind."""
    kind = rng.random()
    if isinstance(value, (int, float)) and not isinstance(value, bool) and kind < 0.5:
        return rng.choice([value + 1, value - 1, value * 2, -value, value / 2, float(value), 2**17, 2**16, 8192, 8193, 65, 1e-7])
    if isinstance(value, list) and kind < 0.5:
        value = list(value)
        value[rng.randrange(len(value))] = rng.choice(ODD)
        return value
    if isinstance(value, bool) and kind < 0.5:
        return not value
    return rng.choice(ODD)


def tensor_mutation(rng, data):
    """The description of a tensor, or its bytes, are others."""
    header, buffer = parts_of(data)
    members = Pairs(header.items())
    i = rng.randrange(1, len(members))
    name, entry = members[i][0], dict(members[i][1])
    kind = rng.choice(["dtype", "shape", "offset", "name", "drop", "twice", "extra", "field", "escape", "bytes", "code", "value"])
    begin, end = entry["data_offsets"]
    if kind == "dtype":
        entry["dtype"] = rng.choice([*safetensors.DTYPES, "f32", "U32", Raw('"\\u00463\\u0032"'), 4])
    elif kind == "shape":
        shape = list(entry["shape"])
        choices = [shape[::-1], [1, *shape], [*shape, 1], shape[1:], [0, *shape], [2**62, *shape], [*shape[:-1], shape[-1] + 1]]
        choices += [[*shape[:-1], Raw(f"{shape[-1]}.0")], [*shape[:-1], Raw(f"0{shape[-1]}")], [True, *shape], shape * 12]
        entry["shape"] = rng.choice(choices)
    elif kind == "offset":
        entry["data_offsets"] = rng.choice([
            [begin, end + 4], [begin + 4, end], [end, begin], [begin, end, end], [begin], [Raw("-0") if begin == 0 else begin, end],
            [begin, 2**64 + end], [begin - 4, end - 4], [-4, end - begin - 4], [float(begin), end], [begin + 4, end + 4],
        ])  # fmt: skip
    elif kind == "name":
        name = rng.choice([name + "x", name[:-1], name.upper(), "\u00e9" + name, name + "\0", "__metadata__", "", Raw('"\\ud800"')])
    elif kind == "drop":
        del members[i]
        return file_of(members, buffer[:begin] + buffer[end:] if rng.random() < 0.5 else buffer)
    elif kind == "twice":
        members.insert(rng.randrange(1, len(members)), members[i])
    elif kind == "extra":
        members.append(("more", {"dtype": "U8", "shape": [8], "data_offsets": [len(buffer), len(buffer) + 8]}))
        buffer += bytes(8)
    elif kind == "field":
        field = rng.choice(list(entry))
        entry[rng.choice([field, "more"])] = entry.pop(field) if rng.random() < 0.5 else rng.choice(ODD)
    elif kind == "escape":
        name = Raw('"' + "".join(f"\\u{ord(c):04X}" if rng.random() < 0.3 else c for c in name) + '"')
    elif kind == "bytes":
        at = rng.randrange(begin, end)
        buffer = buffer[:at] + bytes([rng.choice([0, 1, 0x7F, 0x80, 0xF2, 0xF3, 0xFF])]) + buffer[at + 1 :]
    else:
        size = 4 if entry["dtype"] in ("F32", "I32") else 1
        odd = [b"\0\0\xc0\x7f", b"\0\0\x80\x7f", b"\0\0\x80\xff", b"\0\0\x80\0", b"\xff\xff\x7f\0", b"\0\0\0\x80", b"\x80\0\0\0", b"\xff" * 4]
        at = begin + rng.randrange((end - begin) // size) * size
        buffer = buffer[:at] + rng.choice(odd)[-size:] + buffer[at + size :]
    if kind != "twice":
        members[i] = (name, entry)
    return file_of(members, buffer, rng.choice(["", " "]))


def layout_mutation(rng, data):
    """The same tensors elsewhere: good files, as far as there is no hole; any padding of the header, odd ends of it."""
    header, buffer = parts_of(data)
    meta, members = header.pop("__metadata__"), Pairs(header.items())
    rng.shuffle(members)
    moved, out = Pairs(), b""
    for name, entry in members:
        begin, end = entry["data_offsets"]
        out += b"\0" * (rng.random() < 0.01)
        moved.append((name, {**entry, "data_offsets": [len(out), len(out) + end - begin]}))
        out += buffer[begin:end]
    moved.insert(rng.randrange(len(moved)), ("__metadata__", meta))
    text = text_of(moved, rng.choice(["", " ", "\n", "\r\t"])) + rng.choice(["", "", "", "\n", "x", "\t "])
    return file_of(Raw(rng.choice(["", "", "", " ", "\ufeff"]) + text), out, padding=rng.randrange(9))


def byte_mutation(rng, data):
    """One byte of the header is another, one more or one less."""
    length = int.from_bytes(data[:8], "little")
    at = rng.randrange(8, 8 + length)
    with_byte = rng.choice([bytes([data[at] ^ 1 << rng.randrange(8)]), rng.choice([b'"', b"\\", b",", b"{", b"0", b" ", b"\x7f", b"\xc3"]), b""])
    header = data[8:at] + with_byte + data[at + rng.randrange(2) : 8 + length]
    return len(header).to_bytes(8, "little") + header + data[8 + length :]


MUTATIONS = {f.__name__: f for f in (metadata_mutation, tensor_mutation, layout_mutation, byte_mutation)}
