"""The rows of a landmark report: what is put in the place of the true mouth, and the head it is measured on.

Shape suffixes: T frames, N landmarks (478), K noised landmarks, U source frames, S audio samples, 2 = (x, y)
in crop px.
"""

from __future__ import annotations

import numpy as np
import torch

from mytalk.face import pose
from mytalk.face.landmarks import NOISED, without_mouth
from mytalk.networks.motion import MotionModel, SourceStretch, generate


def written(
    model: MotionModel,
    truth_TN2: np.ndarray,
    source_UN2: np.ndarray,
    source_audio_S: np.ndarray,
    audio_S: np.ndarray,
    seed: int,
    steps: int,
) -> np.ndarray:
    """Landmarks with the lower face generated from speech: (T, 478, 2) float32.

    The true lower face is erased before the model gets the clip: no mistake in the model can show it the
    answer.
    """
    return generate(model, without_mouth(truth_TN2), SourceStretch(source_UN2, source_audio_S), audio_S, seed, steps)


def frozen_mouth(truth_TN2: np.ndarray) -> np.ndarray:
    """The clip's mean lower face, moved with the head: (T, 478, 2) float64.

    In the head's frame every frame has the same lower face, so its opening at constant head size is constant.
    """
    held = head_pose(truth_TN2)
    mean_K2 = held.to_head(_one(truth_TN2))[:, :, NOISED].mean(1, keepdim=True)
    frozen_TN2 = np.asarray(truth_TN2, np.float64).copy()
    frozen_TN2[:, NOISED] = held.to_crop(mean_K2.expand(-1, len(truth_TN2), -1, -1))[0].numpy()
    return frozen_TN2


def head_scale(landmarks_TN2: np.ndarray) -> np.ndarray:
    """Scale of every frame from crop px to the head's frame: (T,), read off the rigid points alone.

    Those are on the clean side, so every row of a clip has the same one.
    """
    return head_pose(landmarks_TN2).turn_BT.abs()[0].numpy()


def head_pose(landmarks_TN2: np.ndarray) -> pose.Pose:
    """The clip's pose against its own rigid shape, float64, as a batch of one."""
    points_BTN2 = _one(landmarks_TN2)
    return pose.fit(points_BTN2, pose.rigid_shape(points_BTN2, torch.ones(points_BTN2.shape[:2], dtype=torch.float64)))


def swapped(audio_S: np.ndarray, other_S: np.ndarray) -> np.ndarray | None:
    """Another clip's speech, cut or repeated to the clip's length; None where the sound is the clip's own."""
    shared = min(len(audio_S), len(other_S))
    if np.array_equal(audio_S[:shared], other_S[:shared]):
        return None
    return np.resize(other_S, len(audio_S))


def _one(landmarks_TN2: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.asarray(landmarks_TN2, dtype=np.float64))[None]
