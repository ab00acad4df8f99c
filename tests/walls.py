"""Arrays that end where a page begins that nobody may touch: to read or write beyond their end is a crash."""

import ctypes
import mmap
import os

import numpy as np
import pytest


def before_a_wall(array):
    """A copy that ends at a page without access."""
    if os.name != "posix":
        pytest.skip("needs mprotect")
    length = -(-array.nbytes // mmap.PAGESIZE) * mmap.PAGESIZE
    area = np.frombuffer(mmap.mmap(-1, length + mmap.PAGESIZE), np.uint8)
    protect = ctypes.CDLL(None, use_errno=True).mprotect
    assert protect(ctypes.c_void_p(area.ctypes.data + length), ctypes.c_size_t(mmap.PAGESIZE), 0) == 0
    copy = area[length - array.nbytes : length].view(array.dtype).reshape(array.shape)
    copy[...] = array
    return copy
