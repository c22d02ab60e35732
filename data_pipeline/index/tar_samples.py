"""Walking a third-party tar to its end: its files, grouped into samples as webdataset does.

Only headers are read. A tar that is damaged, or ends too early, is refused with its reason.
"""

from __future__ import annotations

import re
import struct
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

COMPRESSED = {
    b"\x1f\x8b": "gzip",
    b"BZh": "bzip2",
    b"\xfd7zXZ\0": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"\x04\x22M\x18": "lz4",
}
DAMAGE = (tarfile.TarError, ValueError, IndexError, OverflowError, EOFError, RecursionError, MemoryError, struct.error)


class Unusable(Exception):
    """A sample, or a whole tar, that cannot be used. `reason` is a short snake_case code."""

    def __init__(self, reason: str, message: str):
        super().__init__(message)
        self.reason = reason


class TarMember(NamedTuple):
    """A file in a tar."""

    name: str
    offset: int
    size: int
    fault: str  # why its bytes cannot be read by range; empty: they can


class Sample(NamedTuple):
    """The files of one key, which follow each other in the tar, by extension; `repeated` is one that came twice."""

    key: str
    files: dict[str, TarMember]
    repeated: str


def compression(head: bytes) -> str:
    """The program that compressed a file with this beginning; empty: it is not compressed."""
    if head[257:262] == b"ustar":
        return ""
    return next((name for magic, name in COMPRESSED.items() if head.startswith(magic)), "")


def split_name(name: str) -> tuple[str, str] | None:
    """Key and extension of a file, as webdataset splits them; None for a file that it skips."""
    if re.match(r"__[^/]*__($|/)", name):
        return None
    match = re.match(r"^((?:.*/|)[^.]+)[.]([^/]*)$", name)
    return (match.group(1), match.group(2).lower()) if match else None


def samples(path: Path) -> list[Sample]:
    """The samples of a tar, in order, grouped as webdataset does. Raises Unusable for a damaged tar, OSError."""
    grouped: list[Sample] = []
    for member in _walk(path):
        parts = split_name(member.name)
        if parts is None:
            continue
        key, extension = parts
        if not grouped or grouped[-1].key != key:
            grouped.append(Sample(key, {}, ""))
        if extension in grouped[-1].files:
            grouped[-1] = grouped[-1]._replace(repeated=extension)
        else:
            grouped[-1].files[extension] = member
    return grouped


def _walk(path: Path) -> Iterator[TarMember]:
    """Every file of a tar. Raises Unusable where its end is not reached, OSError."""
    size = path.stat().st_size
    if size == 0:
        raise Unusable("empty", "it is empty")
    try:
        tar = tarfile.open(path, "r:")  # noqa: SIM115
    except DAMAGE as error:
        raise Unusable("not_a_tar", f"it is not a tar: {short(error)}") from None
    with tar:
        end = 0
        while True:
            try:
                info = tar.next()
            except DAMAGE as error:
                raise Unusable("damaged", f"it cannot be read beyond byte {end}: {short(error)}") from None
            if info is None:
                break
            data_end = info.offset_data + info.size
            if info.size < 0 or info.offset_data <= end or tar.offset <= end:  # the loop would never end
                raise Unusable("damaged", f"the header before byte {info.offset_data} gives an impossible size")
            if info.isreg() and info.sparse is None and data_end > size:
                raise Unusable("truncated", f"it is {data_end - size} bytes shorter than its last file needs")
            end = info.offset_data
            if info.isdir():
                continue
            fault = "" if info.isreg() else "a link or device, not a file"
            yield TarMember(
                info.name, info.offset_data, info.size, fault or ("sparse" if info.sparse is not None else "")
            )
        with open(path, "rb") as handle:  # tarfile stops silently at a damaged header
            handle.seek(tar.offset)
            block = handle.read(tarfile.BLOCKSIZE)
        if len(block) < tarfile.BLOCKSIZE:
            raise Unusable("truncated", "it has no end mark: writing or copying it was interrupted")
        if block.count(0) != tarfile.BLOCKSIZE:
            raise Unusable("damaged", f"the header at byte {tar.offset} is damaged")


def short(what: Any) -> str:
    """Text for a message: in one line, of 200 characters at most."""
    text = " ".join(str(what).split())
    text = "".join(character if character.isprintable() else "?" for character in text)
    return text if len(text) <= 200 else f"{text[:197]}..."
