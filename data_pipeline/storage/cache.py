"""A cache of chunks of remote files on a node's own disk, shared by all its processes and bounded in size.

A chunk is CHUNK_BYTES of a file (less at the file's end), named by the digest of (URL, number of the chunk). Its file
is the data, then 4 bytes of length and 4 of CRC-32. No descriptor or lock is kept between calls, so a cache may be
forked, pickled and used by threads. When the disk fails, reading continues without the cache.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import struct
import time
import warnings
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from mytalk import atomic
from mytalk.command import UserError

CHUNK_BYTES = 1 << 20
FEWEST_CHUNKS = 4  # with fewer, every chunk would evict the last
SUFFIX = ".chunk"
USAGE = ".usage"  # locked while a chunk is written; holds the size on disk, or more after a writer was killed
UNFINISHED = f"{atomic.TEMPORARY}chunk"  # of the only writer; a killed one's is overwritten
LOCK_WAIT_S = 1.0
TOUCH_S = 60.0
BLOCK_BYTES = 4096
TAIL_BYTES = 8

Range = tuple[str, int, int]  # URL or file name, offset, size in bytes
Place = tuple[str, int]  # URL, number of the chunk


class Cache:
    """A folder of chunks; the least recently used are evicted first.

    Files must be immutable, as committed shards are: a chunk is never compared with its origin again. It is dropped if
    its own checksum is wrong, or by `forget`. `folder` is on a disk of this node, may be shared by all its processes,
    and never grows over `limit_bytes` on disk. Raises UserError for a limit of a few chunks.
    """

    def __init__(self, folder: str | Path, limit_bytes: int):
        fewest = FEWEST_CHUNKS * _on_disk(CHUNK_BYTES + TAIL_BYTES) + BLOCK_BYTES
        if limit_bytes < fewest:
            raise UserError(f"a cache of {limit_bytes} bytes is too small; give it at least {fewest}")
        self.folder, self.limit_bytes = Path(folder), limit_bytes
        self.warned = False

    def read(self, ranges: Sequence[Range], fetch: Callable[[list[Range]], list[bytes]]) -> list[bytes]:
        """The bytes of `ranges`; `fetch` is called once for all missing chunks, with neighbours in one range.

        `fetch` gives fewer bytes only where a file ends. Raises what `fetch` raises.
        """
        chunks: dict[Place, bytes | None] = {}
        for url, offset, size in ranges:
            for number in _numbers(offset, size):
                place = url, number
                if place not in chunks:
                    chunks[place] = self._get(place)
                if _is_last(chunks[place]):
                    break
        missing = _runs(sorted(place for place, data in chunks.items() if data is None))
        requests = [(url, first * CHUNK_BYTES, count * CHUNK_BYTES) for url, first, count in missing]
        for (url, first, count), data in zip(missing, fetch(requests) if requests else []):
            last = len(data) // CHUNK_BYTES  # the chunk of the run in which the file ends, if it does
            for step in range(count):
                chunk = chunks[url, first + step] = data[step * CHUNK_BYTES : (step + 1) * CHUNK_BYTES]
                if step <= last:
                    self._put((url, first + step), chunk)
        return [_cut(chunks, *one) for one in ranges]

    def forget(self, ranges: Sequence[Range]) -> None:
        """Drop the chunks of `ranges`, so that they are fetched again."""
        for url, offset, size in ranges:
            for number in _numbers(offset, size):
                self._drop(self.chunk_path((url, number)))

    def chunk_path(self, place: Place) -> Path:
        """The file of a chunk; it need not exist."""
        return self.folder / (hashlib.sha256(f"{place[0]}\n{place[1]}".encode()).hexdigest()[:40] + SUFFIX)

    def _get(self, place: Place) -> bytes | None:
        path = self.chunk_path(place)
        try:
            with open(path, "rb") as handle:
                chunk, used_s = handle.read(), os.fstat(handle.fileno()).st_mtime
        except FileNotFoundError:
            return None
        except OSError as error:
            self._warn(error)
            return None
        data, tail = chunk[:-TAIL_BYTES], chunk[-TAIL_BYTES:]
        if tail != chunk_tail(path, data):
            self._drop(path)
            return None
        if time.time() - used_s > TOUCH_S:
            with contextlib.suppress(OSError):  # evicted meanwhile, or read-only: the data are valid
                os.utime(path)
        return data

    def _put(self, place: Place, data: bytes) -> None:
        path, needed = self.chunk_path(place), _on_disk(len(data) + TAIL_BYTES)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with self._locked() as usage:
                if usage is None:
                    return
                used = int.from_bytes(os.pread(usage, 8, 0), "little") or self.limit_bytes
                if used + needed > self.limit_bytes:
                    used = self._evict(self.limit_bytes - max(needed, self.limit_bytes // 10))
                os.pwrite(
                    usage, (used + needed).to_bytes(8, "little"), 0
                )  # before the chunk: after a kill the count is too high, never too low
                self._write(path, data)
        except OSError as error:
            self._warn(error)

    def _write(self, path: Path, data: bytes) -> None:
        """Write a chunk, under the lock. It is not flushed to disk: the checksum finds what a power cut tears."""
        unfinished = self.folder / UNFINISHED
        try:
            with open(unfinished, "wb") as handle:
                handle.write(data + chunk_tail(path, data))
            os.replace(unfinished, path)
        except BaseException:
            unfinished.unlink(missing_ok=True)
            raise

    def _evict(self, target_bytes: int) -> int:
        """Under the lock: remove the least recently used until `target_bytes` are left. Returns the bytes left."""
        chunks, used = [], BLOCK_BYTES
        with os.scandir(self.folder) as entries:
            for entry in entries:
                if entry.name.endswith(SUFFIX):
                    with contextlib.suppress(FileNotFoundError):  # dropped by a reader meanwhile
                        status = entry.stat(follow_symlinks=False)
                        size_bytes = _on_disk(status.st_size)
                        chunks.append((status.st_mtime, entry.path, size_bytes))
                        used += size_bytes
        for _, path, size_bytes in sorted(chunks):
            if used <= target_bytes:
                break
            Path(path).unlink(missing_ok=True)
            used -= size_bytes
        return used

    def _drop(self, path: Path) -> None:
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            self._warn(error)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[int | None]:
        """The locked file of the size on disk; None where a stopped or very slow process holds the lock."""
        usage = os.open(self.folder / USAGE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            deadline_s = time.monotonic() + LOCK_WAIT_S
            while True:
                try:
                    fcntl.flock(usage, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > deadline_s:
                        yield None
                        return
                    time.sleep(0.002)
            try:
                yield usage
            finally:
                fcntl.flock(usage, fcntl.LOCK_UN)  # closing is not enough if another thread forked meanwhile
        finally:
            os.close(usage)

    def _warn(self, error: OSError) -> None:
        if not self.warned:
            self.warned = True
            reason = error.strerror or type(error).__name__
            warnings.warn(f"cache {self.folder}: {reason}; reading continues without it", RuntimeWarning, stacklevel=2)


def _on_disk(size_bytes: int) -> int:
    """The bytes on disk that a file of this size takes."""
    return -(-size_bytes // BLOCK_BYTES) * BLOCK_BYTES


def chunk_tail(path: Path, data: bytes) -> bytes:
    """Length and CRC-32 of a chunk; the CRC covers its name too, so that no chunk passes for another."""
    return struct.pack("<II", len(data), zlib.crc32(data, zlib.crc32(path.name.encode())))


def _numbers(offset: int, size: int) -> range:
    """The chunks that hold the bytes [offset, offset + size)."""
    return range(offset // CHUNK_BYTES, -(-(offset + size) // CHUNK_BYTES) if size else 0)


def _is_last(chunk: bytes | None) -> bool:
    return chunk is not None and len(chunk) < CHUNK_BYTES


def _runs(places: list[Place]) -> list[tuple[str, int, int]]:
    """(URL, first chunk, number of chunks) of sorted places, neighbours together."""
    runs: list[tuple[str, int, int]] = []
    for url, number in places:
        if runs and runs[-1][0] == url and number == runs[-1][1] + runs[-1][2]:
            runs[-1] = (url, runs[-1][1], runs[-1][2] + 1)
        else:
            runs.append((url, number, 1))
    return runs


def _cut(chunks: dict[Place, bytes | None], url: str, offset: int, size: int) -> bytes:
    """The bytes [offset, offset + size), fewer where the file ends."""
    parts = []
    for number in _numbers(offset, size):
        chunk = chunks[url, number]
        assert chunk is not None
        parts.append(chunk)
        if _is_last(chunk):
            break
    start = offset % CHUNK_BYTES
    return b"".join(parts)[start : start + size]
