"""The same batches whatever makes them, from any step on; and what happens when something ends badly."""

import io
import multiprocessing
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from refvit.errors import BadInputError, RefvitError, UsageError
from refvit.preprocess import PreprocessConfig, crop, normalise
from refvit.training.augment import Augment
from refvit.training.dataset import ArrayDataset, open_dataset
from refvit.training.loader import Loader
from tests.drawings import stored

CFG = PreprocessConfig("timm", 16, 16)
AUGMENT = Augment(crop="padded", padding=2)


def in_memory(count=23, side=16, classes=3):
    images = np.random.default_rng(0).integers(0, 256, (count, side, side, 3), np.uint8)
    return ArrayDataset("drawings", images, np.arange(count) % classes, classes)


def folder(root, count=6):
    for i in range(count):
        path = root / "ab"[i % 2] / f"{i}.png"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(stored(np.random.default_rng(i).integers(0, 256, (20, 24 + i, 3), np.uint8), "PNG"))
    return open_dataset(root)


def same(left, right):
    left, right = list(left), list(right)
    assert len(left) == len(right)
    for a, b in zip(left, right):
        for mine, other in zip(a, b):
            assert mine.dtype == other.dtype
            np.testing.assert_array_equal(mine, other)


def test_the_number_of_workers_changes_nothing():
    ds = in_memory()
    with Loader(ds, 4, CFG, AUGMENT, seed=5) as alone:
        expected = {epoch: list(alone.epoch(epoch)) for epoch in (0, 1)}
    assert len(expected[0]) == len(alone) == 5
    assert all(x.shape == (4, 3, 16, 16) and targets.shape == (4, 3) for x, targets in expected[0])
    for workers in (1, 2):
        with Loader(ds, 4, CFG, AUGMENT, 5, workers) as loader:
            same(loader.epoch(1), expected[1])
            same(loader.epoch(0, start_step=2), expected[0][2:])  # as a resumed run asks
            broken_off = loader.epoch(1)
            next(broken_off)
            broken_off.close()
            same(loader.epoch(0), expected[0])
            assert list(loader.epoch(0, start_step=5)) == []


def test_pictures_of_a_folder_come_the_same_from_workers(tmp_path):
    ds = folder(tmp_path)
    with Loader(ds, 2, CFG, Augment()) as alone, Loader(ds, 2, CFG, Augment(), workers=2) as loader:
        same(loader.epoch(3), alone.epoch(3))


def test_epochs_and_seeds_differ_and_each_epoch_has_every_picture_at_most_once():
    off = Augment("padded", padding=0, flip=0, color_jitter=0, erasing=0, mixup=0, cutmix=0, smoothing=0)
    ds = in_memory()
    known = {normalise(image, CFG).tobytes(): i for i, image in enumerate(ds.images)}

    def order(seed, epoch):
        batches = Loader(ds, 4, CFG, off, seed).epoch(epoch)
        seen = [(known[x[None].tobytes()], int(t.argmax())) for xs, targets in batches for x, t in zip(xs, targets)]
        assert all(label == ds.labels[i] for i, label in seen)
        return [i for i, _ in seen]

    orders = [order(0, 0), order(0, 1), order(1, 0)]
    for ids in orders:
        assert len(ids) == len(set(ids)) == 20  # 23 pictures: the incomplete batch is left out
    assert len({tuple(ids) for ids in orders}) == 3
    assert order(0, 0) == orders[0]


def test_augmentation_is_new_in_every_epoch_and_step():
    ds = in_memory(8)
    ds.images[:] = ds.images[0]
    one = Augment(crop="padded", mixup=0, cutmix=0)
    batches = [x.tobytes() for epoch in (0, 1) for x, _ in Loader(ds, 4, CFG, one).epoch(epoch)]
    assert len(set(batches)) == 4


@pytest.mark.parametrize("workers", [0, 1])
def test_evaluation_gives_every_picture_in_order_as_eval_does(tmp_path, workers):
    ds, cfg = folder(tmp_path, 5), PreprocessConfig("facebook", 16, 18)
    with Loader(ds, 2, cfg, workers=workers) as loader:
        batches = list(loader.epoch())
    assert [len(x) for x, _ in batches] == [2, 2, 1] and len(loader) == 3
    np.testing.assert_array_equal(np.concatenate([labels for _, labels in batches]), ds.labels)
    expected = normalise(np.stack([crop(path, cfg) for path in ds.paths]), cfg)
    np.testing.assert_array_equal(np.concatenate([x for x, _ in batches]), expected)


@pytest.mark.parametrize("side,resize", [(16, 16), (16, 20), (9, 16)])
def test_evaluation_of_pictures_in_memory_resizes_where_the_model_does(side, resize):
    ds, cfg = in_memory(3, side), PreprocessConfig("facebook", 16, resize)
    ((x, labels),) = Loader(ds, 8, cfg).epoch()
    expected = [crop(io.BytesIO(stored(image, "PNG")), cfg) for image in ds.images]
    np.testing.assert_array_equal(x, normalise(np.stack(expected), cfg))
    assert labels.tolist() == ds.labels.tolist()


@pytest.mark.parametrize("workers", [0, 2])
def test_an_unreadable_picture_is_named_and_the_loader_lives_on(tmp_path, workers):
    ds = folder(tmp_path)
    path = tmp_path / "a" / "2.png"
    good = path.read_bytes()
    with Loader(ds, 2, CFG, workers=workers) as loader:
        path.write_bytes(good[:60])
        with pytest.raises(BadInputError, match="2.png: damaged picture"):
            list(loader.epoch())
        path.write_bytes(good)
        same(loader.epoch(), Loader(ds, 2, CFG).epoch())


def test_a_killed_worker_is_an_error_and_not_a_hang():
    with Loader(in_memory(), 1, CFG, AUGMENT, workers=2) as loader:
        batches = loader.epoch()
        next(batches)
        os.kill(loader.workers[1].process.pid, signal.SIGKILL)
        with pytest.raises(RefvitError, match="worker process ended by signal 9"):
            list(batches)
        with pytest.raises(RefvitError, match="worker process ended by signal 9"):
            list(loader.epoch())
    assert not multiprocessing.active_children()


def test_closing_in_the_middle_leaves_no_process():
    loader = Loader(in_memory(), 4, CFG, AUGMENT, workers=1)
    next(loader.epoch())
    pid = loader.workers[0].process.pid
    loader.close()
    loader.close()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


CHILD = """
import numpy as np, time
from refvit.training.augment import Augment
from refvit.training.dataset import ArrayDataset
from refvit.training.loader import Loader
from refvit.preprocess import PreprocessConfig
ds = ArrayDataset("d", np.zeros((64, 16, 16, 3), np.uint8), np.zeros(64, np.int64), 1)
with Loader(ds, 1, PreprocessConfig("timm", 16, 16), Augment(), workers=1) as loader:
    for batch in loader.epoch():
        print(loader.workers[0].process.pid, flush=True)
        time.sleep(60)
"""


@pytest.mark.parametrize("kill", [signal.SIGINT, signal.SIGKILL])
def test_no_worker_survives_its_parent(kill):
    child = subprocess.Popen([sys.executable, "-c", CHILD], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                             start_new_session=True)  # fmt: skip
    worker = int(child.stdout.readline())
    # Ctrl-C goes to the whole group of processes, a kill to one
    os.killpg(child.pid, kill) if kill == signal.SIGINT else child.send_signal(kill)
    _, stderr = child.communicate(timeout=20)
    assert stderr.count("Traceback") == (kill == signal.SIGINT)  # the parent's own, none of the worker
    ends = time.monotonic() + 20
    while time.monotonic() < ends and alive(worker):
        time.sleep(0.02)
    assert not alive(worker)


def alive(pid):
    """Neither gone nor a zombie that nobody waits for."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    state = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True).stdout
    return bool(state) and not state.startswith("Z")


@pytest.mark.parametrize("wrong", [{"batch_size": 0}, {"batch_size": 24}, {"seed": -1}, {"workers": 1.0}])
def test_wrong_arguments_are_usage_errors(wrong):
    with pytest.raises(UsageError, match=next(iter(wrong))):
        Loader(**{"dataset": in_memory(), "batch_size": 4, "preprocess": CFG, "augment": AUGMENT, **wrong})
