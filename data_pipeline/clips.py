"""Reading clips out of shards by byte range: whole members, or just the window that an example needs.

Shape suffixes: T frames, N landmarks, 2 = (x, y) in crop px, S audio samples, H height, W width.
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from data_pipeline.layout import MEMBERS
from data_pipeline.manifest import Manifest
from data_pipeline.members import FRAME_BYTES, WAV_HEADER_BYTES, from_pcm
from mytalk.command import UserError
from mytalk.landmarks import COUNT, CROP_PX, SAMPLES_PER_FRAME

OPEN_FILES = 64
SAMPLE_BYTES = 2


class ClipError(UserError):
    """A clip's content is damaged (not the machine's fault). `reason` is a short snake_case code."""

    def __init__(self, key: str, reason: str, message: str):
        super().__init__(f"clip {key}: {message}; mend its shard or extract it again, then run the same command")
        self.key, self.reason, self.message = key, reason, message

    def __reduce__(self) -> tuple:  # a worker process sends it home
        return ClipError, (self.key, self.reason, self.message)


class _OpenFiles:
    """The files last read from, by path. `pread` moves no position, so a forked worker may go on with them."""

    def __init__(self) -> None:
        self.descriptors: OrderedDict[str, int] = OrderedDict()

    def descriptor(self, path: str) -> int:
        if path in self.descriptors:
            self.descriptors.move_to_end(path)
            return self.descriptors[path]
        while len(self.descriptors) >= OPEN_FILES:
            os.close(self.descriptors.popitem(last=False)[1])
        self.descriptors[path] = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        return self.descriptors[path]

    def __del__(self) -> None:
        for descriptor in self.descriptors.values():
            os.close(descriptor)


class _OfThread(threading.local):
    """Each thread has files of its own, closed when it ends: no lock is held over a read, or over a fork."""

    def __init__(self) -> None:
        self.files = _OpenFiles()


_of_thread = _OfThread()


def refuse_other_crops(manifest: Manifest, rows: Sequence[int] | np.ndarray) -> None:
    """UserError unless all rows are crops of CROP_PX: the networks know no other size of a face."""
    crop_px = manifest.column("crop_px")[rows]
    wrong = np.flatnonzero(crop_px != CROP_PX)
    if len(wrong):
        raise UserError(
            f"{manifest.folder}: clip {manifest.column('key')[rows][wrong[0]]} is a crop of {crop_px[wrong[0]]} px and "
            f"training needs {CROP_PX}; extract again with --crop-px {CROP_PX}"
        )


def read_range(path: str | Path, offset: int, size: int) -> bytes:
    """`size` bytes of a file from `offset`; fewer where the file ends. Raises OSError."""
    descriptor = _of_thread.files.descriptor(str(path))
    data = os.pread(descriptor, size, offset)
    while 0 < len(data) < size:  # one call gives at most 2 GB, and may give less
        more = os.pread(descriptor, size - len(data), offset + len(data))
        if not more:
            break
        data += more
    return data


def member_range(manifest: Manifest, row: int, member: str) -> tuple[Path, int, int]:
    """(tar, offset, size in bytes) of the data of a member (landmarks, audio, facts, video)."""
    column, _ = MEMBERS[member]
    path = manifest.shard_path(column, int(manifest.column("shard")[row]))
    offset, size = manifest.column(f"{member}_offset")[row], manifest.column(f"{member}_size")[row]
    return path, int(offset), int(size)


def read_member(manifest: Manifest, row: int, member: str) -> bytes:
    """The bytes of a member. Raises ClipError (short) where the shard ends too early, OSError."""
    path, offset, size = member_range(manifest, row, member)
    return _whole(manifest, row, read_range(path, offset, size), size)


def landmarks_range(manifest: Manifest, row: int, start: int, stop: int) -> tuple[Path, int, int]:
    """(tar, offset, size in bytes) of the landmarks of frames [start, stop). Raises ClipError (layout)."""
    path, offset, size = member_range(manifest, row, "landmarks")
    header = size - _frames(manifest, row, start, stop) * FRAME_BYTES
    if not 0 < header <= 256:
        raise _error(manifest, row, "layout", f"{size} bytes of landmarks do not fit its frames")
    return path, offset + header + start * FRAME_BYTES, (stop - start) * FRAME_BYTES


def audio_range(manifest: Manifest, row: int, start: int, stop: int) -> tuple[Path, int, int]:
    """(tar, offset, size in bytes) of the audio of frames [start, stop). Raises ClipError (layout)."""
    path, offset, size = member_range(manifest, row, "audio")
    per_frame = SAMPLES_PER_FRAME * SAMPLE_BYTES
    if size != WAV_HEADER_BYTES + _frames(manifest, row, start, stop) * per_frame:
        raise _error(manifest, row, "layout", f"{size} bytes of audio do not fit its frames")
    return path, offset + WAV_HEADER_BYTES + start * per_frame, (stop - start) * per_frame


def read_landmarks(manifest: Manifest, row: int, start: int = 0, stop: int | None = None) -> np.ndarray:
    """Landmarks of frames [start, stop) as float32 (T, 478, 2) crop px; reads those bytes only.

    Raises ClipError (short, layout, not_finite), IndexError for a window outside the clip, OSError.
    """
    stop = int(manifest.column("frames")[row]) if stop is None else stop
    path, offset, size = landmarks_range(manifest, row, start, stop)
    data = _whole(manifest, row, read_range(path, offset, size), size)
    points = np.frombuffer(data, "<f2").reshape(-1, COUNT, 2).astype(np.float32)
    if not np.isfinite(points).all():
        raise _error(manifest, row, "not_finite", "landmarks are not finite")
    return points


def read_audio(manifest: Manifest, row: int, start: int = 0, stop: int | None = None) -> np.ndarray:
    """Audio of frames [start, stop) as float32 (T * 640,) in [-1, 1]; reads those bytes only.

    Raises ClipError (short, layout), IndexError for a window outside the clip, OSError.
    """
    stop = int(manifest.column("frames")[row]) if stop is None else stop
    path, offset, size = audio_range(manifest, row, start, stop)
    return from_pcm(_whole(manifest, row, read_range(path, offset, size), size))


def read_video(manifest: Manifest, row: int, indices: Sequence[int]) -> np.ndarray:
    """Frames `indices` of the clip as RGB uint8 (T, H, W, 3). Raises ClipError (short, corrupt), OSError."""
    from mytalk import media  # the motion job touches no pixels and needs no codecs

    frames = int(manifest.column("frames")[row])
    if not all(0 <= index < frames for index in indices):
        raise IndexError(f"frames {list(indices)} of a clip of {frames}")
    data = read_member(manifest, row, "video")
    try:
        return media.decode_frames(data, indices)
    except media.MediaError as error:
        raise _error(manifest, row, error.reason, str(error)) from error


def _frames(manifest: Manifest, row: int, start: int, stop: int) -> int:
    frames = int(manifest.column("frames")[row])
    if not 0 <= start <= stop <= frames:
        raise IndexError(f"frames [{start}, {stop}) of a clip of {frames}")
    return frames


def _whole(manifest: Manifest, row: int, data: bytes, size: int) -> bytes:
    if len(data) != size:
        raise _error(manifest, row, "short", f"its shard ends {size - len(data)} bytes too early")
    return data


def _error(manifest: Manifest, row: int, reason: str, message: str) -> ClipError:
    return ClipError(str(manifest.column("key")[row]), reason, message)
