"""A poor recording: a room's echo and noise in the sound, dim light, noise and a coarse codec in the picture.

Shape suffixes: S samples, H height, W width, 3 = blue, green, red.
"""

from __future__ import annotations

import numpy as np

ECHO_S = (0.25, 0.5)  # time in which the echo falls by 60 dB
DIRECT = 0.65  # share of the sound that comes straight
SNR_DB = (10.0, 18.0)
GRAIN, DIM = 6.0, 0.72  # noise in grey levels; share of the light
CRF, SOUND_BPS = 33, 24_000


def in_a_room(samples_S: np.ndarray, sample_hz: int, random: np.random.Generator) -> np.ndarray:
    """Int16 samples as a far microphone hears them, of the same length and peak at most."""
    echo_s = random.uniform(*ECHO_S)
    at_s = np.arange(round(echo_s * sample_hz)) / sample_hz
    response_S = random.standard_normal(len(at_s)) * 10 ** (-3 * at_s / echo_s)
    response_S *= (1 - DIRECT) / np.sqrt(np.square(response_S).sum())
    response_S[0] += DIRECT
    length = 1 << (len(samples_S) + len(response_S) - 1).bit_length()
    heard_S = np.fft.irfft(np.fft.rfft(samples_S, length) * np.fft.rfft(response_S, length), length)[: len(samples_S)]
    loud = np.sqrt(np.square(heard_S).mean())
    heard_S = heard_S + random.standard_normal(len(heard_S)) * loud * 10 ** (-random.uniform(*SNR_DB) / 20)
    most = max(np.abs(heard_S).max(), 1.0)
    return (heard_S * min(1.0, 32_000 / most)).astype(np.int16)


def filmed_poorly(picture_HW3: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """A uint8 picture in dim light with grain."""
    grain = random.standard_normal(picture_HW3.shape[:2], dtype=np.float32)[..., None] * GRAIN
    return np.clip(picture_HW3 * DIM + grain, 0, 255).astype(np.uint8)
