import errno
import os

import pytest

from refvit.errors import BadInputError, UsageError
from refvit.files import atomic_write, open_input, read_bytes


def write(path, data, force=False):
    with atomic_write(path, force) as file:
        file.write(data)


def test_file_appears_complete_and_alone(tmp_path):
    write(tmp_path / "a", b"new")
    assert read_bytes(tmp_path / "a") == b"new"
    assert os.listdir(tmp_path) == ["a"]


def test_relative_name_is_written_in_the_current_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write("a", b"new")
    assert read_bytes("a") == b"new"


def test_existing_file_is_kept_without_force_and_replaced_with_it(tmp_path):
    write(tmp_path / "a", b"old")
    with pytest.raises(UsageError, match="already exists; try --force"):
        write(tmp_path / "a", b"new")
    assert read_bytes(tmp_path / "a") == b"old"
    write(tmp_path / "a", b"new", force=True)
    assert read_bytes(tmp_path / "a") == b"new"


@pytest.mark.parametrize("failure", [RuntimeError, KeyboardInterrupt, SystemExit])
def test_failure_while_writing_leaves_the_old_file_and_no_other(tmp_path, failure):
    write(tmp_path / "a", b"old")
    with pytest.raises(failure):
        with atomic_write(tmp_path / "a", force=True) as file:
            file.write(b"half")
            raise failure
    assert os.listdir(tmp_path) == ["a"]
    assert read_bytes(tmp_path / "a") == b"old"


def test_full_disk_is_one_error_and_leaves_the_old_file(tmp_path, monkeypatch):
    def full(handle):
        raise OSError(errno.ENOSPC, "No space left on device")

    write(tmp_path / "a", b"old")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(BadInputError, match="a: cannot be written: No space left"):
        write(tmp_path / "a", b"new", force=True)
    assert os.listdir(tmp_path) == ["a"]
    assert read_bytes(tmp_path / "a") == b"old"


def test_file_that_appears_meanwhile_is_kept(tmp_path):
    with pytest.raises(UsageError, match="already exists"):
        with atomic_write(tmp_path / "a") as file:
            file.write(b"new")
            (tmp_path / "a").write_bytes(b"other")
    assert os.listdir(tmp_path) == ["a"]
    assert read_bytes(tmp_path / "a") == b"other"


@pytest.mark.parametrize("name", ["missing/a", "", "a\0b", "file/a"])
def test_impossible_targets_are_one_error(tmp_path, name):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(BadInputError, match="cannot be written"):
        write(os.path.join(tmp_path, name), b"new")
    assert os.listdir(tmp_path) == ["file"]


def test_devices_are_never_replaced():
    with pytest.raises(BadInputError, match="cannot be written"):
        write(os.devnull, b"", force=True)
    assert not os.path.isfile(os.devnull)


@pytest.mark.parametrize("name", ["missing", "", "a\0b"])
def test_unreadable_inputs_are_one_error(tmp_path, name):
    with pytest.raises(BadInputError, match="cannot be read"):
        read_bytes(os.path.join(tmp_path, name))


def test_pipes_are_refused_without_waiting(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(BadInputError, match="expected a file, got a device"):
        read_bytes(tmp_path / "pipe")


def test_error_while_reading_names_the_file(tmp_path):
    (tmp_path / "a").write_bytes(b"")
    with pytest.raises(BadInputError, match="a: cannot be read: Input/output error"):
        with open_input(tmp_path / "a"):
            raise OSError(errno.EIO, "Input/output error")


def test_limit_is_inclusive(tmp_path):
    (tmp_path / "a").write_bytes(b"1234")
    assert read_bytes(tmp_path / "a", limit=4) == b"1234"
    with pytest.raises(BadInputError, match="at most 3 bytes, got 4"):
        read_bytes(tmp_path / "a", limit=3)
