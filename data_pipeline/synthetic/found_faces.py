"""In how many frames of a clip the face detector finds a face, on a sample."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import av
import cv2

from mytalk.face.mediapipe_mesh import FaceDetector

EVERY = 10  # one frame in so many is looked at


def available() -> bool:
    """Whether the detector's package is installed."""
    return importlib.util.find_spec("mediapipe") is not None


def count(path: Path, tick: Callable[[int, int], None] = lambda item, n: None) -> tuple[int, int]:
    """(frames looked at, frames with a face) of a video."""
    tick(0, 0)
    cv2.setNumThreads(1)
    looked_at = found = 0
    detector = _detector()
    detector.reset()
    with av.open(str(path)) as container:
        for number, frame in enumerate(container.decode(video=0)):
            if number % EVERY == 0:
                looked_at += 1
                found += detector.detect(frame.to_ndarray(format="rgb24")) is not None
    return looked_at, found


@lru_cache(maxsize=1)
def _detector() -> FaceDetector:
    return FaceDetector()
