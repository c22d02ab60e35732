"""The measured facts of a clip, each a function and a line in the list: columns of the manifest, keys of facts.json.

Shape suffixes: T frames, N landmarks, H height, W width, 2 = (x, y), 3 = RGB.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

BLUR_EVERY_FRAMES = 5
SILENT_PEAK = 1e-3  # of full scale: what is nowhere louder is no sound
NOSE_DEPTH = 1.1  # nose tip's distance from the head's turning axis, in half widths of the face
EYE_LEFT, EYE_RIGHT, NOSE_TIP, SIDE_LEFT, SIDE_RIGHT = 33, 263, 1, 234, 454


@dataclass(frozen=True)
class ClipData:
    """What a fact is computed from: one clip, and its source's share of frames with a face."""

    landmarks_TN2: np.ndarray  # px of the source
    face_side_T: np.ndarray  # px of the source: the side of the landmarks' bounding box
    audio_S: np.ndarray  # float in [-1, 1], 16 kHz
    crops: Sequence[np.ndarray]  # T pictures, RGB uint8 (H, W, 3)
    source_found_share: float


def detected_share(clip: ClipData) -> float:
    """Share of the source's frames, inside its time ranges, in which a face was found."""
    return round(clip.source_found_share, 4)


def face_px(clip: ClipData) -> float:
    """Side of the face in px of the source, median over the clip."""
    return round(float(np.median(clip.face_side_T)), 2)


def yaw_deg(clip: ClipData) -> float:
    """Turn of the head to the side, median over the clip, positive towards the image's right.

    An estimate from the place of the nose tip between the sides of the face:
    sin(yaw) = offset / (half width * NOSE_DEPTH).
    """
    landmarks_TN2, along_T2 = clip.landmarks_TN2, _along_the_eyes(clip.landmarks_TN2)
    middle_T2 = (landmarks_TN2[:, SIDE_LEFT] + landmarks_TN2[:, SIDE_RIGHT]) / 2
    across_T2 = landmarks_TN2[:, SIDE_RIGHT] - landmarks_TN2[:, SIDE_LEFT]
    half_T = np.maximum((across_T2 * along_T2).sum(axis=1) / 2, 1e-6)
    offset_T = ((landmarks_TN2[:, NOSE_TIP] - middle_T2) * along_T2).sum(axis=1)
    yaw_T = np.degrees(np.arcsin(np.clip(offset_T / (half_T * NOSE_DEPTH), -1, 1)))
    return round(float(np.median(yaw_T)), 2)


def roll_deg(clip: ClipData) -> float:
    """Slope of the line of the eyes, median over the clip."""
    along_T2 = _along_the_eyes(clip.landmarks_TN2)
    return round(float(np.median(np.degrees(np.arctan2(along_T2[:, 1], along_T2[:, 0])))), 2)


def blur(clip: ClipData) -> float:
    """Sharpness of the crops: median variance of the Laplacian of grey; low is blurred."""
    import cv2

    values = []
    for picture_HW3 in clip.crops[::BLUR_EVERY_FRAMES]:
        grey_HW = cv2.cvtColor(picture_HW3, cv2.COLOR_RGB2GRAY)
        values.append(float(cv2.Laplacian(grey_HW, cv2.CV_64F).var()))
    return round(float(np.median(values)), 2)


def has_audio(clip: ClipData) -> bool:
    """Whether the clip has sound. Without, its audio member is silence: the file has no audio track, or a mute one."""
    return bool(np.abs(clip.audio_S).max(initial=0) >= SILENT_PEAK)


def _along_the_eyes(landmarks_TN2: np.ndarray) -> np.ndarray:
    """(T, 2): the unit vector from the left eye of the image to the right one."""
    eyes_T2 = landmarks_TN2[:, EYE_RIGHT] - landmarks_TN2[:, EYE_LEFT]
    return eyes_T2 / np.maximum(np.linalg.norm(eyes_T2, axis=1, keepdims=True), 1e-6)


class Fact(NamedTuple):
    """A fact: the function gives it its name and meaning. Its column has this type; values are in this unit."""

    function: Callable[[ClipData], Any]
    type: pa.DataType
    unit: str

    @property
    def name(self) -> str:
        """The manifest's column."""
        return self.function.__name__


# In the order of the manifest's columns; a new one is added at the end.
FACTS = [
    Fact(detected_share, pa.float64(), "share, 0 to 1"),
    Fact(face_px, pa.float64(), "px of the source"),
    Fact(yaw_deg, pa.float64(), "degrees"),
    Fact(roll_deg, pa.float64(), "degrees"),
    Fact(blur, pa.float64(), "grey levels squared"),
    Fact(has_audio, pa.bool_(), "true or false"),
]


def measured(clip: ClipData) -> dict[str, Any]:
    """Every fact of a clip by name."""
    return {fact.name: fact.function(clip) for fact in FACTS}
