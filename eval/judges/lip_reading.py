"""The judge of lips that LipScore asks: the encoder of a lip reader in ONNX, which the user brings.

It sees grey mouths of 88 px, ((grey / 255) - 0.421) / 0.165 as auto-avsr's reader does, and gives features of every
frame in the light of its neighbours. The mouth is cropped as our own reader's is (mytalk/networks/reader.py), not as
auto-avsr does, so numbers do not compare with published ones. Shape suffixes: T frames, H height, W width, S side,
N landmarks (478), 3 = RGB or (x, y, z) in px, D features.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from eval.judges.onnx import OnnxNetwork

NAME = "lip-reader"  # in configs/weights.yaml
WEIGHTS = (NAME,)
PACKAGES = ("onnxruntime",)
SIDE_PX, MEAN, SPREAD = 88, 0.421, 0.165
GREY_3 = (0.299, 0.587, 0.114)  # of red, green and blue (ITU-R BT.601)


class LipReadingJudge:
    """Features of a mouth that speaks."""

    def __init__(self, files: Mapping[str, Path]):
        """`files`: path by name of WEIGHTS. Raises UserError where the network takes or gives something else."""
        self._network = OnnxNetwork(files[NAME], "encoder of a lip reader", (1, None, SIDE_PX, SIDE_PX), frames=True)

    def embed(self, frames_THW3: np.ndarray, landmarks_TN3: np.ndarray) -> np.ndarray:
        """Features of every frame, (T, D) float64."""
        import torch

        from mytalk.networks import reader

        points_TN2 = torch.from_numpy(np.asarray(landmarks_TN3[..., :2], np.float32))
        grey_THW = frames_THW3.astype(np.float32) @ np.array(GREY_3, np.float32)
        mouths_T1SS = reader.crops(torch.from_numpy(grey_THW)[:, None], reader.place(points_TN2), SIDE_PX)
        return self._network.run((mouths_T1SS.numpy().transpose(1, 0, 2, 3) / 255 - MEAN) / SPREAD)
