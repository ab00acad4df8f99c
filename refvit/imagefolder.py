"""Folders of pictures: one folder a class -> the list of (picture, class index); any folder -> its pictures."""

import collections
import os

from .errors import BadInputError
from .files import read_bytes
from .labels import imagenet_wnids

EXTENSIONS = (".jpg", ".jpeg", ".png", ".ppm", ".pgm", ".webp")  # of any case
ORDER_FILE_LIMIT = 1 << 24  # bytes


def listing(folder):
    """Names in a folder, sorted as strings, without the hidden ones. Raises BadInputError where it cannot be read."""
    if os.path.isfile(folder):
        raise BadInputError(folder, "cannot be listed", "a folder", "a file", "unpacking it first")
    try:
        return sorted(name for name in os.listdir(folder) if not name.startswith("."))
    except (OSError, ValueError) as error:  # ValueError: a name with a zero byte
        raise BadInputError(folder, f"cannot be listed: {getattr(error, 'strerror', error)}") from None


def find_pictures(root):
    """Paths of the pictures in a folder and its sub-folders, sorted as strings; hidden ones are passed over.

    Raises BadInputError for a folder that cannot be read, and where there is no picture at all.
    """
    folders, seen, found = [os.fspath(root)], set(), []
    while folders:
        folder = folders.pop()
        if os.path.realpath(folder) in seen:  # a link may lead back up
            continue
        seen.add(os.path.realpath(folder))
        paths = [os.path.join(folder, name) for name in listing(folder)]
        folders += filter(os.path.isdir, paths)
        found += [path for path in paths if _is_picture(path) and not os.path.isdir(path)]
    if not found:
        raise BadInputError(root, "no pictures", f"files with {', '.join(EXTENSIONS)}", "none")
    return sorted(found)


class ImageFolder:
    """Pictures of ``root``/<class folder>/<picture>; hidden files and other extensions are passed over.

    Which class a folder means:
    1. with ``order_file`` (text, one folder name a line): its line, counted from 0;
    2. else by name: one of the model's ``labels``, or, for a model of 1000 classes, a wnid of ImageNet; only the
       folders that are there count;
    3. else, where no folder has such a name, its place among the folders sorted as strings (by code point, as
       torchvision does), which must be as many as ``num_classes``.

    labels       the model's class names in class order, or None; a name that stands twice matches nothing
    class_index  dict: folder name -> class index
    samples      list of (path below root with "/", class index), sorted by folder name, then file name, as strings

    Raises BadInputError for a missing or unreadable folder, folders that fit none of the rules or two of them, a
    wrong order file, pictures beside the class folders, and where there is no picture at all.
    """

    def __init__(self, root, labels, num_classes, order_file=None):
        self.root = os.fspath(root)
        folders = self._class_folders()
        if order_file is not None:
            known = _read_order(order_file, num_classes)
            self.class_index = self._by_name(folders, known, f"a line of {os.fspath(order_file)}")
        else:
            self.class_index = self._recognise(folders, _known_names(labels, num_classes), num_classes)
        self.samples = [(f"{name}/{file}", self.class_index[name]) for name in folders for file in self._pictures(name)]
        if not self.samples:
            raise BadInputError(self.root, "no pictures", f"files with {', '.join(EXTENSIONS)}", "none")

    def __len__(self):
        return len(self.samples)

    def path(self, name):
        """Where a picture of ``samples`` is."""
        return os.path.join(self.root, name)

    def _class_folders(self):
        entries = listing(self.root)
        loose = [name for name in entries if _is_picture(name) and not os.path.isdir(self.path(name))]
        if loose:
            raise BadInputError(self.root, "pictures outside of a class folder", "one folder of pictures a class",
                                _few(loose))
        folders = [name for name in entries if os.path.isdir(self.path(name))]
        if not folders:
            raise BadInputError(self.root, "no class folders", "one folder of pictures a class", "none")
        return folders

    def _pictures(self, folder):
        return [name for name in listing(self.path(folder)) if _is_picture(name)]

    def _recognise(self, folders, known, num_classes):
        if not known.keys().isdisjoint(folders):
            return self._by_name(folders, known, "the name of a class, as others are")
        if len(folders) != num_classes:
            raise BadInputError(self.root, "class folders", f"names of classes, or exactly {num_classes} folders",
                                f"{len(folders)}: {_few(folders)}", _where_classes_may_be(self.root, folders))
        return {name: i for i, name in enumerate(folders)}

    def _by_name(self, folders, known, expected):
        unknown = [name for name in folders if name not in known]
        if unknown:
            raise BadInputError(self.root, "unknown class folders", expected, _few(unknown))
        return {name: known[name] for name in folders}


def _where_classes_may_be(root, folders):
    """Of a folder with one folder, as a dataset has it, that one; else how to say which folder is which class."""
    if len(folders) == 1:
        return os.path.join(root, folders[0])
    return "--class-order FILE, one folder name a line"


def _known_names(labels, num_classes):
    """Folder name -> class index: wnids of ImageNet's 1000 classes, then the model's own labels, which win."""
    known = {wnid: i for i, wnid in enumerate(imagenet_wnids())} if num_classes == 1000 else {}
    labels = list(labels or ())
    count = collections.Counter(labels)
    known.update({label: i for i, label in enumerate(labels) if count[label] == 1})
    return known


def _read_order(path, num_classes):
    try:
        lines = read_bytes(path, ORDER_FILE_LIMIT).decode("utf-8").splitlines()
    except UnicodeDecodeError:
        raise BadInputError(path, "order file", "UTF-8 text, one folder name a line", "other bytes") from None
    if len(lines) != num_classes:
        raise BadInputError(path, "lines of the order file", f"one for each of {num_classes} classes", len(lines))
    repeated = [line for line, count in collections.Counter(lines).items() if count > 1]
    if repeated:
        raise BadInputError(path, "order file", "each folder name once", f"{_few(repeated)} repeated")
    return {name: i for i, name in enumerate(lines)}


def _is_picture(name):
    return name.lower().endswith(EXTENSIONS)


def _few(names):
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
