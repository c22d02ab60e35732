"""A row seen again: its mp4 is decoded and the face detected anew in every frame.

Shape suffixes: T frames, N landmarks (478), H height, W width, 2 = (x, y) in px, 3 = RGB.
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import numpy as np

from eval.dub_metrics import Seen
from mytalk import media
from mytalk.face.landmarks import COUNT


class Detector(Protocol):
    """What is used of mytalk.face.detector.FaceDetector."""

    def reset(self) -> None: ...

    def detect(self, frame_HW3: np.ndarray) -> np.ndarray | None: ...


def see(video: Path, detector: Detector) -> Seen:
    """Decode and detect a file from its first frame to its last. Raises MediaError, OSError."""
    frames_THW3 = np.stack(list(media.read_frames(video)))
    detector.reset()
    points = [detector.detect(frame) for frame in frames_THW3]
    found_T = np.array([found is not None for found in points])
    blank = np.zeros((COUNT, 2), np.float32)
    landmarks_TN2 = np.stack([blank if found is None else found for found in points])
    return Seen(frames_THW3, filled(landmarks_TN2, found_T), found_T)


def filled(landmarks_TN2: np.ndarray, found_T: np.ndarray) -> np.ndarray:
    """Landmarks of frames without a face put linearly between their neighbours'; before the first and after the
    last they stand still. With no face at all they stay as they are."""
    if found_T.all() or not found_T.any():
        return landmarks_TN2
    at, known = np.arange(len(found_T)), np.flatnonzero(found_T)
    place = np.interp(at, known, np.arange(len(known)))  # among the frames with a face
    below = np.floor(place).astype(int)
    weight_T11 = (place - below)[:, None, None]
    above = np.minimum(below + 1, len(known) - 1)
    held = landmarks_TN2[known]
    return (held[below] * (1 - weight_T11) + held[above] * weight_T11).astype(landmarks_TN2.dtype)
