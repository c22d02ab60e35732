"""What can be read at any place, as the file objects that libraries want: a Parquet table, a tar behind a store."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from typing import Any


class Positioned(io.RawIOBase):
    """A file of `size` bytes, of which `read_at(offset, count)` gives a piece, shorter only at the end."""

    def __init__(self, read_at: Callable[[int, int], bytes], size: int):
        self.read_at, self.size, self.place = read_at, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self.place

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self.place = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self.place, os.SEEK_END: self.size}[whence]
        return self.place

    def readinto(self, target: Any) -> int:
        data = self.read_at(self.place, min(len(target), max(self.size - self.place, 0)))
        target[: len(data)] = data
        self.place += len(data)
        return len(data)


class LocalFile(Positioned):
    """A file of this machine read by `pread`: forked processes that share it do not move each other's place."""

    def __init__(self, descriptor: int):
        super().__init__(lambda offset, count: os.pread(descriptor, count, offset), os.fstat(descriptor).st_size)
        self.descriptor = descriptor

    def fileno(self) -> int:
        return self.descriptor

    def close(self) -> None:
        if not self.closed:
            os.close(self.descriptor)
        super().close()
