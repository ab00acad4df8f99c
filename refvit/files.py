"""Files: read whole or refused in one sentence; written whole or not at all."""

import contextlib
import os
import stat

from .errors import BadInputError, UsageError
from .leftovers import temporary


@contextlib.contextmanager
def open_input(path):
    """A regular file, open for binary reading, as a context manager.

    Raises BadInputError where it is missing, a folder, a device or unreadable, or where reading it fails.
    """
    try:
        regular = stat.S_ISREG(os.stat(path).st_mode)  # a pipe or a device could be endless
        file = open(path, "rb") if regular else None
    except (OSError, ValueError) as error:  # ValueError: a name with a zero byte
        raise BadInputError(path, f"cannot be read: {_reason(error)}") from None
    if file is None:
        raise BadInputError(path, "cannot be read", "a file", "a folder" if os.path.isdir(path) else "a device")
    with file:
        try:
            yield file
        except OSError as error:
            raise BadInputError(path, f"cannot be read: {_reason(error)}") from None


def read_bytes(path, limit=None):
    """Content of a regular file; with ``limit``, BadInputError where it is larger (bytes). Errors as ``open_input``."""
    with open_input(path) as file:
        size = file_size(file)
        if limit is not None and size > limit:
            raise BadInputError(path, "too large", f"at most {limit} bytes", size)
        return read_exactly(path, file, size)


def read_exactly(path, file, size):
    """The next ``size`` bytes; BadInputError where the file ends before, or memory does."""
    try:
        data = file.read(size)
    except MemoryError:
        raise BadInputError(path, "too large for this machine's memory", got=f"{size} bytes") from None
    if len(data) != size:
        raise BadInputError(path, "ends early", f"{size} more bytes", len(data))
    return data


def file_size(file):
    """Bytes of an open file."""
    return os.fstat(file.fileno()).st_size


@contextlib.contextmanager
def atomic_write(path, force=False):
    """A binary file that appears at ``path`` only when complete, as a context manager.

    It is written under a temporary name in the same folder, fsynced and renamed onto ``path``, and the folder fsynced.
    On any failure, interruption included, the temporary file is removed and an existing ``path`` stays as it was; that
    of a killed process is removed by the next write to ``path``. Where only the last fsync fails, ``path`` is new.
    Raises UsageError where ``path`` exists and ``force`` is not given, BadInputError where it cannot be written.
    """
    path = os.fspath(path)
    folder, name = os.path.split(path)
    _check_target(path, name, force)
    try:
        with temporary(path, _make) as unfinished:
            with open(unfinished, "r+b") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            _check_target(path, name, force)  # it may have appeared meanwhile
            os.replace(unfinished, path)
        _sync_folder(folder or ".")
    except OSError as error:
        raise BadInputError(path, f"cannot be written: {_reason(error)}") from None


def _make(name):
    with open(name, "xb"):
        pass


class _GivenUp(Exception):
    """Ends a trial."""


def check_writable(path, force=False):
    """Begin to write a file and give it up: what cannot be written is told early. Errors as ``atomic_write``."""
    with contextlib.suppress(_GivenUp), atomic_write(path, force):
        raise _GivenUp


def _check_target(path, name, force):
    if os.path.exists(path) and not os.path.isfile(path) or not name or "\0" in path:
        raise BadInputError(path, "cannot be written", "a file name", "a folder, a device or no name")
    if os.path.lexists(path) and not force:
        raise UsageError(path, "already exists", hint="--force to overwrite it")


def _sync_folder(folder):
    """Make the rename itself durable, where the system can open a folder (Windows cannot)."""
    if hasattr(os, "O_DIRECTORY"):
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _reason(error):
    return getattr(error, "strerror", None) or error
