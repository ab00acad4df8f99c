"""Every form of dataset, made small; and every way such files can be wrong."""

import gzip
import io
import os
import pickle
import struct
import tarfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refvit import archive
from refvit.errors import BadInputError, RefvitError, UsageError
from refvit.labels import imagenet_wnids
from refvit.pictures import load_rgb
from refvit.training import cifar, dataset
from refvit.training.dataset import ArrayDataset, open_dataset, split_off, subset
from tests.drawings import stored
from tests.torch_files import Reduction, pickled

DATA = Path(os.environ.get("REFVIT_DATA", Path(__file__).parents[2] / "shared" / "data"))
CLASSES = ("ant", "bee", "cow")


def drawings(count, side=32, seed=0):  # uint8 [count, side, side, 3]
    return np.random.default_rng(seed).integers(0, 256, (count, side, side, 3), np.uint8)


def planes(images):
    """CIFAR's layout.  uint8 [N, 32, 32, 3] -> [N, 3072]"""
    return images.transpose(0, 3, 1, 2).reshape(len(images), -1)


def binary(images, labels):
    return np.concatenate([np.array(labels, np.uint8)[:, None], planes(images)], axis=1).tobytes()


def idx(array):
    return bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def write_folders(root, per_class=2, side=8, classes=CLASSES):
    """root/<class>/<i>.png -> the pictures in the dataset's order"""
    images = drawings(len(classes) * per_class, side)
    for i, image in enumerate(images):
        path = root / classes[i // per_class] / f"{i % per_class}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(stored(image, "PNG"))
    return images


def write_tar(path, members):
    """``members``: name -> bytes, or a tarfile.TarInfo without content."""
    with tarfile.open(path, "w:gz" if str(path).endswith("gz") else "w") as tar:
        for name, content in members.items():
            info = content if isinstance(content, tarfile.TarInfo) else tarfile.TarInfo(name)
            info.name = name
            if isinstance(content, bytes):
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
            else:
                tar.addfile(info)
    return path


def python_batch(images, labels, protocol=2):
    return pickle.dumps({"batch_label": "x", "labels": [int(i) for i in labels], "data": planes(images)}, protocol)


def python2_batch(images, labels):
    """As CIFAR-10's own files: Python 2's byte strings and the module names of the old numpy."""
    data = planes(images).tobytes()
    out = b"\x80\x02}q\x01(U\x06labelsq\x02]q\x03(" + b"".join(b"K" + bytes([i]) for i in labels) + b"eU\x04dataq\x04"
    out += b"cnumpy.core.multiarray\n_reconstruct\nq\x05cnumpy\nndarray\nq\x06K\x00\x85U\x01b\x87Rq\x07"
    out += b"(K\x01M" + struct.pack("<H", len(images)) + b"M\x00\x0c\x86cnumpy\ndtype\nq\x08U\x02u1K\x00K\x01\x87Rq\x09"
    out += b"(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89T" + struct.pack("<i", len(data)) + data
    return out + b"tbu."


def cifar_files(suffix, make):
    """The six files of one form -> names and contents, and the pictures and labels of the training part"""
    images, labels = drawings(10), np.arange(10)
    files = {f"test_batch{suffix}": make(images[:1], labels[:1])}
    for i in range(5):
        files[f"data_batch_{i + 1}{suffix}"] = make(images[2 * i : 2 * i + 2], labels[2 * i : 2 * i + 2])
    return files, images, labels


CIFAR_FORMS = {"binary": (".bin", binary), "python": ("", python_batch), "python 2": ("", python2_batch),
               "protocol 4": ("", lambda images, labels: python_batch(images, labels, 4))}


def check(ds, images, labels, classes):
    assert len(ds) == len(images) and ds.num_classes == len(classes) and ds.class_names == list(classes)
    assert ds.labels.dtype == np.int64 and ds.labels.tolist() == list(labels)
    for i, image in enumerate(images):
        picture, label = ds.get(i)
        assert picture.dtype == np.uint8 and label == labels[i]
        np.testing.assert_array_equal(picture, image)
        np.testing.assert_array_equal(np.asarray(load_rgb(ds.file(i))), image)


@pytest.mark.parametrize("form", CIFAR_FORMS)
@pytest.mark.parametrize("where", ["folder", "parent", "tar.gz"])
def test_cifar_10_comes_back_from_its_files(tmp_path, form, where):
    files, images, labels = cifar_files(*CIFAR_FORMS[form])
    folder = tmp_path / ("cifar-10-batches-bin" if form == "binary" else "cifar-10-batches-py")
    if where == "tar.gz":
        path = write_tar(tmp_path / "a.tar.gz", {f"{folder.name}/{name}": data for name, data in files.items()})
    else:
        folder.mkdir()
        for name, data in files.items():
            (folder / name).write_bytes(data)
        path = folder if where == "folder" else tmp_path
    check(open_dataset(path, "train"), images, labels, cifar.CLASSES)
    check(open_dataset(path, "test"), images[:1], labels[:1], cifar.CLASSES)


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_mnist_becomes_three_equal_channels(tmp_path, suffix):
    grey, labels = drawings(3, 28)[..., 0], np.array([7, 0, 9], np.uint8)
    pack = gzip.compress if suffix else bytes
    for part, count in (("train", 3), ("t10k", 1)):
        (tmp_path / f"{part}-images-idx3-ubyte{suffix}").write_bytes(pack(idx(grey[:count])))
        (tmp_path / f"{part}-labels-idx1-ubyte{suffix}").write_bytes(pack(idx(labels[:count])))
    ds = open_dataset(tmp_path, "train")
    np.testing.assert_array_equal(ds.images, np.stack([grey] * 3, axis=3))
    assert ds.labels.tolist() == [7, 0, 9] and ds.num_classes == 10 and ds.class_names is None
    assert len(open_dataset(tmp_path, "val")) == 1


def test_folders_of_pictures_with_and_without_splits(tmp_path):
    train = write_folders(tmp_path / "train")
    val = write_folders(tmp_path / "val", 1)
    check(open_dataset(tmp_path, "train"), train, [0, 0, 1, 1, 2, 2], CLASSES)
    for split in ("val", "test"):
        check(open_dataset(tmp_path, split), val, [0, 1, 2], CLASSES)
    for split in (None, "train"):
        check(open_dataset(tmp_path / "val", split), val, [0, 1, 2], CLASSES)
    with pytest.raises(BadInputError, match="val or test"):
        open_dataset(tmp_path / "train", "val")


@pytest.mark.parametrize("prefix", ["train/", "pictures/train/", "./train/", "", "pictures/"])
def test_archives_of_pictures_are_the_same_dataset_in_memory(tmp_path, prefix):
    images = write_folders(tmp_path / "a")
    files = sorted((tmp_path / "a").glob("*/*"), reverse=True)
    members = {f"{prefix}{f.parent.name}/{f.name}": f.read_bytes() for f in files}
    path = write_tar(tmp_path / "a.tar.gz", {**members, "._hidden/x.png": b"x"})
    ds = open_dataset(path, "train")
    check(ds, images, [0, 0, 1, 1, 2, 2], CLASSES)
    assert ds.images.shape == (6, 8, 8, 3)


def test_incomplete_test_folder_means_the_classes_of_training(tmp_path):
    write_folders(tmp_path / "train")
    write_folders(tmp_path / "test", classes=CLASSES[1:])
    train = open_dataset(tmp_path, "train")
    assert open_dataset(tmp_path, "test", class_names=train.class_names).labels.tolist() == [1, 1, 2, 2]


def test_some_of_imagenets_wnids_keep_their_class(tmp_path):
    wnids = imagenet_wnids()
    write_folders(tmp_path, 1, classes=(wnids[3], wnids[500]))
    ds = open_dataset(tmp_path, num_classes=1000)
    assert ds.labels.tolist() == [3, 500] and ds.num_classes == 1000 and ds.class_names == wnids
    assert open_dataset(tmp_path).class_names == [wnids[3], wnids[500]]


def test_pictures_of_an_archive_have_one_size(tmp_path):
    members = {f"{name}/0.png": stored(drawings(1, 9 if name == "cow" else 8)[0], "PNG") for name in CLASSES}
    path = write_tar(tmp_path / "a.tar", members)
    with pytest.raises(BadInputError, match="all 8 x 8, got 9 x 9 of .*a.tar: cow/0.png"):
        open_dataset(path, "train")


@settings(deadline=None)
@given(st.data())
def test_subset_and_split_are_balanced_disjoint_and_seeded(data):
    labels = np.array(data.draw(st.lists(st.integers(0, 3), min_size=2, max_size=40)), np.int64)
    ds = ArrayDataset("d", np.arange(len(labels))[:, None, None, None], labels, 4)
    count, seed = data.draw(st.integers(1, len(labels) - 1)), data.draw(st.integers(0, 2**64))
    rest, part = split_off(ds, count, seed)
    ids, rest_ids = part.images.ravel().tolist(), rest.images.ravel().tolist()
    assert sorted(ids + rest_ids) == list(range(len(labels))) and ids == sorted(ids) and rest_ids == sorted(rest_ids)
    assert ids == subset(ds, count, seed).images.ravel().tolist()
    chosen, there = (np.bincount(y, minlength=4) for y in (part.labels, labels))
    assert chosen.sum() == count
    for c in range(4):  # a class is short of another by more than one only where it has no more pictures
        assert chosen[c] == there[c] or chosen[c] >= chosen.max() - 1


def test_other_seeds_choose_other_pictures():
    ds = ArrayDataset("d", np.arange(100)[:, None, None, None], np.zeros(100, np.int64), 1)
    assert subset(ds, 50, 0).images.ravel().tolist() != subset(ds, 50, 1).images.ravel().tolist()


@pytest.mark.parametrize("count", [0, -1, 3, 1.0, True, None])
def test_impossible_counts_are_usage_errors(count):
    ds = ArrayDataset("d", np.zeros((3, 1, 1, 3), np.uint8), np.zeros(3, np.int64), 1)
    with pytest.raises(UsageError):
        split_off(ds, count, 0)


def damaged_idx():
    images, labels = idx(drawings(2, 4)[..., 0]), idx(np.array([1, 2], np.uint8))
    return {
        "truncated": (images[:-1], labels), "magic": (b"\0\0\x0d" + images[3:], labels), "empty": (b"", labels),
        "header": (images[:9], labels), "swapped": (labels, images), "long": (images + b"x", labels),
        "huge": (images[:4] + b"\xff" * 12, labels), "label": (images, idx(np.array([1, 10], np.uint8))),
        "count": (images, idx(np.array([1], np.uint8))), "gzip": (gzip.compress(images)[:-9], labels),
        "crc": (gzip.compress(images)[:-8] + b"12345678", labels),
        "none": (idx(drawings(0, 4)[..., 0]), labels[:4] + bytes(4)),
    }  # fmt: skip


@pytest.mark.parametrize("damage", damaged_idx())
def test_damaged_idx_files_are_refused(tmp_path, damage):
    for name, content in zip(("train-images-idx3-ubyte", "train-labels-idx1-ubyte"), damaged_idx()[damage]):
        (tmp_path / name).write_bytes(content)
    with pytest.raises(BadInputError, match=str(tmp_path)):
        open_dataset(tmp_path, "train")


def damaged_batches():
    one = python2_batch(drawings(1), [3])
    return {
        "truncated": one[:-1], "cut": one[:99], "empty": b"", "label": python2_batch(drawings(1), [10]),
        "labels": python2_batch(drawings(1), [1, 2]), "no array": pickle.dumps({"data": 1, "labels": [1]}, 2),
        "list": pickle.dumps([1], 2), "type": one.replace(b"u1K", b"u2K"),
        "order": one.replace(b"K\x00tb\x89", b"K\x00tb\x88"),
        "shape": one.replace(b"M\x01\x00M\x00\x0c", b"M\x02\x00M\x00\x0c"), "state": pickled({"data": Reduction(
            "numpy.core.multiarray _reconstruct", 0, 0, 0), "labels": [1]}),
        "code": pickled({"data": Reduction("os system", "true"), "labels": [0]}), "not a pickle": b"GIF89a",
        "float label": pickle.dumps({"data": 1, "labels": [0.5]}, 2), "persistent": b"\x80\x02K\x01Q.",
    }  # fmt: skip


@pytest.mark.parametrize("damage", damaged_batches())
def test_damaged_or_dangerous_pickles_are_refused(damage):
    assert len(cifar.read_python("x", python2_batch(drawings(1), [3]))[0]) == 1
    with pytest.raises(BadInputError, match="x: "):
        cifar.read_python("x", damaged_batches()[damage])


@pytest.mark.parametrize("data", [b"", b"x" * 3072, binary(drawings(1), [10])])
def test_damaged_binary_batches_are_refused(data):
    with pytest.raises(BadInputError, match="x: "):
        cifar.read_binary("x", data)


def test_a_missing_file_of_cifar_10_is_named(tmp_path):
    (tmp_path / "data_batch_1.bin").write_bytes(binary(drawings(1), [0]))
    with pytest.raises(BadInputError, match="no data_batch_2.bin"):
        open_dataset(tmp_path, "train")
    with pytest.raises(BadInputError, match="no test_batch.bin"):
        open_dataset(tmp_path, "val")
    with pytest.raises(UsageError, match="split"):
        open_dataset(tmp_path)


def special(kind, **fields):
    info = tarfile.TarInfo()
    info.type = kind
    for name, value in fields.items():
        setattr(info, name, value)
    return info


BAD_MEMBERS = {
    "absolute": {"/a/x.png": b"x"}, "above": {"a/../../x.png": b"x"}, "backslash": {"a\\x.png": b"x"},
    "symbolic link": {"a/x.png": special(tarfile.SYMTYPE, linkname="/etc/passwd")},
    "hard link": {"a/x.png": special(tarfile.LNKTYPE, linkname="a/y.png")},
    "device": {"a/x.png": special(tarfile.CHRTYPE)},
    "no picture": {"a/x.txt": b"x"}, "not decodable": {"a/x.png": b"x"}, "nested": {"a/x/x/x.png": b"x", "b/y": b""},
    "loose": {"x.png": b"x"}, "nothing": {},
}  # fmt: skip


@pytest.mark.parametrize("case", BAD_MEMBERS)
def test_archives_with_odd_members_are_refused(tmp_path, case):
    path = write_tar(tmp_path / "a.tar", BAD_MEMBERS[case])
    with pytest.raises(BadInputError, match="a.tar"):
        open_dataset(path)


def test_an_archive_with_a_member_twice_is_refused(tmp_path):
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        for _ in range(2):
            tar.addfile(tarfile.TarInfo("a/x.png"))
    with pytest.raises(BadInputError, match="twice"):
        archive.read_tar(tmp_path / "a.tar")


def test_damaged_archives_end_in_one_error(tmp_path):
    write_folders(tmp_path / "a", 1)
    members = {f"{f.parent.name}/{f.name}": f.read_bytes() for f in (tmp_path / "a").glob("*/*")}
    good, rng = write_tar(tmp_path / "a.tar", members).read_bytes(), np.random.default_rng(0)
    path = tmp_path / "b.tar"
    for _ in range(200):
        data = bytearray(good[: rng.integers(1, len(good))] if rng.random() < 0.3 else good)
        for at in rng.integers(0, min(len(data), 6000), rng.integers(0, 4)):
            data[at] = rng.integers(256)
        path.write_bytes(gzip.compress(data, 1) if rng.random() < 0.3 else data)
        try:
            open_dataset(path)
        except RefvitError as error:
            assert str(path) in str(error)


def test_a_bomb_is_refused_at_the_limit(tmp_path):
    path = tmp_path / "a.tar.gz"
    path.write_bytes(gzip.compress(bytes(1 << 22)))
    with pytest.raises(BadInputError, match="too large when decompressed"):
        archive.read_tar(path, size_max=1 << 20)
    sparse = special(tarfile.REGTYPE, size=1 << 40)
    (tmp_path / "b.tar").write_bytes(sparse.tobuf(tarfile.GNU_FORMAT) + bytes(2048))
    with pytest.raises(BadInputError, match="b.tar"):
        archive.read_tar(tmp_path / "b.tar")


def test_pictures_too_many_for_memory_are_refused_before_they_are_decoded(tmp_path, monkeypatch):
    path = write_tar(tmp_path / "a.tar", {f"{name}/0.png": stored(drawings(1, 8)[0], "PNG") for name in CLASSES})
    monkeypatch.setattr(dataset, "IN_MEMORY_MAX", 3 * 8 * 8 * 3 - 1)
    with pytest.raises(BadInputError, match="kept in memory"):
        open_dataset(path, "train")


@pytest.mark.parametrize("path", ["missing", "missing.tar.gz"])
def test_missing_data_is_named(tmp_path, path):
    with pytest.raises(BadInputError, match=path):
        open_dataset(tmp_path / path)


def test_unknown_split_is_a_usage_error(tmp_path):
    with pytest.raises(UsageError, match="split"):
        open_dataset(tmp_path, "dev")


@pytest.mark.skipif(not (DATA / "cifar10.tar.gz").exists(), reason="needs the CIFAR-10 archive")
def test_the_real_archive_of_cifar_10():
    ds = open_dataset(DATA / "cifar10.tar.gz", "test")
    assert ds.images.shape == (2000, 32, 32, 3) and ds.class_names == list(cifar.CLASSES)
    assert np.bincount(ds.labels).tolist() == [200] * 10
