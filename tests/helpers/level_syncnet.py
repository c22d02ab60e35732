"""A SyncNet for tests: it sees the mouth's opening and hears the level, which are one in the talkers."""

from __future__ import annotations

import types

import torch

from mytalk.face.landmarks import INNER_LIP, SAMPLES_PER_FRAME


def unit_windows(values_BT: torch.Tensor) -> torch.Tensor:
    """Windows of 5 values, each less its mean and of length 1."""
    windows_BWD = values_BT.unfold(1, 5, 1)
    windows_BWD = windows_BWD - windows_BWD.mean(-1, keepdim=True)
    return torch.nn.functional.normalize(windows_BWD, dim=-1)


class LevelSyncNet:
    """`deaf`: its speech is noise."""

    config = types.SimpleNamespace(window_frames=5, column="")

    def __init__(self, deaf: bool = False):
        self.deaf = deaf

    def mouth(self, landmarks_BTN3: torch.Tensor) -> torch.Tensor:
        lips = landmarks_BTN3[:, :, INNER_LIP, 1]
        return unit_windows(lips.amax(-1) - lips.amin(-1))

    def speech(self, audio_BS: torch.Tensor, features_BTF: torch.Tensor | None = None) -> torch.Tensor:
        level_BT = audio_BS.unflatten(1, (-1, SAMPLES_PER_FRAME)).square().mean(-1).sqrt()
        if self.deaf:
            level_BT = torch.rand(level_BT.shape, generator=torch.Generator().manual_seed(3))
        return unit_windows(level_BT)
