"""The region of a face that is blacked out and painted: the lower face, the same for any position of the jaw.

Shape suffixes: T frames, N landmarks (478), V vertices of the region's polygon, 2 = (x, y) and
3 = (x, y, z) in crop px.
"""

from __future__ import annotations

import numpy as np
import torch

from mytalk.face import crop, pose
from mytalk.face.landmarks import OUTER_LIP

# The jaw from cheek to cheek, and back below the nose; points of the face mesh.
JAW = [132, 58, 172, 136, 150, 149, 176, 148, 152, 377, 400, 378, 379, 365, 397, 288, 361]
BELOW_NOSE = [426, 2, 206]
# What the far side of a turned face ends with, where the jaw is hidden behind it.
CHEEKS = [205, 187, 207, 214, 212, 425, 411, 427, 434, 432]
HELD = [*JAW, *CHEEKS, *OUTER_LIP]
NOSE_BASE = 2
SIDES = 32  # corners of the outline's lower side
# About the nose: at the chin, and at the cheeks; in between by a power of the place along the jaw.
WIDER, CHEEK_WIDER = 1.04, 0.95
LONGER = 1.35  # at the chin: the widest opening lengthens the face by 0.21; at the cheeks 1, they stay
TAPER = 3.0  # power of the place along the jaw
LIPS_WIDER = 1.5  # lips about their middle: the far corner of a turned mouth is the silhouette
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
    points_11P2, depth_1P = enlarged(mean_N2)[None, None], head.depth_BN[:, [*HELD, *BELOW_NOSE]]
    return torch.cat([_outline(stands, points_11P2, depth_1P) for stands in posed]).numpy()


def enlarged(face_N2: torch.Tensor) -> torch.Tensor:
    """What the region of one upright face holds, enlarged about its nose, and its upper side: (HELD, BELOW_NOSE; 2)."""
    nose_2, jaw_J2, lips_L2 = face_N2[NOSE_BASE], face_N2[JAW], face_N2[OUTER_LIP]
    from_chin_J = torch.linspace(-1, 1, len(JAW)).abs() ** TAPER
    growth_J2 = torch.stack([WIDER + (CHEEK_WIDER - WIDER) * from_chin_J, LONGER + (1 - LONGER) * from_chin_J], dim=-1)
    below_3 = face_N2[BELOW_NOSE].clone()
    below_3[:, 1] = nose_2[1]
    middle_2 = lips_L2.mean(0)
    lips_L2 = middle_2 + (lips_L2 - middle_2) * LIPS_WIDER
    points_P2 = torch.cat([nose_2 + (jaw_J2 - nose_2) * growth_J2, face_N2[CHEEKS], lips_L2, below_3])
    top = nose_2[1] + LOWERED * (jaw_J2[:, 1].max() - nose_2[1])
    points_P2[:, 1] = points_P2[:, 1].clamp(min=top.item())
    return points_P2


def _outline(posed: pose.Pose, points_11P2: torch.Tensor, depth_1P: torch.Tensor) -> torch.Tensor:
    """The silhouette of posed points from cheek to cheek below, back along those below the nose: (T, V, 2) crop px.

    Of a turned head the silhouette is its far cheek, which the jaw behind does not reach. Its corners are the points
    that lie furthest in SIDES directions, from the head's left over the chin to its right.
    """
    points_TP2 = posed.to_crop(points_11P2, depth_1P)[0, :, :, :2]
    held_TH2, below_T32 = points_TP2[:, : len(HELD)], points_TP2[:, len(HELD) :]
    down_T2 = torch.nn.functional.normalize(posed.rotation_BT33[0, :, :2, 1], dim=-1)
    left_T2 = torch.stack([-down_T2[:, 1], down_T2[:, 0]], dim=-1)
    turn_S1 = torch.linspace(0, torch.pi, SIDES)[:, None]
    directions_TS2 = left_T2[:, None] * turn_S1.cos() + down_T2[:, None] * turn_S1.sin()
    furthest_TS = (directions_TS2 @ held_TH2.transpose(1, 2)).argmax(-1)
    lower_TS2 = held_TH2.gather(1, furthest_TS[..., None].expand(-1, -1, 2))
    return torch.cat([lower_TS2, below_T32], dim=1)


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
