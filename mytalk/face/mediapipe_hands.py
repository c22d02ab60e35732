"""MediaPipe's hand model, and whether a hand covers the mouth.

MediaPipe (extra `landmarks`) is imported when a model is created.
Shape suffixes: H height, W width, K points of a hand (21), N landmarks (478), V vertices, 2 = (x, y), 3 = RGB or
(x, y, z).
"""

from __future__ import annotations

import contextlib
from typing import Any

import numpy as np

from mytalk.face.landmarks import OUTER_LIP
from mytalk.face.mediapipe_mesh import quiet

POINTS = 21
KNUCKLES = [5, 9, 13, 17]  # of the index finger to the little one: a finger's width apart
LEAST_COVERED = 0.1  # share of the lips


class Hands:
    """Finds hands in single pictures, none remembered: `covers_mouth` is for a few pictures a second.

    The settings and what they cost and miss are in docs/log.md.
    """

    def __init__(self) -> None:
        with quiet():
            from mediapipe.python.solutions import hands

            self._model: Any = hands.Hands(static_image_mode=True, max_num_hands=2, model_complexity=1)
            self._model.process(np.zeros((64, 64, 3), np.uint8))  # waits for its threads, which log
        self._seen_hand = False

    def find(self, picture_HW3: np.ndarray) -> list[np.ndarray]:
        """The points (21, 2) of up to two hands in an RGB uint8 picture, in its px."""
        with contextlib.nullcontext() if self._seen_hand else quiet():
            found = self._model.process(np.ascontiguousarray(picture_HW3)).multi_hand_landmarks or []
        self._seen_hand = self._seen_hand or bool(found)
        height, width = picture_HW3.shape[:2]
        return [np.array([(point.x * width, point.y * height) for point in hand.landmark]) for hand in found]

    def covers_mouth(self, picture_HW3: np.ndarray, landmarks_N3: np.ndarray) -> bool:
        """Whether a hand covers the mouth in an RGB uint8 picture of two to three face sides around a face.

        `landmarks_N3`: the face's landmarks in px of this picture.
        """
        return any(covered(hand_K2, landmarks_N3) >= LEAST_COVERED for hand_K2 in self.find(picture_HW3))


def covered(hand_K2: np.ndarray, landmarks_N3: np.ndarray) -> float:
    """Share of the lips' outline that a hand's outline covers."""
    import cv2

    lips_V2 = cv2.convexHull(np.asarray(landmarks_N3)[OUTER_LIP, :2].astype(np.float32))
    shared_px2, _ = cv2.intersectConvexConvex(outline(hand_K2), lips_V2)
    return float(shared_px2 / max(cv2.contourArea(lips_V2), 1e-6))


def outline(hand_K2: np.ndarray) -> np.ndarray:
    """The hand's convex outline (V, 2): its points are in the middle of fingers, so half a finger's width wider."""
    import cv2

    radius_px = np.linalg.norm(np.diff(hand_K2[KNUCKLES], axis=0), axis=1).mean() / 2
    angles = np.linspace(0, 2 * np.pi, 8, endpoint=False)
    around_2 = radius_px * np.stack([np.cos(angles), np.sin(angles)], axis=-1)
    return cv2.convexHull((hand_K2[:, None] + around_2).reshape(-1, 2).astype(np.float32))
