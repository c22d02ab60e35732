"""The face in every frame of a video: the one loop of extraction, dubbing and scoring.

Shape suffixes: T frames, N landmarks (478), H height, W width, 3 = (x, y, z) in px, or RGB.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from mytalk.face.detector import Detector
from mytalk.face.landmarks import COUNT


@dataclass(frozen=True)
class FaceTrack:
    """The landmarks of every frame in its px, zeros where no face was found, and the size of the frames in px."""

    landmarks_TN3: np.ndarray  # float32
    found_T: np.ndarray  # bool
    width: int
    height: int


def find_faces(
    frames: Iterable[np.ndarray], detector: Detector, on_frame: Callable[[], None] = lambda: None
) -> FaceTrack:
    """Reset the detector and show it every RGB uint8 (H, W, 3) frame in order; `on_frame` is called after each.

    Frames are read one at a time and not kept. Raises what `frames` raises.
    """
    detector.reset()
    points: list[np.ndarray | None] = []
    height = width = 0
    for frame_HW3 in frames:
        height, width = frame_HW3.shape[:2]
        points.append(detector.detect(frame_HW3))
        on_frame()
    no_face = np.zeros((COUNT, 3), np.float32)
    landmarks_TN3 = np.array([no_face if p is None else p for p in points], np.float32).reshape(len(points), COUNT, 3)
    return FaceTrack(landmarks_TN3, np.array([p is not None for p in points], bool), width, height)
