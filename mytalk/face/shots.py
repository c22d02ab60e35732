"""Where a face jumps as only a cut makes it, for extraction and dubbing; the runs between, for dubbing.

Shape suffixes: T frames, N landmarks, 2 = (x, y), 3 = (x, y, z) in px.
"""

from __future__ import annotations

import numpy as np

JUMP = 0.5  # of the face's side, between two frames: no head moves so fast, so it is a cut
ZOOM = 1.4  # ratio of face sides between two frames, likewise


def face_boxes(landmarks_TN3: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Centres (T, 2) and sides (T,) in px of the landmarks' bounding boxes."""
    low_T2, high_T2 = landmarks_TN3[..., :2].min(axis=1), landmarks_TN3[..., :2].max(axis=1)
    return (low_T2 + high_T2) / 2, (high_T2 - low_T2).max(axis=1)


def shot_starts(landmarks_TN3: np.ndarray, found_T: np.ndarray) -> np.ndarray:
    """(T,) bool: True where the face jumps or changes size as only a cut can make it."""
    centre_T2, side_T = face_boxes(landmarks_TN3)
    starts_T = np.zeros(len(found_T), bool)
    both = found_T[1:] & found_T[:-1]
    smaller = np.minimum(side_T[1:], side_T[:-1])
    jump = np.linalg.norm(centre_T2[1:] - centre_T2[:-1], axis=1) > JUMP * smaller
    zoom = np.maximum(side_T[1:], side_T[:-1]) > ZOOM * smaller
    starts_T[1:] = both & (jump | zoom)
    return starts_T


def runs(usable_T: np.ndarray, starts_T: np.ndarray | None = None) -> list[tuple[int, int]]:
    """Maximal [start, stop) with all frames usable and no shot starting inside; without `starts_T` it is one shot."""
    starts_T = np.zeros(len(usable_T), bool) if starts_T is None else starts_T
    out: list[tuple[int, int]] = []
    begun: int | None = None
    for index, (usable, starts) in enumerate(zip(usable_T, starts_T)):
        if begun is not None and (not usable or starts):
            out.append((begun, index))
            begun = None
        if usable and begun is None:
            begun = index
    if begun is not None:
        out.append((begun, len(usable_T)))
    return out
