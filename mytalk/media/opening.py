"""Opening a file: its streams, its header, and its packets with their time stamps on one clock.

A header is a claim. What it says of sizes, rates and lengths is used to name what is missing, never to allocate.
"""

from __future__ import annotations

import contextlib
import errno
import math
import os
import stat
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av

from mytalk.media.colour import Colour
from mytalk.media.notes import MediaError

VERSION = av.__version__  # of PyAV, which contains its own FFmpeg
JUMPING = 0x0200  # FFmpeg's flag of formats whose time stamps may jump: MPEG transport and program streams
JUMP_S = 10  # a leap of their time stamps by more than this, away from all other streams, is another clock's
BACK_S = 1  # and so is a step back by more than this
MISSING_END_S = Fraction(3, 20)  # a stream that ends this much before the end in its header was cut short
MOST_PX = 1 << 26  # of a picture: 8192 x 8192

# Formats that name other files or addresses, which FFmpeg would open instead; all others are read.
PLAYLISTS = {"concat", "dash", "hls", "imf", "lavfi", "rtp", "rtsp", "sap", "sdp", "vobsub", "webm_dash_manifest"}
FORMATS = ",".join(sorted(name for name in av.formats_available if not PLAYLISTS & set(name.split(","))))

# Formats whose header states a length that was once counted. Of others (mp3, aac, ts) ffmpeg estimates it.
WITH_LENGTH = {"mov", "matroska", "avi", "asf", "flv"}
RIFF_PLACEHOLDER = 0x7FFF0000  # a WAV that is written as it is made states such a size, or a larger one
RIFF_SLACK = 64  # bytes by which a size that is stated may be wrong

# Errors of the machine, not of a file's content: they pass through as OSError.
MACHINE_ERRNOS = {
    errno.EACCES,
    errno.EDQUOT,
    errno.EIO,
    errno.EMFILE,
    errno.ENFILE,
    errno.ENODEV,
    errno.ENOENT,
    errno.ENOMEM,
    errno.ENOSPC,
    errno.ENOTCONN,
    errno.EROFS,
    errno.ESTALE,
    errno.ETIMEDOUT,
}


@dataclass(frozen=True)
class Probe:
    """The header of a file: stored size in px, mean frame rate, seconds, audio rate (None: no audio), colours."""

    width: int
    height: int
    fps: float
    duration_s: float
    audio_hz: int | None
    colour: Colour


def probe(path: str | os.PathLike) -> Probe:
    """Read the header of a video file. Raises MediaError (unreadable, truncated, no_video) or OSError."""
    with opened(path) as container:
        video = video_stream(container, path)
        audio = _default(container.streams.audio)
        if video.duration is not None:
            seconds = float(video.duration * video.time_base)
        else:
            seconds = (container.duration or 0) / av.time_base
        return Probe(
            width=video.codec_context.width,
            height=video.codec_context.height,
            fps=float(video.average_rate or video.guessed_rate or 0),
            duration_s=seconds,
            audio_hz=audio.codec_context.sample_rate if audio else None,
            colour=Colour.of(video.codec_context),
        )


def audio_hz(path: str | os.PathLike) -> int:
    """Sample rate of the audio stream that is read. Raises MediaError (unreadable, no_audio) or OSError."""
    with opened(path) as container:
        return audio_stream(container, path).codec_context.sample_rate


def read_tags(path: str | os.PathLike) -> dict[str, str]:
    """The container's metadata, as `write_video` puts it there. Raises MediaError (unreadable) or OSError."""
    with opened(path) as container:
        return dict(container.metadata)


@contextlib.contextmanager
def opened(path: str | os.PathLike) -> Iterator[Any]:
    """The container of a file. Turns FFmpeg's errors into MediaError (unreadable, truncated) or OSError.

    A path is a path, whatever is in it: "12:30.mp4" is no protocol, "-x.mp4" no option, bytes need not be UTF-8. And
    it is the only file that is read: PLAYLISTS are unreadable.
    """
    path = Path(path)
    if stat.S_ISFIFO(path.stat().st_mode):  # a missing file is the machine's error, with its name
        raise MediaError("unreadable", f"{path}: it is a pipe, which cannot be read twice; write it to a file first")
    try:
        with contextlib.ExitStack() as stack:
            try:
                named: Any = f"file:{path}"
                named.encode()
            except UnicodeEncodeError:
                named = stack.enter_context(open(path, "rb"))
            whitelist = {"format_whitelist": FORMATS}
            container = stack.enter_context(av.open(named, container_options=whitelist, metadata_errors="replace"))
            if not len(container.streams) and _boxes_past_end(path):
                raise _without_index(path)
            yield container
    except av.error.FFmpegError as error:
        raise translated(error, path) from error
    except UnicodeDecodeError as error:
        raise MediaError("unreadable", f"{path}: text in its header cannot be read") from error


def translated(error: Any, path: Path) -> Exception:
    """FFmpeg's error as OSError, where it is the machine's, or as MediaError."""
    if machine := machine_error(error, path):
        return machine
    if _boxes_past_end(path):
        return _without_index(path)
    if isinstance(error, av.error.ArgumentError):  # what FFmpeg says of a format that is not in FORMATS
        return MediaError("unreadable", f"{path}: damaged, or a list of other files: give those files themselves")
    return MediaError("unreadable", f"{path}: {error.strerror}")


def machine_error(error: Any, path: str | os.PathLike) -> OSError | None:
    """FFmpeg's error as OSError, where it is the machine's; None: it is the file's."""
    if isinstance(error, OSError) and error.errno in MACHINE_ERRNOS:
        return OSError(error.errno, os.strerror(error.errno), str(path))
    return None


def _without_index(path: Path) -> MediaError:
    return MediaError("truncated", f"{path}: the file breaks off before the index at its end")


# Streams ---------------------------------------------------------------------------------------------


def video_stream(container, path) -> Any:
    """The video that players choose: the default one, else the first; a cover is none. Raises MediaError (no_video)."""
    covers = av.stream.Disposition.attached_pic
    stream = _default([s for s in container.streams.video if not s.disposition & covers])
    if stream is None:
        raise MediaError("no_video", f"{path}: no video stream")
    stream.thread_count = 1
    stream.codec_context.options = {"max_pixels": str(MOST_PX)}
    return stream


def audio_stream(container, path) -> Any:
    """The sound that players choose: the default one, else the first. Raises MediaError (no_audio)."""
    stream = _default(container.streams.audio)
    if stream is None:
        raise MediaError("no_audio", f"{path}: no audio stream")
    stream.thread_count = 1
    return stream


def _default(streams) -> Any:
    """The default one of the streams whose codec is known, else the first of them; None where there is none."""
    known = [stream for stream in streams if stream.codec_context is not None]
    default = [stream for stream in known if stream.disposition & av.stream.Disposition.default]
    return next(iter([*default, *known]), None)


# Packets ---------------------------------------------------------------------------------------------


class Clock:
    """One clock for the streams of a file: recordings that were joined, counters that wrapped.

    The first stream whose stamps jump goes on where it ended; the others follow it by the same shift. A stream that
    leaps forward to where another one is has a gap, and keeps it. So does any where the format's stamps do not jump
    (`leaps` False): there only a step back is another clock's.
    """

    def __init__(self, leaps: bool) -> None:
        self.most_s = JUMP_S if leaps else math.inf
        self.shifts_s = [Fraction(0)]  # of each clock in the order of the file, to the first one
        self.clock: dict[int, int] = {}  # of each stream
        self.end_s: dict[int, Fraction] = {}  # of each stream, as stamped

    def shift_s(self, packet) -> Fraction:
        """Seconds to add to the stamps of a packet, the next one in the file. One without a decoding stamp goes along.

        (Its time of presentation does not do: that of a picture which others refer to lies behind theirs.)
        """
        stream = packet.stream.index
        clock = self.clock.get(stream, 0)
        if packet.dts is None:
            return self.shifts_s[clock]
        at_s = packet.dts * packet.time_base
        before_s = self.end_s.get(stream)
        if before_s is None or not -BACK_S <= at_s - before_s <= self.most_s:
            near = [self.clock[s] for s, end_s in self.end_s.items() if s != stream and abs(at_s - end_s) <= JUMP_S]
            if max(near, default=-1) > clock:
                clock = max(near)
            elif before_s is not None and (at_s < before_s or not near):
                self.shifts_s.append(self.shifts_s[clock] + before_s - at_s)
                clock = len(self.shifts_s) - 1
        self.clock[stream] = clock
        self.end_s[stream] = at_s + min((packet.duration or 0) * packet.time_base, Fraction(JUMP_S))
        return self.shifts_s[clock]


def packets(
    container,
    stream,
    path,
    on_break: Callable[[MediaError], None],
    on_packet: Callable[[], None] = lambda: None,
) -> Iterator[Any]:
    """Packets of `stream`, their stamps on one clock; `on_break` is told why they end too early, if they do.

    `on_packet` is called at each packet of the file, also of other streams: a sign of life.

    The header of some formats states where a stream ends. Where only the container states a length (Matroska), that
    is the end of the longest stream, counted from 0. Raises OSError.
    """
    reached_s, alone = Fraction(0), stream.duration is not None
    clock = Clock(leaps=bool(container.format.flags & JUMPING))
    demuxed = container.demux()
    while True:
        try:
            packet = next(demuxed, None)
        except av.error.FFmpegError as error:
            if machine := machine_error(error, path):
                raise machine from error
            on_break(MediaError("corrupt", f"{path}: breaks off at {float(reached_s):.2f} s: {error.strerror}"))
            return
        except IndexError:  # all is read: PyAV stumbles over the closing packet of a stream that began later
            break
        if packet is None:
            break
        on_packet()
        if packet.size == 0:  # the end of a stream
            continue
        at = packet.pts if packet.pts is not None else packet.dts
        if at is not None and (packet.stream.index == stream.index or not alone):
            reached_s = max(reached_s, (at + (packet.duration or 0)) * packet.time_base)
        shift_s = clock.shift_s(packet) if packet.stream.type in ("video", "audio") else 0
        if packet.stream.index == stream.index:
            if shift_s:
                shift = round(shift_s / packet.time_base)
                packet.pts = None if packet.pts is None else packet.pts + shift
                packet.dts = None if packet.dts is None else packet.dts + shift
            yield packet
    stated_s = _stated_end_s(container, stream)
    if reached_s + MISSING_END_S < stated_s:
        on_break(MediaError("truncated", f"{path}: breaks off at {float(reached_s):.2f} of {float(stated_s):.2f} s"))
    elif (_riff_end(path) or 0) > os.stat(path).st_size + RIFF_SLACK:
        on_break(MediaError("truncated", f"{path}: breaks off at {float(reached_s):.2f} s"))


def _stated_end_s(container, stream) -> Fraction:
    """Where the header says that a stream ends; 0 where it says nothing that can be believed."""
    if container.format.name.split(",")[0] not in WITH_LENGTH:
        return Fraction(0)
    if stream.duration is not None:
        return ((stream.start_time or 0) + stream.duration) * stream.time_base
    return Fraction(container.duration or 0, av.time_base)


def second_wav(path: str | os.PathLike) -> int | None:
    """The byte at which another WAV begins in a WAV file; None: nowhere.

    Some tools of speech synthesis write one WAV after the other into one file: readers hear the first.
    """
    end = _riff_end(path)
    if end is None or end >= os.stat(path).st_size:
        return None
    with open(path, "rb") as handle:
        handle.seek(end)
        return end if handle.read(4) == b"RIFF" else None


def _riff_end(path: str | os.PathLike) -> int | None:
    """Where a RIFF file (WAV, AVI) ends by its header, in bytes; None: it is none, or states a placeholder."""
    with open(path, "rb") as handle:
        head = handle.read(12)
    if len(head) < 12 or head[:4] != b"RIFF" or head[8:] not in (b"WAVE", b"AVI "):
        return None
    (length,) = struct.unpack("<I", head[4:8])
    return 8 + length if length < RIFF_PLACEHOLDER else None


def _boxes_past_end(path: Path) -> bool:
    """Whether an ISO file (mp4, mov) has a top-level box that reaches past its end: it was cut short."""
    size_bytes = path.stat().st_size
    with open(path, "rb") as handle:
        at = 0
        while at + 8 <= size_bytes:
            handle.seek(at)
            length, kind = struct.unpack(">I4s", handle.read(8))
            if at == 0 and kind != b"ftyp":
                return False
            if length == 1:
                wide = handle.read(8)
                if len(wide) < 8:
                    return True
                (length,) = struct.unpack(">Q", wide)
            if length == 0:
                return False  # "to the end of the file"
            if length < 8:
                return False  # not a box: the demuxer reports what is wrong
            at += length
        return 0 < at != size_bytes and at > size_bytes
