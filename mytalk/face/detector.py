"""What a face detector is, and the list of those that `--detector` offers.

Shape suffixes: H height, W width, N landmarks (478), 3 = (x, y, z) in px, or RGB.
"""

from __future__ import annotations

import argparse
import importlib
from types import ModuleType
from typing import Protocol

import numpy as np

DEFAULT = "mediapipe"
# The word typed after --detector -> a module with NAME, version() and FaceDetector, a class of detectors.
DETECTORS = {
    "mediapipe": "mytalk.face.mediapipe_mesh",
}


class Detector(Protocol):
    """Finds the landmarks of one face, frame after frame of one video. It may track from frame to frame."""

    def reset(self) -> None:
        """Forget the frames seen so far. Called before every video, so that the order of videos changes nothing."""

    def detect(self, frame_HW3: np.ndarray) -> np.ndarray | None:
        """Landmarks (478, 3) float32 of the face in an RGB uint8 frame, or None where there is no face.

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
