"""Mel-frequency cepstra as the package python_speech_features computes them by default: what the public SyncNet hears.

13 of 26 bands up to 8 kHz, windows of 25 ms every 10 ms, no window function, pre-emphasis 0.97, lifter 22, the first
coefficient replaced by the log of the frame's energy. Shape suffixes: S audio samples (16 kHz), M steps of 10 ms, F
frequency bins, B bands, C coefficients.
"""

from __future__ import annotations

import numpy as np

from mytalk.face.landmarks import SAMPLE_HZ

COEFFICIENTS, BANDS = 13, 26
WINDOW, HOP, FFT = 400, 160, 512
PRE_EMPHASIS, LIFTER = 0.97, 22
FULL_SCALE = 32768  # it was trained on 16-bit samples, and the energy's log keeps their scale


def mfcc(audio_S: np.ndarray) -> np.ndarray:
    """Coefficients of sound from -1 to 1: (M, C) float64. Raises ValueError for no sound."""
    if not len(audio_S):
        raise ValueError("there is no sound")
    samples_S = np.round(np.asarray(audio_S, np.float64) * FULL_SCALE).clip(-FULL_SCALE, FULL_SCALE - 1)
    emphasised_S = np.append(samples_S[0], samples_S[1:] - PRE_EMPHASIS * samples_S[:-1])
    steps = 1 + max(-(-(len(emphasised_S) - WINDOW) // HOP), 0)
    padded_S = np.pad(
        emphasised_S, (0, (steps - 1) * HOP + WINDOW - min(len(emphasised_S), (steps - 1) * HOP + WINDOW))
    )
    frames_MW = padded_S[np.arange(steps)[:, None] * HOP + np.arange(WINDOW)]
    power_MF = np.abs(np.fft.rfft(frames_MW, FFT)) ** 2 / FFT
    bands_MB = _not_zero(power_MF @ filters().T)
    cepstra_MC = np.log(bands_MB) @ _cosines().T
    lift_C = 1 + LIFTER / 2 * np.sin(np.pi * np.arange(COEFFICIENTS) / LIFTER)
    cepstra_MC *= lift_C
    cepstra_MC[:, 0] = np.log(_not_zero(power_MF.sum(axis=1)))
    return cepstra_MC


def filters() -> np.ndarray:
    """Triangles between whole bins, evenly spread in mel: (B, F)."""
    top_mel = 2595 * np.log10(1 + SAMPLE_HZ / 2 / 700)
    edges_hz = 700 * (10 ** (np.linspace(0, top_mel, BANDS + 2) / 2595) - 1)
    edges = np.floor((FFT + 1) * edges_hz / SAMPLE_HZ)
    bins_F = np.arange(FFT // 2 + 1)
    low_B1, middle_B1, high_B1 = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    rising = (bins_F - low_B1) / np.maximum(middle_B1 - low_B1, 1)
    falling = (high_B1 - bins_F) / np.maximum(high_B1 - middle_B1, 1)
    triangles_BF = np.where(bins_F < middle_B1, rising, falling)
    return np.where((bins_F >= low_B1) & (bins_F < high_B1), triangles_BF, 0.0)


def _cosines() -> np.ndarray:
    """The orthonormal cosine transform of type II, its first rows: (C, B)."""
    row_C1 = np.arange(COEFFICIENTS)[:, None]
    cosines_CB = np.sqrt(2 / BANDS) * np.cos(np.pi * row_C1 * (2 * np.arange(BANDS) + 1) / (2 * BANDS))
    cosines_CB[0] /= np.sqrt(2)
    return cosines_CB


def _not_zero(values: np.ndarray) -> np.ndarray:
    return np.where(values == 0, np.finfo(float).eps, values)
