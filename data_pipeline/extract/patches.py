"""The part of a picture around a face, kept until the clip's crop is known.

A clip's crop depends on all of its frames, and ten seconds of whole pictures would fill the memory of a worker; the
surroundings of a face, as half-colour planes (I420, like the video they come from), take a tenth of it.

Shape suffixes: N landmarks, H height, W width, 3 = RGB or (x, y, z), 2 = (x, y), 23 an affine matrix.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mytalk.face import crop
from mytalk.face.landmarks import CROP_PX

SIDE = 2.5  # of a patch, in face sides


@dataclass(frozen=True)
class Patch:
    """A square of a picture as I420 planes: source px p lies at (p - corner_2) * scale_2."""

    planes: np.ndarray  # uint8 (1.5 H, W)
    corner_2: np.ndarray
    scale_2: np.ndarray
    shrink: int

    def rgb(self) -> np.ndarray:
        """As RGB (H, W, 3)."""
        import cv2

        return np.asarray(cv2.cvtColor(self.planes, cv2.COLOR_YUV2RGB_I420), np.uint8)

    def placed(self, landmarks_N3: np.ndarray) -> np.ndarray:
        """Landmarks of the source in px of the patch."""
        placed_N3 = np.array(landmarks_N3, np.float32)
        placed_N3[:, :2] = (placed_N3[:, :2] - self.corner_2) * self.scale_2
        placed_N3[:, 2] *= self.scale_2.mean()
        return placed_N3

    def cropped(self, crop_23: np.ndarray, size_px: int) -> np.ndarray:
        """The picture (size_px, size_px, 3) that `crop.warp` makes of the source; beyond the patch, its border."""
        matrix = np.array(crop_23, np.float64)
        matrix[:, 2] += matrix[:, :2] @ self.corner_2
        matrix[:, :2] /= self.scale_2
        return crop.warp(self.rgb(), matrix, size_px)


def shrinking(side_px: float, frames_px: int = CROP_PX) -> int:
    """By how much the patch of a face of this side is reduced, a whole number: as `crop.warp` reduces it for a crop."""
    return max(int(crop.MARGIN * side_px / frames_px), 1)


def cut_out(frame_HW3: np.ndarray, box_3: np.ndarray, shrink: int) -> Patch:
    """The patch of a picture around a face: centre x, y and side in px."""
    import cv2

    height, width = frame_HW3.shape[:2]
    low_2, high_2 = box_3[:2] - SIDE * box_3[2] / 2, box_3[:2] + SIDE * box_3[2] / 2
    left, right = _between(low_2[0], high_2[0], width)
    top, bottom = _between(low_2[1], high_2[1], height)
    part = frame_HW3[top:bottom, left:right]
    size_2 = np.array([right - left, bottom - top])
    kept_2 = np.maximum(size_2 // (2 * shrink) * 2, 2)
    if shrink > 1:
        part = cv2.resize(part, kept_2.tolist(), interpolation=cv2.INTER_AREA)
    planes = np.asarray(cv2.cvtColor(part, cv2.COLOR_RGB2YUV_I420), np.uint8)
    return Patch(planes, np.array([left, top]), kept_2 / size_2, shrink)


def _between(low: float, high: float, length: int) -> tuple[int, int]:
    """Whole px from an even one on, an even number of them, inside a length of two or more."""
    begin = min(max(int(low) // 2 * 2, 0), (length - 2) // 2 * 2)
    return begin, begin + max(min(-(-int(high - begin) // 2) * 2, (length - begin) // 2 * 2), 2)
