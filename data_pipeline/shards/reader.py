"""Reading clips out of shards by byte range: whole members, or just the window that an example needs.

Every read is widened to whole blocks of the tar and checked against their checksums (shards/checksums.py). Pictures
are read by shards/video_reader.py.

Shape suffixes: T frames, N landmarks, 3 = (x, y, z) in crop px, S audio samples.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from data_pipeline.shards import checksums
from data_pipeline.shards.layout import SYNC_OFFSET
from data_pipeline.shards.manifest import Manifest, ShardFile
from data_pipeline.shards.members import FRAME_BYTES, WAV_HEADER_BYTES
from mytalk.command import UserError
from mytalk.face.landmarks import COUNT, CROP_PX, SAMPLES_PER_FRAME

SAMPLE_BYTES = VALUE_BYTES = 2  # 16 bits for a sample, and for a value of landmarks and later columns
HELD_SUMS = 64  # files of checksums kept: the shards that are read now


class ClipError(UserError):
    """A clip's content is damaged (not the machine's fault). `reason` is a short snake_case code."""

    def __init__(self, key: str, reason: str, message: str):
        super().__init__(f"clip {key}: {message}; mend its shard or extract it again, then run the same command")
        self.key, self.reason, self.message = key, reason, message

    def __reduce__(self) -> tuple:  # a worker process sends it home
        return ClipError, (self.key, self.reason, self.message)


class ReadRequest(NamedTuple):
    """What to read of a clip: frames [start, stop) of a member's values, or the whole member as bytes (stop None).

    `as_stored`: where the sound lies in the shard, whatever SYNC_OFFSET says.
    """

    row: int
    member: str
    start: int = 0
    stop: int | None = None
    as_stored: bool = False


class Piece(NamedTuple):
    """Bytes of a clip in a tar: column of its shard, offset and size in the file."""

    row: int
    column: str
    offset: int
    size: int


# Bytes -----------------------------------------------------------------------------------------------


class _Read(NamedTuple):
    """One request: whole blocks of a tar, and the checksums they are held against (None: the shard has none)."""

    file: ShardFile
    start: int
    size: int

    @property
    def asked(self) -> tuple[str, int, int]:
        return self.file.name, self.start, self.size


def fetch(manifest: Manifest, pieces: Sequence[Piece]) -> list[bytes | ClipError]:
    """The bytes of each piece, all asked for at once; where a clip's content is damaged, the error instead.

    Raises OSError where the storage cannot be read: that says nothing about the clip.
    """
    return [found if isinstance(found, ClipError) else bytes(found) for found in _fetched(manifest, pieces)]


def _fetched(manifest: Manifest, pieces: Sequence[Piece]) -> Iterator[memoryview | ClipError]:
    """`fetch` without a copy: views of the blocks that were read, each checked as it comes."""
    reads = [_widened(manifest, piece) for piece in pieces]
    for piece, read, data in zip(pieces, reads, manifest.store.each([read.asked for read in reads])):
        fault = _fault(manifest, read, data)
        if fault is not None:  # a copy on the way may be damaged, and the shard be whole
            manifest.store.forget([read.asked])
            _held_sums.pop((manifest.store.root, read.file.sums or ""), None)
            (data,) = manifest.store.read([read.asked])
            fault = _fault(manifest, read, data)
        begin = piece.offset - read.start
        yield memoryview(data)[begin : begin + piece.size] if fault is None else clip_error(manifest, piece.row, *fault)


def _widened(manifest: Manifest, piece: Piece) -> _Read:
    file = manifest.shard_file(piece.column, int(manifest.at(piece.row, "shard")))
    if file.bytes is None:
        return _Read(file, piece.offset, piece.size)
    if piece.offset + piece.size > file.bytes:  # no block can be asked for there: what is asked comes short
        return _Read(replace(file, sums=None), piece.offset, piece.size)
    return _Read(file, *checksums.widened(piece.offset, piece.size, file.bytes))


def cost_bytes(manifest: Manifest, requests: Sequence[ReadRequest]) -> int:
    """How many bytes `read` asks the storage for, whole blocks counted as often as they are asked for."""
    return sum(_widened(manifest, piece_of(manifest, request)).size for request in requests)


def _fault(manifest: Manifest, read: _Read, data: bytes) -> tuple[str, str] | None:
    """What is wrong with the bytes read, as (reason, words); None where nothing is."""
    if len(data) < read.size:
        return "short", f"its shard ends {read.size - len(data)} bytes too early"
    if read.file.sums is None or read.file.bytes is None:
        return None
    try:
        sums_B = _sums(manifest, read.file.sums, read.file.bytes)
    except ValueError as error:
        return "checksums", f"{read.file.sums}: {error}"
    block = checksums.first_damaged(data, read.start, sums_B)
    return (
        None
        if block is None
        else ("checksum", f"{read.file.name} is damaged near byte {block * checksums.BLOCK_BYTES}")
    )


_held_sums: OrderedDict[tuple[str, str], np.ndarray] = OrderedDict()


def _sums(manifest: Manifest, name: str, tar_bytes: int) -> np.ndarray:
    place = (manifest.store.root, name)
    held = _held_sums.get(place)
    if held is None or len(held) != -(-tar_bytes // checksums.BLOCK_BYTES):
        held = checksums.parsed(manifest.store.whole(name), tar_bytes)
        _held_sums[place] = held
        while len(_held_sums) > HELD_SUMS:
            _held_sums.popitem(last=False)
    return held


# Members ---------------------------------------------------------------------------------------------


def member_piece(manifest: Manifest, row: int, member: str) -> Piece:
    """Where the data of a member (landmarks, audio, facts, video, or a later column's) lies."""
    offset, size = manifest.at(row, f"{member}_offset"), manifest.at(row, f"{member}_size")
    return Piece(row, manifest.column_of(member), int(offset), int(size))


def piece_of(manifest: Manifest, request: ReadRequest) -> Piece:
    """The bytes that a request asks for. Raises ClipError (layout), IndexError for frames that the clip has not."""
    whole = member_piece(manifest, request.row, request.member)
    if request.stop is None:
        return whole
    frames = int(manifest.at(request.row, "frames"))
    if not 0 <= request.start <= request.stop <= frames:
        raise IndexError(f"frames [{request.start}, {request.stop}) of a clip of {frames}")
    per_frame, header = _layout(manifest, whole, request.member, frames)
    late = _late_bytes(manifest, request, per_frame)
    first, last = (min(max(frame * per_frame + late, 0), frames * per_frame) for frame in (request.start, request.stop))
    return Piece(request.row, whole.column, whole.offset + header + first, last - first)


def _layout(manifest: Manifest, whole: Piece, member: str, frames: int) -> tuple[int, int]:
    """Bytes of a frame, and of what stands before the first. Raises ClipError (layout)."""
    if member == "audio":
        per_frame, headers = SAMPLES_PER_FRAME * SAMPLE_BYTES, range(WAV_HEADER_BYTES, WAV_HEADER_BYTES + 1)
    else:
        per_frame = FRAME_BYTES if member == "landmarks" else VALUE_BYTES * manifest.later(member)["width"]
        headers = range(1, 257)
    if (header := whole.size - frames * per_frame) not in headers:
        raise clip_error(manifest, whole.row, "layout", f"{whole.size} bytes of {member} do not fit its frames")
    return per_frame, header


def _late_bytes(manifest: Manifest, request: ReadRequest, per_frame: int) -> int:
    """How many bytes into a member its frame 0 lies where the sound is late: whole samples, or whole frames."""
    if request.as_stored:
        return 0
    if request.member == "audio":
        return round(late_frames(manifest, request.row) * SAMPLES_PER_FRAME) * SAMPLE_BYTES
    if request.member == "landmarks" or manifest.later(request.member).get("of") != "audio":
        return 0
    return round(late_frames(manifest, request.row)) * per_frame


def late_frames(manifest: Manifest, row: int) -> float:
    """How much later than the picture the clip's sound is, frames, by the column SYNC_OFFSET; 0 where it is unknown."""
    late = manifest.at(row, SYNC_OFFSET) if manifest.has(SYNC_OFFSET) else None
    return float(late) if late is not None and math.isfinite(late) else 0.0


def audible_frames(frames: int, offset_frames: float) -> tuple[int, int]:
    """Frames [start, stop) whose sound the clip holds, where the sound is `offset_frames` late (NaN: unknown)."""
    late = offset_frames if math.isfinite(offset_frames) else 0.0
    return min(frames, math.ceil(max(0.0, -late))), max(0, frames - math.ceil(max(0.0, late)))


def read(manifest: Manifest, requests: Sequence[ReadRequest]) -> list[np.ndarray | bytes | ClipError]:
    """The values of every request, all asked for at once, as they lie in the shard: nothing is converted yet.

    Landmarks as fp16 (T, 478, 3), audio as int16 (T * 640,), a later column's values as fp16 (T, width), whole members
    as bytes; a ClipError in the place of what is damaged (short, checksum, layout, not_finite). Raises IndexError for
    frames that a clip has not, OSError.
    """
    if manifest.blank:
        return [_blank(manifest, request) for request in requests]
    pieces: list[Piece] = []
    errors: dict[int, ClipError] = {}
    for place, request in enumerate(requests):
        try:
            pieces.append(piece_of(manifest, request))
        except ClipError as error:
            errors[place] = error
    fetched = _fetched(manifest, pieces)
    return [errors.get(place) or _values(manifest, request, next(fetched)) for place, request in enumerate(requests)]


def _blank(manifest: Manifest, request: ReadRequest) -> np.ndarray | bytes:
    """Values of the right shape in the place of a clip's: silence, and points that lie anywhere in the crop."""
    if request.stop is None:
        return b""
    count = request.stop - request.start
    if request.member == "audio":
        return np.zeros(count * SAMPLES_PER_FRAME, "<i2")
    if request.member == "landmarks":
        points_N3 = np.random.default_rng(request.row).uniform(0, CROP_PX, (COUNT, 3))
        return np.repeat(points_N3[None], count, axis=0).astype("<f2")
    return np.zeros((count, manifest.later(request.member)["width"]), "<f2")


def _values(manifest: Manifest, request: ReadRequest, data: memoryview | ClipError) -> np.ndarray | bytes | ClipError:
    if isinstance(data, ClipError):
        return data
    if request.stop is None:
        return bytes(data)
    shape: tuple[int, ...] = (COUNT, 3)
    if request.member != "landmarks":
        shape = (SAMPLES_PER_FRAME,) if request.member == "audio" else (manifest.later(request.member)["width"],)
    per_frame = VALUE_BYTES * math.prod(shape)
    missing = (request.stop - request.start) * per_frame - len(data)
    if missing:  # what lies outside the clip is silence
        before = min(max(-(request.start * per_frame + _late_bytes(manifest, request, per_frame)), 0), missing)
        data = memoryview(b"".join((bytes(before), data, bytes(missing - before))))
    if request.member == "audio":
        return np.frombuffer(data, "<i2")
    values = np.frombuffer(data, "<f2")
    if values.size and values.view("<u2").max() >= 0x7C00 and not np.isfinite(values).all():  # the first is quick
        return clip_error(manifest, request.row, "not_finite", f"{request.member} are not finite")
    return values.reshape(-1, *shape)


def read_member(manifest: Manifest, row: int, member: str) -> bytes:
    """The bytes of a member. Raises ClipError, OSError."""
    return _one(manifest, ReadRequest(row, member))


def read_landmarks(manifest: Manifest, row: int, start: int = 0, stop: int | None = None) -> np.ndarray:
    """Landmarks of frames [start, stop) as float32 (T, 478, 3) crop px; reads those bytes only.

    Raises ClipError (short, checksum, layout, not_finite), IndexError for a window outside the clip, OSError.
    """
    stop = int(manifest.at(row, "frames")) if stop is None else stop
    return _one(manifest, ReadRequest(row, "landmarks", start, stop)).astype(np.float32)


def read_audio(manifest: Manifest, row: int, start: int = 0, stop: int | None = None) -> np.ndarray:
    """Audio of frames [start, stop) as float32 (T * 640,) in [-1, 1]; reads those bytes only.

    Sound that is late, or early, by the column SYNC_OFFSET is shifted to its frames; outside the clip is silence.
    Raises ClipError (short, checksum, layout), IndexError for a window outside the clip, OSError.
    """
    stop = int(manifest.at(row, "frames")) if stop is None else stop
    return _one(manifest, ReadRequest(row, "audio", start, stop)).astype(np.float32) / 32768


def read_features(
    manifest: Manifest, column: str, row: int, start: int = 0, stop: int | None = None, as_stored: bool = False
) -> np.ndarray | None:
    """An added column's values of frames [start, stop) as float32 (T, width); None for no column.

    `as_stored`: as in ReadRequest. Raises ClipError (short, checksum, layout, not_finite), UserError for a column that
    is not there, OSError.
    """
    if not column:
        return None
    stop = int(manifest.at(row, "frames")) if stop is None else stop
    return _one(manifest, ReadRequest(row, column, start, stop, as_stored)).astype(np.float32)


def _one(manifest: Manifest, request: ReadRequest):
    (found,) = read(manifest, [request])
    if isinstance(found, ClipError):
        raise found
    return found


def clip_error(manifest: Manifest, row: int, reason: str, message: str) -> ClipError:
    """The error of a clip that is damaged."""
    return ClipError(str(manifest.at(row, "key")), reason, message)
