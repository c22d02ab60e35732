"""Whether a face is one, which way up, and whether two could be the same person's.

Shape suffixes: H height, W width, N landmarks (478), R some of them, 3 = (x, y, z) in px, or RGB.
"""

from __future__ import annotations

import math

import numpy as np

from mytalk.face.detector import Detector, Region, region_of
from mytalk.face.landmarks import RIGID

# Measured in docs/log.md, 2026-11-26.
LEAST_SCORE = 0.65  # of the detector, to begin with a face: 0.5 is reached by sockets and textures
MOST_TURN = math.pi / 3  # of a face that counts as upright; the mesh follows a head on its side
MOST_CHANGE = 0.04  # from one picture to the next: a person's is above it in one picture of 270
MOST_UNALIKE = 0.025  # six pictures apart: 0.012 is a person's median, 0.055 that of two


def settled(frame_HW3: np.ndarray, region: Region, detector: Detector) -> np.ndarray | None:
    """Landmarks (478, 3) px of the face in a region that the detector found, or None where it is hardly a face.

    The mesh looks three times, each time where it saw the face before: only in a face it sees the same shape again.
    """
    if region.score < LEAST_SCORE:
        return None
    seen_N3: list[np.ndarray] = []
    for _ in range(3):
        points_N3 = detector.landmarks(frame_HW3, region)
        if points_N3 is None:
            return None
        seen_N3.append(points_N3)
        region = region_of(points_N3)
    return seen_N3[-1] if alike(*seen_N3[-2:]) else None


def upside_down(frame_HW3: np.ndarray, region: Region, detector: Detector) -> bool:
    """Whether a face that seems to be upright scores better when the picture is turned by 180 degrees."""
    if abs(region.turn) > MOST_TURN:
        return False
    height, width = frame_HW3.shape[:2]
    turned = detector.find(np.ascontiguousarray(frame_HW3[::-1, ::-1]))
    there = Region(width - region.x, height - region.y, region.side, region.turn)
    return any(other.score > region.score for other in turned if other.same_face(there))


def alike(one_N3: np.ndarray, other_N3: np.ndarray) -> bool:
    """Whether two faces may be one person's: whether their rigid points differ little but for turn, size and place."""
    return unlikeness(one_N3, other_N3) < MOST_UNALIKE


def unlikeness(one_N3: np.ndarray, other_N3: np.ndarray) -> float:
    """How much the rigid points of two faces differ after the best turn, scaling and shift, 0 to 1."""
    return difference(one_N3[RIGID], other_N3[RIGID])


def difference(one_R3: np.ndarray, other_R3: np.ndarray) -> float:
    """How much two shapes differ after the best turn, scaling and shift, 0 to 1.

    The root mean square residual over the size of the shape (Umeyama 1991): with both shapes centred and of size 1, it
    is sqrt(1 - c^2), c the sum of the singular values of A'B.
    """
    one_R3, other_R3 = _centred(one_R3.astype(np.float64)), _centred(other_R3.astype(np.float64))
    left, values, right = np.linalg.svd(one_R3.T @ other_R3)
    if np.linalg.det(left @ right) < 0:
        values[-1] = -values[-1]  # a mirror image is no turn
    return math.sqrt(max(0.0, 1 - float(values.sum()) ** 2))


def _centred(points_R3: np.ndarray) -> np.ndarray:
    shape_R3 = points_R3 - points_R3.mean(0)
    return shape_R3 / np.linalg.norm(shape_R3)
