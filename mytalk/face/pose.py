"""Head pose: the frame in which motion is written, so that a turning head is not mistaken for a mouth.

Every frame's landmarks are brought to one upright head by the similarity (turn, scale, shift) that fits the
frame's rigid points to the person's own rigid shape. The rigid points are all on the clean side of partial
noising: no trace of the mouth enters the pose. (Our default: the paper does not say in which frame it noises.)

Shape suffixes: B batch, T frames, N landmarks, R rigid landmarks, 2 = (x, y). Complex numbers stand for
points of the plane: x + iy.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from mytalk.face.landmarks import CROP_PX, RIGID

NOSE_BRIDGE, TEMPLES = (6, 8, 9, 168), (127, 356)
FEATURES = 5  # of a pose, as the network takes it
RIGID_RADIUS_PX = 64.0  # root mean square distance of the rigid points from their centre, in the head's frame


@dataclass(frozen=True)
class Pose:
    """Similarity of every frame from crop px to the head's frame: turn * z + shift, both (B, T) complex."""

    turn_BT: torch.Tensor
    shift_BT: torch.Tensor

    def to_head(self, landmarks_BTN2: torch.Tensor) -> torch.Tensor:
        """Crop px -> head frame, for any set of points."""
        moved = self.turn_BT[..., None] * as_complex(landmarks_BTN2) + self.shift_BT[..., None]
        return torch.view_as_real(moved)

    def to_crop(self, head_BTN2: torch.Tensor) -> torch.Tensor:
        """Head frame -> crop px, the inverse of `to_head`."""
        moved = (as_complex(head_BTN2) - self.shift_BT[..., None]) / self.turn_BT[..., None]
        return torch.view_as_real(moved)

    def features(self, landmarks_BTN2: torch.Tensor) -> torch.Tensor:
        """The pose as numbers near 0, (B, T, 5): log scale, angle, the head's place, and how far it is turned.

        The turn (yaw) is read off the nose bridge's place between the temples.
        """
        centre_BT2 = torch.view_as_real(-self.shift_BT / self.turn_BT) / (CROP_PX / 2) - 1.0
        head = self.to_head(landmarks_BTN2[:, :, [*NOSE_BRIDGE, *TEMPLES]])[..., 0] / RIGID_RADIUS_PX
        yaw_BT = head[..., : len(NOSE_BRIDGE)].mean(-1) - head[..., len(NOSE_BRIDGE) :].mean(-1)
        scale_angle_yaw = torch.stack([self.turn_BT.abs().log(), self.turn_BT.angle(), yaw_BT], dim=-1)
        return torch.cat([scale_angle_yaw, centre_BT2], dim=-1)


def as_complex(points: torch.Tensor) -> torch.Tensor:
    """(..., 2) real -> (...) complex."""
    return torch.view_as_complex(points.contiguous())


def rigid_shape(landmarks_BTN2: torch.Tensor, mask_BT: torch.Tensor) -> torch.Tensor:
    """A person's rigid points in the head's frame, the mean over a clip: (B, R, 2), centred, radius 64 px.

    Each frame is centred and scaled to the radius, and turned so that the line through the outer eye
    corners is level.
    """
    rigid_BTR = as_complex(landmarks_BTN2[:, :, RIGID])
    centred = rigid_BTR - rigid_BTR.mean(-1, keepdim=True)
    radius_BT = centred.abs().square().mean(-1).sqrt()
    eyes_BT = as_complex(landmarks_BTN2[:, :, 263]) - as_complex(landmarks_BTN2[:, :, 33])
    level_BT = eyes_BT.conj() / eyes_BT.abs()
    upright = centred * (level_BT * RIGID_RADIUS_PX / radius_BT)[..., None]
    weight_BT = mask_BT / mask_BT.sum(1, keepdim=True)
    return torch.view_as_real((upright * weight_BT[..., None]).sum(1))


def fit(landmarks_BTN2: torch.Tensor, rigid_BR2: torch.Tensor) -> Pose:
    """The least-squares similarity of every frame from its rigid points to `rigid_BR2`.

    With z the frame's points and w the target, both centred: turn = sum(conj(z) w) / sum |z|^2.
    """
    z = as_complex(landmarks_BTN2[:, :, RIGID])
    w = as_complex(rigid_BR2)[:, None]
    z_mean, w_mean = z.mean(-1, keepdim=True), w.mean(-1, keepdim=True)
    turn = ((z - z_mean).conj() * (w - w_mean)).sum(-1) / (z - z_mean).abs().square().sum(-1)
    return Pose(turn, w_mean[..., 0] - turn * z_mean[..., 0])


def slow(values_BTF: torch.Tensor, mask_BT: torch.Tensor, sigma_frames: float) -> torch.Tensor:
    """Values smoothed over time by a Gaussian of `sigma_frames`, over each example's valid frames only."""
    frames = torch.arange(values_BTF.shape[1], device=values_BTF.device, dtype=values_BTF.dtype)
    near_TT = torch.exp(-((frames[:, None] - frames) ** 2) / (2 * sigma_frames**2))
    weight_BTT = near_TT * mask_BT[:, None, :]
    return (weight_BTT / weight_BTT.sum(-1, keepdim=True)) @ values_BTF
