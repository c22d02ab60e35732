"""Head pose in three dimensions: the frame in which motion is written, so that a turning head is no mouth movement.

Every frame is explained by one upright head: the person's own rigid points (forehead, temples, eye corners, nose
bridge) are scaled, rotated and shifted until they lie on the frame's. All rigid points are on the clean side of partial
noising: no trace of the mouth enters the pose. (Our default: the paper does not say in which frame it noises.)

Motion is written as x and y of the upright head, each landmark at the person's own mean depth. So it is given back to
the picture exactly, whatever the head's turn, and the detector's z of the lower face of single frames, which is mostly
noise of the pose (docs/decisions.md), is not part of it.

Axes: x to the right, y down, z away from the camera, as in the crop. Shape suffixes: B batch, T frames, N landmarks (or
some of them), R rigid landmarks, 2 = (x, y), 3 = (x, y, z).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from mytalk.face.landmarks import CROP_PX, RIGID

FEATURES = 6  # of a pose, as the network takes it
RIGID_RADIUS_PX = 64.0  # root mean square distance of the rigid points from their centre, in the head's frame
DEPTH_WEIGHT = 0.25  # of a z against an x or y in the fit; from 0 to 0.5 all is as good, 1 is worse (docs/decisions.md)
BLOCK_FRAMES = 512  # of a long clip that are in work at a time: a fit takes 30 KB a frame
REFINEMENTS = 3  # Gauss-Newton steps from the closed-form start
OUTLIER = 3.0  # a point this many times as far off as the frame's median point counts half

# The rigid points of a mean head, px in the head's frame: the mean over public clips of 27 people, made symmetric.
# Upright is where the top of the forehead and the chin are equally deep. Of the midline and the left side of the image:
# landmark: (its mirror image, x, y, z).
_HALF_HEAD = {
    10: (10, 0.0, -43.4, -15.3),
    151: (151, 0.0, -24.0, -21.5),
    9: (9, 0.0, -3.4, -26.5),
    8: (8, 0.0, 7.6, -25.9),
    168: (168, 0.0, 17.6, -26.3),
    6: (6, 0.0, 27.2, -32.5),
    197: (197, 0.0, 35.5, -39.4),
    109: (338, -23.5, -42.5, -13.4),
    67: (297, -43.3, -38.4, -5.7),
    103: (332, -61.6, -29.8, 7.4),
    162: (389, -84.6, 15.0, 50.4),
    127: (356, -85.9, 35.0, 61.2),
    33: (263, -55.6, 25.3, 0.3),
    133: (362, -21.6, 27.0, -6.6),
}
_MEAN_HEAD = {left: (x, y, z) for left, (_, x, y, z) in _HALF_HEAD.items()}
_MEAN_HEAD |= {right: (-x, y, z) for right, x, y, z in _HALF_HEAD.values()}
MEAN_RIGID_R3 = torch.tensor([_MEAN_HEAD[index] for index in RIGID], dtype=torch.float64)


@dataclass(frozen=True)
class Head:
    """A person's own upright head: the rigid points, and how deep every landmark lies on the mean."""

    rigid_BR3: torch.Tensor  # centred, radius RIGID_RADIUS_PX
    depth_BN: torch.Tensor  # z of all 478 landmarks


@dataclass(frozen=True)
class Pose:
    """How a head stands in every frame: crop = scale * rotation @ head + shift."""

    scale_BT: torch.Tensor
    rotation_BT33: torch.Tensor
    shift_BT3: torch.Tensor

    def to_head(self, landmarks_BTN3: torch.Tensor, depth_BN: torch.Tensor) -> torch.Tensor:
        """Points of the crop, of which only x and y are read, in the head's frame at known depths: (B, T, N, 2)."""
        rows = self._scaled_rows()
        depth_B1N = depth_BN[:, None]
        x_BTN, y_BTN = (
            landmarks_BTN3[..., axis] - self.shift_BT3[..., axis, None] - rows[axis][2] * depth_B1N for axis in (0, 1)
        )
        (a, b, _), (c, d, _), _ = rows
        determinant_BT1 = a * d - b * c
        across_BTN = (d * x_BTN - b * y_BTN) / determinant_BT1
        down_BTN = (a * y_BTN - c * x_BTN) / determinant_BT1
        return torch.stack([across_BTN, down_BTN], dim=-1)

    def to_crop(self, head_BTN2: torch.Tensor, depth_BN: torch.Tensor) -> torch.Tensor:
        """Points of the head's frame at known depths in the crop: (B, T, N, 3); x and y invert `to_head` exactly."""
        x_BTN, y_BTN, z_B1N = head_BTN2[..., 0], head_BTN2[..., 1], depth_BN[:, None]
        axes = [
            row[0] * x_BTN + row[1] * y_BTN + row[2] * z_B1N + self.shift_BT3[..., axis, None]
            for axis, row in enumerate(self._scaled_rows())
        ]
        return torch.stack(axes, dim=-1)

    def place(self, upright_BTN3: torch.Tensor) -> torch.Tensor:
        """Points of the head's frame in the crop, the inverse of `upright`: (B, T, N, 3)."""
        with torch.autocast(upright_BTN3.device.type, enabled=False):
            turned = upright_BTN3 @ self.rotation_BT33.transpose(-1, -2)
        return turned * self.scale_BT[..., None, None] + self.shift_BT3[..., None, :]

    def upright(self, landmarks_BTN3: torch.Tensor) -> torch.Tensor:
        """Points of the crop in the head's frame, z as detected: (B, T, N, 3)."""
        with torch.autocast(landmarks_BTN3.device.type, enabled=False):
            turned = (landmarks_BTN3 - self.shift_BT3[..., None, :]) @ self.rotation_BT33
        return turned / self.scale_BT[..., None, None]

    def angles(self) -> torch.Tensor:
        """Yaw, pitch and roll, (B, T, 3) radians: to the image's right, down, and clockwise as seen are positive."""
        rotation = self.rotation_BT33
        yaw_BT = torch.asin(rotation[..., 2, 0].clamp(-1, 1))
        pitch_BT = torch.atan2(rotation[..., 2, 1], rotation[..., 2, 2])
        roll_BT = torch.atan2(rotation[..., 1, 0], rotation[..., 0, 0])
        return torch.stack([yaw_BT, pitch_BT, roll_BT], dim=-1)

    def features(self) -> torch.Tensor:
        """The pose as numbers near 0, (B, T, 6): log scale, yaw, pitch, roll, and the head's place in half crops."""
        place_BT2 = self.shift_BT3[..., :2] / (CROP_PX / 2) - 1.0
        return torch.cat([self.scale_BT.log()[..., None], self.angles(), place_BT2], dim=-1)

    def _scaled_rows(self) -> list[list[torch.Tensor]]:
        """The matrix scale * rotation as rows of (B, T, 1) entries."""
        matrix = self.scale_BT[..., None, None] * self.rotation_BT33
        return [[matrix[..., row, column, None] for column in range(3)] for row in range(3)]


def to_own_head(landmarks_BTN3: torch.Tensor, mask_BT: torch.Tensor) -> torch.Tensor:
    """Clips in the frames of the heads that they show themselves: (B, T, 478, 2) px."""
    head = person_head(landmarks_BTN3, mask_BT)
    return fit(landmarks_BTN3, head.rigid_BR3).to_head(landmarks_BTN3, head.depth_BN)


def from_angles(scale_BT: torch.Tensor, angles_BT3: torch.Tensor, shift_BT3: torch.Tensor) -> Pose:
    """The pose of a yaw, pitch and roll, the inverse of `Pose.angles`: pitch is applied first, then yaw, then roll."""
    yaw, pitch, roll = angles_BT3.unbind(-1)
    zero = torch.zeros_like(yaw)
    rotation_BT33 = (
        _rotation(torch.stack([zero, zero, roll], -1))
        @ _rotation(torch.stack([zero, -yaw, zero], -1))
        @ _rotation(torch.stack([pitch, zero, zero], -1))
    )
    return Pose(scale_BT, rotation_BT33, shift_BT3)


def person_head(landmarks_BTN3: torch.Tensor, mask_BT: torch.Tensor) -> Head:
    """A person's head from a clip: each frame made upright, and the mean over its valid frames.

    The first round fits the mean head of people, the second the person's own.
    """
    weight_BT1 = frame_weights(mask_BT)[..., None]
    rigid_BR3 = MEAN_RIGID_R3.to(landmarks_BTN3)[None].expand(len(landmarks_BTN3), -1, -1)
    rigid_BTR3 = landmarks_BTN3[:, :, RIGID]
    for _ in range(2):
        shape_BR3 = mean_over_frames(fit(landmarks_BTN3, rigid_BR3).upright(rigid_BTR3), mask_BT)
        centred = shape_BR3 - shape_BR3.mean(1, keepdim=True)
        radius_B11 = centred.square().sum(-1).mean(-1).sqrt()[:, None, None]
        rigid_BR3 = centred * (RIGID_RADIUS_PX / radius_B11)
    parts = zip(landmarks_BTN3.split(BLOCK_FRAMES, 1), weight_BT1.split(BLOCK_FRAMES, 1))
    depths = [(fit(part, rigid_BR3).upright(part)[..., 2] * weight).sum(1) for part, weight in parts]
    return Head(rigid_BR3, sum(depths[1:], depths[0]))


def fit(landmarks_BTN3: torch.Tensor, rigid_BR3: torch.Tensor) -> Pose:
    """The pose of every frame that brings the rigid points `rigid_BR3` onto the frame's, by weighted least squares.

    Starts with the closed-form weak perspective from x and y alone and refines by Gauss-Newton, with z at
    DEPTH_WEIGHT. Points far off, as under hair or a hand, count less in each step (Cauchy weights). Computed in
    float64: in float32 the rounding of another batch or machine would show in what is trained.
    """
    blocks = [_fit(block, rigid_BR3.double()) for block in landmarks_BTN3.split(BLOCK_FRAMES, dim=1)]
    if len(blocks) == 1:
        return blocks[0]
    scales, rotations, shifts = zip(*((one.scale_BT, one.rotation_BT33, one.shift_BT3) for one in blocks))
    return Pose(torch.cat(scales, 1), torch.cat(rotations, 1), torch.cat(shifts, 1))


def _fit(landmarks_BTN3: torch.Tensor, rigid_BR3: torch.Tensor) -> Pose:
    points_BTR3 = landmarks_BTN3[:, :, RIGID].double()
    with torch.autocast(points_BTR3.device.type, enabled=False):  # a matrix product would lose digits
        pose = _weak_perspective(points_BTR3, rigid_BR3)
        for _ in range(REFINEMENTS):
            pose = _refined(pose, points_BTR3, rigid_BR3)
    dtype = landmarks_BTN3.dtype
    return Pose(pose.scale_BT.to(dtype), pose.rotation_BT33.to(dtype), pose.shift_BT3.to(dtype))


def _weak_perspective(points_BTR3: torch.Tensor, rigid_BR3: torch.Tensor) -> Pose:
    """The scaled rotation nearest to the best affine map from the rigid points to the frames' x and y.

    With A that map (2 x 3), its polar factor (A A')^(-1/2) A has the rotation's first two rows.
    """
    centre_BT3 = points_BTR3.mean(2)
    gram_B33 = rigid_BR3.transpose(-1, -2) @ rigid_BR3
    solver_B3R = torch.linalg.solve(gram_B33, rigid_BR3.transpose(-1, -2))
    centred_BTR2 = (points_BTR3 - centre_BT3[..., None, :])[..., :2]
    affine_BT23 = (solver_B3R[:, None] @ centred_BTR2).transpose(-1, -2)
    square_BT22 = affine_BT23 @ affine_BT23.transpose(-1, -2)
    (a, b), (_, d) = (row.unbind(-1) for row in square_BT22.unbind(-2))
    root = (a * d - b * b).sqrt()
    spread = (a + d + 2 * root).sqrt()  # trace of the matrix's square root
    inverse_root_BT22 = torch.stack([d + root, -b, -b, a + root], dim=-1).unflatten(-1, (2, 2))
    across_BT3, down_BT3 = ((inverse_root_BT22 @ affine_BT23) / (spread * root)[..., None, None]).unbind(-2)
    rotation_BT33 = torch.stack([across_BT3, down_BT3, torch.linalg.cross(across_BT3, down_BT3)], dim=-2)
    return Pose(spread / 2, rotation_BT33, centre_BT3)


def _refined(pose: Pose, points_BTR3: torch.Tensor, rigid_BR3: torch.Tensor) -> Pose:
    """One Gauss-Newton step in log scale, rotation about the camera's axes, and shift."""
    rotation = pose.rotation_BT33
    head_BTR3 = (rigid_BR3[:, None] @ rotation.transpose(-1, -2)) * pose.scale_BT[..., None, None]
    axis_weight_3 = points_BTR3.new_tensor([1.0, 1.0, DEPTH_WEIGHT])
    residual_BTR3 = (points_BTR3 - head_BTR3 - pose.shift_BT3[..., None, :]) * axis_weight_3
    distance_BTR = residual_BTR3.square().sum(-1).sqrt()
    usual_BT1 = distance_BTR.median(-1, keepdim=True).values + 1e-6 * pose.scale_BT[..., None]
    trust_BTR1 = (1 / (1 + (distance_BTR / (OUTLIER * usual_BT1)).square()))[..., None]
    x, y, z = head_BTR3.unbind(-1)
    zero, one = torch.zeros_like(x), torch.ones_like(x)
    jacobian = [x, zero, z, -y, one, zero, zero, y, -z, zero, x, zero, one, zero, z, y, -x, zero, zero, zero, one]
    jacobian_BTR37 = torch.stack(jacobian, dim=-1).unflatten(-1, (3, 7)) * axis_weight_3[:, None]
    weighted_BT7E = (jacobian_BTR37 * trust_BTR1[..., None]).flatten(2, 3).transpose(-1, -2)  # E equations: 3 R
    normal_BT77 = weighted_BT7E @ jacobian_BTR37.flatten(2, 3)
    gradient_BT7 = (weighted_BT7E @ residual_BTR3.flatten(2)[..., None])[..., 0]
    step_BT7 = torch.linalg.solve(normal_BT77, gradient_BT7)
    return Pose(
        pose.scale_BT * step_BT7[..., 0].exp(),
        _rotation(step_BT7[..., 1:4]) @ rotation,
        pose.shift_BT3 + step_BT7[..., 4:],
    )


def _rotation(vector_BT3: torch.Tensor) -> torch.Tensor:
    """The rotation matrix about a vector by its length in radians (Rodrigues' formula)."""
    square_BT11 = vector_BT3.square().sum(-1)[..., None, None]
    x, y, z = vector_BT3.unbind(-1)
    zero = torch.zeros_like(x)
    cross = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], dim=-1).unflatten(-1, (3, 3))
    angle = square_BT11.sqrt()
    small = square_BT11 < 1e-8
    angle = torch.where(small, torch.ones_like(angle), angle)
    sine = torch.where(small, 1 - square_BT11 / 6, angle.sin() / angle)
    cosine = torch.where(small, 0.5 - square_BT11 / 24, (1 - angle.cos()) / angle.square())
    return torch.eye(3).to(vector_BT3) + sine * cross + cosine * (cross @ cross)


def frame_weights(mask_BT: torch.Tensor) -> torch.Tensor:
    """The weight of each frame in a mean over the valid ones: (B, T), 1 in all over each example."""
    return mask_BT / mask_BT.sum(1, keepdim=True)


def mean_over_frames(values: torch.Tensor, mask_BT: torch.Tensor) -> torch.Tensor:
    """The mean of values (B, T, ...) over each example's valid frames: (B, ...)."""
    weight = frame_weights(mask_BT).to(values.dtype)
    return (values * weight.reshape(weight.shape + (1,) * (values.dim() - 2))).sum(1)


def slow(values_BTF: torch.Tensor, mask_BT: torch.Tensor, sigma_frames: float) -> torch.Tensor:
    """Values smoothed over time by a Gaussian of `sigma_frames`, over each example's valid frames only."""
    frames = torch.arange(values_BTF.shape[1], device=values_BTF.device, dtype=values_BTF.dtype)
    near_TT = torch.exp(-((frames[:, None] - frames) ** 2) / (2 * sigma_frames**2))
    weight_BTT = near_TT * mask_BT[:, None, :]
    with torch.autocast(values_BTF.device.type, enabled=False):
        return (weight_BTT / weight_BTT.sum(-1, keepdim=True)) @ values_BTF
