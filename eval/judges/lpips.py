"""LPIPS with the AlexNet trunk, which the user brings; its linear heads lie in the package torchmetrics.

Zhang et al. (2018): differences of unit features at five depths, weighted by channel, averaged over places, summed.
That is the distance of mytalk/networks/st_lpips.py on a trunk with plain pools. Shape suffixes: K pictures, H height, W
width, 3 = RGB.
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
    from torch import nn

TRUNK, HEADS = "alexnet", "lpips-alex-heads"  # in configs/weights.yaml
WEIGHTS = (TRUNK, HEADS)
PACKAGES: tuple[str, ...] = ()
BATCH = 8


class LpipsJudge:
    """Distances of pictures, 32 px a side or more."""

    def __init__(self, files: Mapping[str, Path], device: torch.device | str = "cpu"):
        """`files`: path by name of WEIGHTS. Raises UserError where a file holds another network."""
        import torch

        from mytalk.networks.st_lpips import StLpips

        trunk, heads = (read(files[name], f"LPIPS's {name}") for name in WEIGHTS)
        self.network, self.device = StLpips("alex"), torch.device(device)
        self.network.parts = parts()
        convolutions = [layer for layer in self.network.parts.modules() if isinstance(layer, torch.nn.Conv2d)]
        try:
            for place, convolution in zip((0, 3, 6, 8, 10), convolutions, strict=True):
                named = {name: trunk[f"features.{place}.{name}"] for name in ("weight", "bias")}
                convolution.load_state_dict(named)
            for depth, head_C in enumerate(self.network.heads):
                head_C.data.copy_(heads[f"lin{depth}.model.1.weight"].reshape(head_C.shape))
        except (KeyError, RuntimeError) as error:
            raise UserError(f"{files[TRUNK]} is no AlexNet trunk of LPIPS: {str(error).splitlines()[0]}") from None
        self.network.to(self.device).eval().requires_grad_(False)

    def distances(self, one_KHW3: np.ndarray, other_KHW3: np.ndarray) -> np.ndarray:
        """The distance of each uint8 picture to its counterpart, (K,)."""
        import torch

        distances = []
        with torch.inference_mode():
            for start in range(0, len(one_KHW3), BATCH):
                sides = [self._pictures(side[start : start + BATCH]) for side in (one_KHW3, other_KHW3)]
                distances.append(self.network(*sides))
        return torch.cat(distances).double().cpu().numpy()

    def _pictures(self, pictures_BHW3: np.ndarray) -> torch.Tensor:
        import torch

        pixels = torch.from_numpy(np.ascontiguousarray(pictures_BHW3)).to(self.device).permute(0, 3, 1, 2).float()
        return pixels / 127.5 - 1


def parts() -> nn.ModuleList:
    """AlexNet's five depths, each up to its rectifier, with random weights."""
    from torch import nn

    def pool() -> nn.Module:
        return nn.MaxPool2d(3, 2)

    return nn.ModuleList(
        [
            nn.Sequential(nn.Conv2d(3, 64, 11, stride=4, padding=2), nn.ReLU()),
            nn.Sequential(pool(), nn.Conv2d(64, 192, 5, padding=2), nn.ReLU()),
            nn.Sequential(pool(), nn.Conv2d(192, 384, 3, padding=1), nn.ReLU()),
            nn.Sequential(nn.Conv2d(384, 256, 3, padding=1), nn.ReLU()),
            nn.Sequential(nn.Conv2d(256, 256, 3, padding=1), nn.ReLU()),
        ]
    )
