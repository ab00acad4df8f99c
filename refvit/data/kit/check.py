"""Holds the outputs of a port against a kit of test vectors. KIT.md of refvit says what the kit's files mean.

    python check.py KIT OUTPUTS [--only PREFIX]...

OUTPUTS holds ID/NAME.bin, raw, little-endian. --only keeps the cases whose ids begin so. Exit code 0: all these are
right; 1: one is wrong or missing; 2: wrong arguments; 3: the kit is damaged. Python 3.8 or later, no packages.
"""

import hashlib
import json
import os
import re
import struct
import sys
from collections import Counter

RIGHT, WRONG, MISSING, LEFT_OUT = "right", "wrong", "missing", "left out"
USAGE, BAD_KIT = 2, 3
DTYPES = {"uint8": "B", "int8": "b", "int32": "i", "uint64": "Q", "float32": "f"}
EXPECTATIONS = {"exact": False, "reject": False, "bound": True, "near-tie": True}  # whether outputs have bounds
PATH = re.compile(r"[a-z0-9_-][a-z0-9_.-]*(/[a-z0-9_-][a-z0-9_.-]*)*")  # stays inside its folder
TEXT_MAX, AXES_MAX, BYTES_MAX, MANIFEST_MAX, DIGITS_MAX = 200, 8, 2**30, 2**26, 15


class BadKit(Exception):
    """What is wrong with the kit."""


def need(holds, where, what):
    if not holds:
        raise BadKit(f"{where}: {what}")


def main(arguments):
    if len(arguments) < 2 or len(arguments) % 2 or any(a != "--only" for a in arguments[2::2]):
        print("check: usage: check.py KIT OUTPUTS [--only PREFIX]...", file=sys.stderr)
        return USAGE
    kit, outputs, prefixes = arguments[0], arguments[1], tuple(arguments[3::2])
    try:
        return check(kit, outputs, prefixes)
    except BadKit as error:
        print(f"check: {error}".encode("ascii", "backslashreplace").decode(), file=sys.stderr)
        return BAD_KIT


def check(kit, outputs, prefixes):
    """-> exit code"""
    counts, told = Counter(), set()
    for case in read_manifest(kit)["cases"]:
        chosen = not prefixes or case["id"].startswith(prefixes)
        counts[check_case(kit, outputs, case, told) if chosen else LEFT_OUT] += 1
    left_out = f"; NOT CHECKED: {counts[LEFT_OUT]} left out by --only" if counts[LEFT_OUT] else ""
    print(f"cases: {counts[RIGHT]} right, {counts[WRONG]} wrong, {counts[MISSING]} missing{left_out}")
    if not sum(counts.values()) - counts[LEFT_OUT]:
        print("check: --only: no case's id begins so", file=sys.stderr)
        return USAGE
    return int(counts[WRONG] + counts[MISSING] > 0)


# The manifest


def read_manifest(kit):
    """The manifest, once all of it is as it must be."""
    data = read(os.path.join(kit, "manifest.json"), MANIFEST_MAX)
    need(data is not None and len(data) <= MANIFEST_MAX, kit, "no manifest.json that can be read")
    try:
        found = json.loads(data.decode("ascii"), object_pairs_hook=unique, parse_int=integer, parse_float=no_number,
                           parse_constant=no_number)  # fmt: skip
    except (ValueError, RecursionError) as error:
        raise BadKit(f"manifest.json: {error}") from None
    need(isinstance(found, dict), "manifest.json", "not an object")
    need(found.get("format") == "refvit-kit", "manifest.json", "format is not refvit-kit")
    for key in ("kit_version", "spec_version"):
        need(type(found.get(key)) is int and found[key] == 1, "manifest.json", key + " is not 1")
    titles = [found.get(key) for key in ("rules", "flags")]
    need(all(isinstance(t, dict) for t in titles), "manifest.json", "rules or flags are not an object")
    need(isinstance(found.get("cases"), list) and found["cases"], "manifest.json", "no cases")
    for i, case in enumerate(found["cases"]):
        check_entry(f"case {i}", case, *titles)
    distinct("cases", [case["id"] for case in found["cases"]])
    return found


def unique(pairs):
    need(len({key for key, _ in pairs}) == len(pairs), "manifest.json", "a key is there twice")
    return dict(pairs)


def integer(digits):
    if len(digits) > DIGITS_MAX:
        raise ValueError(f"a number of {len(digits)} digits")
    return int(digits)


def no_number(text):
    raise ValueError(f"{text:.40} is not an integer")


def distinct(where, names):
    twice = [name for name, count in Counter(names).items() if count > 1]
    need(not twice, where, f"{twice[:1]} is there twice")


def check_entry(where, case, rules, flags):
    """All of a case but its files."""
    need(isinstance(case, dict), where, "not an object")
    for key in ("id", "operation", "comment", "expectation"):
        need(isinstance(case.get(key), str), where, key + " is not a text")
    need(is_path(case["id"]) and case["id"].startswith(case["operation"] + "/"), where, "id is not OPERATION/LABEL")
    where = case["id"]
    need(case["expectation"] in EXPECTATIONS, where, "expectation is unknown")
    need(isinstance(case.get("parameters"), dict), where, "parameters are not an object")
    for value in case["parameters"].values():
        values_ = value if isinstance(value, list) else [value]
        need(all(type(v) in (int, str) for v in values_), where, "parameters are not integers and texts")
    for key, titles in (("rules", rules), ("flags", flags)):
        names = case.get(key)
        need(isinstance(names, list) and all(isinstance(n, str) and n in titles for n in names), where, key)
    for key in ("inputs", "outputs"):
        need(isinstance(case.get(key), list), where, key + " are not a list")
        for tensor in case[key]:
            check_tensor(where, tensor, key == "outputs" and EXPECTATIONS[case["expectation"]])
        distinct(where, [tensor["name"] for tensor in case[key]])
    need(case["outputs"], where, "no outputs")


def check_tensor(where, tensor, bounded):
    need(isinstance(tensor, dict), where, "a tensor is not an object")
    name, dtype, shape = (tensor.get(key) for key in ("name", "dtype", "shape"))
    need(is_path(name) and "/" not in name, where, "a tensor's name is not one")
    where = f"{where}: {name}"
    need(isinstance(dtype, str) and dtype in DTYPES and not (bounded and dtype == "uint64"), where, "dtype")
    need(isinstance(shape, list) and 1 <= len(shape) <= AXES_MAX, where, "shape is not a list of 1 to 8 sizes")
    room = BYTES_MAX // struct.calcsize("<" + DTYPES[dtype])
    for n in shape:
        need(type(n) is int and 0 <= n <= room, where, "shape has a wrong size, or the tensor is too large")
        room //= max(n, 1)
    for entry in (tensor, tensor.get("low"), tensor.get("high")) if bounded else (tensor,):
        need(isinstance(entry, dict) and is_path(entry.get("file")), where, "a file is not a path inside the kit")
        need(isinstance(entry.get("sha256"), str), where, "a sha256 is not a text")


def is_path(text):
    return isinstance(text, str) and len(text) <= TEXT_MAX and PATH.fullmatch(text) is not None


# A case


def check_case(kit, outputs, case, told):
    """-> its state; the first output that is wrong, and the first that is missing, are told."""
    state, bounded, news = RIGHT, EXPECTATIONS[case["expectation"]], WRONG not in told
    for tensor in case["inputs"]:
        load(kit, tensor, tensor)
    for tensor in case["outputs"]:
        path = f"{case['id']}/{tensor['name']}.bin"
        expected, low, high = load(kit, tensor, tensor), None, None
        if bounded:
            low, high = load(kit, tensor, tensor["low"]), load(kit, tensor, tensor["high"])
        check_expected(path, tensor, expected, low, high)
        one, what = judge(tensor, expected, low, high, read(os.path.join(outputs, *path.split("/")), len(expected)))
        if one != RIGHT and one not in told:
            print(f"first {one}: {case['id']}, output {tensor['name']}{what}")
            told.add(one)
        state = one if state != WRONG and one != RIGHT else state
    if news and WRONG in told:
        keys = ("comment", "rules") + (("flags",) if case["operation"] != "model" else ())  # a model has most of them
        print("  " + ", ".join(json.dumps(case[key], separators=(",", ":")) for key in keys))
    return state


def check_expected(path, tensor, expected, low, high):
    """The kit's own values have no NaN and lie within their bounds."""
    nan = any(v != v for v in values(tensor, expected))
    need(not nan and not wrong_values(tensor, expected, low, high, expected), path,
         "is a NaN or outside its bounds in the kit itself")  # fmt: skip


def load(kit, tensor, entry):
    """The bytes of a file of the kit."""
    size = struct.calcsize("<" + DTYPES[tensor["dtype"]])
    for n in tensor["shape"]:
        size *= n
    data = read(os.path.join(kit, *entry["file"].split("/")), size)
    need(data is not None and len(data) == size, entry["file"],
         "cannot be read, or has another size than its shape says")  # fmt: skip
    need(hashlib.sha256(data).hexdigest() == entry["sha256"], entry["file"], "has another SHA-256")
    return data


def read(path, limit):
    """Up to limit + 1 bytes of a file, or None."""
    try:
        if not os.path.isfile(path):
            return None
        with open(path, "rb") as file:
            return file.read(limit + 1)
    except OSError:
        return None


def judge(tensor, expected, low, high, got):
    """-> state, what to tell"""
    if got is None:
        return MISSING, ""
    if len(got) != len(expected):
        return WRONG, ": a file of another length"
    wrong = wrong_values(tensor, expected, low, high, got)
    if not wrong:
        return RIGHT, ""
    files = [expected, got] if low is None else [expected, low, high, got]
    texts = [show(values(tensor, data)[wrong[0]]) for data in files]
    bounds = "" if low is None else f", between {texts[1]} and {texts[2]}"
    index, total = place(tensor["shape"], wrong[0]), len(values(tensor, got))
    what = f"expected {texts[0]}{bounds}, got {texts[-1]}; {len(wrong)} of {total} values are wrong"
    return WRONG, f", index {index}: {what}"


def wrong_values(tensor, expected, low, high, got):
    """Which values are not right: not the same bits, or not within the bounds.  -> list of indices"""
    if low is not None:
        rows = zip(*(values(tensor, data) for data in (low, got, high)))
        return [i for i, (a, v, b) in enumerate(rows) if not a <= v <= b]
    size = struct.calcsize("<" + DTYPES[tensor["dtype"]])
    return [i // size for i in range(0, len(got), size) if got[i : i + size] != expected[i : i + size]]


def values(tensor, data):
    code = DTYPES[tensor["dtype"]]
    return struct.unpack(f"<{len(data) // struct.calcsize('<' + code)}{code}", data)


def show(value):
    if isinstance(value, int):
        return str(value)
    exact = re.sub(r"\.?0+p", "p", value.hex())
    return f"{exact} ({value:.9g})"


def place(shape, i):
    """The index of the i-th value."""
    index = []
    for n in reversed(shape):
        index.insert(0, i % n)
        i //= n
    return index


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
