"""Mouth leak: does a mouth that is dubbed with another sound, or with silence, still do what the original one did?

A method that copies the original mouth scores well wherever sound and picture belong together. So it is dubbed with a
sound that is not the clip's, and its opening is held against the original's. Two sounds may be alike by chance: what
both sounds explain of either mouth is no leak, and is taken off.

Shape suffixes: T frames, F features, S audio samples.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from eval.metrics import lips
from eval.metrics.landmarks.speech import envelope_db
from eval.metrics.lips import STILL, STILL_PX
from eval.metrics.metric import ORIGINAL_MOUTH, ZERO, Comparison, Metric, Miss, NotAsked

SHIFTS_FRAMES = (-4, -2, 0, 2, 4)  # of either sound's loudness, by which a mouth may be ahead or behind
LEAST_FRAMES = 4 * (2 * len(SHIFTS_FRAMES) + 1)  # four for each number that is fitted
OWN_SOUND, TOO_SHORT = "own_sound", "too_short_for_leak"  # reasons of a miss
ROWS = ("shuffled_audio", "silent_audio")  # rows with a sound that is not the clip's


@dataclass(frozen=True)
class Leak:
    """Correlation of the openings of row and original, and the part of it that neither sound explains."""

    correlation: float
    excess: float


def leak(original_T: np.ndarray, row_T: np.ndarray, own_S: np.ndarray, sound_S: np.ndarray) -> Leak:
    """How far a row that was dubbed with `sound_S` follows the original mouth, whose sound is `own_S`.

    Both openings (T,) are regressed on the loudness of both sounds, at several shifts. Fitted values and residuals of a
    least squares fit are orthogonal, so the correlation is the sum of a part that the sounds explain and one that they
    do not: excess = <residuals of row, residuals of original> / (|row| |original|), both centred. A mouth that stands
    still leaks nothing. Raises Miss for a clip that is too short, and where the original mouth stands still.
    """
    if len(original_T) < LEAST_FRAMES:
        raise Miss(TOO_SHORT, f"{len(original_T)} frames; a leak needs {LEAST_FRAMES}")
    original, row = (np.asarray(side, np.float64) - np.mean(side) for side in (original_T, row_T))
    if original.std() < STILL_PX:
        raise Miss(STILL, "the original mouth does not move, so that nothing could leak")
    if row.std() < STILL_PX:
        return Leak(0.0, 0.0)
    heard_TF = np.concatenate([_features(sound, len(original)) for sound in (own_S, sound_S)], axis=1)
    fitted = np.linalg.lstsq(heard_TF, np.stack([row, original], axis=1), rcond=1e-9)[0]
    rest_row, rest_original = (np.stack([row, original], axis=1) - heard_TF @ fitted).T
    size = float(np.linalg.norm(row) * np.linalg.norm(original))
    return Leak(float(row @ original) / size, float(rest_row @ rest_original) / size)


def _features(sound_S: np.ndarray, frames: int) -> np.ndarray:
    """The loudness of a sound at every shift, centred, (T, F)."""
    envelope_T = envelope_db(sound_S, frames)
    at_T = np.arange(frames)
    shifted = [envelope_T[np.clip(at_T - shift, 0, frames - 1)] for shift in SHIFTS_FRAMES]
    return np.stack([column - column.mean() for column in shifted], axis=1)


def row_leak(row: Comparison) -> Leak:
    """The leak of a dubbed row. Raises Miss."""
    speech_S = row.truth.audio_S
    own_S = speech_S if row.truth.original_S is None else row.truth.original_S
    sound_S = speech_S if row.video.sound_S is None else row.video.sound_S
    if sound_S is own_S:
        raise NotAsked(OWN_SOUND, "the row was made with the clip's own sound")
    return leak(*row.once(lips.all_frames).openings(), own_S, sound_S)


METRICS = {
    "mouth_leak": Metric(
        lambda row: row.once(row_leak).correlation,
        "Pearson correlation of the mouth opening of a row that was made with another sound (or silence) and of the "
        "clip's own; 0 where the row's stands still; both in the head's frame",
        "-1 to 1",
        ZERO,
        mouth=ORIGINAL_MOUTH,
        conditional=True,
        rows=ROWS,
    ),
    "mouth_leak_excess": Metric(
        lambda row: row.once(row_leak).excess,
        "the part of mouth_leak that the loudness of neither sound explains: covariance of what is left of both "
        "openings after a least squares fit on the loudness of both sounds (frames shifted by "
        f"{', '.join(map(str, SHIFTS_FRAMES))}), divided by the openings' standard deviations",
        "-1 to 1",
        ZERO,
        mouth=ORIGINAL_MOUTH,
        conditional=True,
        rows=ROWS,
    ),
}
