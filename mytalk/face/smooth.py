"""Landmarks without the detector's jitter: smoothed over time without lag, fast lip movements kept.

The head's pose is smoothed by local parabolas (Savitzky-Golay), since heads move slowly. What is left in the upright
head is averaged with the frames around it that look alike (a bilateral filter over time), by part of the face: a mouth
that closes for a sound looks unlike its neighbours and stays as it is. All is symmetric in time. The figures that chose
it are in docs/decisions.md. Torch is loaded when something is smoothed.

Shape suffixes: T frames, N landmarks, P points of a part, 3 = (x, y, z) in px.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mytalk.face.landmarks import COUNT, FRAME_HZ, MOUTH, NOISED
from mytalk.machine import most_threads, zeros

if TYPE_CHECKING:
    from mytalk.face import pose

POSE_SECONDS = 0.36  # window of the parabolas: 9 frames at 25 Hz
BLOCK_FRAMES, FADE_FRAMES = 500, 50  # clips of training have at most 10 s: theirs is one block
NEAR_SECONDS = 0.08  # sigma of the bilateral filter over time
ALIKE_PX = 0.7  # its sigma over the difference beyond the jitter, px of the head's frame
EYES = [7, 33, 133, 144, 145, 153, 154, 155, 157, 158, 159, 160, 161, 163, 173, 246]
EYES += [249, 263, 362, 373, 374, 380, 381, 382, 384, 385, 386, 387, 388, 390, 398, 466, *range(468, 478)]
JAW_AND_CHEEKS = sorted({*NOISED} - {*MOUTH})
PARTS = [MOUTH, JAW_AND_CHEEKS, EYES, sorted(set(range(COUNT)) - {*NOISED, *EYES})]


def smooth(landmarks_TN3: np.ndarray, fps: float = FRAME_HZ) -> np.ndarray:
    """The landmarks of one shot, smoothed: (T, 478, 3) float32. One or two frames come back as they are.

    A shot of more than BLOCK_FRAMES is smoothed in blocks that fade into each other, so that memory beside the
    result does not grow with its length.
    """
    if len(landmarks_TN3) < 3:
        return np.asarray(landmarks_TN3, np.float32)
    out_TN3 = zeros(landmarks_TN3.shape)
    end = 0
    for start in range(0, max(len(landmarks_TN3) - FADE_FRAMES, 1), BLOCK_FRAMES - FADE_FRAMES):
        block_TN3 = _block(landmarks_TN3[start : start + BLOCK_FRAMES], fps)
        fade = end - start
        if fade > 0:
            weight_T11 = (np.arange(1, fade + 1, dtype=np.float32) / (fade + 1))[:, None, None]
            block_TN3[:fade] = (1 - weight_T11) * out_TN3[start:end] + weight_T11 * block_TN3[:fade]
        end = start + len(block_TN3)
        out_TN3[start:end] = block_TN3
    return out_TN3


@most_threads(1)
def _block(landmarks_TN3: np.ndarray, fps: float) -> np.ndarray:
    """A block of three frames or more, smoothed by itself."""
    import torch

    from mytalk.face import pose

    landmarks = torch.from_numpy(np.array(landmarks_TN3, np.float64))[None]
    head = pose.person_head(landmarks, torch.ones(landmarks.shape[:2], dtype=torch.float64))
    detected = pose.fit(landmarks, head.rigid_BR3)
    steady = _steady(detected, fps)
    upright_TN3 = steady.upright(landmarks)[0].numpy()
    for part in PARTS:
        upright_TN3[:, part] = _bilateral(upright_TN3[:, part], fps)
    return steady.place(torch.from_numpy(upright_TN3)[None])[0].numpy().astype(np.float32)


def _steady(detected: pose.Pose, fps: float) -> pose.Pose:
    """A pose smoothed over time."""
    import torch
    from scipy.signal import savgol_filter

    from mytalk.face import pose

    values_TF = np.concatenate(
        [
            detected.scale_BT[0, :, None].log().numpy(),
            np.unwrap(detected.angles()[0].numpy(), axis=0),  # an upside-down head rolls past half a turn
            detected.shift_BT3[0].numpy(),
        ],
        axis=1,
    )
    frames = min(2 * round(POSE_SECONDS * fps / 2) + 1, len(values_TF) - 1 + len(values_TF) % 2)
    if frames > 3:
        values_TF = savgol_filter(values_TF, frames, 2, axis=0, mode="interp")
    scale, angles, shift = np.split(values_TF, [1, 4], axis=1)
    return pose.from_angles(*(torch.from_numpy(v)[None] for v in (np.exp(scale[:, 0]), angles, shift)))


def _bilateral(points_TP3: np.ndarray, fps: float) -> np.ndarray:
    """Each frame averaged with those near it in time that look alike, beyond what jitter alone makes them differ."""
    sigma = NEAR_SECONDS * fps
    reach = max(round(2.5 * sigma), 1)
    seen_TP2 = points_TP3[..., :2]
    bend_T = np.square(seen_TP2[2:] - 2 * seen_TP2[1:-1] + seen_TP2[:-2]).sum(-1).mean(-1)
    jitter = np.median(bend_T) / 6  # square px: of white noise, the second difference has six times the variance
    total, weights = points_TP3.copy(), np.ones(len(points_TP3))
    for lag in range(1, min(reach, len(points_TP3) - 1) + 1):
        apart = np.square(seen_TP2[lag:] - seen_TP2[:-lag]).sum(-1).mean(-1)
        unlike = np.maximum(apart - 2 * jitter, 0) / ALIKE_PX**2
        weight = np.exp(-(lag**2) / (2 * sigma**2) - unlike / 2)
        for here, there in ((np.s_[lag:], np.s_[:-lag]), (np.s_[:-lag], np.s_[lag:])):
            total[here] += weight[:, None, None] * points_TP3[there]
            weights[here] += weight
    return total / weights[:, None, None]
