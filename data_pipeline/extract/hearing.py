"""What tells speech from other sound: Silero's network where the extra [judges] is installed, else a rule of levels."""

from __future__ import annotations

import functools
import importlib.util

from data_pipeline import weights
from mytalk.speech.activity import EnergyRule, Silero, SpeechDetector

WEIGHTS = "silero-vad"  # in configs/weights.yaml


@functools.cache
def speech_detector() -> SpeechDetector:
    """The detector of this machine, one for the life of a process. Raises UserError for another file of weights."""
    model = weights.content(weights.registered()[WEIGHTS])
    if model is None or importlib.util.find_spec("onnxruntime") is None:
        return EnergyRule()
    return Silero(model)


def described() -> str:
    """What tells speech, for the protocol and the closing lines: Silero's with the first digits of its digest."""
    name = speech_detector().name
    return f"{name} {weights.registered()[WEIGHTS].sha256[:12]}" if name == Silero.name else name
