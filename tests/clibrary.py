"""The C loader through cffi, as a caller in C uses it."""

import numpy as np

from refvit.backend import ffi, lib


class CModel:
    """A packed model opened by the library from the file's bytes; ``memory``: the caller's own, or None."""

    def __init__(self, data, memory=None):
        self.data, self.memory = data, memory  # must outlive the model
        handle, self.message = ffi.new("struct refvit **"), ffi.new("char[]", lib.REFVIT_MESSAGE_BYTES)
        self.size = 0 if memory is None else len(memory)
        block = ffi.NULL if memory is None else ffi.from_buffer(memory)
        self.status = lib.refvit_open_memory(ffi.from_buffer(data), len(data), block, self.size, handle, self.message)
        assert (handle[0] == ffi.NULL) == (self.status != lib.REFVIT_OK)
        self.handle = None if self.status else ffi.gc(handle[0], lib.refvit_close)

    @property
    def text(self):
        return ffi.string(self.message).decode()

    @property
    def info(self):
        info = ffi.new("struct refvit_info *")
        lib.refvit_query(self.handle, info)
        return info

    def run(self, pictures, threads=1, backend=None):
        """Logits of uint8 [B, S, S, 3] or float32 [B, C, S, S].  -> float32 [B, classes], None where a NaN was met"""
        if backend is not None:
            assert lib.refvit_use_backend(self.handle, backend) == lib.REFVIT_OK
        pool = ffi.gc(lib.refvit_pool_new(threads), lib.refvit_pool_free)
        size = lib.refvit_run_size(self.handle, threads)
        room = np.empty(size + lib.REFVIT_ALIGN, np.uint8)
        start = -room.ctypes.data % lib.REFVIT_ALIGN
        logits = np.empty((len(pictures), self.info.classes), np.float32)
        run, kind = (lib.refvit_run_pixels, "uint8_t[]") if pictures.dtype == np.uint8 else (lib.refvit_run, "float[]")
        status = run(self.handle, pool, len(pictures), ffi.from_buffer(kind, pictures), ffi.from_buffer("float[]", logits),
                     ffi.from_buffer(room[start : start + size]), size)  # fmt: skip
        if status == lib.REFVIT_NAN:
            return None
        assert status == lib.REFVIT_OK, ffi.string(lib.refvit_status_text(status))
        return logits


def memory_size(data):
    """Bytes that the model needs, None where it is refused."""
    size = ffi.new("size_t *")
    status = lib.refvit_memory_size(ffi.from_buffer(data), len(data), size, ffi.NULL)
    return None if status else size[0]
