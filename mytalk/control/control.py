"""What is decided about a dubbed mouth beside the speech, and the promises that follow for a span of frames.

Shape suffixes: T frames at 25 Hz, F frames at the video's rate, K noised landmarks, M keyframes, 2 = (x, y) px in the
head's frame.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from mytalk.control.motion_file import Keyframes
from mytalk.control.promises import Mouth, Promises, frames_of
from mytalk.control.times import Times
from mytalk.face.landmarks import FRAME_HZ


@dataclass(frozen=True)
class Control:
    """By default nothing is decided: the mouth is as the motion model writes it. Times count from the video's begin."""

    amplitude: float = 1.0  # times what the lower face differs by from the person's mean
    closed_s: Times | None = None  # the lips are closed
    still_s: Times | None = None  # the mouth is still
    keyframes: Keyframes | None = None

    @property
    def promises_something(self) -> bool:
        """Whether anything is to be held."""
        return bool(self.closed_s or self.still_s or self.keyframes is not None)

    def promises(
        self,
        mouth: Mouth,
        start: Fraction | int,
        frames: int,
        fps: Fraction,
        keyframe_M: np.ndarray,
        keyframes_MK2: np.ndarray,
    ) -> Promises:
        """Those of `frames` frames at `fps` from the video's frame `start` on; keyframes count from there."""
        begin_s = float(start / fps)

        def inside(times: Times | None) -> np.ndarray:
            return frames_of([(a - begin_s, b - begin_s) for a, b in times or ()], frames, fps)

        return Promises(mouth, float(fps), inside(self.closed_s), inside(self.still_s), keyframe_M, keyframes_MK2)

    def promises_at_25_hz(
        self, mouth: Mouth, start: int, frames: int, fps: Fraction, keyframe_M: np.ndarray, keyframes_MK2: np.ndarray
    ) -> Promises:
        """The same for the `frames` frames at 25 Hz that begin with the video's frame `start`; each keyframe is that of
        the nearest of them.
        """
        nearest_M = np.clip(np.rint(keyframe_M * float(FRAME_HZ / fps)).astype(np.int64), 0, frames - 1)
        nearest_M, first_M = np.unique(nearest_M, return_index=True)
        begin = start / fps * FRAME_HZ
        return self.promises(mouth, begin, frames, Fraction(FRAME_HZ), nearest_M, keyframes_MK2[first_M])
