"""The measured facts of a clip, each a function and a line in the list: columns of the manifest, keys of facts.json.

Shape suffixes: T frames, N landmarks, H height, W width, 2 = (x, y), 3 = RGB or (x, y, z).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa

from data_pipeline.shards import picture_facts
from mytalk.face import crop
from mytalk.face.landmarks import FRAME_HZ
from mytalk.speech.music import MUSIC
from mytalk.speech.speaking import SPEECH
from mytalk.speech.speaking import speaking as speaking_score

if TYPE_CHECKING:
    from mytalk.face import pose

BLUR_EVERY_FRAMES = 5
SILENT_PEAK = 1e-3  # of full scale: what is nowhere louder is no sound


@dataclass(frozen=True)
class ClipData:
    """What a fact is computed from: one clip, and its source's share of frames with a face."""

    landmarks_TN3: np.ndarray  # px of the source
    audio_S: np.ndarray  # float in [-1, 1], 16 kHz
    crops: Sequence[np.ndarray]  # T pictures, RGB uint8 (H, W, 3)
    source_found_share: float
    speech_T: np.ndarray = field(default_factory=lambda: np.zeros(0))  # probability of speech; NaN, or empty: unknown
    music_T: np.ndarray = field(default_factory=lambda: np.zeros(0))  # how surely there is music, likewise
    crop_23: np.ndarray | None = None  # source px to crop px; None: the canonical crop
    hands_T: np.ndarray | None = None  # whether a hand covers the mouth, 1 or 0; NaN, or None: nobody looked
    faces: int = 1  # in the picture, median

    @functools.cached_property
    def head_poses(self) -> pose.Pose:
        """The pose of a mean head in each frame, px of the source."""
        return crop.head_poses(self.landmarks_TN3)

    @functools.cached_property
    def face_T(self) -> tuple[np.ndarray, np.ndarray]:
        """The face in each frame, whatever its mouth does: centres (T, 2) and sides (T,), px of the source."""
        return crop.faces(self.head_poses)

    @functools.cached_property
    def angles_T3(self) -> np.ndarray:
        """Yaw, pitch and roll of each frame in degrees, see mytalk/face/pose.py."""
        return np.degrees(np.unwrap(self.head_poses.angles()[0].numpy(), axis=0))

    @functools.cached_property
    def crop_landmarks_TN3(self) -> np.ndarray:
        """The landmarks in px of the crop; without `crop_23` it is the canonical one."""
        side_px = self.crops[0].shape[1]
        crop_23 = crop.canonical(self.landmarks_TN3, side_px) if self.crop_23 is None else self.crop_23
        return crop.apply(self.landmarks_TN3, crop_23)


def detected_share(clip: ClipData) -> float:
    """Share of the source's frames, inside its time ranges, in which a face was found."""
    return round(clip.source_found_share, 4)


def face_px(clip: ClipData) -> float:
    """Side of the face in px of the source, median over the clip."""
    return round(float(np.median(clip.face_T[1])), 2)


def yaw_deg(clip: ClipData) -> float:
    """Turn of the head to the side, median over the clip, positive towards the image's right."""
    return round(float(np.median(clip.angles_T3[:, 0])), 2)


def pitch_deg(clip: ClipData) -> float:
    """Nod of the head, median over the clip, positive downwards."""
    return round(float(np.median(clip.angles_T3[:, 1])), 2)


def roll_deg(clip: ClipData) -> float:
    """Tilt of the head in the picture, median over the clip, positive clockwise."""
    return round(float(np.median(clip.angles_T3[:, 2])), 2)


def yaw_range_deg(clip: ClipData) -> float:
    """How far the head turns in the clip: the largest yaw less the smallest."""
    return round(float(np.ptp(clip.angles_T3[:, 0])), 2)


def pitch_range_deg(clip: ClipData) -> float:
    """How far the head nods in the clip: the largest pitch less the smallest."""
    return round(float(np.ptp(clip.angles_T3[:, 1])), 2)


def roll_range_deg(clip: ClipData) -> float:
    """How far the head tilts in the clip: the largest roll less the smallest."""
    return round(float(np.ptp(clip.angles_T3[:, 2])), 2)


def movement(clip: ClipData) -> float:
    """Speed of the head in the picture: mean path of the face's centre, in face sides a second."""
    centre_T2, side_T = clip.face_T
    if len(centre_T2) < 2:
        return 0.0
    path_px = np.linalg.norm(np.diff(centre_T2, axis=0), axis=1).mean()
    return round(float(path_px * FRAME_HZ / np.median(side_T)), 4)


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


def speech(clip: ClipData) -> float | None:
    """Share of the clip's frames with speech; missing where that is unknown."""
    return _share(clip.speech_T, SPEECH)


def music(clip: ClipData) -> float | None:
    """Share of the clip's frames with music, alone or under speech; missing where that is unknown."""
    return _share(clip.music_T, MUSIC)


def speaking(clip: ClipData) -> float | None:
    """How surely its person speaks: about 0 for one who does not, whatever is heard (mytalk/speech/speaking.py)."""
    if len(clip.speech_T) != len(clip.landmarks_TN3):
        return None
    score = speaking_score(clip.landmarks_TN3, clip.audio_S, clip.speech_T)
    return None if np.isnan(score) else round(score, 4)


def _share(values_T: np.ndarray, least: float) -> float | None:
    known = values_T[~np.isnan(values_T)]
    return round(float((known >= least).mean()), 4) if len(known) else None


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
    Fact(pitch_deg, pa.float64(), "degrees"),
    Fact(yaw_range_deg, pa.float64(), "degrees"),
    Fact(pitch_range_deg, pa.float64(), "degrees"),
    Fact(roll_range_deg, pa.float64(), "degrees"),
    Fact(movement, pa.float64(), "face sides a second"),
    Fact(speech, pa.float64(), "share, 0 to 1"),
    Fact(music, pa.float64(), "share, 0 to 1"),
    Fact(speaking, pa.float64(), "score, from about 0"),
    Fact(picture_facts.luma, pa.float64(), "grey levels, 0 to 255"),
    Fact(picture_facts.overexposed, pa.float64(), "share, 0 to 1"),
    Fact(picture_facts.frozen, pa.float64(), "share, 0 to 1"),
    Fact(picture_facts.detail_px, pa.float64(), "px, at most 128"),
    Fact(picture_facts.profile, pa.float64(), "share, 0 to 1"),
    Fact(picture_facts.jump, pa.float64(), "face sides"),
    Fact(picture_facts.hand, pa.float64(), "share, 0 to 1; missing where nobody looked"),
    Fact(picture_facts.overlay, pa.float64(), "share, 0 to 1; missing below 2 s"),
]


def measured(clip: ClipData) -> dict[str, Any]:
    """Every fact of a clip by name."""
    return {fact.name: fact.function(clip) for fact in FACTS}
