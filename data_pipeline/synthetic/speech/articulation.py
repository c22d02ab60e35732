"""From phonemes to mouth shapes over time, and how one person's way of speaking changes them.

A mouth shape has three parameters. `opening`: gap between the inner lips, 0 = lips closed, 1 = the widest
vowel of a speaker of gain 1. `width`: distance of the corners relative to rest, 0 = rest, +0.3 = spread.
`rounding`: 0 = flat, 1 = rounded and protruded. Shape suffixes: T times, P parameters (these three).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from data_pipeline.synthetic.speech.voice import PAUSE, Phoneme

STEP_S = 0.005  # grid of the neutral track
SPREAD_S = 0.032  # how far neighbours reach into a sound (standard deviation)
RAMP_S = 0.055  # time in which lips close before a bilabial and open after it
PLATEAU_S = 0.05  # a frame at 25 fps and two steps of the grid: every closure is seen in one frame at least
BILABIALS = frozenset("pbm")


@dataclass(frozen=True)
class Target:
    """Where a sound pulls the mouth, and how strongly it resists its neighbours."""

    opening: float
    width: float
    rounding: float
    strength: float


_vowel = partial(Target, strength=1.6)
_weak = partial(Target, strength=0.5)
_held = partial(Target, strength=1.2)

# By the characters of espeak-ng's mnemonics; `aI` glides from a to I, `tS` from t to S.
SOUNDS = {
    "A": _vowel(1.0, 0.02, 0.0),
    "a": _vowel(0.92, 0.10, 0.0),
    "0": _vowel(0.80, -0.08, 0.25),
    "V": _vowel(0.72, 0.02, 0.0),
    "E": _vowel(0.62, 0.14, 0.0),
    "e": _vowel(0.52, 0.18, 0.0),
    "O": _vowel(0.66, -0.22, 0.70),
    "o": _vowel(0.55, -0.26, 0.80),
    "3": _vowel(0.46, -0.05, 0.30),
    "I": _vowel(0.36, 0.18, 0.0),
    "i": _vowel(0.28, 0.30, 0.0),
    "U": _vowel(0.34, -0.24, 0.75),
    "u": _vowel(0.24, -0.36, 1.0),
    "@": _weak(0.40, 0.02, 0.05),
    "p": _held(0.0, 0.0, 0.0),
    "b": _held(0.0, 0.0, 0.0),
    "m": _held(0.0, 0.0, 0.0),
    "f": _held(0.10, 0.06, 0.0),
    "v": _held(0.12, 0.06, 0.0),
    "w": _held(0.14, -0.36, 1.0),
    "r": _held(0.28, -0.12, 0.50),
    "S": _held(0.24, -0.16, 0.60),
    "Z": _held(0.24, -0.16, 0.60),
    "T": _held(0.26, 0.04, 0.0),
    "D": _held(0.26, 0.04, 0.0),
    "t": _weak(0.22, 0.08, 0.0),
    "d": _weak(0.24, 0.08, 0.0),
    "n": _weak(0.24, 0.06, 0.0),
    "s": _held(0.18, 0.14, 0.0),
    "z": _held(0.18, 0.14, 0.0),
    "l": _weak(0.38, 0.02, 0.0),
    "L": _weak(0.38, 0.02, 0.0),
    "j": _weak(0.26, 0.20, 0.0),
    ";": _weak(0.26, 0.20, 0.0),
    "k": _weak(0.34, 0.02, 0.0),
    "g": _weak(0.34, 0.02, 0.0),
    "N": _weak(0.34, 0.02, 0.0),
    "h": _weak(0.45, 0.0, 0.0),
    "R": _weak(0.30, -0.08, 0.30),
    PAUSE: _weak(0.0, 0.0, 0.0),
}


@dataclass(frozen=True)
class Articulation:
    """How one person moves the mouth: gains on opening and width, the mouth's lag behind the sound, and
    asymmetry (-1 to 1: which side opens more)."""

    opening_gain: float
    width_gain: float
    lag_ms: float
    asymmetry: float


@dataclass(frozen=True)
class Track:
    """A neutral speaker's mouth over a clip: times (T,) in s and shapes (T, P)."""

    times_T: np.ndarray
    shapes_TP: np.ndarray

    def at(self, times_s: np.ndarray) -> np.ndarray:
        """Shapes (T, P) at any times; before the start and after the end the mouth stays as it was."""
        columns = [np.interp(times_s, self.times_T, column) for column in self.shapes_TP.T]
        return np.stack(columns, axis=-1)


def targets(symbol: str) -> list[Target]:
    """The mouth targets of a mnemonic, in order. Variant marks are skipped; an unknown sound is a schwa."""
    found = [SOUNDS[c] for i, c in enumerate(symbol) if c in SOUNDS and (i == 0 or not c.isdigit())]
    return found or [SOUNDS["@"]]


def neutral_track(phonemes: Sequence[Phoneme]) -> Track:
    """Coarticulated mouth shapes of a speaker of gain 1 without lag.

    x(t) = sum_i s_i m_i(t) x_i / sum_i s_i m_i(t), where x_i is target i, s_i its strength and m_i the share
    of a Gaussian window around t that falls into its segment: weights by dominance, as in Cohen and Massaro,
    "Modeling coarticulation in synthetic visual speech" (1993). Lips then close over every p, b and m.
    """
    end_s = phonemes[-1].end_s
    times_T = np.arange(round(end_s / STEP_S) + 1) * STEP_S
    weighted_TP = np.zeros((len(times_T), 3))
    weight_T = np.full(len(times_T), 1e-6)
    for phoneme in phonemes:
        parts = targets(phoneme.symbol)
        edges_s = np.linspace(phoneme.start_s, phoneme.end_s, len(parts) + 1)
        for part, start_s, stop_s in zip(parts, edges_s, edges_s[1:]):
            inside_T = (times_T >= start_s) & (times_T < stop_s)
            weight_T[inside_T] = part.strength
            weighted_TP[inside_T] = part.strength * np.array([part.opening, part.width, part.rounding])
    shapes_TP = np.stack([_smooth(column) for column in weighted_TP.T], axis=-1) / _smooth(weight_T)[:, None]
    shapes_TP[:, 0] *= 1 - closure(phonemes, times_T)
    return Track(times_T, shapes_TP)


def closure(phonemes: Sequence[Phoneme], times_T: np.ndarray) -> np.ndarray:
    """How far the lips are pressed together by bilabials, (T,) from 0 to 1, with raised-cosine ramps."""
    closed_T = np.zeros(len(times_T))
    for phoneme in phonemes:
        if phoneme.symbol[0] in BILABIALS:
            middle_s = (phoneme.start_s + phoneme.end_s) / 2
            half_s = max(phoneme.end_s - phoneme.start_s, PLATEAU_S) / 2
            outside_T = np.clip((np.abs(times_T - middle_s) - half_s) / RAMP_S, 0, 1)
            closed_T = np.maximum(closed_T, 0.5 + 0.5 * np.cos(np.pi * outside_T))
    return closed_T


def articulate(track: Track, person: Articulation, times_s: np.ndarray) -> np.ndarray:
    """The shapes (T, P) that a person's mouth takes at `times_s`: the neutral ones, late and scaled.

    opening(t) = opening_gain * neutral(t - lag), width likewise; rounding is only late.
    """
    shapes_TP = track.at(np.asarray(times_s) - person.lag_ms / 1000)
    return shapes_TP * np.array([person.opening_gain, person.width_gain, 1.0])


def _smooth(values_T: np.ndarray) -> np.ndarray:
    """Gaussian window of SPREAD_S; the ends are continued."""
    reach = round(4 * SPREAD_S / STEP_S)
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) * STEP_S / SPREAD_S) ** 2)
    return np.convolve(np.pad(values_T, reach, mode="edge"), kernel / kernel.sum(), mode="valid")
