"""Which face of a picture a corpus's labels mean, and the rule that rejects the others: their sound is not theirs.

Shape suffixes: F faces, 2 = (x, y).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from data_pipeline.extract.corpora.layouts import FaceBox
from data_pipeline.extract.rules.picture import Verdict

NOT_LABELLED = "not_labelled"
LEAST_SHARE = 0.5  # of a span's frames in which its face must be the labelled one
MOST_AWAY = 1.0  # sides of the face from a labelled centre to its own


def labelled(
    boxes: Sequence[FaceBox], at_s: float, size_px: tuple[int, int], centres_F2: np.ndarray, sides_F: np.ndarray
) -> set[int] | None:
    """Numbers of the faces that the labels mean at a time; None where no label is about it.

    Of several faces in a box, the one that shares most with it; where only the centre is known, the nearest one.
    `size_px` is width and height of the picture. A face is given by centre and side in px.
    """
    apply = [box for box in boxes if box.start <= at_s < (math.inf if box.stop is None else box.stop)]
    if not apply:
        return None
    meant = (_of_box(_in_px(box, size_px), centres_F2, sides_F) for box in apply)
    return {face for face in meant if face is not None}


def verdict(labelled_T: Sequence[bool | None]) -> Verdict | None:
    """Rejects a span whose face is another one than that of the labels."""
    known = [one for one in labelled_T if one is not None]
    share = float(np.mean(known)) if known else 1.0
    return Verdict(NOT_LABELLED, share, LEAST_SHARE) if share < LEAST_SHARE else None


def _in_px(box: FaceBox, size_px: tuple[int, int]) -> tuple[float, float, float, float]:
    """Centre and sides of a box in px of the picture."""
    width, height = size_px
    if box.unit == "share":
        return box.x * width, box.y * height, box.width * width, box.height * height
    scale = height / (box.picture_height_px or height)
    return box.x * scale, box.y * scale, box.width * scale, box.height * scale


def _of_box(box_px: tuple[float, float, float, float], centres_F2: np.ndarray, sides_F: np.ndarray) -> int | None:
    x, y, width, height = box_px
    away_F2 = np.abs(centres_F2 - (x, y))
    if not (width and height):
        away_F = np.linalg.norm(away_F2, axis=1) / sides_F
        nearest = int(away_F.argmin())
        return nearest if away_F[nearest] <= MOST_AWAY else None
    shared_F2 = np.clip(
        (sides_F[:, None] + (width, height)) / 2 - away_F2, 0, np.minimum(sides_F[:, None], (width, height))
    )
    shared_F = shared_F2.prod(axis=1)
    overlap_F = shared_F / (sides_F**2 + width * height - shared_F)
    inside_F = (away_F2 <= np.array([width, height]) / 2).all(axis=1)
    best = int(np.where(inside_F, overlap_F, -1).argmax())
    return best if inside_F[best] else None
