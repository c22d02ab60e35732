"""The detector `mediapipe`: MediaPipe's face mesh. MediaPipe's hand model: mediapipe_hands.py.

MediaPipe (extra `landmarks`) is imported when a detector is created, so that training runs without it.
Shape suffixes: H height, W width, N landmarks (478), 3 = (x, y, z) in px.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np

from mytalk.face.landmarks import COUNT

NAME = "mediapipe face mesh, 478 points with irises, tracking"


def version() -> str:
    """Version of the installed MediaPipe, without importing it. Raises ModuleNotFoundError without it."""
    import importlib.metadata

    try:
        return importlib.metadata.version("mediapipe")
    except importlib.metadata.PackageNotFoundError:
        raise ModuleNotFoundError("No module named 'mediapipe'", name="mediapipe") from None


class FaceDetector:
    """Finds the landmarks of one face, frame after frame of one source.

    It tracks: a frame's result depends on the frames before. Call `reset` before every source, so that
    results do not depend on the order of sources.
    """

    def __init__(self) -> None:
        with quiet():
            from mediapipe.python.solutions.face_mesh import FaceMesh

            self._mesh: Any = FaceMesh(static_image_mode=False, max_num_faces=1, refine_landmarks=True)
            self._settle()
        self._seen_face = False

    def reset(self) -> None:
        """Forget the face tracked so far."""
        self._seen_face = False
        with quiet():
            self._mesh.reset()
            self._settle()

    def _settle(self) -> None:
        """Wait for the threads of a new graph, which log, by a frame without a face."""
        self._mesh.process(np.zeros((64, 64, 3), np.uint8))

    def detect(self, frame_HW3: np.ndarray) -> np.ndarray | None:
        """Landmarks (478, 3) float32 px of the face in an RGB uint8 frame, or None without a face.

        Pixels are areas: x runs from 0 at the frame's left edge to W at its right edge. z is away from the camera and
        relative to the head; MediaPipe states it in units of the picture's width, in portrait too. The lips' x and y
        are refined by a part of the network of their own, their z is the whole mesh's; the five points of an iris share
        one z.
        """
        # Its parts log as they first run, the last of them at the first face.
        with contextlib.nullcontext() if self._seen_face else quiet():
            faces = self._mesh.process(np.ascontiguousarray(frame_HW3)).multi_face_landmarks
        self._seen_face = self._seen_face or bool(faces)
        if not faces:
            return None
        height, width = frame_HW3.shape[:2]
        points = np.array([(p.x, p.y, p.z) for p in faces[0].landmark], np.float32)
        assert points.shape == (COUNT, 3)
        return points * np.array([width, height, width], np.float32)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Send file descriptor 2 to nowhere: MediaPipe's C++ logs before its log levels can be set."""
    os.environ.setdefault("GLOG_minloglevel", "3")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    sys.stderr.flush()
    saved, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(nowhere)
