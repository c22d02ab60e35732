"""Where shots begin: hard cuts by PySceneDetect, and fades and dissolves as pictures that are a blend of two others.

docs/log.md ("shots, measured") has recall and precision on drawn and real people, and what the thresholds stand
between. Shape suffixes: H height, W width, 3 = RGB.
"""

from __future__ import annotations

import importlib.metadata
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

import numpy as np

Picture = TypeVar("Picture")
LONGER_SIDE_PX = 128  # pictures are compared at this size
AVERAGED = 4  # pixels in a row that one of them is the mean of, or more: of large pictures not all are read

# Hard cuts. A picture that differs from both of its neighbours, as a flash does, stands out by 4 at most: it and the
# next one change alike, and the mean is over two pictures on each side.
WINDOW = 2
STANDS_OUT = 5.0  # times the mean change of the pictures around: real and drawn cuts 7.5 or more
LEAST_CHANGE = 6.0  # of saturation and luma (hue is noise where it is dark): drawn cuts before one wall 8.6 or more

# Fades and dissolves.
REACH = 6  # pictures to each side of the middle
LEAST_BLEND = 6.0  # mean difference of the outer pictures, of 255
BLEND_RESIDUAL = 0.25  # share of it by which the middle differs from their mean: dissolves up to 0.25, motion from 0.3
BLEND_STANDS_OUT = 1.7  # times its median before: a camera that moves before a blurred room looks like a blend
USUAL = 50  # pictures of that median
LONGEST_PART = 20  # frames (25 Hz) of a transition in one part: less than the second of the shortest clip


def with_cuts(
    pictures: Iterable[Picture],
    frame_of: Callable[[Picture], np.ndarray],
    count_of: Callable[[Picture], int] = lambda picture: 1,
    longest_part: int = LONGEST_PART,
) -> Iterator[tuple[Picture, bool]]:
    """Each picture in order, and whether it begins another shot than the one before (the first does not).

    `frame_of` gives the RGB uint8 (H, W, 3) frame of a picture, `count_of` for how many frames it is shown. A fade or
    dissolve becomes a shot of its own, or several, of `longest_part` frames at most. The last 2 * REACH pictures are
    held back.

    Raises ModuleNotFoundError without scenedetect.
    """
    hard, soft = _cut_finder(), Transitions(longest_part)
    cuts: set[int] = set()
    waiting: deque[Picture] = deque()
    begun = 0  # number of waiting[0]
    for number, picture in enumerate(pictures):
        small_HW3 = reduced(frame_of(picture))
        cuts.update(hard.process_frame(number, np.ascontiguousarray(small_HW3[..., ::-1])))
        soft.see(small_HW3)
        waiting.append(picture)
        if len(waiting) > 2 * REACH:
            picture = waiting.popleft()
            yield picture, soft.starts(begun, count_of(picture)) or begun in cuts
            begun += 1
    for number, picture in enumerate(waiting, begun):
        yield picture, soft.starts(number, count_of(picture)) or number in cuts


def described() -> str:
    """What finds shots, for the protocol. Raises ModuleNotFoundError without scenedetect."""
    return f"adaptive scenedetect {importlib.metadata.version('scenedetect')}"


def reduced(frame_HW3: np.ndarray) -> np.ndarray:
    """The picture with its longer side at LONGER_SIDE_PX, (H, W, 3) uint8."""
    import cv2

    height, width = frame_HW3.shape[:2]
    scale = LONGER_SIDE_PX / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    every = max(int(1 / scale) // AVERAGED, 1)
    return np.asarray(cv2.resize(frame_HW3[::every, ::every], size, interpolation=cv2.INTER_AREA), np.uint8)


def _cut_finder():
    """PySceneDetect's AdaptiveDetector with the thresholds above."""
    from scenedetect.detectors import AdaptiveDetector

    return AdaptiveDetector(
        adaptive_threshold=STANDS_OUT,
        min_scene_len=1,
        window_width=WINDOW,
        min_content_val=LEAST_CHANGE,
        weights=AdaptiveDetector.Components(delta_hue=0.0),
    )


class Transitions:
    """Finds fades and dissolves in pictures that come one after the other, and parts them.

    In a dissolve the middle one of three pictures is the mean of the outer two; what moves is in neither of their
    places. A fade is a dissolve with black.
    """

    def __init__(self, longest_part: int = LONGEST_PART) -> None:
        """`longest_part`: frames."""
        self._longest_part = longest_part
        self._window: deque[np.ndarray] = deque(maxlen=2 * REACH + 1)
        self._usual: deque[float] = deque(maxlen=USUAL)
        self._seen = 0
        self._blended: set[int] = set()  # pictures of a transition that were not asked for yet
        self._part = 0  # frames of the part that is under way

    def see(self, small_HW3: np.ndarray) -> None:
        """The next picture. It changes the answer for no picture that is more than 2 * REACH behind."""
        self._window.append(small_HW3.astype(np.float32))
        self._seen += 1
        if len(self._window) < 2 * REACH + 1:
            return
        before, middle, after = self._window[0], self._window[REACH], self._window[-1]
        change = float(np.abs(after - before).mean())
        residual = float(np.abs(middle - (before + after) / 2).mean())
        stands_out = len(self._usual) > REACH and change >= BLEND_STANDS_OUT * np.median(self._usual)
        if change >= LEAST_BLEND and residual <= BLEND_RESIDUAL * change and stands_out:
            self._blended.update(range(self._seen - 1 - 2 * REACH, self._seen - 1))
        else:
            self._usual.append(change)

    def starts(self, number: int, frames: int) -> bool:
        """Whether a transition, a part of one, or what follows it begins with a picture, which is shown for `frames`.

        To be asked of each in order. One that is shown for longer than a part may be is a part of its own.
        """
        before = self._part
        if number not in self._blended:
            self._part = 0
            return before > 0
        self._blended.discard(number)
        fresh = before == 0 or before + frames > self._longest_part
        self._part = frames if fresh else before + frames
        return fresh
