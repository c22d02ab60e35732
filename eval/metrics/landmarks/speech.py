"""What metrics read off the sound of a clip: in which frames somebody speaks, and how loud it is over time.

Shape suffixes: T frames (25 Hz), S audio samples (16 kHz).
"""

from __future__ import annotations

import numpy as np

from eval.metrics.metric import Comparison
from mytalk.speech.activity import EnergyRule
from mytalk.speech.level import levels_db
from mytalk.speech.speaking import SPEECH

RANGE_DB = 50.0  # what is softer than the loudest frame by more counts as that


def speech_T(row: Comparison) -> np.ndarray:
    """In which frames of the clip its true sound is speech, (T,) bool; heard once for all rows."""
    return row.truth.once(speech_T, lambda: _heard(row))


def _heard(row: Comparison) -> np.ndarray:
    detector = row.evaluators.speech or EnergyRule()
    return detector.speech_T(row.truth.audio_S)[: len(row.truth.landmarks_TN3)] >= SPEECH


def envelope_db(sound_S: np.ndarray, frames: int) -> np.ndarray:
    """How loud each frame is, (T,) dB, at most RANGE_DB below the loudest; silence is constant.

    Raises ValueError for a sound of another length.
    """
    level_T = levels_db(sound_S)
    if len(level_T) != frames:
        raise ValueError(f"a sound of {len(level_T)} frames does not belong to {frames} frames")
    return np.maximum(level_T, level_T.max() - RANGE_DB)
