"""In how many frames of a clip the face detector finds a face, on a sample."""

from __future__ import annotations

import importlib.util
import itertools
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import av
import cv2

from mytalk.face.mediapipe_mesh import FaceDetector
from mytalk.face.track import find_faces

EVERY = 10  # one frame in so many is looked at


def available() -> bool:
    """Whether the detector's package is installed."""
    return importlib.util.find_spec("mediapipe") is not None


def count(path: Path, tick: Callable[[int, int], None] = lambda item, n: None) -> tuple[int, int]:
    """(frames looked at, frames with a face) of a video."""
    tick(0, 0)
    cv2.setNumThreads(1)
    with av.open(str(path)) as container:
        frames = itertools.islice(container.decode(video=0), 0, None, EVERY)
        track = find_faces((frame.to_ndarray(format="rgb24") for frame in frames), _detector())
    return len(track.found_T), int(track.found_T.sum())


@lru_cache(maxsize=1)
def _detector() -> FaceDetector:
    return FaceDetector()
