"""The file of an evaluation: a header line, then one JSON line a picture, in order.

It is appended to as the run goes; a line that an interruption tore is cut off when the run continues. The header holds
what the results depend on, so that lines of different runs never mix. All lines are ASCII JSON:
    {"refvit_eval": 1, "model": {...}, "preprocess": {...}, "images": of all shards, "listing": sha256, "shard": [I, N]}
    {"path": below the folder, "target": class, "top5": [classes], "correct1": bool, "correct5": bool}
"""

import hashlib
import json
import os

from .errors import BadInputError
from .files import atomic_write, open_input

VERSION = 1
MAX_LINE = 1 << 16  # bytes; more is not such a file
NAMED = 4  # so many differences are named in an error


def make_header(model_id, preprocess, pictures, shard):
    """``pictures``: list of (path, class index) of all shards together; ``shard``: (I, N), I in 1..N."""
    return {
        "refvit_eval": VERSION,
        "model": model_id,
        "preprocess": preprocess.to_dict(),
        "images": len(pictures),
        "listing": listing_digest(pictures),
        "shard": list(shard),
    }


def make_record(path, target, top5):
    """One picture's line; ``top5``: the classes with the largest logits, best first."""
    top5 = [int(i) for i in top5]
    return {"path": path, "target": target, "top5": top5, "correct1": top5[0] == target, "correct5": target in top5}


def listing_digest(pictures):
    """sha256 over the lines ``path<TAB>class index``, so that folders are told apart wherever they are mounted."""
    digest = hashlib.sha256()
    for path, target in pictures:
        digest.update(f"{path}\t{target}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def share(images, shard):
    """Positions that shard (I, N) has of 0..images-1: every N-th, from the I-th on."""
    return range(shard[0] - 1, images, shard[1])


def start(path, header, pictures):
    """Begin the file, or continue it -> the records it already holds.

    ``pictures`` is this shard's list. Raises BadInputError where the file is not one of this very run.
    """
    if not os.path.lexists(path):
        with atomic_write(path) as file:
            file.write(_line(header))
        return []
    found, records, end = read(path)
    if odd := differences(json.loads(_line(header)), found):
        raise BadInputError(path, "belongs to another run", f"the same {odd}", "others", "another file name")
    for number, (record, picture) in enumerate(zip(records, pictures), 2):
        if (record["path"], record["target"]) != picture:
            raise BadInputError(path, f"line {number}", picture, (record["path"], record["target"]))
    try:
        os.truncate(path, end)
    except OSError as error:
        raise BadInputError(path, f"cannot be written: {error.strerror}") from None
    return records


def differences(a, b):
    """Names of what differs between two headers, as "model.sha256, preprocess.mode"; empty where nothing does."""
    names = _differing(a, b, "")
    return ", ".join(names[:NAMED]) + (f" and {len(names) - NAMED} more" if len(names) > NAMED else "")


def _differing(a, b, name):
    if not (isinstance(a, dict) and isinstance(b, dict)):
        return [] if a == b else [name]
    keys = [*a, *(key for key in b if key not in a)]
    return [n for key in keys for n in _differing(a.get(key, ...), b.get(key, ...), f"{name}.{key}".lstrip("."))]


def append(path, records):
    """Add lines to a file that ``start`` began, and bring them to the disk."""
    data = b"".join(map(_line, records))
    try:
        with open(path, "r+b", buffering=0) as file:
            file.seek(0, os.SEEK_END)
            while data:
                data = data[file.write(data):]
            os.fsync(file.fileno())
    except OSError as error:
        raise BadInputError(path, f"cannot be written: {error.strerror}") from None


def read(path):
    """-> header, records, and the position in bytes after the last whole line.

    Raises BadInputError for a missing or foreign file, a damaged line, or more lines than the header allows.
    """
    with open_input(path) as file:
        header = _check_header(path, _parse(path, 1, file.readline(MAX_LINE)))
        records, end = [], file.tell()
        limit = len(share(header["images"], header["shard"]))
        while (line := file.readline(MAX_LINE)).endswith(b"\n"):
            if len(records) == limit:
                raise BadInputError(path, "too many lines", f"at most {limit} pictures", "more")
            records.append(_check_record(path, len(records) + 2, _parse(path, len(records) + 2, line)))
            end = file.tell()
        if len(line) == MAX_LINE:
            raise BadInputError(path, f"line {len(records) + 2}", f"fewer than {MAX_LINE} bytes", "more")
        return header, records, end


def _line(values):
    return (json.dumps(values) + "\n").encode("ascii")


def _parse(path, number, line):
    try:
        values = json.loads(line) if line.endswith(b"\n") else None
    except (ValueError, RecursionError):
        values = None
    if not isinstance(values, dict):
        raise BadInputError(path, f"line {number}", "a line of JSON that refvit eval wrote", "something else")
    return values


def _check_header(path, header):
    if header.get("refvit_eval") != VERSION:
        raise BadInputError(path, "header's 'refvit_eval'", VERSION, repr(header.get("refvit_eval")))
    shard = header.get("shard")
    ok = (
        header.keys() == {"refvit_eval", "model", "preprocess", "images", "listing", "shard"}
        and _is_index(header["images"])
        and isinstance(shard, list)
        and len(shard) == 2
        and all(map(_is_index, shard))
        and 1 <= shard[0] <= shard[1] <= header["images"]
    )
    if not ok:
        raise BadInputError(path, "header", "the keys and values that refvit eval wrote", "others")
    return header


def _check_record(path, number, record):
    """A line must be what ``make_record`` makes of its first three values."""
    name, target, top5 = (record.get(key) for key in ("path", "target", "top5"))
    ok = isinstance(name, str) and _is_index(target) and isinstance(top5, list) and 1 <= len(top5) <= 5
    if not ok or not all(map(_is_index, top5)) or record != make_record(name, target, top5):
        raise BadInputError(path, f"line {number}", "a picture's line as refvit eval wrote it", "a damaged one")
    return record


def _is_index(value):
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 53
