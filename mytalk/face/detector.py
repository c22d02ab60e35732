"""What a face detector is, and the list of those that `--detector` offers.

A detector keeps nothing between calls: tracking is ours (mytalk/face/track.py).

Shape suffixes: H height, W width, N landmarks (478), 2 = (x, y), 3 = (x, y, z) in px, or RGB.
"""

from __future__ import annotations

import argparse
import importlib
import math
from dataclasses import dataclass
from types import ModuleType
from typing import Protocol

import numpy as np

DEFAULT = "mediapipe"
# The word typed after --detector -> a module with NAME, version() and FaceDetector, a class of detectors.
DETECTORS = {
    "mediapipe": "mytalk.face.mediapipe_mesh",
}
MARGIN = 1.5  # side of a region / side of its face, as MediaPipe's mesh is trained
LEFT_EYE, RIGHT_EYE = 33, 263  # outer corners, left and right in the image


@dataclass(frozen=True)
class Region:
    """The square in which a face lies: MARGIN times as wide as the face, turned with its eyes."""

    x: float  # centre, px
    y: float
    side: float  # px
    turn: float  # clockwise as seen, radians; 0 is upright
    score: float = 1.0  # the detector's, 0 to 1

    def same_face(self, other: Region) -> bool:
        """Whether two regions can only show one face: the centre of one lies within the other's face."""
        distance = math.hypot(self.x - other.x, self.y - other.y)
        return distance < max(self.side, other.side) / MARGIN / 2


def region_of(landmarks_N3: np.ndarray) -> Region:
    """Where the next picture's mesh looks: the square about a face's landmarks, turned with its eyes (MediaPipe)."""
    low_2, high_2 = landmarks_N3[:, :2].min(0), landmarks_N3[:, :2].max(0)
    x, y = (low_2 + high_2).tolist()
    across, down = (landmarks_N3[RIGHT_EYE, :2] - landmarks_N3[LEFT_EYE, :2]).tolist()
    return Region(x / 2, y / 2, MARGIN * float((high_2 - low_2).max()), math.atan2(down, across))


def distinct(regions: list[Region]) -> list[Region]:
    """One region a face, the one with the best score, best first (non-maximum suppression)."""
    kept: list[Region] = []
    for region in sorted(regions, key=lambda region: -region.score):
        if not any(region.same_face(other) for other in kept):
            kept.append(region)
    return kept


class Detector(Protocol):
    """Finds faces in one picture, and the landmarks of each. The same arguments always give the same result."""

    def find(self, frame_HW3: np.ndarray) -> list[Region]:
        """Where faces may be in an RGB uint8 frame, one region a face."""

    def landmarks(self, frame_HW3: np.ndarray, region: Region) -> np.ndarray | None:
        """Landmarks (478, 3) float32 of the face in a region of an RGB uint8 frame, or None where there is no face.

        They are the points of MediaPipe's face mesh, in px: x runs from 0 at the frame's left edge to W at its
        right edge, y likewise from the top, z away from the camera with any zero.
        """


def module_of(name: str) -> ModuleType:
    """The module of a detector in the list: NAME and version() for protocols, FaceDetector to create one."""
    return importlib.import_module(DETECTORS[name])


def load(name: str = DEFAULT) -> Detector:
    """Create a detector of the list. Raises ModuleNotFoundError where its package is not installed."""
    return module_of(name).FaceDetector()


def add_option(parser: argparse.ArgumentParser) -> None:
    """Add `--detector NAME` to a command line."""
    parser.add_argument(
        "--detector", choices=sorted(DETECTORS), default=DEFAULT, help="face detector (default: %(default)s)"
    )
