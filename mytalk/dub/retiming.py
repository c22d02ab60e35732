"""From a video's frame rate to the motion model's 25 Hz and back.

Shape suffixes: F frames at the video's rate, T frames at 25 Hz, S audio samples, X any axes.
"""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np

from mytalk import machine
from mytalk.face.landmarks import FRAME_HZ, SAMPLE_HZ, SAMPLES_PER_FRAME

if TYPE_CHECKING:
    from mytalk.dub.first_pass import FaceSpan

BLOCK_FRAMES = 500  # interpolated at a time: the terms of an hour take GBs


def interpolate(values_FX: np.ndarray, positions_T: np.ndarray) -> np.ndarray:
    """Values at positions between frames, linear; beyond the ends, the first and last value: (T, X).

    A whole position gives that frame's value exactly.
    """
    positions_T = np.clip(positions_T, 0, len(values_FX) - 1)
    below_T = positions_T.astype(int)
    above_T = np.minimum(below_T + 1, len(values_FX) - 1)
    weight_TX = (positions_T - below_T).astype(values_FX.dtype).reshape(-1, *[1] * (values_FX.ndim - 1))
    out_TX = machine.zeros((len(positions_T), *values_FX.shape[1:]), values_FX.dtype)
    for start in range(0, len(out_TX), BLOCK_FRAMES):
        at = slice(start, start + BLOCK_FRAMES)
        out_TX[at] = values_FX[below_T[at]] * (1 - weight_TX[at]) + values_FX[above_T[at]] * weight_TX[at]
    return out_TX


def at_25_hz(span: FaceSpan, fps: Fraction) -> np.ndarray:
    """A span's landmarks at 25 Hz from its first frame to its last or just past it: (T, 478, 3)."""
    return interpolate(span.landmarks_FN3, np.arange(frames_at_25_hz(span, fps)) * float(fps / FRAME_HZ))


def frames_at_25_hz(span: FaceSpan, fps: Fraction) -> int:
    """How many frames at 25 Hz reach from a span's first frame to its last or just past it: T."""
    return -((span.start + 1 - span.stop) * FRAME_HZ // fps) + 1


def at_source_rate(values_TX: np.ndarray, frames: int, fps: Fraction) -> np.ndarray:
    """Values at 25 Hz resampled to the times of a span's frames: (F, X)."""
    return interpolate(values_TX, np.arange(frames) * float(FRAME_HZ / fps))


def speech_of_span(span: FaceSpan, fps: Fraction, audio_S: np.ndarray) -> np.ndarray:
    """The T * 640 samples that belong to a span's landmarks at 25 Hz; silence past the end of the audio."""
    start = round(span.start / fps * SAMPLE_HZ)
    count = frames_at_25_hz(span, fps) * SAMPLES_PER_FRAME
    return cut_or_pad(audio_S[start : start + count], count)


def cut_or_pad(audio_S: np.ndarray, samples: int) -> np.ndarray:
    """Audio cut or padded with silence to a length, of one channel or of several: (..., S)."""
    missing = max(samples - audio_S.shape[-1], 0)
    if not missing:
        return audio_S[..., :samples]  # an hour's is not held twice
    return np.pad(audio_S[..., :samples], [(0, 0)] * (audio_S.ndim - 1) + [(0, missing)])
