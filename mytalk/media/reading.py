"""Reading video and audio by time: PyAV for files, decord for windows of encoded clips.

Time zero of a source is the moment its first video frame appears; frames and audio are both counted from
there, so `read_frames` and `read_audio` of one file are aligned whatever its containers' start times,
edit lists and codec priming.

Shape suffixes: T frames, H height, W width, 3 = RGB, S audio samples.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.video.reformatter import VideoReformatter

from mytalk.face.landmarks import FRAME_HZ, SAMPLE_HZ

VERSION = av.__version__  # of PyAV, which contains its own FFmpeg
MOST_HZ = 120  # a header with a higher rate often states its timebase: the time stamps are used instead
LONGEST_STILL_S = 10  # one frame on screen for longer means broken time stamps, not a film
MISSING_END_S = Fraction(3, 20)  # a stream that ends this much before the end in its header was cut short
JITTER_S = 0.01  # audio time stamps are rounded (Matroska: to 1 ms); a smaller step is no gap

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


class MediaError(Exception):
    """A file's content cannot be used. `reason` is a short snake_case code for ledgers."""

    def __init__(self, reason: str, message: str):
        super().__init__(message)
        self.reason = reason

    def __reduce__(self):
        return (type(self), (self.reason, str(self)))


@dataclass(frozen=True)
class Probe:
    """The header of a file: stored size in px, mean frame rate, seconds, audio rate (None: no audio)."""

    width: int
    height: int
    fps: float
    duration_s: float
    audio_hz: int | None


def probe(path: str | os.PathLike) -> Probe:
    """Read the header of a video file. Raises MediaError (unreadable, truncated, no_video) or OSError."""
    with _opened(path) as container:
        video = _video_stream(container, path)
        audio = container.streams.audio
        if video.duration is not None:
            seconds = float(video.duration * video.time_base)
        else:
            seconds = (container.duration or 0) / av.time_base
        return Probe(
            width=video.codec_context.width,
            height=video.codec_context.height,
            fps=float(video.average_rate or video.guessed_rate or 0),
            duration_s=seconds,
            audio_hz=audio[0].codec_context.sample_rate if audio else None,
        )


def measured_hz(path: str | os.PathLike) -> Fraction:
    """Mean frame rate by the pictures' own time stamps; decodes the whole video. Raises as `read_frames` does."""
    count, end_s = 0, Fraction(0)
    for picture in _pictures(path):
        count, end_s = count + 1, picture.time_s + picture.duration_s
    if count == 0:
        raise MediaError("no_video", f"{path}: no picture can be decoded")
    return count / end_s


def audio_hz(path: str | os.PathLike) -> int:
    """Sample rate of the first audio stream. Raises MediaError (unreadable, no_audio) or OSError."""
    with _opened(path) as container:
        return _audio_stream(container, path).codec_context.sample_rate


def read_tags(path: str | os.PathLike) -> dict[str, str]:
    """The container's metadata, as `write_video` puts it there. Raises MediaError (unreadable) or OSError."""
    with _opened(path) as container:
        return dict(container.metadata)


def read_frames(
    path: str | os.PathLike, fps: float | Fraction = FRAME_HZ, start: int = 0, stop: int | None = None
) -> Iterator[np.ndarray]:
    """Yield RGB uint8 (H, W, 3) pictures at `fps`, from output frame `start` up to `stop` (None: the end).

    Decoding is by time: picture i is the one on screen at i / fps seconds, that is the latest whose time
    stamp is not after it (time stamps count as equal within their own rounding, at most 1 ms). The last
    picture stays for its duration, and an output frame exists when at least half of it is covered. So 30
    or 29.97 fps and variable rates keep their sync. Pictures come upright: rotation and non-square pixels
    in the header are undone. A repeated picture is the same array: do not write into it.

    Raises MediaError: unreadable, no_video, truncated, corrupt, timestamps. OSError for the machine's.
    """
    rate = Fraction(fps).limit_denominator(1_000_000)
    index = 0  # of the next output frame
    current: _Picture | None = None
    for following in _pictures(path):
        if current is not None:
            while index / rate + following.rounding_s < following.time_s:
                if stop is not None and index >= stop:
                    return
                if index >= start:
                    yield current.rgb()
                index += 1
        current = following
    if current is None:
        raise MediaError("no_video", f"{path}: no picture can be decoded")
    while (index + Fraction(1, 2)) / rate <= current.time_s + current.duration_s + current.rounding_s:
        if stop is not None and index >= stop:
            return
        if index >= start:
            yield current.rgb()
        index += 1


def read_audio(path: str | os.PathLike, rate: int = SAMPLE_HZ) -> np.ndarray:
    """The first audio stream as float32 (S,) mono in [-1, 1] at `rate` Hz; channels are averaged.

    Sample 0 is time zero of the video (of the audio, where a file has no video): what comes before is cut,
    what is missing there and in gaps of the time stamps is silence.
    Raises MediaError: unreadable, no_audio, truncated, corrupt. OSError for the machine's.
    """
    zero_s = _first_picture_s(path)
    with _opened(path) as container:
        stream = _audio_stream(container, path)
        stream.thread_count = 1
        runs: list[tuple[float, list[np.ndarray]]] = []  # (start in s, resampled pieces)
        resampler, expected_s = None, 0.0
        for packet in _packets(container, stream, path):
            for frame in _decoded(packet, path):
                at_s = float(frame.pts * frame.time_base) if frame.pts is not None else expected_s
                if resampler is None or abs(at_s - expected_s) > JITTER_S:
                    if resampler is not None:
                        runs[-1][1].extend(_resampled(resampler, None))
                    resampler = av.AudioResampler(format="flt", layout="mono", rate=rate)
                    runs.append((at_s, []))
                    expected_s = at_s
                runs[-1][1].extend(_resampled(resampler, _mono(frame)))
                expected_s += frame.samples / frame.sample_rate
        if resampler is None:
            raise MediaError("no_audio", f"{path}: the audio stream holds no samples")
        runs[-1][1].extend(_resampled(resampler, None))
    begin_s = runs[0][0] if zero_s is None else float(zero_s)
    return _laid_out([(start_s - begin_s, np.concatenate(p)) for start_s, p in runs if p], rate)


def decode_frames(data: bytes, indices: Iterable[int]) -> np.ndarray:
    """Frames `indices` of `encode_frames` bytes as uint8 (T, H, W, 3). Raises MediaError (corrupt)."""
    import decord

    try:
        reader = decord.VideoReader(io.BytesIO(data), num_threads=1)
        return reader.get_batch(list(indices)).asnumpy()
    except (decord.DECORDError, RuntimeError, IndexError) as error:
        raise MediaError("corrupt", f"clip cannot be decoded: {_first_line(error)}") from error


# Reading ---------------------------------------------------------------------------------------------


@dataclass
class _Picture:
    """A decoded picture: seconds since time zero, seconds on screen, the rounding of its time stamp."""

    frame: Any
    time_s: Fraction
    duration_s: Fraction
    rounding_s: Fraction
    aspect: Fraction  # of a pixel, width / height
    to_rgb: VideoReformatter
    _rgb: np.ndarray | None = None

    def rgb(self) -> np.ndarray:
        """RGB with square pixels, rotated as the header asks."""
        if self._rgb is None:
            width = max(round(self.frame.width * self.aspect), 1)
            frame = self.to_rgb.reformat(self.frame, width=width, format="rgb24", threads=1)
            pixels, turns = frame.to_ndarray(), round(self.frame.rotation / 90) % 4
            self._rgb = np.ascontiguousarray(np.rot90(pixels, turns)) if turns else pixels
        return self._rgb


def _pictures(path) -> Iterator[_Picture]:
    with _opened(path) as container:
        stream = _video_stream(container, path)
        stream.thread_count = 1
        tick_s = stream.time_base
        stated_hz = Fraction(stream.average_rate or stream.guessed_rate or 0)
        usual_s = 1 / Fraction(stated_hz or FRAME_HZ)
        aspect = Fraction(stream.sample_aspect_ratio or 1)
        to_rgb = VideoReformatter()  # one for all pictures: its tables cost as much as a conversion
        zero_s: Fraction | None = None
        before_s = -usual_s
        stamped = container.format.name != "avi"  # it has no time stamps, only a rate; ffmpeg's are guesses
        for packet in _packets(container, stream, path):
            for frame in _decoded(packet, path):
                if frame.is_corrupt:
                    raise MediaError("corrupt", f"{path}: damaged picture at {float(before_s):.2f} s")
                stamp_s = frame.pts * tick_s if frame.pts is not None and stamped else None
                if zero_s is None:
                    zero_s = stamp_s or Fraction(0)
                time_s = before_s + usual_s if stamp_s is None else stamp_s - zero_s
                if time_s - before_s > LONGEST_STILL_S:
                    raise MediaError("timestamps", f"{path}: no picture for {float(time_s - before_s):.1f} s")
                duration_s = frame.duration * tick_s if frame.duration else usual_s
                if not 0 < stated_hz <= MOST_HZ:
                    duration_s = time_s - before_s  # as before: the stated duration repeats the header's mistake
                rounding_s = min(tick_s / 2, Fraction(1, 1000))
                yield _Picture(frame, time_s, duration_s, rounding_s, aspect, to_rgb)
                before_s = time_s


def _first_picture_s(path) -> Fraction | None:
    """Time stamp of the first picture in the container's own time; None where there is no video."""
    with _opened(path) as container:
        if _video_streams(container):
            stream = _video_stream(container, path)
            for packet in _packets(container, stream, path):
                for frame in _decoded(packet, path):
                    return frame.pts * stream.time_base if frame.pts is not None else Fraction(0)
    return None


@contextlib.contextmanager
def _opened(path) -> Iterator[Any]:
    path = Path(path)
    path.stat()  # a missing file is the machine's error, with its name
    try:
        if _boxes_past_end(path):
            raise MediaError("truncated", f"{path}: the file is shorter than its boxes say")
        with av.open(str(path), metadata_errors="replace") as container:
            yield container
    except av.error.FFmpegError as error:
        raise _translated(error, path) from error


def _translated(error: Any, path) -> Exception:
    if isinstance(error, OSError) and error.errno in MACHINE_ERRNOS:
        return OSError(error.errno, os.strerror(error.errno), str(path))
    return MediaError("unreadable", f"{path}: {error.strerror}")


def _video_streams(container) -> list[Any]:
    covers = av.stream.Disposition.attached_pic
    return [s for s in container.streams.video if not s.disposition & covers]


def _video_stream(container, path) -> Any:
    streams = _video_streams(container)
    if not streams:
        raise MediaError("no_video", f"{path}: no video stream")
    return streams[0]


def _audio_stream(container, path) -> Any:
    if not container.streams.audio:
        raise MediaError("no_audio", f"{path}: no audio stream")
    return container.streams.audio[0]


def _packets(container, stream, path) -> Iterator[Any]:
    """Packets of `stream` and the closing flush; raises MediaError (truncated) where it ends too early.

    The header states where a stream ends. Where only the container states a duration (Matroska), that
    is the end of the longest stream, counted from 0, so all of them are watched.
    """
    if stream.duration is not None:
        watched = [stream]
        declared_s = (stream.start_time or 0) * stream.time_base + stream.duration * stream.time_base
    else:
        watched = list(container.streams)
        declared_s = Fraction(container.duration or 0, av.time_base)
    reached_s = Fraction(0)
    for packet in container.demux(watched):
        if packet.is_corrupt:
            raise MediaError("truncated", f"{path}: half a packet at {float(reached_s):.2f} s")
        at = packet.pts if packet.pts is not None else packet.dts
        if at is not None:
            reached_s = max(reached_s, (at + (packet.duration or 0)) * packet.stream.time_base)
        if packet.stream.index == stream.index:
            yield packet
    if reached_s + MISSING_END_S < declared_s:
        raise MediaError("truncated", f"{path}: ends at {float(reached_s):.2f} of {float(declared_s):.2f} s")


def _decoded(packet, path) -> list[Any]:
    try:
        return packet.decode()
    except av.error.EOFError:
        return []
    except av.error.InvalidDataError as error:
        raise MediaError("corrupt", f"{path}: {error.strerror}") from error


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


def _mono(frame) -> Any:
    """An audio frame as packed float mono: the mean of its channels (swresample's sum could exceed 1)."""
    planar = frame.format.is_planar
    samples = frame.to_ndarray()
    if not planar:
        samples = samples.reshape(-1, len(frame.layout.channels)).T
    if samples.dtype == np.uint8:
        samples = (samples.astype(np.float32) - 128) / 128
    elif samples.dtype.kind == "i":
        samples = samples.astype(np.float32) / -float(np.iinfo(samples.dtype).min)
    mono = samples.astype(np.float32).mean(axis=0, keepdims=True)
    mono_frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(mono), format="flt", layout="mono")
    mono_frame.sample_rate = frame.sample_rate
    return mono_frame


def _resampled(resampler, frame) -> list[np.ndarray]:
    return [resampled.to_ndarray().reshape(-1) for resampled in resampler.resample(frame)]


def _laid_out(runs: list[tuple[float, np.ndarray]], rate: int) -> np.ndarray:
    """Runs of samples, each with its start in seconds, on one axis from 0; later runs win."""
    placed = [(round(start_s * rate), samples) for start_s, samples in runs]
    total = max((at + len(samples) for at, samples in placed), default=0)
    out = np.zeros(max(total, 0), np.float32)
    for at, samples in placed:
        skipped = max(-at, 0)
        out[at + skipped : at + len(samples)] = samples[skipped:]
    return np.clip(out, -1, 1)


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
