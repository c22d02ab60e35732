"""The rules of an extraction: every threshold, in one config, and the order in which spans are judged.

Picture rules reject a span; its ledger line has the rule, the measured value and the limit. Speech rules reject
nothing: the clip is kept and labelled (facts `speaks` and `why_silent`), for those who train without speech.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from data_pipeline.extract.rules import picture as picture_rules
from data_pipeline.extract.rules.picture import PictureRules, Verdict
from data_pipeline.extract.rules.speech import SpeechRules
from mytalk import config
from mytalk.face.landmarks import CROP_PX, FRAME_HZ, PICTURES_PX

TOO_SHORT, SMALL_FACE, UPSIDE_DOWN = "too_short", "small_face", "upside_down"


@dataclass(frozen=True)
class Rules:
    """What a span must hold to be kept. Lengths in seconds; the face's side in px of the source."""

    min_seconds: float = 1.0
    max_seconds: float = 10.0
    min_face_px: float = 48.0
    most_faces: int = 4  # of one picture that are followed, the largest first
    frames_px: int = CROP_PX  # side of the pictures that are kept, 256 or 512; landmarks are px at 256 all the same
    picture: PictureRules = field(default_factory=PictureRules)
    speech: SpeechRules = field(default_factory=SpeechRules)

    def __post_init__(self) -> None:
        if not 0 < self.min_seconds <= self.max_seconds < float("inf"):
            raise ValueError("min_seconds must be above 0 and not above max_seconds, which must be a number")
        if self.max_seconds < 2 * self.min_seconds:
            raise ValueError(
                "max_seconds must be at least twice min_seconds, or what is cut from a long span may be too short; "
                f"set max_seconds={2 * self.min_seconds:g}"
            )
        if not 1 <= self.min_face_px < math.inf or self.most_faces < 1:
            raise ValueError("min_face_px and most_faces must be numbers of at least 1")

        if self.frames_px not in PICTURES_PX:
            raise ValueError(f"frames_px must be {' or '.join(map(str, PICTURES_PX))}, not {self.frames_px}")

    @property
    def least_frames(self) -> int:
        """Frames of the shortest clip."""
        return max(round(self.min_seconds * FRAME_HZ), 1)

    @property
    def most_frames(self) -> int:
        """Frames of the longest clip."""
        return max(round(self.max_seconds * FRAME_HZ), self.least_frames)


def described(rules: Rules) -> dict[str, Any]:
    """The rules as nested values; the usual side of pictures goes without saying, so that folders of before go on."""
    told = config.to_dict(rules)
    if rules.frames_px == CROP_PX:
        del told["frames_px"]
    return told


def verdict(facts: Mapping[str, Any], rules: Rules) -> Verdict | None:
    """The first picture rule that rejects a span with these facts, None if all keep it."""
    if facts["face_px"] < rules.min_face_px:
        return Verdict(SMALL_FACE, facts["face_px"], rules.min_face_px)
    return picture_rules.verdict(facts, rules.picture)
