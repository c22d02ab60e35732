"""The judge of speech activity: Silero's network; the rule of levels that extraction falls back on judges nothing.

Shape suffixes: S audio samples (16 kHz), T video frames (25 Hz).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from mytalk.speech.activity import Silero

NAME = "silero-vad"  # in configs/weights.yaml
WEIGHTS = (NAME,)
PACKAGES = ("onnxruntime",)
SPEECH = 0.5  # of the probability: from here on a frame has speech, as its authors use it


def load(files: Mapping[str, Path]) -> Silero:
    """The detector, whose `speech_T` gives the probability of speech in each frame."""
    return Silero(files[NAME].read_bytes())


def mask(detector: Silero, audio_S: np.ndarray) -> np.ndarray:
    """Whether there is speech in each 40 ms, bool (T,)."""
    return detector.speech_T(audio_S) >= SPEECH
