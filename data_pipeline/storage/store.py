"""Byte ranges of a folder of shards, on a disk or behind a URL: exact bytes, or an error with its reason.

Faults of the machine (a server's 500, a cut or stalled connection, a stale file handle) are tried again with growing
pauses. A file that is missing or may not be read is an error at once.
"""

from __future__ import annotations

import errno
import os
import posixpath
import random
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

from data_pipeline.storage import clients, open_files
from data_pipeline.storage.cache import Cache, Range
from data_pipeline.storage.faults import FINAL, cause, meaning, no_ranges, status_of, without_secrets
from mytalk.command import RunAgain, UserError

T = TypeVar("T")
Request = tuple[str, int, "int | None"]  # path or URL, offset, size in bytes (None: the whole file)

_jitter = random.SystemRandom()  # its own generator: examples are drawn from others


class Unreachable(RunAgain):
    """Storage could not be read in all tries. The message is one line that names the file."""


class Store:
    """A folder of files, read by byte ranges. May be shared by threads, forked and pickled.

    `root` is a folder's path or a URL (http, https, s3, or another that fsspec knows; credentials and endpoints come
    from where its client looks for them). A file is named by its path inside the root, with "/"; an absolute path or a
    URL names one elsewhere. `cache` keeps the ranges that `read` gets of remote files. There are up to `tries` tries;
    the pause between them is `wait_s` seconds at first, doubles each time, and varies by half. Silence of `timeout_s`
    seconds is a failure. `options` go to fsspec's file system.

    Methods raise FileNotFoundError, PermissionError, Unreachable, and UserError for a server that can give no ranges.
    """

    def __init__(
        self,
        root: str | Path,
        cache: Cache | None = None,
        tries: int = 5,
        wait_s: float = 0.5,
        timeout_s: float = 30.0,
        options: dict[str, Any] | None = None,
    ):
        self.root, self.cache, self.options = str(root), cache, options
        self.tries, self.wait_s, self.timeout_s = tries, wait_s, timeout_s
        self.local = "://" not in self.root
        self._systems: dict[tuple[int, str], Any] = {}

    def __reduce__(self) -> tuple:
        return Store, (self.root, self.cache, self.tries, self.wait_s, self.timeout_s, self.options)

    @property
    def shown(self) -> str:
        """The root for messages, without credentials."""
        return without_secrets(self.root)

    def read(self, ranges: Sequence[Range]) -> list[bytes]:
        """The bytes of each range, in order; fewer than asked only where its file really ends."""
        return list(self.each(ranges))

    def each(self, ranges: Sequence[Range]) -> Iterator[bytes]:
        """`read`, one range after the other, so that each is still in the processor's cache when it is used.

        Remote ranges are requested all at once, and those that fail again.
        """
        places = [(self._where(name), offset, size) for name, offset, size in ranges]
        assert all(offset >= 0 and size >= 0 for _, offset, size in places), ranges
        remote = [place for place in places if _is_remote(place[0])]
        fetched = iter(self.cache.read(remote, self._fetch) if self.cache else self._fetch(remote))
        for place in places:
            yield next(fetched) if _is_remote(place[0]) else self._read_local(*place)

    def whole(self, name: str) -> bytes:
        """All bytes of a file, never from the cache: it may have been replaced, as a manifest is."""
        where = self._where(name)
        if _is_remote(where):
            return self._fetch([(where, 0, None)])[0]
        open_files.close(where)  # it may have been replaced since
        return self._read_local(where, 0, None)

    def size(self, name: str) -> int:
        """A file's size in bytes."""
        where = self._where(name)
        if _is_remote(where):
            return self._again(where, lambda: self._remote_size(where))
        return self._again(where, lambda: os.stat(where).st_size)

    def files(self) -> Iterator[tuple[str, int]]:
        """Name and size in bytes of every file below a remote root, sorted."""
        system = self._system(_protocol(self.root))
        root = system._strip_protocol(self.root).rstrip("/")

        def listed() -> dict[str, dict[str, Any]]:
            system.invalidate_cache()
            try:
                return system.find(root, detail=True)
            except Exception as error:
                raise meaning(error, self.root) from None

        for path, facts in sorted(self._again(self.root, listed).items()):
            yield path.removeprefix(f"{root}/"), int(facts["size"])

    def put(self, path: str | Path, name: str) -> None:
        """Copy a local file to the remote root, where it appears whole; the same again changes nothing."""
        where, size = self._where(name), os.stat(path).st_size
        system = self._system(_protocol(where))

        def copied() -> None:
            try:
                system.put_file(str(path), system._strip_protocol(where))
                system.invalidate_cache()
            except NotImplementedError:
                raise UserError(f"{without_secrets(where)}: nothing can be written there; name an s3:// URL") from None
            except FileNotFoundError as error:  # a bucket that is not there
                raise FileNotFoundError(errno.ENOENT, str(error), without_secrets(where)) from None
            except Exception as error:
                raise meaning(error, where) from None
            if self._remote_size(where) != size:
                raise OSError(f"{size} bytes were sent and {self._remote_size(where)} are there")

        self._again(where, copied)

    def exists(self, name: str) -> bool:
        """Whether there is a file of this name. Raises Unreachable."""
        try:
            self.size(name)
        except (FileNotFoundError, NotADirectoryError):
            return False
        return True

    def forget(self, ranges: Sequence[Range]) -> None:
        """Drop damaged bytes from the cache: the next read opens their file again."""
        places = [(self._where(name), offset, size) for name, offset, size in ranges]
        if self.cache:
            self.cache.forget([place for place in places if _is_remote(place[0])])
        for where, _, _ in places:
            open_files.close(where)

    def _where(self, name: str) -> str:
        """The path or URL of a file."""
        if _is_remote(name) or (self.local and os.path.isabs(name)):
            return name
        if self.local:
            return os.path.join(self.root, name)
        if os.path.isabs(name):
            raise PermissionError(errno.EACCES, "a remote folder names a local file", name)
        http = self.root.startswith(("http://", "https://"))
        base, mark, query = self.root.partition("?") if http else (self.root, "", "")  # a signed URL
        scheme, _, path = base.partition("://")
        path = posixpath.normpath(f"{path}/{quote(name) if http else name}")  # no server resolves ".."
        return f"{scheme}://{path}{mark}{query}"

    def _again(self, where: str, attempt: Callable[[], T]) -> T:
        """The result of `attempt`, which is tried again after errors of the machine."""
        for count in range(1, self.tries + 1):
            try:
                return attempt()
            except FINAL:
                raise
            except OSError as error:
                self._pause(where, count, error)
        raise AssertionError("at least one try")

    def _pause(self, where: str, count: int, error: BaseException) -> None:
        """Wait before the next try. Raises Unreachable after the last."""
        if count >= self.tries:
            raise Unreachable(
                f"{without_secrets(where)}: not read in {self.tries} tries ({cause(error)}); "
                "the same command continues when it can be reached"
            ) from None  # the causes may hold credentials
        time.sleep(self.wait_s * 2 ** (count - 1) * _jitter.uniform(0.5, 1.5))

    def _read_local(self, path: str, offset: int, size: int | None) -> bytes:
        def attempt() -> bytes:
            try:
                descriptor = open_files.descriptor(path)
                return open_files.pread(descriptor, offset, os.fstat(descriptor).st_size if size is None else size)
            except OSError:
                open_files.close(path)  # a stale handle stays stale
                raise

        return self._again(path, attempt)

    def _fetch(self, requests: Sequence[Request]) -> list[bytes]:
        """Remote ranges, all requested at once; those that fail are requested again."""
        data: dict[int, bytes] = {index: b"" for index, (_, _, size) in enumerate(requests) if size == 0}
        for count in range(1, self.tries + 1):
            missing = [index for index in range(len(requests)) if index not in data]
            failed: tuple[str, Exception] | None = None
            for index, answer in zip(missing, self._request([requests[index] for index in missing])):
                where, offset, size = requests[index]
                try:
                    data[index] = self._checked(where, offset, size, answer)
                except FINAL:
                    raise
                except OSError as error:
                    failed = where, error
            if failed is None:
                break
            self._pause(failed[0], count, failed[1])
        return [data[index] for index in range(len(requests))]

    def _request(self, requests: list[Request]) -> list[bytes | BaseException]:
        """An answer or an exception for each range, from the file system of its protocol."""
        answers: dict[Request, bytes | BaseException] = {}
        for protocol in {_protocol(where) for where, _, _ in requests}:
            system = self._system(protocol)
            part = [request for request in dict.fromkeys(requests) if _protocol(request[0]) == protocol]
            starts = [None if size is None else offset for _, offset, size in part]
            ends = [None if size is None else offset + size for _, offset, size in part]
            try:
                paths = [system._strip_protocol(where) for where, _, _ in part]
                results = system.cat_ranges(paths, starts, ends, on_error="return")
            except OSError as error:  # before any request
                results = [error] * len(part)
            answers.update(zip(part, results))
        return [answers[request] for request in requests]

    def _checked(self, where: str, offset: int, size: int | None, answer: bytes | BaseException) -> bytes:
        """The bytes of an answer, if they are as requested. Raises one of FINAL, UserError; OSError: try again."""
        if isinstance(answer, BaseException) and status_of(answer) != 416:  # 416: the file ends before the range
            raise meaning(answer, where)
        data = b"" if isinstance(answer, BaseException) else bytes(answer)
        if len(data) == size:
            return data
        length = self._remote_size(where)
        expected = length if size is None else min(max(length - offset, 0), size)
        if len(data) == expected:
            return data
        if size is not None and (len(data) > size or len(data) == length > expected):
            raise no_ranges(where)
        raise OSError(f"{len(data)} bytes came instead of {expected}")

    def _remote_size(self, where: str) -> int:
        system = self._system(_protocol(where))
        try:
            facts = system.info(system._strip_protocol(where))
        except Exception as error:
            raise meaning(error, where) from None
        if facts.get("type") == "directory":
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), without_secrets(where))
        if facts.get("size") is None:
            raise UserError(f"{without_secrets(where)}: the server does not state its size; use one that does")
        return int(facts["size"])

    def _system(self, protocol: str) -> Any:
        """fsspec's file system, one per process, as its event loop does not survive a fork."""
        key = os.getpid(), protocol
        if key not in self._systems:
            self._systems[key] = clients.file_system(protocol, self.timeout_s, self.options or {})
        return self._systems[key]


def _is_remote(where: str) -> bool:
    return "://" in where


def _protocol(where: str) -> str:
    return where.split("://", 1)[0]
