"""Faces as tensors, for tests of poses and of the motion model."""

from __future__ import annotations

import numpy as np
import torch

from mytalk.face.landmarks import COUNT
from tests.helpers import talkers


def faces(seed: int, frames: int = 5) -> torch.Tensor:
    """(1, T, 478, 3) float64 px: a face that moves and changes at every point."""
    random = np.random.default_rng(seed)
    return torch.from_numpy(talkers.base_face(random) + random.normal(0, 3, (1, frames, COUNT, 3)))


def ones(*shape: int) -> torch.Tensor:
    return torch.ones(*shape, dtype=torch.float64)
