"""The generator: what is painted in a window, in the steps that can be kept between frames.

Shape suffixes: see mytalk/networks/appearance/__init__.py.
"""

from __future__ import annotations

import torch
from torch import nn

from mytalk import machine
from mytalk.command import UserError
from mytalk.networks.appearance.config import AppearanceConfig
from mytalk.networks.appearance.inputs import own_share
from mytalk.networks.appearance.parts import Decoder, Encoder, Fusion, near_lips


class Generator(nn.Module):
    """Paints a window: landmark, lip and non-lip encoders, FusionNet, decoder (paper, Fig. 2b)."""

    def __init__(self, config: AppearanceConfig):
        super().__init__()
        self.config = config
        self.landmarks = Encoder(config, (6 if config.moves else 3) + config.time_channels)
        self.frame = Encoder(config)
        self.lips = Encoder(config) if config.appearance_encoders == 2 else None
        self.fusion, self.decoder = Fusion(config), Decoder(config)
        self.finer = nn.ModuleList(nn.Conv2d(2 * width, width, 1) for width in config.channels[:-1])
        self.precision = "fp32"  # in which it paints, see `compute_in`; training has its own

    def compute_in(self, precision: str) -> None:
        """Paint in one of PRECISIONS. Raises UserError where the device does not compute in it."""
        if precision == "bf16" and not machine.has_bf16(next(self.parameters()).device):
            raise UserError("--precision bf16: this machine's processor does not compute in bf16; leave the option out")
        self.precision = precision

    def forward(
        self,
        landmark_image_B3HW: torch.Tensor,
        lips_BR3HW: torch.Tensor,
        masked_B3HW: torch.Tensor,
        base_B3HW: torch.Tensor,
        time_BDHW: torch.Tensor | None = None,
        person_B: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """(B, 3, H, W) in [-1, 1], of which the part outside the soft mask is discarded.

        `base_B3HW` is what pixels may be copied from, `time_BDHW` what a model with `time_channels` sees of the frames
        around: `base_picture` and `time_pictures` of mytalk/networks/appearance/inputs.py. With `person_B`, which
        names each frame's, references are of fewer people than there are frames, and encoded once each.
        """
        lips = self.encode_lips(lips_BR3HW)
        if person_B is not None:
            lips = [level[person_B] for level in lips]
        encoded = self.encode_frame(lips, masked_B3HW)
        return self.decode(landmark_image_B3HW, encoded, base_B3HW, time_BDHW)

    def encode_lips(self, lips_BR3HW: torch.Tensor) -> list[torch.Tensor]:
        """The references' mean maps (B, D, H, W), and of the coarsest level what is kept of all, (B, R, D, H, W)."""
        encoder = self.frame if self.lips is None else self.lips
        levels = [map_RDHW.unflatten(0, lips_BR3HW.shape[:2]) for map_RDHW in encoder(lips_BR3HW.flatten(0, 1))]
        return [*(map_BRDHW.mean(1) for map_BRDHW in levels[:-1]), self.fusion.pooled(levels[-1])]

    def encode_frame(
        self, lips: list[torch.Tensor], masked_B3HW: torch.Tensor
    ) -> tuple[list[torch.Tensor], torch.Tensor]:
        """What does not depend on the landmarks: the fused maps of every level, and where they show (`own_share`).

        References of batch 1 are every frame's.
        """
        frame = self.frame(masked_B3HW)
        finer = [theirs.expand_as(own) for own, theirs in zip(frame, lips[:-1])]
        fused = [mix(torch.cat([own, theirs], 1)) for mix, own, theirs in zip(self.finer, frame, finer)]
        fused.append(self.fusion(frame[-1], lips[-1]))
        own_B1HW = (
            own_share(masked_B3HW, self.config.size_px) if self.config.moves else torch.ones_like(masked_B3HW[:, :1])
        )
        return fused, own_B1HW

    def decode(
        self,
        landmark_image_B3HW: torch.Tensor,
        encoded: tuple[list[torch.Tensor], torch.Tensor],
        base_B3HW: torch.Tensor,
        time_BDHW: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """The picture of these landmarks, from what `encode_frame` gave of the frame.

        Along the region's edge it is the base picture, which turns into the frame there without a step.
        """
        fused, own_B1HW = encoded
        seen = [landmark_image_B3HW]
        if self.config.moves:
            seen.append(base_B3HW.to(landmark_image_B3HW.dtype))
        if time_BDHW is not None:
            seen.append(time_BDHW.to(landmark_image_B3HW.dtype))
        landmarks = self.landmarks(torch.cat(seen, 1))
        if self.config.moves:
            made_B3HW = self.decoder(fused, landmarks, base_B3HW)
            return base_B3HW.to(made_B3HW.dtype).lerp(made_B3HW, own_B1HW.to(made_B3HW.dtype))
        return self.decoder(fused, landmarks, base_B3HW, near_lips(landmark_image_B3HW, self.config.size_px))
