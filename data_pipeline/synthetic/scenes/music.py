"""Music made of sines and noise: chords, a beat and a melody, in a key and a tempo of its own for every seed."""

from __future__ import annotations

import numpy as np

from mytalk.face.landmarks import SAMPLE_HZ

MAJOR = (0, 2, 4, 5, 7, 9, 11)
PROGRESSIONS = ((0, 4, 5, 3), (5, 3, 0, 4), (0, 5, 3, 4), (1, 4, 0, 0))  # steps of the scale on which chords stand


def music(random: np.random.Generator, seconds: float, rms: float) -> np.ndarray:
    """Samples (S,) float32 at 16 kHz."""
    beat_s = 60 / random.uniform(84, 128)
    root = random.uniform(45, 57)  # semitones as in MIDI
    chords = PROGRESSIONS[int(random.integers(len(PROGRESSIONS)))]
    total_S = np.zeros(round(seconds * SAMPLE_HZ))
    for beat in range(int(seconds / beat_s) + 1):
        at_s = beat * beat_s
        step = chords[beat // 4 % len(chords)]
        if beat % 4 == 0:
            for third in (0, 2, 4):
                _add(total_S, at_s, 0.16 * _note(_hz(root, step + third), 4 * beat_s, 0.08, overtones=4))
            _add(total_S, at_s, 0.25 * _note(_hz(root - 12, step), 4 * beat_s, 0.02, overtones=3))
        _add(total_S, at_s, _drum(random, low=beat % 2 == 0))
        for half in (0.0, 0.5):
            if random.random() < 0.7:
                high = step + int(random.integers(0, 7)) + 7
                _add(total_S, at_s + half * beat_s, 0.2 * _note(_hz(root, high), 0.5 * beat_s, 0.01, overtones=6))
            _add(total_S, at_s + half * beat_s, 0.06 * _burst(random, 0.04))
    return (total_S * rms / np.sqrt(np.mean(np.square(total_S)))).astype(np.float32)


def _hz(root: float, step: int) -> float:
    """The pitch of a step of the major scale."""
    return 440 * 2 ** ((root - 69 + 12 * (step // 7) + MAJOR[step % 7]) / 12)


def _note(hz: float, seconds: float, attack_s: float, overtones: int) -> np.ndarray:
    t = np.arange(round(seconds * SAMPLE_HZ)) / SAMPLE_HZ
    tone = sum(np.sin(2 * np.pi * hz * k * t) / k**1.5 for k in range(1, overtones + 1))
    return tone * np.minimum(t / attack_s, 1) * np.exp(-1.5 * t / seconds) * np.minimum((seconds - t) / 0.02, 1)


def _drum(random: np.random.Generator, low: bool) -> np.ndarray:
    """A bass drum, or a snare."""
    t = np.arange(round(0.2 * SAMPLE_HZ)) / SAMPLE_HZ
    if low:
        return 0.6 * np.sin(2 * np.pi * (50 * t + 3 * (1 - np.exp(-30 * t)))) * np.exp(-18 * t)
    return 0.3 * _burst(random, 0.2) + 0.3 * np.sin(2 * np.pi * 190 * t) * np.exp(-25 * t)


def _burst(random: np.random.Generator, seconds: float) -> np.ndarray:
    t = np.arange(round(seconds * SAMPLE_HZ)) / SAMPLE_HZ
    return random.standard_normal(len(t)) * np.exp(-5 * t / seconds)


def _add(total_S: np.ndarray, at_s: float, sound_S: np.ndarray) -> None:
    begin = round(at_s * SAMPLE_HZ)
    part_S = sound_S[: max(0, len(total_S) - begin)]
    total_S[begin : begin + len(part_S)] += part_S
