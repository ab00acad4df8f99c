"""Evaluation in parts, continued, merged: always the same numbers as in one go, and never a wrong file accepted."""

import copy
import io
import json
import types

import numpy as np
import pytest
from PIL import Image

from refvit import records
from refvit.errors import BadInputError, UsageError
from refvit.evaluate import evaluate, merge, parse_shard, run, spread, summary, top_k
from refvit.imagefolder import ImageFolder, find_pictures
from refvit.preprocess import PreprocessConfig, crop
from refvit.progress import Progress

CLASSES, PER_CLASS = 7, 4
MODEL_ID = {"sha256": "0" * 64, "weight_bits": 2}


class Linear:
    """A fixed linear function of the pixels, and a count of its calls."""

    preprocess = PreprocessConfig("facebook", 8, 9)
    config = types.SimpleNamespace(num_classes=CLASSES)
    labels = None

    def __init__(self, fail_at=None):
        self.weight = np.random.default_rng(0).normal(size=(CLASSES, 8 * 8 * 3)).astype(np.float32)
        self.images, self.fail_at = 0, fail_at

    def predict(self, u8):
        if self.fail_at is not None and self.images >= self.fail_at:
            raise KeyboardInterrupt
        self.images += len(u8)
        return u8.reshape(len(u8), -1).astype(np.float32) @ self.weight.T


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root, rng = tmp_path_factory.mktemp("pictures"), np.random.default_rng(1)
    for c in range(CLASSES):
        (root / f"class{c}").mkdir()
        for i in range(PER_CLASS):
            array = rng.integers(0, 256, (12, 10 + i, 3), dtype=np.uint8)
            Image.fromarray(array).save(root / f"class{c}" / f"{i}.png")
    return ImageFolder(root, None, CLASSES)


@pytest.fixture(scope="module")
def expected(folder):
    """Counted picture by picture, by the definition: the rank of the target among the logits."""
    model, hits = Linear(), np.zeros(2, int)
    for path, target in folder.samples:
        logits = model.predict(crop(folder.path(path), model.preprocess)[None])[0]
        rank = sum(value > logits[target] for value in logits)
        hits += rank < 1, rank < 5
    return {"images": len(folder), "correct1": hits[0], "correct5": hits[1],
            "top1": hits[0] / len(folder), "top5": hits[1] / len(folder)}


def numbers(result):
    return {key: value for key, value in result.items() if key != "seconds"}


def start(folder, out, **options):
    return evaluate(options.pop("model", Linear()), folder, out=out, model_id=MODEL_ID, **options)


@pytest.mark.parametrize("batch_size,workers", [(1, 1), (5, 3), (100, 2)])
def test_the_numbers_are_those_of_the_definition(folder, expected, batch_size, workers):
    assert 0 < expected["correct1"] < expected["correct5"] < expected["images"]  # the case can tell them apart
    assert numbers(evaluate(Linear(), folder, batch_size=batch_size, workers=workers)) == expected
    assert numbers(run(Linear(), folder.root, batch_size=batch_size)) == expected


def test_one_line_a_picture_in_order(folder, tmp_path):
    result = start(folder, tmp_path / "out.jsonl", batch_size=3)
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert lines[0]["model"] == MODEL_ID and lines[0]["shard"] == [1, 1] and lines[0]["images"] == len(folder)
    assert [(line["path"], line["target"]) for line in lines[1:]] == folder.samples
    for line in lines[1:]:
        assert len(set(line["top5"])) == 5
        assert line["correct1"] == (line["top5"][0] == line["target"])
        assert line["correct5"] == (line["target"] in line["top5"])
    assert sum(line["correct5"] for line in lines[1:]) == result["correct5"]


def test_ties_go_to_the_lowest_index():
    logits = np.array([[1, 3, 3, 2, 3, -np.inf], [0, 0, 0, 0, 0, 0]], np.float32)
    np.testing.assert_array_equal(top_k(logits, 5), [[1, 2, 4, 3, 0], [0, 1, 2, 3, 4]])
    assert top_k(logits[:, :2], 5).shape == (2, 2)


def test_interrupted_runs_continue_without_doing_anything_twice(folder, expected, tmp_path):
    out = tmp_path / "out.jsonl"
    with pytest.raises(KeyboardInterrupt):
        start(folder, out, model=Linear(fail_at=9), batch_size=3)
    kept = out.read_bytes()
    assert kept.count(b"\n") == 1 + 9 and kept.endswith(b"\n")
    model = Linear()
    assert numbers(start(folder, out, model=model, batch_size=4)) == expected
    assert out.read_bytes().startswith(kept) and model.images == len(folder) - 9
    assert numbers(start(folder, out, model=(model := Linear()))) == expected and model.images == 0


@pytest.mark.parametrize("cut", [1, 30, 75])
def test_a_torn_last_line_is_done_again(folder, expected, tmp_path, cut):
    out = tmp_path / "out.jsonl"
    start(folder, out)
    whole = out.read_bytes()
    out.write_bytes(whole[:-cut])
    assert numbers(start(folder, out)) == expected
    assert out.read_bytes() == whole


@pytest.mark.parametrize("of", [1, 2, 5, 28])
def test_merged_shards_are_the_whole(folder, expected, tmp_path, of):
    paths = [tmp_path / f"{i}.jsonl" for i in range(1, of + 1)]
    parts = [start(folder, path, shard=(i, of)) for i, path in enumerate(paths, 1)]
    assert sum(part["images"] for part in parts) == len(folder)
    assert merge(paths[::-1]) == expected


def shards(folder, tmp_path, **options):
    paths = [tmp_path / f"{i}.jsonl" for i in (1, 2, 3)]
    for i, path in enumerate(paths, 1):
        start(folder, path, shard=(i, 3), **options)
    return paths


def test_incomplete_merges_say_what_is_missing(folder, tmp_path):
    a, b, c = shards(folder, tmp_path)
    with pytest.raises(BadInputError, match="missing shards 2/3"):
        merge([a, c])
    with pytest.raises(BadInputError, match="shard 1/3 again, after .*1.jsonl"):
        merge([a, a, b])
    c.write_bytes(b"".join(c.read_bytes().splitlines(keepends=True)[:-1]))
    with pytest.raises(BadInputError, match="3.jsonl: unfinished shard; expected 9 pictures, got 8"):
        merge([a, b, c])
    start(folder, a.with_name("other.jsonl"), shard=(3, 4))
    with pytest.raises(BadInputError, match="other.jsonl: .* the same shards, got others"):
        merge([a, b, a.with_name("other.jsonl")])
    with pytest.raises(UsageError):
        merge([])


def test_a_part_with_foreign_pictures_is_found(folder, tmp_path):
    a, b, c = shards(folder, tmp_path)
    c.write_text(c.read_text().replace("class6/", "class5/"))
    with pytest.raises(BadInputError, match="not those of the run"):
        merge([a, b, c])


@pytest.mark.parametrize("change", ["model", "preprocess", "limit", "shard", "folder"])
def test_the_file_of_another_run_is_refused_and_kept(folder, tmp_path, change):
    out = tmp_path / "out.jsonl"
    start(folder, out)
    before, model, model_id, options = out.read_bytes(), Linear(), MODEL_ID, {}
    if change == "model":
        model_id = {**MODEL_ID, "weight_bits": 8}
    elif change == "preprocess":
        model.preprocess = PreprocessConfig("squash", 8, 9)
    elif change == "folder":
        folder = copy.copy(folder)
        folder.samples = folder.samples[::-1]
    else:
        options = {"limit": {"limit": 5}, "shard": {"shard": (1, 2)}}[change]
    with pytest.raises(BadInputError) as caught:
        evaluate(model, folder, out=out, model_id=model_id, **options)
    same = {"model": "model.weight_bits", "preprocess": "preprocess.mode", "limit": "images, listing"}.get(change)
    same = same or {"shard": "shard", "folder": "listing"}[change]
    wanted = f"belongs to another run; expected the same {same}, got others; try another file name"
    assert str(caught.value) == f"{out}: {wanted}"
    assert out.read_bytes() == before


def test_differences_name_the_odd_keys_alone():
    assert records.differences({"a": {"b": 1, "c": [1]}, "d": None}, {"d": None, "a": {"c": [1], "b": 1}}) == ""
    assert records.differences({"a": {"b": None}, "c": 1}, {"a": {}, "c": {"d": 1}, "e": None}) == "a.b, c, e"
    assert records.differences(dict.fromkeys("abcdef", 1), dict.fromkeys("abcdef", 2)) == "a, b, c, d and 2 more"


DAMAGE = {
    "empty": lambda lines: [],
    "text": lambda lines: [b"my notes\n"],
    "other json": lambda lines: [b"[1, 2]\n"],
    "deep": lambda lines: [b"[" * 60_000 + b"\n"],
    "endless line": lambda lines: [b"x" * 200_000],
    "no header": lambda lines: lines[1:],
    "version": lambda lines: [lines[0].replace(b'"refvit_eval": 1', b'"refvit_eval": 2')],
    "shard": lambda lines: [lines[0].replace(b"[1, 1]", b"[2, 1]")],
    "shard kind": lambda lines: [lines[0].replace(b"[1, 1]", b'["1", 1]')],
    "torn inside": lambda lines: [*lines[:3], lines[3][:-9] + b"\n", *lines[4:]],
    "swapped": lambda lines: [*lines[:2], lines[3], lines[2], *lines[4:]],
    "doubled": lambda lines: [*lines, lines[-1]],
    "long line": lambda lines: [lines[0], b'{"path": "' + b"x" * 70_000 + b'"}\n'],
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_damaged_files_are_one_error_and_kept(folder, tmp_path, kind):
    out = tmp_path / "out.jsonl"
    start(folder, out)
    out.write_bytes(b"".join(DAMAGE[kind](out.read_bytes().splitlines(keepends=True))))
    before = out.read_bytes()
    with pytest.raises(BadInputError, match="out.jsonl"):
        start(folder, out)
    assert out.read_bytes() == before


def test_a_line_that_contradicts_itself_is_refused(folder, tmp_path):
    out = tmp_path / "out.jsonl"
    start(folder, out)
    lines = out.read_text().splitlines(keepends=True)
    wrong = next(i for i, line in enumerate(lines) if '"correct1": false' in line)
    lines[wrong] = lines[wrong].replace('"correct1": false', '"correct1": true')
    out.write_text("".join(lines))
    with pytest.raises(BadInputError, match=f"line {wrong + 1}"):
        start(folder, out)


def test_a_limit_is_spread_over_the_classes(folder):
    assert spread(list(range(28)), 7) == [0, 4, 8, 12, 16, 20, 24]
    assert spread([1, 2], 5) == spread([1, 2], None) == [1, 2]
    assert evaluate(Linear(), folder, limit=7)["images"] == 7


@pytest.mark.parametrize("batch_size", [1, 2, 3, 8])
def test_an_unreadable_picture_stops_the_run_and_keeps_all_before_it(tmp_path, batch_size):
    for name in "abcd":
        (tmp_path / name).mkdir()
        Image.new("RGB", (9, 9)).save(tmp_path / name / "1.png")
    (tmp_path / "c" / "1.png").write_text("text")
    model, out, folder = Linear(), tmp_path / "out.jsonl", ImageFolder(tmp_path, None, 4)
    for _ in range(2):  # the second time nothing is left to do before the damaged picture
        with pytest.raises(BadInputError, match="c/1.png"):
            evaluate(model, folder, out=out, model_id=MODEL_ID, batch_size=batch_size)
        paths = [json.loads(line)["path"] for line in out.read_text().splitlines()[1:]]
        assert paths == ["a/1.png", "b/1.png"] and model.images == 2


def test_pictures_are_found_in_all_sub_folders_but_not_hidden_ones(tmp_path):
    hidden = [".git/x.png", "b/._2.png"]
    for name in ("b/2.png", "b/10.JPEG", "b/c/1.webp", "a.ppm", "b/notes.txt", "d.png/3.pgm", *hidden):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "b" / "up").symlink_to(tmp_path)  # a loop
    expected = ["a.ppm", "b/10.JPEG", "b/2.png", "b/c/1.webp", "d.png/3.pgm"]
    assert find_pictures(tmp_path) == [str(tmp_path / name) for name in expected]
    with pytest.raises(BadInputError, match="none: cannot be listed"):
        find_pictures(tmp_path / "none")
    with pytest.raises(BadInputError, match="git: no pictures"):
        (tmp_path / ".git" / "x.png").unlink()
        find_pictures(tmp_path / ".git")


def test_nan_logits_name_the_picture(folder):
    model = Linear()
    model.predict = lambda u8: np.where(np.arange(len(u8))[:, None] == 2, np.nan, np.ones((1, CLASSES), np.float32))
    with pytest.raises(BadInputError, match="class0/2.png"):
        evaluate(model, folder)


@pytest.mark.parametrize("options", [
    {"limit": 0}, {"batch_size": 0}, {"workers": "2"}, {"shard": (0, 2)}, {"shard": (3, 2)}, {"shard": (1, 29)},
    {"shard": (1, 4), "limit": 3}, {"out": "x.jsonl"},
])
def test_wrong_arguments_are_usage_errors(folder, options):
    with pytest.raises(UsageError):
        evaluate(Linear(), folder, **options)


def test_an_unwritable_target_is_one_error(folder, tmp_path):
    for out in (tmp_path / "none" / "out.jsonl", tmp_path):
        with pytest.raises(BadInputError, match=out.name):
            start(folder, out)
    with pytest.raises(BadInputError, match="gone.jsonl"):
        records.append(tmp_path / "gone.jsonl", [])


def test_shards_as_text():
    assert parse_shard("3/8") == (3, 8)
    for text in ("", "3", "0/8", "9/8", "1/2/3", "-1/2", "a/b", "1/ 2", "1/" + "9" * 5000):
        with pytest.raises(UsageError):
            parse_shard(text)


def test_names_that_are_not_utf8_survive(tmp_path):
    pictures = [("caf\udce9/1.png", 0)]
    header = records.make_header(MODEL_ID, Linear.preprocess, pictures, (1, 1))
    records.start(tmp_path / "out.jsonl", header, pictures)
    records.append(tmp_path / "out.jsonl", [records.make_record(*pictures[0], [0])])
    assert summary(records.start(tmp_path / "out.jsonl", header, pictures))["images"] == 1
    assert merge([tmp_path / "out.jsonl"])["top1"] == 1.0


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_progress_in_a_log_is_rare_and_always_ends(monkeypatch):
    clock = iter([0.0, 1.0, 9.9, 10.0, 15.0, 20.0])
    monkeypatch.setattr("time.monotonic", lambda: next(clock))
    stream = io.StringIO()
    meter = Progress(stream, "eval", 100, done=20)
    for done in (21, 30, 40, 50, 100):
        meter.update(done, "x")
    assert stream.getvalue().splitlines() == [
        "eval 40/100, 2.0/s, 0:00:30 left, x",
        "eval 100/100, 4.0/s, 0:00:00 left, x",
    ]


def test_progress_on_a_terminal_rewrites_its_line(monkeypatch):
    clock = iter([0.0, 0.1, 1.0, 4000.0])
    monkeypatch.setattr("time.monotonic", lambda: next(clock))
    stream = Terminal()
    meter = Progress(stream, "eval", 7201)
    for done in (0, 1, 7201):
        meter.update(done)
    assert stream.getvalue() == "\r\x1b[Keval 1/7201, 1.0/s, 2:00:00 left\r\x1b[Keval 7201/7201, 1.8/s, 0:00:00 left\n"


def test_progress_reaches_the_stream(folder):
    stream = io.StringIO()
    evaluate(Linear(), folder, progress=stream)
    assert stream.getvalue().startswith("eval 28/28, ") and stream.getvalue().endswith("\n")
