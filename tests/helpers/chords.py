"""Music for tests: triads that change, with or without a beat."""

from __future__ import annotations

import numpy as np

SCALE = (0, 2, 4, 5, 7, 9, 11)


def chords(random: np.random.Generator, seconds: float, voices: int = 3, hz: int = 16_000) -> np.ndarray:
    """(S,) of root mean square 1: struck chords of so many tones for 0.4 to 1.2 s each, and a beat twice a second."""
    samples = round(seconds * hz)
    music_S, root_hz, begin = np.zeros(samples), random.uniform(110, 220), 0
    while begin < samples:
        end = min(begin + round(random.uniform(0.4, 1.2) * hz), samples)
        time_S, degree = np.arange(end - begin) / hz, int(random.integers(7))
        for voice in range(voices):
            octave, step = divmod(degree + 2 * voice, 7)
            pitch_hz = root_hz * 2 ** (octave + SCALE[step] / 12)
            for harmonic in range(1, 7):
                tone_S = np.sin(2 * np.pi * pitch_hz * harmonic * time_S + random.uniform(0, 6)) / harmonic**1.2
                music_S[begin:end] += tone_S * np.exp(-time_S)
        begin = end
    for begin in range(0, samples, hz // 2):
        beat_S = random.standard_normal(min(hz // 8, samples - begin))
        music_S[begin : begin + len(beat_S)] += 2 * beat_S * np.exp(-np.arange(len(beat_S)) / (hz / 32))
    return music_S / np.sqrt(np.square(music_S).mean())
