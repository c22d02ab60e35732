"""Whether the person of a clip speaks: rules that label a clip and reject none.

Motion and SyncNet learn from speech and leave out who does not speak; appearance and identity take every clip.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from data_pipeline.shards.layout import HAS_AUDIO, SPEAKS, WHY_SILENT

NO_SOUND, NO_SPEECH, MUSIC, NOT_SPEAKING = "no_sound", "no_speech", "music", "not_speaking"


@dataclass(frozen=True)
class SpeechRules:
    """What a clip must hold so that it counts as its person's speech. Figures in docs/log.md (2026-11-26)."""

    min_speech: float = 0.1  # share of its frames with speech; below: no_speech
    max_music: float = 0.5  # share of its frames with music; above: music
    min_speaking: float = 0.05  # how surely its person speaks (mytalk/speech/speaking.py); below: not_speaking
    sure_speaking: float = 0.3  # from here on, its person speaks; between the two, nobody knows

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            if not math.isfinite(limit := getattr(self, field.name)):
                raise ValueError(f"{field.name} must be a number, not {limit}")


def why_silent(facts: Mapping[str, Any], limits: SpeechRules) -> str:
    """The first rule that says the clip's person does not speak; empty where none does. A missing fact says nothing."""
    if facts.get(HAS_AUDIO) is False:
        return NO_SOUND
    speech, music, speaking = (facts.get(name) for name in ("speech", "music", "speaking"))
    if speech is not None and speech < limits.min_speech:
        return NO_SPEECH
    if music is not None and music > limits.max_music:
        return MUSIC
    if speaking is not None and speaking < limits.min_speaking:
        return NOT_SPEAKING
    return ""


def labels(facts: Mapping[str, Any], limits: SpeechRules) -> dict[str, Any]:
    """The labels of a clip by its facts: `speaks` (None: unknown) and `why_silent`."""
    why = why_silent(facts, limits)
    speaking = facts.get("speaking")
    speaks = False if why else True if speaking is not None and speaking >= limits.sure_speaking else None
    return {SPEAKS: speaks, WHY_SILENT: why}
