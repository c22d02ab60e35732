"""The faces of a video, each under its number from picture to picture: the one loop of extraction, dubbing and scoring.

A face goes on from its own last landmarks, so that two faces side by side keep their numbers; the detector looks again
every few pictures. Where it is in doubt whether a face is still the same, its track ends and a new one begins: two
people never share a number, one person may have several.

Shape suffixes: T frames, N landmarks (478), H height, W width, 3 = (x, y, z) in px, or RGB.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from mytalk.face import plausible
from mytalk.face.detector import MARGIN, Detector, Region, region_of
from mytalk.face.landmarks import COUNT
from mytalk.face.shots import shot_starts

LOOK_EVERY = 5  # pictures from one look of the detector to the next, while there are faces
EAGER = 25  # pictures without a face that are all looked at; then every LOOK_EVERY-th is
UNSUPPORTED = 3  # looks of the detector without a face where the track is: the track ends
AWAY = 5  # pictures for which a face may be lost and resume its number
NEAR = 1.0  # distance of two faces / side of the larger: nearer, one may hide the other
CAREFUL = 25  # pictures after faces were near, in which the detector always looks and a face may not change its shape


@dataclass(frozen=True)
class Face:
    """One face of a picture. `upside_down`: the detector takes it for a face better when the picture is turned."""

    landmarks_N3: np.ndarray  # float32, px of the picture
    upside_down: bool = False


@dataclass
class _Track:
    """A face that is followed, or was lost a few pictures ago."""

    number: int
    face: Face
    unsupported: int = 0  # looks in a row
    away: int = 0  # pictures without it, where it is lost

    @property
    def region(self) -> Region:
        return region_of(self.face.landmarks_N3)


class Tracker:
    """Follows the faces of one video, picture after picture. Numbers count up and are never used again."""

    def __init__(self, detector: Detector, most_faces: int = 4, least_px: float = 0.0) -> None:
        """Follow at most `most_faces` at a time, the largest first, that begin at least `least_px` in side."""
        self._detector, self._most_faces, self._least_px = detector, most_faces, least_px
        self._live: list[_Track] = []
        self._lost: list[_Track] = []
        self._next_number = 0
        self._since_look = self._faceless = self._careful = 0
        self._frame_HW3: np.ndarray | None = None

    def next(self, frame_HW3: np.ndarray, cut: bool = False) -> dict[int, Face]:
        """The faces of the next RGB uint8 picture by number; after a `cut` all are new.

        The array of the picture before, shown again, gives the faces of before.
        """
        if cut:
            self._live, self._lost = [], []
        elif frame_HW3 is self._frame_HW3:
            return self._faces()
        self._frame_HW3 = frame_HW3
        lost = self._follow(frame_HW3)
        self._since_look += 1
        self._faceless = 0 if self._live else self._faceless + 1
        eager = self._careful > 0 or (not self._live and self._faceless <= EAGER)
        if cut or lost or eager or self._since_look >= LOOK_EVERY:
            self._look(frame_HW3)
        return self._faces()

    def _faces(self) -> dict[int, Face]:
        return {track.number: track.face for track in self._live}

    def _follow(self, frame_HW3: np.ndarray) -> bool:
        """Move every track to the next picture; whether one was lost."""
        before = list(self._live)
        self._careful = CAREFUL if _near([track.region for track in before]) else self._careful - 1
        for track in self._lost:
            track.away += 1
        self._lost = [track for track in self._lost if track.away <= AWAY]
        for track in before:
            points_N3 = self._detector.landmarks(frame_HW3, track.region)
            if points_N3 is None or not self._goes_on(track.face.landmarks_N3, points_N3):
                self._live.remove(track)
                if self._careful <= 0:
                    track.away = 0
                    self._lost.append(track)
            else:
                track.face = Face(points_N3, track.face.upside_down)
        self._end_shared()
        return len(self._live) < len(before)

    def _goes_on(self, before_N3: np.ndarray, after_N3: np.ndarray) -> bool:
        """Whether a face may be the same in the next picture: it does not jump, nor slide over to another face."""
        slides = self._careful > 0 and plausible.unlikeness(before_N3, after_N3) > plausible.MOST_CHANGE
        return not slides and not _jumps(before_N3, after_N3)

    def _end_shared(self) -> None:
        """End both of two tracks that lie on one face: it cannot be told whose it is."""
        regions = [track.region for track in self._live]
        shared = {
            index
            for index, region in enumerate(regions)
            for other_index, other in enumerate(regions)
            if index != other_index and region.same_face(other)
        }
        self._live = [track for index, track in enumerate(self._live) if index not in shared]

    def _look(self, frame_HW3: np.ndarray) -> None:
        """Let the detector look: end tracks that it does not support, begin or resume one for every other face.

        A track on which it sees two faces slides from one to the other, and ends.
        """
        self._since_look = 0
        regions = self._detector.find(frame_HW3)
        if _near(regions):
            self._careful = CAREFUL
        for track in list(self._live):
            faces = sum(region.same_face(track.region) for region in regions)
            track.unsupported = 0 if faces else track.unsupported + 1
            if faces > 1 or track.unsupported >= UNSUPPORTED:
                self._live.remove(track)
        for region in sorted(regions, key=lambda region: -region.side):
            large = region.side / MARGIN >= self._least_px
            if large and len(self._live) < self._most_faces and not self._followed(region):
                self._begin(frame_HW3, region)

    def _followed(self, region: Region) -> bool:
        return any(region.same_face(track.region) for track in self._live)

    def _begin(self, frame_HW3: np.ndarray, region: Region) -> None:
        """Begin a track in a region, or resume one, if there is a face that no track follows yet."""
        points_N3 = plausible.settled(frame_HW3, region, self._detector)
        if points_N3 is None or self._followed(region_of(points_N3)):
            return
        for track in self._lost:
            if not _jumps(track.face.landmarks_N3, points_N3) and plausible.alike(track.face.landmarks_N3, points_N3):
                self._lost.remove(track)
                track.face, track.unsupported = Face(points_N3, track.face.upside_down), 0
                self._live.append(track)
                return
        upside_down = plausible.upside_down(frame_HW3, region, self._detector)
        self._live.append(_Track(self._next_number, Face(points_N3, upside_down)))
        self._next_number += 1


def _jumps(before_N3: np.ndarray, after_N3: np.ndarray) -> bool:
    """Whether a face moves or changes size between two pictures as only a cut can make it."""
    return bool(shot_starts(np.stack([before_N3, after_N3]), np.ones(2, bool))[1])


def _near(regions: list[Region]) -> bool:
    """Whether one face may hide another in the next pictures."""
    return any(
        math.hypot(one.x - other.x, one.y - other.y) < NEAR * max(one.side, other.side) / MARGIN
        for one, other in itertools.combinations(regions, 2)
    )


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
    """The main face of every RGB uint8 (H, W, 3) frame: the largest, kept while it is followed, then the largest again.

    Faces that stand on their heads count as none. Frames are read one at a time and not kept; `on_frame` is called
    after each. Raises what `frames` raises.
    """
    tracker = Tracker(detector, most_faces=1)
    points: list[np.ndarray | None] = []
    height = width = 0
    for frame_HW3 in frames:
        height, width = frame_HW3.shape[:2]
        upright = [face for face in tracker.next(frame_HW3).values() if not face.upside_down]
        points.append(upright[0].landmarks_N3 if upright else None)
        on_frame()
    no_face = np.zeros((COUNT, 3), np.float32)
    landmarks_TN3 = np.array([no_face if p is None else p for p in points], np.float32).reshape(len(points), COUNT, 3)
    return FaceTrack(landmarks_TN3, np.array([p is not None for p in points], bool), width, height)
