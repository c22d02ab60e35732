"""Networks in whose features Frechet distances of whole sets are taken: Inception (FID) and I3D (FVD), in ONNX.

The user brings the files; which networks they are only their digests say. Both get RGB from -1 to 1, scaled bilinearly.
Where a file is the published network, how it was exported and scaled still moves the distance, so none is to be set
beside published figures. Shape suffixes: T frames, K frames or windows, H height, W width, 3 = RGB, D features.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from eval.judges.onnx import OnnxNetwork

INCEPTION, I3D = "inception", "i3d"  # in configs/weights.yaml
PACKAGES = ("onnxruntime", "cv2")
INCEPTION_PX, I3D_PX, WINDOW_FRAMES = 299, 224, 16


class Inception:
    """Features of every frame."""

    def __init__(self, files: Mapping[str, Path]):
        """`files`: path by name. Raises UserError where the network takes or gives something else."""
        self._network = OnnxNetwork(files[INCEPTION], "Inception network", (3, INCEPTION_PX, INCEPTION_PX))

    def embed(self, frames_THW3: np.ndarray) -> np.ndarray:
        """(T, D) float64."""
        return np.stack([self._network.run(_scaled(frame, INCEPTION_PX).transpose(2, 0, 1)) for frame in frames_THW3])


class I3d:
    """Features of windows of 16 frames, one after the other; what is left at the end is not seen."""

    def __init__(self, files: Mapping[str, Path]):
        """`files`: path by name. Raises UserError where the network takes or gives something else."""
        self._network = OnnxNetwork(files[I3D], "I3D network", (3, WINDOW_FRAMES, I3D_PX, I3D_PX))

    def embed(self, frames_THW3: np.ndarray) -> np.ndarray:
        """(K, D) float64; (0, 0) of less than 16 frames."""
        features = []
        for start in range(0, len(frames_THW3) - WINDOW_FRAMES + 1, WINDOW_FRAMES):
            window = np.stack([_scaled(frame, I3D_PX) for frame in frames_THW3[start : start + WINDOW_FRAMES]])
            features.append(self._network.run(window.transpose(3, 0, 1, 2)))
        return np.stack(features) if features else np.zeros((0, 0))


def _scaled(frame_HW3: np.ndarray, side_px: int) -> np.ndarray:
    import cv2

    return cv2.resize(frame_HW3, (side_px, side_px), interpolation=cv2.INTER_LINEAR).astype(np.float32) / 127.5 - 1
