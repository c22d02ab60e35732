"""Landmarks of a clip and its source as the network takes them, and the way back into the clip.

No weights are involved. Shape suffixes: see mytalk/networks/motion/__init__.py.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from mytalk.face import pose
from mytalk.face.landmarks import CLEAN, CROP_PX, NOISED
from mytalk.networks.conformer import Drop
from mytalk.networks.motion.config import MotionConfig
from mytalk.networks.slot_dropout import no_dropout

SHAPE_UNIT_PX = CROP_PX / 2  # px of the mean face that count as 1


@dataclass(frozen=True)
class Prepared:
    """Landmarks of a batch in the head's frame, ready for the network. No weights are involved."""

    motion_BTK2: torch.Tensor  # `config.points` minus the person's mean, in units of `unit_px`
    seen_BTF: torch.Tensor  # features of the clean side, see `clean_features`
    source_BUF: torch.Tensor  # the source stretch: residual of every landmark
    shape_BF: torch.Tensor  # the person's mean face: x, y, z of every landmark
    mean_BK2: torch.Tensor
    depth_BK: torch.Tensor  # of the noised landmarks, the person's mean, px
    head_BTN2: torch.Tensor  # the clip in the head's frame, px
    source_head_BUN2: torch.Tensor  # the source in the head's frame, px: the input of the identity encoder
    pose: pose.Pose


def prepare(
    landmarks_BTN3: torch.Tensor,
    mask_BT: torch.Tensor,
    source_BUN3: torch.Tensor,
    source_mask_BU: torch.Tensor,
    config: MotionConfig,
) -> Prepared:
    """Bring a clip and its source to the person's head frame and subtract the person's mean face.

    The mean is the source's, so the clip's own mouth enters `motion_BTK2` alone.
    """
    unit_px = config.unit_px
    head = pose.person_head(source_BUN3, source_mask_BU)
    clip_pose, source_pose = pose.fit(landmarks_BTN3, head.rigid_BR3), pose.fit(source_BUN3, head.rigid_BR3)
    source = source_pose.to_head(source_BUN3, head.depth_BN)
    mean_BN2 = pose.mean_over_frames(source, source_mask_BU)
    head_BTN2 = clip_pose.to_head(landmarks_BTN3, head.depth_BN)
    residual_BTN2 = (head_BTN2 - mean_BN2[:, None]) / unit_px
    upper_BTF = residual_BTN2[:, :, CLEAN].flatten(2)
    return Prepared(
        motion_BTK2=residual_BTN2[:, :, config.points],
        seen_BTF=clean_features(upper_BTF, clip_pose.features(), mask_BT, config),
        source_BUF=((source - mean_BN2[:, None]) / unit_px).flatten(2),
        shape_BF=torch.cat([mean_BN2, head.depth_BN[..., None]], dim=-1).flatten(1) / SHAPE_UNIT_PX,
        mean_BK2=mean_BN2[:, config.points],
        depth_BK=head.depth_BN[:, config.points],
        head_BTN2=head_BTN2,
        source_head_BUN2=source,
        pose=clip_pose,
    )


def clean_features(
    upper_BTF: torch.Tensor, pose_BTF: torch.Tensor, mask_BT: torch.Tensor, config: MotionConfig
) -> torch.Tensor:
    """The features of the clean side that the network gets: upper face and pose, (B, T, 2 C + 6).

    With `upper_face: landmarks` all of it, as the paper draws it. A face mesh moves as one, though: from the
    clean points of MediaPipe the original mouth's opening can be read (see docs/decisions.md), and a model
    trained on them lip-reads instead of listening. So by default the network gets the clip's mean upper face
    and the pose smoothed over half a second, which is slower than speech. With all points noised there is no clean
    side, and all of it is 0.
    """
    if config.noised == "all":
        return torch.zeros_like(torch.cat([upper_BTF, pose_BTF], dim=-1))
    if config.upper_face == "landmarks":
        return torch.cat([upper_BTF, pose_BTF], dim=-1)
    mean_BTF = pose.mean_over_frames(upper_BTF, mask_BT)[:, None].expand_as(upper_BTF)
    return torch.cat([mean_BTF, pose.slow(pose_BTF, mask_BT, config.slow_frames)], dim=-1)


def restore(motion_BTK2: torch.Tensor, prepared: Prepared, landmarks_BTN3: torch.Tensor, config: MotionConfig):
    """Put generated motion back into the clip: its lower face is replaced, the rest is kept. (B, T, N, 3)."""
    out = landmarks_BTN3.clone()
    head_BTK2 = motion_BTK2 * config.unit_px + prepared.mean_BK2[:, None]
    out[:, :, NOISED] = prepared.pose.to_crop(head_BTK2, prepared.depth_BK)[:, :, config.lower]
    return out


@dataclass(frozen=True)
class Conditions:
    """What a prediction is conditioned on, besides the time of the diffusion process."""

    prepared: Prepared  # the clean side of the clip, the motion of the source, the person's mean face
    mask_BT: torch.Tensor
    audio_BS: torch.Tensor  # the speech of the clip, T * 640 samples
    source_mask_BU: torch.Tensor
    source_audio_BS: torch.Tensor  # the speech of the source, U * 640 samples
    known_BUD: torch.Tensor | None = None  # features of the source by the frozen identity encoder
    voice_B: torch.Tensor | None = None  # augments the voice, see `speech_features.log_mel`
    speech_kept_B: torch.Tensor | None = None  # 0: nothing is known of the speech (classifier-free guidance)
    source_kept_B: torch.Tensor | None = None  # 0: of the person only the mean face is known
    drop: Drop = no_dropout  # of training
    features_BTD: torch.Tensor | None = None  # the column's values of clip and source, where the model hears one
    source_features_BUD: torch.Tensor | None = None
