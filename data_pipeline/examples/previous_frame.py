"""The frame before a painter's target as training shows it: disturbed, and not always there.

Shape suffixes: H height, W width, 3 = RGB, 2 = (x, y).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mytalk.networks.appearance.config import AppearanceConfig
from mytalk.settings import Settings, setting


@dataclass
class PreviousConfig(Settings):
    """What training does to the frame before, where model.previous_frame shows it: a model must not lean on it."""

    part = "previous"

    dropout: float = setting(0.3, "share of examples that see none, as a stretch's first frame", at_least=0, at_most=1)
    shift_px: float = setting(2.0, "the most that it is shifted, each way", unit="px of the crop", at_least=0)
    noise: float = setting(0.05, "the largest deviation of noise on it; pixels span 2", at_least=0)


def disturbed(
    picture_HW3: np.ndarray, how: PreviousConfig, model: AppearanceConfig, random: np.random.Generator
) -> np.ndarray:
    """A previous frame as training shows it: a little shifted, and noisy, (3, H, W) in [-1, 1]."""
    import cv2

    random.random()  # decided whether it is shown
    shift_2 = random.uniform(-1, 1, 2) * how.shift_px / model.step_px
    size = (picture_HW3.shape[1], picture_HW3.shape[0])
    moved_HW3 = cv2.warpAffine(
        np.ascontiguousarray(picture_HW3), np.column_stack([np.eye(2), shift_2]), size, borderMode=cv2.BORDER_REPLICATE
    )
    noise_HW3 = random.standard_normal(moved_HW3.shape, np.float32) * np.float32(how.noise * random.random())
    return np.clip(moved_HW3 + noise_HW3, -1, 1).transpose(2, 0, 1)
