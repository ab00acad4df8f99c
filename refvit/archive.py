"""Compressed files and tar archives, read into memory and never unpacked to disk.

What a file claims cannot make it grow: it is decompressed up to a limit first, and everything else is inside of that.
"""

import gzip
import io
import tarfile
import zlib

from .errors import BadInputError
from .files import read_bytes

SIZE_MAX = 1 << 30  # bytes after decompression; our choice: CIFAR-10 has 186 MB, EMNIST's largest file 547 MB
GZIP_MAGIC = b"\x1f\x8b"
TAR_ERRORS = (tarfile.TarError, EOFError, OSError, ValueError, OverflowError, LookupError, RecursionError)


def read_content(path, size_max=SIZE_MAX):
    """Bytes of a file, decompressed where it is gzip. Raises BadInputError if damaged or above ``size_max`` bytes."""
    data = read_bytes(path, size_max)
    if not data.startswith(GZIP_MAGIC):
        return data
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(data)) as file:
            data = file.read(size_max + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise BadInputError(path, f"damaged gzip file: {error}") from None
    except MemoryError:
        raise BadInputError(path, "too large for this machine's memory") from None
    if len(data) > size_max:
        raise BadInputError(path, "too large when decompressed", f"at most {size_max} bytes", "more")
    return data


def read_tar(path, size_max=SIZE_MAX):
    """Regular files of a .tar or .tar.gz -> dict: name with "/" -> bytes, in the order of the archive.

    Hidden files (a part of the name begins with ".") are passed over. Raises BadInputError for a damaged archive,
    names that are absolute or contain "..", a name that stands twice, and anything but files and folders.
    """
    data, files, last = read_content(path, size_max), {}, -1
    try:
        with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as archive:
            for member in archive:
                # sizes below zero could lead backwards, and on for ever
                if member.size < 0 or member.offset <= last:
                    raise BadInputError(path, f"member {member.name!r:.200}", "after the one before", "elsewhere")
                last = member.offset
                _add(path, archive, member, files, len(data))
    except BadInputError:
        raise
    except TAR_ERRORS as error:
        raise BadInputError(path, f"damaged or not a tar archive: {error!s:.200}") from None
    return files


def _add(path, archive, member, files, size):
    parts = [part for part in member.name.split("/") if part != "."]
    if member.name.startswith("/") or "\\" in member.name or ".." in parts:
        raise BadInputError(path, "archive member", "a name below the archive's folder", f"{member.name!r:.200}")
    if member.isdir():
        return
    if not member.isreg() or member.issparse() or member.size > size:
        raise BadInputError(path, f"archive member {member.name!r:.200}", "a file or a folder", "a link or a device")
    if any(part.startswith(".") for part in parts):
        return
    name = "/".join(parts)
    if name in files:
        raise BadInputError(path, f"archive member {name!r:.200}", "once", "twice")
    files[name] = archive.extractfile(member).read()
