"""Whether the person in the picture says what is heard: lips that move, and move with the sound.

Shape suffixes: S audio samples (16 kHz), T frames (25 Hz), N landmarks, 3 = (x, y, z), L lags.
"""

from __future__ import annotations

import numpy as np

from mytalk.face.landmarks import CHIN, FRAME_HZ, SAMPLES_PER_FRAME, opening
from mytalk.machine import most_threads
from mytalk.speech.level import levels_db

SPEECH = 0.5  # probability from which on a frame is speech
LEAST_SPEECH_FRAMES = 25  # with less speech, nothing is known
LEAST_FRAMES = 75  # of a clip whose lips move: in a shorter one, who speaks and who does not score alike
SURE_FRAMES = 200  # a shorter clip's score is drawn towards UNSURE, the more the shorter it is
UNSURE = 0.17  # a score that says nothing
UNIT_FRAMES = 125
STILL_PX_S, MOVING_PX_S = 6.0, 12.0  # of the lips' opening: below the first they are still; speech has 25 and more
LAG_FRAMES = 5  # sound and picture of a video may be so far apart
LEVEL_RANGE_DB = 30.0  # below the clip's loud passages, all is silence
CHANGE_FRAMES, PACE_FRAMES = 1.0, 2.0  # standard deviations of the smoothing
NOSE_BRIDGE, CORNERS = 168, (61, 291)


def speaking(landmarks_TN3: np.ndarray, audio_S: np.ndarray, speech_T: np.ndarray) -> float:
    """How surely the person of a clip speaks: about 0 for one who does not, whatever is heard; NaN where unknown.

    The mean of three correlations: of the lips' opening with the sound's level, of how fast the mouth moves with the
    level, and of the change of the opening with the change of the level; the best of all lags up to LAG_FRAMES. Times
    the square root of the clip's length in 5 s, so that chance spreads it alike in clips of any length, and nearer to
    UNSURE in short ones. 0 where the lips are still while there is speech.

    All is measured on the upright head, so that nodding and turning move no lip. `speech_T` is the probability of
    speech (NaN: unknown). Nothing is known with less than a second of speech, or of lips that move for less than 3 s.
    """
    spoken_T = speech_T >= SPEECH  # NaN is not
    if spoken_T.sum() < LEAST_SPEECH_FRAMES:
        return float("nan")
    opening_T, movement_T = _mouth(landmarks_TN3)
    speed_px_s = float(np.abs(np.gradient(opening_T))[spoken_T].mean()) * FRAME_HZ
    moving = float(np.clip((speed_px_s - STILL_PX_S) / (MOVING_PX_S - STILL_PX_S), 0, 1))
    if moving == 0:
        return 0.0
    if len(opening_T) < LEAST_FRAMES:
        return float("nan")
    level_T = _level(audio_S, len(opening_T))
    alike_L = (
        _correlations(opening_T, level_T)
        + _correlations(_smoothed(movement_T, PACE_FRAMES), _smoothed(level_T, PACE_FRAMES))
        + _correlations(
            np.gradient(_smoothed(opening_T, CHANGE_FRAMES)), np.gradient(_smoothed(level_T, CHANGE_FRAMES))
        )
    ) / 3
    score = float(alike_L.max()) * float(np.sqrt(len(opening_T) / UNIT_FRAMES))
    return moving * (UNSURE + (score - UNSURE) * min(len(opening_T) / SURE_FRAMES, 1.0))


@most_threads(1)
def _mouth(landmarks_TN3: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of the upright head, (T,) each: the lips' opening, px; how fast opening, jaw and width change, px a frame."""
    import torch

    from mytalk.face import pose

    landmarks = torch.from_numpy(np.asarray(landmarks_TN3, np.float64))[None]
    head_TN2 = pose.to_own_head(landmarks, torch.ones(landmarks.shape[:2], dtype=torch.float64))[0].numpy()
    opening_T = opening(head_TN2).astype(np.float64)
    measures = [opening_T, *(_distance(head_TN2, a, b) for a, b in ((NOSE_BRIDGE, CHIN), CORNERS))]
    return opening_T, np.abs(np.gradient(np.stack(measures), axis=1)).sum(axis=0)


def _distance(head_TN2: np.ndarray, one: int, other: int) -> np.ndarray:
    return np.linalg.norm(head_TN2[:, one] - head_TN2[:, other], axis=-1)


def _level(audio_S: np.ndarray, frames: int) -> np.ndarray:
    """The sound's level in dB of each frame, LEVEL_RANGE_DB deep."""
    needed = frames * SAMPLES_PER_FRAME
    level_T = levels_db(np.pad(audio_S[:needed], (0, max(needed - len(audio_S), 0))))
    return np.maximum(level_T, np.quantile(level_T, 0.95) - LEVEL_RANGE_DB)


def _smoothed(values_T: np.ndarray, sigma_frames: float) -> np.ndarray:
    """By a Gaussian; the ends are held."""
    reach = int(np.ceil(4 * sigma_frames))
    weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma_frames) ** 2)
    return np.convolve(np.pad(values_T, reach, mode="edge"), weights / weights.sum(), mode="valid")


def _correlations(first_T: np.ndarray, second_T: np.ndarray) -> np.ndarray:
    """Pearson's correlation at each lag from -LAG_FRAMES to LAG_FRAMES, (L,); 0 for what does not vary."""
    frames, lags = len(first_T), range(-LAG_FRAMES, LAG_FRAMES + 1)
    pairs = [(first_T[max(k, 0) : frames + min(k, 0)], second_T[max(-k, 0) : frames - max(k, 0)]) for k in lags]
    return np.array([_correlation(a, b) for a, b in pairs])


def _correlation(first: np.ndarray, second: np.ndarray) -> float:
    first, second = first - first.mean(), second - second.mean()
    size = float(np.sqrt((first @ first) * (second @ second)))
    return float(first @ second) / size if size > 1e-9 else 0.0
