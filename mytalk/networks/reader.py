"""The reader of lips: where the lip points are in a picture of a mouth, by a small network that gradients go through.

A painter is taught, and judged, by what is read in its pictures. The crop that is read is placed by the points that
neither speech nor blinking moves, so nothing of the mouth is told: what is read comes from the pixels.

Shape suffixes: B batch, T frames, N landmarks (478), M lip points (40, in the order of MOUTH), F features, S side of
the crop, H height, W width, 3 = RGB or, of landmarks, (x, y, z), 2 = (x, y). Units of a place: half the side of its
crop; x along the eyes, y down the face.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from mytalk.command import UserError
from mytalk.face.landmarks import INNER_LIP_PAIRS, MOUTH, RIGID
from mytalk.networks import weights
from mytalk.settings import Settings, setting

MEASURED = "lip_correlation"  # the fact of a model's folder that shows whether it reads lips
MEASURES = ("opening", "width", "upper_lip")
BELOW, HALF = 2.05, 1.15  # the crop's middle, below the rigid points' mean, and half its side; in their mean radius
TOGETHER = 32  # frames that are floating point at once
EYES = ([33, 133], [263, 362])  # corners of the image-left and the image-right eye
CORNERS = (MOUTH.index(61), MOUTH.index(291))  # of the mouth
UPPER_LIP = [MOUTH.index(index) for index in (37, 0, 267, 82, 13, 312)]  # its middle, outer and inner
OPENS = [[MOUTH.index(index) for index in side] for side in zip(*INNER_LIP_PAIRS)]  # upper, lower


@dataclass
class ReaderConfig(Settings):
    """Size of the reader of lips."""

    part = "model"

    side: int = setting(64, "of the crop that it sees; a multiple of 16", unit="px", at_least=16)
    channels: list[int] = setting([16, 32, 48, 64], "of its four levels, multiples of 4", at_least=4)
    hidden: int = setting(256, "width of the layer before the points", at_least=1)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_levels(self.side, self.channels)


def check_levels(side: int, channels: list[int]) -> None:
    """ValueError where `levels` could not see crops of this side."""
    if side % 16 or len(channels) != 4 or any(width % 4 for width in channels):
        raise ValueError("model.side must be a multiple of 16, model.channels four multiples of 4")


@dataclass(frozen=True)
class Place:
    """Where a crop lies in its picture, px: its middle, and its axes from there to its sides, (B, 2) each."""

    middle_B2: torch.Tensor
    across_B2: torch.Tensor
    down_B2: torch.Tensor

    def units(self, points_BM2: torch.Tensor) -> torch.Tensor:
        """Points in px of the picture -> in units of the crop."""
        from_middle_BM2 = points_BM2 - self.middle_B2[:, None]
        square_B1 = self.across_B2.square().sum(-1, keepdim=True)
        axes_B22 = torch.stack([self.across_B2, self.down_B2], -1)
        return from_middle_BM2 @ axes_B22 / square_B1[:, None]

    def px(self, units_BM2: torch.Tensor) -> torch.Tensor:
        """Points in units of the crop -> in px of the picture."""
        axes_B22 = torch.stack([self.across_B2, self.down_B2], 1)
        return self.middle_B2[:, None] + units_BM2 @ axes_B22

    @property
    def half_px_B(self) -> torch.Tensor:
        """Half of the side, (B,) px of the picture."""
        return self.across_B2.norm(dim=-1)


def place(landmarks_BN2: torch.Tensor) -> Place:
    """Where the mouths' crops lie, by points that do not speak: landmarks (B, N, 2) in px of the picture."""
    rigid_BK2 = landmarks_BN2[:, RIGID]
    mean_B2 = rigid_BK2.mean(1)
    radius_B1 = (rigid_BK2 - mean_B2[:, None]).square().sum(-1).mean(-1, keepdim=True).sqrt()
    left_B2, right_B2 = (landmarks_BN2[:, corners].mean(1) for corners in EYES)
    along_B2 = F.normalize(right_B2 - left_B2, dim=-1)
    under_B2 = torch.stack([-along_B2[:, 1], along_B2[:, 0]], -1)
    half_B1 = HALF * radius_B1
    return Place(mean_B2 + BELOW * radius_B1 * under_B2, half_B1 * along_B2, half_B1 * under_B2)


def crops(pictures_B3HW: torch.Tensor, where: Place, side: int) -> torch.Tensor:
    """What lies there, upright: (B, 3, S, S), by bilinear interpolation; the picture's border goes on beyond it."""
    height, width = pictures_B3HW.shape[-2:]
    steps_S = ((torch.arange(side, device=pictures_B3HW.device) + 0.5) * (2 / side) - 1).to(pictures_B3HW.dtype)
    units_P2 = torch.stack(torch.meshgrid(steps_S, steps_S, indexing="xy"), -1).flatten(0, 1)
    at_BP2 = where.px(units_P2.expand(len(pictures_B3HW), -1, -1))
    grid_BSS2 = (2 * at_BP2 / at_BP2.new_tensor([width, height]) - 1).unflatten(1, (side, side))
    return F.grid_sample(pictures_B3HW, grid_BSS2, padding_mode="border", align_corners=False)


def mouths(frames_THW3: np.ndarray, landmarks_TN3: np.ndarray, side: int) -> torch.Tensor:
    """The crops of uint8 frames, where their own landmarks, in px of the frames, place them: (T, 3, S, S)."""
    where = torch.from_numpy(np.asarray(landmarks_TN3[..., :2], np.float32)).split(TOGETHER)
    parts = [frames_THW3[start : start + TOGETHER] for start in range(0, len(frames_THW3), TOGETHER)]
    return torch.cat([crops(pictures(some), place(points), side) for some, points in zip(parts, where)])


def pictures(frames_THW3: np.ndarray) -> torch.Tensor:
    """Frames of uint8 as networks see them: (T, 3, H, W) float32 in [-1, 1]."""
    return torch.from_numpy(np.ascontiguousarray(frames_THW3)).permute(0, 3, 1, 2).float() / 127.5 - 1


def measures(lips_BM2: torch.Tensor) -> torch.Tensor:
    """MEASURES of lips in units of their crop, (B, 3): opening, width, how far the upper lip lies below the middle."""
    upper_BK2, lower_BK2 = lips_BM2[:, OPENS[0]], lips_BM2[:, OPENS[1]]
    opening_B = (upper_BK2 - lower_BK2).square().sum(-1).clamp(min=1e-8).sqrt().mean(-1)
    width_B = (lips_BM2[:, CORNERS[0]] - lips_BM2[:, CORNERS[1]]).square().sum(-1).clamp(min=1e-8).sqrt()
    return torch.stack([opening_B, width_B, lips_BM2[:, UPPER_LIP, 1].mean(-1)], -1)


def levels(side: int, channels: list[int]) -> tuple[nn.Sequential, int]:
    """Four levels of two convolutions, crops (B, 3, S, S) -> features (B, F), and F."""
    layers: list[nn.Module] = []
    for inputs, width in zip([3, *channels], channels):
        layers += [nn.Conv2d(inputs, width, 3, stride=2, padding=1), nn.GroupNorm(width // 4, width), nn.SiLU()]
        layers += [nn.Conv2d(width, width, 3, padding=1), nn.SiLU()]
    return nn.Sequential(*layers, nn.Flatten()), channels[-1] * (side // 16) ** 2


class LipReader(nn.Module):
    """A crop (B, 3, S, S) in [-1, 1] -> the lip points in its units, (B, M, 2)."""

    def __init__(self, config: ReaderConfig):
        super().__init__()
        self.config = config
        self.layers, features = levels(config.side, config.channels)
        self.points = nn.Sequential(
            nn.Linear(features, config.hidden), nn.SiLU(), nn.Linear(config.hidden, 2 * len(MOUTH))
        )

    def forward(self, crops_B3SS: torch.Tensor) -> torch.Tensor:
        return self.points(self.layers(crops_B3SS)).unflatten(-1, (len(MOUTH), 2))

    def read(self, pictures_B3HW: torch.Tensor, landmarks_BN2: torch.Tensor) -> torch.Tensor:
        """The lip points in px of the pictures, (B, M, 2). Of the landmarks, in px, the rigid ones place the crop."""
        where = place(landmarks_BN2)
        return where.px(self(crops(pictures_B3HW, where, self.config.side)))


def save_model(
    state: dict[str, torch.Tensor], config: ReaderConfig, folder: str | Path, facts: dict[str, Any] | None = None
) -> None:
    """Write weights as a folder that `load_model` reads; `facts` as `weights.above_chance` reads them."""
    weights.save(state, "reader", config, folder, facts)


def load_model(folder: str | Path, device: str | torch.device = "cpu") -> LipReader:
    """The reader of a folder, in evaluation mode. Raises UserError as `weights.load` does."""
    return weights.load(folder, "reader", ReaderConfig, LipReader, device)


def load_proven(folder: str | Path, user: str) -> LipReader:
    """`load_model`, frozen, for a loss or score called `user`. Raises UserError where it is not shown to read lips."""
    shown, words = weights.above_chance(folder, "reader", MEASURED)
    if not shown:
        raise UserError(f"{user} cannot use reader {folder}: {words}; train it longer (python -m train reader)")
    return load_model(folder).requires_grad_(False)
