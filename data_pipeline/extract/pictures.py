"""The pictures of a source, each once, with the output frames that show it.

Shape suffixes: H height, W width, 3 = RGB.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mytalk import media
from mytalk.face.landmarks import FRAME_HZ


@dataclass(frozen=True)
class Picture:
    """A decoded picture, RGB uint8, shown in output frames [first, first + count) at 25 Hz.

    `still`: it only stands there, as a slide does (media.Notes.still).
    """

    frame_HW3: np.ndarray
    first: int
    count: int
    still: bool

    @property
    def stop(self) -> int:
        """The output frame behind its last."""
        return self.first + self.count


def read(
    path: Path, ranges_s: Sequence[Sequence[float]], notes: media.Notes, tick: Callable[[int], None]
) -> Iterator[Picture]:
    """Yield the pictures of each time range (none: of the whole file), in order.

    One picture is in memory. `tick(n)` says that n more frames are taken, `tick(0)` that the file is read on. A file
    that breaks off gives what decodes, `notes` tell. Raises MediaError, OSError.
    """
    ranges = [(round(start_s * FRAME_HZ), round(stop_s * FRAME_HZ)) for start_s, stop_s in ranges_s]
    for picture in _pictures(path, ranges, notes, lambda: tick(0)):
        if not ranges:
            tick(picture.count)
            yield picture
        for start, stop in ranges:
            first = max(picture.first, start)
            count = min(picture.stop, stop) - first
            if count > 0:
                tick(count)
                yield Picture(picture.frame_HW3, first, count, picture.still)


def _pictures(
    path: Path, ranges: list[tuple[int, int]], notes: media.Notes, on_packet: Callable[[], None]
) -> Iterator[Picture]:
    begin, end = (ranges[0][0], ranges[-1][1]) if ranges else (0, None)
    frames = media.read_frames(path, FRAME_HZ, begin, end, notes, on_packet)
    shown, first, index, still = None, begin, begin, False
    for index, frame in enumerate(frames, begin):
        if frame is shown:  # media repeats the same array
            continue
        if shown is not None:
            yield Picture(shown, first, index - first, still)
        shown, first = frame, index
        still = any(start <= index < stop for start, stop in notes.still[-1:])
    if shown is not None:
        yield Picture(shown, first, index + 1 - first, still)
