"""A disk on which the n-th operation fails, in this process, for what lies below one folder."""

import builtins
import io
import os

ON_FULL = {"write", "fsync", "mkdir"}  # what goes on failing once a disk is full


class Disk:
    """Counts operations below ``root``. After ``arm(n)`` the n-th raises OSError, with ``full`` all later writes as well."""

    OPERATIONS = ("fsync", "replace", "rename", "mkdir", "open", "truncate", "unlink", "listdir")

    def __init__(self, monkeypatch, root, code, reads=False, operations=OPERATIONS):
        self.root, self.code, self.reads = os.fspath(root), code, reads
        self.real_open = builtins.open
        self.arm(None)
        monkeypatch.setattr(builtins, "open", self.open)
        monkeypatch.setattr(os, "fsync", lambda handle: None)  # no machine loses power here
        for name in operations if not reads else ():
            monkeypatch.setattr(os, name, self.counted(name, getattr(os, name)))

    def arm(self, fails, full=False):
        self.count, self.fails, self.full = 0, fails, full

    @property
    def failed(self):
        return self.count >= self.fails

    def tick(self, operation):
        self.count += 1
        if self.fails and (self.count == self.fails or self.full and self.failed and operation in ON_FULL):
            raise OSError(self.code, os.strerror(self.code))

    def is_mine(self, path):
        return isinstance(path, (str, os.PathLike)) and os.fspath(path).startswith(self.root)

    def counted(self, name, real):
        def call(target, *arguments, **options):
            if isinstance(target, int) or self.is_mine(target):
                self.tick(name)
            return real(target, *arguments, **options)

        return call

    def open(self, path, mode="r", buffering=-1, **options):
        if not self.is_mine(path):
            return self.real_open(path, mode, buffering, **options)
        self.tick("open")
        raw = Raw(path, mode.replace("b", "").replace("t", ""), disk=self)
        if buffering == 0:
            return raw
        kind = io.BufferedRandom if "+" in mode else io.BufferedReader if "r" in mode else io.BufferedWriter
        return kind(raw) if "b" in mode else io.TextIOWrapper(kind(raw), **options)


class Raw(io.FileIO):
    """Every other write is short."""

    def __init__(self, *arguments, disk):
        super().__init__(*arguments)
        self.disk = disk

    def write(self, data):
        if not self.disk.reads:
            self.disk.tick("write")
        return super().write(memoryview(data)[: max(1, len(data) // 2)] if self.disk.count % 2 else data)

    def read(self, size=-1):
        self.tick()
        return super().read(size)

    def readinto(self, buffer):
        self.tick()
        return super().readinto(buffer)

    def readall(self):
        self.tick()
        return super().readall()

    def tick(self):
        if self.disk.reads:
            self.disk.tick("read")
