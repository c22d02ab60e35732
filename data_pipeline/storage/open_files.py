"""Files of a disk that stay open between reads of their byte ranges, a set for each thread."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict

OPEN_FILES = 64


class _OpenFiles:
    """The files read last, by path. `pread` moves no position, so a forked worker may use them too."""

    def __init__(self) -> None:
        self.descriptors: OrderedDict[str, int] = OrderedDict()

    def descriptor(self, path: str) -> int:
        """An open file's; the one not read for longest is closed where there are OPEN_FILES. Raises OSError."""
        if path in self.descriptors:
            self.descriptors.move_to_end(path)
            return self.descriptors[path]
        while len(self.descriptors) >= OPEN_FILES:
            os.close(self.descriptors.popitem(last=False)[1])
        self.descriptors[path] = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        return self.descriptors[path]

    def close(self, path: str) -> None:
        """Close a file, if it is open."""
        if path in self.descriptors:
            os.close(self.descriptors.pop(path))

    def __del__(self) -> None:
        for descriptor in self.descriptors.values():
            os.close(descriptor)


class _OfThread(threading.local):
    """Each thread opens files of its own, closed when it ends, so that no lock is held during a read or a fork."""

    def __init__(self) -> None:
        self.files = _OpenFiles()


_of_thread = _OfThread()


def descriptor(path: str) -> int:
    """That of a file, which this thread keeps open. Raises OSError."""
    return _of_thread.files.descriptor(path)


def close(path: str) -> None:
    """Close a file, if this thread has it open."""
    _of_thread.files.close(path)


def pread(descriptor: int, offset: int, size: int) -> bytes:
    """Bytes of an open file; fewer than asked only where it ends. Raises OSError."""
    data = os.pread(descriptor, size, offset)
    while 0 < len(data) < size:  # a call reads at most 2 GB, and may read less
        more = os.pread(descriptor, size - len(data), offset + len(data))
        if not more:
            break
        data += more
    return data
