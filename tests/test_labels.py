"""ImageNet's classes, and which class a folder means."""

import os
from pathlib import Path

import pytest

from refvit.errors import BadInputError
from refvit.imagefolder import ImageFolder
from refvit.labels import imagenet_names, imagenet_wnids

SYNSETS = Path(os.environ.get("REFVIT_DATA", Path(__file__).parents[2] / "shared" / "data")) / "imagenet-samples"


def tree(root, *paths):
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).touch()
    return root


def test_a_thousand_wnids_in_order():
    wnids, names = imagenet_wnids(), imagenet_names()
    assert len(wnids) == len(names) == len(set(wnids)) == 1000
    assert wnids == sorted(wnids)
    assert all(w[0] == "n" and w[1:].isdigit() and len(w) == 9 for w in wnids)
    assert (wnids[0], wnids[207], wnids[999]) == ("n01440764", "n02099601", "n15075141")
    assert names[0] == "tench, Tinca tinca" and names[207] == "golden retriever"
    assert [i for i, name in enumerate(names) if name == "crane"] == [134, 517]


def test_the_lists_are_the_callers_own():
    imagenet_wnids().clear()
    assert len(imagenet_wnids()) == 1000


@pytest.mark.skipif(not SYNSETS.is_dir(), reason="the sample pictures are not here")
def test_equal_to_another_publication():
    lines = [line.split(" ", 1) for line in (SYNSETS / "synset_words.txt").read_text().splitlines()]
    assert [line[0] for line in lines] == imagenet_wnids()
    assert [line[1] for line in lines] == imagenet_names()


def test_a_wnid_means_its_class_whichever_folders_are_there(tmp_path):
    folder = ImageFolder(tree(tmp_path, "n02099601/b.JPEG", "n02099601/a.png", "n01443537/x.webp"), None, 1000)
    assert folder.samples == [("n01443537/x.webp", 1), ("n02099601/a.png", 207), ("n02099601/b.JPEG", 207)]
    assert folder.class_index == {"n01443537": 1, "n02099601": 207}
    assert len(folder) == 3 and folder.path("n01443537/x.webp") == str(tmp_path / "n01443537/x.webp")


def test_the_models_labels_name_folders(tmp_path):
    folder = ImageFolder(tree(tmp_path, "cat/1.jpg", "ape/1.jpg"), ["dog", "cat", "ape"], 3)
    assert folder.samples == [("ape/1.jpg", 2), ("cat/1.jpg", 1)]


def test_labels_win_over_wnids(tmp_path):
    labels = imagenet_wnids()[::-1]
    assert ImageFolder(tree(tmp_path, "n01440764/1.jpg"), labels, 1000).samples == [("n01440764/1.jpg", 999)]


def test_other_folders_count_in_the_order_of_strings(tmp_path):
    folder = ImageFolder(tree(tmp_path, "b10/1.jpg", "b9/1.jpg", "B/1.jpg"), None, 3)
    assert folder.class_index == {"B": 0, "b10": 1, "b9": 2}


def test_an_order_file_gives_the_order(tmp_path):
    order = tmp_path / "order.txt"
    order.write_text("b9\nb10\nc\n")
    root = tree(tmp_path / "pictures", "b10/1.jpg", "b9/1.jpg")
    assert ImageFolder(root, None, 3, order).class_index == {"b10": 1, "b9": 0}


def test_hidden_and_other_files_are_passed_over(tmp_path):
    root = tree(tmp_path, "a/1.PPM", "a/.2.jpg", "a/notes.txt", ".git/3.jpg", "readme.txt", "b/x.pgm")
    assert ImageFolder(root, None, 2).samples == [("a/1.PPM", 0), ("b/x.pgm", 1)]


@pytest.mark.parametrize("paths,labels,classes,message", [
    (["a/1.jpg", "b/1.jpg"], None, 3, "exactly 3 folders, got 2"),
    (["n01440764/1.jpg", "dog/1.jpg"], None, 1000, "unknown class folders.*dog"),
    (["cat/1.jpg", "cow/1.jpg"], ["cat", "dog"], 2, "unknown class folders.*cow"),
    (["crane/1.jpg"], ["crane", "crane"], 2, "exactly 2 folders"),
    (["n01440764/1.jpg"], None, 10, "exactly 10 folders"),
    (["a/notes.txt"], None, 1, "no pictures"),
    (["notes.txt"], None, 1, "no class folders"),
    (["a/1.jpg", "2.jpg"], None, 1, "outside of a class folder.*2.jpg"),
])
def test_what_fits_no_rule_is_one_error(tmp_path, paths, labels, classes, message):
    with pytest.raises(BadInputError, match=message):
        ImageFolder(tree(tmp_path, *paths), labels, classes)


@pytest.mark.parametrize("text,message", [
    (b"a\n", "2 classes, got 1"), (b"a\na\n", "a repeated"), (b"a\nc\n", "unknown class folders.*b"),
    (b"\xff\n\xfe", "UTF-8"),
])
def test_wrong_order_files_are_one_error(tmp_path, text, message):
    (tmp_path / "order.txt").write_bytes(text)
    with pytest.raises(BadInputError, match=message):
        ImageFolder(tree(tmp_path / "pictures", "a/1.jpg", "b/1.jpg"), None, 2, tmp_path / "order.txt")


def test_a_missing_folder_or_order_file_is_one_error(tmp_path):
    with pytest.raises(BadInputError, match="none"):
        ImageFolder(tmp_path / "none", None, 2)
    with pytest.raises(BadInputError, match="order.txt"):
        ImageFolder(tree(tmp_path, "a/1.jpg"), None, 1, tmp_path / "order.txt")
