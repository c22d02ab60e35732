"""The judge of pictures: ST-LPIPS with its VGG trunk, and the features of that trunk for Frechet distances.

It ignores shifts of a pixel or two by design, so it certifies neither a seam nor where the lips are. Shape suffixes:
K pictures, H height, W width, 3 = RGB, D features (512).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from eval.judges.state import read
from mytalk.command import UserError

if TYPE_CHECKING:
    import torch

TRUNK, NAME = "vgg", "st-lpips-vgg"  # `alex` may teach, so it never scores
WEIGHTS = (NAME,)
PACKAGES: tuple[str, ...] = ()
SIDE_PX = 128  # of the pictures it sees
BATCH = 8


class PerceptionJudge:
    """Distances and features of crops, each reduced to SIDE_PX by area."""

    def __init__(self, files: Mapping[str, Path], device: torch.device | str = "cpu"):
        """`files`: path by name of WEIGHTS. Raises UserError where the file holds another network."""
        import torch

        from mytalk.networks import st_lpips

        state = read(files[NAME], f"ST-LPIPS with the trunk {TRUNK}")
        try:
            self.network = st_lpips.from_published(state, TRUNK).to(device)
        except ValueError as error:
            raise UserError(f"{files[NAME]}: {error}") from None
        self.device = torch.device(device)

    def seen(self, crops_KHW3: np.ndarray) -> list[list[torch.Tensor]]:
        """Features at five depths of uint8 crops, batch by batch: some 9 MB a picture, for `distances` and `embed`."""
        import torch

        with torch.inference_mode():
            return [
                self.network.features(self._pictures(crops_KHW3[start : start + BATCH]))
                for start in range(0, len(crops_KHW3), BATCH)
            ]

    def distances(self, one: list[list[torch.Tensor]], other: list[list[torch.Tensor]]) -> np.ndarray:
        """The distance of each crop to its counterpart, (K,), from what `seen` gave of both."""
        import torch

        with torch.inference_mode():
            distances = [self.network.distance(a, b) for a, b in zip(one, other, strict=True)]
        return torch.cat(distances).double().cpu().numpy()

    def embed(self, seen: list[list[torch.Tensor]]) -> np.ndarray:
        """The deepest features of each crop, averaged over its places: (K, D) float32."""
        import torch

        with torch.inference_mode():
            return torch.cat([batch[-1].mean(dim=(2, 3)) for batch in seen]).float().cpu().numpy()

    def _pictures(self, crops_BHW3: np.ndarray) -> torch.Tensor:
        import torch
        from torch.nn import functional

        pixels = torch.from_numpy(np.ascontiguousarray(crops_BHW3)).to(self.device).permute(0, 3, 1, 2).float()
        size = (SIDE_PX, SIDE_PX)
        if pixels.shape[-2:] != size:
            pixels = functional.interpolate(pixels, size, mode="bilinear", antialias=True, align_corners=False)
        return pixels / 127.5 - 1
