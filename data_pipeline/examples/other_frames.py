"""How much other frames of a clip differ from one in pose or mouth, and its landmarks with the mouth of another.

Shape suffixes: C frames, N landmarks, F features of the pose, M lip points, 3 = (x, y, z), 2 = (x, y).
"""

from __future__ import annotations

import numpy as np
import torch

from mytalk.face import pose
from mytalk.face.landmarks import MOUTH, NOISED


def with_mouth_of(landmarks_N3: np.ndarray, other_N3: np.ndarray) -> np.ndarray:
    """A frame's landmarks with the lower face of another frame of the clip, in its own pose: (N, 2) crop px."""
    both = torch.from_numpy(np.stack([landmarks_N3, other_N3])).double()[None]
    head = pose.person_head(both, torch.ones(both.shape[:2], dtype=torch.float64))
    posed = pose.fit(both, head.rigid_BR3)
    upright_12N2 = posed.to_head(both, head.depth_BN)
    upright_12N2[:, 0, NOISED] = upright_12N2[:, 1, NOISED]
    moved_N2 = posed.to_crop(upright_12N2, head.depth_BN)[0, 0, :, :2].numpy()
    return np.where(np.isin(np.arange(len(landmarks_N3)), NOISED)[:, None], moved_N2, landmarks_N3[:, :2])


def differences(landmarks_CN3: np.ndarray, by: str) -> np.ndarray:
    """How much each frame differs from the first, in pose or mouth: (C - 1,).

    Pose: root mean square of log scale, yaw, pitch and roll in radians, and place in half crops (mytalk.face.pose).
    Mouth: mean distance of the lip points in the head's frame, px.
    """
    points = torch.from_numpy(landmarks_CN3).double()[None]  # and rounded below: the order is the same on any machine
    head = pose.person_head(points, torch.ones(points.shape[:2], dtype=torch.float64))
    posed = pose.fit(points, head.rigid_BR3)
    if by == "pose":
        features_CF = posed.features()[0]
        return (features_CF[1:] - features_CF[:1]).square().mean(-1).sqrt().numpy().round(6)
    mouth_CM2 = posed.to_head(points, head.depth_BN)[0, :, MOUTH]
    return (mouth_CM2[1:] - mouth_CM2[:1]).norm(dim=-1).mean(-1).numpy().round(4)
