"""The region of a face that is blacked out and painted: the lower face, the same for any position of the jaw.

Shape suffixes: T frames, N landmarks (478), V vertices of the region's polygon, 2 = (x, y) and
3 = (x, y, z) in crop px.
"""

from __future__ import annotations

import numpy as np
import torch

from mytalk.face import crop, pose

# Outline of the region, points of the face mesh: the jaw from cheek to cheek, and back below the nose.
JAW = [132, 58, 172, 136, 150, 149, 176, 148, 152, 377, 400, 378, 379, 365, 397, 288, 361]
BELOW_NOSE = [426, 2, 206]
OUTLINE = [*JAW, *BELOW_NOSE]
NOSE_BASE = 2
WIDER, LONGER = 1.06, 1.35  # the mean outline, enlarged about the nose: the widest opening lengthens it by 0.21
FADES_DEGREES, PASSED_DEGREES = (
    35.0,
    45.0,
)  # yaw from which the painting fades, and from which the frame is passed through
FADE_S = 0.12  # sigma of the Gaussian that smooths the fading
LOWERED = 0.03  # share of the distance from nose to chin by which the region begins below the nose


def regions(landmarks_TN3: np.ndarray) -> np.ndarray:
    """The polygon that is blacked out and painted in each frame of a clip: (T, V, 2) crop px.

    From below the nose to below the chin, cheek to cheek (paper). It is the clip's mean lower face in the
    head's frame, enlarged to hold any position of the jaw, and moved with each frame's pose: the outline of
    the frame's own jaw would show how far its mouth is open.
    """
    landmarks = torch.from_numpy(np.asarray(landmarks_TN3, np.float32))[None]
    head = pose.person_head(landmarks, torch.ones(landmarks.shape[:2]))
    parts = landmarks.split(pose.BLOCK_FRAMES, 1)
    posed = [pose.fit(part, head.rigid_BR3) for part in parts]
    mean_N2 = torch.zeros(landmarks.shape[2], 2)
    for part, stands in zip(parts, posed):
        mean_N2 += stands.to_head(part, head.depth_BN)[0].mean(0) * (part.shape[1] / landmarks.shape[1])
    polygon_11V2, depth_1V = enlarged(mean_N2)[None, None], head.depth_BN[:, OUTLINE]
    return torch.cat([stands.to_crop(polygon_11V2, depth_1V)[0, :, :, :2] for stands in posed]).numpy()


def enlarged(face_N2: torch.Tensor) -> torch.Tensor:
    """The region of one upright face, about its nose: (V, 2)."""
    nose_2, jaw_V2 = face_N2[NOSE_BASE], face_N2[JAW]
    grown_V2 = nose_2 + (jaw_V2 - nose_2) * torch.tensor([WIDER, LONGER])
    below_V2 = face_N2[BELOW_NOSE].clone()
    below_V2[:, 1] = nose_2[1]
    polygon_V2 = torch.cat([grown_V2, below_V2])
    top = nose_2[1] + LOWERED * (jaw_V2[:, 1].max() - nose_2[1])
    polygon_V2[:, 1] = polygon_V2[:, 1].clamp(min=top.item())
    return polygon_V2


def strengths(landmarks_TN3: np.ndarray, fps: float) -> np.ndarray:
    """How much of the painting each frame of a span shows: (T,), 1 up to FADES_DEGREES of yaw, 0 from PASSED_DEGREES.

    Turned further, the outline of a mean face no longer covers the mouth. It falls linearly with the yaw and is
    smoothed over time, so that a head on the border does not make the painting flash.
    """
    yaw_T = np.degrees(np.abs(crop.head_poses(landmarks_TN3).angles()[0, :, 0].numpy()))
    sharp_T = np.clip((PASSED_DEGREES - yaw_T) / (PASSED_DEGREES - FADES_DEGREES), 0, 1)
    half = max(round(2 * FADE_S * fps), 1)
    weights = np.exp(-((np.arange(-half, half + 1) / (FADE_S * fps)) ** 2) / 2)
    return np.convolve(np.pad(sharp_T, half, "edge"), weights / weights.sum(), "valid").astype(np.float32)
