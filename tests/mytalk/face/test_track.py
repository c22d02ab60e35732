"""The loop that finds the face in every frame of a video."""

from __future__ import annotations

import numpy as np

from mytalk.face.landmarks import COUNT
from mytalk.face.track import find_faces


class EverySecond:
    """A detector that counts the frames since its reset and sees a face in every second one."""

    def __init__(self) -> None:
        self.frames = 100

    def reset(self) -> None:
        self.frames = 0

    def detect(self, frame_HW3: np.ndarray) -> np.ndarray | None:
        self.frames += 1
        return np.full((COUNT, 3), self.frames, np.float32) if self.frames % 2 else None


def test_frames_without_a_face_have_zeros_and_the_detector_is_reset_first():
    frames, counted = [np.zeros((48, 64, 3), np.uint8)] * 3, []
    track = find_faces(iter(frames), EverySecond(), lambda: counted.append(1))
    assert track.landmarks_TN3.shape == (3, COUNT, 3)
    assert track.landmarks_TN3.dtype == np.float32
    assert track.landmarks_TN3[:, 0, 0].tolist() == [1, 0, 3]
    assert track.found_T.tolist() == [True, False, True]
    assert (track.width, track.height) == (64, 48)
    assert len(counted) == 3


def test_no_frames_give_an_empty_track():
    track = find_faces([], EverySecond())
    assert track.landmarks_TN3.shape == (0, COUNT, 3)
    assert track.found_T.shape == (0,)
