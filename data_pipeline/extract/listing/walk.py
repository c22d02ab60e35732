"""The files below a corpus's folder: those to try, and why the others are skipped.

Paths are relative to the folder with /, as text (names.py).
"""

from __future__ import annotations

import errno
import os
import stat
from dataclasses import dataclass, field
from pathlib import Path

from data_pipeline.extract.listing import names
from data_pipeline.storage.store import Store
from mytalk import atomic

# Of files that are tried. A file without a suffix is tried too; what a file really is, its content says.
SUFFIXES = {
    *(".3g2", ".3gp", ".asf", ".avi", ".divx", ".dv", ".f4v", ".flv", ".gif", ".m2t", ".m2ts", ".m2v", ".m4v", ".mkv"),
    *(".mov", ".mp4", ".mpe", ".mpeg", ".mpg", ".mts", ".mxf", ".nut", ".ogm", ".ogv", ".qt", ".rm", ".rmvb", ".ts"),
    *(".vob", ".webm", ".wmv", ".wtv", ".y4m"),
}
DUPLICATE = "duplicate"  # another path to a file or folder
EMPTY = "empty"  # a file of 0 bytes
HIDDEN = "hidden"  # its name begins with a dot
MISSING = "missing"  # a link that leads nowhere or round in a circle, or what a layout names and is not there
NOT_A_FILE = "not_a_file"  # a pipe, a socket, a device
NOT_READABLE = "not_readable"
OUTPUT = "output"  # the folder of the shards
SOUND = "sound"  # of a video that lies beside it
SUFFIX = "suffix"  # not in SUFFIXES
UNFINISHED = "unfinished"  # a temporary file of ours
UNLISTED = "unlisted"  # the corpus's layout does not name it


@dataclass
class Found:
    """Size in bytes of the files to try, by path; the reason of every other file, and folder that is not entered."""

    bytes_of: dict[str, int] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    unlisted: bool = False  # nobody can say what there is, as of a web server


@dataclass(frozen=True, order=True)
class _File:
    is_link: bool
    path: str
    inode: tuple[int, int]  # device and inode of what is read
    bytes: int


def walk(videos: Path, output: Path | None = None) -> Found:
    """The files below `videos`; `output` is the folder of the shards. Links are followed, each folder and file once.

    Raises OSError where `videos` itself cannot be read.
    """
    found = Found()
    entered: set[tuple[int, int]] = set()
    files: list[_File] = []

    def not_readable(error: OSError) -> None:
        if Path(error.filename) == videos:
            raise error
        found.skipped[_relative(error.filename, videos)] = NOT_READABLE

    for folder, inner, in_folder in os.walk(videos, onerror=not_readable, followlinks=True):
        try:
            here = os.stat(folder)
        except OSError as error:
            not_readable(error)
            continue
        is_output = Path(folder).resolve() == output
        if is_output or (here.st_dev, here.st_ino) in entered:
            found.skipped[_relative(folder, videos)] = OUTPUT if is_output else DUPLICATE
            inner[:] = []
            continue
        entered.add((here.st_dev, here.st_ino))
        found.skipped.update((_relative(Path(folder, name), videos), HIDDEN) for name in inner if name.startswith("."))
        inner[:] = sorted(name for name in inner if not name.startswith("."))
        for path in (Path(folder, name) for name in in_folder):
            file = _looked_at(path, videos)
            if isinstance(file, _File):
                files.append(file)
            else:
                found.skipped[_relative(path, videos)] = file
    _keep_each_once(files, found)
    return found


def walk_url(url: str) -> Found:
    """The files below a URL, by the rules of `walk`. What no server lists is `unlisted`.

    Raises OSError where it cannot be reached, UserError for an unknown protocol.
    """
    if url.startswith(("http://", "https://")):
        return Found(unlisted=True)
    found = Found()
    for name, size in Store(url).files():
        path = Path(name)
        if any(part.startswith(".") for part in path.parts):
            found.skipped[name] = UNFINISHED if path.name.startswith(atomic.TEMPORARY) else HIDDEN
        elif path.suffix and path.suffix.lower() not in SUFFIXES:
            found.skipped[name] = SUFFIX
        elif size == 0:
            found.skipped[name] = EMPTY
        else:
            found.bytes_of[name] = size
    return found


def _looked_at(path: Path, videos: Path) -> _File | str:
    """A file to try, or why it is skipped."""
    if path.name.startswith(atomic.TEMPORARY):
        return UNFINISHED
    if path.name.startswith("."):
        return HIDDEN
    if path.suffix and path.suffix.lower() not in SUFFIXES:
        return SUFFIX
    try:
        status = path.stat()
    except OSError as error:
        return NOT_READABLE if error.errno == errno.EACCES else MISSING
    if not stat.S_ISREG(status.st_mode):
        return NOT_A_FILE
    if status.st_size == 0:
        return EMPTY
    return _File(path.is_symlink(), _relative(path, videos), (status.st_dev, status.st_ino), status.st_size)


def _relative(path: str | Path, videos: Path) -> str:
    return names.to_text(Path(path).relative_to(videos).as_posix())


def _keep_each_once(files: list[_File], found: Found) -> None:
    """Of several paths to one file the first that is no link is kept, in order of paths."""
    kept: dict[tuple[int, int], _File] = {}
    for file in sorted(files):
        if kept.setdefault(file.inode, file) is not file:
            found.skipped[file.path] = DUPLICATE
    found.bytes_of = dict(sorted((file.path, file.bytes) for file in kept.values()))
