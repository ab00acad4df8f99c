"""Top-1 and Top-5 of a model over a folder of pictures: in parts, on many machines, continued after interruption.

The pictures are those of ``ImageFolder.samples``, in its order. Way of one: decode, resize, crop (threads, ahead of the
model) -> predict -> the five best classes -> a line in the file of the run (records.py).
"""

import collections
import concurrent.futures
import contextlib
import itertools
import time

import numpy as np

from . import records
from .errors import BadInputError, UsageError
from .imagefolder import ImageFolder
from .preprocess import crop
from .progress import Progress

TOP = 5
AHEAD = 2  # batches decoded ahead of the model: bounds memory


def run(model, root, order_file=None, **options):
    """Evaluate a model on the folder ``root``: ``ImageFolder`` by the model's labels, then ``evaluate``."""
    folder = ImageFolder(root, model.labels, model.config.num_classes, order_file)
    return evaluate(model, folder, **options)


def evaluate(model, folder, out=None, model_id=None, limit=None, shard=(1, 1), batch_size=32, workers=2, progress=None):
    """-> dict: images, correct1, correct5 (counts), top1, top5 (fractions of 1), seconds (of this run).

    model       has ``predict`` (uint8 (B, H, W, 3) -> float32 logits (B, classes)), ``preprocess`` and ``config``
    folder      ImageFolder
    out         file of JSON lines, one a picture (records.py); where it is there already, the run continues it
    model_id    what names the model in that file: a dict of JSON values, as the sha256 of its file and how it was
                quantized; needed with ``out``, so that a run never continues another model's
    limit       at most this many pictures, evenly spaced over the folder (our choice: it is sorted by class)
    shard       (I, N), I in 1..N: only every N-th picture from the I-th on, of those within the limit
    batch_size  pictures in one call of ``predict``; no quantized result depends on it (N6)
    workers     threads that decode
    progress    text stream for rate and remaining time, None: silent

    A picture that cannot be read stops the run with BadInputError naming it; all before it stays in ``out``. Raises
    UsageError for wrong arguments, BadInputError for a file ``out`` of another run and for NaN logits.
    """
    _check_options(out, model_id, limit, shard, batch_size, workers, len(folder))
    started = time.monotonic()
    everything = spread(folder.samples, limit)
    pictures = [everything[i] for i in records.share(len(everything), shard)]
    done = []
    if out is not None:
        done = records.start(out, records.make_header(model_id, model.preprocess, everything, shard), pictures)
    if done and progress is not None:
        print(f"refvit: {out}: {len(done)} of {len(pictures)} pictures are there from before", file=progress)
    meter = Progress(progress, "eval", len(pictures), len(done))
    correct = sum(line["correct1"] for line in done)
    todo = pictures[len(done):]
    with contextlib.closing(_decoded(folder, todo, model.preprocess, batch_size, workers)) as batches:
        for batch, u8 in batches:
            lines = _classify(model, folder, batch, u8)
            if out is not None:
                records.append(out, lines)
            done += lines
            correct += sum(line["correct1"] for line in lines)
            meter.update(len(done), f"top-1 {correct / len(done):.4f}")
    return {**summary(done), "seconds": time.monotonic() - started}


def merge(paths):
    """Put the files of all shards of one run together -> dict: images, correct1, correct5, top1, top5.

    Raises BadInputError unless they are parts of the same run and together hold each of its pictures once.
    """
    if not paths:
        raise UsageError("merge", "files", "at least one", "none")
    parts, first = {}, None
    for path in paths:
        header, lines, _ = records.read(path)
        index, of = header.pop("shard")
        first = first or (path, of, header)
        if odd := records.differences({"shards": first[1], **first[2]}, {"shards": of, **header}):
            raise BadInputError(path, f"belongs to another run than {first[0]}", f"the same {odd}", "others")
        if index in parts:
            raise BadInputError(path, f"shard {index}/{of} again, after {parts[index][0]}")
        parts[index] = (path, lines)
    _, of, header = first
    return summary(_join(parts, of, header))


def summary(lines):
    """Counts and fractions of picture records -> dict: images, correct1, correct5, top1, top5."""
    correct1, correct5 = (sum(line[key] for line in lines) for key in ("correct1", "correct5"))
    images = len(lines)
    return {"images": images, "correct1": correct1, "correct5": correct5,
            "top1": correct1 / images, "top5": correct5 / images}


def top_k(logits, k):
    """Classes of the k largest logits, best first, ties the lowest index first (N11).  [B, C] -> [B, min(k, C)]"""
    return np.argsort(-logits, axis=1, kind="stable")[:, :k]


def spread(items, limit):
    """At most ``limit`` of a list, evenly spaced, in order; None: all."""
    if limit is None or limit >= len(items):
        return items
    return [items[i * len(items) // limit] for i in range(limit)]


def parse_shard(text):
    """"I/N" -> (I, N). Raises UsageError unless 1 <= I <= N."""
    parts = text.split("/")
    if len(parts) != 2 or not all(p.isascii() and p.isdigit() and len(p) < 10 for p in parts):
        raise UsageError("shard", "value", "I/N, as 3/8", repr(text))
    shard = int(parts[0]), int(parts[1])
    if not 1 <= shard[0] <= shard[1]:
        raise UsageError("shard", "value", "I/N with I in 1..N", repr(text))
    return shard


def _check_options(out, model_id, limit, shard, batch_size, workers, images):
    for name, value in (("limit", limit), ("batch_size", batch_size), ("workers", workers)):
        if not (name == "limit" and value is None) and (not isinstance(value, int) or value < 1):
            raise UsageError("evaluate", name, "an integer of at least 1", repr(value))
    if out is not None and not isinstance(model_id, dict):
        raise UsageError("evaluate", "model_id", "a dict that names the model, with out", repr(model_id))
    images = min(images, limit or images)
    index, of = shard
    if not 1 <= index <= of <= images:
        raise UsageError("evaluate", "shard I/N", f"1 <= I <= N <= {images} pictures", f"{index}/{of}")


def _decoded(folder, pictures, cfg, batch_size, workers):
    """Yield (pictures, uint8 (B, H, W, 3)) in order; the threads are AHEAD batches in front."""
    with concurrent.futures.ThreadPoolExecutor(workers) as pool:
        waiting = collections.deque()
        try:
            for i in range(0, len(pictures), batch_size):
                batch = pictures[i : i + batch_size]
                waiting.append((batch, [pool.submit(crop, folder.path(path), cfg) for path, _ in batch]))
                if len(waiting) > AHEAD:
                    yield from _collect(*waiting.popleft())
            while waiting:
                yield from _collect(*waiting.popleft())
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _collect(batch, futures):
    """Yield a batch; where a picture of it cannot be read, those before it, and then raise."""
    decoded = []
    try:
        for future in futures:
            decoded.append(future.result())
    except BadInputError:
        if decoded:
            yield batch[: len(decoded)], np.stack(decoded)
        raise
    yield batch, np.stack(decoded)


def _classify(model, folder, batch, u8):
    """The lines of a batch."""
    logits = model.predict(u8)
    bad = np.isnan(logits).any(axis=1)
    if bad.any():
        path, _ = batch[int(bad.argmax())]
        raise BadInputError(folder.path(path), "logits of this picture", "numbers", "NaN", "other weights")
    return [records.make_record(path, target, best) for (path, target), best in zip(batch, top_k(logits, TOP))]


def _join(parts, of, header):
    """The lines of all shards in the order of the pictures; the digest of the listing proves that none is amiss."""
    if len(parts) < of:
        missing = itertools.islice((f"{index}/{of}" for index in range(1, of + 1) if index not in parts), 9)
        raise BadInputError("merge", f"missing shards {', '.join(missing)}", f"{of} files", len(parts))
    for index, (path, lines) in parts.items():
        expected = len(records.share(header["images"], (index, of)))
        if len(lines) != expected:
            raise BadInputError(path, "unfinished shard", f"{expected} pictures", len(lines), "running it again")
    lines = [parts[i % of + 1][1][i // of] for i in range(header["images"])]
    if records.listing_digest((line["path"], line["target"]) for line in lines) != header["listing"]:
        raise BadInputError("merge", "the pictures of the parts are not those of the run", header["listing"], "others")
    return lines
