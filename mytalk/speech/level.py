"""How loud a sound is, frame by frame of the video.

Shape suffixes: S audio samples (16 kHz), T video frames (25 Hz).
"""

from __future__ import annotations

import numpy as np

from mytalk.face.landmarks import SAMPLES_PER_FRAME

SILENCE_DB = -100.0  # what digital silence counts as
_FRAMES_AT_ONCE = 1500  # a minute, so that an hour of sound is never held twice


def levels_db(audio_S: np.ndarray) -> np.ndarray:
    """Root mean square of each 40 ms in dB of full scale, (T,), SILENCE_DB at least; the last frame may be shorter."""
    frames = frame_count(audio_S)
    power_T = np.zeros(frames)
    for start in range(0, frames, _FRAMES_AT_ONCE):
        piece_S = audio_S[start * SAMPLES_PER_FRAME : (start + _FRAMES_AT_ONCE) * SAMPLES_PER_FRAME].astype(np.float64)
        sums = np.add.reduceat(np.square(piece_S), np.arange(0, len(piece_S), SAMPLES_PER_FRAME))
        power_T[start : start + len(sums)] = sums / SAMPLES_PER_FRAME
    if last := len(audio_S) % SAMPLES_PER_FRAME:
        power_T[-1] *= SAMPLES_PER_FRAME / last
    return 10 * np.log10(power_T + 10 ** (SILENCE_DB / 10))


def frame_count(audio_S: np.ndarray) -> int:
    """In how many frames of the video the sound lies."""
    return -(-len(audio_S) // SAMPLES_PER_FRAME)
