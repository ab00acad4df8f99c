"""Temporary files and folders, and what killed processes left of theirs.

A writer holds a lock on its own for as long as it lives; the system ends the lock with the process, however that ends. So
what somebody else can lock is nobody's and is removed by the next writer of the same target. Where a file system has no
locks, nothing of others is removed; Windows has none either, but refuses to remove files that are open.

A folder is replaced by two renames. What a process killed between them had moved aside, the next writer puts back.
"""

import contextlib
import os
import re
import secrets
import shutil

try:
    import fcntl
except ImportError:
    fcntl = None

ASIDE = "aside"  # in a temporary folder: what had the name of the new one


@contextlib.contextmanager
def temporary(path, make):
    """``make(name)`` makes a file or a folder under a new name beside ``path``; what is there in the end is removed.

    Older ones of dead writers are removed before. Yields the name; raises OSError.
    """
    folder, target = os.path.split(path)
    drop_leftovers(folder or ".", target)
    while True:
        name = os.path.join(folder, f".{target[:64]}.{secrets.token_hex(6)}.tmp")
        try:
            make(name)
            with _claimed(name) as mine:
                if mine:
                    yield name
                    return
        finally:
            with contextlib.suppress(OSError, ValueError):  # after a rename there is none
                _remove(name)


def replace_folder(path, new):
    """Rename the folder ``new`` to ``path``; an older one is removed, or stays where that fails."""
    with temporary(path, os.mkdir) as keep:
        aside = os.path.join(keep, ASIDE)
        try:
            if os.path.lexists(path):
                os.rename(path, aside)
            os.rename(new, path)
        except BaseException:
            if os.path.lexists(aside) and not os.path.lexists(path):
                os.rename(aside, path)
            raise


def put_back(path):
    """Where ``path`` is missing and a killed process had moved it aside, to replace it, it has its name again."""
    folder, target = os.path.split(path)
    for name in leftovers(folder or ".", target):
        with contextlib.suppress(OSError), _unclaimed(name):
            if not os.path.lexists(path):
                os.rename(os.path.join(name, ASIDE), path)


def drop_leftovers(folder, target=None):
    """Remove temporary files and folders of dead writers: those of one target, or all of a folder."""
    for name in leftovers(folder, target):
        with contextlib.suppress(OSError), _unclaimed(name):
            os.unlink(name) if fcntl is None else _remove(name)


def leftovers(folder, target=None):
    """Temporary files and folders of one target, or all of a folder, whoever has them.  -> paths"""
    start = r"\..*" if target is None else re.escape(f".{target[:64]}")
    with contextlib.suppress(OSError, ValueError):
        found = filter(re.compile(start + r"\.[0-9a-f]{12}\.tmp", re.DOTALL).fullmatch, os.listdir(folder))
        return [os.path.join(folder, entry) for entry in found]
    return []


@contextlib.contextmanager
def _unclaimed(name):
    """Hold what no living process holds; OSError where one does."""
    if fcntl is None:
        yield
        return
    handle = os.open(name, os.O_RDONLY | os.O_NONBLOCK)  # a pipe of such a name would wait
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(handle)


@contextlib.contextmanager
def _claimed(name):
    """Hold the lock -> whether it is ours: another process may have taken it for a leftover before it was locked."""
    if fcntl is None:
        yield True
        return
    try:
        handle = os.open(name, os.O_RDONLY)
    except FileNotFoundError:
        yield False
        return
    try:
        yield _lock(handle) and os.path.lexists(name)
    finally:
        os.close(handle)


def _lock(handle):
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # no locks here: nobody can take it for a leftover
        return True
    return True


def _remove(name):
    if os.path.isdir(name) and not os.path.islink(name):
        shutil.rmtree(name)
    else:
        os.unlink(name)
