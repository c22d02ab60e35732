"""What stage 2's networks see of a batch: landmarks drawn, faces blacked out, references moved to the landmarks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from data_pipeline.examples.appearance import AppearanceBatch
from mytalk.face import warp
from mytalk.networks.appearance import inputs
from mytalk.networks.appearance.config import AppearanceConfig


@dataclass(frozen=True)
class GeneratorInputs:
    """What the networks see of a batch, drawn and blacked out on its device. Shapes: mytalk/networks/appearance.

    Of its targets, and after them of the frames near these, where a batch has any; references are those of the targets.
    """

    frame_B3HW: torch.Tensor
    landmarks_BN2: torch.Tensor
    image_B3HW: torch.Tensor  # the landmarks
    lips_BR3HW: torch.Tensor
    masked_B3HW: torch.Tensor
    base_B3HW: torch.Tensor  # what pixels may be copied from
    soft_B1HW: torch.Tensor  # 1 in the region, with the edge that the final picture has
    time_BDHW: torch.Tensor | None  # of the frames around, where the model sees any
    example_B: torch.Tensor | None  # of each frame, where there are more than the targets

    def given(self) -> list[torch.Tensor | None]:
        """What the generator takes, in its order."""
        own: list[torch.Tensor | None] = [self.image_B3HW, self.lips_BR3HW, self.masked_B3HW, self.base_B3HW]
        if self.example_B is not None:
            return [*own, self.time_BDHW, self.example_B]
        return own if self.time_BDHW is None else [*own, self.time_BDHW]

    def targets(self, count: int) -> GeneratorInputs:
        """Those of the targets alone."""
        if self.example_B is None:
            return self
        values: dict[str, Any] = {name: None if value is None else value[:count] for name, value in vars(self).items()}
        return GeneratorInputs(**{**values, "example_B": None})


def prepare(batch: AppearanceBatch, model: AppearanceConfig) -> GeneratorInputs:
    """Draw the landmarks and black out what each encoder may not see."""
    lower_R1HW = inputs.region_mask(batch.reference_regions_BRV2.flatten(0, 1), model.shape)
    lips_R3HW = inputs.keep_region(batch.references_BR3HW.flatten(0, 1), lower_R1HW)
    lips_BR3HW = lips_R3HW.unflatten(0, batch.references_BR3HW.shape[:2])
    shown_BRDHW = warp.seen(batch.references_BR3HW) if model.moves else lips_BR3HW
    theirs_BRN2 = batch.reference_landmarks_BRN2
    frame_B3HW, asked_BN2, region_BV2 = batch.frame_B3HW, batch.landmarks_BN2, batch.region_BV2
    around_BKN2 = asked_BN2[:, None] if batch.around_BKN2 is None else batch.around_BKN2
    example_B = None
    if batch.near_K3HW is not None:
        near = (batch.near_K3HW, batch.near_around_KLN2, batch.near_regions_KV2, batch.near_of_K)
        near_K3HW, near_KLN2, near_KV2, of_K = (value for value in near if value is not None)
        example_B = torch.cat([torch.arange(len(frame_B3HW), device=of_K.device), of_K])
        frame_B3HW, region_BV2 = torch.cat([frame_B3HW, near_K3HW]), torch.cat([region_BV2, near_KV2])
        asked_BN2 = torch.cat([asked_BN2, near_KLN2[:, near_KLN2.shape[1] // 2]])
        around_BKN2 = torch.cat([around_BKN2, near_KLN2])
        shown_BRDHW, theirs_BRN2 = shown_BRDHW[example_B], theirs_BRN2[example_B]
    inside_B1HW = inputs.region_mask(region_BV2, model.shape)
    masked_B3HW = inputs.black_out(frame_B3HW, inside_B1HW)
    soft_B1HW = inputs.soften(inside_B1HW, model.size_px)
    return GeneratorInputs(
        frame_B3HW=frame_B3HW,
        landmarks_BN2=asked_BN2,
        image_B3HW=inputs.landmark_dots(asked_BN2, model.shape),
        lips_BR3HW=lips_BR3HW,
        masked_B3HW=masked_B3HW,
        base_B3HW=inputs.base_picture(masked_B3HW, soft_B1HW, shown_BRDHW, theirs_BRN2, asked_BN2, model),
        soft_B1HW=soft_B1HW,
        time_BDHW=inputs.time_pictures(around_BKN2, batch.previous_B3HW, model),
        example_B=example_B,
    )
