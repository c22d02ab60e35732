"""Pictures by time: what is seen at i / fps seconds, upright, in RGB.

Time zero of a source is the moment its first picture appears; pictures and sound are both counted from there, so
`read_frames` and `read_audio` of one file are aligned whatever its start times, edit lists and codec priming.

Shape suffixes: T frames, H height, W width, 3 = RGB.
"""

from __future__ import annotations

import io
import itertools
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import av
import numpy as np
from av.sidedata.sidedata import Type as SideData
from av.video.reformatter import VideoReformatter

from mytalk.face.landmarks import FRAME_HZ
from mytalk.media.colour import Colour
from mytalk.media.decoding import decoded_frames, progressive
from mytalk.media.notes import MediaError, Notes
from mytalk.media.opening import opened, packets, video_stream

MOST_HZ = 120  # a header with a higher rate often states its timebase: the time stamps are used instead
STILL_S = 1  # one picture for longer is no film of a face that speaks
NEAR_S = Fraction(1, 10)
MOST_STILL_S = 600  # a longer one is none: the time stamps are wrong
LAST_PICTURE_S = 10  # the last picture stays no longer, whatever its stated duration
MOST_STRETCH = 4  # pixels that the header makes longer than this are taken for square


def measured_hz(path: str | os.PathLike) -> Fraction:
    """Mean frame rate by the pictures' own time stamps; decodes the whole video. Raises as `read_frames` does."""
    count, end_s = 0, Fraction(0)
    for picture in _pictures(path, Notes()):
        count, end_s = count + 1, picture.time_s + picture.duration_s
    if count == 0:
        raise MediaError("no_video", f"{path}: no picture can be decoded")
    return count / end_s


def usual_hz(path: str | os.PathLike) -> Fraction:
    """The rate of most of the pictures, by their time stamps; 0 where there are none. Nothing is decoded.

    In a video in which a picture stands for long, as in a call that hangs, the mean is far below. Raises MediaError
    and OSError.
    """
    with opened(path) as container:
        stream = video_stream(container, path)
        stamps = {packet.pts for packet in packets(container, stream, path, lambda error: None)} - {None}
        tick_s = stream.time_base
    steps = sorted(after - before for before, after in itertools.pairwise(sorted(stamps)))
    return 1 / (steps[len(steps) // 2] * tick_s) if steps else Fraction(0)


def read_frames(
    path: str | os.PathLike,
    fps: float | Fraction = FRAME_HZ,
    start: int = 0,
    stop: int | None = None,
    notes: Notes | None = None,
    on_packet: Callable[[], None] = lambda: None,
) -> Iterator[np.ndarray]:
    """Yield RGB uint8 (H, W, 3) pictures at `fps`, from output frame `start` up to `stop` (None: the end).

    Decoding is by time: picture i is the one whose time stamp is nearest to i / fps seconds. (The one on the screen
    then is late by half a frame on average: 17 ms at 30 fps.) Pictures more than NEAR_S apart are shown from their
    time on. The last one stays for its duration, and an output frame exists when at least half of it is covered. So 30
    or 29.97 fps and variable rates keep their sync. Pictures come upright: the display matrix and non-square pixels in
    the header are undone, interlaced ones are deinterlaced. After a damaged picture the last good one stands until the
    next key picture. All have the size of the first. A repeated picture is the same array: do not write into it.
    `on_packet` is called at each packet of the file, also while nothing is yielded: a sign of life.

    A file that breaks off gives all that decodes; then `notes` tell, or without them MediaError is raised: truncated,
    corrupt, timestamps. Where nothing decodes MediaError is raised at once: one of those, unreadable, no_video,
    display_matrix, colours. OSError for the machine's errors.
    """
    seen = Notes() if notes is None else notes
    for index, rgb in enumerate(_at_rate(path, Fraction(fps).limit_denominator(1_000_000), seen, on_packet)):
        if index >= start:
            yield rgb()
        if stop is not None and index + 1 >= stop:
            return
    if notes is None and seen.pictures_cut is not None:
        raise seen.pictures_cut


def _at_rate(path, rate: Fraction, seen: Notes, on_packet: Callable[[], None]) -> Iterator[Any]:
    """For each output frame a function that gives its RGB."""
    index = 0  # of the next output frame
    current: _Picture | None = None
    for following in _pictures(path, seen, on_packet):
        if current is not None:
            first = index
            while not _due(following, current.time_s, index / rate):
                index += 1
            if index > first and (following.time_s - current.time_s > STILL_S or following.after_damage):
                seen.still.append((first, index))
            yield from itertools.repeat(current.rgb, index - first)
        current = following
    if current is None:
        raise seen.pictures_cut or MediaError("no_video", f"{path}: no picture can be decoded")
    first, end_s = index, current.time_s + min(current.duration_s, Fraction(LAST_PICTURE_S)) + current.rounding_s
    while (index + Fraction(1, 2)) / rate <= end_s:
        index += 1
    if index > first and current.duration_s > STILL_S:
        seen.still.append((first, index))
    yield from itertools.repeat(current.rgb, index - first)
    if seen.pictures_cut is not None:
        seen.cut_at(float(index / rate))


def _due(following: _Picture, current_s: Fraction, at_s: Fraction) -> bool:
    """Whether the following of two pictures is shown at a moment."""
    if following.time_s - current_s > NEAR_S:
        return following.time_s <= at_s + following.rounding_s
    return following.time_s - at_s < at_s - current_s


def picture_span_s(
    path: str | os.PathLike, on_packet: Callable[[], None] = lambda: None
) -> tuple[Fraction, Fraction] | None:
    """Time stamps of the first picture and of the end of the last one, in the container's own time; None: no video.

    Only the first picture is decoded. Raises MediaError and OSError.
    """
    try:
        with opened(path) as container:
            stream = video_stream(container, path)
            first = next(decoded_frames(container, stream, path, Notes(), on_packet), None)
            if first is None:
                return None
            begin_s = first.frame.pts * first.frame.time_base if first.frame.pts is not None else Fraction(0)
    except MediaError as error:
        if error.reason == "no_video":
            return None
        raise
    end_s = begin_s
    with opened(path) as container:
        stream = video_stream(container, path)
        for packet in packets(container, stream, path, lambda error: None, on_packet):
            if packet.pts is not None:
                end_s = max(end_s, (packet.pts + (packet.duration or 0)) * packet.time_base)
    return begin_s, end_s


def decode_frames(data: bytes, indices: Iterable[int]) -> np.ndarray:
    """Frames `indices` of `encode_frames` bytes as uint8 (T, H, W, 3). Raises MediaError (corrupt)."""
    import decord

    try:
        reader = decord.VideoReader(io.BytesIO(data), num_threads=1)
        return reader.get_batch(list(indices)).asnumpy()
    except (decord.DECORDError, RuntimeError, IndexError) as error:
        first_line = (str(error).splitlines() or [type(error).__name__])[0]
        raise MediaError("corrupt", f"clip cannot be decoded: {first_line}") from error


@dataclass(frozen=True)
class _Look:
    """How the stored pixels of a video are shown: size before turning in px, colours, the display matrix (or None)."""

    width: int
    height: int
    colour: Colour
    matrix_22: np.ndarray | None

    @classmethod
    def of(cls, frame, aspect: Fraction, path) -> _Look:
        stretch = aspect if 1 / MOST_STRETCH <= aspect <= MOST_STRETCH else 1
        width = max(round(frame.width * stretch), 1)
        return cls(width, frame.height, Colour.of(frame), _display_matrix(frame, path))


def _display_matrix(frame, path) -> np.ndarray | None:
    """x' = m[0, 0] x + m[1, 0] y, y' = m[0, 1] x + m[1, 1] y (ISO/IEC 14496-12, 6.2.2), entries -1, 0, 1; None: 1.

    Raises MediaError (display_matrix) where it is no quarter turn or mirror image.
    """
    if SideData.DISPLAYMATRIX not in frame.side_data:
        return None
    stored = np.frombuffer(bytes(frame.side_data[SideData.DISPLAYMATRIX]), np.int32)
    a, b, _, c, d, _ = stored[:6].astype(float)
    entries_22 = np.array([[a, b], [c, d]])
    large_22 = np.abs(entries_22) > 0.01 * np.abs(entries_22).max()
    if not (large_22.sum(axis=0) == 1).all() or not (large_22.sum(axis=1) == 1).all():
        raise MediaError("display_matrix", f"{path}: it is to be shown slanted, or turned by less than a quarter")
    matrix_22 = np.sign(entries_22) * large_22
    return None if (matrix_22 == np.eye(2)).all() else matrix_22


def as_displayed(pixels_HW3: np.ndarray, matrix_22: np.ndarray | None) -> np.ndarray:
    """The pixels turned and mirrored by a display matrix of _display_matrix."""
    if matrix_22 is None:
        return pixels_HW3
    if matrix_22[0, 0] == 0:
        pixels_HW3 = pixels_HW3.transpose(1, 0, 2)
    left, up = matrix_22.sum(axis=0) < 0
    if left:
        pixels_HW3 = pixels_HW3[:, ::-1]
    if up:
        pixels_HW3 = pixels_HW3[::-1]
    return np.ascontiguousarray(pixels_HW3)


@dataclass
class _Picture:
    """A decoded picture: seconds since time zero, seconds on screen, the rounding of its time stamp."""

    frame: Any
    time_s: Fraction
    duration_s: Fraction
    rounding_s: Fraction
    after_damage: bool
    look: _Look
    to_rgb: VideoReformatter
    _rgb: np.ndarray | None = None

    def rgb(self) -> np.ndarray:
        """RGB as it is to be shown. Raises MediaError (colours) for a kind of pixels that cannot be converted."""
        if self._rgb is None:
            look = self.look
            try:
                frame = self.to_rgb.reformat(
                    self.frame,
                    width=look.width,
                    height=look.height,
                    format="rgb24",
                    src_colorspace=look.colour.swscale,
                    threads=1,
                )
            except av.error.FFmpegError as error:
                raise MediaError("colours", f"its pixels cannot be converted to RGB: {error.strerror}") from error
            self._rgb = as_displayed(frame.to_ndarray(), look.matrix_22)
        return self._rgb


def _pictures(path, seen: Notes, on_packet: Callable[[], None] = lambda: None) -> Iterator[_Picture]:
    with opened(path) as container:
        stream = video_stream(container, path)
        stated_hz = Fraction(stream.average_rate or stream.guessed_rate or 0)
        usual_s = 1 / Fraction(stated_hz or FRAME_HZ)
        aspect = Fraction(stream.sample_aspect_ratio or 1)
        to_rgb = VideoReformatter()  # one for all pictures: its tables cost as much as a conversion
        look: _Look | None = None
        zero_s: Fraction | None = None
        before_s = -usual_s
        stamped = container.format.name != "avi"  # it has no time stamps, only a rate; ffmpeg's are guesses
        for decoded in progressive(decoded_frames(container, stream, path, seen, on_packet), seen):
            frame = decoded.frame
            tick_s = Fraction(frame.time_base)
            stamp_s = frame.pts * tick_s if frame.pts is not None and stamped else None
            if look is None:
                zero_s, look = stamp_s or Fraction(0), _Look.of(frame, aspect, path)
                if look.colour.hdr:
                    seen.say(f"its pictures are {look.colour.hdr}, read without tone mapping: they look dull")
            time_s = before_s + usual_s if stamp_s is None or zero_s is None else stamp_s - zero_s
            if time_s - before_s > MOST_STILL_S:
                wrong = f"{path}: after {float(before_s):.2f} s no picture for {float(time_s - before_s):.0f} s"
                seen.pictures_cut = MediaError("timestamps", wrong)
                return
            duration_s = frame.duration * tick_s if frame.duration else usual_s
            if not 0 < stated_hz <= MOST_HZ:
                duration_s = time_s - before_s  # as before: the stated duration repeats the header's mistake
            rounding_s = min(tick_s / 2, Fraction(1, 1000))
            yield _Picture(frame, time_s, duration_s, rounding_s, decoded.after_damage, look, to_rgb)
            before_s = time_s
