"""Training examples of the appearance generator: slot number -> a frame, and references from elsewhere in its clip.

Shape suffixes: B batch, R references, N landmarks, V vertices of the region's polygon, H height, W width,
3 = RGB, 2 = (x, y).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch

from data_pipeline import clips, slots, windows
from data_pipeline.batches import Batch
from data_pipeline.manifest import Manifest
from mytalk import appearance
from mytalk.appearance import AppearanceConfig
from mytalk.command import UserError

COLUMNS = ("frames",)  # facts of the manifest that decide what an example holds


@dataclass
class AppearanceBatch(Batch):
    """Windows of frames as the network sees them; points are in px of the window."""

    frame_B3HW: torch.Tensor  # float32 in [-1, 1], the target
    landmarks_BN2: torch.Tensor  # of the target
    region_BV2: torch.Tensor  # what is blacked out of the target, see mytalk.appearance.regions
    references_BR3HW: torch.Tensor  # whole windows: the device blacks out all but the lower face
    reference_regions_BRV2: torch.Tensor
    painted_B3HW: torch.Tensor | None = None  # the generator's result, detached, for the discriminator's turn


class AppearanceExamples:
    """Makes the appearance model's batches: one frame of a clip, and `references` frames of the same clip.

    A reference is at least `gap_frames` away from the target, so that it does not show the answer; in a clip
    too short for that, at least as far away as half the clip allows, and never the target itself. A clip of one
    frame has no reference and is left out. Raises UserError where no clip is left, or one has no frames.
    """

    def __init__(self, manifest: Manifest, split: str, model: AppearanceConfig, references: int, gap: int, seed: int):
        self.manifest, self.model, self.references, self.gap_frames, self.seed = manifest, model, references, gap, seed
        self.frames = manifest.column("frames")
        self.selection = of_two_frames(manifest, slots.select(manifest, split, COLUMNS), split)
        self.order = slots.Order(self.selection, seed)
        refuse_without_frames(manifest, self.selection)

    def __len__(self) -> int:
        return len(self.selection)

    def place(self, slot: int) -> tuple[int, int]:
        """(row, frame) of a slot's target."""
        row = self.order.row(slot)
        random = slots.slot_random(self.selection.digest, self.seed, slot, slots.WINDOW)
        return row, int(random.integers(int(self.frames[row])))

    def reference_frames(self, slot: int, row: int, frame: int) -> list[int]:
        """Frames of the slot's references, in no order; one comes twice only where there are too few."""
        random = slots.slot_random(self.selection.digest, self.seed, slot, slots.REFERENCES)
        count = int(self.frames[row])
        away = np.abs(np.arange(count) - frame)
        far = np.flatnonzero(away >= max(1, min(self.gap_frames, (count - 1) // 2)))
        return random.choice(far, self.references, replace=len(far) < self.references).tolist()

    def __call__(self, numbers: list[int]) -> AppearanceBatch:
        """The batch of these slots."""
        places = [self.place(slot) for slot in numbers]
        made = [self._example(slot, *place) for slot, place in zip(numbers, places)]
        frames, landmarks, regions = (torch.from_numpy(np.stack(values)) for values in zip(*made))
        return AppearanceBatch(
            **windows.named(self.manifest, numbers, places),
            frame_B3HW=frames[:, 0],
            landmarks_BN2=landmarks,
            region_BV2=regions[:, 0],
            references_BR3HW=frames[:, 1:],
            reference_regions_BRV2=regions[:, 1:],
        )

    def _example(self, slot: int, row: int, frame: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Windows of target and references (1 + R, 3, H, W), landmarks (N, 2), regions (1 + R, V, 2)."""
        chosen = [frame, *self.reference_frames(slot, row, frame)]
        ascending = sorted(set(chosen))  # a decoder goes forward
        pixels_HW3 = dict(zip(ascending, clips.read_video(self.manifest, row, ascending)))
        landmarks_TN2 = clips.read_landmarks(self.manifest, row)
        regions_CV2 = appearance.regions(landmarks_TN2)[chosen]
        corners_C2 = appearance.corners(regions_CV2, self.model)
        windows_C3HW = appearance.cut(np.stack([pixels_HW3[index] for index in chosen]), corners_C2, self.model)
        landmarks_N2 = (landmarks_TN2[frame] - corners_C2[0]) / self.model.step_px
        in_window_CV2 = (regions_CV2 - corners_C2[:, None]) / self.model.step_px
        return windows_C3HW, landmarks_N2.astype(np.float32), in_window_CV2.astype(np.float32)


def of_two_frames(manifest: Manifest, selection: slots.Selection, split: str) -> slots.Selection:
    """The selection without clips of one frame; its digest, which covers the frames, tells of them."""
    enough = manifest.column("frames")[selection.rows_n] >= 2
    if not enough.any():
        raise UserError(
            f"{manifest.folder}: every clip of split '{split}' has one frame, and references come from a clip's other "
            "frames; extract longer clips"
        )
    return replace(selection, rows_n=selection.rows_n[enough], shards_n=selection.shards_n[enough])


def refuse_without_frames(manifest: Manifest, selection: slots.Selection) -> None:
    """UserError where a selected clip has no video, as in shards of the motion column alone."""
    without = selection.rows_n[manifest.column("video_size")[selection.rows_n] == 0]
    missing = [path for s in np.unique(selection.shards_n) if not (path := manifest.shard_path("frames", s)).is_file()]
    if len(without) or missing:
        what = f"clip {manifest.column('key')[without[0]]} has none" if len(without) else f"{missing[0]} is missing"
        raise UserError(
            f"{manifest.folder}: the appearance model needs frames and {what}; extract again, or bring them"
        )
