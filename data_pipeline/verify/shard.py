"""One shard against the manifest: its tars' bytes, keys and lengths, and whether its clips decode."""

from __future__ import annotations

import functools
import hashlib
import io
import json
import re
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from data_pipeline.shards import checksums, reader, video_reader
from data_pipeline.shards.layout import MEMBERS
from data_pipeline.shards.manifest import Manifest
from data_pipeline.shards.reader import ClipError, ReadRequest
from data_pipeline.shards.table import files
from data_pipeline.storage.positioned import Positioned
from data_pipeline.storage.store import Store
from mytalk.command import RunAgain

PIECE_BYTES = 256 * checksums.BLOCK_BYTES  # of a tar that is read at once
MOST_FINDINGS = 100  # of a shard that are listed; the others are counted
OWN_TAR = re.compile(r"[a-z][a-z0-9_]*-[0-9]{6}\.tar")  # names of tars that extract or column wrote
MISSING, SIZE, BYTES, CHECKSUMS = "missing", "size", "bytes", "checksums"
KEYS, LENGTHS, DECODE, WORKER = "keys", "lengths", "decode", "worker"


@dataclass(frozen=True)
class Finding:
    """Something that is not as the manifest says: which check found it, and where, as far as that is known."""

    check: str
    message: str
    shard: int | None = None
    file: str = ""
    member: str = ""
    key: str = ""
    byte: int | None = None  # of the file

    def listed(self) -> dict[str, Any]:
        """The finding for JSON, without what is unknown."""
        return {name: value for name, value in asdict(self).items() if value not in (None, "")}

    def line(self) -> str:
        """The finding in a line of text."""
        where = " ".join(part for part in (self.file, self.key, self.member) if part)
        return f"{self.check:<10}{where + ': ' if where else ''}{self.message}"


@dataclass(frozen=True)
class ShardTask:
    """A shard to check: rows [start, stop) of the manifest. `condemned`: why its worker failed twice at it."""

    folder: str
    digest: str
    shard: int
    start: int
    stop: int
    decode: float
    condemned: str = ""


@dataclass
class Checked:
    """What was looked at in a shard, and found."""

    bytes: int = 0
    decoded: int = 0
    findings: list[Finding] = field(default_factory=list)
    unlisted: int = 0  # findings beyond MOST_FINDINGS

    def add(self, finding: Finding) -> None:
        if len(self.findings) < MOST_FINDINGS:
            self.findings.append(finding)
        else:
            self.unlisted += 1


def check(task: ShardTask, tick: Callable[[int, int], None]) -> Checked:
    """Check a shard; `tick(row, clips)` says how far it is. Raises OSError where the storage cannot be read."""
    checked, shard = Checked(), task.shard
    if task.condemned:
        checked.add(Finding(WORKER, task.condemned, shard))
        return checked
    tick(0, 0)
    manifest = opened(task.folder, task.digest)
    rows = range(task.start, task.stop)
    columns = [name for name in manifest.entry(shard) if name != "shard"]
    if "motion" not in columns:
        checked.add(Finding(MISSING, "the manifest's header names no tar of it", shard))
    whole = [name for name in columns if _tar(manifest, name, shard, rows, checked, functools.partial(tick, 0, 0))]
    for name in whole:
        for finding in _keys(manifest, name, shard, rows):
            checked.add(finding)
    members = sorted({member for column in whole for member in _members_of(manifest, column)})
    for number, row in enumerate(rows):
        _clip(manifest, row, members, task.decode, checked)
        tick(number, 1)
    return checked


@functools.lru_cache(maxsize=1)
def opened(folder: str, digest: str) -> Manifest:
    """The manifest without the checks of `Manifest.load`, one for the life of a process. Raises RunAgain."""
    store = Store(folder)
    header = files.read_header(store)
    table, found = files.open_table(store)
    if digest_of(header, found) != digest:
        raise RunAgain(f"{folder}: its manifest was rewritten meanwhile; type the same command again")
    return Manifest(folder, header, opened=table, store=store)


def digest_of(header: dict[str, Any], table: str) -> str:
    """Of a manifest's two files: the header, and the digest of the table."""
    return hashlib.sha256(json.dumps([header, table]).encode()).hexdigest()


def drawn(key: str, share: float) -> bool:
    """Whether a clip is one of a share of all: the same ones each time."""
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:6], "big") < share * 2**48


# The bytes of a tar ----------------------------------------------------------------------------------


def _tar(manifest: Manifest, column: str, shard: int, rows: range, checked: Checked, alive: Callable) -> bool:
    """Whether a tar's bytes are those that were written; what is wrong is added to `checked`."""
    file, stated = manifest.shard_file(column, shard), manifest.entry(shard)[column]
    try:
        size = manifest.store.size(file.name)
    except FileNotFoundError:
        checked.add(Finding(MISSING, "it is not there", shard, file.name))
        return False
    if size != stated["bytes"]:
        checked.add(Finding(SIZE, f"it has {size} bytes, not {stated['bytes']}", shard, file.name))
        return False
    try:
        sums_B = None if file.sums is None else checksums.parsed(manifest.store.whole(file.sums), size)
    except (FileNotFoundError, ValueError) as error:
        text = "it is not there" if isinstance(error, FileNotFoundError) else str(error)
        checked.add(Finding(CHECKSUMS, text, shard, file.sums or ""))
        sums_B = None
    digest, before = hashlib.sha256(), len(checked.findings) + checked.unlisted
    for start in range(0, size, PIECE_BYTES):
        (data,) = manifest.store.read([(file.name, start, min(PIECE_BYTES, size - start))])
        digest.update(data)
        for block in [] if sums_B is None else checksums.damaged(data, start, sums_B):
            at = block * checksums.BLOCK_BYTES
            block_bytes = data[at - start : at - start + checksums.BLOCK_BYTES]
            for finding in _damage(manifest, column, shard, rows, at, block_bytes, int(sums_B[block])):  # type: ignore[index]
                checked.add(finding)
        alive()
    checked.bytes += size
    found = len(checked.findings) + checked.unlisted - before
    if not found and digest.hexdigest() != stated.get("sha256", digest.hexdigest()):
        checked.add(
            Finding(BYTES, "its SHA-256 is another and its checksums agree: both were rewritten", shard, file.name)
        )
        return False
    return not found


def _damage(
    manifest: Manifest, column: str, shard: int, rows: range, at: int, block: bytes, stated: int
) -> Iterator[Finding]:
    """A damaged block: the one byte that changed, or every member that has a part in the block."""
    name = manifest.shard_file(column, shard).name
    place = checksums.flipped_byte(block, stated)
    if place is not None:
        key, member = _owner(manifest, column, rows, at + place)
        yield Finding(BYTES, f"byte {at + place} is another", shard, name, member, key, at + place)
        return
    for row in rows:
        for member in _members_of(manifest, column):
            offset, size = _place(manifest, row, member)
            if size and offset < at + len(block) and at < offset + size:
                key = str(manifest.at(row, "key"))
                yield Finding(
                    BYTES, f"several bytes from {at} to {at + len(block)} are others", shard, name, member, key
                )


def _owner(manifest: Manifest, column: str, rows: range, byte: int) -> tuple[str, str]:
    """The clip and the member that hold a byte of a tar; of a byte before a member, that one's tar header."""
    places = sorted(
        (*_place(manifest, row, member), str(manifest.at(row, "key")), member)
        for row in rows
        for member in _members_of(manifest, column)
    )
    for offset, size, key, member in places:
        if size and byte < offset + size:
            return key, member if byte >= offset else f"tar header of {member}"
    return "", "end of the tar"


def _members_of(manifest: Manifest, column: str) -> list[str]:
    known = [*MEMBERS, *manifest.header.get("members", {})]
    return [member for member in known if manifest.column_of(member) == column and manifest.has(f"{member}_offset")]


def _place(manifest: Manifest, row: int, member: str) -> tuple[int, int]:
    return int(manifest.at(row, f"{member}_offset") or 0), int(manifest.at(row, f"{member}_size") or 0)


# Keys ------------------------------------------------------------------------------------------------


def _keys(manifest: Manifest, column: str, shard: int, rows: range) -> Iterator[Finding]:
    """Members of a tar that do not lie where the manifest says, are called otherwise, or are of no clip."""
    file = manifest.shard_file(column, shard)
    assert file.bytes is not None
    own = OWN_TAR.fullmatch(Path(file.name).name) is not None
    expected = {}
    for row in rows:
        for member in _members_of(manifest, column):
            offset, size = _place(manifest, row, member)
            if size:
                expected[offset] = (size, str(manifest.at(row, "key")), member)
    first: dict[str, int] = {}  # in the manifest's order of clips
    for offset, (_, key, _) in expected.items():
        first[key] = min(offset, first.get(key, offset))
    if sorted(first.values()) != [*first.values()]:
        yield Finding(KEYS, "its clips are not in the manifest's order", shard, file.name)
    try:
        behind = Positioned(lambda offset, count: manifest.store.read([(file.name, offset, count)])[0], file.bytes)
        with tarfile.open(fileobj=io.BufferedReader(behind), mode="r:") as tar:
            there = {info.offset_data: info for info in tar}
    except tarfile.TarError as error:
        yield Finding(KEYS, f"it is no tar: {error}", shard, file.name)
        return
    for offset, (size, key, member) in expected.items():
        extension = MEMBERS[member][1] if member in MEMBERS else f"{member}.npy"
        info = there.pop(offset, None)
        if info is None or info.size != size:
            yield Finding(KEYS, f"no member of {size} bytes lies at byte {offset}", shard, file.name, member, key)
        elif own and info.name != f"{key}.{extension}":
            yield Finding(KEYS, f"the member at byte {offset} is {info.name}", shard, file.name, member, key)
    for info in there.values() if own else ():
        yield Finding(KEYS, f"{info.name} is of no clip of the manifest", shard, file.name)


# Clips -----------------------------------------------------------------------------------------------


def _clip(manifest: Manifest, row: int, members: list[str], share: float, checked: Checked) -> None:
    """Lengths of all of a clip's members, and whether it decodes, if it is one of the share that is decoded."""
    key, shard, frames = (str(manifest.at(row, "key")), int(manifest.at(row, "shard")), int(manifest.at(row, "frames")))
    there = [member for member in members if manifest.has(f"{member}_size") and _place(manifest, row, member)[1]]
    for member in (name for name in members if name in ("audio", "landmarks") and name not in there):
        checked.add(Finding(LENGTHS, "it has no bytes", shard, member=member, key=key))
    decoded = drawn(key, share)
    checked.decoded += decoded
    for member in there:
        name = manifest.shard_file(manifest.column_of(member), shard).name
        try:
            if member not in ("facts", "video"):
                reader.piece_of(manifest, ReadRequest(row, member, 0, frames))
            if member == "video":
                _pictures(manifest, row, frames)
        except ClipError as error:
            checked.add(Finding(LENGTHS, error.message, shard, name, member, key))
            continue
        if decoded and (fault := _decoded(manifest, row, member, frames)):
            checked.add(Finding(DECODE, fault, shard, name, member, key))


def _pictures(manifest: Manifest, row: int, frames: int) -> None:
    """Raises ClipError where the index of a clip's video has another number of pictures than the clip frames."""
    from mytalk import media
    from mytalk.media import mp4

    data = reader.read_member(manifest, row, "video")
    try:
        count = len(mp4.Track.parse(data, len(data)))
    except media.MediaError as error:
        if error.reason == "layout":  # another kind of file: only decoding counts its pictures
            return
        raise ClipError(str(manifest.at(row, "key")), "corrupt", str(error)) from error
    if count != frames:
        raise ClipError(
            str(manifest.at(row, "key")), "layout", f"its video has {count} pictures and the clip {frames} frames"
        )


def _decoded(manifest: Manifest, row: int, member: str, frames: int) -> str:
    """Why a member does not decode; empty where it does."""
    try:
        if member == "facts":
            json.loads(reader.read_member(manifest, row, member))
        elif member == "video":
            video_reader.read_video(manifest, row, range(frames))
        else:
            (found,) = reader.read(manifest, [ReadRequest(row, member, 0, frames)])
            if isinstance(found, ClipError):
                raise found
    except ClipError as error:
        return error.message
    except ValueError as error:
        return f"it is no JSON: {error}"
    return ""
