"""Painting a clip's frames with a trained generator. Shape suffixes: see mytalk/networks/appearance/__init__.py."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F

from mytalk.face import warp
from mytalk.face.landmarks import CROP_PX
from mytalk.face.region import regions
from mytalk.networks.appearance.generator import Generator
from mytalk.networks.appearance.inputs import (
    BLACK,
    around_frames,
    base_picture,
    black_out,
    blend,
    corners,
    cut,
    keep_region,
    landmark_dots,
    region_mask,
    rims,
    soften,
    time_pictures,
)


class Painter:
    """Paints the frames of a clip with one person's references, which are encoded once.

    `references_RHW3` are uint8 crops of the person, 256 or 512 px, `reference_landmarks_RN3` their landmarks;
    any number, of any of their clips. Frames are crops of `side_px`. Landmarks are px at 256 for all of them.
    """

    def __init__(self, generator: Generator, references_RHW3: np.ndarray, reference_landmarks_RN3: np.ndarray):
        self.generator, self.config = generator, generator.config
        self.device, self.side_px = next(generator.parameters()).device, generator.config.side_px
        with torch.no_grad():
            lips_R3HW, inside_R1HW, corner_R2 = self._windows(
                np.asarray(references_RHW3), regions(reference_landmarks_RN3)
            )
            kept_1R3HW = keep_region(lips_R3HW, inside_R1HW)[None]
            self.shown_1RDHW = warp.seen(lips_R3HW[None]) if self.config.moves else kept_1R3HW
            self.theirs_1RN2 = self._points(reference_landmarks_RN3[..., :2], corner_R2, self.config.step_px)[None]
            with self._computing():
                self.lips = generator.encode_lips(kept_1R3HW)

    def paint(
        self, frames_BHW3: np.ndarray, landmarks_BN3: np.ndarray, regions_BV2: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Give frames the lower face of `landmarks_BN3`: (painted (B, H, W, 3) uint8, mask (B, H, W)).

        `regions_BV2` are those of the frames' own clip (see `regions`). The mask is 1 in the region, falls to 0
        over 20 px (at 256) round it, and over 8 px towards a side of the window that lies inside the crop, so that no
        edge shows there. Where it is 0, painted is the frame bit for bit. The frames are a stretch of their own: what
        a model sees of frames around, it sees of these.
        """
        [painted_BHW3], mask_BHW = self.paint_each(frames_BHW3, [landmarks_BN3], regions_BV2)
        return painted_BHW3, mask_BHW

    @torch.no_grad()
    def paint_each(
        self,
        frames_BHW3: np.ndarray,
        several: Sequence[np.ndarray],
        regions_BV2: np.ndarray,
        start: int = 0,
        before: Sequence[np.ndarray] | None = None,
    ) -> tuple[list[np.ndarray], np.ndarray]:
        """`paint` of the same frames with each of `several` landmarks; frames are encoded once for all.

        Landmarks (F, N, 3) are of the whole stretch, in which the frames stand from `start` on: a model may see those
        around. `before` is what was painted last of each, (H, W, 3), where the stretch has begun earlier.
        """
        frames_BHW3, config = np.asarray(frames_BHW3), self.config
        times = frames_BHW3.shape[1] // CROP_PX  # px of the pictures per px of the crop
        height, width = (times * side for side in config.window_px)
        frame_B3HW, inside_B1HW, corner_B2 = self._windows(frames_BHW3, regions_BV2)
        masked_B3HW = black_out(frame_B3HW, inside_B1HW)
        with self._computing():
            encoded = self.generator.encode_frame(self.lips, masked_B3HW)
        edge_B1HW = soft_B1HW = soften(inside_B1HW, config.size_px)
        if config.shape != (height, width):  # what is blended has the pictures' pixels
            full_B1HW = region_mask(self._points(regions_BV2, corner_B2, 1 / times), (height, width))
            soft_B1HW = soften(full_B1HW, times * CROP_PX)
        soft_BHW1 = soft_B1HW.permute(0, 2, 3, 1).cpu().numpy()
        soft_BHW1 = np.minimum(soft_BHW1, rims(corner_B2, config, times)[..., None])
        there = [(i, slice(y, y + height), slice(x, x + width)) for i, (x, y) in enumerate(times * corner_B2)]
        mask_BHW = np.zeros(frames_BHW3.shape[:3], np.float32)
        for place, soft_HW1 in zip(there, soft_BHW1):
            mask_BHW[place] = soft_HW1[..., 0]
        painted = []
        for number, landmarks_FN3 in enumerate(several):
            last_HW3 = None if before is None else before[number]
            points_BKN2 = self._around(np.asarray(landmarks_FN3), start, corner_B2)
            asked = points_BKN2[:, config.landmark_frames // 2]
            base_B3HW = base_picture(masked_B3HW, edge_B1HW, self.shown_1RDHW, self.theirs_1RN2, asked, config)
            painted_BHW3 = frames_BHW3.copy()
            for part in self._parts(len(frames_BHW3)):
                time = time_pictures(points_BKN2[part], self._previous(last_HW3, corner_B2[part]), config)
                fused, own_B1HW = [level[part] for level in encoded[0]], encoded[1][part]
                dots = landmark_dots(asked[part], config.shape)
                with self._computing():
                    window_B3HW = self.generator.decode(dots, (fused, own_B1HW), base_B3HW[part], time).float()
                window_B3HW = resized(window_B3HW, (height, width))
                window_BHW3 = ((window_B3HW + 1) * 127.5).permute(0, 2, 3, 1).cpu().numpy()
                for place, window_HW3, soft_HW1 in zip(there[part], window_BHW3, soft_BHW1[part]):
                    composed_HW3 = blend(window_HW3, frames_BHW3[place].astype(np.float32), soft_HW1)
                    painted_BHW3[place] = np.rint(composed_HW3).clip(0, 255)
                last_HW3 = painted_BHW3[part][-1]
            painted.append(painted_BHW3)
        return painted, mask_BHW

    def _computing(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.generator.precision == "bf16")

    @property
    def in_order(self) -> bool:
        """Whether a frame needs the one painted before it."""
        return self.config.previous_frame

    def _parts(self, frames: int) -> list[slice]:
        """What is painted at once: all frames, or one after the other where each sees the one before."""
        return [slice(at, at + 1) for at in range(frames)] if self.config.previous_frame else [slice(0, frames)]

    def _around(self, landmarks_FN3: np.ndarray, start: int, corner_B2: np.ndarray) -> torch.Tensor:
        """The landmarks that each frame sees, in px of its window: (B, K, N, 2); beyond an end, the end's."""
        at_BK = around_frames(start + np.arange(len(corner_B2)), len(landmarks_FN3), self.config)
        return self._points(landmarks_FN3[at_BK][..., :2], corner_B2[:, None], self.config.step_px)

    def _previous(self, last_HW3: np.ndarray | None, corner_B2: np.ndarray) -> torch.Tensor | None:
        """The frame that was painted before, cut as the frames to be painted are; black where there is none."""
        if not self.config.previous_frame:
            return None
        if last_HW3 is None:
            return torch.full((len(corner_B2), 3, *self.config.shape), BLACK, device=self.device)
        return torch.from_numpy(cut(last_HW3[None], corner_B2, self.config)).to(self.device)

    def _windows(self, frames_BHW3: np.ndarray, region_BV2: np.ndarray):
        """Windows (B, 3, H, W), their regions' masks (B, 1, H, W), and their corners in the crop (B, 2)."""
        corner_B2 = corners(region_BV2, self.config)
        frame_B3HW = torch.from_numpy(cut(frames_BHW3, corner_B2, self.config)).to(self.device)
        region = self._points(region_BV2, corner_B2, self.config.step_px)
        return frame_B3HW, region_mask(region, self.config.shape), corner_B2

    def _points(self, points_BN2: np.ndarray, corner_B2: np.ndarray, step_px: float) -> torch.Tensor:
        """Crop px -> px of the window, on the device."""
        moved = (np.asarray(points_BN2) - corner_B2[..., None, :]) / step_px
        return torch.from_numpy(moved.astype(np.float32)).to(self.device)


def resized(window_B3HW: torch.Tensor, shape: tuple[int, int]) -> torch.Tensor:
    """Windows in the size of the pictures that they are blended into: bicubic, or, where smaller, by area mean."""
    height, width = window_B3HW.shape[2:]
    if (height, width) == shape:
        return window_B3HW
    if height > shape[0]:
        return F.avg_pool2d(window_B3HW, height // shape[0])
    return F.interpolate(window_B3HW, size=shape, mode="bicubic").clamp(-1, 1)
