"""The faces of a video followed through its shots, each under its numbers; only landmarks are kept.

Shape suffixes: F frames at the video's rate, N landmarks (478), H height, W width, 3 = (x, y, z) in px of the video, or
RGB.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from mytalk import machine
from mytalk.ahead import ahead
from mytalk.face import crop
from mytalk.face.landmarks import COUNT
from mytalk.face.shots import face_boxes
from mytalk.face.track import Tracker
from mytalk.media import cuts

if TYPE_CHECKING:
    from mytalk.face.detector import Detector

MOST_FACES = 8  # that are followed at a time, the largest first
SHOWN_AT = (5, 50, 500, 5000)  # frames after which a track keeps a picture of its face
SHOWN_PX = 128
BLOCK_FACES = 4096
DECODED_FRAMES = 4  # that are read, and compared for cuts, ahead


@dataclass
class Track:
    """One face, as it was followed from picture to picture without doubt: a person may have several tracks."""

    number: int
    frames: list[int] = field(default_factory=list)  # in order; a few may be missing
    landmarks: list[np.ndarray] = field(default_factory=list)  # (478, 3) of each, float32
    boxes: list[np.ndarray] = field(default_factory=list)  # of each, float32: centre x, y and side in px
    pictures: list[np.ndarray] = field(default_factory=list)  # of the face, (SHOWN_PX, SHOWN_PX, 3) uint8

    def see(self, frame: int, frame_HW3: np.ndarray, landmarks_N3: np.ndarray) -> None:
        """The face in a further frame."""
        self.frames.append(frame)
        self.landmarks.append(landmarks_N3)
        (centre_2,), (side,) = face_boxes(landmarks_N3[None])
        self.boxes.append(np.array([*centre_2, side], np.float32))
        if len(self.frames) in SHOWN_AT:
            box_23 = crop.canonical(landmarks_N3[None], SHOWN_PX)
            self.pictures.append(crop.warp(frame_HW3, box_23, SHOWN_PX))


class Kept:
    """Landmarks of all faces of a video, in arrays that lie on disk where there are many."""

    def __init__(self) -> None:
        self.block_BN3, self.filled = np.empty((0, COUNT, 3), np.float32), 0

    def keep(self, landmarks_N3: np.ndarray) -> np.ndarray:
        """The same landmarks, as they are kept."""
        if self.filled == len(self.block_BN3):
            self.block_BN3, self.filled = machine.zeros((min(2 * self.filled + 64, BLOCK_FACES), COUNT, 3)), 0
        self.block_BN3[self.filled] = landmarks_N3
        self.filled += 1
        return self.block_BN3[self.filled - 1]


@dataclass(frozen=True)
class Followed:
    """All tracks of a video by number, the frames at which a shot begins, the number of frames, their size in px."""

    tracks: list[Track]
    cuts: list[int]
    frames: int
    width: int
    height: int


def follow(frames: Iterable[np.ndarray], detector: Detector, on_frame: Callable[[], None] = lambda: None) -> Followed:
    """Follow every upright face of RGB uint8 frames; a cut ends all tracks.

    A few frames are held, none kept; `on_frame` is called after each. Raises what `frames` raises, ModuleNotFoundError
    without scenedetect.
    """
    tracker, tracks, kept = Tracker(detector, MOST_FACES), dict[int, Track](), Kept()
    starts: list[int] = []
    height = width = index = 0
    with_cuts = ahead(cuts.with_cuts(frames, lambda frame_HW3: frame_HW3), DECODED_FRAMES)
    for index, (frame_HW3, cut) in enumerate(with_cuts, 1):
        height, width = frame_HW3.shape[:2]
        if cut:
            starts.append(index - 1)
        for number, face in tracker.next(frame_HW3, cut).items():
            if not face.upside_down:
                tracks.setdefault(number, Track(number)).see(index - 1, frame_HW3, kept.keep(face.landmarks_N3))
        on_frame()
    return Followed(list(tracks.values()), starts, index, width, height)


def laid_out(tracks: Iterable[Track], frames: int) -> tuple[np.ndarray, np.ndarray]:
    """The landmarks of tracks that never overlap, in all frames of the video: (F, 478, 3), zeros where there are none,
    and where there are some: (F,) bool."""
    landmarks_FN3, found_F = machine.zeros((frames, COUNT, 3)), np.zeros(frames, bool)
    for track in tracks:
        for frame, landmarks_N3 in zip(track.frames, track.landmarks, strict=True):
            landmarks_FN3[frame] = landmarks_N3
        found_F[track.frames] = True
    return landmarks_FN3, found_F
