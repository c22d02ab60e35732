"""THEval's four measures that need only landmarks and speech activity, for comparison with its published figures.

Source: Quignon et al., "THEval. Evaluation Framework for Talking Head Video Generation" (CVPR 2026) and its published
scripts, which define lip-sync, silent lip stability, lip dynamics and eyebrow dynamics. On its real videos they give
0.2528, 0.0263, 1.717 and 0.0068 (PUBLISHED). A method is judged by its distance from the real videos' value, not by
the value. What differs here: clips of the canonical crop at 25 fps with our face mesh's landmarks, smoothed, and
our speech activity by frames of 40 ms; nothing is brought into the head's frame, as nothing is there.

Shape suffixes: T frames, N landmarks (478), P pairs of lip points, S audio samples, 2 = (x, y) in px.
"""

from __future__ import annotations

import itertools

import numpy as np

from eval.metrics.landmarks.speech import speech_T
from eval.metrics.lips import NO_FRAMES
from eval.metrics.metric import NO_MOUTH, REAL, Comparison, Metric, Miss
from mytalk.face.landmarks import CROP_PX, FRAME_HZ, MOUTH, SAMPLE_HZ
from mytalk.face.shots import runs

PUBLISHED = {
    "theval_lip_sync": 0.2528,
    "theval_silent_stability": 0.0263,
    "theval_lip_dynamics": 1.717,
    "theval_eyebrow_dynamics": 0.0068,
}
UPPER_INNER, LOWER_INNER = [191, 80, 81, 82, 13, 312, 311, 310], [95, 88, 178, 87, 14, 317, 402, 318]
EYE_CORNERS = ([33, 133], [362, 263])
OUTER_CORNERS = (33, 263)
EYES = (
    [7, 33, 133, 144, 145, 153, 154, 155, 157, 158, 159, 160, 161, 163, 173, 246],
    [249, 263, 362, 373, 374, 380, 381, 382, 384, 385, 386, 387, 388, 390, 398, 466],
)
BROWS = ([46, 52, 53, 55, 63, 65, 66, 70, 105, 107], [276, 282, 283, 285, 293, 295, 296, 300, 334, 336])
LOUDNESS_S = 0.05  # of sound whose root mean square is one loudness
LEAST_SPEECH = 0.1  # share of the frames
SILENCE_FRAMES = 8  # 0.3 s, in whole frames: what is shorter is a pause within speech
NO_SILENCE, LITTLE_SPEECH, TOO_SHORT = "no_silence", "little_speech", "too_short_for_dynamics"  # reasons of a miss


def lip_sync(landmarks_TN2: np.ndarray, audio_S: np.ndarray, speaking_T: np.ndarray) -> float:
    """Mean absolute difference of opening and loudness over the speech frames, each scaled there to 0 to 1.

    The opening is the distance in y of the mean upper and lower inner lip over the distance in x of the eyes; the
    loudness the root mean square of 50 ms, interpolated at the frames. Raises Miss where less than a tenth of the
    frames is speech.
    """
    if speaking_T.mean() < LEAST_SPEECH or speaking_T.sum() < 2:
        raise Miss(LITTLE_SPEECH, f"{100 * speaking_T.mean():.0f} % of the frames are speech")
    upper_T, lower_T = (landmarks_TN2[:, points, 1].mean(1) for points in (UPPER_INNER, LOWER_INNER))
    left_T, right_T = (landmarks_TN2[:, points, 0].mean(1) for points in EYE_CORNERS)
    opening_T = np.abs(upper_T - lower_T) / np.abs(right_T - left_T)
    window = round(LOUDNESS_S * SAMPLE_HZ)
    padded_S = np.pad(np.asarray(audio_S, np.float64), (0, -len(audio_S) % window))
    loudness = np.sqrt(np.square(padded_S.reshape(-1, window)).mean(1))
    loudness_T = np.interp(np.arange(len(opening_T)) / FRAME_HZ, np.arange(len(loudness)) * LOUDNESS_S, loudness)
    return float(np.abs(_from_0_to_1(opening_T[speaking_T]) - _from_0_to_1(loudness_T[speaking_T])).mean())


def silent_stability(landmarks_TN2: np.ndarray, speaking_T: np.ndarray) -> float:
    """Median absolute distance from its mean of the opening, in silences of 0.3 s or more.

    The opening is the mean distance in y of eight inner-lip pairs over the distance of the eyes' outer corners. Raises
    Miss where there is no such silence.
    """
    silent = _long_runs(~speaking_T, SILENCE_FRAMES)
    if not len(silent):
        raise Miss(NO_SILENCE, f"no silence lasts {SILENCE_FRAMES} frames")
    points = landmarks_TN2[silent]
    apart_TP = np.abs(points[:, UPPER_INNER, 1] - points[:, LOWER_INNER, 1])
    eyes_T = np.linalg.norm(points[:, OUTER_CORNERS[0]] - points[:, OUTER_CORNERS[1]], axis=-1)
    opening_T = apart_TP.mean(1) / eyes_T
    return float(np.median(np.abs(opening_T - opening_T.mean())))


def lip_dynamics(landmarks_TN2: np.ndarray) -> float:
    """Mean over all pairs of lip points of the standard deviation of their distance over time, px of a face of 256 px.

    The face's size is the larger side of the box round all landmarks, its mean over the clip. Raises Miss below two
    frames.
    """
    _at_least_two(landmarks_TN2)
    box_T2 = landmarks_TN2.max(axis=1) - landmarks_TN2.min(axis=1)
    scale = CROP_PX / float(box_T2.max(axis=1).mean())
    first, second = np.array(list(itertools.combinations(MOUTH, 2))).T
    apart_TP = np.linalg.norm(landmarks_TN2[:, first] - landmarks_TN2[:, second], axis=-1)
    return float(apart_TP.std(axis=0).mean() * scale)


def eyebrow_dynamics(landmarks_TN2: np.ndarray) -> float:
    """Mean over both sides and the frames of how much the distance of brow and eye changes from frame to frame.

    Each is the mean of its points; the distance is divided by that of the two eyes. Raises Miss below two frames.
    """
    _at_least_two(landmarks_TN2)
    eyes, brows = ([landmarks_TN2[:, points].mean(1) for points in parts] for parts in (EYES, BROWS))
    between_T = np.linalg.norm(eyes[0] - eyes[1], axis=-1)
    raised = [np.linalg.norm(eye - brow, axis=-1) / between_T for eye, brow in zip(eyes, brows)]
    return float(np.abs(np.diff(raised, axis=1)).mean())


def _from_0_to_1(values: np.ndarray) -> np.ndarray:
    """Scaled so that the least is 0 and the greatest 1; a constant is 0."""
    spread = np.ptp(values)
    return (values - values.min()) / (spread if spread > 0 else 1.0)


def _long_runs(active_T: np.ndarray, least: int) -> np.ndarray:
    """Places of the runs of True that last."""
    long = [np.arange(start, stop) for start, stop in runs(active_T) if stop - start >= least]
    return np.concatenate(long or [np.zeros(0, int)])


def _at_least_two(landmarks_TN2: np.ndarray) -> None:
    if len(landmarks_TN2) < 2:
        raise Miss(TOO_SHORT, f"{len(landmarks_TN2)} frames show no movement")


def _landmarks(row: Comparison) -> np.ndarray:
    """The row's landmarks as detected, frames without a face filled. Raises Miss."""
    if not row.video.detected_T.any():
        raise Miss(NO_FRAMES, "no frame shows a face")
    return np.asarray(row.video.landmarks_TN3, np.float64)[..., :2]


_SOURCE = "THEval (Quignon et al. 2026), whose real videos have {0}; against the clip's true sound"
METRICS = {
    "theval_lip_sync": Metric(
        lambda row: lip_sync(_landmarks(row), row.truth.audio_S, row.once(speech_T)),
        "absolute difference of inner-lip opening and loudness (root mean square of 50 ms), each scaled to 0 to 1 "
        f"over the speech frames, their mean; {_SOURCE.format(PUBLISHED['theval_lip_sync'])}",
        "0 to 1",
        REAL,
        mouth=NO_MOUTH,
        conditional=True,
    ),
    "theval_silent_stability": Metric(
        lambda row: silent_stability(_landmarks(row), row.once(speech_T)),
        "median absolute deviation from the mean of the inner-lip opening over the distance of the eyes, in silences "
        f"of 0.3 s or more; {_SOURCE.format(PUBLISHED['theval_silent_stability'])}",
        "eye distances",
        REAL,
        mouth=NO_MOUTH,
        conditional=True,
    ),
    "theval_lip_dynamics": Metric(
        lambda row: lip_dynamics(_landmarks(row)),
        "standard deviation over time of the distance of two lip points, mean over all pairs, the face scaled to 256 "
        f"px; {_SOURCE.format(PUBLISHED['theval_lip_dynamics'])}",
        "px of a face of 256",
        REAL,
        mouth=NO_MOUTH,
        conditional=True,
    ),
    "theval_eyebrow_dynamics": Metric(
        lambda row: eyebrow_dynamics(_landmarks(row)),
        "absolute change from frame to frame of the distance of brow and eye over that of the eyes, mean; "
        f"{_SOURCE.format(PUBLISHED['theval_eyebrow_dynamics'])}",
        "eye distances per frame",
        REAL,
        mouth=NO_MOUTH,
        conditional=True,
    ),
}
