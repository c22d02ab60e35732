"""Training examples of the reader of lips: slot number -> some frames of one clip, their mouths' crops, their lips.

Crops are placed a little wrong, in other light, and blurred as paintings are: all drawn from the slot.
Shape suffixes: B batch, F frames of an example, S side of a crop, N landmarks (478), M lip points (40),
3 = RGB, 2 = (x, y) in units of the crop (mytalk/networks/reader.py).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from data_pipeline.examples.windows import FrameWindows
from data_pipeline.sample.batches import Batch, Examples
from data_pipeline.sample.slot_random import Purpose
from data_pipeline.sample.windows import Example, SamplingConfig
from data_pipeline.shards import video_reader
from data_pipeline.shards.manifest import Manifest
from data_pipeline.shards.reader import ClipError
from data_pipeline.shards.table import requirements
from mytalk.face.landmarks import MOUTH
from mytalk.networks import reader
from mytalk.networks.reader import Place

MOVED, TURNED_DEGREES, SCALED = 0.12, 8.0, 0.1  # most that a crop is off: halves of its side, degrees, share
BRIGHTER, CONTRAST, TINT = 0.2, 0.25, 0.1  # most that is added to pixels from -1 to 1, and multiplied with them
BLURRED, BLUR_PX = 0.6, 2.0  # share of the examples, and the largest sigma, of the crop's px


@dataclass
class ReaderBatch(Batch):
    """Crops of mouths and the lip points in them."""

    crops_BF3SS: torch.Tensor  # float32, about [-1, 1]
    lips_BFM2: torch.Tensor
    half_px_BF: torch.Tensor  # half of the crops' sides, px of the pictures


class ReaderExamples(Examples[ReaderBatch]):
    """Makes the reader's batches: `frames` of a clip in each example, evenly spread after a drawn first one.

    Of a selection that shows each clip once (validation) the crops lie where they belong and are as they are.
    """

    def __init__(self, manifest: Manifest, sampling: SamplingConfig, frames: int, side: int):
        super().__init__(FrameWindows(manifest, sampling))
        self.frames, self.side = frames, side
        requirements.refuse_without_frames(manifest, self.selection.rows_n)

    def chosen(self, example: Example) -> list[int]:
        """The frames of an example."""
        row, start, _ = example.window
        count = int(self.windows.frames[row])
        return [(start + number * count // self.frames) % count for number in range(self.frames)]

    def read(self, slots: list[int], examples: list[Example]) -> list[Any]:
        """(pixels, points) of each example's frames; these alone are decoded."""
        read = super().read(slots, examples)
        asked = [(example.window.row, self.chosen(example)) for example in examples]
        for index, pixels in enumerate(video_reader.read_frames(self.manifest, asked)):
            if isinstance(pixels, ClipError):
                read[index] = pixels
            elif not isinstance(read[index], ClipError):
                points_FN2 = torch.from_numpy(read[index][0][asked[index][1]]).float()[..., :2]
                read[index] = (pixels, points_FN2)
        return read

    def collate(self, slots: list[int], examples: list[Example], read: list[Any]) -> ReaderBatch:
        tensors = [self._example(slot, *values) for slot, values in zip(slots, read)]
        return ReaderBatch(
            **self.batch_fields(slots, examples),
            crops_BF3SS=torch.stack([crops_F3SS for crops_F3SS, *_ in tensors]),
            lips_BFM2=torch.stack([lips_FM2 for _, lips_FM2, _ in tensors]),
            half_px_BF=torch.stack([half_px_F for *_, half_px_F in tensors]),
        )

    def _example(
        self, slot: int, pixels_FHW3: np.ndarray, points_FN2: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        where, random = reader.place(points_FN2), None
        if not self.windows.sampling.once:
            random = self.windows.random(slot, Purpose.READER)
            where = displaced(where, random)
        crops_F3SS = reader.crops(reader.pictures(pixels_FHW3), where, self.side)
        if random is not None:
            crops_F3SS = seen_otherwise(crops_F3SS, random)
        return crops_F3SS, where.units(points_FN2[:, MOUTH]), where.half_px_B


def displaced(where: Place, random: np.random.Generator, alike: bool = False) -> Place:
    """Places that are a little off, each frame's otherwise or all `alike`."""
    count = 1 if alike else len(where.middle_B2)
    moved_B2, turned_B1, scaled_B1 = (
        torch.from_numpy(random.uniform(-most, most, (count, size)).astype(np.float32))
        for most, size in ((MOVED, 2), (math.radians(TURNED_DEGREES), 1), (SCALED, 1))
    )
    middle_B2 = where.px(moved_B2[:, None])[:, 0]
    scale_B1, sine_B1, cosine_B1 = 1 + scaled_B1, turned_B1.sin(), turned_B1.cos()
    across_B2 = scale_B1 * (cosine_B1 * where.across_B2 + sine_B1 * where.down_B2)
    down_B2 = scale_B1 * (cosine_B1 * where.down_B2 - sine_B1 * where.across_B2)
    return Place(middle_B2, across_B2, down_B2)


def seen_otherwise(crops_F3SS: torch.Tensor, random: np.random.Generator, alike: bool = False) -> torch.Tensor:
    """Crops in other light, each in its own or all `alike`, and blurred in some examples."""
    count = 1 if alike else len(crops_F3SS)
    contrast = 1 + random.uniform(-CONTRAST, CONTRAST, (count, 1, 1, 1)) + random.uniform(-TINT, TINT, (count, 3, 1, 1))
    brighter = random.uniform(-BRIGHTER, BRIGHTER, (count, 1, 1, 1))
    crops_F3SS = crops_F3SS * torch.from_numpy(contrast).float() + torch.from_numpy(brighter).float()
    blurred, sigma = random.random() < BLURRED, random.uniform(0.3, BLUR_PX)
    if not blurred:
        return crops_F3SS
    reach = math.ceil(2 * sigma)
    kernel = torch.exp(-(torch.arange(-reach, reach + 1).float() ** 2) / (2 * sigma**2))
    kernel = (kernel / kernel.sum()).expand(3, 1, 1, -1)
    padded = F.pad(crops_F3SS, (reach, reach, reach, reach), mode="replicate")
    return F.conv2d(F.conv2d(padded, kernel, groups=3), kernel.transpose(2, 3), groups=3)
