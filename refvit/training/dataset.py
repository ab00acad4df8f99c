"""Pictures with labels for training and evaluation, from the usual files: ``open_dataset``.

Every dataset has ``len``, ``labels`` (int64 [N]), ``num_classes``, ``class_names`` (list, or None), and
    get(i)   -> (picture uint8 [H, W, 3] RGB, label); of a grey picture all three channels are equal
    file(i)  -> the same picture as ``pictures.load_rgb`` takes it: a path or a file object
    take(indices) -> a dataset of these pictures
Shapes: N pictures, H rows, W columns.
"""

import io
import os

import numpy as np

from ..archive import read_tar
from ..errors import BadInputError, UsageError
from ..files import read_bytes
from ..imagefolder import EXTENSIONS, ImageFolder, listing
from ..labels import imagenet_wnids
from ..pictures import load_rgb
from . import cifar
from .idx import read_idx
from .streams import SUBSET, stream

SPLITS = {"train": ("train",), "val": ("val", "test"), "test": ("test", "val")}  # folders of pictures, the first wins
SUBFOLDERS = ("", "cifar-10-batches-py", "cifar-10-batches-bin", "MNIST/raw", "FashionMNIST/raw")  # as unpacked
IDX_FILES = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}
IDX_CLASSES = 10  # of MNIST and Fashion-MNIST
IN_MEMORY_MAX = 1 << 32  # bytes; our choice: 20 times CIFAR-10


class ArrayDataset:
    """Pictures in memory: ``images`` uint8 [N, H, W, 3], ``labels`` int64 [N]; ``name`` is what errors call it."""

    def __init__(self, name, images, labels, num_classes, class_names=None):
        if not len(images):
            raise BadInputError(name, "no pictures", "at least one", 0)
        self.name, self.images, self.labels = name, images, labels
        self.num_classes, self.class_names = num_classes, class_names

    def __len__(self):
        return len(self.images)

    def get(self, i):
        return self.images[i], int(self.labels[i])

    def file(self, i):
        height, width, _ = self.images[i].shape
        file = io.BytesIO(b"P6 %d %d 255\n" % (width, height) + self.images[i].tobytes())  # PPM, no compression
        file.name = f"{self.name}: picture {i}"
        return file

    def take(self, indices):
        return ArrayDataset(self.name, self.images[indices], self.labels[indices], self.num_classes, self.class_names)


class FolderDataset:
    """Picture files, decoded when they are asked for: ``paths``, ``labels`` int64 [N]."""

    def __init__(self, name, paths, labels, num_classes, class_names=None):
        self.name, self.paths, self.labels = name, paths, labels
        self.num_classes, self.class_names = num_classes, class_names

    def __len__(self):
        return len(self.paths)

    def get(self, i):
        return np.asarray(load_rgb(self.file(i))), int(self.labels[i])

    def file(self, i):
        return self.paths[i]

    def take(self, indices):
        paths = [self.paths[i] for i in indices]
        return FolderDataset(self.name, paths, self.labels[indices], self.num_classes, self.class_names)


def open_dataset(path, split=None, num_classes=None, class_names=None):
    """The dataset at ``path``; which form it has is seen from its files.

    - folder or tar archive (also .tar.gz) of pictures: path/<split>/<class>/<picture>, where a missing "val" may be
      called "test" and the reverse; split None, or "train" without such a folder: path/<class>/<picture>.
      Classes are found as ``ImageFolder`` does. Pictures of an archive are decoded at once and must be of one size.
    - CIFAR-10, python version (data_batch_1 ..., test_batch) or binary version (the same with .bin), as a folder or as
      the archive that is distributed
    - folder of MNIST or Fashion-MNIST: train-images-idx3-ubyte, t10k-labels-idx1-ubyte ..., also with .gz

    split        "train", "val", "test" (the last two mean the same in the forms that have one test set), or None
    num_classes  where folders are named by ImageNet's wnids: 1000 even if some are missing; otherwise not needed
    class_names  of the training dataset, so that an incomplete test folder means the same classes

    Raises UsageError for a wrong argument, BadInputError, naming the file, for everything that is wrong in the data.
    """
    if split not in (None, *SPLITS):
        raise UsageError("dataset", "split", f"one of {', '.join(SPLITS)} or None", repr(split))
    if class_names is not None:
        num_classes = len(class_names)
    path = os.fspath(path)
    if os.path.isdir(path):
        return _open_folder(path, split, num_classes, class_names)
    return _open_tar(path, split, num_classes, class_names)


def subset(ds, count, seed):
    """``count`` pictures, in the dataset's order, as many of each class as possible, drawn by ``seed``."""
    return ds.take(_balanced(ds, count, seed)[0])


def split_off(ds, count, seed):
    """-> (the rest, ``count`` pictures as ``subset`` draws them): disjoint, both in the dataset's order."""
    chosen, rest = _balanced(ds, count, seed)
    if not len(rest):
        raise UsageError("dataset", "pictures to split off", f"below {len(ds)}", count)
    return ds.take(rest), ds.take(chosen)


def _balanced(ds, count, seed):
    """Each class is shuffled; then the first of every class, the second of every class ..., lower classes first."""
    if type(count) is not int or not 1 <= count <= len(ds):
        raise UsageError("dataset", "pictures to choose", f"an integer in 1..{len(ds)}", repr(count))
    rng, rank = stream(seed, SUBSET), np.empty(len(ds), np.int64)
    for label in range(ds.num_classes):
        members = np.flatnonzero(ds.labels == label)
        rank[members] = rng.permutation(len(members))
    order = np.lexsort((ds.labels, rank))
    return np.sort(order[:count]), np.sort(order[count:])


def _open_folder(path, split, num_classes, class_names):
    for below in SUBFOLDERS:
        folder = os.path.join(path, below) if below else path
        names = listing(folder) if os.path.isdir(folder) else []
        read = {name: lambda name=name: read_bytes(os.path.join(folder, name), cifar.SIZE_MAX) for name in names}
        ds = _open_cifar(folder, read, split) or _open_idx(folder, names, split, num_classes, class_names)
        if ds is not None:
            return ds
    folders = [name for name in listing(path) if os.path.isdir(os.path.join(path, name))]
    root = os.path.join(path, _split_folder(path, folders, split))
    inside = [name for name in listing(root) if os.path.isdir(os.path.join(root, name))]
    folder = ImageFolder(root, class_names, num_classes or len(inside))
    paths = [folder.path(name) for name, _ in folder.samples]
    return FolderDataset(root, paths, *_classes(folder, class_names))


def _open_tar(path, split, num_classes, class_names):
    files = read_tar(path)
    read = {name.rpartition("/")[2]: lambda data=data: data for name, data in files.items()}
    ds = _open_cifar(path, read, split)
    if ds is not None:
        return ds
    files = _below(files, _wrapping_folder(files))
    files = _below(files, _split_folder(path, {name.partition("/")[0] for name in files}, split))
    folder = _TarFolder(path, files, class_names, num_classes)
    pictures = [_named(f"{path}: {name}", files[name]) for name, _ in folder.samples]
    return _decode(path, pictures, *_classes(folder, class_names))


class _TarFolder(ImageFolder):
    """The rules of ImageFolder for the names in an archive."""

    def __init__(self, root, names, labels, num_classes):
        self.groups = {}
        for name in names:
            folder, slash, picture = name.partition("/")
            if not slash or "/" in picture:
                raise BadInputError(root, "archive of pictures", "one folder of pictures a class", f"{name!r:.200}")
            if picture.lower().endswith(EXTENSIONS):
                self.groups.setdefault(folder, []).append(picture)
        super().__init__(root, labels, num_classes or len(self.groups))

    def _class_folders(self):
        return sorted(self.groups)

    def _pictures(self, folder):
        return sorted(self.groups[folder])


def _classes(folder, class_names):
    """-> labels of the samples int64 [N], number of classes, their names: the folders', in class order."""
    labels = np.array([label for _, label in folder.samples], np.int64)
    if class_names is None:
        class_names = sorted(folder.class_index, key=folder.class_index.get)
        if folder.class_index != {name: i for i, name in enumerate(class_names)}:
            class_names = imagenet_wnids()  # only by them can some of the classes be missing
    return labels, len(class_names), list(class_names)


def _open_cifar(where, read, split):
    """CIFAR-10 from dict: file name -> function that reads it; None where there is no such file."""
    for suffix, decode in (("", cifar.read_python), (".bin", cifar.read_binary)):
        files = {part: [name + suffix for name in names] for part, names in cifar.FILES.items()}
        if not any(name in read for names in files.values() for name in names):
            continue
        wanted = files[_part(where, split)]
        missing = [name for name in wanted if name not in read]
        if missing:
            raise BadInputError(where, "files of CIFAR-10", ", ".join(wanted), f"no {missing[0]}")
        parts = [decode(os.path.join(where, name), read[name]()) for name in wanted]
        images, labels = (np.concatenate(arrays) for arrays in zip(*parts))
        return ArrayDataset(where, images, labels, len(cifar.CLASSES), list(cifar.CLASSES))
    return None


def _open_idx(folder, names, split, num_classes, class_names):
    """MNIST and its relatives; None where there is no such file."""
    if not any(name.removesuffix(".gz") in sum(IDX_FILES.values(), ()) for name in names):
        return None
    arrays = []
    for dimensions, name in zip((3, 1), IDX_FILES[_part(folder, split)]):
        found = [n for n in (name, name + ".gz") if n in names]
        if not found:
            raise BadInputError(folder, "idx file", f"{name} or {name}.gz", "neither")
        arrays.append(read_idx(os.path.join(folder, found[0]), dimensions))
    images, labels = arrays
    classes = num_classes or IDX_CLASSES
    if len(images) != len(labels):
        raise BadInputError(folder, "labels", f"one for each of {len(images)} pictures", len(labels))
    if len(labels) and labels.max() >= classes:
        raise BadInputError(os.path.join(folder, found[0]), "label", f"below {classes}", labels.max())
    images = np.repeat(images[..., None], 3, axis=3)
    return ArrayDataset(folder, images, labels.astype(np.int64), classes, class_names)


def _part(where, split):
    if split is None:
        raise UsageError(where, "split", f"one of {', '.join(SPLITS)}", "None")
    return "train" if split == "train" else "test"


def _split_folder(path, folders, split):
    """Name of the split's folder, "" where the class folders are in ``path`` itself."""
    found = [name for name in SPLITS.get(split, ()) if name in folders]
    if not found and split not in (None, "train"):
        raise BadInputError(path, f"pictures of {split}", f"a folder {' or '.join(SPLITS[split])}", "none",
                            "a folder that has train and test in it")
    return found[0] if found else ""


def _wrapping_folder(files):
    """The one folder that everything of an archive is in, beside the split's and the class's; "" if there is none."""
    first = {name.partition("/")[0] for name in files}
    deep = all(name.count("/") >= 2 for name in files)
    return first.pop() if deep and len(first) == 1 and first.isdisjoint(SPLITS) else ""


def _below(files, folder):
    """The files in a folder of the archive, their names without it; all files for ""."""
    prefix = f"{folder}/" if folder else ""
    return {name[len(prefix) :]: data for name, data in files.items() if name.startswith(prefix)}


def _decode(name, pictures, labels, num_classes, class_names):
    """ArrayDataset of pictures that all have the first one's size."""
    first = load_rgb(pictures[0])
    images = _allocate(name, (len(pictures), first.height, first.width, 3))
    for i, picture in enumerate(pictures):
        image = first if i == 0 else load_rgb(picture)
        if image.size != first.size:
            got = f"{image.width} x {image.height} of {getattr(picture, 'name', picture)}"
            raise BadInputError(name, "pictures kept in memory", f"all {first.width} x {first.height}", got,
                                "a folder of the unpacked pictures")
        images[i] = image
    return ArrayDataset(name, images, labels, num_classes, class_names)


def _allocate(name, shape):
    if int(np.prod(shape, dtype=object)) > IN_MEMORY_MAX:
        raise BadInputError(name, "pictures kept in memory", f"at most {IN_MEMORY_MAX} bytes", f"shape {list(shape)}",
                            "a folder of the unpacked pictures")
    return np.empty(shape, np.uint8)


def _named(name, data):
    file = io.BytesIO(data)
    file.name = name
    return file
