"""Files and folders that appear whole or not at all: write under a temporary name, flush, rename."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import socket
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any


def _boot() -> str:
    """Which start of the machine this is; "" where it does not say."""
    with contextlib.suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text()
    return ""


TEMPORARY = ".tmp-"  # prefix of unfinished files and folders; readers never look at these
MACHINE = format(zlib.crc32(f"{socket.gethostname()} {_boot()}".encode()), "08x")  # machines share folders, and pids
LONGEST_NAME_BYTES = 255 - len(
    f"{TEMPORARY}{MACHINE}-4194304-"
)  # of a file to be written: file systems keep 255, with prefix, machine and pid


@contextlib.contextmanager
def file(path: str | os.PathLike, mode: str = "wb") -> Iterator[IO[Any]]:
    """Open a file for writing that takes the place of `path` when the block ends without an error.

    The parent folder is created. After a kill at any byte, `path` is the old file, or absent. What is no file and no
    folder, as /dev/null, is written into and stays what it is.
    """
    path = Path(path)
    if _is_special(path):
        with open(path, mode) as handle:
            yield handle
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{TEMPORARY}{MACHINE}-{os.getpid()}-{path.name}")
    try:
        with open(temporary, mode) as handle:
            yield handle
            handle.flush()
            os.fsync(handle.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    flush_folder(path.parent)


def refuse_unwritable(path: str | os.PathLike) -> None:
    """Raise the OSError of `file(path)`, before the work whose result it is to be. Nothing is left there."""
    path = Path(path)
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if _is_special(path):
        return
    folder = next(folder for folder in path.absolute().parents if folder.exists())
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(folder)) from None


def _is_special(path: Path) -> bool:
    """Whether it is a device, a pipe or a socket; /dev/stdout is a link, perhaps to a file."""
    return path.exists() and not path.is_dir() and (path.parent == Path("/dev") or not path.is_file())


def write_bytes(path: str | os.PathLike, data: bytes) -> None:
    """Write `data` to `path` atomically."""
    with file(path) as handle:
        handle.write(data)


def append(path: str | os.PathLike, data: bytes, sync: bool = True) -> None:
    """Add to the end of a file, all of it or nothing, and flush it to disk unless `sync` is off. Raises OSError."""
    size = None
    try:
        with open(path, "ab", buffering=0) as handle:
            size, left = os.fstat(handle.fileno()).st_size, memoryview(data)
            while left:
                left = left[handle.write(left) :]
            if sync:
                os.fsync(handle.fileno())
    except OSError:  # a network disk may report a failure only when the file is closed
        if size is not None:
            with contextlib.suppress(OSError):
                os.truncate(path, size)
        raise


def write_json(path: str | os.PathLike, value: Any) -> None:
    """Write `value` as indented JSON to `path` atomically; refuses NaN and infinity."""
    write_bytes(path, (json.dumps(value, indent=2, allow_nan=False) + "\n").encode())


def rename_folder(temporary: Path, path: Path) -> None:
    """Give a finished folder its name, flushed to disk first. Raises OSError where the name is taken."""
    for member in sorted(temporary.rglob("*")):
        if member.is_file():
            with open(member, "rb") as handle:
                os.fsync(handle.fileno())
        elif member.is_dir():
            flush_folder(member)
    flush_folder(temporary)
    os.replace(temporary, path)  # fails on a folder with anything in it: nothing finished is ever replaced
    flush_folder(path.parent)


def sweep(folder: str | os.PathLike, named: str | tuple[str, ...] = "") -> None:
    """Remove what a killed process left unfinished directly in `folder`: of files whose names begin with `named`.

    Several beginnings: a tuple.
    """
    folder = Path(folder)
    if folder.is_dir():
        for left in folder.glob(f"{TEMPORARY}*"):
            if not left.name.removeprefix(TEMPORARY).split("-", 2)[-1].startswith(named):
                continue
            if left.is_dir():
                shutil.rmtree(left, ignore_errors=True)
            else:
                left.unlink(missing_ok=True)


def flush_folder(folder: str | os.PathLike) -> None:
    """Flush a folder's entries to disk, so that a rename in it survives a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
